//! A build from its submission to an exit code: what `build`, `rerun` and `promote` have in common.

use std::cell::OnceCell;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use archyard_model::{BuildEvent, BuildState, EventKind, Plan};
use archyard_plan::Planned;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::build::Updates;
use crate::build::credentials::Login;
use crate::build::display::Display;
use crate::build::follow::Follow;
use crate::build::results::{self, Files};
use crate::build::session::Session;
use crate::exit::{Exit, Refusal};
use crate::farm::Farm;
use crate::outputs::{Delivered, Left, Outputs};
use crate::progress::{Board, Update};

/// Which build, and what becomes of its results.
#[derive(Debug)]
pub(crate) struct Attend<'a> {
    pub(crate) farm: Farm,
    pub(crate) plan: &'a Plan,
    /// What it was planned from, where that is here.
    pub(crate) planned: Option<Arc<Planned>>,
    /// Given again whenever the scheduler was away.
    pub(crate) logins: Vec<Login>,
    pub(crate) display: &'a Display,
    pub(crate) files: &'a Files,
    /// Where the result is brought. None: nothing comes back.
    pub(crate) outputs: Option<Outputs>,
    /// How long the farm may be away.
    pub(crate) patience: Duration,
    /// Fires at the first wish to stop.
    pub(crate) stop: CancellationToken,
    pub(crate) updates: Updates,
    pub(crate) told: mpsc::Receiver<Update>,
}

impl Attend<'_> {
    /// Shows the build that `submitted` names until it has ended. Results are written if it succeeded.
    pub(crate) async fn run(self, submitted: impl Future<Output = Result<String>>) -> Result<Exit> {
        let Self { farm, plan, planned, logins, display, files, outputs, patience, stop, updates, told } =
            self;
        let display = &display.resolved()?;
        if display.is_json() && outputs.as_ref().is_some_and(Outputs::takes_stdout) {
            return Err(Refusal::usage(
                "--json: standard output is taken by --output; name a file with dest=FILE",
            ));
        }
        let taken_by = match outputs.as_ref().is_some_and(Outputs::takes_stdout) {
            true => Some("--output"),
            false => display.is_json().then_some("--json"),
        };
        if let Some((flag, by)) = files.on_stdout().zip(taken_by) {
            return Err(Refusal::usage(format!("{flag}: standard output is taken by {by}; name a file")));
        }
        let board = Board::new(&plan.platforms, &plan.trial);
        let renderer = display.renderer(&board);
        let mut session = Session::new(board, renderer);
        session.on_interrupt = Some("canceling the build; press Ctrl-C again to leave at once");
        session.stop = stop.clone();
        let delivered = OnceCell::new();
        let work = async {
            let build = submitted.await?;
            let crosses = !plan.cross.is_empty();
            let follow = Follow { farm, build, logins, jobs: None, planned, crosses, patience, updates };
            let ended = tokio::select! {
                ended = follow.to_the_end() => ended?,
                // Canceling ends nothing by itself: the build's end is waited for.
                () = async { follow.cancel_on(&stop).await; std::future::pending().await } => return Ok(()),
            };
            let outcome = match &outputs {
                Some(outputs) if succeeded(&ended) => {
                    Box::pin(deliver(outputs, &follow, &stop)).await.map(Some)
                }
                _ => Ok(None),
            };
            // Last, for nothing is told after it.
            follow.tell(ended).await;
            if let Some(brought) = outcome? {
                delivered.set(brought).ok();
            }
            Ok(())
        };
        // A screen that went away changes nothing about the build.
        let (board, _screen) = session.run(work, told).await?;
        let exit = exit_of(&board);
        if matches!(exit, Exit::Success | Exit::Superseded) {
            let delivered = delivered.into_inner();
            files.write(plan, &board, delivered.as_ref()).await?;
            let taken = outputs.as_ref().is_some_and(Outputs::takes_stdout);
            if !display.is_json() && !taken {
                let out = &mut std::io::stdout().lock();
                results::print(out, display.is_quiet(), plan, &board, delivered.as_ref())?;
            }
            if let Some(next) = results::next_step(plan, &board).filter(|_| display.is_for_people()) {
                eprintln!("{next}");
            }
        }
        Ok(exit)
    }
}

async fn deliver(outputs: &Outputs, follow: &Follow, stop: &CancellationToken) -> Result<Delivered> {
    let left = Left::ask(&follow.farm, &follow.build, &follow.updates).await?;
    outputs.deliver(&follow.farm, &left, false, &follow.updates, stop).await
}

fn succeeded(ended: &BuildEvent) -> bool {
    matches!(ended.kind, EventKind::Ended { state, .. } if state.is_success())
}

/// A platform on trial that failed is no failure of the build.
fn exit_of(board: &Board) -> Exit {
    match board.ended.as_ref().map(|ended| ended.state) {
        Some(BuildState::Superseded) => Exit::Superseded,
        Some(BuildState::Succeeded) if board.left_to_others().next().is_some() => Exit::Superseded,
        Some(BuildState::Succeeded) => Exit::Success,
        Some(BuildState::Canceled) => Exit::Canceled,
        _ => Exit::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::testing;

    fn exit(story: Vec<Update>) -> Exit {
        let mut board = testing::board();
        story.into_iter().for_each(|update| board.apply(update, |_, _| {}));
        exit_of(&board)
    }

    #[test]
    fn a_tag_that_a_newer_build_has_is_no_success() {
        assert_eq!(exit(testing::pushed_build()), Exit::Success);
        assert_eq!(exit(testing::overtaken_build(false)), Exit::Superseded);
        assert_eq!(exit(testing::overtaken_build(true)), Exit::Superseded);
        assert_eq!(exit(testing::failed_build()), Exit::Failed);
    }
}
