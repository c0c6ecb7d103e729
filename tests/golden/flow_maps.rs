//! Consistency models and MeanFlow, all in f64 at the rows' 1e-10: the boundary out of `precond` of `ve`; the end of the
//! path of normal data out of the sampler `rk4`; the velocity that the objective `meanflow` asks for out of its own
//! error, with the exact average velocity as the network and its draws put in by hand.

use crate::graph::{evaluate, process, registry, vector};
use crate::rows::{Row, numbers};
use crate::runner::{Data, Runner, knots};
use diffx::base::{DType, Desc, Result};
use diffx::graph::reference::{RefTensor, evaluate as by_reference};
use diffx::graph::{Graph, NodeId, Op};
use diffx::sample::{Build, Cond, Model, ModelInfo, ModelIo, Predicts, ProcessFn};
use diffx::train::LossIo;
use serde_json::{Value, json};
use std::cell::Cell;
use std::sync::Arc;

fn boundary(row: &Row) {
    let sd = row.param("sigma_data");
    assert_eq!(sd, 0.5, "as the statistics of `evaluate`");
    let precond = |eps: f64| {
        let ve = process("ve", &json!({ "boundary": eps }));
        let out = evaluate(&ve, 1, |f| {
            let sigma = f.values(&[row.input("sigma")]);
            let all = f.b.process(0, ProcessFn::Precond, 0, &[sigma]).unwrap();
            all[..2].to_vec()
        });
        [out[0][0], out[1][0]]
    };
    row.agree(&precond(row.param("eps")));
    // EDM's is another, by the level of the boundary
    assert!((precond(0.0)[1] - row.expected[1]).abs() > 1e-4);
}

/// Where the path of N(mean, sd²) data leads from w at sigma.
fn follow(process: &str, data: (f64, f64), w: f64, range: (f64, f64), to_zero: bool) -> f64 {
    let data = Data::Normal(vec![(1.0, data.0, data.1)]);
    let run = Runner::new((process, Value::Null), ("rk4", Value::Null), &data);
    let levels = knots("geometric", json!({ "to_zero": to_zero }), 4000, range);
    run.ode(&levels, &[w]).pop().unwrap()[0]
}

fn end_of_path(row: &Row) {
    let data = (row.param("mean"), row.param("std"));
    let (x, sigma) = (numbers(&row.inputs["x"]), numbers(&row.inputs["sigma"]));
    let end = |(x, s): (&f64, &f64)| follow("ve", data, *x, (1e-7, *s), true);
    row.agree(&x.iter().zip(&sigma).map(end).collect::<Vec<_>>());
}

/// u of N(mean, sd²), times a factor.
struct Average {
    mean: f64,
    sd: f64,
}

impl Average {
    fn spread(&self, g: &mut Graph, t: NodeId) -> NodeId {
        let rest = g.scaled(t, -1.0);
        let rest = g.shifted(rest, 1.0);
        let data = g.scaled(rest, self.sd);
        let (a, b) = (g.square(data), g.square(t));
        let sum = g.add(a, b);
        g.unary(Op::Sqrt, sum)
    }

    /// Mean of z at t.
    fn middle(&self, g: &mut Graph, t: NodeId) -> NodeId {
        let m = g.scaled(t, -self.mean);
        g.shifted(m, self.mean)
    }
}

impl Model for Average {
    fn info(&self) -> Result<ModelInfo> {
        let desc = Desc::new(DType::F64, &[1])?;
        let conds = vec![Cond { name: "r".into(), desc, null_value: 0.0 }];
        let predicts = Predicts::Velocity;
        Ok(ModelInfo { predicts, components: vec![], conds, slots: vec![] })
    }

    fn build(&self, b: &mut Build<'_>, io: &mut ModelIo) -> Result<()> {
        let (g, z, r) = (&mut b.graph, io.x[0], io.cond[0]);
        let t = g.reshape(io.sigma[0], &[1, 1]);
        let (here, there) = (self.middle(g, t), self.middle(g, r));
        let (wide, narrow) = (self.spread(g, t), self.spread(g, r));
        let ratio = g.div(narrow, wide);
        let off = g.sub(z, here);
        let off = g.mul(ratio, off);
        let moved = g.add(there, off);
        let (way, time) = (g.sub(z, moved), g.sub(t, r));
        io.out[0] = g.div(way, time);
        Ok(())
    }
}

