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
    const N: usize = 10_000;
    // the tolerance leaves a little: 3.266 +- .013 at .05 (80 000 samples), 3.237 +- .015 at .01 (60 000)
    let (mean, var) = moments(&job(&p, r#"{"tolerance":0.02}"#).run(0, N).unwrap().values("x"));
    // four standard errors: of the mean .02, of the variance .037
    assert!((mean - MEAN).abs() < 0.08, "mean {mean}, want {MEAN}");
    assert!((var - VAR).abs() < 0.15, "variance {var}, want {VAR}");
    let (_, redrawn) =
        moments(&job(&p, r#"{"tolerance":0.02,"redraw":1}"#).run(0, N).unwrap().values("x"));
    println!("mean {mean}, variance {var}; redrawn {redrawn}");
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
