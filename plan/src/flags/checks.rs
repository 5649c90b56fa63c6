//! `--smoke-test` and its company, `--foreign` and `--data-only`: what an image must pass.

use std::time::Duration;

use archyard_model::{Checks, Invalid, limits};
use globset::GlobBuilder;
use parse_size::Config;

use super::at_most;
use crate::request::CheckFlags;

/// Reads them all.
pub(crate) fn checks(flags: &CheckFlags) -> Result<Checks, Invalid> {
    smoke_tests(&flags.smoke_tests)?;
    if flags.data_only {
        nothing_is_run(flags)?;
    }
    globs(&flags.foreign_allow)?;
    let defaults = Checks::default();
    Ok(Checks {
        smoke_tests: flags.smoke_tests.clone(),
        smoke_network: flags.smoke_network,
        smoke_writable: flags.smoke_writable,
        smoke_timeout: flags.smoke_timeout.as_deref().map_or(Ok(defaults.smoke_timeout), timeout)?,
        smoke_memory: flags.smoke_memory.as_deref().map_or(Ok(defaults.smoke_memory), memory)?,
        foreign: flags.foreign,
        foreign_allow: flags.foreign_allow.clone(),
        data_only: flags.data_only,
    })
}

fn smoke_tests(given: &[String]) -> Result<(), Invalid> {
    let flag = "--smoke-test";
    at_most(flag, given.len(), limits::SMOKE_TESTS)?;
    for text in given {
        if text.len() > limits::SMOKE_TEST_BYTES {
            let problem = format!("it may have at most {} bytes; shorten it", limits::SMOKE_TEST_BYTES);
            return Err(Invalid::new(flag, text, problem));
        }
        // No words at all are the image's own command, as with `docker run IMAGE`.
        if shell_words::split(text).is_err() {
            let problem = "it cannot be split into words: a quote is never closed; close it";
            return Err(Invalid::new(flag, text, problem));
        }
    }
    Ok(())
}

/// What is said of smoke tests of an image that has none was meant otherwise.
fn nothing_is_run(flags: &CheckFlags) -> Result<(), Invalid> {
    let given = [
        ("--smoke-test", flags.smoke_tests.first().map(String::as_str)),
        ("--smoke-test-network", flags.smoke_network.then_some("")),
        ("--smoke-test-writable", flags.smoke_writable.then_some("")),
        ("--smoke-test-timeout", flags.smoke_timeout.as_deref()),
        ("--smoke-test-memory", flags.smoke_memory.as_deref()),
    ];
    let first = given.into_iter().find_map(|(flag, value)| Some((flag, value?)));
    first.map_or(Ok(()), |(flag, value)| {
        let problem = "an image that only holds files (--data-only) cannot be run; leave out one of the two";
        Err(Invalid::new(flag, value, problem))
    })
}

fn timeout(text: &str) -> Result<Duration, Invalid> {
    let flag = "--smoke-test-timeout";
    let (least, most) = (limits::SMOKE_TIMEOUT_MIN, limits::SMOKE_TIMEOUT_MAX);
    let timeout = humantime::parse_duration(text)
        .map_err(|_| Invalid::new(flag, text, "expected a duration, as in 60s or 5m"))?;
    if !(least..=most).contains(&timeout) {
        let [least, most] = [least, most].map(humantime::format_duration);
        return Err(Invalid::new(flag, text, format!("a smoke test may take {least} to {most}")));
    }
    // As it travels.
    Ok(Duration::from_millis(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)))
}

fn memory(text: &str) -> Result<u64, Invalid> {
    let flag = "--smoke-test-memory";
    let (least, most) = (limits::SMOKE_MEMORY_MIN_BYTES, limits::SMOKE_MEMORY_MAX_BYTES);
    let bytes = Config::new()
        .with_binary()
        .parse_size(text)
        .map_err(|_| Invalid::new(flag, text, "expected a size, as in 512m or 2g (b, k, m, g)"))?;
    if !(least..=most).contains(&bytes) {
        let problem = format!("a smoke test may use {}m to {}g of memory", least >> 20, most >> 30);
        return Err(Invalid::new(flag, text, problem));
    }
    Ok(bytes)
}

