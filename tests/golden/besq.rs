//! Squared Bessel: transition density, score, target, the first and second Tweedie formulas, and the empirical Bayes
//! risk, from the process's transition in r = sqrt(x) and gradients of the graph.

use crate::graph::{Formula, evaluate, process};
use crate::rows::Row;
use diffx::base::special::law;
use diffx::graph::NodeId;
use diffx::sample::ProcessFn::{Encode, LogTransition, ToScore};
use serde_json::json;

pub(crate) fn check(row: &Row) {
    match row.id.split('.').nth(1).unwrap() {
        "cond" => conditional(row),
        "mix" => mixture(row),
        "gammaprior" => gamma_prior(row),
        "eb" => bayes_risk(row),
        _ => panic!("no reader for {}", row.id),
    }
}

fn conditional(row: &Row) {
    let (delta, u) = (row.param("delta"), row.param("u"));
    let (x, x0) = (row.input("x"), row.input("x0"));
    let besq = process("besq", &json!({ "delta": delta }));
    let sigma = besq.clock(&[u]).unwrap()[0];
    let got = evaluate(&besq, 1, |f| {
        let (x, x0, sigma) = (f.same(x), f.same(x0), f.same(sigma));
        let (w, w0) = (f.call(Encode, &[x]), f.call(Encode, &[x0]));
        let log_w = f.call(LogTransition, &[w, w0, sigma]);
        let g = &mut f.b.graph;
        let (product, square) = (g.mul(w, w0), g.square(sigma));
        let z = g.div(product, square);
        let ratio = f.ratio(0.5 * delta - 1.0, z);
        let target = f.b.graph.mul(w0, ratio);
        let score_w = f.call(ToScore, &[w, target, sigma]);
        let by_graph = f.derivative(log_w, w);
        vec![log_w, score_w, target, by_graph]
    });
    let r = x.sqrt();
    // x = r^2: p(x) = p(r) / 2r, d/dx = (d/dr - 1/r) / 2r
    let in_x = |score: f64| (score - 1.0 / r) / (2.0 * r);
    let mut want = vec![got[0][0] - (2.0 * r).ln(), in_x(got[1][0]), got[2][0]];
    if row.expected.len() == 4 {
        want.push(law::chi_square_cdf(x / u, delta, x0 / u));
    }
    row.agree(&want);
    want[1] = in_x(got[3][0]);
    row.agree(&want);
}

/// log p(x), score and its derivative by x, for a marginal that is a mixture of transitions (weight, start, clock).
fn marginal(f: &mut Formula<'_, '_>, x: NodeId, parts: &[(f64, f64, f64)]) -> [NodeId; 3] {
    let w = f.call(Encode, &[x]);
    let terms: Vec<NodeId> = parts
        .iter()
        .map(|(_, start, clock)| {
            let (w0, sigma) = (f.same(start.sqrt()), f.same(clock.sqrt()));
            f.call(LogTransition, &[w, w0, sigma])
        })
        .collect();
    let weights: Vec<f64> = parts.iter().map(|p| p.0).collect();
    let log_w = f.log_mixture(&weights, &terms);
    let log_r = f.unary(diffx::graph::Op::Log, w);
    let log_2r = f.b.graph.shifted(log_r, 2f64.ln());
    let log_p = f.b.graph.sub(log_w, log_2r);
    let score = f.derivative(log_p, x);
    let slope = f.derivative(score, x);
    [log_p, score, slope]
}

/// E[X0 | x] by the second Tweedie formula.
fn tweedie(delta: f64, u: f64, x: f64, s: f64, slope: f64) -> f64 {
    x + (4.0 - delta) * u
        + (4.0 * u * x + 2.0 * (4.0 - delta) * u * u) * s
        + 4.0 * u * u * x * (slope + s * s)
}

/// b chi'^2_delta(lambda) is a transition from lambda b over the clock b.
fn mixture(row: &Row) {
    let (delta, u, x) = (row.param("delta"), row.param("u"), row.input("x"));
    let (weights, b, lambda) = (row.mixture("w"), row.mixture("b"), row.mixture("lam"));
    let parts: Vec<_> =
        (0..weights.len()).map(|i| (weights[i], lambda[i] * b[i], b[i] + u)).collect();
    let besq = process("besq", &json!({ "delta": delta }));
    let got = evaluate(&besq, 1, |f| {
        let x = f.same(x);
        marginal(f, x, &parts).to_vec()
    });
    let [log_p, s, slope] = [got[0][0], got[1][0], got[2][0]];
    let nu = 0.5 * delta - 1.0;
    let d = x.sqrt() * (1.0 + 2.0 * u * (s - nu / x));
    row.agree(&[log_p.exp(), s, slope, tweedie(delta, u, x, s, slope), d]);
}

/// Gamma(2, scale 10) as a fine quadrature: (weight, lambda, clock 1). Panels of 10 Gauss-Legendre nodes on [0, 500].
fn gamma_quadrature(panels: usize) -> Vec<(f64, f64, f64)> {
    const NODES: [(f64, f64); 5] = [
        (0.148_874_338_981_631_2, 0.295_524_224_714_752_87),
        (0.433_395_394_129_247_2, 0.269_266_719_309_996_35),
        (0.679_409_568_299_024_4, 0.219_086_362_515_982_04),
        (0.865_063_366_688_984_5, 0.149_451_349_150_580_6),
        (0.973_906_528_517_171_7, 0.066_671_344_308_688_14),
    ];
    let width = 500.0 / panels as f64;
    let mut out = Vec::new();
    for panel in 0..panels {
        let middle = (panel as f64 + 0.5) * width;
        for (node, weight) in NODES {
            for sign in [-1.0, 1.0] {
                let lambda: f64 = middle + sign * node * 0.5 * width;
                out.push((
                    0.5 * width * weight * lambda / 100.0 * (-lambda / 10.0).exp(),
                    lambda,
                    1.0,
                ));
            }
        }
    }
    out
}

