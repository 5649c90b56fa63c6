//! Content addresses: BLAKE3 inside the farm, SHA-256 where OCI asks for it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Digest as _;

use crate::Invalid;

macro_rules! digest {
    ($name:ident, $algorithm:literal, $doc:literal) => {
        #[doc = $doc]
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 32]);

        impl $name {
            /// The digest whose raw bytes these are.
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The raw 32 bytes.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// The 64 hexadecimal digits, without the algorithm.
            pub fn hex(&self) -> String {
                hex::encode(self.0)
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = Invalid;

            fn try_from(bytes: &[u8]) -> Result<Self, Invalid> {
                <[u8; 32]>::try_from(bytes)
                    .map(Self)
                    .map_err(|_| Invalid::new("digest", hex::encode(bytes), "a digest has 32 bytes"))
            }
        }

        impl FromStr for $name {
            type Err = Invalid;

            fn from_str(text: &str) -> Result<Self, Invalid> {
                let wrong = || {
                    Invalid::new(
                        "digest",
                        text,
                        concat!("expected ", $algorithm, ": and 64 lowercase hexadecimal digits"),
                    )
                };
                let digits = text.strip_prefix(concat!($algorithm, ":")).ok_or_else(wrong)?;
                if digits.bytes().any(|b| b.is_ascii_uppercase()) {
                    return Err(wrong());
                }
                let mut bytes = [0; 32];
                hex::decode_to_slice(digits, &mut bytes).map_err(|_| wrong())?;
                Ok(Self(bytes))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($algorithm, ":{}"), self.hex())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

digest!(Blake3, "blake3", "BLAKE3 of a blob: what the farm's own stores are keyed by.");
digest!(Sha256, "sha256", "SHA-256 of a manifest, config or layer: what registries speak.");

impl Blake3 {
    /// Hashes bytes that are in memory.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

impl Sha256 {
    /// Hashes bytes that are in memory.
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }
}

impl From<blake3::Hash> for Blake3 {
    fn from(hash: blake3::Hash) -> Self {
        Self(*hash.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips() {
        let digest = Blake3::of(b"archyard");
        assert_eq!(digest.to_string().parse::<Blake3>().unwrap(), digest);
    }

    #[test]
    fn refuses_another_algorithm_case_and_length() {
        let good = Blake3::of(b"x").to_string();
        for bad in
            ["", "blake3:", "sha256:00", &good.to_uppercase(), &good[..good.len() - 1], &format!("{good}0")]
        {
            assert!(bad.parse::<Blake3>().is_err(), "{bad} was taken");
        }
    }
}
