//! `--platform`, `--trial` and `--cross`: what is built for, and what of it is special.

use std::collections::BTreeSet;

use archyard_model::{Invalid, Platform, limits};

use super::at_most;
use crate::{Host, PlanRequest};

/// Stands for `--platform` where that is not given, as with docker.
const ENVIRONMENT: &str = "DOCKER_DEFAULT_PLATFORM";
/// This machine's platform, as buildx calls it.
const LOCAL: &str = "local";

/// What a build is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Platforms {
    /// Those that are required, then those on trial.
    pub(crate) all: Vec<Platform>,
    /// Positions on trial.
    pub(crate) trial: BTreeSet<u16>,
    /// Positions that may be built elsewhere.
    pub(crate) cross: BTreeSet<u16>,
}

/// Reads the three flags. Where nothing is required, the environment's default is built for, else this machine's
/// platform.
pub(crate) fn platforms(request: &PlanRequest, host: &Host<'_>) -> Result<Platforms, Invalid> {
    let list = |flag, given: &[String]| list(flag, given, host.platforms);
    let environment = || (host.env)(ENVIRONMENT).filter(|text| !text.is_empty());
    let all = match (request.platforms.as_slice(), environment()) {
        ([], Some(default)) => list(ENVIRONMENT, &[default])?,
        ([], None) => list("--platform", &[LOCAL.to_owned()])?,
        (given, _) => list("--platform", given)?,
    };
    let tried = list("--trial", &request.trial)?;
    if all.iter().all(|platform| tried.contains(platform)) {
        let problem =
            "every platform is on trial, and nothing would be published; require one with --platform";
        return Err(Invalid::new("--trial", names(&tried), problem));
    }
    if let Some(both) = tried.iter().find(|platform| all.contains(platform)) {
        let problem = "it is required already; name it in one of --platform and --trial";
        return Err(Invalid::new("--trial", both, problem));
    }
    let (first, mut all) = (all.len(), all);
    all.extend(tried);
    at_most("--platform", all.len(), limits::PLAN_PLATFORMS)?;
    let trial = (first..all.len()).filter_map(|at| u16::try_from(at).ok()).collect();
    let cross = positions(&list("--cross", &request.cross)?, &all)?;
    Ok(Platforms { all, trial, cross })
}

/// Each once, as with docker, however often and in whatever spelling it is named; a value may hold several, with commas.
fn list(flag: &str, given: &[String], own: &[Platform]) -> Result<Vec<Platform>, Invalid> {
    let mut platforms: Vec<Platform> = Vec::new();
    for text in given.iter().flat_map(|list| list.split(',')).map(str::trim) {
        if text.contains(char::is_whitespace) {
            return Err(Invalid::new(
                flag,
                text,
                "put commas between platforms, as in linux/amd64,linux/arm64",
            ));
        }
        let named = match text.eq_ignore_ascii_case(LOCAL) {
            true if own.is_empty() => {
                let problem =
                    "this machine is none that images are built for; name a platform, as in linux/amd64";
                return Err(Invalid::new(flag, text, problem));
            }
            true => own.to_vec(),
            false => vec![text.parse().map_err(|error: Invalid| error.of(flag))?],
        };
        for platform in named {
            if !platforms.contains(&platform) {
                platforms.push(platform);
            }
        }
    }
    Ok(platforms)
}

fn positions(cross: &[Platform], all: &[Platform]) -> Result<BTreeSet<u16>, Invalid> {
    let position = |platform: &Platform| {
        let at = all.iter().position(|each| each == platform).and_then(|at| u16::try_from(at).ok());
        at.ok_or_else(|| {
            let problem = format!("the build has {}; name it in --platform or --trial too", names(all));
            Invalid::new("--cross", platform, problem)
        })
    };
    cross.iter().map(position).collect()
}

