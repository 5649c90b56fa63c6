//! Ctrl-C and `kill` ask us to stop; they do not end us at once, for then what
//! we started would stay. Waits look here, fail, and the way out cleans up. The
//! second request ends the program on the spot.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

static ASKED: AtomicBool = AtomicBool::new(false);

/// From now on a signal only asks. Call once, first thing in `main`.
///
/// # Errors
/// When the operating system refuses the handler.
pub fn install() -> Result<()> {
    ctrlc::set_handler(|| {
        if ASKED.swap(true, Ordering::SeqCst) {
            eprintln!("xtask: stopped at once; what was started may still run (the next run takes it down)");
            std::process::exit(130);
        }
        eprintln!("\nxtask: interrupted, taking down what was started (once more: stop at once)");
    })
    .context("cannot handle SIGINT")
}

/// Whether somebody asked us to stop.
#[must_use]
pub fn asked() -> bool {
    ASKED.load(Ordering::SeqCst)
}

/// # Errors
/// When somebody asked us to stop.
pub fn check() -> Result<()> {
    if asked() {
        bail!("interrupted");
    }
    Ok(())
}

/// Looks at `ready` every 20 ms until it says yes. False when `limit` passed.
///
/// # Errors
/// When `ready` fails, or somebody asked us to stop.
pub fn wait_for(limit: Duration, mut ready: impl FnMut() -> Result<bool>) -> Result<bool> {
    let end = Instant::now() + limit;
    loop {
        if ready()? {
            return Ok(true);
        }
        check()?;
        if Instant::now() >= end {
            return Ok(false);
        }
        thread::sleep(Duration::from_millis(20));
    }
}
