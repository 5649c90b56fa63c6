//! The listeners, and serving one of them.

use std::time::Duration;

use archyard_net::{SocketFile, listen_unix};
use tokio::net::{TcpListener, UnixListener};
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tower::util::MapResponseLayer;

use crate::api::{AdmitLayer, mend_malformed};
use crate::config::Listen;
use crate::error::Error;
use crate::tls::Issued;

/// A connection that carries nothing is asked this often whether it lives.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// And is closed when no answer came for this long.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// Calls that one connection may have open.
const STREAMS: u32 = 1024;
/// Uploads fill a megabyte before they wait for an answer.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 4 * STREAM_WINDOW_BYTES;

/// A bound listener.
#[derive(Debug)]
pub(crate) enum Listener {
    Unix(UnixListener, SocketFile),
    Tcp(TcpListener),
}

impl Listener {
    pub(crate) async fn bind(listen: &Listen) -> Result<Self, Error> {
        match listen {
            Listen::Unix(path) => {
                let (listener, file) = listen_unix(path)?;
                Ok(Self::Unix(listener, file))
            }
            Listen::Tcp(address) => TcpListener::bind(address)
                .await
                .map(Self::Tcp)
                .map_err(|source| Error::Bind { address: *address, source }),
        }
    }

    /// Where it listens, with the port that was free.
    pub(crate) fn address(&self, asked: &Listen) -> Listen {
        match self {
            Self::Unix(..) => asked.clone(),
            Self::Tcp(listener) => listener.local_addr().map_or_else(|_| asked.clone(), Listen::Tcp),
        }
    }

    /// Serves until told to stop and all calls have ended.
    pub(crate) async fn serve(
        self,
        routes: Routes,
        tls: Option<Issued>,
        stopping: CancellationToken,
    ) -> Result<(), tonic::transport::Error> {
        let stopped = stopping.cancelled_owned();
        match self {
            Self::Unix(listener, file) => {
                let served = server()
                    .layer(MapResponseLayer::new(mend_malformed))
                    .layer(AdmitLayer::new(false))
                    .add_routes(routes)
                    .serve_with_incoming_shutdown(UnixListenerStream::new(listener), stopped)
                    .await;
                drop(file);
                served
            }
            Self::Tcp(listener) => {
                let secured = tls.is_some();
                let mut server = server();
                if let Some(issued) = tls {
                    server = server.tls_config(tls_config(&issued))?;
                }
                server
                    .layer(MapResponseLayer::new(mend_malformed))
                    .layer(AdmitLayer::new(secured))
                    .add_routes(routes)
                    .serve_with_incoming_shutdown(TcpListenerStream::new(listener), stopped)
                    .await
            }
        }
    }
}

fn server() -> Server {
    Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .tcp_nodelay(true)
        .tcp_keepalive(Some(KEEPALIVE_INTERVAL))
}

fn tls_config(issued: &Issued) -> ServerTlsConfig {
    use secrecy::ExposeSecret as _;
    ServerTlsConfig::new()
        .identity(Identity::from_pem(&issued.certificate, issued.key.expose_secret()))
        .client_ca_root(Certificate::from_pem(&issued.ca))
}
