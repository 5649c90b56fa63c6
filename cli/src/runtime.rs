//! The async runtime, made where a command needs one.

use std::future::Future;

use anyhow::{Context as _, Result};

/// For commands that ask and print: no thread of its own.
pub(crate) fn small<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    run(tokio::runtime::Builder::new_current_thread(), future)
}

/// For the farm's own processes.
pub(crate) fn full<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    run(tokio::runtime::Builder::new_multi_thread(), future)
}

fn run<T>(mut builder: tokio::runtime::Builder, future: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = builder.enable_all().build().context("cannot start the async runtime")?;
    let result = runtime.block_on(future);
    // What still blocks (a read of standard input, a slow disk) must not hold up the exit.
    runtime.shutdown_background();
    result
}