fn globs(given: &[String]) -> Result<(), Invalid> {
    let flag = "--foreign-allow";
    at_most(flag, given.len(), limits::FOREIGN_GLOBS)?;
    for text in given {
        if text.len() > limits::FOREIGN_GLOB_BYTES {
            let problem = format!("it may have at most {} bytes; shorten it", limits::FOREIGN_GLOB_BYTES);
            return Err(Invalid::new(flag, text, problem));
        }
        if !text.starts_with(['/', '*']) {
            let problem = format!("it is held against absolute paths in the image: try /{text} or **/{text}");
            return Err(Invalid::new(flag, text, problem));
        }
        GlobBuilder::new(text).literal_separator(true).build().map_err(|error| {
            Invalid::new(flag, text, format!("{}; expected a glob, as in /usr/lib/firmware/**", error.kind()))
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use archyard_model::ForeignPolicy;

    use super::super::tests::strings;
    use super::*;

    #[test]
    fn nothing_given_is_the_default() {
        assert_eq!(checks(&CheckFlags::default()), Ok(Checks::default()));
    }

    #[test]
    fn all_of_it() {
        let found = checks(&CheckFlags {
            smoke_tests: strings(&["app --version", "sh -c 'exit 0'", ""]),
            smoke_network: true,
            smoke_writable: true,
            smoke_timeout: Some("1m 30s".to_owned()),
            smoke_memory: Some("1.5g".to_owned()),
            foreign: ForeignPolicy::Deny,
            foreign_allow: strings(&["/usr/lib/firmware/**", "*.ko"]),
            data_only: false,
        });
        let found = found.unwrap();
        assert_eq!(found.smoke_tests, ["app --version", "sh -c 'exit 0'", ""]);
        assert_eq!(found.smoke_timeout, Duration::from_secs(90));
        assert_eq!(found.smoke_memory, 3 << 29);
        assert!(found.smoke_network && found.smoke_writable);
        assert_eq!((found.foreign, found.foreign_allow.len()), (ForeignPolicy::Deny, 2));
    }

    #[test]
    fn sizes_are_dockers() {
        for (text, want) in [("16777216", 16 << 20), ("16777216b", 16 << 20), ("20000k", 20_000 << 10)] {
            assert_eq!(memory(text), Ok(want), "{text}");
        }
        for (text, want) in [("512m", 512 << 20), ("512M", 512 << 20), ("512mb", 512 << 20), ("2g", 2 << 30)]
        {
            assert_eq!(memory(text), Ok(want), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        type Change = fn(&mut CheckFlags);
        let table: [(Change, &str); 17] = [
            (|f| f.smoke_tests = strings(&["echo 'x"]), "--smoke-test \"echo 'x\": it cannot be split"),
            (|f| f.smoke_tests = strings(&["", "'"]), "--smoke-test \"'\": it cannot be split"),
            (
                |f| (f.smoke_tests, f.data_only) = (strings(&[""]), true),
                "--smoke-test \"\": an image that only holds files (--data-only)",
            ),
            (
                |f| (f.smoke_network, f.data_only) = (true, true),
                "--smoke-test-network \"\": an image that only holds files (--data-only)",
            ),
            (
                |f| (f.smoke_memory, f.data_only) = (Some("1g".to_owned()), true),
                "--smoke-test-memory \"1g\": an image that only holds files (--data-only)",
            ),
            (
                |f| f.smoke_tests = strings(&["x"; 17]),
                "--smoke-test \"17 times\": may be given at most 16 times",
            ),
            (|f| f.smoke_tests = vec!["x".repeat(4097)], "--smoke-test \"xx"),
            (
                |f| (f.smoke_tests, f.data_only) = (strings(&["x"]), true),
                "--smoke-test \"x\": an image that only holds files (--data-only)",
            ),
            (|f| f.smoke_timeout = Some("60".to_owned()), "--smoke-test-timeout \"60\": expected a duration"),
            (
                |f| f.smoke_timeout = Some("10ms".to_owned()),
                "--smoke-test-timeout \"10ms\": a smoke test may take 1s to 1h",
            ),
            (
                |f| f.smoke_timeout = Some("2h".to_owned()),
                "--smoke-test-timeout \"2h\": a smoke test may take",
            ),
            (|f| f.smoke_memory = Some("much".to_owned()), "--smoke-test-memory \"much\": expected a size"),
            (
                |f| f.smoke_memory = Some("512".to_owned()),
                "--smoke-test-memory \"512\": a smoke test may use 16m to 64g",
            ),
            (|f| f.smoke_memory = Some("1t".to_owned()), "--smoke-test-memory \"1t\": a smoke test may use"),
            (|f| f.foreign_allow = strings(&["/a[b"]), "--foreign-allow \"/a[b\": unclosed character class"),
            (
                |f| f.foreign_allow = strings(&["usr/x"]),
                "--foreign-allow \"usr/x\": it is held against absolute",
            ),
            (
                |f| f.foreign_allow = strings(&["/x"; 65]),
                "--foreign-allow \"65 times\": may be given at most 64",
            ),
        ];
        for (change, want) in table {
            let mut flags = CheckFlags::default();
            change(&mut flags);
            let error = checks(&flags).unwrap_err().to_string();
            assert!(error.starts_with(want), "{error}");
        }
    }
}
