//! The loop: writes row i, replays the plan, counts up; batch after batch until all samples are there.
//!
//! A replay is advanced one plan at a time, so whoever drives it (a worker, a pump, a test) decides how long to stay.
//! Nothing is allocated between `begin` and the end. The result depends on the seed, the sample ids and the pipeline,
//! not on the batch: ids past the end of the range fill up the last batch and are dropped.

use super::program::Program;
use super::redraw::{self, Turns};
use super::rows::Rows;
use super::stage;
use crate::bail;
use crate::base::philox::MAX_ELEM;
use crate::base::{DType, Desc, Result};
use crate::exec::{BufferId, Interrupt, PlanId, RunKey, Session};
use crate::mem::{Budget, Tensor, reserved};
use std::sync::Arc;

/// Step number of the finish in the address of draws; rows are 1, 2, ... and the start is 0.
const FINISH_STEP: u32 = u32::MAX;

/// Most iterations of one batch under control, where samples may stay at a row.
pub(super) const MAX_ITERATIONS: usize = 1 << 20;

/// What to sample.
#[derive(Debug, Clone)]
pub struct Request {
    pub seed: u64,
    pub first_sample: u64,
    pub n_samples: usize,
    /// A preview every so many rows; 0 = none.
    pub preview_every: usize,
    /// By name: one value for all samples ([..] or [1, ..]) or one per sample ([n_samples, ..]).
    pub conds: Vec<(String, Arc<Tensor>)>,
}

/// Where the normals of a run come from that does not draw by addresses: one draw after another, each of the whole
/// batch.
pub trait Noise: Send {
    fn fill(&mut self, out: &mut [f32]) -> Result<()>;
}

/// Where a replay stands: the next plan to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    Start,
    /// About to run this row (with control: this iteration).
    Row(usize),
    Preview(usize),
    Finish,
    Done,
}

/// What one advance did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advance {
    /// Stopped inside a plan; the next advance goes on there.
    Paused,
    /// The prior was drawn or a batch was finished.
    Stage,
    /// A row was run.
    Row,
    /// New preview bytes are there.
    Preview,
    /// All samples are there.
    Done,
}

/// A program being run in its session.
pub struct Replay {
    pub program: Program,
    pub(super) session: Session,
    pub(super) rows: Arc<Rows>,
    pub(super) request: Request,
    pub(super) at: At,
    /// Which batch of the range.
    pub(super) batch: usize,
    entered: bool,
    pub(super) results: Vec<(String, Tensor)>,
    conds: Vec<CondSource>,
    /// The plan of each form of the rows.
    steps: Vec<PlanId>,
    table: Option<BufferId>,
    row: Option<BufferId>,
    live: Option<BufferId>,
    pub(super) turns: Turns,
    noise: Option<Box<dyn Noise>>,
}

/// A condition and how it is spread over samples.
struct CondSource {
    buffer: BufferId,
    desc: Desc,
    null: f64,
    value: Option<(Arc<Tensor>, bool)>,
}

impl Replay {
    /// Ready to begin. The session is the one the program was planned in.
    pub fn new(program: Program, session: Session) -> Self {
        let id = |name: &str| program.buffer(name).map(|b| b.id);
        Self {
            table: id(stage::TABLE),
            row: id(stage::ROW),
            live: id(stage::LIVE),
            results: Vec::new(),
            conds: Vec::new(),
            steps: Vec::new(),
            rows: Arc::new(Rows::none()),
            request: Request {
                seed: 0,
                first_sample: 0,
                n_samples: 0,
                preview_every: 0,
                conds: Vec::new(),
            },
            at: At::Done,
            batch: 0,
            entered: false,
            turns: Turns::default(),
            noise: None,
            program,
            session,
        }
    }

