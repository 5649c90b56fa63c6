//! The farm's own API, spoken from a test: what the command line does not show.

use std::collections::BTreeMap;

use archyard_proto::v1 as proto;
use futures_util::StreamExt as _;
use prost::Message as _;
use proto::build_service_client::BuildServiceClient;
use tonic::transport::Channel;

use crate::Farm;

/// A step of a job, from its log.
#[derive(Debug, Clone)]
pub struct Step {
    pub name: String,
    pub cached: bool,
    /// Seconds since the epoch.
    pub started: f64,
    pub completed: f64,
}

/// A connection to a farm.
pub async fn connect(farm: &Farm) -> Channel {
    archyard_net::connect(&farm.endpoint().parse().unwrap(), None).await.unwrap()
}

/// One job's whole log, as bytes.
pub async fn log(farm: &Farm, build: &str, job_index: u32) -> Vec<u8> {
    let request =
        proto::ReadLogRequest { build_id: build.to_owned(), job_index, follow: true, ..Default::default() };
    let mut stream =
        BuildServiceClient::new(connect(farm).await).read_log(request).await.unwrap().into_inner();
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await {
        bytes.extend_from_slice(&chunk.unwrap().data);
    }
    bytes
}

/// The frames of a log. Panics where one does not decode, or the last is cut.
pub fn frames(mut log: &[u8]) -> Vec<proto::LogFrame> {
    let mut frames = Vec::new();
    while !log.is_empty() {
        frames.push(proto::LogFrame::decode_length_delimited(&mut log).unwrap());
    }
    frames
}

/// What the steps of a log wrote, joined.
pub fn output(frames: &[proto::LogFrame]) -> String {
    let mut bytes = Vec::new();
    for frame in frames {
        if let Some(proto::log_frame::Frame::Output(output)) = &frame.frame {
            bytes.extend_from_slice(&output.data);
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The completed steps of a log.
pub fn steps(frames: &[proto::LogFrame]) -> Vec<Step> {
    let mut steps = BTreeMap::new();
    for frame in frames {
        if let Some(proto::log_frame::Frame::Vertex(vertex)) = &frame.frame
            && let (Some(started), Some(completed)) = (&vertex.started_at, &vertex.completed_at)
        {
            steps.insert(
                vertex.digest.clone(),
                Step {
                    name: vertex.name.clone(),
                    cached: vertex.cached,
                    started: seconds(started),
                    completed: seconds(completed),
                },
            );
        }
    }
    steps.into_values().collect()
}

#[allow(clippy::cast_precision_loss, reason = "microseconds are enough")]
fn seconds(at: &prost_types::Timestamp) -> f64 {
    at.seconds as f64 + f64::from(at.nanos) / 1e9
}

/// Calls a unary method with bytes that need not be a message; the status that comes back.
pub async fn call_with_bytes(farm: &Farm, path: &'static str, body: Vec<u8>) -> tonic::Status {
    let mut grpc = tonic::client::Grpc::new(connect(farm).await);
    grpc.ready().await.unwrap();
    let path = tonic::codegen::http::uri::PathAndQuery::from_static(path);
    grpc.unary(tonic::Request::new(body), path, RawCodec).await.unwrap_err()
}

/// Sends bytes as they are, and reads none.
#[derive(Debug, Default, Clone, Copy)]
struct RawCodec;

impl tonic::codec::Codec for RawCodec {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl tonic::codec::Encoder for RawCodec {
    type Item = Vec<u8>;
    type Error = tonic::Status;

    fn encode(&mut self, item: Vec<u8>, to: &mut tonic::codec::EncodeBuf<'_>) -> Result<(), tonic::Status> {
        use tonic::codegen::Bytes;
        bytes::BufMut::put(to, Bytes::from(item));
        Ok(())
    }
}

impl tonic::codec::Decoder for RawCodec {
    type Item = Vec<u8>;
    type Error = tonic::Status;

    fn decode(&mut self, from: &mut tonic::codec::DecodeBuf<'_>) -> Result<Option<Vec<u8>>, tonic::Status> {
        use bytes::Buf as _;
        Ok(Some(from.copy_to_bytes(from.remaining()).to_vec()))
    }
}
