//! Paths of a process without a network, by its own exact transitions or by Euler steps of its equation.
//!
//! A step is one graph, planned for a block of paths that stays in the cache; every lane of the device walks its blocks
//! through all moments before it takes the next. Draws are addressed by sample and step, so neither the blocks, nor the
//! lanes, nor what is kept shows in a path.

use super::build::{Build, Parts};
use super::convert::{level_shaped, reshape};
use super::schedule::{Schedule, Scheme};
use super::traits::{ProcessFn, ProcessInfo, Space, Stats};
use crate::base::{DType, Desc, Error, Result};
use crate::exec::{Backend, BufferId, Interrupt, PlanId, RunKey, Session, SessionBuilder};
use crate::graph::{AttrKey, Attrs, Graph, NodeId, Op};
use crate::mem::{Block, Budget, Tensor};
use crate::{bail, fail};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Draws of a simulation (`DFX_PURPOSE_SIMULATE`).
const PURPOSE_SIMULATE: u8 = 9;

/// Numbers of a block: with its noise it stays in the second-level cache, and a step of it costs far more than its call.
const BLOCK: usize = 4096;

/// Bytes of a path that are stored together: one line of the cache.
const LINE: usize = 64;

/// What a process is asked with for its nature: there are no data, and a mean or variance of 0 may have no levels.
pub const UNIT: Stats = Stats { x_mean: 1.0, x_var: 1.0, w_mean: 1.0, w_var: 1.0 };

/// What to simulate: component 0 of `parts`, from `x0` (`[dims]` for all, or `[n, dims]`) at time 0.
pub struct Simulation<'a> {
    pub parts: &'a Parts,
    /// f32 or f64; the result has this type, the arithmetic is that of the parts.
    pub x0: &'a Tensor,
    /// Ascending, from 0 on.
    pub times: &'a [f64],
    /// Which times come out, ascending; all if empty.
    pub keep: &'a [u32],
    pub scheme: Scheme,
    pub n_samples: usize,
    pub seed: u64,
    pub first_sample: u64,
}

/// What one lane works with.
struct Lane {
    session: Session,
    ids: Ids,
    /// Kept values of a block, a few moments after one another.
    staged: Block,
}

#[derive(Clone, Copy)]
struct Ids {
    x0: BufferId,
    scalars: [BufferId; 3],
    kept: BufferId,
    begin: PlanId,
    step: PlanId,
    last: PlanId,
}

/// The sizes of a run.
#[derive(Clone, Copy)]
struct Sizes {
    /// Paths of a block.
    batch: usize,
    /// Bytes of one kept value.
    cell: usize,
    /// Values kept of a path.
    kept: usize,
    /// Values staged before they are stored.
    depth: usize,
    /// Whether every path has a start of its own.
    each: bool,
}

