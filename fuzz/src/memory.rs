//! An allocator that counts what the thread holds, so that "memory is bounded" is an assertion of every target.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicI64, Ordering};

/// A single request above this is refused, as a small machine would.
const MOST_AT_ONCE: usize = 1 << 30;

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

thread_local! {
    static LIVE: Cell<i64> = const { Cell::new(0) };
    static PEAK: Cell<i64> = const { Cell::new(0) };
}

/// The largest peak of any run so far.
static WORST: AtomicI64 = AtomicI64::new(0);

fn count(change: i64) {
    let live = LIVE.get() + change;
    LIVE.set(live);
    PEAK.set(PEAK.get().max(live));
}

// Safety: everything is passed on to the system's allocator; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() > MOST_AT_ONCE {
            return std::ptr::null_mut();
        }
        count(layout.size() as i64);
        // Safety: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if layout.size() > MOST_AT_ONCE {
            return std::ptr::null_mut();
        }
        count(layout.size() as i64);
        // Safety: as the caller promised.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, p: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        // Safety: as the caller promised.
        unsafe { System.dealloc(p, layout) }
    }

    unsafe fn realloc(&self, p: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if size > MOST_AT_ONCE {
            return std::ptr::null_mut();
        }
        count(size as i64 - layout.size() as i64);
        // Safety: as the caller promised.
        unsafe { System.realloc(p, layout, size) }
    }
}

/// Runs a body that may hold at most `most` bytes of heap at once.
pub fn at_most(most: usize, body: impl FnOnce()) {
    measured(|| {
        body();
        most
    });
}

/// Runs a body that returns how many bytes of heap it was allowed to hold at once.
fn measured(body: impl FnOnce() -> usize) {
    let before = LIVE.get();
    PEAK.set(before);
    let most = body();
    let peak = PEAK.get() - before;
    if peak > WORST.fetch_max(peak, Ordering::Relaxed) + 1024 {
        eprintln!("memory: at most {peak} bytes so far");
    }
    assert!(peak <= most as i64, "{peak} bytes were held at once, want at most {most}");
}

/// As [`at_most`], and nothing is held when it is over. What is made once per process stays after the first run; a
/// leak is what a second run leaves too.
pub fn bounded(most: usize, mut body: impl FnMut()) {
    bounded_by(|| {
        body();
        most
    });
}

/// As [`bounded`], where the body returns how much it was allowed to hold.
pub fn bounded_by(mut body: impl FnMut() -> usize) {
    let mut run = || {
        let before = LIVE.get();
        measured(&mut body);
        LIVE.get() - before
    };
    let left = match run() {
        0 => 0,
        _ => run(),
    };
    assert!(left == 0, "{left} bytes were left behind");
}
