//! One build's way to its registries.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use archyard_model::reference::is_loopback;
use archyard_model::{Plan, Reference, Sha256, limits};
use bytes::Bytes;
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::manifest::{
    IMAGE_MANIFEST_LIST_MEDIA_TYPE, IMAGE_MANIFEST_MEDIA_TYPE, OCI_IMAGE_INDEX_MEDIA_TYPE,
    OCI_IMAGE_MEDIA_TYPE, OciDescriptor,
};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, RegistryOperation};
use secrecy::ExposeSecret as _;
use serde::Deserialize;

use super::triggers::Triggers;
use super::{Error, proxy};
use crate::credentials;

/// What may stand where an image is expected.
const ACCEPTED: [&str; 4] = [
    OCI_IMAGE_INDEX_MEDIA_TYPE,
    OCI_IMAGE_MEDIA_TYPE,
    IMAGE_MANIFEST_LIST_MEDIA_TYPE,
    IMAGE_MANIFEST_MEDIA_TYPE,
];
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// One request and its answer; manifests are small.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Larger manifests and configs than this are nobody's.
const DOCUMENT_BYTES: usize = 8 * 1024 * 1024;
/// Clients without credentials that are kept: their connections and tokens serve later builds too.
const KEPT_CLIENTS: usize = 64;

/// A manifest or index, as a registry has it.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// Of its bytes, computed here.
    pub digest: Sha256,
    /// Its own word, or what its shape says.
    pub media_type: String,
    /// Its bytes.
    pub bytes: Bytes,
}

/// Makes clients, and keeps those that hold no secret.
pub struct Registries {
    insecure: Vec<String>,
    stall: Duration,
    /// By the registries that are spoken to without TLS.
    anonymous: Mutex<HashMap<Vec<String>, Client>>,
    triggers: Arc<Triggers>,
}

/// One build's registries.
#[derive(Clone)]
pub struct Registry {
    pub(super) client: Client,
    credentials: Arc<credentials::Set>,
    /// Registries that are spoken to without TLS.
    plain: Vec<String>,
    /// How long a blob on its way may stand still.
    pub(super) stall: Duration,
    /// Of images that were asked for before, by whichever build.
    pub(crate) triggers: Arc<Triggers>,
}

impl Default for Registries {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl Registries {
    /// `insecure`: registries of the whole farm that may be spoken to without TLS.
    pub fn new(insecure: Vec<String>) -> Self {
        Self { insecure, stall: limits::BLOB_STALL, anonymous: Mutex::default(), triggers: Arc::default() }
    }

    /// The same with another patience for blobs that stand still.
    #[must_use]
    pub fn stalling(self, stall: Duration) -> Self {
        Self { stall, ..self }
    }

    /// The way to a plan's registries, with its credentials.
    pub fn of(&self, plan: &Plan, credentials: Arc<credentials::Set>) -> Result<Registry, Error> {
        self.reaching(plan, None, credentials)
    }

    /// The same, and to that of one more repository, `host/name`.
    pub fn reaching(
        &self,
        plan: &Plan,
        beside: Option<&str>,
        credentials: Arc<credentials::Set>,
    ) -> Result<Registry, Error> {
        let images = plan.bases.iter().flat_map(|base| &base.uses).map(|used| &used.image).chain(&plan.tags);
        let repositories = plan.staging.as_deref().into_iter().chain(beside);
        let hosts = repositories.filter_map(|name| name.split_once('/')).map(|(host, _)| host);
        let mut plain: Vec<String> = images
            .map(Reference::registry)
            .chain(hosts)
            .map(ToOwned::to_owned)
            .filter(|host| {
                is_loopback(host) || plan.insecure_registries.contains(host) || self.insecure.contains(host)
            })
            .collect();
        plain.sort_unstable();
        plain.dedup();
        let client = if plan.credential_hosts.is_empty() {
            let mut kept = self.anonymous.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() >= KEPT_CLIENTS {
                kept.clear();
            }
            match kept.get(&plain) {
                Some(client) => client.clone(),
                None => kept.entry(plain.clone()).or_insert(client(&plain)?).clone(),
            }
        } else {
            client(&plain)?
        };
        let triggers = Arc::clone(&self.triggers);
        Ok(Registry { client, credentials, plain, stall: self.stall, triggers })
    }
}

impl std::fmt::Debug for Registries {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registries").field("insecure", &self.insecure).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Registry(..)")
    }
}

