//! DiT in both layouts, and SiT.

use crate::array::Array;
use crate::case::Test;
use crate::compare::Got;
use crate::network::{Network, put_gradients};
use crate::{Answer, Row};

pub(crate) const KINDS: &[Row] = &[
    Row { kind: "forward.dit_diffusers", cases: &[], run: diffusers },
    Row { kind: "forward.dit_orig", cases: &[], run: original },
    Row { kind: "forward.dit_orig_cfg", cases: &[], run: original_guided },
    Row { kind: "loss.dit_hybrid", cases: &[], run: hybrid },
    Row { kind: "grad.dit_hybrid", cases: &[], run: hybrid_gradient },
    Row { kind: "forward.sit", cases: &[], run: sit },
    Row { kind: "forward.sit_cfg", cases: &[], run: sit_guided },
    Row { kind: "grad.sit_velocity", cases: &[], run: velocity_gradient },
];

fn forward(net: &Network, x: &Array, level: &Array, labels: &Array) -> Answer<Array> {
    net.forward(0, &[("x", x), ("sigma", level), ("class_labels", labels)])
}

fn diffusers(test: &Test, got: &mut Got) -> Answer {
    let net = Network::open(&test.checkpoint()?)?;
    let [x, t, y] = ["sample", "timestep", "class_labels"].map(|n| test.input(n));
    got.put("sample", forward(&net, &x?, &t?, &y?)?);
    Ok(())
}

fn original(test: &Test, got: &mut Got) -> Answer {
    let net = Network::open(&test.checkpoint()?)?;
    let out = forward(&net, &test.input("x")?, &test.input("t")?, &test.input("y")?)?;
    got.put("out", out);
    Ok(())
}

/// `forward_with_cfg` of both repositories: the first half of the rows is conditional, the second is not, both get the
/// state of the first, and of the output three channels are guided.
fn guided(test: &Test, forward: impl Fn(&Array) -> Answer<Array>) -> Answer<Array> {
    let x = test.input("x")?;
    let first = &x.values[..x.values.len() / 2];
    let mut out = forward(&Array::new(&x.dims, [first, first].concat()))?;
    let (scale, per_row) = (test.number("cfg_scale")?, out.stride());
    let three = 3 * per_row / out.dims[1];
    let half = out.values.len() / 2;
    let (with, without) = out.values.split_at_mut(half);
    for i in (0..half).filter(|i| i % per_row < three) {
        let v = without[i] + scale * (with[i] - without[i]);
        (with[i], without[i]) = (v, v);
    }
    Ok(out)
}

fn original_guided(test: &Test, got: &mut Got) -> Answer {
    let net = Network::open(&test.checkpoint()?)?;
    let (t, y) = (test.input("t")?, test.input("y")?);
    got.put("out", guided(test, |x| forward(&net, x, &t, &y))?);
    Ok(())
}

/// SiT's time runs from noise to data, ours the other way, and so do velocities.
fn velocity(net: &Network, x: &Array, t: &Array, y: &Array) -> Answer<Array> {
    Ok(forward(net, x, &t.map(|t| 1.0 - t), y)?.map(|v| -v))
}

fn sit(test: &Test, got: &mut Got) -> Answer {
    let net = Network::open(&test.checkpoint()?)?;
    let out = velocity(&net, &test.input("x")?, &test.input("t")?, &test.input("y")?)?;
    got.put("v", out);
    Ok(())
}

fn sit_guided(test: &Test, got: &mut Got) -> Answer {
    let net = Network::open(&test.checkpoint()?)?;
    let (t, y) = (test.input("t")?, test.input("y")?);
    got.put("v", guided(test, |x| velocity(&net, x, &t, &y))?);
    Ok(())
}

fn velocity_gradient(test: &Test, got: &mut Got) -> Answer {
    let net = Network::open(&test.checkpoint()?)?;
    let (noise, data) = (test.input("x0")?, test.input("x1")?);
    let (t, y) = (test.input("t")?, test.input("y")?);
    let mut x = data.clone();
    for (i, x) in x.values.iter_mut().enumerate() {
        let t = t.values[i / data.stride()] as f32; // mixed in f32, as the reference mixes
        *x = f64::from(t * *x as f32 + (1.0 - t) * noise.values[i] as f32);
    }
    let want = data.zip(&noise, |a, b| a - b);
    let error = velocity(&net, &x, &t, &y)?.zip(&want, |a, b| a - b);
    got.put("loss", Array::new(&[], vec![error.map(|e| e * e).mean()]));
    let n = error.values.len() as f64;
    let cotangent = error.map(|e| -2.0 * e / n); // of minus the velocity
    let inputs = [("x", &x), ("sigma", &t.map(|t| 1.0 - t)), ("class_labels", &y)];
    put_gradients(test, &net, &inputs, &cotangent, got)
}

// ---- OpenAI's Gaussian diffusion with a learned variance: mean squares of the noise, and the bound for the variance

/// The linear schedule of 1000 steps.
struct Schedule {
    beta: Vec<f64>,
    kept: Vec<f64>,
}

impl Schedule {
    fn linear() -> Self {
        let beta: Vec<f64> =
            (0..1000).map(|i| 1e-4 + (2e-2 - 1e-4) * f64::from(i) / 999.0).collect();
        let mut product = 1.0;
        let kept = beta.iter().map(|b| {
            product *= 1.0 - b;
            product
        });
        Self { kept: kept.collect(), beta }
    }

