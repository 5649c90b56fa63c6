//! What `binfmt_misc` hands to interpreters. Read only; nothing is ever registered here.

use std::fs;
use std::path::Path;

use archyard_model::Platform;

use super::elf::{self, Header};

const FOLDER: &str = "/proc/sys/fs/binfmt_misc";

/// The enabled entries.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Interpreters(Vec<Entry>);

/// One entry that matches by a file's first bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    interpreter: String,
    offset: usize,
    magic: Vec<u8>,
    mask: Vec<u8>,
}

impl Interpreters {
    /// What this machine has. Empty where `binfmt_misc` is not mounted.
    pub(super) fn registered() -> Self {
        Self::read(Path::new(FOLDER))
    }

    fn read(folder: &Path) -> Self {
        let read = |path: &Path| fs::read_to_string(path).unwrap_or_default();
        if read(&folder.join("status")).trim() == "disabled" {
            return Self::default();
        }
        let Ok(files) = fs::read_dir(folder) else { return Self::default() };
        let entries = files.flatten().filter(|file| file.file_name() != "register");
        Self(entries.filter_map(|file| Entry::parse(&read(&file.path()))).collect())
    }

    /// Whether programs with this header go to an interpreter.
    pub(super) fn take(&self, header: &Header) -> bool {
        self.taker(header).is_some()
    }

    /// The interpreter of a platform's programs, whatever its variant.
    pub(super) fn of(&self, platform: &Platform) -> Option<String> {
        let same =
            |known: &Platform| (known.os(), known.architecture()) == (platform.os(), platform.architecture());
        let header = elf::known().into_iter().find(|(known, _)| same(known)).map(|(_, header)| header)?;
        self.taker(&header).map(|entry| entry.interpreter.clone())
    }

    fn taker(&self, header: &Header) -> Option<&Entry> {
        let variants = header.variants();
        self.0.iter().find(|entry| variants.iter().any(|bytes| entry.matches(bytes)))
    }
}

impl Entry {
    /// An entry's file; none when it is disabled, or goes by a file name's extension.
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        if lines.next()? != "enabled" {
            return None;
        }
        let mut entry = Self { interpreter: String::new(), offset: 0, magic: Vec::new(), mask: Vec::new() };
        for line in lines {
            match line.split_once(' ') {
                Some(("interpreter", path)) => path.clone_into(&mut entry.interpreter),
                Some(("offset", offset)) => entry.offset = offset.trim().parse().ok()?,
                Some(("magic", bytes)) => entry.magic = hex::decode(bytes.trim()).ok()?,
                Some(("mask", bytes)) => entry.mask = hex::decode(bytes.trim()).ok()?,
                _ => {}
            }
        }
        if entry.mask.is_empty() {
            entry.mask = vec![0xff; entry.magic.len()];
        }
        (!entry.magic.is_empty() && entry.mask.len() == entry.magic.len()).then_some(entry)
    }

    fn matches(&self, start: &[u8]) -> bool {
        let Some(start) = start.get(self.offset..) else { return false };
        start.len() >= self.magic.len()
            && self
                .magic
                .iter()
                .zip(&self.mask)
                .zip(start)
                .all(|((magic, mask), byte)| magic & mask == byte & mask)
    }
}

#[cfg(test)]
mod tests {
    use super::super::elf::{ARM, I386, known};
    use super::*;

    const QEMU_AARCH64: &str = "enabled\ninterpreter /usr/libexec/qemu-binfmt/aarch64-binfmt-P\nflags: POCF\n\
        offset 0\nmagic 7f454c460201010000000000000000000200b700\n\
        mask ffffffffffffff00fffffffffffffffffeffffff\n";
    const QEMU_ARM: &str = "enabled\ninterpreter /usr/bin/qemu-arm-static\nflags: F\noffset 0\n\
        magic 7f454c4601010100000000000000000002002800\n\
        mask ffffffffffffff00fffffffffffffffffeffffff\n";
    const PYTHON: &str = "enabled\ninterpreter /usr/bin/python3.11\nflags: \noffset 0\nmagic a70d0d0a\n";

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    fn taken(interpreters: &Interpreters) -> Vec<String> {
        known().iter().filter(|(_, header)| interpreters.take(header)).map(|(p, _)| p.to_string()).collect()
    }

    #[test]
    fn entries_take_what_their_magic_names_and_nothing_else() {
        let folder = folder(&[
            ("status", "enabled\n"),
            ("register", ""),
            ("qemu-aarch64", QEMU_AARCH64),
            ("qemu-arm", QEMU_ARM),
            ("python3.11", PYTHON),
            ("py", "enabled\ninterpreter /usr/bin/x\nflags: \nextension .py\n"),
        ]);
        let interpreters = Interpreters::read(folder.path());
        assert_eq!(interpreters.0.len(), 3);
        assert_eq!(taken(&interpreters), ["linux/arm/v7", "linux/arm64"]);
        assert!(interpreters.take(&ARM.header) && !interpreters.take(&I386.header));
        let of = |platform: &str| interpreters.of(&platform.parse().unwrap());
        assert_eq!(of("linux/arm/v6").as_deref(), Some("/usr/bin/qemu-arm-static"), "of any variant");
        assert_eq!(of("linux/riscv64"), None);
    }

    #[test]
    fn what_is_disabled_takes_nothing() {
        let one = folder(&[("qemu-arm", &QEMU_ARM.replace("enabled", "disabled"))]);
        assert_eq!(taken(&Interpreters::read(one.path())), [""; 0]);
        let all = folder(&[("status", "disabled\n"), ("qemu-arm", QEMU_ARM)]);
        assert_eq!(taken(&Interpreters::read(all.path())), [""; 0]);
        assert_eq!(taken(&Interpreters::read(Path::new("/nonexistent"))), [""; 0]);
    }

    #[test]
    fn malformed_entries_are_no_entries() {
        for text in [
            "",
            "enabled\n",
            "enabled\nmagic zz\n",
            "enabled\noffset x\nmagic 7f\n",
            "enabled\nmagic 7f\nmask ffff\n",
        ] {
            assert_eq!(Entry::parse(text), None, "{text:?}");
        }
    }
}
