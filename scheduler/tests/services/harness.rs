//! A scheduler, a client and a worker for tests.

use std::time::Duration;

use archyard_model::convert::plan_to_proto;
use archyard_model::{Blake3, ContextEntry, ContextManifest, EntryKind, Plan, Platform, ProjectName};
use archyard_proto::v1 as proto;
use archyard_scheduler::retention::Options;
use archyard_scheduler::{Config, Listen, Running, Scheduler, Times};
use bytes::Bytes;
use proto::build_service_client::BuildServiceClient;
use proto::context_service_client::ContextServiceClient;
use proto::disk_service_client::DiskServiceClient;
use proto::farm_service_client::FarmServiceClient;
use proto::scheduler_message::Message as Down;
use proto::worker_message::Message as Up;
use proto::worker_service_client::WorkerServiceClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

/// How long anything may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A scheduler on a folder of its own.
pub(crate) struct Farm {
    pub(crate) dir: tempfile::TempDir,
    running: Option<Running>,
    channel: Channel,
    times: Times,
    retention: Options,
}

impl Farm {
    pub(crate) async fn start() -> Self {
        Self::with(Times::default()).await
    }

    pub(crate) async fn with(times: Times) -> Self {
        Self::keeping(times, Options::default()).await
    }

    /// With limits on what is kept.
    pub(crate) async fn keeping(times: Times, retention: Options) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (running, channel) = start(dir.path(), &times, &retention).await;
        Self { dir, running: Some(running), channel, times, retention }
    }

    /// Stops the scheduler and starts another on the same folder.
    pub(crate) async fn restart(&mut self) {
        self.stop().await;
        let (running, channel) = start(self.dir.path(), &self.times, &self.retention).await;
        (self.running, self.channel) = (Some(running), channel);
    }

    pub(crate) async fn stop(&mut self) {
        self.running.take().unwrap().stop().await.unwrap();
    }

    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub(crate) fn builds(&self) -> BuildServiceClient<Channel> {
        BuildServiceClient::new(self.channel())
    }

    pub(crate) fn contexts(&self) -> ContextServiceClient<Channel> {
        ContextServiceClient::new(self.channel())
    }

    pub(crate) fn disk(&self) -> DiskServiceClient<Channel> {
        DiskServiceClient::new(self.channel())
    }

    pub(crate) fn farm(&self) -> FarmServiceClient<Channel> {
        FarmServiceClient::new(self.channel())
    }

    /// Uploads a plan's blobs and submits it.
    pub(crate) async fn submit(&self, request: &str, platforms: &[&str]) -> String {
        let (plan, blobs) = plan(platforms);
        self.upload(&blobs).await.unwrap();
        self.submit_plan(request, plan_to_proto(&plan)).await.unwrap().build_id
    }

    pub(crate) async fn submit_plan(
        &self,
        request: &str,
        plan: proto::Plan,
    ) -> Result<proto::SubmitBuildResponse, Status> {
        let request = proto::SubmitBuildRequest {
            request_id: request.to_owned(),
            plan: Some(plan),
            ..Default::default()
        };
        self.builds().submit_build(request).await.map(tonic::Response::into_inner)
    }

    pub(crate) async fn upload(&self, blobs: &[Vec<u8>]) -> Result<proto::UploadResponse, Status> {
        let parts = blobs.iter().map(|blob| part(blob)).collect();
        let messages = tokio_stream::once(proto::UploadRequest { parts });
        self.contexts().upload(messages).await.map(tonic::Response::into_inner)
    }

    pub(crate) async fn record(&self, build: &str) -> proto::BuildRecord {
        let request = proto::GetBuildRequest { build_id: build.to_owned() };
        self.builds().get_build(request).await.unwrap().into_inner().build.unwrap()
    }

    /// The build's record once it has ended.
    pub(crate) async fn ended(&self, build: &str) -> proto::BuildRecord {
        self.events(build, 0).await;
        self.record(build).await
    }

    /// All events after `after`, up to the terminal one.
    pub(crate) async fn events(&self, build: &str, after: u64) -> Vec<proto::BuildEvent> {
        let request = proto::WatchBuildRequest { build_id: build.to_owned(), after_seq: after };
        let events = self.builds().watch_build(request).await.unwrap().into_inner();
        collect(events).await.unwrap()
    }

    pub(crate) async fn log(&self, request: proto::ReadLogRequest) -> Result<Vec<u8>, Status> {
        let chunks = collect(self.builds().read_log(request).await?.into_inner()).await?;
        Ok(chunks.into_iter().flat_map(|chunk| chunk.data).collect())
    }
}

