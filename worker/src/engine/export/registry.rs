//! One repository of a registry, and an image's way into it.

use std::time::Duration;

use archyard_model::reference::is_loopback;
use archyard_model::{Sha256, limits};
use archyard_net::{Meter, watch};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use http::HeaderValue;
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference, RegistryOperation};
use secrecy::ExposeSecret as _;
use tokio_util::io::ReaderStream;

use super::blame::{Error, is_missing};
use super::cache::{Cache, Image};
use super::manifest::{MEDIA_TYPE, Manifest};
use super::told::Told;
use crate::engine::{Credential, PushRequest};

/// Blobs under way at a time.
const CONCURRENT: usize = 4;
/// Other repositories that are asked to lend a blob, before it is sent.
const LENDERS: usize = 2;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
const CHUNK_BYTES: usize = 256 * 1024;
/// Between tries. A registry that stumbles for longer is a failure of its own, for the scheduler to judge.
const PAUSES: [Duration; 3] =
    [Duration::from_millis(100), Duration::from_millis(400), Duration::from_millis(1500)];

/// A repository that may be pushed to.
pub(super) struct Repository {
    /// `host/name`.
    name: String,
    host: String,
    path: String,
    client: Client,
    auth: RegistryAuth,
}

/// How a push to one repository ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The repository holds the image.
    Complete { sent_bytes: u64 },
    /// A layer that has to be sent is no longer in the cache.
    LayerGone { sent_bytes: u64 },
}

/// What became of one blob; `None` when it has to be sent and is not here.
type Sent = Option<u64>;

