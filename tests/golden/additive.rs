//! VP, sub-VP and flow matching: clocks and signal from the process's own time map and decode, chains at their steps,
//! normal data, and the shifts of the flow grid.

use crate::graph::{evaluate, process};
use crate::rows::{Row, numbers};
use crate::runner::knots;
use diffx::sample::ProcessFn::{Decode, LogTransition};
use serde_json::{Value, json};

pub(crate) fn check(row: &Row) {
    match row.id.split('.').next().unwrap() {
        "vp" => clock(row),
        "cosine" => {
            let config = json!({"schedule": "cosine", "steps": 1000});
            row.agree(
                &numbers(&row.inputs["t"])
                    .into_iter()
                    .map(|t| signal(&config, t))
                    .collect::<Vec<_>>(),
            );
        }
        "linear" => {
            let last = |schedule| signal(&json!({"schedule": schedule, "steps": 1000}), 1000.0);
            row.agree(&["linear", "scaled_linear"].map(last));
        }
        "sd3" => shift_of_sd3(row),
        "flux" => shift_of_flux(row),
        "rf" => normal_data(row),
        "conv" => crate::predictions::check(row),
        _ => panic!("no reader for {}", row.id),
    }
}

/// sigma at a time and the signal a there, a = decode(1).
fn level(id: &str, config: &Value, t: f64) -> (f64, f64) {
    let p = process(id, config);
    let sigma = p.clock(&[t]).unwrap()[0];
    let got = evaluate(&p, 1, |f| {
        let (one, sigma) = (f.same(1.0), f.same(sigma));
        vec![f.call(Decode, &[one, sigma])]
    });
    (sigma, got[0][0])
}

/// a² of a chain after t steps.
fn signal(config: &Value, t: f64) -> f64 {
    level("vp", config, t).1.powi(2)
}

/// [int beta, a, noise of x, log SNR, noise of x under sub-VP]
fn clock(row: &Row) {
    let config = json!({"beta_min": row.param("beta_min"), "beta_max": row.param("beta_max")});
    let t = row.input("t");
    let (sigma, a) = level("vp", &config, t);
    let (sub, a_sub) = level("sub_vp", &config, t);
    assert!((a - a_sub).abs() < 1e-12 * a);
    row.agree(&[(sigma * sigma).ln_1p(), a, a * sigma, -2.0 * sigma.ln(), a_sub * sub]);
}

/// The inner knots of the flow grid from so high that time begins at 1, as times.
fn times(config: Value, n: u32) -> Vec<f64> {
    knots("flow_time", config, n, (1e-3, 1e14)).into_iter().map(|s| s / (1.0 + s)).collect()
}

fn shift_of_sd3(row: &Row) {
    let t = times(json!({ "shift": row.param("shift") }), 10);
    let at = numbers(&row.inputs["t"]).into_iter().map(|u| t[10 - (10.0 * u).round() as usize]);
    row.agree(&at.collect::<Vec<_>>());
}

/// mu by the number of tokens, read back from a shifted knot; t' = 1 / (1 + e^-mu (1/t - 1)).
fn shift_of_flux(row: &Row) {
    let t = times(json!({ "tokens": row.input("image_seq_len") }), 4);
    let mu = (t[2] / (1.0 - t[2])).ln();
    row.agree(&[mu, t[3], t[2]]);
}

/// N(m, s²) data under flow matching: score in x, velocity, E[x0 | x].
fn normal_data(row: &Row) {
    let (m, s, t, x) = (row.param("mean"), row.param("std"), row.input("t"), row.input("x"));
    let p = process("flow", &json!({}));
    let sigma = p.clock(&[t]).unwrap()[0];
    let w = x / (1.0 - t);
    let got = evaluate(&p, 1, |f| {
        let (w, start, total) = (f.same(w), f.same(m), f.same((s * s + sigma * sigma).sqrt()));
        let log = f.call(LogTransition, &[w, start, total]);
        vec![f.derivative(log, w)]
    });
    let score = got[0][0];
    let d = w + sigma * sigma * score;
    row.agree(&[score / (1.0 - t), (x - d) / t, d]);
}
