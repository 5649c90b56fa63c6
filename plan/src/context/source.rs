//! Where a context is: a directory, for now. What else Docker takes is refused by name.

use std::io;
use std::path::{Path, PathBuf};

use archyard_model::Invalid;

/// The directory that `context` names, seen from `directory`.
///
/// # Errors
/// [`Invalid`] for what is no directory, or is not supported.
pub(crate) fn root(directory: &Path, context: &Path) -> Result<PathBuf, Invalid> {
    let text = context.to_string_lossy();
    let wrong = |problem: String| Err(Invalid::new("context", &text, problem));
    if text.is_empty() {
        return wrong("name the directory that holds the source; '.' is this one".to_owned());
    }
    if text == "-" {
        return wrong(
            "a context from standard input is not supported; unpack it and name the directory".to_owned(),
        );
    }
    let path = directory.join(context);
    match path.metadata() {
        Ok(metadata) if metadata.is_dir() => Ok(path),
        Ok(_) => wrong(
            "this is a file; name the directory that holds the source, and the Dockerfile with --file"
                .to_owned(),
        ),
        Err(_) if is_remote(&text) => wrong(
            "a Git repository or URL as context is not supported yet; clone it and name the directory"
                .to_owned(),
        ),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            wrong("there is no such directory; name the one that holds the source".to_owned())
        }
        Err(error) => wrong(format!("cannot be opened: {error}; name a directory that you may read")),
    }
}

/// Whether Docker would fetch it.
fn is_remote(text: &str) -> bool {
    let schemes = [
        "http://",
        "https://",
        "git://",
        "ssh://",
        "docker-image://",
        "oci-layout://",
        "git@",
        "github.com/",
    ];
    schemes.iter().any(|scheme| text.starts_with(scheme)) || text.contains(".git#") || text.ends_with(".git")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_is_wrong_with_it() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("f"), "").unwrap();
        std::os::unix::fs::symlink(".", dir.path().join("link")).unwrap();
        for (context, remedy) in [
            ("", "'.' is this one"),
            ("-", "standard input"),
            ("nowhere", "no such directory"),
            ("f", "--file"),
            ("f/x", "cannot be opened"),
            ("https://example.com/x", "clone it"),
            ("git@example.com:x/y", "clone it"),
            ("github.com/x/y", "clone it"),
            ("x.git#main:sub", "clone it"),
        ] {
            let error = root(dir.path(), Path::new(context)).unwrap_err();
            assert_eq!(error.field, "context");
            assert!(error.to_string().contains(remedy), "{context}: {error}");
        }
        assert!(root(dir.path(), Path::new(".")).is_ok());
        assert!(root(dir.path(), Path::new("link")).is_ok());
    }
}
