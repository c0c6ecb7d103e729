//! Buffers that persist, plans that share them, and their replay.
//!
//! A session is built once: declare buffers (state, coefficients, conditions, slots), add one plan per step variant,
//! ask for its bytes, allocate, then write / run / read. Nothing is allocated after `allocate`.

use super::backend::{
    Backend, Executable, Home, Interrupt, Layout, Memory, Outcome, RunKey, StepTime,
};
use crate::bail;
use crate::base::{Desc, Result};
use crate::graph::place::aligned;
use crate::graph::plan::{Binding, Plan, plan};
use crate::graph::{Graph, NodeId};
use crate::mem::{Budget, Tensor};
use std::collections::HashMap;
use std::sync::Arc;

/// Bytes that are moved at a time where a buffer is filled or shown: a multiple of every element, small on a stack.
pub const PIECE: usize = 1 << 14;

/// A persistent buffer of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BufferId(pub u32);

/// A compiled graph of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PlanId(pub u32);

/// Where a weight of a graph lives.
#[derive(Debug, Clone)]
pub enum WeightBinding {
    /// Fixed, shared between sessions.
    Tensor(Arc<Tensor>),
    /// A buffer of this session (training writes it).
    Buffer(BufferId),
}

/// Declares buffers and plans.
pub struct SessionBuilder {
    backend: Arc<dyn Backend>,
    buffers: Vec<Buffer>,
    plans: Vec<Planned>,
    /// Bytes laid out so far, buffers, constants and copied weights; `None` after an overflow.
    end: Option<usize>,
    constants: HashMap<Vec<u8>, usize>,
    copies: Vec<(Arc<Tensor>, usize)>,
    fuse: bool,
    profile: bool,
}

#[derive(Debug, Clone)]
struct Buffer {
    name: String,
    desc: Desc,
    offset: usize,
}

struct Planned {
    plan: Plan,
    constants: Vec<usize>,
    weights: Vec<Option<Home>>,
}

impl SessionBuilder {
    pub fn new(backend: Arc<dyn Backend>) -> Self {
        Self {
            backend,
            buffers: Vec::new(),
            plans: Vec::new(),
            end: Some(0),
            constants: HashMap::new(),
            copies: Vec::new(),
            fuse: true,
            profile: false,
        }
    }

    /// Measures the time of every step of the plans (two clock reads per step).
    pub fn profile(&mut self, on: bool) {
        self.profile = on;
    }

    /// Whether pointwise nodes of plans added from now on run together (they do unless a test says no). Results are the
    /// same bits either way.
    pub fn fuse(&mut self, on: bool) {
        self.fuse = on;
    }

    /// A zeroed buffer that keeps its contents between runs. `name` appears in errors and profiles.
    pub fn buffer(&mut self, name: &str, desc: Desc) -> BufferId {
        let offset = self.take(desc.bytes());
        self.buffers.push(Buffer { name: name.to_owned(), desc, offset });
        BufferId(self.buffers.len() as u32 - 1)
    }

    /// Compiles a graph. `inputs[i]` is the buffer of `graph.inputs()[i]`; each output node is stored to its buffer at
    /// the end of the run, after every input was read (an output may go to a buffer that is also an input).
    /// `weights[i]` binds `graph.weights()[i]`. Descs must agree.
    pub fn plan(
        &mut self,
        graph: &Graph,
        inputs: &[BufferId],
        outputs: &[(NodeId, BufferId)],
        weights: &[WeightBinding],
    ) -> Result<PlanId> {
        graph.check()?;
        self.check_inputs(graph, inputs)?;
        self.check_outputs(graph, outputs)?;
        self.check_weights(graph, weights)?;
        let binding = Binding {
            inputs: &inputs.iter().map(|b| b.0).collect::<Vec<_>>(),
            outputs: &outputs.iter().map(|(n, b)| (*n, b.0)).collect::<Vec<_>>(),
            weights: &weights
                .iter()
                .map(|w| match w {
                    WeightBinding::Tensor(_) => None,
                    WeightBinding::Buffer(b) => Some(b.0),
                })
                .collect::<Vec<_>>(),
        };
        let mut plan = plan(graph, &binding, self.backend.scratch(), self.fuse)?;
        let constants = std::mem::take(&mut plan.constants);
        let constants = constants.into_iter().map(|bytes| self.constant(bytes)).collect();
        let mut homes = vec![None; weights.len()];
        for i in &plan.weights {
            if let WeightBinding::Tensor(tensor) = &weights[*i as usize] {
                homes[*i as usize] = Some(self.home(tensor));
            }
        }
        let work = aligned(plan.work_bytes);
        if self.end.zip(work).and_then(|(e, w)| e.checked_add(w)).is_none() {
            bail!(NoMemory, "a plan needs more bytes than an address space holds");
        }
        self.plans.push(Planned { plan, constants, weights: homes });
        Ok(PlanId(self.plans.len() as u32 - 1))
    }

