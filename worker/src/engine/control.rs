//! BuildKit's Control service, through the Engine's `/grpc` door.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bollard_buildkit_proto::moby::buildkit::v1::control_client::ControlClient;
use http::{HeaderMap, Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::TokioTimer;
use tonic::body::Body;

use super::EngineError;
use super::dial::Endpoint;
use super::tasks::Tasks;

/// An Engine that is stopped in mid-build (paused machine, hung disk) is noticed after this and
/// [`PING_TIMEOUT`]; both are generous, for a busy Engine is not a lost one.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(60);

/// Received data that may be under way at once; progress is small.
const WINDOW_BYTES: u32 = 1024 * 1024;

/// A client of BuildKit, and the connection under it. Dropping it closes the connection, and BuildKit stops
/// what was asked for on it.
#[derive(Debug)]
pub(super) struct Control {
    sender: SendRequest<Body>,
    _tasks: Tasks,
}

impl Control {
    /// Connects through the Engine's door.
    pub(super) async fn connect(endpoint: &Endpoint) -> Result<Self, EngineError> {
        let upgraded = endpoint.upgrade("/grpc", HeaderMap::new()).await?;
        let tasks = Tasks::new();
        let (sender, connection) = http2::Builder::new(tasks.spawner())
            .timer(TokioTimer::new())
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .handshake(upgraded)
            .await
            .map_err(|error| EngineError::Unreachable {
                endpoint: endpoint.to_string(),
                reason: error.to_string(),
            })?;
        tasks.spawner().spawn(connection);
        Ok(Self { sender, _tasks: tasks })
    }

    /// A client on this connection.
    pub(super) fn client(&self) -> ControlClient<Calls> {
        ControlClient::with_origin(Calls(self.sender.clone()), Uri::from_static("http://buildkit"))
            .max_decoding_message_size(16 * 1024 * 1024)
    }

    /// Whether the connection is gone: no answer will come any more.
    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }
}

/// Makes hyper's connection the transport that tonic asks for.
#[derive(Debug, Clone)]
pub(super) struct Calls(SendRequest<Body>);

impl tower_service::Service<Request<Body>> for Calls {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = hyper::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}
