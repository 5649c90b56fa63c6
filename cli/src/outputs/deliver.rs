//! From what a build left to where its user wants it.

use std::io::{self, BufWriter, Read};
use std::path::Path;

use anyhow::{Context as _, Result};
use archyard_model::{Artifact, Index, Plan, Platform, Sha256};
use archyard_proto::v1 as proto;
use tokio_util::sync::CancellationToken;

use super::archive::{Archive, position};
use super::engine::{Engine, pipe};
use super::file::Target;
use super::left::Left;
use super::pull::{Incoming, Pull};
use super::spec::{Dest, OutputSpec};
use super::spot::{STDERR, STDOUT, Spot, folder};
use super::unpack::Folder;
use super::{place, retar, unpack};
use crate::build::Updates;
use crate::exit::Refusal;
use crate::farm::Farm;

/// Written in pieces of this size.
const BUFFER_BYTES: usize = 1024 * 1024;

/// A destination that was looked at before anything was built.
#[derive(Debug, Clone)]
pub(crate) struct Outputs {
    spec: OutputSpec,
    /// Where an archive's or a tar's bytes go.
    spot: Option<Spot>,
    engine: Option<Engine>,
    own: Option<Platform>,
}

/// What was written.
#[derive(Debug, Clone, Default)]
pub(crate) struct Delivered {
    /// For people: where it is.
    pub(crate) lines: Vec<String>,
    /// Of an archive.
    pub(crate) index: Option<Index>,
    /// The config of the image that was loaded.
    pub(crate) image: Option<Sha256>,
}

impl Outputs {
    /// Refuses what could not be written at the end of a long build. None where nothing comes back to the client.
    /// `own`: this machine's platform. `engine`: where images are loaded.
    pub(crate) async fn prepare(
        spec: &OutputSpec,
        plan: &Plan,
        own: Option<Platform>,
        engine: &str,
    ) -> Result<Option<Self>> {
        let (mut loading, mut spot) = (None, None);
        match spec {
            OutputSpec::Check | OutputSpec::Push => return Ok(None),
            OutputSpec::Oci(dest) | OutputSpec::Tar(dest) => spot = Some(stream(dest)?),
            OutputSpec::Local(path) => {
                // A link to nothing is something too.
                if path.symlink_metadata().is_ok() && !path.is_dir() {
                    return Err(Refusal::usage(format!(
                        "--output {}: this is no folder; name another",
                        path.display()
                    )));
                }
            }
            OutputSpec::Load => loading = Some(for_loading(plan, engine).await?),
        }
        Ok(Some(Self { spec: spec.clone(), spot, engine: loading, own }))
    }

    /// Whether standard output is taken.
    pub(crate) fn takes_stdout(&self) -> bool {
        self.spot == Some(Spot::Open(STDOUT))
    }

    /// Brings what the build left, and tells the farm that it may go unless `keep`.
    pub(crate) async fn deliver(
        &self,
        farm: &Farm,
        left: &Left,
        keep: bool,
        updates: &Updates,
        stop: &CancellationToken,
    ) -> Result<Delivered> {
        if left.plan.output.is_files() != self.spec.output().is_files() {
            return Err(Refusal::usage(format!(
                "--output: build {} left {}; build again with this output",
                left.build,
                if left.plan.output.is_files() { "files and no image" } else { "an image and no files" }
            )));
        }
        let pull = |artifacts: Vec<Artifact>| Pull {
            farm: farm.clone(),
            build: left.build.clone(),
            artifacts,
            updates: updates.clone(),
            stop: stop.clone(),
        };
        let delivered = match (&self.spec, &self.spot, &self.engine) {
            (OutputSpec::Oci(dest), Some(spot), _) => self.archive(left, dest, spot, pull).await?,
            (OutputSpec::Tar(dest), Some(spot), _) => tar(left, dest, spot, pull).await?,
            (OutputSpec::Load, _, Some(engine)) => load(left, engine, pull).await?,
            (OutputSpec::Local(path), ..) => local(left, path, pull).await?,
            _ => Delivered::default(),
        };
        if !keep {
            let request = proto::ReleaseArtifactsRequest { build_id: left.build.clone() };
            // It goes by itself after a while.
            if let Err(status) = farm.artifacts().release(request).await {
                tracing::debug!(%status, "the farm was not told that its artifacts may go");
            }
        }
        Ok(delivered)
    }

