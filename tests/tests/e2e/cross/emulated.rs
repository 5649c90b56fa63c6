//! No emulator is ever used: neither one that the kernel knows nor one that the Engine finds. Each is shown to be real by
//! what plain Docker builds with it.

use std::path::Path;

use archyard_tests::emulator::Turn;
use archyard_tests::farm::{Outcome, PATIENCE, finish};
use archyard_tests::process::wait_for;
use archyard_tests::project::unique;
use archyard_tests::{Farm, Project};
use serde_json::Value;
use xtask::buildx::Buildx;
use xtask::engine::Kind;
use xtask::env::{Options, Scratch};
use xtask::images::Platform;
use xtask::{busybox, emulator, oci};

/// What is built, for a platform that only an emulator runs here.
struct Site {
    own: String,
    foreign: String,
    /// A base of both platforms.
    base: String,
    /// The same, with an `ONBUILD RUN`.
    trigger: String,
}

impl Site {
    fn new(farm: &Farm) -> Self {
        let (own, foreign) = (farm.env.native[0].clone(), emulator::platform().unwrap());
        let base = |run: Option<&str>| {
            let repository = unique("base/emulated");
            let images = [&own, &foreign].map(|platform: &Platform| {
                let mut image = busybox::image(platform).unwrap();
                if let Some(run) = run {
                    image.config["config"]["OnBuild"] = serde_json::json!([run]);
                }
                image
            });
            oci::push_index(&farm.env.registry, &repository, "1", &images).unwrap();
            format!("{}/{repository}:1", farm.env.registry)
        };
        let trigger = base(Some("RUN echo ran > /mark"));
        Self { own: own.to_string(), foreign: foreign.to_string(), base: base(None), trigger }
    }

    /// Nothing of it runs on its target.
    fn harmless(&self) -> Project {
        let marker = unique("cross");
        Project::new(&format!(
            "FROM --platform=$BUILDPLATFORM {0} AS build\nRUN echo {marker} > /made\nFROM {0}\nCOPY --from=build /made /\n",
            self.base
        ))
    }

    fn triggered(&self) -> Project {
        Project::new(&format!("FROM {}\nCOPY Dockerfile /\n", self.trigger))
    }

    /// What plain Docker makes of a step of the foreign platform on this Engine.
    fn docker(&self, engine: &str) -> Outcome {
        let project = Project::new(&format!(
            "FROM {}\nRUN echo {} && echo ran > /mark\n",
            self.base,
            unique("control")
        ));
        let client = Buildx::new().unwrap();
        finish(
            client
                .build(engine)
                .unwrap()
                .args(["--no-cache", "--platform", &self.foreign])
                .arg(project.path()),
        )
    }

    /// What is not to be built where an emulator is known, each refused before a worker is asked.
    fn refused_at_once(&self, farm: &Farm) {
        let cross = ["--platform", &self.foreign, "--cross", &self.foreign];
        let own = Project::new(&format!("FROM {}\nRUN echo ran > /mark\n", self.base));
        farm.build(own.path(), &cross)
            .expect(2)
            .says(&["Dockerfile:2: RUN of stage", "no emulator is ever used"]);
        farm.build(self.triggered().path(), &cross).expect(1).says(&["ONBUILD RUN echo ran", &self.foreign]);
        let record = farm.show(&farm.newest_build().unwrap());
        assert_eq!(record["failure"]["code"], "cross_run", "{record:#}");
        assert_eq!(record["jobs"][0]["attempts"], serde_json::json!([]), "{record:#}");
    }

    /// A build of which the foreign platform is on trial, so that it does not wait for a worker.
    fn on_trial(&self, farm: &Farm, cross: bool) -> Value {
        let mut args = vec!["--platform", &self.own, "--trial", &self.foreign];
        if cross {
            args.extend(["--cross", &self.foreign]);
        }
        farm.build(self.harmless().path(), &args).expect(0);
        farm.show(&farm.newest_build().unwrap())["jobs"][1].clone()
    }

    fn waits_for_a_native_worker(&self, farm: &Farm) {
        let [worker] = &farm.workers()[..] else { panic!("one worker") };
        assert_eq!(worker["emulated"], serde_json::json!([self.foreign]), "{worker:#}");
        assert!(
            !worker["platforms"].as_array().unwrap().contains(&self.foreign.as_str().into()),
            "{worker:#}"
        );
        for cross in [false, true] {
            let job = self.on_trial(farm, cross);
            assert_eq!(job["failure"]["code"], "no_native_worker", "{job:#}");
            assert_eq!(job["attempts"], serde_json::json!([]), "{job:#}");
        }
    }

