//! Why a scheduler does not start, or had to end.

use std::net::SocketAddr;
use std::path::PathBuf;

use archyard_model::Invalid;

use crate::{disk, journal, tls};

/// One line for whoever started it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Bad configuration.
    #[error(transparent)]
    Config(#[from] Invalid),
    /// Two schedulers on one folder would tear it apart.
    #[error("another scheduler uses the data folder {}; stop it, or choose another with --data-dir", .0.display())]
    DataInUse(PathBuf),
    /// A Unix socket.
    #[error(transparent)]
    Listen(#[from] archyard_net::ListenError),
    /// A TCP address.
    #[error("cannot listen on {address}: {source}; choose another address or port with --listen")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// What.
        source: std::io::Error,
    },
    /// Certificates.
    #[error(transparent)]
    Tls(#[from] tls::Error),
    /// The data folder.
    #[error(transparent)]
    Disk(#[from] disk::Error),
    /// The journal: what was accepted cannot be kept any more.
    #[error(transparent)]
    Journal(#[from] journal::Error),
    /// Serving ended by itself.
    #[error("the scheduler cannot serve any more: {0}")]
    Serve(#[from] tonic::transport::Error),
    /// The service descriptors do not fit together.
    #[error("the scheduler's service descriptors are damaged: {0}; install archyard again")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// A part of it panicked.
    #[error("the scheduler failed unexpectedly; its panic message is above")]
    Crashed,
}
