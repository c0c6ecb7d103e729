//! The ends of a grid, the same for all: the first knot is exactly sigma_max, the last 0 after sigma_min, or exactly
//! sigma_min.

/// `between(u)` is the level at u in [0, 1], from sigma_max to sigma_min; it is asked for the inner knots only.
pub(crate) fn fill(
    n: u32,
    sigma_min: f64,
    sigma_max: f64,
    to_zero: bool,
    between: impl Fn(f64) -> f64,
) -> Vec<f64> {
    let levels = if to_zero { n } else { n + 1 };
    let last = levels - 1;
    let mut knots: Vec<f64> = (0..levels)
        .map(|i| match i {
            0 => sigma_max,
            i if i == last => sigma_min,
            i => between(f64::from(i) / f64::from(last)),
        })
        .collect();
    if to_zero {
        knots.push(0.0);
    }
    knots
}
