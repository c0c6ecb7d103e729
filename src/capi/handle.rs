//! What an opaque pointer of the header points to: a value behind a word that says what it is.
//!
//! A call borrows the object by counting itself in, so that a callback inside the call may release it: it goes when the
//! call returns. Where debug assertions are on, the places of the last objects that went stay, empty, so that a pointer
//! to one is refused for sure.

use super::guard::quiet;
use crate::base::Result;
use crate::engine::{Engine, Hold};
use crate::fail;
use std::ffi::CString;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A kind of object.
pub trait Object {
    const MAGIC: u64;
    const NAME: &'static str;

    /// The engine that goes on while the object is there; none for what is only memory.
    fn engine(&self) -> Option<&Arc<Engine>>;
}

/// The object behind a pointer.
#[repr(C)] // the magic word first, so that a pointer of another kind is told by its first bytes
pub struct Handle<T> {
    magic: AtomicU64,
    /// How often it is held: once by who made it, more for tensors that are shared and while calls use it.
    count: AtomicUsize,
    pub(super) value: T,
    strings: Mutex<Vec<CString>>,
    /// The last field: it goes when nothing else of the object is left.
    _hold: Option<Hold>,
}

impl<T: Object> Handle<T> {
    /// A pointer for the host.
    pub(super) fn make(value: T) -> *mut Self {
        place::take(Self {
            magic: AtomicU64::new(T::MAGIC),
            count: AtomicUsize::new(1),
            _hold: value.engine().map(Hold::new),
            value,
            strings: Mutex::new(Vec::new()),
        })
    }

    /// The object for the time of a call, if the pointer is one of ours. A pointer that was released is a bug of the
    /// host that can be caught only by luck.
    ///
    /// # Safety
    /// `p` must be null or come from [`Handle::make`] and not be released.
    pub(super) unsafe fn get(p: *const Self) -> Result<Lent<T>> {
        // Safety: as the caller promised.
        unsafe { Self::look(p) }?.retain();
        Ok(Lent(p))
    }

    /// # Safety
    /// As [`Handle::get`].
    unsafe fn look<'a>(p: *const Self) -> Result<&'a Self> {
        if p.is_null() || !p.is_aligned() {
            return Err(fail!(Invalid, "{}: the pointer is {p:p}", T::NAME));
        }
        // Safety: as the caller promised. The word alone first: behind another one there may be nothing more.
        let magic = unsafe { &*p.cast::<AtomicU64>() };
        if magic.load(Ordering::Relaxed) != T::MAGIC {
            return Err(fail!(Invalid, "{p:p} is no {}, or it was released", T::NAME));
        }
        // Safety: as the caller promised.
        Ok(unsafe { &*p })
    }

    /// One more holder.
    pub(super) fn retain(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// One holder less; the last one frees it. Null is fine, and so is anything that is not ours: it is left alone.
    ///
    /// # Safety
    /// As [`Handle::get`]; the pointer is not used again by this holder.
    pub(super) unsafe fn release(p: *const Self) {
        // Safety: as the caller promised.
        let Ok(handle) = (unsafe { Self::look(p) }) else { return };
        if handle.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            handle.magic.store(0, Ordering::Relaxed);
            // Safety: from `make`, and nobody holds it any more.
            unsafe { place::give(p.cast_mut()) };
        }
    }

    /// A string that lives as long as the object. The same text is kept once.
    pub(super) fn keep(&self, text: String) -> *const std::ffi::c_char {
        let text = CString::new(text).unwrap_or_default(); // JSON has no NUL
        let mut strings = self.strings.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = strings.iter().find(|s| **s == text) {
            return known.as_ptr();
        }
        let p = text.as_ptr(); // the text itself does not move with the CString
        strings.push(text);
        p
    }

    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.strings.lock().unwrap().len()
    }
}

/// An object in use by a call.
pub(super) struct Lent<T: Object>(*const Handle<T>);

impl<T: Object> Deref for Lent<T> {
    type Target = Handle<T>;

    fn deref(&self) -> &Handle<T> {
        // Safety: `get` looked at it and counted this value in.
        unsafe { &*self.0 }
    }
}

impl<T: Object> Drop for Lent<T> {
    fn drop(&mut self) {
        // Safety: as in `deref`; this is the end of what `get` counted.
        quiet((), || unsafe { Handle::release(self.0) });
    }
}

/// Where objects lie.
#[cfg(not(debug_assertions))]
mod place {
    pub(super) fn take<T>(value: T) -> *mut T {
        Box::into_raw(Box::new(value))
    }

    /// # Safety
    /// `p` is from `take`, and not used again.
    pub(super) unsafe fn give<T>(p: *mut T) {
        // Safety: as the caller promised.
        drop(unsafe { Box::from_raw(p) });
    }
}

/// Where objects lie in debug builds: of the last that were released the places stay, empty, and nothing else comes there.
/// They are the system's, beside what a program counts of its memory, and the list of them is the one static of ours.
#[cfg(debug_assertions)]
mod place {
    use std::alloc::{GlobalAlloc as _, Layout, System, handle_alloc_error};
    use std::sync::{Mutex, PoisonError};

    const MOST: usize = 4096;
    static EMPTY: Mutex<(usize, [(usize, usize); MOST])> = Mutex::new((0, [(0, 0); MOST]));

    pub(super) fn take<T>(value: T) -> *mut T {
        let layout = Layout::new::<T>();
        // Safety: an object has a size; what comes back is tested.
        let p = unsafe { System.alloc(layout) }.cast::<T>();
        if p.is_null() {
            handle_alloc_error(layout);
        }
        // Safety: there is room for one.
        unsafe { p.write(value) };
        p
    }

    /// # Safety
    /// `p` is from `take`, and not used again but for a look at its first word.
    pub(super) unsafe fn give<T>(p: *mut T) {
        // Safety: as the caller promised.
        unsafe { p.drop_in_place() };
        let mut empty = EMPTY.lock().unwrap_or_else(PoisonError::into_inner);
        let (next, places) = &mut *empty;
        let new = (p.expose_provenance(), size_of::<T>());
        let (oldest, size) = std::mem::replace(&mut places[*next % MOST], new);
        *next += 1;
        if let Ok(layout) = Layout::from_size_align(size, align_of::<T>())
            && oldest != 0
        {
            // Safety: it was taken so: all objects have the alignment of a pointer, and each goes once.
            unsafe { System.dealloc(std::ptr::with_exposed_provenance_mut(oldest), layout) };
        }
    }
}
