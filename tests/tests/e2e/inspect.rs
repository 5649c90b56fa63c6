//! Nothing is handed over before it was inspected: an image is for the platform that was asked for, and what it says
//! it runs is there and can run.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::Command;

use archyard_model::{Checks, Platform};
use archyard_proto::v1::log_frame::Frame;
use archyard_tests::farm::{PATIENCE, finish};
use archyard_tests::process::wait_for;
use archyard_tests::project::unique;
use archyard_tests::{Coordinates, Farm, Outcome, Project, client};
use archyard_worker::inspect::{Config, Index, Job, Tree, Written, judge};
use serde_json::Value;
use xtask::engine::Kind;
use xtask::images::{Entry, Image, tar};
use xtask::{busybox, http, oci};

use crate::check::{block_on, native};

/// A farm of one worker on an Engine of this kind, and how to ask that Engine.
struct On {
    farm: Farm,
    socket: PathBuf,
    /// A label of every image that is built here.
    mark: String,
}

impl On {
    fn new(kind: Kind) -> Self {
        let env = Coordinates::from_env().unwrap();
        let engine = env.engine(kind).unwrap();
        let farm = Farm::on(vec![engine.address.clone()], &[], &["--slots", "1"]);
        Self { farm, socket: engine.socket.clone(), mark: unique("inspected") }
    }

    /// Builds for the first native platform. Whatever comes of it, the worker's disk is as before, but for an image
    /// in the Engine that is noted for removal.
    fn build(&self, project: &Project, args: &[&str]) -> Outcome {
        let platform = self.farm.env.native[0].to_string();
        let label = format!("mark={}", self.mark);
        let args = [&["--platform", &platform, "--label", &label], args].concat();
        let outcome = self.farm.build(project.path(), &args);
        let path = format!("/images/json?all=1&filters=%7B%22label%22%3A%5B%22{label}%22%5D%7D");
        let images: Value = serde_json::from_str(&http::get_unix(&self.socket, &path).unwrap()).unwrap();
        let worker = self.farm.worker_dir(0);
        for image in images.as_array().unwrap() {
            let id = image["Id"].as_str().unwrap().trim_start_matches("sha256:");
            assert!(worker.join("images").join(id).is_file(), "nobody will remove {image}");
        }
        for folder in ["attempts", "layers/tmp", "inspected/tmp"] {
            wait_for(&format!("{folder} is empty"), PATIENCE, || {
                match std::fs::read_dir(worker.join(folder)) {
                    Ok(mut entries) => entries.next().is_none().then_some(()),
                    // Nothing was ever taken out of the Engine.
                    Err(error) => (error.kind() == ErrorKind::NotFound).then_some(()),
                }
            });
        }
        outcome
    }

    /// A build that has to fail in inspection: once, with this code and these words, and nothing left in a registry.
    #[track_caller]
    fn refuses(&self, project: &Project, code: &str, says: &[&str]) {
        let repository = unique("refused");
        let name = format!("{}/{repository}:v1", self.farm.env.registry);
        let outcome = self.build(project, &["--push", "-t", &name]);
        let record = self.farm.show(&self.farm.newest_build().unwrap());
        let job = &record["jobs"][0];
        assert_eq!(job["failure"]["code"], code, "{record:#}\n{}", outcome.stderr);
        outcome.expect(1).says(says);
        assert_eq!(job["failure"]["class"], "user");
        assert_eq!(job["attempts"].as_array().unwrap().len(), 1, "it is not tried again: {record:#}");
        assert!(!oci::is_known(&self.farm.env.registry, &repository).unwrap(), "something was sent");
    }

    /// What was found in the newest build's first image.
    fn inspection(&self) -> Value {
        let record = self.farm.show(&self.farm.newest_build().unwrap());
        record["jobs"][0]["result"]["inspection"].clone()
    }

    fn log(&self) -> Vec<archyard_proto::v1::LogFrame> {
        let build = self.farm.newest_build().unwrap();
        client::frames(&block_on(client::log(&self.farm, &build, 0)))
    }

