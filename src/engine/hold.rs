//! A host's hold on an engine, and the end of an engine.
//!
//! Inside, jobs hold their pipeline, pipelines their engine, and the queue of the engine its jobs: a job that is under way
//! keeps all of it alive. So the end is not left to the last `Arc`: every handle of the host has a [`Hold`], and when the
//! last one goes the jobs are stopped, the thread is joined and the queue is emptied, on the thread of the host. Once it
//! has returned from that release nothing of ours runs, and nothing of the host's is called.

use super::{Engine, lock};
use crate::base::sync::{Arc, Ordering, thread};

/// One of the reasons why an engine goes on. What it lets live is dropped before the hold itself.
pub struct Hold(Arc<Engine>);

impl Hold {
    pub fn new(engine: &Arc<Engine>) -> Self {
        engine.holds.fetch_add(1, Ordering::Relaxed); // whoever asks has one, or is alone with the engine
        Self(Arc::clone(engine))
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        // what other threads did with their handles happened before the last one goes
        if self.0.holds.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.close();
        }
    }
}

impl Engine {
    /// Stops all jobs at their next node and waits for the thread that drives them. On that very thread, inside a
    /// function of the host that it called, it cannot wait for itself: then it ends by itself, soon after.
    fn close(&self) {
        self.queue.quit();
        let worker = lock(&self.worker).take();
        if let Some(worker) = worker
            && worker.thread().id() != thread::current().id()
        {
            let _ = worker.join(); // it catches every panic of a job
        }
        self.queue.clear();
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.close(); // a Rust host has no handles
    }
}
