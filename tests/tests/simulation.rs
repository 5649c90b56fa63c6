//! The farm under faults: seeds that decide who crashes, what is late and what never arrives.
//!
//! `ARCHYARD_SIM_SEEDS=20000` runs more of them, `ARCHYARD_SIM_SEED=17` one and prints every fact as it comes.

use archyard_tests::sim::{Report, Trace, run};

const SEEDS: u64 = 300;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn no_fault_breaks_an_invariant() {
    if let Some(seed) = number("ARCHYARD_SIM_SEED") {
        println!("{:#?}", run(seed, Trace::Print));
        return;
    }
    let seeds = number("ARCHYARD_SIM_SEEDS").unwrap_or(SEEDS);
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let total = std::thread::scope(|scope| {
        let part = |first: u64| {
            scope.spawn(move || {
                (first..seeds)
                    .step_by(threads)
                    .map(some)
                    .fold(Report::default(), |total, one| add(total, &one))
            })
        };
        let parts: Vec<_> = (0..).take(threads).map(part).collect();
        parts
            .into_iter()
            .map(|part| part.join().unwrap())
            .fold(Report::default(), |total, one| add(total, &one))
    });
    println!("{total:#?}");
    // A simulation in which nothing happens proves nothing.
    assert!(total.crashes > total.builds / 10 && total.left_alone > 0 && total.canceled > 0);
    assert!(total.succeeded > total.builds / 4 && total.moves > 0);
    assert!(total.reruns > 0 && total.promotions > 0 && total.crossed > 0);
    assert!(total.failed_trials > 0 && total.published_early > 0);
}

#[test]
fn one_seed_twice_is_one_history() {
    for seed in 0..3 {
        let (first, second) = (run(seed, Trace::Keep), run(seed, Trace::Keep));
        assert!(!first.trace.is_empty() && first == second, "seed {seed} gave two histories");
    }
}

fn some(seed: u64) -> Report {
    run(seed, Trace::Forget)
}

fn add(mut total: Report, one: &Report) -> Report {
    total.builds += one.builds;
    total.succeeded += one.succeeded;
    total.failed += one.failed;
    total.canceled += one.canceled;
    total.crashes += one.crashes;
    total.leases += one.leases;
    total.moves += one.moves;
    total.left_alone += one.left_alone;
    total.reruns += one.reruns;
    total.promotions += one.promotions;
    total.crossed += one.crossed;
    total.failed_trials += one.failed_trials;
    total.published_early += one.published_early;
    total.steps += one.steps;
    total
}
