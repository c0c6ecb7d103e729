//! Derivatives of the digamma function.

use super::gamma;

/// B_2, B_4, ...: Bernoulli numbers of the asymptotic series.
const BERNOULLI: [f64; 12] = [
    1.0 / 6.0,
    -1.0 / 30.0,
    1.0 / 42.0,
    -1.0 / 30.0,
    5.0 / 66.0,
    -691.0 / 2730.0,
    7.0 / 6.0,
    -3617.0 / 510.0,
    43_867.0 / 798.0,
    -174_611.0 / 330.0,
    854_513.0 / 138.0,
    -236_364_091.0 / 2730.0,
];

/// `psi^(order)(x)` for x > 0: the (order+1)-th derivative of lgamma; order 0 is digamma. NaN for x < 0, the limit at
/// 0. Relative error below 1e-13 (absolute near the zero of digamma).
pub fn polygamma(order: u32, x: f64) -> f64 {
    match order {
        0 => return gamma::digamma(x),
        1 => return gamma::trigamma(x),
        _ => {}
    }
    if x.is_nan() || x < 0.0 {
        return f64::NAN;
    }
    let n = f64::from(order);
    let sign = if order.is_multiple_of(2) { -1.0 } else { 1.0 };
    if x.is_infinite() {
        return 0.0 * sign;
    }
    if x == 0.0 {
        return sign * f64::INFINITY;
    }
    // psi_n(x) = sign n! sum_k (x+k)^-(n+1); the terms up to `far` one by one, the rest by Euler-Maclaurin
    let far = n + 20.0;
    let (mut z, mut sum) = (x, 0.0);
    while z < far {
        sum += z.powf(-n - 1.0);
        z += 1.0;
    }
    let mut tail = 1.0 / n + 0.5 / z;
    let mut factor = (n + 1.0) / (2.0 * z * z); // (n+1)(n+2)..(n+2k-1) / ((2k)! z^(2k)) for k = 1, 2, ..
    for (i, b) in BERNOULLI.iter().enumerate() {
        tail += b * factor;
        let k = (i + 2) as f64;
        factor *= (n + 2.0 * k - 2.0) * (n + 2.0 * k - 1.0) / ((2.0 * k - 1.0) * 2.0 * k * z * z);
    }
    let factorial = (1..=order).fold(1.0, |f, k| f * f64::from(k));
    sign * factorial * (sum + z.powf(-n) * tail)
}

#[cfg(test)]
mod tests {
    use super::polygamma;

    #[test]
    fn closed_forms() {
        let pi4 = std::f64::consts::PI.powi(4);
        let zeta3 = 1.202_056_903_159_594_2;
        for (order, x, want) in [
            (2, 1.0, -2.0 * zeta3),
            (2, 0.5, -14.0 * zeta3),
            (3, 1.0, pi4 / 15.0),
            (3, 0.5, pi4),
            (3, 3.0, pi4 / 15.0 - 6.0 - 6.0 / 16.0),
            (0, 1.0, -0.577_215_664_901_532_9),
            (1, 0.5, std::f64::consts::PI.powi(2) / 2.0),
        ] {
            let got = polygamma(order, x);
            assert!(
                (got - want).abs() < 1e-13 * want.abs(),
                "psi_{order}({x}) = {got}, want {want}"
            );
        }
    }

    #[test]
    fn recurrence() {
        for order in 2..20u32 {
            for x in [0.01, 0.7, 3.3, 25.0, 41.0, 1000.0] {
                let factorial = (1..=order).fold(1.0, |f, k| f * f64::from(k));
                let sign = if order.is_multiple_of(2) { 1.0 } else { -1.0 };
                let step = sign * factorial * f64::powf(x, -f64::from(order) - 1.0);
                let (here, next) = (polygamma(order, x), polygamma(order, x + 1.0));
                assert!((next - here - step).abs() < 1e-12 * here.abs(), "order {order} at {x}");
            }
        }
    }
}
