//! Whether what a plan's bases offer is what its jobs need.

use std::collections::BTreeMap;

use archyard_model::{Base, BaseKind, BaseUse, Failure, FailureClass, Plan, Platform, Reference};

use super::offer::Offer;

/// Platforms named in one message; a base may offer dozens.
const NAMED: usize = 16;

/// Refuses the first base that cannot serve all required jobs that need it. Gives the jobs on trial that a base cannot
/// serve, each with its first such base.
pub(super) fn platforms(
    plan: &Plan,
    offers: &BTreeMap<String, Offer>,
) -> Result<BTreeMap<u16, Failure>, Failure> {
    let mut refused = BTreeMap::new();
    for base in plan.bases.iter().filter(|base| base.kind != BaseKind::Syntax) {
        for used in &base.uses {
            let Some(offer) = offers.get(&used.image.to_string()) else { continue };
            if serves(plan, used, offer) {
                continue;
            }
            let trial = plan.is_trial(used.job);
            let failure = refuse(plan, base, &used.image, offer, trial);
            if !trial {
                return Err(failure);
            }
            refused.entry(used.job).or_insert(failure);
        }
    }
    Ok(refused)
}

/// `Dockerfile:3`, the first line that names this image.
pub(super) fn place(plan: &Plan, image: &Reference) -> String {
    let base = plan.bases.iter().find(|base| base.uses.iter().any(|used| used.image == *image));
    base.map_or_else(|| plan.dockerfile_name.clone(), |base| line(plan, base))
}

pub(super) fn line(plan: &Plan, base: &Base) -> String {
    format!("{}:{}", plan.dockerfile_name, base.line)
}

fn serves(plan: &Plan, used: &BaseUse, offer: &Offer) -> bool {
    // The worker's own platform may be any where its job may be built by any.
    if used.platform.is_none() && plan.cross.contains(&used.job) {
        return true;
    }
    wanted(plan, used).iter().any(|wanted| offer.platforms.iter().any(|platform| platform.satisfies(wanted)))
}

/// What one use is content with: its platform, or, on the worker's own, either of those a worker may have.
pub(super) fn wanted(plan: &Plan, used: &BaseUse) -> Vec<Platform> {
    match &used.platform {
        Some(platform) => vec![platform.clone()],
        None => match plan.platforms.get(usize::from(used.job)) {
            Some(job) => vec![job.host(), job.clone()],
            None => Vec::new(),
        },
    }
}

/// `trial`: speaks of the jobs on trial, else of the others.
fn refuse(plan: &Plan, base: &Base, image: &Reference, offer: &Offer, trial: bool) -> Failure {
    let flag = if trial { "--trial" } else { "--platform" };
    let mut lacking: Vec<String> = base
        .uses
        .iter()
        .filter(|used| used.image == *image && plan.is_trial(used.job) == trial && !serves(plan, used, offer))
        .filter_map(|used| wanted(plan, used).first().map(Platform::to_string))
        .collect();
    lacking.dedup();
    let lacking = lacking.join(", ");
    let has = named(&offer.platforms);
    let place = line(plan, base);
    let (code, message) = if offer.lone {
        (
            "base_wrong_platform",
            format!(
                "{place}: {image} is one image for {has} and no index; a build for {lacking} would get foreign files. \
                 Name an image made for {lacking}"
            ),
        )
    } else {
        (
            "base_lacks_platform",
            format!(
                "{place}: {image} has no {lacking}; it has {has}. Leave {lacking} out of {flag}, or name a base \
                 that has it"
            ),
        )
    };
    Failure::new(FailureClass::User, code, message)
}

