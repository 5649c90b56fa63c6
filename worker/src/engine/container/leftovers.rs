//! Containers and volumes whose runner is gone.
//!
//! A runner removes its own; one that was killed cannot. Nothing is remembered of them but what they say
//! themselves: so an agent that was started meanwhile finds them as well.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use archyard_model::AttemptId;
use bollard::Docker;
use bollard::errors::Error;
use bollard::query_parameters::{ListContainersOptionsBuilder, ListVolumesOptionsBuilder};
use tokio::time::sleep;

use super::config::{self, Home};
use super::remove;
use super::volumes::remove as remove_volume;
use crate::engine::{DockerEngine, EngineError};

/// An Engine lists a container that is being made before it is there to be removed, and then says that it is not:
/// so it is asked until it lists none.
const LOOKS: usize = 8;
const PAUSE: Duration = Duration::from_millis(250);

impl DockerEngine {
    /// Ends and removes the containers and volumes of this worker's attempts that do not `live`. Returns how many
    /// that were.
    ///
    /// # Errors
    /// When the Engine does not list them. One that it does not remove is tried again another time.
    pub async fn remove_leftovers(
        &self,
        home: &Home,
        lives: impl Fn(AttemptId) -> bool,
    ) -> Result<usize, EngineError> {
        let api = self.api()?;
        let mut removed = BTreeSet::new();
        for _ in 0..LOOKS {
            let containers = containers(&api, home).await;
            let containers = containers.map_err(|error| self.error("list its containers", &error))?;
            let dead = |things: Vec<(String, AttemptId)>| things.into_iter().filter(|(_, of)| !lives(*of));
            let mut all_gone = true;
            for (name, _) in dead(containers) {
                all_gone = false;
                match remove(&api, &name).await {
                    Ok(()) => drop(removed.insert(name)),
                    Err(error) => {
                        tracing::warn!(container = name, %error, "a container that nobody needs stays");
                    }
                }
            }
            // Only now: a volume stays for as long as a container has it, one that is being made included.
            let volumes = volumes(&api, home).await;
            let volumes = volumes.map_err(|error| self.error("list its volumes", &error))?;
            for (name, _) in dead(volumes) {
                all_gone = false;
                match remove_volume(&api, &name).await {
                    Ok(()) => drop(removed.insert(name)),
                    Err(error) => tracing::debug!(volume = name, %error, "a volume is not removed yet"),
                }
            }
            if all_gone {
                break;
            }
            sleep(PAUSE).await;
        }
        Ok(removed.len())
    }
}

/// This worker's containers.
async fn containers(api: &Docker, home: &Home) -> Result<Vec<(String, AttemptId)>, Error> {
    let filters = HashMap::from([("label", vec![home.filter()])]);
    let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
    let listed = api.list_containers(Some(options)).await?;
    let owned = listed.iter().filter_map(|container| {
        let names = container.names.iter().flatten().map(|name| name.trim_start_matches('/'));
        owned(names, container.labels.as_ref()?)
    });
    Ok(owned.collect())
}

/// This worker's volumes.
async fn volumes(api: &Docker, home: &Home) -> Result<Vec<(String, AttemptId)>, Error> {
    let filters = HashMap::from([("label", vec![home.filter()])]);
    let options = ListVolumesOptionsBuilder::new().filters(&filters).build();
    let listed = api.list_volumes(Some(options)).await?.volumes.unwrap_or_default();
    Ok(listed.iter().filter_map(|volume| owned([volume.name.as_str()], &volume.labels)).collect())
}

/// Its name, and whose it is. Any image may have our labels; none can choose its containers' names.
fn owned<'a>(
    names: impl IntoIterator<Item = &'a str>,
    labels: &HashMap<String, String>,
) -> Option<(String, AttemptId)> {
    let attempt = AttemptId::from_file_name(labels.get(config::ATTEMPT)?)?;
    let name = names.into_iter().find(|name| name.starts_with(&config::prefix(attempt)))?;
    Some((name.to_owned(), attempt))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_has_our_labels_is_left_alone() {
        let attempt = AttemptId::from_file_name("01M87KVWJ1HEMC1EZ0Y48B4CVT-0-3").unwrap();
        let labels = HashMap::from([(config::ATTEMPT.to_owned(), attempt.file_name())]);
        let name = config::name(attempt, 1);
        assert_eq!(owned([name.as_str()], &labels), Some((name.clone(), attempt)));
        assert_eq!(owned(["somebody-elses"], &labels), None);
        assert_eq!(owned([name.as_str()], &HashMap::new()), None);
    }
}
