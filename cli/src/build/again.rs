//! Builds that start from another one: its plan, the credentials it asks for, and the new build's own plan.

use anyhow::{Context as _, Result};
use archyard_model::{Plan, convert};
use archyard_proto::v1 as proto;
use archyard_proto::v1::build_service_client::BuildServiceClient;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Response, Status};

use crate::args::{FarmArgs, PatienceArgs};
use crate::build::UPDATES;
use crate::build::attend::Attend;
use crate::build::credentials::{Keyring, Login};
use crate::build::display::Display;
use crate::build::results::Files;
use crate::build::retry::{BEFORE_SUBMISSION, persist};
use crate::commands::target::Target;
use crate::exit::{Exit, Refusal};
use crate::farm::Farm;
use crate::outputs::Outputs;
use crate::progress::{Known, Update};

/// A connection to submit by.
pub(crate) type Builds = BuildServiceClient<Channel>;

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

    /// Refuses a build that would wait for what this user has not: `wanted` are the registries whose credentials
    /// the client of `build` brought.
    pub(crate) fn with_all<'a>(
        self,
        wanted: impl IntoIterator<Item = &'a String>,
        build: &str,
    ) -> Result<Self> {
        match wanted.into_iter().find(|host| !self.hosts.contains(host)) {
            Some(host) => Err(Refusal::usage(format!(
                "build {build} needs credentials for {host}, and there are none here; run docker login {host}"
            ))),
            None => Ok(self),
        }
    }

    /// As they travel.
    pub(crate) fn messages(&self) -> Vec<proto::RegistryCredential> {
        self.found.iter().map(Login::message).collect()
    }
}

/// What every command takes that starts from another build.
#[derive(Debug, clap::Args)]
pub(crate) struct AgainArgs {
    #[command(flatten)]
    display: Display,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    farm: FarmArgs,
    #[command(flatten)]
    patience: PatienceArgs,
}

impl AgainArgs {
    /// Finds the build and its plan, and takes away what an earlier build left in this one's files.
    pub(crate) async fn open(&self, target: &Target) -> Result<Again<'_>> {
        self.display.resolved()?;
        let farm = Farm::find(&self.farm).await?;
        let build = target.resolve(&farm).await?;
        let plan = Record::of(&farm, &build).await?.plan;
        self.files.check(&plan)?;
        self.files.clear()?;
        Ok(Again { build, plan, farm, args: self })
    }
}

/// A build from which a new one starts, whose client follows that as if it were one of `archyard build`.
#[derive(Debug)]
pub(crate) struct Again<'a> {
    /// Its id.
    pub(crate) build: String,
    pub(crate) plan: Plan,
    farm: Farm,
    args: &'a AgainArgs,
}

impl Again<'_> {
    /// Submits the new build by `call`, which may be repeated, and follows it to its end. No outputs: nothing comes back.
    pub(crate) async fn follow<F>(
        self,
        logins: Logins,
        outputs: Option<Outputs>,
        call: impl Fn(Builds) -> F,
    ) -> Result<Exit>
    where
        F: Future<Output = Result<Response<proto::SubmitBuildResponse>, Status>>,
    {
        let Self { farm, args: AgainArgs { display, files, patience, .. }, .. } = self;
        let (updates, told) = mpsc::channel(UPDATES);
        for warning in logins.warnings {
            updates.send(Update::Note(warning)).await.ok();
        }
        let submitted = persist(&updates, Some(BEFORE_SUBMISSION), || call(farm.builds())).await?;
        let build = submitted.into_inner().build_id;
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
        let (logins, patience) = (logins.found, patience.farm_timeout);
        let attend = Attend {
            farm,
            plan: &plan,
            planned: None,
            logins,
            display,
            files,
            outputs,
            patience,
            stop,
            updates,
            told,
        };
        Box::pin(attend.run(submitted)).await
    }
}
