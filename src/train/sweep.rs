//! A sweep over a stored trajectory: an objective's `sweep` as one plan, replayed from record to record in either
//! direction with a carry of the state's shape. So an adjoint, or any recursion over what a sampler passed through, is
//! a graph like any other, built once whatever the number of records.
//!
//! The record a sweep sets out from keeps the carry it begins with (the reward's gradient, or 0); from there on each
//! record's carry is what the plan made of the one before.

use super::objective::{Objective, SweepIo, record};
use crate::bail;
use crate::base::{Desc, Result};
use crate::exec::{Backend, BufferId, Interrupt, PlanId, RunKey, Session, SessionBuilder};
use crate::mem::{Block, Budget};
use crate::sample::{Binder, Build, Parts, Space, Trajectory};
use std::sync::Arc;

/// A planned sweep in a session of its own. It serves any trajectory of its batch.
pub struct Sweep {
    session: Session,
    swept: SweepPlan,
    bytes: u64,
    budget: Arc<Budget>,
}

/// A sweep as a plan of a session, which may hold other plans.
pub struct SweepPlan {
    plan: PlanId,
    backwards: bool,
    components: Vec<Places>,
    /// [components] levels at this record, and at the one visited before.
    levels: [BufferId; 2],
    /// [components, 3], where the objective wants the kernels.
    kernels: Option<BufferId>,
    wide: bool,
}

/// The buffers of one component.
#[derive(Debug, Clone, Copy)]
struct Places {
    x: BufferId,
    x_next: BufferId,
    carry: BufferId,
    carry_bytes: usize,
}

impl Sweep {
    pub fn new(
        backend: Arc<dyn Backend>,
        parts: &Parts,
        objective: &dyn Objective,
        batch: usize,
        bind: &mut Binder<'_>,
        budget: &Arc<Budget>,
    ) -> Result<Self> {
        let mut session = SessionBuilder::new(backend);
        let swept = SweepPlan::add(&mut session, parts, objective, batch, bind)?;
        let bytes = session.bytes();
        let session = session.allocate(budget)?;
        Ok(Self { session, swept, bytes, budget: Arc::clone(budget) })
    }

    /// Memory the session took.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// As [`SweepPlan::run`].
    pub fn run(
        &mut self,
        trajectory: &Trajectory,
        first: Option<&[Vec<u8>]>,
        key: RunKey,
        interrupt: &mut dyn FnMut() -> Interrupt,
    ) -> Result<Vec<Block>> {
        self.swept.run(&mut self.session, trajectory, first, key, &self.budget, interrupt)
    }
}

impl SweepPlan {
    pub fn add(
        session: &mut SessionBuilder,
        parts: &Parts,
        objective: &dyn Objective,
        batch: usize,
        bind: &mut Binder<'_>,
    ) -> Result<Self> {
        if !objective.has_sweep() {
            bail!(Unsupported, "the objective has no sweep");
        }
        let info = objective.info()?;
        let n = parts.components.len();
        let mut b = Build::new(parts, batch)?;
        let mut inputs = Vec::new();
        let mut components = Vec::new();
        let (mut x, mut x_next, mut carry) = (Vec::new(), Vec::new(), Vec::new());
        for (c, component) in parts.components.iter().enumerate() {
            let state = parts.state(c, batch)?;
            let carried = carry_desc(parts, c, batch)?;
            let mut input = |kind: &str, desc: Desc| {
                let name = format!("{kind}.{}", component.name);
                let id = session.buffer(&name, desc);
                inputs.push(id);
                (b.graph.input(&name, desc), id)
            };
            let (at, next, from) =
                (input("x", state), input("x_next", state), input("carry", carried));
            x.push(at.0);
            x_next.push(next.0);
            carry.push(from.0);
            components.push(Places {
                x: at.1,
                x_next: next.1,
                carry: from.1,
                carry_bytes: carried.bytes(),
            });
        }
        let mut levels = [BufferId(0); 2];
        let mut sigmas = [Vec::new(), Vec::new()];
        for (which, name) in ["sigma", "sigma_next"].into_iter().enumerate() {
            let desc = Desc::new(parts.float, &[n])?;
            levels[which] = session.buffer(name, desc);
            inputs.push(levels[which]);
            let all = b.graph.input(name, desc);
            for c in 0..n {
                sigmas[which].push(scalar(&mut b, all, c));
            }
        }
        let [sigma, sigma_next] = sigmas;
        let mut kernel = Vec::new();
        let mut kernels = None;
        if info.records & record::KERNELS != 0 {
            let desc = Desc::new(parts.float, &[n, 3])?;
            let id = session.buffer("kernel", desc);
            inputs.push(id);
            kernels = Some(id);
            let all = b.graph.input("kernel", desc);
            kernel.extend((0..n).map(|c| row(&mut b, all, c)));
        }
        let carry_out = carry.clone();
        let mut io = SweepIo { x, x_next, carry_out, carry, sigma, sigma_next, kernel };
        objective.sweep(&mut b, &mut io)?;
        b.graph.check()?;
        if io.carry_out.len() != n {
            bail!(Plugin, "sweep: gave {} carries, want {n}", io.carry_out.len());
        }
        let mut outputs = Vec::new();
        for (c, (node, places)) in io.carry_out.iter().zip(&components).enumerate() {
            let want = carry_desc(parts, c, batch)?;
            if !b.graph.is_valid(*node) || b.graph.desc(*node) != want {
                bail!(Plugin, "sweep: the carry of {} is not {want}", parts.components[c].name);
            }
            outputs.push((*node, places.carry));
        }
        let weights = bind(b.graph.weights())?;
        let plan = session.plan(&b.graph, &inputs, &outputs, &weights)?;
        let backwards = info.sweep_backwards;
        let wide = parts.float == crate::base::DType::F64;
        Ok(Self { plan, backwards, components, levels, kernels, wide })
    }

