//! A scheduler that does what a test tells it, over the real services.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use archyard_model::Blake3;
use archyard_proto::v1 as proto;
use bytes::Bytes;
use proto::context_service_server::{ContextService, ContextServiceServer};
use proto::scheduler_message::Message as Down;
use proto::worker_message::Message as Up;
use proto::worker_service_server::{WorkerService, WorkerServiceServer};
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::{Request, Response, Status, Streaming, async_trait};

/// How long anything that should be quick may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Listens on a socket; gone when dropped.
pub(crate) struct Scheduler {
    socket: PathBuf,
    server: JoinSet<()>,
    controls: mpsc::Receiver<Control>,
    spools: mpsc::Receiver<Spool>,
    services: Services,
}

#[derive(Clone)]
struct Services {
    controls: mpsc::Sender<Control>,
    spools: mpsc::Sender<Spool>,
    blobs: Arc<Mutex<BTreeMap<Vec<u8>, Bytes>>>,
    downloads: Arc<Mutex<Vec<usize>>>,
}

/// A worker's control stream.
pub(crate) struct Control {
    up: Streaming<proto::WorkerMessage>,
    down: mpsc::Sender<Result<proto::SchedulerMessage, Status>>,
}

/// A worker's stream of logs.
pub(crate) struct Spool {
    up: Streaming<proto::SpoolUpload>,
    down: mpsc::Sender<Result<proto::SpoolAck, Status>>,
}

impl Scheduler {
    /// Listens in `folder`.
    pub(crate) fn start(folder: &Path) -> Self {
        let (controls, incoming_controls) = mpsc::channel(16);
        let (spools, incoming_spools) = mpsc::channel(16);
        let services = Services { controls, spools, blobs: Arc::default(), downloads: Arc::default() };
        let mut scheduler = Self {
            socket: folder.join("s.sock"),
            server: JoinSet::new(),
            controls: incoming_controls,
            spools: incoming_spools,
            services,
        };
        scheduler.listen();
        scheduler
    }

    /// Listens again after [`stop`](Self::stop).
    pub(crate) fn listen(&mut self) {
        let listener = UnixListener::bind(&self.socket).unwrap();
        let services = self.services.clone();
        self.server.spawn(async move {
            tonic::transport::Server::builder()
                .add_service(WorkerServiceServer::new(services.clone()))
                .add_service(ContextServiceServer::new(services))
                .serve_with_incoming(UnixListenerStream::new(listener))
                .await
                .unwrap();
        });
    }

    /// Dies: connections break, and nobody listens.
    pub(crate) async fn stop(&mut self) {
        self.server.shutdown().await;
        std::fs::remove_file(&self.socket).unwrap();
    }

    pub(crate) fn endpoint(&self) -> archyard_net::Endpoint {
        archyard_net::Endpoint::Unix(self.socket.clone())
    }

    /// Holds a blob from now on.
    pub(crate) fn put(&self, content: &[u8]) -> Blake3 {
        let digest = Blake3::of(content);
        let content = Bytes::copy_from_slice(content);
        self.services.blobs.lock().unwrap().insert(digest.as_bytes().to_vec(), content);
        digest
    }

    /// From now on sends other bytes in a blob's place.
    pub(crate) fn damage(&self, content: &[u8]) {
        let mut damaged = content.to_vec();
        damaged[0] ^= 1;
        let digest = Blake3::of(content).as_bytes().to_vec();
        self.services.blobs.lock().unwrap().insert(digest, damaged.into());
    }

    /// How many blobs each download so far asked for.
    pub(crate) fn downloads(&self) -> Vec<usize> {
        self.services.downloads.lock().unwrap().clone()
    }

    /// The next worker that says hello; it is welcomed with this.
    pub(crate) async fn welcome(
        &mut self,
        welcome: impl FnOnce(&proto::Hello) -> proto::Welcome,
    ) -> (proto::Hello, Control) {
        let mut control = within(self.controls.recv()).await.unwrap();
        let Some(Up::Hello(hello)) = within(control.up.message()).await.unwrap().unwrap().message else {
            panic!("a worker says hello first")
        };
        control.say(Down::Welcome(welcome(&hello))).await;
        (hello, control)
    }

    /// The next stream of logs that is not broken already.
    pub(crate) async fn spool(&mut self) -> Spool {
        loop {
            let spool = within(self.spools.recv()).await.unwrap();
            if !spool.down.is_closed() {
                return spool;
            }
        }
    }
}

/// Adopts everything. Five heartbeats without an answer end a connection: tests may be busy for that long.
pub(crate) fn adopt_all(hello: &proto::Hello) -> proto::Welcome {
    let adopt = hello.running.iter().filter_map(|running| running.attempt.clone()).collect();
    proto::Welcome { protocol: 2, adopt, heartbeat_ms: 2_000, lease_ms: 5_000, ..Default::default() }
}

impl Control {
    pub(crate) async fn say(&self, message: Down) {
        self.down.send(Ok(proto::SchedulerMessage { message: Some(message) })).await.unwrap();
    }

    /// The next message that is no heartbeat.
    pub(crate) async fn next(&mut self) -> Up {
        loop {
            match self.message().await {
                Up::Heartbeat(_) => {}
                message => return message,
            }
        }
    }

    /// The next message. Heartbeats are acknowledged.
    pub(crate) async fn message(&mut self) -> Up {
        let message = within(self.up.message()).await.unwrap().unwrap().message.unwrap();
        if let Up::Heartbeat(heartbeat) = &message {
            let ack = proto::HeartbeatAck { sequence: heartbeat.sequence };
            self.say(Down::HeartbeatAck(ack)).await;
        }
        message
    }

