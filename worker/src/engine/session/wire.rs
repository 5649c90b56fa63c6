//! FileSync's packets on the wire, as fsutil defines them.
//!
//! Own message types, because a path is bytes on Linux and the generated ones hold text, and because a
//! listing of many thousand entries is encoded from one scratch message instead of one allocation each.

use std::collections::BTreeMap;
use std::sync::Arc;

use archyard_model::context::walk_order;
use archyard_model::{ContextEntry, EntryKind};
use bytes::Bytes;
use prost::Message;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

use super::filesync::Listing;
use crate::sent::Mark;

pub(super) const STAT: i32 = 0;
pub(super) const REQUEST: i32 = 1;
pub(super) const DATA: i32 = 2;
pub(super) const FIN: i32 = 3;
pub(super) const ERROR: i32 = 4;

/// As much as tonic gathers before it hands a frame to HTTP/2.
const FRAME_BYTES: usize = 64 * 1024;

#[derive(Clone, PartialEq, Message)]
pub(super) struct Packet {
    #[prost(int32, tag = "1")]
    pub(super) kind: i32,
    #[prost(message, optional, tag = "2")]
    pub(super) stat: Option<Stat>,
    #[prost(uint32, tag = "3")]
    pub(super) id: u32,
    #[prost(bytes = "bytes", tag = "4")]
    pub(super) data: Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Stat {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) path: Vec<u8>,
    #[prost(uint32, tag = "2")]
    pub(super) mode: u32,
    // Owner and group of what is sent stay zero, as with BuildKit's own client.
    #[prost(uint32, tag = "3")]
    pub(super) uid: u32,
    #[prost(uint32, tag = "4")]
    pub(super) gid: u32,
    #[prost(int64, tag = "5")]
    pub(super) size: i64,
    #[prost(int64, tag = "6")]
    pub(super) modified_ns: i64,
    #[prost(bytes = "vec", tag = "7")]
    pub(super) link: Vec<u8>,
    #[prost(int64, tag = "8")]
    pub(super) device_major: i64,
    #[prost(int64, tag = "9")]
    pub(super) device_minor: i64,
    #[prost(btree_map = "string, bytes", tag = "10")]
    pub(super) xattrs: BTreeMap<String, Vec<u8>>,
}

/// What is sent to BuildKit.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Outgoing {
    /// The listing's entry of this number.
    Stat(u32),
    /// The listing is complete.
    EndOfStats,
    /// Bytes of the file of this number; none at its end.
    Data(u32, Bytes),
    /// Everything asked for was sent.
    Fin,
    /// The build cannot go on.
    Failed(String),
}

/// Encodes what goes out from the listing itself.
pub(super) struct PacketCodec(pub(super) Arc<Listing>);

pub(super) struct PacketEncoder {
    listing: Arc<Listing>,
    scratch: Packet,
}

pub(super) struct PacketDecoder;

impl Codec for PacketCodec {
    type Encode = Outgoing;
    type Decode = Packet;
    type Encoder = PacketEncoder;
    type Decoder = PacketDecoder;

    fn encoder(&mut self) -> PacketEncoder {
        let scratch = Packet { stat: Some(Stat::default()), ..Packet::default() };
        PacketEncoder { listing: self.0.clone(), scratch }
    }

    fn decoder(&mut self) -> PacketDecoder {
        PacketDecoder
    }
}

impl Encoder for PacketEncoder {
    type Item = Outgoing;
    type Error = Status;

    fn encode(&mut self, item: Outgoing, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        let encoded = match item {
            Outgoing::Stat(id) => {
                let entry = self.listing.entry(id).ok_or_else(|| Status::internal("no such entry"))?;
                fill(self.scratch.stat.get_or_insert_default(), entry, self.listing.itself(entry));
                self.scratch.encode(buffer)
            }
            Outgoing::EndOfStats => packet(STAT, 0, Bytes::new()).encode(buffer),
            Outgoing::Data(id, data) => packet(DATA, id, data).encode(buffer),
            Outgoing::Fin => packet(FIN, 0, Bytes::new()).encode(buffer),
            Outgoing::Failed(reason) => packet(ERROR, 0, reason.into()).encode(buffer),
        };
        encoded.map_err(|error| Status::internal(error.to_string()))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(FRAME_BYTES, FRAME_BYTES)
    }
}

impl Decoder for PacketDecoder {
    type Item = Packet;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Packet>, Status> {
        Packet::decode(buffer).map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}

/// What is answered to BuildKit when it sends a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reply {
    /// The content of the file of this number is wanted.
    Request(u32),
    /// All has arrived.
    Fin,
}

/// Encodes replies.
pub(super) struct ReplyCodec;

impl Codec for ReplyCodec {
    type Encode = Reply;
    type Decode = Packet;
    type Encoder = Self;
    type Decoder = PacketDecoder;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> PacketDecoder {
        PacketDecoder
    }
}

