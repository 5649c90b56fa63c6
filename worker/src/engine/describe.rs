//! What the Engine says of an image, without taking it out.

use archyard_model::Sha256;
use bollard::errors::Error;
use bollard::models;

use super::{DockerEngine, EngineError, ImageConfig};

/// Asks for an image's config; see [`super::Engine::describe`].
pub(super) async fn describe(engine: &DockerEngine, image: Sha256) -> Result<ImageConfig, EngineError> {
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
    })
}
