//! Data laws whose noisy marginals and denoisers have closed forms (specs processes 1.1, 1.5), as a model and as a start.

use diffx::base::special::law;
use diffx::base::special::normal::ndtr;
use diffx::base::{DType, Result};
use diffx::graph::{AttrKey, Attrs, Graph, NodeId, Op};
use diffx::sample::{
    Build, Component, Eval, Guidance, GuidanceInfo, GuideIo, Hook, Model, ModelInfo, ModelIo,
    Predicts, Space,
};
use std::sync::Arc;

/// A data law in the coordinate of its process.
pub(crate) trait Oracle: Send + Sync {
    /// Distribution of the decoded data.
    fn cdf(&self, x: f64) -> f64;
    /// Weight of the first of the two components.
    fn first_weight(&self) -> f64;
    /// Per component of the mixture: weight, log density of w at level sigma, denoiser.
    fn components(&self, g: &mut Graph, w: NodeId, sigma: NodeId) -> Vec<(f64, NodeId, NodeId)>;
    /// A draw of the noisy marginal, given a node that is 1 where the first component is chosen.
    fn draw(&self, g: &mut Graph, first: NodeId, like: NodeId, sigma: NodeId) -> NodeId;
}

const WEIGHTS: [f64; 2] = [0.35, 0.65];

/// log x0 ~ 0.35 N(mean, sd²) + 0.65 N(mean, sd²).
pub(crate) struct LogNormalMixture {
    pub(crate) mean: [f64; 2],
    pub(crate) sd: [f64; 2],
}

impl LogNormalMixture {
    pub(crate) const GOLDEN: Self = Self { mean: [-0.7, 0.9], sd: [0.25, 0.4] };
}

impl Oracle for LogNormalMixture {
    fn first_weight(&self) -> f64 {
        WEIGHTS[0]
    }

    fn cdf(&self, x: f64) -> f64 {
        (0..2).map(|i| WEIGHTS[i] * ndtr((x.ln() - self.mean[i]) / self.sd[i])).sum()
    }

    fn components(&self, g: &mut Graph, w: NodeId, sigma: NodeId) -> Vec<(f64, NodeId, NodeId)> {
        let u = g.square(sigma);
        let component = |i: usize| {
            let var = self.sd[i] * self.sd[i];
            let total = g.shifted(u, var);
            let off = g.shifted(w, -self.mean[i]);
            let square = g.square(off);
            let exponent = g.div(square, total);
            let log_total = g.unary(Op::Log, total);
            let sum = g.add(exponent, log_total);
            let density = g.scaled(sum, -0.5);
            let gain = g.div(off, total);
            let pull = g.scaled(gain, var);
            (WEIGHTS[i], density, g.shifted(pull, self.mean[i]))
        };
        (0..2).map(component).collect()
    }

    fn draw(&self, g: &mut Graph, first: NodeId, like: NodeId, sigma: NodeId) -> NodeId {
        let u = g.square(sigma);
        let xi = draw(g, Op::Normal, like);
        let both = [0, 1].map(|i| {
            let total = g.shifted(u, self.sd[i] * self.sd[i]);
            let sd = g.unary(Op::Sqrt, total);
            let noise = g.mul(sd, xi);
            g.shifted(noise, self.mean[i])
        });
        g.choose(first, both[0], both[1])
    }
}

/// x0 ~ a mixture of (weight) b chi'^2_delta(lambda): transitions from lambda b over the clock b.
pub(crate) struct BesselMixture {
    pub(crate) delta: f64,
    /// Weight, b and lambda.
    pub(crate) parts: [(f64, f64, f64); 2],
}

impl BesselMixture {
    pub(crate) const GOLDEN: Self = Self::of(3.0);

    /// The golden mixture in any dimension.
    pub(crate) const fn of(delta: f64) -> Self {
        Self { delta, parts: [(0.4, 0.02, 20.0), (0.6, 0.05, 60.0)] }
    }
}

impl Oracle for BesselMixture {
    fn first_weight(&self) -> f64 {
        self.parts[0].0
    }

    fn cdf(&self, x: f64) -> f64 {
        let part =
            |(w, b, lambda): &(f64, f64, f64)| w * law::chi_square_cdf(x / b, self.delta, *lambda);
        self.parts.iter().map(part).sum()
    }

