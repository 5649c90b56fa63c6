//! What inspection costs: seconds beside those of the push that it is part of, and memory of the runner.
//!
//! The image is large and of many files. The farm builds and pushes it, and its runner's memory is looked at while
//! it does; then the same image is pushed again with nothing known of it, by the same code with a clock around
//! what is inspection's own. Both figures of the ratio are of one pass.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use super::{Bench, Figure, Reference, quiet};
use crate::env::Env;
use crate::lint;
use crate::run;
use crate::workspace;

const FOLDERS: usize = 200;
const FILES: usize = 100;
/// Of each: 1 GiB in all.
const FILE_BYTES: usize = (1 << 30) / (FOLDERS * FILES);
const MEMORY_MIB: f64 = 64.0;
const LOOK: Duration = Duration::from_millis(20);

/// The cost of inspecting as a part of pushing, and the runner's peak memory as a part of what it may have.
pub(super) fn figures(bench: &Bench, env: &Env, runs: usize) -> Result<[Figure; 2]> {
    lint::cargo(&["build", "--release", "--package", "archyard-worker", "--example", "inspect_cost"])?;
    let context = bench.project(&format!("FROM {}\nCOPY . /src\n", bench.base))?;
    fill(&context)?;
    let registry = env.registry()?.address();
    let tag = format!("{registry}/bench/inspected:1");
    let metadata = bench.dir.path().join("inspected.json");
    let mut command = bench.our_command(&context, &bench.platforms[..1]);
    command.args(["--push", "-t", &tag]).arg("--metadata-file").arg(&metadata);
    let peak_mib =
        bench.on_one_engine(Reference::Host, || watched(&bench.archyard, || quiet(&mut command)))?;

    let told: Value = serde_json::from_slice(&fs::read(&metadata)?)?;
    let image = told["archyard.platforms"][&bench.platforms[0]]["containerimage.config.digest"].as_str();
    let image = image.with_context(|| format!("{} names no image: {told}", metadata.display()))?;
    let program = workspace::target().join("release/examples/inspect_cost");
    let repository = format!("{registry}/bench/again");
    let (runs, (_, engine)) = (runs.to_string(), bench.site(Reference::Host)?);
    let printed = run::output(Command::new(program).args([engine, image, &repository, &runs]))?;
    let mut pairs = Vec::new();
    for line in printed.lines() {
        let run: Value = serde_json::from_str(line)?;
        let seconds = |name: &str| run[name].as_f64().with_context(|| format!("{line} has no {name}"));
        pairs.push((Duration::from_secs_f64(seconds("inspect")?), Duration::from_secs_f64(seconds("push")?)));
    }
    let memory = Figure {
        name: "memory, 1 GiB, 20,000 files",
        unit: "MiB",
        value: peak_mib,
        baseline: MEMORY_MIB,
        ratio: peak_mib / MEMORY_MIB,
        goal: 1.0,
    };
    Ok([Figure::of("inspect, beside the push", &pairs, 0.05), memory])
}

/// Files that compress about as programs do: half of each is noise.
fn fill(context: &Path) -> Result<()> {
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    for folder in 0..FOLDERS {
        let folder = context.join(format!("folder-{folder:03}"));
        fs::create_dir(&folder)?;
        for file in 0..FILES {
            let mut bytes = Vec::with_capacity(FILE_BYTES);
            while bytes.len() < FILE_BYTES {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                bytes.extend(state.to_le_bytes());
                bytes.extend(b"the same");
            }
            bytes.truncate(FILE_BYTES);
            fs::write(folder.join(format!("file-{file:03}")), bytes)?;
        }
    }
    Ok(())
}

/// Runs `what`, and gives the most memory, in MiB, that any runner of this program had resident meanwhile.
fn watched(program: &Path, what: impl FnOnce() -> Result<()>) -> Result<f64> {
    let is_over = AtomicBool::new(false);
    let peak_kib = thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let mut peak = 0;
            while !is_over.load(Ordering::Relaxed) {
                peak = peak.max(runners_peak_kib(program));
                thread::sleep(LOOK);
            }
            peak
        });
        let done = what();
        is_over.store(true, Ordering::Relaxed);
        let peak = watching.join().map_err(|_| anyhow::anyhow!("watching the runner failed"))?;
        done.map(|()| peak)
    })?;
    anyhow::ensure!(peak_kib > 0, "no runner was seen");
    Ok(f64::from(peak_kib) / 1024.0)
}

/// Of those that run now, the highest peak so far.
fn runners_peak_kib(program: &Path) -> u32 {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let peaks = processes.filter_map(|process| {
        let words = fs::read(process.path().join("cmdline")).ok()?;
        let mut words = words.split(|byte| *byte == 0);
        let is_ours = words.next()? == program.as_os_str().as_encoded_bytes();
        if !is_ours || words.next()? != b"runner" {
            return None;
        }
        let status = fs::read_to_string(process.path().join("status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        line.trim().trim_end_matches(" kB").parse().ok()
    });
    peaks.max().unwrap_or_default()
}