impl Encoder for ReplyCodec {
    type Item = Reply;
    type Error = Status;

    fn encode(&mut self, item: Reply, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        let (kind, id) = match item {
            Reply::Request(id) => (REQUEST, id),
            Reply::Fin => (FIN, 0),
        };
        packet(kind, id, Bytes::new()).encode(buffer).map_err(|error| Status::internal(error.to_string()))
    }
}

fn packet(kind: i32, id: u32, data: Bytes) -> Packet {
    Packet { kind, stat: None, id, data }
}

/// Overwrites a STAT with an entry's, keeping its buffers. `file` is the entry itself, or the file that it is a further
/// name of: names of one file have one size and one time. On 20.10 a name that differs is linked again, and where both
/// already are the same file that leaves a temporary name in the image.
fn fill(stat: &mut Stat, entry: &ContextEntry, file: &ContextEntry) {
    stat.path.clone_from(&entry.path);
    stat.link.clear();
    (stat.device_major, stat.device_minor) = (0, 0);
    let mut size = match file.kind {
        EntryKind::File { size, .. } => size,
        _ => 0,
    };
    match &entry.kind {
        EntryKind::Symlink { target } => {
            stat.link.clone_from(target);
            size = target.len() as u64;
        }
        EntryKind::Hardlink { target } => stat.link.clone_from(target),
        EntryKind::Device { major, minor, .. } => {
            (stat.device_major, stat.device_minor) = (i64::from(*major), i64::from(*minor));
        }
        EntryKind::File { .. } | EntryKind::Directory | EntryKind::Fifo => {}
    }
    stat.size = i64::try_from(size).unwrap_or(i64::MAX);
    stat.mode = go_mode(entry);
    stat.modified_ns = nanoseconds(file);
    stat.xattrs.clear();
    stat.xattrs.extend(entry.xattrs.iter().cloned());
}

/// An entry's time as Go's `UnixNano` gives it, and so as docker sends it. Times before 1678 and after 2262 wrap round.
fn nanoseconds(entry: &ContextEntry) -> i64 {
    entry.modified_s.wrapping_mul(1_000_000_000).wrapping_add(i64::from(entry.modified_ns))
}

/// The entry itself, or the file that it is a further name of.
pub(super) fn itself<'a>(entries: &'a [ContextEntry], entry: &'a ContextEntry) -> &'a ContextEntry {
    let EntryKind::Hardlink { target } = &entry.kind else { return entry };
    let file = entries.binary_search_by(|entry| walk_order(&entry.path, target));
    file.map_or(entry, |at| &entries[at])
}

/// What BuildKit compares of every entry, and what it does not: it takes a file of equal name, mode, owner, size, time
/// and link for the one that it kept, and never looks at content or extended attributes. Of a directory it does not
/// compare the time either.
pub(in crate::engine) fn marks(entries: &[ContextEntry]) -> Vec<Mark> {
    let mut stat = Stat::default();
    let mut compared = Vec::new();
    let mark = |entry| {
        let file = itself(entries, entry);
        fill(&mut stat, entry, file);
        stat.xattrs.clear();
        if entry.kind == EntryKind::Directory {
            stat.modified_ns = 0;
        }
        compared.clear();
        stat.encode_raw(&mut compared);
        Mark { identity: half(blake3::hash(&compared)), content: content(entry, file) }
    };
    entries.iter().map(mark).collect()
}

/// What an entry holds, its extended attributes included.
fn content(entry: &ContextEntry, file: &ContextEntry) -> [u8; 16] {
    let digest = match &file.kind {
        EntryKind::File { digest, .. } => *digest.as_bytes(),
        _ => [0; 32],
    };
    if entry.xattrs.is_empty() && file.xattrs.is_empty() {
        return half(digest.into());
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(&digest);
    for (name, value) in entry.xattrs.iter().chain(&file.xattrs) {
        for part in [name.as_bytes(), value] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
    }
    half(hasher.finalize())
}

fn half(hash: blake3::Hash) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&hash.as_bytes()[..16]);
    half
}

/// Mode bits as Go's `os.FileMode` has them.
fn go_mode(entry: &ContextEntry) -> u32 {
    let kind = match entry.kind {
        EntryKind::Directory => 1 << 31,
        EntryKind::Symlink { .. } => 1 << 27,
        EntryKind::Fifo => 1 << 25,
        EntryKind::Device { block: true, .. } => 1 << 26,
        EntryKind::Device { block: false, .. } => 1 << 26 | 1 << 21,
        EntryKind::File { .. } | EntryKind::Hardlink { .. } => 0,
    };
    let special = [(0o4000, 1 << 23), (0o2000, 1 << 22), (0o1000, 1 << 20)];
    let special = special.iter().filter(|(posix, _)| entry.mode & posix != 0).map(|(_, go)| go).sum::<u32>();
    entry.mode & 0o777 | kind | special
}

