//! What a build that succeeded leaves on the client's side: lines on standard output, `--iidfile`, `--metadata-file`.
//!
//! Files are written at once or not at all, and only on success.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use archyard_model::{Output, Plan};
use serde_json::{Map, Value, json};

use crate::exit::Refusal;
use crate::progress::Board;

const INDEX_MEDIA_TYPE: &str = "application/vnd.oci.image.index.v1+json";

/// Where results go, beside standard output.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Files {
    /// Write the image ID to a file: of the index for --push, else of the one image
    #[arg(long, value_name = "FILE")]
    iidfile: Option<PathBuf>,
    /// Write what was built to a file, as JSON
    #[arg(long, value_name = "FILE")]
    metadata_file: Option<PathBuf>,
}

impl Files {
    /// Refuses what could not be written at the end of a long build.
    pub(crate) fn check(&self, plan: &Plan) -> Result<()> {
        if self.iidfile.is_some() && plan.output == Output::Check && plan.platforms.len() > 1 {
            return Err(Refusal::usage(format!(
                "--iidfile: {} platforms without --push leave no single image ID; use --metadata-file, which names each",
                plan.platforms.len()
            )));
        }
        for (flag, file) in [("--iidfile", &self.iidfile), ("--metadata-file", &self.metadata_file)] {
            if let Some(file) = file
                && !folder(file).is_dir()
            {
                return Err(Refusal::usage(format!(
                    "{flag} {}: its folder does not exist; make it first",
                    file.display()
                )));
            }
        }
        Ok(())
    }

    /// Writes both.
    pub(crate) fn write(&self, plan: &Plan, board: &Board) -> Result<()> {
        if let (Some(file), Some(id)) = (&self.iidfile, image_id(plan, board)) {
            replace(file, id.as_bytes()).with_context(|| format!("--iidfile {}", file.display()))?;
        }
        if let Some(file) = &self.metadata_file {
            let mut text = serde_json::to_string_pretty(&metadata(plan, board))?;
            text.push('\n');
            replace(file, text.as_bytes()).with_context(|| format!("--metadata-file {}", file.display()))?;
        }
        Ok(())
    }
}

/// Prints results as docker does: IDs alone for `-q`, else where the index is.
pub(crate) fn print(out: &mut impl Write, quiet: bool, plan: &Plan, board: &Board) -> std::io::Result<()> {
    let index = index(board);
    match (index, quiet) {
        (Some((digest, _)), true) => writeln!(out, "{digest}")?,
        (Some((digest, _)), false) => {
            for repository in plan.repositories() {
                writeln!(out, "index: {repository}@{digest}")?;
            }
        }
        (None, true) => {
            for digest in board.lanes.iter().filter_map(|lane| lane.result.as_ref()?.config_digest) {
                writeln!(out, "{digest}")?;
            }
        }
        (None, false) => {}
    }
    out.flush()
}

fn index(board: &Board) -> Option<(archyard_model::Sha256, u64)> {
    board.ended.as_ref().and_then(|ended| ended.index)
}

fn image_id(plan: &Plan, board: &Board) -> Option<String> {
    match plan.output {
        Output::Push | Output::Candidate => index(board).map(|(digest, _)| digest.to_string()),
        _ => board.lanes.first()?.result.as_ref()?.config_digest.map(|digest| digest.to_string()),
    }
}

/// The names that buildx uses, and our own under `archyard.`.
fn metadata(plan: &Plan, board: &Board) -> Value {
    let mut object = Map::new();
    if let Some((digest, size)) = index(board) {
        object.insert("containerimage.digest".to_owned(), json!(digest));
        object.insert(
            "containerimage.descriptor".to_owned(),
            json!({ "mediaType": INDEX_MEDIA_TYPE, "digest": digest, "size": size }),
        );
    }
    if !plan.tags.is_empty() {
        let tags: Vec<String> = plan.tags.iter().map(ToString::to_string).collect();
        object.insert("image.name".to_owned(), tags.join(",").into());
    }
    let mut platforms = Map::new();
    for lane in &board.lanes {
        let Some(result) = &lane.result else { continue };
        let mut platform = Map::new();
        if let Some(manifest) = &result.manifest {
            platform.insert(
                "containerimage.descriptor".to_owned(),
                json!({ "mediaType": manifest.media_type, "digest": manifest.digest, "size": manifest.size }),
            );
        }
        if let Some(config) = result.config_digest {
            platform.insert("containerimage.config.digest".to_owned(), json!(config));
            if board.lanes.len() == 1 {
                object.insert("containerimage.config.digest".to_owned(), json!(config));
            }
        }
        platform.insert("worker".to_owned(), json!(lane.worker));
        platforms.insert(lane.platform.to_string(), platform.into());
    }
    object.insert("archyard.build_id".to_owned(), json!(board.build));
    object.insert("archyard.platforms".to_owned(), platforms.into());
    object.into()
}

/// Puts a new file in the place of an old one, whole. What is no file (`/dev/stdout`) is written to.
fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if path.metadata().is_ok_and(|metadata| !metadata.is_file()) {
        return std::fs::write(path, bytes);
    }
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    let mut file =
        tempfile::Builder::new().prefix(".archyard-").permissions(permissions).tempfile_in(folder(path))?;
    file.write_all(bytes)?;
    file.persist(path)?;
    Ok(())
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
