//! `archyard show BUILD`: the record, for people or as JSON.

use std::fmt::Write as _;
use std::io::Write as _;

use anyhow::Result;
use archyard_model::{Output, Plan};
use archyard_proto::v1 as proto;

use crate::args::FarmArgs;
use crate::commands::target::Target;
use crate::exit::Exit;
use crate::farm::Farm;
use crate::progress::clean;
use crate::view::{Attempt, Build, Image, Job, Left};
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
        Ok(Build::from(answer.into_inner()))
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
    if let Some(origin) = &build.origin {
        line("origin", &format!("{} of {}", origin.kind, origin.build))?;
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
        if let (Output::Candidate, "succeeded") = (plan.output, build.state.as_str()) {
            let tags: Vec<String> = plan.tags.iter().map(ToString::to_string).collect();
            let gives = if tags.is_empty() { " -t NAME" } else { "" };
            let tags = if tags.is_empty() { "a tag".to_owned() } else { tags.join(", ") };
            writeln!(out, "{:<11}archyard promote {}{gives} gives it {tags}", "next", build.id)?;
        }
    }
    if let Some(left) = build.artifacts.first() {
        writeln!(out, "{:<11}{}", "artifacts", kept(left, build))?;
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
        for left in build.artifacts.iter().filter(|left| left.platform == job.platform) {
            let kind = clean(left.media_type.as_bytes());
            writeln!(out, "  artifact {} {}  {kind}", left.digest, text::bytes(left.bytes))?;
        }
    }
    Ok(out)
}

