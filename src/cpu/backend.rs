//! The backend: memory on the host, plans as lists of steps with resolved addresses.

use super::call::{Call, In, Out};
use super::kernel::{self, split::Share};
use super::pointwise::{self, Level, Prepared};
use super::pool::Pool;
use crate::bail;
use crate::base::{Desc, Result};
use crate::exec::backend::{
    Backend, Executable, Home, Interrupt, Layout, Memory, Outcome, RunKey, StepTime,
};
use crate::graph::plan::{Action, Place, Plan, Scratch, Slot};
use crate::graph::{Attrs, Op, Program};
use crate::mem::{Block, Budget, Tensor};
use std::sync::Arc;
use std::time::Instant;

/// Most operands a kernel can have (concat).
const MAX_OPERANDS: usize = 64;

/// The CPU as a device.
pub struct Cpu {
    pool: Arc<Pool>,
    level: Level,
}

impl Cpu {
    /// A device with a pool of its own.
    pub fn new(threads: usize) -> Self {
        Self::with_pool(Arc::new(Pool::new(threads)))
    }

    /// A device that shares a pool.
    pub fn with_pool(pool: Arc<Pool>) -> Self {
        Self { pool, level: Level::detect() }
    }

    /// The same with no better vector instructions than `level`: to test that they do not show.
    #[must_use]
    pub fn at_level(mut self, level: Level) -> Self {
        self.level = level.min(Level::detect());
        self
    }
}

impl Scratch for Cpu {
    fn kernel(&self, op: Op, attrs: &Attrs, inputs: &[Desc], out: Desc) -> usize {
        kernel::scratch_bytes(op, attrs, inputs, out, self.pool.threads())
    }

    fn program(&self, program: &Program) -> usize {
        pointwise::scratch_bytes(program, self.pool.threads())
    }
}

impl Backend for Cpu {
    fn name(&self) -> &str {
        "cpu"
    }

    fn describe(&self) -> Result<String> {
        let n = self.pool.threads();
        Ok(format!("cpu, {n} thread{}, {:?}", if n == 1 { "" } else { "s" }, self.level))
    }

    fn scratch(&self) -> &dyn Scratch {
        self
    }

    fn lanes(&self) -> usize {
        self.pool.threads()
    }

    fn lane(&self) -> Option<Arc<dyn Backend>> {
        Some(Arc::new(Self { pool: Arc::new(Pool::new(1)), level: self.level }))
    }

    fn spread(&self, tasks: usize, f: &(dyn Fn(usize) + Sync)) -> Result<()> {
        self.pool.run(tasks, f)
    }

    fn reads_host_memory(&self) -> bool {
        true
    }

    fn memory(&self, bytes: usize, budget: &Arc<Budget>) -> Result<Box<dyn Memory>> {
        Ok(Box::new(HostMemory(Block::new(bytes, budget, "a session")?)))
    }

    fn load(
        &self,
        plan: Plan,
        layout: Layout,
        memory: &mut dyn Memory,
        profile: bool,
    ) -> Result<Box<dyn Executable>> {
        let loader = Loader { cpu: self, layout: &layout, base: memory.base() };
        let mut steps = Vec::with_capacity(plan.steps.len());
        let mut turns = Vec::with_capacity(plan.steps.len());
        let mut scopes = Vec::with_capacity(plan.steps.len());
        let mut times = Vec::new();
        for step in plan.steps {
            let ready = loader.step(&step.action, step.scratch)?;
            // several threads share a step already; one thread pauses between shares
            let of = if self.pool.threads() == 1 { ready.shares() } else { 1 };
            turns.extend((0..of).map(|index| (steps.len(), Share { index, of })));
            steps.push(ready);
            if profile {
                let name = format!("{} {}", step.scope, step.name);
                times.push(StepTime { name: name.trim().to_owned(), runs: 0, ns: 0 });
            }
            scopes.push(step.scope);
        }
        let weights = layout.weights.into_iter().flatten();
        let weights = weights.filter_map(|h| match h {
            Home::Host(tensor) => Some(tensor),
            Home::Memory(_) => None,
        });
        let (pool, weights) = (Arc::clone(&self.pool), weights.collect());
        Ok(Box::new(Loaded { steps, turns, scopes, pool, times, _weights: weights }))
    }
}

struct HostMemory(Block);

