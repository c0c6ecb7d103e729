//! A look at the headers of a shared library before the linker maps it: the right machine, every segment inside the
//! file, and the descriptor among its symbols, so that a file that is no plugin never runs its constructors.

use super::abi;
use crate::bail;
use crate::base::Result;

const HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;
const SECTION_HEADER: usize = 64;
const SYMBOL: usize = 24;
const DYNSYM: u32 = 11;

/// `e_machine` of the machine we run on.
const MACHINE: Option<u16> = if cfg!(target_arch = "x86_64") {
    Some(62)
} else if cfg!(target_arch = "aarch64") {
    Some(183)
} else if cfg!(target_arch = "riscv64") {
    Some(243)
} else {
    None
};

/// Whether the linker may see these bytes.
pub fn check(file: &[u8]) -> Result<()> {
    let Some(header) = file.get(..HEADER).filter(|h| h.starts_with(b"\x7fELF")) else {
        bail!(Format, "is no shared library: {} bytes without an ELF header", file.len());
    };
    let little = if cfg!(target_endian = "little") { 1 } else { 2 };
    if header[4] != 2 || header[5] != little || header[6] != 1 {
        bail!(
            Format,
            "is no 64-bit ELF file of this byte order (class {}, data {})",
            header[4],
            header[5]
        );
    }
    let elf = Elf(file);
    let (kind, machine) = (elf.u16(16)?, elf.u16(18)?);
    if kind != 3 {
        bail!(Format, "is no shared library: ELF type {kind}, want 3");
    }
    if MACHINE.is_some_and(|m| m != machine) {
        bail!(
            Format,
            "is built for the ELF machine {machine}, this one is {}",
            MACHINE.unwrap_or(0)
        );
    }
    segments(&elf)?;
    symbols(&elf)
}

/// Every program header and every byte it maps from the file is there.
fn segments(elf: &Elf<'_>) -> Result<()> {
    let (table, size, n) = (elf.u64(32)?, elf.u16(54)?, elf.u16(56)?);
    if usize::from(size) != PROGRAM_HEADER || n == 0 {
        bail!(Format, "has {n} program headers of {size} bytes, want some of {PROGRAM_HEADER}");
    }
    for i in 0..u64::from(n) {
        let at = elf.place(table, i * PROGRAM_HEADER as u64, PROGRAM_HEADER)?;
        let (offset, in_file, in_memory) = (elf.u64(at + 8)?, elf.u64(at + 32)?, elf.u64(at + 40)?);
        let end = offset.checked_add(in_file);
        if end.is_none_or(|end| end > elf.0.len() as u64) {
            bail!(
                Format,
                "is cut off: segment {i} has {in_file} bytes at {offset}, the file has {}",
                elf.0.len()
            );
        }
        if elf.u32(at)? == 1 && in_memory < in_file {
            bail!(Format, "segment {i} has {in_file} bytes for {in_memory} in memory");
        }
    }
    Ok(())
}

/// The descriptor is exported as data of at least the size of this ABI. A file without section headers is left to the
/// linker.
fn symbols(elf: &Elf<'_>) -> Result<()> {
    let (table, size, n) = (elf.u64(40)?, elf.u16(58)?, elf.u16(60)?);
    if table == 0 || n == 0 {
        return Ok(());
    }
    if usize::from(size) != SECTION_HEADER {
        bail!(Format, "has section headers of {size} bytes, want {SECTION_HEADER}");
    }
    elf.place(table, 0, usize::from(n) * SECTION_HEADER)?;
    let section = |i: u64| elf.place(table, i * SECTION_HEADER as u64, SECTION_HEADER);
    let want = abi::PLUGIN_SYMBOL.to_bytes_with_nul();
    for i in 0..u64::from(n) {
        let at = section(i)?;
        if elf.u32(at + 4)? != DYNSYM {
            continue;
        }
        let (offset, bytes, link) = (elf.u64(at + 24)?, elf.u64(at + 32)?, elf.u32(at + 40)?);
        if u64::from(link) >= u64::from(n) {
            bail!(Format, "its symbols name section {link} of {n}");
        }
        let strings = elf.u64(section(u64::from(link))? + 24)?;
        for s in 0..bytes / SYMBOL as u64 {
            let at = elf.place(offset, s * SYMBOL as u64, SYMBOL)?;
            let name = elf.place(strings, u64::from(elf.u32(at)?), 0)?;
            if !elf.0.get(name..).is_some_and(|n| n.starts_with(want)) || elf.u16(at + 6)? == 0 {
                continue;
            }
            let found = elf.u64(at + 16)?;
            if found != 0 && found < size_of::<abi::Plugin>() as u64 {
                bail!(
                    Format,
                    "its descriptor has {found} bytes, want at least {}",
                    size_of::<abi::Plugin>()
                );
            }
            return Ok(());
        }
        bail!(
            Format,
            "has no symbol {}: it is no plugin of ABI 0",
            abi::PLUGIN_SYMBOL.to_string_lossy()
        );
    }
    Ok(())
}

/// Numbers at places of the file; a place outside it is an error.
struct Elf<'f>(&'f [u8]);

impl Elf<'_> {
    fn bytes<const N: usize>(&self, at: usize) -> Result<[u8; N]> {
        let Some(bytes) = self.0.get(at..).and_then(|b| b.first_chunk::<N>()) else {
            bail!(Format, "is cut off: want {N} bytes at {at}, the file has {}", self.0.len());
        };
        Ok(*bytes)
    }

    fn u16(&self, at: usize) -> Result<u16> {
        Ok(u16::from_ne_bytes(self.bytes(at)?))
    }

    fn u32(&self, at: usize) -> Result<u32> {
        Ok(u32::from_ne_bytes(self.bytes(at)?))
    }

    fn u64(&self, at: usize) -> Result<u64> {
        Ok(u64::from_ne_bytes(self.bytes(at)?))
    }

    /// Where `offset` bytes after `start` lie, with `len` bytes of the file behind it.
    fn place(&self, start: u64, offset: u64, len: usize) -> Result<usize> {
        let at = start.checked_add(offset).and_then(|at| usize::try_from(at).ok());
        match at {
            Some(at) if at.checked_add(len).is_some_and(|end| end <= self.0.len()) => Ok(at),
            _ => bail!(
                Format,
                "is cut off: want {len} bytes at {start} + {offset}, the file has {}",
                self.0.len()
            ),
        }
    }
}