    /// The next heartbeat.
    pub(crate) async fn heartbeat(&mut self) -> proto::Heartbeat {
        match self.message().await {
            Up::Heartbeat(heartbeat) => heartbeat,
            message => panic!("no heartbeat: {message:?}"),
        }
    }

    /// The next result.
    pub(crate) async fn result(&mut self) -> proto::AttemptResult {
        match self.next().await {
            Up::Result(result) => result,
            message => panic!("no result: {message:?}"),
        }
    }

    /// Offers a lease and takes its acceptance for granted.
    pub(crate) async fn lease(&mut self, lease: proto::Lease) {
        let attempt = lease.attempt.clone();
        self.say(Down::Lease(lease)).await;
        match self.next().await {
            Up::LeaseAccepted(accepted) => assert_eq!(accepted.attempt, attempt),
            message => panic!("not accepted: {message:?}"),
        }
    }

    pub(crate) async fn acknowledge_result(&self, attempt: &proto::AttemptRef) {
        self.say(Down::ResultAck(proto::ResultAck { attempt: Some(attempt.clone()) })).await;
    }
}

impl Spool {
    /// The next message.
    pub(crate) async fn next(&mut self) -> proto::SpoolUpload {
        within(self.up.message()).await.unwrap().unwrap()
    }

    pub(crate) async fn ack(&self, attempt: &proto::AttemptRef, received_bytes: u64, refused: bool) {
        let ack = proto::SpoolAck { attempt: Some(attempt.clone()), received_bytes, refused };
        self.down.send(Ok(ack)).await.unwrap();
    }

    /// Opens the one log that comes, of which `held` bytes are there already.
    pub(crate) async fn open(&mut self, attempt: &proto::AttemptRef, held: u64) {
        let open = self.next().await;
        assert_eq!(open.attempt.as_ref(), Some(attempt));
        assert!(matches!(open.message, Some(proto::spool_upload::Message::Open(_))));
        self.ack(attempt, held, false).await;
    }

    /// Reads one log from `held` bytes on, to its end, and acknowledges all of it.
    pub(crate) async fn read_all(&mut self, attempt: &proto::AttemptRef, held: u64) -> Vec<u8> {
        self.open(attempt, held).await;
        let mut read = Vec::new();
        loop {
            let Some(proto::spool_upload::Message::Data(data)) = self.next().await.message else {
                panic!("a log is opened once a stream")
            };
            assert_eq!(data.offset, held + read.len() as u64);
            read.extend_from_slice(&data.data);
            self.ack(attempt, held + read.len() as u64, false).await;
            if data.last {
                return read;
            }
        }
    }
}

/// Waits, but not for ever.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it takes too long")
}

#[async_trait]
impl WorkerService for Services {
    type ControlStream = ReceiverStream<Result<proto::SchedulerMessage, Status>>;

    async fn control(
        &self,
        request: Request<Streaming<proto::WorkerMessage>>,
    ) -> Result<Response<Self::ControlStream>, Status> {
        let (down, messages) = mpsc::channel(16);
        self.controls.send(Control { up: request.into_inner(), down }).await.unwrap();
        Ok(Response::new(ReceiverStream::new(messages)))
    }

    type SpoolStream = ReceiverStream<Result<proto::SpoolAck, Status>>;

    async fn spool(
        &self,
        request: Request<Streaming<proto::SpoolUpload>>,
    ) -> Result<Response<Self::SpoolStream>, Status> {
        let (down, messages) = mpsc::channel(16);
        self.spools.send(Spool { up: request.into_inner(), down }).await.unwrap();
        Ok(Response::new(ReceiverStream::new(messages)))
    }
}

#[async_trait]
impl ContextService for Services {
    async fn find_missing(
        &self,
        _: Request<proto::FindMissingRequest>,
    ) -> Result<Response<proto::FindMissingResponse>, Status> {
        Err(Status::unimplemented("workers do not ask"))
    }

    async fn upload(
        &self,
        _: Request<Streaming<proto::UploadRequest>>,
    ) -> Result<Response<proto::UploadResponse>, Status> {
        Err(Status::unimplemented("workers do not upload"))
    }

    type DownloadStream =
        Pin<Box<dyn tokio_stream::Stream<Item = Result<proto::DownloadResponse, Status>> + Send>>;

    async fn download(
        &self,
        request: Request<proto::DownloadRequest>,
    ) -> Result<Response<Self::DownloadStream>, Status> {
        let digests = request.into_inner().digests;
        self.downloads.lock().unwrap().push(digests.len());
        let blobs = self.blobs.lock().unwrap();
        let mut responses = Vec::new();
        for digest in digests {
            let content = blobs.get(&digest).ok_or_else(|| Status::not_found("a blob"))?;
            let parts = content.len().div_ceil(1 << 20).max(1);
            for part in 0..parts {
                let end = content.len().min((part + 1) << 20);
                responses.push(Ok(proto::DownloadResponse {
                    parts: vec![proto::BlobPart {
                        digest: digest.clone().into(),
                        size_bytes: content.len() as u64,
                        data: content.slice(part << 20..end),
                        last: part + 1 == parts,
                    }],
                }));
            }
        }
        Ok(Response::new(Box::pin(tokio_stream::iter(responses))))
    }
}
