//! Aligned zeroed blocks taken from a capped budget.

use super::callback;
use crate::bail;
use crate::base::Result;
use std::alloc::Layout;
use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Every block starts at a multiple of this: a cache line, and the width of the widest vector load.
pub const ALIGN: usize = 64;

/// A block this large is given back, and refused, unless `ROOM` bytes are left beside it: names, lists and errors are
/// taken from what is left, and where the system refuses those a program ends.
const LARGE: usize = 1 << 20;
pub const ROOM: usize = 4 << 20;

/// The host's allocator of `diffx.h`.
#[derive(Debug, Clone, Copy)]
pub struct HostAllocator {
    pub user: *mut c_void,
    pub alloc: unsafe extern "C-unwind" fn(*mut c_void, usize, usize) -> *mut c_void,
    pub free: unsafe extern "C-unwind" fn(*mut c_void, *mut c_void, usize, usize),
}

// Safety: diffx.h documents both functions as callable from any thread.
unsafe impl Send for HostAllocator {}
// Safety: as above.
unsafe impl Sync for HostAllocator {}

impl HostAllocator {
    /// # Safety
    /// `len` is not 0; what comes back is tested by the caller.
    unsafe fn take(&self, len: usize) -> *mut u8 {
        // Safety: the header asks for a malloc-like function.
        callback::call("alloc", || unsafe { (self.alloc)(self.user, len, ALIGN) }).cast()
    }

    /// # Safety
    /// `p` came from `take` with this length, and goes now.
    unsafe fn give(&self, p: *mut u8, len: usize) {
        // Safety: as the caller promised.
        callback::call("free", || unsafe { (self.free)(self.user, p.cast(), len, ALIGN) });
    }
}

/// How many bytes may be taken, and how many are.
#[derive(Debug)]
pub struct Budget {
    cap: u64,
    used: AtomicU64,
    peak: AtomicU64,
    host: Option<HostAllocator>,
}

impl Budget {
    /// `cap` 0 means no cap.
    pub fn new(cap: u64, host: Option<HostAllocator>) -> Arc<Self> {
        Arc::new(Self { cap, used: AtomicU64::new(0), peak: AtomicU64::new(0), host })
    }

    pub fn unlimited() -> Arc<Self> {
        Self::new(0, None)
    }

    pub fn cap(&self) -> u64 {
        self.cap
    }

    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// The most that was ever taken at once.
    pub fn peak(&self) -> u64 {
        self.peak.load(Ordering::Relaxed)
    }

    /// Whether `bytes` more would fit; the error names what they are for.
    pub fn check(&self, bytes: u64, what: &str) -> Result<()> {
        self.fits(self.used(), bytes, what).map(drop)
    }

    /// What would be in use with `bytes` more.
    fn fits(&self, used: u64, bytes: u64, what: &str) -> Result<u64> {
        let after = used.saturating_add(bytes);
        if self.cap != 0 && after > self.cap {
            bail!(
                NoMemory,
                "{what} needs {bytes} bytes, {used} of the cap of {} bytes are in use",
                self.cap
            );
        }
        Ok(after)
    }

    fn take(&self, bytes: u64, what: &str) -> Result<()> {
        let mut used = self.used.load(Ordering::Relaxed);
        loop {
            // of this reading: another may find room that was given back since, and nothing would be charged
            let after = self.fits(used, bytes, what)?;
            match self.used.compare_exchange_weak(used, after, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => {
                    self.peak.fetch_max(after, Ordering::Relaxed);
                    return Ok(());
                }
                Err(now) => used = now,
            }
        }
    }

    fn give(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Charges bytes that lie elsewhere (on a device), until the charge is dropped.
    pub fn charge(self: &Arc<Self>, bytes: u64, what: &str) -> Result<Charge> {
        self.take(bytes, what)?;
        Ok(Charge { budget: Arc::clone(self), bytes })
    }
}

/// Bytes of a budget that are in use elsewhere.
#[derive(Debug)]
pub struct Charge {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.give(self.bytes);
    }
}

