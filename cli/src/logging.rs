//! What the processes of a farm say of themselves, on standard error.
//!
//! `ARCHYARD_LOG` filters it, as `RUST_LOG` would. Commands for people stay silent unless it is set: what they
//! have to say is their output.

use std::io;

use anyhow::{Context as _, Result};
use tracing_subscriber::EnvFilter;

/// `--log-format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Format {
    #[default]
    Text,
    Json,
}

/// For `scheduler`, `worker` and `up`: `info` and above unless `ARCHYARD_LOG` says otherwise.
pub(crate) fn daemon(format: Format) -> Result<()> {
    init(filter()?.unwrap_or_else(|| EnvFilter::new("info")), format);
    Ok(())
}

/// For all other commands: nothing, unless `ARCHYARD_LOG` asks.
pub(crate) fn quiet() -> Result<()> {
    if let Some(filter) = filter()? {
        init(filter, Format::Text);
    }
    Ok(())
}

fn filter() -> Result<Option<EnvFilter>> {
    let Some(text) = std::env::var("ARCHYARD_LOG").ok().filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let filter = EnvFilter::try_new(&text).with_context(|| {
        format!(
            "ARCHYARD_LOG {text:?} is no filter; write a level, as in info, or archyard_worker=debug,warn"
        )
    })?;
    Ok(Some(filter))
}

fn init(filter: EnvFilter, format: Format) {
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match format {
        Format::Text => builder.with_ansi(console::colors_enabled_stderr()).init(),
        Format::Json => builder.json().init(),
    }
}
