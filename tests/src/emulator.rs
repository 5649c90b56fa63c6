//! A real emulator, registered with this machine's kernel for as long as a test holds it.
//!
//! Of a platform that no other test builds for, and by one test at a time: what is registered is everybody's.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use xtask::root::Root;
use xtask::{emulator, run};

const FOLDER: &str = "/proc/sys/fs/binfmt_misc";
const ENTRY: &str = "archyard-test-emulator";
/// How programs of s390x begin: 64 bits, big-endian, executable or position-independent.
const MAGIC: &str = r"\x7fELF\x02\x02\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x16";
const MASK: &str = r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff";

/// The right to register it; held by one test of this machine.
#[derive(Debug)]
pub struct Turn {
    root: Root,
    mounted: bool,
    _lock: File,
}

/// Registered until dropped.
#[derive(Debug)]
pub struct Registered<'a>(&'a Turn);

impl Turn {
    /// Waits for it. Panics where the kernel has no `binfmt_misc`: the test would show nothing.
    pub fn take() -> Self {
        let lock = File::create(std::env::temp_dir().join("archyard-test-emulator.lock")).unwrap();
        lock.lock().unwrap();
        let root = Root::obtain("registering an emulator").unwrap();
        let mut turn = Self { root, mounted: false, _lock: lock };
        if !Path::new(FOLDER).join("register").exists() {
            let mount = ["-t", "binfmt_misc", "binfmt_misc", FOLDER];
            run::output(turn.root.command("mount").args(mount)).expect(
                "this kernel has no binfmt_misc: run these tests on one that has (modprobe binfmt_misc)",
            );
            turn.mounted = true;
        }
        turn.unregister();
        let (foreign, own) = (emulator::platform().unwrap(), turn.foreign());
        assert!(own.is_empty(), "this machine has an emulator of {foreign} already, take it away: {own:?}");
        turn
    }

    /// Registers it so that it is found in every container too.
    pub fn register(&self) -> Registered<'_> {
        let program = emulator::program().unwrap();
        let line = format!(":{ENTRY}:M::{MAGIC}:{MASK}:{}:F", program.display());
        self.write(&Path::new(FOLDER).join("register"), &line);
        assert!(Path::new(FOLDER).join(ENTRY).exists(), "the kernel did not take {line}");
        Registered(self)
    }

    fn unregister(&self) {
        let entry = Path::new(FOLDER).join(ENTRY);
        if entry.exists() {
            self.write(&entry, "-1");
        }
    }

    /// Entries of somebody else.
    fn foreign(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(FOLDER).unwrap().flatten().map(|entry| entry.path());
        entries.filter(|path| path.to_string_lossy().ends_with("-s390x")).collect()
    }

    fn write(&self, path: &Path, text: &str) {
        let write = ["-c", "printf '%s' \"$1\" > \"$2\"", "sh", text];
        run::output(self.root.command("sh").args(write).arg(path)).unwrap();
    }
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.0.unregister();
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.mounted {
            drop(run::output(self.root.command("umount").arg(FOLDER)));
        }
    }
}
