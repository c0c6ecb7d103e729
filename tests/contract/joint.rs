//! Case 8: image and token in one state, sampled together (processes 6).

use crate::law::{distance, limit, moments};
use crate::rig::{Job, Plugins, plugins};
use diffx::base::special::normal::ndtr;

const N: usize = 20_000;
const MEANS: [f64; 2] = [-1.0, 1.5];

fn job(p: &Plugins, blind: u32) -> Job {
    let model = p.model("joint.net", &format!(r#"{{"blind":{blind}}}"#));
    let parts = p.parts(model, vec![p.process("ve", "{}"), p.process("joint.mask", "{}")]);
    let knots = vec![p.knots(384, 40.0, 0.005), p.knots(384, 1.0, 0.01)];
    Job::new(parts, p.sampler("joint.sampler", "{}"), knots)
}

/// Share of class 1, and per class the distance of the images to their law and how many there are.
fn judge(job: &Job) -> (f64, [(f64, usize); 2]) {
    let got = job.run(0, N).unwrap();
    let (x, c) = (got.values("image"), got.tokens("token"));
    assert!(c.iter().all(|c| *c == 0 || *c == 1), "a token stayed masked");
    let (share, _) = moments(&c.iter().map(|c| f64::from(*c)).collect::<Vec<_>>());
    let of = |class: usize| {
        let x: Vec<f64> =
            x.iter().zip(c).filter(|(_, c)| **c as usize == class).map(|(x, _)| *x).collect();
        (distance(&x, |x| ndtr((x - MEANS[class]) / 0.4)), x.len())
    };
    (share, [of(0), of(1)])
}

#[test]
fn both_follow_their_joint_law() {
    let Some(p) = plugins("joint") else { return };
    let (share, by_class) = judge(&job(&p, 0));
    println!("P(c = 1) = {share}, distances {by_class:?}");
    assert!((share - 0.7).abs() < 0.015, "P(c = 1) = {share}, want 0.7");
    for (class, (d, n)) in by_class.into_iter().enumerate() {
        // the ancestral steps leave .006 at 512 levels (processes 6)
        assert!(d < limit(n, 1e-3) + 0.01, "class {class}: distance {d} of {n}");
    }
}

#[test]
fn an_image_blind_to_its_token_is_seen() {
    let Some(p) = plugins("joint") else { return };
    let (_, by_class) = judge(&job(&p, 1));
    println!("blind: {by_class:?}");
    assert!(by_class.iter().any(|(d, _)| *d > 0.1), "blind: {by_class:?}");
}