impl Simulation<'_> {
    /// [n_samples, kept times, dims] in the type of `x0`. Between blocks `interrupt` may cancel; there is nothing to
    /// pause for.
    pub fn run(
        &self,
        backend: &Arc<dyn Backend>,
        budget: &Arc<Budget>,
        interrupt: &mut (dyn FnMut() -> Interrupt + Send),
    ) -> Result<Tensor> {
        let Some(component) = self.parts.components.first() else {
            bail!(Invalid, "nothing to simulate: there is no component");
        };
        let process = &self.parts.processes[0];
        let needs = match self.scheme {
            Scheme::Exact => ProcessFn::Renoise,
            Scheme::Euler { .. } => ProcessFn::Sde,
        };
        if component.space == Space::Discrete || !process.has(needs) {
            let what = if needs == ProcessFn::Sde { "equation" } else { "exact transition" };
            bail!(Unsupported, "this process has no {what} to simulate");
        }
        let info = process.info(&UNIT)?;
        let float = self.parts.float;
        let schedule = Schedule::new(
            process.as_ref(),
            self.times,
            self.keep,
            self.scheme,
            info.homogeneous,
            float,
            budget,
        )?;
        let one = self.parts.state(0, 1)?;
        let elements = one.shape.elements().max(1);
        let lanes = backend.lanes().max(1);
        let most = (BLOCK / elements).clamp(1, self.n_samples.div_ceil(lanes).max(1));
        let sizes = self.sizes(most, &one, schedule.kept())?;
        let dims = [&[self.n_samples, schedule.kept()], &one.dims()[1..]].concat();
        let mut out = Tensor::new(Desc::new(self.x0.desc().dtype, &dims)?, budget)?;
        let row = sizes.cell * sizes.kept;
        if self.n_samples == 0 || row == 0 {
            return Ok(out);
        }
        let blocks = self.n_samples.div_ceil(sizes.batch);
        // too few blocks for the lanes: one after another, each on the whole device
        let (lanes, device) = match backend.lane() {
            Some(lane) if blocks >= lanes => (lanes, lane),
            _ => (1, Arc::clone(backend)),
        };
        let steps =
            Steps { parts: self.parts, x0: self.x0.desc(), sizes, info, scheme: self.scheme };
        let mut pool = Vec::with_capacity(lanes);
        for _ in 0..lanes {
            pool.push(Mutex::new(steps.lane(&device, budget)?));
        }
        if !sizes.each {
            for lane in &pool {
                let mut lane = taken(lane);
                let x0 = lane.ids.x0;
                lane.session.write(x0, self.x0.bytes())?;
            }
        }
        let rows: Vec<Mutex<&mut [u8]>> =
            out.bytes_mut().chunks_mut(row * sizes.batch).map(Mutex::new).collect();
        let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        let failed: Mutex<Option<Error>> = Mutex::new(None);
        let interrupt = Mutex::new(interrupt);
        backend.spread(pool.len(), &|i| {
            let mut lane = taken(&pool[i]);
            while !stop.load(Ordering::Relaxed) {
                let b = next.fetch_add(1, Ordering::Relaxed);
                let Some(rows) = rows.get(b) else { return };
                let asked = (taken(&interrupt))();
                let done = match asked {
                    Interrupt::Cancel => Err(fail!(Cancelled, "the simulation was cancelled")),
                    _ => self.walk(&mut lane, &schedule, sizes, b, &mut taken(rows)),
                };
                if let Err(e) = done {
                    taken(&failed).get_or_insert(e);
                    stop.store(true, Ordering::Relaxed);
                }
            }
        })?;
        drop(rows);
        match taken(&failed).take() {
            Some(e) => Err(e),
            None => Ok(out),
        }
    }

    fn sizes(&self, batch: usize, one: &Desc, kept: usize) -> Result<Sizes> {
        let (own, x0) = (&one.dims()[1..], self.x0.desc());
        let each = x0.dims().len() == own.len() + 1
            && x0.dims()[0] == self.n_samples
            && x0.dims()[1..] == *own;
        if !matches!(x0.dtype, DType::F32 | DType::F64) || !(each || x0.dims() == own) {
            bail!(Invalid, "x0 is {x0}, want f32 or f64 {own:?}, one or per sample");
        }
        let cell = one.shape.elements() * x0.dtype.bytes();
        Ok(Sizes { batch, cell, kept, depth: (LINE / cell.max(1)).clamp(1, kept.max(1)), each })
    }

    /// One block through all moments. The last block ends with the last path, so it may walk some paths of the one
    /// before a second time; it stores only its own.
    fn walk(
        &self,
        lane: &mut Lane,
        schedule: &Schedule<'_>,
        sizes: Sizes,
        block: usize,
        out: &mut [u8],
    ) -> Result<()> {
        let Sizes { batch, cell, kept, depth, each } = sizes;
        let begin = block * batch;
        let first = begin.min(self.n_samples - batch);
        let Lane { session, ids, staged } = lane;
        if each {
            let at = first * cell;
            session.write(ids.x0, &self.x0.bytes()[at..at + batch * cell])?;
        }
        let first_sample = self.first_sample + first as u64;
        let key = |step: u32| RunKey { seed: self.seed, step, first_sample };
        session.replay(ids.begin, key(0))?;
        let (mut stored, mut waiting) = (0, 0);
        schedule.walk(|step, scalars, keep| {
            for (id, value) in ids.scalars.iter().zip(scalars) {
                match self.parts.float {
                    DType::F64 => session.write(*id, &value.to_ne_bytes())?,
                    _ => session.write(*id, &(value as f32).to_ne_bytes())?,
                }
            }
            session.replay(if keep { ids.last } else { ids.step }, key(step))?;
            if !keep {
                return Ok(());
            }
            let bytes = batch * cell;
            session.read(ids.kept, &mut staged.bytes_mut()[waiting * bytes..][..bytes])?;
            waiting += 1;
            if waiting == depth || stored + waiting == kept {
                let own = &staged.bytes()[(begin - first) * cell..];
                store(out, own, bytes, cell, kept, stored, waiting);
                (stored, waiting) = (stored + waiting, 0);
            }
            Ok(())
        })
    }
}

