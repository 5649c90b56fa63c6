//! A container that has the volumes of another while that one is made and started.
//!
//! The Engine unmounts a volume when nobody runs who has it, and one in memory is then empty again. So somebody has to
//! run before the Engine fills them. Nothing of the image runs in there: the holder is of that image only because the
//! Engine would make volumes of its own for any path of it that is not covered.

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::{ContainerCreateBody, HealthConfig, HostConfig, HostConfigLogConfig};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, KillContainerOptionsBuilder, StartContainerOptions,
    UploadToContainerOptionsBuilder,
};
use tokio::time::timeout;

use super::refusal::Refusal;
use super::volumes::Volumes;
use super::{CREATION, RunRequest, config, pause};

/// It runs.
#[derive(Debug)]
pub(super) struct Holder<'a> {
    api: &'a Docker,
    name: String,
}

/// What the holder of a container's volumes is called.
pub(super) fn name(container: &str) -> String {
    format!("{container}-volumes")
}

impl<'a> Holder<'a> {
    /// Makes the volumes, and holds them from here on.
    pub(super) async fn start(
        api: &'a Docker,
        container: &str,
        request: &RunRequest,
        volumes: &Volumes,
    ) -> Result<Self, Refusal> {
        let holder = Self { api, name: name(container) };
        let program = pause::program().ok_or(Refusal::Machine(
            "this machine's architecture has no program to hold the VOLUMEs of an image; build it elsewhere",
        ))?;
        let options = CreateContainerOptionsBuilder::new().name(&holder.name).build();
        let body = holder.body(request, volumes);
        match timeout(CREATION, api.create_container(Some(options), body)).await {
            Ok(created) => drop(created.map_err(Refusal::of)?),
            Err(_) => return Err(Refusal::Slow(CREATION)),
        }
        let archive =
            archive(&holder.name, &program).map_err(|_| Refusal::Machine("cannot pack a program"))?;
        let options = UploadToContainerOptionsBuilder::new().path("/").build();
        let upload = api.upload_to_container(&holder.name, Some(options), bollard::body_full(archive.into()));
        upload.await.map_err(Refusal::of)?;
        let started = api.start_container(&holder.name, None::<StartContainerOptions>).await;
        started.map_err(|error| holder.blame(error))?;
        Ok(holder)
    }

    /// Lets go: the container that the volumes are for has been started. Fails if the holder ended before, for then
    /// it is not known what they hold.
    pub(super) async fn end(self) -> Result<(), Refusal> {
        let options = KillContainerOptionsBuilder::new().signal("SIGKILL").build();
        match self.api.kill_container(&self.name, Some(options)).await {
            Err(Error::DockerResponseServerError { .. }) => {
                Err(Refusal::Machine("the container that held the image's VOLUMEs ended too early"))
            }
            killed => killed.map_err(Refusal::of),
        }
    }

    fn body(&self, request: &RunRequest, volumes: &Volumes) -> ContainerCreateBody {
        let host = HostConfig {
            network_mode: Some("none".to_owned()),
            cap_drop: Some(vec!["ALL".to_owned()]),
            security_opt: Some(vec!["no-new-privileges".to_owned()]),
            log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
            tmpfs: Some(volumes.stand_ins()),
            mounts: Some(volumes.mounts_aside()),
            ..HostConfig::default()
        };
        ContainerCreateBody {
            image: Some(request.image.to_string()),
            entrypoint: Some(vec![format!("/{}", self.name)]),
            cmd: Some(Vec::new()),
            // Whatever the image says of these may not exist in it.
            user: Some("0:0".to_owned()),
            working_dir: Some("/".to_owned()),
            labels: Some(config::labels(request)),
            healthcheck: Some(HealthConfig {
                test: Some(vec!["NONE".to_owned()]),
                ..HealthConfig::default()
            }),
            host_config: Some(host),
            ..ContainerCreateBody::default()
        }
    }

    /// The image is to blame for where its volumes are, but not for our program.
    fn blame(&self, error: Error) -> Refusal {
        match &error {
            Error::DockerResponseServerError { message, .. }
                if message.contains(&format!("\"/{}\"", self.name)) =>
            {
                Refusal::Machine("the program that holds an image's VOLUMEs cannot be run")
            }
            _ => Refusal::of(error),
        }
    }
}

/// A tar archive of one program.
fn archive(name: &str, program: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut header = tar::Header::new_gnu();
    header.set_size(program.len() as u64);
    header.set_mode(0o755);
    let mut tar = tar::Builder::new(Vec::new());
    tar.append_data(&mut header, name, program)?;
    tar.into_inner()
}
