//! The plane of specs objectives 6: a mixture of four normals whose velocity is known, plus t times a small network that
//! starts at nothing; the reward x1 + x2/2. The tilt by the reward is a mixture again, so the distance to the optimum,
//! J* - J = KL(p | p*), is a mean of differences of two log-densities.

use core::ffi::CStr;
use diffx_plugin::{
    Builder, Component, Config, Factory, Init, Model, ModelInfo, ModelIo, Node, Predicts, Result,
    schema,
};

pub(crate) const MEANS: [[f64; 2]; 4] = [[-1.5, -1.0], [1.5, -1.0], [-1.5, 1.0], [1.5, 1.0]];
pub(crate) const SHARES: [f64; 4] = [0.4, 0.1, 0.3, 0.2];
pub(crate) const SPREAD: f64 = 0.35;
pub(crate) const SLOPE: [f64; 2] = [1.0, 0.5];

pub(crate) fn reward(x: &[f64]) -> f64 {
    SLOPE[0] * x[0] + SLOPE[1] * x[1]
}

fn log_sum_exp(values: &[f64]) -> f64 {
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    most + values.iter().map(|v| (v - most).exp()).sum::<f64>().ln()
}

/// log of the mixture tilted by exp(lambda r), and log Z(lambda).
pub(crate) fn tilted(x: &[f64], lambda: f64) -> f64 {
    let square: f64 = SLOPE.iter().map(|c| c * c).sum();
    let shift = lambda * SPREAD * SPREAD;
    let log = |k: usize| {
        let far: f64 = (0..2).map(|d| (x[d] - MEANS[k][d] - shift * SLOPE[d]).powi(2)).sum();
        let weight = SHARES[k].ln() + lambda * reward(&MEANS[k]) + lambda * shift * square / 2.0;
        weight
            - far / (2.0 * SPREAD * SPREAD)
            - 2.0 * SPREAD.ln()
            - (2.0 * std::f64::consts::PI).ln()
    };
    log_sum_exp(&[log(0), log(1), log(2), log(3)]) - log_z(lambda)
}

pub(crate) fn log_z(lambda: f64) -> f64 {
    let square: f64 = SLOPE.iter().map(|c| c * c).sum();
    let of = |k: usize| {
        SHARES[k].ln()
            + lambda * reward(&MEANS[k])
            + lambda * lambda * SPREAD * SPREAD * square / 2.0
    };
    log_sum_exp(&[of(0), of(1), of(2), of(3)])
}

/// The least KL to the mixture among laws of this expected reward: that of a tilt.
pub(crate) fn least_kl(expected: f64) -> f64 {
    let slope = |l: f64| (log_z(l + 1e-5) - log_z(l - 1e-5)) / 2e-5;
    let (mut lo, mut hi) = (0.0, 60.0);
    for _ in 0..60 {
        let mid = 0.5 * (lo + hi);
        if slope(mid) < expected { lo = mid } else { hi = mid }
    }
    lo * expected - log_z(lo)
}

/// The velocity of the mixture, and t times a network.
pub(crate) struct Mixture {
    width: i64,
}

impl Factory for Mixture {
    const ID: &'static CStr = c"org.tuning.mixture";
    const SUMMARY: &'static CStr = c"four normals of the plane and a small network";
    const SCHEMA: Option<&'static CStr> = schema![
        "width": integer "features of a layer", default 64, minimum 1, maximum 1024;
    ];

    fn create(config: &mut Config) -> Result<Self> {
        Ok(Self { width: config.usize("width", 64, 1..=1024)? as i64 })
    }
}

impl Model for Mixture {
    fn info(&self) -> ModelInfo {
        ModelInfo {
            predicts: Predicts::Velocity,
            components: vec![Component::continuous("x", &[2])],
            conds: vec![],
            slots: vec![],
        }
    }

    fn build<'b>(&self, b: Builder<'b>, io: &mut ModelIo<'b>) -> Result<()> {
        let (x, t) = (io.x(0), io.sigma(0).reshape(&[-1, 1]));
        let learned = residual(b, &[x, t], self.width, 2);
        io.set_out(0, velocity(b, x, t) + t * learned);
        Ok(())
    }
}

/// E[eps - x0 | x_t].
fn velocity<'b>(b: Builder<'b>, x: Node<'b>, t: Node<'b>) -> Node<'b> {
    let a = -t + 1.0;
    let var = a.square() * (SPREAD * SPREAD) + t.square(); // [rows, 1]
    let (mut logits, mut means) = (vec![], vec![]);
    for (mean, share) in MEANS.iter().zip(SHARES) {
        let mean = b.constant(&[1, 2], &mean.map(|v| v as f32)).cast(0);
        let far = x - a * mean;
        logits.push(-far.square().sum_keep(&[1]) / (var * 2.0) + share.ln());
        let e0 = mean + a * (SPREAD * SPREAD) / var * far;
        means.push(t / var * far - e0);
    }
    let weights = b.concat(&logits, 1).softmax(1);
    let rows = x.shape()[0];
    let mut out = b.scalar(0.0);
    for (k, mean) in means.into_iter().enumerate() {
        let k = k as i64;
        out = out + weights.slice(&[0, k], &[rows, k + 1]) * mean;
    }
    out
}

/// Three layers of SiLU on the inputs and sines of the last of them, the time; 0 at the start.
pub(crate) fn residual<'b>(b: Builder<'b>, inputs: &[Node<'b>], width: i64, out: i64) -> Node<'b> {
    let t = inputs[inputs.len() - 1];
    let mut features = inputs.to_vec();
    features.extend([(t * 3.0).sin(), (t * 3.0).cos(), (t * 9.0).sin(), (t * 9.0).cos()]);
    let mut h = b.concat(&features, 1);
    for i in 0..3 {
        let n_in = h.shape()[1];
        let spread = Init::Normal(1.0 / (n_in as f64).sqrt());
        let w = b.weight(&format!("l{i}.weight"), &[width, n_in], spread);
        h = h.linear(w, b.weight(&format!("l{i}.bias"), &[width], Init::Zeros)).silu();
    }
    let w = b.weight("out.weight", &[out, width], Init::Zeros);
    h.linear(w, b.weight("out.bias", &[out], Init::Zeros))
}
