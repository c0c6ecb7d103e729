//! A plan on the device: its launches captured once into a CUDA graph, replayed with another key each time.
//!
//! A run copies 24 bytes of key and launches one graph; nothing is waited for but the run before the last, so that a
//! cancelled job leaves at most two steps behind. With `profile` the launches go one by one, each timed.

use super::args::{Args, Key};
use super::device::Device;
use super::driver::{self, CUdeviceptr, CUevent, CUgraph, CUgraphExec, CUstream};
use super::lower::{Draw, Lowered, Work};
use super::memory::Block;
use crate::bail;
use crate::base::Result;
use crate::base::philox::MAX_ELEM;
use crate::exec::backend::{Executable, Memory, Outcome};
use crate::exec::{Interrupt, RunKey, StepTime};
use std::sync::Arc;
use std::time::Instant;

/// Runs that may be under way at once.
const DEPTH: usize = 2;

pub(super) struct Loaded {
    device: Arc<Device>,
    works: Vec<(Work, usize)>,
    scopes: Vec<String>,
    draws: Vec<Draw>,
    times: Vec<StepTime>,
    profile: bool,
    /// Holds the key, then the tables the launches read.
    tables: Block,
    graph: Option<Graph>,
    events: Vec<CUevent>,
    runs: usize,
}

// Safety: handles of the driver may be used from any thread, one at a time, once the context is current there.
unsafe impl Send for Loaded {}

impl Loaded {
    pub(super) fn new(device: &Arc<Device>, lowered: Lowered, profile: bool) -> Result<Self> {
        let Lowered { mut works, tables, names, scopes, draws } = lowered;
        let mut block = Block::new(device, tables.len(), device.budget(), "the tables of a plan")?;
        block.write(0, &tables)?;
        for (work, _) in &mut works {
            work.relocate(block.at());
        }
        let times = match profile {
            true => names.into_iter().map(|name| StepTime { name, runs: 0, ns: 0 }).collect(),
            false => Vec::new(),
        };
        let mut this = Self {
            device: Arc::clone(device),
            works,
            scopes,
            draws,
            times,
            profile,
            tables: block,
            graph: None,
            events: Vec::new(),
            runs: 0,
        };
        if !profile {
            this.graph = Some(this.capture()?);
            for _ in 0..DEPTH {
                let mut event = std::ptr::null_mut();
                // Safety: the pointer is good for one handle; the context is current.
                unsafe { driver::cuEventCreate(&raw mut event, driver::NO_TIMING) }?;
                this.events.push(event);
            }
        }
        Ok(this)
    }

    /// All launches on a stream of its own, so that sessions of other threads do not slip into the graph.
    fn capture(&self) -> Result<Graph> {
        let mut stream = std::ptr::null_mut();
        // Safety: the pointer is good for one handle; the context is current.
        unsafe { driver::cuStreamCreate(&raw mut stream, driver::NON_BLOCKING) }?;
        let captured = self.captured_on(stream);
        // Safety: created above, and capturing no more.
        unsafe { driver::cuStreamDestroy_v2(stream) }?;
        captured
    }

    fn captured_on(&self, stream: CUstream) -> Result<Graph> {
        // Safety: the stream is idle.
        unsafe { driver::cuStreamBeginCapture_v2(stream, driver::CAPTURE) }?;
        let started = self.works.iter().try_for_each(|(work, step)| {
            work.start(&self.device, stream).map_err(|e| e.within(&self.scopes[*step]))
        });
        let mut graph = Graph { graph: std::ptr::null_mut(), exec: std::ptr::null_mut() };
        // Safety: ends the capture begun above, also where a launch was refused.
        let ended = unsafe { driver::cuStreamEndCapture(stream, &raw mut graph.graph) };
        started.and(ended)?;
        // Safety: the graph is that of the capture.
        unsafe { driver::cuGraphInstantiateWithFlags(&raw mut graph.exec, graph.graph, 0) }?;
        Ok(graph)
    }

