//! How the farm's processes reach each other: endpoints, dialing, listening.
//!
//! Shared by everything that opens a connection, so that a Unix socket, plain loopback and mutual TLS behave alike
//! everywhere. Knows no RPC and no message; who is allowed to do what is the scheduler's business.

mod dial;
mod endpoint;
mod error;
mod listen;
mod tls;

pub use dial::connect;
pub use endpoint::Endpoint;
pub use error::Error;
pub use listen::{ListenError, SocketFile, listen_unix};
pub use tls::ClientTls;
