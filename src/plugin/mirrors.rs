//! With the feature `layout-check`: the mirrors a loaded plugin was built with, against those of the SDK of this build,
//! field by field. The layout hash sees offsets and sizes; this sees signedness, pointer targets and function types too.
//! A plugin that describes no mirrors (C, C++, Rust without the feature) has passed with the hash.

use crate::bail;
use crate::base::Result;
use abi_stable::library::{LibraryError, lib_header_from_path};
use diffx_plugin::layout_check::MirrorsRef;
use std::path::Path;

/// A report of abi_stable has tens of kilobytes.
const MOST_CHARS: usize = 300;

/// `name` is the one under which the linker holds the library already, so nothing new is loaded. True: compared and
/// equal; false: the library describes none.
pub(super) fn compare(name: &Path) -> Result<bool> {
    let header = match lib_header_from_path(name) {
        Ok(header) => header,
        Err(LibraryError::GetSymbolError { .. }) => return Ok(false),
        Err(e) => bail!(Version, "its mirrors cannot be compared: {}", essence(&e.to_string())),
    };
    match header.ensure_layout::<MirrorsRef>() {
        Ok(()) => Ok(true),
        Err(e) => bail!(Version, "built with other mirrors: {}", essence(&e.to_string())),
    }
}

/// One sentence of a report of many pages: what is wrong and in which fields, outermost first.
fn essence(report: &str) -> String {
    let (pages, error) = report.rsplit_once("\nError:").unwrap_or(("", report));
    let stack = pages.rsplit_once("inside:").map_or("", |(_, last)| last);
    let stack = stack.split_once("\nLayout of").map_or(stack, |(stack, _)| stack);
    let fields = stack.lines().filter_map(|l| l.trim().strip_prefix("field_name:"));
    // a pointer's target has the field name "0", an unnamed argument ","
    let place: Vec<&str> = fields.filter(|f| !matches!(*f, "0" | ",")).collect();
    let words: Vec<&str> = error.split_whitespace().collect();
    format!("{}: {}", place.join("."), words.join(" ")).chars().take(MOST_CHARS).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_report_becomes_a_sentence() {
        let report = "Compared <this>:\n 1 error(s)inside:\n <other>\n\n field_name:every\n type:F\n\n \
            field_name:0\n type:Plan\n\n field_name:reserved\n type:i32\n\nLayout of expected type:\n \
            field_name:x\n\nError:mismatched type\nExpected:\n    u32\nFound:\n    i32\n\n";
        let sentence = "every.reserved: mismatched type Expected: u32 Found: i32";
        assert_eq!(super::essence(report), sentence);
        assert_eq!(super::essence("no such\nform"), ": no such form");
        assert_eq!(super::essence(""), ": ");
    }
}
