//! A farm of one worker, of one slot, on one kind of Engine.

use std::process::{Child, Command};

use archyard_tests::farm::{Outcome, PATIENCE, finish};
use archyard_tests::process::wait_for;
use archyard_tests::{Coordinates, Farm, Project, client};
use archyard_worker::engine::DockerEngine;
use serde_json::Value;
use xtask::engine::Kind;

use crate::check::block_on;

pub(super) struct Site {
    pub(super) farm: Farm,
    pub(super) kind: Kind,
    /// The platform that everything is built for.
    pub(super) platform: String,
}

impl Site {
    pub(super) fn on(kind: Kind) -> Self {
        let env = Coordinates::from_env().unwrap();
        let engine = env.engine(kind).unwrap().address.clone();
        let farm = Farm::on(vec![engine], &[], &["--slots", "1"]);
        let named = farm.workers()[0]["engine"].as_str().unwrap().to_owned();
        let version =
            kind.release().map_or_else(|| "20.10".to_owned(), |release| release.engine_version().unwrap());
        // A worker leaves out what the packager added.
        assert!(named.contains(version.split('+').next().unwrap()), "{named}");
        assert_eq!(named.contains("containerd store"), kind.stores_in_containerd(), "{named}");
        let platform = farm.env.native[0].to_string();
        Self { farm, kind, platform }
    }

    /// The Engine itself.
    pub(super) fn engine(&self) -> DockerEngine {
        DockerEngine::connect(&self.farm.env.engine(self.kind).unwrap().address).unwrap()
    }

    pub(super) fn build(&self, project: &Project, args: &[&str]) -> Outcome {
        self.farm.build(project.path(), &[&["--platform", &self.platform], args].concat())
    }

    /// Builds, and says whether that works; else the failure's message.
    pub(super) fn works(&self, project: &Project) -> String {
        let outcome = self.build(project, &[]);
        match outcome.code {
            Some(0) => "works".to_owned(),
            _ => self.newest()["jobs"][0]["failure"]["message"].as_str().unwrap().to_owned(),
        }
    }

    /// What Docker's own client says of the Engine.
    pub(super) fn docker(&self, args: &[&str]) -> String {
        let address = &self.farm.env.engine(self.kind).unwrap().address;
        finish(Command::new("docker").args(["-H", address]).args(args)).expect(0).stdout
    }

    /// Starts a build; returns once the farm knows it as another than `before`.
    pub(super) fn start(&self, project: &Project, out: &std::path::Path) -> (Child, String) {
        let before = self.farm.newest_build();
        let child = self.farm.start_build(project.path(), &["--platform", &self.platform], out);
        let build = wait_for("the build is known", PATIENCE, || {
            self.farm.newest_build().filter(|build| Some(build) != before.as_ref())
        });
        (child, build)
    }

    /// The newest build's record.
    pub(super) fn newest(&self) -> Value {
        self.farm.show(&self.farm.newest_build().unwrap())
    }

    /// The log of a build's only job: what its steps wrote, and what they are called.
    pub(super) fn log(&self, build: &str) -> (String, Vec<String>) {
        let frames = client::frames(&block_on(client::log(&self.farm, build, 0)));
        let steps = client::steps(&frames).into_iter().map(|step| step.name).collect();
        (client::output(&frames), steps)
    }
}
