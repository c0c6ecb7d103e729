//! The graphs of a run: start (prior, tilted by guidances), one step per variant, finish (decode, judge), preview.
//!
//! Graphs are wired by name: an input called `state.x` and an output stored to `state.x` are the same buffer. What a
//! name means is decided here and nowhere else; `program` gives each name a buffer.

use super::build::{Build, Parts};
use super::convert::{level_shaped, reshape};
use super::held::{Held, Owner};
use super::rows::{Form, Rows};
use super::traits::{GuideIo, Hook, ModelIo, ProcessFn, Sampler, SamplerInfo, Space, StepIo};
use crate::bail;
use crate::base::{DType, Desc, Result};
use crate::graph::{AttrKey, Attrs, Graph, NodeId, Op};

/// Draws of the prior (`DFX_PURPOSE_PRIOR`).
pub(super) const PURPOSE_PRIOR: u8 = 1;

pub(super) const ROW: &str = "row";
pub(super) const TABLE: &str = "table";
/// With control: the row each sample is at.
pub(super) const POINTER: &str = "pointer";
/// With control: how many samples are under way.
pub(super) const LIVE: &str = "live";
pub(super) const WEIGHT: &str = "log_weight";
/// Slot of the network that makes pictures of finished samples, and the result they are.
pub const IMAGE: &str = "image";
/// Normals that are given, where a run has them.
pub(super) const NOISE: &str = "noise.";
/// A positive coordinate is kept from here on: the slopes of the next step divide by nothing smaller.
const LEAST_POSITIVE: f64 = 1e-9;

pub(super) fn state(name: &str) -> String {
    format!("state.{name}")
}
pub(super) fn cond(name: &str) -> String {
    format!("cond.{name}")
}
/// The input of a run that sets out from data, one per component.
pub fn start_input(name: &str) -> String {
    format!("start.{name}")
}
pub(super) fn denoised(name: &str) -> String {
    format!("denoised.{name}")
}
pub(super) fn preview(name: &str) -> String {
    format!("preview.{name}")
}
/// Results: components, `feasible`, `log_weight`, `image`.
pub(super) fn out(name: &str) -> String {
    format!("out.{name}")
}

/// One graph with the names its results are stored under.
pub(super) struct Stage {
    pub(super) graph: Graph,
    pub(super) outputs: Vec<(NodeId, String)>,
    pub(super) held: Vec<Held>,
}

/// What the graphs of a run share.
#[derive(Clone, Copy)]
pub(super) struct Plan<'a> {
    pub(super) parts: &'a Parts,
    pub(super) sampler: &'a dyn Sampler,
    pub(super) info: &'a SamplerInfo,
    pub(super) rows: &'a Rows,
    pub(super) batch: usize,
    /// Steps also store the newest denoised estimate.
    pub(super) preview: bool,
}

impl<'a> Plan<'a> {
    /// The prior at the first level, or given data noised to it, tilted by the guidances that can. `held` is what the other stages hold.
    pub(super) fn start(&self, held: &[Held]) -> Result<Stage> {
        let mut b = self.open(false)?;
        let levels = self.levels(&mut b, None, false)?;
        let mut x = Vec::new();
        for (c, level) in levels.iter().enumerate() {
            if self.rows.from_data {
                let w0 = self.given(&mut b, c)?;
                b.outset.push(w0);
            }
            let w = b.process(c, ProcessFn::Prior, PURPOSE_PRIOR, &[*level])?[0];
            b.want(w, self.parts.state(c, self.batch)?, "prior", c)?;
            x.push(w);
        }
        let mut weight = b.graph.full(0.0, self.parts.float, &[self.batch]);
        for i in 0..self.parts.guidances.len() {
            let io = self.hook(&mut b, Hook::Start, i, &x, &levels)?;
            x = io.out;
            weight = self.weigh(&mut b, weight, io.log_weight)?;
        }
        let mut outputs = self.named(&x, state);
        outputs.push((weight, WEIGHT.to_owned()));
        if self.rows.control {
            outputs.push((b.graph.full(0.0, DType::I32, &[self.batch]), POINTER.to_owned()));
        }
        for h in held {
            let known = b.held.iter().find(|k| k.name == h.name).map(|k| k.now);
            let node = known.unwrap_or_else(|| b.graph.full(h.init, h.desc.dtype, h.desc.dims()));
            outputs.push((node, h.name.clone()));
        }
        self.close(b, outputs)
    }

