//! One context, built by `docker buildx build` and by the farm on the same Engine: what comes back has to be the same.
//!
//! What is compared is what each of the two exporters of files hands over, a tar and a folder: names, kinds, modes,
//! sizes, content, link targets, hard links, extended attributes, and times where [`Times`] says so.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use xtask::buildx::Buildx;
use xtask::engine::Kind;
use xtask::oci;

use crate::farm::{Outcome, finish};
use crate::{Coordinates, Farm};

/// Whether modification times are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    Ignored,
    /// To the nanosecond.
    Exact,
}

/// How the files are handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Export {
    Tar,
    /// A folder. Its files belong to whom the client makes them, so owners are not compared.
    Local,
}

/// What is known of one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// `file`, `directory`, `symlink`, and so on.
    pub kind: &'static str,
    /// Permissions, with setuid, setgid and sticky.
    pub mode: String,
    /// None in a folder.
    pub owner: Option<(u64, u64)>,
    /// Of a file.
    pub size: u64,
    /// Of a file's content; empty of everything else.
    pub digest: String,
    /// Of a symbolic link.
    pub target: Option<String>,
    /// Every path of the same file, this one too, sorted; empty where there is only one.
    pub names: Vec<String>,
    /// Extended attributes, as a tar has them; empty in a folder.
    pub xattrs: BTreeMap<String, Vec<u8>>,
    /// Seconds and nanoseconds; none where they are not compared.
    pub modified: Option<(i64, u32)>,
}

/// Every path below the root, without a slash at either end.
pub type Listing = BTreeMap<String, Found>;

/// Both ways to build, on one Engine.
#[derive(Debug)]
pub struct Differential {
    pub farm: Farm,
    client: Buildx,
    engine: String,
    platform: String,
}

impl Differential {
    /// A farm of one worker on the shared Engine of this kind, and the reference client beside it.
    pub fn on(kind: Kind) -> Self {
        let engine = Coordinates::from_env().unwrap().engine(kind).unwrap().address.clone();
        let farm = Farm::on(vec![engine.clone()], &[], &["--slots", "1"]);
        let platform = farm.env.native[0].to_string();
        Self { farm, client: Buildx::new().unwrap(), engine, platform }
    }

    /// Builds the context with both clients, these flags and this output.
    pub fn outcomes(&self, context: &Path, flags: &[&str], output: (&str, &str)) -> (Outcome, Outcome) {
        let (theirs, ours) = output;
        let flags = [&["--platform", &self.platform], flags].concat();
        let mut buildx = self.client.build(&self.engine).unwrap();
        let theirs = finish(buildx.args(&flags).args(["--output", theirs]).arg(context));
        let ours = self.farm.build(context, &[&flags[..], &["--output", ours]].concat());
        (theirs, ours)
    }

    /// What buildx and the farm hand over. Both have to succeed.
    #[track_caller]
    pub fn listings(
        &self,
        context: &Path,
        flags: &[&str],
        export: Export,
        times: Times,
    ) -> (Listing, Listing) {
        let dir = tempfile::tempdir().unwrap();
        let [theirs, ours] = ["theirs", "ours"].map(|name| dir.path().join(name));
        let kind = if export == Export::Tar { "tar" } else { "local" };
        let output = |path: &PathBuf| format!("type={kind},dest={}", path.display());
        let (by_them, by_us) = self.outcomes(context, flags, (&output(&theirs), &output(&ours)));
        by_them.expect(0);
        by_us.expect(0);
        let listed = |path: &Path| match export {
            Export::Tar => of_tar(path, times),
            Export::Local => of_folder(path, times),
        };
        (listed(&theirs), listed(&ours))
    }

    /// Panics with every path that differs, unless none does by either exporter.
    #[track_caller]
    pub fn assert_alike(&self, context: &Path, flags: &[&str], times: Times) {
        for export in [Export::Tar, Export::Local] {
            let (theirs, ours) = self.listings(context, flags, export, times);
            assert!(!theirs.is_empty(), "nothing was exported");
            let differences = differences(&theirs, &ours);
            assert!(differences.is_empty(), "{export:?}:\n{}", differences.join("\n"));
        }
    }
}