/// [u, error of the objective] at z between two times, where data and noise are such that the velocity is v.
fn at(row: &Row, v: f64) -> [f64; 2] {
    let (z, r, t) = (row.input("z"), row.input("r"), row.input("t"));
    let model = Arc::new(Average { mean: row.param("mean"), sd: row.param("std") });
    let conds = model.info().unwrap().conds;
    let mut parts = vector(1, ("flow", json!({})), model, 1.0);
    parts.conds = conds;
    let objective = registry().objective("meanflow", &json!({"equal": 0.0})).unwrap();
    let mut b = Build::new(&parts, 1).unwrap();
    let desc = Desc::new(DType::F64, &[1, 1]).unwrap();
    let mut io = LossIo { x0: vec![b.graph.input("x", desc)], ..LossIo::default() };
    objective.loss(&mut b, &mut io).unwrap();
    let (state, goal) = (b.graph.input("z", desc), b.graph.input("r", desc));
    let time = b.graph.input("t", Desc::new(DType::F64, &[1]).unwrap());
    let mut network = ModelIo {
        phase: 0,
        x: vec![state],
        sigma: vec![time],
        cond: vec![goal],
        slots: vec![],
        slots_out: vec![],
        out: vec![NodeId::ERROR],
    };
    b.network("base", &mut network).unwrap();
    // sigmoids are 0 and 1 there
    let logit =
        |t: f64| if t == 0.0 || t == 1.0 { 1600.0 * (t - 0.5) } else { (t / (1.0 - t)).ln() };
    let drawn = [logit(t) + 0.4, logit(r) + 0.4, z + (1.0 - t) * v];
    let next = Cell::new(0);
    // nodes are asked for in the order they were emitted: both times, then the noise
    let out = by_reference(&b.graph, &[network.out[0], io.metrics[1]], &|node, _| {
        let is = |n: NodeId| std::ptr::eq(b.graph.node(n), node);
        let value = match node.op {
            Op::Normal => drawn[next.replace(next.get() + 1)],
            Op::Uniform => 0.5,
            _ if is(io.x0[0]) => z - t * v,
            _ if is(state) => z,
            _ if is(goal) => r,
            _ => t,
        };
        Ok(RefTensor::full(node.desc.shape, value))
    })
    .unwrap();
    [out[0].data[0], out[1].data[0]]
}

fn mean_flow(row: &Row) {
    let (r, t, z) = (row.input("r"), row.input("t"), row.input("z"));
    // the error is the square of a + b v: its root is the velocity that the identity gives
    let [[u, m0], [_, m1], [_, m2]] = [0.0, 1.0, 2.0].map(|v| at(row, v));
    let square = 0.5 * (m2 - 2.0 * m1 + m0);
    let v = -0.5 * (m1 - m0 - square) / square;
    row.agree(&[u, v, (v - u) / (t - r)]);
    assert!(at(row, row.expected[1])[1] < 1e-20, "the exact network has an error");
    assert!(m0 > 1e-3 && at(row, v + 0.1)[1] > 1e-4);
    if t < 1.0 {
        // the same velocity by following the flow itself from t to r
        let level = |t: f64| t / (1.0 - t);
        let data = (row.param("mean"), row.param("std"));
        let w = follow("flow", data, z / (1.0 - t), (level(r), level(t)), false);
        let got = (z - w * (1.0 - r)) / (t - r);
        assert!((got / row.expected[0] - 1.0).abs() < row.rtol, "{got}");
    }
}

pub(crate) fn check(row: &Row) {
    match row.id.as_str() {
        "cm.gauss" => end_of_path(row),
        id if id.starts_with("cm.boundary.") => boundary(row),
        id if id.starts_with("meanflow.") => mean_flow(row),
        id => panic!("{id} is not read"),
    }
}
