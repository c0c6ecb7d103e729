//! How often a run asks its network: guidance that acts on some levels only pays for those, whatever the sampler.

use diffx::base::{DType, Desc, Result};
use diffx::cpu::Cpu;
use diffx::exec::SessionBuilder;
use diffx::graph::{AttrKey, Attrs, NodeId, Op};
use diffx::mem::{Budget, Tensor};
use diffx::plugin::Registry;
use diffx::sample::{
    Build, Component, Cond, Eval, Guidance, GuidanceInfo, GuideIo, Hook, Model, ModelInfo, ModelIo,
    Network, Parts, Predicts, Program, Replay, Request, Rows, Space, Stats,
};
use serde_json::json;
use std::sync::{Arc, Mutex};

const BATCH: usize = 4;
const STEPS: u32 = 20;
const INTERVAL: [f64; 2] = [0.3, 3.0];

/// D = (w + 0.3 cond)/(1 + sigma²); notes how many evaluations of a batch each build is for.
#[derive(Default)]
struct Counting(Mutex<Vec<usize>>);

fn component() -> Component {
    Component {
        name: "x".into(),
        dtype: DType::F32,
        dims: vec![3],
        space: Space::Continuous,
        classes: 0,
    }
}

fn cond() -> Cond {
    Cond { name: "c".into(), desc: Desc::new(DType::F32, &[3]).unwrap(), null_value: 0.0 }
}

impl Model for Counting {
    fn info(&self) -> Result<ModelInfo> {
        Ok(ModelInfo {
            predicts: Predicts::Denoised,
            components: vec![component()],
            conds: vec![cond()],
            slots: vec![],
        })
    }

    fn build(&self, b: &mut Build<'_>, io: &mut ModelIo) -> Result<()> {
        let g = &mut b.graph;
        let rows = g.desc(io.x[0]).dims()[0];
        self.0.lock().unwrap().push(rows / BATCH);
        let log = g.scaled(io.sigma[0], 8.0);
        let square = g.unary(Op::Exp, log);
        let column = Attrs::NONE.with_dims(AttrKey::Shape, &[rows, 1]);
        let u = g.emit(Op::Reshape, &[square], column);
        let pull = g.scaled(io.cond[0], 0.3);
        let (near, all) = (g.add(io.x[0], pull), g.shifted(u, 1.0));
        io.out[0] = g.div(near, all);
        Ok(())
    }
}

/// A guidance that does not say which form it needs, or says one form for every row.
struct Fixed(Arc<dyn Guidance>, u32);

impl Guidance for Fixed {
    fn info(&self, components: &[Component]) -> Result<GuidanceInfo> {
        self.0.info(components)
    }
    fn has(&self, hook: Hook) -> bool {
        self.0.has(hook)
    }
    fn variant(&self, _: &[f64], _: &[f64]) -> Result<u32> {
        Ok(self.1)
    }
    fn wrap(
        &self,
        b: &mut Build<'_>,
        inner: u32,
        evals: &[Eval],
        slots: &[NodeId],
        slots_out: &mut [NodeId],
    ) -> Result<Vec<Vec<NodeId>>> {
        self.0.wrap(b, inner, evals, slots, slots_out)
    }
    fn guide(&self, b: &mut Build<'_>, hook: Hook, inner: u32, io: &mut GuideIo) -> Result<()> {
        self.0.guide(b, hook, inner, io)
    }
}

fn registry() -> Registry {
    let mut registry = Registry::new(Box::new(|_, _| {}));
    for plugin in [
        diffx_processes::plugin(),
        diffx_samplers::plugin(),
        diffx_grids::plugin(),
        diffx_guidance::plugin(),
    ] {
        // Safety: a static of a crate linked into this test.
        unsafe { registry.register(std::ptr::from_ref(plugin).cast()) }.unwrap();
    }
    registry
}

