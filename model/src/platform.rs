//! Platforms, normalised as containerd does.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Invalid;

/// Architectures that Linux images are built for, in the spelling of Go; what else users write is in
/// [`normalise`].
const ARCHITECTURES: &[&str] = &[
    "386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc64", "ppc64le",
    "riscv64", "s390x",
];

/// An operating system, an architecture and perhaps a variant.
///
/// Equal platforms are written alike: `linux/arm64/v8`, `linux/aarch64` and `linux/arm64` are one value.
/// Ordered by name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Platform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

impl Platform {
    /// The platform of these parts, which may be spelled as `uname`, Debian or Docker do.
    pub fn new(os: &str, architecture: &str, variant: &str) -> Result<Self, Invalid> {
        let text = || {
            let mut text = format!("{os}/{architecture}");
            if !variant.is_empty() {
                text.push('/');
                text.push_str(variant);
            }
            text
        };
        let wrong = |problem: &str| Err(Invalid::new("platform", text(), problem));
        if !os.eq_ignore_ascii_case("linux") {
            return wrong("only linux images are built; write linux/ARCHITECTURE");
        }
        let (architecture, variant) =
            normalise(&architecture.to_ascii_lowercase(), &variant.to_ascii_lowercase());
        if !ARCHITECTURES.contains(&architecture.as_str()) {
            return match nearest(&architecture) {
                Some(near) => {
                    wrong(&format!("unknown architecture {architecture:?}; did you mean linux/{near}?"))
                }
                None => wrong(&format!(
                    "unknown architecture {architecture:?}; known are {}",
                    ARCHITECTURES.join(", ")
                )),
            };
        }
        let known: &[&str] = match architecture.as_str() {
            "amd64" => &["", "v2", "v3", "v4"],
            "arm" => &["v5", "v6", "v7", "v8"],
            "arm64" => &["", "v9"],
            _ => &[""],
        };
        if !known.contains(&variant.as_str()) {
            let offered = known.iter().filter(|v| !v.is_empty()).copied().collect::<Vec<_>>().join(", ");
            return if offered.is_empty() {
                wrong(&format!("{architecture} has no variants; leave {variant:?} out"))
            } else {
                wrong(&format!("unknown variant {variant:?} of {architecture}; known are {offered}"))
            };
        }
        Ok(Self { os: "linux".to_owned(), architecture, variant: (!variant.is_empty()).then_some(variant) })
    }

    /// `linux`.
    pub fn os(&self) -> &str {
        &self.os
    }

    /// GOARCH.
    pub fn architecture(&self) -> &str {
        &self.architecture
    }

    /// `v7`, or nothing.
    pub fn variant(&self) -> Option<&str> {
        self.variant.as_deref()
    }

    /// What an Engine that runs this platform calls its own: 64-bit where this is the 32-bit sibling. It is
    /// what `$BUILDPLATFORM` is while a job of this platform builds natively.
    #[must_use]
    pub fn host(&self) -> Self {
        let architecture = match self.architecture.as_str() {
            "386" => "amd64",
            "arm" => "arm64",
            other => other,
        };
        Self { os: self.os.clone(), architecture: architecture.to_owned(), variant: None }
    }

    /// Whether an image made for `self` runs where `wanted` is asked for, as containerd's matcher decides: the same
    /// architecture, and a variant that asks no more of the CPU.
    pub fn satisfies(&self, wanted: &Self) -> bool {
        self.os == wanted.os && self.architecture == wanted.architecture && self.rank() <= wanted.rank()
    }

    fn rank(&self) -> u8 {
        match self.variant.as_deref() {
            None if self.architecture == "arm64" => 8,
            None => 1,
            Some(variant) => variant.trim_start_matches('v').parse().unwrap_or(u8::MAX),
        }
    }
}

/// Parses a comma-separated list, as `--platform` takes it, and refuses a platform that is named twice.
pub fn parse_list(text: &str) -> Result<Vec<Platform>, Invalid> {
    let mut platforms = Vec::new();
    for part in text.split(',') {
        let platform: Platform = part.trim().parse()?;
        if platforms.contains(&platform) {
            return Err(Invalid::new(
                "platform",
                part.trim(),
                format!("{platform} is asked for twice; name each platform once"),
            ));
        }
        platforms.push(platform);
    }
    Ok(platforms)
}