fn client(plain: &[String]) -> Result<Client, Error> {
    connect(ClientConfig { read_timeout: Some(READ_TIMEOUT), ..config(plain.to_vec()) })
}

fn config(plain: Vec<String>) -> ClientConfig {
    ClientConfig {
        protocol: ClientProtocol::HttpsExcept(plain),
        connect_timeout: Some(CONNECT_TIMEOUT),
        user_agent: concat!("archyard/", env!("CARGO_PKG_VERSION")),
        ..proxy::from_env()
    }
}

fn connect(config: ClientConfig) -> Result<Client, Error> {
    Client::try_from(config).map_err(|error| Error {
        registry: "any registry".to_owned(),
        cause: super::Cause::Unreachable,
        detail: format!("no client of registries can be made here: {error}"),
    })
}

impl Registry {
    /// Whether the build brought a credential for an image's registry.
    pub fn has_credential(&self, image: &Reference) -> bool {
        self.credentials.get(image.registry()).is_some()
    }

    /// The manifest or index that a reference names.
    pub async fn manifest(&self, image: &Reference) -> Result<Manifest, Error> {
        let target = to_oci(image, &reference_part(image));
        let auth = self.auth(image);
        let pulled = within(image, self.client.pull_manifest_raw(&target, &auth, &ACCEPTED)).await?;
        let (bytes, digest) = match pulled {
            Ok(pulled) => pulled,
            Err(error) => return Err(self.explain(image, &target, RegistryOperation::Pull, &error).await),
        };
        if bytes.len() > DOCUMENT_BYTES {
            return Err(Error::refused(image, format!("a manifest of {} bytes", bytes.len())));
        }
        let digest: Sha256 =
            digest.parse().map_err(|_| Error::refused(image, format!("a manifest of digest {digest}")))?;
        if image.digest().is_some_and(|wanted| wanted != digest) {
            return Err(Error::refused(image, format!("asked for {image}, it gave {digest}")));
        }
        let media_type = media_type(&bytes).map_err(|problem| Error::refused(image, problem))?;
        Ok(Manifest { digest, media_type, bytes })
    }

    /// A small blob of an image's repository: its config.
    pub async fn blob(&self, image: &Reference, digest: Sha256, size: u64) -> Result<Vec<u8>, Error> {
        if size > DOCUMENT_BYTES as u64 {
            return Err(Error::refused(image, format!("a config of {size} bytes")));
        }
        let target = to_oci(image, &reference_part(image));
        self.client.store_auth_if_needed(target.resolve_registry(), &self.auth(image)).await;
        let descriptor = OciDescriptor {
            digest: digest.to_string(),
            size: i64::try_from(size).unwrap_or(i64::MAX),
            ..OciDescriptor::default()
        };
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
        match within(image, self.client.pull_blob(&target, &descriptor, &mut bytes)).await? {
            Ok(()) => Ok(bytes),
            Err(error) => Err(self.explain(image, &target, RegistryOperation::Pull, &error).await),
        }
    }

    /// Puts a manifest or index under a tag, or under its own digest if `image` has one.
    pub async fn put(&self, image: &Reference, bytes: Bytes, media_type: &'static str) -> Result<(), Error> {
        self.put_as(image, bytes, media_type).await
    }

    /// The same with a media type that somebody else has chosen.
    pub async fn put_as(&self, image: &Reference, bytes: Bytes, media_type: &str) -> Result<(), Error> {
        // A digest goes where a tag would: pushed by a digest reference, the client panics when a registry
        // answers without a Location.
        let target = to_oci(image, &reference_part(image));
        self.client.store_auth_if_needed(target.resolve_registry(), &self.auth(image)).await;
        let content_type = http::HeaderValue::from_str(media_type)
            .map_err(|error| Error::refused(image, format!("its media type is none: {error}")))?;
        match within(image, self.client.push_manifest_raw(&target, bytes, content_type)).await? {
            Ok(_) => Ok(()),
            Err(error) => Err(self.explain(image, &target, RegistryOperation::Push, &error).await),
        }
    }

    /// The same registries, for blobs of any size: a whole blob is one request, and no answer comes before its end.
    pub(super) fn for_bulk(&self) -> Result<Self, Error> {
        let client = connect(ClientConfig { use_monolithic_push: true, ..config(self.plain.clone()) })?;
        Ok(Self { client, ..self.clone() })
    }

