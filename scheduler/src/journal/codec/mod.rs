//! Facts as records and back: the journal's own wire format.
//!
//! Only durable facts have one. Reading checks everything again: a record that does not parse is damage, never skipped.

mod heritage;
mod read;
mod snapshot;
mod write;

use archyard_model::Invalid;
use archyard_proto::journal::v1 as proto;
use prost::Message as _;

use crate::core::Fact;

/// Why a record is no fact.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not protobuf.
    #[error("a record does not parse: {0}")]
    Parse(#[from] prost::DecodeError),
    /// A value that no writer wrote.
    #[error("a record holds an impossible value: {0}")]
    Value(#[from] Invalid),
    /// A fact of a newer scheduler.
    #[error("a record holds a fact this version does not know; start the newer version that wrote it")]
    Unknown,
}

/// A fact's record; none for a live fact, which has none.
pub fn encode(at_ms: u64, fact: &Fact) -> Option<Vec<u8>> {
    write::fact(fact).map(|fact| proto::Fact { at_ms, fact: Some(fact) }.encode_to_vec())
}

/// The fact of a record, and when it was decided in milliseconds since the epoch.
pub fn decode(record: &[u8]) -> Result<(u64, Fact), Error> {
    let message = proto::Fact::decode(record)?;
    let fact = message.fact.ok_or(Error::Unknown)?;
    Ok((message.at_ms, read::fact(fact)?))
}
