//! Which platforms this machine runs natively: measured, never taken from a table of what ought to work.
//!
//! The 64-bit platform is the kernel's own word (`uname`) and the CPU's (its features). A 32-bit sibling counts
//! only when a program of that kind was executed and the kernel shows that it ran that very file: what goes
//! through `binfmt_misc` to an emulator never counts, and is reported apart.

mod binfmt;
pub mod dockerd;
pub(crate) mod elf;
mod execute;

use std::path::Path;

use archyard_model::Platform;

use binfmt::Interpreters;
use execute::{Execution, execute};

/// What was measured.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Measured {
    /// Executed by CPU and kernel themselves, the machine's own first.
    pub native: Vec<Platform>,
    /// Registered with `binfmt_misc`, or on the PATH of `dockerd` (see [`dockerd`]): told, never used.
    pub emulated: Vec<Platform>,
    /// What could not be measured, and the remedy. One line each.
    pub warnings: Vec<String>,
}

/// A machine that is none of the platforms images are built for.
#[derive(Debug, thiserror::Error)]
#[error("this machine calls itself {machine:?}, which is no platform that images are built for")]
pub struct UnknownMachine {
    machine: String,
}

/// Measures. `scratch` is an existing folder from which programs may be executed.
///
/// Executes small programs, so it may take some milliseconds; meant for a worker's start.
///
/// # Errors
/// When `uname` names no known platform.
pub fn measure(scratch: &Path) -> Result<Measured, UnknownMachine> {
    let machine = rustix::system::uname().machine().to_string_lossy().into_owned();
    let own = own(&machine)?;
    let interpreters = Interpreters::registered();
    let mut measured = Measured { native: own, ..Measured::default() };
    let main = measured.native[0].clone();
    for (program, platforms) in siblings(main.architecture()) {
        let name = &platforms[0];
        if interpreters.take(&program.header) {
            continue;
        }
        match execute(program, scratch) {
            Execution::Native => measured.native.extend(platforms),
            Execution::Foreign => {}
            Execution::Emulated => measured.emulated.push(platforms[0].clone()),
            Execution::Unknown(reason) => {
                measured.warnings.push(format!("cannot tell whether this machine runs {name}: {reason}"));
            }
        }
    }
    for (platform, header) in elf::known() {
        if interpreters.take(&header)
            && !measured.native.contains(&platform)
            && !measured.emulated.contains(&platform)
        {
            measured.emulated.push(platform);
        }
    }
    Ok(measured)
}

/// The interpreter that would run programs of this platform here, if one is registered now.
pub fn emulator(platform: &Platform) -> Option<String> {
    Interpreters::registered().of(platform)
}

/// What the machine is by its own word, variants that its CPU has included.
fn own(machine: &str) -> Result<Vec<Platform>, UnknownMachine> {
    let unknown = || UnknownMachine { machine: machine.to_owned() };
    let (architecture, variant) = match machine {
        "loongarch64" => ("loong64", ""),
        "armv8l" => ("arm", "v8"),
        _ => match machine.strip_prefix("armv") {
            Some(rest) => ("arm", rest.get(..1).ok_or_else(unknown)?),
            None => (machine, ""),
        },
    };
    let platform = Platform::new("linux", architecture, variant).map_err(|_| unknown())?;
    let variants: &[&str] = match platform.architecture() {
        "amd64" => &["v2", "v3", "v4"][..amd64_level().saturating_sub(1)],
        _ => &[],
    };
    let mut own = vec![platform.clone()];
    own.extend(variants.iter().filter_map(|v| Platform::new("linux", platform.architecture(), v).ok()));
    Ok(own)
}

/// Programs of 32-bit siblings, and what is native when one runs.
fn siblings(architecture: &str) -> Vec<(elf::Program, Vec<Platform>)> {
    let platforms = |names: &[(&str, &str)]| {
        names.iter().filter_map(|(name, variant)| Platform::new("linux", name, variant).ok()).collect()
    };
    match architecture {
        "amd64" => vec![(elf::I386, platforms(&[("386", "")]))],
        // The instruction set of ARMv8's 32-bit state holds those of its ancestors.
        "arm64" => vec![(elf::ARM, platforms(&[("arm", "v7"), ("arm", "v6"), ("arm", "v5"), ("arm", "v8")]))],
        _ => Vec::new(),
    }
}

/// The x86-64 level that the CPU and the kernel give, 1 to 4, as the psABI defines them.
#[cfg(target_arch = "x86_64")]
fn amd64_level() -> usize {
    macro_rules! all {
        ($($feature:tt),*) => { true $(&& std::is_x86_feature_detected!($feature))* };
    }
    let levels = [
        true,
        all!("cmpxchg16b", "popcnt", "sse3", "sse4.1", "sse4.2", "ssse3"),
        all!("avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "lzcnt", "movbe", "xsave"),
        all!("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"),
    ];
    levels.iter().take_while(|has| **has).count()
}

/// A 64-bit x86 machine is only measured by a program for it.
#[cfg(not(target_arch = "x86_64"))]
fn amd64_level() -> usize {
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(platforms: &[Platform]) -> Vec<String> {
        platforms.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn machines_by_their_own_word() {
        for (machine, want) in [
            ("aarch64", "linux/arm64"),
            ("i686", "linux/386"),
            ("armv7l", "linux/arm/v7"),
            ("armv6l", "linux/arm/v6"),
            ("armv8l", "linux/arm/v8"),
            ("riscv64", "linux/riscv64"),
            ("ppc64le", "linux/ppc64le"),
            ("s390x", "linux/s390x"),
            ("loongarch64", "linux/loong64"),
        ] {
            assert_eq!(names(&own(machine).unwrap()), [want], "{machine}");
        }
        assert!(own("vax").unwrap_err().to_string().contains("vax"));
        assert!(own("armv").is_err());
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn levels_build_on_each_other() {
        let own = own("x86_64").unwrap();
        assert_eq!(own.len(), amd64_level());
        assert_eq!(own[0].to_string(), "linux/amd64");
        let flags = std::fs::read_to_string("/proc/cpuinfo").unwrap();
        let has_avx2 = flags.contains(" avx2 ") && flags.contains(" bmi2 ") && flags.contains(" movbe ");
        assert_eq!(names(&own).contains(&"linux/amd64/v3".to_owned()), has_avx2);
    }

    /// This machine's real answer has to be the one that executing the same bytes by hand gives.
    #[test]
    #[cfg(target_arch = "x86_64")]
    fn this_machine_agrees_with_direct_execution() {
        let folder = tempfile::tempdir().unwrap();
        let measured = measure(folder.path()).unwrap();
        assert_eq!(measured.warnings, [""; 0]);
        assert_eq!(names(&measured.native)[0], "linux/amd64");

        let path = folder.path().join("by-hand");
        std::fs::write(&path, elf::I386.bytes()).unwrap();
        let mut permissions = std::fs::metadata(&path).unwrap().permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o755);
        std::fs::set_permissions(&path, permissions).unwrap();
        let ran = (0..50).find_map(|_| {
            let status = std::process::Command::new(&path).stdin(std::process::Stdio::null()).status();
            match status {
                // Another test's fork still holds the file open for writing.
                Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => None,
                status => Some(status),
            }
        });
        let by_hand = ran.unwrap().is_ok_and(|status| status.code() == Some(elf::EXIT_CODE));
        assert_eq!(names(&measured.native).contains(&"linux/386".to_owned()), by_hand);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "measuring leaves nothing behind");
    }
}