impl Memory for HostMemory {
    fn write(&mut self, offset: usize, bytes: &[u8]) -> Result<()> {
        let end = offset.checked_add(bytes.len());
        match end.and_then(|end| self.0.bytes_mut().get_mut(offset..end)) {
            Some(to) => to.copy_from_slice(bytes),
            None => bail!(Internal, "write of {} bytes at {offset} is outside", bytes.len()),
        }
        Ok(())
    }

    fn read(&self, offset: usize, bytes: &mut [u8]) -> Result<()> {
        let end = offset.checked_add(bytes.len());
        match end.and_then(|end| self.0.bytes().get(offset..end)) {
            Some(from) => bytes.copy_from_slice(from),
            None => bail!(Internal, "read of {} bytes at {offset} is outside", bytes.len()),
        }
        Ok(())
    }

    fn base(&self) -> *mut u8 {
        self.0.as_ptr()
    }
}

/// An operand with its address.
#[derive(Clone, Copy)]
struct Operand {
    desc: Desc,
    data: *mut u8,
}

/// A step with its addresses.
enum Ready {
    Kernel {
        op: Op,
        attrs: Attrs,
        inputs: Vec<Operand>,
        output: Operand,
        scratch: (*mut u8, usize),
    },
    Program(Prepared),
    Copy {
        from: *const u8,
        to: *mut u8,
        bytes: usize,
    },
}

/// A plan with its addresses.
struct Loaded {
    steps: Vec<Ready>,
    /// What is run one after the other, and where a run pauses: steps, the long ones share by share.
    turns: Vec<(usize, Share)>,
    scopes: Vec<String>,
    pool: Arc<Pool>,
    times: Vec<StepTime>,
    /// Keeps the memory of fixed weights alive.
    _weights: Vec<Arc<Tensor>>,
}

// Safety: the pointers lead into the session's memory and into shared weights; `run` is given the memory exclusively,
// and weights are only read.
unsafe impl Send for Loaded {}

/// Resolves places.
struct Loader<'a> {
    cpu: &'a Cpu,
    layout: &'a Layout,
    base: *mut u8,
}

impl Loader<'_> {
    fn step(&self, action: &Action, scratch: (usize, usize)) -> Result<Ready> {
        let file = self.base.wrapping_add(self.layout.work + scratch.0);
        Ok(match action {
            Action::Kernel { op, attrs, inputs, output } => {
                if inputs.len() > MAX_OPERANDS {
                    bail!(Unsupported, "{}: more than {MAX_OPERANDS} operands", op.name());
                }
                Ready::Kernel {
                    op: *op,
                    attrs: attrs.clone(),
                    inputs: inputs.iter().map(|s| self.operand(s)).collect::<Result<_>>()?,
                    output: self.operand(output)?,
                    scratch: (file, scratch.1),
                }
            }
            Action::Program { program, inputs, outputs, staged } => {
                let at = |p: &Place| self.address(*p);
                let inputs = inputs.iter().map(|p| Ok(at(p)?.cast_const()));
                let inputs = inputs.collect::<Result<Vec<_>>>()?;
                let outputs = outputs.iter().map(at).collect::<Result<Vec<_>>>()?;
                let (threads, level) = (self.cpu.pool.threads(), self.cpu.level);
                // Safety: the planner gave every value its own place for as long as it is used and said where results
                // land on operands; the session's memory stays where it is while the plan is loaded.
                Ready::Program(unsafe {
                    Prepared::new(program, &inputs, &outputs, staged, file, threads, level)
                }?)
            }
            Action::Copy { from, to, bytes } => Ready::Copy {
                from: self.address(*from)?.cast_const(),
                to: self.address(*to)?,
                bytes: *bytes,
            },
        })
    }

    fn operand(&self, slot: &Slot) -> Result<Operand> {
        Ok(Operand { desc: slot.desc, data: self.address(slot.place)? })
    }

    fn address(&self, place: Place) -> Result<*mut u8> {
        let offset = match place {
            Place::Work(at) => Some(self.layout.work + at),
            Place::Buffer(i) => self.layout.buffers.get(i as usize).copied(),
            Place::Constant(i) => self.layout.constants.get(i as usize).copied(),
            Place::Weight(i) => match self.layout.weights.get(i as usize) {
                Some(Some(Home::Host(tensor))) => return Ok(tensor.bytes().as_ptr().cast_mut()),
                Some(Some(Home::Memory(at))) => Some(*at),
                _ => None,
            },
        };
        match offset {
            Some(offset) => Ok(self.base.wrapping_add(offset)),
            None => bail!(Internal, "{place} has no address"),
        }
    }
}

