//! A build's source as a content-addressed snapshot.
//!
//! The snapshot is a sorted table of contents; the bytes of its files are blobs elsewhere. Nothing here
//! reads a disk.

use serde::{Deserialize, Serialize};

use crate::{Blake3, Inputs, Invalid, limits};

/// The version of an encoded manifest. Version 1 has no inputs, FIFOs, devices or nanoseconds of times, and is refused.
pub const VERSION: u32 = 2;

/// What kind of thing an entry is, with what only that kind has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File {
        /// Its length in bytes.
        size: u64,
        /// Its content.
        digest: Blake3,
    },
    /// A directory. Comes before what it holds.
    Directory,
    /// A symbolic link, with its target as stored: never followed, never checked.
    Symlink {
        /// As `readlink` gives it.
        target: Vec<u8>,
    },
    /// A second name of a file.
    Hardlink {
        /// The path of the entry that is the file itself, which comes earlier.
        target: Vec<u8>,
    },
    /// A named pipe.
    Fifo,
    /// A device node.
    Device {
        /// A block device; otherwise a character device.
        block: bool,
        /// Which driver.
        major: u32,
        /// Which of its devices.
        minor: u32,
    },
}

/// One name in a context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextEntry {
    /// Relative to the context's root, `/` between names; bytes, for Linux promises no encoding.
    pub path: Vec<u8>,
    /// POSIX permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// When it was last modified, in seconds since the epoch. Not part of the digest.
    pub modified_s: i64,
    /// And nanoseconds after that, fewer than a second's. Not part of the digest.
    pub modified_ns: u32,
    /// Sorted by name.
    pub xattrs: Vec<(String, Vec<u8>)>,
    /// File, directory or link.
    pub kind: EntryKind,
}

/// A context's table of contents, in the order BuildKit walks: a directory before what it holds, the names in
/// a directory sorted by their bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ContextManifest {
    pub(crate) entries: Vec<ContextEntry>,
    pub(crate) inputs: Inputs,
}

/// What a plan holds of its context.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContextRef {
    /// Over the entries without their modification times: equal for equal content.
    pub digest: Blake3,
    /// Of the encoded manifest, modification times included: the blob to ask for.
    pub manifest_digest: Blake3,
    /// Regular files.
    pub files: u64,
    /// Bytes of all regular files.
    pub total_bytes: u64,
    /// Whether it holds only a part of its source: what its [`Inputs`] name.
    pub partial: bool,
}

impl ContextManifest {
    /// The manifest of these entries, in any order, which are the whole source.
    ///
    /// Refuses what no walk of a directory tree can give: paths that climb, names twice, a child without its
    /// directory, a hard link to what is not an earlier file; and what is past the limits.
    pub fn new(entries: Vec<ContextEntry>) -> Result<Self, Invalid> {
        Self::of_inputs(entries, Inputs::Everything)
    }

    /// The manifest of these entries, in any order, which are what `inputs` lead to in the source.
    ///
    /// Refuses what [`new`](Self::new) refuses.
    pub fn of_inputs(mut entries: Vec<ContextEntry>, inputs: Inputs) -> Result<Self, Invalid> {
        entries.sort_by(|a, b| walk_order(&a.path, &b.path));
        let manifest = Self { entries, inputs };
        manifest.check()?;
        Ok(manifest)
    }

    /// The part of the source that the entries are.
    pub fn inputs(&self) -> &Inputs {
        &self.inputs
    }

    /// The entries in walking order.
    pub fn entries(&self) -> &[ContextEntry] {
        &self.entries
    }

