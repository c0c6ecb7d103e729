//! One training step as one graph: objective, gradients by the weights, clipping, AdamW, moving average. Weights and
//! moments are buffers of the session that the plan reads and writes, so a step is one replay.

use super::objective::{LossIo, Objective, REWARDS, of_examples, record};
use super::optimizer::{Moments, Optimizer, Row, RowNodes, clip};
use super::parameter::{Parameter, file_name};
use crate::bail;
use crate::base::{DType, Desc, Result};
use crate::exec::{BufferId, PlanId, SessionBuilder, WeightBinding};
use crate::graph::{AttrKey, Attrs, Graph, NodeId, Op, Weight};
use crate::mem::Tensor;
use crate::sample::Build;
use crate::sample::build::Parts;
use std::collections::HashMap;
use std::sync::Arc;

/// Tensors of the slots that do not train, by slot and name.
pub type Frozen = HashMap<(String, String), Arc<Tensor>>;

/// A slot that reads what becomes of the weights of `base`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// Their moving average.
    Average,
    /// Their copy, which follows them when it is told to.
    Lagging,
}

/// A lookup in tensors that stay.
pub fn lookup(frozen: &Frozen) -> impl FnMut(&Weight) -> Result<Arc<Tensor>> + '_ {
    |weight| match frozen.get(&(weight.slot.clone(), weight.name.clone())) {
        Some(tensor) => Ok(Arc::clone(tensor)),
        None => bail!(
            NotFound,
            "weight {} of the frozen network {} is not loaded",
            weight.name,
            weight.slot
        ),
    }
}

/// Where the weights of the slots are.
pub struct Slots<'a> {
    /// Slots whose weights move.
    pub trained: &'a [String],
    pub views: &'a [(String, View)],
    /// The tensor of a weight that stays.
    pub frozen: &'a mut dyn FnMut(&Weight) -> Result<Arc<Tensor>>,
}

/// The records of a rollout that a loss reads.
#[derive(Debug, Clone, Copy)]
pub struct Recorded {
    pub rows: usize,
    pub group: u32,
}

/// The buffers of what a loss reads of a rollout, beside the samples and their conditions.
#[derive(Debug, Clone, Default)]
pub struct Records {
    /// Per component, empty where the objective does not ask.
    pub states: Vec<BufferId>,
    pub carry: Vec<BufferId>,
    pub reward_grad: Vec<BufferId>,
    pub sigmas: Vec<BufferId>,
    pub kernels: Vec<BufferId>,
    pub reward: Option<BufferId>,
    pub valid: Option<BufferId>,
    pub advantage: Option<BufferId>,
}

/// The buffers of a parameter.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    pub weight: BufferId,
    pub m: BufferId,
    pub v: BufferId,
    pub ema: BufferId,
    /// Where a slot lags behind.
    pub old: Option<BufferId>,
    /// The gradients of the batches of an update so far, where it has several.
    pub grad: Option<BufferId>,
}

/// Everything of a training step that lives in a session.
#[derive(Debug, Clone)]
pub struct Step {
    pub plan: PlanId,
    /// Adds the gradient of a batch to those of the update so far, which `plan` adds its own to and clears.
    pub gather: Option<PlanId>,
    /// The loss alone with the averaged weights; of data only.
    pub measure: Option<PlanId>,
    pub parameters: Vec<(Parameter, Place)>,
    /// [batch, ...] per component, and per condition, behind which stands what examples are worth.
    pub x: Vec<BufferId>,
    pub cond: Vec<BufferId>,
    pub records: Records,
    pub row: BufferId,
    /// [loss, norm of the gradient, metrics of the objective ...]
    pub report: BufferId,
    pub metrics: Vec<String>,
    pub batch: usize,
    pub float: DType,
}

/// The loss as a graph: inputs are the components, then the conditions, then what examples are worth.
struct Loss {
    graph: Graph,
    loss: NodeId,
    metrics: Vec<NodeId>,
}

