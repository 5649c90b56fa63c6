//! Builds that start from others: once one has ended its client may build again what failed, or promote it.

use std::sync::Arc;

use archyard_model::{BuildRecord, BuildState, JobState, OriginKind, Output};
use archyard_scheduler::core::{EndedBuild, Heritage};

use super::client::Client;
use super::world::{Event, World};

/// Builds that start from one another, at most.
const CHAIN: usize = 3;
/// Clients of one run, at most.
const CLIENTS: usize = 60;

impl World {
    /// Now and then something follows from an ended build.
    pub(super) fn follow_up(&mut self, ended: &EndedBuild) {
        let record = &ended.record;
        let Some(at) = self.builds.get(&record.id).copied() else { return };
        let chain = self.clients[at].chain + 1;
        if !self.rng.chance(40) || chain > CHAIN || self.clients.len() >= CLIENTS {
            return;
        }
        let promotes = self.rng.chance(if record.plan.output == Output::Candidate { 70 } else { 5 });
        let made = if promotes { self.promotion(record) } else { self.rerun(record) };
        let Some((heritage, plan)) = made else { return };
        let origin = &self.clients[at];
        let number = self.clients.len();
        let client = Client {
            base_reads_more: false,
            request: format!("request-{number}").parse().expect("a request's name"),
            plan: Arc::new(plan),
            pool: origin.pool,
            build: None,
            lock_fails: origin.lock_fails && self.rng.chance(50),
            trial_fails: origin.trial_fails && self.rng.chance(50),
            leaves: self.rng.chance(10),
            heritage: Some(Arc::new(heritage)),
            chain,
        };
        self.clients.push(client);
        let pause = self.rng.millis(0, 20_000);
        self.later(pause, Event::Submit { client: number });
    }

    fn promotion(&mut self, record: &BuildRecord) -> Option<(Heritage, archyard_model::Plan)> {
        let fits = record.plan.output == Output::Candidate && record.state == BuildState::Succeeded;
        let made = Heritage::of_promotion(record, Vec::new());
        assert_eq!(
            made.is_ok(),
            fits,
            "seed {}: a {} {:?} is promoted",
            self.seed,
            record.state,
            record.plan.output
        );
        self.report.promotions += usize::from(fits);
        made.ok()
    }

    fn rerun(&mut self, record: &BuildRecord) -> Option<(Heritage, archyard_model::Plan)> {
        let left = record.jobs.iter().any(|job| job.state != JobState::Succeeded);
        let failed = matches!(record.state, BuildState::Failed | BuildState::Canceled);
        let own = record.origin.is_none_or(|origin| origin.kind == OriginKind::Rerun);
        let made = Heritage::of_rerun(record, |_| true);
        assert_eq!(
            made.is_ok(),
            own && (failed || left),
            "seed {}: {} is built again",
            self.seed,
            record.state
        );
        self.report.reruns += usize::from(made.is_ok());
        Some((made.ok()?, record.plan.clone()))
    }

    /// What was carried is what the other build had, and a promotion is its very index.
    pub(super) fn check_origin(&self, record: &BuildRecord) {
        let Some(origin) = record.origin else {
            let carried = record.jobs.iter().any(|job| job.carried);
            return assert!(!carried, "seed {}: {} carries out of nothing", self.seed, record.id);
        };
        let other = self.checks.ended(origin.build).expect("a build that starts from one that ended");
        for job in record.jobs.iter().filter(|job| job.carried) {
            let there = other.jobs.iter().find(|there| there.platform == job.platform);
            let same = there.is_some_and(|there| there.result == job.result && there.cross == job.cross);
            assert!(
                same && job.attempts.is_empty(),
                "seed {}: {} carries another image",
                self.seed,
                record.id
            );
        }
        if origin.kind == OriginKind::Promotion {
            let all = record.jobs.iter().all(|job| job.carried);
            assert!(all && record.plan.trial.is_empty(), "seed {}: a promotion builds", self.seed);
            let same = record.index == other.index || !record.state.is_success();
            assert!(same, "seed {}: {} is another index than the candidate's", self.seed, record.id);
        }
    }
}