fn gamma_prior(row: &Row) {
    let (delta, x) = (row.param("delta"), row.input("x"));
    let besq = process("besq", &json!({ "delta": delta }));
    let got = evaluate(&besq, 1, |f| {
        let x = f.same(x);
        marginal_wide(f, x, &gamma_quadrature(40))
    });
    let [log_p, s, slope] = [got[0][0], got[1][0], got[2][0]];
    row.agree(&[log_p, s, tweedie(delta, 1.0, x, s, slope)]);
}

/// As `marginal`, with the parts as columns of one tensor: hundreds of them cost one transition.
fn marginal_wide(f: &mut Formula<'_, '_>, x: NodeId, parts: &[(f64, f64, f64)]) -> Vec<NodeId> {
    use diffx::graph::{AttrKey, Attrs, Op};
    let rows = f.b.graph.batch();
    let column = f.call(Encode, &[x]);
    let shape = |dims: &[usize]| Attrs::NONE.with_dims(AttrKey::Shape, dims);
    let w = f.b.graph.emit(Op::Reshape, &[column], shape(&[rows, 1]));
    let starts: Vec<f64> = parts.iter().map(|p| p.1.sqrt()).collect();
    let logs: Vec<f64> = parts.iter().map(|p| p.0.ln()).collect();
    let (w0, log_weight) = (f.values(&starts), f.values(&logs));
    let sigma = f.b.graph.full(1.0, diffx::base::DType::F64, &[rows, 1]);
    let wide = f.b.graph.emit(Op::BroadcastTo, &[w], shape(&[rows, parts.len()]));
    let w0 = f.b.graph.emit(Op::BroadcastTo, &[w0], shape(&[rows, parts.len()]));
    let log_w = f.call(LogTransition, &[wide, w0, sigma]);
    let weighted = f.b.graph.add(log_w, log_weight);
    let log_w =
        f.b.graph.emit(Op::LogSumExp, &[weighted], Attrs::NONE.with_ints(AttrKey::Axes, vec![1]));
    let log_r = f.unary(Op::Log, column);
    let log_2r = f.b.graph.shifted(log_r, 2f64.ln());
    let log_p = f.b.graph.sub(log_w, log_2r);
    let score = f.derivative(log_p, x);
    let slope = f.derivative(score, x);
    vec![log_p, score, slope]
}

/// What X = chi'^2_delta(lambda) says about lambda ~ `prior`, integrated over x by the midpoint rule.
struct Posterior {
    /// E[E[lambda | X]^2], E[X E[lambda | X]], E[X], E[X^2]
    moments: [f64; 4],
}

impl Posterior {
    fn of(delta: f64, prior: &[(f64, f64, f64)], n: usize) -> Self {
        let besq = process("besq", &json!({ "delta": delta }));
        let h = 480.0 / n as f64;
        let xs: Vec<f64> = (0..n).map(|i| (i as f64 + 0.5) * h).collect();
        let got = evaluate(&besq, n, |f| {
            let x = f.values(&xs);
            marginal_wide(f, x, prior)
        });
        let mut moments = [0.0; 4];
        for i in 0..n {
            let mean = tweedie(delta, 1.0, xs[i], got[1][i], got[2][i]);
            let terms = [mean * mean, xs[i] * mean, xs[i], xs[i] * xs[i]];
            let mass = h * got[0][i].exp();
            moments.iter_mut().zip(terms).for_each(|(m, t)| *m += mass * t);
        }
        Self { moments }
    }
}

/// E[lambda^2] - E[E[lambda | X]^2] for lambda ~ Gamma(2, scale 10), X = chi'^2_7(lambda).
fn bayes_risk(row: &Row) {
    let posterior = Posterior::of(row.param("delta"), &gamma_quadrature(25), 1200);
    row.agree(&[600.0 - posterior.moments[0]]);
}

/// The same with a share of zeros among the lambda; the risk of X - delta; E[lambda | X] at three values.
pub(crate) fn empirical_bayes(row: &Row) {
    let (delta, zeros) = (row.param("delta"), row.param("pi0"));
    let mut prior = gamma_quadrature(40);
    prior.iter_mut().for_each(|p| p.0 *= 1.0 - zeros);
    if zeros > 0.0 {
        prior.push((zeros, 0.0, 1.0));
    }
    let (first, second) = (20.0 * (1.0 - zeros), 600.0 * (1.0 - zeros));
    let [mean2, cross, x, x2] = Posterior::of(delta, &prior, 4800).moments;
    // E[(X - delta - lambda)^2]
    let plain = x2 - 2.0 * delta * x + delta * delta - 2.0 * (cross - delta * first) + second;
    let besq = process("besq", &json!({ "delta": delta }));
    let at = [3.0, 10.0, 40.0];
    let got = evaluate(&besq, at.len(), |f| {
        let x = f.values(&at);
        marginal_wide(f, x, &prior)
    });
    let mean = |i: usize| tweedie(delta, 1.0, at[i], got[1][i], got[2][i]);
    row.agree(&[second - mean2, plain, mean(0), mean(1), mean(2)]);
}
