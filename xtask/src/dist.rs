//! `cargo xtask dist`: `archyard` as one static file a kind of machine, which needs
//! nothing of the machine it is copied to. Built against musl with zig as C compiler
//! and linker, whatever this machine is; each file is read before it is handed out.
//!
//! Reproducible as far as is cheap: zig is pinned, the lock file obeyed, and the names
//! of the builder's folders are mapped away. Rust's own version is not pinned.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use object::Endianness;
use object::elf::{DT_NEEDED, EM_AARCH64, EM_X86_64, FileHeader64, Machine, PT_DYNAMIC, PT_INTERP};
use object::read::elf::{Dyn as _, FileHeader as _, ProgramHeader as _};

use crate::lint;
use crate::oci;
use crate::run;
use crate::wheels;
use crate::workspace;

/// The profile of what is handed out.
pub const RELEASE: &str = "release";
/// The profile of what only tests run: seconds instead of minutes to build.
pub const TEST: &str = "dist-test";

/// A kind of machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Arch {
    /// x86_64.
    Amd64,
    /// aarch64.
    Arm64,
}

impl Arch {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Amd64, Self::Arm64];

    /// The name of what is built for it.
    #[must_use]
    pub fn file_name(self) -> String {
        format!("archyard-linux-{self}")
    }

    /// As Rust names it.
    #[must_use]
    pub fn target(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-unknown-linux-musl",
            Self::Arm64 => "aarch64-unknown-linux-musl",
        }
    }

    fn machine(self) -> Machine {
        match self {
            Self::Amd64 => EM_X86_64,
            Self::Arm64 => EM_AARCH64,
        }
    }

    fn is_host(self) -> bool {
        self.target().starts_with(std::env::consts::ARCH)
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        })
    }
}

/// Where the files of a profile come to lie.
#[must_use]
pub fn folder(profile: &str) -> PathBuf {
    let dist = workspace::target().join("dist");
    if profile == RELEASE { dist } else { dist.join(profile) }
}

/// Builds for these kinds of machine, and writes `SHA256SUMS` over what is in the folder.
///
/// # Errors
/// When a tool is missing and may not be installed, or what was built is not what it should be.
pub fn dist(archs: &[Arch], profile: &str, install: bool) -> Result<()> {
    let mut built = Vec::new();
    for arch in archs {
        built.push(build(*arch, profile, install)?);
    }
    let sums = sums(&folder(profile))?;
    for path in built.iter().chain([&sums]) {
        println!("{}", workspace::relative(path).display());
    }
    Ok(())
}

/// Builds for one kind of machine; returns the file.
///
/// # Errors
/// As [`dist`].
pub fn build(arch: Arch, profile: &str, install: bool) -> Result<PathBuf> {
    let bin = wheels::ensure(wheels::ZIGBUILD, install)?;
    ensure_target(arch.target(), install)?;
    eprintln!("xtask: building archyard for {} ({profile})", arch.target());
    let target_dir = workspace::target().join("dist-build");
    let mut cargo = lint::cargo_command(&["zigbuild", "--locked", "--package", "archyard"]);
    cargo.args(["--profile", profile, "--target", arch.target(), "--target-dir"]).arg(&target_dir);
    let (rust, c) = remapped(&target_dir)?;
    cargo.env("PATH", wheels::search_path(&bin)?).env("CARGO_ENCODED_RUSTFLAGS", rust);
    cargo.env(format!("CFLAGS_{}", arch.target().replace('-', "_")), c);
    for (variable, name) in [("ZIG_GLOBAL_CACHE_DIR", "zig"), ("CARGO_ZIGBUILD_CACHE_DIR", "zigbuild")] {
        cargo.env(variable, workspace::cache().join(name));
    }
    // Ours stand in the one above.
    run::shown(cargo.env_remove("RUSTFLAGS"))?;

    // cargo keeps the profile `dev` in a folder of another name.
    let output = if profile == "dev" { "debug" } else { profile };
    let made = target_dir.join(arch.target()).join(output).join("archyard");
    check(&made, arch)?;
    let folder = folder(profile);
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let path = folder.join(arch.file_name());
    // Not over what may be running.
    let new = path.with_extension("new");
    fs::copy(&made, &new).and_then(|_| fs::rename(&new, &path)).context("cannot keep what was built")?;
    Ok(path)
}