    /// One step: state in, state out.
    pub(super) fn step(&self, form: &Form) -> Result<Stage> {
        let mut b = self.open(true)?;
        b.variants.clone_from(&form.guidance);
        let n = self.parts.components.len();
        let mut x = Vec::new();
        for (c, component) in self.parts.components.iter().enumerate() {
            x.push(b.graph.input(&state(&component.name), self.parts.state(c, self.batch)?));
        }
        let weight_desc = Desc::new(self.parts.float, &[self.batch])?;
        let weight_in = b.graph.input(WEIGHT, weight_desc);
        let pointer = match self.rows.control {
            true => Some(b.graph.input(POINTER, Desc::new(DType::I32, &[self.batch])?)),
            false => None,
        };
        let coeff = (0..self.rows.n_coeff)
            .map(|k| self.column(&mut b, k, pointer))
            .collect::<Result<Vec<_>>>()?;
        let slots = b.hold(Owner::Sampler, &self.info.slots)?;
        let mut io = StepIo {
            variant: form.variant,
            x: x.clone(),
            coeff,
            slots_out: slots.clone(),
            slots,
            next: vec![NodeId::ERROR; n],
            control: None,
            denoised: vec![None; n],
        };
        self.sampler.step(&mut b, &mut io)?;
        b.graph.check()?;
        if io.next.len() != n || io.denoised.len() != n {
            bail!(Plugin, "sampler: {} next states, want {n}", io.next.len());
        }
        for (c, node) in io.next.iter().enumerate() {
            b.want(*node, self.parts.state(c, self.batch)?, "sampler: next state", c)?;
        }
        b.keep(&Owner::Sampler, &io.slots_out)?;

        let mut next = io.next.clone();
        for (c, w) in next.iter_mut().enumerate() {
            if b.positive(c)? {
                let least = b.graph.scalar(LEAST_POSITIVE);
                *w = b.graph.binary(Op::Max, *w, least);
            }
        }
        let mut weight = weight_in;
        let guided = |hook| self.parts.guidances.iter().any(|g| g.has(hook));
        let levels = match guided(Hook::Project) || guided(Hook::Permute) {
            true => self.levels_after(&mut b, pointer, io.control)?,
            false => Vec::new(),
        };
        for i in 0..self.parts.guidances.len() {
            let io = self.hook(&mut b, Hook::Project, i, &next, &levels)?;
            next = io.out;
            weight = self.weigh(&mut b, weight, io.log_weight)?;
        }
        let mut pointer_out = None;
        if let Some(pointer) = pointer {
            let Some(control) = io.control else {
                bail!(Plugin, "sampler: declares control but emitted none");
            };
            let (active, moved) = self.steer(&mut b, pointer, control)?;
            for (new, old) in next.iter_mut().zip(&x) {
                *new = choose_rows(&mut b.graph, active, *new, *old);
            }
            weight = choose_rows(&mut b.graph, active, weight, weight_in);
            for k in 0..b.held.len() {
                let (now, was) = (b.held[k].now, b.held[k].was);
                b.held[k].now = choose_rows(&mut b.graph, active, now, was);
            }
            pointer_out = Some(moved);
        }
        for i in 0..self.parts.guidances.len() {
            if !self.parts.guidances[i].has(Hook::Permute) {
                continue;
            }
            let io = self.hook(&mut b, Hook::Permute, i, &next, &levels)?;
            next = io.out;
            if let Some(index) = io.index {
                let group =
                    self.parts.guidances[i].info(&self.parts.components)?.group.max(1) as usize;
                let parent = self.parents(&mut b, index, group)?;
                let mut take = |x: NodeId| {
                    b.graph.emit(Op::Gather, &[x, parent], Attrs::NONE.with_int(AttrKey::Axis, 0))
                };
                next.iter_mut().for_each(|x| *x = take(*x));
                weight = take(weight);
                pointer_out = pointer_out.map(&mut take);
                let moved: Vec<NodeId> = b.held.iter().map(|h| h.now).collect();
                let moved: Vec<NodeId> = moved
                    .into_iter()
                    .map(|x| {
                        let attrs = Attrs::NONE.with_int(AttrKey::Axis, 0);
                        b.graph.emit(Op::Gather, &[x, parent], attrs)
                    })
                    .collect();
                b.held.iter_mut().zip(moved).for_each(|(h, node)| h.now = node);
            }
            weight = self.weigh(&mut b, weight, io.log_weight)?;
        }

        let mut outputs = self.named(&next, state);
        outputs.push((weight, WEIGHT.to_owned()));
        if let Some(pointer) = pointer_out {
            let last = b.graph.full(self.rows.len() as f64, DType::I32, &[]);
            let under_way = b.graph.binary(Op::Lt, pointer, last);
            let ones = cast(&mut b.graph, under_way, DType::I32);
            outputs.push((b.graph.unary(Op::Sum, ones), LIVE.to_owned()));
            outputs.push((pointer, POINTER.to_owned()));
        }
        if self.preview {
            for c in 0..n {
                let node = self.estimate(&mut b, c, io.denoised[c], next[c])?;
                outputs.push((node, denoised(&self.parts.components[c].name)));
            }
        }
        outputs.extend(b.held.iter().map(|h| (h.now, h.name.clone())));
        self.close(b, outputs)
    }