    fn components(&self, g: &mut Graph, r: NodeId, sigma: NodeId) -> Vec<(f64, NodeId, NodeId)> {
        let nu = 0.5 * self.delta - 1.0;
        let u = g.square(sigma);
        let component = |(weight, b, lambda): (f64, f64, f64)| {
            let start = (lambda * b).sqrt();
            let total = g.shifted(u, b);
            let scaled = g.scaled(r, start);
            let z = g.div(scaled, total);
            // log density up to terms without the component: -log U - (r - r0)²/2U + log(e^-z I(z)) - nu log r0
            let bessel = g.emit(Op::LogIve, &[z], Attrs::NONE.with_float(AttrKey::Nu, nu));
            let off = g.shifted(r, -start);
            let square = g.square(off);
            let exponent = g.div(square, total);
            let half = g.scaled(exponent, -0.5);
            let log_total = g.unary(Op::Log, total);
            let rest = g.sub(half, log_total);
            let density = g.add(rest, bessel);
            let density = g.shifted(density, -nu * start.ln());
            // D = (b r + u r0 R(z)) / U
            let ratio = g.emit(Op::BesselRatio, &[z], Attrs::NONE.with_float(AttrKey::Nu, nu));
            let far = g.mul(u, ratio);
            let far = g.scaled(far, start);
            let near = g.scaled(r, b);
            let sum = g.add(near, far);
            (weight, density, g.div(sum, total))
        };
        self.parts.into_iter().map(component).collect()
    }

    fn draw(&self, g: &mut Graph, first: NodeId, like: NodeId, sigma: NodeId) -> NodeId {
        let u = g.square(sigma);
        if self.delta != 3.0 {
            return self.draw_by_poisson(g, first, like, u);
        }
        // the radius of a 3-dimensional normal about (start, 0, 0)
        let xi = [0, 1, 2].map(|_| draw(g, Op::Normal, like));
        let both = self.parts.map(|(_, b, lambda)| {
            let total = g.shifted(u, b);
            let sd = g.unary(Op::Sqrt, total);
            let parts = xi.map(|xi| g.mul(sd, xi));
            let along = g.shifted(parts[0], (lambda * b).sqrt());
            let squares = [along, parts[1], parts[2]].map(|p| g.square(p));
            let two = g.add(squares[0], squares[1]);
            let sum = g.add(two, squares[2]);
            g.unary(Op::Sqrt, sum)
        });
        g.choose(first, both[0], both[1])
    }
}

impl BesselMixture {
    /// A chi^2 law of delta + 2K degrees, K ~ Poisson(lambda/2): any dimension, and not the way of the plugin from 1 on.
    fn draw_by_poisson(&self, g: &mut Graph, first: NodeId, like: NodeId, u: NodeId) -> NodeId {
        let dims = g.desc(like).dims().to_vec();
        let wide = Attrs::NONE.with_dims(AttrKey::Shape, &dims);
        let both = self.parts.map(|(_, b, lambda)| {
            let total = g.shifted(u, b);
            let half = g.scalar(0.5 * lambda * b);
            let rate = g.div(half, total);
            let rate = g.emit(Op::BroadcastTo, &[rate], wide.clone());
            let purpose = Attrs::NONE.with_int(AttrKey::Purpose, 64);
            let k = g.emit(Op::Poisson, &[rate], purpose.clone());
            let shape = g.shifted(k, 0.5 * self.delta);
            let gamma = g.emit(Op::Gamma, &[shape], purpose);
            let square = g.mul(gamma, total);
            let square = g.scaled(square, 2.0);
            g.unary(Op::Sqrt, square)
        });
        g.choose(first, both[0], both[1])
    }
}

fn draw(g: &mut Graph, op: Op, like: NodeId) -> NodeId {
    let dims = g.desc(like).dims().to_vec();
    let attrs = Attrs::NONE.with_dims(AttrKey::Shape, &dims).with_int(AttrKey::Purpose, 64);
    g.emit(op, &[], attrs)
}

fn reshape(g: &mut Graph, x: NodeId, dims: &[usize]) -> NodeId {
    g.emit(Op::Reshape, &[x], Attrs::NONE.with_dims(AttrKey::Shape, dims))
}

/// The exact denoiser of an oracle.
pub(crate) struct Exact(pub(crate) Arc<dyn Oracle>);

impl Model for Exact {
    fn info(&self) -> Result<ModelInfo> {
        let component = Component {
            name: "x".into(),
            dtype: DType::F32,
            dims: vec![1],
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
        let sigma = reshape(g, sigma, &[rows, 1]);
        let parts = self.0.components(g, io.x[0], sigma);
        let logits: Vec<NodeId> = parts.iter().map(|(w, l, _)| g.shifted(*l, w.ln())).collect();
        let gap = g.sub(logits[0], logits[1]);
        let first = g.unary(Op::Sigmoid, gap);
        let move_ = g.sub(parts[0].2, parts[1].2);
        let part = g.mul(first, move_);
        io.out[0] = g.add(parts[1].2, part);
        Ok(())
    }
}

/// Starts a run from the exact marginal instead of the prior.
pub(crate) struct Marginal(pub(crate) Arc<dyn Oracle>);

impl Guidance for Marginal {
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
        let g = &mut b.graph;
        let uniform = draw(g, Op::Uniform, io.x[0]);
        let weight = g.scalar(self.0.first_weight());
        let first = g.binary(Op::Lt, uniform, weight);
        io.out[0] = self.0.draw(g, first, io.x[0], io.sigma[0]);
        Ok(())
    }
}
