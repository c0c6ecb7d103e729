//! Logarithm of the gamma function, its derivatives, and the Poisson weight that is safe for large arguments.

use std::f64::consts::{PI, TAU};

/// `ln |Γ(x)|`; error below 2e-15 absolute near the zeros 1 and 2, 2e-15 relative elsewhere for x > 0.
/// Poles (0, -1, -2, ...) give infinity.
pub fn lgamma(x: f64) -> f64 {
    if x.is_nan() || x == f64::INFINITY {
        return x;
    }
    if x <= 0.0 {
        if x == x.floor() {
            return f64::INFINITY;
        }
        // Γ(x) Γ(1 - x) = π / sin πx, the sine taken of the fraction.
        return (PI / (PI * (x - x.floor())).sin()).ln() - lgamma(1.0 - x);
    }
    if x < 0.5 {
        return about_two(x) - (x * (x + 1.0)).ln();
    }
    if x < 1.5 {
        return about_two(x - 1.0) - (x - 1.0).ln_1p();
    }
    if x < STIRLING_FROM {
        let (mut y, mut product) = (x, 1.0);
        while y > 2.5 {
            y -= 1.0;
            product *= y;
        }
        return about_two(y - 2.0) + product.ln();
    }
    (x - 0.5) * x.ln() - x + 0.5 * TAU.ln() + stirling_tail(x)
}

/// `ln Γ(2 + y)` for |y| <= 1/2: `(1 - γ) y + Σ (-1)^k (ζ(k) - 1) y^k / k`, whose terms fall like `4^-k`.
fn about_two(y: f64) -> f64 {
    let mut sum = 0.0;
    for (i, zeta) in ZETA_MINUS_ONE.iter().enumerate().rev() {
        let k = (i + 2) as f64;
        let sign = if i % 2 == 0 { 1.0 } else { -1.0 };
        sum = sum * y + sign * zeta / k;
    }
    y * (1.0 - EULER_GAMMA + y * sum)
}

const EULER_GAMMA: f64 = 0.577_215_664_901_532_9;

/// `ζ(k) - 1` for k = 2, 3, ...
#[allow(clippy::excessive_precision)] // as computed to 40 digits
const ZETA_MINUS_ONE: [f64; 26] = [
    0.64493406684822644,
    0.20205690315959429,
    0.082323233711138192,
    0.036927755143369926,
    0.01734306198444914,
    0.0083492773819228268,
    0.0040773561979443394,
    0.0020083928260822144,
    0.00099457512781808534,
    0.00049418860411946456,
    0.0002460865533080483,
    0.00012271334757848915,
    6.1248135058704829e-5,
    3.0588236307020494e-5,
    1.5282259408651872e-5,
    7.6371976378997623e-6,
    3.8172932649998399e-6,
    1.9082127165539389e-6,
    9.5396203387279611e-7,
    4.7693298678780646e-7,
    2.3845050272773299e-7,
    1.1921992596531107e-7,
    5.960818905125948e-8,
    2.980350351465228e-8,
    1.4901554828365041e-8,
    7.4507117898354295e-9,
];

/// From here on Stirling's series reaches full precision with the terms of [`STIRLING`].
const STIRLING_FROM: f64 = 10.0;

/// `B_2k / (2k (2k - 1))` for k = 1, 2, ...
const STIRLING: [f64; 9] = [
    1.0 / 12.0,
    -1.0 / 360.0,
    1.0 / 1260.0,
    -1.0 / 1680.0,
    1.0 / 1188.0,
    -691.0 / 360_360.0,
    1.0 / 156.0,
    -3617.0 / 122_400.0,
    43_867.0 / 244_188.0,
];

/// `ln Γ(x) - [(x - 1/2) ln x - x + ln √2π]`.
fn stirling_tail(x: f64) -> f64 {
    let r = 1.0 / x;
    r * horner(&STIRLING, r * r)
}

/// `coefficients[0] + coefficients[1] x + ...`
pub(super) fn horner(coefficients: &[f64], x: f64) -> f64 {
    coefficients.iter().rev().fold(0.0, |sum, &c| sum * x + c)
}

/// `ψ(x) = d ln Γ / dx`; error below 1e-14 relative, absolute near its zeros. Poles give NaN.
pub fn digamma(x: f64) -> f64 {
    if x <= 0.0 {
        if x == x.floor() {
            return f64::NAN;
        }
        return digamma(1.0 - x) - PI / (PI * (x - x.floor())).tan();
    }
    let (mut y, mut sum) = (x, 0.0);
    while y < STIRLING_FROM {
        sum -= 1.0 / y;
        y += 1.0;
    }
    let r = 1.0 / (y * y);
    // d/dx of Stirling: B_2k / (2k) = STIRLING[k] (2k - 1).
    let mut tail = 0.0;
    for (k, c) in STIRLING.iter().enumerate().rev() {
        tail = tail * r + c * (2 * k + 1) as f64;
    }
    sum + y.ln() - 0.5 / y - r * tail
}

/// `ψ'(x)`; error below 1e-14 relative for x > 0. Poles give infinity.
pub fn trigamma(x: f64) -> f64 {
    if x <= 0.0 {
        if x == x.floor() {
            return f64::INFINITY;
        }
        let s = (PI * (x - x.floor())).sin();
        return (PI / s) * (PI / s) - trigamma(1.0 - x);
    }
    let (mut y, mut sum) = (x, 0.0);
    while y < STIRLING_FROM {
        sum += 1.0 / (y * y);
        y += 1.0;
    }
    let r = 1.0 / (y * y);
    // B_2k = STIRLING[k] (2k - 1) 2k.
    let mut tail = 0.0;
    for (k, c) in STIRLING.iter().enumerate().rev() {
        tail = tail * r + c * ((2 * k + 1) * (2 * k + 2)) as f64;
    }
    sum + 1.0 / y + 0.5 * r + r * tail / y
}