    /// Sets up a run and takes the memory of its results.
    pub fn begin(
        &mut self,
        rows: &Arc<Rows>,
        request: Request,
        nulls: &[(String, f64)],
        budget: &Arc<Budget>,
    ) -> Result<()> {
        let p = &self.program;
        if !p.serves(rows) {
            bail!(Internal, "this program was planned for other rows");
        }
        check_range(p, &request)?;
        self.steps = rows.forms.iter().filter_map(|form| p.step(form)).collect();
        self.session.give_up();
        self.conds.clear();
        for b in &p.buffers {
            let Some(name) = b.name.strip_prefix("cond.") else { continue };
            let given = request.conds.iter().find(|(n, _)| n == name);
            let classes = p.classes.iter().find(|(n, _)| n == name);
            if let (Some((_, t)), Some((_, classes))) = (given, classes) {
                super::classes::check(name, t, *classes)?;
            }
            let value = match given {
                Some((_, t)) => Some((Arc::clone(t), spread(name, t, b.desc, request.n_samples)?)),
                None => None,
            };
            let null = nulls.iter().find(|(n, _)| n == name).map_or(0.0, |(_, v)| *v);
            self.conds.push(CondSource { buffer: b.id, desc: b.desc, null, value });
        }
        for (name, _) in &request.conds {
            if p.buffer(&stage::cond(name)).is_none() {
                let known: Vec<&str> =
                    p.buffers.iter().filter_map(|b| b.name.strip_prefix("cond.")).collect();
                bail!(NotFound, "no condition named {name}; there are: {}", known.join(", "));
            }
        }
        self.results.clear();
        for (name, b) in &p.results {
            let dims = [&[request.n_samples], &b.desc.dims()[1..]].concat();
            self.results
                .push((name.clone(), Tensor::new(Desc::new(b.desc.dtype, &dims)?, budget)?));
        }
        if p.redraw.is_some() {
            self.results.push(redraw::draws(request.n_samples, budget)?); // last, see `judge`
        }
        self.turns = Turns::default(); // its memory first
        self.turns = Turns::new(p, rows.len(), budget)?;
        self.rows = Arc::clone(rows);
        self.request = request;
        self.at = if self.request.n_samples == 0 { At::Done } else { At::Start };
        self.batch = 0;
        self.entered = false;
        self.write_table()
    }

    /// Runs the next plan. `interrupt` is asked between nodes.
    pub fn advance(&mut self, interrupt: &mut dyn FnMut() -> Interrupt) -> Result<Advance> {
        let (plan, step) = match self.at {
            At::Done => return Ok(Advance::Done),
            At::Start => (Some(self.program.start), 0),
            At::Row(i) => {
                let form = if self.program.control { 0 } else { self.rows.form[i] as usize };
                (self.steps.get(form).copied(), i as u32 + 1)
            }
            At::Preview(_) => (self.program.preview, 0),
            At::Finish => (Some(self.program.finish), FINISH_STEP),
        };
        let Some(plan) = plan else { bail!(Internal, "a row without a plan") };
        if !self.entered {
            self.enter()?;
            self.draw(plan)?;
            self.entered = true;
        }
        let key = RunKey {
            seed: self.request.seed,
            step: self.turns.step(self.at, step),
            first_sample: self.request.first_sample + (self.batch * self.program.batch) as u64,
        };
        if !self.session.run(plan, key, interrupt)? {
            return Ok(Advance::Paused);
        }
        self.entered = false;
        self.leave()
    }

    pub fn at(&self) -> At {
        self.at
    }

    /// Rows run so far, over all batches, and how many there will be.
    pub fn progress(&self) -> (usize, usize) {
        let per_batch = self.rows.len();
        let here = match self.at {
            At::Start => 0,
            _ if !self.turns.is_first() => per_batch, // turns run rows that were counted
            At::Row(i) | At::Preview(i) => i.min(per_batch),
            At::Finish | At::Done => per_batch,
        };
        let done = self.batch.min(self.batches()) * per_batch;
        let total = self.batches() * per_batch;
        (if self.at == At::Done { total } else { done + here }, total)
    }

    /// Runs to the end.
    pub fn finish(&mut self) -> Result<()> {
        while self.advance(&mut || Interrupt::Continue)? != Advance::Done {}
        Ok(())
    }

    /// The samples and what was judged of them, once done.
    pub fn take_results(&mut self) -> Vec<(String, Tensor)> {
        std::mem::take(&mut self.results)
    }

    /// The conditions of this run, as they were given.
    pub fn inputs(&self) -> &[(String, Arc<Tensor>)] {
        &self.request.conds
    }

    /// Lets go of the conditions, once nothing reads them any more: a session that waits for its next run holds none.
    pub fn take_inputs(&mut self) -> Vec<Arc<Tensor>> {
        let spread = std::mem::take(&mut self.conds).into_iter().filter_map(|c| c.value);
        let given = std::mem::take(&mut self.request.conds).into_iter().map(|(_, t)| t);
        spread.map(|(t, _)| t).chain(given).collect()
    }

    /// Copies preview `c` of [`Program::previews`]: one batch, as the last preview left it.
    pub fn read_preview(&self, c: usize, bytes: &mut [u8]) -> Result<()> {
        match self.program.previews.get(c) {
            Some((_, b)) => self.session.read(b.id, bytes),
            None => bail!(Invalid, "preview {c} does not exist"),
        }
    }

    /// First sample id of the batch under way.
    pub fn batch_first(&self) -> u64 {
        self.request.first_sample + (self.batch * self.program.batch) as u64
    }

    /// First sample id of the batch under way, and how many of its rows are samples that were asked for.
    pub fn batch_samples(&self) -> (u64, u64) {
        let before = self.batch * self.program.batch;
        let left = self.request.n_samples.saturating_sub(before);
        (self.batch_first(), left.min(self.program.batch) as u64)
    }

