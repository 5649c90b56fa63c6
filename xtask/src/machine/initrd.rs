//! What the kernel unpacks into memory and starts first: a shell, the modules that
//! its disk needs, and a script. An archive of cpio's `newc` format, which is a
//! header of hexadecimal numbers before each name and each content.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

const SCRIPT: &str = include_str!("initrd.sh");
/// What the machine's disk hangs on, below the kernel's folder of modules.
const MODULES: [&str; 2] = ["kernel/drivers/virtio/virtio_pci.ko", "kernel/drivers/block/virtio_blk.ko"];
const DIR: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
/// `/dev/console`, which must be there before anything is mounted.
const CONSOLE: (u32, u32) = (5, 1);

/// The archive, for the kernel whose modules lie in `modules` (with what depmod wrote).
///
/// # Errors
/// When a module cannot be read.
pub(super) fn initrd(busybox: &Path, modules: &Path) -> Result<Vec<u8>> {
    let read = |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let dependencies = fs::read_to_string(modules.join("modules.dep")).context("depmod wrote nothing")?;
    let mut archive = Archive::default();
    for folder in ["bin", "dev", "modules", "root"] {
        archive.add(folder, DIR, (0, 0), b"");
    }
    archive.add("dev/console", 0o020_600, CONSOLE, b"");
    archive.add("bin/busybox", PROGRAM, (0, 0), &read(busybox)?);
    archive.add("init", PROGRAM, (0, 0), SCRIPT.as_bytes());
    for (module, number) in load_order(&dependencies, &MODULES)?.into_iter().zip(10..) {
        // By their names the script loads them in order.
        archive.add(&format!("modules/{number}"), PROGRAM, (0, 0), &read(&modules.join(module))?);
    }
    Ok(archive.finish())
}

/// The modules and all that they need, each once and after what it needs.
fn load_order<'a>(dependencies: &'a str, wanted: &[&str]) -> Result<Vec<&'a str>> {
    let mut order = Vec::new();
    for module in wanted {
        let lines = dependencies.lines().filter_map(|line| line.split_once(':'));
        let (name, needs) = lines
            .into_iter()
            .find(|(name, _)| name == module)
            .with_context(|| format!("the kernel lacks {module}"))?;
        // depmod names all that is needed, at last what is to be loaded first.
        for module in needs.split_ascii_whitespace().rev().chain([name]) {
            if !order.contains(&module) {
                order.push(module);
            }
        }
    }
    Ok(order)
}

#[derive(Debug, Default)]
struct Archive {
    bytes: Vec<u8>,
    count: usize,
}

impl Archive {
    fn add(&mut self, name: &str, mode: u32, device: (u32, u32), content: &[u8]) {
        self.count += 1;
        let numbers = [
            self.count,
            mode as usize,
            0, // owner
            0, // group
            1, // links
            0, // time
            content.len(),
            0, // device it lies on
            0,
            device.0 as usize,
            device.1 as usize,
            name.len() + 1,
            0, // checksum, unused
        ];
        self.bytes.extend(b"070701");
        for number in numbers {
            self.bytes.extend(format!("{number:08X}").into_bytes());
        }
        self.bytes.extend(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(content);
        self.pad();
    }

    /// Everything begins at a multiple of four.
    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, (0, 0), b"");
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_loaded_after_what_they_need() {
        let dependencies =
            "a/pci.ko: a/legacy.ko a/virtio.ko a/ring.ko\na/ring.ko:\nb/blk.ko: a/virtio.ko a/ring.ko\n";
        let order = load_order(dependencies, &["a/pci.ko", "b/blk.ko"]).unwrap();
        assert_eq!(order, ["a/ring.ko", "a/virtio.ko", "a/legacy.ko", "a/pci.ko", "b/blk.ko"]);
        assert!(load_order(dependencies, &["c.ko"]).unwrap_err().to_string().contains("lacks c.ko"));
    }

    #[test]
    fn entries_begin_at_multiples_of_four() {
        let mut archive = Archive::default();
        archive.add("abc", PROGRAM, (0, 0), b"12345");
        let bytes = archive.finish();
        assert_eq!(&bytes[110..114], b"abc\0");
        assert_eq!(&bytes[116..121], b"12345");
        assert_eq!(&bytes[124..130], b"070701");
        assert_eq!(bytes.len() % 4, 0);
    }
}
