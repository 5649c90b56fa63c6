//! The farm's own certificate authority, and who is on the other end of a connection.
//!
//! A farm trusts its own CA and nobody else's: whoever has a certificate of it is a principal, by its common name.

mod authority;
mod principal;

pub use authority::{Authority, Error, Issued, Role};
pub use principal::{Peer, principal};
