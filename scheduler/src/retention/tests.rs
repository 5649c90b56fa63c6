//! Whatever clients, builds and passes do, in whatever order: nothing that is needed goes, and limits hold.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use archyard_model::{
    AttemptId, Blake3, BuildId, BuildState, ContextEntry, ContextManifest, EntryKind, FencingToken, JobId,
    Plan,
};
use archyard_proto::v1 as proto;
use bytes::Bytes;
use jiff::Timestamp;
use proptest::prelude::*;

use super::keeper::Stores;
use super::options::{Keep, Limit, Options};
use super::pass::{Class, Kept, Pass, Prune, Reason};
use super::removed::Notes;
use crate::artifacts::{self, Artifacts};
use crate::blobs::{Claim, Error, Holds, Ingest, Store};
use crate::clock::Clock;
use crate::driver::Source;
use crate::pace::Pace;
use crate::spools::Spools;
use crate::testing;
use crate::views::Views;

const RECENT: Duration = Duration::from_secs(60);
const AGE: Duration = Duration::from_secs(1_000);
/// Blocks of a disk.
const BLOCK: u64 = 4096;
const FILES: u8 = 8;
const CONTEXTS: u8 = 6;

#[derive(Debug, Clone)]
enum Op {
    /// A client asks what is missing of a context, as the command line does.
    Ask(u8),
    /// It uploads what is missing, whole or only the files.
    Upload {
        context: u8,
        manifest: bool,
    },
    /// It uploads a manifest alone, without a question: what that names may be here or not.
    UploadManifest(u8),
    /// The store forgets which contexts it looked through, as a crash may make it.
    LoseMarkers,
    /// A submission arrives and claims its source.
    Submit {
        context: u8,
        dockerfile: u8,
        project: u8,
    },
    /// The core takes the oldest submission that is under way.
    Accept,
    /// The build that runs for the longest ends.
    End,
    Advance(u16),
    /// These happen between the steps of a pass.
    Sweep(Vec<Op>),
    Prune {
        older_than: u16,
        keep_blocks: u8,
        project: Option<u8>,
        meanwhile: Vec<Op>,
    },
}

fn simple() -> impl Strategy<Value = Op> {
    prop_oneof![
        2 => (0..CONTEXTS).prop_map(Op::Ask),
        4 => (0..CONTEXTS, prop::bool::weighted(0.8))
            .prop_map(|(context, manifest)| Op::Upload { context, manifest }),
        3 => (0..CONTEXTS).prop_map(Op::UploadManifest),
        1 => Just(Op::LoseMarkers),
        4 => (0..CONTEXTS, 0..3_u8, 0..2_u8)
            .prop_map(|(context, dockerfile, project)| Op::Submit { context, dockerfile, project }),
        3 => Just(Op::Accept),
        3 => Just(Op::End),
        2 => prop_oneof![1..30_u16, 30..200_u16, 500..1_500_u16].prop_map(Op::Advance),
    ]
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let meanwhile = || prop::collection::vec(simple(), 0..12);
    let op = prop_oneof![
        6 => simple(),
        1 => meanwhile().prop_map(Op::Sweep),
        1 => (0..300_u16, 0..12_u8, prop::option::of(0..2_u8), meanwhile()).prop_map(
            |(older_than, keep_blocks, project, meanwhile)| Op::Prune { older_than, keep_blocks, project, meanwhile }
        ),
    ];
    prop::collection::vec(op, 1..40)
}

/// Each file fills one to three blocks.
fn file(number: u8) -> Vec<u8> {
    vec![number + 1; (usize::from(number) % 3) * 4096 + 100]
}

