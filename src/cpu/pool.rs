//! The engine's own threads: a parallel for that allocates nothing.
//!
//! The caller works too, tasks are claimed from one counter, idle threads spin briefly and then sleep. A second caller
//! (another job, or a task that calls again) finds the pool busy and runs its tasks inline, so nesting and sharing never
//! deadlock. Which thread runs a task must never change its result: tasks own disjoint results and no sums cross them.

use crate::bail;
use crate::base::Result;
use crate::base::sync::{
    Arc, AtomicBool, AtomicU32, AtomicUsize, Condvar, Mutex, MutexGuard, Ordering, PoisonError,
    SPINS, spin_loop, thread,
};
use std::panic::{AssertUnwindSafe, catch_unwind};
use thread::JoinHandle;

/// A fixed set of threads.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    busy: AtomicBool,
}

type Task = dyn Fn(usize) + Sync;

/// The work in hand, if any. Workers join it under the lock, so none can join after the caller took it back.
struct Slot {
    job: Option<Job>,
    quit: bool,
}

#[derive(Clone, Copy)]
struct Job {
    /// Valid while the job is in the slot or a worker is counted in `attached`.
    task: *const Task,
    tasks: usize,
}

// Safety: the task is Sync, and `Pool::run` outlives every use of the pointer (see `Job::task`).
unsafe impl Send for Job {}

struct Shared {
    slot: Mutex<Slot>,
    wake: Condvar,
    done: Condvar,
    /// Bumped with every job, so that a spinning thread need not take the lock to look.
    epoch: AtomicU32,
    next: AtomicUsize,
    attached: AtomicUsize,
    panicked: AtomicBool,
}

impl Pool {
    /// A pool that works with `threads` threads, the caller among them; 0 and 1 start none. If the system refuses some
    /// threads the pool is smaller.
    pub fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared {
            slot: Mutex::new(Slot { job: None, quit: false }),
            wake: Condvar::new(),
            done: Condvar::new(),
            epoch: AtomicU32::new(0),
            next: AtomicUsize::new(0),
            attached: AtomicUsize::new(0),
            panicked: AtomicBool::new(false),
        });
        let workers = (1..threads)
            .map_while(|i| {
                let shared = Arc::clone(&shared);
                let name = format!("diffx-{i}");
                thread::Builder::new().name(name).spawn(move || shared.work()).ok()
            })
            .collect();
        Self { shared, workers, busy: AtomicBool::new(false) }
    }

    /// How many threads work on a call of `run`, the caller among them.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `f(0) .. f(tasks - 1)`, each once, in any order, on any thread; returns when all are done. A panic in a
    /// task ends the run with an error; tasks not yet started are then left out.
    pub fn run(&self, tasks: usize, f: &(dyn Fn(usize) + Sync)) -> Result<()> {
        let alone = tasks <= 1 || self.workers.is_empty();
        let clean = if alone || self.busy.swap(true, Ordering::Acquire) {
            catch_unwind(AssertUnwindSafe(|| (0..tasks).for_each(f))).is_ok()
        } else {
            let clean = self.shared.spread(tasks, f);
            self.busy.store(false, Ordering::Release);
            clean
        };
        if !clean {
            bail!(Internal, "a kernel panicked on the thread pool");
        }
        Ok(())
    }

    /// Calls `f(i, chunk i)` for the disjoint chunks of `data`, `chunk` elements each (the last may be shorter).
    pub fn chunks<T: Send>(
        &self,
        data: &mut [T],
        chunk: usize,
        f: &(dyn Fn(usize, &mut [T]) + Sync),
    ) -> Result<()> {
        let (len, chunk) = (data.len(), chunk.max(1));
        let base = Base(data.as_mut_ptr());
        self.run(len.div_ceil(chunk), &|i| {
            let start = i * chunk;
            let n = chunk.min(len - start);
            // Safety: chunks of different i are disjoint parts of `data`, which is borrowed until `run` returns, and
            // `run` calls each i once.
            let part = unsafe { std::slice::from_raw_parts_mut(base.at(start), n) };
            f(i, part);
        })
    }
}

/// A pointer that may cross threads because its users touch disjoint parts.
struct Base<T>(*mut T);

// Safety: only `Pool::chunks` uses it, and gives each thread a part of its own.
unsafe impl<T: Send> Sync for Base<T> {}

