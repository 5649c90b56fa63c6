//! The flags of `archyard build`, parsed: each error names its flag, the value and what would be right.

mod annotations;
mod arguments;
mod checks;
mod platforms;

use std::collections::BTreeMap;

use archyard_model::{Invalid, Output, Reference, limits};

pub(crate) use annotations::annotations;
pub(crate) use arguments::build_args;
pub(crate) use checks::checks;
pub(crate) use platforms::{Platforms, platforms};

/// `--tag`. One that is given twice is one.
///
/// # Errors
/// What is no name, or has a digest; none at all where `output` is a push.
pub fn tags(given: &[String], output: Output) -> Result<Vec<Reference>, Invalid> {
    let mut tags: Vec<Reference> = Vec::new();
    for text in given {
        let tag: Reference = text.parse().map_err(|error: Invalid| error.of("--tag"))?;
        if tag.digest().is_some() {
            let problem =
                "a tag cannot have a digest, which is what the build decides; leave out '@sha256:...'";
            return Err(Invalid::new("--tag", text, problem));
        }
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    if tags.is_empty() && output == Output::Push {
        return Err(Invalid::new("--tag", "", "--push needs a name to push to; add --tag REGISTRY/NAME:TAG"));
    }
    at_most("--tag", tags.len(), limits::PLAN_TAGS)?;
    Ok(tags)
}

/// `--candidate`: the repository that holds it, for that output alone.
pub(crate) fn staging(given: Option<&str>, output: Output) -> Result<Option<String>, Invalid> {
    let flag = "--candidate";
    let Some(name) = given.filter(|_| output == Output::Candidate) else { return Ok(None) };
    let reference: Reference = name.parse().map_err(|error: Invalid| error.of(flag))?;
    let last = name.rsplit('/').next().unwrap_or(name);
    if reference.digest().is_some() || last.contains(':') {
        let problem = format!("expected a repository without tag or digest, as in {}", reference.name());
        return Err(Invalid::new(flag, name, problem));
    }
    Ok(Some(reference.name()))
}

/// `--label`.
pub(crate) fn labels(given: &[String]) -> Result<BTreeMap<String, String>, Invalid> {
    let mut pairs = BTreeMap::new();
    for text in given {
        let (name, value) = pair("--label", text)?;
        pairs.insert(name.to_owned(), value.unwrap_or_default());
    }
    check_pairs("--label", pairs)
}

/// `--insecure-registry`, sorted.
///
/// # Errors
/// What is no `HOST[:PORT]`.
pub fn insecure_registries(given: &[String]) -> Result<Vec<String>, Invalid> {
    let mut hosts = given.to_vec();
    for host in &hosts {
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
            _ => (host.as_str(), None),
        };
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
        if name.is_empty()
            || !name.chars().all(is_name)
            || port.is_some_and(|port| port.parse::<u16>().is_err())
        {
            let problem = "expected HOST[:PORT], as in registry.example:5000, without scheme or path";
            return Err(Invalid::new("--insecure-registry", host, problem));
        }
    }
    hosts.sort();
    hosts.dedup();
    at_most("--insecure-registry", hosts.len(), limits::PLAN_REGISTRIES)?;
    Ok(hosts)
}

/// `NAME=VALUE`, or `NAME`.
fn pair<'a>(flag: &str, text: &'a str) -> Result<(&'a str, Option<String>), Invalid> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text, None),
    };
    if name.trim().is_empty() || name.contains('\0') {
        return Err(Invalid::new(flag, text, "expected NAME=VALUE with a name"));
    }
    Ok((name, value))
}

fn check_pairs(flag: &str, pairs: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, Invalid> {
    at_most(flag, pairs.len(), limits::PLAN_PAIRS)?;
    let bytes: usize = pairs.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > limits::PLAN_PAIRS_BYTES {
        let problem =
            format!("all together may have at most {} bytes; shorten them", limits::PLAN_PAIRS_BYTES);
        return Err(Invalid::new(flag, format!("{bytes} bytes"), problem));
    }
    Ok(pairs)
}

fn at_most(flag: &str, count: usize, limit: usize) -> Result<(), Invalid> {
    if count > limit {
        let problem = format!("may be given at most {limit} times; leave some out");
        return Err(Invalid::new(flag, format!("{count} times"), problem));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn strings(given: &[&str]) -> Vec<String> {
        given.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn tags_have_a_name_and_no_digest() {
        let found = tags(&strings(&["x/y", "docker.io/x/y:latest", "x/y:2"]), Output::Push).unwrap();
        assert_eq!(found.len(), 2);
        let digest = format!("x@sha256:{}", "0".repeat(64));
        for (given, remedy) in [
            (&["Up/Case"][..], "lowercase"),
            (&["a b"], "expected"),
            (&[&digest], "leave out '@sha256"),
            (&[], "add --tag"),
        ] {
            let error = tags(&strings(given), Output::Push).unwrap_err().to_string();
            assert!(error.starts_with("--tag ") && error.contains(remedy), "{error}");
        }
        assert_eq!(tags(&[], Output::Check), Ok(Vec::new()));
        let many: Vec<String> = (0..65).map(|n| format!("x:{n}")).collect();
        assert!(tags(&many, Output::Check).unwrap_err().to_string().contains("at most 64"));
    }

    #[test]
    fn candidates_wait_in_a_repository() {
        let ask = |name: &str| staging(Some(name), Output::Candidate);
        assert_eq!(ask("r.example:5000/staging").unwrap().as_deref(), Some("r.example:5000/staging"));
        assert_eq!(ask("x/y").unwrap().as_deref(), Some("docker.io/x/y"));
        assert_eq!(staging(None, Output::Push), Ok(None));
        let digest = format!("x@sha256:{}", "0".repeat(64));
        for (given, remedy) in [
            ("r.example/x:1", "without tag or digest, as in r.example/x"),
            (&digest, "without tag or digest"),
            ("Up/Case", "lowercase"),
            ("", "expected"),
        ] {
            let error = ask(given).unwrap_err().to_string();
            assert!(error.starts_with("--candidate ") && error.contains(remedy), "{error}");
        }
    }

    #[test]
    fn labels_may_be_empty() {
        let want = [("a", ""), ("b", "c")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(labels(&strings(&["a", "b=c"])).unwrap(), want.into());
        assert_eq!(labels(&strings(&["=c"])).unwrap_err().field, "--label");
    }

    #[test]
    fn insecure_registries_are_hosts() {
        let found = insecure_registries(&strings(&["b:5000", "a", "[::1]:80", "a"])).unwrap();
        assert_eq!(found, ["[::1]:80", "a", "b:5000"]);
        for bad in ["http://x", "x/y", "", ":5000", "x:port", "x:99999"] {
            assert_eq!(
                insecure_registries(&strings(&[bad])).unwrap_err().field,
                "--insecure-registry",
                "{bad}"
            );
        }
    }
}
