//! FileSync's packets on the wire, as fsutil defines them.
//!
//! Own message types, because a path is bytes on Linux and the generated ones hold text, and because a
//! listing of many thousand entries is encoded from one scratch message instead of one allocation each.

use std::collections::BTreeMap;
use std::sync::Arc;

use archyard_model::{Blake3, ContextEntry, EntryKind};
use bytes::Bytes;
use prost::Message;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

use super::filesync::Listing;

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
    stat: Option<Stat>,
    #[prost(uint32, tag = "3")]
    pub(super) id: u32,
    #[prost(bytes = "bytes", tag = "4")]
    pub(super) data: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct Stat {
    #[prost(bytes = "vec", tag = "1")]
    path: Vec<u8>,
    #[prost(uint32, tag = "2")]
    mode: u32,
    // Owner and group, 3 and 4, stay zero as with BuildKit's own client.
    #[prost(int64, tag = "5")]
    size: i64,
    #[prost(int64, tag = "6")]
    modified_ns: i64,
    #[prost(bytes = "vec", tag = "7")]
    link: Vec<u8>,
    #[prost(int64, tag = "8")]
    device_major: i64,
    #[prost(int64, tag = "9")]
    device_minor: i64,
    #[prost(btree_map = "string, bytes", tag = "10")]
    xattrs: BTreeMap<String, Vec<u8>>,
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
                fill(self.scratch.stat.get_or_insert_default(), entry, self.listing.file(entry));
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

fn packet(kind: i32, id: u32, data: Bytes) -> Packet {
    Packet { kind, stat: None, id, data }
}

/// Overwrites a STAT with an entry's, keeping its buffers. `file` is what a file's entry has, by whichever of its
/// names: one whose other name had another size or time would be linked again, and where both already were the
/// same file that leaves a temporary name in the image.
fn fill(stat: &mut Stat, entry: &ContextEntry, file: Option<(u64, &Blake3)>) {
    stat.path.clone_from(&entry.path);
    stat.link.clear();
    (stat.device_major, stat.device_minor) = (0, 0);
    let (size, nanoseconds) =
        file.map_or((0, 0), |(size, digest)| (size, content_nanoseconds(digest, &entry.xattrs)));
    stat.size = i64::try_from(size).unwrap_or(i64::MAX);
    match &entry.kind {
        EntryKind::Symlink { target } => {
            stat.link.clone_from(target);
            stat.size = i64::try_from(target.len()).unwrap_or(i64::MAX);
        }
        EntryKind::Hardlink { target } => stat.link.clone_from(target),
        EntryKind::Device { major, minor, .. } => {
            (stat.device_major, stat.device_minor) = (i64::from(*major), i64::from(*minor));
        }
        EntryKind::File { .. } | EntryKind::Directory | EntryKind::Fifo => {}
    }
    stat.mode = go_mode(entry);
    stat.modified_ns = entry.modified_s.saturating_mul(1_000_000_000).saturating_add(nanoseconds);
    stat.xattrs.clear();
    stat.xattrs.extend(entry.xattrs.iter().cloned());
}

/// A fraction of a second that stands for the content: BuildKit compares size, mode and time with what it
/// kept of the last build, never content nor extended attributes, and would build the old ones. Layers hold whole
/// seconds.
fn content_nanoseconds(digest: &Blake3, xattrs: &[(String, Vec<u8>)]) -> i64 {
    let mut digest = *digest;
    for (name, value) in xattrs {
        let [name, value] = [Blake3::of(name.as_bytes()), Blake3::of(value)];
        digest = Blake3::of(&[digest, name, value].map(|part| *part.as_bytes()).concat());
    }
    let [a, b, c, d, ..] = *digest.as_bytes();
    i64::from(u32::from_le_bytes([a, b, c, d]) % 1_000_000_000)
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

    fn entry(kind: EntryKind, mode: u32) -> ContextEntry {
        ContextEntry { path: b"a/\xff".to_vec(), mode, modified_s: 7, xattrs: Vec::new(), kind }
    }

    #[test]
    fn modes_are_gos() {
        assert_eq!(go_mode(&entry(EntryKind::Directory, 0o1777)), 1 << 31 | 1 << 20 | 0o777);
        assert_eq!(go_mode(&entry(EntryKind::Symlink { target: b"x".to_vec() }, 0o777)), 1 << 27 | 0o777);
        let file = EntryKind::File { size: 1, digest: Blake3::of(b"x") };
        assert_eq!(go_mode(&entry(file, 0o6755)), 1 << 23 | 1 << 22 | 0o755);
    }

    #[test]
    fn equal_size_and_second_but_other_content_is_another_time() {
        let (mut one, mut two) = (Stat::default(), Stat::default());
        let tell = |stat: &mut Stat, content: &[u8]| {
            let digest = Blake3::of(content);
            fill(stat, &entry(EntryKind::File { size: 1, digest }, 0o644), Some((1, &digest)));
        };
        tell(&mut one, b"1");
        tell(&mut two, b"2");
        assert_ne!(one.modified_ns, two.modified_ns);
        assert_eq!((one.modified_ns / 1_000_000_000, two.modified_ns / 1_000_000_000), (7, 7));
    }

    #[test]
    fn other_attributes_are_another_time() {
        let digest = Blake3::of(b"1");
        let with = |xattrs: &[(&str, &[u8])]| {
            let xattrs: Vec<_> =
                xattrs.iter().map(|(name, value)| ((*name).to_owned(), value.to_vec())).collect();
            content_nanoseconds(&digest, &xattrs)
        };
        let all = [
            with(&[]),
            with(&[("a", b"1")]),
            with(&[("a", b"2")]),
            with(&[("b", b"1")]),
            with(&[("a", b"1"), ("b", b"1")]),
        ];
        assert_eq!(all.iter().collect::<std::collections::BTreeSet<_>>().len(), all.len());
    }

    #[test]
    fn a_scratch_forgets_what_it_held() {
        let mut stat = Stat::default();
        let mut link = entry(EntryKind::Symlink { target: b"target".to_vec() }, 0o777);
        link.xattrs.push(("user.x".to_owned(), b"1".to_vec()));
        fill(&mut stat, &link, None);
        assert_eq!((stat.link.as_slice(), stat.size, stat.xattrs.len()), (b"target".as_slice(), 6, 1));
        fill(&mut stat, &entry(EntryKind::Directory, 0o755), None);
        let mut fresh = Stat::default();
        fill(&mut fresh, &entry(EntryKind::Directory, 0o755), None);
        assert_eq!(stat, fresh);
        assert_eq!(stat.path, b"a/\xff");
    }
}