    /// A worker that joined before there was an emulator declines, and builds once that is gone.
    fn declined_until(&self, farm: &Farm, words: &str, remove: impl FnOnce()) {
        let out = tempfile::tempdir().unwrap();
        let project = self.harmless();
        let args = ["--platform", &self.foreign, "--cross", &self.foreign];
        let mut client = farm.start_build(project.path(), &args, out.path());
        let declined = wait_for("the worker declines", PATIENCE, || {
            let record = farm.show(&farm.newest_build()?);
            let text = record["jobs"][0]["attempts"][0]["failure"]["message"].as_str()?.to_owned();
            Some(text)
        });
        for word in ["declined the lease", &self.foreign, words, "cross build"] {
            assert!(declined.contains(word), "{word:?} is not in {declined}");
        }
        remove();
        let ended = client.wait().unwrap();
        let said = std::fs::read_to_string(out.path().join("stderr")).unwrap();
        assert!(ended.success(), "{said}");
        let record = farm.show(&farm.newest_build().unwrap());
        assert_eq!(record["jobs"][0]["cross"], self.own.as_str(), "{record:#}");
    }
}

fn emulators_of_the_kernel_are_not_used(kind: Kind) {
    let turn = Turn::take();
    let engine = archyard_tests::Coordinates::from_env().unwrap().engine(kind).unwrap().address.clone();
    let mut farm = Farm::on(vec![engine.clone()], &[], &["--slots", "1"]);
    let site = Site::new(&farm);
    site.docker(&engine).expect(1).says(&["exec format error"]);

    let registered = turn.register();
    site.docker(&engine).expect(0);
    site.refused_at_once(&farm);
    site.declined_until(&farm, "binfmt_misc", move || drop(registered));

    let _registered = turn.register();
    farm.kill_agent(0);
    farm.start_agent(0);
    wait_for("the worker reports the emulator", PATIENCE, || {
        (farm.workers()[0]["emulated"] != serde_json::json!([])).then_some(())
    });
    site.waits_for_a_native_worker(&farm);
    site.refused_at_once(&farm);
}

#[test]
fn an_emulator_of_the_kernel_is_reported_and_never_used_on_20_10() {
    emulators_of_the_kernel_are_not_used(Kind::Host);
}

#[test]
fn an_emulator_of_the_kernel_is_reported_and_never_used_on_28() {
    emulators_of_the_kernel_are_not_used(Kind::SidOverlay);
}

fn emulators_of_the_engine_are_not_used(options: &Options) {
    // Held so that no other test registers one meanwhile: the kernel's goes first.
    let _turn = Turn::take();
    let mut env = Scratch::new(options).unwrap();
    let engine = env.state.engines[0].address();
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("buildkit-qemu-s390x");
    env.state.engines[0].programs = Some(folder.path().to_owned());
    env.kill_engine(0).unwrap();
    env.restart_engine(0).unwrap();
    let mut farm = Farm::on(vec![engine.clone()], &[], &["--slots", "1"]);
    let site = Site::new(&farm);

    site.docker(&engine).expect(1).says(&["exec format error"]);
    install(&program);
    site.docker(&engine).expect(0);
    site.refused_at_once(&farm);
    site.declined_until(&farm, "buildkit-qemu-s390x", || std::fs::remove_file(&program).unwrap());

    install(&program);
    farm.kill_agent(0);
    farm.start_agent(0);
    wait_for("the worker reports the emulator", PATIENCE, || {
        (farm.workers()[0]["emulated"] != serde_json::json!([])).then_some(())
    });
    site.waits_for_a_native_worker(&farm);
}

#[test]
fn an_emulator_on_the_path_of_dockerd_is_reported_and_never_used_on_20_10() {
    emulators_of_the_engine_are_not_used(&Options { engines: 1, ..Options::default() });
}

#[test]
fn an_emulator_on_the_path_of_dockerd_is_reported_and_never_used_on_28() {
    let more = vec![Kind::SidOverlay];
    emulators_of_the_engine_are_not_used(&Options { engines: 0, more, ..Options::default() });
}

fn install(program: &Path) {
    std::fs::copy(emulator::program().unwrap(), program).unwrap();
}
