//! Every limit of the farm, in one place.
//!
//! Units are the last word of a name. `docs/limits.md` repeats them for operators; a change here is a change
//! there.

use std::time::Duration;

// --- what a plan may hold ---
/// Platforms of one build.
pub const PLAN_PLATFORMS: usize = 32;
/// Tags of one build.
pub const PLAN_TAGS: usize = 64;
/// Build arguments or labels of one build, each.
pub const PLAN_PAIRS: usize = 512;
/// Names and values of all build arguments, or of all labels.
pub const PLAN_PAIRS_BYTES: usize = 64 * 1024;
/// Images a Dockerfile may name.
pub const PLAN_BASES: usize = 256;
/// A Dockerfile.
pub const DOCKERFILE_BYTES: u64 = 4 * 1024 * 1024;
/// A `.dockerignore` file.
pub const DOCKERIGNORE_BYTES: u64 = 1024 * 1024;
/// Registries named as insecure, or that need credentials, each.
pub const PLAN_REGISTRIES: usize = 64;
/// An encoded plan.
pub const PLAN_BYTES: usize = 1024 * 1024;

/// Annotations of one build.
pub const PLAN_ANNOTATIONS: usize = 512;
/// Keys and values of all annotations.
pub const PLAN_ANNOTATIONS_BYTES: usize = 64 * 1024;

// --- what an image is put to ---
/// Smoke tests of one build.
pub const SMOKE_TESTS: usize = 16;
/// The words of one smoke test.
pub const SMOKE_TEST_BYTES: usize = 4 * 1024;
/// How long a smoke test may take when its plan does not say.
pub const SMOKE_TIMEOUT: Duration = Duration::from_secs(60);
/// The least and the most a plan may give it.
pub const SMOKE_TIMEOUT_MIN: Duration = Duration::from_secs(1);
/// See [`SMOKE_TIMEOUT_MIN`].
pub const SMOKE_TIMEOUT_MAX: Duration = Duration::from_secs(60 * 60);
/// Memory of a smoke test when its plan does not say, in bytes.
pub const SMOKE_MEMORY_BYTES: u64 = 512 * 1024 * 1024;
/// The least and the most a plan may give it.
pub const SMOKE_MEMORY_MIN_BYTES: u64 = 16 * 1024 * 1024;
/// See [`SMOKE_MEMORY_MIN_BYTES`].
pub const SMOKE_MEMORY_MAX_BYTES: u64 = 64 * 1024 * 1024 * 1024;
/// Processes and threads of a smoke test.
pub const SMOKE_PROCESSES: u32 = 256;
/// Files each of them may have open.
pub const SMOKE_OPEN_FILES: u32 = 16_384;
/// What of a smoke test's output goes into the log, its frames' own bytes included.
pub const SMOKE_OUTPUT_BYTES: u64 = 2 * 1024 * 1024;
/// What a smoke test may write into a root that is writable, and into one file.
pub const SMOKE_DISK_BYTES: u64 = 1024 * 1024 * 1024;
/// Its `/tmp`: in memory, within the memory it may use.
pub const SMOKE_TMP_BYTES: u64 = 64 * 1024 * 1024;
/// All `VOLUME`s of the image together are given its memory divided by this, in equal shares.
pub const SMOKE_VOLUMES_PART: u64 = 2;
/// `VOLUME`s of an image that is put to smoke tests.
pub const SMOKE_VOLUMES: usize = 64;
/// Globs of executables that may be of another machine.
pub const FOREIGN_GLOBS: usize = 64;
/// One of them.
pub const FOREIGN_GLOB_BYTES: usize = 1024;
/// Files and folders of one image, and of one of its layers.
pub const INSPECT_ENTRIES: usize = 1_000_000;
/// A path, or a link's target, in a layer: as much as Linux takes.
pub const INSPECT_PATH_BYTES: usize = 4096;
/// A layer's extension header, such as a long name or extended attributes.
pub const INSPECT_HEADER_BYTES: u64 = 1024 * 1024;
/// What a worker keeps of layers that were inspected, in bytes; the same again of images' configs.
pub const INSPECT_KEPT_BYTES: u64 = 512 * 1024 * 1024;
/// How many layers, and how many images.
pub const INSPECT_KEPT: usize = 16_384;
/// Executables of other machines that a result names.
pub const INSPECT_FOREIGN_LISTED: usize = 100;
/// Blobs that one job hands to the client: the layers of an image, its config and its manifest.
pub const ARTIFACTS: usize = 1024;

