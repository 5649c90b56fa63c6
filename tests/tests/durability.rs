//! A power cut: what the journal acknowledged is there again, because it was synced and not because the kernel had it.
//!
//! The journal runs in a process of its own under `faults/lost_writes.c`, is killed, and is read again from nothing but
//! what was synced. The same run with `fdatasync` left out must lose facts, or the test would prove nothing.
#![allow(clippy::unwrap_used, reason = "a test says what it expects")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use archyard_scheduler::journal::Journal as _;
use archyard_scheduler::journal::sled::Sled;

const CHILD: &str = "ARCHYARD_DURABILITY_FOLDER";
/// Acknowledged groups before the cut; a snapshot is taken on the way.
const GROUPS: u64 = 120;
const SNAPSHOT_AT: u64 = 70;

#[test]
fn what_was_acknowledged_survives_a_power_cut() {
    if let Some(folder) = std::env::var_os(CHILD) {
        return append_for_ever(Path::new(&folder));
    }
    let (acknowledged, kept) = cut_off("what_was_acknowledged_survives_a_power_cut", false);
    assert!(acknowledged >= GROUPS);
    for group in 0..=acknowledged {
        assert_eq!(
            kept.get(&group),
            Some(&records(group).len()),
            "group {group} of {acknowledged} is not whole"
        );
    }
    // The cut may come between the sync and the acknowledgement, and then that group is whole.
    let beyond = kept.range(acknowledged + 1..).all(|(group, count)| *count == records(*group).len());
    assert!(beyond && kept.len() as u64 <= acknowledged + 2, "{kept:?}");
}

#[test]
fn without_fdatasync_facts_are_lost() {
    if let Some(folder) = std::env::var_os(CHILD) {
        return append_for_ever(Path::new(&folder));
    }
    let (acknowledged, kept) = cut_off("without_fdatasync_facts_are_lost", true);
    assert!((kept.len() as u64) < acknowledged, "nothing was lost: this test cannot see a missing sync");
}

/// The child: appends group after group and says which are durable, until it is killed.
fn append_for_ever(folder: &Path) {
    let mut journal = Sled::open(folder).unwrap();
    let mut out = std::io::stdout();
    for group in 0.. {
        if group == SNAPSHOT_AT {
            let mut all = (0..group).flat_map(records);
            journal.snapshot(&mut all).unwrap();
        }
        journal.append(&records(group)).unwrap();
        writeln!(out, "\nacknowledged {group}").unwrap();
        out.flush().unwrap();
    }
}

/// Some groups fit one chunk of the store, some take many.
fn records(group: u64) -> Vec<Vec<u8>> {
    let size = [10, 300, 5_000, 40_000][usize::try_from(group % 4).unwrap()];
    (0..1 + group % 3).map(|_| [&group.to_be_bytes()[..], &vec![7; size]].concat()).collect()
}

/// Runs the child, cuts it off, and reads what was synced: the last acknowledged group, and records by group.
fn cut_off(test: &str, lie: bool) -> (u64, BTreeMap<u64, usize>) {
    let folder = tempfile::tempdir().unwrap();
    let (live, synced, disk) =
        (folder.path().join("live"), folder.path().join("synced"), folder.path().join("disk"));
    fs::create_dir(&synced).unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env("LD_PRELOAD", shim(folder.path()))
        .env("LOST_WRITES_DIR", &synced)
        .env("LOST_WRITES_LIE", if lie { "1" } else { "0" })
        .env(CHILD, &live)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut acknowledged = 0;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        if let Some(group) = line.unwrap().strip_prefix("acknowledged ") {
            acknowledged = group.parse().unwrap();
        }
        if acknowledged >= GROUPS {
            break;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    copy_synced(&live, &disk, &synced);
    (acknowledged, read(&disk))
}

/// The folder as a power cut leaves it: each file as it was when last synced, or not at all.
fn copy_synced(from: &Path, to: &Path, synced: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy_synced(&path, &target, synced);
        } else {
            let kept = synced.join(entry.metadata().unwrap().ino().to_string());
            if kept.exists() {
                fs::copy(kept, target).unwrap();
            }
        }
    }
}

fn read(disk: &Path) -> BTreeMap<u64, usize> {
    let mut groups = BTreeMap::new();
    let mut journal = Sled::open(disk).unwrap();
    journal
        .replay(&mut |record| {
            let group = u64::from_be_bytes(record[..8].try_into().unwrap());
            *groups.entry(group).or_insert(0) += 1;
            Ok(())
        })
        .unwrap();
    groups
}

fn shim(folder: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("faults/lost_writes.c");
    let library = folder.join("lost_writes.so");
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
        .args([&library, &source])
        .arg("-ldl")
        .status()
        .unwrap();
    assert!(built.success());
    library
}
