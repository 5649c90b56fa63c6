//! Images made from nothing but Debian's `busybox-static`: what a platform is
//! called, what its image is configured as, and its one layer.

use std::fmt;
use std::io::Write;

use anyhow::{Context, Result, bail};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// A platform as images name it: `linux/amd64`, `linux/arm/v7`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Platform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

impl Platform {
    /// Parses `OS/ARCHITECTURE[/VARIANT]`, taking it as it stands.
    ///
    /// # Errors
    /// When it does not have two or three parts.
    pub fn parse(text: &str) -> Result<Self> {
        let parts: Vec<&str> = text.split('/').collect();
        let (os, architecture, variant) = match parts.as_slice() {
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some((*variant).to_owned())),
            _ => bail!("{text} is not OS/ARCHITECTURE[/VARIANT]"),
        };
        Ok(Self { os: (*os).to_owned(), architecture: (*architecture).to_owned(), variant })
    }

    /// The member `platform` of an index's descriptor.
    #[must_use]
    pub fn json(&self) -> Value {
        let mut json = json!({ "architecture": self.architecture, "os": self.os });
        if let Some(variant) = &self.variant {
            json["variant"] = json!(variant);
        }
        json
    }

    /// Debian's name of the architecture.
    ///
    /// # Errors
    /// When Debian has none.
    pub fn debian(&self) -> Result<&'static str> {
        Ok(match (self.architecture.as_str(), self.variant.as_deref()) {
            ("amd64", _) => "amd64",
            ("386", _) => "i386",
            ("arm64", _) => "arm64",
            ("arm", None | Some("v7")) => "armhf",
            ("arm", Some("v5" | "v6")) => "armel",
            ("riscv64", _) => "riscv64",
            ("ppc64le", _) => "ppc64el",
            ("mipsle", _) => "mipsel",
            ("mips64le", _) => "mips64el",
            ("s390x", _) => "s390x",
            _ => bail!("Debian has no architecture for {self}"),
        })
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|variant| write!(f, "/{variant}"))
    }
}

impl TryFrom<String> for Platform {
    type Error = anyhow::Error;

    fn try_from(text: String) -> Result<Self> {
        Self::parse(&text)
    }
}

impl From<Platform> for String {
    fn from(platform: Platform) -> Self {
        platform.to_string()
    }
}

/// The platforms that this machine runs without emulation: its own, then its
/// 32-bit sibling.
///
/// # Errors
/// On a machine that is neither x86_64 nor aarch64.
pub fn native() -> Result<[Platform; 2]> {
    let names = match std::env::consts::ARCH {
        "x86_64" => ["linux/amd64", "linux/386"],
        "aarch64" => ["linux/arm64", "linux/arm/v7"],
        other => bail!("this needs x86_64 or aarch64, not {other}"),
    };
    Ok([Platform::parse(names[0])?, Platform::parse(names[1])?])
}

/// The native platforms of the other kind of machine: for tests of refusal.
///
/// # Errors
/// As [`native`].
pub fn foreign() -> Result<[Platform; 2]> {
    let names = match std::env::consts::ARCH {
        "x86_64" => ["linux/arm64", "linux/arm/v7"],
        _ => ["linux/amd64", "linux/386"],
    };
    Ok([Platform::parse(names[0])?, Platform::parse(names[1])?])
}

/// An image of one layer, ready to be pushed.
#[derive(Debug, Clone)]
pub struct Image {
    /// What an index says it is.
    pub platform: Platform,
    /// The layer, uncompressed.
    pub layer_tar: Vec<u8>,
    /// The configuration, without `rootfs`, which is filled in by the push. Its
    /// `architecture` may differ from `platform`: then the index lies.
    pub config: Value,
}

impl Image {
    /// An honest image.
    #[must_use]
    pub fn new(platform: &Platform, layer_tar: Vec<u8>) -> Self {
        let mut config = platform.json();
        config["created"] = json!("1970-01-01T00:00:00Z");
        config["config"] = json!({
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "Cmd": ["/bin/sh"],
        });
        config["history"] = json!([{ "created": "1970-01-01T00:00:00Z", "created_by": "busybox-static" }]);
        Self { platform: platform.clone(), layer_tar, config }
    }
}

/// A file of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry<'a> {
    /// A folder with this mode.
    Dir(u32),
    /// A file with this mode and content.
    File(u32, &'a [u8]),
    /// A symbolic link to this target.
    Link(&'a str),
}

/// A tar archive that depends on nothing but its entries (paths are relative).
///
/// # Errors
/// When a path does not fit into the format.
pub fn tar(entries: &[(&str, Entry<'_>)]) -> Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, entry) in entries {
        let mut header = tar::Header::new_ustar();
        header.set_mtime(0);
        let (kind, mode, content): (_, _, &[u8]) = match entry {
            Entry::Dir(mode) => (tar::EntryType::Directory, *mode, &[]),
            Entry::File(mode, content) => (tar::EntryType::Regular, *mode, content),
            Entry::Link(_) => (tar::EntryType::Symlink, 0o777, &[]),
        };
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(content.len() as u64);
        let result = match entry {
            Entry::Link(target) => archive.append_link(&mut header, path, target),
            _ => archive.append_data(&mut header, path, content),
        };
        result.with_context(|| format!("cannot archive {path}"))?;
    }
    archive.into_inner().context("cannot finish the archive")
}

/// The same bytes give the same bytes: no time, no name.
///
/// # Errors
/// Only when memory runs out.
pub fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(6));
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_read_as_they_are_written() {
        for text in ["linux/amd64", "linux/arm/v7"] {
            assert_eq!(Platform::parse(text).unwrap().to_string(), text);
        }
        assert!(Platform::parse("amd64").is_err() && Platform::parse("a/b/c/d").is_err());
        let arm = Platform::parse("linux/arm/v7").unwrap();
        assert_eq!(arm.json(), json!({ "os": "linux", "architecture": "arm", "variant": "v7" }));
        assert_eq!(arm.debian().unwrap(), "armhf");
        assert!(Platform::parse("plan9/mips").unwrap().debian().is_err());
    }

    #[test]
    fn an_archive_depends_on_its_entries_only() {
        let entries =
            [("bin", Entry::Dir(0o755)), ("bin/a", Entry::File(0o755, b"x")), ("bin/b", Entry::Link("a"))];
        let bytes = tar(&entries).unwrap();
        assert_eq!(bytes, tar(&entries).unwrap());
        assert_eq!(gzip(&bytes).unwrap(), gzip(&bytes).unwrap());
        let mut archive = tar::Archive::new(bytes.as_slice());
        let paths: Vec<_> =
            archive.entries().unwrap().map(|e| e.unwrap().path().unwrap().into_owned()).collect();
        assert_eq!(paths, ["bin", "bin/a", "bin/b"].map(std::path::PathBuf::from));
    }

    #[test]
    fn a_lie_can_be_told() {
        let amd64 = Platform::parse("linux/amd64").unwrap();
        let mut image = Image::new(&amd64, Vec::new());
        assert_eq!(image.config["architecture"], "amd64");
        image.platform = Platform::parse("linux/riscv64").unwrap();
        assert_ne!(image.config["architecture"], image.platform.json()["architecture"]);
    }
}