    /// Bytes `allocate` will take: buffers, the largest plan's work memory, constants, scratch, packed weights.
    pub fn bytes(&self) -> u64 {
        let work = self.plans.iter().map(|p| p.plan.work_bytes).max().unwrap_or(0);
        let total = self.end.zip(aligned(work)).and_then(|(end, work)| end.checked_add(work));
        total.map_or(u64::MAX, |b| b as u64)
    }

    /// The steps of a plan as a table for people.
    pub fn describe(&self, plan: PlanId) -> String {
        self.plans.get(plan.0 as usize).map(|p| p.plan.describe()).unwrap_or_default()
    }

    /// Takes the memory, all of it, now. A cap below `bytes` is `NoMemory` before anything runs.
    pub fn allocate(self, budget: &Arc<Budget>) -> Result<Session> {
        let bytes = self.bytes();
        let backend = Arc::clone(&self.backend);
        let budget = backend.budget().unwrap_or(budget); // a device has memory of its own
        budget.check(bytes, "a session")?;
        let (Ok(bytes), Some(work)) = (usize::try_from(bytes), self.end) else {
            bail!(NoMemory, "a session needs more bytes than an address space holds");
        };
        let mut memory = self.backend.memory(bytes, budget)?;
        for (bytes, offset) in &self.constants {
            memory.write(*offset, bytes)?;
        }
        for (tensor, offset) in &self.copies {
            memory.write(*offset, tensor.bytes())?;
        }
        let buffers: Vec<usize> = self.buffers.iter().map(|b| b.offset).collect();
        let mut executables = Vec::with_capacity(self.plans.len());
        for Planned { plan, constants, weights } in self.plans {
            let layout = Layout { buffers: buffers.clone(), constants, weights, work };
            executables.push(self.backend.load(plan, layout, memory.as_mut(), self.profile)?);
        }
        Ok(Session { executables, memory, buffers: self.buffers, paused: None })
    }

    fn take(&mut self, bytes: usize) -> usize {
        let start = self.end.unwrap_or(0);
        self.end = self.end.zip(aligned(bytes)).and_then(|(e, b)| e.checked_add(b));
        start
    }

    fn constant(&mut self, bytes: Vec<u8>) -> usize {
        if let Some(offset) = self.constants.get(&bytes) {
            return *offset;
        }
        let offset = self.take(bytes.len());
        self.constants.insert(bytes, offset);
        offset
    }

    /// Where a fixed weight will be read: on the host, if the device can and the host aligned it.
    fn home(&mut self, tensor: &Arc<Tensor>) -> Home {
        let size = tensor.desc().dtype.bytes();
        let aligned = tensor.bytes().as_ptr().addr().is_multiple_of(size);
        if self.backend.reads_host_memory() && aligned {
            return Home::Host(Arc::clone(tensor));
        }
        if let Some((_, offset)) = self.copies.iter().find(|(t, _)| Arc::ptr_eq(t, tensor)) {
            return Home::Memory(*offset);
        }
        let offset = self.take(tensor.desc().bytes());
        self.copies.push((Arc::clone(tensor), offset));
        Home::Memory(offset)
    }

