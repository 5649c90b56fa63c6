//! The one way every client of the farm opens a connection.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::time::timeout;
use tonic::body::Body;
use tonic::transport::{Channel, Endpoint as Transport};
use tonic::{Code, Status};
use tower::{ServiceExt as _, service_fn};

use crate::sniff::{Spoken, sniff};
use crate::{ClientTls, Endpoint, Error, TlsFault};

/// How long the first answer may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a greeting may take to be answered, on a connection that was made.
const GREETING_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection that carries nothing is asked this often whether it lives.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// And is given up when no answer came for this long.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// What every scheduler answers to every caller.
const GREETING_PATH: &str = "/grpc.health.v1.Health/Check";
/// An empty message in gRPC's framing.
const GREETING_BODY: &[u8] = &[0; 5];

/// Why a connection was not made, before it is known what that means.
enum Trouble {
    Transport(tonic::transport::Error),
    Silent,
    Refused(Status),
}

impl From<tonic::transport::Error> for Trouble {
    fn from(error: tonic::transport::Error) -> Self {
        Self::Transport(error)
    }
}

/// Connects, or says why not. The channel redials by itself when the connection breaks later on.
///
/// Over TCP the other end has answered once when this returns: with TLS 1.3 a server refuses a client's certificate
/// only after the client takes the handshake for done.
///
/// Generated clients take the channel as it is; their message limit is `archyard_model::limits::MESSAGE_BYTES`, which
/// is tonic's default.
pub async fn connect(endpoint: &Endpoint, tls: Option<&ClientTls>) -> Result<Channel, Error> {
    let transport = match endpoint {
        Endpoint::Unix(path) => return unix(endpoint, path).await,
        Endpoint::Http { .. } => transport(endpoint)?,
        Endpoint::Https { host, .. } => {
            let tls = tls.ok_or_else(|| Error::NoCertificate { endpoint: endpoint.clone() })?;
            transport(endpoint)?.tls_config(tls.config(host)).map_err(|error| tls.unusable(&error))?
        }
    };
    match greeted(&transport).await {
        Ok(channel) => Ok(channel),
        Err(trouble) => Err(diagnose(endpoint, tls, trouble).await),
    }
}

async fn unix(endpoint: &Endpoint, path: &std::path::Path) -> Result<Channel, Error> {
    let path = path.to_owned();
    // The authority is what the server sees; a Unix socket has none of its own.
    let connector = service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    let connected = tuned(Transport::from_static("http://localhost")).connect_with_connector(connector).await;
    connected.map_err(|error| match io_kind(&error) {
        Some(kind @ std::io::ErrorKind::PermissionDenied) => {
            Error::Forbidden { endpoint: endpoint.clone(), reason: kind.into() }
        }
        _ => Error::Unreachable { endpoint: endpoint.clone(), reason: innermost(&error) },
    })
}

/// A connection on which the other end has answered.
async fn greeted(transport: &Transport) -> Result<Channel, Trouble> {
    let channel = transport.connect().await?;
    let request = http::Request::post(GREETING_PATH)
        .header(http::header::CONTENT_TYPE, "application/grpc")
        .header(http::header::TE, "trailers")
        .body(Body::new(Full::new(Bytes::from_static(GREETING_BODY))))
        .map_err(|error| Trouble::Refused(Status::internal(error.to_string())))?;
    let answer = timeout(GREETING_TIMEOUT, channel.clone().oneshot(request)).await;
    let answer = answer.map_err(|_| Trouble::Silent)??;
    match Status::from_header_map(answer.headers()) {
        Some(status) if matches!(status.code(), Code::PermissionDenied | Code::Unauthenticated) => {
            Err(Trouble::Refused(status))
        }
        _ => Ok(channel),
    }
}

/// What the trouble means, where, and with which files.
async fn diagnose(endpoint: &Endpoint, tls: Option<&ClientTls>, trouble: Trouble) -> Error {
    let endpoint = endpoint.clone();
    let folder = tls.and_then(|tls| tls.folder().map(ToOwned::to_owned));
    let error = match trouble {
        Trouble::Transport(error) => error,
        Trouble::Silent => {
            let reason = format!("no answer within {} s", GREETING_TIMEOUT.as_secs());
            return Error::Unreachable { endpoint, reason };
        }
        Trouble::Refused(status) => {
            return Error::Refused { endpoint, message: status.message().to_owned() };
        }
    };
    let fault = TlsFault::of(&error);
    if let Some(fault) = fault.filter(|_| endpoint.needs_tls()) {
        return Error::Tls { endpoint, folder, fault };
    }
    if let Endpoint::Http { host, port } | Endpoint::Https { host, port } = &endpoint {
        match (sniff(host, *port).await, endpoint.needs_tls()) {
            (Some(Spoken::Tls), false) => return Error::SpeaksTls { endpoint },
            (Some(Spoken::Plain), true) => return Error::Tls { endpoint, folder, fault: TlsFault::NoTls },
            _ => {}
        }
    }
    Error::Unreachable { endpoint, reason: innermost(&error) }
}

fn transport(endpoint: &Endpoint) -> Result<Transport, Error> {
    Transport::from_shared(endpoint.to_string())
        .map(tuned)
        .map_err(|error| Error::Unreachable { endpoint: endpoint.clone(), reason: innermost(&error) })
}

fn tuned(transport: Transport) -> Transport {
    transport
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
}

/// The last cause says what happened; those above it say "transport error".
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

fn io_kind(error: &(dyn std::error::Error + 'static)) -> Option<std::io::ErrorKind> {
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(error) = cause.downcast_ref::<std::io::Error>() {
            return Some(error.kind());
        }
        next = cause.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn says_that_nobody_listens_and_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let endpoint = Endpoint::Unix(dir.path().join("none.sock"));
        let error = connect(&endpoint, None).await.unwrap_err().to_string();
        assert!(error.contains("none.sock") && error.contains("archyard up"), "{error}");
        assert!(error.contains("No such file"), "{error}");
    }

    #[tokio::test]
    async fn asks_for_a_certificate_before_dialing() {
        let endpoint: Endpoint = "https://farm.example:7443".parse().unwrap();
        let error = connect(&endpoint, None).await.unwrap_err().to_string();
        assert!(error.contains("--tls-dir"), "{error}");
    }
}
