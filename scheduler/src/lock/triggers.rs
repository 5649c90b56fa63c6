//! What bases of a cross build would run where nothing may run: their `ONBUILD RUN`s.
//!
//! The Dockerfile's own `RUN`s are refused when it is planned; those of a base stand in its config. A worker would
//! notice them only when they have failed, and not at all where an emulator runs them.

use std::collections::{BTreeMap, BTreeSet};

use archyard_model::{Base, BaseKind, Failure, FailureClass, Plan, Platform, Reference};
use tokio::time::Instant;

use super::check;
use super::offer::{self, Offer};
use crate::registry::{Cause, Error, Registry};

/// A trigger quoted in a message.
const QUOTED_CHARACTERS: usize = 120;

/// Refuses the first base whose trigger would run for a required cross job. Gives the jobs on trial for which one
/// would, each with its first such base.
///
/// A registry that stops answering leaves its images unasked, as it leaves them unlocked.
pub(super) async fn check(
    registry: &Registry,
    plan: &Plan,
    offers: &BTreeMap<String, Offer>,
    deadline: Instant,
) -> Result<BTreeMap<u16, Failure>, Failure> {
    let mut refused = BTreeMap::new();
    let mut harmless = BTreeSet::new();
    for target in targets(plan) {
        let Some(offer) = offers.get(&target.image.to_string()) else { continue };
        for digest in target.candidates(offer) {
            if harmless.contains(&(target.image, digest)) {
                continue;
            }
            let asking = offer::triggers(registry, target.image, digest);
            let Ok(asked) = tokio::time::timeout_at(deadline, asking).await else { return Ok(refused) };
            match target.judge(plan, asked) {
                None => {
                    harmless.insert((target.image, digest));
                }
                Some(failure) if plan.is_trial(target.job) => {
                    refused.entry(target.job).or_insert(failure);
                }
                Some(failure) => return Err(failure),
            }
        }
    }
    Ok(refused)
}

/// Where a cross job takes an image of its own platform.
struct Target<'a> {
    base: &'a Base,
    image: &'a Reference,
    job: u16,
    platform: &'a Platform,
}

impl Target<'_> {
    /// The images that an Engine may take for this platform.
    fn candidates<'a>(&self, offer: &'a Offer) -> impl Iterator<Item = &'a str> {
        let fitting = offer.images.iter().filter(|(offered, _)| offered.satisfies(self.platform));
        fitting.map(|(_, digest)| digest.as_str())
    }

    fn judge(&self, plan: &Plan, asked: Result<Vec<String>, Error>) -> Option<Failure> {
        let (place, image, platform) = (check::line(plan, self.base), self.image, self.platform);
        match asked {
            Ok(triggers) => triggers.iter().find(|trigger| runs(trigger)).map(|trigger| {
                let text = format!(
                    "{place}: {image} has the trigger \"ONBUILD {}\", which would run on {platform}, and --cross \
                     {platform} runs nothing there; take a base without it, or leave out --cross",
                    quote(trigger)
                );
                Failure::new(FailureClass::User, "cross_run", text)
            }),
            Err(error) if matches!(error.cause, Cause::Unreachable | Cause::Failing | Cause::Tls) => None,
            Err(error) => {
                let text = format!(
                    "{place}: whether {image} has ONBUILD triggers, which --cross must know, cannot be told: {}; mend \
                     the image, or leave out --cross",
                    error.detail
                );
                Some(Failure::new(FailureClass::User, "base_unusable", text))
            }
        }
    }
}

/// `COPY --from` counts: BuildKit makes a stage of it, triggers and all.
fn targets(plan: &Plan) -> impl Iterator<Item = Target<'_>> {
    let bases = plan.bases.iter().filter(|base| base.kind != BaseKind::Syntax);
    let uses = bases.flat_map(|base| base.uses.iter().map(move |used| (base, used)));
    uses.filter_map(|(base, used)| {
        let target = plan.platforms.get(usize::from(used.job))?;
        let platform = used.platform.as_ref().filter(|platform| *platform == target)?;
        let crosses = plan.cross.contains(&used.job);
        crosses.then_some(Target { base, image: &used.image, job: used.job, platform })
    })
}

/// Whether an instruction runs something; case does not matter, nor what stands before.
fn runs(trigger: &str) -> bool {
    let word = trigger.split(|c: char| c.is_whitespace() || c == '\\').find(|word| !word.is_empty());
    word.is_some_and(|word| word.eq_ignore_ascii_case("RUN"))
}

/// On one line, and short: it is a stranger's text.
pub(super) fn quote(trigger: &str) -> String {
    let plain: String = trigger.chars().filter(|c| c.is_whitespace() || !c.is_control()).collect();
    let words = plain.split_whitespace().collect::<Vec<_>>().join(" ");
    let shown: String = words.chars().take(QUOTED_CHARACTERS).collect();
    if shown.len() < words.len() { format!("{shown}…") } else { shown }
}

#[cfg(test)]
mod tests {
    use archyard_model::BaseUse;

    use super::*;

    #[test]
    fn what_runs_is_told_from_what_copies() {
        for trigger in
            ["RUN make", "run make", "  Run\tx", "RUN [\"x\"]", "RUN\\\nx", "RUN --mount=type=cache x"]
        {
            assert!(runs(trigger), "{trigger:?}");
        }
        for trigger in ["COPY . /", "ENV RUN=x", "RUNNER x", "", "LABEL a=RUN"] {
            assert!(!runs(trigger), "{trigger:?}");
        }
    }

    #[test]
    fn only_images_of_the_target_of_a_cross_job_are_asked() {
        let base = |kind, platform: Option<&str>| {
            let image = "debian:12".parse().unwrap();
            let uses = [0, 1].map(|job| BaseUse {
                job,
                image: Reference::clone(&image),
                platform: platform.map(|platform| platform.parse().unwrap()),
            });
            Base { kind, line: 1, span: 0..1, token: "d".to_owned(), uses: uses.into() }
        };
        let plan = Plan {
            platforms: ["linux/amd64", "linux/arm64"].map(|platform| platform.parse().unwrap()).into(),
            cross: [1].into(),
            bases: vec![
                base(BaseKind::From, Some("linux/arm64")),
                base(BaseKind::CopyFrom, Some("linux/arm64")),
                base(BaseKind::From, None),
                base(BaseKind::From, Some("linux/amd64")),
                base(BaseKind::Syntax, Some("linux/arm64")),
            ],
            ..crate::testing::plan()
        };
        let asked: Vec<(BaseKind, u16)> =
            targets(&plan).map(|target| (target.base.kind, target.job)).collect();
        assert_eq!(asked, [(BaseKind::From, 1), (BaseKind::CopyFrom, 1)]);
    }

    #[test]
    fn a_trigger_is_quoted_on_one_short_line() {
        assert_eq!(quote("RUN a \\\n\u{1b}[31m b"), "RUN a \\ [31m b");
        assert_eq!(quote(&format!("RUN {}", "x".repeat(500))).chars().count(), QUOTED_CHARACTERS + 1);
    }
}