// --- what workers leave for clients ---
/// One of these: a layer, or a root file system, in bytes.
pub const ARTIFACT_BYTES: u64 = 64 * 1024 * 1024 * 1024;
/// All that a scheduler keeps for clients to fetch, in bytes. What would not fit is refused.
pub const ARTIFACTS_KEPT_BYTES: u64 = 256 * 1024 * 1024 * 1024;
/// What it leaves free on its disk for everything else, in bytes.
pub const DISK_SPARE_BYTES: u64 = 16 * 1024 * 1024;
/// How long it is kept after its build has ended, when the client does not say that it has it.
pub const ARTIFACTS_KEPT: Duration = Duration::from_secs(6 * 60 * 60);

// --- what a scheduler keeps ---
/// What a build that ended within this time needs is not removed, nor what a client uploaded or was told of.
pub const RECENT: Duration = Duration::from_secs(60 * 60);
/// How long a context is kept after its last use.
pub const CONTEXTS_KEPT: Duration = Duration::from_secs(14 * 24 * 60 * 60);
/// All contexts, in bytes on the disk, and at most this part of the disk.
pub const CONTEXTS_KEPT_BYTES: u64 = 256 * 1024 * 1024 * 1024;
/// See [`CONTEXTS_KEPT_BYTES`].
pub const CONTEXTS_KEPT_DISK_PART: u64 = 5;
/// How long a log is kept after its build's end.
pub const LOGS_KEPT: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// All logs, in bytes on the disk, and at most this part of the disk.
pub const LOGS_KEPT_BYTES: u64 = 64 * 1024 * 1024 * 1024;
/// See [`LOGS_KEPT_BYTES`].
pub const LOGS_KEPT_DISK_PART: u64 = 10;
/// How long a record is kept after its build's end; its log goes with it.
pub const RECORDS_KEPT: Duration = Duration::from_secs(180 * 24 * 60 * 60);
/// All records, in bytes on the disk, and at most this part of the disk.
pub const RECORDS_KEPT_BYTES: u64 = 8 * 1024 * 1024 * 1024;
/// See [`RECORDS_KEPT_BYTES`].
pub const RECORDS_KEPT_DISK_PART: u64 = 50;
/// Builds whose log or record was removed, of which the farm remembers when and why.
pub const REMOVED_REMEMBERED: usize = 65_536;

// --- what workers remember ---
/// What a worker remembers of the contexts that it sent to its Engine, in bytes.
pub const SENT_BYTES: u64 = 256 * 1024 * 1024;
/// How long it remembers them for a project and slot that do not build.
pub const SENT_KEPT: Duration = Duration::from_secs(30 * 24 * 60 * 60);

// --- contexts and blobs ---
/// Entries of a context: files, directories and links.
pub const CONTEXT_ENTRIES: usize = 1_000_000;
/// Bytes of all files of a context.
pub const CONTEXT_BYTES: u64 = 64 * 1024 * 1024 * 1024;
/// An encoded context manifest.
pub const CONTEXT_MANIFEST_BYTES: u64 = 512 * 1024 * 1024;
/// Paths that a context is limited to; a build that reads more reads everything.
pub const CONTEXT_INPUTS: usize = 4096;
/// A path within a context.
pub const CONTEXT_PATH_BYTES: usize = 4096;
/// All extended attributes of one entry.
pub const CONTEXT_XATTR_BYTES: usize = 64 * 1024;
/// Data in one message of an upload or a download.
pub const BLOB_MESSAGE_BYTES: usize = 1024 * 1024;
/// Digests in one `FindMissing` or `Download`.
pub const BLOB_DIGESTS: usize = 32_768;