/// A line for each path that differs.
pub fn differences(theirs: &Listing, ours: &Listing) -> Vec<String> {
    let paths: std::collections::BTreeSet<_> = theirs.keys().chain(ours.keys()).collect();
    let of = |listing: &Listing, path: &str| {
        listing.get(path).map_or_else(|| "nothing".to_owned(), |found| format!("{found:?}"))
    };
    paths
        .into_iter()
        .filter(|path| theirs.get(*path) != ours.get(*path))
        .map(|path| format!("{path}\n  docker:   {}\n  archyard: {}", of(theirs, path), of(ours, path)))
        .collect()
}

/// What is in a tar. A hard link has what its file has.
pub fn of_tar(tar: &Path, times: Times) -> Listing {
    let mut listing = Listing::new();
    let mut links = Vec::new();
    let mut archive = tar::Archive::new(File::open(tar).unwrap());
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = name(&entry.path_bytes());
        if path.is_empty() {
            continue;
        }
        let target = entry.link_name_bytes().map(|target| String::from_utf8_lossy(&target).into_owned());
        let (mut xattrs, mut fraction) = (BTreeMap::new(), None);
        for extension in entry.pax_extensions().unwrap().into_iter().flatten() {
            let extension = extension.unwrap();
            let key = extension.key().unwrap().to_owned();
            if key == "mtime" {
                fraction = Some(extension.value().unwrap().to_owned());
            } else if let Some(key) = key.strip_prefix("SCHILY.xattr.") {
                xattrs.insert(key.to_owned(), extension.value_bytes().to_vec());
            }
        }
        let header = entry.header().clone();
        let kind = match header.entry_type() {
            tar::EntryType::Link => {
                links.push((path, name(target.unwrap_or_default().as_bytes())));
                continue;
            }
            tar::EntryType::Regular => "file",
            tar::EntryType::Directory => "directory",
            tar::EntryType::Symlink => "symlink",
            tar::EntryType::Fifo => "pipe",
            tar::EntryType::Char | tar::EntryType::Block => "device",
            _ => "other",
        };
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        let modified =
            fraction.map_or_else(|| (i64::try_from(header.mtime().unwrap()).unwrap(), 0), |text| time(&text));
        let found = Found {
            kind,
            mode: format!("{:o}", header.mode().unwrap() & 0o7777),
            owner: Some((header.uid().unwrap(), header.gid().unwrap())),
            size: content.len() as u64,
            digest: if kind == "file" { oci::digest(&content) } else { String::new() },
            target: target.filter(|_| kind == "symlink"),
            names: Vec::new(),
            xattrs,
            modified: (times == Times::Exact).then_some(modified),
        };
        assert!(listing.insert(path.clone(), found).is_none(), "{path} is there twice");
    }
    // Which of its names a file is stored under is each exporter's own affair.
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (path, target) in links {
        groups.entry(target).or_default().push(path);
    }
    for (first, mut names) in groups {
        names.push(first.clone());
        names.sort();
        let found = Found { names: names.clone(), ..listing[&first].clone() };
        listing.extend(names.into_iter().map(|name| (name, found.clone())));
    }
    listing
}

/// What is below a folder.
pub fn of_folder(root: &Path, times: Times) -> Listing {
    let mut listing = Listing::new();
    let mut inodes: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let metadata = path.symlink_metadata().unwrap();
            let kind = metadata.file_type();
            let kind = match () {
                () if kind.is_file() => "file",
                () if kind.is_dir() => "directory",
                () if kind.is_symlink() => "symlink",
                () if kind.is_fifo() => "pipe",
                () if kind.is_char_device() || kind.is_block_device() => "device",
                () => "other",
            };
            let at = name(path.strip_prefix(root).unwrap().as_os_str().as_bytes());
            if kind == "directory" {
                folders.push(path.clone());
            } else if metadata.nlink() > 1 {
                inodes.entry(metadata.ino()).or_default().push(at.clone());
            }
            let is_file = kind == "file";
            let target = (kind == "symlink").then(|| fs::read_link(&path).unwrap());
            let found = Found {
                kind,
                mode: format!("{:o}", metadata.mode() & 0o7777),
                owner: None,
                size: if is_file { metadata.size() } else { 0 },
                digest: if is_file { oci::digest(&fs::read(&path).unwrap()) } else { String::new() },
                target: target.map(|target| target.to_string_lossy().into_owned()),
                names: Vec::new(),
                xattrs: BTreeMap::new(),
                modified: (times == Times::Exact)
                    .then(|| (metadata.mtime(), u32::try_from(metadata.mtime_nsec()).unwrap())),
            };
            listing.insert(at, found);
        }
    }
    for mut names in inodes.into_values() {
        names.sort();
        for name in &names {
            listing.get_mut(name).unwrap().names.clone_from(&names);
        }
    }
    listing
}

