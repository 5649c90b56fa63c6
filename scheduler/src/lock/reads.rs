//! Bases that make a build read more of its context than its Dockerfile says: their `ONBUILD` instructions copy from it.
//!
//! Only a build that was submitted with a part of its context is asked about them. What a trigger names is not told
//! apart: a base that copies at all needs the whole context.

use std::collections::{BTreeMap, BTreeSet};

use archyard_model::{BaseKind, Plan, Platform, Reference};
use futures_util::StreamExt as _;
use tokio::time::Instant;

use super::AT_ONCE;
use super::check::{line, wanted};
use super::offer::{self, Offer};
use super::triggers::quote;
use crate::registry::Registry;

/// Why the part of the context that a plan has may not be enough; None: no base that was found reads more.
///
/// An image that its registry could not give has no answer here. Its worker notices what is missing.
pub(super) async fn more(
    registry: &Registry,
    plan: &Plan,
    offers: &BTreeMap<String, Offer>,
    deadline: Instant,
) -> Option<String> {
    if !plan.context.partial {
        return None;
    }
    let asked: Vec<_> = images(plan, offers)
        .into_iter()
        .map(|(place, image, digest)| ask(registry, place, image, digest, deadline))
        .collect();
    let reasons: Vec<Option<String>> = futures_util::stream::iter(asked).buffered(AT_ONCE).collect().await;
    reasons.into_iter().flatten().next()
}

/// Why one image may read more than was planned.
async fn ask(
    registry: &Registry,
    place: String,
    image: &Reference,
    digest: &str,
    deadline: Instant,
) -> Option<String> {
    let unknown = |why: &str| format!("{place}: whether {image} has ONBUILD triggers is not known: {why}");
    Some(match tokio::time::timeout_at(deadline, offer::triggers(registry, image, digest)).await {
        Ok(Ok(triggers)) => {
            let trigger = triggers.iter().find(|trigger| reads_context(trigger))?;
            format!("{place}: {image} has the trigger \"ONBUILD {}\"", quote(trigger))
        }
        Ok(Err(error)) => unknown(&error.detail),
        Err(_) => unknown("its registry is slow"),
    })
}

/// Each image that a job may start from, once, with the place that names it first. `COPY --from` counts: BuildKit makes
/// a stage of it, triggers and all.
fn images<'a>(
    plan: &'a Plan,
    offers: &'a BTreeMap<String, Offer>,
) -> BTreeSet<(String, &'a Reference, &'a str)> {
    let mut seen = BTreeSet::new();
    let mut images = BTreeSet::new();
    for base in plan.bases.iter().filter(|base| base.kind != BaseKind::Syntax) {
        for used in &base.uses {
            let Some(offer) = offers.get(&used.image.to_string()) else { continue };
            let wanted = wanted(plan, used);
            let fits = |platform: &Platform| wanted.iter().any(|wanted| platform.satisfies(wanted));
            for (_, digest) in offer.images.iter().filter(|(platform, _)| fits(platform)) {
                if seen.insert((&used.image, digest)) {
                    images.insert((line(plan, base), &used.image, digest.as_str()));
                }
            }
        }
    }
    images
}

/// Whether a trigger copies from the context, or mounts it. In doubt it does.
fn reads_context(trigger: &str) -> bool {
    let words: Vec<&str> =
        trigger.split(|c: char| c.is_whitespace() || c == '\\').filter(|w| !w.is_empty()).collect();
    let is = |name: &str| words.first().is_some_and(|word| word.eq_ignore_ascii_case(name));
    let has = |start: &str| words.iter().any(|word| word.to_ascii_lowercase().starts_with(start));
    match () {
        () if is("COPY") => !has("--from="),
        () if is("ADD") => true,
        () if is("RUN") => has("--mount"),
        () => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_reads_the_context_is_told_from_what_does_not() {
        for trigger in [
            "COPY . /app",
            "copy --chown=1 a b",
            "ADD a b",
            "RUN --mount=type=bind,target=/x make",
            " Copy\ta b",
        ] {
            assert!(reads_context(trigger), "{trigger}");
        }
        for trigger in ["RUN make", "COPY --from=builder /a /b", "ENV COPY=1", "WORKDIR /copy", ""] {
            assert!(!reads_context(trigger), "{trigger}");
        }
    }
}
