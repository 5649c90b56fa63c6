//! Flags become a plan. Talks to nobody but credential helpers.

use std::io::Read as _;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use archyard_model::Platform;
use archyard_plan::{Host, PlanRequest, Planned};

use crate::build::credentials::{Keyring, Login};
use crate::build::docker;
use crate::exit::Refusal;
use crate::paths;

/// A plan, the bytes it speaks of, and what this user may do at registries.
#[derive(Debug, Clone)]
pub(crate) struct Prepared {
    pub(crate) planned: Arc<Planned>,
    pub(crate) logins: Vec<Login>,
    pub(crate) warnings: Vec<String>,
}

/// Resolves a request. Blocks for as long as the disk does. `engine`: the one Engine that builds, if it is known.
pub(crate) fn prepare(request: &PlanRequest, engine: Option<&str>) -> Result<Prepared> {
    let directory = std::env::current_dir().context("the current directory is gone")?;
    let keyring = Keyring::open();
    // Only missed where it is asked for.
    let platforms: Vec<Platform> = own_platform().into_iter().collect();
    let (proxies, unread) = match docker::proxies(keyring.config(), engine) {
        Ok(proxies) => (proxies, None),
        Err(warning) => (Vec::new(), Some(warning)),
    };
    let planned = archyard_plan::plan(
        request,
        &Host {
            directory: &directory,
            cache: paths::context_cache().as_deref(),
            platforms: &platforms,
            proxies: &proxies,
            env: &|name| std::env::var(name).ok(),
            has_credentials: &|host| keyring.has(host),
            stdin: &|| {
                let mut bytes = Vec::new();
                std::io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes)
            },
        },
    )?;
    let (logins, helpers) = keyring.into_logins(&planned.plan.credential_hosts);
    let mut warnings: Vec<String> =
        planned.warnings.iter().map(|warning| format!("warning: {warning}")).collect();
    warnings.extend(unread);
    warnings.extend(helpers);
    Ok(Prepared { planned: Arc::new(planned), logins, warnings })
}

/// What this machine is, by `uname`.
pub(crate) fn own_platform() -> Result<Platform> {
    let uname = rustix::system::uname();
    platform_of(&uname.machine().to_string_lossy())
}

fn platform_of(machine: &str) -> Result<Platform> {
    let (architecture, variant) = match machine {
        "armv6l" => ("arm", "v6"),
        "armv7l" | "armv8l" => ("arm", "v7"),
        "loongarch64" => ("loong64", ""),
        other => (other, ""),
    };
    Platform::new("linux", architecture, variant).map_err(|_| {
        Refusal::usage(format!(
            "--platform: this machine, {machine:?}, is none that images are built for; name one"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_are_platforms() {
        for (machine, want) in [
            ("x86_64", "linux/amd64"),
            ("i686", "linux/386"),
            ("aarch64", "linux/arm64"),
            ("armv7l", "linux/arm/v7"),
            ("armv6l", "linux/arm/v6"),
            ("riscv64", "linux/riscv64"),
            ("ppc64le", "linux/ppc64le"),
            ("loongarch64", "linux/loong64"),
        ] {
            assert_eq!(platform_of(machine).unwrap().to_string(), want);
        }
        assert!(platform_of("alpha").unwrap_err().to_string().contains("--platform"));
        own_platform().unwrap();
    }
}