    /// Puts the key where the draws read it.
    fn address(&mut self, key: RunKey) -> Result<()> {
        for draw in &self.draws {
            let end = key.first_sample.checked_add(draw.rows);
            let end = end.and_then(|last| last.checked_mul(draw.per_sample));
            if end.is_none_or(|end| end > MAX_ELEM) {
                bail!(
                    Invalid,
                    "sample {} and {} more of {} elements: want element numbers below 2^56",
                    key.first_sample,
                    draw.rows,
                    draw.per_sample
                );
            }
        }
        let RunKey { seed, step, first_sample } = key;
        let key = Key { seed, first_sample, step, unused: 0 };
        self.tables.write(0, bytemuck::bytes_of(&key))
    }

    fn replay(&mut self) -> Result<()> {
        let (Some(graph), Some(event)) = (&self.graph, self.events.get(self.runs % DEPTH)) else {
            return self.timed();
        };
        let stream = self.device.stream();
        // Safety: graph and event are ours, the memory the launches use is held by the session and by `tables`.
        unsafe {
            if self.runs >= DEPTH {
                driver::cuEventSynchronize(*event)?;
            }
            driver::cuGraphLaunch(graph.exec, stream)?;
            driver::cuEventRecord(*event, stream)?;
        }
        self.runs += 1;
        Ok(())
    }

    fn timed(&mut self) -> Result<()> {
        self.device.wait()?;
        let mut last = usize::MAX;
        for (work, step) in &self.works {
            let start = Instant::now();
            let done = work.start(&self.device, self.device.stream());
            done.and_then(|()| self.device.wait()).map_err(|e| e.within(&self.scopes[*step]))?;
            if let Some(time) = self.times.get_mut(*step) {
                time.runs += u64::from(last != *step);
                time.ns += start.elapsed().as_nanos() as u64;
            }
            last = *step;
        }
        Ok(())
    }
}

impl Executable for Loaded {
    fn run(
        &mut self,
        _memory: &mut dyn Memory, // exclusive access to what the addresses lead to
        key: RunKey,
        _from: usize,
        interrupt: &mut dyn FnMut() -> Interrupt,
    ) -> Result<Outcome> {
        match interrupt() {
            Interrupt::Continue => {}
            Interrupt::Pause => return Ok(Outcome::Paused(0)), // a graph is run whole or not at all
            Interrupt::Cancel => return Ok(Outcome::Cancelled),
        }
        self.device.enter()?;
        self.address(key)?;
        self.replay()?;
        Ok(Outcome::Finished)
    }

    fn profile(&self) -> &[StepTime] {
        if self.profile { &self.times } else { &[] }
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        // what still runs uses the tables; where waiting fails the device is lost
        let _ = self.device.enter().and_then(|()| self.device.wait());
        for event in &self.events {
            // Safety: created by us, used by nobody any more.
            let _ = unsafe { driver::cuEventDestroy_v2(*event) };
        }
    }
}

struct Graph {
    graph: CUgraph,
    exec: CUgraphExec,
}

impl Drop for Graph {
    fn drop(&mut self) {
        // Safety: both came from the driver, and the executable waited for what ran.
        unsafe {
            if !self.exec.is_null() {
                let _ = driver::cuGraphExecDestroy(self.exec);
            }
            if !self.graph.is_null() {
                let _ = driver::cuGraphDestroy(self.graph);
            }
        }
    }
}

impl Work {
    /// Turns offsets in the tables into addresses.
    fn relocate(&mut self, tables: CUdeviceptr) {
        if let Self::Launch { args, in_tables, .. } = self {
            for (k, p) in args.p.iter_mut().enumerate() {
                *p += if *in_tables >> k & 1 == 1 { tables } else { 0 };
            }
        }
    }

    fn start(&self, device: &Device, stream: CUstream) -> Result<()> {
        match self {
            Self::Launch { kernel, blocks, threads, shared, args, .. } => {
                let function = device.function(*kernel);
                let mut args: Args = **args;
                let mut list = [(&raw mut args).cast()];
                // Safety: every kernel takes one `Args`, which the driver copies before it returns; the addresses in it
                // are those of operands the planner keeps apart.
                unsafe {
                    driver::cuLaunchKernel(
                        function,
                        *blocks,
                        1,
                        1,
                        *threads,
                        1,
                        1,
                        *shared,
                        stream,
                        list.as_mut_ptr(),
                        std::ptr::null_mut(),
                    )
                }
            }
            // Safety: both places are `bytes` long and apart.
            Self::Copy { from, to, bytes } => unsafe {
                driver::cuMemcpyDtoDAsync_v2(*to, *from, *bytes, stream)
            },
        }
    }
}
