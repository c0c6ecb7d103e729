//! Error function and normal distribution function, with the far tail kept.
//!
//! One function carries the tail: `erfcx(x) = e^{x²} erfc(x)`, smooth and slowly varying on [0, inf), as a Chebyshev
//! series. Everything that underflows or cancels is written through it.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};

/// `2/√π ∫_0^x e^{-t²} dt`; error below 4e-16.
pub fn erf(x: f64) -> f64 {
    if x.abs() >= 1.0 {
        return x.signum() * (1.0 - erfc(x.abs()));
    }
    // Σ (-1)^k x^{2k+1} / (k! (2k + 1)).
    let z = x * x;
    let mut sum = 0.0;
    let mut term = 1.0;
    for k in 0..24 {
        sum += term / f64::from(2 * k + 1);
        term *= -z / f64::from(k + 1);
    }
    FRAC_2_SQRT_PI * x * sum
}

/// `1 - erf(x)`; relative error below 2e-15 until it underflows at x = 26.5.
pub fn erfc(x: f64) -> f64 {
    if x < 0.5 {
        return if x < -0.5 { 2.0 - erfc(-x) } else { 1.0 - erf(x) };
    }
    if x > 28.0 {
        return 0.0;
    }
    // e^{-x²} with the rounding error of x² put back.
    let square = x * x;
    let rest = x.mul_add(x, -square);
    (-square).exp() * (1.0 - rest) * erfcx(x)
}

/// `e^{x²} erfc(x)` for x >= 0; relative error below 2e-15.
pub fn erfcx(x: f64) -> f64 {
    if x > 1e17 {
        return 0.5 * FRAC_2_SQRT_PI / x;
    }
    let t = (x - 3.75) / (x + 3.75);
    // Clenshaw for (1 + 2x) erfcx(x) = c_0/2 + Σ c_k T_k(t).
    let (mut b1, mut b2) = (0.0, 0.0);
    for &c in ERFCX[1..].iter().rev() {
        (b1, b2) = (2.0 * t * b1 - b2 + c, b1);
    }
    (t * b1 - b2 + 0.5 * ERFCX[0]) / (1.0 + 2.0 * x)
}

#[allow(clippy::excessive_precision)] // as computed to 40 digits
const ERFCX: [f64; 25] = [
    2.35515786913480351,
    -0.00459005458064647733,
    -0.0842491333665179156,
    0.0592099399981918905,
    -0.0266586684353057523,
    0.00907499767070526509,
    -0.00241316354041760819,
    0.000490775836525808632,
    -0.0000691697330250120637,
    4.13902798607301017e-6,
    7.74038306619849067e-7,
    -2.18864010492343957e-7,
    1.07649994656709104e-8,
    4.5219598112182869e-9,
    -7.75440020883135111e-10,
    -6.31808834088668449e-11,
    2.8687950109306699e-11,
    1.94558685457773472e-13,
    -9.65469674843343891e-13,
    3.25254814814873984e-14,
    3.34781194828680539e-14,
    -1.8645628804193131e-15,
    -1.25079505306886471e-15,
    7.41823525662404346e-17,
    5.06814890479611132e-17,
];

/// The standard normal distribution function; relative error below 4e-15 in the lower tail.
pub fn ndtr(z: f64) -> f64 {
    if z < -1.0 { upper_tail(-z) } else { 0.5 * erfc(-z * FRAC_1_SQRT_2) }
}

/// `ln ndtr(z)`, relative error below 1e-14 for every z, also where `ndtr` itself underflows.
pub fn log_ndtr(z: f64) -> f64 {
    if z < -1.0 {
        return -0.5 * z * z + (0.5 * erfcx(-z * FRAC_1_SQRT_2)).ln();
    }
    if z > 1.0 {
        return (-upper_tail(z)).ln_1p();
    }
    (-0.5 * erfc(z * FRAC_1_SQRT_2)).ln_1p()
}

/// `1 - ndtr(z)` for z >= 0. Not through `erfc(z/√2)`: the rounding of the quotient would be magnified z² times.
fn upper_tail(z: f64) -> f64 {
    if z > 40.0 {
        return 0.0;
    }
    let square = z * z;
    let rest = z.mul_add(z, -square);
    0.5 * (-0.5 * square).exp() * (1.0 - 0.5 * rest) * erfcx(z * FRAC_1_SQRT_2)
}

/// The z with `ndtr(z) = p`, by Wichura's AS 241; relative error below 1e-15. 0 and 1 give the infinities, anything
/// outside gives NaN.
pub fn ndtri(p: f64) -> f64 {
    let q = p - 0.5;
    if q.abs() <= 0.425 {
        return q * ratio(&CENTRE, 0.180625 - q * q);
    }
    let tail = if q < 0.0 { p } else { 1.0 - p };
    if tail <= 0.0 {
        return if tail == 0.0 { q.signum() * f64::INFINITY } else { f64::NAN };
    }
    let r = (-tail.ln()).sqrt();
    let z = if r <= 5.0 { ratio(&TAIL, r - 1.6) } else { ratio(&FAR_TAIL, r - 5.0) };
    z.copysign(q)
}

fn ratio([above, below]: &[[f64; 8]; 2], x: f64) -> f64 {
    super::gamma::horner(above, x) / super::gamma::horner(below, x)
}