    /// Decodes, lets the guidances judge, and stores the results.
    pub(super) fn finish(&self) -> Result<Stage> {
        let mut b = self.open(true)?;
        let levels = self.levels(&mut b, None, true)?;
        let mut x = Vec::new();
        for (c, component) in self.parts.components.iter().enumerate() {
            let w = b.graph.input(&state(&component.name), self.parts.state(c, self.batch)?);
            x.push(self.decode(&mut b, c, w, levels[c])?);
        }
        let mut weight = b.graph.input(WEIGHT, Desc::new(self.parts.float, &[self.batch])?);
        let mut feasible = b.graph.full(1.0, DType::Bool, &[self.batch]);
        for i in 0..self.parts.guidances.len() {
            let io = self.hook(&mut b, Hook::Finish, i, &x, &levels)?;
            x = io.out;
            weight = self.weigh(&mut b, weight, io.log_weight)?;
            if let Some(node) = io.feasible {
                let want = Desc::new(DType::Bool, &[self.batch])?;
                if !b.graph.is_valid(node) || b.graph.desc(node) != want {
                    bail!(Plugin, "guidance {i}: feasible is not {want}");
                }
                feasible = b.graph.binary(Op::And, feasible, node);
            }
        }
        let mut outputs = self.named(&x, out);
        outputs.push((feasible, out("feasible")));
        outputs.push((weight, out(WEIGHT)));
        if self.parts.networks.iter().any(|n| n.slot == IMAGE) {
            outputs.push((self.image(&mut b, &x)?, out(IMAGE)));
        }
        self.close(b, outputs)
    }

    /// Decodes the newest denoised estimate.
    pub(super) fn preview(&self) -> Result<Stage> {
        let mut b = self.open(true)?;
        let mut outputs = Vec::new();
        for (c, component) in self.parts.components.iter().enumerate() {
            let desc = self.parts.state(c, self.batch)?;
            let w = b.graph.input(&denoised(&component.name), desc);
            let zero = b.graph.scalar(0.0);
            let level = level_shaped(&mut b.graph, zero, self.batch, desc.shape.rank())?;
            outputs.push((self.decode(&mut b, c, w, level)?, preview(&component.name)));
        }
        self.close(b, outputs)
    }

