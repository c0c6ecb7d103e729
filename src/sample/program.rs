//! The plans of a run and the buffers they share: one session holds start, steps, finish and preview.
//!
//! A program depends on the batch and on which variants of the step it has, not on the number of steps (with control:
//! also on the number of rows, which are then a buffer). So one program serves many runs.

use super::build::Parts;
use super::classes::Known;
use super::held::Held;
use super::redraw::Turns;
use super::rows::{Form, Rows};
use super::stage::{self, Plan, Stage};
use super::traits::{Redraw, Sampler, SamplerInfo};
use crate::bail;
use crate::base::{Desc, Result};
use crate::exec::{BufferId, PlanId, SessionBuilder, WeightBinding};
use crate::graph::{Class, Input, Weight};

/// Finds the tensors of all weights of a graph at once, so that everything missing is reported together.
pub type Binder<'a> = dyn FnMut(&[Weight]) -> Result<Vec<WeightBinding>> + 'a;

/// A buffer with its name.
#[derive(Debug, Clone)]
pub struct Named {
    pub name: String,
    pub desc: Desc,
    pub id: BufferId,
}

/// Plans over shared buffers.
#[derive(Debug, Clone)]
pub struct Program {
    pub batch: usize,
    /// Batches and id ranges are multiples of this.
    pub group: usize,
    pub(super) control: bool,
    pub(super) redraw: Option<Redraw>,
    pub(super) columns: usize,
    /// Rows of the table, with control.
    table_rows: usize,
    pub(super) start: PlanId,
    pub(super) steps: Vec<(Form, PlanId)>,
    pub(super) finish: PlanId,
    pub(super) preview: Option<PlanId>,
    pub(super) buffers: Vec<Named>,
    /// What `out.*` and `preview.*` buffers there are: components first, then `feasible` and `log_weight`, then `image`.
    pub(super) results: Vec<(String, Named)>,
    pub(super) previews: Vec<(String, Named)>,
    /// Normals that each plan wants to be given, in their order; empty where they are drawn by address.
    pub(super) noise: Vec<(PlanId, Vec<Named>)>,
    given_noise: bool,
    from_data: bool,
    /// Conditions that are numbers of classes, and which of them the network knows.
    pub(super) classes: Vec<(String, Known)>,
    /// Names of the components, in order.
    pub components: Vec<String>,
    /// Most elements one sample draws at a time, for the limit of the generator.
    pub(super) widest: u64,
}

impl Program {
    /// Adds the plans for `rows` to a session. `batch` is rounded up to whole groups.
    pub fn new(
        parts: &Parts,
        sampler: &dyn Sampler,
        rows: &Rows,
        batch: usize,
        preview: bool,
        session: &mut SessionBuilder,
        bind: &mut Binder<'_>,
    ) -> Result<Self> {
        let group = parts.group()?;
        let batch = batch.max(1).next_multiple_of(group);
        let info = sampler.info(&parts.components)?;
        let redraw = redraw(parts, &info, group)?;
        let plan = Plan { parts, sampler, info: &info, rows, batch, preview };
        let given = rows.given_noise;
        if given && (rows.control || redraw.is_some()) {
            bail!(
                Unsupported,
                "noise that is given goes with steps that all samples make alike: want no control and no redrawing"
            );
        }
        let noise = Vec::new();
        let mut wiring = Wiring { session, bind, buffers: Vec::new(), widest: 1, given, noise };

        let mut held: Vec<Held> = Vec::new();
        let mut steps = Vec::with_capacity(rows.forms.len());
        for form in &rows.forms {
            let stage = plan.step(form)?;
            merge(&mut held, &stage.held)?;
            steps.push((form.clone(), wiring.add(stage)?));
        }
        let stage = plan.finish()?;
        merge(&mut held, &stage.held)?;
        let finish = wiring.add(stage)?;
        let preview = match preview {
            true => Some(wiring.add(plan.preview()?)?),
            false => None,
        };
        let start = wiring.add(plan.start(&held)?)?;

        let buffers = wiring.buffers;
        let (widest, noise) = (wiring.widest, wiring.noise);
        let components: Vec<String> = parts.components.iter().map(|c| c.name.clone()).collect();
        let find = |name: &str, buffer: String| -> Result<(String, Named)> {
            match buffers.iter().find(|b| b.name == buffer) {
                Some(b) => Ok((name.to_owned(), b.clone())),
                None => bail!(Internal, "no buffer named {buffer}"),
            }
        };
        let results = components
            .iter()
            .map(String::as_str)
            .chain(["feasible", stage::WEIGHT])
            .chain(parts.networks.iter().map(|n| n.slot.as_str()).filter(|s| *s == stage::IMAGE))
            .map(|name| find(name, stage::out(name)))
            .collect::<Result<_>>()?;
        let previews = match preview {
            Some(_) => {
                components.iter().map(|n| find(n, stage::preview(n))).collect::<Result<_>>()?
            }
            None => Vec::new(),
        };
        let known = parts.conds.iter().zip(super::classes::of(parts)?);
        let known = known.filter_map(|(c, n)| Some((c.name.clone(), n?)));
        Ok(Self {
            batch,
            group,
            control: rows.control,
            redraw,
            columns: rows.columns(),
            table_rows: rows.len(),
            start,
            steps,
            finish,
            preview,
            buffers,
            results,
            previews,
            noise,
            given_noise: given,
            from_data: rows.from_data,
            classes: known.collect(),
            components,
            widest,
        })
    }

