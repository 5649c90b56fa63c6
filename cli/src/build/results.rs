//! What a build that succeeded leaves on the client's side: lines on standard output, `--iidfile`, `--metadata-file`.
//!
//! Files are written at once or not at all, and only on success.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use archyard_model::{Output, Plan, Reference, Sha256, convert};
use serde_json::{Map, Value, json};

use crate::build::interrupt::Interrupts;
use crate::exit::Refusal;
use crate::outputs::{Delivered, STDOUT, Spot, file};
use crate::progress::Board;
use crate::view;

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
        let single = plan.output.publishes() || matches!(plan.output, Output::Oci | Output::Load);
        let required = plan.platforms.len() - plan.trial.len();
        if self.iidfile.is_some() && !single && required > 1 {
            return Err(Refusal::usage(format!(
                "--iidfile: {required} platforms without --push leave no single image ID; use --metadata-file, which names \
                 each",
            )));
        }
        self.spots().map(drop)
    }

    /// Those that were asked for, and where they lead.
    fn spots(&self) -> Result<Vec<(&'static str, Spot)>> {
        let all = [("--iidfile", &self.iidfile), ("--metadata-file", &self.metadata_file)];
        let named = all.into_iter().filter_map(|(flag, file)| Some((flag, file.as_deref()?)));
        let mut spots: Vec<(&str, Spot)> = Vec::new();
        for (flag, file) in named {
            let wrong = |problem: &str| Refusal::usage(format!("{flag} {}: {problem}", file.display()));
            let spot = Spot::of(file).map_err(|problem| wrong(&problem))?;
            if let Some((other, _)) = spots.iter().find(|(_, known)| *known == spot && is_file(known)) {
                return Err(wrong(&format!("{other} names the same file; name another")));
            }
            spots.push((flag, spot));
        }
        Ok(spots)
    }

    /// The flag that writes to standard output, if there is one.
    pub(crate) fn on_stdout(&self) -> Option<&'static str> {
        let mut spots = self.spots().unwrap_or_default().into_iter();
        spots.find(|(_, spot)| *spot == Spot::Open(STDOUT)).map(|(flag, _)| flag)
    }

    /// Takes away what an earlier build left there: if this one fails, it would pass for its result. What is no file
    /// stays.
    pub(crate) fn clear(&self) -> Result<()> {
        for (flag, spot) in self.spots()? {
            file::clear(&spot).with_context(|| format!("{flag}: cannot remove the old file"))?;
        }
        Ok(())
    }

    /// Writes both. A pipe is waited for until it has a reader, or until a signal says not to.
    pub(crate) async fn write(
        &self,
        plan: &Plan,
        board: &Board,
        delivered: Option<&Delivered>,
    ) -> Result<()> {
        let mut interrupts = Interrupts::listen()?;
        for (flag, spot) in self.spots()? {
            let text = match flag {
                "--iidfile" => image_id(plan, board, delivered),
                _ => Some(format!("{}\n", serde_json::to_string_pretty(&metadata(plan, board, delivered))?)),
            };
            let Some(text) = text else { continue };
            let writing = tokio::task::spawn_blocking(move || file::write(&spot, text.as_bytes()));
            tokio::select! {
                written = writing => {
                    let written = written.with_context(|| format!("{flag}: writing was cut short"))?;
                    written.with_context(|| format!("{flag}: cannot write it"))?;
                }
                () = interrupts.next() => {
                    return Err(Refusal::canceled(format!("{flag}: left before it was written")));
                }
            }
        }
        Ok(())
    }
}

fn is_file(spot: &Spot) -> bool {
    matches!(spot, Spot::File(_))
}

