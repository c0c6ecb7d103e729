//! Round numbers for an axis.

/// Multiples of 1, 2 or 5 times a power of ten that span `lo..=hi` in about `count` intervals, first and last included
/// where they cover the range.
pub(super) fn nice(lo: f64, hi: f64, count: usize) -> Vec<f64> {
    let span = (hi - lo).max(lo.abs().max(hi.abs()) * 1e-6).max(1e-12);
    let raw = span / count.max(1) as f64;
    let power = 10f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|m| m * power)
        .find(|s| *s >= raw * 0.999)
        .unwrap_or(power * 10.0);
    let (first, last) = ((lo / step).floor() as i64, (hi / step).ceil() as i64);
    let last = last.max(first + 1); // a flat line still gets an axis
    (first..=last).map(|i| i as f64 * step).collect()
}

/// A tick's value with as many decimals as the step needs.
pub(super) fn label(value: f64, step: f64) -> String {
    let decimals = (-step.log10().floor()).clamp(0.0, 9.0) as usize;
    let text = format!("{value:.decimals$}");
    // the minus sign of typography, not the hyphen
    text.strip_prefix('-').map_or(text.clone(), |t| format!("\u{2212}{t}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_cover_the_range() {
        assert_eq!(nice(11.2, 38.0, 6), [10.0, 15.0, 20.0, 25.0, 30.0, 35.0, 40.0]);
        assert_eq!(nice(0.0, 1.0, 5).len(), 6);
        assert_eq!(label(0.2, 0.2), "0.2");
        assert_eq!(label(-15.0, 5.0), "\u{2212}15");
        assert!(nice(5.0, 5.0, 5).len() >= 2);
    }
}