/// The samples, the evaluations of a run, and the levels it goes through.
fn run(
    sampler: &str,
    guidance: Option<u32>,
    config: serde_json::Value,
) -> (Vec<f32>, usize, Vec<f64>) {
    let r = registry();
    let model = Arc::new(Counting::default());
    let cfg = r.guidance("cfg", &config).unwrap();
    let cfg = match guidance {
        Some(form) => Arc::new(Fixed(cfg, form)) as Arc<dyn Guidance>,
        None => cfg,
    };
    let parts = Parts {
        components: vec![component()],
        processes: vec![r.process("ve", &json!({})).unwrap()],
        stats: vec![Stats::default()],
        conds: vec![cond()],
        networks: vec![Network { slot: "base".into(), model: Arc::clone(&model) as _, lora: None }],
        guidances: vec![cfg],
        float: DType::F32,
        weight_dtype: DType::F32,
    };
    let sampler = r.sampler(sampler, &json!({})).unwrap();
    let knots = r.grid("edm", &json!({})).unwrap().knots(STEPS, 0.01, 20.0).unwrap();
    let rows = Arc::new(Rows::new(sampler.as_ref(), &parts, &[knots]).unwrap());
    // what a build of each form asks for: counted alone, in the order in which rows run
    let mut per_form = Vec::new();
    for form in &rows.forms {
        let mut only = (*rows).clone();
        only.forms = vec![form.clone()];
        only.form.fill(0);
        model.0.lock().unwrap().clear();
        program(&parts, sampler.as_ref(), &only);
        per_form.push(model.0.lock().unwrap().iter().sum::<usize>());
    }
    let evaluations = rows.form.iter().map(|f| per_form[*f as usize]).sum();

    let (program, session) = program(&parts, sampler.as_ref(), &rows);
    let budget = Budget::unlimited();
    let mut replay = Replay::new(program, session.allocate(&budget).unwrap());
    let value = Arc::new(Tensor::from_f32(&[3], &[1.0, -2.0, 0.5], &budget).unwrap());
    let request = Request {
        seed: 3,
        first_sample: 0,
        n_samples: 2 * BATCH,
        preview_every: 0,
        conds: vec![("c".into(), value)],
    };
    replay.begin(&rows, request, &[], &budget).unwrap();
    replay.finish().unwrap();
    let results = replay.take_results();
    let x = results.iter().find(|(n, _)| n == "x").unwrap().1.elements::<f32>().unwrap().to_vec();
    (x, evaluations, rows.levels.clone())
}

fn program(
    parts: &Parts,
    sampler: &dyn diffx::sample::Sampler,
    rows: &Rows,
) -> (Program, SessionBuilder) {
    let mut session = SessionBuilder::new(Arc::new(Cpu::new(1)));
    let none = &mut |_: &[diffx::graph::Weight]| Ok(vec![]);
    let program = Program::new(parts, sampler, rows, BATCH, false, &mut session, none).unwrap();
    (program, session)
}

fn apart(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn guidance_outside_its_interval_costs_one_evaluation() {
    let config = json!({ "scale": 3.0, "interval": INTERVAL });
    for (sampler, calls) in [("euler", 1), ("dpmpp_2m", 1), ("heun", 2), ("churn", 2), ("rk4", 4)] {
        let (x, paid, levels) = run(sampler, None, config.clone());
        let (full, twice, _) = run(sampler, Some(0), config.clone());
        // rows whose levels all lie outside (lo, hi]; churn asks up to 1.41 times higher
        let reach = if sampler == "churn" { std::f64::consts::SQRT_2 } else { 1.0 };
        let outside = |w: &&[f64]| w[0] * reach <= INTERVAL[0] || w[1] > INTERVAL[1];
        let rows: Vec<_> = levels.windows(2).collect();
        let last = rows.len() - 1; // the step to 0 asks once
        let of = |k: usize| if k == last { 1 } else { calls };
        let spared: usize = (0..rows.len()).filter(|k| outside(&rows[*k])).map(of).sum();
        println!("{sampler}: {paid} evaluations of {twice}");
        assert_eq!(twice, 2 * (calls * last + 1), "{sampler}");
        assert_eq!(paid, twice - spared, "{sampler}");
        assert!(spared > 8, "{sampler}: only {spared} are spared");
        // the same samples, up to the rounding of D_0 + 1 (D_c - D_0)
        assert!(apart(&x, &full) < 2e-5, "{sampler}: {}", apart(&x, &full));
        // and the form for outside is another law where it does not belong
        let (wrong, ..) = run(sampler, Some(1), config.clone());
        assert!(apart(&wrong, &full) > 0.1, "{sampler}");
    }
}

#[test]
fn guidance_without_an_interval_is_one_form() {
    let (_, paid, _) = run("euler", None, json!({ "scale": 3.0 }));
    assert_eq!(paid, 2 * STEPS as usize);
    let (_, paid, _) = run("euler", None, json!({ "scale": 1.0 }));
    assert_eq!(paid, STEPS as usize);
}