    /// The carry at every record, [records, batch, ...] bytes per component. `first` is the carry of the record the
    /// sweep sets out from, one batch per component; none is zeros. Draws are addressed by record.
    pub fn run(
        &mut self,
        session: &mut Session,
        trajectory: &Trajectory,
        first: Option<&[Vec<u8>]>,
        key: RunKey,
        budget: &Arc<Budget>,
        interrupt: &mut dyn FnMut() -> Interrupt,
    ) -> Result<Vec<Block>> {
        let n = self.components.len();
        let records = trajectory.levels.len() / n.max(1);
        if trajectory.states.len() != n || records == 0 {
            bail!(
                Invalid,
                "sweep: a trajectory of {} components, want {n}",
                trajectory.states.len()
            );
        }
        let start = if self.backwards { records - 1 } else { 0 };
        let mut carries = Vec::new();
        for (c, places) in self.components.iter().enumerate() {
            let mut all =
                Block::new(places.carry_bytes.saturating_mul(records), budget, "a sweep")?;
            let slot = &mut all.bytes_mut()[start * places.carry_bytes..][..places.carry_bytes];
            match first.map(|f| f.get(c)) {
                None => {}
                Some(Some(bytes)) if bytes.len() == slot.len() => slot.copy_from_slice(bytes),
                Some(_) => bail!(
                    Invalid,
                    "sweep: the first carry of component {c} is not of {} bytes",
                    slot.len()
                ),
            }
            session.write(places.carry, slot)?;
            carries.push(all);
        }
        for visit in 1..records {
            let (at, before) = match self.backwards {
                true => (start - visit, start - visit + 1),
                false => (visit, visit - 1),
            };
            for (places, (desc, states)) in self.components.iter().zip(&trajectory.states) {
                let size = desc.bytes();
                for (buffer, k) in [(places.x, at), (places.x_next, before)] {
                    match states.bytes().get(k * size..(k + 1) * size) {
                        Some(state) => session.write(buffer, state)?,
                        None => bail!(Invalid, "sweep: the trajectory has no record {k}"),
                    }
                }
            }
            for (which, k) in [(0, at), (1, before)] {
                let levels = self.encoded(&trajectory.levels[k * n..(k + 1) * n]);
                session.write(self.levels[which], &levels)?;
            }
            if let Some(kernels) = self.kernels {
                let step = at.min(before) * 3 * n; // the step between the two records
                match trajectory.kernels.get(step..step + 3 * n) {
                    Some(kernel) => session.write(kernels, &self.encoded(kernel))?,
                    None => {
                        bail!(Invalid, "sweep: the trajectory has no kernel {}", at.min(before))
                    }
                }
            }
            let key = RunKey { step: at as u32, ..key };
            while !session.run(self.plan, key, interrupt)? {}
            for (places, all) in self.components.iter().zip(&mut carries) {
                let size = places.carry_bytes;
                session.read(places.carry, &mut all.bytes_mut()[at * size..(at + 1) * size])?;
            }
        }
        Ok(carries)
    }

    fn encoded(&self, values: &[f64]) -> Vec<u8> {
        match self.wide {
            true => values.iter().flat_map(|v| v.to_ne_bytes()).collect(),
            false => values.iter().flat_map(|v| (*v as f32).to_ne_bytes()).collect(),
        }
    }
}

/// A carry has the state's shape in the float type, for tokens too.
pub fn carry_desc(parts: &Parts, c: usize, batch: usize) -> Result<Desc> {
    let state = parts.state(c, batch)?;
    match parts.components[c].space {
        Space::Continuous => Ok(state),
        Space::Discrete => Desc::new(parts.float, state.dims()),
    }
}

fn scalar(b: &mut Build<'_>, all: crate::graph::NodeId, at: usize) -> crate::graph::NodeId {
    use crate::graph::{AttrKey, Attrs, Op};
    let cut = Attrs::NONE.with_dims(AttrKey::Start, &[at]).with_dims(AttrKey::Stop, &[at + 1]);
    let cell = b.graph.emit(Op::Slice, &[all], cut);
    b.graph.emit(Op::Reshape, &[cell], Attrs::NONE.with_dims(AttrKey::Shape, &[]))
}

/// Row `at` of [n, 3].
fn row(b: &mut Build<'_>, all: crate::graph::NodeId, at: usize) -> crate::graph::NodeId {
    use crate::graph::{AttrKey, Attrs, Op};
    let cut =
        Attrs::NONE.with_dims(AttrKey::Start, &[at, 0]).with_dims(AttrKey::Stop, &[at + 1, 3]);
    let one = b.graph.emit(Op::Slice, &[all], cut);
    b.graph.emit(Op::Reshape, &[one], Attrs::NONE.with_dims(AttrKey::Shape, &[3]))
}
