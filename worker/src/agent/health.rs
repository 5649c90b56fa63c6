//! Whether the Engine can be worked with: asked at the start, again and again after that, and at once when
//! something looks wrong.

use std::sync::Arc;
use std::time::Duration;

use archyard_model::Platform;
use tokio::sync::{Notify, watch};

use super::Shared;
use crate::backoff::Backoff;
use crate::engine::{Engine as _, Feature, Probe};

/// Between two questions to an Engine that is well.
const INTERVAL: Duration = Duration::from_secs(10);
/// So often it is then only asked whether it answers: to say what it is, an Engine starts programs.
const PINGS: u32 = 5;
/// An Engine that takes longer to say what it is does not work.
const PATIENCE: Duration = Duration::from_secs(10);

/// Of what is told about an Engine.
const PROBLEM_CHARS: usize = 500;

/// What is known of the Engine.
#[derive(Debug)]
pub(super) struct Health {
    state: watch::Sender<State>,
    doubt: Notify,
}

/// One answer, or the lack of one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct State {
    /// `Docker Engine 20.10.24 (overlay2)`; empty while it never answered.
    pub(super) description: String,
    /// Why no lease is wanted; empty when all is well.
    pub(super) problem: String,
    /// Whether it takes a source policy, as far as it ever answered.
    pub(super) source_policy: bool,
}

impl Health {
    /// Nobody has asked yet.
    pub(super) fn unknown() -> Self {
        let problem = "the Docker Engine was not asked yet".to_owned();
        Self { state: watch::Sender::new(State { problem, ..State::default() }), doubt: Notify::new() }
    }

    pub(super) fn state(&self) -> State {
        self.state.borrow().clone()
    }

    pub(super) fn changes(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// Something failed that may be the Engine's doing: asks at once.
    pub(super) fn doubt(&self) {
        self.doubt.notify_one();
    }

    fn set(&self, state: State) -> bool {
        self.state.send_if_modified(|known| {
            let changed = *known != state;
            *known = state;
            changed
        })
    }
}

/// Asks for as long as the agent lives.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut backoff = Backoff::new();
    let mut pings = 0;
    loop {
        let pause = if pings > 0 && answers(&shared).await {
            pings -= 1;
            INTERVAL
        } else if look(&shared).await {
            backoff = Backoff::new();
            pings = PINGS;
            INTERVAL
        } else {
            pings = 0;
            backoff.step()
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shared.health.doubt.notified() => pings = 0,
        }
    }
}

async fn answers(shared: &Shared) -> bool {
    matches!(tokio::time::timeout(PATIENCE, shared.engine.ping()).await, Ok(Ok(())))
}

/// Finds out what the Engine is, and whether it said so.
async fn look(shared: &Shared) -> bool {
    match tokio::time::timeout(PATIENCE, shared.engine.probe()).await {
        Ok(Ok(probe)) => {
            well_or_not(shared, &probe);
            return true;
        }
        Ok(Err(error)) => unwell(shared, &error.to_string()),
        Err(_) => {
            let endpoint = &shared.config.engine;
            let problem =
                format!("the Docker Engine at {endpoint} did not answer within {PATIENCE:?}; is it hung?");
            unwell(shared, &problem);
        }
    }
    false
}

fn well_or_not(shared: &Shared, probe: &Probe) {
    let description = probe.describe();
    let problem = mismatch(&probe.platform, &shared.measured.native).unwrap_or_default();
    if !problem.is_empty() {
        return unwell(shared, &problem);
    }
    let source_policy = probe.has(Feature::SourcePolicy);
    if shared.health.set(State { description, problem, source_policy }) {
        tracing::info!(worker = %shared.config.name, engine = probe.describe(), id = probe.id, "the Engine answers");
        for limitation in probe.limitations() {
            tracing::info!(worker = %shared.config.name, "{limitation}");
        }
    }
}

fn unwell(shared: &Shared, problem: &str) {
    // An Engine's own words may be many; a heartbeat takes one line.
    let problem = problem.lines().next().unwrap_or_default();
    let problem = problem.chars().take(PROBLEM_CHARS).collect::<String>();
    let state = State { problem: problem.clone(), ..shared.health.state() };
    if shared.health.set(state) {
        tracing::warn!(worker = %shared.config.name, "no lease is taken: {problem}");
    }
}

/// An Engine of another machine would build what was never measured.
fn mismatch(engine: &Platform, native: &[Platform]) -> Option<String> {
    let own = native.first()?;
    (engine.host() != own.host()).then(|| {
        format!("the Docker Engine runs {engine}, this machine {own}: a worker runs on its Engine's machine")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_of_another_machine_is_refused() {
        let native = ["linux/amd64".parse().unwrap(), "linux/386".parse().unwrap()];
        assert_eq!(mismatch(&"linux/amd64".parse().unwrap(), &native), None);
        assert_eq!(mismatch(&"linux/386".parse().unwrap(), &native), None);
        assert!(mismatch(&"linux/arm64".parse().unwrap(), &native).unwrap().contains("linux/arm64"));
    }

    #[test]
    fn only_news_is_told() {
        let health = Health::unknown();
        let state = State { description: "x".to_owned(), ..State::default() };
        assert!(health.set(state.clone()) && !health.set(state));
    }
}
