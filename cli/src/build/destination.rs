//! The flags of where a result goes. One place a build.

use std::fmt::Display;

use anyhow::Result;
use archyard_model::Output;

use crate::exit::Refusal;
use crate::outputs::OutputSpec;

/// Where a result goes; nowhere unless asked for.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct DestinationArgs {
    /// Publish under every tag
    #[arg(long)]
    push: bool,
    /// Publish into this repository under a tag of its own, for `archyard promote` to give it --tag
    #[arg(long, value_name = "REPOSITORY")]
    candidate: Option<String>,
    #[command(flatten)]
    back: BackArgs,
}

/// Where a result goes that comes back to the client.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct BackArgs {
    /// Bring the result here: a folder, -, or type=oci, load, local or tar with dest=PATH
    #[arg(short, long, value_name = "OUTPUT")]
    output: Vec<String>,
    /// Load the image into this machine's Engine
    #[arg(long)]
    load: bool,
}

/// What was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Destination {
    /// Into a staging repository, for later.
    Candidate(String),
    /// Anything else.
    Spec(OutputSpec),
}

impl DestinationArgs {
    /// The one that was chosen.
    pub(crate) fn chosen(&self) -> Result<Destination> {
        let mut all = self.back.all()?;
        if self.push {
            all.push(("--push".to_owned(), Destination::Spec(OutputSpec::Push)));
        }
        if let Some(repository) = &self.candidate {
            let candidate = Destination::Candidate(repository.clone());
            all.insert(0, (format!("--candidate {repository:?}"), candidate));
        }
        Ok(one(all)?.unwrap_or(Destination::Spec(OutputSpec::Check)))
    }
}

impl BackArgs {
    /// The one that was chosen, if any.
    pub(crate) fn chosen(&self) -> Result<Option<OutputSpec>> {
        Ok(match one(self.all()?)? {
            Some(Destination::Spec(spec)) => Some(spec),
            Some(Destination::Candidate(_)) | None => None,
        })
    }

    fn all(&self) -> Result<Vec<(String, Destination)>> {
        let mut all = Vec::new();
        for text in &self.output {
            all.push((format!("--output {text:?}"), Destination::Spec(text.parse()?)));
        }
        if self.load {
            all.push(("--load".to_owned(), Destination::Spec(OutputSpec::Load)));
        }
        Ok(all)
    }
}

impl Destination {
    /// What the plan is asked for.
    pub(crate) fn output(&self) -> Output {
        match self {
            Self::Candidate(_) => Output::Candidate,
            Self::Spec(spec) => spec.output(),
        }
    }
}

fn one(mut all: Vec<(String, Destination)>) -> Result<Option<Destination>> {
    all.dedup_by(|a, b| a.1 == b.1);
    match all.as_slice() {
        [] => Ok(None),
        [(_, only)] => Ok(Some(only.clone())),
        [(first, Destination::Candidate(_)), (second, _), ..] => {
            Err(refused(first, format!("a candidate goes nowhere else yet; leave out {second}")))
        }
        [(first, _), (second, _), ..] => {
            Err(refused(first, format!("a build has one output; leave out this or {second}")))
        }
    }
}

fn refused(flag: &str, problem: impl Display) -> anyhow::Error {
    Refusal::usage(format!("{flag}: {problem}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(push: bool, candidate: Option<&str>, output: &[&str], load: bool) -> Result<Destination> {
        let output = output.iter().map(|text| (*text).to_owned()).collect();
        let candidate = candidate.map(str::to_owned);
        DestinationArgs { push, candidate, back: BackArgs { output, load } }.chosen()
    }

    #[test]
    fn one_of_them() {
        let spec = |spec| Destination::Spec(spec);
        assert_eq!(ask(false, None, &[], false).unwrap(), spec(OutputSpec::Check));
        assert_eq!(ask(true, None, &["type=registry"], false).unwrap(), spec(OutputSpec::Push));
        assert_eq!(ask(false, None, &["type=docker"], true).unwrap(), spec(OutputSpec::Load));
        assert_eq!(ask(false, Some("r/x"), &[], false).unwrap().output(), Output::Candidate);
        for (push, candidate, output, load, want) in [
            (true, Some("r/x"), &[][..], false, "--candidate \"r/x\": a candidate goes nowhere else yet"),
            (true, None, &[], true, "--load: a build has one output; leave out this or --push"),
            (true, None, &["out"], false, "--output \"out\": a build has one output"),
            (false, None, &["a", "b"], false, "leave out this or --output \"b\""),
            (false, Some("r/x"), &["-"], false, "nowhere else yet; leave out --output \"-\""),
            (false, None, &["type=what"], false, "--output \"type=what\": "),
        ] {
            let error = ask(push, candidate, output, load).unwrap_err().to_string();
            assert!(error.contains(want), "{error}");
        }
    }
}
