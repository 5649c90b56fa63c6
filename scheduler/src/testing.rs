//! What the tests of several modules start from.

use archyard_model::{
    Blake3, BuildEvent, BuildId, BuildRecord, BuildState, ContextRef, EventKind, JobRecord, JobState, Plan,
    Principal, ProjectName,
};
use jiff::Timestamp;

use crate::core::EndedBuild;

/// A folder in memory where the machine has one: what is synced often is not waited for.
pub(crate) fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// The smallest plan.
pub(crate) fn plan() -> Plan {
    let nothing = Blake3::of(b"");
    let context =
        ContextRef { digest: nothing, manifest_digest: nothing, files: 0, total_bytes: 0, partial: false };
    Plan::new(ProjectName::default(), vec!["linux/amd64".parse().unwrap()], context, nothing)
}

/// A build that has ended, with one job that did as well as the build.
pub(crate) fn ended(id: BuildId, plan: Plan, state: BuildState, at: Timestamp) -> EndedBuild {
    let job = JobRecord {
        platform: plan.platforms[0].clone(),
        state: JobState::Succeeded,
        waiting_reason: None,
        attempts: Vec::new(),
        result: None,
        failure: None,
        cross: None,
        carried: false,
    };
    let record = BuildRecord {
        id,
        request_id: "r".parse().unwrap(),
        principal: Principal::local(),
        lock: None,
        state,
        waiting_reason: None,
        jobs: vec![job],
        plan,
        accepted_at: at,
        ended_at: Some(at),
        failure: None,
        index: None,
        tags: Vec::new(),
        events: 2,
        origin: None,
        tag_sequence: None,
    };
    let event = |seq, kind| BuildEvent { seq, at, kind };
    let events = vec![
        event(1, EventKind::Accepted { principal: Principal::local() }),
        event(2, EventKind::Ended { state, failure: None, index: None }),
    ];
    EndedBuild { record, events }
}