    /// The digest that makes two contexts the same: everything but modification times. A part of a source is
    /// another context than the whole, even if it has the same entries: it answers fewer questions.
    pub fn digest(&self) -> Blake3 {
        // Small parts are gathered: the hash is fast only on long runs of bytes.
        const GATHERED_BYTES: usize = 64 * 1024;
        let mut hasher = blake3::Hasher::new_derive_key("archyard context v1");
        let mut gathered = Vec::with_capacity(2 * GATHERED_BYTES);
        for entry in &self.entries {
            if gathered.len() >= GATHERED_BYTES {
                hasher.update(&gathered);
                gathered.clear();
            }
            let mut part = |bytes: &[u8]| {
                gathered.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
                gathered.extend_from_slice(bytes);
            };
            part(&entry.path);
            part(&entry.mode.to_le_bytes());
            match &entry.kind {
                EntryKind::File { size, digest } => {
                    part(b"file");
                    part(&size.to_le_bytes());
                    part(digest.as_bytes());
                }
                EntryKind::Directory => part(b"directory"),
                EntryKind::Symlink { target } => {
                    part(b"symlink");
                    part(target);
                }
                EntryKind::Hardlink { target } => {
                    part(b"hardlink");
                    part(target);
                }
                EntryKind::Fifo => part(b"fifo"),
                EntryKind::Device { block, major, minor } => {
                    part(if *block { b"block" } else { b"character" });
                    part(&major.to_le_bytes());
                    part(&minor.to_le_bytes());
                }
            }
            part(&(entry.xattrs.len() as u64).to_le_bytes());
            for (name, value) in &entry.xattrs {
                part(name.as_bytes());
                part(value);
            }
        }
        hasher.update(&gathered);
        for path in self.inputs.paths() {
            hasher.update(&(path.len() as u64).to_le_bytes());
            hasher.update(path.as_bytes());
        }
        if !self.inputs.is_everything() {
            hasher.update(b"partial");
        }
        hasher.finalize().into()
    }

    /// What a plan holds of this context. `encoded` is what [`encode`](Self::encode) gave.
    pub fn to_ref(&self, encoded: &[u8]) -> ContextRef {
        self.to_ref_of(self.digest(), Blake3::of(encoded))
    }

    /// The same, of [`digest`](Self::digest) and the digest of what [`encode`](Self::encode) gave.
    pub fn to_ref_of(&self, digest: Blake3, manifest_digest: Blake3) -> ContextRef {
        let (mut files, mut total_bytes) = (0, 0);
        for entry in &self.entries {
            if let EntryKind::File { size, .. } = entry.kind {
                files += 1;
                total_bytes += size;
            }
        }
        ContextRef { digest, manifest_digest, files, total_bytes, partial: !self.inputs.is_everything() }
    }

    pub(crate) fn check(&self) -> Result<(), Invalid> {
        if self.entries.len() > limits::CONTEXT_ENTRIES {
            return Err(Invalid::new(
                "context",
                format!("{} entries", self.entries.len()),
                format!("a context has at most {} entries; use a .dockerignore", limits::CONTEXT_ENTRIES),
            ));
        }
        let mut total: u64 = 0;
        let mut directories: Vec<&[u8]> = Vec::new();
        let mut files = std::collections::HashSet::new();
        let has_hardlinks = self.entries.iter().any(|e| matches!(e.kind, EntryKind::Hardlink { .. }));
        let mut previous: Option<&[u8]> = None;
        for entry in &self.entries {
            let path = entry.path.as_slice();
            let wrong = |problem: &str| Err(Invalid::new("context", String::from_utf8_lossy(path), problem));
            check_path(path)?;
            if previous == Some(path) {
                return wrong("this path is there twice");
            }
            previous = Some(path);
            let parent = path.iter().rposition(|b| *b == b'/').map(|at| &path[..at]);
            while directories.last().is_some_and(|top| Some(*top) != parent && !is_within(path, top)) {
                directories.pop();
            }
            if parent != directories.last().copied() {
                return wrong("the directory that holds it is missing from the context");
            }
            if entry.mode & !0o7777 != 0 {
                return wrong("mode has bits that are not permissions");
            }
            if entry.modified_ns >= 1_000_000_000 {
                return wrong("its time has a second's nanoseconds or more");
            }
            let xattr_bytes: usize = entry.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
            if xattr_bytes > limits::CONTEXT_XATTR_BYTES {
                return wrong("its extended attributes are too large");
            }
            match &entry.kind {
                EntryKind::File { size, .. } => {
                    total = total.saturating_add(*size);
                    if has_hardlinks {
                        files.insert(path);
                    }
                }
                EntryKind::Directory => directories.push(path),
                EntryKind::Symlink { target } => {
                    if target.is_empty() || target.len() > limits::CONTEXT_PATH_BYTES || target.contains(&0) {
                        return wrong("its link target is empty or too long");
                    }
                }
                EntryKind::Hardlink { target } => {
                    if !files.contains(target.as_slice()) {
                        return wrong("it links to a file that does not come before it");
                    }
                }
                EntryKind::Fifo | EntryKind::Device { .. } => {}
            }
        }
        if total > limits::CONTEXT_BYTES {
            return Err(Invalid::new(
                "context",
                format!("{total} bytes"),
                format!("a context holds at most {} bytes; use a .dockerignore", limits::CONTEXT_BYTES),
            ));
        }
        Ok(())
    }
}

