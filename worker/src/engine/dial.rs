//! Reaching an Engine: where it listens, and the door it opens to BuildKit.
//!
//! The door is an HTTP/1.1 request that is upgraded to HTTP/2 (`POST /grpc`, `POST /session`). Newer Engines
//! want HTTP/2 spoken at once instead; that, and TCP with TLS, come in here and nowhere else.

use std::fmt;
use std::path::PathBuf;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Collected, Empty, Limited};
use hyper::client::conn::http1;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;

use super::EngineError;

/// How much of an Engine's refusal is read.
const REFUSAL_BYTES: usize = 4096;

/// Where an Engine listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Endpoint {
    /// A Unix socket.
    Unix(PathBuf),
}

impl Endpoint {
    /// Parses `unix:///path/to.sock`.
    pub(super) fn parse(text: &str) -> Result<Self, EngineError> {
        let wrong = |problem| Err(EngineError::Endpoint { endpoint: text.to_owned(), problem });
        match text.split_once("://") {
            Some(("unix", path)) if path.starts_with('/') => Ok(Self::Unix(path.into())),
            Some(("unix", _)) => wrong("a socket's path is absolute"),
            Some(("tcp" | "http" | "https" | "ssh" | "npipe", _)) => wrong("only Unix sockets are dialed"),
            _ => wrong("it names no scheme"),
        }
    }

    /// A new connection on which the Engine has agreed to speak HTTP/2 about `path`.
    pub(super) async fn upgrade(
        &self,
        path: &'static str,
        headers: HeaderMap,
    ) -> Result<Upgraded, EngineError> {
        match self {
            Self::Unix(socket) => {
                let stream = UnixStream::connect(socket).await.map_err(|error| self.unreachable(error))?;
                self.upgrade_stream(stream, path, headers).await
            }
        }
    }

    async fn upgrade_stream<S>(
        &self,
        stream: S,
        path: &'static str,
        headers: HeaderMap,
    ) -> Result<Upgraded, EngineError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let handshake = http1::handshake::<_, Empty<Bytes>>(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| self.unreachable(error))?;
        let exchange = async move {
            let response = sender.send_request(upgrade_request(path, headers)).await?;
            let status = response.status();
            if status == StatusCode::SWITCHING_PROTOCOLS {
                return Ok(Ok(hyper::upgrade::on(response).await?));
            }
            let body = Limited::new(response.into_body(), REFUSAL_BYTES).collect().await;
            let body = body.map(Collected::to_bytes).unwrap_or_default();
            Ok(Err(format!("{path} answered {status}: {}", String::from_utf8_lossy(&body).trim())))
        };
        // The connection's own end is not looked at: what it did to the exchange is what counts.
        let (answer, _): (hyper::Result<_>, _) = tokio::join!(exchange, connection.with_upgrades());
        answer.map_err(|error| self.unreachable(error))?.map_err(|message| EngineError::Refused {
            endpoint: self.to_string(),
            action: "open BuildKit's door",
            message,
        })
    }

    fn unreachable(&self, reason: impl fmt::Display) -> EngineError {
        EngineError::Unreachable { endpoint: self.to_string(), reason: reason.to_string() }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

fn upgrade_request(path: &'static str, headers: HeaderMap) -> Request<Empty<Bytes>> {
    let mut request = Request::new(Empty::new());
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = http::Uri::from_static(path);
    *request.headers_mut() = headers;
    for (name, value) in [(header::HOST, "docker"), (header::CONNECTION, "Upgrade"), (header::UPGRADE, "h2c")]
    {
        request.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_parse_or_name_the_remedy() {
        assert_eq!(Endpoint::parse("unix:///a/b.sock").unwrap().to_string(), "unix:///a/b.sock");
        for bad in ["", "/a/b.sock", "unix://relative", "tcp://10.0.0.1:2375", "ftp://x"] {
            let error = Endpoint::parse(bad).unwrap_err().to_string();
            assert!(error.contains("unix:///var/run/docker.sock"), "{bad}: {error}");
        }
    }

    #[tokio::test]
    async fn a_missing_socket_is_named() {
        let endpoint = Endpoint::parse("unix:///nonexistent/docker.sock").unwrap();
        let error = endpoint.upgrade("/grpc", HeaderMap::new()).await.unwrap_err().to_string();
        assert!(error.contains("unix:///nonexistent/docker.sock does not answer"), "{error}");
    }
}
