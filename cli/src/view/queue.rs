//! Where a job is among those that wait for the same workers.

use archyard_proto::v1 as proto;
use serde::Serialize;

/// Characters of a build's id where it only points to one.
const NAMED: usize = 8;

/// A place in a queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Queue {
    /// 1 is next; none where it is further back than the scheduler counts.
    pub(crate) position: Option<u32>,
    /// Jobs that wait for the same workers.
    pub(crate) queued: u64,
    /// Jobs that these workers have.
    pub(crate) running: u64,
    /// The first of those.
    pub(crate) ahead: Vec<Ahead>,
}

/// A job that occupies a slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Ahead {
    pub(crate) build: String,
    pub(crate) job: u32,
    pub(crate) worker: String,
}

impl From<proto::QueuePlace> for Queue {
    fn from(message: proto::QueuePlace) -> Self {
        let ahead = |ahead: proto::queue_place::Ahead| Ahead {
            build: ahead.build_id,
            job: ahead.job_index,
            worker: ahead.worker,
        };
        Self {
            position: (message.position > 0).then_some(message.position),
            queued: message.queued,
            running: message.running,
            ahead: message.ahead.into_iter().map(ahead).collect(),
        }
    }
}

impl Queue {
    /// `2 of 5, behind 01ARZ3NDEKTSV4RRFFQ69G5FAV on w-1 and 3 more that run`.
    pub(crate) fn describe(&self) -> String {
        self.say(str::to_owned)
    }

    /// The same in few words: builds by the ends of their ids.
    pub(crate) fn brief(&self) -> String {
        self.say(|build| build.get(build.len().saturating_sub(NAMED)..).unwrap_or(build).to_owned())
    }

    fn say(&self, name: impl Fn(&str) -> String) -> String {
        let place = match self.position {
            Some(position) => format!("{position} of {}", self.queued.max(position.into())),
            None => format!("far back among {}", self.queued),
        };
        let named: Vec<String> =
            self.ahead.iter().map(|ahead| format!("{} on {}", name(&ahead.build), ahead.worker)).collect();
        let more = self.running.saturating_sub(named.len() as u64);
        match (named.is_empty(), more) {
            (true, 0) => place,
            (true, more) => format!("{place}, behind {more} that run"),
            (false, 0) => format!("{place}, behind {}", named.join(", ")),
            (false, more) => format!("{place}, behind {} and {more} more that run", named.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_said_with_what_runs_ahead() {
        let ahead = |count: usize| -> Vec<Ahead> {
            let one =
                Ahead { build: "01ARZ3NDEKTSV4RRFFQ69G5FAV".to_owned(), job: 0, worker: "w-1".to_owned() };
            vec![one; count]
        };
        for (position, running, named, said) in [
            (Some(1), 1, 1, "1 of 5, behind Q69G5FAV on w-1"),
            (Some(7), 4, 1, "7 of 7, behind Q69G5FAV on w-1 and 3 more that run"),
            (None, 0, 0, "far back among 5"),
            (Some(2), 0, 0, "2 of 5"),
        ] {
            let queue = Queue { position, queued: 5, running, ahead: ahead(named) };
            assert_eq!(queue.brief(), said);
            assert_eq!(queue.describe(), said.replace("Q69G5FAV", "01ARZ3NDEKTSV4RRFFQ69G5FAV"));
        }
    }
}
