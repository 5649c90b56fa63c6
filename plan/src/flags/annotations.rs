//! `--annotation`, as buildx reads it: `[TYPE[PLATFORM][,TYPE...]:]KEY=VALUE`.
//!
//! The `=` is looked for first, so a value may hold colons and a key with types may not hold `=`.

use archyard_model::{Annotation, AnnotationLevel, Invalid, Platform, limits};

use super::at_most;

const FLAG: &str = "--annotation";

/// Reads them. What is said of one platform comes last, and so wins over what is said of all.
pub(crate) fn annotations(given: &[String], platforms: &[Platform]) -> Result<Vec<Annotation>, Invalid> {
    let mut found: Vec<Annotation> = Vec::new();
    for text in given.iter().filter(|text| !text.is_empty()) {
        for annotation in one(text, platforms)? {
            let place = |each: &Annotation| (each.level, each.platform.clone(), each.key.clone());
            found.retain(|each| place(each) != place(&annotation));
            found.push(annotation);
        }
    }
    at_most(FLAG, found.len(), limits::PLAN_ANNOTATIONS)?;
    let bytes: usize = found.iter().map(|each| each.key.len() + each.value.len()).sum();
    if bytes > limits::PLAN_ANNOTATIONS_BYTES {
        let problem =
            format!("all together may have at most {} bytes; shorten them", limits::PLAN_ANNOTATIONS_BYTES);
        return Err(Invalid::new(FLAG, format!("{bytes} bytes"), problem));
    }
    found.sort_by_key(|each| each.platform.is_some());
    Ok(found)
}

/// One flag's worth: as many as it has types.
fn one(text: &str, platforms: &[Platform]) -> Result<Vec<Annotation>, Invalid> {
    let fail = |problem: String| Invalid::new(FLAG, text, problem);
    let Some((name, value)) = text.split_once('=') else {
        return Err(fail(
            "expected KEY=VALUE, or TYPE:KEY=VALUE, as in index:org.opencontainers.image.title=App"
                .to_owned(),
        ));
    };
    let (types, key) = name.split_once(':').unwrap_or(("manifest", name));
    if key.is_empty() {
        return Err(fail("expected a key before '=', as in org.opencontainers.image.title=App".to_owned()));
    }
    let annotation = |place: &str| {
        let (kind, platform) = split(place).ok_or_else(|| {
            fail(format!(
                "{place:?} is no type; expected TYPE or TYPE[PLATFORM], as in manifest[linux/arm64]"
            ))
        })?;
        let level = level(kind).map_err(&fail)?;
        let platform = platform.map(str::parse::<Platform>).transpose().map_err(|error| error.of(FLAG))?;
        match &platform {
            Some(_) if level == AnnotationLevel::Index => {
                return Err(fail("the index is that of all platforms; leave out the platform".to_owned()));
            }
            Some(platform) if !platforms.contains(platform) => {
                let names: Vec<String> = platforms.iter().map(Platform::to_string).collect();
                return Err(fail(format!("{platform} is not built; the build has {}", names.join(", "))));
            }
            _ => {}
        }
        Ok(Annotation { level, platform, key: key.to_owned(), value: value.to_owned() })
    };
    types.split(',').map(annotation).collect()
}

/// `TYPE` or `TYPE[PLATFORM]`.
fn split(place: &str) -> Option<(&str, Option<&str>)> {
    let (kind, platform) = match place.split_once('[') {
        Some((kind, rest)) => (kind, Some(rest.strip_suffix(']')?)),
        None => (place, None),
    };
    let is_kind = !kind.is_empty() && kind.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
    let is_platform = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'/' | b'-'))
    };
    (is_kind && platform.is_none_or(is_platform)).then_some((kind, platform))
}

fn level(kind: &str) -> Result<AnnotationLevel, String> {
    match kind {
        "manifest" => Ok(AnnotationLevel::Manifest),
        "index" => Ok(AnnotationLevel::Index),
        "manifest-descriptor" => Ok(AnnotationLevel::ManifestDescriptor),
        "index-descriptor" => {
            Err("an index in a registry has no entry that could be annotated; use index".to_owned())
        }
        other => Err(format!("unknown type {other:?}; known are manifest, index, manifest-descriptor")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::strings;
    use super::*;

    fn ask(given: &[&str]) -> Result<Vec<String>, Invalid> {
        let platforms = ["linux/amd64", "linux/arm64"].map(|text| text.parse().unwrap());
        let show = |each: &Annotation| {
            let platform = each.platform.as_ref().map_or("*".to_owned(), Platform::to_string);
            format!("{:?} {platform} {}={}", each.level, each.key, each.value)
        };
        Ok(annotations(&strings(given), &platforms)?.iter().map(show).collect())
    }

    #[test]
    fn as_buildx_reads_them() {
        for (given, want) in [
            ("a=b", &["Manifest * a=b"][..]),
            ("a=", &["Manifest * a="]),
            ("a=b=c:d", &["Manifest * a=b=c:d"]),
            ("org.x/url=https://x:1/", &["Manifest * org.x/url=https://x:1/"]),
            ("index:a=b", &["Index * a=b"]),
            ("manifest:a:b=c", &["Manifest * a:b=c"]),
            ("index,manifest:a=b", &["Index * a=b", "Manifest * a=b"]),
            (
                "manifest[linux/arm64/v8],manifest-descriptor:a=b",
                &["ManifestDescriptor * a=b", "Manifest linux/arm64 a=b"],
            ),
            ("", &[]),
        ] {
            assert_eq!(ask(&[given]).unwrap(), want, "{given}");
        }
    }

    #[test]
    fn the_last_counts_and_one_platforms_wins() {
        let found = ask(&["manifest[linux/arm64]:a=1", "a=2", "index:a=3", "a=4"]).unwrap();
        assert_eq!(found, ["Index * a=3", "Manifest * a=4", "Manifest linux/arm64 a=1"]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (given, want) in [
            ("a", "expected KEY=VALUE"),
            ("=b", "expected a key before '='"),
            ("index:=b", "expected a key before '='"),
            ("index-descriptor:a=b", "no entry that could be annotated; use index"),
            ("layer:a=b", "unknown type \"layer\"; known are manifest, index, manifest-descriptor"),
            (":a=b", "\"\" is no type"),
            ("manifest,:a=b", "\"\" is no type"),
            ("manifest[]:a=b", "\"manifest[]\" is no type"),
            ("manifest[linux/arm64:a=b", "\"manifest[linux/arm64\" is no type"),
            ("Manifest:a=b", "\"Manifest\" is no type"),
            ("manifest[linux/386]:a=b", "linux/386 is not built; the build has linux/amd64, linux/arm64"),
            ("manifest[arm46]:a=b", "expected OS/ARCHITECTURE"),
            ("index[linux/arm64]:a=b", "the index is that of all platforms"),
        ] {
            let error = ask(&[given]).unwrap_err().to_string();
            assert!(error.starts_with("--annotation ") && error.contains(want), "{error}");
        }
        let long = format!("a={}", "x".repeat(limits::PLAN_ANNOTATIONS_BYTES));
        assert!(ask(&[&long]).unwrap_err().to_string().contains("shorten"));
        let many: Vec<String> = (0..513).map(|n| format!("k{n}=v")).collect();
        assert!(annotations(&many, &[]).unwrap_err().to_string().contains("at most 512"));
    }
}
