//! Calls of the host's functions. An exception of another language may not pass through our frames, and Rust does not
//! define what catching one gives: the process may end (as it does today) or go on. So nothing is caught: who throws
//! through a callback ends the process at once, with words, before anything of ours is unwound. `diffx.h` forbids it, and
//! in C++17 the types of its callbacks say so.
//!
//! The functions are typed `C-unwind`: that makes arriving here with an exception defined at all.

/// Calls a function of the host; `what` names it if it throws.
pub fn call<R>(what: &'static str, function: impl FnOnce() -> R) -> R {
    let end = End(what);
    let out = function();
    std::mem::forget(end);
    out
}

/// Dropped only when the function is left by unwinding.
struct End(&'static str);

impl Drop for End {
    fn drop(&mut self) {
        use std::io::Write;
        let words = "left by an exception, or by the end of its thread: diffx.h forbids it";
        let _ = writeln!(std::io::stderr(), "diffx: the host's {} was {words}", self.0);
        std::process::abort();
    }
}
