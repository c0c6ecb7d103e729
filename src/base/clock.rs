//! The clock of the unit tests, in place of the system's: the same time, unless a thread has taken it into its own hand.
//! Then it stands still but for what the test adds and a tick at each reading, so that a law about time needs no luck.

use std::cell::Cell;
use std::time::Duration;

thread_local! {
    static BY_HAND: Cell<Option<Duration>> = const { Cell::new(None) };
}

/// What a reading of the clock by hand takes.
pub const TICK: Duration = Duration::from_nanos(50);

/// A moment, counted from some beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(Duration);

impl Instant {
    pub fn now() -> Self {
        let by_hand = BY_HAND.get().map(|now| now + TICK);
        BY_HAND.set(by_hand);
        Self(by_hand.unwrap_or_else(real))
    }

    pub fn elapsed(&self) -> Duration {
        Self::now().saturating_duration_since(*self)
    }

    pub fn checked_add(&self, d: Duration) -> Option<Self> {
        self.0.checked_add(d).map(Self)
    }

    pub fn saturating_duration_since(&self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl std::ops::Add<Duration> for Instant {
    type Output = Self;

    fn add(self, d: Duration) -> Self {
        Self(self.0 + d)
    }
}

fn real() -> Duration {
    static BEGAN: std::sync::LazyLock<std::time::Instant> =
        std::sync::LazyLock::new(std::time::Instant::now);
    BEGAN.elapsed()
}

/// The clock of this thread in the hand of a test, for as long as this lives.
pub struct ByHand(());

impl ByHand {
    /// It shows `from`, so that what hangs on it is the same in every run.
    pub fn take(from: Duration) -> Self {
        BY_HAND.set(Some(from));
        Self(())
    }
}

impl Drop for ByHand {
    fn drop(&mut self) {
        BY_HAND.set(None);
    }
}

/// What the clock shows, without a tick.
pub fn shows() -> Duration {
    BY_HAND.get().expect("a clock in the hand of a test")
}

/// Lets time go by.
pub fn pass(d: Duration) {
    BY_HAND.set(Some(shows() + d));
}
