//! The exact denoiser of phase-space processes for the golden normal mixture as positions, by closed forms in f64 that
//! the plugin does not use: the covariance of the noise without its series.

use crate::oracle::LogNormalMixture;
use diffx::base::{DType, Result};
use diffx::graph::{AttrKey, Attrs, Graph, NodeId, Op};
use diffx::sample::{Build, Component, Model, ModelInfo, ModelIo, Predicts, Space};

/// `unit` = q/(mu k), `start` = variance of the velocity at time 0.
#[derive(Clone, Copy)]
pub(crate) struct PhaseSpace {
    pub(crate) unit: f64,
    pub(crate) k: f64,
    pub(crate) start: f64,
}

pub(crate) const CLD: PhaseSpace = PhaseSpace { unit: 1.0, k: 0.5, start: 0.01 };
pub(crate) const VSMD: PhaseSpace = PhaseSpace { unit: 20.0 / (5.0 * 0.98), k: 0.98, start: 1.0 };

/// Column `i` of [rows, 2].
fn column(g: &mut Graph, x: NodeId, i: usize) -> NodeId {
    let rows = g.desc(x).dims()[0];
    let attrs =
        Attrs::NONE.with_dims(AttrKey::Start, &[0, i]).with_dims(AttrKey::Stop, &[rows, i + 1]);
    g.emit(Op::Slice, &[x], attrs)
}

impl Model for PhaseSpace {
    fn info(&self) -> Result<ModelInfo> {
        let component = Component {
            name: "x".into(),
            dtype: DType::F64,
            dims: vec![2],
            space: Space::Continuous,
            classes: 0,
        };
        Ok(ModelInfo {
            predicts: Predicts::Denoised,
            components: vec![component],
            conds: vec![],
            slots: vec![],
        })
    }

    fn build(&self, b: &mut Build<'_>, io: &mut ModelIo) -> Result<()> {
        let g = &mut b.graph;
        let rows = g.desc(io.x[0]).dims()[0];
        let log = g.scaled(io.sigma[0], 4.0);
        let sigma = g.unary(Op::Exp, log);
        let sigma =
            g.emit(Op::Reshape, &[sigma], Attrs::NONE.with_dims(AttrKey::Shape, &[rows, 1]));
        let s2 = g.square(sigma);
        let e = g.shifted(s2, 1.0);
        let l = g.unary(Op::Log, e);
        // I0, I1, I2: integrals of y^n e^2y up to y = l/2
        let i0 = g.scaled(s2, 0.5);
        let l1 = g.shifted(l, -1.0);
        let grown = g.mul(l1, e);
        let i1 = g.shifted(grown, 1.0);
        let i1 = g.scaled(i1, 0.25);
        let l2 = g.shifted(l, -2.0);
        let l2 = g.mul(l2, l);
        let l2 = g.shifted(l2, 2.0);
        let grown = g.mul(l2, e);
        let i2 = g.shifted(grown, -2.0);
        let i2 = g.scaled(i2, 0.125);
        let xx = g.scaled(i2, self.unit / (self.k * self.k));
        let both = g.add(i1, i2);
        let xv = g.scaled(both, -self.unit / self.k);
        let twice = g.scaled(i1, 2.0);
        let sum = g.add(i0, twice);
        let sum = g.add(sum, i2);
        let vv = g.scaled(sum, self.unit);
        let vv = g.shifted(vv, self.start);
        // c e^-y with c = F^-1 (0, 1)
        let cx = g.scaled(l, -0.5 / self.k);
        let half = g.scaled(l, 0.5);
        let cv = g.shifted(half, 1.0);
        let (zx, zv) = (column(g, io.x[0], 0), column(g, io.x[0], 1));
        // F^-1 z
        let grow = g.unary(Op::Sqrt, e);
        let less = g.neg(half);
        let less = g.shifted(less, 1.0);
        let ky = g.scaled(half, self.k);
        let inverse = |g: &mut Graph, a: NodeId, b: NodeId| {
            let (p, q) = (g.mul(a, zx), g.mul(b, zv));
            let sum = g.add(p, q);
            g.mul(grow, sum)
        };
        let x = inverse(g, less, cx);
        let v = inverse(g, ky, cv);
        let LogNormalMixture { mean, sd } = LogNormalMixture::GOLDEN;
        let mut parts = Vec::new();
        for i in 0..2 {
            let total = g.shifted(xx, sd[i] * sd[i]);
            let a = g.mul(total, vv);
            let c = g.square(xv);
            let det = g.sub(a, c);
            let off = g.shifted(x, -mean[i]);
            // S^-1 r
            let (p, q) = (g.mul(vv, off), g.mul(xv, v));
            let first = g.sub(p, q);
            let first = g.div(first, det);
            let (p, q) = (g.mul(total, v), g.mul(xv, off));
            let second = g.sub(p, q);
            let second = g.div(second, det);
            let (p, q) = (g.mul(off, first), g.mul(v, second));
            let square = g.add(p, q);
            let log_det = g.unary(Op::Log, det);
            let log = g.add(square, log_det);
            let log = g.scaled(log, -0.5);
            let log = g.shifted(log, [0.35_f64, 0.65][i].ln());
            let (p, q) = (g.mul(cx, first), g.mul(cv, second));
            let along = g.add(p, q);
            parts.push((log, g.neg(along)));
        }
        let gap = g.sub(parts[0].0, parts[1].0);
        let share = g.unary(Op::Sigmoid, gap);
        let move_ = g.sub(parts[0].1, parts[1].1);
        let part = g.mul(share, move_);
        let score = g.add(parts[1].1, part);
        let score = g.mul(grow, score);
        // D = (x - g v/k, v + g (k x + 2 v) + g h s_v), h = unit/2
        let turn = g.div(s2, e);
        let over = g.scaled(zv, -1.0 / self.k);
        let over = g.mul(turn, over);
        let dx = g.add(zx, over);
        let (pull, twice) = (g.scaled(zx, self.k), g.scaled(zv, 2.0));
        let kick = g.scaled(score, 0.5 * self.unit);
        let sum = g.add(pull, twice);
        let sum = g.add(sum, kick);
        let sum = g.mul(turn, sum);
        let dv = g.add(zv, sum);
        io.out[0] = g.emit(Op::Concat, &[dx, dv], Attrs::NONE.with_int(AttrKey::Axis, 1));
        Ok(())
    }
}