    fn kept_before(&self, t: usize) -> f64 {
        if t == 0 { 1.0 } else { self.kept[t - 1] }
    }

    fn posterior_variance(&self, t: usize) -> f64 {
        self.beta[t] * (1.0 - self.kept_before(t)) / (1.0 - self.kept[t])
    }

    fn posterior_mean(&self, t: usize, x0: f64, x: f64) -> f64 {
        let (kept, before) = (self.kept[t], self.kept_before(t));
        let of_x0 = self.beta[t] * before.sqrt() / (1.0 - kept);
        let of_x = (1.0 - before) * (1.0 - self.beta[t]).sqrt() / (1.0 - kept);
        of_x0 * x0 + of_x * x
    }
}

/// The bound of one element in bits, and its derivative by the log variance.
fn bound(s: &Schedule, t: usize, x0: f64, x: f64, noise: f64, log_variance: f64) -> (f64, f64) {
    let kept = s.kept[t];
    let guess = (x - (1.0 - kept).sqrt() * noise) / kept.sqrt();
    let mean = s.posterior_mean(t, guess, x);
    let bits = std::f64::consts::LN_2;
    if t == 0 {
        let of = |l: f64| -log_likelihood(x0, mean, 0.5 * l) / bits;
        let h = 1e-5;
        return (of(log_variance), (of(log_variance + h) - of(log_variance - h)) / (2.0 * h));
    }
    let true_log = s.posterior_variance(t).ln();
    let gap = s.posterior_mean(t, x0, x) - mean;
    let (ratio, square) = ((true_log - log_variance).exp(), gap * gap * (-log_variance).exp());
    let kl = 0.5 * (-1.0 + log_variance - true_log + ratio + square);
    (kl / bits, 0.5 * (1.0 - ratio - square) / bits)
}

/// Of a picture's value among 256 under a normal law.
fn log_likelihood(x: f64, mean: f64, log_scale: f64) -> f64 {
    let cdf = |v: f64| {
        let v = v * (-log_scale).exp();
        0.5 * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (v + 0.044715 * v.powi(3))).tanh())
    };
    let (above, below) = (cdf(x - mean + 1.0 / 255.0), cdf(x - mean - 1.0 / 255.0));
    let p = match x {
        x if x < -0.999 => above,
        x if x > 0.999 => 1.0 - below,
        _ => above - below,
    };
    p.max(1e-12).ln()
}

struct Hybrid {
    net: Network,
    x: Array,
    t: Array,
    y: Array,
    mse: Vec<f64>,
    vb: Vec<f64>,
    /// Derivative of the mean loss by the output.
    cotangent: Array,
}

fn losses(test: &Test) -> Answer<Hybrid> {
    let net = Network::open(&test.checkpoint()?)?;
    let s = Schedule::linear();
    let (x0, noise) = (test.input("x_start")?, test.input("noise")?);
    let (t, y) = (test.input("t")?, test.input("y")?);
    let per_row = x0.stride();
    let step = |i: usize| t.values[i / per_row] as usize;
    let mut x = x0.clone();
    for (i, v) in x.values.iter_mut().enumerate() {
        let kept = s.kept[step(i)];
        let [a, b] = [kept.sqrt() as f32, (1.0 - kept).sqrt() as f32];
        *v = f64::from(a * *v as f32 + b * noise.values[i] as f32);
    }
    let out = forward(&net, &x, &t, &y)?;
    let mut cotangent = out.map(|_| 0.0);
    let (rows, n) = (x.dims[0], per_row as f64);
    let (mut mse, mut vb) = (vec![0.0; rows], vec![0.0; rows]);
    for i in 0..x.values.len() {
        let (row, k) = (i / per_row, step(i));
        let at = 2 * row * per_row + i % per_row;
        let (eps, v) = (out.values[at], out.values[at + per_row]);
        let error = eps - noise.values[i];
        mse[row] += error * error / n;
        cotangent.values[at] = 2.0 * error / n / rows as f64;
        // the variance lies between the posterior's and beta, in logarithms
        let (low, high) = (s.posterior_variance(k.max(1)).ln(), s.beta[k].ln());
        let log_variance = low + (v + 1.0) / 2.0 * (high - low);
        let (value, slope) = bound(&s, k, x0.values[i], x.values[i], eps, log_variance);
        vb[row] += value / n;
        cotangent.values[at + per_row] = slope * (high - low) / 2.0 / n / rows as f64;
    }
    Ok(Hybrid { net, x, t, y, mse, vb, cotangent })
}

fn hybrid(test: &Test, got: &mut Got) -> Answer {
    let h = losses(test)?;
    let sum = h.mse.iter().zip(&h.vb).map(|(a, b)| a + b).collect();
    for (name, values) in [("loss", sum), ("mse", h.mse.clone()), ("vb", h.vb.clone())] {
        got.put(name, Array::new(&[values.len()], values));
    }
    Ok(())
}

fn hybrid_gradient(test: &Test, got: &mut Got) -> Answer {
    let h = losses(test)?;
    let total: f64 = h.mse.iter().chain(&h.vb).sum();
    got.put("loss", Array::new(&[], vec![total / h.mse.len() as f64]));
    let inputs = [("x", &h.x), ("sigma", &h.t), ("class_labels", &h.y)];
    put_gradients(test, &h.net, &inputs, &h.cotangent, got)
}