    fn native(&self) -> Vec<u8> {
        busybox::binary(&self.farm.env.native[0]).unwrap()
    }

    fn foreign(&self) -> Vec<u8> {
        busybox::binary(&self.farm.env.foreign[0]).unwrap()
    }
}

/// A project whose context has these files.
fn project(dockerfile: &str, files: &[(&str, &[u8])]) -> Project {
    let project = Project::new(dockerfile);
    for (path, content) in files {
        project.write(path, content);
    }
    project
}

fn phases(log: &[archyard_proto::v1::LogFrame]) -> Vec<String> {
    let phase = |frame: &archyard_proto::v1::LogFrame| match &frame.frame {
        Some(Frame::Phase(phase)) => Some(phase.name.clone()),
        _ => None,
    };
    log.iter().filter_map(phase).collect()
}

#[test]
fn a_good_image_passes_on_every_engine_and_its_record_says_what_it_runs() {
    for kind in Kind::ALL {
        let on = On::new(kind);
        let text = format!(
            "FROM BASE\nCOPY app /app\nRUN echo {}\nENTRYPOINT [\"/app\", \"true\"]\n",
            unique("good")
        );
        let good = project(&text, &[("app", &on.native())]);
        finish(Command::new("chmod").arg("755").arg(good.join("app"))).expect(0);
        for run in 0..2 {
            on.build(&good, &[]).expect(0);
            let inspection = on.inspection();
            assert_eq!(inspection["command"], "/app", "{}: {inspection:#}", kind.name());
            assert_eq!(inspection["machine"], machine(&on.farm.env.native[0]));
            let phases = phases(&on.log());
            assert!(phases.contains(&"inspect".to_owned()), "run {run}: {phases:?}");
        }
        // Known layers under another config.
        good.write("Dockerfile", format!("{}LABEL x=y\n", text_of(&good)).as_bytes());
        on.build(&good, &[]).expect(0);
        assert_eq!(on.inspection()["command"], "/app");
    }
}

fn text_of(project: &Project) -> String {
    std::fs::read_to_string(project.join("Dockerfile")).unwrap()
}

fn machine(platform: &xtask::images::Platform) -> &'static str {
    match platform.to_string().as_str() {
        "linux/amd64" => "x86-64",
        "linux/arm64" => "aarch64",
        "linux/386" => "i386",
        other => panic!("{other}"),
    }
}

#[test]
fn a_foreign_command_is_refused_on_every_engine_before_anything_is_pushed() {
    for kind in Kind::ALL {
        let on = On::new(kind);
        let text = format!(
            "FROM BASE\nRUN echo {}\nCOPY --chmod=755 app /usr/bin/app\nCMD [\"app\"]\n",
            unique("foreign")
        );
        let bad = project(&text, &[("app", &on.foreign())]);
        let (found, expected) = (machine(&on.farm.env.foreign[0]), machine(&on.farm.env.native[0]));
        on.refuses(&bad, "command_foreign", &["Dockerfile:3: ", "\"app\"", found, expected, ">>> COPY"]);
        // Again, with all of it known.
        on.refuses(&bad, "command_foreign", &["Dockerfile:3: ", found, expected]);
    }
}

#[test]
fn one_half_that_is_foreign_keeps_the_whole_from_its_tag() {
    let farm = Farm::start(2);
    let [own, sibling] = &farm.env.native;
    let arch =
        |platform: &xtask::images::Platform| platform.json()["architecture"].as_str().unwrap().to_owned();
    let halves = [
        (format!("app-{}", arch(own)), busybox::binary(&farm.env.foreign[0]).unwrap()),
        (format!("app-{}", arch(sibling)), busybox::binary(sibling).unwrap()),
    ];
    let files: Vec<(&str, &[u8])> =
        halves.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    let text = format!(
        "FROM BASE\nARG TARGETARCH\nRUN echo {}\nCOPY --chmod=755 app-$TARGETARCH /app\nENTRYPOINT [\"/app\"]\n",
        unique("half")
    );
    let halves = project(&text, &files);
    let repository = unique("half");
    let name = format!("{}/{repository}:v1", farm.env.registry);
    farm.build(halves.path(), &["--platform", &native(&farm), "--push", "-t", &name]).expect(1).says(&[
        &own.to_string(),
        "Dockerfile:4: ",
        &format!("is made for {}, and the image is for {}", machine(&farm.env.foreign[0]), machine(own)),
    ]);
    let record = farm.show(&farm.newest_build().unwrap());
    assert_eq!(record["jobs"][0]["failure"]["code"], "command_foreign", "{record:#}");
    assert_eq!(record["tags"].as_array().map_or(0, Vec::len), 0, "{record:#}");
    assert!(oci::tags(&farm.env.registry, &repository).map_or(true, |tags| tags.is_empty()));
}

