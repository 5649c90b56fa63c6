//! Image references, parsed and normalised as Docker does.
//!
//! By hand, against our rule of libraries first: the OCI crate's parser compiles one large regular expression on its
//! first use, which costs each process more than 30 ms, and a cached build's three processes have 70. The
//! tests hold this parser against that one.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Invalid, Sha256};

/// A registry, a repository in it, and a tag, a digest or both.
///
/// Written in full: `busybox` reads `docker.io/library/busybox:latest`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Sha256>,
}

impl Reference {
    /// The host and port of its registry: `docker.io`, `127.0.0.1:5000`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The name within the registry: `library/busybox`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// `latest` where none was written and no digest either.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The content it is pinned to.
    pub fn digest(&self) -> Option<Sha256> {
        self.digest
    }

    /// `registry/repository`, without tag and digest.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The same name, pinned to this content; the tag stays, for people.
    #[must_use]
    pub fn pinned(&self, digest: Sha256) -> Self {
        Self { digest: Some(digest), ..self.clone() }
    }
}

impl FromStr for Reference {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let wrong = |problem: &str| {
            let shape = "expected [REGISTRY/]NAME[:TAG][@sha256:...], names in lowercase";
            Invalid::new("reference", text, format!("{problem}; {shape}"))
        };
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let digest: Sha256 = digest.parse().map_err(|error: Invalid| wrong(&error.problem))?;
                (rest, Some(digest))
            }
            None => (text, None),
        };
        let name_start = rest.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match rest[name_start..].find(':') {
            Some(colon) => (&rest[..name_start + colon], Some(&rest[name_start + colon + 1..])),
            None => (rest, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(wrong(
                "a tag has 1 to 128 letters, digits, '_', '.' or '-', and begins with none of the last two",
            ));
        }
        let (registry, repository) = split_registry(name);
        if !is_registry(registry) {
            return Err(wrong("that is no registry's HOST[:PORT]"));
        }
        let repository = match registry {
            DEFAULT_REGISTRY if !repository.contains('/') => format!("library/{repository}"),
            _ => repository.to_owned(),
        };
        if registry.len() + 1 + repository.len() > NAME_BYTES {
            return Err(wrong("a name has at most 255 bytes"));
        }
        if !repository.split('/').all(is_path_component) {
            return Err(wrong("that is no repository's name"));
        }
        if text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'a'..=b'f')) {
            return Err(wrong("64 hexadecimal digits are an image's ID, not its name"));
        }
        let tag = tag.map(str::to_owned).or_else(|| digest.is_none().then(|| "latest".to_owned()));
        Ok(Self { registry: registry.to_owned(), repository, tag, digest })
    }
}

/// What a name without a registry means.
const DEFAULT_REGISTRY: &str = "docker.io";
/// Registry and repository together.
const NAME_BYTES: usize = 255;

/// The first part is a registry when it looks like a host; else the registry is Docker's. (Docker also takes a first
/// part in capitals for a host; nobody means that, so it is refused as a name.)
fn split_registry(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some(("index.docker.io", rest)) => (DEFAULT_REGISTRY, rest),
        Some((first, rest)) if first == "localhost" || first.contains(['.', ':']) => (first, rest),
        _ => (DEFAULT_REGISTRY, name),
    }
}

fn is_registry(text: &str) -> bool {
    let (host, port) = match text.rfind(':') {
        Some(colon) if !text.ends_with(']') => (&text[..colon], Some(&text[colon + 1..])),
        _ => (text, None),
    };
    let component = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    let host_fits = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => !address.is_empty() && address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':'),
        None => host.split('.').all(component),
    };
    host_fits && port.is_none_or(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()))
}

/// Runs of lowercase letters and digits, joined by '.', '_', '__' or any number of '-'.
fn is_path_component(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    word(*first)
        && word(*last)
        && bytes
            .split(|b| word(*b))
            .filter(|joint| !joint.is_empty())
            .all(|joint| matches!(joint, b"." | b"_" | b"__") || joint.iter().all(|b| *b == b'-'))
}

fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.len() <= 128
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|b| word(b) || matches!(b, b'.' | b'-'))
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Whether a registry's host is this machine itself, where plain HTTP is taken for granted as Docker does.
pub fn is_loopback(registry: &str) -> bool {
    let host = match registry.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => registry.rsplit_once(':').map_or(registry, |(host, _)| host),
    };
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_as_docker_does() {
        for (given, want) in [
            ("busybox", "docker.io/library/busybox:latest"),
            ("ipfs/kubo:v1", "docker.io/ipfs/kubo:v1"),
            ("127.0.0.1:5000/a/b", "127.0.0.1:5000/a/b:latest"),
            ("localhost/x:y", "localhost/x:y"),
            ("registry.example/x:y", "registry.example/x:y"),
        ] {
            assert_eq!(given.parse::<Reference>().unwrap().to_string(), want);
        }
        let digest = format!("sha256:{}", "0".repeat(64));
        let pinned: Reference = format!("busybox@{digest}").parse().unwrap();
        assert_eq!(pinned.to_string(), format!("docker.io/library/busybox@{digest}"));
        assert_eq!(pinned.tag(), None);
    }

    /// What the reference implementation's grammar, as the OCI crate has it, makes of it; it does not mind uppercase
    /// repositories, and takes digests that are not SHA-256.
    fn theirs(text: &str) -> Option<String> {
        let parsed: oci_spec::distribution::Reference = text.parse().ok()?;
        let digest = match parsed.digest() {
            Some(digest) => Some(digest.parse::<Sha256>().ok()?),
            None => None,
        };
        let upper = parsed.repository().bytes().any(|b| b.is_ascii_uppercase());
        let tag = parsed.tag().map(|tag| format!(":{tag}")).unwrap_or_default();
        let digest = digest.map(|digest| format!("@{digest}")).unwrap_or_default();
        (!upper).then(|| format!("{}/{}{tag}{digest}", parsed.registry(), parsed.repository()))
    }

    proptest::proptest! {
        #[test]
        fn agrees_with_the_oci_crate(
            registry in "(|localhost/|[a-z]{1,3}\\.[a-z-]{1,3}(:[0-9]{0,2})?/|127\\.0\\.0\\.1:50/|index\\.docker\\.io/)",
            path in "[a-z0-9._/-]{1,12}",
            tag in "(|:[A-Za-z0-9._-]{0,5})",
            digest in "(|@sha256:[0-9a-f]{64}|@sha256:[0-9a-f]{3})",
        ) {
            let text = format!("{registry}{path}{tag}{digest}");
            // The OCI crate also takes a registry whose name no DNS can have; docker does not.
            let first = text.split_once('/').map_or("", |(first, _)| first);
            proptest::prop_assume!(!(first.contains('.') && first.contains('_')));
            let ours = text.parse::<Reference>().ok().map(|reference| reference.to_string());
            let theirs = theirs(&text).map(|full| full.replacen("index.docker.io/", "docker.io/", 1));
            proptest::prop_assert_eq!(ours, theirs, "{}", text);
        }

        #[test]
        fn never_panics(text in ".{0,40}") {
            drop(text.parse::<Reference>());
        }
    }

    #[test]
    fn refuses_with_a_remedy() {
        for bad in ["", "UPPER/case", "x/UPPER", "a b", "x:", "x@sha256:00", "-x", "x:t:u", "http://x/y"] {
            let error = bad.parse::<Reference>().unwrap_err();
            assert_eq!(error.field, "reference", "{bad}");
        }
    }

    #[test]
    fn knows_loopback() {
        assert!(is_loopback("127.0.0.1:5000") && is_loopback("localhost") && is_loopback("[::1]:5000"));
        assert!(!is_loopback("registry.example:5000") && !is_loopback("10.0.0.1"));
    }
}