fn normalise(architecture: &str, variant: &str) -> (String, String) {
    let (architecture, variant) = match (architecture, variant) {
        ("i386" | "i486" | "i586" | "i686", _) => ("386", ""),
        ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
        ("x86_64" | "x86-64", v) => ("amd64", v),
        ("aarch64" | "arm64", "8" | "v8") => ("arm64", ""),
        ("arm64", "9" | "9.0" | "v9.0") => ("arm64", "v9"),
        ("aarch64", v) => ("arm64", v),
        ("armhf", _) => ("arm", "v7"),
        ("armel", _) => ("arm", "v6"),
        ("arm", "" | "7") => ("arm", "v7"),
        ("arm", "5") => ("arm", "v5"),
        ("arm", "6") => ("arm", "v6"),
        ("arm", "8") => ("arm", "v8"),
        ("ppc64el", v) => ("ppc64le", v),
        other => other,
    };
    (architecture.to_owned(), variant.to_owned())
}

/// Whether this names an architecture, however it is spelled.
fn is_architecture(text: &str) -> bool {
    ARCHITECTURES.contains(&normalise(&text.to_ascii_lowercase(), "").0.as_str())
}

/// The known architecture one slip of the finger away.
fn nearest(wrong: &str) -> Option<&'static str> {
    ARCHITECTURES.iter().copied().find(|known| {
        let sorted = |text: &str| {
            let mut bytes = text.as_bytes().to_vec();
            bytes.sort_unstable();
            bytes
        };
        known.len().abs_diff(wrong.len()) <= 1
            && (sorted(known) == sorted(wrong) || one_edit_apart(known.as_bytes(), wrong.as_bytes()))
    })
}

fn one_edit_apart(a: &[u8], b: &[u8]) -> bool {
    let start = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let (a, b) = (&a[start..], &b[start..]);
    let end = a.iter().rev().zip(b.iter().rev()).take_while(|(x, y)| x == y).count();
    a.len() - end <= 1 && b.len() - end <= 1
}

impl FromStr for Platform {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let parts: Vec<&str> = text.split('/').collect();
        match parts[..] {
            // As containerd reads it; an operating system alone would be the client's machine, which a farm's is not.
            [architecture] if is_architecture(architecture) => Self::new("linux", architecture, ""),
            [os, architecture] if !architecture.is_empty() => Self::new(os, architecture, ""),
            [os, architecture, variant] if !architecture.is_empty() && !variant.is_empty() => {
                Self::new(os, architecture, variant)
            }
            _ => Err(Invalid::new("platform", text, "expected OS/ARCHITECTURE[/VARIANT], as in linux/arm64")),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if let Some(variant) = &self.variant {
            write!(f, "/{variant}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Platform {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Platform {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(text: &str) -> Platform {
        text.parse().unwrap()
    }

    #[test]
    fn normalises_as_containerd_does() {
        for (given, want) in [
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/x86_64", "linux/amd64"),
            ("Linux/AMD64/v1", "linux/amd64"),
            ("linux/amd64/v3", "linux/amd64/v3"),
            ("linux/i386", "linux/386"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/armhf", "linux/arm/v7"),
            ("linux/armel", "linux/arm/v6"),
            ("linux/arm/7", "linux/arm/v7"),
            ("amd64", "linux/amd64"),
            ("aarch64", "linux/arm64"),
            ("armhf", "linux/arm/v7"),
        ] {
            assert_eq!(p(given).to_string(), want, "{given}");
        }
    }

    #[test]
    fn refuses_with_a_remedy() {
        for (given, remedy) in [
            ("linux/amd46", "did you mean linux/amd64"),
            ("linux/arm46", "did you mean linux/arm64"),
            ("amd46", "OS/ARCHITECTURE"),
            ("linux", "OS/ARCHITECTURE"),
            ("local", "OS/ARCHITECTURE"),
            ("linux/", "OS/ARCHITECTURE"),
            ("linux/arm/v7/x", "OS/ARCHITECTURE"),
            ("windows/amd64", "only linux"),
            ("linux/amd64/v9", "known are v2, v3, v4"),
            ("linux/s390x/v1", "no variants"),
            ("", "OS/ARCHITECTURE"),
        ] {
            let error = given.parse::<Platform>().unwrap_err().to_string();
            assert!(error.contains(remedy), "{given}: {error}");
        }
    }

    #[test]
    fn a_list_names_each_once() {
        let error = parse_list("linux/arm64,linux/arm64/v8").unwrap_err();
        assert_eq!(error.value, "linux/arm64/v8");
        assert!(error.to_string().contains("twice"));
        assert_eq!(parse_list("linux/amd64, linux/386").unwrap().len(), 2);
    }

    #[test]
    fn variants_run_upwards_only() {
        assert!(p("linux/amd64").satisfies(&p("linux/amd64/v3")));
        assert!(!p("linux/amd64/v3").satisfies(&p("linux/amd64")));
        assert!(p("linux/arm/v6").satisfies(&p("linux/arm/v7")));
        assert!(!p("linux/386").satisfies(&p("linux/amd64")));
    }
}
