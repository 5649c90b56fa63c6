//! `--platform`, `--trial` and `--cross`: what is built for, and what of it is special.

use std::collections::BTreeSet;

use archyard_model::{Invalid, Platform, limits};

use super::at_most;

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

/// Reads the three flags; `default` is built for where none is required.
pub(crate) fn platforms(
    required: &[String],
    trial: &[String],
    cross: &[String],
    default: &[Platform],
) -> Result<Platforms, Invalid> {
    if required.is_empty() && default.is_empty() {
        return Err(Invalid::new("--platform", "", "name at least one, as in linux/amd64,linux/arm64"));
    }
    let mut all = list("--platform", required)?;
    if required.is_empty() {
        all.extend_from_slice(default);
    }
    let tried = list("--trial", trial)?;
    if all.iter().all(|platform| tried.contains(platform)) {
        let problem =
            "every platform is on trial, and nothing would be published; require one with --platform";
        return Err(Invalid::new("--trial", names(&tried), problem));
    }
    if let Some(both) = tried.iter().find(|platform| all.contains(platform)) {
        let problem = "it is required already; name it in one of --platform and --trial";
        return Err(Invalid::new("--trial", both, problem));
    }
    let first = all.len();
    all.extend(tried);
    at_most("--platform", all.len(), limits::PLAN_PLATFORMS)?;
    let trial = (first..all.len()).filter_map(|at| u16::try_from(at).ok()).collect();
    let cross = positions(&list("--cross", cross)?, &all)?;
    Ok(Platforms { all, trial, cross })
}

/// Each once; a value may hold several, with commas.
fn list(flag: &str, given: &[String]) -> Result<Vec<Platform>, Invalid> {
    let mut platforms: Vec<Platform> = Vec::new();
    for text in given.iter().flat_map(|list| list.split(',')).map(str::trim) {
        let platform: Platform = text.parse().map_err(|error: Invalid| error.of(flag))?;
        if platforms.contains(&platform) {
            let problem = format!("{platform} is asked for twice; name each platform once");
            return Err(Invalid::new(flag, text, problem));
        }
        platforms.push(platform);
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

    fn ask(required: &[&str], trial: &[&str], cross: &[&str]) -> Result<Platforms, Invalid> {
        let default = [Platform::new("linux", "amd64", "").unwrap()];
        platforms(&strings(required), &strings(trial), &strings(cross), &default)
    }

    #[test]
    fn they_are_normalised_and_named_once() {
        let found = ask(&["linux/x86_64, linux/arm64/v8", "linux/arm"], &[], &[]).unwrap();
        assert_eq!(names(&found.all), "linux/amd64,linux/arm64,linux/arm/v7");
        assert_eq!(names(&ask(&[], &[], &[]).unwrap().all), "linux/amd64");
        for (given, remedy) in [
            (&["linux/arm64", "linux/arm64/v8"][..], "\"linux/arm64/v8\": linux/arm64 is asked for twice"),
            (&["linux/amd46"], "did you mean linux/amd64"),
            (&["linux/amd64,"], "expected OS/ARCHITECTURE"),
            (&[""], "expected OS/ARCHITECTURE"),
        ] {
            let error = ask(given, &[], &[]).unwrap_err().to_string();
            assert!(error.starts_with("--platform ") && error.contains(remedy), "{error}");
            let error = ask(&["linux/386"], given, &[]).unwrap_err().to_string();
            assert!(error.starts_with("--trial ") && error.contains(remedy), "{error}");
        }
        assert_eq!(platforms(&[], &[], &[], &[]).unwrap_err().field, "--platform");
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
            (
                &["linux/386"],
                &[],
                &["linux/386,linux/386"],
                "--cross \"linux/386\": linux/386 is asked for twice",
            ),
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
