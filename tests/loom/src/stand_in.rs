//! What jobs stand on, as small as it can be: a replay of a few rows that touches the host's memory in each.

use std::sync::Arc;

/// Memory of the host, and whether a replay that could touch it is left. To touch it while the host does is a fault.
pub struct Host {
    cell: loom::cell::UnsafeCell<u32>,
    replays: loom::sync::atomic::AtomicUsize,
}

// Safety: loom sees who is here at once, and says so.
unsafe impl Send for Host {}
// Safety: as above.
unsafe impl Sync for Host {}

impl Host {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            cell: loom::cell::UnsafeCell::new(0),
            replays: loom::sync::atomic::AtomicUsize::new(0),
        })
    }

    pub fn touch(&self) {
        // Safety: loom sees whether another thread is here.
        self.cell.with_mut(|p| unsafe { *p += 1 });
    }

    pub fn replays(&self) -> usize {
        self.replays.load(loom::sync::atomic::Ordering::Relaxed)
    }
}

pub mod exec {
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Interrupt {
        Continue,
        Pause,
        Cancel,
    }
}

pub mod mem {
    use crate::base::Result;

    #[derive(Debug)]
    pub struct Tensor;

    impl Tensor {
        pub fn new(_: (), _: &()) -> Result<Self> {
            Ok(Self)
        }

        pub fn from_bytes(_: (), _: &[u8], _: &()) -> Result<Self> {
            Ok(Self)
        }

        pub fn desc(&self) {}

        pub fn bytes(&self) -> &[u8] {
            &[]
        }

        pub fn bytes_mut(&mut self) -> &mut [u8] {
            &mut []
        }
    }
}

pub mod sample {
    use super::{Arc, Host};
    use crate::bail;
    use crate::base::Result;
    use crate::exec::Interrupt;
    use crate::mem::Tensor;

    #[allow(dead_code)]
    pub enum Advance {
        Paused,
        Done,
        Stage,
        Row,
        Preview,
    }

    pub struct Rows;

    #[allow(dead_code)]
    pub struct Request {
        pub seed: u64,
        pub first_sample: u64,
        pub n_samples: usize,
        pub preview_every: usize,
        pub conds: Vec<(String, Arc<Tensor>)>,
    }

    pub struct Buffer {
        pub desc: (),
    }

    pub struct Program;

    impl Program {
        pub fn previews(&self) -> &[(String, Buffer)] {
            &[]
        }
    }

    /// So many rows, each of which looks up for an interrupt.
    pub struct Replay {
        pub program: Program,
        host: Arc<Host>,
        done: usize,
        rows: usize,
    }

    impl Replay {
        pub fn of(host: &Arc<Host>, rows: usize) -> Self {
            host.replays.fetch_add(1, loom::sync::atomic::Ordering::Relaxed);
            Self { program: Program, host: Arc::clone(host), done: 0, rows }
        }

        pub fn begin(&mut self, _: &Rows, _: Request, _: &[(String, f64)], _: &()) -> Result<()> {
            Ok(())
        }

        pub fn give_noise(&mut self, _: ()) -> Result<()> {
            Ok(())
        }

        pub fn advance(&mut self, interrupt: &mut dyn FnMut() -> Interrupt) -> Result<Advance> {
            match interrupt() {
                Interrupt::Cancel => bail!(Cancelled, "the run was cancelled"),
                Interrupt::Pause => return Ok(Advance::Paused),
                Interrupt::Continue => {}
            }
            self.host.touch();
            self.done += 1;
            Ok(if self.done == self.rows { Advance::Done } else { Advance::Row })
        }

        pub fn progress(&self) -> (usize, usize) {
            (self.done, self.rows)
        }

        pub fn take_results(&mut self) -> Vec<(String, Tensor)> {
            vec![("x".to_owned(), Tensor)]
        }

        pub fn take_inputs(&mut self) -> Vec<Arc<Tensor>> {
            Vec::new()
        }

        pub fn read_preview(&self, _: usize, _: &mut [u8]) -> Result<()> {
            Ok(())
        }

        pub fn batch_samples(&self) -> (u64, u64) {
            (0, 1)
        }
    }

    impl Drop for Replay {
        fn drop(&mut self) {
            self.host.touch(); // its memory is the host's
            self.host.replays.fetch_sub(1, loom::sync::atomic::Ordering::Relaxed);
        }
    }
}

pub mod weights {
    use crate::base::Result;

    pub struct SafeTensors;

    impl SafeTensors {
        pub fn open(_: &std::path::Path) -> Result<Self> {
            Ok(Self)
        }
    }
}
