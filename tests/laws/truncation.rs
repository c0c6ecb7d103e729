//! The baseline that is used where there are no exact forms, Euler-Maruyama with full truncation on the reverse SDE in x
//! (specs processes 1.3): it misses where the samplers of w pass. And samplers of additive noise, refused by radial noise.

use crate::oracle::{BesselMixture, Exact, Marginal, Oracle};
use crate::run::{distance, registry};
use crate::{ACCEPT, N};
use diffx::base::{DType, Desc, Result};
use diffx::cpu::Cpu;
use diffx::exec::SessionBuilder;
use diffx::graph::{AttrKey, Attrs, Op};
use diffx::mem::Budget;
use diffx::sample::{
    Build, Component, Eval, Network, Parts, Program, Replay, Request, RowPlan, Rows, Sampler,
    SamplerInfo, SlotDecl, Space, Stats, StepIo,
};
use serde_json::json;
use std::sync::Arc;

/// Euler-Maruyama on the reverse SDE of BESQ in x: dY = [delta + (2/u)(√Y D - Y)] dτ + 2 √Y dW. With full truncation Y itself
/// may go below 0, and what sees it sees max(Y, 0); what is below waits in a slot, for the state is the root. Without
/// `carry` Y is cut at 0 after each step, which is another scheme, absorption: it forgets how far below a path was.
struct EulerInX {
    delta: f64,
    carry: bool,
}

impl Sampler for EulerInX {
    fn info(&self, _: &[Component]) -> Result<SamplerInfo> {
        let below = SlotDecl {
            name: "below".into(),
            desc: Desc::new(DType::F32, &[1])?,
            free: true,
            init: 0.0,
        };
        Ok(SamplerInfo {
            n_coeff: 2,
            n_variants: 2,
            slots: vec![below],
            control: false,
            additive: false,
            stochasticity: 1.0,
        })
    }

    fn plan(&self, knots: &[Vec<f64>]) -> Result<RowPlan> {
        let rows = knots[0].windows(2).flat_map(|w| [w[0], w[0] * w[0] - w[1] * w[1]]).collect();
        let variants = knots[0][1..].iter().map(|s| u32::from(*s == 0.0)).collect();
        Ok(RowPlan { n_coeff: 2, rows, variants, levels: vec![], highest: vec![], kernels: vec![] })
    }

    fn step(&self, b: &mut Build<'_>, io: &mut StepIo) -> Result<()> {
        let (r, sigma, du) = (io.x[0], io.coeff[0], io.coeff[1]);
        let eval = Eval { phase: 0, x: vec![r], sigma: vec![sigma], cond: None };
        let d = b.denoise(0, &[eval])?[0][0];
        if io.variant == 1 {
            io.next[0] = d;
            return Ok(());
        }
        let g = &mut b.graph;
        let dims = g.desc(r).dims().to_vec();
        let draws = Attrs::NONE.with_dims(AttrKey::Shape, &dims).with_int(AttrKey::Purpose, 2);
        let z = g.emit(Op::Normal, &[], draws);
        let (seen, u) = (g.square(r), g.square(sigma));
        let y = if self.carry { g.add(seen, io.slots[0]) } else { seen };
        let gap = g.sub(d, r);
        let product = g.mul(r, gap);
        let pull = g.div(product, u);
        let twice = g.scaled(pull, 2.0);
        let drift = g.shifted(twice, self.delta);
        let moved = g.mul(drift, du);
        let root = g.unary(Op::Sqrt, du);
        let scale = g.mul(r, root);
        let scaled = g.mul(scale, z);
        let noise = g.scaled(scaled, 2.0);
        let kept = g.add(y, moved);
        let sum = g.add(kept, noise);
        let zero = g.scalar(0.0);
        let seen = g.binary(Op::Max, sum, zero);
        io.slots_out[0] = g.binary(Op::Min, sum, zero);
        io.next[0] = g.unary(Op::Sqrt, seen);
        Ok(())
    }
}

