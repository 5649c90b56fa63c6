//! What the store's file itself says of how much was written.
//!
//! The store takes damage in the middle of its log for the end of it, and opens as if the rest had never been there.
//! But the groups behind the damage still lie in the file, each with its number: if the file holds any beyond the one
//! that may have been torn, the journal is damaged and must not be used. Read before the store is opened, for it
//! writes as it opens.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::Path;

use super::Error;
use super::chunk::{MAGIC, STAMP_BYTES, stamped};

const BUFFER_BYTES: usize = 1024 * 1024;

/// One more than the largest number of a group that any part of the file belongs to; 0 for none.
pub(super) fn groups(path: &Path) -> Result<u64, Error> {
    let mut file = File::open(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => Error::Corrupt { path: path.to_owned(), problem: "it is missing".to_owned() },
        _ => Error::io(path, error),
    })?;
    let mut buffer = vec![0; BUFFER_BYTES];
    let (mut kept, mut groups) = (0, 0);
    loop {
        let read = match file.read(&mut buffer[kept..]) {
            Ok(0) => return Ok(groups),
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(Error::io(path, error)),
        };
        let filled = kept + read;
        groups = groups.max(largest(&buffer[..filled]));
        // A stamp may lie across two reads.
        kept = filled.min(STAMP_BYTES - 1);
        buffer.copy_within(filled - kept..filled, 0);
    }
}

fn largest(bytes: &[u8]) -> u64 {
    let (mut at, mut groups) = (0, 0);
    while let Some(found) = bytes[at..].iter().position(|byte| *byte == MAGIC[0]) {
        at += found;
        if let Some(number) = stamped(&bytes[at..]) {
            groups = groups.max(number + 1);
        }
        at += 1;
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::chunk;

    #[test]
    fn finds_the_last_group_wherever_it_lies() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        for at in [0, 7, BUFFER_BYTES - 5, BUFFER_BYTES, 3 * BUFFER_BYTES - STAMP_BYTES] {
            let mut bytes = vec![MAGIC[0]; at];
            for number in [41, 7] {
                bytes.extend(chunk::split(number, &[vec![1; 10]]).concat());
            }
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(groups(&path).unwrap(), 42, "at {at}");
        }
        std::fs::write(&path, [0; 5000]).unwrap();
        assert_eq!(groups(&path).unwrap(), 0);
        let missing = groups(&folder.path().join("other")).unwrap_err().to_string();
        assert!(missing.contains("it is missing"), "{missing}");
    }
}