/// Names of folders that differ from machine to machine, replaced in what panics and
/// assertions say: the flags for Rust, and those for C.
fn remapped(target_dir: &Path) -> Result<(OsString, OsString)> {
    let cargo_home = match std::env::var_os("CARGO_HOME") {
        Some(home) => PathBuf::from(home),
        None => PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?).join(".cargo"),
    };
    let (mut rust, mut c) = (OsString::new(), OsString::new());
    // The last that fits counts: the target folder may lie in the checkout.
    let folders =
        [(cargo_home.as_path(), "/cargo"), (&workspace::root(), "/archyard"), (target_dir, "/target")];
    for (folder, name) in folders {
        // Each list has a separator of its own.
        for (flags, flag, separator) in
            [(&mut rust, "--remap-path-prefix=", "\u{1f}"), (&mut c, "-ffile-prefix-map=", " ")]
        {
            flags.push(if flags.is_empty() { "" } else { separator });
            flags.push(flag);
            flags.push(folder);
            flags.push(format!("={name}"));
        }
    }
    Ok((rust, c))
}

fn ensure_target(target: &str, install: bool) -> Result<()> {
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    let libraries = run::output(rustc.args(["--print", "target-libdir", "--target", target]))?;
    if Path::new(libraries.trim()).is_dir() {
        return Ok(());
    }
    let remedy = format!("rustup target add {target}");
    match run::find("rustup") {
        Some(rustup) if install => {
            eprintln!("xtask: installing Rust's standard library for {target}: {remedy}");
            run::output(Command::new(rustup).args(["target", "add", target])).map(drop)
        }
        Some(_) => {
            bail!("Rust's standard library for {target} is missing and installing was not allowed; {remedy}")
        }
        None => bail!(
            "Rust's standard library for {target} is missing, and this Rust does not come from rustup: install it as \
             the rest of this Rust was installed (expected in {}), or use rustup and {remedy}",
            libraries.trim()
        ),
    }
}

/// Whether it is static and for that kind of machine, read from the file itself; where
/// it is this very machine's, it must run too.
fn check(path: &Path, arch: Arch) -> Result<()> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    check_elf(&bytes, arch).with_context(|| format!("{} is not what it should be", path.display()))?;
    if arch.is_host() {
        let said = run::output(Command::new(path).arg("version"))?;
        if !said.starts_with("archyard ") {
            bail!("{} version says {said:?}", path.display());
        }
    }
    Ok(())
}

fn check_elf(bytes: &[u8], arch: Arch) -> Result<()> {
    let header = FileHeader64::<Endianness>::parse(bytes).context("no 64-bit ELF file")?;
    let endian = header.endian()?;
    if header.e_machine(endian) != arch.machine() {
        bail!("its machine is {}, that of {arch} {}", header.e_machine(endian).0, arch.machine().0);
    }
    for segment in header.program_headers(endian, bytes)? {
        match segment.p_type(endian) {
            PT_INTERP => bail!("it names a dynamic loader"),
            PT_DYNAMIC => {
                let entries = segment.dynamic(endian, bytes)?.unwrap_or_default();
                if entries.iter().any(|entry| entry.tag(endian) == DT_NEEDED) {
                    bail!("it needs shared libraries");
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// As `sha256sum -c` reads it.
fn sums(folder: &Path) -> Result<PathBuf> {
    let mut text = String::new();
    for name in Arch::ALL.map(Arch::file_name) {
        let path = folder.join(&name);
        if path.is_file() {
            let digest = oci::digest(&fs::read(&path)?);
            text += &format!("{}  {name}\n", &digest["sha256:".len()..]);
        }
    }
    let path = folder.join("SHA256SUMS");
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::busybox;
    use crate::images::native;

    #[test]
    fn a_file_that_needs_a_loader_or_another_machine_is_refused() {
        let host = Arch::ALL.into_iter().find(|arch| arch.is_host()).unwrap();
        let other = Arch::ALL.into_iter().find(|arch| !arch.is_host()).unwrap();
        let ours = fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(check_elf(&ours, host).unwrap_err().to_string().contains("loader"));
        assert!(check_elf(&ours, other).unwrap_err().to_string().contains("machine"));
        assert!(check_elf(b"#!/bin/sh\n", host).is_err());

        let [own, _] = native().unwrap();
        busybox::ensure(std::slice::from_ref(&own), &[]).unwrap();
        check_elf(&busybox::binary(&own).unwrap(), host).unwrap();
    }

    #[test]
    fn sums_are_read_by_their_own_tool() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("archyard-linux-arm64"), "x").unwrap();
        sums(dir.path()).unwrap();
        run::output(Command::new("sha256sum").args(["-c", "SHA256SUMS"]).current_dir(dir.path())).unwrap();
    }
}