#[test]
fn commands_that_are_not_there() {
    let on = On::new(Kind::Host);
    let row = |rest: &str, code, says: &[&str]| {
        on.refuses(&project(&format!("FROM BASE\n{rest}\n"), &[]), code, says);
    };
    row("CMD [\"/nope\"]", "command_not_found", &["Dockerfile:2: ", "\"/nope\"", "COPY"]);
    row("ENTRYPOINT [\"nope\"]", "command_not_found", &["Dockerfile:2: ", "PATH="]);
    row("RUN ln -s /gone /a\nCMD [\"/a\"]", "command_dangling_link", &["Dockerfile:2: ", "\"/gone\""]);
    row(
        "RUN ln -s b /a && ln -s a /b\nCMD [\"/a\"]",
        "command_link_loop",
        &["Dockerfile:2: ", "back to itself"],
    );
    row("RUN cp /bin/busybox /a\nRUN rm /a\nCMD [\"/a\"]", "command_not_found", &["Dockerfile:4: "]);
    row(
        "RUN mknod /a c 1 3 && chmod 755 /a\nCMD [\"/a\"]",
        "command_no_file",
        &["Dockerfile:2: ", "a device"],
    );
    row("RUN cp /bin/busybox /a && chmod 644 /a\nCMD [\"/a\"]", "command_not_executable", &["--chmod=755"]);
    row("CMD [\"/bin\"]", "command_no_file", &["a folder"]);
}

/// In the Engine's folder such a name is a file like any other; who pulls the image finds no shell.
#[test]
fn what_only_a_tar_takes_away_is_missed_without_one_too() {
    for kind in Kind::ALL {
        let on = On::new(kind);
        let project = project("FROM BASE\nRUN touch /bin/.wh.sh\nCMD [\"sh\"]\n", &[]);
        let outcome = on.build(&project, &[]);
        let record = on.farm.show(&on.farm.newest_build().unwrap());
        assert_eq!(record["jobs"][0]["failure"]["code"], "command_not_found", "{}", outcome.stderr);
        outcome.expect(1);
    }
}

#[test]
fn a_command_in_shell_form_is_no_way_around() {
    for kind in Kind::ALL {
        let on = On::new(kind);
        let text = "FROM BASE\nCOPY --chmod=755 app /usr/bin/app\nENTRYPOINT exec app --serve\n";
        let project = project(text, &[("app", &on.foreign())]);
        let says = ["Dockerfile:2: ", "\"app\"", machine(&on.farm.env.foreign[0])];
        on.refuses(&project, "command_foreign", &says);
        // The base's own is taken back.
        let text = "FROM BASE AS base\nENTRYPOINT [\"/nope\"]\nFROM base\nENTRYPOINT []\nCMD [\"true\"]\n";
        on.build(&self::project(text, &[]), &[]).expect(0);
    }
}