    /// Tells the client which account to use: not all of its requests take one.
    pub(super) async fn identify(&self, image: &Reference, target: &oci_client::Reference) {
        self.client.store_auth_if_needed(target.resolve_registry(), &self.auth(image)).await;
    }

    /// The client hides why it has no token: ask once more, and blame whoever is to blame.
    pub(super) async fn explain(
        &self,
        image: &Reference,
        target: &oci_client::Reference,
        operation: RegistryOperation,
        error: &oci_client::errors::OciDistributionError,
    ) -> Error {
        let found = Error::new(image, error);
        if found.cause != super::Cause::Denied {
            return found;
        }
        match within(image, self.client.auth(target, &self.auth(image), operation)).await {
            Ok(Ok(_)) => found,
            Ok(Err(error)) => Error::new(image, &error),
            Err(timeout) => timeout,
        }
    }

    fn auth(&self, image: &Reference) -> RegistryAuth {
        let Some(credential) = self.credentials.get(image.registry()) else { return RegistryAuth::Anonymous };
        let token = credential.identity_token.expose_secret();
        if token.is_empty() {
            RegistryAuth::Basic(credential.username.clone(), credential.password.expose_secret().to_owned())
        } else {
            // Registries that hand out identity tokens take one as the password of this account.
            RegistryAuth::Basic("00000000-0000-0000-0000-000000000000".to_owned(), token.to_owned())
        }
    }
}

/// A tag or a digest, as it stands in a URL.
pub(super) fn reference_part(image: &Reference) -> String {
    match image.digest() {
        Some(digest) => digest.to_string(),
        None => image.tag().unwrap_or("latest").to_owned(),
    }
}

pub(super) fn to_oci(image: &Reference, part: &str) -> oci_client::Reference {
    oci_client::Reference::with_tag(
        image.registry().to_owned(),
        image.repository().to_owned(),
        part.to_owned(),
    )
}

pub(super) async fn within<T>(image: &Reference, request: impl Future<Output = T>) -> Result<T, Error> {
    tokio::time::timeout(REQUEST_TIMEOUT, request).await.map_err(|_| Error::timeout(image))
}

/// What a manifest is: by its own word, or by its shape, for OCI lets the word be left out.
fn media_type(bytes: &[u8]) -> Result<String, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Shape {
        #[serde(default)]
        schema_version: u32,
        media_type: Option<String>,
        manifests: Option<serde::de::IgnoredAny>,
        config: Option<serde::de::IgnoredAny>,
    }
    let shape: Shape =
        serde_json::from_slice(bytes).map_err(|error| format!("what it gave is no manifest: {error}"))?;
    if shape.schema_version != 2 {
        return Err(format!("a manifest of schema {}; only schema 2 is known", shape.schema_version));
    }
    let by_shape = match (shape.manifests, shape.config) {
        (Some(_), None) => OCI_IMAGE_INDEX_MEDIA_TYPE,
        (None, Some(_)) => OCI_IMAGE_MEDIA_TYPE,
        _ => return Err("what it gave is neither an index nor a manifest".to_owned()),
    };
    let media_type = shape.media_type.unwrap_or_else(|| by_shape.to_owned());
    if ACCEPTED.contains(&media_type.as_str()) {
        Ok(media_type)
    } else {
        Err(format!("{media_type} is no image"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_indexes_from_manifests() {
        let index = br#"{"schemaVersion":2,"manifests":[]}"#;
        assert_eq!(media_type(index).unwrap(), OCI_IMAGE_INDEX_MEDIA_TYPE);
        let docker = br#"{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json","config":{}}"#;
        assert_eq!(media_type(docker).unwrap(), IMAGE_MANIFEST_MEDIA_TYPE);
        for bad in
            ["", "{}", r#"{"schemaVersion":1}"#, r#"{"schemaVersion":2,"mediaType":"text/html","config":{}}"#]
        {
            assert!(media_type(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_client_without_secrets_is_kept() {
        let registries = Registries::default();
        let mut plan = crate::testing::plan();
        plan.tags = vec!["127.0.0.1:5000/a:1".parse().unwrap()];
        registries.of(&plan, Arc::default()).unwrap();
        registries.of(&plan, Arc::default()).unwrap();
        assert_eq!(registries.anonymous.lock().unwrap().len(), 1);
        plan.credential_hosts = vec!["127.0.0.1:5000".to_owned()];
        registries.of(&plan, Arc::default()).unwrap();
        assert_eq!(registries.anonymous.lock().unwrap().len(), 1);
    }
}
