//! The one thread that owns the state and commits.
//!
//! It takes inputs in batches, decides, evolves, journals the group, and only then answers the callers and releases
//! the effects. State equals journal, always: when the journal fails nothing of that group is released, the thread
//! ends with the error, and the process must end with it.

mod core_thread;
mod error;
mod handle;
mod ids;
mod inbox;
mod mailbox;
mod message;
mod queries;
mod run;
mod shell;
#[cfg(test)]
mod tests;

pub use error::Error;
pub use handle::{
    AttemptStatus, Connection, Events, FarmCounts, Filter, Handle, NewBuild, Source, Submitted, WorkerInput,
    WorkerState, WorkerView,
};
pub use mailbox::Messages;
pub use run::{Options, Running, start};
pub use shell::Shell;