    // ---- inside

    /// The data that a host gives, in their coordinate. They take the place of the prior, for guidances too.
    fn given(&self, b: &mut Build<'_>, c: usize) -> Result<NodeId> {
        let component = &self.parts.components[c];
        if component.space == Space::Discrete {
            bail!(Unsupported, "component {}: tokens are not noised by a part", component.name);
        }
        let desc = self.parts.state(c, self.batch)?;
        let x = b.graph.input(&cond(&start_input(&component.name)), desc);
        let w = b.process(c, ProcessFn::Encode, 0, &[x])?[0];
        b.want(w, desc, "encode", c)?;
        Ok(w)
    }

    /// Pictures of finished samples, by the network of their slot.
    fn image(&self, b: &mut Build<'_>, x: &[NodeId]) -> Result<NodeId> {
        let zero = b.graph.full(0.0, self.parts.float, &[self.batch]);
        let mut io = ModelIo {
            phase: 0,
            x: x.to_vec(),
            sigma: vec![zero; x.len()],
            cond: b.cond.clone(),
            slots: Vec::new(),
            slots_out: Vec::new(),
            out: vec![NodeId::ERROR; x.len()],
        };
        b.network(IMAGE, &mut io)?;
        let node = io.out.first().copied().unwrap_or(NodeId::ERROR);
        if !b.graph.is_valid(node) || b.graph.desc(node).dims().first() != Some(&self.batch) {
            bail!(Plugin, "network {IMAGE}: left its picture empty, or without an axis of samples");
        }
        Ok(node)
    }