// --- messages ---
/// A decoded gRPC message, either way.
pub const MESSAGE_BYTES: usize = 4 * 1024 * 1024;
/// Log bytes in one message.
pub const LOG_CHUNK_BYTES: usize = 256 * 1024;
/// The spool of one attempt; what a step writes past it is dropped with a marker.
pub const SPOOL_BYTES: u64 = 1024 * 1024 * 1024;
/// One frame of a spool.
pub const LOG_FRAME_BYTES: usize = 64 * 1024;
/// A failure's one-line message.
pub const FAILURE_MESSAGE_BYTES: usize = 4 * 1024;
/// A failure's further lines.
pub const FAILURE_DETAIL_BYTES: usize = 16 * 1024;
/// A value quoted in an error.
pub const ERROR_VALUE_BYTES: usize = 256;
/// A reason given by a person, as with `cancel`.
pub const REASON_BYTES: usize = 1024;

// --- the farm ---
/// Workers of a farm.
pub const WORKERS: usize = 5_000;
/// Slots of a worker.
pub const WORKER_SLOTS: u32 = 256;
/// Bytes of a file in a TLS folder.
pub const TLS_FILE_BYTES: u64 = 1024 * 1024;
/// Labels of a worker.
pub const WORKER_LABELS: usize = 64;
/// Builds that are not yet ended, farm-wide.
pub const ACTIVE_BUILDS: usize = 100_000;
/// Tags of which the farm remembers who moved them last: a rerun of a build from before that is refused.
pub const TAGS_REMEMBERED: usize = 65_536;
/// Builds on one page of a listing; the default is [`PAGE_DEFAULT`].
pub const PAGE_MAX: u32 = 500;
/// Builds on a page when the caller does not say.
pub const PAGE_DEFAULT: u32 = 50;
/// Messages waiting for one worker's stream.
pub const WORKER_MAILBOX: usize = 1024;
/// Inputs waiting for the driver.
pub const DRIVER_MAILBOX: usize = 4096;

// --- times ---
/// How often a worker says it is alive.
pub const HEARTBEAT: Duration = Duration::from_secs(2);
/// Silence after which a worker is taken for lost and its attempts are tried again.
pub const LEASE: Duration = Duration::from_secs(30);
/// After a recovery no lease expires before this has passed.
pub const RECOVERY_GRACE: Duration = Duration::from_secs(30);
/// How long a worker may take to answer an offered lease.
pub const LEASE_ANSWER: Duration = Duration::from_secs(10);
/// How long a job may wait for a worker that could run it, when none is known.
pub const NO_WORKER_PATIENCE: Duration = Duration::from_secs(15 * 60);
/// How long an attached build waits for its client's credentials.
pub const CREDENTIALS_PATIENCE: Duration = Duration::from_secs(10 * 60);
/// How long resolving all bases may take before the build goes on unlocked.
pub const LOCK_TIMEOUT: Duration = Duration::from_secs(30);
/// How long BuildKit may say nothing at all once a build has ended and its progress has not. Everything that it says
/// starts this anew, and a slow reader of the log does not count.
pub const STATUS_STALL: Duration = Duration::from_secs(60);
/// Attempts of one job, the first included.
pub const ATTEMPTS: u32 = 3;
/// How long a blob on its way to or from a registry may stand still, its end included: registries take their time over
/// the end of a large one.
pub const BLOB_STALL: Duration = Duration::from_secs(5 * 60);
/// One try at a promotion that brings blobs from one registry to another.
pub const PROMOTE_TIME: Duration = Duration::from_secs(6 * 60 * 60);
/// Tries of the publisher before the build fails.
pub const PUBLISH_TRIES: u32 = 5;
