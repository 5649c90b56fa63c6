//! What the client of a build serves to BuildKit while it builds: files and registry credentials.
//!
//! A gRPC server on a connection that we dialed, through the Engine's `/session` door. It serves exactly one
//! build and ends when it is dropped.

mod credentials;
mod filesend;
mod filesync;
mod router;
mod selection;
mod sender;
mod tree;
mod unavailable;
mod wire;

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use hyper::server::conn::http2;
use hyper_util::rt::TokioTimer;

pub(super) use filesend::Sink;
pub(super) use filesync::{Dockerfile, Files, Unserved};
pub(super) use wire::marks;

use super::dial::Endpoint;
use super::tasks::Tasks;
use super::{Credential, EngineError};
use credentials::Credentials;
use filesend::Sent;
use router::Router;

/// Every method that is served; BuildKit asks for no other.
const METHODS: &[&str] = &[
    "/grpc.health.v1.Health/Check",
    "/moby.filesync.v1.FileSync/DiffCopy",
    "/moby.filesync.v1.FileSend/DiffCopy",
    "/moby.filesync.v1.Auth/Credentials",
    "/moby.buildkit.secrets.v1.Secrets/GetSecret",
    "/moby.sshforward.v1.SSH/CheckAgent",
    "/moby.sshforward.v1.SSH/ForwardAgent",
];

/// A session that BuildKit can use. Dropping it ends it, and fails the build that needs it.
#[derive(Debug)]
pub(super) struct Session {
    _tasks: Tasks,
}

/// What a session serves.
pub(super) struct Served {
    /// What the Solve calls it; unique on the Engine.
    pub(super) id: String,
    /// Names the Engine's kept copy of the context.
    pub(super) shared_key: String,
    /// The context and the Dockerfile.
    pub(super) files: Arc<Files>,
    /// For private bases.
    pub(super) credentials: Vec<Credential>,
    /// Takes what the Solve sends back, where it is asked to.
    pub(super) sink: Option<Sink>,
}

impl Session {
    /// Opens the door and serves.
    pub(super) async fn open(endpoint: &Endpoint, served: Served) -> Result<Self, EngineError> {
        let upgraded = endpoint.upgrade("/session", headers(&served)).await?;
        let tasks = Tasks::new();
        let credentials = Arc::new(Credentials::new(served.credentials));
        let router = Router::new(served.files, credentials, Sent(served.sink), tasks.spawner());
        let connection =
            http2::Builder::new(tasks.spawner()).timer(TokioTimer::new()).serve_connection(upgraded, router);
        tasks.spawner().spawn(connection);
        Ok(Self { _tasks: tasks })
    }
}

fn headers(served: &Served) -> HeaderMap {
    const UUID: HeaderName = HeaderName::from_static("x-docker-expose-session-uuid");
    const NAME: HeaderName = HeaderName::from_static("x-docker-expose-session-name");
    const SHARED_KEY: HeaderName = HeaderName::from_static("x-docker-expose-session-sharedkey");
    const METHOD: HeaderName = HeaderName::from_static("x-docker-expose-session-grpc-method");

    let mut headers = HeaderMap::new();
    headers.insert(NAME, HeaderValue::from_static("archyard"));
    // Hashed, because a caller's words may not fit a header.
    for (name, value) in [(UUID, &served.id), (SHARED_KEY, &served.shared_key)] {
        headers.insert(name, hashed(value));
    }
    for method in METHODS {
        headers.append(METHOD, HeaderValue::from_static(method));
    }
    headers
}

/// The name BuildKit knows a session by.
pub(super) fn session_id(id: &str) -> String {
    blake3::hash(id.as_bytes()).to_hex()[..32].to_owned()
}

fn hashed(value: &str) -> HeaderValue {
    // Hexadecimal digits are always a valid header.
    HeaderValue::from_str(&session_id(value)).unwrap_or(HeaderValue::from_static("archyard"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_words_fit_the_headers() {
        assert_eq!(hashed("a/b ä\n"), session_id("a/b ä\n"));
        assert_ne!(hashed("a"), hashed("b"));
    }
}
