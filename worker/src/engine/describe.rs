//! What the Engine says of an image, without taking it out.

use archyard_model::Sha256;
use bollard::errors::Error;
use bollard::models;

use super::{DockerEngine, EngineError, ImageConfig};

/// Asks for an image's config and history; see [`super::Engine::describe`].
pub(super) async fn describe(engine: &DockerEngine, image: Sha256) -> Result<ImageConfig, EngineError> {
    let refused = |error: Error| engine.error("describe an image", &error);
    let (api, name) = (engine.api()?, image.to_string());
    let (inspect, history) = tokio::join!(api.inspect_image(&name), api.image_history(&name));
    let (inspect, history) = (inspect.map_err(refused)?, told(history).map_err(refused)?);
    let layers = inspect.root_fs.and_then(|root| root.layers).unwrap_or_default();
    let diff_ids = layers.iter().map(|layer| layer.parse()).collect::<Result<Vec<Sha256>, _>>();
    let diff_ids = diff_ids.map_err(|error| EngineError::Refused {
        endpoint: engine.endpoint(),
        action: "describe an image",
        message: error.to_string(),
    })?;
    let config: models::ImageConfig = inspect.config.unwrap_or_default();
    Ok(ImageConfig {
        os: inspect.os.unwrap_or_default(),
        architecture: inspect.architecture.unwrap_or_default(),
        variant: inspect.variant.unwrap_or_default(),
        entrypoint: config.entrypoint.unwrap_or_default(),
        cmd: config.cmd.unwrap_or_default(),
        env: config.env.unwrap_or_default(),
        working_dir: config.working_dir.unwrap_or_default(),
        user: config.user.unwrap_or_default(),
        labels: config.labels.unwrap_or_default().into_iter().collect(),
        shell: config.shell.unwrap_or_default(),
        diff_ids,
        // The Engine tells the last instruction first.
        history: history.into_iter().rev().map(|step| step.created_by).collect(),
    })
}

/// A containerd store wants to measure each step, and cannot for an image of another platform: it tells none.
fn told<T>(history: Result<Vec<T>, Error>) -> Result<Vec<T>, Error> {
    match history {
        Err(Error::DockerResponseServerError { message, .. }) => {
            tracing::debug!(message, "the Engine tells no history");
            Ok(Vec::new())
        }
        other => other,
    }
}