async fn start(dir: &std::path::Path, times: &Times, retention: &Options) -> (Running, Channel) {
    let socket = dir.join("s.sock");
    let mut config = Config::new(dir.join("data"), vec![Listen::Unix(socket.clone())]);
    config.times = times.clone();
    config.retention = retention.clone();
    let running = Scheduler::start(config).await.unwrap();
    let channel = archyard_net::connect(&archyard_net::Endpoint::Unix(socket), None).await.unwrap();
    (running, channel)
}

/// All messages of a stream.
pub(crate) async fn collect<T>(mut stream: Streaming<T>) -> Result<Vec<T>, Status> {
    let mut messages = Vec::new();
    while let Some(message) =
        tokio::time::timeout(PATIENCE, stream.message()).await.expect("the stream does not end")?
    {
        messages.push(message);
    }
    Ok(messages)
}

pub(crate) fn part(blob: &[u8]) -> proto::BlobPart {
    proto::BlobPart {
        digest: Bytes::copy_from_slice(Blake3::of(blob).as_bytes()),
        size_bytes: blob.len() as u64,
        data: Bytes::copy_from_slice(blob),
        last: true,
    }
}

/// A plan of a small context, and the blobs it needs.
pub(crate) fn plan(platforms: &[&str]) -> (Plan, Vec<Vec<u8>>) {
    let dockerfile = b"FROM scratch\nCOPY hello /\n".to_vec();
    let hello = b"hello".to_vec();
    let manifest = ContextManifest::new(vec![ContextEntry {
        path: b"hello".to_vec(),
        mode: 0o644,
        modified_s: 1,
        modified_ns: 0,
        xattrs: Vec::new(),
        kind: EntryKind::File { size: 5, digest: Blake3::of(&hello) },
    }])
    .unwrap();
    let encoded = manifest.encode();
    let platforms = platforms.iter().map(|platform| platform.parse::<Platform>().unwrap()).collect();
    let context = manifest.to_ref(&encoded);
    let plan = Plan::new(ProjectName::default(), platforms, context, Blake3::of(&dockerfile));
    (plan, vec![dockerfile, hello, encoded])
}

/// A worker that speaks the protocol.
pub(crate) struct Worker {
    up: mpsc::Sender<proto::WorkerMessage>,
    down: Streaming<proto::SchedulerMessage>,
    pub(crate) welcome: proto::Welcome,
}

pub(crate) fn hello(name: &str) -> proto::Hello {
    proto::Hello {
        name: name.to_owned(),
        boot_id: "boot".to_owned(),
        session_id: format!("session-of-{name}"),
        protocol_min: 2,
        protocol_max: 2,
        platforms: vec![proto::Platform {
            os: "linux".to_owned(),
            architecture: "amd64".to_owned(),
            variant: String::new(),
        }],
        slots: 2,
        pool: "trusted".to_owned(),
        version: "0".to_owned(),
        engine: "none".to_owned(),
        ..Default::default()
    }
}

impl Worker {
    pub(crate) async fn join(channel: Channel, hello: proto::Hello) -> Result<Self, Status> {
        let (up, messages) = mpsc::channel(16);
        up.send(proto::WorkerMessage { message: Some(Up::Hello(hello)) }).await.unwrap();
        let down = WorkerServiceClient::new(channel).control(ReceiverStream::new(messages)).await?;
        let mut worker = Self { up, down: down.into_inner(), welcome: proto::Welcome::default() };
        match worker.next().await? {
            Some(Down::Welcome(welcome)) => worker.welcome = welcome,
            other => panic!("expected Welcome, got {other:?}"),
        }
        Ok(worker)
    }