    async fn archive(
        &self,
        left: &Left,
        dest: &Dest,
        spot: &Spot,
        pull: impl Fn(Vec<Artifact>) -> Pull,
    ) -> Result<Delivered> {
        let archive = Archive::of_all(left, self.own.as_ref())?;
        let index = archive.index.clone();
        let (pull, to, spot) = (pull(archive.artifacts()), dest.clone(), spot.clone());
        pull.through(move |blobs| {
            let wrong = |error| cannot_write(&to, error);
            let mut target = Target::open(&spot).map_err(wrong)?;
            let out = BufWriter::with_capacity(BUFFER_BYTES, &mut target);
            let tar = archive.write(out, blobs).map_err(wrong)?;
            // The end of the archive is what says that all of it was right.
            blobs.end().map_err(wrong)?;
            tar.into_inner()
                .and_then(|out| out.into_inner().map(drop).map_err(io::IntoInnerError::into_error))
                .map_err(wrong)?;
            target.commit().map_err(wrong)
        })
        .await?;
        let digest = index.as_ref().map(|index| index.digest.to_string()).unwrap_or_default();
        let lines = vec![format!("archive: {dest} with {}", platforms(left)), format!("index: {digest}")];
        Ok(Delivered { lines, index, image: None })
    }
}

async fn load(left: &Left, engine: &Engine, pull: impl Fn(Vec<Artifact>) -> Pull) -> Result<Delivered> {
    let at = position(&left.images, &engine.platform).unwrap_or_default();
    let image = left.images.get(at).context("the build left no image")?;
    let archive = match engine.holds_all {
        true => Archive::of_all(left, Some(&engine.platform))?,
        false => Archive::of_one(left, image),
    };
    let all = archive.index.is_some();
    let (mut pipe, taken) = pipe();
    let bringing = pull(archive.artifacts()).through(move |blobs| {
        let tar = archive.write(BufWriter::with_capacity(BUFFER_BYTES, &mut pipe), blobs)?;
        blobs.end()?;
        tar.into_inner()?.into_inner().map_err(io::IntoInnerError::into_error)?;
        pipe.end();
        Ok(())
    });
    let (brought, loaded) = tokio::join!(bringing, engine.load(taken));
    match brought {
        // The Engine let go first: it knows why.
        Err(error) if is_broken_pipe(&error) => loaded.and(Err(error))?,
        brought => brought.and(loaded)?,
    }
    let what = if all { platforms(left) } else { image.platform.to_string() };
    let names: Vec<String> = left.plan.tags.iter().map(ToString::to_string).collect();
    let names = if names.is_empty() { image.config().digest.to_string() } else { names.join(", ") };
    let line = format!("loaded {what} into the Engine at {} as {names}", engine.endpoint());
    Ok(Delivered { lines: vec![line], index: None, image: Some(image.config().digest) })
}

async fn tar(
    left: &Left,
    dest: &Dest,
    spot: &Spot,
    pull: impl Fn(Vec<Artifact>) -> Pull,
) -> Result<Delivered> {
    let (roots, to, spot) = (roots(left), dest.clone(), spot.clone());
    pull(roots.iter().map(|(_, artifact)| artifact.clone()).collect())
        .through(move |blobs| {
            let wrong = |error| cannot_write(&to, error);
            let mut target = Target::open(&spot).map_err(wrong)?;
            let mut out = BufWriter::with_capacity(BUFFER_BYTES, &mut target);
            if let [(None, artifact)] = roots.as_slice() {
                io::copy(&mut blobs.by_ref().take(artifact.size), &mut out).map_err(wrong)?;
                blobs.end().map_err(wrong)?;
            } else {
                let mut tar = tar::Builder::new(&mut out);
                for (folder, artifact) in &roots {
                    let folder = folder.as_deref().unwrap_or_default();
                    retar::append(&mut tar, folder, blobs.by_ref().take(artifact.size))
                        .with_context(|| format!("--output: cannot write {to}"))?;
                }
                blobs.end().map_err(wrong)?;
                tar.into_inner().map_err(wrong)?;
            }
            out.into_inner().map(drop).map_err(|error| wrong(error.into_error()))?;
            target.commit().map_err(wrong)
        })
        .await?;
    let lines = vec![format!("tar: {dest} with the files of {}", platforms(left))];
    Ok(Delivered { lines, ..Delivered::default() })
}

