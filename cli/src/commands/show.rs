//! `archyard show BUILD`: the record, for people or as JSON.

use std::fmt::Write as _;
use std::io::Write as _;

use anyhow::Result;
use archyard_model::Plan;
use archyard_proto::v1 as proto;

use crate::args::FarmArgs;
use crate::commands::target::Target;
use crate::exit::Exit;
use crate::farm::Farm;
use crate::view::{Attempt, Build, Job};
use crate::{runtime, text};

/// Show all that is known of a build: platforms, workers, attempts and why they ended, lock, tags.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The build: its id, or a beginning or end of it that fits no other
    build: Target,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    farm: FarmArgs,
}

pub(crate) fn run(args: &Args) -> Result<Exit> {
    let record = runtime::small(async {
        let farm = Farm::find(&args.farm).await?;
        let build_id = args.build.resolve(&farm).await?;
        let answer = farm.builds().get_build(proto::GetBuildRequest { build_id }).await?;
        Ok(Build::from(answer.into_inner().build.unwrap_or_default()))
    })?;
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&record)?)?;
    } else {
        write!(out, "{}", describe(&record)?)?;
    }
    Ok(Exit::Success)
}

fn describe(build: &Build) -> Result<String, std::fmt::Error> {
    let mut out = String::new();
    let mut line = |name: &str, value: &str| writeln!(out, "{name:<11}{value}");
    line("build", &build.id)?;
    match &build.waiting_reason {
        Some(reason) => line("state", &format!("{}: {reason}", build.state))?,
        None => line("state", &build.state)?,
    }
    if let Some(accepted) = build.accepted_at {
        line("accepted", &format!("{accepted:.0} by {}", build.principal))?;
    }
    if let (Some(accepted), Some(ended)) = (build.accepted_at, build.ended_at) {
        line("ended", &format!("{ended:.0} after {}", text::duration(text::between(accepted, ended))))?;
    }
    if let Some(failure) = &build.failure {
        line("failure", &format!("{} ({})", failure.message, failure.code))?;
    }
    if let Some(index) = &build.index {
        line("index", &index.digest)?;
    }
    for tag in &build.tags {
        match (tag.moved, &tag.detail) {
            (true, _) => line("tag", &tag.tag)?,
            (false, detail) => {
                line("tag", &format!("{} not moved: {}", tag.tag, detail.as_deref().unwrap_or("unknown")))?;
            }
        }
    }
    if let Some(plan) = &build.plan {
        describe_plan(&mut out, plan)?;
    }
    for image in build.lock.iter().flat_map(|lock| &lock.images) {
        match &image.digest {
            Some(digest) => writeln!(out, "{:<11}{} {digest}", "locked", image.image)?,
            None => {
                let warning = image.warning.as_deref().unwrap_or("it could not be resolved");
                writeln!(out, "{:<11}{}: {warning}", "unlocked", image.image)?;
            }
        }
    }
    for job in &build.jobs {
        describe_job(&mut out, job)?;
    }
    Ok(out)
}

fn describe_plan(out: &mut String, plan: &Plan) -> std::fmt::Result {
    let mut line = |name: &str, value: &str| writeln!(out, "{name:<11}{value}");
    line("project", plan.project.as_str())?;
    let files = text::count(usize::try_from(plan.context.files).unwrap_or(usize::MAX), "file");
    let size = text::bytes(plan.context.total_bytes);
    line("context", &format!("{} ({files}, {size})", plan.context.digest))?;
    match &plan.target {
        Some(target) => line("dockerfile", &format!("{} at {target}", plan.dockerfile_name))?,
        None => line("dockerfile", &plan.dockerfile_name)?,
    }
    for (name, value) in &plan.build_args {
        line("build-arg", &format!("{name}={value}"))?;
    }
    for (name, value) in &plan.labels {
        line("label", &format!("{name}={value}"))?;
    }
    Ok(())
}

