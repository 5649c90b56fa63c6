//! Blobs from one repository to another: mounted where the registry can, else passed through piece by piece.

use archyard_model::{Reference, Sha256};
use archyard_net::watch;
use futures_util::TryStreamExt as _;
use oci_client::RegistryOperation;
use oci_client::errors::OciDistributionError;
use tokio::time::timeout;

use super::client::{Registry, reference_part, to_oci, within};
use super::passing::Passing;
use super::{Cause, Error};

impl Registry {
    /// Whether a blob is in the repository that `at` names.
    pub async fn has_blob(&self, at: &Reference, digest: Sha256) -> Result<bool, Error> {
        let target = to_oci(at, &reference_part(at));
        self.identify(at, &target).await;
        match within(at, self.client.blob_exists(&target, &digest.to_string())).await? {
            Ok(there) => Ok(there),
            Err(error) => Err(self.explain(at, &target, RegistryOperation::Pull, &error).await),
        }
    }

    /// Makes a blob of `from` one of `to` without moving it. `false`: this registry does not; copy it.
    pub async fn mount(&self, from: &Reference, to: &Reference, digest: Sha256) -> Result<bool, Error> {
        let (source, target) = (to_oci(from, &reference_part(from)), to_oci(to, &reference_part(to)));
        self.identify(to, &target).await;
        match within(to, self.client.mount_blob(&target, &source, &digest.to_string())).await? {
            Ok(()) | Err(OciDistributionError::RegistryNoLocationError) => Ok(true),
            // It opened an upload instead, or knows no mounting.
            Err(OciDistributionError::SpecViolationError(_)) => Ok(false),
            Err(error) => {
                let error = self.explain(to, &target, RegistryOperation::Push, &error).await;
                if error.cause == Cause::Refused || error.cause == Cause::NotFound {
                    return Ok(false);
                }
                Err(error)
            }
        }
    }

    /// Copies a blob of `size` bytes. What passes through is held piece by piece, and no piece is asked for before the last
    /// one is taken; its digest is checked on the way, and by the registry that takes it. Takes as long as it moves.
    pub async fn copy(
        &self,
        from: &Reference,
        to: &Reference,
        digest: Sha256,
        size: u64,
    ) -> Result<(), Error> {
        let bulk = self.for_bulk()?;
        let (source, target) = (to_oci(from, &reference_part(from)), to_oci(to, &reference_part(to)));
        bulk.identify(from, &source).await;
        bulk.identify(to, &target).await;
        let digest = digest.to_string();
        let opened = timeout(self.stall, bulk.client.pull_blob_stream(&source, digest.as_str()));
        let blob = match opened.await.map_err(|_| self.stalled(from))? {
            Ok(blob) => blob,
            Err(error) => return Err(bulk.explain(from, &source, RegistryOperation::Pull, &error).await),
        };
        let passing = Passing::default();
        let blob = passing.watch(blob).map_err(OciDistributionError::from);
        let upload = bulk.client.push_blob_stream(&target, blob, &digest, Some(size));
        let uploaded = watch(upload, &passing.meter, self.stall, |_| std::future::ready(())).await;
        match (uploaded, passing.broken()) {
            (Some(Ok(_) | Err(OciDistributionError::RegistryNoLocationError)), _) => Ok(()),
            (_, Some(said)) => Err(Error::broken(from, &said)),
            (None, _) => Err(self.stalled(if passing.awaits_giver() { from } else { to })),
            (Some(Err(error)), _) => Err(bulk.explain(to, &target, RegistryOperation::Push, &error).await),
        }
    }

    fn stalled(&self, at: &Reference) -> Error {
        Error::stalled(at, self.stall.as_secs())
    }
}