    /// Whether this program can run `rows`.
    pub fn serves(&self, rows: &Rows) -> bool {
        self.columns == rows.columns()
            && self.control == rows.control
            && self.given_noise == rows.given_noise
            && self.from_data == rows.from_data
            && (!self.control || self.table_rows == rows.len())
            && rows.forms.iter().all(|form| self.step(form).is_some())
    }

    /// The plan of a form of the step.
    pub(super) fn step(&self, form: &Form) -> Option<PlanId> {
        self.steps.iter().find(|(f, _)| f == form).map(|(_, plan)| *plan)
    }

    pub fn has_preview(&self) -> bool {
        self.preview.is_some()
    }

    /// The buffers that a run must keep to be resumed: everything but results and what the host writes each time.
    pub fn persistent(&self) -> impl Iterator<Item = &Named> {
        self.buffers.iter().filter(|b| {
            b.name.starts_with("state.")
                || b.name.starts_with("slot.")
                || b.name.starts_with("denoised.")
                || b.name == stage::WEIGHT
                || b.name == stage::POINTER
        })
    }

    /// The buffer of that name, if any graph uses it.
    pub fn buffer(&self, name: &str) -> Option<&Named> {
        self.buffers.iter().find(|b| b.name == name)
    }

    /// The state of component `c`.
    pub fn state(&self, c: usize) -> Option<&Named> {
        self.buffer(&stage::state(self.components.get(c)?))
    }

    /// Previews: name and one batch of it; none unless the program was made with previews.
    pub fn previews(&self) -> &[(String, Named)] {
        &self.previews
    }

    /// What the turns of redrawing take beside the session, for `n` samples.
    pub fn redraw_bytes(&self, n: usize) -> u64 {
        Turns::bytes(self, n)
    }

    /// Results: name and one batch of it.
    pub fn results(&self) -> &[(String, Named)] {
        &self.results
    }
}

/// What the guidances want redrawn: as often and as much as any of them does.
fn redraw(parts: &Parts, sampler: &SamplerInfo, group: usize) -> Result<Option<Redraw>> {
    let wanted = parts.guidances.iter().filter_map(|g| g.redraw());
    let most =
        wanted.reduce(|a, b| Redraw { times: a.times.max(b.times), share: a.share.max(b.share) });
    let Some(mut most) = most else { return Ok(None) };
    // a group is drawn again as a whole, so only a guidance that judges whole groups may ask for it
    let mut alone = false;
    for g in &parts.guidances {
        alone |= g.redraw().is_some() && g.info(&parts.components)?.group.max(1) as usize != group;
    }
    if alone {
        bail!(
            Unsupported,
            "a guidance redraws samples, which particles in groups of {group} cannot"
        );
    }
    if sampler.control {
        bail!(
            Unsupported,
            "a guidance redraws the last rows, and under this sampler each sample goes through rows of its own; \
             want one without control"
        );
    }
    if sampler.stochasticity == 0.0 {
        most.share = 1.0; // without noise the last rows end where they ended
    }
    Ok(Some(most))
}

/// Collects what the graphs hold; one name is one tensor.
fn merge(held: &mut Vec<Held>, more: &[Held]) -> Result<()> {
    for h in more {
        match held.iter().find(|k| k.name == h.name) {
            None => held.push(h.clone()),
            Some(k) if k.desc == h.desc => {}
            Some(k) => {
                bail!(Plugin, "{}: is {} in one graph and {} in another", h.name, k.desc, h.desc)
            }
        }
    }
    Ok(())
}

/// Gives every name a buffer while graphs are planned.
struct Wiring<'a, 'b, 'c> {
    session: &'a mut SessionBuilder,
    bind: &'b mut Binder<'c>,
    buffers: Vec<Named>,
    widest: u64,
    given: bool,
    noise: Vec<(PlanId, Vec<Named>)>,
}

impl Wiring<'_, '_, '_> {
    fn add(&mut self, mut stage: Stage) -> Result<PlanId> {
        if self.given {
            stage.graph.give_normals(stage::NOISE)?;
        }
        let g = &stage.graph;
        let inputs =
            g.inputs().iter().map(|i| self.buffer(&i.name, i.desc)).collect::<Result<Vec<_>>>()?;
        let mut outputs = Vec::new();
        for (node, name) in &stage.outputs {
            let unchanged = g.inputs().iter().any(|i| i.node == *node && i.name == *name);
            if !unchanged {
                outputs.push((*node, self.buffer(name, g.desc(*node))?));
            }
        }
        for node in g.nodes() {
            if node.op.class() == Class::Random && node.desc.shape.rank() > 0 {
                let per_sample: usize = node.desc.dims()[1..].iter().product();
                self.widest = self.widest.max(per_sample as u64);
            }
        }
        let weights = (self.bind)(g.weights())?;
        let plan = self.session.plan(g, &inputs, &outputs, &weights)?;
        let asked =
            g.inputs().iter().zip(&inputs).filter(|(i, _)| i.name.starts_with(stage::NOISE));
        let named =
            |(i, id): (&Input, &BufferId)| Named { name: i.name.clone(), desc: i.desc, id: *id };
        let asked: Vec<Named> = asked.map(named).collect();
        if self.given && !asked.is_empty() {
            self.noise.push((plan, asked));
        }
        Ok(plan)
    }

    fn buffer(&mut self, name: &str, desc: Desc) -> Result<BufferId> {
        if let Some(known) = self.buffers.iter().find(|b| b.name == name) {
            if known.desc != desc {
                bail!(Plugin, "{name}: is {} in one graph and {desc} in another", known.desc);
            }
            return Ok(known.id);
        }
        let id = self.session.buffer(name, desc);
        self.buffers.push(Named { name: name.to_owned(), desc, id });
        Ok(id)
    }
}
