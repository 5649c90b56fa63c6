//! The proofs of the table. Each does what its row says on one Engine, and comes back with what it found, in the
//! table's words; what must hold on any Engine is asserted on the way.

use std::io::Read;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use archyard_model::Sha256;
use archyard_tests::Project;
use archyard_tests::farm::PATIENCE;
use archyard_tests::process::{self, wait_for};
use archyard_tests::project::unique;
use archyard_worker::engine::{
    DockerEngine, Engine as _, LayerObserver, Observer, PushRequest, Pushed as Sent, TakeRequest,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use xtask::engine::Kind;
use xtask::images::{Entry, Image, tar};
use xtask::oci;

use super::pushed::Pushed;
use super::site::Site;
use crate::check::block_on;

const WORKS: &str = "works";

pub(super) fn check(site: &Site) -> String {
    let word = unique("word");
    let project = Project::new("FROM BASE\nCOPY word /word\nRUN cat /word && uname -m\n").file("word", &word);
    site.build(&project, &[]).expect(0);
    let (output, _) = site.log(&site.farm.newest_build().unwrap());
    assert!(output.contains(&word), "{output}");
    WORKS.to_owned()
}

pub(super) fn failure(site: &Site) -> String {
    let word = unique("word");
    let project = Project::new(&format!("FROM BASE\nRUN true\nRUN echo {word}; \\\n  exit 9\n"));
    site.build(&project, &[]).expect(1).says(&["Dockerfile:3", "exit code: 9", &word]);
    let failure = &site.newest()["jobs"][0]["failure"];
    assert_eq!((failure["code"].as_str(), failure["exit_code"].as_i64()), (Some("run_failed"), Some(9)));
    WORKS.to_owned()
}

pub(super) fn push(site: &Site) -> String {
    let pushed = Pushed::by(site, &Project::new(&format!("FROM BASE\nRUN echo {} > /x\n", unique("x"))), &[]);
    let config = &pushed.manifest.json["config"]["mediaType"];
    let (index, manifest) = (pushed.index.media_type.as_str(), pushed.manifest.media_type.as_str());
    let oci = (index, manifest, config.as_str().unwrap()) == (oci::INDEX, oci::MANIFEST, oci::CONFIG);
    let gzip = pushed.layers().iter().all(|layer| layer["mediaType"] == oci::LAYER);
    assert_eq!(pushed.layers().len(), 2);
    let unlike = || format!("{} {}", pushed.index.json, pushed.manifest.json);
    if oci && gzip { "OCI, gzip layers".to_owned() } else { unlike() }
}

/// The lowest layer, which is the base's own: like on every other kind of Engine?
pub(super) fn base_layers(site: &Site) -> String {
    match alike(site, 0).as_slice() {
        others if others.len() + 1 == Kind::ALL.len() => "the same digests everywhere".to_owned(),
        alike => format!("{alike:?}"),
    }
}

/// The next, a file that was copied in; the Engine makes its tar.
pub(super) fn copied_layers(site: &Site) -> String {
    match alike(site, 1).as_slice() {
        [] => "the Engine's own tar, so digests of its own".to_owned(),
        others if others.len() + 2 == Kind::ALL.len() && !others.contains(&Kind::Host) => {
            "the same digests on 26.1 and 28, with either store".to_owned()
        }
        alike => format!("{alike:?}"),
    }
}

/// The other kinds of Engine that publish the same layer here.
fn alike(site: &Site, layer: usize) -> Vec<Kind> {
    let project = Project::new("FROM BASE\nCOPY word /word\n").file("word", &unique("word"));
    let here = Pushed::by(site, &project, &[]);
    let same =
        |kind: &Kind| Pushed::by(&Site::on(*kind), &project, &[]).layers()[layer] == here.layers()[layer];
    Kind::ALL.into_iter().filter(|kind| *kind != site.kind).filter(same).collect()
}

pub(super) fn unchanged(site: &Site) -> String {
    let (cache, salt) = (tempfile::tempdir().unwrap(), unique("x"));
    let (one, two) = (
        format!("{}/{}", site.farm.env.registry, unique("one")),
        format!("{}/{}", site.farm.env.registry, unique("two")),
    );
    let engine = site.engine();
    let send = |image: Sha256, repository: &str| {
        let request = PushRequest {
            image,
            repositories: vec![repository.to_owned()],
            insecure_registries: Vec::new(),
            credentials: Vec::new(),
            annotations: Default::default(),
            layer_cache: cache.path().to_owned(),
            layer_cache_bytes: 1 << 30,
        };
        block_on(sent(&engine, request))
    };
    let first = send(image(site, &format!("FROM BASE\nRUN echo {salt} > /x\n")), &one);
    let second = image(site, &format!("FROM BASE\nRUN echo {salt} > /x\nRUN echo more > /y\n"));
    let (more, other) = (send(second, &one), send(second, &two));
    assert_eq!(first.compressed_layers, 2);
    let small = |sent: &Sent| sent.sent_bytes < 10_000;
    match (more.compressed_layers, small(&more), other.compressed_layers, small(&other)) {
        (1, true, 0, true) => "neither compressed nor sent again".to_owned(),
        _ => format!("{first:?} {more:?} {other:?}"),
    }
}

async fn sent(engine: &DockerEngine, request: PushRequest) -> Sent {
    let (progress, mut told) = mpsc::channel(16);
    let drain = async { while told.recv().await.is_some() {} };
    let push = Box::pin(engine.push(request, progress, CancellationToken::new()));
    tokio::join!(push, drain).0.unwrap()
}

/// Builds; what the Engine calls what it built.
fn image(site: &Site, dockerfile: &str) -> Sha256 {
    let name = format!("{}/{}:1", site.farm.env.registry, unique("image"));
    let tag = format!("LABEL tag={name}\n");
    site.build(&Project::new(&format!("{dockerfile}{tag}")), &[]).expect(0);
    let found = site.docker(&["images", "-q", "--no-trunc", "--filter", &format!("label=tag={name}")]);
    found.trim().parse().unwrap()
}

pub(super) fn annotations(site: &Site) -> String {
    let project = Project::new("FROM BASE\nCOPY Dockerfile /\n");
    let pushed = Pushed::by(site, &project, &["--annotation", "org.example.word=value"]);
    assert_eq!(pushed.manifest.json["annotations"]["org.example.word"], "value", "{}", pushed.manifest.json);
    WORKS.to_owned()
}

/// Locked while it waits for the slot; then the tag moves, and then it is built.
pub(super) fn lock(site: &Site) -> String {
    let (registry, repository) = (&site.farm.env.registry, unique("moving"));
    let becomes = |word: &str| {
        let layer = tar(&[("word", Entry::File(0o644, word.as_bytes()))]).unwrap();
        oci::push_index(registry, &repository, "1", &[Image::new(&site.farm.env.native[0], layer)]).unwrap()
    };
    let old = becomes("old\n");
    let (out, marker) = (tempfile::tempdir().unwrap(), unique("blocker"));
    let blocker = Project::new(&format!("FROM BASE\nRUN sleep 600; echo {marker}\n"));
    let (mut first, blocking) = site.start(&blocker, &out.path().join("1"));
    wait_for("the slot is taken", PATIENCE, || process::with_marker(&marker).first().copied());
    let name = format!("{registry}/{repository}:1");
    let text =
        format!("FROM BASE AS shell\nFROM {name}\nCOPY --from=shell / /\nRUN cat /word; echo {marker}\n");
    let (mut second, build) = site.start(&Project::new(&text), &out.path().join("2"));
    wait_for("the lock", PATIENCE, || {
        site.farm.show(&build)["lock"].to_string().contains(&old).then_some(())
    });
    assert_ne!(becomes("new\n"), old);
    site.farm.run(&["cancel", &blocking]).expect(0);
    assert_eq!(first.wait().unwrap().code(), Some(130));
    assert_eq!(second.wait().unwrap().code(), Some(0), "{}", site.farm.logs());
    let (output, steps) = site.log(&build);
    assert_eq!(output.lines().next(), Some("old"), "{output}");
    let looked_up =
        steps.iter().filter_map(|step| step.split_once("load metadata for ")).map(|(_, name)| name);
    let looked_up: Vec<&str> = looked_up.filter(|name| name.contains(&repository)).collect();
    if looked_up == [name.as_str()] {
        "a source policy; the Dockerfile as it was written".to_owned()
    } else if looked_up == [format!("{name}@{old}")] {
        "pinned in the Dockerfile".to_owned()
    } else {
        format!("{steps:?}")
    }
}

pub(super) fn heredoc(site: &Site) -> String {
    site.works(&Project::new(&format!("FROM BASE\nRUN <<END\necho {}\nEND\n", unique("x"))))
}

pub(super) fn link(site: &Site) -> String {
    site.works(&Project::new("FROM BASE\nCOPY --link Dockerfile /\n"))
}

pub(super) fn network(site: &Site) -> String {
    site.works(&Project::new(&format!("FROM BASE\nRUN --network=none echo {}\n", unique("x"))))
}

pub(super) fn cache_mounts(site: &Site) -> String {
    let word = unique("word");
    let seen = |project: &str| {
        let text = format!(
            "FROM BASE\nRUN --mount=type=cache,target=/c echo \"$(ls /c)\"; touch /c/{word} # {}\n",
            unique("x")
        );
        site.build(&Project::new(&text), &["--project", project]).expect(0);
        site.log(&site.farm.newest_build().unwrap()).0.contains(&word)
    };
    let (one, other) = (unique("p"), unique("p"));
    match [seen(&one), seen(&one), seen(&other)] {
        [false, true, false] => "one per project".to_owned(),
        seen => format!("{seen:?}"),
    }
}

pub(super) fn cancel(site: &Site) -> String {
    let (out, marker) = (tempfile::tempdir().unwrap(), unique("cancel"));
    let project = Project::new(&format!("FROM BASE\nRUN sleep 600; echo {marker}\n"));
    let (mut child, build) = site.start(&project, out.path());
    wait_for("the RUN starts", PATIENCE, || process::with_marker(&marker).first().copied());
    site.farm.run(&["cancel", &build]).expect(0);
    wait_for("the container's process is gone", Duration::from_secs(10), || {
        process::with_marker(&marker).is_empty().then_some(())
    });
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(site.farm.show(&build)["state"], "canceled");
    WORKS.to_owned()
}

/// Counts the layers that it sees.
#[derive(Default)]
struct Counting(Arc<Mutex<Vec<Sha256>>>);

impl Observer for Counting {
    fn knows(&self, _: Sha256) -> bool {
        false
    }

    fn begin(&self) -> Box<dyn LayerObserver> {
        Box::new(Self(self.0.clone()))
    }
}

impl LayerObserver for Counting {
    fn read(&mut self, tar: &mut dyn Read) {
        std::io::copy(tar, &mut std::io::sink()).unwrap();
    }

    fn end(self: Box<Self>, diff_id: Sha256) {
        self.0.lock().unwrap().push(diff_id);
    }
}

pub(super) fn take(site: &Site) -> String {
    let (cache, counting) = (tempfile::tempdir().unwrap(), Arc::new(Counting::default()));
    let image = image(site, &format!("FROM BASE\nENV A=b\nRUN echo {} > /x\n", unique("x")));
    let engine = site.engine();
    let request = TakeRequest {
        image,
        layer_cache: cache.path().to_owned(),
        layer_cache_bytes: 1 << 30,
        compress: false,
        observer: Some(counting.clone()),
    };
    let (described, taken) = block_on(async {
        let (progress, mut told) = mpsc::channel(16);
        let drain = async { while told.recv().await.is_some() {} };
        let take = Box::pin(engine.take(request, progress, CancellationToken::new()));
        (engine.describe(image).await.unwrap().config, tokio::join!(take, drain).0.unwrap())
    });
    assert!(described.env.contains(&"A=b".to_owned()), "{described:?}");
    assert_eq!((described.diff_ids, taken.diff_ids.len()), (taken.diff_ids.clone(), 2));
    let mut seen = counting.0.lock().unwrap().clone();
    let mut want = taken.diff_ids;
    seen.sort();
    want.sort();
    assert_eq!(seen, want);
    WORKS.to_owned()
}

/// A layer that nothing here has seen.
pub(super) fn new_layers(site: &Site) -> String {
    let project = Project::new(&format!("FROM BASE\nRUN echo {} > /x\n", unique("x")));
    site.build(&project, &[]).expect(0);
    let is_taking = |step: &String| step.contains("taking the image out of the Engine");
    let (_, steps) = site.log(&site.farm.newest_build().unwrap());
    let took = steps.iter().any(is_taking);
    // By either way an image is refused for what is in its layers.
    let project =
        Project::new("FROM BASE\nRUN printf '#!/no/such\\n' > /bad && chmod +x /bad\nCMD [\"/bad\"]\n");
    site.build(&project, &[]).expect(1).says(&["/no/such"]);
    let inspected = if took { "in the image, taken out" } else { "in the Engine's own folders" };
    inspected.to_owned()
}
