//! The program that does nothing, for ever, and needs nothing of the image it lies in.

use crate::platform::elf::{EXECUTABLE, Header};

/// Where it is put in memory: aligned to the largest page size.
const BASE: u64 = 0x40_0000;
const HEADERS_BYTES: u64 = 64 + 56;

/// What differs from machine to machine.
#[derive(Debug, Clone, Copy)]
struct Program {
    machine: u16,
    code: &'static [u8],
}

const X86_64: Program = Program {
    machine: 62,
    code: &[
        0xb8, 0x22, 0x00, 0x00, 0x00, // mov eax, 34: pause
        0x0f, 0x05, // syscall
        0xeb, 0xf7, // jmp to the beginning
    ],
};

const AARCH64: Program = Program {
    machine: 183,
    code: &[
        0x00, 0x00, 0x80, 0xd2, // mov x0, #0: of no file
        0x01, 0x00, 0x80, 0xd2, // mov x1, #0
        0x02, 0x00, 0x80, 0xd2, // mov x2, #0: without an end
        0x03, 0x00, 0x80, 0xd2, // mov x3, #0
        0x28, 0x09, 0x80, 0xd2, // mov x8, #73: ppoll
        0x01, 0x00, 0x00, 0xd4, // svc #0
        0xfa, 0xff, 0xff, 0x17, // b to the beginning
    ],
};

/// The whole file, for the machine that this runs on; none for machines that nobody has tried.
pub(super) fn program() -> Option<Vec<u8>> {
    of(std::env::consts::ARCH).map(Program::bytes)
}

fn of(machine: &str) -> Option<Program> {
    match machine {
        "x86_64" => Some(X86_64),
        "aarch64" => Some(AARCH64),
        _ => None,
    }
}

impl Program {
    /// A 64-bit little-endian ELF file.
    fn bytes(self) -> Vec<u8> {
        let size = HEADERS_BYTES + self.code.len() as u64;
        let header = Header { is_64_bit: true, is_big_endian: false, machine: self.machine };
        let mut file = header.bytes(EXECUTABLE);
        for word in [BASE + HEADERS_BYTES, 64, 0] {
            file.extend(word.to_le_bytes()); // e_entry, e_phoff, e_shoff
        }
        for half in [0_u16, 0, 64, 56, 1, 64, 0, 0] {
            file.extend(half.to_le_bytes()); // flags; sizes and counts of headers
        }
        // One loadable segment, readable and executable, that is the whole file.
        file.extend(1_u32.to_le_bytes());
        file.extend(5_u32.to_le_bytes());
        for word in [0, BASE, BASE, size, size, 0x1_0000] {
            file.extend(word.to_le_bytes());
        }
        file.extend(self.code);
        file
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::Duration;

    #[test]
    fn it_has_the_layout_that_kernels_read() {
        for (machine, number) in [("x86_64", 62), ("aarch64", 183)] {
            let file = of(machine).unwrap().bytes();
            let elf = object::File::parse(file.as_slice()).unwrap();
            let object::File::Elf64(elf) = elf else { panic!("{machine}: not 64-bit") };
            let header = elf.elf_header();
            assert_eq!(header.e_machine.get(object::Endianness::Little).0, number);
            assert_eq!(header.e_entry.get(object::Endianness::Little), BASE + HEADERS_BYTES);
        }
        assert!(of("z80").is_none());
    }

    #[test]
    fn it_runs_until_it_is_killed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pause");
        std::fs::write(&path, program().unwrap()).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut child = std::process::Command::new(&path).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(100));
        assert!(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().code(), None, "killed by a signal");
    }
}
