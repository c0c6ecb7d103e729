//! Element types, declared once. The codes are those of `diffx_plugin.h`.

use std::fmt;

macro_rules! dtypes {
    ($($name:ident = $code:literal, $bytes:literal, $text:literal, $safetensors:literal;)*) => {
        /// An element type.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u32)]
        pub enum DType { $($name = $code,)* }

        impl DType {
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// Bytes of one element.
            pub const fn bytes(self) -> usize {
                match self { $(Self::$name => $bytes,)* }
            }

            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The spelling in a safetensors header.
            pub const fn safetensors_name(self) -> &'static str {
                match self { $(Self::$name => $safetensors,)* }
            }

            pub fn from_safetensors(name: &str) -> Option<Self> {
                match name { $($safetensors => Some(Self::$name),)* _ => None }
            }

            pub const fn from_code(code: u32) -> Option<Self> {
                match code { $($code => Some(Self::$name),)* _ => None }
            }
        }
    };
}

dtypes! {
    F32 = 1, 4, "f32", "F32";
    F16 = 2, 2, "f16", "F16";
    BF16 = 3, 2, "bf16", "BF16";
    I32 = 4, 4, "i32", "I32";
    I64 = 5, 8, "i64", "I64";
    U8 = 6, 1, "u8", "U8";
    F64 = 7, 8, "f64", "F64";
    Bool = 8, 1, "bool", "BOOL";
}

impl DType {
    pub const fn code(self) -> u32 {
        self as u32
    }

    pub const fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F16 | Self::BF16 | Self::F64)
    }

    /// f32 or f64: the types arithmetic runs in. f16 and bf16 are storage types, widened by `cast` and by matmul.
    pub const fn is_compute_float(self) -> bool {
        matches!(self, Self::F32 | Self::F64)
    }

    pub const fn is_index(self) -> bool {
        matches!(self, Self::I32 | Self::I64)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
