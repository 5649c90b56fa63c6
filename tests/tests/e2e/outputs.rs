//! What comes back to the client: archives, images in its Engine, files; and what happens to them when things go wrong.

mod faults;
mod files;
mod images;
mod listed;
mod streams;
mod ways;

use std::path::{Path, PathBuf};
use std::process::Command;

use archyard_tests::farm::{Outcome, finish};
use archyard_tests::project::unique;
use archyard_tests::{Farm, Project};

/// What is kept for clients.
fn kept(farm: &Farm) -> PathBuf {
    farm.data_dir().join("artifacts")
}

fn native(farm: &Farm) -> String {
    farm.env.native.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn docker(engine: &str, args: &[&str]) -> Outcome {
    finish(Command::new("docker").env("DOCKER_HOST", engine).args(args))
}

/// An image that says which machine it was built for, in several layers.
fn speaking(word: &str) -> Project {
    Project::new(&format!(
        "FROM BASE\nARG TARGETARCH\nRUN echo {word} > /word\nRUN echo {word}-$TARGETARCH > /said\nCMD [\"cat\", \"/said\"]\n"
    ))
}

/// A project whose image has this many bytes that do not compress.
fn large(word: &str, bytes: usize) -> Project {
    let project = Project::new(&format!("FROM BASE\nRUN echo {word}\nCOPY big /big\n"));
    let mut content = vec![0_u8; bytes];
    let mut state = std::process::id() | 1;
    for word in content.chunks_exact_mut(4) {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        word.copy_from_slice(&state.to_le_bytes());
    }
    project.write("big", &content);
    project
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// `type=TYPE,dest=PATH`.
fn to(kind: &str, path: &Path) -> String {
    format!("type={kind},dest={}", path.display())
}

fn files() -> Project {
    Project::new(&format!(
        "FROM BASE\nARG TARGETARCH\nRUN echo {} $TARGETARCH > /of && mkdir -p /a/b && echo x > /a/b/deep && chown 7:8 /a/b/deep && chmod 4755 /a/b/deep \
         && ln -s ../of /a/soft && ln /of /a/hard && mkfifo /a/fifo && chmod 1777 /a && tee /once < /proc/sys/kernel/random/uuid\n",
        unique("files")
    ))
}