    fn open(&self, persistent: bool) -> Result<Build<'a>> {
        let mut b = Build::new(self.parts, self.batch)?;
        b.persistent = persistent;
        for (i, c) in self.parts.conds.iter().enumerate() {
            let desc = Desc::new(c.desc.dtype, &[&[self.batch], c.desc.dims()].concat())?;
            b.cond[i] = b.graph.input(&cond(&c.name), desc);
        }
        Ok(b)
    }

    fn close(&self, b: Build<'_>, outputs: Vec<(NodeId, String)>) -> Result<Stage> {
        b.graph.check()?;
        let Build { graph, held, .. } = b;
        Ok(Stage { graph, outputs, held })
    }

    fn named(&self, nodes: &[NodeId], name: fn(&str) -> String) -> Vec<(NodeId, String)> {
        nodes.iter().zip(&self.parts.components).map(|(n, c)| (*n, name(&c.name))).collect()
    }

    /// Column `k` of the row: a scalar, or with a pointer each sample's own, [batch].
    fn column(&self, b: &mut Build<'_>, k: usize, pointer: Option<NodeId>) -> Result<NodeId> {
        let columns = self.rows.columns();
        let Some(pointer) = pointer else {
            let row = self.input(b, ROW, Desc::new(self.parts.float, &[columns])?);
            let cell = slice(&mut b.graph, row, &[k], &[k + 1]);
            return Ok(reshape(&mut b.graph, cell, &[]));
        };
        let table = self.input(b, TABLE, Desc::new(self.parts.float, &[self.rows.len(), columns])?);
        let column = slice(&mut b.graph, table, &[0, k], &[self.rows.len(), k + 1]);
        let column = reshape(&mut b.graph, column, &[self.rows.len()]);
        let attrs = Attrs::NONE.with_int(AttrKey::Axis, 0);
        Ok(b.graph.emit(Op::Gather, &[column, pointer], attrs)) // past the last row it reads the last
    }

    /// Shaped levels before the current row, or `after` it. Without a pointer a table is read at its first row for
    /// `before` and its last for `after`.
    fn levels(
        &self,
        b: &mut Build<'_>,
        pointer: Option<NodeId>,
        after: bool,
    ) -> Result<Vec<NodeId>> {
        let pointer = match pointer {
            None if self.rows.control => {
                let at = if after { self.rows.len() - 1 } else { 0 };
                Some(b.graph.full(at as f64, DType::I32, &[self.batch]))
            }
            other => other,
        };
        let n = self.rows.n_components;
        let first = self.rows.n_coeff + if after { n } else { 0 };
        (0..n)
            .map(|c| {
                let level = self.column(b, first + c, pointer)?;
                let rank = self.parts.state(c, self.batch)?.shape.rank();
                level_shaped(&mut b.graph, level, self.batch, rank)
            })
            .collect()
    }

    /// Shaped levels of the state after the step; a sample that stays is still at the level before.
    fn levels_after(
        &self,
        b: &mut Build<'_>,
        pointer: Option<NodeId>,
        control: Option<NodeId>,
    ) -> Result<Vec<NodeId>> {
        let mut after = self.levels(b, pointer, true)?;
        if let (Some(pointer), Some(control)) = (pointer, control) {
            let before = self.levels(b, Some(pointer), false)?;
            let stay = b.graph.full(1.0, DType::I32, &[]);
            let stays = b.graph.binary(Op::Eq, control, stay);
            for (after, before) in after.iter_mut().zip(before) {
                *after = choose_rows(&mut b.graph, stays, before, *after);
            }
        }
        Ok(after)
    }

    /// Which samples are under way, and the row each is at next.
    fn steer(&self, b: &mut Build<'_>, at: NodeId, control: NodeId) -> Result<(NodeId, NodeId)> {
        let want = Desc::new(DType::I32, &[self.batch])?;
        if !b.graph.is_valid(control) || b.graph.desc(control) != want {
            bail!(Plugin, "sampler: control is not {want}");
        }
        let g = &mut b.graph;
        let int = |g: &mut Graph, v: usize| g.full(v as f64, DType::I32, &[]);
        let (one, two, last) = (int(g, 1), int(g, 2), int(g, self.rows.len()));
        let active = g.binary(Op::Lt, at, last);
        let further = g.binary(Op::Add, at, one);
        let stays = g.binary(Op::Eq, control, one);
        let done = g.binary(Op::Eq, control, two);
        let moved = g.emit(Op::Where, &[stays, at, further], Attrs::NONE);
        let moved = g.emit(Op::Where, &[done, last, moved], Attrs::NONE);
        let moved = g.emit(Op::Where, &[active, moved, at], Attrs::NONE);
        Ok((active, moved))
    }

    /// Rows of the batch from indices within groups of `group` particles.
    fn parents(&self, b: &mut Build<'_>, index: NodeId, group: usize) -> Result<NodeId> {
        let want = Desc::new(DType::I32, &[self.batch])?;
        if !b.graph.is_valid(index) || b.graph.desc(index) != want {
            bail!(Plugin, "permute: index is not {want}");
        }
        let firsts: Vec<i32> = (0..self.batch).map(|r| (r / group * group) as i32).collect();
        let g = &mut b.graph;
        let first = g.constant(want, bytemuck::cast_slice(&firsts));
        let zero = g.full(0.0, DType::I32, &[]);
        let most = g.full((group - 1) as f64, DType::I32, &[]);
        let low = g.binary(Op::Max, index, zero);
        let inside = g.binary(Op::Min, low, most);
        Ok(g.binary(Op::Add, first, inside))
    }

    /// Runs a hook of guidance `i`, if it has it, and checks what it leaves.
    fn hook(
        &self,
        b: &mut Build<'_>,
        hook: Hook,
        i: usize,
        x: &[NodeId],
        levels: &[NodeId],
    ) -> Result<GuideIo> {
        let guidance = &self.parts.guidances[i];
        let mut io = GuideIo {
            x: x.to_vec(),
            sigma: levels.to_vec(),
            out: x.to_vec(),
            slots: Vec::new(),
            slots_out: Vec::new(),
            index: None,
            feasible: None,
            log_weight: None,
        };
        if !guidance.has(hook) {
            return Ok(io);
        }
        io.slots = b.hold(Owner::Guidance(i), &guidance.info(&self.parts.components)?.slots)?;
        io.slots_out = io.slots.clone();
        b.guiding = true;
        let guided = guidance.guide(b, hook, i as u32 + 1, &mut io);
        b.guiding = false;
        guided?;
        b.graph.check()?;
        if io.out.len() != x.len() {
            bail!(Plugin, "guidance {i}: {} states, want {}", io.out.len(), x.len());
        }
        for (c, (new, old)) in io.out.iter().zip(x).enumerate() {
            b.want(*new, b.graph.desc(*old), "guidance: state", c)?;
        }
        b.keep(&Owner::Guidance(i), &io.slots_out)?;
        Ok(io)
    }

    fn weigh(&self, b: &mut Build<'_>, sum: NodeId, more: Option<NodeId>) -> Result<NodeId> {
        let Some(node) = more else { return Ok(sum) };
        let want = Desc::new(self.parts.float, &[self.batch])?;
        if !b.graph.is_valid(node) || b.graph.desc(node) != want {
            bail!(Plugin, "guidance: log_weight is not {want}");
        }
        Ok(b.graph.binary(Op::Add, sum, node))
    }

    fn decode(&self, b: &mut Build<'_>, c: usize, w: NodeId, level: NodeId) -> Result<NodeId> {
        if !self.parts.processes[c].has(ProcessFn::Decode) {
            return Ok(w);
        }
        let x = b.process(c, ProcessFn::Decode, 0, &[w, level])?[0];
        b.want(x, self.parts.state(c, self.batch)?, "decode", c)?;
        Ok(x)
    }

    /// What a preview decodes: the newest D, the likeliest tokens, or the state when the sampler names neither.
    fn estimate(
        &self,
        b: &mut Build<'_>,
        c: usize,
        denoised: Option<NodeId>,
        next: NodeId,
    ) -> Result<NodeId> {
        let Some(node) = denoised.filter(|n| !n.is_error()) else { return Ok(next) };
        b.want(node, self.parts.denoised(c, self.batch)?, "sampler: denoised", c)?;
        if self.parts.components[c].space == Space::Continuous {
            return Ok(node);
        }
        Ok(b.graph.emit(Op::ArgMax, &[node], Attrs::NONE.with_int(AttrKey::Axis, -1)))
    }

    /// The input of that name, declared once.
    fn input(&self, b: &mut Build<'_>, name: &str, desc: Desc) -> NodeId {
        let known = b.graph.inputs().iter().find(|i| i.name == name).map(|i| i.node);
        known.unwrap_or_else(|| b.graph.input(name, desc))
    }
}