    /// Copies the state of component `c` as it stands between two rows.
    pub fn read_state(&self, c: usize, bytes: &mut [u8]) -> Result<()> {
        match self.program.state(c) {
            Some(b) => self.session.read(b.id, bytes),
            None => bail!(Invalid, "component {c} does not exist"),
        }
    }

    pub fn rows(&self) -> &Arc<Rows> {
        &self.rows
    }

    pub fn session(&mut self) -> &mut Session {
        &mut self.session
    }

    /// After a run was put back: writes what the host had written for the batch under way.
    pub(super) fn reenter(&mut self) -> Result<()> {
        self.entered = false;
        match self.at {
            At::Start | At::Done => Ok(()),
            _ => self.write_conds(),
        }
    }

    /// The source of a run whose rows want their noise given, from its first draw. A run that goes on somewhere passes
    /// over what it has had.
    pub fn give_noise(&mut self, mut source: Box<dyn Noise>) -> Result<()> {
        let rows = match self.at {
            At::Start => None,
            At::Row(i) | At::Preview(i) => Some(i),
            At::Finish | At::Done => Some(self.rows.len()),
        };
        if let Some(rows) = rows {
            self.skip(self.program.start, &mut *source)?;
            for i in 0..rows.min(self.rows.len()) {
                let form = self.rows.form[i] as usize; // as many as rows
                if let Some(plan) = self.steps.get(form) {
                    self.skip(*plan, &mut *source)?;
                }
            }
        }
        self.noise = Some(source);
        Ok(())
    }

    // ---- inside

    fn skip(&self, plan: PlanId, source: &mut dyn Noise) -> Result<()> {
        let asked = self.program.noise.iter().find(|n| n.0 == plan);
        for b in asked.map_or(&[][..], |n| &n.1) {
            source.fill(&mut vec![0.0; b.desc.shape.elements()])?;
        }
        Ok(())
    }

    /// Writes the normals that a plan wants to be given.
    fn draw(&mut self, plan: PlanId) -> Result<()> {
        let Some((_, asked)) = self.program.noise.iter().find(|n| n.0 == plan) else {
            return Ok(());
        };
        let Some(source) = &mut self.noise else {
            bail!(Internal, "this run wants its noise to be given, and nobody gives it");
        };
        for b in asked {
            let mut draws = reserved(b.desc.shape.elements(), "the noise of a step")?;
            draws.resize(b.desc.shape.elements(), 0.0f32);
            source.fill(&mut draws)?;
            match b.desc.dtype {
                DType::F64 => {
                    let wide: Vec<f64> = draws.iter().map(|v| f64::from(*v)).collect();
                    self.session.write(b.id, bytemuck::cast_slice(&wide))?;
                }
                _ => self.session.write(b.id, bytemuck::cast_slice(&draws))?,
            }
        }
        Ok(())
    }

    fn batches(&self) -> usize {
        self.request.n_samples.div_ceil(self.program.batch)
    }

    fn write_table(&mut self) -> Result<()> {
        match self.table {
            Some(table) => self.session.write(table, self.rows.table()),
            None => Ok(()),
        }
    }

    /// What the host writes before a plan.
    fn enter(&mut self) -> Result<()> {
        match self.at {
            At::Start => {
                self.write_conds()?;
                self.write_row(0)
            }
            At::Row(i) => {
                self.mark(i)?;
                self.write_row(i)
            }
            At::Finish => self.write_row(self.rows.len() - 1),
            At::Preview(_) | At::Done => Ok(()),
        }
    }

    fn write_row(&mut self, i: usize) -> Result<()> {
        match self.row {
            Some(row) => self.session.write(row, self.rows.row(i)),
            None => Ok(()),
        }
    }

    /// What the host reads after a plan, and where it goes on.
    fn leave(&mut self) -> Result<Advance> {
        match self.at {
            At::Start => {
                self.at = At::Row(0);
                Ok(Advance::Stage)
            }
            At::Row(i) => {
                let every = self.request.preview_every;
                let shows = self.program.preview.is_some()
                    && every > 0
                    && (i + 1).is_multiple_of(every)
                    && self.turns.is_first();
                self.at = if shows { At::Preview(i + 1) } else { self.after_row(i + 1)? };
                Ok(Advance::Row)
            }
            At::Preview(next) => {
                self.at = self.after_row(next)?;
                Ok(Advance::Preview)
            }
            At::Finish => {
                if let Some(at) = self.judge()? {
                    self.at = at;
                    return Ok(Advance::Stage);
                }
                self.turns.begin_batch();
                self.batch += 1;
                self.at = if self.batch < self.batches() { At::Start } else { At::Done };
                Ok(if self.at == At::Done { Advance::Done } else { Advance::Stage })
            }
            At::Done => Ok(Advance::Done),
        }
    }

