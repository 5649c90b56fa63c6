//! BuildKit's own emulators: a `buildkit-qemu-ARCH` on the PATH of `dockerd` runs foreign steps, whatever the kernel knows.
//!
//! Read only, and of this machine only, for Engines are reached by Unix sockets. What of another user's `dockerd` may not
//! be read is told in the log and not known: a base whose `ONBUILD` would run there is refused before any worker is asked.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use archyard_model::Platform;
use rustix::fs::Access;
use tokio::net::UnixStream;

use super::elf;

const PROC: &str = "/proc";
const DAEMON: &str = "dockerd";

/// The platforms whose steps the Engine of this endpoint would run so, if any.
pub async fn emulated(endpoint: &str) -> Vec<Platform> {
    let places = places(endpoint).await;
    let known = elf::known().into_iter().map(|(platform, _)| platform);
    known.filter(|platform| program_of(&places, platform).is_some()).collect()
}

/// The program with which the Engine of this endpoint would run steps of the platform, if it has one now.
pub async fn emulator(endpoint: &str, platform: &Platform) -> Option<PathBuf> {
    program_of(&places(endpoint).await, platform)
}

/// A folder on a daemon's PATH.
#[derive(Debug)]
struct Place {
    /// Of the daemon, below /proc.
    process: PathBuf,
    folder: PathBuf,
}

async fn places(endpoint: &str) -> Vec<Place> {
    let Some(socket) = endpoint.strip_prefix("unix://") else { return Vec::new() };
    let listener = UnixStream::connect(socket).await.and_then(|stream| stream.peer_cred());
    // An Engine that is not there builds nothing.
    let Ok(listener) = listener else { return Vec::new() };
    search_paths(daemons(Path::new(PROC), listener.pid()))
}

fn program_of(places: &[Place], platform: &Platform) -> Option<PathBuf> {
    let name = format!("buildkit-qemu-{}", word(platform));
    places.iter().find(|place| place.has(&name)).map(|place| place.folder.join(&name))
}

/// The processes that may be the Engine's daemon: the listener, or all that have its name where another program opened
/// the socket for it.
fn daemons(proc: &Path, listener: Option<i32>) -> Vec<PathBuf> {
    let listener = listener.map(|pid| proc.join(pid.to_string())).filter(|process| is_daemon(process));
    if let Some(process) = listener {
        return vec![process];
    }
    let Ok(processes) = fs::read_dir(proc) else { return Vec::new() };
    processes.flatten().map(|process| process.path()).filter(|process| is_daemon(process)).collect()
}

fn is_daemon(process: &Path) -> bool {
    fs::read_to_string(process.join("comm")).is_ok_and(|name| name.trim_end() == DAEMON)
}

fn search_paths(daemons: Vec<PathBuf>) -> Vec<Place> {
    let mut places = Vec::new();
    for process in daemons {
        let variables = match fs::read(process.join("environ")) {
            Ok(variables) => variables,
            Err(error) => {
                tracing::info!(
                    process = %process.display(), %error,
                    "cannot tell whether this dockerd has emulators (buildkit-qemu-*) on its PATH; run the worker as its \
                     user"
                );
                continue;
            }
        };
        let path = variables.split(|byte| *byte == 0).find_map(|variable| variable.strip_prefix(b"PATH="));
        let folders = path.map(OsStr::from_bytes).into_iter().flat_map(std::env::split_paths);
        places.extend(folders.map(|folder| Place { process: process.clone(), folder }));
    }
    places
}

impl Place {
    /// Whether this program is there, as the daemon sees its files.
    fn has(&self, name: &str) -> bool {
        let program = self.folder.join(name);
        let seen = match program.strip_prefix("/") {
            Ok(below) => self.process.join("root").join(below),
            Err(_) => self.process.join("cwd").join(program),
        };
        seen.is_file() && rustix::fs::access(&seen, Access::EXEC_OK).is_ok()
    }
}

/// BuildKit's word for an architecture, which is qemu's for some.
fn word(platform: &Platform) -> &str {
    match platform.architecture() {
        "386" => "i386",
        "amd64" => "x86_64",
        "arm64" => "aarch64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    /// A folder like /proc with one process, whose root holds one program.
    fn machine(comm: &str, environ: &str, program: &str, mode: u32) -> tempfile::TempDir {
        let proc = tempfile::tempdir().unwrap();
        let process = proc.path().join("7");
        let root = proc.path().join("files");
        let file = root.join(program);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::create_dir(&process).unwrap();
        fs::write(&file, b"x").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        fs::write(process.join("comm"), format!("{comm}\n")).unwrap();
        fs::write(process.join("environ"), environ).unwrap();
        symlink(&root, process.join("root")).unwrap();
        symlink(root.join("work"), process.join("cwd")).unwrap();
        proc
    }

    fn found(proc: &tempfile::TempDir, listener: Option<i32>) -> Option<PathBuf> {
        program_of(&search_paths(daemons(proc.path(), listener)), &"linux/riscv64".parse().unwrap())
    }

    #[test]
    fn a_program_on_the_daemons_path_is_found_in_its_own_files() {
        let program = "opt/bin/buildkit-qemu-riscv64";
        let environ = "HOME=/\0PATH=/usr/bin:/opt/bin\0";
        let want = Some(PathBuf::from("/opt/bin/buildkit-qemu-riscv64"));
        let proc = machine("dockerd", environ, program, 0o755);
        assert_eq!(found(&proc, Some(7)), want);
        assert_eq!(found(&proc, Some(1)), want, "another program listened for it");
        assert_eq!(found(&proc, None), want);
        assert_eq!(found(&machine("dockerd", "XPATH=/opt/bin\0", program, 0o755), Some(7)), None);
        assert_eq!(found(&machine("dockerd", "PATH=/usr/bin\0", program, 0o755), Some(7)), None);
        assert_eq!(found(&machine("other", environ, program, 0o755), Some(7)), None);
        assert_eq!(found(&machine("dockerd", environ, program, 0o644), Some(7)), None, "not executable");
        let relative = machine("dockerd", "PATH=bin\0", "work/bin/buildkit-qemu-riscv64", 0o755);
        assert_eq!(found(&relative, Some(7)), Some(PathBuf::from("bin/buildkit-qemu-riscv64")));
    }

    #[test]
    fn architectures_go_by_buildkits_words() {
        for (platform, want) in [
            ("linux/386", "i386"),
            ("linux/amd64", "x86_64"),
            ("linux/arm64", "aarch64"),
            ("linux/arm/v6", "arm"),
            ("linux/riscv64", "riscv64"),
            ("linux/s390x", "s390x"),
        ] {
            assert_eq!(word(&platform.parse().unwrap()), want);
        }
    }

    #[tokio::test]
    async fn an_engine_that_is_not_there_has_none() {
        assert_eq!(emulator("unix:///nonexistent.sock", &"linux/riscv64".parse().unwrap()).await, None);
    }
}
