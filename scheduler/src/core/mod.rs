//! The pure state machine of the farm.
//!
//! `decide` turns an input into facts, `evolve` folds facts into the state, `settle` finds what follows from the
//! state alone, `effects` says what the world must hear of a fact. None of them does I/O, reads a clock, draws a
//! random number or knows its siblings: the same inputs at the same moments give the same facts, and replaying the
//! durable ones gives the ledger that was left.

pub mod build;
pub mod classes;
mod decide;
mod due;
mod effects;
mod evolve;
pub mod fact;
pub mod heritage;
pub mod input;
pub mod ledger;
pub mod lines;
pub mod message;
mod orphans;
mod placement;
pub mod policy;
pub mod refusal;
mod settle;
pub mod standing;
pub mod state;
mod step;
pub mod tags;
pub mod timers;
pub mod times;
pub mod turns;
pub mod worker;

#[cfg(test)]
mod tests;

pub use build::Build;
pub use decide::decide;
pub use effects::effects;
pub use evolve::evolve;
pub use fact::{Fact, Verdict};
pub use heritage::Heritage;
pub use input::{ConnectionId, Input, Moment, Parting, RunningAttempt, Submission};
pub use ledger::Ledger;
pub use message::{Downstream, Effect, EndedBuild, PublishOrder};
pub use refusal::Refusal;
pub use settle::settle;
pub use standing::{Standing, Standings};
pub use state::State;
pub use step::{Outcome, follow, snapshot, step};
pub use times::Times;
