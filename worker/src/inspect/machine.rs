//! Which machine a program is made for, and whether that is a platform's.
//!
//! Told by class, byte order and the ABI's flags as much as by the machine's number: x32 and amd64, or MIPS' n32
//! and n64, share theirs. Which *version* of ARM a program needs stands in a section at its end, which is not
//! read; its float ABI stands in the header.

use archyard_model::Platform;

use super::elf::Elf;

const X86: u16 = 3;
const MIPS: u16 = 8;
const PPC: u16 = 20;
const PPC64: u16 = 21;
const S390: u16 = 22;
const ARM: u16 = 40;
const X86_64: u16 = 62;
const AARCH64: u16 = 183;
const RISCV: u16 = 243;
const LOONGARCH: u16 = 258;

const ARM_SOFT_FLOAT: u32 = 0x200;
const ARM_HARD_FLOAT: u32 = 0x400;
const MIPS_N32: u32 = 0x20;
const MIPS_NAN_2008: u32 = 0x400;

/// A machine: what people call it, and the architecture whose images it belongs into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Machine {
    pub(super) name: String,
    /// GOARCH; none for one that no platform is called by.
    architecture: Option<&'static str>,
}

impl Machine {
    /// The machine that this program is made for.
    pub(super) fn of(elf: &Elf) -> Self {
        let (name, architecture) = known(elf).unwrap_or_else(|| {
            let bits = if elf.is_64_bit { 64 } else { 32 };
            let order = if elf.is_big_endian { "big" } else { "little" };
            (format!("machine {:#x} ({bits}-bit, {order}-endian)", elf.machine), None)
        });
        match foreign_system(elf) {
            Some(system) => Self { name: format!("{name} ({system})"), architecture: None },
            None => Self { name, architecture },
        }
    }
}

/// Whether a program fits a platform.
pub(super) fn fits(platform: &Platform, elf: &Elf) -> bool {
    let hard_float = elf.machine == ARM && elf.flags & ARM_HARD_FLOAT != 0;
    Machine::of(elf).architecture == Some(platform.architecture())
        // ARMv5 has no floating point unit to count on.
        && !(hard_float && platform.variant() == Some("v5"))
}

/// What a platform's programs are made for, in words as [`Machine::name`].
pub(super) fn expected(platform: &Platform) -> &str {
    match (platform.architecture(), platform.variant()) {
        ("amd64", _) => "x86-64",
        ("386", _) => "i386",
        ("arm64", _) => "aarch64",
        ("arm", Some("v5")) => "arm (soft float)",
        (other, _) => other,
    }
}

/// Whether a loader can load a program: the same machine, and the same ABI where both say theirs.
pub(super) fn loads(loader: &Elf, program: &Elf) -> bool {
    let same = |of: fn(&Elf) -> u32| of(loader) == of(program);
    let both = |mask: u32| {
        let (one, other) = (loader.flags & mask, program.flags & mask);
        one == 0 || other == 0 || one == other
    };
    Machine::of(loader).architecture == Machine::of(program).architecture
        && loader.machine == program.machine
        && loader.is_64_bit == program.is_64_bit
        && loader.is_big_endian == program.is_big_endian
        && match program.machine {
            ARM => both(ARM_SOFT_FLOAT | ARM_HARD_FLOAT),
            RISCV => same(|elf| elf.flags & 0x6),
            LOONGARCH => both(0x7),
            PPC64 => both(0x3),
            MIPS => same(|elf| elf.flags & MIPS_NAN_2008),
            _ => true,
        }
}

/// `x86-64-v3`, where a program needs more than the platform promises.
pub(super) fn excess(platform: &Platform, level: u8) -> Option<String> {
    let promised = match (platform.architecture(), platform.variant()) {
        ("amd64", None) => 1,
        ("amd64", Some(variant)) => variant.trim_start_matches('v').parse().unwrap_or(u8::MAX),
        _ => return None,
    };
    (level > promised).then(|| format!("x86-64-v{level}"))
}

fn known(elf: &Elf) -> Option<(String, Option<&'static str>)> {
    let plain = |name: &str, architecture| Some((name.to_owned(), architecture));
    match (elf.machine, elf.is_64_bit, elf.is_big_endian) {
        (X86_64, true, false) => plain("x86-64", Some("amd64")),
        (X86_64, false, false) => plain("x32", None),
        (X86, false, false) => plain("i386", Some("386")),
        (AARCH64, true, false) => plain("aarch64", Some("arm64")),
        (AARCH64, true, true) => plain("aarch64 (big-endian)", None),
        (AARCH64, false, _) => plain("aarch64 (ILP32)", None),
        (ARM, false, false) => arm(elf.flags),
        (ARM, false, true) => plain("arm (big-endian)", None),
        (RISCV, true, false) => plain("riscv64", Some("riscv64")),
        (RISCV, false, false) => plain("riscv32", None),
        (PPC64, true, false) => plain("ppc64le", Some("ppc64le")),
        (PPC64, true, true) => plain("ppc64", Some("ppc64")),
        (PPC, false, true) => plain("ppc", None),
        (S390, true, true) => plain("s390x", Some("s390x")),
        (S390, false, true) => plain("s390", None),
        (MIPS, is_64_bit, is_big_endian) => mips(elf.flags, is_64_bit, is_big_endian),
        (LOONGARCH, true, false) => plain("loong64", Some("loong64")),
        _ => None,
    }
}

fn arm(flags: u32) -> Option<(String, Option<&'static str>)> {
    if flags >> 24 < 4 {
        return Some(("arm (old ABI)".to_owned(), None));
    }
    let float = match (flags & ARM_SOFT_FLOAT != 0, flags & ARM_HARD_FLOAT != 0) {
        (true, _) => " (soft float)",
        (_, true) => " (hard float)",
        _ => "",
    };
    Some((format!("arm{float}"), Some("arm")))
}

