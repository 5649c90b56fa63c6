//! A context's manifest as it travels, and back.

use archyard_proto::v1 as proto;
use prost::Message as _;

use crate::context::{VERSION, walk_order};
use crate::{Blake3, ContextEntry, ContextManifest, EntryKind, Inputs, Invalid, limits};

impl ContextManifest {
    /// The bytes that travel, and whose BLAKE3 is the manifest's own blob digest.
    pub fn encode(&self) -> Vec<u8> {
        proto::ContextManifest {
            version: VERSION,
            entries: self.entries.iter().map(entry_to_proto).collect(),
            partial: !self.inputs.is_everything(),
            inputs: self.inputs.paths().cloned().collect(),
        }
        .encode_to_vec()
    }

    /// The manifest that [`encode`](Self::encode) wrote, checked as if a stranger had.
    pub fn decode(bytes: &[u8]) -> Result<Self, Invalid> {
        let size = bytes.len() as u64;
        if size > limits::CONTEXT_MANIFEST_BYTES {
            return Err(Invalid::new(
                "context",
                size,
                "the context's manifest is too large; use a .dockerignore",
            ));
        }
        let message = proto::ContextManifest::decode(bytes)
            .map_err(|error| Invalid::new("context", error, "not a context manifest"))?;
        if message.version != VERSION {
            let problem =
                format!("client, scheduler and worker must speak version {VERSION}; upgrade the older");
            return Err(Invalid::new("context.version", message.version, problem));
        }
        let inputs = match message.partial {
            true => Inputs::of_paths(message.inputs)?,
            false => Inputs::Everything,
        };
        let entries = message.entries.into_iter().map(entry_from_proto).collect::<Result<Vec<_>, _>>()?;
        let manifest = Self { entries, inputs };
        if !manifest.entries.is_sorted_by(|a, b| walk_order(&a.path, &b.path).is_lt()) {
            return Err(Invalid::new(
                "context.entries",
                "",
                "entries are not in walking order, or one is there twice",
            ));
        }
        manifest.check()?;
        Ok(manifest)
    }
}

fn entry_to_proto(entry: &ContextEntry) -> proto::ContextEntry {
    let mut message = proto::ContextEntry {
        path: entry.path.clone(),
        mode: entry.mode,
        modified_s: entry.modified_s,
        modified_ns: entry.modified_ns,
        xattrs: entry
            .xattrs
            .iter()
            .map(|(name, value)| proto::Xattr { name: name.clone(), value: value.clone() })
            .collect(),
        ..Default::default()
    };
    match &entry.kind {
        EntryKind::File { size, digest } => {
            message.set_kind(proto::EntryKind::File);
            message.size_bytes = *size;
            message.digest = digest.as_bytes().to_vec();
        }
        EntryKind::Directory => message.set_kind(proto::EntryKind::Directory),
        EntryKind::Symlink { target } => {
            message.set_kind(proto::EntryKind::Symlink);
            message.target.clone_from(target);
        }
        EntryKind::Hardlink { target } => {
            message.set_kind(proto::EntryKind::Hardlink);
            message.target.clone_from(target);
        }
        EntryKind::Fifo => message.set_kind(proto::EntryKind::Fifo),
        EntryKind::Device { block, major, minor } => {
            message.set_kind(match block {
                true => proto::EntryKind::BlockDevice,
                false => proto::EntryKind::CharacterDevice,
            });
            (message.device_major, message.device_minor) = (*major, *minor);
        }
    }
    message
}

fn entry_from_proto(message: proto::ContextEntry) -> Result<ContextEntry, Invalid> {
    let kind = match message.kind() {
        proto::EntryKind::File => {
            EntryKind::File { size: message.size_bytes, digest: Blake3::try_from(message.digest.as_slice())? }
        }
        proto::EntryKind::Directory => EntryKind::Directory,
        proto::EntryKind::Symlink => EntryKind::Symlink { target: message.target },
        proto::EntryKind::Hardlink => EntryKind::Hardlink { target: message.target },
        proto::EntryKind::Fifo => EntryKind::Fifo,
        kind @ (proto::EntryKind::BlockDevice | proto::EntryKind::CharacterDevice) => EntryKind::Device {
            block: kind == proto::EntryKind::BlockDevice,
            major: message.device_major,
            minor: message.device_minor,
        },
        proto::EntryKind::Unspecified => {
            return Err(Invalid::new(
                "context.entries.kind",
                String::from_utf8_lossy(&message.path),
                "this entry is no file, directory or link",
            ));
        }
    };
    Ok(ContextEntry {
        path: message.path,
        mode: message.mode,
        modified_s: message.modified_s,
        modified_ns: message.modified_ns,
        xattrs: message.xattrs.into_iter().map(|x| (x.name, x.value)).collect(),
        kind,
    })
}
