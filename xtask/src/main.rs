//! The command line: `cargo xtask COMMAND`. Each command is a function of the
//! library; nothing is decided here.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use xtask::busybox;
use xtask::coordinates::{self, Coordinates};
use xtask::dist::Arch;
use xtask::engine::Kind;
use xtask::env::{self, Env};
use xtask::state::Place;
use xtask::{bench, dist, emulator, interrupt, lint, quickstart, test};

/// The habits of the trade.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct Install {
    /// Install nothing: fail where a Debian package or a cargo tool is missing
    #[arg(long, env = "ARCHYARD_NO_INSTALL", value_parser = clap::builder::FalseyValueParser::new(), action = clap::ArgAction::SetTrue)]
    no_install: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a farm on this machine and build the sample project on it
    Quickstart {
        /// Take the farm down afterwards
        #[arg(long, conflicts_with = "stop")]
        once: bool,
        /// Take down the farm that an earlier quickstart left running
        #[arg(long)]
        stop: bool,
        #[command(flatten)]
        install: Install,
    },
    /// Run all tests, over Engines and a registry started for them
    Test {
        /// Run the tests that need an aarch64 machine, and only those, over one that qemu emulates
        #[arg(long)]
        aarch64_vm: bool,
        #[command(flatten)]
        install: Install,
        /// Passed to `cargo nextest run`
        #[arg(last = true)]
        extra: Vec<OsString>,
    },
    /// Check format and clippy's warnings
    Lint,
    /// Build `archyard` as a static file for each kind of machine
    Dist {
        /// For this kind of machine only; repeat for several [default: all]
        #[arg(long = "arch", value_enum)]
        archs: Vec<Arch>,
        /// Profile of cargo's to build with
        #[arg(long, default_value = dist::RELEASE)]
        profile: String,
        #[command(flatten)]
        install: Install,
    },
    /// Measure the farm against Docker's own command line
    Bench {
        /// One JSON object a line: name, value, unit, baseline, ratio, goal, holds
        #[arg(long)]
        json: bool,
        /// Pairs of runs a figure
        #[arg(long, default_value_t = 11)]
        runs: usize,
        #[command(flatten)]
        install: Install,
    },
    /// Engines, registry and base images for developers: as the tests have them
    Env {
        #[command(subcommand)]
        command: EnvCommand,
    },
}

#[derive(Debug, Subcommand)]
enum EnvCommand {
    /// Start them, unless they run, and print where they are, for a shell's `eval`
    Up {
        /// Which: each name is an environment of its own
        #[arg(long, default_value = "dev")]
        name: String,
        /// Which Engines, one a flag [default: those of the tests]
        #[arg(long = "engine", value_name = "KIND", value_enum)]
        engines: Vec<Kind>,
        #[command(flatten)]
        install: Install,
    },
    /// Take them down
    Down {
        /// Which
        #[arg(long, default_value = "dev")]
        name: String,
    },
    /// Print where they are, if they run
    Status {
        /// Which
        #[arg(long, default_value = "dev")]
        name: String,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match interrupt::install().and_then(|()| run(cli.command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(if interrupt::asked() { 130 } else { 1 })
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Quickstart { stop: true, .. } => quickstart::stop(),
        Command::Quickstart { once, install, .. } => quickstart::quickstart(once, !install.no_install),
        Command::Test { aarch64_vm: true, install, extra } => test::on_machine(&extra, !install.no_install),
        Command::Test { install, extra, .. } => test::test(&extra, !install.no_install),
        Command::Lint => lint::lint(),
        Command::Dist { archs, profile, install } => {
            let archs = if archs.is_empty() { &Arch::ALL } else { archs.as_slice() };
            dist::dist(archs, &profile, !install.no_install)
        }
        Command::Bench { json, runs, install } => bench::bench(json, runs.max(1), !install.no_install),
        Command::Env { command } => environment(command),
    }
}

fn environment(command: EnvCommand) -> Result<()> {
    match command {
        EnvCommand::Up { name, engines, install } => {
            let place = Place::named(&name);
            let options = test::environment(!install.no_install).with_engines(&engines);
            let env = match Env::open(&place)? {
                Some(env) if env.state.is_alive() && Coordinates::of(&env, "debug").is_ok() => {
                    let running: Vec<Kind> = env.state.engines.iter().map(|engine| engine.kind).collect();
                    if !engines.is_empty() && running != options.kinds() {
                        anyhow::bail!(
                            "the environment {name} is up with other Engines ({}): choose another --name, or first \
                             cargo xtask env down --name {name}",
                            running.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(", ")
                        );
                    }
                    // It may have been brought up before the tests wanted all of them.
                    busybox::ensure_every()?;
                    emulator::ensure()?;
                    env
                }
                rest => {
                    // Half of one, if any.
                    rest.map_or(Ok(()), Env::down)?;
                    test::prepare(!install.no_install)?;
                    Env::up(&place, &options)?
                }
            };
            print_addresses(&env)
        }
        EnvCommand::Down { name } => match Env::open(&Place::named(&name))? {
            Some(env) => env.down().and_then(|()| env::sweep_scratches()),
            None => {
                eprintln!("xtask: no environment {name} is up");
                Ok(())
            }
        },
        EnvCommand::Status { name } => match Env::open(&Place::named(&name))? {
            Some(env) => print_addresses(&env),
            None => anyhow::bail!("no environment {name} is up: cargo xtask env up --name {name}"),
        },
    }
}

fn print_addresses(env: &Env) -> Result<()> {
    let all = Coordinates::of(env, "debug")?;
    for (engine, number) in all.engines.iter().chain(&all.more_engines).zip(1..) {
        if engine.kind != Kind::Host {
            eprintln!("xtask: ARCHYARD_ENGINE_{number} is of the kind {}", engine.kind.name());
        }
        println!("export ARCHYARD_ENGINE_{number}={}", engine.address);
    }
    println!("export ARCHYARD_REGISTRY={}", all.registry);
    println!("export ARCHYARD_BASE={}", all.base.reference);
    println!("export {}={}", coordinates::VARIABLE, all.write(env)?.display());
    Ok(())
}
