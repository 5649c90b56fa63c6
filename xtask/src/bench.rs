//! `cargo xtask bench`: what the farm costs beside Docker's own command line, measured in one call.
//!
//! Each figure is a median of runs that take turns with their baseline, so that a machine whose speed drifts
//! is unfair to neither; what is claimed is the ratio. Nothing is compared with figures of another run.

mod inspect;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::env::{Bases, Env, Options};
use crate::farm;
use crate::images::native;
use crate::lint;
use crate::packages;
use crate::run;
use crate::state::Place;
use crate::workspace;

/// One claim, and whether it held.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// What was measured.
    pub name: &'static str,
    /// Of `value` and `baseline`.
    pub unit: &'static str,
    /// Median.
    pub value: f64,
    /// Median of what it is compared with.
    pub baseline: f64,
    /// Median of the ratios of neighbouring runs.
    pub ratio: f64,
    /// What the ratio is to be at most.
    pub goal: f64,
}

impl Figure {
    fn of(name: &'static str, pairs: &[(Duration, Duration)], goal: f64) -> Self {
        let seconds = |of: fn(&(Duration, Duration)) -> f64| median(pairs.iter().map(of).collect());
        Self {
            name,
            unit: "s",
            value: seconds(|(ours, _)| ours.as_secs_f64()),
            baseline: seconds(|(_, theirs)| theirs.as_secs_f64()),
            ratio: seconds(|(ours, theirs)| ours.as_secs_f64() / theirs.as_secs_f64()),
            goal,
        }
    }

    /// Whether the ratio is within the goal.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.ratio <= self.goal
    }

    fn print(&self, as_json: bool) {
        if as_json {
            println!(
                "{}",
                json!({ "name": self.name, "value": self.value, "unit": self.unit, "baseline": self.baseline,
                        "ratio": self.ratio, "goal": self.goal, "holds": self.holds() })
            );
        } else {
            println!(
                "{:<28} {:>8.3} {unit:<3} baseline {:>8.3} {unit:<3} ratio {:>6.3}  goal {:>4.2}   {}",
                self.name,
                self.value,
                self.baseline,
                self.ratio,
                self.goal,
                if self.holds() { "holds" } else { "MISSED" },
                unit = self.unit
            );
        }
    }
}

/// Measures everything; `runs` pairs a figure.
///
/// # Errors
/// When something does not run, or a goal is missed.
pub fn bench(as_json: bool, runs: usize, install: bool) -> Result<()> {
    lint::cargo(&["build", "--release", "--package", "archyard"])?;
    let place = Place::named("bench");
    if let Some(rest) = Env::open(&place)? {
        rest.down()?;
    }
    if farm::serves(&farm::default_socket()?) {
        bail!(
            "a farm is up on this machine and would be measured too; stop it: cargo xtask quickstart --stop"
        );
    }
    let options = Options {
        engines: 2,
        registry: true,
        bases: Bases::Native,
        outbound: true,
        install,
        ..Options::default()
    };
    let mut env = Env::up(&place, &options)?;
    let measured = packages::ensure_client(&env.root, install)
        .and_then(|()| farm::start(&mut env, &workspace::binary("release")))
        .and_then(|()| measure(&env, runs));
    env.down()?;
    let figures = measured?;
    figures.iter().for_each(|figure| figure.print(as_json));
    let missed: Vec<_> = figures.iter().filter(|figure| !figure.holds()).map(|figure| figure.name).collect();
    if !missed.is_empty() {
        bail!("goals missed: {}", missed.join(", "));
    }
    Ok(())
}

fn measure(env: &Env, runs: usize) -> Result<Vec<Figure>> {
    let bench = Bench::new(env)?;
    // More pairs where both sides are quick and nearly alike.
    let mut figures = vec![
        bench.small("small context, cached", runs * 3, &[], 0.9)?,
        bench.small("small context, cold", runs * 5, &["--no-cache"], 1.0)?,
        bench.unchanged_tree(runs * 3)?,
        bench.two_platforms(runs.div_ceil(2))?,
        bench.long_log(runs)?,
    ];
    // Last: after it the disk has gigabytes to write.
    figures.extend(inspect::figures(&bench, env, runs.min(3))?);
    Ok(figures)
}

