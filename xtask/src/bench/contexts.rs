//! What a build costs that copies one file, when much lies next to that file which nothing copies.

use std::cell::{Cell, RefCell};
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{Bench, Figure, Reference, prepared_pairs};

const OF: Reference = Reference::Buildx;
/// Most that are of use: one pair takes as long as the slower side.
const RUNS: usize = 7;
const LARGE_FILES: usize = 2048;
const LARGE_FILE_BYTES: usize = 1 << 20;
const FOLDERS: usize = 1000;
const FILES: usize = 100;

/// The three rows.
pub(super) fn figures(bench: &Bench, runs: usize) -> Result<Vec<Figure>> {
    let runs = runs.min(RUNS);
    let mut figures = Vec::new();
    {
        let context = Crowded::new(bench)?;
        context.add_large_files()?;
        figures.push(context.first_builds("2 GiB next to one file", runs)?);
        figures.push(context.changed_builds("1 GiB of it changed", runs)?);
    }
    let context = Crowded::new(bench)?;
    context.add_small_files()?;
    figures.push(context.first_builds("100,000 files next to one", runs)?);
    Ok(figures)
}

/// A context of which one file is copied. Its data is removed when it is dropped.
struct Crowded<'a> {
    bench: &'a Bench,
    home: tempfile::TempDir,
    /// Where it lies now.
    at: RefCell<PathBuf>,
    number: Cell<u64>,
}

impl<'a> Crowded<'a> {
    fn new(bench: &'a Bench) -> Result<Self> {
        let home = tempfile::Builder::new().prefix("crowded").tempdir_in(bench.dir.path())?;
        let at = home.path().join("context");
        fs::create_dir(&at)?;
        fs::write(at.join("Dockerfile"), format!("FROM {}\nCOPY one /one\n", bench.base))?;
        fs::write(at.join("one"), "0")?;
        Ok(Self { bench, home, at: RefCell::new(at), number: Cell::new(0) })
    }

    /// Files that are all different, and none sparse.
    fn add_large_files(&self) -> Result<()> {
        let data = self.at.borrow().join("data");
        fs::create_dir(&data)?;
        let mut noise = noise(LARGE_FILE_BYTES);
        for number in 0..LARGE_FILES {
            noise[..8].copy_from_slice(&(number as u64).to_le_bytes());
            let path = large_file(&data, number);
            let mut file =
                File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
            file.write_all(&noise)?;
        }
        Ok(())
    }

    fn add_small_files(&self) -> Result<()> {
        let data = self.at.borrow().join("data");
        for folder in 0..FOLDERS {
            let folder = data.join(format!("folder-{folder:04}"));
            fs::create_dir_all(&folder)?;
            for file in 0..FILES {
                fs::write(folder.join(format!("file-{file:03}")), format!("{} {file}", folder.display()))?;
            }
        }
        Ok(())
    }

    fn next(&self) -> u64 {
        self.number.set(self.number.get() + 1);
        self.number.get()
    }

    /// Each build is the first of a folder that neither side has seen.
    fn first_builds(&self, name: &'static str, runs: usize) -> Result<Figure> {
        let moved = || -> Result<PathBuf> {
            let to = self.home.path().join(format!("context-{}", self.next()));
            fs::rename(&*self.at.borrow(), &to)?;
            self.at.replace(to.clone());
            self.change_the_copied_file()?;
            Ok(to)
        };
        self.measured(
            name,
            runs,
            || Ok(()),
            || self.bench.ours(&moved()?, &self.bench.platforms[..1], &[]),
            || self.bench.theirs(OF, &moved()?, &[]),
        )
    }

    /// Before each pair the copied file changes, and every other large file. Both sides have seen the folder.
    fn changed_builds(&self, name: &'static str, runs: usize) -> Result<Figure> {
        let at = self.at.borrow().clone();
        self.measured(
            name,
            runs,
            || {
                self.change_the_copied_file()?;
                let data = at.join("data");
                for number in (0..LARGE_FILES).step_by(2) {
                    let path = large_file(&data, number);
                    let file = File::options().write(true).open(&path);
                    let file = file.with_context(|| format!("cannot open {}", path.display()))?;
                    file.write_all_at(&self.next().to_le_bytes(), 8)?;
                }
                Ok(())
            },
            || self.bench.ours(&at, &self.bench.platforms[..1], &[]),
            || self.bench.theirs(OF, &at, &[]),
        )
    }

    fn change_the_copied_file(&self) -> Result<()> {
        Ok(fs::write(self.at.borrow().join("one"), self.next().to_string())?)
    }

    fn measured(
        &self,
        name: &'static str,
        runs: usize,
        prepare: impl Fn() -> Result<()>,
        ours: impl Fn() -> Result<()>,
        theirs: impl Fn() -> Result<()>,
    ) -> Result<Figure> {
        self.bench.on_one_engine(OF, || {
            let pairs = prepared_pairs(runs, prepare, ours, theirs)?;
            Ok(Figure::of(name, &pairs, 1.0))
        })
    }
}

fn large_file(data: &Path, number: usize) -> PathBuf {
    data.join(format!("file-{number:04}"))
}

/// Bytes that do not compress.
fn noise(len: usize) -> Vec<u8> {
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}
