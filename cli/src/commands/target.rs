//! A build as people name it: its id, or a beginning or end of it that fits no other.
//!
//! Ids begin with their time, so those of one day begin alike; their ends differ. Only the newest
//! [`limits::PAGE_MAX`] builds are looked through.

use std::str::FromStr;

use anyhow::Result;
use archyard_model::{BuildId, Invalid, limits};
use archyard_proto::v1 as proto;

use crate::exit::Refusal;
use crate::farm::Farm;

const SHORTEST: usize = 4;
const FULL: usize = 26;

/// What was written where a build is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// In full.
    Id(BuildId),
    /// A part, in capitals.
    Part(String),
}

impl FromStr for Target {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if text.len() >= FULL {
            return text.parse().map(Self::Id);
        }
        if text.len() < SHORTEST || !text.bytes().all(|b| b.is_ascii_alphanumeric()) {
            let problem = format!(
                "expected the {FULL} characters that `archyard build` or `archyard ps` printed, or {SHORTEST} or more \
                 from its beginning or end"
            );
            return Err(Invalid::new("build", text, problem));
        }
        Ok(Self::Part(text.to_ascii_uppercase()))
    }
}

impl Target {
    /// The id in full; asks the farm only for parts.
    pub(crate) async fn resolve(&self, farm: &Farm) -> Result<String> {
        let part = match self {
            Self::Id(id) => return Ok(id.to_string()),
            Self::Part(part) => part,
        };
        let request = proto::ListBuildsRequest { page_size: limits::PAGE_MAX, ..Default::default() };
        let builds = farm.builds().list_builds(request).await?.into_inner().builds;
        pick(part, builds.into_iter().map(|build| build.build_id))
    }
}

fn pick(part: &str, ids: impl Iterator<Item = String>) -> Result<String> {
    let fits = |id: &String| id.starts_with(part) || id.ends_with(part);
    let mut found: Vec<String> = ids.filter(fits).take(3).collect();
    match (found.pop(), found.len()) {
        (Some(id), 0) => Ok(id),
        (Some(id), _) => Err(Refusal::usage(format!(
            "build {part:?}: more than one fits, {} and {id} among them; write more of it",
            found.join(", ")
        ))),
        (None, _) => anyhow::bail!(
            "build {part:?}: none of the newest {} begins or ends so; see archyard ps --all",
            limits::PAGE_MAX
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit;

    #[test]
    fn ids_in_full_and_parts() {
        let id = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
        assert_eq!(id.parse(), Ok(Target::Id(id.parse().unwrap())));
        assert_eq!("g5fav".parse(), Ok(Target::Part("G5FAV".to_owned())));
        for bad in ["", "abc", "not-an-id", "01ARZ3NDEKTSV4RRFFQ69G5FAVX", "../../etc"] {
            let error = bad.parse::<Target>().unwrap_err().to_string();
            assert!(error.contains("archyard ps"), "{error}");
        }
    }

    #[test]
    fn a_part_must_fit_one() {
        let ids = || ["01AAX", "01AAY", "01BBX"].into_iter().map(str::to_owned);
        assert_eq!(pick("01B", ids()).unwrap(), "01BBX");
        assert_eq!(pick("AY", ids()).unwrap(), "01AAY");
        assert_eq!(exit::of(&pick("01A", ids()).unwrap_err()).code(), 2);
        assert_eq!(exit::of(&pick("ZZ", ids()).unwrap_err()).code(), 1);
    }
}