/// Zeros, for what is sized by data and yet no block of a budget.
pub fn zeros(len: usize, what: &str) -> Result<Vec<u8>> {
    let mut out = reserved(len, what)?;
    out.resize(len, 0);
    Ok(out)
}

/// An empty list with room for `len` items, for what is sized by data and yet no block of a budget.
pub fn reserved<T>(len: usize, what: &str) -> Result<Vec<T>> {
    let mut out = Vec::new();
    match out.try_reserve_exact(len) {
        Ok(()) => Ok(out),
        Err(_) => bail!(NoMemory, "{what} needs room for {len} items, the system has none left"),
    }
}

fn is_room_left() -> bool {
    let Ok(layout) = Layout::array::<u8>(ROOM) else { return false };
    // Safety: the layout has a size, and what was taken with it is given back with it; the box hides from the compiler
    // that nobody looks at it, or it would not be taken.
    unsafe {
        let p = std::hint::black_box(std::alloc::alloc(layout));
        if !p.is_null() {
            std::alloc::dealloc(p, layout);
        }
        !p.is_null()
    }
}

/// A zeroed block of bytes aligned to [`ALIGN`], returned to its budget on drop.
#[derive(Debug)]
pub struct Block {
    ptr: NonNull<u8>,
    len: usize,
    budget: Arc<Budget>,
}

// Safety: a Block owns its bytes alone, as Box<[u8]> does.
unsafe impl Send for Block {}
// Safety: shared access only reads.
unsafe impl Sync for Block {}

impl Block {
    /// `what` names the use in the error when the budget or the system refuses.
    pub fn new(len: usize, budget: &Arc<Budget>, what: &str) -> Result<Self> {
        if len == 0 {
            let ptr = NonNull::without_provenance(const { std::num::NonZero::new(ALIGN).unwrap() });
            return Ok(Self { ptr, len, budget: Arc::clone(budget) });
        }
        let Ok(layout) = Layout::from_size_align(len, ALIGN) else {
            bail!(NoMemory, "{what} needs {len} bytes, more than an address space holds");
        };
        budget.take(len as u64, what)?;
        let raw = match &budget.host {
            // Safety: layout has non-zero size.
            None => unsafe { std::alloc::alloc_zeroed(layout) },
            Some(host) => {
                // Safety: the host promised a malloc-like function; a bad answer is tested below.
                let p = unsafe { host.take(len) };
                if !p.is_null() && p.addr() % ALIGN == 0 {
                    // Safety: the host gave `len` bytes at p.
                    unsafe { p.write_bytes(0, len) };
                    p
                } else {
                    if !p.is_null() {
                        // Safety: p came from this allocator with this size.
                        unsafe { host.give(p, len) };
                    }
                    std::ptr::null_mut()
                }
            }
        };
        let Some(ptr) = NonNull::new(raw) else {
            budget.give(len as u64);
            bail!(NoMemory, "{what} needs {len} bytes, the system has none left");
        };
        let block = Self { ptr, len, budget: Arc::clone(budget) };
        if len >= LARGE && !is_room_left() {
            bail!(NoMemory, "{what} needs {len} bytes, the system would have none left");
        }
        Ok(block)
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn bytes(&self) -> &[u8] {
        // Safety: ptr is valid for len initialised bytes while self lives.
        unsafe { std::slice::from_raw_parts(self.ptr.as_ptr(), self.len) }
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // Safety: as in `bytes`, and &mut self is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.as_ptr(), self.len) }
    }

    pub fn as_ptr(&self) -> *mut u8 {
        self.ptr.as_ptr()
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if self.len == 0 {
            return;
        }
        match &self.budget.host {
            // Safety: allocated in `new` with this very layout, which was valid then.
            None => unsafe {
                let layout = Layout::from_size_align_unchecked(self.len, ALIGN);
                std::alloc::dealloc(self.ptr.as_ptr(), layout);
            },
            // Safety: allocated by the same host functions with the same size and alignment.
            Some(host) => unsafe { host.give(self.ptr.as_ptr(), self.len) },
        }
        self.budget.give(self.len as u64);
    }
}
