//! Archyard's wire contract, as generated from `archyard/v1/*.proto`.
//!
//! Why a crate of its own: generated code compiles once and is shared by both ends of every connection.
//! It never holds logic; what a message means, and whether it is valid, is `archyard-model`'s to say.

/// The public API: what clients, the scheduler and workers say to each other.
#[allow(missing_docs, clippy::all, clippy::pedantic, unreachable_pub, unused_qualifications)]
pub mod v1 {
    tonic::include_proto!("archyard.v1");
}

/// What the scheduler's journal holds. Never sent to anybody.
pub mod journal {
    /// Version 1 of the journal's records; fields are only ever added.
    #[allow(missing_docs, clippy::all, clippy::pedantic, unreachable_pub, unused_qualifications)]
    pub mod v1 {
        tonic::include_proto!("archyard.journal.v1");
    }
}

/// The encoded `FileDescriptorSet` of every file here, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/archyard.bin"));
