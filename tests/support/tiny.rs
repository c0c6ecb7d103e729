//! Hand-made parts of a pipeline, small enough to have closed forms: an additive process, the exact denoiser of a normal
//! law, Heun's method, a sampler that walks at each sample's own pace, and guidances that only show their wiring.
#![allow(dead_code)]

use diffx::base::{DType, Desc, Result};
use diffx::graph::{AttrKey, Attrs, Graph, NodeId, Op};
use diffx::sample::{
    Build, Component, Cond, Eval, Guidance, GuidanceInfo, GuideIo, Hook, Model, ModelInfo, ModelIo,
    Network, Parts, Predicts, Process, ProcessFn, ProcessInfo, RowPlan, Sampler, SamplerInfo,
    SlotDecl, Space, Stats, StepIo,
};
use std::sync::Arc;

pub(crate) fn normal(g: &mut Graph, like: NodeId, purpose: u8) -> NodeId {
    let dims = g.desc(like).dims().to_vec();
    let attrs =
        Attrs::NONE.with_dims(AttrKey::Shape, &dims).with_int(AttrKey::Purpose, i64::from(purpose));
    g.emit(Op::Normal, &[], attrs)
}

/// w = x, w = x0 + sigma xi.
pub(crate) struct Additive;

impl Process for Additive {
    fn info(&self, _: &Stats) -> Result<ProcessInfo> {
        Ok(ProcessInfo {
            space: Space::Continuous,
            positive: false,
            additive: true,
            homogeneous: false,
            sigma_min: 0.01,
            sigma_max: 10.0,
        })
    }

    fn clock(&self, times: &[f64]) -> Result<Vec<f64>> {
        Ok(times.iter().map(|t| t.sqrt()).collect())
    }

    fn has(&self, f: ProcessFn) -> bool {
        matches!(
            f,
            ProcessFn::Encode
                | ProcessFn::Decode
                | ProcessFn::Prior
                | ProcessFn::Precond
                | ProcessFn::Renoise
        )
    }

    fn call(
        &self,
        b: &mut Build<'_>,
        f: ProcessFn,
        purpose: u8,
        component: &Component,
        stats: &Stats,
        x: &[NodeId],
    ) -> Result<Vec<NodeId>> {
        let g = &mut b.graph;
        Ok(match f {
            ProcessFn::Encode | ProcessFn::Decode => vec![x[0]],
            ProcessFn::Prior => {
                let mut dims = vec![g.batch()];
                dims.extend(component.dims.iter().map(|d| *d as usize));
                let like = g.full(0.0, g.float(), &dims);
                let xi = normal(g, like, purpose);
                vec![g.binary(Op::Mul, x[0], xi)]
            }
            ProcessFn::Renoise => {
                let xi = normal(g, x[0], purpose);
                let (a, b) = (g.unary(Op::Square, x[2]), g.unary(Op::Square, x[1]));
                let v = g.binary(Op::Sub, a, b);
                let scale = g.unary(Op::Sqrt, v);
                let noise = g.binary(Op::Mul, scale, xi);
                vec![g.binary(Op::Add, x[0], noise)]
            }
            ProcessFn::Precond => {
                let var = g.scalar(stats.w_var);
                let sd = g.scalar(stats.w_var.sqrt());
                let level = g.unary(Op::Square, x[0]);
                let total = g.binary(Op::Add, level, var);
                let skip = g.binary(Op::Div, var, total);
                let root = g.unary(Op::Rsqrt, total);
                let out = g.binary(Op::Mul, x[0], sd);
                let out = g.binary(Op::Mul, out, root);
                let log = g.unary(Op::Log, x[0]);
                let quarter = g.scalar(0.25);
                let noise = g.binary(Op::Mul, log, quarter);
                vec![skip, out, root, noise, total]
            }
            _ => vec![],
        })
    }
}

/// D = (s^2 w + sigma^2 m) / (s^2 + sigma^2) in any of the ways a network may predict it; the condition is m.
pub(crate) struct Exact {
    pub predicts: Predicts,
    pub mean: f64,
    pub var: f64,
    pub conditional: bool,
    pub dims: Vec<i64>,
}

impl Model for Exact {
    fn info(&self) -> Result<ModelInfo> {
        let conds = match self.conditional {
            true => vec![Cond {
                name: "mean".into(),
                desc: Desc::new(DType::F32, &[1])?,
                null_value: self.mean,
            }],
            false => vec![],
        };
        Ok(ModelInfo {
            predicts: self.predicts,
            components: vec![component("x", &self.dims)],
            conds,
            slots: vec![],
        })
    }

