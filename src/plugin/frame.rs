//! Which build call is running on this thread. The `dfx_graph *` a plugin holds is a token that is never followed: it
//! is compared with the innermost running call, so a handle kept after its call, used on another thread, or used while
//! an inner call runs is refused, whatever it points to.
//!
//! The stack of running calls is the one piece of thread-local state in the engine: a C function pointer has no other
//! way to tell a live handle from a dead one without following it.

use super::abi;
use crate::base::{Error, Result};
use crate::fail;
use crate::graph::NodeId;
use crate::sample::Build;
use std::cell::{Cell, RefCell};
use std::ffi::{CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

thread_local! {
    static INNERMOST: Cell<*const Frame> = const { Cell::new(ptr::null()) };
}

/// Tokens handed out so far; steps of 16 look like aligned addresses. No token is ever 0 or given twice.
static TOKENS: AtomicUsize = AtomicUsize::new(16);

/// What a plugin may ask of the host in a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Models and processes: they describe themselves and never look at what is around them.
    Leaf,
    /// Samplers, guidance, objectives: they may ask for denoisers, networks and processes.
    Composer,
}

/// One running build call.
pub(super) struct Frame {
    token: usize,
    build: *mut Build<'static>,
    role: Role,
    /// Scopes at or below this depth belong to the callers.
    pub(super) floor: usize,
    /// A failure below a service that also broke the graph: what the whole call will fail with.
    fatal: RefCell<Option<Error>>,
    /// The newest failure of a service that left the graph whole: the call fails with it if it uses its results.
    pending: RefCell<Option<Error>>,
    /// Strings given to the plugin, which may hold them until its call ends.
    strings: RefCell<Vec<CString>>,
}

/// What the call left besides its status.
pub(super) struct Left {
    pub(super) fatal: Option<Error>,
    pub(super) pending: Option<Error>,
}

/// Calls a plugin with a handle to `b`.
pub(super) fn call<R>(
    b: &mut Build<'_>,
    role: Role,
    plugin: impl FnOnce(*mut abi::Graph) -> R,
) -> (R, Left) {
    struct Leave(*const Frame);
    impl Drop for Leave {
        fn drop(&mut self) {
            INNERMOST.set(self.0);
        }
    }
    let outer = INNERMOST.get();
    let frame = Frame {
        token: TOKENS.fetch_add(16, Ordering::Relaxed),
        floor: b.graph.scope_depth(),
        build: ptr::from_mut(b).cast(),
        role,
        fatal: RefCell::default(),
        pending: RefCell::default(),
        strings: RefCell::default(),
    };
    let out = {
        let _leave = Leave(outer);
        INNERMOST.set(&raw const frame);
        plugin(ptr::without_provenance_mut(frame.token))
    };
    (out, Left { fatal: frame.fatal.into_inner(), pending: frame.pending.into_inner() })
}

/// Runs the body of a graph function. Failures and panics are sticky in the graph, and `refused` is returned.
pub(super) fn graph<R: Copy>(
    g: *mut abi::Graph,
    refused: R,
    body: impl FnOnce(&Frame, &mut Build<'_>) -> Result<R>,
) -> R {
    let Some((frame, b)) = innermost(g) else { return refused };
    match catch_unwind(AssertUnwindSafe(|| body(frame, b))) {
        Ok(Ok(out)) => out,
        Ok(Err(e)) => {
            b.graph.fail(e);
            refused
        }
        Err(panic) => {
            std::mem::forget(panic); // dropping a payload may panic again
            b.graph.fail(fail!(Internal, "a graph call panicked; this is a bug in diffx"));
            refused
        }
    }
}

/// Runs the body of a service. A failure is the status, and is remembered: a call that goes on with the missing result
/// fails with it, a call that does without is fine.
pub(super) fn service(
    g: *mut abi::Graph,
    body: impl FnOnce(&Frame, &mut Build<'_>) -> Result<()>,
) -> i32 {
    let Some((frame, b)) = innermost(g) else { return crate::base::Status::State.code() };
    let outcome = catch_unwind(AssertUnwindSafe(|| body(frame, b))).unwrap_or_else(|panic| {
        std::mem::forget(panic);
        let e = fail!(Internal, "a service of the build panicked; this is a bug in diffx");
        b.graph.fail(e.clone());
        Err(e)
    });
    match outcome {
        Ok(()) => abi::OK,
        Err(e) => {
            let status = e.status.code();
            frame.remember(e, b.graph.has_failed());
            status
        }
    }
}

impl Frame {
    /// Whether this call may ask for what is around it.
    pub(super) fn composes(&self, what: &str) -> Result<()> {
        if self.role == Role::Leaf {
            crate::bail!(State, "{what}: models and processes may not ask for it");
        }
        Ok(())
    }

    /// The failure behind an error node that a failed service left.
    pub(super) fn blame(&self, inputs: &[NodeId]) -> Result<()> {
        if inputs.contains(&NodeId::ERROR)
            && let Some(e) = self.pending.borrow_mut().take()
        {
            return Err(e);
        }
        Ok(())
    }

    /// A string that lives until the call ends.
    pub(super) fn keep(&self, text: &str) -> Result<*const c_char> {
        let text = CString::new(text)
            .map_err(|_| fail!(Invalid, "name {text:?} has a NUL and cannot cross the border"))?;
        let mut strings = self.strings.borrow_mut();
        if let Some(same) = strings.iter().find(|s| **s == text) {
            return Ok(same.as_ptr());
        }
        let p = text.as_ptr(); // the heap block stays where it is when the vector grows
        strings.push(text);
        Ok(p)
    }

    fn remember(&self, e: Error, broken: bool) {
        if broken {
            self.fatal.borrow_mut().get_or_insert(e);
        } else {
            *self.pending.borrow_mut() = Some(e);
        }
    }
}

/// The innermost running call, if `g` is its handle. The wrong handle breaks the graph being built, so that it is seen.
fn innermost<'x>(g: *mut abi::Graph) -> Option<(&'x Frame, &'x mut Build<'x>)> {
    let top = INNERMOST.get();
    if top.is_null() {
        return None; // kept after its call, or another thread
    }
    // Safety: `call` keeps the frame alive while it is innermost, and only this thread sees it.
    let frame = unsafe { &*top };
    // Safety: `call` has the only live reference to this build and does not touch it while the plugin runs; a nested
    // call makes its own frame innermost, so no second reference is made from this one until it is done.
    let b: &mut Build<'x> = unsafe { &mut *frame.build.cast() };
    if g.addr() != frame.token {
        b.graph
            .fail(fail!(State, "a graph handle was used outside the build call it was given to"));
        return None;
    }
    Some((frame, b))
}
