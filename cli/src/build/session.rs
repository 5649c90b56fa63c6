//! The loop at the centre of `build` and `logs -f`: shows what happens while the work is done.

use std::io;
use std::pin::pin;
use std::time::Duration;

use anyhow::Result;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::build::interrupt::Interrupts;
use crate::exit::Refusal;
use crate::progress::{Board, Renderer, Update};

/// Updates that are shown at once.
const BATCH: usize = 256;
/// How often what moves is looked at.
const TICK: Duration = Duration::from_millis(100);

/// What is shown, and how.
pub(crate) struct Session {
    pub(crate) board: Board,
    pub(crate) renderer: Box<dyn Renderer>,
    /// Fires at the first wish to stop.
    pub(crate) stop: CancellationToken,
    /// What the first wish to stop is answered with. None: it ends the session at once.
    pub(crate) on_interrupt: Option<&'static str>,
    screen: Result<(), io::Error>,
}

impl Session {
    /// Of this board, through this renderer.
    pub(crate) fn new(board: Board, renderer: Box<dyn Renderer>) -> Self {
        Self { board, renderer, stop: CancellationToken::new(), on_interrupt: None, screen: Ok(()) }
    }

    /// Runs `work` to its end and returns the last of the board. A screen that went away is told at the end: no build
    /// stops for it.
    pub(crate) async fn run(
        mut self,
        work: impl Future<Output = Result<()>>,
        mut updates: mpsc::Receiver<Update>,
    ) -> Result<(Board, Result<(), io::Error>)> {
        let mut work = pin!(work);
        let mut interrupts = Interrupts::listen()?;
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut batch = Vec::with_capacity(BATCH);
        let outcome = loop {
            tokio::select! {
                _ = updates.recv_many(&mut batch, BATCH), if !updates.is_closed() || !updates.is_empty() => {
                    batch.drain(..).for_each(|update| self.apply(update));
                    self.settle();
                }
                _ = ticks.tick() => {
                    let (renderer, screen) = (&mut self.renderer, &mut self.screen);
                    self.board.tick(|board, change| show(screen, || renderer.change(board, &change)));
                    self.settle();
                }
                () = interrupts.next() => match self.on_interrupt {
                    Some(note) if !self.stop.is_cancelled() => {
                        self.stop.cancel();
                        self.apply(Update::Note(note.to_owned()));
                    }
                    _ => break Err(Refusal::canceled(match &self.board.build {
                        Some(build) if self.on_interrupt.is_some() => {
                            format!("left before build {build} had ended; how it ends: archyard show {build}")
                        }
                        _ => "interrupted".to_owned(),
                    })),
                },
                outcome = &mut work => break outcome,
            }
        };
        while let Ok(update) = updates.try_recv() {
            self.apply(update);
        }
        let (renderer, screen) = (&mut self.renderer, &mut self.screen);
        self.board.flush(|board, change| show(screen, || renderer.change(board, &change)));
        show(&mut self.screen, || self.renderer.finish(&self.board));
        outcome.map(|()| (self.board, self.screen))
    }

    fn apply(&mut self, update: Update) {
        let (renderer, screen) = (&mut self.renderer, &mut self.screen);
        self.board.apply(update, |board, change| show(screen, || renderer.change(board, &change)));
    }

    fn settle(&mut self) {
        show(&mut self.screen, || self.renderer.settle(&self.board));
    }
}

/// Shows, unless the screen went away before.
fn show(screen: &mut Result<(), io::Error>, draw: impl FnOnce() -> io::Result<()>) {
    if screen.is_ok() {
        *screen = draw();
    }
}
