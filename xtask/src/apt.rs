//! Packages that are unpacked and never installed: fetched with the host's own apt
//! sources and keys, but in a package state of its own, so that the host's lists,
//! architectures and packages stay as they are.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::interrupt;
use crate::run;

/// How often a fetch is tried.
const TRIES: u32 = 3;

/// Debian's own names of its releases: other vendors' suites are called otherwise.
const RELEASES: [&str; 8] =
    ["bookworm", "trixie", "forky", "sid", "oldstable", "stable", "testing", "unstable"];

/// Debian's keys, which sign its releases whatever mirror they come from.
const KEYRINGS: [&str; 2] =
    ["/usr/share/keyrings/debian-archive-keyring.pgp", "/usr/share/keyrings/debian-archive-keyring.gpg"];

/// Up to three times: a mirror in the middle of its own update is whole a moment
/// later. `fetch` is told which time it is.
///
/// # Errors
/// What the last try failed with, or that somebody asked us to stop.
pub fn persistently<T>(mut fetch: impl FnMut(u32) -> Result<T>) -> Result<T> {
    let mut tries = 1;
    loop {
        match fetch(tries) {
            Err(_) if tries < TRIES => {
                interrupt::wait_for(Duration::from_secs(3), || Ok(false))?;
                tries += 1;
            }
            result => return result,
        }
    }
}

/// Up to three times, from one of Debian's releases at each of the host's mirrors of
/// Debian. `fetch` is given the sources, and a number that is another each time.
///
/// # Errors
/// What the last try failed with, or that the host has no mirror of Debian.
pub fn from_release<T>(suite: &str, mut fetch: impl FnMut(&str, u32) -> Result<T>) -> Result<T> {
    let sources = release(suite)?;
    let mut number = 0;
    persistently(|_| {
        let mut last = None;
        for sources in &sources {
            number += 1;
            match fetch(sources, number) {
                Ok(fetched) => return Ok(fetched),
                Err(error) => last = Some(error),
            }
        }
        Err(last.context("there is no mirror")?)
    })
}

/// Which packages count as installed where dependencies are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beside {
    /// The host's own: what it has is not fetched.
    Host,
    /// None: everything is fetched that the packages need.
    Nothing,
}

/// Fetches packages of one architecture with all that they depend on, and unpacks
/// nothing; returns the archives, in the order of their names. Recommended packages are left out.
///
/// # Errors
/// When one cannot be had.
pub fn closure(
    work: &Path,
    architecture: &str,
    sources: Option<&str>,
    beside: Beside,
    packages: &[&str],
) -> Result<Vec<PathBuf>> {
    let config = state(work, architecture, sources, beside)?;
    let update = apt(work, &config, &["update".into()]);
    let words = ["-y", "--no-install-recommends", "--download-only", "install"];
    let arguments: Vec<String> = words.iter().chain(packages).map(|word| (*word).to_owned()).collect();
    apt(work, &config, &arguments).map_err(|error| update.err().unwrap_or(error))?;
    let mut archives = archives(&work.join("cache/archives"))?;
    archives.sort();
    Ok(archives)
}

/// Packages that were unpacked together.
#[derive(Debug)]
pub struct Unpacked {
    /// The folder that holds their files.
    pub files: PathBuf,
    /// `PACKAGE VERSION`, sorted.
    pub versions: Vec<String>,
}

/// Fetches packages of one architecture and unpacks them together. `sources` (lines of a `sources.list`) replace the
/// host's own.
///
/// # Errors
/// When one is not available.
pub fn unpack(work: &Path, architecture: &str, sources: Option<&str>, packages: &[&str]) -> Result<Unpacked> {
    let config = state(work, architecture, sources, Beside::Nothing)?;
    let apt = |args: &[String]| apt(work, &config, args);
    // It fails as a whole when one source fails that has nothing to do with us;
    // what counts is whether the packages are found.
    let update = apt(&["update".into()]);
    let mut download = vec![String::from("download")];
    download.extend(packages.iter().map(|package| format!("{package}:{architecture}")));
    apt(&download).map_err(|error| match update {
        Ok(_) => error,
        Err(before) => before,
    })?;
    let files = work.join("files");
    let archives = archives(work)?;
    if archives.len() != packages.len() {
        bail!("apt-get downloaded {} packages instead of {}", archives.len(), packages.join(", "));
    }
    let dpkg = run::tool("dpkg-deb")?;
    let mut versions = Vec::new();
    for archive in archives {
        run::output(Command::new(&dpkg).arg("-x").arg(&archive).arg(&files))?;
        let format = "--showformat=${Package} ${Version}";
        versions.push(run::output(Command::new(&dpkg).arg("-W").arg(format).arg(&archive))?);
    }
    versions.sort();
    Ok(Unpacked { files, versions })
}

fn apt(work: &Path, config: &Path, args: &[String]) -> Result<String> {
    let mut command = Command::new(run::tool("apt-get")?);
    command.arg("-c").arg(config).arg("-q").args(args).env("LC_ALL", "C").current_dir(work);
    run::output(&mut command)
}

fn archives(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let paths = entries.filter_map(Result::ok).map(|entry| entry.path());
    Ok(paths.filter(|path| path.extension().is_some_and(|end| end == "deb")).collect())
}