    fn declared(&self, id: BufferId) -> Result<&Buffer> {
        match self.buffers.get(id.0 as usize) {
            Some(b) => Ok(b),
            None => bail!(Invalid, "buffer {} was never declared in this session", id.0),
        }
    }

    fn check_inputs(&self, graph: &Graph, inputs: &[BufferId]) -> Result<()> {
        if inputs.len() != graph.inputs().len() {
            let want = graph.inputs().len();
            bail!(Invalid, "the graph has {want} inputs, {} are bound", inputs.len());
        }
        for (input, id) in graph.inputs().iter().zip(inputs) {
            let buffer = self.declared(*id)?;
            if buffer.desc != input.desc {
                let (want, have) = (input.desc, buffer.desc);
                bail!(
                    Invalid,
                    "input {}: want {want}, buffer {} is {have}",
                    input.name,
                    buffer.name
                );
            }
        }
        Ok(())
    }

    fn check_outputs(&self, graph: &Graph, outputs: &[(NodeId, BufferId)]) -> Result<()> {
        for (node, id) in outputs {
            let buffer = self.declared(*id)?;
            if !graph.is_valid(*node) {
                bail!(
                    Invalid,
                    "output {}: node {} does not exist in this graph",
                    buffer.name,
                    node.0
                );
            }
            if graph.desc(*node) != buffer.desc {
                let (want, have) = (buffer.desc, graph.desc(*node));
                bail!(Invalid, "output {}: want {want}, the node is {have}", buffer.name);
            }
        }
        Ok(())
    }

    fn check_weights(&self, graph: &Graph, weights: &[WeightBinding]) -> Result<()> {
        if weights.len() != graph.weights().len() {
            let want = graph.weights().len();
            bail!(Invalid, "the graph has {want} weights, {} are bound", weights.len());
        }
        for (weight, binding) in graph.weights().iter().zip(weights) {
            let have = match binding {
                WeightBinding::Tensor(tensor) => tensor.desc(),
                WeightBinding::Buffer(id) => self.declared(*id)?.desc,
            };
            if have != weight.desc {
                let (slot, name, want) = (&weight.slot, &weight.name, weight.desc);
                bail!(Invalid, "weight {slot}/{name}: want {want}, bound to {have}");
            }
        }
        Ok(())
    }
}

/// A planned, allocated set of graphs over shared buffers.
pub struct Session {
    /// Before `memory`: dropped first.
    executables: Vec<Box<dyn Executable>>,
    memory: Box<dyn Memory>,
    buffers: Vec<Buffer>,
    paused: Option<(PlanId, RunKey, usize)>,
}

impl Session {
    /// Copies host bytes into a buffer; the length must match.
    pub fn write(&mut self, buffer: BufferId, bytes: &[u8]) -> Result<()> {
        let offset = self.locate(buffer, bytes.len())?;
        self.memory.write(offset, bytes)
    }

    /// Copies a buffer to host bytes; the length must match.
    pub fn read(&self, buffer: BufferId, bytes: &mut [u8]) -> Result<()> {
        let offset = self.locate(buffer, bytes.len())?;
        self.memory.read(offset, bytes)
    }

    /// Copies host bytes into a part of a buffer, from byte `at` on.
    pub fn write_at(&mut self, buffer: BufferId, at: usize, bytes: &[u8]) -> Result<()> {
        let offset = self.locate_part(buffer, at, bytes.len())?;
        self.memory.write(offset, bytes)
    }

    /// Copies a part of a buffer, from byte `at` on, to host bytes.
    pub fn read_at(&self, buffer: BufferId, at: usize, bytes: &mut [u8]) -> Result<()> {
        let offset = self.locate_part(buffer, at, bytes.len())?;
        self.memory.read(offset, bytes)
    }