/// Writes `n` values of each path, from the `at`-th on. `staged` holds one moment after another, `stride` bytes apart.
fn store(
    out: &mut [u8],
    staged: &[u8],
    stride: usize,
    cell: usize,
    kept: usize,
    at: usize,
    n: usize,
) {
    match cell {
        4 => store_cells::<4>(out, staged, stride, kept, at, n),
        8 => store_cells::<8>(out, staged, stride, kept, at, n),
        _ => {
            for (r, row) in out.chunks_exact_mut(cell * kept).enumerate() {
                let cells = row[at * cell..].chunks_exact_mut(cell).take(n);
                for (k, to) in cells.enumerate() {
                    to.copy_from_slice(&staged[k * stride + r * cell..][..cell]);
                }
            }
        }
    }
}

/// [`store`] for single numbers.
fn store_cells<const N: usize>(
    out: &mut [u8],
    staged: &[u8],
    stride: usize,
    kept: usize,
    at: usize,
    n: usize,
) {
    let (rows, _) = out.as_chunks_mut::<N>();
    let (from, _) = staged.as_chunks::<N>();
    for (r, row) in rows.chunks_exact_mut(kept).enumerate() {
        for (k, to) in row[at..at + n].iter_mut().enumerate() {
            *to = from[k * (stride / N) + r];
        }
    }
}

/// No lock here is held over code that may leave things half done: a panic in one ends the run.
fn taken<T: ?Sized>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The graphs of a run.
struct Steps<'a> {
    parts: &'a Parts,
    x0: Desc,
    sizes: Sizes,
    info: ProcessInfo,
    scheme: Scheme,
}