/// Prints results as docker does: IDs alone for `-q`, else where the index is.
pub(crate) fn print(
    out: &mut impl Write,
    quiet: bool,
    plan: &Plan,
    board: &Board,
    delivered: Option<&Delivered>,
) -> std::io::Result<()> {
    match (index(board, delivered), quiet) {
        (_, false) if delivered.is_some() => {
            for line in delivered.into_iter().flat_map(|delivered| &delivered.lines) {
                writeln!(out, "{line}")?;
            }
        }
        (Some((digest, _)), true) => writeln!(out, "{digest}")?,
        (Some((digest, _)), false) => {
            for repository in plan.repositories() {
                writeln!(out, "index: {repository}@{digest}")?;
            }
            for tag in candidate(plan, board) {
                writeln!(out, "candidate: {tag}")?;
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

/// What to do with a candidate; nothing to say of anything else.
pub(crate) fn next_step(plan: &Plan, board: &Board) -> Option<String> {
    let build = board.build.as_ref().filter(|_| plan.output == Output::Candidate)?;
    let tags: Vec<String> = plan.tags.iter().map(ToString::to_string).collect();
    Some(match tags.is_empty() {
        true => format!("next: archyard promote {build} -t NAME"),
        false => format!("next: archyard promote {build}, which gives it {}", tags.join(", ")),
    })
}

/// The tag that a candidate waits under.
fn candidate(plan: &Plan, board: &Board) -> Vec<Reference> {
    let build = board.build.as_ref().filter(|_| plan.output == Output::Candidate);
    build.and_then(|build| build.parse().ok()).map(|id| plan.published_tags(id)).unwrap_or_default()
}

/// The index that was published, or is in an archive.
fn index(board: &Board, delivered: Option<&Delivered>) -> Option<(Sha256, u64)> {
    let published = board.ended.as_ref().and_then(|ended| ended.index);
    let archived = delivered.and_then(|delivered| delivered.index.as_ref());
    published.or_else(|| archived.map(|index| (index.digest, index.bytes.len() as u64)))
}

/// Of the index if there is one, else of the image that was loaded, else of the first that is not on trial.
fn image_id(plan: &Plan, board: &Board, delivered: Option<&Delivered>) -> Option<String> {
    if let Some((digest, _)) = index(board, delivered) {
        return Some(digest.to_string());
    }
    if plan.output.publishes() {
        return None;
    }
    let loaded = delivered.and_then(|delivered| delivered.image);
    let first = || board.lanes.iter().find(|lane| !lane.trial)?.result.as_ref()?.config_digest;
    loaded.or_else(first).map(|digest| digest.to_string())
}

/// The names that buildx uses, and our own under `archyard.`.
fn metadata(plan: &Plan, board: &Board, delivered: Option<&Delivered>) -> Value {
    let mut object = Map::new();
    if let Some((digest, size)) = index(board, delivered) {
        object.insert("containerimage.digest".to_owned(), json!(digest));
        object.insert(
            "containerimage.descriptor".to_owned(),
            json!({ "mediaType": INDEX_MEDIA_TYPE, "digest": digest, "size": size }),
        );
    }
    // Only those that name this build. A candidate has not got its own yet, but one to wait under.
    let named: Vec<String> = match plan.output.publishes() {
        true => board.tags.iter().filter(|tag| tag.moved).map(|tag| tag.tag.to_string()).collect(),
        false => plan.tags.iter().map(ToString::to_string).collect(),
    };
    if !named.is_empty() {
        object.insert("image.name".to_owned(), named.join(",").into());
    }
    let left: Map<String, Value> =
        board.left_to_others().map(|tag| (tag.tag.to_string(), tag.detail.clone().into())).collect();
    if !left.is_empty() {
        object.insert("archyard.tags_not_moved".to_owned(), left.into());
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
        platform.insert("trial".to_owned(), lane.trial.into());
        platform.insert("cross".to_owned(), json!(lane.cross));
        platform.insert("carried".to_owned(), lane.carried.into());
        let image = view::Image::from(convert::image_to_proto(result));
        platform.insert("smoke".to_owned(), json!(image.smoke));
        platform.insert("inspection".to_owned(), json!(image.inspection));
        platforms.insert(lane.platform.to_string(), platform.into());
    }
    object.insert("archyard.build_id".to_owned(), json!(board.build));
    if let Some(origin) = board.origin {
        let origin = view::Origin::from(convert::origin_to_proto(origin));
        object.insert("archyard.origin".to_owned(), json!(origin));
    }
    object.insert("archyard.platforms".to_owned(), platforms.into());
    object.into()
}