/// The order of a depth-first walk that sorts each directory's names by bytes: `/` sorts before all else.
pub fn walk_order(a: &[u8], b: &[u8]) -> std::cmp::Ordering {
    let key = |byte: &u8| if *byte == b'/' { 0 } else { u16::from(*byte) + 1 };
    a.iter().map(key).cmp(b.iter().map(key))
}

/// Refuses a path that is absolute, empty, too long, or climbs.
fn check_path(path: &[u8]) -> Result<(), Invalid> {
    let wrong = |problem: &str| Err(Invalid::new("context", String::from_utf8_lossy(path), problem));
    if path.is_empty() || path.len() > limits::CONTEXT_PATH_BYTES {
        return wrong("a path has 1 to 4096 bytes");
    }
    if path.contains(&0) {
        return wrong("a path has no NUL byte");
    }
    if path.split(|b| *b == b'/').any(|name| matches!(name, b"" | b"." | b"..")) {
        return wrong("a path is relative and has no empty, '.' or '..' name");
    }
    Ok(())
}

fn is_within(path: &[u8], directory: &[u8]) -> bool {
    path.len() > directory.len() && path.starts_with(directory) && path[directory.len()] == b'/'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, content: &[u8]) -> ContextEntry {
        ContextEntry {
            path: path.into(),
            mode: 0o644,
            modified_s: 1,
            modified_ns: 2,
            xattrs: Vec::new(),
            kind: EntryKind::File { size: content.len() as u64, digest: Blake3::of(content) },
        }
    }

    fn dir(path: &str) -> ContextEntry {
        ContextEntry { kind: EntryKind::Directory, mode: 0o755, ..file(path, b"") }
    }

    #[test]
    fn sorts_as_a_walk_does() {
        let manifest =
            ContextManifest::new(vec![file("a.b", b""), file("a/z", b""), dir("a"), file("a-b", b"")])
                .unwrap();
        let paths: Vec<_> =
            manifest.entries().iter().map(|e| String::from_utf8(e.path.clone()).unwrap()).collect();
        assert_eq!(paths, ["a", "a/z", "a-b", "a.b"]);
        assert_eq!(ContextManifest::decode(&manifest.encode()).unwrap(), manifest);
    }

    #[test]
    fn the_digest_leaves_times_out_and_nothing_else() {
        let one = ContextManifest::new(vec![file("a", b"1")]).unwrap();
        let mut touched = one.entries[0].clone();
        (touched.modified_s, touched.modified_ns) = (-99, 999_999_999);
        let touched = ContextManifest::new(vec![touched]).unwrap();
        assert_eq!(one.digest(), touched.digest());
        assert_ne!(one.encode(), touched.encode());
        assert_eq!(ContextManifest::decode(&touched.encode()).unwrap(), touched);
        let late = ContextEntry { modified_ns: 1_000_000_000, ..file("a", b"1") };
        assert!(ContextManifest::new(vec![late]).unwrap_err().to_string().contains("nanoseconds"));
        assert_ne!(one.digest(), ContextManifest::new(vec![file("a", b"2")]).unwrap().digest());
        let mut mode = one.entries[0].clone();
        mode.mode = 0o755;
        assert_ne!(one.digest(), ContextManifest::new(vec![mode]).unwrap().digest());
    }

    #[test]
    fn refuses_what_no_walk_gives() {
        let link = |target: &str| ContextEntry {
            kind: EntryKind::Hardlink { target: target.into() },
            ..file("z", b"")
        };
        for (entries, problem) in [
            (vec![file("../x", b"")], "'..'"),
            (vec![file("/x", b"")], "empty"),
            (vec![file("a//x", b"")], "empty"),
            (vec![file("a/x", b"")], "missing"),
            (vec![file("a", b""), file("a/x", b"")], "missing"),
            (vec![file("a", b""), file("a", b"")], "twice"),
            (vec![link("nowhere")], "before it"),
        ] {
            let error = ContextManifest::new(entries).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
        assert!(ContextManifest::new(vec![file("a", b""), link("a")]).is_ok());
        assert!(
            ContextManifest::new(vec![dir("a"), dir("a/b"), file("a/b/c", b""), file("a/d", b"")]).is_ok()
        );
    }
}