    /// Fills a buffer piece by piece: `from` gets the byte where a piece begins, and the piece. Takes no memory.
    pub fn fill(
        &mut self,
        buffer: BufferId,
        from: &mut dyn FnMut(usize, &mut [u8]) -> Result<()>,
    ) -> Result<()> {
        let n = self.desc(buffer)?.bytes();
        let mut piece = [0; PIECE];
        for at in (0..n).step_by(PIECE) {
            let part = &mut piece[..PIECE.min(n - at)];
            from(at, part)?;
            self.write_at(buffer, at, part)?;
        }
        Ok(())
    }

    /// Shows a buffer piece by piece, from its start to its end. Takes no memory.
    pub fn show(&self, buffer: BufferId, to: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let n = self.desc(buffer)?.bytes();
        let mut piece = [0; PIECE];
        for at in (0..n).step_by(PIECE) {
            let part = &mut piece[..PIECE.min(n - at)];
            self.read_at(buffer, at, part)?;
            to(part)?;
        }
        Ok(())
    }

    /// Type and shape of a buffer.
    pub fn desc(&self, buffer: BufferId) -> Result<Desc> {
        match self.buffers.get(buffer.0 as usize) {
            Some(b) => Ok(b.desc),
            None => bail!(Invalid, "buffer {} was never declared in this session", buffer.0),
        }
    }

    /// Replays a plan once. `interrupt` is asked between nodes. Returns false when it was paused: then some outputs may
    /// be written and others not, and only the same plan and key can run next. After a cancelled or failed run the
    /// contents of output buffers are undefined.
    pub fn run(
        &mut self,
        plan: PlanId,
        key: RunKey,
        interrupt: &mut dyn FnMut() -> Interrupt,
    ) -> Result<bool> {
        let Some(executable) = self.executables.get_mut(plan.0 as usize) else {
            bail!(Invalid, "plan {} was never added to this session", plan.0);
        };
        let from = match self.paused {
            None => 0,
            Some((p, k, from)) if p == plan && k == key => from,
            Some((p, k, _)) => bail!(
                State,
                "plan {} with step {} is asked for while plan {} with step {} is paused",
                plan.0,
                key.step,
                p.0,
                k.step
            ),
        };
        self.paused = None;
        match executable.run(self.memory.as_mut(), key, from, interrupt)? {
            Outcome::Finished => Ok(true),
            Outcome::Paused(at) => {
                self.paused = Some((plan, key, at));
                Ok(false)
            }
            Outcome::Cancelled => bail!(Cancelled, "the run was cancelled"),
        }
    }

    /// `run` from first step to last, nobody asked.
    pub fn replay(&mut self, plan: PlanId, key: RunKey) -> Result<()> {
        self.run(plan, key, &mut || Interrupt::Continue).map(|_| ())
    }

    /// Whether a run is paused, and waits to be finished or given up.
    pub fn is_paused(&self) -> bool {
        self.paused.is_some()
    }

    /// Gives up a paused run; its output buffers are undefined.
    pub fn give_up(&mut self) {
        self.paused = None;
    }

    /// Times per step of a plan, empty unless the builder was told to profile.
    pub fn profile(&self, plan: PlanId) -> &[StepTime] {
        self.executables.get(plan.0 as usize).map_or(&[], |e| e.profile())
    }

    fn locate(&self, id: BufferId, len: usize) -> Result<usize> {
        let Some(buffer) = self.buffers.get(id.0 as usize) else {
            bail!(Invalid, "buffer {} was never declared in this session", id.0);
        };
        let want = buffer.desc.bytes();
        if want != len {
            bail!(Invalid, "buffer {}: is {want} bytes, given {len}", buffer.name);
        }
        Ok(buffer.offset)
    }

    fn locate_part(&self, id: BufferId, at: usize, len: usize) -> Result<usize> {
        let size = self.desc(id)?.bytes();
        if at.checked_add(len).is_none_or(|end| end > size) {
            bail!(Invalid, "buffer {}: has {size} bytes, want {len} from {at} on", id.0);
        }
        Ok(self.locate(id, size)? + at)
    }
}
