//! Layers and programs made by hand, for tests.

use archyard_model::{Checks, Failure, Platform};

use super::{Config, Index, Job, Step, Tree, Verdict, Written, judge};

/// Numbers of machines, as `elf.h` has them.
pub(super) const X86_64: u16 = 62;
pub(super) const AARCH64: u16 = 183;

/// A program's headers, and nothing behind them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Program {
    pub(super) machine: u16,
    pub(super) is_64_bit: bool,
    pub(super) is_big_endian: bool,
    pub(super) flags: u32,
    pub(super) loader: Option<&'static str>,
    /// The bits of the x86 levels it needs.
    pub(super) levels: u32,
}

pub(super) const AMD64: Program =
    Program { machine: X86_64, is_64_bit: true, is_big_endian: false, flags: 0, loader: None, levels: 0 };
pub(super) const ARM64: Program = Program { machine: AARCH64, ..AMD64 };

impl Program {
    /// The whole file.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let class = 1 + u8::from(self.is_64_bit);
        let order = 1 + u8::from(self.is_big_endian);
        let mut file = vec![0x7f, b'E', b'L', b'F', class, order, 1];
        file.resize(16, 0);
        let (header, entry) = if self.is_64_bit { (64, 56) } else { (52, 32) };
        let loader = self.loader.map(|name| [name.as_bytes(), &[0]].concat());
        let note = (self.levels > 0).then(|| self.note());
        let count = 1 + u16::from(loader.is_some()) + u16::from(note.is_some());
        self.half(&mut file, 2);
        self.half(&mut file, self.machine);
        self.word(&mut file, 1);
        self.long(&mut file, 0);
        self.long(&mut file, header);
        self.long(&mut file, 0);
        self.word(&mut file, self.flags);
        for half in [u16::try_from(header).unwrap(), entry, count, 0, 0, 0] {
            self.half(&mut file, half);
        }
        let mut at = header + u64::from(entry) * u64::from(count);
        self.segment(&mut file, 1, 0, at);
        let parts = [loader.map(|bytes| (3, bytes)), note.map(|bytes| (4, bytes))];
        let parts: Vec<(u32, Vec<u8>)> = parts.into_iter().flatten().collect();
        for (kind, bytes) in &parts {
            self.segment(&mut file, *kind, at, bytes.len() as u64);
            at += bytes.len() as u64;
        }
        file.extend(parts.into_iter().flat_map(|(_, bytes)| bytes));
        file
    }

    /// A GNU property note.
    fn note(&self) -> Vec<u8> {
        let mut note = Vec::new();
        for word in [4, 16, 5] {
            self.word(&mut note, word);
        }
        note.extend(b"GNU\0");
        for word in [0xc000_8002, 4, self.levels, 0] {
            self.word(&mut note, word);
        }
        note
    }

    fn segment(&self, file: &mut Vec<u8>, kind: u32, offset: u64, size: u64) {
        self.word(file, kind);
        if self.is_64_bit {
            self.word(file, 4);
        }
        for value in [offset, 0, 0, size, size] {
            self.long(file, value);
        }
        if !self.is_64_bit {
            self.word(file, 4);
        }
        self.long(file, 8);
    }

    fn half(&self, file: &mut Vec<u8>, value: u16) {
        file.extend(if self.is_big_endian { value.to_be_bytes() } else { value.to_le_bytes() });
    }

    fn word(&self, file: &mut Vec<u8>, value: u32) {
        file.extend(if self.is_big_endian { value.to_be_bytes() } else { value.to_le_bytes() });
    }

    fn long(&self, file: &mut Vec<u8>, value: u64) {
        if self.is_64_bit {
            file.extend(if self.is_big_endian { value.to_be_bytes() } else { value.to_le_bytes() });
        } else {
            self.word(file, u32::try_from(value).unwrap());
        }
    }
}

/// A layer's tar.
#[derive(Default)]
pub(super) struct Layer {
    bytes: Vec<u8>,
    /// Where the last entry begins.
    last: usize,
}

impl Layer {
    pub(super) fn file(self, path: &str, mode: u32, content: &[u8]) -> Self {
        self.entry(tar::EntryType::Regular, path, mode, "", content)
    }

    pub(super) fn program(self, path: &str, program: Program) -> Self {
        self.file(path, 0o755, &program.bytes())
    }

    pub(super) fn folder(self, path: &str) -> Self {
        self.entry(tar::EntryType::Directory, path, 0o755, "", b"")
    }

    /// A folder of this mode.
    pub(super) fn folder_of(self, path: &str, mode: u32) -> Self {
        self.entry(tar::EntryType::Directory, path, mode, "", b"")
    }

    /// Gives the last entry an owner and a group.
    pub(super) fn owned(mut self, uid: u64, gid: u64) -> Self {
        let start = self.last;
        let mut header = tar::Header::from_byte_slice(&self.bytes[start..start + 512]).clone();
        header.set_uid(uid);
        header.set_gid(gid);
        header.set_cksum();
        self.bytes[start..start + 512].copy_from_slice(header.as_bytes());
        self
    }

    pub(super) fn symlink(self, path: &str, target: &str) -> Self {
        self.entry(tar::EntryType::Symlink, path, 0o777, target, b"")
    }

    pub(super) fn hard_link(self, path: &str, target: &str) -> Self {
        self.entry(tar::EntryType::Link, path, 0o755, target, b"")
    }

    pub(super) fn entry(
        mut self,
        kind: tar::EntryType,
        path: &str,
        mode: u32,
        link: &str,
        content: &[u8],
    ) -> Self {
        let mut header = tar::Header::new_gnu();
        // As they are: the tar crate refuses to write what hostile archives hold.
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(content.len() as u64);
        header.set_cksum();
        self.last = self.bytes.len();
        self.bytes.extend(header.as_bytes());
        self.bytes.extend(content);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self
    }

    pub(super) fn tar(&self) -> Vec<u8> {
        [self.bytes.as_slice(), &[0; 1024]].concat()
    }

    pub(super) fn index(&self) -> Index {
        Index::read(self.tar().as_slice()).unwrap()
    }
}

/// The files of these layers.
pub(super) fn tree(layers: &[Layer]) -> Tree {
    let indexes: Vec<Index> = layers.iter().map(Layer::index).collect();
    Tree::merge(&indexes).unwrap()
}

/// A config for linux/amd64 that runs this.
pub(super) fn running(words: &[&str]) -> Config {
    Config {
        os: "linux".to_owned(),
        architecture: "amd64".to_owned(),
        cmd: words.iter().map(|word| (*word).to_owned()).collect(),
        env: vec!["PATH=/usr/bin:/bin".to_owned()],
        ..Config::default()
    }
}

/// Judges an image of linux/amd64, one instruction a layer and then a `CMD`.
pub(super) fn judged(config: Config, layers: &[Layer], checks: &Checks) -> Result<Verdict, Failure> {
    let mut text = "FROM scratch\n".to_owned();
    let mut config = config;
    for number in 0..layers.len() {
        text.push_str(&format!("COPY {number} /\n"));
        config.steps.push(Step { created_by: format!("COPY {number} / # buildkit"), has_layer: true });
        config.diff_ids.push(archyard_model::Sha256::from_bytes([0; 32]));
    }
    text.push_str("CMD x\n");
    config.steps.push(Step { created_by: "CMD x".to_owned(), has_layer: false });
    let platform: Platform = "linux/amd64".parse().unwrap();
    let written = Written { name: "Dockerfile", text: &text, target: None };
    judge(&config, &tree(layers), &Job { platform: &platform, checks, only_files: false, written })
}