#[test]
fn scripts_without_a_fitting_interpreter() {
    let on = On::new(Kind::Host);
    let script = |line: &str| {
        format!(
            "FROM BASE\nCOPY foreign /opt/sh\nRUN chmod 755 /opt/sh && printf '{line}\\necho\\n' > /a && chmod 755 /a\nCMD [\"/a\"]\n"
        )
    };
    let row = |line: &str, code, says: &[&str]| {
        on.refuses(&project(&script(line), &[("foreign", &on.foreign())]), code, says);
    };
    row("#!/bin/bash", "interpreter_not_found", &["Dockerfile:3: ", "\"/bin/bash\"", "/a"]);
    row(
        "#!/opt/sh",
        "interpreter_foreign",
        &["Dockerfile:3: ", "\"/opt/sh\"", machine(&on.farm.env.foreign[0])],
    );
    row("#!/bin/sh\\r", "interpreter_carriage_return", &["carriage return"]);
    row("#!/bin/sh -e\\r", "interpreter_carriage_return", &["\"/bin/sh\"", "carriage return"]);
    row("#!/bin/sh \\r", "interpreter_carriage_return", &["carriage return"]);
}

#[test]
fn a_command_that_its_user_may_not_execute_is_a_warning() {
    for kind in Kind::ALL {
        let on = On::new(kind);
        let build = |mode: &str| {
            let dockerfile = format!(
                "FROM BASE\nCOPY --chmod={mode} {0} /app\nUSER 1000:50\nCMD [\"/app\"]\nLABEL unique={0}\n",
                unique("user")
            );
            let name = dockerfile.split_whitespace().nth(4).unwrap().to_owned();
            let project = project(&dockerfile, &[(&name, b"#!/bin/sh\n")]);
            let platform = on.farm.env.native[0].to_string();
            on.farm.build(project.path(), &["--platform", &platform]).expect(0)
        };
        let warning = "USER 1000:50 may not execute the image's command \"/app\": /app has mode 0700 and belongs to 0:0";
        build("700").says(&["WARN: ", warning]);
        assert!(!build("755").stderr.contains("USER 1000:50"));
    }
}

#[test]
fn programs_that_are_none() {
    let on = On::new(Kind::Host);
    let whole = on.native();
    let patched = |at: usize, with: &[u8]| {
        let mut bytes = whole.clone();
        bytes[at..at + with.len()].copy_from_slice(with);
        bytes
    };
    for (app, code, says) in [
        (whole[..100].to_vec(), "command_broken_program", "program headers lie beyond its end"),
        (whole[..whole.len() / 2].to_vec(), "command_broken_program", "it is cut off"),
        (patched(32, &[0xff; 8]), "command_broken_program", "beyond its end"),
        (patched(18, &[0xef, 0xbe]), "command_foreign", "machine 0xbeef"),
        (b"no program\n".to_vec(), "command_no_program", "exec format error"),
    ] {
        let bad = project("FROM BASE\nCOPY --chmod=755 app /app\nCMD [\"/app\"]\n", &[("app", &app)]);
        on.refuses(&bad, code, &["Dockerfile:2: ", "\"/app\"", says]);
    }
}

#[test]
fn an_image_that_says_nothing_to_run() {
    for kind in Kind::ALL {
        let on = On::new(kind);
        let bare = Project::new("FROM scratch\nCOPY Dockerfile /\n");
        on.refuses(&bare, "no_command", &["CMD", "ENTRYPOINT", "--data-only"]);
        on.build(&bare, &["--data-only"]).expect(0);
        assert_eq!(on.inspection()["command"], Value::Null);
    }
}

#[test]
fn a_base_whose_config_names_another_platform_or_none() {
    for kind in Kind::ALL {
        let on = On::new(kind);
        let registry = &on.farm.env.registry;
        let own = &on.farm.env.native[0];
        let based = |image: &Image| {
            let repository = unique("base/config");
            oci::push_index(registry, &repository, "1", std::slice::from_ref(image)).unwrap();
            let text = format!("FROM {registry}/{repository}:1\nCOPY Dockerfile /\nCMD [\"/app\"]\n");
            Project::new(&text)
        };
        let mut lie = Image::new(own, tar(&[("app", Entry::File(0o755, &on.native()))]).unwrap());
        lie.config["architecture"] = "s390x".into();
        let mut open = lie.clone();
        open.config.as_object_mut().unwrap().remove("architecture");
        // Engines write into the image what was asked for, and that is what its programs are held against.
        for base in [&lie, &open] {
            on.build(&based(base), &[]).expect(0);
            assert_eq!(on.inspection()["machine"], machine(own));
        }
        // What a base brings is named as its own.
        let foreign = tar(&[("app", Entry::File(0o755, &on.foreign()))]).unwrap();
        on.refuses(&based(&Image::new(own, foreign)), "command_foreign", &["base ", "Dockerfile:1)"]);
    }
}

