//! The publisher and the registry it speaks to, which fails as the seed says.

use std::collections::BTreeMap;

use archyard_model::{BuildId, Failure, FailureClass, Index, Reference, Sha256};
use archyard_scheduler::core::tags::Place;
use archyard_scheduler::core::{Input, PublishOrder};

use super::world::{Event, World};

/// What the registry holds.
#[derive(Debug, Default)]
pub(super) struct Registry {
    /// Which build each tag names, with that build's place.
    pub(super) tags: BTreeMap<Reference, (Place, BuildId)>,
    /// Answers 503 more often than not.
    pub(super) failing: bool,
}

/// One order at work in one scheduler process.
#[derive(Debug, Clone)]
pub(super) struct Task {
    order: PublishOrder,
    stage: Stage,
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    Verify,
    PushIndex,
    Move(usize),
    Say(usize),
    Done,
}

impl World {
    pub(super) fn publish(&mut self, order: PublishOrder) {
        self.publish_later(Task { order, stage: Stage::Verify });
    }

    /// One step. A task dies with its process.
    pub(super) fn publisher(&mut self, epoch: u64, mut task: Task) {
        if epoch != self.scheduler.epoch {
            return;
        }
        let build = task.order.build;
        if matches!(task.stage, Stage::Verify | Stage::PushIndex | Stage::Move(_)) && self.registry_fails() {
            if !self.healed && self.rng.chance(4) {
                return;
            }
            let retryable = self.healed || self.rng.chance(92);
            let failure = Failure::new(FailureClass::Infrastructure, "registry_503", "the registry said 503");
            self.input(Input::PublishFailed { build, failure, retryable }).ok();
            return;
        }
        task.stage = match task.stage {
            Stage::Verify => {
                let expected = task.order.plan.platforms.len() - task.order.plan.trial.len();
                assert_eq!(
                    task.order.images.len(),
                    expected,
                    "seed {}: images are not the required",
                    self.seed
                );
                let (index, size) = index_of(&task.order);
                if let Some(promotion) = &task.order.promotion {
                    assert_eq!(
                        promotion.index,
                        (index, size),
                        "seed {}: not the candidate's index",
                        self.seed
                    );
                }
                if self.input(Input::IndexPrepared { build, index, size }).is_err() {
                    return;
                }
                Stage::PushIndex
            }
            Stage::PushIndex => self.first_or_done(&task, 0),
            Stage::Move(at) => {
                let tag = task.order.tags[at].clone();
                self.move_tag(build, tag);
                Stage::Say(at)
            }
            Stage::Say(at) => {
                let tag = task.order.tags[at].clone();
                if self.input(Input::TagMoved { build, tag }).is_err() {
                    return;
                }
                self.first_or_done(&task, at + 1)
            }
            Stage::Done => {
                self.input(Input::PublishDone { build }).ok();
                return;
            }
        };
        self.publish_later(task);
    }

    fn first_or_done(&self, task: &Task, at: usize) -> Stage {
        if at < task.order.tags.len() { Stage::Move(at) } else { Stage::Done }
    }

    fn publish_later(&mut self, task: Task) {
        let pause = self.rng.millis(1, 400);
        self.later(pause, Event::Publisher { epoch: self.scheduler.epoch, task: Box::new(task) });
    }

    fn registry_fails(&mut self) -> bool {
        let percent = if self.registry.failing { 60 } else { 5 };
        !self.healed && self.rng.chance(percent)
    }

    /// The registry names a new index under a tag: all that I3 and I11 promise is looked at here.
    fn move_tag(&mut self, build: BuildId, tag: Reference) {
        self.report.moves += 1;
        let place = self.check_move(build);
        if let Some((moved, by)) = self.registry.tags.get(&tag) {
            assert!(*moved <= place, "seed {}: I11: {tag} goes back from {by} to {build}", self.seed);
        }
        self.registry.tags.insert(tag, (place, build));
    }
}

/// The same images always give the same index.
fn index_of(order: &PublishOrder) -> (Sha256, u64) {
    let index = Index::of(&order.plan, &order.images, &order.cross).expect("an index is made");
    (index.digest, index.size())
}
