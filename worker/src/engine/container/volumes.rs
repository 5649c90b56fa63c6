//! The `VOLUME`s of an image: file systems in memory that begin with what the image holds there.
//!
//! `docker run` puts them on the Engine's disk, where nobody measures what a program writes. The Engine's own driver
//! also makes them in memory, of a size; it fills them as any other when a container is made, but forgets them as soon
//! as no container runs that has them. That is what the [holder](super::holder) is for.

use std::collections::{BTreeSet, HashMap};

use archyard_model::limits;
use bollard::Docker;
use bollard::errors::Error;
use bollard::models::{Mount, MountType, MountVolumeOptions, MountVolumeOptionsDriverConfig};
use bollard::query_parameters::RemoveVolumeOptions;

use super::{RunRequest, config, persist};

const MIB: u64 = 1024 * 1024;
/// Bytes for each file or folder, as ordinary file systems reckon.
const BYTES_PER_FILE: u64 = 4096;

/// Those of one container.
#[derive(Debug, Clone)]
pub(super) struct Volumes {
    /// The container's name begins theirs.
    container: String,
    labels: HashMap<String, String>,
    /// Absolute, and no two alike.
    paths: BTreeSet<String>,
    each_bytes: u64,
}

impl Volumes {
    /// As the image's config declares them. An error says why the image cannot be run.
    pub(super) fn of(request: &RunRequest, declared: &[String]) -> Result<Self, String> {
        if declared.len() > limits::SMOKE_VOLUMES {
            let (count, most) = (declared.len(), limits::SMOKE_VOLUMES);
            return Err(format!("the image has {count} VOLUMEs; at most {most} are taken"));
        }
        let paths: BTreeSet<String> = declared.iter().filter_map(|path| clean(path)).collect();
        let count = u64::try_from(paths.len()).unwrap_or(u64::MAX).max(1);
        let each_bytes = request.memory_bytes / limits::SMOKE_VOLUMES_PART / count;
        Ok(Self {
            container: config::name(request.attempt, request.number),
            labels: config::labels(request),
            // As people read it, where it is that much.
            each_bytes: each_bytes - if each_bytes < MIB { 0 } else { each_bytes % MIB },
            paths,
        })
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// Whether one of them is at this path.
    pub(super) fn has(&self, path: &str) -> bool {
        self.paths.contains(path)
    }

    /// What each of them holds, in bytes.
    pub(super) fn each_bytes(&self) -> u64 {
        self.each_bytes
    }

    /// Where the image wants them, to be filled when the container is made.
    pub(super) fn mounts(&self) -> Vec<Mount> {
        self.paths.iter().zip(self.names()).map(|(path, name)| self.mount(path.clone(), name, true)).collect()
    }

    /// Elsewhere, as they are: a volume in which another one has its place would not be empty any more, and the
    /// Engine fills empty ones only.
    pub(super) fn mounts_aside(&self) -> Vec<Mount> {
        self.names().map(|name| self.mount(format!("/{name}"), name, false)).collect()
    }

    /// What takes their places meanwhile, or the Engine would have volumes on its disk there.
    pub(super) fn stand_ins(&self) -> HashMap<String, String> {
        self.paths.iter().map(|path| (path.clone(), String::new())).collect()
    }

    fn mount(&self, target: String, name: String, fill: bool) -> Mount {
        let options = HashMap::from([
            ("type".to_owned(), "tmpfs".to_owned()),
            ("device".to_owned(), "tmpfs".to_owned()),
            ("o".to_owned(), self.options()),
        ]);
        let driver =
            MountVolumeOptionsDriverConfig { name: Some("local".to_owned()), options: Some(options) };
        let volume = MountVolumeOptions {
            no_copy: Some(!fill),
            labels: Some(self.labels.clone()),
            driver_config: Some(driver),
            subpath: None,
        };
        Mount {
            target: Some(target),
            source: Some(name),
            typ: Some(MountType::VOLUME),
            volume_options: Some(volume),
            ..Mount::default()
        }
    }

    /// Removes them; no container may have them any more.
    pub(super) async fn remove(&self, api: &Docker) -> Result<(), Error> {
        for name in self.names() {
            persist(|| remove(api, &name)).await?;
        }
        Ok(())
    }

    /// Whether the Engine's complaint is that one of them is too small for what the image holds there.
    pub(super) fn are_too_small(&self, complaint: &str) -> bool {
        complaint.contains("no space left on device")
            && self.names().any(|name| complaint.contains(&format!("/{name}/_data/")))
    }

    fn names(&self) -> impl Iterator<Item = String> + '_ {
        (0..self.paths.len()).map(|number| format!("{}-volume-{number}", self.container))
    }