#[cfg(test)]
mod tests {
    use super::*;
    use archyard_model::Blake3;

    fn entry(kind: EntryKind, mode: u32) -> ContextEntry {
        ContextEntry {
            path: b"a/\xff".to_vec(),
            mode,
            modified_s: 7,
            modified_ns: 8,
            xattrs: Vec::new(),
            kind,
        }
    }

    #[test]
    fn modes_are_gos() {
        assert_eq!(go_mode(&entry(EntryKind::Directory, 0o1777)), 1 << 31 | 1 << 20 | 0o777);
        assert_eq!(go_mode(&entry(EntryKind::Symlink { target: b"x".to_vec() }, 0o777)), 1 << 27 | 0o777);
        let file = EntryKind::File { size: 1, digest: Blake3::of(b"x") };
        assert_eq!(go_mode(&entry(file, 0o6755)), 1 << 23 | 1 << 22 | 0o755);
    }

    fn file(path: &str, content: &[u8]) -> ContextEntry {
        let kind = EntryKind::File { size: content.len() as u64, digest: Blake3::of(content) };
        ContextEntry { path: path.into(), ..entry(kind, 0o644) }
    }

    #[test]
    fn times_are_gos() {
        let at = |modified_s, modified_ns| {
            nanoseconds(&ContextEntry { modified_s, modified_ns, ..file("a", b"") })
        };
        assert_eq!(at(7, 8), 7_000_000_008);
        assert_eq!(at(0, 0), 0);
        assert_eq!(at(-1, 999_999_999), -1);
        assert_eq!(at(-2, 500_000_000), -1_500_000_000);
        // time.Date(2300, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano()
        assert_eq!(at(10_413_792_000, 0), -8_032_952_073_709_551_616);
    }

    #[test]
    fn a_mark_tells_what_buildkit_compares_from_what_it_does_not() {
        let mark = |entry: &ContextEntry| marks(std::slice::from_ref(entry))[0];
        let one = file("a", b"1");
        let compared = [
            ContextEntry { path: b"b".to_vec(), ..one.clone() },
            ContextEntry { mode: 0o600, ..one.clone() },
            ContextEntry { modified_s: 8, ..one.clone() },
            ContextEntry { modified_ns: 9, ..one.clone() },
            ContextEntry { kind: EntryKind::Symlink { target: b"1".to_vec() }, ..one.clone() },
            file("a", b"12"),
        ];
        for other in &compared {
            assert_ne!(mark(other).identity, mark(&one).identity, "{other:?}");
        }
        let with = |xattrs: &[(&str, &[u8])]| {
            let xattrs = xattrs.iter().map(|(name, value)| ((*name).to_owned(), value.to_vec())).collect();
            ContextEntry { xattrs, ..one.clone() }
        };
        let unseen = [
            one.clone(),
            file("a", b"2"),
            with(&[("a", b"1")]),
            with(&[("a", b"2")]),
            with(&[("b", b"1")]),
            with(&[("a", b"1"), ("b", b"1")]),
        ];
        assert!(unseen.iter().all(|other| mark(other).identity == mark(&one).identity));
        let contents: std::collections::BTreeSet<_> =
            unseen.iter().map(|other| mark(other).content).collect();
        assert_eq!(contents.len(), unseen.len());
        let folder = entry(EntryKind::Directory, 0o755);
        assert_eq!(mark(&folder), mark(&ContextEntry { modified_s: 99, ..folder.clone() }));
    }

    #[test]
    fn names_of_one_file_have_its_size_and_time_and_content() {
        let link = |modified_s| ContextEntry {
            modified_s,
            kind: EntryKind::Hardlink { target: b"a".to_vec() },
            ..file("b", b"")
        };
        let of = |content, modified_s| marks(&[file("a", content), link(modified_s)])[1];
        assert_eq!(of(b"1", 7), of(b"1", 99));
        assert_eq!(of(b"1", 7).identity, of(b"2", 7).identity);
        assert_ne!(of(b"1", 7).content, of(b"2", 7).content);
        assert_ne!(of(b"1", 7).identity, of(b"12", 7).identity);
    }

    #[test]
    fn a_scratch_forgets_what_it_held() {
        let mut stat = Stat::default();
        let mut link = entry(EntryKind::Symlink { target: b"target".to_vec() }, 0o777);
        link.xattrs.push(("user.x".to_owned(), b"1".to_vec()));
        fill(&mut stat, &link, &link);
        assert_eq!((stat.link.as_slice(), stat.size, stat.xattrs.len()), (b"target".as_slice(), 6, 1));
        let folder = entry(EntryKind::Directory, 0o755);
        fill(&mut stat, &folder, &folder);
        let mut fresh = Stat::default();
        fill(&mut fresh, &folder, &folder);
        assert_eq!(stat, fresh);
        assert_eq!(stat.path, b"a/\xff");
    }
}