    pub(crate) async fn say(&self, message: Up) {
        self.up.send(proto::WorkerMessage { message: Some(message) }).await.unwrap();
    }

    pub(crate) async fn next(&mut self) -> Result<Option<Down>, Status> {
        let message = tokio::time::timeout(PATIENCE, self.down.message()).await.expect("nothing comes")?;
        Ok(message.map(|message| message.message.unwrap()))
    }

    /// The next lease, accepted.
    pub(crate) async fn lease(&mut self) -> proto::Lease {
        loop {
            if let Down::Lease(lease) = self.next().await.unwrap().unwrap() {
                self.say(Up::LeaseAccepted(proto::LeaseAccepted { attempt: lease.attempt.clone() })).await;
                return lease;
            }
        }
    }

    /// Reports an attempt's end, and waits until the scheduler has it.
    pub(crate) async fn finish(
        &mut self,
        attempt: &proto::AttemptRef,
        failure: Option<proto::Failure>,
        log_bytes: u64,
    ) {
        let image = failure.is_none().then(|| proto::ImageResult {
            config_digest: format!("sha256:{}", "1".repeat(64)),
            ..Default::default()
        });
        self.end(attempt, image, failure, log_bytes).await;
    }

    /// Reports success with this image, and waits until the scheduler has it.
    pub(crate) async fn succeed(&mut self, attempt: &proto::AttemptRef, image: proto::ImageResult) {
        self.end(attempt, Some(image), None, 0).await;
    }

    async fn end(
        &mut self,
        attempt: &proto::AttemptRef,
        image: Option<proto::ImageResult>,
        failure: Option<proto::Failure>,
        log_bytes: u64,
    ) {
        let attempt = Some(attempt.clone());
        self.say(Up::Result(proto::AttemptResult {
            attempt: attempt.clone(),
            image,
            failure,
            log_bytes,
            log_warning: String::new(),
        }))
        .await;
        loop {
            if let Down::ResultAck(ack) = self.next().await.unwrap().unwrap() {
                assert_eq!(ack.attempt, attempt);
                return;
            }
        }
    }
}

/// A spool stream.
pub(crate) struct Spooler {
    up: mpsc::Sender<proto::SpoolUpload>,
    down: Streaming<proto::SpoolAck>,
}

impl Spooler {
    pub(crate) async fn connect(channel: Channel) -> Self {
        let (up, messages) = mpsc::channel(16);
        let down = WorkerServiceClient::new(channel)
            .spool(ReceiverStream::new(messages))
            .await
            .unwrap()
            .into_inner();
        Self { up, down }
    }

    pub(crate) async fn open(&mut self, attempt: &proto::AttemptRef) -> proto::SpoolAck {
        let message = proto::spool_upload::Message::Open(proto::SpoolOpen {});
        self.up
            .send(proto::SpoolUpload { attempt: Some(attempt.clone()), message: Some(message) })
            .await
            .unwrap();
        self.acknowledged().await.unwrap()
    }

    pub(crate) async fn send(&self, attempt: &proto::AttemptRef, offset: u64, data: &[u8], last: bool) {
        let data = proto::SpoolData { offset, data: Bytes::copy_from_slice(data), last };
        let message = proto::spool_upload::Message::Data(data);
        self.up
            .send(proto::SpoolUpload { attempt: Some(attempt.clone()), message: Some(message) })
            .await
            .unwrap();
    }

    pub(crate) async fn acknowledged(&mut self) -> Result<proto::SpoolAck, Status> {
        let ack =
            tokio::time::timeout(PATIENCE, self.down.message()).await.expect("nothing is acknowledged")?;
        Ok(ack.expect("the stream ended"))
    }
}