fn names(platforms: &[Platform]) -> String {
    platforms.iter().map(Platform::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::super::tests::strings;
    use super::*;

    fn on(
        environment: &str,
        own: &[Platform],
        required: &[&str],
        trial: &[&str],
        cross: &[&str],
    ) -> Result<Platforms, Invalid> {
        let host = Host {
            directory: "/".as_ref(),
            cache: None,
            platforms: own,
            proxies: &[],
            env: &|name| (name == ENVIRONMENT).then(|| environment.to_owned()),
            has_credentials: &|_| false,
            stdin: &|| Ok(Vec::new()),
        };
        let request = PlanRequest {
            platforms: strings(required),
            trial: strings(trial),
            cross: strings(cross),
            ..PlanRequest::new(".")
        };
        platforms(&request, &host)
    }

    fn ask(required: &[&str], trial: &[&str], cross: &[&str]) -> Result<Platforms, Invalid> {
        on("", &[Platform::new("linux", "amd64", "").unwrap()], required, trial, cross)
    }

    #[test]
    fn they_are_normalised_and_named_once() {
        let found = ask(&["linux/x86_64, linux/arm64/v8", "linux/arm"], &[], &[]).unwrap();
        assert_eq!(names(&found.all), "linux/amd64,linux/arm64,linux/arm/v7");
        assert_eq!(names(&ask(&[], &[], &[]).unwrap().all), "linux/amd64");
        for (given, remedy) in [
            (&["linux/amd46"][..], "did you mean linux/amd64"),
            (&["linux/amd64 linux/arm64"], "put commas between platforms"),
            (&["linux/amd64,"], "expected OS/ARCHITECTURE"),
            (&[""], "expected OS/ARCHITECTURE"),
        ] {
            let error = ask(given, &[], &[]).unwrap_err().to_string();
            assert!(error.starts_with("--platform ") && error.contains(remedy), "{error}");
            let error = ask(&["linux/386"], given, &[]).unwrap_err().to_string();
            assert!(error.starts_with("--trial ") && error.contains(remedy), "{error}");
        }
    }

    #[test]
    fn one_that_is_named_twice_counts_once() {
        let found = ask(
            &["linux/arm64,linux/386", "linux/arm64/v8", "aarch64"],
            &["s390x,s390x"],
            &["386,linux/386"],
        );
        let found = found.unwrap();
        assert_eq!(names(&found.all), "linux/arm64,linux/386,linux/s390x");
        assert_eq!((found.trial, found.cross), ([2].into(), [1].into()));
    }

    #[test]
    fn local_is_this_machine() {
        assert_eq!(
            names(&ask(&["local,linux/arm64", "linux/amd64"], &[], &[]).unwrap().all),
            "linux/amd64,linux/arm64"
        );
        assert_eq!(ask(&["linux/386"], &["LOCAL"], &["local"]).unwrap().trial, [1].into());
        for (required, want) in [(&[][..], "--platform \"local\": "), (&["Local"], "--platform \"Local\": ")]
        {
            let error = on("", &[], required, &[], &[]).unwrap_err().to_string();
            assert!(error.starts_with(want) && error.contains("name a platform"), "{error}");
        }
        assert_eq!(names(&on("", &[], &["linux/386"], &[], &[]).unwrap().all), "linux/386");
    }

    #[test]
    fn the_environment_has_a_default() {
        let own = [Platform::new("linux", "amd64", "").unwrap()];
        let ask = |required: &[&str]| on("linux/arm64/v8,local", &own, required, &[], &[]);
        assert_eq!(names(&ask(&[]).unwrap().all), "linux/arm64,linux/amd64");
        assert_eq!(names(&ask(&["linux/386"]).unwrap().all), "linux/386");
        let error = on("linux/amd46", &own, &[], &[], &[]).unwrap_err().to_string();
        assert!(error.starts_with("DOCKER_DEFAULT_PLATFORM \"linux/amd46\": "), "{error}");
    }

    #[test]
    fn trials_come_after_what_is_required() {
        let found = ask(&["linux/arm64"], &["linux/riscv64,linux/386"], &["linux/riscv64", "linux/arm64"]);
        let found = found.unwrap();
        assert_eq!(names(&found.all), "linux/arm64,linux/riscv64,linux/386");
        assert_eq!(found.trial, [1, 2].into());
        assert_eq!(found.cross, [0, 1].into());
        let found = ask(&[], &["linux/386"], &[]).unwrap();
        assert_eq!((names(&found.all).as_str(), found.trial), ("linux/amd64,linux/386", [1].into()));
    }

    #[test]
    fn contradictions_are_refused() {
        for (required, trial, cross, want) in [
            (
                &["linux/arm64,linux/386"][..],
                &["linux/arm64/v8"][..],
                &[][..],
                "--trial \"linux/arm64\": it is required already",
            ),
            (&["linux/386"], &["linux/386"], &[], "--trial \"linux/386\": every platform is on trial"),
            (&[], &["linux/amd64"], &[], "--trial \"linux/amd64\": every platform is on trial"),
            (&["linux/386"], &[], &["linux/arm64"], "--cross \"linux/arm64\": the build has linux/386; name"),
            (&["linux/386"], &[], &["arm46"], "--cross \"arm46\": expected OS/ARCHITECTURE"),
        ] {
            let error = ask(required, trial, cross).unwrap_err().to_string();
            assert!(error.starts_with(want), "{error}");
        }
        let many = "linux/386,linux/amd64,linux/arm64,linux/arm64/v9,linux/riscv64,linux/s390x,linux/mips,\
                    linux/mipsle,linux/ppc64,linux/ppc64le,linux/loong64,linux/mips64,linux/mips64le,\
                    linux/arm/v5,linux/arm/v6,linux/arm/v7,linux/amd64/v2,linux/amd64/v3,linux/amd64/v4";
        assert_eq!(ask(&[many], &["linux/arm/v8"], &[]).unwrap().trial, [19].into());
    }
}