fn describe_job(out: &mut String, job: &Job) -> std::fmt::Result {
    write!(out, "\n{} {}", job.platform, job.state)?;
    if let Some(reason) = &job.waiting_reason {
        write!(out, ": {reason}")?;
    }
    writeln!(out)?;
    for attempt in &job.attempts {
        writeln!(out, "  attempt {} on {}{}", attempt.token, attempt.worker, outcome(attempt))?;
    }
    let result = job.result.as_ref();
    if let Some(digest) = result.and_then(|image| image.manifest_digest.as_ref()) {
        writeln!(out, "  manifest {digest}")?;
    }
    if let Some(digest) = result.and_then(|image| image.config_digest.as_ref()) {
        writeln!(out, "  image    {digest}")?;
    }
    if let Some(failure) = &job.failure {
        if job
            .attempts
            .last()
            .and_then(|last| last.failure.as_ref())
            .is_none_or(|f| f.message != failure.message)
        {
            writeln!(out, "  {} ({})", failure.message, failure.code)?;
        }
        for detail in failure.detail.lines() {
            writeln!(out, "  {detail}")?;
        }
    }
    Ok(())
}

fn outcome(attempt: &Attempt) -> String {
    let took = match (attempt.started_at, attempt.ended_at) {
        (Some(from), Some(to)) => format!(", {}", text::duration(text::between(from, to))),
        (Some(from), None) => format!(", since {from:.0}"),
        (None, _) => String::new(),
    };
    match &attempt.failure {
        Some(failure) => format!("{took}: {} ({})", failure.message, failure.code),
        None => took,
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::view::{Failure, Image, Lock, LockedImage, Tag};

    #[test]
    fn a_record_for_people() {
        let at = |s: i64| Timestamp::new(1_700_000_000 + s, 0).ok();
        let failure = |class, code: &str, message: &str, detail: &str| Failure {
            class,
            code: code.to_owned(),
            message: message.to_owned(),
            detail: detail.to_owned(),
            exit_code: None,
        };
        let attempt = |token, worker: &str, failure| Attempt {
            token,
            worker: worker.to_owned(),
            started_at: at(1),
            ended_at: at(9),
            failure,
            log_bytes: 1,
        };
        let excerpt = "Dockerfile:3\n   3 | >>> RUN make";
        let ran = failure("user", "run_failed", "Dockerfile:3: RUN make failed with exit code 2", excerpt);
        let lost = failure("infrastructure", "worker_lost", "worker w-1 was lost", "");
        let build = Build {
            id: "01ARZ3NDEKTSV4RRFFQ69G5FAV".to_owned(),
            state: "failed".to_owned(),
            waiting_reason: None,
            principal: "local".to_owned(),
            request_id: "r".to_owned(),
            accepted_at: at(0),
            ended_at: at(75),
            failure: Some(ran.clone()),
            index: None,
            tags: vec![Tag {
                tag: "r.example/x:1".to_owned(),
                moved: false,
                detail: Some("a newer build moved it".to_owned()),
            }],
            jobs: vec![
                Job {
                    platform: "linux/amd64".to_owned(),
                    state: "failed".to_owned(),
                    waiting_reason: None,
                    attempts: vec![attempt(1, "w-1", Some(lost)), attempt(2, "w-2", Some(ran.clone()))],
                    result: None,
                    failure: Some(ran),
                },
                Job {
                    platform: "linux/386".to_owned(),
                    state: "succeeded".to_owned(),
                    waiting_reason: None,
                    attempts: vec![attempt(1, "w-3", None)],
                    result: Some(Image {
                        manifest_digest: Some("sha256:aa".to_owned()),
                        manifest_bytes: Some(3),
                        media_type: None,
                        config_digest: Some("sha256:bb".to_owned()),
                    }),
                    failure: None,
                },
            ],
            lock: Some(Lock {
                unlocked: true,
                images: vec![LockedImage {
                    image: "r.example/base:1".to_owned(),
                    digest: None,
                    platforms: Vec::new(),
                    warning: Some("r.example does not answer".to_owned()),
                }],
            }),
            plan: None,
        };
        insta::assert_snapshot!(describe(&build).unwrap());
    }
}
