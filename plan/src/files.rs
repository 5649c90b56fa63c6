//! Finds the Dockerfile and the ignore file. Both may be links, and the Dockerfile may lie outside the
//! context, as with Docker's own client.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use archyard_model::{Invalid, limits};

use crate::dockerignore::Ignore;
use crate::{Error, Host, PlanRequest};

/// The Dockerfile's name where none is given.
const DEFAULT: &str = "Dockerfile";

/// A Dockerfile that was read.
pub(crate) struct Dockerfile {
    /// As the user would write it; `-` for standard input.
    pub(crate) name: PathBuf,
    /// None for standard input.
    path: Option<PathBuf>,
    pub(crate) bytes: Vec<u8>,
}

/// The Dockerfile that a request names, or that its context holds.
pub(crate) fn dockerfile(request: &PlanRequest, host: &Host<'_>, root: &Path) -> Result<Dockerfile, Error> {
    // As docker does: an empty name is none.
    let named = request.dockerfile.as_ref().filter(|name| !name.as_os_str().is_empty());
    let (name, path) = match named {
        Some(name) if name == Path::new("-") => {
            let bytes = (host.stdin)().map_err(|error| Error::read(Path::new("standard input"), error))?;
            check_size("--file", name, bytes.len() as u64, limits::DOCKERFILE_BYTES)?;
            return Ok(Dockerfile { name: name.clone(), path: None, bytes });
        }
        Some(name) => (name.clone(), host.directory.join(name)),
        None => (beneath(&request.context, DEFAULT), root.join(DEFAULT)),
    };
    let (name, path) = in_lower_case(name, path);
    match read("--file", &name, &path, limits::DOCKERFILE_BYTES)? {
        Some(bytes) => Ok(Dockerfile { name, path: Some(path), bytes }),
        None => Err(Invalid::new("--file", name.display(), missing(request, &name, root)).into()),
    }
}

/// A `dockerfile` counts where there is no `Dockerfile`, as with docker. Its ignore file is then
/// `dockerfile.dockerignore`.
fn in_lower_case(name: PathBuf, path: PathBuf) -> (PathBuf, PathBuf) {
    let is_there = |path: &Path| path.symlink_metadata().is_ok();
    let lower = path.with_file_name(DEFAULT.to_ascii_lowercase());
    if path.file_name() != Some(DEFAULT.as_ref()) || is_there(&path) || !is_there(&lower) {
        return (name, path);
    }
    (name.with_file_name(DEFAULT.to_ascii_lowercase()), lower)
}

/// The patterns that apply, and the file they are from: the Dockerfile's own ignore file, or the context's.
pub(crate) fn ignore(
    request: &PlanRequest,
    dockerfile: &Dockerfile,
    root: &Path,
) -> Result<(Ignore, Option<PathBuf>), Error> {
    let own = dockerfile.path.as_ref().map(|path| (with_suffix(&dockerfile.name), with_suffix(path)));
    let general = (beneath(&request.context, ".dockerignore"), root.join(".dockerignore"));
    for (name, path) in own.into_iter().chain([general]) {
        if let Some(bytes) = read(".dockerignore", &name, &path, limits::DOCKERIGNORE_BYTES)? {
            return Ok((Ignore::parse(&name.to_string_lossy(), &bytes)?, Some(name)));
        }
    }
    Ok((Ignore::default(), None))
}

/// A small regular file; None if there is none.
fn read(field: &str, name: &Path, path: &Path, limit: u64) -> Result<Option<Vec<u8>>, Error> {
    let fail = |error| Error::read(name, error);
    let metadata = match path.metadata() {
        Ok(metadata) => metadata,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(fail(error)),
    };
    if !metadata.is_file() {
        let what = if metadata.is_dir() { "a directory" } else { "no regular file" };
        return Err(Invalid::new(field, name.display(), format!("this is {what}; name a file")).into());
    }
    let mut bytes = Vec::new();
    File::open(path).map_err(fail)?.take(limit + 1).read_to_end(&mut bytes).map_err(fail)?;
    check_size(field, name, bytes.len() as u64, limit)?;
    Ok(Some(bytes))
}

fn check_size(field: &str, name: &Path, size: u64, limit: u64) -> Result<(), Invalid> {
    if size > limit {
        return Err(Invalid::new(
            field,
            name.display(),
            format!("it may have at most {limit} bytes; shorten it"),
        ));
    }
    Ok(())
}

/// What to do about a Dockerfile that is not there.
fn missing(request: &PlanRequest, name: &Path, root: &Path) -> String {
    if request.dockerfile.as_ref().is_none_or(|name| name.as_os_str().is_empty()) {
        return "there is no such file; add one, or name another with --file".to_owned();
    }
    if name.is_relative() && root.join(name).is_file() {
        let there = request.context.join(name);
        return format!(
            "there is no such file; --file is relative to the current directory: try --file {}",
            there.display()
        );
    }
    "there is no such file; --file is relative to the current directory".to_owned()
}

/// How a user would write a file of the context.
fn beneath(context: &Path, name: &str) -> PathBuf {
    if context == Path::new(".") { PathBuf::from(name) } else { context.join(name) }
}

fn with_suffix(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".dockerignore");
    name.into()
}
