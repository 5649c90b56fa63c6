//! What the Engine says of an image, without taking it out.

use std::path::PathBuf;

use archyard_model::Sha256;
use bollard::errors::Error;
use bollard::models;

use super::{Described, DockerEngine, EngineError};
use crate::inspect::Config;

/// Asks for an image's config; see [`super::Engine::describe`].
pub(super) async fn describe(engine: &DockerEngine, image: Sha256) -> Result<Described, EngineError> {
    let refused = |error: Error| engine.error("describe an image", &error);
    let (api, name) = (engine.api()?, image.to_string());
    let inspect = api.inspect_image(&name).await.map_err(refused)?;
    let layers = inspect.root_fs.and_then(|root| root.layers).unwrap_or_default();
    let diff_ids = layers.iter().map(|layer| layer.parse()).collect::<Result<Vec<Sha256>, _>>();
    let diff_ids = diff_ids.map_err(|error| EngineError::Refused {
        endpoint: engine.endpoint(),
        action: "describe an image",
        message: error.to_string(),
    })?;
    let run: models::ImageConfig = inspect.config.unwrap_or_default();
    Ok(Described {
        folders: inspect.graph_driver.map(|driver| folders(&driver, diff_ids.len())).unwrap_or_default(),
        config: Config {
            os: inspect.os.unwrap_or_default(),
            architecture: inspect.architecture.unwrap_or_default(),
            variant: inspect.variant.unwrap_or_default(),
            entrypoint: run.entrypoint.unwrap_or_default(),
            cmd: run.cmd.unwrap_or_default(),
            env: run.env.unwrap_or_default(),
            working_dir: run.working_dir.unwrap_or_default(),
            user: run.user.unwrap_or_default(),
            labels: run.labels.unwrap_or_default().into_iter().collect(),
            diff_ids,
            steps: Vec::new(),
        },
    })
}

/// Where overlay2 has the layers of an image of this many, from the lowest.
fn folders(driver: &models::DriverData, layers: usize) -> Vec<PathBuf> {
    if driver.name != "overlay2" {
        return Vec::new();
    }
    // The lower ones are told from the highest.
    let lower = driver.data.get("LowerDir").map_or("", String::as_str);
    let lower = lower.split(':').filter(|folder| !folder.is_empty()).rev();
    let folders: Vec<PathBuf> =
        lower.chain(driver.data.get("UpperDir").map(String::as_str)).map(PathBuf::from).collect();
    if folders.len() == layers && folders.iter().all(|folder| folder.is_absolute()) {
        folders
    } else {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(name: &str, data: &[(&str, &str)], layers: usize) -> Vec<PathBuf> {
        let data = data.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        folders(&models::DriverData { name: name.to_owned(), data }, layers)
    }

    #[test]
    fn folders_are_told_from_the_lowest_or_not_at_all() {
        let three =
            [("UpperDir", "/o/c/diff"), ("LowerDir", "/o/b/diff:/o/a/diff"), ("WorkDir", "/o/c/work")];
        let paths = ["/o/a/diff", "/o/b/diff", "/o/c/diff"].map(PathBuf::from);
        assert_eq!(told("overlay2", &three, 3), paths);
        assert_eq!(told("overlay2", &[("UpperDir", "/o/a/diff")], 1), paths[..1]);
        let none: [PathBuf; 0] = [];
        assert_eq!(told("overlay2", &three, 2), none);
        assert_eq!(told("overlayfs", &three, 3), none);
        assert_eq!(told("overlay2", &[("UpperDir", "a/diff")], 1), none);
        assert_eq!(told("overlay2", &[], 0), none);
    }
}
