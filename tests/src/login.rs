//! What a user's Docker configuration says of a registry, and that it says so nowhere else.

use std::path::Path;

use tempfile::TempDir;
use xtask::registry::OwnRegistry;

use crate::Farm;

/// Base64 of the user and password that open a [locked](OwnRegistry::locked) registry, as Docker keeps them.
pub const RIGHT: &str = "dXNlcjpvcGVuIHNlc2FtZQ==";
/// The same of `user:other words`.
pub const WRONG: &str = "dXNlcjpvdGhlciB3b3Jkcw==";
/// The password in that.
const WRONG_PASSWORD: &str = "other words";

/// A folder for `DOCKER_CONFIG` that knows this registry by these words.
pub fn config(registry: &OwnRegistry, encoded: &str) -> TempDir {
    holding(&format!("{{\"auths\": {{\"{}\": {{\"auth\": \"{encoded}\"}}}}}}", registry.address))
}

/// A folder for `DOCKER_CONFIG` with this file.
pub fn holding(config: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.json"), config).unwrap();
    folder
}

/// No file of the farm, log or data, holds a secret, plain or as Docker encodes it. Panics where one does, and where
/// there is no file at all.
pub fn assert_nowhere(farm: &Farm) {
    let files = search(farm.data_dir().parent().unwrap());
    assert!(files > 0, "nothing was searched");
}

fn search(folder: &Path) -> usize {
    let mut files = 0;
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            files += search(&entry.path());
        } else if kind.is_file() {
            files += 1;
            let bytes = std::fs::read(entry.path()).unwrap_or_default();
            for secret in [OwnRegistry::PASSWORD, RIGHT, WRONG_PASSWORD, WRONG] {
                let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
                assert!(!found, "{} holds the secret", entry.path().display());
            }
        }
    }
    files
}