async fn local(left: &Left, path: &Path, pull: impl Fn(Vec<Artifact>) -> Pull) -> Result<Delivered> {
    let (roots, to) = (roots(left), path.to_owned());
    pull(roots.iter().map(|(_, artifact)| artifact.clone()).collect())
        .through(move |blobs| {
            unpack_all(&roots, &to, blobs).with_context(|| format!("--output: cannot write {}", to.display()))
        })
        .await?;
    let lines = vec![format!("files: {} with those of {}", path.display(), platforms(left))];
    Ok(Delivered { lines, ..Delivered::default() })
}

/// Into a folder beside the place first: what is half there is nowhere.
fn unpack_all(roots: &[(Option<String>, Artifact)], to: &Path, blobs: &mut Incoming) -> Result<()> {
    let near = if to.exists() { to } else { folder(to) };
    std::fs::create_dir_all(near)?;
    let stage = tempfile::Builder::new().prefix(".archyard-").tempdir_in(near)?;
    let mut folders: Vec<(Option<&String>, Vec<Folder>)> = Vec::new();
    for (name, artifact) in roots {
        let root = name.as_ref().map_or_else(|| stage.path().to_owned(), |name| stage.path().join(name));
        std::fs::create_dir_all(&root)?;
        folders.push((name.as_ref(), unpack::unpack(blobs.by_ref().take(artifact.size), &root)?));
    }
    blobs.end()?;
    std::fs::create_dir_all(to)?;
    place::place(stage.path(), to)?;
    for (name, folders) in &folders {
        let root = name.map_or_else(|| to.to_owned(), |name| to.join(name));
        unpack::settle(&root, folders)?;
    }
    Ok(())
}

/// Each platform's root file system, with the folder it goes to where there are several.
fn roots(left: &Left) -> Vec<(Option<String>, Artifact)> {
    let several = left.images.len() > 1;
    let root = |image: &super::left::Image| {
        let folder = several.then(|| image.platform.to_string().replace('/', "_"));
        Some((folder, image.result.artifacts.first()?.clone()))
    };
    left.images.iter().filter_map(root).collect()
}

fn platforms(left: &Left) -> String {
    left.images.iter().map(|image| image.platform.to_string()).collect::<Vec<_>>().join(", ")
}

/// The Engine, if the plan has an image that it runs.
async fn for_loading(plan: &Plan, endpoint: &str) -> Result<Engine> {
    let engine = Engine::connect(endpoint).await?;
    let own = &engine.platform;
    let required = (0_u16..).zip(&plan.platforms).filter(|(at, _)| !plan.is_trial(*at));
    let mut fits = required.map(|(_, platform)| platform);
    if fits.any(|platform| platform.os() == own.os() && platform.architecture() == own.architecture()) {
        return Ok(engine);
    }
    let asked = plan.platforms.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    Err(Refusal::usage(format!(
        "--load: the Engine at {endpoint} runs {own}, and the build is for {asked}; add --platform {own}, or write an \
         archive with -o type=oci,dest=FILE"
    )))
}

/// Where a stream of bytes may go.
fn stream(dest: &Dest) -> Result<Spot> {
    let wrong = |problem: &str| Refusal::usage(format!("--output {dest}: {problem}"));
    let spot = match dest {
        Dest::Stdout => Spot::Open(STDOUT),
        Dest::File(path) => Spot::of(path).map_err(|problem| wrong(&problem))?,
    };
    if spot.is_terminal() {
        return Err(wrong(
            "a terminal cannot take an archive; name a file with dest=FILE, or redirect standard output",
        ));
    }
    if spot == Spot::Open(STDERR) {
        return Err(wrong(
            "standard error shows progress; name a file with dest=FILE, or - for standard output",
        ));
    }
    Ok(spot)
}

fn cannot_write(dest: &Dest, error: io::Error) -> anyhow::Error {
    anyhow::Error::from(error).context(format!("--output: cannot write {dest}"))
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    })
}