/// What the measurements share.
struct Bench {
    dir: tempfile::TempDir,
    archyard: PathBuf,
    docker: PathBuf,
    /// The only Engine that the single-platform figures use, by both sides.
    engine: String,
    /// What it runs.
    platforms: [String; 2],
    base: String,
}

impl Bench {
    fn new(env: &Env) -> Result<Self> {
        let own = PathBuf::from("/usr/bin/docker");
        let engine = env.state.engines.first().context("there is no Engine")?.address();
        Ok(Self {
            dir: tempfile::Builder::new().prefix("bench").tempdir().context("cannot create a folder")?,
            archyard: workspace::binary("release"),
            docker: if own.is_file() { own } else { run::tool("docker")? },
            engine,
            platforms: native()?.map(|platform| platform.to_string()),
            base: env.base()?.reference.clone(),
        })
    }

    /// One platform on one Engine, a tiny context, with more flags for both sides.
    ///
    /// One RUN, not two: the second would race the kernel's taking down of the first's network, and lose 130 ms to it
    /// in about half of all builds, whichever side asked. The median of such runs tells which way the coin fell.
    fn small(&self, name: &'static str, runs: usize, flags: &[&str], goal: f64) -> Result<Figure> {
        let context = self.project(&format!("FROM {}\nCOPY a /a\nRUN echo one\n", self.base))?;
        fs::write(context.join("a"), "a")?;
        self.one_engine(|| {
            let pairs = pairs(
                runs,
                || self.ours(&context, &self.platforms[..1], flags),
                || self.theirs(&context, flags),
            )?;
            Ok(Figure::of(name, &pairs, goal))
        })
    }

    /// 20,000 files of which none changed.
    fn unchanged_tree(&self, runs: usize) -> Result<Figure> {
        let context = self.project(&format!("FROM {}\nCOPY . /src\n", self.base))?;
        for folder in 0..200 {
            let folder = context.join(format!("folder-{folder:03}"));
            fs::create_dir(&folder)?;
            for file in 0..100 {
                fs::write(folder.join(format!("file-{file:03}")), format!("{} {file}", folder.display()))?;
            }
        }
        self.one_engine(|| {
            let pairs = pairs(
                runs,
                || self.ours(&context, &self.platforms[..1], &[]),
                || self.theirs(&context, &[]),
            )?;
            Ok(Figure::of("20,000 unchanged files", &pairs, 0.7))
        })
    }

    /// Both platforms in one build against one after the other, on the same farm.
    fn two_platforms(&self, runs: usize) -> Result<Figure> {
        let context =
            self.project(&format!("FROM {}\nRUN sleep 1\nRUN sleep 1\nRUN sleep 1\n", self.base))?;
        let flags = ["--no-cache"];
        let pairs = pairs(
            runs,
            || self.ours(&context, &self.platforms, &flags),
            || {
                self.ours(&context, &self.platforms[..1], &flags)?;
                self.ours(&context, &self.platforms[1..], &flags)
            },
        )?;
        Ok(Figure::of("two platforms, two workers", &pairs, 0.6))
    }

    /// 50 MB from one step, in lines. Each run's log is whole, or it is no run.
    fn long_log(&self, runs: usize) -> Result<Figure> {
        const LINE: &str = "0123456789 0123456789 0123456789 0123456789 0123456789 012345";
        const LINES: usize = 50_000_000 / (LINE.len() + 1) + 1;
        let step = format!("RUN yes '{LINE}' | head -n {LINES}; echo THE END\n");
        let context = self.project(&format!("FROM {}\n{step}", self.base))?;
        let whole = |command: &mut Command| {
            let output = command.stdin(Stdio::null()).output().context("cannot run a build")?;
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8_lossy(&said);
            let lines = said.lines().filter(|line| line.ends_with(LINE)).count();
            let is_ended = said.lines().any(|line| line.ends_with(" THE END"));
            if !output.status.success() || lines != LINES || !is_ended {
                bail!("{lines} of {LINES} lines arrived, the end {is_ended}; {}", output.status);
            }
            Ok(())
        };
        let flags = ["--no-cache"];
        self.one_engine(|| {
            let pairs = pairs(
                runs,
                || whole(&mut self.our_build(&context, &self.platforms[..1], &flags)),
                || whole(&mut self.their_build(&context, &flags)),
            )?;
            Ok(Figure::of("50 MB from one step", &pairs, 1.2))
        })
    }

