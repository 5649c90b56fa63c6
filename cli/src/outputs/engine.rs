//! The user's own Engine, into which `--load` puts images.

use std::io::{self, Write};

use anyhow::{Context as _, Result, bail};
use archyard_model::Platform;
use bollard::query_parameters::ImportImageOptions;
use bollard::{API_DEFAULT_VERSION, Docker, body_try_stream};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::exit::Refusal;

/// An image may take long to be unpacked, and nothing is said meanwhile.
const ANSWER_TIMEOUT_S: u64 = 3600;
/// Pieces of an archive between its writer and the Engine.
const AHEAD: usize = 4;
/// How `/info` says that the containerd image store is on.
const CONTAINERD: [&str; 2] = ["driver-type", "io.containerd.snapshotter.v1"];

/// An Engine that answers.
#[derive(Debug, Clone)]
pub(crate) struct Engine {
    docker: Docker,
    endpoint: String,
    /// What its machine is.
    pub(crate) platform: Platform,
    /// Whether one image may be of several platforms there.
    pub(crate) holds_all: bool,
}

impl Engine {
    /// Connects, and asks what it is.
    pub(crate) async fn connect(endpoint: &str) -> Result<Self> {
        let wrong = |error: bollard::errors::Error| {
            Refusal::unavailable(format!(
                "--load: the Docker Engine at {endpoint} does not answer: {error}; start it, or name another with \
                 --engine or DOCKER_HOST"
            ))
        };
        let docker = if let Some(path) = endpoint.strip_prefix("unix://") {
            Docker::connect_with_unix(path, ANSWER_TIMEOUT_S, API_DEFAULT_VERSION)
        } else if endpoint.starts_with("tcp://") || endpoint.starts_with("http://") {
            Docker::connect_with_http(endpoint, ANSWER_TIMEOUT_S, API_DEFAULT_VERSION)
        } else {
            return Err(Refusal::usage(format!(
                "--load: engine endpoint {endpoint:?} is not supported; write unix:///var/run/docker.sock or tcp://HOST:PORT"
            )));
        };
        let docker = docker.map_err(wrong)?.negotiate_version().await.map_err(wrong)?;
        let version = docker.version().await.map_err(wrong)?;
        let info = docker.info().await.map_err(wrong)?;
        let named = format!("{}/{}", version.os.unwrap_or_default(), version.arch.unwrap_or_default());
        let platform = named
            .parse()
            .with_context(|| format!("--load: the Engine at {endpoint} is of no known platform"))?;
        let status = info.driver_status.unwrap_or_default();
        let holds_all = status.iter().any(|pair| pair.iter().map(String::as_str).eq(CONTAINERD));
        Ok(Self { docker, endpoint: endpoint.to_owned(), platform, holds_all })
    }

    /// Where it is.
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Takes an archive that [`pipe`] brings.
    pub(crate) async fn load(&self, archive: mpsc::Receiver<io::Result<Bytes>>) -> Result<()> {
        let options = ImportImageOptions { quiet: true, ..ImportImageOptions::default() };
        let body = body_try_stream(ReceiverStream::new(archive));
        let mut told = Box::pin(self.docker.import_image(options, body, None));
        while let Some(message) = told.next().await {
            let said = message.map_err(anyhow::Error::from).and_then(|message| {
                match message.error_detail.and_then(|detail| detail.message) {
                    Some(error) => bail!(error),
                    None => Ok(()),
                }
            });
            said.with_context(|| format!("--load: the Engine at {} did not take the image", self.endpoint))?;
        }
        Ok(())
    }
}

/// A writer, and what is to be loaded of it. Ends well only when told so.
pub(crate) fn pipe() -> (Pipe, mpsc::Receiver<io::Result<Bytes>>) {
    let (sender, receiver) = mpsc::channel(AHEAD);
    (Pipe { sender, ended: false }, receiver)
}

/// Writes to an Engine, from a thread. Dropped before its [end](Pipe::end) it breaks the archive off.
#[derive(Debug)]
pub(crate) struct Pipe {
    sender: mpsc::Sender<io::Result<Bytes>>,
    ended: bool,
}

impl Pipe {
    /// All was written.
    pub(crate) fn end(mut self) {
        self.ended = true;
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.sender.blocking_send(Ok(Bytes::copy_from_slice(bytes)));
        sent.map(|()| bytes.len()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        if !self.ended {
            // An Engine that is gone needs no telling.
            self.sender.blocking_send(Err(io::ErrorKind::UnexpectedEof.into())).ok();
        }
    }
}