/// Declares what a loss reads of a rollout.
fn record_inputs(
    b: &mut Build<'_>,
    io: &mut LossIo,
    objective: &dyn Objective,
    recorded: Recorded,
    session: &mut SessionBuilder,
) -> Result<Records> {
    let (info, parts, batch) = (objective.info()?, b.parts, b.graph.batch());
    let mut out = Records::default();
    let mut input = |b: &mut Build<'_>, name: String, desc: Desc| {
        (b.graph.input(&name, desc), session.buffer(&name, desc))
    };
    for (c, component) in parts.components.iter().enumerate() {
        let state = parts.state(c, batch)?;
        let float = Desc::new(parts.float, state.dims())?;
        let over =
            |desc: Desc| Desc::new(desc.dtype, &[&[recorded.rows + 1], desc.dims()].concat());
        let name = &component.name;
        let rows = [
            (record::STATES, "states", over(state)?, &mut io.states, &mut out.states),
            (record::CARRY, "carry", over(float)?, &mut io.carry, &mut out.carry),
            (record::REWARD_GRAD, "grad", float, &mut io.reward_grad, &mut out.reward_grad),
            (
                record::SIGMAS,
                "sigmas",
                Desc::new(parts.float, &[recorded.rows + 1])?,
                &mut io.sigmas,
                &mut out.sigmas,
            ),
            (
                record::KERNELS,
                "kernels",
                Desc::new(parts.float, &[recorded.rows, 3])?,
                &mut io.kernels,
                &mut out.kernels,
            ),
        ];
        for (bit, kind, desc, nodes, buffers) in rows {
            if info.records & bit != 0 {
                let (node, buffer) = input(b, format!("{kind}.{name}"), desc);
                nodes.push(node);
                buffers.push(buffer);
            }
        }
    }
    io.group = recorded.group;
    if info.records & record::REWARD != 0 {
        let desc = Desc::new(parts.float, &[batch, info.n_rewards.max(1) as usize])?;
        let per_row = Desc::new(parts.float, &[batch])?;
        let (node, buffer) = input(b, "reward".into(), desc);
        (io.reward, out.reward) = (Some(node), Some(buffer));
        let (node, buffer) = input(b, "valid".into(), per_row);
        (io.valid, out.valid) = (Some(node), Some(buffer));
        if objective.has_advantage() {
            let (node, buffer) = input(b, "advantage".into(), per_row);
            (io.advantage, out.advantage) = (Some(node), Some(buffer));
        }
    }
    Ok(out)
}

/// Buffers of the components and conditions, and of the records.
type LossBuffers = (Vec<BufferId>, Vec<BufferId>, Records);

fn loss_graph(
    parts: &Parts,
    objective: &dyn Objective,
    batch: usize,
    recorded: Option<Recorded>,
    session: &mut SessionBuilder,
) -> Result<(Loss, LossBuffers)> {
    let info = objective.info()?;
    let labelled = recorded.is_none() && of_examples(objective)?;
    if info.records != 0 && recorded.is_none() && !labelled {
        bail!(
            Unsupported,
            "the objective needs records of rollouts; training on data has none: it is one for dfx_tuner_create"
        );
    }
    for slot in &info.networks {
        if !parts.networks.iter().any(|n| n.slot == *slot) {
            bail!(NotFound, "the objective needs a network {slot}, the training names none");
        }
    }
    let mut b = Build::new(parts, batch)?;
    let mut io = LossIo::default();
    let (mut x, mut cond) = (Vec::new(), Vec::new());
    for (c, component) in parts.components.iter().enumerate() {
        let desc = parts.state(c, batch)?;
        io.x0.push(b.graph.input(&component.name, desc));
        x.push(session.buffer(&component.name, desc));
    }
    b.cond.clear();
    for c in &parts.conds {
        let desc = Desc::new(c.desc.dtype, &[&[batch], c.desc.dims()].concat())?;
        b.cond.push(b.graph.input(&c.name, desc));
        cond.push(session.buffer(&c.name, desc));
    }
    let records = match recorded {
        Some(recorded) => record_inputs(&mut b, &mut io, objective, recorded, session)?,
        None => Records::default(),
    };
    if labelled {
        // behind the conditions, as the column of the data is
        let desc = Desc::new(parts.float, &[batch, info.n_rewards.max(1) as usize])?;
        io.reward = Some(b.graph.input(REWARDS, desc));
        io.valid = Some(b.graph.full(1.0, parts.float, &[batch]));
        io.group = 1;
        cond.push(session.buffer(REWARDS, desc));
    }
    objective.loss(&mut b, &mut io)?;
    b.graph.check()?;
    let graph = b.graph;
    let Some(loss) = io.loss.filter(|l| graph.is_valid(*l)) else {
        bail!(Plugin, "the objective gave no loss");
    };
    if graph.desc(loss) != Desc::scalar(parts.float) {
        bail!(Plugin, "the loss is {}, want a scalar of {}", graph.desc(loss), parts.float);
    }
    if io.metrics.len() != info.metrics.len() {
        bail!(
            Plugin,
            "the objective declares {} metrics and gave {}",
            info.metrics.len(),
            io.metrics.len()
        );
    }
    for (name, &node) in info.metrics.iter().zip(&io.metrics) {
        if !graph.is_valid(node) || graph.desc(node).shape.rank() != 0 {
            bail!(Plugin, "metric {name} is not a scalar");
        }
    }
    Ok((Loss { graph, loss, metrics: io.metrics }, (x, cond, records)))
}

