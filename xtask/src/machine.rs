//! A whole machine of the other kind: qemu emulates an aarch64 computer, and inside
//! it runs a kernel, Docker and our worker that know nothing of it. To that worker
//! its machine is native; docs/aarch64-vm.md says what that proves and what not.
//!
//! Nothing of it is installed, no emulator is ever registered with a kernel, and
//! nobody dials in: the machine reaches the host's loopback, and that is all.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};

use crate::images::{Entry, tar};

mod disk;
mod initrd;
mod tools;

pub use disk::Disk;
pub use tools::Tools;

/// The host's loopback as the machine reaches it: qemu's user-mode network.
pub const HOST: &str = "10.0.2.2";
/// A core without pointer authentication, which costs an emulator dearly, and with
/// the 32-bit half of the architecture, as the cloud's own aarch64 machines of that time.
const CPU: &str = "cortex-a72";
const START: &str = include_str!("machine/start.sh");

/// What a machine is made of; in the cache.
#[derive(Debug, Clone)]
pub struct Machine {
    tools: Tools,
    disk: Disk,
}

/// What a machine is started for: a worker that dials this host's scheduler.
#[derive(Debug, Clone, Copy)]
pub struct Errand<'a> {
    /// `archyard`, built for the machine.
    pub archyard: &'a Path,
    /// The worker's name in the farm.
    pub name: &'a str,
    /// Folder that `archyard cert issue` wrote.
    pub tls: &'a Path,
    /// The scheduler's port on the host's loopback.
    pub scheduler_port: u16,
    /// The registry's port: it is the same 127.0.0.1:PORT inside.
    pub registry_port: u16,
}

impl Machine {
    /// Sees to it that all is in the cache.
    ///
    /// # Errors
    /// When a part cannot be had, or this host is itself of that kind.
    pub fn ensure() -> Result<Self> {
        if std::env::consts::ARCH != "x86_64" {
            bail!(
                "an emulated aarch64 machine is for hosts of x86_64; here a worker of its own is the real thing"
            );
        }
        let tools = Tools::ensure()?;
        let disk = Disk::ensure(&tools)?;
        Ok(Self { tools, disk })
    }

    /// The command that is the machine, until it is ended or its worker ends. `dir`
    /// takes what it needs meanwhile; its console goes to standard output. Each start
    /// finds the disk as it was made: what is written lies in a file without a name.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub fn command(&self, dir: &Path, errand: &Errand<'_>) -> Result<Command> {
        let payload = payload(dir, errand)?;
        let mut command = self.tools.command("qemu-system-aarch64")?;
        // It puts the unnamed file here.
        command.env("TMPDIR", dir);
        command.args([
            "-machine",
            "virt",
            "-cpu",
            CPU,
            "-accel",
            "tcg,thread=multi",
            "-smp",
            "2",
            "-m",
            "2048",
        ]);
        command.args(["-nographic", "-nodefaults", "-no-reboot", "-serial", "stdio", "-monitor", "none"]);
        command.arg("-kernel").arg(self.disk.kernel()).arg("-initrd").arg(self.disk.initrd());
        command.args(["-append", "console=ttyAMA0 quiet panic=-1"]);
        let drives = [("disk", self.disk.image(), "snapshot=on"), ("payload", payload, "readonly=on")];
        for (id, path, how) in drives {
            let path = path.to_str().context("the checkout lies in a folder whose name is not UTF-8")?;
            // A comma ends the value, two are one of its own.
            let path = path.replace(',', ",,");
            command.args(["-drive", &format!("file={path},format=raw,if=none,id={id},{how}")]);
            command.args(["-device", &format!("virtio-blk-pci,drive={id}")]);
        }
        command.args(["-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile="]);
        command.args(["-device", "virtio-rng-pci"]);
        Ok(command)
    }
}

/// The second disk: no file system but an archive, whole and the machine's to unpack.
fn payload(dir: &Path, errand: &Errand<'_>) -> Result<PathBuf> {
    let read = |path: PathBuf| fs::read(&path).with_context(|| format!("cannot read {}", path.display()));
    let archyard = read(errand.archyard.to_path_buf())?;
    let tls: Vec<(String, Vec<u8>)> = ["ca.pem", "cert.pem", "key.pem"]
        .into_iter()
        .map(|name| Ok((format!("tls/{name}"), read(errand.tls.join(name))?)))
        .collect::<Result<_>>()?;
    let settings = settings(errand);
    let mut entries = vec![
        ("archyard", Entry::File(0o755, &archyard)),
        ("settings", Entry::File(0o644, settings.as_bytes())),
        ("start", Entry::File(0o755, START.as_bytes())),
        ("tls", Entry::Dir(0o700)),
    ];
    entries.extend(tls.iter().map(|(name, bytes)| (name.as_str(), Entry::File(0o600, bytes.as_slice()))));
    let path = dir.join("payload.tar");
    fs::write(&path, tar(&entries)?).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// What `start.sh` is told, as a shell reads it.
fn settings(errand: &Errand<'_>) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    format!(
        "HOST={HOST}\nNAME={}\nSCHEDULER_PORT={}\nREGISTRY_PORT={}\nNOW={now}\n",
        errand.name, errand.scheduler_port, errand.registry_port
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_an_archive_of_whole_sectors() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["archyard", "ca.pem", "cert.pem", "key.pem"] {
            fs::write(dir.path().join(name), name).unwrap();
        }
        let archyard = dir.path().join("archyard");
        let errand = Errand {
            archyard: &archyard,
            name: "machine",
            tls: dir.path(),
            scheduler_port: 1,
            registry_port: 2,
        };
        let bytes = fs::read(payload(dir.path(), &errand).unwrap()).unwrap();
        assert_eq!(bytes.len() % 512, 0);
        let mut archive = tar::Archive::new(bytes.as_slice());
        let names: Vec<String> = archive
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        assert_eq!(
            names,
            ["archyard", "settings", "start", "tls", "tls/ca.pem", "tls/cert.pem", "tls/key.pem"]
        );
        assert!(settings(&errand).contains("SCHEDULER_PORT=1\nREGISTRY_PORT=2\n"));
    }
}
