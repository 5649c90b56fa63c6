//! Debian's packages: what is missing is installed when that is allowed, and said
//! so; else the error names the command that a person may run. Never upgrades or
//! removes anything, never adds a source.

use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::root::Root;
use crate::run;

/// A program and the package that has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tool {
    /// The program's name.
    pub program: &'static str,
    /// Debian's and Ubuntu's package.
    pub package: &'static str,
}

const fn tool(program: &'static str, package: &'static str) -> Tool {
    Tool { program, package }
}

/// What an Engine needs.
pub const ENGINE: [Tool; 4] = [
    tool("dockerd", "docker.io"),
    tool("containerd", "containerd"),
    tool("runc", "runc"),
    tool("ip", "iproute2"),
];
/// What Engines need whose containers reach the world.
pub const OUTBOUND: [Tool; 1] = [tool("iptables", "iptables")];
/// What a registry needs.
pub const REGISTRY: [Tool; 1] = [tool("docker-registry", "docker-registry")];
/// What the tests hold our results against.
pub const JUDGES: [Tool; 1] = [tool("skopeo", "skopeo")];
/// What the tests offer a worker that is no Engine.
pub const STRANGERS: [Tool; 1] = [tool("podman", "podman")];

/// Sees to it that these programs are there. `install` says whether missing ones
/// may be installed.
///
/// # Errors
/// When one is missing and may not or cannot be installed.
pub fn ensure(root: &Root, tools: &[Tool], install: bool) -> Result<()> {
    let mut packages = missing(tools, |program| run::find(program).is_some());
    // Where the kernel has AppArmor, an Engine loads its profile with this program,
    // and starts no container without it.
    let apparmor =
        fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|on| on.starts_with('Y'));
    if apparmor && tools.contains(&ENGINE[0]) && run::find("apparmor_parser").is_none() {
        packages.push("apparmor");
    }
    if packages.is_empty() {
        return Ok(());
    }
    install_all(root, &packages, install)?;
    match missing(tools, |program| run::find(program).is_some()).as_slice() {
        [] => Ok(()),
        still => bail!("installed, and yet without the expected programs: {}", still.join(" ")),
    }
}

/// One that is known to be missing, by whatever sign: not all packages have programs.
///
/// # Errors
/// As [`ensure`].
pub fn ensure_package(root: &Root, package: &'static str, install: bool) -> Result<()> {
    install_all(root, &[package], install)
}

fn install_all(root: &Root, packages: &[&str], install: bool) -> Result<()> {
    let list = packages.join(" ");
    let remedy = format!("install them: apt-get install --no-install-recommends {list}");
    if !install {
        bail!("Debian packages are missing and installing was not allowed; {remedy}");
    }
    if run::find("apt-get").is_none() {
        bail!(
            "programs are missing and this is neither Debian nor Ubuntu; install what these packages have: {list}"
        );
    }
    eprintln!("xtask: installing Debian packages that are missing: {list}");
    if apt_install(root, packages).is_err() {
        eprintln!("xtask: once more, with fresh package lists");
        run::output(root.command_with("apt-get", &APT).args(["-q", "update"]))
            .with_context(|| remedy.clone())?;
        apt_install(root, packages).with_context(|| remedy.clone())?;
    }
    Ok(())
}

/// The client: Debian 13 has it in a package of its own, others in `docker.io`.
///
/// # Errors
/// As [`ensure`].
pub fn ensure_client(root: &Root, install: bool) -> Result<()> {
    let own = Command::new("apt-cache").args(["show", "docker-cli"]).stdin(Stdio::null()).output();
    let package = if own.is_ok_and(|out| !out.stdout.is_empty()) { "docker-cli" } else { "docker.io" };
    ensure(root, &[tool("docker", package)], install)
}

const APT: [(&str, &str); 1] = [("DEBIAN_FRONTEND", "noninteractive")];

fn apt_install(root: &Root, packages: &[&str]) -> Result<String> {
    let options =
        ["-q", "-y", "-o", "DPkg::Lock::Timeout=120", "install", "--no-install-recommends", "--no-upgrade"];
    run::output(root.command_with("apt-get", &APT).args(options).args(packages))
}

/// The packages of the programs that are not there, each once.
fn missing(tools: &[Tool], present: impl Fn(&str) -> bool) -> Vec<&'static str> {
    let mut packages = Vec::new();
    for tool in tools.iter().filter(|tool| !present(tool.program)) {
        if !packages.contains(&tool.package) {
            packages.push(tool.package);
        }
    }
    packages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_missing_package_is_named_once() {
        let tools = [tool("a", "x"), tool("b", "x"), tool("c", "y"), tool("d", "z")];
        assert_eq!(missing(&tools, |program| program == "d"), ["x", "y"]);
        assert!(missing(&tools, |_| true).is_empty());
    }

    #[test]
    fn without_permission_the_remedy_is_named() {
        let error = ensure(&Root::none(), &[tool("no-such-program", "no-such-package")], false).unwrap_err();
        assert!(
            error.to_string().contains("apt-get install --no-install-recommends no-such-package"),
            "{error}"
        );
    }
}
