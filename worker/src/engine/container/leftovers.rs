//! Containers whose runner is gone.
//!
//! A runner removes its own; one that was killed cannot. Nothing is remembered of them but what they say
//! themselves: so an agent that was started meanwhile finds them as well.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use archyard_model::AttemptId;
use bollard::models::ContainerSummary;
use bollard::query_parameters::ListContainersOptionsBuilder;

use tokio::time::sleep;

use super::config::{self, Home};
use super::remove;
use crate::engine::{DockerEngine, EngineError};

/// An Engine lists a container that is being made before it is there to be removed, and then says that it is not:
/// so it is asked until it lists none.
const LOOKS: usize = 4;
const PAUSE: Duration = Duration::from_millis(250);

impl DockerEngine {
    /// Ends and removes the containers of this worker's attempts that do not `live`. Returns how many that were.
    ///
    /// # Errors
    /// When the Engine does not list its containers. One that it does not remove is tried again another time.
    pub async fn remove_leftovers(
        &self,
        home: &Home,
        lives: impl Fn(AttemptId) -> bool,
    ) -> Result<usize, EngineError> {
        let api = self.api()?;
        let filters = HashMap::from([("label", vec![home.filter()])]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let mut removed = BTreeSet::new();
        for _ in 0..LOOKS {
            let listed = api.list_containers(Some(options.clone())).await;
            let listed = listed.map_err(|error| self.error("list its containers", &error))?;
            let mut all_gone = true;
            for (name, _) in listed.iter().filter_map(ours).filter(|(_, attempt)| !lives(*attempt)) {
                all_gone = false;
                match remove(&api, name).await {
                    Ok(()) => drop(removed.insert(name.to_owned())),
                    Err(error) => {
                        tracing::warn!(container = name, %error, "a container that nobody needs stays");
                    }
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

/// Its name, and whose it is. Any image may have our labels; none can choose its containers' names.
fn ours(container: &ContainerSummary) -> Option<(&str, AttemptId)> {
    let attempt = AttemptId::from_file_name(container.labels.as_ref()?.get(config::ATTEMPT)?)?;
    let mut names = container.names.iter().flatten().map(|name| name.trim_start_matches('/'));
    names.find(|name| name.starts_with(&config::prefix(attempt))).map(|name| (name, attempt))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_that_only_has_our_labels_is_left_alone() {
        let attempt = AttemptId::from_file_name("01M87KVWJ1HEMC1EZ0Y48B4CVT-0-3").unwrap();
        let labels = HashMap::from([(config::ATTEMPT.to_owned(), attempt.file_name())]);
        let named = |name: &str| ContainerSummary {
            names: Some(vec![format!("/{name}")]),
            labels: Some(labels.clone()),
            ..ContainerSummary::default()
        };
        let name = config::name(attempt, 1);
        assert_eq!(ours(&named(&name)), Some((name.as_str(), attempt)));
        assert_eq!(ours(&named("somebody-elses")), None);
        assert_eq!(ours(&ContainerSummary { labels: None, ..named(&name) }), None);
    }
}
