//! How the farm's processes reach each other: endpoints, dialing, listening.
//!
//! Shared by everything that opens a connection, so that a Unix socket, plain loopback, mutual TLS and a registry behave
//! alike everywhere. Knows no RPC and no message; who is allowed to do what is the scheduler's business.

mod dial;
mod endpoint;
mod error;
mod fault;
mod listen;
mod outlook;
mod roots;
mod sniff;
mod stall;
mod tls;

pub use dial::connect;
pub use endpoint::Endpoint;
pub use error::Error;
pub use fault::{Refused, TlsFault};
pub use listen::{ListenError, SocketFile, listen_unix};
pub use outlook::{Outlook, outlook};
pub use roots::{NO_ROOTS, ensure_roots, is_for_lack_of_roots};
pub use stall::{Meter, watch};
pub use tls::ClientTls;