fn slice(g: &mut Graph, x: NodeId, start: &[usize], stop: &[usize]) -> NodeId {
    let attrs = Attrs::NONE.with_dims(AttrKey::Start, start).with_dims(AttrKey::Stop, stop);
    g.emit(Op::Slice, &[x], attrs)
}

fn cast(g: &mut Graph, x: NodeId, dtype: DType) -> NodeId {
    g.emit(Op::Cast, &[x], Attrs::NONE.with_int(AttrKey::DType, i64::from(dtype.code())))
}

/// `a` in the rows where `mask` [batch] is true, else `b`. Of any element type.
fn choose_rows(g: &mut Graph, mask: NodeId, a: NodeId, b: NodeId) -> NodeId {
    if a == b {
        return a;
    }
    let desc = g.desc(a);
    let mut dims = vec![1; desc.shape.rank().max(1)];
    dims[0] = g.desc(mask).shape.elements();
    let mask = reshape(g, mask, &dims);
    let through = match desc.dtype {
        DType::Bool | DType::U8 => DType::I32,
        DType::F16 | DType::BF16 => DType::F32,
        same => same,
    };
    if through == desc.dtype {
        return g.emit(Op::Where, &[mask, a, b], Attrs::NONE);
    }
    let (a, b) = (cast(g, a, through), cast(g, b, through));
    let out = g.emit(Op::Where, &[mask, a, b], Attrs::NONE);
    cast(g, out, desc.dtype)
}