/// A context holds the files whose bits are set; any two share some.
fn context(number: u8) -> (ContextManifest, Vec<u8>, Vec<Vec<u8>>) {
    let files: Vec<u8> =
        (0..FILES).filter(|file| !(file + number).is_multiple_of(3) || *file == number).collect();
    let entry = |file_number: &u8| ContextEntry {
        path: format!("f{file_number}").into_bytes(),
        mode: 0o644,
        modified_s: i64::from(number),
        modified_ns: 0,
        xattrs: Vec::new(),
        kind: EntryKind::File {
            size: file(*file_number).len() as u64,
            digest: Blake3::of(&file(*file_number)),
        },
    };
    let manifest = ContextManifest::new(files.iter().map(entry).collect()).unwrap();
    let encoded = manifest.encode();
    (manifest, encoded, files.into_iter().map(file).collect())
}

fn dockerfile(number: u8) -> Vec<u8> {
    format!("FROM scratch\n# {number}\n").into_bytes()
}

fn project(number: u8) -> &'static str {
    ["a", "b"][usize::from(number)]
}

struct Build {
    id: BuildId,
    plan: Plan,
    context: u8,
    ended: Option<Duration>,
}

struct World {
    dir: tempfile::TempDir,
    clock: Clock,
    stores: Stores,
    options: Options,
    submitting: VecDeque<(Claim, Build)>,
    active: Vec<Build>,
    ended: Vec<Build>,
    /// Blobs of which a client was told, or which it brought, and when.
    told: BTreeMap<Blake3, Duration>,
    builds: u64,
}

impl World {
    fn new(limits: Keep) -> Self {
        let dir = testing::folder();
        let clock = Clock::manual();
        let root = dir.path().join("blobs");
        let blobs = Store::open_by(dir.path(), root, Holds::Contexts, clock.clone()).unwrap();
        let stores = Stores {
            blobs: Arc::new(blobs),
            artifacts: Arc::new(Artifacts::open(dir.path(), artifacts::Options::default()).unwrap()),
            spools: Arc::new(Spools::open(dir.path()).unwrap()),
            views: Arc::new(Views::open(dir.path()).unwrap()),
        };
        let options = Options {
            recent: RECENT,
            contexts: limits.clone(),
            logs: limits.clone(),
            records: limits,
            ..Options::default()
        };
        // Nothing of before the start counts.
        clock.advance(2 * RECENT);
        Self {
            dir,
            clock,
            stores,
            options,
            submitting: VecDeque::new(),
            active: Vec::new(),
            ended: Vec::new(),
            told: BTreeMap::new(),
            builds: 0,
        }
    }

    /// As a scheduler does that starts on the folder.
    fn open(&mut self) {
        let dir = self.dir.path();
        let blobs = Store::open_by(dir, dir.join("blobs"), Holds::Contexts, self.clock.clone()).unwrap();
        self.stores.blobs = Arc::new(blobs);
        self.stores.spools = Arc::new(Spools::open(dir).unwrap());
        self.stores.views = Arc::new(Views::open(dir).unwrap());
    }

    /// What the core knows.
    fn sources(&self) -> Vec<Source> {
        let source = |build: &Build| Source {
            build: build.id,
            project: build.plan.project.clone(),
            manifest: build.plan.context.manifest_digest,
            dockerfile: build.plan.dockerfile,
        };
        self.active.iter().map(source).collect()
    }

    fn now(&self) -> Duration {
        self.clock.since_start()
    }

    fn timestamp(&self) -> Timestamp {
        Timestamp::try_from(self.clock.now()).unwrap()
    }

    fn ask(&mut self, digests: &[Blake3]) -> Vec<Blake3> {
        let missing = self.stores.blobs.missing(digests);
        let now = self.now();
        for digest in digests.iter().filter(|digest| !missing.contains(digest)) {
            self.told.insert(*digest, now);
        }
        missing
    }

    fn ask_context(&mut self, number: u8) -> Vec<Vec<u8>> {
        let (_, encoded, files) = context(number);
        let mut blobs = files;
        blobs.push(encoded);
        blobs.extend((0..3).map(dockerfile));
        let digests: Vec<Blake3> = blobs.iter().map(|blob| Blake3::of(blob)).collect();
        let missing = self.ask(&digests);
        blobs.retain(|blob| missing.contains(&Blake3::of(blob)));
        blobs
    }

