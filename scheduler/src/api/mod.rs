//! The services: who calls, is it valid, hand it on, map the answer.
//!
//! Thin on purpose. Nothing is decided here and no fact is made: the driver decides, the stores keep. What a client
//! is told when something fails is in `status`, and nowhere else.

mod admit;
mod artifacts;
mod builds;
mod carry;
mod contexts;
mod control;
mod disk;
mod farm;
mod fate;
mod layers;
mod list;
mod logs;
mod rights;
mod routes;
mod shared;
mod spool;
mod standing;
mod status;
mod stream;
mod watch;

pub use admit::AdmitLayer;
pub use layers::mend_malformed;
pub use routes::routes;
pub use shared::Shared;
