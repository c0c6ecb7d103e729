//! Distribution functions, to test draws against and to price exact laws.

use super::gamma::log_poisson;

/// `P(a, x) = γ(a, x) / Γ(a)`, the gamma distribution function; error below 1e-13 for a up to 1e6. Series below the
/// mean, continued fraction above.
pub fn gamma_p(a: f64, x: f64) -> f64 {
    if a.is_nan() || a <= 0.0 || x.is_nan() || x < 0.0 {
        return f64::NAN;
    }
    if x == 0.0 {
        return 0.0;
    }
    if x == f64::INFINITY {
        return 1.0;
    }
    let front = log_poisson(a, x).exp(); // x^a e^-x / Γ(a + 1)
    if x < a + 1.0 {
        let (mut term, mut sum) = (1.0, 1.0);
        for k in 1..STEPS {
            term *= x / (a + f64::from(k));
            sum += term;
            if term < sum * 1e-17 {
                break;
            }
        }
        return front * sum;
    }
    // Q = front a / (x + 1 - a - 1(1-a)/(x + 3 - a - ...)), by modified Lentz.
    let mut b = x + 1.0 - a;
    let mut c = 1e300;
    let mut d = 1.0 / b;
    let mut h = d;
    for k in 1..STEPS {
        let k = f64::from(k);
        let numerator = k * (a - k);
        b += 2.0;
        d = nonzero(numerator * d + b).recip();
        c = nonzero(b + numerator / c);
        let step = c * d;
        h *= step;
        if (step - 1.0).abs() < 1e-16 {
            break;
        }
    }
    1.0 - front * a * h
}

const STEPS: u32 = 100_000;

fn nonzero(x: f64) -> f64 {
    if x.abs() < 1e-300 { 1e-300 } else { x }
}

/// The noncentral chi-square distribution function with `dof` > 0 and noncentrality `lambda` >= 0: the Poisson mixture
/// `Σ_j e^{-λ/2} (λ/2)^j / j! · P(dof/2 + j, x/2)` over every j whose weight is above 1e-20.
pub fn chi_square_cdf(x: f64, dof: f64, lambda: f64) -> f64 {
    let outside = dof <= 0.0 || lambda < 0.0 || x < 0.0;
    if outside || dof.is_nan() || lambda.is_nan() || x.is_nan() {
        return f64::NAN;
    }
    if lambda == 0.0 {
        return gamma_p(0.5 * dof, 0.5 * x);
    }
    let (mean, half) = (0.5 * lambda, 0.5 * x);
    let reach = 10.0 * mean.sqrt() + 50.0;
    let mut j = (mean + reach).floor();
    let last = (mean - reach).max(0.0).floor();
    // Downwards P(a, x) = P(a + 1, x) + x^a e^-x / Γ(a + 1) only adds.
    let mut p = gamma_p(0.5 * dof + j, half);
    let mut sum = 0.0;
    loop {
        sum += log_poisson(j, mean).exp() * p;
        if j <= last {
            return sum.min(1.0);
        }
        j -= 1.0;
        p += log_poisson(0.5 * dof + j, half).exp();
    }
}

#[cfg(test)]
#[allow(clippy::excessive_precision)] // golden rows as printed
mod tests {
    use super::*;

    #[test]
    fn gamma_distribution() {
        for (a, x, want) in [
            (0.25, 0.001, 0.19615169838272654),
            (0.25, 3.0, 0.99498910405129169),
            (1.5, 0.4, 0.15053296660817451),
            (1.5, 2.51, 0.82966150961944442),
            (64.0, 50.0, 0.031843441750738076),
            (64.0, 70.0, 0.7790926924588397),
            (1000.0, 990.0, 0.37952137853796394),
            (1000.0, 1100.0, 0.99894067674607002),
            (100000.0, 100100.0, 0.6244451307044055),
        ] {
            let got = gamma_p(a, x);
            assert!((got - want).abs() < 1e-13, "P({a}, {x}) = {got:e}, want {want:e}");
        }
        assert_eq!((gamma_p(2.0, 0.0), gamma_p(2.0, f64::INFINITY)), (0.0, 1.0));
        assert!(gamma_p(-1.0, 1.0).is_nan() && gamma_p(1.0, f64::NAN).is_nan());
    }

    #[test]
    fn noncentral_chi_square() {
        for (x, dof, lambda, want) in [
            (11.0, 2.0, 8.0, 0.62631258058455722),
            (5.0, 3.0, 3.25, 0.46616995175230993),
            (0.15, 4.0, 0.025, 0.002643334163653368),
            (310.0, 7.3, 300.0, 0.54214277903344886),
            (0.5, 0.5, 1.2, 0.45442511363161441),
            (1100.0, 3.0, 1000.0, 0.93480823263914286),
            (5.0, 3.0, 400.0, 7.3293252016681339e-72),
        ] {
            let got = chi_square_cdf(x, dof, lambda);
            assert!((got - want).abs() < 1e-13, "({x}, {dof}, {lambda}): {got:e}, want {want:e}");
        }
        // The squared Bessel transition laws at clock u: x / u has dof δ and noncentrality x0 / u.
        for (delta, u, x0, x, want) in [
            (2.0, 0.1, 0.8, 1.1, 0.6263125805845572),
            (3.0, 0.4, 1.3, 2.0, 0.4661699517523099),
            (4.0, 2.0, 0.05, 0.3, 0.002643334163653368),
            (7.3, 0.01, 3.0, 3.1, 0.542142779033449),
        ] {
            let got = chi_square_cdf(x / u, delta, x0 / u);
            assert!((got / want - 1.0f64).abs() < 1e-10, "{delta}: {got} {want}");
        }
    }
}
