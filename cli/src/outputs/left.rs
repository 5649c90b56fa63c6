//! What a build left with the farm, as its record says. The record comes from elsewhere: what does not fit is refused here.

use anyhow::{Context as _, Result, bail};
use archyard_model::{Artifact, BuildState, ImageResult, Index, Output, Plan, Platform, convert};
use archyard_proto::v1 as proto;

use crate::build::Updates;
use crate::build::retry::persist;
use crate::farm::Farm;

/// What a build left.
#[derive(Debug, Clone)]
pub(crate) struct Left {
    /// The build.
    pub(crate) build: String,
    /// What was asked.
    pub(crate) plan: Plan,
    /// What each platform left that is not on trial, in the plan's order.
    pub(crate) images: Vec<Image>,
}

/// What one platform left.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    pub(crate) platform: Platform,
    pub(crate) result: ImageResult,
    /// The platform of the worker it was built on, where that is another.
    cross: Option<Platform>,
}

impl Left {
    /// Asks the farm, for as long as it takes.
    pub(crate) async fn ask(farm: &Farm, build: &str, updates: &Updates) -> Result<Self> {
        let answer = persist(updates, None, || {
            let (mut client, request) =
                (farm.builds(), proto::GetBuildRequest { build_id: build.to_owned() });
            async move { client.get_build(request).await }
        });
        let record = answer.await?.into_inner().build.context("the farm answered without a record")?;
        Self::of(convert::record_from_proto(record)?)
    }

    fn of(record: archyard_model::BuildRecord) -> Result<Self> {
        let build = record.id.to_string();
        let plan = record.plan;
        if !plan.output.returns() {
            bail!("build {build} left nothing to fetch: it was to {}", purpose(plan.output));
        }
        if record.state != BuildState::Succeeded {
            bail!("build {build} has nothing to fetch: it is {}; archyard show {build}", record.state);
        }
        let mut images = Vec::new();
        for (index, job) in (0_u16..).zip(record.jobs) {
            if plan.is_trial(index) {
                continue;
            }
            let result =
                job.result.with_context(|| format!("{}: it succeeded without a result", job.platform))?;
            let image = Image { platform: job.platform, result, cross: job.cross };
            image.check(plan.output)?;
            images.push(image);
        }
        Ok(Self { build, plan, images })
    }

    /// The index that a push of these images would publish.
    pub(crate) fn index(&self) -> Result<Index> {
        let manifest = |image: &Image| Some((image.platform.clone(), image.result.manifest.clone()?));
        let images: Vec<_> = self.images.iter().filter_map(manifest).collect();
        let cross = |image: &Image| Some((image.platform.clone(), image.cross.clone()?));
        let cross = self.images.iter().filter_map(cross).collect();
        Index::of(&self.plan, &images, &cross).context("the index cannot be made")
    }
}

impl Image {
    fn check(&self, output: Output) -> Result<()> {
        let artifacts = &self.result.artifacts;
        let sound = if output.is_files() {
            artifacts.len() == 1
        } else {
            let last = artifacts.last().filter(|_| artifacts.len() > 1);
            last.zip(self.result.manifest.as_ref())
                .is_some_and(|(last, manifest)| last.digest == manifest.digest)
        };
        if !sound {
            bail!(
                "{}: its worker did not leave what was asked for; upgrade it and build again",
                self.platform
            );
        }
        Ok(())
    }

    /// The image's config. Not of files.
    pub(crate) fn config(&self) -> &Artifact {
        &self.result.artifacts[0]
    }

    /// Its layers, from the lowest. Not of files.
    pub(crate) fn layers(&self) -> &[Artifact] {
        let artifacts = &self.result.artifacts;
        &artifacts[1..artifacts.len() - 1]
    }
}

fn purpose(output: Output) -> &'static str {
    match output {
        Output::Check => "be verified only; build it with -o",
        Output::Push | Output::Candidate => "go to a registry; pull it from there",
        Output::Oci | Output::Load | Output::Local | Output::Tar => "be fetched",
    }
}
