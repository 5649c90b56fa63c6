//! An image comes out of the Engine, into the layer cache; once, for whoever wants something of it.

use archyard_model::Sha256;

use super::archive::{self, Into};
use super::blame::Error;
use super::cache::{Cache, Image};
use super::told::Told;
use crate::engine::{Taken, TakenLayer};

/// An image that is being taken.
pub(super) struct Taking<'a> {
    pub(super) engine: &'a bollard::Docker,
    /// What the Engine calls it.
    pub(super) image: Sha256,
    pub(super) into: Into,
    pub(super) told: &'a Told,
}

/// What taking it out cost.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cost {
    pub(super) read_bytes: u64,
    pub(super) compressed_layers: u32,
}

impl Taking<'_> {
    /// All of an image for registries, from the cache where it is known.
    pub(super) async fn image(&self) -> Result<(Image, Cost), Error> {
        match self.into.cache.image(self.image)? {
            Some(image) => Ok((image, Cost::default())),
            None => self.image_anew().await,
        }
    }

    /// The same from the Engine, whatever is known: a layer's bytes are gone.
    pub(super) async fn image_anew(&self) -> Result<(Image, Cost), Error> {
        let cost = self.unpack().await?;
        let lacks = || Error::Archive("it lacks one of the image's layers".to_owned());
        Ok((self.into.cache.image(self.image)?.ok_or_else(lacks)?, cost))
    }

    /// As the caller asked for it: compressed, and the bytes here; or seen.
    pub(super) async fn taken(&self) -> Result<Taken, Error> {
        if let Some(taken) = self.kept()?
            && self.is_seen(&taken.diff_ids)
        {
            return Ok(taken);
        }
        let cost = self.unpack().await?;
        let lacks = || Error::Archive("it lacks one of the image's layers".to_owned());
        let taken = self.kept()?.ok_or_else(lacks)?;
        Ok(Taken { read_bytes: cost.read_bytes, compressed_layers: cost.compressed_layers, ..taken })
    }

    fn is_seen(&self, diff_ids: &[Sha256]) -> bool {
        let observer = self.into.observer.as_ref();
        observer.is_none_or(|observer| diff_ids.iter().all(|diff_id| observer.knows(*diff_id)))
    }

    /// What the cache has of it; none unless that is all.
    fn kept(&self) -> Result<Option<Taken>, Error> {
        let Into { cache, compress, .. } = &self.into;
        let Some(config) = cache.config(self.image)? else { return Ok(None) };
        let layers = if *compress {
            config.diff_ids.iter().map(|diff_id| compressed(cache, *diff_id)).collect()
        } else {
            Some(Vec::new())
        };
        Ok(layers.map(|layers| Taken {
            config_digest: config.digest,
            config: config.bytes,
            diff_ids: config.diff_ids,
            layers,
            read_bytes: 0,
            compressed_layers: 0,
        }))
    }

    async fn unpack(&self) -> Result<Cost, Error> {
        self.told.transfer("exporting the image", 0, 0, false).await;
        let unpacked = archive::take(self.engine, self.image, &self.into).await?;
        self.told.transfer("exporting the image", unpacked.read_bytes, unpacked.read_bytes, true).await;
        Ok(Cost { read_bytes: unpacked.read_bytes, compressed_layers: unpacked.compressed_layers })
    }
}

/// A layer whose compressed bytes are here.
fn compressed(cache: &Cache, diff_id: Sha256) -> Option<TakenLayer> {
    let layer = cache.layer(diff_id).filter(|layer| cache.has_blob(layer.digest))?;
    Some(TakenLayer {
        diff_id,
        digest: layer.digest,
        size_bytes: layer.size_bytes,
        path: cache.blob_path(layer.digest),
    })
}
