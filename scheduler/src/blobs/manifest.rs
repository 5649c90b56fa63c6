//! Contexts: a manifest is here only with every file it names.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use archyard_model::context::VERSION;
use archyard_model::{Blake3, ContextEntry, ContextManifest, ContextRef, EntryKind, Invalid, Plan, limits};

use super::{Claim, Error, Store};
use crate::disk;

/// How every manifest begins: with its version. A user's own file may begin so too: then it is decoded, and found not
/// to be one.
#[allow(clippy::cast_possible_truncation, reason = "a version below 128 is one byte in protobuf")]
pub(super) const HEAD: [u8; 2] = [0x08, VERSION as u8];

impl Store {
    /// Whether everything is here that a plan's build will ask for. FAILED_PRECONDITION names what is not. Nothing of
    /// it is removed while the claim is held: keep it until the build is known to the core.
    pub fn claim_plan(self: &Arc<Self>, plan: &Plan) -> Result<Claim, Error> {
        let claim = Claim::new(self, vec![plan.context.manifest_digest, plan.dockerfile]);
        self.check_plan(plan)?;
        self.mark_used(plan.context.manifest_digest);
        Ok(claim.keep())
    }

    /// The same for a context that takes the place of a plan's part of it.
    pub fn claim_context(self: &Arc<Self>, context: &ContextRef) -> Result<Claim, Error> {
        let claim = Claim::new(self, vec![context.manifest_digest]);
        self.check_context(context)?;
        self.mark_used(context.manifest_digest);
        Ok(claim.keep())
    }

    fn check_plan(&self, plan: &Plan) -> Result<(), Error> {
        self.check_context(&plan.context)?;
        let (_, size) = self.open_blob(plan.dockerfile).map_err(|error| match error {
            Error::NotFound(first) => Error::Missing { first, count: 1 },
            other => other,
        })?;
        if size > limits::DOCKERFILE_BYTES {
            return Err(Invalid::new(
                "plan.dockerfile_digest",
                format!("{size} bytes"),
                format!("a Dockerfile has at most {} bytes", limits::DOCKERFILE_BYTES),
            )
            .into());
        }
        Ok(())
    }

    /// Whether a context and all its files are here. Looked through once; from then on one small file says so.
    fn check_context(&self, context: &ContextRef) -> Result<(), Error> {
        let found = match self.read_verified(context.manifest_digest) {
            Some(found) => found,
            None => self.look_through(context.manifest_digest)?,
        };
        if found != *context {
            return Err(Invalid::new(
                "plan.context.digest",
                context.digest,
                format!(
                    "the manifest {} is of another context: {} with {} files of {} bytes",
                    found.manifest_digest, found.digest, found.files, found.total_bytes
                ),
            )
            .into());
        }
        Ok(())
    }

    /// Decodes a manifest and looks for all its files; promotes it if it had gaps before.
    fn look_through(&self, digest: Blake3) -> Result<ContextRef, Error> {
        let (_, size) = self.open_blob(digest).map_err(|error| match error {
            Error::NotFound(first) => Error::Missing { first, count: 1 },
            other => other,
        })?;
        if size > limits::CONTEXT_MANIFEST_BYTES {
            return Err(Invalid::new(
                "plan.context.manifest_digest",
                format!("{size} bytes"),
                "the context's manifest is too large; use a .dockerignore",
            )
            .into());
        }
        let bytes = self.read_whole(digest)?;
        let manifest =
            ContextManifest::decode(&bytes).map_err(|error| error.of("plan.context.manifest_digest"))?;
        if let Some((first, count)) = self.gaps(&manifest) {
            return Err(Error::Missing { first, count });
        }
        if !self.has(digest) {
            self.place(&self.partial(digest), digest)?;
            self.sync_names(&[digest])?;
        }
        let found = manifest.to_ref(&bytes);
        self.write_verified(&found)?;
        Ok(found)
    }

    /// Puts an uploaded blob that may be a manifest where it belongs.
    pub(super) fn place_manifest(&self, from: &Path, digest: Blake3) -> Result<(), Error> {
        let bytes = std::fs::read(from).map_err(|source| self.wrong(from, source))?;
        let manifest = ContextManifest::decode(&bytes).ok();
        if manifest.as_ref().is_some_and(|manifest| self.gaps(manifest).is_some()) {
            let to = self.partial(digest);
            std::fs::rename(from, &to).map_err(|source| self.wrong(&to, source))?;
            return Ok(());
        }
        self.place(from, digest)?;
        self.sync_names(&[digest])?;
        remove_if_there(&self.partial(digest)).map_err(|source| self.wrong(&self.partial(digest), source))?;
        if let Some(manifest) = manifest {
            self.write_verified(&manifest.to_ref(&bytes))?;
        }
        Ok(())
    }

    /// The first file that is not here, and how many are not. Those that are here are pinned: a manifest that was found
    /// to have no gaps has none when it gets its name.
    fn gaps(&self, manifest: &ContextManifest) -> Option<(Blake3, usize)> {
        let files = files(manifest);
        let present = self.present(&files, |digest| self.has_bytes(digest));
        let mut missing = files.into_iter().zip(present).filter(|(_, present)| !present);
        let (first, _) = missing.next()?;
        Some((first, 1 + missing.count()))
    }

    /// What an earlier look found, unless the marker or the manifest is gone.
    fn read_verified(&self, manifest_digest: Blake3) -> Option<ContextRef> {
        if !self.has(manifest_digest) {
            return None;
        }
        let text = std::fs::read_to_string(self.verified(manifest_digest)).ok()?;
        let mut words = text.strip_suffix('\n')?.split(' ');
        let found = ContextRef {
            digest: words.next()?.parse().ok()?,
            manifest_digest,
            files: words.next()?.parse().ok()?,
            total_bytes: words.next()?.parse().ok()?,
            partial: words.next()?.parse().ok()?,
        };
        words.next().is_none().then_some(found)
    }

    /// Notes that a context is used now: those that were used longest ago go first.
    fn mark_used(&self, manifest_digest: Blake3) {
        let path = self.verified(manifest_digest);
        let now = self.pins.clock().now();
        if let Err(error) = File::open(&path).and_then(|marker| marker.set_modified(now)) {
            tracing::debug!(manifest = %manifest_digest, %error, "a context's last use is not noted");
        }
    }

    /// Not synced: a marker that is lost costs another look, and one that is cut does not parse.
    fn write_verified(&self, found: &ContextRef) -> Result<(), disk::Error> {
        let path = self.verified(found.manifest_digest);
        let text = format!("{} {} {} {}\n", found.digest, found.files, found.total_bytes, found.partial);
        std::fs::write(&path, text).map_err(|source| self.wrong(&path, source))?;
        self.mark_used(found.manifest_digest);
        Ok(())
    }
}

/// The files that a manifest names, each once.
pub(super) fn files(manifest: &ContextManifest) -> Vec<Blake3> {
    let mut seen = std::collections::HashSet::new();
    let digest = |entry: &ContextEntry| match entry.kind {
        EntryKind::File { digest, .. } => seen.insert(digest).then_some(digest),
        _ => None,
    };
    manifest.entries().iter().filter_map(digest).collect()
}

pub(super) fn remove_if_there(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
