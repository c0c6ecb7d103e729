//! Where every field lies on each target we promise, from its data model: all our fields are fixed-width numbers,
//! pointers, and structs of those, so a pointer's size and two alignments tell it all. Compilers are asked whether that
//! is so, in `compilers.rs`.

use crate::reader::{Interface, Struct};
use std::fmt::Write as _;

#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) name: &'static str,
    /// What clang calls it.
    pub(crate) triple: &'static str,
    pub(crate) pointer: u64,
    /// Of 64-bit integers and of doubles.
    pub(crate) align_of_8: u64,
}

pub(crate) const TARGETS: &[Target] = &[
    Target { name: "x86_64-linux", triple: "x86_64-unknown-linux-gnu", pointer: 8, align_of_8: 8 },
    Target {
        name: "aarch64-linux",
        triple: "aarch64-unknown-linux-gnu",
        pointer: 8,
        align_of_8: 8,
    },
    Target {
        name: "riscv64-linux",
        triple: "riscv64-unknown-linux-gnu",
        pointer: 8,
        align_of_8: 8,
    },
    Target {
        name: "armv7-linux",
        triple: "armv7-unknown-linux-gnueabihf",
        pointer: 4,
        align_of_8: 8,
    },
    Target { name: "i686-linux", triple: "i686-unknown-linux-gnu", pointer: 4, align_of_8: 4 },
    Target { name: "wasm32", triple: "wasm32-unknown-unknown", pointer: 4, align_of_8: 8 },
    Target { name: "x86_64-windows", triple: "x86_64-pc-windows-msvc", pointer: 8, align_of_8: 8 },
    Target { name: "i686-windows", triple: "i686-pc-windows-msvc", pointer: 4, align_of_8: 8 },
];

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Extent {
    pub(crate) size: u64,
    pub(crate) align: u64,
}

#[derive(Debug, PartialEq)]
pub(crate) struct Placed {
    pub(crate) offsets: Vec<(u64, u64)>,
    pub(crate) whole: Extent,
}

pub(crate) fn place(s: &Struct, all: &Interface, target: &Target) -> Placed {
    let (mut at, mut align, mut offsets) = (0, 1, Vec::new());
    for field in &s.fields {
        let one = extent(&field.ty, all, target);
        at = u64::next_multiple_of(at, one.align);
        offsets.push((at, one.size * field.count));
        at += one.size * field.count;
        align = align.max(one.align);
    }
    Placed { offsets, whole: Extent { size: at.next_multiple_of(align), align } }
}

fn extent(ty: &str, all: &Interface, target: &Target) -> Extent {
    if ty.ends_with('*') || ty.ends_with(')') {
        return Extent { size: target.pointer, align: target.pointer };
    }
    let ty = ty.trim_start_matches("const ").trim_start_matches("struct ");
    let (size, align) = match ty {
        "char" | "int8_t" | "uint8_t" => (1, 1),
        "int16_t" | "uint16_t" => (2, 2),
        "int32_t" | "uint32_t" | "float" => (4, 4),
        "int64_t" | "uint64_t" | "double" => (8, target.align_of_8),
        "size_t" => (target.pointer, target.pointer),
        _ => match (all.structure(ty), all.types.get(ty)) {
            (Some(s), _) => return place(s, all, target).whole,
            (None, Some(under)) => return extent(under, all, target),
            (None, None) => panic!("{ty} is none of the types the ABI may use"),
        },
    };
    Extent { size, align }
}

/// One line per field and one per struct: what a snapshot holds.
pub(crate) fn lines(all: &Interface, target: &Target) -> String {
    let mut out = String::new();
    for s in &all.structs {
        let placed = place(s, all, target);
        for (field, (offset, size)) in s.fields.iter().zip(&placed.offsets) {
            writeln!(out, "{}.{} {offset} {size}", s.name, field.name).unwrap();
        }
        writeln!(out, "{} size {} align {}", s.name, placed.whole.size, placed.whole.align)
            .unwrap();
    }
    out
}

/// What does not depend on the target.
pub(crate) fn interface(all: &Interface) -> String {
    let mut out = String::new();
    for (name, value) in &all.constants {
        writeln!(out, "constant {name} {value}").unwrap();
    }
    for (name, ways) in &all.macros {
        writeln!(out, "macro {name} {ways}").unwrap();
    }
    for (name, ty) in &all.types {
        writeln!(out, "type {name} {ty}").unwrap();
    }
    for (name, signature) in &all.functions {
        writeln!(out, "function {name} {signature}").unwrap();
    }
    for s in &all.structs {
        writeln!(out, "struct {} {}", s.name, if s.grows { "grows" } else { "frozen" }).unwrap();
        for f in &s.fields {
            writeln!(out, "field {}.{} {} [{}]", s.name, f.name, f.ty, f.count).unwrap();
        }
    }
    out
}
