//! What a plugin answers when it cannot: a status and one sentence with the offending value and the expected one.

use crate::abi;
use core::fmt;

/// A failure, as the host will report it with the plugin's and factory's id in front.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    pub status: abi::Status,
    pub message: String,
}

/// Bytes of a message without its final NUL.
const CAPACITY: usize = 495;

pub type Result<T> = core::result::Result<T, Error>;

impl Error {
    pub fn new(status: abi::Status, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    /// A bad argument or configuration value.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(abi::E_INVALID, message)
    }

    /// Malformed configuration.
    pub fn format(message: impl Into<String>) -> Self {
        Self::new(abi::E_FORMAT, message)
    }

    /// A fault of the plugin itself.
    pub fn plugin(message: impl Into<String>) -> Self {
        Self::new(abi::E_PLUGIN, message)
    }

    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(abi::E_UNSUPPORTED, message)
    }

    /// Writes the error where the caller asked for it; `out` may be null.
    ///
    /// # Safety
    /// `out` is null or points to a `dfx_error` whose first `struct_size` bytes may be written.
    pub(crate) unsafe fn write(&self, out: *mut abi::Error) {
        if out.is_null() {
            return;
        }
        // Safety: not null, so by the caller's promise a dfx_error; struct_size is its first field.
        let room = unsafe { (*out).struct_size } as usize;
        if room < size_of::<abi::Error>() {
            return;
        }
        let mut length = self.message.len().min(CAPACITY);
        while !self.message.is_char_boundary(length) {
            length -= 1;
        }
        // Safety: the struct is whole (room), and `length` is below the size of the message array.
        unsafe {
            (*out).status = self.status;
            (*out).message_len = length as u32;
            let message = (&raw mut (*out).message).cast::<u8>();
            core::ptr::copy_nonoverlapping(self.message.as_ptr(), message, length);
            *message.add(length) = 0;
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (status {})", self.message, self.status)
    }
}

impl std::error::Error for Error {}
