//! A sweep over a stored trajectory: an objective's `sweep` as one plan, replayed from record to record in either
//! direction with a carry of the state's shape. So an adjoint, or any recursion over what a sampler passed through, is
//! a graph like any other, built once whatever the number of records.
//!
//! The record a sweep sets out from keeps the carry it begins with (the reward's gradient, or 0); from there on each
//! record's carry is what the plan made of the one before.

use super::objective::{Objective, SweepIo};
use crate::bail;
use crate::base::{Desc, Result};
use crate::exec::{Backend, BufferId, Interrupt, PlanId, RunKey, Session, SessionBuilder};
use crate::mem::{Budget, zeros};
use crate::sample::{Binder, Build, Parts, Space, Trajectory};
use std::sync::Arc;

/// A planned sweep. It serves any trajectory of its batch.
pub struct Sweep {
    session: Session,
    plan: PlanId,
    backwards: bool,
    components: Vec<Places>,
    /// [components] levels at this record, and at the one visited before.
    levels: [BufferId; 2],
    staging: Vec<u8>,
    bytes: u64,
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
        if !objective.has_sweep() {
            bail!(Unsupported, "the objective has no sweep");
        }
        let n = parts.components.len();
        let mut session = SessionBuilder::new(backend);
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
        let mut io = SweepIo { x, x_next, carry_out: carry.clone(), carry, sigma, sigma_next };
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
        let bytes = session.bytes();
        let backwards = objective.info()?.sweep_backwards;
        let wide = parts.float == crate::base::DType::F64;
        let session = session.allocate(budget)?;
        Ok(Self { session, plan, backwards, components, levels, staging: Vec::new(), bytes, wide })
    }

    /// Memory the session took.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The carry at every record, [records, batch, ...] bytes per component. `first` is the carry of the record the
    /// sweep sets out from, one batch per component; none is zeros. Draws are addressed by record.
    pub fn run(
        &mut self,
        trajectory: &Trajectory,
        first: Option<&[Vec<u8>]>,
        key: RunKey,
        interrupt: &mut dyn FnMut() -> Interrupt,
    ) -> Result<Vec<Vec<u8>>> {
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
            let mut all = zeros(places.carry_bytes.saturating_mul(records), "a sweep")?;
            let slot = &mut all[start * places.carry_bytes..][..places.carry_bytes];
            match first.map(|f| f.get(c)) {
                None => {}
                Some(Some(bytes)) if bytes.len() == slot.len() => slot.copy_from_slice(bytes),
                Some(_) => bail!(
                    Invalid,
                    "sweep: the first carry of component {c} is not of {} bytes",
                    slot.len()
                ),
            }
            self.session.write(places.carry, slot)?;
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
                    match states.get(k * size..(k + 1) * size) {
                        Some(state) => self.session.write(buffer, state)?,
                        None => bail!(Invalid, "sweep: the trajectory has no record {k}"),
                    }
                }
            }
            for (which, k) in [(0, at), (1, before)] {
                self.staging.clear();
                for level in &trajectory.levels[k * n..(k + 1) * n] {
                    match self.wide {
                        true => self.staging.extend_from_slice(&level.to_ne_bytes()),
                        false => self.staging.extend_from_slice(&(*level as f32).to_ne_bytes()),
                    }
                }
                self.session.write(self.levels[which], &self.staging)?;
            }
            let key = RunKey { step: at as u32, ..key };
            while !self.session.run(self.plan, key, interrupt)? {}
            for (places, all) in self.components.iter().zip(&mut carries) {
                let size = places.carry_bytes;
                self.session.read(places.carry, &mut all[at * size..(at + 1) * size])?;
            }
        }
        Ok(carries)
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