    /// Runs `measure` while only the first worker takes leases: both sides share its Engine.
    fn one_engine(&self, measure: impl FnOnce() -> Result<Figure>) -> Result<Figure> {
        run::output(Command::new(&self.archyard).args(["drain", "worker-2"]))?;
        let figure = measure();
        run::output(Command::new(&self.archyard).args(["drain", "worker-2", "--undo"]))?;
        figure
    }

    fn project(&self, dockerfile: &str) -> Result<PathBuf> {
        let dir = tempfile::Builder::new().prefix("project").tempdir_in(self.dir.path())?.keep();
        fs::write(dir.join("Dockerfile"), dockerfile)?;
        Ok(dir)
    }

    fn ours(&self, context: &Path, platforms: &[String], flags: &[&str]) -> Result<()> {
        quiet(&mut self.our_build(context, platforms, flags))
    }

    fn theirs(&self, context: &Path, flags: &[&str]) -> Result<()> {
        quiet(&mut self.their_build(context, flags))
    }

    fn our_build(&self, context: &Path, platforms: &[String], flags: &[&str]) -> Command {
        let mut command = Command::new(&self.archyard);
        command.args(["build", "--progress", "plain", "--platform", &platforms.join(",")]);
        command.args(flags).arg(context);
        command
    }

    fn their_build(&self, context: &Path, flags: &[&str]) -> Command {
        let mut command = Command::new(&self.docker);
        command.args(["-H", &self.engine, "build", "--progress", "plain", "--platform", &self.platforms[0]]);
        command.env("DOCKER_BUILDKIT", "1").env("DOCKER_CONFIG", self.dir.path());
        command.args(flags).arg(context);
        command
    }
}

/// Runs a command, reading and dropping what it says, as a CI system would.
fn quiet(command: &mut Command) -> Result<()> {
    run::output(command.stdin(Stdio::null())).map(drop)
}

/// One uncounted run of each, then pairs of which every other one starts with the baseline.
fn pairs(
    runs: usize,
    ours: impl Fn() -> Result<()>,
    theirs: impl Fn() -> Result<()>,
) -> Result<Vec<(Duration, Duration)>> {
    ours()?;
    theirs()?;
    (0..runs)
        .map(|run| {
            if run % 2 == 0 {
                let first = timed(&ours)?;
                Ok((first, timed(&theirs)?))
            } else {
                let first = timed(&theirs)?;
                Ok((timed(&ours)?, first))
            }
        })
        .collect()
}

fn timed(what: impl Fn() -> Result<()>) -> Result<Duration> {
    let started = Instant::now();
    what()?;
    Ok(started.elapsed())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        even if even % 2 == 0 => f64::midpoint(values[middle - 1], values[middle]),
        _ => values[middle],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_judged_by_the_ratio_of_neighbours() {
        let ms = Duration::from_millis;
        // The machine slowed down tenfold in between: the medians alone would mislead.
        let figure = Figure::of("x", &[(ms(8), ms(10)), (ms(80), ms(100)), (ms(9), ms(100))], 0.9);
        assert!((figure.ratio - 0.8).abs() < 1e-9, "{figure:?}");
        assert!(figure.holds());
        assert!(!Figure { ratio: 0.91, ..figure }.holds());
    }

    #[test]
    fn medians_of_even_and_odd_counts() {
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(vec![4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < f64::EPSILON);
        assert!(median(Vec::new()).is_nan());
    }
}