impl Repository {
    /// Logs in, where there is a credential; else nothing is said to the registry yet.
    pub(super) async fn connect(name: &str, request: &PushRequest) -> Result<Self, Error> {
        let wrong = |problem: String| Error::Repository(name.to_owned(), problem);
        let parsed: archyard_model::Reference = name.parse().map_err(|error| wrong(format!("{error}")))?;
        if parsed.name() != name {
            return Err(wrong("write it in full, without tag or digest".to_owned()));
        }
        let host = parsed.registry().to_owned();
        let plain = is_loopback(&host) || request.insecure_registries.contains(&host);
        let config = ClientConfig {
            protocol: if plain { ClientProtocol::Http } else { ClientProtocol::Https },
            use_monolithic_push: true,
            connect_timeout: Some(CONNECT_TIMEOUT),
            user_agent: concat!("archyard/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        };
        let client = Client::try_from(config).map_err(|error| Error::registry(name, error))?;
        let auth = credential(&request.credentials, &host);
        let repository =
            Self { name: name.to_owned(), host, path: parsed.repository().to_owned(), client, auth };
        if repository.auth != RegistryAuth::Anonymous {
            let any = repository.reference(request.image);
            repository.call(repository.client.auth(&any, &repository.auth, RegistryOperation::Push)).await?;
        }
        Ok(repository)
    }

    /// Makes the repository hold an image, sending only what it lacks; the manifest last. Tried again, briefly,
    /// where a registry only stumbles.
    pub(super) async fn push(
        &self,
        image: &Image,
        manifest: &Manifest,
        cache: &Cache,
        told: &Told,
    ) -> Result<Outcome, Error> {
        for pause in PAUSES {
            match self.push_once(image, manifest, cache, told).await {
                Err(error) if error.is_transient() => tracing::debug!(%error, "the push is tried again"),
                outcome => return outcome,
            }
            tokio::time::sleep(pause).await;
        }
        self.push_once(image, manifest, cache, told).await
    }

    async fn push_once(
        &self,
        image: &Image,
        manifest: &Manifest,
        cache: &Cache,
        told: &Told,
    ) -> Result<Outcome, Error> {
        let target = self.reference(manifest.digest);
        let present = self.quiet(self.client.fetch_manifest_digest(&target, &self.auth)).await?;
        match present {
            Ok(_) => return Ok(Outcome::Complete { sent_bytes: 0 }),
            Err(error) if is_missing(&error) => {}
            Err(error) => return Err(Error::registry(&self.name, error)),
        }
        let layers = image.layers.iter().map(|layer| (layer.digest, layer.size_bytes, None));
        let config = (image.config_digest, image.config.len() as u64, Some(image.config.clone()));
        let mut blobs: Vec<_> = layers.chain([config]).collect();
        blobs.sort_by_key(|(digest, ..)| *digest);
        blobs.dedup_by_key(|(digest, ..)| *digest);
        let sending = blobs.into_iter().map(|(digest, size, bytes)| async move {
            match bytes {
                Some(bytes) => self.send_config(digest, bytes).await,
                None => self.send_layer(digest, size, cache, told).await,
            }
        });
        let sent: Vec<Sent> = stream::iter(sending).buffer_unordered(CONCURRENT).try_collect().await?;
        let sent_bytes = sent.iter().flatten().sum();
        if sent.contains(&None) {
            return Ok(Outcome::LayerGone { sent_bytes });
        }
        let media_type = HeaderValue::from_static(MEDIA_TYPE);
        self.call(self.client.push_manifest_raw(&target, manifest.bytes.clone(), media_type)).await?;
        Ok(Outcome::Complete { sent_bytes })
    }

    async fn send_config(&self, digest: Sha256, bytes: Vec<u8>) -> Result<Sent, Error> {
        let (target, text) = (self.reference(digest), digest.to_string());
        if self.call(self.client.blob_exists(&target, &text)).await? {
            return Ok(Some(0));
        }
        let size = bytes.len() as u64;
        self.call(self.client.push_blob(&target, bytes, &text)).await?;
        Ok(Some(size))
    }

    async fn send_layer(&self, digest: Sha256, size: u64, cache: &Cache, told: &Told) -> Result<Sent, Error> {
        let target = self.reference(digest);
        if self.call(self.client.blob_exists(&target, &digest.to_string())).await?
            || self.borrow(digest, cache).await?
        {
            cache.add_place(digest, &self.name)?;
            return Ok(Some(0));
        }
        let Some(file) = cache.open_blob(digest)? else { return Ok(None) };
        let name = format!("pushing {digest} to {}", self.name);
        told.transfer(&name, 0, size, false).await;
        let meter = Meter::default();
        let counter = meter.clone();
        let chunks = ReaderStream::with_capacity(tokio::fs::File::from_std(file), CHUNK_BYTES);
        let chunks = chunks.map_ok(move |chunk| {
            counter.add(chunk.len());
            chunk
        });
        let text = digest.to_string();
        let upload = self.client.push_blob_stream(&target, chunks.map_err(Into::into), &text, Some(size));
        let moved = |bytes| told.transfer(&name, bytes, size, false);
        let uploaded =
            watch(upload, &meter, limits::BLOB_STALL, moved).await.ok_or_else(|| self.stalled())?;
        uploaded.map_err(|error| Error::registry(&self.name, error))?;
        told.transfer(&name, size, size, true).await;
        cache.add_place(digest, &self.name)?;
        Ok(Some(size))
    }

    /// Whether another repository of the registry lends a blob.
    async fn borrow(&self, digest: Sha256, cache: &Cache) -> Result<bool, Error> {
        let own = |place: &&String| {
            **place != self.name && place.split_once('/').is_some_and(|(host, _)| host == self.host)
        };
        for place in cache.places(digest).iter().rev().filter(own).take(LENDERS) {
            let lender = place.split_once('/').map_or("", |(_, path)| path).to_owned();
            let lender = Reference::with_digest(self.host.clone(), lender, digest.to_string());
            let target = self.reference(digest);
            // A refusal is no error: then the blob is sent.
            match self.quiet(self.client.mount_blob(&target, &lender, &digest.to_string())).await? {
                Ok(()) => return Ok(true),
                Err(error) => tracing::debug!(%error, place, "the blob was not mounted"),
            }
        }
        Ok(false)
    }

    fn reference(&self, digest: Sha256) -> Reference {
        Reference::with_digest(self.host.clone(), self.path.clone(), digest.to_string())
    }

    /// A short exchange; its errors name the repository.
    async fn call<T>(
        &self,
        exchange: impl Future<Output = oci_client::errors::Result<T>>,
    ) -> Result<T, Error> {
        self.quiet(exchange).await?.map_err(|error| Error::registry(&self.name, error))
    }

    /// A short exchange whose own error is the caller's to judge.
    async fn quiet<T>(&self, exchange: impl Future<Output = T>) -> Result<T, Error> {
        tokio::time::timeout(limits::BLOB_STALL, exchange).await.map_err(|_| self.stalled())
    }

    fn stalled(&self) -> Error {
        Error::Stalled(self.name.clone(), limits::BLOB_STALL.as_secs())
    }
}

fn credential(credentials: &[Credential], host: &str) -> RegistryAuth {
    let Some(credential) = credentials.iter().find(|credential| credential.host == host) else {
        return RegistryAuth::Anonymous;
    };
    let secret = credential.secret.expose_secret().to_owned();
    if credential.username.is_empty() {
        RegistryAuth::Bearer(secret)
    } else {
        RegistryAuth::Basic(credential.username.clone(), secret)
    }
}