/// A path without what stands before and after its names.
fn name(path: &[u8]) -> String {
    String::from_utf8_lossy(path).trim_start_matches("./").trim_matches('/').to_owned()
}

/// A time of a PAX record, such as `1700000000.000000001`.
fn time(text: &str) -> (i64, u32) {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let nanos = format!("{fraction:0<9}");
    (seconds.parse().unwrap(), nanos[..9].parse().unwrap())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tar of one file, a hard link of it and a symbolic link.
    fn archive(dir: &Path, mode: u32, content: &[u8], mtime: &str) -> PathBuf {
        let path = dir.join(format!("{mode:o}-{mtime}.tar"));
        let mut builder = tar::Builder::new(File::create(&path).unwrap());
        builder.append_pax_extensions([("mtime", mtime.as_bytes())]).unwrap();
        let header = |kind, mode, size: usize| {
            let mut header = tar::Header::new_ustar();
            header.set_entry_type(kind);
            header.set_mode(mode);
            header.set_size(size as u64);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            header
        };
        let mut file = header(tar::EntryType::Regular, mode, content.len());
        builder.append_data(&mut file, "a/file", content).unwrap();
        let mut link = header(tar::EntryType::Link, mode, 0);
        builder.append_link(&mut link, "hard", "a/file").unwrap();
        let mut link = header(tar::EntryType::Symlink, 0o777, 0);
        builder.append_link(&mut link, "soft", "a/file").unwrap();
        builder.finish().unwrap();
        path
    }

    #[test]
    fn a_tar_is_listed_with_times_and_names() {
        let dir = tempfile::tempdir().unwrap();
        let listing = of_tar(&archive(dir.path(), 0o4755, b"x", "1700000000.000000001"), Times::Exact);
        let file = &listing["hard"];
        assert_eq!((file.kind, &*file.mode, file.size), ("file", "4755", 1));
        assert_eq!(file.modified, Some((1_700_000_000, 1)));
        assert_eq!(file.names, ["a/file", "hard"]);
        assert_eq!(listing["soft"].target.as_deref(), Some("a/file"));
    }

    #[test]
    fn every_difference_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let one = archive(dir.path(), 0o644, b"x", "1.5");
        let of = |path: &Path, times| differences(&of_tar(&one, times), &of_tar(path, times));
        assert_eq!(of(&one, Times::Exact), [""; 0]);
        // The file and its other name.
        assert_eq!(of(&archive(dir.path(), 0o600, b"x", "1.5"), Times::Exact).len(), 2);
        assert_eq!(of(&archive(dir.path(), 0o644, b"y", "1.50"), Times::Exact).len(), 2);
        let later = archive(dir.path(), 0o644, b"x", "1.500000001");
        assert_eq!(of(&later, Times::Exact).len(), 2);
        assert_eq!(of(&later, Times::Ignored), [""; 0]);
        assert_eq!(differences(&of_tar(&one, Times::Exact), &Listing::new()).len(), 3);
    }

    #[test]
    fn a_folder_is_listed_as_a_tar_is() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("a")).unwrap();
        fs::write(dir.path().join("a/file"), "x").unwrap();
        fs::hard_link(dir.path().join("a/file"), dir.path().join("hard")).unwrap();
        std::os::unix::fs::symlink("a/file", dir.path().join("soft")).unwrap();
        let listing = of_folder(dir.path(), Times::Ignored);
        assert_eq!(listing["hard"].names, ["a/file", "hard"]);
        assert_eq!(listing["a"].kind, "directory");
        assert_eq!(listing["soft"].target.as_deref(), Some("a/file"));
    }
}
