//! The one way every client of the farm opens a connection.

use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint as Transport};
use tower::service_fn;

use crate::{ClientTls, Endpoint, Error};

/// How long the first answer may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection that carries nothing is asked this often whether it lives.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// And is given up when no answer came for this long.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Connects, or says why not. The channel redials by itself when the connection breaks later on.
///
/// Generated clients take the channel as it is; their message limit is `archyard_model::limits::MESSAGE_BYTES`, which
/// is tonic's default.
pub async fn connect(endpoint: &Endpoint, tls: Option<&ClientTls>) -> Result<Channel, Error> {
    let unreachable = |source| Error::Unreachable { endpoint: endpoint.clone(), source };
    match endpoint {
        Endpoint::Unix(path) => {
            let path = path.clone();
            // The authority is what the server sees; a Unix socket has none of its own.
            let connector = service_fn(move |_| {
                let path = path.clone();
                async move { UnixStream::connect(path).await.map(TokioIo::new) }
            });
            tuned(Transport::from_static("http://localhost"))
                .connect_with_connector(connector)
                .await
                .map_err(unreachable)
        }
        Endpoint::Http { .. } => transport(endpoint)?.connect().await.map_err(unreachable),
        Endpoint::Https { host, .. } => {
            let tls = tls.ok_or_else(|| Error::NoCertificate { endpoint: endpoint.clone() })?;
            transport(endpoint)?
                .tls_config(tls.config(host))
                .map_err(|source| Error::TlsContent { endpoint: endpoint.clone(), source })?
                .connect()
                .await
                .map_err(unreachable)
        }
    }
}

fn transport(endpoint: &Endpoint) -> Result<Transport, Error> {
    Transport::from_shared(endpoint.to_string())
        .map(tuned)
        .map_err(|source| Error::Unreachable { endpoint: endpoint.clone(), source })
}

fn tuned(transport: Transport) -> Transport {
    transport
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
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
