//! What is wrong with a text, and where.

use core::fmt;

/// One sentence and the column it is about, from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub column: usize,
    pub message: String,
}

impl Fault {
    /// About the byte `at` of `text`.
    pub(crate) fn new(text: &str, at: usize, message: impl Into<String>) -> Self {
        let before = text.char_indices().take_while(|(i, _)| *i < at).count();
        Self { column: before + 1, message: message.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "column {}: {}", self.column, self.message)
    }
}

impl core::error::Error for Fault {}
