//! What one layer holds, kept small: enough to tell what an image would run, without reading the layer again.
//!
//! On disk it is the layer's own tree, folders before what is in them, an entry a message. It is read an entry at
//! a time, and as carefully as the layer was: what is on a disk may be anything.

use std::io::Read;
use std::path::Path;

use archyard_model::limits;
use prost::Message;

use super::content::Content;
use super::elf::{Elf, Loader};
use super::folder::{self, FolderError};
use super::layer;
use super::nodes::{About, File, Kind, Nodes, ROOT};
use super::walk;

/// Raised when entries change their meaning, or more of a layer is to be known: what was kept before is then
/// read anew.
const VERSION: u32 = 3;

/// Why a layer could not be read to its end.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// What it comes from failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// What one layer holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    bytes: Vec<u8>,
}

/// An index that does not say what it is to say: of another version, or damaged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("what is kept of a layer cannot be used: {0}")]
pub struct Unusable(&'static str);

#[derive(Clone, PartialEq, Message)]
struct Head {
    #[prost(uint32, tag = "1")]
    version: u32,
    /// The layer is no tar, or goes past a limit; there are no entries.
    #[prost(string, tag = "2")]
    malformed: String,
    /// Nothing of the layers below shows through anywhere.
    #[prost(bool, tag = "3")]
    opaque: bool,
}

#[derive(Clone, PartialEq, Message)]
struct Record {
    #[prost(uint32, tag = "1")]
    depth: u32,
    #[prost(bytes = "vec", tag = "2")]
    name: Vec<u8>,
    #[prost(enumeration = "RecordKind", tag = "3")]
    kind: i32,
    /// A file somebody may execute; a folder that hides what is below.
    #[prost(bool, tag = "4")]
    flag: bool,
    #[prost(uint64, tag = "5")]
    size: u64,
    /// A link's target, a script's first line, what is broken about a program.
    #[prost(bytes = "vec", tag = "6")]
    text: Vec<u8>,
    #[prost(message, optional, tag = "7")]
    elf: Option<ElfRecord>,
    #[prost(message, optional, tag = "8")]
    about: Option<AboutRecord>,
}

/// Whose it is. Most are root's, and take two bytes more than none.
#[derive(Clone, PartialEq, Message)]
struct AboutRecord {
    #[prost(uint32, tag = "1")]
    mode: u32,
    #[prost(uint32, tag = "2")]
    uid: u32,
    #[prost(uint32, tag = "3")]
    gid: u32,
    #[prost(bytes = "vec", optional, tag = "4")]
    text: Option<Vec<u8>>,
}

/// What an index says of one place: how deep it is, its name, what is there, and whose it is.
pub(super) type Listed = (usize, Vec<u8>, Kind, Option<About>);

#[derive(Clone, PartialEq, Message)]
struct ElfRecord {
    #[prost(uint32, tag = "1")]
    machine: u32,
    #[prost(bool, tag = "2")]
    is_64_bit: bool,
    #[prost(bool, tag = "3")]
    is_big_endian: bool,
    #[prost(uint32, tag = "4")]
    os_abi: u32,
    #[prost(fixed32, tag = "5")]
    flags: u32,
    #[prost(bool, tag = "6")]
    is_program: bool,
    #[prost(bytes = "vec", optional, tag = "7")]
    loader: Option<Vec<u8>>,
    #[prost(bool, tag = "8")]
    is_loader_unread: bool,
    #[prost(uint32, tag = "9")]
    x86_level: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
enum RecordKind {
    Folder = 0,
    Data = 1,
    Elf = 2,
    Script = 3,
    ScriptCut = 4,
    Broken = 5,
    Pieces = 6,
    Symlink = 7,
    HardLink = 8,
    Special = 9,
    Whiteout = 10,
}

impl Index {
    /// Reads one layer's uncompressed tar to the end of its entries; what comes after them is left. A layer that
    /// is no tar, or too large a one, is an index too, which says so when images are made of it.
    ///
    /// At most 64 KiB of a file are in memory at a time, and of the layer what the index is.
    ///
    /// # Errors
    /// When the reader fails.
    pub fn read(tar: impl Read) -> Result<Self, ReadError> {
        let nodes = match layer::unpack(tar) {
            Ok(nodes) => nodes,
            Err(walk::Error::Io(error)) => return Err(error.into()),
            Err(walk::Error::Malformed(why)) => {
                let malformed = why.chars().take(limits::ERROR_VALUE_BYTES).collect();
                return Ok(Self::of(&Head { version: VERSION, malformed, opaque: false }));
            }
        };
        Ok(Self::of_nodes(&nodes))
    }

    /// The same of a layer that the Engine keeps unpacked, in a folder of overlayfs that this process may read:
    /// nothing but the first bytes of its files is read.
    ///
    /// # Errors
    /// When it cannot be told by its folder, for whatever reason. Its tar can always.
    pub fn read_folder(path: &Path) -> Result<Self, FolderError> {
        folder::read(path).map(|nodes| Self::of_nodes(&nodes))
    }

    /// As it was kept.
    ///
    /// # Errors
    /// When it is of another version. Damage is found where it is, by whoever reads on.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, Unusable> {
        let head = Head::decode_length_delimited(bytes.as_slice()).map_err(|_| Unusable("it is damaged"))?;
        if head.version != VERSION {
            return Err(Unusable("it is of another version"));
        }
        Ok(Self { bytes })
    }

    /// To be kept.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Why the layer could not be walked; none where it could.
    pub(super) fn malformed(&self) -> Option<String> {
        let head = self.head();
        (!head.malformed.is_empty()).then_some(head.malformed)
    }

    /// Whether nothing of the layers below shows through anywhere.
    pub(super) fn is_opaque(&self) -> bool {
        self.head().opaque
    }

    /// What is in it, folders before what is in them: how deep, by what name, and what.
    pub(super) fn entries(&self) -> impl Iterator<Item = Result<Listed, Unusable>> {
        let mut rest = self.bytes.as_slice();
        let head = Head::decode_length_delimited(&mut rest).map_err(|_| Unusable("it is damaged"));
        let mut failed = head.err().map(Err);
        let mut most_depth = 0;
        std::iter::from_fn(move || {
            if let Some(failed) = failed.take() {
                rest = &[];
                return Some(failed);
            }
            if rest.is_empty() {
                return None;
            }
            let entry = entry(&mut rest, &mut most_depth);
            if entry.is_err() {
                rest = &[];
            }
            Some(entry)
        })
    }

    fn of_nodes(nodes: &Nodes) -> Self {
        let opaque = *nodes.kind(ROOT) == Kind::Folder { opaque: true };
        let mut index = Self::of(&Head { version: VERSION, malformed: String::new(), opaque });
        for (depth, name, id) in nodes.walk() {
            let depth = u32::try_from(depth).unwrap_or(u32::MAX);
            let about = nodes.about(id).map(AboutRecord::of);
            let record = Record { depth, name: name.to_vec(), about, ..Record::of(nodes.kind(id)) };
            index.push(&record);
        }
        index
    }

    fn of(head: &Head) -> Self {
        Self { bytes: head.encode_length_delimited_to_vec() }
    }

    fn head(&self) -> Head {
        Head::decode_length_delimited(self.bytes.as_slice()).unwrap_or_default()
    }

    fn push(&mut self, record: &Record) {
        self.bytes.extend(record.encode_length_delimited_to_vec());
    }
}

/// The next entry. `most_depth`: as deep as it may lie, after the one before it.
fn entry(rest: &mut &[u8], most_depth: &mut usize) -> Result<Listed, Unusable> {
    let record = Record::decode_length_delimited(rest).map_err(|_| Unusable("it is damaged"))?;
    let depth = usize::try_from(record.depth).unwrap_or(usize::MAX);
    if depth > *most_depth || record.name.is_empty() || record.name.contains(&b'/') {
        return Err(Unusable("it names a place that cannot be"));
    }
    let name = record.name.clone();
    let about = record.about.clone().map(AboutRecord::about);
    let kind = record.into_kind()?;
    let holds = matches!(kind, Kind::Folder { .. });
    *most_depth = depth + usize::from(holds);
    Ok((depth, name, kind, about))
}

impl Record {
    fn of(kind: &Kind) -> Self {
        let plain = |kind: RecordKind| Self { kind: kind.into(), ..Self::default() };
        let text = |kind, text: &[u8]| Self { text: text.to_vec(), ..plain(kind) };
        match kind {
            Kind::Folder { opaque } => Self { flag: *opaque, ..plain(RecordKind::Folder) },
            Kind::Symlink(target) => text(RecordKind::Symlink, target),
            Kind::HardLink(target) => text(RecordKind::HardLink, target),
            Kind::Special => plain(RecordKind::Special),
            Kind::Whiteout => plain(RecordKind::Whiteout),
            Kind::File(file) => {
                let record = match &file.content {
                    Content::Data => plain(RecordKind::Data),
                    Content::Script(line, true) => text(RecordKind::Script, line),
                    Content::Script(line, false) => text(RecordKind::ScriptCut, line),
                    Content::Broken(why) => text(RecordKind::Broken, why.as_bytes()),
                    Content::Pieces => plain(RecordKind::Pieces),
                    Content::Elf(elf) => Self { elf: Some(ElfRecord::of(elf)), ..plain(RecordKind::Elf) },
                };
                Self { flag: file.is_executable, size: file.size, ..record }
            }
        }
    }

    fn into_kind(self) -> Result<Kind, Unusable> {
        let kind =
            RecordKind::try_from(self.kind).map_err(|_| Unusable("it has an entry of no known kind"))?;
        let content = match kind {
            RecordKind::Folder => return Ok(Kind::Folder { opaque: self.flag }),
            RecordKind::Symlink => return Ok(Kind::Symlink(self.text.into())),
            RecordKind::HardLink => return Ok(Kind::HardLink(self.text.into())),
            RecordKind::Special => return Ok(Kind::Special),
            RecordKind::Whiteout => return Ok(Kind::Whiteout),
            RecordKind::Data => Content::Data,
            RecordKind::Script => Content::Script(self.text.into(), true),
            RecordKind::ScriptCut => Content::Script(self.text.into(), false),
            RecordKind::Broken => Content::Broken(String::from_utf8_lossy(&self.text).as_ref().into()),
            RecordKind::Pieces => Content::Pieces,
            RecordKind::Elf => {
                Content::Elf(self.elf.ok_or(Unusable("it has a program of no machine"))?.elf().into())
            }
        };
        Ok(Kind::File(File { is_executable: self.flag, size: self.size, content }))
    }
}

impl AboutRecord {
    fn of(about: &About) -> Self {
        let text = about.text.as_deref().map(<[u8]>::to_vec);
        Self { mode: about.mode, uid: about.uid, gid: about.gid, text }
    }

    fn about(self) -> About {
        About { mode: self.mode, uid: self.uid, gid: self.gid, text: self.text.map(Into::into) }
    }
}

impl ElfRecord {
    fn of(elf: &Elf) -> Self {
        let loader = match &elf.loader {
            Loader::Path(path) => Some(path.to_vec()),
            Loader::None | Loader::Unread => None,
        };
        Self {
            machine: elf.machine.into(),
            is_64_bit: elf.is_64_bit,
            is_big_endian: elf.is_big_endian,
            os_abi: elf.os_abi.into(),
            flags: elf.flags,
            is_program: elf.is_program,
            loader,
            is_loader_unread: elf.loader == Loader::Unread,
            x86_level: elf.x86_level.into(),
        }
    }

    fn elf(self) -> Elf {
        Elf {
            machine: u16::try_from(self.machine).unwrap_or_default(),
            is_64_bit: self.is_64_bit,
            is_big_endian: self.is_big_endian,
            os_abi: u8::try_from(self.os_abi).unwrap_or_default(),
            flags: self.flags,
            is_program: self.is_program,
            loader: match (self.loader, self.is_loader_unread) {
                (Some(path), _) => Loader::Path(path.into()),
                (None, true) => Loader::Unread,
                (None, false) => Loader::None,
            },
            x86_level: u8::try_from(self.x86_level).unwrap_or_default(),
        }
    }
}