/// A package state of our own; returns the file that tells apt of it.
fn state(work: &Path, architecture: &str, sources: Option<&str>, beside: Beside) -> Result<PathBuf> {
    let (state, cache) = (work.join("state"), work.join("cache"));
    for dir in [state.join("lists/partial"), cache.join("archives/partial")] {
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    }
    let write = |path: &Path, text: &str| {
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    let status = match beside {
        Beside::Host => PathBuf::from("/var/lib/dpkg/status"),
        Beside::Nothing => state.join("status"),
    };
    if beside == Beside::Nothing {
        write(&status, "")?;
    }
    let mut settings = vec![
        format!("Dir::State {state:?};"),
        format!("Dir::State::status {status:?};"),
        format!("Dir::Cache {cache:?};"),
        format!("APT::Architecture \"{architecture}\";"),
        format!("APT::Architectures {{ \"{architecture}\"; }};"),
        // Else a mirror that does not answer is a warning, and nobody learns why.
        "APT::Update::Error-Mode \"any\";".into(),
        "Acquire::Languages \"none\";".into(),
        "Acquire::Retries \"2\";".into(),
        "Acquire::http::Timeout \"30\";".into(),
        "Acquire::https::Timeout \"30\";".into(),
    ];
    if let Some(sources) = sources {
        let list = work.join("sources.list");
        write(&list, sources)?;
        settings.push(format!("Dir::Etc::sourcelist {list:?};"));
        settings.push("Dir::Etc::sourceparts \"/dev/null\";".into());
    }
    // Nobody else can enter our folder; and only root could become somebody else.
    if rustix::process::geteuid().is_root() {
        settings.push("APT::Sandbox::User \"root\";".into());
    }
    let unneeded =
        ["DEP-11", "DEP-11-icons-small", "DEP-11-icons", "DEP-11-icons-hidpi", "Contents-deb", "CNF"];
    settings.extend(
        unneeded.map(|target| format!("Acquire::IndexTargets::deb::{target}::DefaultEnabled \"false\";")),
    );
    let file = work.join("apt.conf");
    write(&file, &(settings.join("\n") + "\n"))?;
    Ok(file)
}

/// The sources of one of Debian's releases at each mirror of Debian that the host is
/// configured with, in the host's order.
///
/// # Errors
/// When it is configured with none.
pub fn release(suite: &str) -> Result<Vec<String>> {
    let apt = run::find("apt-get").context("this is neither Debian nor Ubuntu: there is no apt-get")?;
    let listed = run::output(Command::new(apt).args(["update", "--print-uris"]).env("LC_ALL", "C"))?;
    let mirrors = mirrors(&listed);
    if mirrors.is_empty() {
        bail!("none of this host's apt sources is a mirror of Debian: use a machine with Debian");
    }
    let keys = KEYRINGS.iter().find(|path| Path::new(path).is_file());
    let keys = keys.map(|path| format!("[signed-by={path}] ")).unwrap_or_default();
    Ok(mirrors.iter().map(|mirror| format!("deb {keys}{mirror} {suite} main\n")).collect())
}

/// The mirrors in what `apt-get update` says it would ask for: `'URI' FILE SIZE` a line.
fn mirrors(listed: &str) -> Vec<String> {
    let mut mirrors = Vec::new();
    for uri in listed.lines().filter_map(|line| line.strip_prefix('\'')?.split('\'').next()) {
        let Some((mirror, rest)) = uri.rsplit_once("/dists/") else { continue };
        let ours = rest.strip_suffix("/InRelease").is_some_and(|suite| RELEASES.contains(&suite));
        if ours && !mirrors.iter().any(|known| known == mirror) {
            mirrors.push(mirror.to_owned());
        }
    }
    mirrors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_package_state_is_our_own() {
        let dir = tempfile::tempdir().unwrap();
        let config =
            fs::read_to_string(state(dir.path(), "riscv64", Some("deb x y z\n"), Beside::Nothing).unwrap())
                .unwrap();
        assert!(config.contains("APT::Architecture \"riscv64\";"), "{config}");
        let own = |line: &&str| line.starts_with("Dir::") && !line.contains("\"/dev/null\"");
        for line in config.lines().filter(own) {
            assert!(line.contains(&*dir.path().to_string_lossy()), "{line}");
        }
        assert_eq!(fs::read_to_string(dir.path().join("sources.list")).unwrap(), "deb x y z\n");
    }

    #[test]
    fn mirrors_are_told_by_debians_own_suites() {
        let listed = "\
'http://mirror.example/debian/dists/bookworm/InRelease' a 0
'http://mirror.example/debian/dists/bookworm-updates/InRelease' b 0
'http://mirror.example/debian-security/dists/bookworm-security/InRelease' c 0
'mirror+file:/etc/apt/mirrors/debian.list/dists/trixie/InRelease' d 0
'http://mirror.example/debian/dists/bookworm/main/binary-amd64/Packages.xz' e 0
'http://mirror.example/debian/dists/trixie/InRelease' f 0
'http://other.example/ubuntu/dists/noble/InRelease' g 0
nonsense";
        assert_eq!(
            mirrors(listed),
            ["http://mirror.example/debian", "mirror+file:/etc/apt/mirrors/debian.list"]
        );
        assert!(mirrors("").is_empty());
    }
}