/// BESQ of dimension 3 around an oracle, from its exact marginal.
fn parts(oracle: &Arc<dyn Oracle>) -> Parts {
    let registry = registry();
    let component = Component {
        name: "x".into(),
        dtype: DType::F32,
        dims: vec![1],
        space: Space::Continuous,
        classes: 0,
    };
    let model = Arc::new(Exact(Arc::clone(oracle)));
    Parts {
        components: vec![component],
        processes: vec![registry.process("besq", &json!({"delta": 3.0})).unwrap()],
        stats: vec![Stats { x_mean: 2.0, x_var: 2.0, w_mean: 1.4, w_var: 0.3 }],
        conds: vec![],
        networks: vec![Network { slot: "base".into(), model, lora: None }],
        guidances: vec![Arc::new(Marginal(Arc::clone(oracle)))],
        float: DType::F32,
        weight_dtype: DType::F32,
    }
}

/// A sampler that adds Gaussian noise of its own would leave the law of a radius: it is refused there.
#[test]
fn additive_samplers_are_refused_by_radial_noise() {
    let oracle: Arc<dyn Oracle> = Arc::new(BesselMixture::GOLDEN);
    let sampler = registry().sampler("adaptive_sde", &json!({})).unwrap();
    let e = Rows::new(sampler.as_ref(), &parts(&oracle), &[vec![2.0, 0.1, 0.0]]).unwrap_err();
    assert!(e.message.contains("does not take; want a sampler that draws by the process"), "{e}");
    let mut additive = parts(&oracle);
    additive.processes = vec![registry().process("ve", &json!({})).unwrap()];
    Rows::new(sampler.as_ref(), &additive, &[vec![2.0, 0.1, 0.0]]).unwrap();
}

fn euler_in_x(oracle: &Arc<dyn Oracle>, steps: u32, carry: bool) -> f64 {
    let parts = parts(oracle);
    let knots = registry().grid("edm", &json!({})).unwrap().knots(steps, 3e-3, 10.0).unwrap();
    let sampler = EulerInX { delta: 3.0, carry };
    let rows = Arc::new(Rows::new(&sampler, &parts, &[knots]).unwrap());
    let mut session = SessionBuilder::new(Arc::new(Cpu::new(2)));
    let none = &mut |_: &[diffx::graph::Weight]| Ok(vec![]);
    let program = Program::new(&parts, &sampler, &rows, 10_000, false, &mut session, none).unwrap();
    let budget = Budget::unlimited();
    let mut replay = Replay::new(program, session.allocate(&budget).unwrap());
    let request =
        Request { seed: 11, first_sample: 0, n_samples: N, preview_every: 0, conds: vec![] };
    replay.begin(&rows, request, &[], &budget).unwrap();
    replay.finish().unwrap();
    let results = replay.take_results();
    let x = results.iter().find(|(name, _)| name == "x").unwrap().1.elements::<f32>().unwrap();
    let d = distance(x.iter().map(|x| f64::from(*x)).collect(), |x| oracle.cdf(x));
    let name = if carry { "full truncation" } else { "absorption" };
    println!("law besq by Euler-Maruyama in x with {name}: {steps} steps, KS {d:.4}");
    d
}

/// .16 and .034 where the spec measured (with other numbers drawn); Heun and every solver of order 2 pass at 64 steps.
#[test]
fn full_truncation_misses_where_exact_forms_pass() {
    let oracle: Arc<dyn Oracle> = Arc::new(BesselMixture::GOLDEN);
    for (steps, measured) in [(16, 0.590), (32, 0.157), (64, 0.0344)] {
        let d = euler_in_x(&oracle, steps, true);
        // two samples of 50 000 and 30 000, and the spec's own last step: .01 is all that these can do
        assert!(
            (d - measured).abs() < 0.01 && d > 2.0 * ACCEPT,
            "{steps} steps: {d}, the spec has {measured}"
        );
    }
    // absorption is another scheme, .033 at 32 steps: it is not what the spec measured
    let cut = euler_in_x(&oracle, 32, false);
    assert!((0.02..0.05).contains(&cut), "{cut}");
}
