//! Whole steps with exact denoisers, by the built-in samplers in f64: Heun's path after every step, and one ancestral
//! step about its draws. The mixtures of these rows are the ones the oracles of `tests/laws` state.

use crate::oracle::{BesselMixture, Exact, LogNormalMixture, Oracle};
use crate::rows::{Row, numbers};
use crate::runner::{Data, Runner};
use diffx::base::{DType, Result};
use diffx::cpu::Cpu;
use diffx::exec::SessionBuilder;
use diffx::graph::reference::{RefTensor, evaluate};
use diffx::graph::{NodeId, Op};
use diffx::mem::Budget;
use diffx::plugin::Registry;
use diffx::sample::{
    Build, Component, Eval, Guidance, GuidanceInfo, GuideIo, Hook, Network, Parts, Program, Replay,
    Request, Rows, Sampler, Space, Stats, StepIo,
};
use serde_json::{Value, json};
use std::sync::Arc;

pub(crate) fn check(row: &Row) {
    match row.id.as_str() {
        "traj.besq" => {
            assert_eq!(row.mixture("b"), [0.02, 0.05]);
            path(row, ("besq", json!({"delta": row.param("delta")})), &oracle(), "r0", f64::sqrt);
        }
        "traj.gbm" => {
            assert_eq!(row.mixture("b"), [0.25, 0.4]);
            path(
                row,
                ("gbm", json!({})),
                &(Arc::new(LogNormalMixture::GOLDEN) as _),
                "y0",
                f64::ln,
            );
        }
        "traj.besq_anc" => ancestral(row),
        "traj.pfgmpp" => points(row),
        other => panic!("no reader for {other}"),
    }
}

/// Point masses, whose denoiser is the weights that the transition of the process gives them.
fn points(row: &Row) {
    let list = numbers(&row.params["weights"]).into_iter().zip(numbers(&row.params["points"]));
    let data = Data::Normal(list.map(|(weight, at)| (weight, at, 0.0)).collect());
    let process = ("pfgmpp", json!({ "augmented": row.param("D") }));
    let start = numbers(&row.inputs["x0"]);
    let levels = numbers(&row.params["sigma_grid"]);
    let states = Runner::new(process, ("heun", json!({})), &data).ode(&levels, &start);
    row.agree(&[&start[..], &states.concat()[..]].concat());
}

fn oracle() -> Arc<dyn Oracle> {
    Arc::new(BesselMixture::GOLDEN)
}

fn registry() -> Registry {
    let mut registry = Registry::new(Box::new(|_, _| {}));
    for plugin in [diffx_processes::plugin(), diffx_samplers::plugin()] {
        // Safety: a static of a crate linked into this test.
        unsafe { registry.register(std::ptr::from_ref(plugin).cast()) }.unwrap();
    }
    registry
}

fn parts(process: (&str, Value), oracle: &Arc<dyn Oracle>) -> Parts {
    let space = Space::Continuous;
    let model = Arc::new(Exact(Arc::clone(oracle)));
    Parts {
        components: vec![Component {
            name: "x".into(),
            dtype: DType::F64,
            dims: vec![1],
            space,
            classes: 0,
        }],
        processes: vec![registry().process(process.0, &process.1).unwrap()],
        stats: vec![Stats { x_mean: 2.0, x_var: 2.0, w_mean: 1.4, w_var: 0.3 }],
        conds: vec![],
        networks: vec![Network { slot: "base".into(), model, lora: None }],
        guidances: vec![],
        float: DType::F64,
        weight_dtype: DType::F64,
    }
}

/// Starts a run at a given state.
struct At(f64);

impl Guidance for At {
    fn info(&self, _: &[Component]) -> Result<GuidanceInfo> {
        Ok(GuidanceInfo { stage: 30, slots: vec![], networks: vec![], group: 1, exact_for: -1.0 })
    }

    fn has(&self, hook: Hook) -> bool {
        hook == Hook::Start
    }

