//! What was removed of which build, when and why: so that whoever asks for it is told, and a worker that comes back
//! does not bring it again.
//!
//! One line each in `retention/removed`, appended before the removal. The oldest are forgotten.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use archyard_model::{BuildId, limits};
use jiff::Timestamp;

use super::budget::Why;
use crate::disk;

/// What of a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum What {
    Log,
    /// Its log too.
    Record,
}

/// One removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) what: What,
    pub(crate) why: Why,
    pub(crate) at: Timestamp,
}

/// All removals that are remembered.
#[derive(Debug)]
pub(crate) struct Notes {
    data_dir: PathBuf,
    path: PathBuf,
    held: Mutex<Held>,
}

#[derive(Debug)]
struct Held {
    notes: BTreeMap<BuildId, Note>,
    /// As they were made; a build may be there twice.
    order: VecDeque<BuildId>,
    file: File,
    lines: usize,
}

impl Notes {
    /// Opens `retention/removed` in the data folder.
    pub(crate) fn open(data_dir: &Path) -> Result<Self, disk::Error> {
        let folder = data_dir.join("retention");
        disk::create_dir(data_dir, &folder)?;
        let path = folder.join("removed");
        let wrong = |source| disk::Error::at(data_dir, &path, source);
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(&path).map_err(wrong)?;
        let mut text = String::new();
        // A line that a crash cut, or a byte that is none of ours, is a note that is missing.
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut file, &mut bytes).map_err(wrong)?;
        text.push_str(&String::from_utf8_lossy(&bytes));
        if !text.is_empty() && !text.ends_with('\n') {
            file.write_all(b"\n").map_err(wrong)?;
        }
        disk::sync_dir(data_dir, &folder)?;
        let mut held =
            Held { notes: BTreeMap::new(), order: VecDeque::new(), file, lines: text.lines().count() };
        for (build, note) in text.lines().filter_map(parse) {
            held.insert(build, note);
        }
        Ok(Self { data_dir: data_dir.to_owned(), path, held: Mutex::new(held) })
    }

    /// What was removed of a build; none: nothing, or it is forgotten.
    pub(crate) fn of(&self, build: BuildId) -> Option<Note> {
        self.lock().notes.get(&build).copied()
    }

    /// Notes removals, durably. To be called before they are made. Blocks.
    pub(crate) fn note(&self, removals: &[(BuildId, Note)]) -> Result<(), disk::Error> {
        let mut held = self.lock();
        let text = removals.iter().fold(String::new(), |mut text, (build, note)| {
            line(&mut text, *build, *note);
            text
        });
        held.file
            .write_all(text.as_bytes())
            .and_then(|()| held.file.sync_data())
            .map_err(|source| disk::Error::at(&self.data_dir, &self.path, source))?;
        held.lines += removals.len();
        for (build, note) in removals {
            held.insert(*build, *note);
        }
        if held.lines > 2 * limits::REMOVED_REMEMBERED {
            self.rewrite(&mut held)?;
        }
        Ok(())
    }

    fn rewrite(&self, held: &mut Held) -> Result<(), disk::Error> {
        let mut text = String::new();
        for build in &held.order {
            if let Some(note) = held.notes.get(build) {
                line(&mut text, *build, *note);
            }
        }
        disk::write_whole(&self.data_dir, &self.path, text.as_bytes())?;
        let reopened = OpenOptions::new().append(true).open(&self.path);
        held.file = reopened.map_err(|source| disk::Error::at(&self.data_dir, &self.path, source))?;
        held.lines = held.order.len();
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn insert(&mut self, build: BuildId, note: Note) {
        match self.notes.get(&build) {
            // A record's removal says more than a log's.
            Some(known) if known.what >= note.what => return,
            Some(_) => {}
            None => self.order.push_back(build),
        }
        self.notes.insert(build, note);
        while self.order.len() > limits::REMOVED_REMEMBERED {
            if let Some(oldest) = self.order.pop_front() {
                self.notes.remove(&oldest);
            }
        }
    }
}

fn line(text: &mut String, build: BuildId, note: Note) {
    let what = match note.what {
        What::Log => "log",
        What::Record => "record",
    };
    let why = match note.why {
        Why::Age => "age",
        Why::Bytes => "bytes",
        Why::ProjectBytes => "project_bytes",
        Why::Asked => "asked",
    };
    // Writing to a string does not fail.
    writeln!(text, "{build} {what} {why} {}", note.at.as_millisecond()).ok();
}

fn parse(line: &str) -> Option<(BuildId, Note)> {
    let mut words = line.split(' ');
    let build = words.next()?.parse().ok()?;
    let what = match words.next()? {
        "log" => What::Log,
        "record" => What::Record,
        _ => return None,
    };
    let why = match words.next()? {
        "age" => Why::Age,
        "bytes" => Why::Bytes,
        "project_bytes" => Why::ProjectBytes,
        "asked" => Why::Asked,
        _ => return None,
    };
    let at = Timestamp::from_millisecond(words.next()?.parse().ok()?).ok()?;
    words.next().is_none().then_some((build, Note { what, why, at }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(number: u64) -> BuildId {
        BuildId::from_parts(number, 1)
    }

    fn note(what: What) -> Note {
        Note { what, why: Why::Age, at: Timestamp::from_millisecond(1_764_000_000_123).unwrap() }
    }

    #[test]
    fn a_later_scheduler_knows_what_was_removed_and_skips_a_line_that_was_cut() {
        let dir = tempfile::tempdir().unwrap();
        let notes = Notes::open(dir.path()).unwrap();
        notes.note(&[(build(1), note(What::Log)), (build(2), note(What::Record))]).unwrap();
        notes.note(&[(build(1), note(What::Record)), (build(2), note(What::Log))]).unwrap();
        let path = dir.path().join("retention/removed");
        let mut text = std::fs::read_to_string(&path).unwrap();
        text.push_str(&build(3).to_string());
        std::fs::write(&path, text).unwrap();
        drop(notes);
        let notes = Notes::open(dir.path()).unwrap();
        notes.note(&[(build(4), note(What::Log))]).unwrap();
        let notes = Notes::open(dir.path()).unwrap();
        assert_eq!(notes.of(build(1)), Some(note(What::Record)));
        assert_eq!(notes.of(build(2)), Some(note(What::Record)));
        assert_eq!((notes.of(build(3)), notes.of(build(4))), (None, Some(note(What::Log))));
    }

    #[test]
    fn the_oldest_are_forgotten_and_the_file_does_not_grow() {
        let dir = tempfile::tempdir().unwrap();
        let notes = Notes::open(dir.path()).unwrap();
        let most = limits::REMOVED_REMEMBERED as u64;
        let all: Vec<_> = (0..3 * most).map(|number| (build(number), note(What::Log))).collect();
        for some in all.chunks(limits::REMOVED_REMEMBERED / 2) {
            notes.note(some).unwrap();
        }
        assert_eq!((notes.of(build(0)), notes.of(build(3 * most - 1))), (None, Some(note(What::Log))));
        let lines = std::fs::read_to_string(dir.path().join("retention/removed")).unwrap().lines().count();
        assert!(lines <= 2 * limits::REMOVED_REMEMBERED, "{lines}");
        drop(notes);
        let notes = Notes::open(dir.path()).unwrap();
        assert_eq!(notes.of(build(2 * most)), Some(note(What::Log)));
    }
}