/// Numerator and denominator in rising powers, named by the part of the range they serve.
#[allow(clippy::excessive_precision)] // the published digits
const CENTRE: [[f64; 8]; 2] = [
    [
        3.3871328727963666080e0,
        1.3314166789178437745e2,
        1.9715909503065514427e3,
        1.3731693765509461125e4,
        4.5921953931549871457e4,
        6.7265770927008700853e4,
        3.3430575583588128105e4,
        2.5090809287301226727e3,
    ],
    [
        1.0,
        4.2313330701600911252e1,
        6.8718700749205790830e2,
        5.3941960214247511077e3,
        2.1213794301586595867e4,
        3.9307895800092710610e4,
        2.8729085735721942674e4,
        5.2264952788528545610e3,
    ],
];
#[allow(clippy::excessive_precision)]
const TAIL: [[f64; 8]; 2] = [
    [
        1.42343711074968357734e0,
        4.63033784615654529590e0,
        5.76949722146069140550e0,
        3.64784832476320460504e0,
        1.27045825245236838258e0,
        2.41780725177450611770e-1,
        2.27238449892691845833e-2,
        7.74545014278341407640e-4,
    ],
    [
        1.0,
        2.05319162663775882187e0,
        1.67638483018380384940e0,
        6.89767334985100004550e-1,
        1.48103976427480074590e-1,
        1.51986665636164571966e-2,
        5.47593808499534494600e-4,
        1.05075007164441684324e-9,
    ],
];
#[allow(clippy::excessive_precision)]
const FAR_TAIL: [[f64; 8]; 2] = [
    [
        6.65790464350110377720e0,
        5.46378491116411436990e0,
        1.78482653991729133580e0,
        2.96560571828504891230e-1,
        2.65321895265761230930e-2,
        1.24266094738807843860e-3,
        2.71155556874348757815e-5,
        2.01033439929228813265e-7,
    ],
    [
        1.0,
        5.99832206555887937690e-1,
        1.36929880922735805310e-1,
        1.48753612908506148525e-2,
        7.86869131145613259100e-4,
        1.84631831751005468180e-5,
        1.42151175831644588870e-7,
        2.04426310338993978564e-15,
    ],
];

#[cfg(test)]
#[allow(clippy::excessive_precision)] // golden rows as printed
mod tests {
    use super::*;

    fn relative(got: f64, want: f64) -> f64 {
        if got == want { 0.0 } else { ((got - want) / want).abs() }
    }

    #[test]
    fn error_functions() {
        for (x, e, c) in [
            (1e-10, 1.1283791670955126e-10, 0.99999999988716208),
            (0.1, 0.1124629160182849, 0.8875370839817151),
            (0.499, 0.51962065598946846, 0.48037934401053154),
            (0.501, 0.52137822085441184, 0.47862177914558816),
            (0.8, 0.74210096470766051, 0.25789903529233949),
            (0.999, 0.84228527020649694, 0.15771472979350306),
            (1.001, 0.84311548547807628, 0.15688451452192372),
            (1.7, 0.98379045859077456, 0.016209541409225439),
            (2.5, 0.99959304798255504, 0.00040695201744495894),
            (5.0, 0.99999999999846254, 1.5374597944280349e-12),
            (10.0, 1.0, 2.0884875837625448e-45),
            (20.0, 1.0, 5.3958656116079009e-176),
            (26.0, 1.0, 5.6631924088561428e-296),
        ] {
            assert!(relative(erf(x), e) < 4e-16, "erf({x}) = {:e}, want {e:e}", erf(x));
            assert!(relative(erfc(x), c) < 2e-15, "erfc({x}) = {:e}, want {c:e}", erfc(x));
            assert!(relative(erf(-x), -e) < 4e-16);
            assert!(relative(erfc(-x), 1.0 + e) < 4e-16);
        }
        assert_eq!(
            (erfc(f64::INFINITY), erfc(f64::NEG_INFINITY), erf(f64::INFINITY)),
            (0.0, 2.0, 1.0)
        );
        assert!(erf(f64::NAN).is_nan() && erfc(f64::NAN).is_nan());
    }

    #[test]
    fn log_ndtr_in_both_tails() {
        for (z, want) in [
            (-10000.0, -50000010.129278915),
            (-300.0, -45006.622732118663),
            (-38.0, -726.55721601882013),
            (-5.5, -17.779376352625261),
            (-1.01, -1.8563130623431784),
            (-0.99, -1.8258103178428124),
            (-0.3, -0.96210281816885066),
            (0.0, -std::f64::consts::LN_2),
            (0.7, -0.27702394227713126),
            (3.0, -0.0013508099647481938),
            (8.0, -6.2209605742717861e-16),
            (12.0, -1.776482112077679e-33),
            (35.0, -1.1249107064724062e-268),
        ] {
            let got = log_ndtr(z);
            assert!(relative(got, want) < 1e-14, "log_ndtr({z}) = {got:e}, want {want:e}");
        }
    }

    #[test]
    fn ndtri_inverts() {
        for (p, want) in [
            (1e-300, -37.047096299361199),
            (1e-20, -9.2623400897984076),
            (1e-10, -6.3613409024040562),
            (0.001, -3.0902323061678135),
            (0.02, -2.053748910631823),
            (0.07, -1.4757910281791707),
            (0.08, -1.4050715603096325),
            (0.3, -0.52440051270804082),
            (0.5, 0.0),
            (0.77, 0.73884684918521369),
            (0.95, 1.6448536269514723),
            (0.999, 3.0902323061678133),
        ] {
            let got = ndtri(p);
            assert!(
                (got - want).abs() <= 1e-15 * want.abs().max(1.0),
                "ndtri({p}) = {got:e}, want {want:e}"
            );
        }
        for k in 1..1000 {
            let p = f64::from(k) / 1000.0;
            assert!((ndtr(ndtri(p)) - p).abs() < 1e-15);
        }
        assert_eq!((ndtri(0.0), ndtri(1.0)), (f64::NEG_INFINITY, f64::INFINITY));
        assert!(ndtri(-0.1).is_nan() && ndtri(1.1).is_nan() && ndtri(f64::NAN).is_nan());
    }
}