    fn wrap(
        &self,
        b: &mut Build<'_>,
        inner: u32,
        evals: &[Eval],
        _: &[NodeId],
        _: &mut [NodeId],
    ) -> Result<Vec<Vec<NodeId>>> {
        b.denoise(inner, evals)
    }

    fn guide(&self, b: &mut Build<'_>, _: Hook, _: u32, io: &mut GuideIo) -> Result<()> {
        let dims = b.graph.desc(io.x[0]).dims().to_vec();
        io.out[0] = b.graph.full(self.0, DType::F64, &dims);
        Ok(())
    }
}

/// The state after k steps is the result of a run that ends there; `coordinate` takes its decoded value back to w.
fn path(
    row: &Row,
    process: (&str, Value),
    oracle: &Arc<dyn Oracle>,
    start: &str,
    coordinate: fn(f64) -> f64,
) {
    let knots = numbers(&row.params["sigma_grid"]);
    let starts = numbers(&row.inputs[start]);
    let sampler = registry().sampler("heun", &json!({})).unwrap();
    let mut got = starts.clone();
    for k in 1..knots.len() {
        for w in &starts {
            let mut parts = parts(process.clone(), oracle);
            parts.guidances.push(Arc::new(At(*w)));
            got.push(coordinate(run(&parts, sampler.as_ref(), knots[..=k].to_vec())));
        }
    }
    row.agree(&got);
}

fn run(parts: &Parts, sampler: &dyn Sampler, knots: Vec<f64>) -> f64 {
    let rows = Arc::new(Rows::new(sampler, parts, &[knots]).unwrap());
    let mut session = SessionBuilder::new(Arc::new(Cpu::new(1)));
    let none = &mut |_: &[diffx::graph::Weight]| Ok(vec![]);
    let program = Program::new(parts, sampler, &rows, 1, false, &mut session, none).unwrap();
    let budget = Budget::unlimited();
    let mut replay = Replay::new(program, session.allocate(&budget).unwrap());
    let request =
        Request { seed: 1, first_sample: 0, n_samples: 1, preview_every: 0, conds: vec![] };
    replay.begin(&rows, request, &[], &budget).unwrap();
    replay.finish().unwrap();
    let results = replay.take_results();
    results.iter().find(|(name, _)| name == "x").unwrap().1.elements::<f64>().unwrap()[0]
}

/// One step with the draws of the row: D, the mean mu and the variance v of the plan, the next state.
fn ancestral(row: &Row) {
    let parts = parts(("besq", json!({"delta": row.param("delta")})), &oracle());
    let sampler = registry().sampler("ancestral", &json!({})).unwrap();
    let (sigma, next) = (row.input("sigma"), row.input("sigma_next"));
    let plan = sampler.plan(&[vec![sigma, next]]).unwrap();
    let mut b = Build::new(&parts, 1).unwrap();
    let r = b.graph.full(row.input("R"), DType::F64, &[1, 1]);
    let coeff = plan.rows.iter().map(|c| b.graph.scalar(*c)).collect();
    let mut io = StepIo {
        variant: plan.variants[0],
        x: vec![r],
        coeff,
        slots: vec![],
        slots_out: vec![],
        next: vec![NodeId::ERROR],
        control: None,
        denoised: vec![None],
    };
    sampler.step(&mut b, &mut io).unwrap();
    b.graph.check().unwrap();
    let nodes = [io.denoised[0].unwrap(), io.next[0]];
    let got = evaluate(&b.graph, &nodes, &|node, _| {
        let value = match node.op {
            Op::Normal => row.input("normal"),
            Op::Gamma => 0.5 * row.input("chi2_delta_minus_1"),
            other => panic!("{} is asked for", other.name()),
        };
        Ok(RefTensor::full(node.desc.shape, value))
    })
    .unwrap();
    let d = got[0].data[0];
    let mu = plan.rows[2] * row.input("R") + plan.rows[3] * d;
    row.agree(&[d, mu, plan.rows[4], got[1].data[0]]);
}
