//! A runner that is a script: it holds the lock, writes its log and its result when told, and ends on SIGTERM.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use archyard_model::AttemptId;
use archyard_model::convert;
use archyard_proto::v1 as proto;
use prost::Message as _;

const SCRIPT: &str = r#"#!/bin/sh
control=$1 dir=$2
name=$(basename "$dir")
exec 9>>"$dir/lock"
flock 9
echo $$ > "$dir/.pid" && mv "$dir/.pid" "$dir/pid"
: >> "$dir/spool"
finish() { cp "$control/$name.$1" "$dir/.result" && mv "$dir/.result" "$dir/result.pb"; exit 0; }
trap '[ -e "$control/stubborn" ] || finish canceled' TERM
echo "ready" >> "$control/$name.ready"
while [ ! -e "$control/$name.end" ]; do
    if [ -e "$control/$name.say" ]; then
        mv "$control/$name.say" "$dir/.say" && cat "$dir/.say" >> "$dir/spool"
    fi
    sleep 0.01 9>&-
done
finish result
"#;

/// Tells scripts what to do.
pub(crate) struct Script {
    folder: PathBuf,
}

impl Script {
    pub(crate) fn new(folder: &Path) -> Self {
        let script = Self { folder: folder.join("control") };
        fs::create_dir_all(&script.folder).unwrap();
        fs::write(script.program(), SCRIPT).unwrap();
        fs::set_permissions(script.program(), fs::Permissions::from_mode(0o755)).unwrap();
        script
    }

    fn program(&self) -> PathBuf {
        self.folder.join("runner.sh")
    }

    /// As [`archyard_worker::WorkerConfig::runner_command`].
    pub(crate) fn command(&self) -> Vec<OsString> {
        vec!["/bin/sh".into(), self.program().into(), self.folder.clone().into()]
    }

    /// Prepares how an attempt ends; to be called before its lease.
    pub(crate) fn expect(&self, id: AttemptId, log_bytes: u64) {
        let attempt = Some(convert::attempt_to_proto(id));
        let image = Some(proto::ImageResult::default());
        let result = proto::AttemptResult {
            attempt: attempt.clone(),
            image,
            failure: None,
            log_bytes,
            log_warning: String::new(),
        };
        let failure = proto::Failure { code: "canceled".to_owned(), failure_class: 3, ..Default::default() };
        let canceled = proto::AttemptResult {
            attempt,
            image: None,
            failure: Some(failure),
            log_bytes,
            log_warning: String::new(),
        };
        self.write(id, "result", &result.encode_length_delimited_to_vec());
        self.write(id, "canceled", &canceled.encode_length_delimited_to_vec());
    }

    /// Has the runner append to its log.
    pub(crate) fn say(&self, id: AttemptId, bytes: &[u8]) {
        self.write(id, "say", bytes);
    }

    /// Has the runner end with its result.
    pub(crate) fn end(&self, id: AttemptId) {
        self.write(id, "end", b"");
    }

    /// Has runners ignore SIGTERM.
    pub(crate) fn be_stubborn(&self) {
        fs::write(self.folder.join("stubborn"), "").unwrap();
    }

    /// How often a runner was started for the attempt.
    pub(crate) fn starts(&self, id: AttemptId) -> usize {
        let path = self.folder.join(format!("{}.ready", id.file_name()));
        fs::read_to_string(path).map_or(0, |ready| ready.lines().count())
    }

    fn write(&self, id: AttemptId, what: &str, bytes: &[u8]) {
        let path = self.folder.join(format!("{}.{what}", id.file_name()));
        let new = path.with_extension("new");
        fs::write(&new, bytes).unwrap();
        fs::rename(new, path).unwrap();
    }
}
