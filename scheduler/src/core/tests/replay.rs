//! I7, for any inputs at all: what is replayed is what was left.

use archyard_model::{Reference, limits};
use proptest::prelude::*;

use super::super::{evolve, snapshot};
use super::*;
use crate::journal::codec;

/// One thing that may happen, in numbers small enough to meet.
#[derive(Debug, Clone)]
struct Happening {
    kind: u8,
    build: u64,
    job: u16,
    token: u64,
    worker: u64,
    dice: u8,
    millis: u64,
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let one = (0u8..24, 1u64..5, 0u16..2, 1u64..5, 0u64..3, any::<u8>(), 0u64..8_000).prop_map(
        |(kind, build, job, token, worker, dice, millis)| Happening {
            kind,
            build,
            job,
            token,
            worker,
            dice,
            millis,
        },
    );
    proptest::collection::vec(one, 1..150)
}

fn newest(farm: &Farm, worker: u64) -> ConnectionId {
    let name = format!("w{worker}").parse().unwrap();
    farm.state.live.workers.get(&name).and_then(|w| w.connection).unwrap_or(ConnectionId(worker))
}

fn happen(farm: &mut Farm, h: &Happening) {
    farm.now += Duration::from_millis(h.millis);
    let build = BuildId::from_parts(h.build, 0);
    let attempt = attempt(build, h.job, h.token);
    let connection = newest(farm, h.worker);
    let tags: [Reference; 2] = ["r.example/a:1".parse().unwrap(), "r.example/a:2".parse().unwrap()];
    let failure = |class| Failure::new(class, "code", "text").with_exit_code(2);
    let platforms = [&["linux/amd64"][..], &["linux/amd64", "linux/arm64"], &["linux/arm64"]];
    let input = match h.kind {
        0..=2 => {
            let mut plan = plan(&["linux/amd64", "linux/arm64"][..1 + usize::from(h.dice % 2)]);
            if !h.dice.is_multiple_of(3) {
                plan =
                    Plan { output: Output::Push, tags: tags[..1 + usize::from(h.dice % 2)].to_vec(), ..plan };
            }
            plan.context.partial = h.dice.is_multiple_of(7);
            if h.dice.is_multiple_of(5) {
                plan.credential_hosts = vec!["r.example".to_owned()];
            }
            Input::Submit(Submission {
                build,
                request_id: format!("r{}", h.build).parse().unwrap(),
                principal: Principal::local(),
                plan: Arc::new(plan),
                pool: Pool::Trusted,
                credentials: h.dice.is_multiple_of(2),
                heritage: None,
                lock: None,
            })
        }
        3 => Input::CredentialsSupplied { build },
        4..=6 => Input::LockResolved { build, lock: Arc::new(Lock::default()) },
        7 => Input::LockFailed { build, failure: failure(FailureClass::User) },
        8 | 9 => {
            farm.connections += 1;
            let name = format!("w{}", h.worker);
            let platforms = platforms[usize::try_from(h.worker).unwrap()];
            Input::WorkerJoined {
                connection: ConnectionId(farm.connections + 10),
                offer: Arc::new(offer(&name, platforms, 1 + u32::from(h.dice % 2))),
                running: vec![RunningAttempt { attempt, finished: h.dice.is_multiple_of(4) }],
            }
        }
        10 => Input::WorkerHeard {
            connection,
            sequence: 1,
            running: vec![attempt],
            problem: (h.dice == 0).then(String::new),
        },
        11 => Input::WorkerLeft { connection },
        12 => Input::LeaseAccepted { connection, attempt },
        13 => Input::LeaseRejected { connection, attempt, code: "no".to_owned(), message: String::new() },
        14 | 15 => Input::AttemptEnded {
            connection,
            attempt,
            outcome: match h.dice % 6 {
                0 => Err(failure(FailureClass::User)),
                1 if h.dice.is_multiple_of(5) => {
                    Err(Failure::new(FailureClass::Infrastructure, "context_incomplete", "more"))
                }
                1 => Err(failure(FailureClass::Infrastructure)),
                2 => Err(failure(FailureClass::Canceled)),
                _ => image(),
            },
            log_bytes: u64::from(h.dice),
            log_warning: h.dice.is_multiple_of(4).then(|| "clipped".to_owned()),
        },
        16 => Input::Cancel { build, principal: Principal::local(), reason: "why".to_owned() },
        17 => Input::DrainWorker {
            worker: format!("w{}", h.worker).parse().unwrap(),
            principal: Principal::local(),
            draining: h.dice.is_multiple_of(2),
        },
        18 => Input::IndexPrepared { build, index: Sha256::from_bytes([1; 32]), size: 1 },
        19 => Input::TagMoved { build, tag: tags[usize::from(h.dice % 2)].clone() },
        20 => match h.dice % 3 {
            0 => Input::PublishDone { build },
            1 => Input::Archived { build },
            _ => Input::PublishFailed {
                build,
                failure: failure(FailureClass::Infrastructure),
                retryable: h.dice.is_multiple_of(2),
            },
        },
        21 => Input::ContextIncomplete { build, reason: "more".to_owned() },
        22 => Input::ContextSupplied { build, context: testing::plan().context },
        _ => {
            if h.dice.is_multiple_of(8) {
                farm.now += limits::LEASE;
            }
            Input::Tick
        }
    };
    // Most of what happens at random is refused; that must change nothing either.
    drop(farm.give(input));
}

/// The state after these facts' records alone.
fn replay<'a>(facts: impl Iterator<Item = (u64, &'a Fact)>) -> State {
    let mut state = State::recovering();
    for (wall_ms, fact) in facts {
        let record = codec::encode(wall_ms, fact);
        assert_eq!(record.is_some(), fact.is_durable(), "{fact:?}");
        let Some(record) = record else { continue };
        let (wall_ms, read) = codec::decode(&record).unwrap();
        assert_eq!(read, *fact);
        evolve(&mut state, Moment { wall_ms, ..Moment::default() }, &read);
    }
    state
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn replaying_gives_the_very_ledger(happenings in happenings()) {
        let mut farm = Farm::default();
        for happening in &happenings {
            happen(&mut farm, happening);
        }
        let replayed = replay(farm.facts.iter().map(|(wall, fact)| (*wall, fact)));
        prop_assert_eq!(&replayed.ledger, &farm.state.ledger);
        let packed: Vec<Fact> = snapshot(&farm.state).collect();
        let restored = replay(packed.iter().map(|fact| (0, fact)));
        prop_assert_eq!(&restored.ledger, &farm.state.ledger);
        // What follows from the ledger is built again alike, whichever way it was replayed.
        prop_assert_eq!(restored.live.running, replayed.live.running);
        prop_assert_eq!(restored.live.lines.count(), replayed.live.lines.count());
    }
}
