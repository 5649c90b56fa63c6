//! Builds that start from another one: its plan, the credentials it asks for, and the new build's own plan.

use std::time::Duration;

use anyhow::{Context as _, Result};
use archyard_model::{Plan, convert};
use archyard_proto::v1 as proto;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::{Response, Status};

use crate::build::UPDATES;
use crate::build::attend::Attend;
use crate::build::credentials::{Keyring, Login};
use crate::build::display::Display;
use crate::build::results::Files;
use crate::build::retry::{BEFORE_SUBMISSION, persist};
use crate::exit::{Exit, Refusal};
use crate::farm::Farm;
use crate::outputs::Outputs;
use crate::progress::{Known, Update};

/// What the farm knows of a build before any of its events.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) plan: Plan,
    pub(crate) known: Known,
}

impl Record {
    /// Asks for it.
    pub(crate) async fn of(farm: &Farm, build: &str) -> Result<Self> {
        let request = proto::GetBuildRequest { build_id: build.to_owned() };
        let record = farm.builds().get_build(request).await?.into_inner().build.unwrap_or_default();
        let known = Known::from(&record);
        let plan = convert::plan_from_proto(record.plan.unwrap_or_default());
        Ok(Self { plan: plan.context("the farm's record is not readable")?, known })
    }
}

/// What this user may do at these registries.
#[derive(Debug)]
pub(crate) struct Logins {
    pub(crate) found: Vec<Login>,
    /// Registries that they are for.
    pub(crate) hosts: Vec<String>,
    warnings: Vec<String>,
}

impl Logins {
    /// Looks all of them up; may run credential helpers.
    pub(crate) fn find(hosts: &[String]) -> Self {
        let keyring = Keyring::open();
        let hosts: Vec<String> = hosts.iter().filter(|host| keyring.has(host)).cloned().collect();
        let (found, warnings) = keyring.into_logins(&hosts);
        Self { found, hosts, warnings }
    }

    /// Refuses a build that would wait for what this user has not.
    pub(crate) fn all_of(wanted: &[String], build: &str) -> Result<Self> {
        let logins = Self::find(wanted);
        match wanted.iter().find(|host| !logins.hosts.contains(host)) {
            Some(host) => Err(Refusal::usage(format!(
                "build {build} needs credentials for {host}, and there are none here; run docker login {host}"
            ))),
            None => Ok(logins),
        }
    }

    /// As they travel.
    pub(crate) fn messages(&self) -> Vec<proto::RegistryCredential> {
        self.found.iter().map(Login::message).collect()
    }
}

/// A build that another one's client follows as if it were its own.
#[derive(Debug)]
pub(crate) struct Again<'a> {
    pub(crate) farm: Farm,
    pub(crate) logins: Logins,
    pub(crate) display: &'a Display,
    pub(crate) files: &'a Files,
    /// Where the result is brought. None: nothing comes back.
    pub(crate) outputs: Option<Outputs>,
    pub(crate) patience: Duration,
}

impl Again<'_> {
    /// Submits by `call`, which may be repeated, and follows what it answers to its end.
    pub(crate) async fn run<F>(self, call: impl FnMut() -> F) -> Result<Exit>
    where
        F: Future<Output = Result<Response<proto::SubmitBuildResponse>, Status>>,
    {
        let Self { farm, logins, display, files, outputs, patience } = self;
        let (updates, told) = mpsc::channel(UPDATES);
        for warning in logins.warnings {
            updates.send(Update::Note(warning)).await.ok();
        }
        let build = persist(&updates, Some(BEFORE_SUBMISSION), call).await?.into_inner().build_id;
        let Record { plan, known } = Record::of(&farm, &build).await?;
        let submitted = {
            let updates = updates.clone();
            async move {
                updates.send(Update::Submitted { build: build.clone() }).await.ok();
                updates.send(Update::Record(Box::new(known))).await.ok();
                Ok(build)
            }
        };
        let stop = CancellationToken::new();
        let logins = logins.found;
        let attend =
            Attend { farm, plan: &plan, logins, display, files, outputs, patience, stop, updates, told };
        Box::pin(attend.run(submitted)).await
    }
}
