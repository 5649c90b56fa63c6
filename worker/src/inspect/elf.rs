//! What an ELF file says of itself, from its headers alone.
//!
//! Read as Linux reads them: what the kernel refuses to run is broken here too. Nothing in a file is believed
//! before it was held against the file's length.

use std::borrow::Cow;
use std::ops::Range;

use object::Endianness;
use object::elf::{self, FileHeader32, FileHeader64};
use object::read::elf::{FileHeader, NoteIterator, ProgramHeader};

use super::seen::Seen;

/// The first bytes of every ELF file.
pub(super) const MAGIC: &[u8] = b"\x7fELF";
/// Linux takes no more.
const PROGRAM_HEADERS_BYTES: u64 = 64 * 1024;
/// Linux's `PATH_MAX`.
const LOADER_BYTES: u64 = 4096;
/// Real programs have two or three.
const NOTE_SEGMENTS: usize = 16;
/// The bits of [`elf::GNU_PROPERTY_X86_ISA_1_NEEDED`], from the lowest level.
const X86_LEVELS: u32 = 4;

/// The headers of an ELF file.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Elf {
    /// `e_machine`.
    pub(super) machine: u16,
    /// `ELFCLASS64` rather than `ELFCLASS32`.
    pub(super) is_64_bit: bool,
    /// `ELFDATA2MSB` rather than `ELFDATA2LSB`.
    pub(super) is_big_endian: bool,
    /// `EI_OSABI`.
    pub(super) os_abi: u8,
    /// `e_flags`: the ABI, on most machines.
    pub(super) flags: u32,
    /// `ET_EXEC` or `ET_DYN`: a kernel would load it.
    pub(super) is_program: bool,
    /// `PT_INTERP`.
    pub(super) loader: Loader,
    /// The level of x86-64 that its GNU property note needs; 0 where there is none.
    pub(super) x86_level: u8,
}

/// The dynamic loader that a program asks for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Loader {
    /// It is linked statically.
    None,
    /// At this path.
    Path(Box<[u8]>),
    /// It asks for one, but its name lay in a part of the file that had gone by.
    Unread,
}

/// Why a file's headers could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// They make no sense.
    Broken(Cow<'static, str>),
    /// This part of the file has to be seen first.
    Beyond(Range<u64>),
}

/// Reads the headers. `lenient`: do without a loader's name that was not seen.
pub(super) fn read(seen: &Seen, lenient: bool) -> Result<Elf, Unreadable> {
    let ident =
        object::ReadRef::read_bytes_at(seen, 0, 16).map_err(|()| broken("it ends within its header"))?;
    match ident[4] {
        1 => read_as::<FileHeader32<Endianness>>(seen, lenient),
        2 => read_as::<FileHeader64<Endianness>>(seen, lenient),
        class => Err(broken(format!("class {class} is neither 32 nor 64 bits"))),
    }
}

fn read_as<H: FileHeader<Endian = Endianness>>(seen: &Seen, lenient: bool) -> Result<Elf, Unreadable> {
    let header = H::parse(seen).map_err(|_| broken("its header is cut off or of no known version"))?;
    let endian = header.endian().map_err(|_| broken("its byte order is unknown"))?;
    let kind = header.e_type(endian);
    let mut read = Elf {
        machine: header.e_machine(endian).0,
        is_64_bit: header.is_class_64(),
        is_big_endian: header.is_big_endian(),
        os_abi: header.e_ident().os_abi.0,
        flags: header.e_flags(endian).0,
        is_program: kind == elf::ET_EXEC || kind == elf::ET_DYN,
        loader: Loader::None,
        x86_level: 0,
    };
    if !read.is_program {
        return Ok(read);
    }
    let (count, entry_bytes) = (header.e_phnum(endian), header.e_phentsize(endian));
    if count == 0 || header.e_phoff(endian).into() == 0 {
        return Err(broken("it has no program headers"));
    }
    let bytes = u64::from(count) * u64::from(entry_bytes);
    if count == 0xffff || bytes > PROGRAM_HEADERS_BYTES {
        return Err(broken(format!("it claims {count} program headers")));
    }
    let segments = header.program_headers(endian, seen).map_err(|_| {
        unseen(seen, "its program headers lie beyond its end, or have another size than its class")
    })?;
    for segment in segments.iter().filter(|segment| segment.p_type(endian) == elf::PT_LOAD) {
        let (offset, size) = segment.file_range(endian);
        // One that is all zeroes takes nothing from the file, wherever it says that it begins.
        if size > 0 && offset.checked_add(size).is_none_or(|end| end > seen.size()) {
            let end = u128::from(offset) + u128::from(size);
            return Err(broken(format!("it is cut off: {} bytes are there of at least {end}", seen.size())));
        }
    }
    read.loader = loader::<H>(segments, endian, seen, lenient)?;
    read.x86_level = x86_level::<H>(segments, endian, seen);
    Ok(read)
}

fn loader<H: FileHeader<Endian = Endianness>>(
    segments: &[H::ProgramHeader],
    endian: Endianness,
    seen: &Seen,
    lenient: bool,
) -> Result<Loader, Unreadable> {
    let Some(segment) = segments.iter().find(|segment| segment.p_type(endian) == elf::PT_INTERP) else {
        return Ok(Loader::None);
    };
    let (_, size) = segment.file_range(endian);
    if !(2..=LOADER_BYTES).contains(&size) {
        return Err(broken(format!("its loader's name claims {size} bytes")));
    }
    let Ok(bytes) = segment.data(endian, seen) else {
        return match unseen(seen, "its loader's name lies beyond its end") {
            Unreadable::Beyond(_) if lenient => Ok(Loader::Unread),
            other => Err(other),
        };
    };
    match bytes.split_last() {
        Some((0, name)) => {
            let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
            Ok(Loader::Path(name.into()))
        }
        _ => Err(broken("its loader's name does not end")),
    }
}

/// Best effort: what cannot be read asks for nothing.
fn x86_level<H: FileHeader<Endian = Endianness>>(
    segments: &[H::ProgramHeader],
    endian: Endianness,
    seen: &Seen,
) -> u8 {
    let notes = segments.iter().filter(|segment| segment.p_type(endian) == elf::PT_NOTE);
    let level = notes.take(NOTE_SEGMENTS).filter_map(|segment| {
        let data = segment.data(endian, seen).ok()?;
        let notes = NoteIterator::<H>::new(endian, segment.p_align(endian), data).ok()?;
        let properties = notes.flatten().filter_map(|note| note.gnu_properties(endian));
        let needed = properties.flat_map(Iterator::flatten).filter_map(|property| {
            let needed = property.pr_type() == elf::GNU_PROPERTY_X86_ISA_1_NEEDED;
            needed.then(|| property.data_u32(endian).unwrap_or_default())
        });
        needed.map(level_of).max()
    });
    let level = level.max().unwrap_or_default();
    seen.take_wanted();
    level
}

/// The highest of the known levels in this mask.
fn level_of(mask: u32) -> u8 {
    let known = mask & ((1 << X86_LEVELS) - 1);
    u8::try_from(u32::BITS - known.leading_zeros()).unwrap_or_default()
}

fn broken(why: impl Into<Cow<'static, str>>) -> Unreadable {
    Unreadable::Broken(why.into())
}

fn unseen(seen: &Seen, why: &'static str) -> Unreadable {
    seen.take_wanted().map_or_else(|| broken(why), Unreadable::Beyond)
}