    fn build(&self, b: &mut Build<'_>, io: &mut ModelIo) -> Result<()> {
        let rows = b.graph.desc(io.x[0]).dims()[0];
        let mut dims = vec![1; b.graph.desc(io.x[0]).shape.rank()];
        dims[0] = rows;
        let g = &mut b.graph;
        let shaped = |g: &mut Graph, n: NodeId| {
            g.emit(Op::Reshape, &[n], Attrs::NONE.with_dims(AttrKey::Shape, &dims))
        };
        let noise = shaped(g, io.sigma[0]);
        let m = match self.conditional {
            true => shaped(g, io.cond[0]),
            false => g.scalar(self.mean),
        };
        let one = g.scalar(1.0);
        let var = g.scalar(self.var);
        // sigma and the unscaled state, from what this kind of network is given
        let (sigma, w) = match self.predicts {
            Predicts::Velocity => {
                let rest = g.binary(Op::Sub, one, noise);
                (g.binary(Op::Div, noise, rest), g.binary(Op::Div, io.x[0], rest))
            }
            other => {
                let four = g.scalar(4.0);
                let log = g.binary(Op::Mul, noise, four);
                let sigma = g.unary(Op::Exp, log);
                if other == Predicts::Residual {
                    let s2 = g.unary(Op::Square, sigma);
                    let total = g.binary(Op::Add, s2, var);
                    let root = g.unary(Op::Sqrt, total);
                    (sigma, g.binary(Op::Mul, io.x[0], root))
                } else {
                    (sigma, io.x[0])
                }
            }
        };
        let s2 = g.unary(Op::Square, sigma);
        let total = g.binary(Op::Add, s2, var);
        let near = g.binary(Op::Mul, var, w);
        let far = g.binary(Op::Mul, s2, m);
        let sum = g.binary(Op::Add, near, far);
        let d = g.binary(Op::Div, sum, total);
        let out = match self.predicts {
            Predicts::Denoised => d,
            Predicts::Residual => {
                let skip = g.binary(Op::Div, var, total);
                let skipped = g.binary(Op::Mul, skip, w);
                let rest = g.binary(Op::Sub, d, skipped);
                let sd = g.scalar(self.var.sqrt());
                let out = g.binary(Op::Mul, sigma, sd);
                let root = g.unary(Op::Rsqrt, total);
                let out = g.binary(Op::Mul, out, root);
                g.binary(Op::Div, rest, out)
            }
            Predicts::Noise | Predicts::Velocity => {
                // eps = (w - D) / sigma; v = eps - D
                let rest = g.binary(Op::Sub, w, d);
                let eps = g.binary(Op::Div, rest, sigma);
                if self.predicts == Predicts::Noise { eps } else { g.binary(Op::Sub, eps, d) }
            }
            _ => {
                let rest = g.binary(Op::Sub, d, w);
                g.binary(Op::Div, rest, s2)
            }
        };
        io.out[0] = out;
        Ok(())
    }
}

/// Heun's method on dw/dsigma = (w - D)/sigma; variant 1 is the Euler step to level 0.
pub(crate) struct Heun;

impl Sampler for Heun {
    fn info(&self, _: &[Component]) -> Result<SamplerInfo> {
        Ok(SamplerInfo {
            n_coeff: 2,
            n_variants: 2,
            slots: vec![],
            control: false,
            additive: false,
            stochasticity: 0.0,
        })
    }

    fn plan(&self, knots: &[Vec<f64>]) -> Result<RowPlan> {
        let k = &knots[0];
        let rows = k.windows(2).flat_map(|w| [w[0], w[1]]).collect();
        let variants = k[1..].iter().map(|s| u32::from(*s == 0.0)).collect();
        Ok(RowPlan { n_coeff: 2, rows, variants, levels: vec![], highest: vec![], kernels: vec![] })
    }

