//! Lists of ended builds, newest first, by walking the folders of records.

use std::path::Path;

use archyard_model::BuildId;
use archyard_proto::v1 as proto;

use super::{Error, Views};
use crate::disk;

/// Records looked at for one page: a filter that nearly nothing fits must not read years of records in one call.
const LOOKED_AT: usize = 5_000;

/// Which ended builds to list.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// None: all.
    pub project: Option<String>,
    /// Empty: all.
    pub states: Vec<proto::BuildState>,
    /// Only builds older than this one.
    pub before: Option<BuildId>,
    /// At most so many.
    pub limit: usize,
}

/// A part of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// Newest first.
    pub builds: Vec<proto::BuildSummary>,
    /// The list goes on with what is older than this build; none: there is no more.
    pub next: Option<BuildId>,
}

impl Query {
    fn fits(&self, summary: &proto::BuildSummary) -> bool {
        self.project.as_ref().is_none_or(|project| *project == summary.project)
            && (self.states.is_empty() || self.states.contains(&summary.state()))
    }

    /// Whether a folder whose names begin so can hold a build that is old enough.
    fn reaches(&self, prefix: &str) -> bool {
        self.before
            .is_none_or(|before| before.to_string().get(..prefix.len()).is_some_and(|cut| prefix <= cut))
    }
}

impl Views {
    /// One page. Blocks.
    pub fn list(&self, query: &Query) -> Result<Page, Error> {
        let mut page = Page { builds: Vec::new(), next: None };
        let mut looked_at = 0;
        for first in self.names(&self.root)? {
            if !query.reaches(&first) {
                continue;
            }
            let folder = self.root.join(&first);
            for second in self.names(&folder)? {
                if !query.reaches(&format!("{first}{second}")) {
                    continue;
                }
                for name in self.names(&folder.join(&second))? {
                    let Ok(build) = name.parse::<BuildId>() else { continue };
                    if query.before.is_some_and(|before| build >= before) {
                        continue;
                    }
                    if page.builds.len() == query.limit || looked_at == LOOKED_AT {
                        return Ok(page);
                    }
                    looked_at += 1;
                    page.next = Some(build);
                    page.builds.extend(self.summary(build)?.filter(|summary| query.fits(summary)));
                }
            }
        }
        page.next = None;
        Ok(page)
    }

    /// Every build that has a record, in no order. Blocks.
    pub(crate) fn builds(&self) -> Result<Vec<BuildId>, disk::Error> {
        let mut builds = Vec::new();
        for first in self.names(&self.root)? {
            let folder = self.root.join(first);
            for second in self.names(&folder)? {
                let names = self.names(&folder.join(second))?;
                builds.extend(names.iter().filter_map(|name| name.parse::<BuildId>().ok()));
            }
        }
        Ok(builds)
    }

    /// Names in a folder, last first. A folder that retention has just emptied and removed has none.
    fn names(&self, folder: &Path) -> Result<Vec<String>, disk::Error> {
        let entries = match std::fs::read_dir(folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|source| self.wrong(folder, source))?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry.map_err(|source| self.wrong(folder, source))?.file_name();
            // A name that is none of ours, or a file that is being written, begins with a dot or is no text.
            names.extend(name.into_string().ok().filter(|name| !name.starts_with('.')));
        }
        names.sort_unstable_by(|a, b| b.cmp(a));
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    use archyard_model::{BuildState, Plan};
    use jiff::Timestamp;

    use super::*;
    use crate::core::EndedBuild;
    use crate::testing;

    const HOUR_MS: u64 = 60 * 60 * 1000;
    const START_MS: u64 = 1_764_000_000_000;

    fn ended(number: u64, project: &str, state: BuildState) -> EndedBuild {
        let id = BuildId::from_parts(START_MS + number * HOUR_MS, 1);
        let plan = Plan { project: project.parse().unwrap(), ..testing::plan() };
        testing::ended(id, plan, state, Timestamp::UNIX_EPOCH)
    }

    fn views(builds: &[EndedBuild]) -> (tempfile::TempDir, Views) {
        let dir = tempfile::tempdir().unwrap();
        let views = Views::open(dir.path()).unwrap();
        for build in builds {
            views.archive(build).unwrap();
        }
        (dir, views)
    }

    fn ids(page: &Page) -> Vec<String> {
        page.builds.iter().map(|build| build.build_id.clone()).collect()
    }

    #[test]
    fn pages_are_newest_first_and_complete() {
        let builds: Vec<EndedBuild> = (0..25).map(|n| ended(n * 7, "p", BuildState::Succeeded)).collect();
        let (_dir, views) = views(&builds);
        let mut listed = Vec::new();
        let mut query = Query { limit: 10, ..Query::default() };
        loop {
            let page = views.list(&query).unwrap();
            listed.extend(ids(&page));
            let Some(next) = page.next else { break };
            query.before = Some(next);
        }
        let mut want: Vec<String> = builds.iter().map(|build| build.record.id.to_string()).collect();
        want.reverse();
        assert_eq!(listed, want);
    }

    #[test]
    fn filters_fit() {
        let (_dir, views) = views(&[
            ended(1, "a", BuildState::Succeeded),
            ended(2, "b", BuildState::Failed),
            ended(3, "a", BuildState::Failed),
        ]);
        let query = |project: &str, states: &[proto::BuildState]| {
            let project = (!project.is_empty()).then(|| project.to_owned());
            views
                .list(&Query { project, states: states.to_vec(), limit: 10, ..Query::default() })
                .unwrap()
                .builds
                .len()
        };
        assert_eq!(query("a", &[]), 2);
        assert_eq!(query("", &[proto::BuildState::Failed]), 2);
        assert_eq!(query("a", &[proto::BuildState::Failed]), 1);
        assert_eq!(query("c", &[]), 0);
    }

    #[test]
    fn a_record_and_its_events_read_as_they_were_and_twice_is_once() {
        let build = ended(1, "a", BuildState::Failed);
        let (_dir, views) = views(&[build.clone(), build.clone()]);
        let id = build.record.id;
        let record = views.record(id).unwrap().unwrap();
        assert_eq!(archyard_model::convert::record_from_proto(record).unwrap(), build.record);
        assert_eq!(views.events(id, 0).unwrap().unwrap().len(), 2);
        assert_eq!(views.events(id, 1).unwrap().unwrap()[0].seq, 2);
        assert_eq!(views.record(BuildId::from_parts(1, 1)).unwrap(), None);
        assert_eq!(views.list(&Query { limit: 10, ..Query::default() }).unwrap().builds.len(), 1);
    }

    #[test]
    fn damage_is_named() {
        let build = ended(1, "a", BuildState::Failed);
        let (dir, views) = views(std::slice::from_ref(&build));
        let name = build.record.id.to_string();
        let path = dir.path().join("records").join(&name[..4]).join(&name[4..6]).join(&name);
        std::fs::write(&path, [0xff, 0xff, 0xff, 0xff, 0xff, 0x01]).unwrap();
        let error = views.record(build.record.id).unwrap_err();
        assert!(matches!(&error, Error::Corrupt { .. }), "{error}");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    }
}
