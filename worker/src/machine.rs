//! Small facts about this machine.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

/// Of the kernel that runs now: changes with every boot.
pub(crate) fn boot_id() -> &'static str {
    static ID: OnceLock<String> = OnceLock::new();
    ID.get_or_init(|| read("/proc/sys/kernel/random/boot_id"))
}

/// Text that nobody else draws.
pub(crate) fn random_id() -> String {
    read("/proc/sys/kernel/random/uuid")
}

/// Cores that this process may use.
pub(crate) fn cores() -> u64 {
    std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64)
}

/// Memory in bytes.
#[allow(clippy::useless_conversion, reason = "32 bits wide on 32-bit machines")]
pub(crate) fn memory_bytes() -> u64 {
    let info = rustix::system::sysinfo();
    u64::from(info.totalram).saturating_mul(u64::from(info.mem_unit))
}

/// Bytes that this process may still write to the disk of `path`.
pub(crate) fn free_bytes(path: &Path) -> std::io::Result<u64> {
    let disk = rustix::fs::statvfs(path)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_has_one_id_and_chance_many() {
        assert_eq!(boot_id().len(), 36);
        assert_ne!(random_id(), random_id());
    }

    #[test]
    fn this_machine_has_something_of_each() {
        assert!(cores() > 0 && memory_bytes() > 1 << 20 && free_bytes(Path::new("/")).unwrap() > 0);
    }
}