    fn after_row(&mut self, next: usize) -> Result<At> {
        if !self.program.control {
            return Ok(if next < self.rows.len() { At::Row(next) } else { At::Finish });
        }
        let mut live = [0u8; 4];
        if let Some(id) = self.live {
            self.session.read(id, &mut live)?;
        }
        if i32::from_ne_bytes(live) == 0 {
            return Ok(At::Finish);
        }
        if next >= MAX_ITERATIONS {
            bail!(
                State,
                "sampler: after {MAX_ITERATIONS} iterations some samples have not arrived"
            );
        }
        Ok(At::Row(next))
    }

    /// Conditions of the samples of this batch; ids past the range repeat the last.
    fn write_conds(&mut self) -> Result<()> {
        let first = self.batch * self.program.batch;
        for cond in &self.conds {
            let per_sample = cond.desc.bytes() / self.program.batch;
            let Some((t, each)) = &cond.value else {
                let (one, size) = element(cond.desc.dtype, cond.null);
                self.session.fill(cond.buffer, &mut |_, piece| {
                    piece.chunks_exact_mut(size).for_each(|p| p.copy_from_slice(&one[..size]));
                    Ok(())
                })?;
                continue;
            };
            for r in 0..self.program.batch {
                let at = match each {
                    true => (first + r).min(self.request.n_samples - 1) * per_sample,
                    false => 0,
                };
                let row = &t.bytes()[at..at + per_sample]; // `spread` has checked the shape
                self.session.write_at(cond.buffer, r * per_sample, row)?;
            }
        }
        Ok(())
    }

    /// Copies the rows of the finished batch that are wanted, in runs of neighbours.
    pub(super) fn collect(&mut self, wanted: impl Fn(usize) -> bool) -> Result<()> {
        let first = self.batch * self.program.batch;
        let n = self.program.batch.min(self.request.n_samples - first);
        let mut row = 0;
        while row < n {
            let from = row;
            while row < n && wanted(row) {
                row += 1;
            }
            for ((_, b), (_, tensor)) in self.program.results.iter().zip(&mut self.results) {
                let size = b.desc.bytes() / self.program.batch;
                let rows = &mut tensor.bytes_mut()[(first + from) * size..(first + row) * size];
                if !rows.is_empty() {
                    self.session.read_at(b.id, from * size, rows)?;
                }
            }
            row += 1; // one that is not wanted, or the end
        }
        Ok(())
    }
}

fn check_range(p: &Program, r: &Request) -> Result<()> {
    let group = p.group as u64;
    if !r.first_sample.is_multiple_of(group) || !(r.n_samples as u64).is_multiple_of(group) {
        bail!(
            Invalid,
            "samples {} to {} do not hold whole groups of {group} particles",
            r.first_sample,
            r.first_sample.saturating_add(r.n_samples as u64)
        );
    }
    let padded = r.n_samples.checked_next_multiple_of(p.batch).map(|n| n as u64);
    let last = padded.and_then(|n| r.first_sample.checked_add(n));
    match last.and_then(|l| l.checked_mul(p.widest)) {
        Some(elements) if elements <= MAX_ELEM => Ok(()),
        _ => bail!(
            Invalid,
            "sample ids from {} on exceed the address space of the generator: id x {} elements, want below 2^56",
            r.first_sample,
            p.widest
        ),
    }
}

/// Whether a condition is given per sample; an error if its shape is neither.
fn spread(name: &str, t: &Tensor, batch: Desc, n_samples: usize) -> Result<bool> {
    let one = &batch.dims()[1..];
    let dims = t.dims();
    let each = dims.len() == one.len() + 1 && dims[0] == n_samples && dims[1..] == *one;
    let same = dims == one || (dims.len() == one.len() + 1 && dims[0] == 1 && dims[1..] == *one);
    if t.desc().dtype != batch.dtype || !(each || same) {
        bail!(
            Invalid,
            "condition {name}: is {}, want {}{one:?} or one more axis of {n_samples}",
            t.desc(),
            batch.dtype
        );
    }
    Ok(each)
}

/// The bytes of one element of `value`, and how many they are.
fn element(dtype: DType, value: f64) -> ([u8; 8], usize) {
    let mut out = [0; 8];
    let mut put = |one: &[u8]| out[..one.len()].copy_from_slice(one);
    match dtype {
        DType::F32 => put(&(value as f32).to_ne_bytes()),
        DType::F64 => put(&value.to_ne_bytes()),
        DType::I32 => put(&(value as i32).to_ne_bytes()),
        DType::I64 => put(&(value as i64).to_ne_bytes()),
        DType::U8 | DType::Bool => put(&[value as u8]),
        DType::F16 => put(&half::f16::from_f64(value).to_ne_bytes()),
        DType::BF16 => put(&half::bf16::from_f64(value).to_ne_bytes()),
    }
    (out, dtype.bytes())
}