fn mips(flags: u32, is_64_bit: bool, is_big_endian: bool) -> Option<(String, Option<&'static str>)> {
    let name = match (is_64_bit, is_big_endian) {
        (false, true) => "mips",
        (false, false) => "mipsle",
        (true, true) => "mips64",
        (true, false) => "mips64le",
    };
    if !is_64_bit && flags & MIPS_N32 != 0 {
        return Some((format!("{name} (n32)"), None));
    }
    // Release 6 dropped instructions that all before it have.
    if matches!(flags >> 28, 9 | 10) {
        return Some((format!("{name} (release 6)"), None));
    }
    Some((name.to_owned(), Some(name)))
}

/// Linux itself does not look at it, but a program that says so speaks to another kernel.
fn foreign_system(elf: &Elf) -> Option<&'static str> {
    match elf.os_abi {
        // None in particular, GNU/Linux, and those of ARM's own.
        0 | 3 | 65 | 97 => None,
        2 => Some("NetBSD"),
        6 => Some("Solaris"),
        9 => Some("FreeBSD"),
        12 => Some("OpenBSD"),
        18 => Some("CloudABI"),
        _ => Some("not Linux"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::elf::Loader;
    use super::*;

    fn elf(machine: u16, is_64_bit: bool, is_big_endian: bool, flags: u32) -> Elf {
        Elf {
            machine,
            is_64_bit,
            is_big_endian,
            os_abi: 0,
            flags,
            is_program: true,
            loader: Loader::None,
            x86_level: 0,
        }
    }

    const BIG: bool = true;

    #[test]
    fn each_platform_takes_its_own_programs_only() {
        let own = [
            ("linux/amd64", elf(X86_64, true, !BIG, 0), "x86-64"),
            ("linux/386", elf(X86, false, !BIG, 0), "i386"),
            ("linux/arm64", elf(AARCH64, true, !BIG, 0), "aarch64"),
            ("linux/arm/v7", elf(ARM, false, !BIG, 0x0500_0400), "arm (hard float)"),
            ("linux/riscv64", elf(RISCV, true, !BIG, 5), "riscv64"),
            ("linux/ppc64le", elf(PPC64, true, !BIG, 2), "ppc64le"),
            ("linux/ppc64", elf(PPC64, true, BIG, 1), "ppc64"),
            ("linux/s390x", elf(S390, true, BIG, 0), "s390x"),
            ("linux/mips", elf(MIPS, false, BIG, 0x7000_1000), "mips"),
            ("linux/mipsle", elf(MIPS, false, !BIG, 0x7000_1000), "mipsle"),
            ("linux/mips64", elf(MIPS, true, BIG, 0x8000_0007), "mips64"),
            ("linux/mips64le", elf(MIPS, true, !BIG, 0x8000_0007), "mips64le"),
            ("linux/loong64", elf(LOONGARCH, true, !BIG, 0x43), "loong64"),
        ];
        for (platform, _, _) in &own {
            for (own_platform, elf, name) in &own {
                let wanted: Platform = platform.parse().unwrap();
                assert_eq!(fits(&wanted, elf), platform == own_platform, "{name} on {platform}");
                assert_eq!(Machine::of(elf).name, *name);
            }
        }
    }

    #[test]
    fn abis_that_share_a_number_are_told_apart() {
        let amd64: Platform = "linux/amd64".parse().unwrap();
        for (elf, name) in [
            (elf(X86_64, false, !BIG, 0), "x32"),
            (elf(MIPS, false, !BIG, 0x20), "mipsle (n32)"),
            (elf(MIPS, true, !BIG, 0xa000_0000), "mips64le (release 6)"),
            (elf(ARM, false, !BIG, 0), "arm (old ABI)"),
            (elf(AARCH64, false, !BIG, 0), "aarch64 (ILP32)"),
            (elf(0xbeef, true, BIG, 0), "machine 0xbeef (64-bit, big-endian)"),
            (Elf { os_abi: 9, ..elf(X86_64, true, !BIG, 0) }, "x86-64 (FreeBSD)"),
        ] {
            assert_eq!(Machine::of(&elf).name, name);
            assert_eq!(Machine::of(&elf).architecture, None, "{name}");
            assert!(!fits(&amd64, &elf));
        }
    }

    #[test]
    fn versions_of_arm_differ_in_floats() {
        let (v5, v6): (Platform, Platform) =
            ("linux/arm/v5".parse().unwrap(), "linux/arm/v6".parse().unwrap());
        let (soft, hard) = (elf(ARM, false, !BIG, 0x0500_0200), elf(ARM, false, !BIG, 0x0500_0400));
        assert!(fits(&v5, &soft) && fits(&v6, &soft) && fits(&v6, &hard) && !fits(&v5, &hard));
        assert!(loads(&soft, &soft) && !loads(&soft, &hard));
        assert!(loads(&hard, &elf(ARM, false, !BIG, 0x0500_0002)));
        assert!(!loads(&elf(RISCV, true, !BIG, 1), &elf(RISCV, true, !BIG, 5)));
    }

    #[test]
    fn levels_of_amd64_are_what_its_variant_promises() {
        let level = |platform: &str, level| excess(&platform.parse().unwrap(), level);
        assert_eq!(level("linux/amd64", 3).as_deref(), Some("x86-64-v3"));
        assert_eq!(level("linux/amd64", 1), None);
        assert_eq!(level("linux/amd64/v3", 3), None);
        assert_eq!(level("linux/amd64/v2", 4).as_deref(), Some("x86-64-v4"));
        assert_eq!(level("linux/arm64", 3), None);
    }
}
