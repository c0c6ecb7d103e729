//! Where each field of each mirror lies, and the hash taken over it.

/// One field of a mirror.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    name: &'static str,
    pub offset: usize,
    pub size: usize,
}

/// One mirror: its name in the header and its fields.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    pub name: &'static str,
    pub fields: &'static [Field],
}

impl Field {
    pub const fn new(name: &'static str, offset: usize, size: usize) -> Self {
        Self { name, offset, size }
    }

    /// The name in C: `in` is a keyword of Rust and stands in the mirror as `r#in`.
    pub fn name(&self) -> &'static str {
        self.name.strip_prefix("r#").unwrap_or(self.name)
    }
}

/// `struct.field:offset:size`, one line per field.
pub fn lines(structs: &[&[Layout]]) -> Vec<String> {
    let line = |l: &Layout, f: &Field| format!("{}.{}:{}:{}", l.name, f.name(), f.offset, f.size);
    structs
        .iter()
        .copied()
        .flatten()
        .flat_map(|l| l.fields.iter().map(move |f| line(l, f)))
        .collect()
}

/// The layout hash: 32-bit FNV-1a over [`lines`], each ended by a newline. Constant, so that a mirror that drifts from
/// the header does not compile.
pub const fn hash(structs: &[&[Layout]]) -> u32 {
    let mut h = 0x811c_9dc5;
    let mut group = 0;
    while group < structs.len() {
        let mut s = 0;
        while s < structs[group].len() {
            let layout = &structs[group][s];
            let mut f = 0;
            while f < layout.fields.len() {
                let field = &layout.fields[f];
                h = text(h, layout.name);
                h = byte(h, b'.');
                h = text(h, field.name);
                h = byte(h, b':');
                h = decimal(h, field.offset);
                h = byte(h, b':');
                h = decimal(h, field.size);
                h = byte(h, b'\n');
                f += 1;
            }
            s += 1;
        }
        group += 1;
    }
    h
}

const fn byte(h: u32, b: u8) -> u32 {
    (h ^ b as u32).wrapping_mul(0x0100_0193)
}

const fn text(mut h: u32, s: &str) -> u32 {
    let s = s.as_bytes();
    let mut i = if s.len() > 2 && s[0] == b'r' && s[1] == b'#' { 2 } else { 0 };
    while i < s.len() {
        h = byte(h, s[i]);
        i += 1;
    }
    h
}

const fn decimal(mut h: u32, n: usize) -> u32 {
    let mut unit = 1;
    while n / unit >= 10 {
        unit *= 10;
    }
    while unit > 0 {
        h = byte(h, b'0' + (n / unit % 10) as u8);
        unit /= 10;
    }
    h
}

/// Declares mirrors and, beside them, the table of where their fields lie.
macro_rules! mirrors {
    ($table:ident $($c_name:literal $name:ident { $($field:ident: $ty:ty,)* })*) => {
        $(
            #[doc = concat!("`", $c_name, "`")]
            #[repr(C)]
            #[derive(Clone, Copy)]
            pub struct $name { $(pub $field: $ty,)* }
        )*

        /// Where the fields of these structs lie.
        pub const $table: &[$crate::plugin::abi::Layout] = &[$($crate::plugin::abi::Layout {
            name: $c_name,
            fields: &[$($crate::plugin::abi::Field::new(
                stringify!($field),
                std::mem::offset_of!($name, $field),
                size_of::<$ty>(),
            ),)*],
        },)*];
    };
}
pub(super) use mirrors;
