//! ListBuilds: running and ended builds as one list, newest first.

use std::sync::Arc;

use archyard_model::convert::build_state_from_proto;
use archyard_model::{BuildId, Invalid, ProjectName, limits};
use archyard_proto::v1 as proto;
use tonic::Status;

use super::Shared;
use super::standing::summary;
use super::status::IntoStatus;
use crate::driver::Filter;
use crate::views::{self, Query};

/// Answers one page.
pub(super) async fn list(
    shared: &Shared,
    message: proto::ListBuildsRequest,
) -> Result<proto::ListBuildsResponse, Status> {
    let (filter, query) = read(&message).map_err(IntoStatus::into_status)?;
    let limit = filter.limit;
    let running = shared.driver.list_active(filter).await.map_err(IntoStatus::into_status)?;
    let views = Arc::clone(&shared.views);
    let ended = shared.blocking(move || views.list(&query)).await?;
    let running = running.iter().map(|(record, stands)| (record.id, summary(record, stands))).collect();
    Ok(merge(running, ended, limit))
}

fn read(message: &proto::ListBuildsRequest) -> Result<(Filter, Query), Invalid> {
    let project = match message.project.as_str() {
        "" => None,
        project => Some(project.parse::<ProjectName>()?),
    };
    let states: Vec<proto::BuildState> = message.states().collect();
    let known = states.iter().map(|state| build_state_from_proto(*state)).collect::<Result<_, _>>();
    let limit = match message.page_size {
        0 => limits::PAGE_DEFAULT,
        size if size <= limits::PAGE_MAX => size,
        size => {
            let problem = format!("a page has at most {} builds", limits::PAGE_MAX);
            return Err(Invalid::new("page_size", size, problem));
        }
    };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let before = match message.page_token.as_str() {
        "" => None,
        token => Some(token.parse().map_err(|_| {
            Invalid::new("page_token", token, "expected next_page_token of an earlier answer")
        })?),
    };
    let query = Query { project: project.as_ref().map(ToString::to_string), states, before, limit };
    let states = known.map_err(|error: Invalid| error.of("states"))?;
    Ok((Filter { project, states, before, limit }, query))
}

/// Both lists as one. A build that is just being archived may be in both; it counts once.
fn merge(
    mut builds: Vec<(BuildId, proto::BuildSummary)>,
    ended: views::Page,
    limit: usize,
) -> proto::ListBuildsResponse {
    let more_running = builds.len() >= limit;
    let ended_until = ended.next;
    let ended = ended.builds.into_iter().filter_map(|build| Some((build.build_id.parse().ok()?, build)));
    builds.extend(ended);
    // Stable, and the driver's word stands first.
    builds.sort_by(|(a, _), (b, _)| b.cmp(a));
    builds.dedup_by_key(|(id, _)| *id);
    // Past where the walk over ended builds stopped, nobody knows yet what lies between running ones.
    builds.retain(|(id, _)| ended_until.is_none_or(|until| *id >= until));
    let next = if builds.len() > limit {
        builds.truncate(limit);
        builds.last().map(|(id, _)| *id)
    } else if ended_until.is_some() {
        ended_until
    } else if more_running {
        builds.last().map(|(id, _)| *id)
    } else {
        None
    };
    proto::ListBuildsResponse {
        builds: builds.into_iter().map(|(_, build)| build).collect(),
        next_page_token: next.map(|id| id.to_string()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> BuildId {
        BuildId::from_parts(number, 1)
    }

    fn line(number: u64, project: &str) -> proto::BuildSummary {
        proto::BuildSummary {
            build_id: id(number).to_string(),
            project: project.to_owned(),
            ..Default::default()
        }
    }

    fn running(numbers: &[u64]) -> Vec<(BuildId, proto::BuildSummary)> {
        numbers.iter().map(|number| (id(*number), line(*number, "running"))).collect()
    }

    fn ended(numbers: &[u64], next: Option<u64>) -> views::Page {
        views::Page {
            builds: numbers.iter().map(|number| line(*number, "ended")).collect(),
            next: next.map(id),
        }
    }

    fn numbers(answer: &proto::ListBuildsResponse) -> Vec<u64> {
        answer.builds.iter().map(|build| build.build_id.parse::<BuildId>().unwrap().unix_ms()).collect()
    }

    #[test]
    fn both_lists_are_one_and_newest_first() {
        let answer = merge(running(&[9, 5]), ended(&[8, 7], None), 10);
        assert_eq!(numbers(&answer), [9, 8, 7, 5]);
        assert_eq!(answer.next_page_token, "");
    }

    #[test]
    fn a_build_in_both_counts_once_as_the_driver_says() {
        let answer = merge(running(&[9, 8]), ended(&[8], None), 10);
        assert_eq!(numbers(&answer), [9, 8]);
        assert_eq!(answer.builds[1].project, "running");
    }

    #[test]
    fn a_full_page_says_where_to_go_on() {
        let answer = merge(running(&[9, 5]), ended(&[8, 7], Some(7)), 2);
        assert_eq!(numbers(&answer), [9, 8]);
        assert_eq!(answer.next_page_token, id(8).to_string());
        let answer = merge(running(&[9, 8]), ended(&[], None), 2);
        assert_eq!(answer.next_page_token, id(8).to_string());
    }

    #[test]
    fn nothing_is_listed_past_where_the_walk_stopped() {
        let answer = merge(running(&[9, 2]), ended(&[8], Some(4)), 10);
        assert_eq!(numbers(&answer), [9, 8]);
        assert_eq!(answer.next_page_token, id(4).to_string());
    }
}