    fn step(&self, b: &mut Build<'_>, io: &mut StepIo) -> Result<()> {
        let (s, t) = (io.coeff[0], io.coeff[1]);
        let x = io.x[0];
        let d = b.denoise(0, &[eval(x, s)])?[0][0];
        let slope = slope(&mut b.graph, x, d, s);
        let g = &mut b.graph;
        let h = g.binary(Op::Sub, t, s);
        let move_ = g.binary(Op::Mul, h, slope);
        let euler = g.binary(Op::Add, x, move_);
        io.denoised[0] = Some(d);
        io.next[0] = euler;
        if io.variant == 0 {
            let d2 = b.denoise(0, &[eval(euler, t)])?[0][0];
            let slope2 = self::slope(&mut b.graph, euler, d2, t);
            let g = &mut b.graph;
            let half = g.scalar(0.5);
            let sum = g.binary(Op::Add, slope, slope2);
            let mean = g.binary(Op::Mul, sum, half);
            let move_ = g.binary(Op::Mul, h, mean);
            io.next[0] = g.binary(Op::Add, x, move_);
        }
        Ok(())
    }
}

pub(crate) fn eval(x: NodeId, sigma: NodeId) -> Eval {
    Eval { phase: 0, x: vec![x], sigma: vec![sigma], cond: None }
}

fn slope(g: &mut Graph, x: NodeId, d: NodeId, s: NodeId) -> NodeId {
    let rest = g.binary(Op::Sub, x, d);
    g.binary(Op::Div, rest, s)
}

/// Adds 1 to the state in each iteration and noise to a slot. A sample leaves row r after r + 1 + (its first state > 0)
/// iterations, and is done early when the state passes `limit`.
pub(crate) struct Walk {
    pub rows: usize,
    pub limit: f64,
}

impl Sampler for Walk {
    fn info(&self, _: &[Component]) -> Result<SamplerInfo> {
        let count = SlotDecl {
            name: "count".into(),
            desc: Desc::new(DType::F32, &[])?,
            free: true,
            init: 0.0,
        };
        let sum = SlotDecl {
            name: "sum".into(),
            desc: Desc::new(DType::F32, &[1])?,
            free: true,
            init: 2.0,
        };
        Ok(SamplerInfo {
            n_coeff: 1,
            n_variants: 1,
            slots: vec![count, sum],
            control: true,
            additive: false,
            stochasticity: 1.0,
        })
    }

    fn plan(&self, _: &[Vec<f64>]) -> Result<RowPlan> {
        let rows = (0..self.rows).map(|r| r as f64 + 1.0).collect();
        Ok(RowPlan {
            n_coeff: 1,
            rows,
            variants: vec![0; self.rows],
            levels: vec![],
            highest: vec![],
            kernels: vec![],
        })
    }

    fn step(&self, b: &mut Build<'_>, io: &mut StepIo) -> Result<()> {
        let x = io.x[0];
        let g = &mut b.graph;
        let batch = g.batch();
        let one = g.scalar(1.0);
        let xi = normal(g, x, 2);
        let tiny = g.scalar(0.01);
        let jitter = g.binary(Op::Mul, xi, tiny);
        let up = g.binary(Op::Add, x, one);
        io.next[0] = g.binary(Op::Add, up, jitter);
        let count = g.binary(Op::Add, io.slots[0], one);
        let leaves = g.binary(Op::Ge, count, io.coeff[0]);
        let zero = g.scalar(0.0);
        io.slots_out[0] = g.emit(Op::Where, &[leaves, zero, count], Attrs::NONE);
        io.slots_out[1] = g.binary(Op::Add, io.slots[1], jitter);
        let advance = g.full(0.0, DType::I32, &[batch]);
        let stay = g.full(1.0, DType::I32, &[batch]);
        let done = g.full(2.0, DType::I32, &[batch]);
        let limit = g.scalar(self.limit);
        let next = io.next[0];
        let flat = g.emit(Op::Reshape, &[next], Attrs::NONE.with_dims(AttrKey::Shape, &[batch]));
        let past = g.binary(Op::Gt, flat, limit);
        let control = g.emit(Op::Where, &[leaves, advance, stay], Attrs::NONE);
        io.control = Some(g.emit(Op::Where, &[past, done, control], Attrs::NONE));
        Ok(())
    }
}

/// D = D(null) + scale (D(cond) - D(null)), two evaluations as one batch; counts its calls in a slot.
pub(crate) struct TwoEvaluations {
    pub scale: f64,
}

impl Guidance for TwoEvaluations {
    fn info(&self, _: &[Component]) -> Result<GuidanceInfo> {
        Ok(GuidanceInfo {
            stage: 10,
            slots: vec![SlotDecl {
                name: "calls".into(),
                desc: Desc::new(DType::F32, &[])?,
                free: true,
                init: 0.0,
            }],
            networks: vec![],
            group: 1,
            exact_for: -1.0,
        })
    }