/// Until when what a build left is there, and how it is had.
fn kept(left: &Left, build: &Build) -> String {
    match (left.kept, left.kept_until) {
        (false, _) => "gone: they were fetched, or their time was over".to_owned(),
        (true, None) => "kept".to_owned(),
        (true, Some(until)) if build.state == "succeeded" => {
            format!("kept until {until:.0}; archyard fetch {} -o OUTPUT brings them", build.id)
        }
        (true, Some(until)) => format!("kept until {until:.0}"),
    }
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
    let output = serde_json::to_value(plan.output).ok();
    let output = output.as_ref().and_then(|word| word.as_str()).unwrap_or_default();
    match &plan.staging {
        Some(staging) => line("output", &format!("{output} in {staging}"))?,
        None => line("output", output)?,
    }
    for words in &plan.checks.smoke_tests {
        let words = if words.trim().is_empty() { "the image's own command" } else { words };
        line("smoke-test", words)?;
    }
    for annotation in &plan.annotations {
        line("annotation", &format!("{}={}", annotation.key, annotation.value))?;
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
    let standing = [
        job.trial.then(|| "on trial".to_owned()),
        job.cross.as_ref().map(|builder| format!("built on {builder}")),
        job.carried.then(|| "taken over".to_owned()),
    ];
    let standing: Vec<String> = standing.into_iter().flatten().collect();
    if !standing.is_empty() {
        write!(out, " ({})", standing.join(", "))?;
    }
    match (&job.waiting_reason, &job.queue) {
        (Some(reason), _) => write!(out, ": {reason}")?,
        (None, Some(queue)) => write!(out, ": {}", queue.describe())?,
        (None, None) => {}
    }
    writeln!(out)?;
    for attempt in &job.attempts {
        writeln!(out, "  attempt {} on {}{}", attempt.token, attempt.worker, outcome(attempt))?;
        if let Some(warning) = &attempt.log_warning {
            writeln!(out, "    warning  its log is not whole: {}", clean(warning.as_bytes()))?;
        }
    }
    let result = job.result.as_ref();
    if let Some(digest) = result.and_then(|image| image.manifest_digest.as_ref()) {
        writeln!(out, "  manifest {digest}")?;
    }
    if let Some(digest) = result.and_then(|image| image.config_digest.as_ref()) {
        writeln!(out, "  image    {digest}")?;
    }
    if let Some(image) = result {
        describe_image(out, job, image)?;
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

/// What was found in it; names that come from the image may not steer a terminal.
fn describe_image(out: &mut String, job: &Job, image: &Image) -> std::fmt::Result {
    if let Some(found) = &image.inspection {
        if let Some(command) = &found.command {
            let machine = found.machine.as_ref().map(|machine| format!(" ({machine})")).unwrap_or_default();
            writeln!(out, "  runs     {}{machine}", clean(command.as_bytes()))?;
        }
        if let Some(level) = &found.requires {
            writeln!(out, "  warning  it demands {level}, which {} does not promise", job.platform)?;
        }
        for file in &found.foreign {
            writeln!(
                out,
                "  warning  {} is for {}",
                clean(file.path.as_bytes()),
                clean(file.machine.as_bytes())
            )?;
        }
        let more = found.foreign_files.saturating_sub(found.foreign.len() as u64);
        if more > 0 {
            writeln!(out, "  warning  and {more} more executables of other machines")?;
        }
    }
    match image.smoke {
        Some("passed") => writeln!(out, "  smoke tests passed"),
        Some(_) if job.cross.is_some() => writeln!(out, "  smoke tests not run: cross"),
        Some(_) => writeln!(out, "  smoke tests not run"),
        None => Ok(()),
    }
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
    use crate::view::{Failure, ForeignFile, Inspection, Lock, LockedImage, Origin, Tag};

    #[test]
    fn how_long_artifacts_are_kept_is_told() {
        let left = |kept, kept_until| Left {
            platform: String::new(),
            media_type: String::new(),
            digest: String::new(),
            bytes: 1,
            kept,
            kept_until,
        };
        let at = Timestamp::new(1_700_000_000, 5).ok();
        let build = |state: &str| Build {
            id: "B".to_owned(),
            state: state.to_owned(),
            ..Build::from(proto::GetBuildResponse::default())
        };
        for (state, left, said) in [
            ("succeeded", left(false, None), "gone: they were fetched, or their time was over"),
            ("running", left(true, None), "kept"),
            ("failed", left(true, at), "kept until 2023-11-14T22:13:20Z"),
            (
                "succeeded",
                left(true, at),
                "kept until 2023-11-14T22:13:20Z; archyard fetch B -o OUTPUT brings them",
            ),
        ] {
            assert_eq!(kept(&left, &build(state)), said);
        }
    }

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
            log_warning: None,
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
            origin: Some(Origin { kind: "rerun", build: "01ARZ3NDEKTSV4RRFFQ69G5FAA".to_owned() }),
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
                    trial: true,
                    cross: None,
                    carried: false,
                    state: "failed".to_owned(),
                    waiting_reason: None,
                    queue: None,
                    attempts: vec![attempt(1, "w-1", Some(lost)), attempt(2, "w-2", Some(ran.clone()))],
                    result: None,
                    failure: Some(ran),
                },
                Job {
                    platform: "linux/386".to_owned(),
                    trial: false,
                    cross: Some("linux/amd64".to_owned()),
                    carried: true,
                    state: "succeeded".to_owned(),
                    waiting_reason: None,
                    queue: None,
                    attempts: vec![attempt(1, "w-3", None)],
                    result: Some(Image {
                        manifest_digest: Some("sha256:aa".to_owned()),
                        manifest_bytes: Some(3),
                        media_type: None,
                        config_digest: Some("sha256:bb".to_owned()),
                        smoke: Some("not_run"),
                        inspection: Some(Inspection {
                            command: Some("/usr/bin/x\u{1b}[2J".to_owned()),
                            machine: Some("x86".to_owned()),
                            requires: None,
                            foreign: vec![ForeignFile {
                                path: "/lib/firmware/\u{1b}]0;x\u{7}a".to_owned(),
                                machine: "aarch64".to_owned(),
                            }],
                            foreign_files: 3,
                        }),
                        artifacts: Vec::new(),
                    }),
                    failure: None,
                },
            ],
            artifacts: vec![Left {
                platform: "linux/386".to_owned(),
                media_type: "application/x-tar".to_owned(),
                digest: "sha256:cc".to_owned(),
                bytes: 3 << 19,
                kept: true,
                kept_until: at(6 * 60 * 60),
            }],
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
