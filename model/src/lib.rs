//! Archyard's words as types: parsed once at the edge, and valid ever after.
//!
//! Every value here was checked when it was made, so the crates above pass them on without asking again.
//! This crate does no I/O and holds no state; `convert` turns what came over the wire into these types, and
//! says which field was wrong and what would be right.

pub mod annotation;
pub mod build;
pub mod checks;
pub mod context;
pub mod convert;
pub mod digest;
pub mod event;
pub mod id;
pub mod index;
pub mod inputs;
pub mod invalid;
pub mod limits;
pub mod lock;
pub mod plan;
pub mod platform;
pub mod proxy;
pub mod reference;
pub mod sparse;
pub mod worker;

pub use annotation::{Annotation, AnnotationLevel};
pub use build::{
    AttemptRecord, BuildRecord, BuildState, Failure, FailureClass, ImageResult, JobRecord, JobState, Origin,
    OriginKind, TagRecord,
};
pub use checks::{Artifact, Checks, ForeignFile, ForeignPolicy, Inspection, SmokeOutcome};
pub use context::{ContextEntry, ContextManifest, ContextRef, EntryKind};
pub use digest::{Blake3, Sha256};
pub use event::{BuildEvent, EventKind};
pub use id::{AttemptId, BuildId, FencingToken, JobId, Principal, ProjectName, RequestId, WorkerName};
pub use index::{CROSS_ANNOTATION, INDEX_MEDIA_TYPE, Index};
pub use inputs::Inputs;
pub use invalid::Invalid;
pub use lock::{Lock, LockedImage};
pub use plan::{Base, BaseKind, BaseUse, Output, Plan};
pub use platform::Platform;
pub use reference::Reference;
pub use worker::{Pool, WorkerOffer};