impl Steps<'_> {
    fn lane(&self, device: &Arc<dyn Backend>, budget: &Arc<Budget>) -> Result<Lane> {
        let Sizes { batch, cell, depth, each, .. } = self.sizes;
        let mut session = SessionBuilder::new(Arc::clone(device));
        let state = self.parts.state(0, batch)?;
        let start = if each { Desc::new(self.x0.dtype, state.dims())? } else { self.x0 };
        let scalar = Desc::new(self.parts.float, &[])?;
        let x0 = session.buffer("x0", start);
        let scalars = ["a", "b", "c"].map(|name| session.buffer(name, scalar));
        let walked = session.buffer("state", state);
        let kept = session.buffer("kept", Desc::new(self.x0.dtype, state.dims())?);
        let (graph, first) = self.begin(start)?;
        let begin = session.plan(&graph, &[x0], &[(first, walked)], &[])?;
        let inputs = [&[walked][..], &scalars[..]].concat();
        let (graph, next, out) = self.step(scalar)?;
        let step = session.plan(&graph, &inputs, &[(next, walked)], &[])?;
        let last = session.plan(&graph, &inputs, &[(next, walked), (out, kept)], &[])?;
        let session = session.allocate(budget)?;
        let staged = Block::new(batch * cell * depth, budget, "paths of a simulation")?;
        let ids = Ids { x0, scalars, kept, begin, step, last };
        Ok(Lane { session, ids, staged })
    }

    /// Whether the state between steps is the data itself, and not its coordinate w.
    fn walks_data(&self) -> bool {
        self.scheme != Scheme::Exact || self.info.homogeneous
    }

    fn begin(&self, start: Desc) -> Result<(Graph, NodeId)> {
        let state = self.parts.state(0, self.sizes.batch)?;
        let mut b = Build::new(self.parts, self.sizes.batch)?;
        let mut x = b.graph.input("x0", start);
        if start.dtype != state.dtype {
            x = b.graph.cast(x, state.dtype);
        }
        if !self.sizes.each {
            let one = [&[1], start.dims()].concat();
            x = reshape(&mut b.graph, x, &one);
            x = b.graph.broadcast_to(x, state.dims());
        }
        if !self.walks_data() {
            x = b.process(0, ProcessFn::Encode, PURPOSE_SIMULATE, &[x])?[0];
            b.want(x, state, "encode", 0)?;
        }
        Ok((b.graph, x))
    }

    /// (the next state, what is kept of it)
    fn step(&self, scalar: Desc) -> Result<(Graph, NodeId, NodeId)> {
        let batch = self.sizes.batch;
        let state = self.parts.state(0, batch)?;
        let mut b = Build::new(self.parts, batch)?;
        let s = b.graph.input("state", state);
        let scalars = ["a", "b", "c"].map(|name| b.graph.input(name, scalar));
        let (next, out) = match self.scheme {
            Scheme::Exact => self.exact(&mut b, s, scalars, state)?,
            Scheme::Euler { .. } => self.euler(&mut b, s, scalars, state)?,
        };
        let out = match self.x0.dtype {
            same if same == state.dtype => out,
            other => b.graph.cast(out, other),
        };
        b.graph.check()?;
        Ok((b.graph, next, out))
    }

    /// From level `a` to level `b`; no noise is added, and none drawn wrongly, where the two are equal.
    fn exact(
        &self,
        b: &mut Build<'_>,
        s: NodeId,
        [from, to, _]: [NodeId; 3],
        state: Desc,
    ) -> Result<(NodeId, NodeId)> {
        let mut level =
            |level| level_shaped(&mut b.graph, level, self.sizes.batch, state.shape.rank());
        let (from, to) = (level(from)?, level(to)?);
        let w = match self.walks_data() {
            true => b.process(0, ProcessFn::Encode, PURPOSE_SIMULATE, &[s])?[0],
            false => s,
        };
        b.want(w, state, "encode", 0)?;
        let noised = b.process(0, ProcessFn::Renoise, PURPOSE_SIMULATE, &[w, from, to])?[0];
        b.want(noised, state, "renoise", 0)?;
        let moves = b.graph.binary(Op::Gt, to, from);
        let next = b.graph.emit(Op::Where, &[moves, noised, w], Attrs::NONE);
        let x = b.process(0, ProcessFn::Decode, PURPOSE_SIMULATE, &[next, to])?[0];
        b.want(x, state, "decode", 0)?;
        Ok(if self.walks_data() { (x, x) } else { (next, x) })
    }

    /// `x + drift(x+, t) a + diffusion(x+, t) b xi` with a = dt, b = √dt, c = t and, of a positive process, x+ = max(x, 0)
    /// (full truncation: the path itself may go below 0, nothing ever sees it there).
    fn euler(
        &self,
        b: &mut Build<'_>,
        x: NodeId,
        [dt, root, t]: [NodeId; 3],
        state: Desc,
    ) -> Result<(NodeId, NodeId)> {
        let t = level_shaped(&mut b.graph, t, self.sizes.batch, state.shape.rank())?;
        let truncated = |b: &mut Build<'_>, x| match self.info.positive {
            true => {
                let zero = b.graph.scalar(0.0);
                b.graph.binary(Op::Max, x, zero)
            }
            false => x,
        };
        let seen = truncated(b, x);
        let of = b.process(0, ProcessFn::Sde, PURPOSE_SIMULATE, &[seen, t])?;
        let &[drift, diffusion] = of.as_slice() else {
            bail!(Plugin, "sde gave {} nodes, want 2", of.len());
        };
        let g = &mut b.graph;
        let attrs = Attrs::NONE
            .with_dims(AttrKey::Shape, state.dims())
            .with_int(AttrKey::Purpose, i64::from(PURPOSE_SIMULATE));
        let xi = g.emit(Op::Normal, &[], attrs);
        let push = g.mul(drift, dt);
        let kick = g.mul(diffusion, root);
        let kick = g.mul(kick, xi);
        let pushed = g.add(x, push);
        let next = g.add(pushed, kick);
        b.want(next, state, "sde", 0)?;
        Ok((next, truncated(b, next)))
    }
}