fn named(platforms: &[Platform]) -> String {
    if platforms.is_empty() {
        return "no platform that this farm knows".to_owned();
    }
    let mut text = platforms.iter().take(NAMED).map(Platform::to_string).collect::<Vec<_>>().join(", ");
    if let Some(more) = platforms.len().checked_sub(NAMED).filter(|more| *more > 0) {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

#[cfg(test)]
mod tests {
    use archyard_model::Sha256;

    use super::*;

    fn plan(platforms: &[&str], uses: &[Option<&str>]) -> Plan {
        let image: Reference = "debian:stable-slim".parse().unwrap();
        let uses = uses
            .iter()
            .zip(0..)
            .map(|(platform, job)| BaseUse {
                job,
                image: image.clone(),
                platform: platform.map(|platform| platform.parse().unwrap()),
            })
            .collect();
        let base = Base { kind: BaseKind::From, line: 3, span: 0..1, token: "d".to_owned(), uses };
        Plan {
            platforms: platforms.iter().map(|platform| platform.parse().unwrap()).collect(),
            bases: vec![base],
            ..crate::testing::plan()
        }
    }

    fn offers(platforms: &[&str], lone: bool) -> BTreeMap<String, Offer> {
        let offer = Offer {
            digest: Sha256::from_bytes([0; 32]),
            platforms: platforms.iter().map(|platform| platform.parse().unwrap()).collect(),
            images: Vec::new(),
            lone,
        };
        BTreeMap::from([("docker.io/library/debian:stable-slim".to_owned(), offer)])
    }

    #[test]
    fn a_lacking_platform_is_named_with_line_and_offer() {
        let plan = plan(
            &["linux/amd64", "linux/riscv64", "linux/s390x"],
            &[Some("linux/amd64"), Some("linux/riscv64"), Some("linux/s390x")],
        );
        let failure = platforms(&plan, &offers(&["linux/amd64", "linux/arm64"], false)).unwrap_err();
        assert_eq!(failure.code, "base_lacks_platform");
        assert_eq!(
            failure.message,
            "Dockerfile:3: docker.io/library/debian:stable-slim has no linux/riscv64, linux/s390x; it has \
             linux/amd64, linux/arm64. Leave linux/riscv64, linux/s390x out of --platform, or name a base that has it"
        );
    }

    #[test]
    fn what_is_on_trial_is_refused_alone() {
        let needed = [Some("linux/amd64"), Some("linux/riscv64")];
        let plan = Plan { trial: [1].into(), ..plan(&["linux/amd64", "linux/riscv64"], &needed) };
        let refused = platforms(&plan, &offers(&["linux/amd64"], false)).unwrap();
        assert_eq!(refused.keys().collect::<Vec<_>>(), [&1]);
        assert!(refused[&1].message.contains("Leave linux/riscv64 out of --trial"), "{}", refused[&1]);
        let failure = platforms(&plan, &offers(&["linux/s390x"], false)).unwrap_err();
        assert!(failure.message.contains("has no linux/amd64; it has"), "{failure}");
    }

    #[test]
    fn a_cross_build_runs_on_whatever_worker() {
        let plan = Plan { cross: [0].into(), ..plan(&["linux/arm64"], &[None]) };
        assert!(platforms(&plan, &offers(&["linux/amd64"], false)).is_ok());
    }

    #[test]
    fn a_lone_manifest_of_another_platform_is_told_apart() {
        let plan = plan(&["linux/386"], &[Some("linux/386")]);
        let failure = platforms(&plan, &offers(&["linux/amd64"], true)).unwrap_err();
        assert_eq!(failure.code, "base_wrong_platform");
        assert!(
            failure.message.contains("Dockerfile:3") && failure.message.contains("linux/amd64"),
            "{failure}"
        );
        assert!(platforms(&plan, &offers(&["linux/386"], true)).is_ok());
    }

    #[test]
    fn variants_that_ask_no_more_will_do() {
        for (wanted, offered) in [
            ("linux/arm/v7", "linux/arm/v6"),
            ("linux/amd64/v3", "linux/amd64"),
            ("linux/arm64", "linux/arm64/v8"),
        ] {
            let plan = plan(&[wanted], &[Some(wanted)]);
            assert!(platforms(&plan, &offers(&[offered], false)).is_ok(), "{offered} for {wanted}");
        }
        let plan = plan(&["linux/amd64"], &[Some("linux/amd64")]);
        assert!(platforms(&plan, &offers(&["linux/amd64/v3"], false)).is_err());
    }

    #[test]
    fn the_workers_own_platform_is_the_hosts_or_the_jobs() {
        let plan = plan(&["linux/386"], &[None]);
        assert!(platforms(&plan, &offers(&["linux/amd64"], false)).is_ok());
        assert!(platforms(&plan, &offers(&["linux/386"], false)).is_ok());
        assert!(platforms(&plan, &offers(&["linux/arm64"], false)).is_err());
    }

    #[test]
    fn a_frontend_runs_where_buildkit_runs() {
        let mut plan = plan(&["linux/386"], &[Some("linux/386")]);
        plan.bases[0].kind = BaseKind::Syntax;
        assert!(platforms(&plan, &offers(&["linux/arm64"], false)).is_ok());
    }
}