/// `ln(λ^k e^-λ / Γ(k + 1))` for real k >= 0 and λ > 0, without the cancellation of `k ln λ - λ - lgamma(k + 1)`
/// (Loader's saddle-point form): the error does not grow with λ.
pub fn log_poisson(k: f64, lambda: f64) -> f64 {
    if k < STIRLING_FROM {
        return k * lambda.ln() - lambda - lgamma(k + 1.0);
    }
    -deviance(k, lambda) - 0.5 * (TAU * k).ln() - stirling_tail(k)
}

/// `k ln(k/λ) + λ - k`, by its series about k = λ.
fn deviance(k: f64, lambda: f64) -> f64 {
    let d = k - lambda;
    if d.abs() >= 0.1 * (k + lambda) {
        return k * (k / lambda).ln() - d;
    }
    // With v = d / (k + λ): ln(k/λ) = 2 atanh v, and the first term of it cancels d.
    let v = d / (k + lambda);
    let mut sum = d * v;
    let mut term = 2.0 * k * v;
    for j in 1..100 {
        term *= v * v;
        let next = sum + term / f64::from(2 * j + 1);
        if next == sum {
            break;
        }
        sum = next;
    }
    sum
}

#[cfg(test)]
#[allow(clippy::excessive_precision)] // golden rows as printed
mod tests {
    use super::*;
    use crate::base::special::tests::close;

    /// (x, ln |Γ|, ψ, ψ') to 40 digits.
    #[test]
    fn gamma_and_its_derivatives() {
        for (x, log, psi, psi1) in [
            (1e-10, 23.025850929882735, -10000000000.577215, 9.9999999999999993e19),
            (0.1, 2.2527126517342059, -10.423754940411076, 101.43329915079275),
            (0.25, 1.2880225246980775, -4.2274535333762654, 17.197329154507111),
            (0.5, 0.57236494292470009, -1.9635100260214235, 4.9348022005446793),
            (0.9, 0.066376239734742954, -0.75492694994705135, 1.9225399594772034),
            (0.999, 0.00057803853289138024, -0.57886180210864543, 1.6473414317770506),
            (1.0, 0.0, -0.57721566490153286, 1.6449340668482264),
            (1.001, -0.00057639359828330615, -0.57557193181030065, 1.6425331958689783),
            (1.3, -0.10817480950786048, -0.16919088886679961, 1.1342534349966193),
            (1.5, -0.12078223763524522, 0.036489973978576521, 0.93480220054467931),
            (1.9, -0.038984275923083362, 0.35618416116405966, 0.68797205824263566),
            (2.0, 0.0, 0.42278433509846714, 0.64493406684822644),
            (2.1, 0.045437738544485179, 0.48533596867983235, 0.60685286980102325),
            (2.5, 0.28468287047291916, 0.70315664064524319, 0.49035775610023486),
            (3.7, 1.4280723266653881, 1.1671535393615114, 0.3100378576700383),
            (7.2, 6.9568480798883403, 1.9030321442701752, 0.14897878164889404),
            (9.99, 12.779315214350193, 2.2507003728312011, 0.10527695014824178),
            (10.01, 12.824350262448247, 2.2528037003181357, 0.10505595320551509),
            (25.5, 56.389167643719947, 3.2189424728839198, 0.039994669649562924),
            (1000.25, 5906.9472682711172, 6.9075052894144283, 0.0010002499791197935),
            (10000000000.0, 220258509288.81058, 23.025850929890457, 1.00000000005e-10),
            (-0.5, 1.2655121234846454, 0.036489973978576521, 8.9348022005446793),
            (-3.7, -1.3797399049658245, -0.84507685887041935, 14.84242186412428),
        ] {
            assert!(close(lgamma(x), log, 2e-15), "lgamma({x}) = {:e}, want {log:e}", lgamma(x));
            assert!(close(digamma(x), psi, 1e-14), "digamma({x}) = {:e}, want {psi:e}", digamma(x));
            let relative = (trigamma(x) / psi1 - 1.0).abs();
            assert!(relative < 1e-14, "trigamma({x}) = {:e}, want {psi1:e}", trigamma(x));
        }
        assert_eq!(lgamma(-2.0), f64::INFINITY);
        assert!(digamma(0.0).is_nan() && lgamma(f64::NAN).is_nan());
        assert_eq!(trigamma(-1.0), f64::INFINITY);
    }

    /// (k, lambda, ln pmf): the last ones lose nine digits in the textbook form.
    #[test]
    fn log_poisson_does_not_cancel() {
        for (k, lambda, want) in [
            (0.0, 0.3, -0.29999999999999999),
            (3.0, 9.0, -4.2000857372193969),
            (9.5, 2.0, -9.3557270040842832),
            (10.0, 10.0, -2.0785616431350585),
            (12.0, 40.0, -15.720661046294651),
            (400.0, 390.0, -4.0420023337645445),
            (1000000000.0, 1000050000.0, -12.530529786656982),
            (1000300000.0, 1000000000.0, -56.27622210414421),
            (15.5, 0.001, -136.34896133926394),
        ] {
            let got = log_poisson(k, lambda);
            assert!(close(got, want, 5e-15), "({k}, {lambda}): {got:e}, want {want:e}");
        }
    }
}