#[test]
fn executables_of_other_machines_are_told_allowed_or_refused() {
    let on = On::new(Kind::Host);
    let text =
        format!("FROM BASE\nRUN echo {}\nCOPY --chmod=755 foreign /opt/x/foreign\n", unique("elsewhere"));
    let mixed = project(&text, &[("foreign", &on.foreign())]);
    on.build(&mixed, &[]).expect(0).says(&["/opt/x/foreign", machine(&on.farm.env.foreign[0])]);
    assert_eq!(on.inspection()["foreign_files"], 1);
    assert!(on.log().iter().any(|frame| matches!(&frame.frame, Some(Frame::Warning(_)))));
    on.build(&mixed, &["--foreign=deny"]).expect(1).says(&["/opt/x/foreign", "--foreign-allow"]);
    let record = on.farm.show(&on.farm.newest_build().unwrap());
    assert_eq!(record["jobs"][0]["failure"]["code"], "foreign_executables");
    on.build(&mixed, &["--foreign=deny", "--foreign-allow", "/opt/**"]).expect(0);
    on.build(&mixed, &["--foreign=allow"]).expect(0);
    assert_eq!(on.inspection()["foreign_files"], 0);
}

#[test]
fn a_file_of_four_gibibytes_of_nothing_passes() {
    let on = On::new(Kind::Host);
    let text = format!(
        "FROM BASE\nRUN echo {} && truncate -s 4G /sparse && ln /bin/busybox /hard\nCMD [\"/hard\", \"true\"]\n",
        unique("sparse")
    );
    on.build(&Project::new(&text), &[]).expect(0);
    assert_eq!(on.inspection()["command"], "/hard");
}

#[test]
fn a_real_program_of_every_architecture_fits_its_own_platform_only() {
    let corpus = Coordinates::from_env().unwrap().busybox;
    assert!(corpus.len() >= 4, "cargo xtask env up fetches what is missing: {corpus:?}");
    let indexes: Vec<(Platform, Index)> = corpus
        .iter()
        .map(|found| {
            let program = std::fs::read(&found.path).unwrap();
            let layer = tar(&[("app", Entry::File(0o755, &program))]).unwrap();
            (found.platform.to_string().parse().unwrap(), Index::read(layer.as_slice()).unwrap())
        })
        .collect();
    let mut fitting = 0;
    for (wanted, _) in &indexes {
        for (own, index) in &indexes {
            let config = Config {
                os: wanted.os().to_owned(),
                architecture: wanted.architecture().to_owned(),
                variant: wanted.variant().unwrap_or_default().to_owned(),
                cmd: vec!["/app".to_owned()],
                ..Config::default()
            };
            let tree = Tree::merge([index]).unwrap();
            let written = Written { name: "Dockerfile", text: "", target: None };
            let job = Job { platform: wanted, checks: &Checks::default(), only_files: false, written };
            let judged = judge(&config, &tree, &job).map_err(|failure| (failure.code, failure.message));
            // Soft floats run on every ARM that has hard ones.
            let fits = wanted.architecture() == own.architecture() && own.satisfies(wanted);
            match judged {
                Ok(verdict) => {
                    assert!(fits, "{own}'s busybox passed on {wanted}");
                    assert_eq!(verdict.inspection.foreign_files, 0);
                    fitting += 1;
                }
                Err((code, message)) => {
                    assert!(!fits, "{own}'s busybox on {wanted}: {message}");
                    assert_eq!(code, "command_foreign", "{message}");
                }
            }
        }
    }
    assert!(fitting >= corpus.len());
}
