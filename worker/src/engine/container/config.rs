//! What a container is made with: which bounds, whose it is.
//!
//! It is what `docker run --read-only --network none` gives, less what no program needs in order to start. Of
//! Docker's own capabilities those stay by which a server that starts as root binds its port, owns its folders
//! and steps down: without them ordinary images fail. Set-user-id programs gain nothing.

use std::collections::HashMap;
use std::path::Path;

use archyard_model::{AttemptId, limits};
use bollard::models::{ContainerCreateBody, HealthConfig, HostConfig, HostConfigLogConfig, ResourcesUlimits};

use super::RunRequest;
use super::volumes::Volumes;

/// On every container: which attempt it is of, as [`AttemptId::file_name`].
pub(super) const ATTEMPT: &str = "archyard.attempt";
/// Which worker's, for people.
const WORKER: &str = "archyard.worker";
/// Where that worker is at home. Names of workers are one farm's own, and farms may share an Engine.
pub(super) const HOME: &str = "archyard.data-dir";

/// Weight on the processors, where other containers have 1024: builds come first.
const CPU_SHARES: i64 = 256;

/// To own files, to step down, to end children, to shut oneself in, to bind low ports; and to be able to ping,
/// for a program whose file asks for that does not even start without it.
const CAPABILITIES: [&str; 10] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SYS_CHROOT",
];

/// Where a worker is at home: one agent at a time has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    worker: String,
    data_dir: String,
}

impl Home {
    /// The worker of this name, on this data folder.
    pub fn new(worker: impl Into<String>, data_dir: &Path) -> Self {
        // However an agent was told of it, it is the same folder.
        let data_dir = data_dir.canonicalize().unwrap_or_else(|_| data_dir.to_owned());
        Self { worker: worker.into(), data_dir: data_dir.display().to_string() }
    }

    /// The label that all of its containers have: `NAME=VALUE`.
    pub(super) fn filter(&self) -> String {
        format!("{HOME}={}", self.data_dir)
    }
}

/// What the container is called. Labels may come from an image; a name never does.
pub(super) fn name(attempt: AttemptId, number: usize) -> String {
    format!("{}{number}", prefix(attempt))
}

/// How the names of an attempt's containers begin.
pub(super) fn prefix(attempt: AttemptId) -> String {
    format!("archyard-{}-", attempt.file_name())
}

/// Whose it is, on all that is made for a program.
pub(super) fn labels(request: &RunRequest) -> HashMap<String, String> {
    HashMap::from([
        (ATTEMPT.to_owned(), request.attempt.file_name()),
        (WORKER.to_owned(), request.home.worker.clone()),
        (HOME.to_owned(), request.home.data_dir.clone()),
    ])
}

/// What to make.
pub(super) fn body(request: &RunRequest, volumes: &Volumes) -> ContainerCreateBody {
    ContainerCreateBody {
        image: Some(request.image.to_string()),
        cmd: (!request.words.is_empty()).then(|| request.words.clone()),
        labels: Some(labels(request)),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        // The image's own would run beside the program.
        healthcheck: Some(HealthConfig { test: Some(vec!["NONE".to_owned()]), ..HealthConfig::default() }),
        host_config: Some(host(request, volumes)),
        ..ContainerCreateBody::default()
    }
}

fn host(request: &RunRequest, volumes: &Volumes) -> HostConfig {
    let memory = i64::try_from(request.memory_bytes).unwrap_or(i64::MAX);
    HostConfig {
        network_mode: Some(if request.network { "default" } else { "none" }.to_owned()),
        memory: Some(memory),
        // Memory and swap together: no swap.
        memory_swap: Some(memory),
        pids_limit: Some(limits::SMOKE_PROCESSES.into()),
        cpu_shares: Some(CPU_SHARES),
        ulimits: Some(ulimits(request)),
        readonly_rootfs: Some(!request.writable),
        tmpfs: Some(tmp(request, volumes)),
        mounts: Some(volumes.mounts()),
        cap_drop: Some(vec!["ALL".to_owned()]),
        cap_add: Some(CAPABILITIES.map(str::to_owned).to_vec()),
        security_opt: Some(vec!["no-new-privileges".to_owned()]),
        ipc_mode: Some("private".to_owned()),
        // Attached readers get all of it; none of it is to reach the disk.
        log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
        ..HostConfig::default()
    }
}

fn ulimits(request: &RunRequest) -> Vec<ResourcesUlimits> {
    let limit = |name: &str, most: u64| {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        ResourcesUlimits { name: Some(name.to_owned()), soft: Some(most), hard: Some(most) }
    };
    let mut all = vec![limit("nofile", limits::SMOKE_OPEN_FILES.into()), limit("core", 0)];
    if request.writable {
        // Writable too are then files that the Engine keeps beside the root and does not count: /etc/hosts.
        all.push(limit("fsize", limits::SMOKE_DISK_BYTES));
    }
    all
}

/// A folder to write to where there is none.
fn tmp(request: &RunRequest, volumes: &Volumes) -> HashMap<String, String> {
    const TMP: &str = "/tmp";
    if request.writable || volumes.has(TMP) {
        return HashMap::new();
    }
    // Programs unpack others there and run them, as they may where it is on a disk.
    let options = format!("rw,exec,nosuid,nodev,size={},mode=1777", limits::SMOKE_TMP_BYTES);
    HashMap::from([(TMP.to_owned(), options)])
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use archyard_model::{BuildId, FencingToken, JobId, Sha256};
    use std::time::Duration;

    /// Some program, with 16 MiB.
    pub(in super::super) fn request(writable: bool) -> RunRequest {
        let attempt =
            AttemptId { job: JobId { build: BuildId::from_parts(5, 7), index: 0 }, token: FencingToken(3) };
        RunRequest {
            image: Sha256::from_bytes([1; 32]),
            words: vec!["a".to_owned()],
            attempt,
            number: 1,
            home: Home::new("w", Path::new("/nonexistent/data")),
            step: "smoke test: a".to_owned(),
            network: false,
            writable,
            timeout: Duration::from_secs(1),
            memory_bytes: 16 << 20,
        }
    }

    #[test]
    fn nothing_of_a_volume_is_on_a_disk() {
        let volume = ["/data/".to_owned()];
        let tmp = ["/tmp".to_owned()];
        for (writable, declared, in_memory) in
            [(false, &volume[..], &["/tmp"][..]), (true, &volume, &[]), (false, &tmp, &[]), (true, &[], &[])]
        {
            let request = request(writable);
            let volumes = Volumes::of(&request, declared).unwrap();
            let host = body(&request, &volumes).host_config.unwrap();
            assert_eq!(host.tmpfs.unwrap().into_keys().collect::<Vec<_>>(), in_memory);
            assert_eq!(host.readonly_rootfs, Some(!writable));
            let mounts = host.mounts.unwrap();
            assert_eq!(mounts.len(), declared.len());
            for mount in mounts {
                let driver = mount.volume_options.unwrap().driver_config.unwrap();
                assert_eq!(driver.options.unwrap()["type"], "tmpfs");
            }
        }
    }

    #[test]
    fn a_container_says_whose_it_is() {
        let volumes = Volumes::of(&request(false), &[]).unwrap();
        let body = body(&request(false), &volumes);
        let labels = body.labels.unwrap();
        assert_eq!(AttemptId::from_file_name(&labels[ATTEMPT]), Some(request(false).attempt));
        assert_eq!(format!("{HOME}={}", labels[HOME]), request(false).home.filter());
        assert!(name(request(false).attempt, 2).starts_with(&prefix(request(false).attempt)));
    }
}
