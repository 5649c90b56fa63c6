//! The machine's disk, made without the machine: Debian's packages for arm64 laid
//! out side by side. No package's script runs, for here nothing could run it; the
//! little that they would have done is done by hand.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::Tools;
use super::initrd::initrd;
use crate::apt::{self, Beside};
use crate::cache;
use crate::oci;
use crate::run;

/// Grows with each change below that the rest of the recipe does not show.
const RECIPE: u32 = 1;
/// The release whose packages it is made of, whatever the host's.
const SUITE: &str = "bookworm";
const PACKAGES: [&str; 8] = [
    "base-files",
    "busybox-static",
    "ca-certificates",
    "docker.io",
    "iproute2",
    "kmod",
    "linux-image-cloud-arm64",
    "socat",
];
/// Of a thin file: as much room as the machine sees.
const SIZE: &str = "4G";
const INIT: &str = include_str!("init.sh");
const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n";
const GROUP: &str = "root:x:0:\ndocker:x:999:\n";
/// What nothing in the machine reads.
const LEFT_OUT: [&str; 6] =
    ["boot", "usr/share/doc", "usr/share/locale", "usr/share/man", "usr/share/perl", "usr/lib/udev"];

/// A disk, and the kernel that boots from it.
#[derive(Debug, Clone)]
pub struct Disk {
    folder: PathBuf,
}

impl Disk {
    /// Sees to it that it is in the cache.
    ///
    /// # Errors
    /// When the packages cannot be had.
    pub fn ensure(tools: &Tools) -> Result<Self> {
        let recipe = format!("{RECIPE} {SUITE} {PACKAGES:?} {SIZE} {INIT} {PASSWD} {GROUP} {LEFT_OUT:?}");
        let digest = oci::digest((recipe + include_str!("initrd.sh")).as_bytes());
        let name = format!("machine/disk-{}", &digest["sha256:".len()..][..12]);
        let folder = cache::once(&name, |work| {
            eprintln!("xtask: making the disk of an aarch64 machine from Debian's packages (100 MB)");
            make(work, tools).context("the disk of the aarch64 machine cannot be made")
        })?;
        Ok(Self { folder })
    }

    /// An ext4 file system.
    #[must_use]
    pub fn image(&self) -> PathBuf {
        self.folder.join("disk.img")
    }

    /// The kernel.
    #[must_use]
    pub fn kernel(&self) -> PathBuf {
        self.folder.join("vmlinuz")
    }

    /// What it starts first.
    #[must_use]
    pub fn initrd(&self) -> PathBuf {
        self.folder.join("initrd")
    }
}

fn make(work: &Path, tools: &Tools) -> Result<PathBuf> {
    let archives = apt::from_release(SUITE, |sources, number| {
        let work = work.join(number.to_string());
        apt::closure(&work, "arm64", Some(sources), Beside::Nothing, &PACKAGES)
    })?;
    let (root, made) = (work.join("root"), work.join("made"));
    create(&made)?;
    lay_out(&root, &archives)?;
    let kernel = only(&root.join("boot"), "vmlinuz-")?;
    fs::rename(&kernel, made.join("vmlinuz")).context("cannot keep the kernel")?;
    configure(&root)?;

    let modules = only(&root.join("usr/lib/modules"), "")?;
    let version = modules.file_name().context("modules without a version")?;
    // It goes by the name that it is called.
    run::output(tools.command("kmod")?.arg0("depmod").arg("-b").arg(&root).arg(version))?;
    let initrd = initrd(&root.join("usr/bin/busybox"), &modules)?;
    fs::write(made.join("initrd"), initrd).context("cannot keep the initial file system")?;
    let mut mke2fs = tools.command("mke2fs")?;
    // Without a journal: it is never used twice.
    mke2fs.args(["-q", "-F", "-t", "ext4", "-O", "^has_journal", "-d"]).arg(&root);
    run::output(mke2fs.arg(made.join("disk.img")).arg(SIZE))?;
    Ok(made)
}

/// As debootstrap begins: `/bin` and its like are names of `/usr/bin` and its like.
fn lay_out(root: &Path, archives: &[PathBuf]) -> Result<()> {
    for name in ["bin", "sbin", "lib"] {
        create(&root.join("usr").join(name))?;
        link(&format!("usr/{name}"), &root.join(name))?;
    }
    for archive in archives {
        let mut unpacked = Command::new(run::tool("dpkg-deb")?)
            .arg("--fsys-tarfile")
            .arg(archive)
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run dpkg-deb")?;
        let stream = unpacked.stdout.take().context("dpkg-deb has no standard output")?;
        let mut tar = Command::new(run::tool("tar")?);
        tar.args(["-x", "--keep-directory-symlink", "--numeric-owner", "-C"]).arg(root).stdin(stream);
        let status = tar.status().context("cannot run tar")?;
        if !(status.success() && unpacked.wait().context("cannot wait for dpkg-deb")?.success()) {
            bail!("cannot unpack {}", archive.display());
        }
    }
    Ok(())
}

/// What the packages' scripts would have done, as far as anything here needs it.
fn configure(root: &Path) -> Result<()> {
    for folder in LEFT_OUT {
        fs::remove_dir_all(root.join(folder)).with_context(|| format!("cannot leave out {folder}"))?;
    }
    for folder in ["dev", "proc", "run", "sys", "tmp", "root", "etc/ssl/certs"] {
        create(&root.join(folder))?;
    }
    for applet in ["cat", "date", "hostname", "mkdir", "mount", "poweroff", "sh", "sleep", "tail", "tar"] {
        let path = root.join("usr/bin").join(applet);
        if fs::symlink_metadata(&path).is_err() {
            link("busybox", &path)?;
        }
    }
    let init = root.join("usr/sbin/machine-init");
    write(&init, INIT.as_bytes())?;
    fs::set_permissions(&init, PermissionsExt::from_mode(0o755)).context("cannot make it a program")?;
    write(&root.join("etc/passwd"), PASSWD.as_bytes())?;
    write(&root.join("etc/group"), GROUP.as_bytes())?;
    write(&root.join("etc/ssl/certs/ca-certificates.crt"), &certificates(root)?)
}

/// All authorities that the package brings, in one file.
fn certificates(root: &Path) -> Result<Vec<u8>> {
    let folder = root.join("usr/share/ca-certificates/mozilla");
    let mut paths = fs::read_dir(&folder)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>())
        .with_context(|| format!("cannot read {}", folder.display()))?;
    paths.sort();
    let mut bundle = Vec::new();
    for path in paths {
        bundle.extend(fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?);
    }
    Ok(bundle)
}

/// The one entry of a folder whose name begins so.
fn only(folder: &Path, prefix: &str) -> Result<PathBuf> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let names = entries.filter_map(Result::ok).map(|entry| entry.path());
    let fits =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix));
    let found: Vec<PathBuf> = names.filter(fits).collect();
    match found.as_slice() {
        [path] => Ok(path.clone()),
        _ => bail!("{} has {} of {prefix}* instead of one", folder.display(), found.len()),
    }
}

fn create(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))
}

fn link(target: &str, path: &Path) -> Result<()> {
    symlink(target, path).with_context(|| format!("cannot create {}", path.display()))
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}
