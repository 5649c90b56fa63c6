//! Image references, parsed and normalised as Docker does.

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
        let wrong = |problem: String| Invalid::new("reference", text, problem);
        let parsed: oci_spec::distribution::Reference = text.parse().map_err(|error| {
            wrong(format!("{error}; expected [REGISTRY/]NAME[:TAG][@sha256:...], names in lowercase"))
        })?;
        if parsed.repository().bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(wrong("a repository's name is lowercase".to_owned()));
        }
        let digest = parsed
            .digest()
            .map(|digest| digest.parse::<Sha256>().map_err(|error| wrong(error.problem)))
            .transpose()?;
        let mut registry = parsed.registry().to_owned();
        if registry == "index.docker.io" {
            registry = "docker.io".to_owned();
        }
        Ok(Self {
            registry,
            repository: parsed.repository().to_owned(),
            tag: parsed.tag().map(str::to_owned),
            digest,
        })
    }
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