    fn upload(&mut self, number: u8, with_manifest: bool) {
        let (_, encoded, _) = context(number);
        let mut blobs = self.ask_context(number);
        blobs.retain(|blob| with_manifest || *blob != encoded);
        self.put(&blobs);
        let now = self.now();
        self.told.extend(blobs.iter().map(|blob| (Blake3::of(blob), now)));
    }

    fn upload_manifest(&mut self, number: u8) {
        let (_, encoded, _) = context(number);
        self.put(&[encoded]);
    }

    fn put(&self, blobs: &[Vec<u8>]) {
        let mut ingest = Ingest::new(Arc::clone(&self.stores.blobs));
        let part = |blob: &Vec<u8>| proto::BlobPart {
            digest: Bytes::copy_from_slice(Blake3::of(blob).as_bytes()),
            size_bytes: blob.len() as u64,
            data: Bytes::copy_from_slice(blob),
            last: true,
        };
        ingest.take(proto::UploadRequest { parts: blobs.iter().map(part).collect() }).unwrap();
        ingest.finish().unwrap();
    }

    fn lose_markers(&self) {
        for marker in std::fs::read_dir(self.dir.path().join("blobs/verified")).unwrap() {
            std::fs::remove_file(marker.unwrap().path()).unwrap();
        }
    }

