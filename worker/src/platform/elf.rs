//! The smallest programs there are: they read standard input to its end and exit with [`EXIT_CODE`].
//!
//! Waiting for the end of input lets the caller look at the process before it is gone.

use archyard_model::Platform;

/// What a program of this module exits with.
pub(super) const EXIT_CODE: i32 = 42;

/// Where the image is put in memory: above every `mmap_min_addr`, aligned to the largest page size.
const BASE: u32 = 0x0804_0000;
const HEADERS_BYTES: u32 = 52 + 32;

/// `ET_EXEC`.
pub(crate) const EXECUTABLE: u16 = 2;

/// The fields of an ELF header by which a kernel or `binfmt_misc` tells programs apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// `ELFCLASS64` rather than `ELFCLASS32`.
    pub(crate) is_64_bit: bool,
    /// `ELFDATA2MSB` rather than `ELFDATA2LSB`.
    pub(crate) is_big_endian: bool,
    /// `e_machine`.
    pub(crate) machine: u16,
}

/// A 32-bit little-endian program.
#[derive(Debug, Clone, Copy)]
pub(super) struct Program {
    pub(super) header: Header,
    flags: u32,
    code: &'static [u8],
}

/// For linux/386.
pub(super) const I386: Program = Program {
    header: Header { is_64_bit: false, is_big_endian: false, machine: 3 },
    flags: 0,
    code: &[
        0xb8, 0x03, 0x00, 0x00, 0x00, // mov eax, 3: read
        0x31, 0xdb, // xor ebx, ebx: standard input
        0x89, 0xe1, // mov ecx, esp
        0xba, 0x01, 0x00, 0x00, 0x00, // mov edx, 1
        0xcd, 0x80, // int 0x80
        0xb8, 0x01, 0x00, 0x00, 0x00, // mov eax, 1: exit
        0xbb, 0x2a, 0x00, 0x00, 0x00, // mov ebx, 42
        0xcd, 0x80, // int 0x80
    ],
};

/// For linux/arm, in instructions that every version since ARMv4 has.
pub(super) const ARM: Program = Program {
    header: Header { is_64_bit: false, is_big_endian: false, machine: 40 },
    flags: 0x0500_0200, // EABI5, soft float: no floating point is used
    code: &[
        0x03, 0x70, 0xa0, 0xe3, // mov r7, #3: read
        0x00, 0x00, 0xa0, 0xe3, // mov r0, #0: standard input
        0x0d, 0x10, 0xa0, 0xe1, // mov r1, sp
        0x01, 0x20, 0xa0, 0xe3, // mov r2, #1
        0x00, 0x00, 0x00, 0xef, // svc 0
        0x01, 0x70, 0xa0, 0xe3, // mov r7, #1: exit
        0x2a, 0x00, 0xa0, 0xe3, // mov r0, #42
        0x00, 0x00, 0x00, 0xef, // svc 0
    ],
};

impl Program {
    /// The whole file.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let size = HEADERS_BYTES + u32::try_from(self.code.len()).unwrap_or_default();
        let mut file = self.header.bytes(EXECUTABLE);
        for word in [BASE + HEADERS_BYTES, 52, 0, self.flags] {
            file.extend(word.to_le_bytes()); // e_entry, e_phoff, e_shoff, e_flags
        }
        for half in [52_u16, 32, 1, 40, 0, 0] {
            file.extend(half.to_le_bytes()); // sizes and counts of headers
        }
        // One loadable segment, readable and executable, that is the whole file.
        for word in [1, 0, BASE, BASE, size, size, 5, 0x1_0000] {
            file.extend(word.to_le_bytes());
        }
        file.extend(self.code);
        file
    }
}

impl Header {
    /// A file's first 24 bytes, of `e_type` `kind`.
    pub(crate) fn bytes(self, kind: u16) -> Vec<u8> {
        let mut bytes = vec![0x7f, b'E', b'L', b'F', 1 + u8::from(self.is_64_bit), 1, 1];
        if self.is_big_endian {
            bytes[5] = 2;
        }
        bytes.resize(16, 0);
        for (value, width) in [(u32::from(kind), 2), (u32::from(self.machine), 2), (1, 4)] {
            let little = value.to_le_bytes();
            if self.is_big_endian {
                bytes.extend(little[..width].iter().rev());
            } else {
                bytes.extend(&little[..width]);
            }
        }
        bytes
    }

    /// The first bytes of programs of this kind: plain executables and position-independent ones.
    pub(super) fn variants(self) -> [Vec<u8>; 2] {
        [self.bytes(EXECUTABLE), self.bytes(3)]
    }
}

/// Every platform's header.
pub(super) fn known() -> Vec<(Platform, Header)> {
    const BIG: bool = true;
    [
        ("386", false, !BIG, 3),
        ("amd64", true, !BIG, 62),
        ("arm", false, !BIG, 40),
        ("arm64", true, !BIG, 183),
        ("loong64", true, !BIG, 258),
        ("mips", false, BIG, 8),
        ("mipsle", false, !BIG, 8),
        ("mips64", true, BIG, 8),
        ("mips64le", true, !BIG, 8),
        ("ppc64", true, BIG, 21),
        ("ppc64le", true, !BIG, 21),
        ("riscv64", true, !BIG, 243),
        ("s390x", true, BIG, 22),
    ]
    .into_iter()
    .filter_map(|(name, is_64_bit, is_big_endian, machine)| {
        let platform = Platform::new("linux", name, "").ok()?;
        Some((platform, Header { is_64_bit, is_big_endian, machine }))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_have_the_layout_that_kernels_read() {
        for (program, machine) in [(I386, 3_u8), (ARM, 40)] {
            let file = program.bytes();
            assert_eq!(&file[..7], b"\x7fELF\x01\x01\x01");
            assert_eq!((file[16], file[18]), (2, machine));
            assert_eq!(u32::from_le_bytes(file[24..28].try_into().unwrap()), BASE + 84);
            assert_eq!(u32::from_le_bytes(file[68..72].try_into().unwrap()) as usize, file.len());
            assert_eq!(file.len(), 84 + program.code.len());
        }
    }

    #[test]
    fn every_known_platform_has_a_header() {
        assert_eq!(known().len(), 13);
        let (_, s390x) = known().into_iter().find(|(p, _)| p.architecture() == "s390x").unwrap();
        assert_eq!(&s390x.bytes(2)[..20], b"\x7fELF\x02\x02\x01\0\0\0\0\0\0\0\0\0\0\x02\0\x16");
    }
}
