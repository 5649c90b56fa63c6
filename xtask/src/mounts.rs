//! What an Engine leaves behind when it dies: processes of its containers, and
//! mounts. Both are told by the Engine's own folders, so nothing of another
//! Engine's is touched.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::process::{self, Process};
use crate::root::Root;
use crate::run;

/// Processes that run inside containers whose file system lies under `data`.
#[must_use]
pub fn contained(root: &Root, data: &Path) -> Vec<Process> {
    if root.is_borrowed() {
        // Another user's mount table may be read by root alone.
        let script = format!("grep -lF -e '{}' /proc/[0-9]*/mountinfo 2>/dev/null || true", data.display());
        let listed = run::output(root.command("sh").args(["-c", &script])).unwrap_or_default();
        return pids(&listed)
            .filter(|pid| {
                let table = run::output(root.command("cat").arg(format!("/proc/{pid}/mountinfo")));
                table.is_ok_and(|table| root_lies_under(&table, data))
            })
            .filter_map(|pid| Process::of(pid).ok())
            .collect();
    }
    let inside = |process: &Process| {
        let table = fs::read_to_string(format!("/proc/{}/mountinfo", process.pid));
        table.is_ok_and(|table| root_lies_under(&table, data))
    };
    process::all().into_iter().filter(inside).collect()
}

fn pids(listed: &str) -> impl Iterator<Item = u32> + '_ {
    listed.lines().filter_map(|line| line.split('/').nth(2)?.parse().ok())
}

/// Helpers of an Engine (shims, runc, proxies) that name one of its folders.
#[must_use]
pub fn helpers(folders: &[&Path]) -> Vec<Process> {
    const NAMES: [&str; 6] =
        ["dockerd", "containerd", "containerd-shim", "runc", "docker-proxy", "docker-init"];
    process::told_of(&NAMES, folders)
}

/// Unmounts all that is mounted in or on these folders, innermost first.
///
/// # Errors
/// When one cannot be unmounted.
pub fn unmount(root: &Root, folders: &[&Path]) -> Result<()> {
    let table = fs::read_to_string("/proc/self/mountinfo").context("cannot read the mount table")?;
    let mut points = points_under(&table, folders);
    points.reverse();
    for point in points {
        let umount = |options: &[&str]| run::output(root.command("umount").args(options).arg(&point));
        // Lazily where it is busy: its last user may be dying still.
        umount(&[])
            .or_else(|_| umount(&["--lazy"]))
            .with_context(|| format!("{} stays mounted", point.display()))?;
    }
    Ok(())
}

/// Mount points in or on the folders, in the order they were mounted.
fn points_under(table: &str, folders: &[&Path]) -> Vec<PathBuf> {
    table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|point| PathBuf::from(unescape(point)))
        .filter(|point| folders.iter().any(|folder| point.starts_with(folder)))
        .collect()
}

/// Whether the root of this mount table is an overlay in `data`.
fn root_lies_under(table: &str, data: &Path) -> bool {
    table.lines().any(|line| {
        let at_root = line.split(' ').nth(4) == Some("/");
        let mut options = line.split(" - ").nth(1).unwrap_or_default().split([' ', ',', ':']);
        at_root
            && options.any(|option| {
                let path = option.split_once('=').map_or(option, |(_, path)| path);
                Path::new(&unescape(path)).starts_with(data)
            })
    })
}

/// The kernel writes space, tab, newline and backslash as octal numbers.
fn unescape(path: &str) -> String {
    path.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
28 1 254:0 / / rw,relatime - ext4 /dev/vda rw
70 28 254:0 /s /s/data rw - ext4 /dev/vda rw
71 70 0:39 / /s/data/overlay2/x/merged rw - overlay overlay rw,lowerdir=/s/data/l/A:/s/data/l/B,upperdir=/s/data/x
72 28 0:4 net:[1] /r/netns/a\\040b rw - nsfs nsfs rw
73 28 0:4 / /s/database rw - tmpfs tmpfs rw";

    #[test]
    fn mount_points_are_told_by_whole_folders() {
        let points = points_under(TABLE, &[Path::new("/s/data"), Path::new("/r")]);
        let expected = ["/s/data", "/s/data/overlay2/x/merged", "/r/netns/a b"].map(PathBuf::from);
        assert_eq!(points, expected);
    }

    #[test]
    fn a_container_is_told_by_its_root() {
        let inside = "73 48 0:39 / / rw - overlay overlay rw,lowerdir=/s/data/l/A,upperdir=/s/data/x/diff,workdir=/s/w";
        assert!(root_lies_under(inside, Path::new("/s/data")));
        assert!(!root_lies_under(inside, Path::new("/s/dat")));
        assert!(
            !root_lies_under(TABLE, Path::new("/s/data")),
            "the host sees the mount, and is no container"
        );
    }
}