/// Adds the buffers and plans of training to a session. Weights of slot names in `trained` move, or only the adapters
/// of a slot that has some. `recorded`: the loss is of a rollout, not of data. `batches`: those of an update, whose
/// gradient is the mean of theirs.
pub fn build(
    session: &mut SessionBuilder,
    parts: &Parts,
    objective: &dyn Objective,
    optimizer: &Optimizer,
    batch: usize,
    recorded: Option<Recorded>,
    batches: usize,
    slots: &mut Slots<'_>,
) -> Result<Step> {
    optimizer.check()?;
    let info = objective.info()?;
    let (Loss { mut graph, loss, metrics }, (x, cond, records)) =
        loss_graph(parts, objective, batch, recorded, session)?;
    let measured = recorded.is_none().then(|| graph.clone());

    // the buffers the loss reads, in the order of its inputs
    let per_component = (0..parts.components.len()).flat_map(|c| {
        [&records.states, &records.carry, &records.reward_grad, &records.sigmas, &records.kernels]
            .into_iter()
            .filter_map(move |list| list.get(c))
    });
    let of_rows = [records.reward, records.valid, records.advantage];
    let inputs: Vec<BufferId> = x.iter().chain(&cond).chain(per_component).copied().collect();
    let inputs: Vec<BufferId> = inputs.into_iter().chain(of_rows.into_iter().flatten()).collect();
    let mut parameters: Vec<(Parameter, Place)> = Vec::new();
    let mut bindings = Vec::new();
    let mut averaged = Vec::new();
    let mut nodes = Vec::new();
    let lags = slots.views.iter().any(|(_, v)| *v == View::Lagging);
    for weight in graph.weights() {
        let adapted = parts.networks.iter().any(|n| n.slot == weight.slot && n.lora.is_some());
        if slots.trained.contains(&weight.slot) && (weight.adapter || !adapted) {
            let mut parameter = Parameter::of(weight)?;
            parameter.transposed = weight.adapter && transposed(&graph, weight);
            let mut buffer =
                |kind: &str| session.buffer(&format!("{kind}/{}", parameter.name), weight.desc);
            let place = Place {
                weight: buffer("raw"),
                m: buffer("adam_m"),
                v: buffer("adam_v"),
                ema: buffer("ema"),
                old: lags.then(|| buffer("old")),
                grad: (batches > 1).then(|| buffer("grad")),
            };
            parameters.push((parameter, place));
            nodes.push(weight.node);
        }
    }
    for weight in graph.weights() {
        let view = slots.views.iter().find(|(slot, _)| *slot == weight.slot).map(|(_, v)| *v);
        let trains = view.is_some() || slots.trained.contains(&weight.slot);
        let name = match view {
            Some(_) => weight.name.clone(),
            None => file_name(&weight.slot, &weight.name),
        };
        let known = parameters.iter().find(|(p, _)| trains && p.name == name);
        let (now, average) = match (known, view) {
            (Some((_, place)), None) => (place.weight, place.ema),
            (Some((_, place)), Some(View::Average)) => (place.ema, place.ema),
            (Some((_, Place { old: Some(old), .. })), Some(View::Lagging)) => (*old, *old),
            _ => {
                let tensor = (slots.frozen)(weight)?;
                bindings.push(WeightBinding::Tensor(Arc::clone(&tensor)));
                averaged.push(WeightBinding::Tensor(tensor));
                continue;
            }
        };
        bindings.push(WeightBinding::Buffer(now));
        averaged.push(WeightBinding::Buffer(average));
    }
    if parameters.is_empty() {
        bail!(Invalid, "the loss depends on no trained weight of {}", slots.trained.join(", "));
    }

    let one = graph.scalar(1.0);
    let mut grads = graph.grad(loss, one, &nodes);
    let report_desc = Desc::new(parts.float, &[2 + metrics.len()])?;
    let report = session.buffer("report", report_desc);
    let mut all_inputs = inputs.clone();
    let mut outputs = Vec::new();
    let mut gather = None;
    if batches > 1 {
        let mut sums = Vec::new();
        for ((parameter, place), grad) in parameters.iter().zip(&mut grads) {
            let Some(buffer) = place.grad else { bail!(Internal, "no room for a gradient") };
            all_inputs.push(buffer);
            let before = graph.input(&format!("grad/{}", parameter.name), parameter.desc);
            let own = graph.scaled(*grad, 1.0 / batches as f64);
            *grad = graph.add(before, own);
            sums.push((*grad, buffer));
        }
        let mut summed = graph.clone();
        let zero = summed.scalar(0.0);
        let told = stack(&mut summed, &[&[loss, zero], &metrics[..]].concat());
        let told = [&sums[..], &[(told, report)]].concat();
        summed.check()?;
        gather = Some(session.plan(&summed, &all_inputs, &told, &bindings)?);
        for ((parameter, _), (_, buffer)) in parameters.iter().zip(sums) {
            let desc = parameter.desc;
            outputs.push((graph.full(0.0, desc.dtype, desc.dims()), buffer));
        }
    }
    let (norm, grads) = clip(&mut graph, &grads, optimizer.clip);
    let row_desc = Desc::new(parts.float, &[Row::LEN])?;
    let row = session.buffer("row", row_desc);
    let row_node = graph.input("row", row_desc);
    let row_nodes = RowNodes::of(&mut graph, row_node);
    all_inputs.push(row);
    for ((parameter, place), (&node, &grad)) in parameters.iter().zip(nodes.iter().zip(&grads)) {
        let mut moment = |kind: &str, buffer| {
            all_inputs.push(buffer);
            graph.input(&format!("{kind}/{}", parameter.name), parameter.desc)
        };
        let now = Moments {
            weight: node,
            m: moment("adam_m", place.m),
            v: moment("adam_v", place.v),
            ema: moment("ema", place.ema),
        };
        let next = optimizer.update(&mut graph, row_nodes, now, grad);
        outputs.extend([
            (next.weight, place.weight),
            (next.m, place.m),
            (next.v, place.v),
            (next.ema, place.ema),
        ]);
    }
    let told = [&[loss, norm], &metrics[..]].concat();
    let stacked = stack(&mut graph, &told);
    outputs.push((stacked, report));
    graph.check()?;
    let plan = session.plan(&graph, &all_inputs, &outputs, &bindings)?;

    let measure = match measured {
        None => None,
        Some(mut measured) => {
            let zero = measured.scalar(0.0);
            let told = [&[loss, zero], &metrics[..]].concat();
            let stacked = stack(&mut measured, &told);
            measured.check()?;
            Some(session.plan(&measured, &inputs, &[(stacked, report)], &averaged)?)
        }
    };
    Ok(Step {
        plan,
        gather,
        measure,
        parameters,
        x,
        cond,
        records,
        row,
        report,
        metrics: info.metrics,
        batch,
        float: parts.float,
    })
}

