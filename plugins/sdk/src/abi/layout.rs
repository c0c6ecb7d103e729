//! The layout of the mirrors as data, and its hash: what a plugin and a host compare before they trust each other.
//!
//! The rule, which every language can follow: for each struct of `diffx_plugin.h` in the order of the header and each
//! field in order, one line `struct.field:offset:size\n` in ASCII with decimal numbers; the hash is 32-bit FNV-1a over
//! the lines, taken where pointers have 64 bits. Signedness and pointer targets are not seen by it.

/// One field of a struct.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    pub name: &'static str,
    pub offset: usize,
    pub size: usize,
}

/// One struct, under its C name.
#[derive(Debug, Clone, Copy)]
pub struct Struct {
    pub name: &'static str,
    pub size: usize,
    pub fields: &'static [Field],
}

/// The hash of a table of structs.
pub const fn hash(structs: &[Struct]) -> u32 {
    let mut h = 0x811c_9dc5;
    let mut i = 0;
    while i < structs.len() {
        let s = &structs[i];
        let mut k = 0;
        while k < s.fields.len() {
            let f = &s.fields[k];
            h = text(h, s.name.as_bytes(), 0);
            h = byte(h, b'.');
            h = text(h, f.name.as_bytes(), raw_prefix(f.name.as_bytes()));
            h = byte(h, b':');
            h = decimal(h, f.offset);
            h = byte(h, b':');
            h = decimal(h, f.size);
            h = byte(h, b'\n');
            k += 1;
        }
        i += 1;
    }
    h
}

/// The lines that are hashed.
pub fn lines(structs: &[Struct]) -> String {
    let mut out = String::new();
    for s in structs {
        for f in s.fields {
            let name = f.name.trim_start_matches("r#");
            out.push_str(&format!("{}.{name}:{}:{}\n", s.name, f.offset, f.size));
        }
    }
    out
}

const fn byte(h: u32, b: u8) -> u32 {
    (h ^ b as u32).wrapping_mul(0x0100_0193)
}

const fn text(mut h: u32, bytes: &[u8], from: usize) -> u32 {
    let mut i = from;
    while i < bytes.len() {
        h = byte(h, bytes[i]);
        i += 1;
    }
    h
}

/// Rust writes the field `in` as `r#in`.
const fn raw_prefix(name: &[u8]) -> usize {
    if name.len() > 2 && name[0] == b'r' && name[1] == b'#' { 2 } else { 0 }
}

const fn decimal(h: u32, n: usize) -> u32 {
    let h = if n >= 10 { decimal(h, n / 10) } else { h };
    byte(h, b'0' + (n % 10) as u8)
}