impl Executable for Loaded {
    fn run(
        &mut self,
        _memory: &mut dyn Memory, // exclusive access to what the addresses lead to
        key: RunKey,
        from: usize,
        interrupt: &mut dyn FnMut() -> Interrupt,
    ) -> Result<Outcome> {
        for (turn, (i, share)) in self.turns.iter().enumerate().skip(from) {
            match interrupt() {
                Interrupt::Continue => {}
                Interrupt::Pause => return Ok(Outcome::Paused(turn)),
                Interrupt::Cancel => return Ok(Outcome::Cancelled),
            }
            let (i, step) = (*i, &self.steps[*i]); // `load` made the turns of the steps
            let start = self.times.get(i).map(|_| Instant::now());
            // Safety: the session lends its memory exclusively, and the planner keeps values apart.
            if let Err(e) = unsafe { step.run(&self.pool, key, *share) } {
                let scope = &self.scopes[i];
                return Err(if scope.is_empty() { e } else { e.within(scope) });
            }
            if let (Some(time), Some(start)) = (self.times.get_mut(i), start) {
                time.runs += u64::from(share.index == 0);
                time.ns += start.elapsed().as_nanos() as u64;
            }
        }
        Ok(Outcome::Finished)
    }

    fn profile(&self) -> &[StepTime] {
        &self.times
    }
}

impl Ready {
    /// How many turns it takes.
    fn shares(&self) -> usize {
        match self {
            Self::Kernel { op, attrs, inputs, output, .. } => {
                let inputs: Vec<Desc> = inputs.iter().map(|i| i.desc).collect();
                kernel::shares(*op, attrs, &inputs, output.desc)
            }
            Self::Program(program) => program.shares(),
            Self::Copy { .. } => 1,
        }
    }

    /// # Safety
    /// Nobody else may use the step's memory meanwhile.
    unsafe fn run(&self, pool: &Pool, key: RunKey, share: Share) -> Result<()> {
        match self {
            // Safety: the caller's promise.
            Self::Program(program) => unsafe { program.run(pool, share) },
            Self::Copy { from, to, bytes } => {
                // Safety: both places are `bytes` long and apart.
                unsafe { std::ptr::copy_nonoverlapping(*from, *to, *bytes) };
                Ok(())
            }
            Self::Kernel { op, attrs, inputs, output, scratch } => {
                // Safety: result and scratch are alive only in this step and apart from every operand.
                let (out, scratch) = unsafe {
                    (
                        Out {
                            desc: output.desc,
                            data: bytes_mut(output.data, output.desc.bytes()),
                        },
                        bytes_mut(scratch.0, scratch.1),
                    )
                };
                // few operands is the rule: do not fill 64 for two
                let mut few = [In { desc: output.desc, data: &[] }; 4];
                let mut many;
                let operands: &mut [In<'_>] = if inputs.len() <= few.len() {
                    &mut few
                } else {
                    many = [In { desc: output.desc, data: &[] }; MAX_OPERANDS];
                    &mut many
                };
                for (to, from) in operands.iter_mut().zip(inputs) {
                    // Safety: the place holds a tensor of this desc that nobody writes meanwhile.
                    let data = unsafe { bytes(from.data, from.desc.bytes()) };
                    *to = In { desc: from.desc, data };
                }
                let inputs = &operands[..inputs.len()];
                kernel::run(&mut Call { op: *op, attrs, inputs, out, scratch, pool, share, key })
            }
        }
    }
}

/// # Safety
/// As `std::slice::from_raw_parts`; an empty slice may have any address.
unsafe fn bytes<'a>(p: *const u8, len: usize) -> &'a [u8] {
    if len == 0 {
        return &[];
    }
    // Safety: the caller's promise.
    unsafe { std::slice::from_raw_parts(p, len) }
}

/// # Safety
/// As `std::slice::from_raw_parts_mut`; an empty slice may have any address.
unsafe fn bytes_mut<'a>(p: *mut u8, len: usize) -> &'a mut [u8] {
    if len == 0 {
        return &mut [];
    }
    // Safety: the caller's promise.
    unsafe { std::slice::from_raw_parts_mut(p, len) }
}
