//! `--build-arg`, and the build arguments that the environment adds.

use std::collections::BTreeMap;

use archyard_model::Invalid;

use super::{check_pairs, pair};
use crate::Host;

const FLAG: &str = "--build-arg";
/// The time that an image claims to be from, as reproducible-builds.org defines it.
const SOURCE_DATE_EPOCH: &str = "SOURCE_DATE_EPOCH";

/// Those of the request; then, where it has none of that name, `SOURCE_DATE_EPOCH` and the user's proxies. A bare name
/// that the environment lacks is left out, with a warning.
pub(crate) fn build_args(
    given: &[String],
    host: &Host<'_>,
    warnings: &mut Vec<String>,
) -> Result<BTreeMap<String, String>, Invalid> {
    let mut pairs = BTreeMap::new();
    let mut named: Vec<&str> = Vec::new();
    for text in given {
        let (name, value) = pair(FLAG, text)?;
        named.push(name);
        match value.or_else(|| (host.env)(name)) {
            Some(value) => {
                pairs.insert(name.to_owned(), value);
            }
            None => warnings.push(format!("{FLAG} {name}: the environment has no {name}; left out")),
        }
    }
    if !named.contains(&SOURCE_DATE_EPOCH)
        && let Some(value) = (host.env)(SOURCE_DATE_EPOCH).filter(|value| !value.is_empty())
    {
        pairs.insert(SOURCE_DATE_EPOCH.to_owned(), epoch(value)?);
    }
    for (name, value) in host.proxies {
        if !named.iter().any(|given| given.eq_ignore_ascii_case(name)) {
            pairs.insert(name.clone(), value.clone());
        }
    }
    check_pairs(FLAG, pairs)
}

/// BuildKit ignores or refuses anything else, by its version; and knows `context`.
fn epoch(value: String) -> Result<String, Invalid> {
    if value == "context" || value.parse::<i64>().is_ok() {
        return Ok(value);
    }
    let problem =
        "the environment's value is no number of seconds since 1970; correct the variable or unset it";
    Err(Invalid::new(SOURCE_DATE_EPOCH, value, problem))
}

#[cfg(test)]
mod tests {
    use archyard_model::limits;

    use super::super::tests::strings;
    use super::*;

    fn ask(
        given: &[&str],
        env: &[(&str, &str)],
        proxies: &[(&str, &str)],
    ) -> Result<(Vec<String>, Vec<String>), Invalid> {
        let proxies: Vec<_> = proxies.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let host = Host {
            directory: "/".as_ref(),
            cache: None,
            platforms: &[],
            proxies: &proxies,
            env: &|name| env.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()),
            has_credentials: &|_| false,
            stdin: &|| Ok(Vec::new()),
        };
        let mut warnings = Vec::new();
        let found = build_args(&strings(given), &host, &mut warnings)?;
        Ok((found.into_iter().map(|(name, value)| format!("{name}={value}")).collect(), warnings))
    }

    #[test]
    fn arguments_come_from_the_environment_too() {
        let (found, warnings) = ask(&["A=b=c", "HAS", "HASNT", "E="], &[("HAS", "1")], &[]).unwrap();
        assert_eq!(found, ["A=b=c", "E=", "HAS=1"]);
        assert_eq!(warnings, ["--build-arg HASNT: the environment has no HASNT; left out"]);
        for bad in ["=x", "", " =x"] {
            let error = ask(&[bad], &[], &[]).unwrap_err();
            assert_eq!((error.field.as_str(), error.value.as_str()), ("--build-arg", bad));
        }
        let long = format!("A={}", "x".repeat(limits::PLAN_PAIRS_BYTES));
        assert!(ask(&[&long], &[], &[]).unwrap_err().to_string().contains("shorten"));
    }

    #[test]
    fn the_source_date_is_the_environments_unless_given() {
        let env = [("SOURCE_DATE_EPOCH", "1700000000")];
        assert_eq!(ask(&[], &env, &[]).unwrap().0, ["SOURCE_DATE_EPOCH=1700000000"]);
        assert_eq!(ask(&["SOURCE_DATE_EPOCH=0"], &env, &[]).unwrap().0, ["SOURCE_DATE_EPOCH=0"]);
        assert_eq!(ask(&["SOURCE_DATE_EPOCH="], &env, &[]).unwrap().0, ["SOURCE_DATE_EPOCH="]);
        assert_eq!(ask(&[], &[("SOURCE_DATE_EPOCH", "")], &[]).unwrap().0, [""; 0]);
        let error = ask(&[], &[("SOURCE_DATE_EPOCH", "yesterday")], &[]).unwrap_err().to_string();
        assert!(
            error.starts_with("SOURCE_DATE_EPOCH \"yesterday\": ") && error.contains("unset it"),
            "{error}"
        );
    }

    #[test]
    fn a_proxy_of_the_request_wins_in_any_case() {
        let proxies = [("HTTP_PROXY", "p"), ("http_proxy", "p"), ("NO_PROXY", "n")];
        assert_eq!(ask(&[], &[], &proxies).unwrap().0, ["HTTP_PROXY=p", "NO_PROXY=n", "http_proxy=p"]);
        assert_eq!(ask(&["http_proxy=mine"], &[], &proxies).unwrap().0, ["NO_PROXY=n", "http_proxy=mine"]);
        // Named, and not there: none is wanted.
        assert_eq!(ask(&["Http_Proxy"], &[], &proxies).unwrap().0, ["NO_PROXY=n"]);
    }
}
