//! One error type for the whole engine: a status code of `diffx.h` and one sentence with the offending value.

use std::fmt;

/// Status codes of the C API (`DFX_E_*`), declared once.
macro_rules! statuses {
    ($($name:ident = $code:literal, $c_name:literal, $meaning:literal;)*) => {
        /// A failure code of the C API.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(i32)]
        pub enum Status { $(#[doc = $meaning] $name = $code,)* }

        impl Status {
            /// Every status, in the order of the header.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The name in `diffx.h`.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $c_name,)* }
            }

            /// The status of a code that came over the border, if it is one we know.
            pub fn from_code(code: i32) -> Option<Self> {
                match code { $($code => Some(Self::$name),)* _ => None }
            }
        }
    };
}

statuses! {
    Invalid = -1, "DFX_E_INVALID", "bad argument: a bug in the caller";
    State = -2, "DFX_E_STATE", "right call, wrong time";
    NotFound = -3, "DFX_E_NOT_FOUND", "no such file, id, name or tensor";
    NoMemory = -4, "DFX_E_NO_MEMORY", "host or device memory, or the cap the host set";
    Io = -5, "DFX_E_IO", "the system refused to read or write";
    Format = -6, "DFX_E_FORMAT", "malformed file, config or plugin";
    Unsupported = -7, "DFX_E_UNSUPPORTED", "op, dtype, device or option not available";
    Version = -8, "DFX_E_VERSION", "ABI or file version skew";
    Cancelled = -9, "DFX_E_CANCELLED", "the host cancelled the job";
    Denied = -10, "DFX_E_DENIED", "trust policy refused";
    Device = -11, "DFX_E_DEVICE", "driver or kernel failure";
    Plugin = -12, "DFX_E_PLUGIN", "a plugin broke its contract or panicked";
    Internal = -13, "DFX_E_INTERNAL", "a bug in diffx; the engine is poisoned";
}

impl Status {
    /// The number that crosses the border.
    pub fn code(self) -> i32 {
        self as i32
    }
}

/// A status and one clear sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    pub status: Status,
    /// 0 = the engine, else the number of the plugin at fault.
    pub source: u32,
    pub message: String,
}

impl Error {
    pub fn new(status: Status, message: impl Into<String>) -> Self {
        Self { status, source: 0, message: message.into() }
    }

    /// Puts `what: ` before the message, so that the reader sees the path to the fault.
    #[must_use]
    pub fn within(mut self, what: impl fmt::Display) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

pub type Result<T> = std::result::Result<T, Error>;

/// `bail!(Format, "weight {name}: want {want}, file has {found}")` returns the error.
#[macro_export]
#[doc(hidden)]
macro_rules! bail {
    ($status:ident, $($fmt:tt)*) => {
        return Err($crate::base::Error::new($crate::base::Status::$status, format!($($fmt)*)))
    };
}

/// `fail!(Format, "...")` is the error as a value.
#[macro_export]
#[doc(hidden)]
macro_rules! fail {
    ($status:ident, $($fmt:tt)*) => {
        $crate::base::Error::new($crate::base::Status::$status, format!($($fmt)*))
    };
}