impl<T> Base<T> {
    /// `start` is at most the length of the slice the base came from.
    fn at(&self, start: usize) -> *mut T {
        self.0.wrapping_add(start)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().quit = true;
        self.shared.epoch.fetch_add(1, Ordering::Release);
        self.shared.wake.notify_all();
        for worker in self.workers.drain(..) {
            let _ = worker.join(); // a worker catches every panic of its tasks
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Slot> {
        // the lock is never held over foreign code, so poison cannot mean a broken slot
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The caller's side of a job. True when no task panicked.
    fn spread(&self, tasks: usize, f: &(dyn Fn(usize) + Sync)) -> bool {
        // Safety: only the lifetime changes; this function does not return before every worker has let go of the job.
        let task = unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), &'static Task>(f) };
        let job = Job { task: std::ptr::from_ref(task), tasks };
        self.next.store(0, Ordering::Relaxed);
        self.panicked.store(false, Ordering::Relaxed);
        let mut slot = self.lock();
        slot.job = Some(job);
        self.epoch.fetch_add(1, Ordering::Release); // under the lock: a worker about to sleep sees it
        drop(slot);
        self.wake.notify_all();
        self.claim(job);
        self.lock().job = None; // nobody can join from here on
        let mut spins = 0;
        while self.attached.load(Ordering::Acquire) != 0 {
            if spins < SPINS {
                spins += 1;
                spin_loop();
                continue;
            }
            let slot = self.lock();
            if self.attached.load(Ordering::Acquire) != 0 {
                drop(self.done.wait(slot).unwrap_or_else(PoisonError::into_inner));
            }
        }
        !self.panicked.load(Ordering::Relaxed)
    }

    /// Runs tasks until none is left.
    fn claim(&self, job: Job) {
        // Safety: the caller of `spread` waits for us, so the task is alive.
        let task = unsafe { &*job.task };
        loop {
            let i = self.next.fetch_add(1, Ordering::Relaxed);
            if i >= job.tasks {
                return;
            }
            if catch_unwind(AssertUnwindSafe(|| task(i))).is_err() {
                self.panicked.store(true, Ordering::Relaxed);
                self.next.store(job.tasks, Ordering::Relaxed);
            }
        }
    }

    /// A worker's life.
    fn work(&self) {
        let mut seen = 0;
        loop {
            let mut spins = 0;
            while self.epoch.load(Ordering::Acquire) == seen && spins < SPINS {
                spins += 1;
                spin_loop();
            }
            let mut slot = self.lock();
            while self.epoch.load(Ordering::Acquire) == seen && !slot.quit {
                slot = self.wake.wait(slot).unwrap_or_else(PoisonError::into_inner);
            }
            if slot.quit {
                return;
            }
            seen = self.epoch.load(Ordering::Acquire);
            let Some(job) = slot.job else { continue };
            self.attached.fetch_add(1, Ordering::Relaxed);
            drop(slot);
            self.claim(job);
            // under the lock, so that a caller between its last look and its sleep is not missed
            let slot = self.lock();
            if self.attached.fetch_sub(1, Ordering::Release) == 1 {
                self.done.notify_all();
            }
            drop(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    #[test]
    fn every_task_runs_once() {
        for threads in [0, 1, 2, 3, 5] {
            let pool = Pool::new(threads);
            assert_eq!(pool.threads(), threads.max(1));
            for tasks in [0, 1, 2, 7, 1000] {
                let hits: Vec<AtomicU64> = (0..tasks).map(|_| AtomicU64::new(0)).collect();
                pool.run(tasks, &|i| {
                    hits[i].fetch_add(1, Ordering::Relaxed);
                })
                .unwrap();
                assert!(hits.iter().all(|h| h.load(Ordering::Relaxed) == 1));
            }
        }
    }

    #[test]
    fn many_short_runs() {
        let pool = Pool::new(3);
        let sum = AtomicU64::new(0);
        for _ in 0..20_000 {
            pool.run(4, &|i| {
                sum.fetch_add(i as u64, Ordering::Relaxed);
            })
            .unwrap();
        }
        assert_eq!(sum.load(Ordering::Relaxed), 6 * 20_000);
    }

    #[test]
    fn nested_and_shared_calls_finish() {
        let pool = Pool::new(3);
        let sum = AtomicU64::new(0);
        std::thread::scope(|s| {
            for _ in 0..4 {
                s.spawn(|| {
                    for _ in 0..50 {
                        pool.run(5, &|_| {
                            pool.run(3, &|i| {
                                sum.fetch_add(i as u64, Ordering::Relaxed);
                            })
                            .unwrap();
                        })
                        .unwrap();
                    }
                });
            }
        });
        assert_eq!(sum.load(Ordering::Relaxed), 4 * 50 * 5 * 3);
    }

    #[test]
    fn a_panic_is_an_error_and_the_pool_lives_on() {
        for threads in [1, 3] {
            let pool = Pool::new(threads);
            for bad in [0, 5, 99] {
                let out = pool.run(100, &|i| assert!(i != bad, "task {i} fails on purpose"));
                assert!(out.is_err());
                pool.run(10, &|_| {}).unwrap();
            }
        }
    }

    #[test]
    fn chunks_are_disjoint_and_complete() {
        let pool = Pool::new(3);
        for len in [0, 1, 9, 10, 1001] {
            let mut data = vec![0usize; len];
            pool.chunks(&mut data, 10, &|i, part| part.iter_mut().for_each(|x| *x += i + 1))
                .unwrap();
            assert!(data.iter().enumerate().all(|(k, x)| *x == k / 10 + 1));
        }
    }
}
