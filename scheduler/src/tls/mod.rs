//! The farm's own certificate authority, and who is on the other end of a connection.
//!
//! A farm trusts its own CA and no other. A certificate of that CA names a principal, by its common name, and a role,
//! by its organizational unit.

mod authority;
mod caller;
mod role;

pub use authority::{Authority, Error, Issued};
pub use caller::{Caller, Peer, Rights, caller};
pub use role::Role;