    fn has(&self, hook: Hook) -> bool {
        matches!(hook, Hook::Wrap | Hook::Finish)
    }

    fn wrap(
        &self,
        b: &mut Build<'_>,
        inner: u32,
        evals: &[Eval],
        slots: &[NodeId],
        slots_out: &mut [NodeId],
    ) -> Result<Vec<Vec<NodeId>>> {
        let mut all = Vec::new();
        for e in evals {
            all.push(Eval { cond: Some(b.null_cond.clone()), ..e.clone() });
            all.push(Eval { cond: Some(b.cond.clone()), ..e.clone() });
        }
        let ds = b.denoise(inner, &all)?;
        let g = &mut b.graph;
        let one = g.scalar(1.0);
        slots_out[0] = g.binary(Op::Add, slots[0], one);
        let scale = g.scalar(self.scale);
        Ok(ds
            .chunks(2)
            .map(|pair| {
                let more = g.binary(Op::Sub, pair[1][0], pair[0][0]);
                let scaled = g.binary(Op::Mul, more, scale);
                vec![g.binary(Op::Add, pair[0][0], scaled)]
            })
            .collect())
    }

    fn guide(&self, _: &mut Build<'_>, _: Hook, _: u32, io: &mut GuideIo) -> Result<()> {
        io.log_weight = Some(io.slots[0]);
        Ok(())
    }
}

/// Every particle becomes a copy of the first of its group, and remembers who it was.
pub(crate) struct FirstOfGroup {
    pub group: usize,
}

impl Guidance for FirstOfGroup {
    fn info(&self, _: &[Component]) -> Result<GuidanceInfo> {
        Ok(GuidanceInfo {
            stage: 50,
            slots: vec![SlotDecl {
                name: "who".into(),
                desc: Desc::new(DType::F32, &[])?,
                free: true,
                init: -1.0,
            }],
            networks: vec![],
            group: self.group as u32,
            exact_for: -1.0,
        })
    }

    fn has(&self, hook: Hook) -> bool {
        matches!(hook, Hook::Permute | Hook::Start | Hook::Finish)
    }

    fn wrap(
        &self,
        _: &mut Build<'_>,
        _: u32,
        _: &[Eval],
        _: &[NodeId],
        _: &mut [NodeId],
    ) -> Result<Vec<Vec<NodeId>>> {
        Ok(vec![])
    }

    fn guide(&self, b: &mut Build<'_>, hook: Hook, _: u32, io: &mut GuideIo) -> Result<()> {
        let g = &mut b.graph;
        let batch = g.batch();
        match hook {
            Hook::Start => {
                let attrs = Attrs::NONE
                    .with_dims(AttrKey::Shape, &[batch])
                    .with_int(AttrKey::Axis, 0)
                    .with_int(AttrKey::DType, 1);
                let row = g.emit(Op::Iota, &[], attrs);
                let group = g.scalar(self.group as f64);
                io.slots_out[0] = g.binary(Op::Rem, row, group);
            }
            Hook::Permute => io.index = Some(g.full(0.0, DType::I32, &[batch])),
            _ => io.log_weight = Some(io.slots[0]),
        }
        Ok(())
    }
}

pub(crate) fn component(name: &str, dims: &[i64]) -> Component {
    Component {
        name: name.into(),
        dtype: DType::F32,
        dims: dims.to_vec(),
        space: Space::Continuous,
        classes: 0,
    }
}

/// A pipeline of one component `x`.
pub(crate) fn parts(model: Exact, guidances: Vec<Arc<dyn Guidance>>) -> Parts {
    let info = model.info().unwrap();
    Parts {
        components: info.components.clone(),
        processes: vec![Arc::new(Additive)],
        stats: vec![Stats { w_var: model.var, ..Stats::default() }],
        conds: info.conds,
        networks: vec![Network { slot: "base".into(), model: Arc::new(model), lora: None }],
        guidances,
        float: DType::F32,
        weight_dtype: DType::F32,
    }
}

/// Geometric from `hi` down to `lo`, then 0.
pub(crate) fn knots(n: usize, hi: f64, lo: f64) -> Vec<f64> {
    let mut k: Vec<f64> = (0..n).map(|i| hi * (lo / hi).powf(i as f64 / (n - 1) as f64)).collect();
    k.push(0.0);
    k
}
