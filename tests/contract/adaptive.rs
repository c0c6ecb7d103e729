//! Case 4: an adaptive SDE step with rejection (guidance_samplers fact 7, row C6).

use crate::law::moments;
use crate::rig::{Job, Plugins, plugins};
use diffx::sample::Stats;

/// Of .3 N(-2, .4^2) + .5 N(.5, .25^2) + .2 N(3, .6^2).
const MEAN: f64 = 0.25;
const VAR: f64 = 3.2142;

fn job(p: &Plugins, config: &str) -> Job {
    let mut parts = p.parts(p.model("adaptive.net", "{}"), vec![p.process("ve", "{}")]);
    parts.stats = vec![Stats { x_mean: MEAN, x_var: VAR, w_mean: MEAN, w_var: VAR }];
    Job::new(parts, p.sampler("adaptive.sampler", config), vec![vec![20.0, 0.02]])
}

#[test]
fn terminal_variance() {
    let Some(p) = plugins("adaptive") else { return };
    let run = |config: &str, n| {
        let samples = job(&p, config).run(0, n).unwrap().values("x");
        let (mean, var) = moments(&samples);
        println!("{config}: mean {mean:.4}, variance {var:.4}");
        (mean, var)
    };
    const N: usize = 20_000;
    let (mean, var) = run(r#"{"tolerance":0.05}"#, N);
    // three standard errors; of 100 000 samples the variance is 3.223 +- .0125
    assert!((mean - MEAN).abs() < 0.038, "mean {mean}, want {MEAN}");
    assert!((var - VAR).abs() < 0.084, "variance {var}, want {VAR}");
    // the same paths by steps over places that were looked at: 3.265 +- .0125, and 3.267 in plain C
    let (_, skipped) = run(r#"{"tolerance":0.05,"skip":1}"#, N);
    assert!(skipped - var > 0.02, "steps over places looked at gain {}", skipped - var);
    let (_, redrawn) = run(r#"{"tolerance":0.05,"redraw":1}"#, 4096);
    assert!(redrawn < VAR - 0.6, "noise redrawn after a rejection: variance {redrawn}");
}

#[test]
fn a_sample_does_not_see_its_batch() {
    let Some(p) = plugins("adaptive") else { return };
    let mut job = job(&p, "{}");
    let whole = job.run(0, 96).unwrap();
    for (first, n, batch) in [(0, 96, 7), (40, 20, 64), (95, 1, 1)] {
        job.batch = batch;
        let part = job.run(first, n).unwrap();
        let at = first as usize * 4;
        assert!(part.bits("x") == &whole.bits("x")[at..at + n * 4], "{first} + {n} by {batch}");
    }
}

/// A plan with fewer rows than a sample needs stops it early: rows are steps accepted, stays cost none.
#[test]
fn rows_count_accepted_steps() {
    let Some(p) = plugins("adaptive") else { return };
    let enough = job(&p, r#"{"rows":400}"#).run(0, 200).unwrap();
    assert!(enough.bits("x") == job(&p, "{}").run(0, 200).unwrap().bits("x"));
    let (_, var) = moments(&job(&p, r#"{"rows":5}"#).run(0, 200).unwrap().values("x"));
    assert!(var > 10.0 * VAR, "after five rows: variance {var}");
}
