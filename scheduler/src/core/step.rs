//! One whole scheduling step: an input decided, folded in, and followed until all is quiet.

use super::decide::decide;
use super::effects::effects;
use super::evolve::evolve;
use super::fact::Fact;
use super::input::{Input, Moment};
use super::message::Effect;
use super::refusal::Refusal;
use super::settle::settle;
use super::state::State;

/// What came of one or more steps, in order.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// All of them, live ones included.
    pub facts: Vec<Fact>,
    /// To be released once the durable facts are.
    pub effects: Vec<Effect>,
}

/// Takes one input. What time alone brought about follows even when the input is refused.
pub fn step(state: &mut State, moment: Moment, input: Input, outcome: &mut Outcome) -> Result<(), Refusal> {
    let decided = decide(state, moment, input);
    let answer = decided.map(|facts| fold(state, moment, facts, outcome));
    follow(state, moment, outcome);
    answer
}

/// Follows the state alone until all is quiet: after a replay, and when a deadline has passed.
pub fn follow(state: &mut State, moment: Moment, outcome: &mut Outcome) {
    loop {
        let facts = settle(state, moment);
        if facts.is_empty() {
            return;
        }
        fold(state, moment, facts, outcome);
    }
}

/// The durable facts that make this very ledger out of nothing.
pub fn snapshot(state: &State) -> impl Iterator<Item = Fact> + '_ {
    let header = Fact::HeaderRestored(Box::new(state.ledger.header.clone()));
    let drained = state.ledger.drained.iter().map(|(worker, principal)| Fact::DrainMarked {
        worker: worker.clone(),
        principal: principal.clone(),
        draining: true,
    });
    let builds = state.ledger.builds.values().map(|build| Fact::BuildRestored(Box::new(build.clone())));
    std::iter::once(header).chain(drained).chain(builds)
}

fn fold(state: &mut State, moment: Moment, facts: Vec<Fact>, outcome: &mut Outcome) {
    for fact in facts {
        evolve(state, moment, &fact);
        outcome.effects.extend(effects(state, &fact));
        outcome.facts.push(fact);
    }
}
