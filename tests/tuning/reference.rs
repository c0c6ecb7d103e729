//! What the reference implementation reached (`tests/golden/objectives.json`, rows of specs objectives 6 for the plane, the line
//! and one round), and the plane's closed forms held to its own.

use crate::mixture::{MEANS, SHARES, SLOPE, SPREAD, least_kl, log_z, reward};
use serde_json::Value;

/// A number of a row.
pub(crate) fn of(row: &str, key: &str) -> f64 {
    let found = rows()[row][key].as_f64();
    found.unwrap_or_else(|| panic!("tests/golden/objectives.json has no {row} {key}"))
}

pub(crate) fn rows() -> Value {
    serde_json::from_str(include_str!("../golden/objectives.json")).unwrap()
}

/// What other seeds of the reference came to; empty where it ran one.
pub(crate) fn seeds(row: &str) -> Vec<f64> {
    let rows = rows();
    let list = rows[format!("seeds.{row}")]["regrets"].as_array();
    list.map_or(vec![], |l| l.iter().filter_map(Value::as_f64).collect())
}

#[test]
fn the_optimum_is_that_of_the_reference() {
    let near = |got: f64, key: &str| {
        let want = of("gmm.closed_form", key);
        assert!((got - want).abs() < 1e-4, "{key}: {got}, want {want}");
    };
    near(log_z(1.0), "logZ");
    near(log_z(1.0), "J_star");
    // d log Z / d lambda is the mean reward of the tilt
    near((log_z(1.0 + 1e-4) - log_z(1.0 - 1e-4)) / 2e-4, "Er_star");
    let square: f64 = SLOPE.iter().map(|c| c * c).sum();
    for (k, (mean, share)) in MEANS.iter().zip(SHARES).enumerate() {
        let log = share.ln() + reward(mean) + SPREAD * SPREAD * square / 2.0 - log_z(1.0);
        near(log.exp(), &format!("w{k}"));
    }
    let base = log_z(1.0) - (0..4).map(|k| SHARES[k] * reward(&MEANS[k])).sum::<f64>();
    let want = of("gmm.base", "regret"); // of 8192 samples there
    assert!((base - want).abs() < 0.02, "{base}, want {want}");
}

/// The least KL for as much reward, beside every run of the reference.
#[test]
fn the_frontier_is_that_of_the_reference() {
    let mut n = 0;
    for (name, row) in rows().as_object().unwrap() {
        let (Some(mean), Some(want)) = (row["Er"].as_f64(), row["KLmin_at_Er"].as_f64()) else {
            continue;
        };
        if !(-0.5..5.0).contains(&mean) {
            continue; // below the mixture's own, or of a run that left the plane
        }
        // both numbers are rounded to four digits
        let (got, slack) = (least_kl(mean), 2e-4 * (1.0 + mean.abs()) * (1.0 + want));
        assert!((got - want).abs() < slack, "{name}: {got}, want {want}");
        n += 1;
    }
    assert!(n >= 18, "only {n} rows");
}