/// Whether the weight that an adapter belongs to is the transposed operand of its matmul.
fn transposed(graph: &Graph, adapter: &Weight) -> bool {
    let name = adapter.name.strip_suffix(".lora_a").or(adapter.name.strip_suffix(".lora_b"));
    let own = |w: &&Weight| w.slot == adapter.slot && Some(w.name.as_str()) == name;
    let Some(weight) = graph.weights().iter().find(own) else { return false };
    let mut uses = graph.nodes().iter().filter(|n| n.op == Op::MatMul);
    uses.any(|n| n.inputs.get(1) == Some(&weight.node) && n.attrs.flag(AttrKey::TransB))
}

/// Scalars as one vector of the graph's float type.
fn stack(g: &mut Graph, scalars: &[NodeId]) -> NodeId {
    let dtype = Attrs::NONE.with_int(AttrKey::DType, i64::from(g.float().code()));
    let parts: Vec<NodeId> = scalars
        .iter()
        .map(|&s| {
            let cast = g.emit(Op::Cast, &[s], dtype.clone());
            g.emit(Op::Reshape, &[cast], Attrs::NONE.with_ints(AttrKey::Shape, [1]))
        })
        .collect();
    let mut out = parts[0]; // callers pass at least the loss
    // concat takes at most 64 at once
    for chunk in parts[1..].chunks(63) {
        let list = [&[out], chunk].concat();
        out = g.emit(Op::Concat, &list, Attrs::NONE.with_int(AttrKey::Axis, 0));
    }
    out
}
