//! One training step as one graph: objective, gradients by the weights, clipping, AdamW, moving average. Weights and
//! moments are buffers of the session that the plan reads and writes, so a step is one replay.

use super::objective::{LossIo, Objective};
use super::optimizer::{Moments, Optimizer, Row, RowNodes, clip};
use super::parameter::Parameter;
use crate::bail;
use crate::base::{DType, Desc, Result};
use crate::exec::{BufferId, PlanId, SessionBuilder, WeightBinding};
use crate::graph::{AttrKey, Attrs, Graph, NodeId, Op};
use crate::mem::Tensor;
use crate::sample::Build;
use crate::sample::build::Parts;
use std::collections::HashMap;
use std::sync::Arc;

/// Tensors of the slots that do not train, by slot and name.
pub type Frozen = HashMap<(String, String), Arc<Tensor>>;

/// The buffers of a parameter.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    pub weight: BufferId,
    pub m: BufferId,
    pub v: BufferId,
    pub ema: BufferId,
}

/// Everything of a training step that lives in a session.
#[derive(Debug, Clone)]
pub struct Step {
    pub plan: PlanId,
    /// The loss alone with the averaged weights.
    pub measure: PlanId,
    pub parameters: Vec<(Parameter, Place)>,
    /// [batch, ...] per component and per condition.
    pub x: Vec<BufferId>,
    pub cond: Vec<BufferId>,
    pub row: BufferId,
    /// [loss, norm of the gradient, metrics of the objective ...]
    pub report: BufferId,
    pub metrics: Vec<String>,
    pub batch: usize,
    pub float: DType,
}

/// The loss as a graph: inputs are the components, then the conditions.
struct Loss {
    graph: Graph,
    loss: NodeId,
    metrics: Vec<NodeId>,
}

fn loss_graph(parts: &Parts, objective: &dyn Objective, batch: usize) -> Result<Loss> {
    let info = objective.info()?;
    if info.records != 0 {
        bail!(Unsupported, "the objective needs records of rollouts; training on data has none");
    }
    for slot in &info.networks {
        if !parts.networks.iter().any(|n| n.slot == *slot) {
            bail!(NotFound, "the objective needs a network {slot}, the training names none");
        }
    }
    let mut b = Build::new(parts, batch)?;
    let mut io = LossIo::default();
    for (c, component) in parts.components.iter().enumerate() {
        io.x0.push(b.graph.input(&component.name, parts.state(c, batch)?));
    }
    b.cond.clear();
    for c in &parts.conds {
        let dims = [&[batch], c.desc.dims()].concat();
        b.cond.push(b.graph.input(&c.name, Desc::new(c.desc.dtype, &dims)?));
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
    Ok(Loss { graph, loss, metrics: io.metrics })
}

/// Adds the buffers and plans of training to a session. Weights of slot names in `trained` move, or only the adapters
/// of a slot that has some.
pub fn build(
    session: &mut SessionBuilder,
    parts: &Parts,
    objective: &dyn Objective,
    optimizer: &Optimizer,
    batch: usize,
    trained: &[String],
    frozen: &Frozen,
) -> Result<Step> {
    optimizer.check()?;
    let info = objective.info()?;
    let Loss { mut graph, loss, metrics } = loss_graph(parts, objective, batch)?;
    let measured = graph.clone();

    // the buffers the loss reads
    let inputs: Vec<BufferId> =
        graph.inputs().iter().map(|i| session.buffer(&i.name, i.desc)).collect();
    let (x, cond) = inputs.split_at(parts.components.len());
    let mut parameters = Vec::new();
    let mut bindings = Vec::new();
    let mut averaged = Vec::new();
    let mut nodes = Vec::new();
    for weight in graph.weights().to_vec() {
        let key = (weight.slot.clone(), weight.name.clone());
        let adapted = parts.networks.iter().any(|n| n.slot == weight.slot && n.lora.is_some());
        if trained.contains(&weight.slot) && (weight.adapter || !adapted) {
            let parameter = Parameter::of(&weight)?;
            let mut buffer =
                |kind: &str| session.buffer(&format!("{kind}/{}", parameter.name), weight.desc);
            let place = Place {
                weight: buffer("raw"),
                m: buffer("adam_m"),
                v: buffer("adam_v"),
                ema: buffer("ema"),
            };
            bindings.push(WeightBinding::Buffer(place.weight));
            averaged.push(WeightBinding::Buffer(place.ema));
            parameters.push((parameter, place));
            nodes.push(weight.node);
        } else if let Some(tensor) = frozen.get(&key) {
            bindings.push(WeightBinding::Tensor(Arc::clone(tensor)));
            averaged.push(WeightBinding::Tensor(Arc::clone(tensor)));
        } else {
            bail!(NotFound, "weight {} of the frozen network {} is not loaded", key.1, key.0);
        }
    }
    if parameters.is_empty() {
        bail!(Invalid, "the loss depends on no trained weight of {}", trained.join(", "));
    }

    let one = graph.scalar(1.0);
    let grads = graph.grad(loss, one, &nodes);
    let (norm, grads) = clip(&mut graph, &grads, optimizer.clip);
    let row_desc = Desc::new(parts.float, &[Row::LEN])?;
    let row = session.buffer("row", row_desc);
    let row_node = graph.input("row", row_desc);
    let row_nodes = RowNodes::of(&mut graph, row_node);
    let mut all_inputs = inputs.clone();
    all_inputs.push(row);
    let mut outputs = Vec::new();
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
    let report_desc = Desc::new(parts.float, &[2 + metrics.len()])?;
    let report = session.buffer("report", report_desc);
    let told = [&[loss, norm], &metrics[..]].concat();
    let stacked = stack(&mut graph, &told);
    outputs.push((stacked, report));
    graph.check()?;
    let plan = session.plan(&graph, &all_inputs, &outputs, &bindings)?;

    let mut measured = measured;
    let zero = measured.scalar(0.0);
    let told = [&[loss, zero], &metrics[..]].concat();
    let stacked = stack(&mut measured, &told);
    measured.check()?;
    let measure = session.plan(&measured, &inputs, &[(stacked, report)], &averaged)?;
    Ok(Step {
        plan,
        measure,
        parameters,
        x: x.to_vec(),
        cond: cond.to_vec(),
        row,
        report,
        metrics: info.metrics,
        batch,
        float: parts.float,
    })
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