    /// Programs unpack others there and run them, as they may where it is on a disk.
    fn options(&self) -> String {
        let files = self.each_bytes / BYTES_PER_FILE;
        format!("size={},nr_inodes={files},mode=0755,nosuid,nodev", self.each_bytes)
    }
}

/// Removes one, once; one that is not there is an error.
pub(super) async fn remove(api: &Docker, name: &str) -> Result<(), Error> {
    api.remove_volume(name, None::<RemoveVolumeOptions>).await
}

/// A path as the Engine compares it. None for the root, of which it says itself that it cannot be one.
fn clean(path: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| format!("/{}", parts.join("/")))
}

#[cfg(test)]
mod tests {
    use super::super::config::tests::request;
    use super::*;

    fn of(declared: &[&str]) -> Volumes {
        let declared: Vec<String> = declared.iter().map(|path| (*path).to_owned()).collect();
        Volumes::of(&request(false), &declared).unwrap()
    }

    #[test]
    fn paths_are_cleaned_as_the_engine_does() {
        for (given, clean_path) in [
            ("/data", Some("/data")),
            ("/data/", Some("/data")),
            ("data//x/./y", Some("/data/x/y")),
            ("/a/../../b", Some("/b")),
            ("/", None),
            ("/..", None),
        ] {
            assert_eq!(clean(given).as_deref(), clean_path, "{given}");
        }
    }

    #[test]
    fn together_they_take_half_of_the_memory() {
        assert_eq!(of(&["/a"]).each_bytes(), 8 << 20);
        assert_eq!(of(&["/a", "/b", "/c"]).each_bytes(), 2 << 20);
        let two = of(&["/a", "/b/", "/b"]);
        assert_eq!(two.each_bytes(), 4 << 20);
        let mounts = two.mounts();
        assert_eq!(mounts.len(), 2, "the same one twice is one");
        let volume = mounts[0].volume_options.clone().unwrap();
        assert_eq!((volume.no_copy, volume.labels), (Some(false), Some(config::labels(&request(false)))));
        let options = volume.driver_config.unwrap().options.unwrap();
        assert_eq!(options["o"], "size=4194304,nr_inodes=1024,mode=0755,nosuid,nodev");
        assert!(of(&["/"]).is_empty());
    }

    #[test]
    fn too_many_are_refused() {
        let many: Vec<_> = (0..100).map(|n| format!("/v{n}")).collect();
        assert!(Volumes::of(&request(true), &many).unwrap_err().contains("100 VOLUMEs"));
    }

    #[test]
    fn a_full_disk_is_no_volume_that_is_too_small() {
        let volumes = of(&["/a", "/b"]);
        let name = volumes.names().nth(1).unwrap();
        let copying =
            format!("failed to copy files: write /d/volumes/{name}/_data/x: no space left on device");
        assert!(volumes.are_too_small(&copying));
        assert!(!volumes.are_too_small("mkdir /d/overlay2/x: no space left on device"));
        assert!(!volumes.are_too_small(&format!("mkdir /d/volumes/{name}: no space left on device")));
    }
}