    fn submit(&mut self, number: u8, docker: u8, of: u8) {
        let (manifest, encoded, _) = context(number);
        let plan = Plan {
            project: project(of).parse().unwrap(),
            context: manifest.to_ref(&encoded),
            dockerfile: Blake3::of(&dockerfile(docker)),
            ..testing::plan()
        };
        match self.stores.blobs.claim_plan(&plan) {
            Ok(claim) => {
                self.builds += 1;
                let wall = u64::try_from(self.timestamp().as_millisecond()).unwrap();
                let id = BuildId::from_parts(wall, self.builds.into());
                self.submitting.push_back((claim, Build { id, plan, context: number, ended: None }));
            }
            Err(Error::Missing { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }

    fn accept(&mut self) {
        if let Some((claim, build)) = self.submitting.pop_front() {
            self.active.push(build);
            drop(claim);
        }
    }

    fn end(&mut self) {
        if self.active.is_empty() {
            return;
        }
        let mut build = self.active.remove(0);
        build.ended = Some(self.now());
        let attempt = AttemptId { job: JobId { build: build.id, index: 0 }, token: FencingToken(1) };
        self.stores.spools.get(attempt).unwrap().append(0, b"a log", true).unwrap();
        let ended = testing::ended(build.id, build.plan.clone(), BuildState::Failed, self.timestamp());
        self.stores.views.archive(&ended).unwrap();
        self.ended.push(build);
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Ask(context) => drop(self.ask_context(context)),
            Op::Upload { context, manifest } => self.upload(context, manifest),
            Op::UploadManifest(context) => self.upload_manifest(context),
            Op::LoseMarkers => self.lose_markers(),
            Op::Submit { context, dockerfile, project } => self.submit(context, dockerfile, project),
            Op::Accept => self.accept(),
            Op::End => self.end(),
            Op::Advance(seconds) => self.clock.advance(Duration::from_secs(seconds.into())),
            Op::Sweep(_) | Op::Prune { .. } => panic!("a pass is not part of another"),
        }
        self.check();
    }

    /// What must be there now.
    fn check(&self) {
        let blobs = &self.stores.blobs;
        let is_recent = |build: &&Build| build.ended.is_some_and(|at| self.now() - at < RECENT);
        let submitting = self.submitting.iter().map(|(_, build)| build);
        let needed = self.active.iter().chain(submitting).chain(self.ended.iter().filter(is_recent));
        for build in needed {
            let (_, encoded, files) = context(build.context);
            for digest in files.iter().chain([&encoded]).map(|blob| Blake3::of(blob)) {
                assert!(blobs.has(digest), "build {} lacks {digest}", build.id);
            }
            assert!(blobs.has(build.plan.dockerfile), "build {} lacks its Dockerfile", build.id);
            if build.ended.is_some() {
                let record = self.stores.views.record(build.id).unwrap();
                assert!(record.is_some() && self.stores.spools.has(build.id), "{} is recent", build.id);
            }
        }
        for number in 0..CONTEXTS {
            let (_, encoded, files) = context(number);
            if blobs.has(Blake3::of(&encoded)) {
                let missing = files.iter().filter(|blob| !blobs.has(Blake3::of(blob))).count();
                assert_eq!(missing, 0, "context {number} is here without all of its files");
            }
        }
        for (digest, at) in &self.told {
            assert!(self.now() - *at >= RECENT || blobs.has(*digest), "a client was told of {digest}");
        }
    }

    /// Bytes of the store, of all logs, and of all records.
    fn kept(&self) -> [u64; 3] {
        let mut blobs = 0;
        let store = &self.stores.blobs;
        let mut pace = Pace::interleaved(|| {});
        store
            .walk(&mut pace, |_, digest| {
                blobs += store.bytes_on_disk(digest);
                Ok(())
            })
            .unwrap();
        let logs = self.stores.spools.builds().unwrap();
        let logs = logs.iter().map(|build| self.stores.spools.bytes(*build).unwrap()).sum();
        let records = self.stores.views.ended(&mut pace).unwrap();
        [blobs, logs, records.iter().map(|(_, ended)| ended.bytes).sum()]
    }
}

/// Passes that are killed after any number of steps lose nothing that is needed, and the next one does the rest.
#[test]
fn a_pass_that_is_killed_anywhere_leaves_whole_contexts_and_is_made_up_for() {
    let mut steps = 0;
    loop {
        let limits = Keep { age: Limit::At(AGE), bytes: Limit::At(20 * BLOCK), project_bytes: Limit::None };
        let mut world = World::new(limits);
        for number in 0..CONTEXTS {
            world.upload(number, true);
            world.submit(number, 0, 0);
            world.accept();
            if number != 2 {
                world.end();
            }
            world.clock.advance(2 * RECENT);
        }
        if steps % 2 == 1 {
            world.lose_markers();
        }
        let since = world.now() - RECENT;
        let finished = run(&world, since, Pace::cut_after(steps));
        // The next scheduler.
        world.open();
        world.check();
        assert!(run(&world, since, Pace::cut_after(u32::MAX)), "it was not cut");
        world.check();
        let [blobs, ..] = world.kept();
        assert!((1..=20 * BLOCK).contains(&blobs), "{blobs}");
        assert_eq!(std::fs::read_dir(world.dir.path().join("blobs/incoming")).unwrap().count(), 0);
        if finished {
            assert!(steps > 20, "there was little to cut: {steps}");
            return;
        }
        steps += 1;
    }
}

/// A manifest that arrives at any moment of a pass, and is found to have all its files, keeps them.
#[test]
fn a_manifest_that_comes_in_the_midst_of_a_pass_keeps_its_files() {
    for before in 0..40 {
        let mut world = World::new(Keep::default());
        world.upload(3, false);
        world.clock.advance(2 * RECENT);
        let world = Arc::new(Mutex::new(world));
        let mut meanwhile = vec![Op::Advance(0); before];
        meanwhile.push(Op::UploadManifest(3));
        pass(&world, Some(&Prune::default()), meanwhile);
    }
}

/// Whether the pass came to its end.
fn run(world: &World, since: Duration, pace: Pace) -> bool {
    let notes = Notes::open(world.dir.path()).unwrap();
    let kept = Kept::list(&world.stores).unwrap();
    let reason = Reason::Limits(&world.options, u64::MAX);
    let classes = [Class::Contexts, Class::Logs, Class::Records];
    let times = (RECENT, since);
    Pass::new(&world.stores, &notes, reason, times, kept, world.sources(), pace)
        .and_then(|mut pass| pass.run(&classes))
        .is_ok()
}

fn lock(world: &Mutex<World>) -> MutexGuard<'_, World> {
    world.lock().unwrap()
}

/// A pass as the keeper makes it, while `meanwhile` happens.
fn pass(world: &Arc<Mutex<World>>, prune: Option<&Prune>, meanwhile: Vec<Op>) {
    let queue = Arc::new(Mutex::new(VecDeque::from(meanwhile)));
    let mut next = {
        let (world, queue) = (Arc::clone(world), Arc::clone(&queue));
        let mut steps = 0_u32;
        move || {
            let op = queue.lock().unwrap().pop_front();
            match op {
                Some(op) => lock(&world).apply(&op),
                None if steps.is_multiple_of(4) => lock(&world).check(),
                None => {}
            }
            steps += 1;
        }
    };
    let (stores, options, since) = {
        let world = lock(world);
        (world.stores.clone(), world.options.clone(), world.now().saturating_sub(RECENT))
    };
    let kept = Kept::list(&stores).unwrap();
    next();
    let active = lock(world).sources();
    next();
    // The notes are only the pass's.
    let dir = testing::folder();
    let notes = Notes::open(dir.path()).unwrap();
    let reason = prune.map_or(Reason::Limits(&options, u64::MAX), Reason::Asked);
    let pace = Pace::interleaved(next.clone());
    let classes = [Class::Contexts, Class::Logs, Class::Records];
    let mut pass = Pass::new(&stores, &notes, reason, (RECENT, since), kept, active, pace).unwrap();
    let (freed, _) = pass.run(&classes).unwrap();
    assert_eq!(freed.len(), classes.len());
    stores.blobs.forget_pins(since);
    while !queue.lock().unwrap().is_empty() {
        next();
    }
    lock(world).check();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, max_shrink_iters: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn nothing_needed_goes_and_limits_hold_when_nothing_is_needed(
        ops in ops(),
        blocks in 4..40_u64,
        project_blocks in prop::option::of(3..20_u64),
    ) {
        let limits = Keep {
            age: Limit::At(AGE),
            bytes: Limit::At(blocks * BLOCK),
            project_bytes: project_blocks.map_or(Limit::None, |blocks| Limit::At(blocks * BLOCK)),
        };
        // A prune of one project takes its newer records and leaves the older ones of the others.
        let spares_projects = ops.iter().any(|op| matches!(op, Op::Prune { project: Some(_), .. }));
        let world = Arc::new(Mutex::new(World::new(limits)));
        for op in ops {
            match op {
                Op::Sweep(meanwhile) => pass(&world, None, meanwhile),
                Op::Prune { older_than, keep_blocks, project: of, meanwhile } => {
                    let prune = Prune {
                        older_than: Duration::from_secs(older_than.into()),
                        keep_bytes: u64::from(keep_blocks) * BLOCK,
                        project: of.map(|of| project(of).to_owned()),
                        ..Prune::default()
                    };
                    pass(&world, Some(&prune), meanwhile);
                }
                op => lock(&world).apply(&op),
            }
        }
        // Everything ends, and time passes.
        loop {
            let mut world = lock(&world);
            if world.submitting.is_empty() && world.active.is_empty() {
                break;
            }
            world.apply(&Op::Accept);
            world.apply(&Op::End);
        }
        lock(&world).clock.advance(2 * RECENT);
        pass(&world, None, Vec::new());
        let now = lock(&world);
        prop_assert!(now.kept().iter().all(|bytes| *bytes <= blocks * BLOCK), "{:?}", now.kept());
        // Of two that are alike in all but their use the one used last stays.
        let kept: BTreeSet<BuildId> = now.stores.views.builds().unwrap().into_iter().collect();
        let by_end: Vec<bool> = now.ended.iter().map(|build| kept.contains(&build.id)).collect();
        let by_age_alone = project_blocks.is_none() && !spares_projects;
        if by_age_alone && kept.len() < by_end.len() && !kept.is_empty() {
            prop_assert!(by_end.is_sorted(), "an older record stayed and a newer one went: {by_end:?}");
        }
        drop(now);
        lock(&world).clock.advance(2 * AGE);
        pass(&world, None, Vec::new());
        prop_assert_eq!(lock(&world).kept(), [0, 0, 0]);
    }
}
