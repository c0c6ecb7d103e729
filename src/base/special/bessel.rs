//! Modified Bessel functions of real order above -1, in the two forms the laws need: the ratio
//! `R_ν(z) = I_{ν+1}(z) / I_ν(z)` and `ln(e^{-z} I_ν(z))`. `I_ν` itself overflows and is never formed.

use super::gamma::lgamma;
use std::f64::consts::TAU;

/// Coefficients of the large-z expansion after the first.
const TERMS: usize = 22;
const TERMS_F32: usize = 8;
/// Steps of the continued fraction for ν <= 10.
const STEPS: usize = 36;
const STEPS_F32: usize = 20;

/// `R_ν`, with what depends on the order alone computed once.
///
/// Small z takes the continued fraction `R_{ν+i} = z / (2(ν + i + 1) + z R_{ν+i+1})` downwards from a seed: every term
/// is positive and each step shrinks the seed's error. Large z takes the expansion `Σ a_k z^-k`. An order that is not
/// above -1 gives NaN everywhere.
#[derive(Debug, Clone, Copy)]
pub struct Ratio {
    nu: f64,
    switch: f64,
    switch_f32: f32,
    expansion: [f64; TERMS + 1],
    expansion_f32: [f32; TERMS_F32 + 1],
}

impl Ratio {
    pub fn new(nu: f64) -> Self {
        let nu = if nu > -1.0 { nu } else { f64::NAN };
        // Riccati's equation R' = 1 - R² - (2ν + 1) R / z, order by order.
        let mut a = [0.0; TERMS + 1];
        a[0] = 1.0;
        a[1] = -(nu + 0.5);
        for k in 1..TERMS {
            let products: f64 = (1..=k).map(|i| a[i] * a[k + 1 - i]).sum();
            a[k + 1] = 0.5 * (k as f64 * a[k] + 2.0 * a[1] * a[k] - products);
        }
        // For large orders the expansion is one in ν/z, good far below ν².
        let switch = (0.5 * nu * nu).min(20.0 * nu.abs()).max(30.0);
        let mut expansion_f32 = [0.0; TERMS_F32 + 1];
        for (short, &long) in expansion_f32.iter_mut().zip(&a) {
            *short = long as f32;
        }
        Self { nu, switch, switch_f32: (nu * nu).max(20.0) as f32, expansion: a, expansion_f32 }
    }

    /// What a device needs of it: the order, where the expansion begins, its coefficients.
    pub fn table(&self) -> [f64; TERMS + 3] {
        let mut table = [self.nu; TERMS + 3];
        table[1] = self.switch;
        table[2..].copy_from_slice(&self.expansion);
        table
    }

    /// `R_ν(z)`, relative error below 1e-15. `R(0) = 0`, `R(inf) = 1`, and R is odd: negative z gives `-R(-z)`.
    pub fn f64(&self, z: f64) -> f64 {
        if z < 0.0 {
            return -self.f64(-z);
        }
        if self.nu.is_nan() {
            return f64::NAN;
        }
        if z > self.switch {
            return super::gamma::horner(&self.expansion, 1.0 / z);
        }
        let steps = self.steps(z);
        let mut r = seed(self.nu + steps as f64, z);
        for i in (0..steps).rev() {
            r = z / (2.0 * (self.nu + i as f64 + 1.0) + z * r);
        }
        r
    }

    /// `R_ν(z)` in f32 arithmetic, relative error below 5e-7 (2.4e-7 measured); orders above 10 go through f64.
    pub fn f32(&self, z: f32) -> f32 {
        if z < 0.0 {
            return -self.f32(-z);
        }
        if self.nu.is_nan() || self.nu > 10.0 {
            return self.f64(f64::from(z)) as f32;
        }
        if z > self.switch_f32 {
            let r = 1.0 / z;
            return self.expansion_f32.iter().rev().fold(0.0, |sum, &a| sum * r + a);
        }
        let nu = self.nu as f32;
        let k = nu + STEPS_F32 as f32;
        let mut r = z / (k + 0.5 + (z * z + (k + 0.5) * (k + 1.5)).sqrt());
        for i in (0..STEPS_F32).rev() {
            r = z / (2.0 * (nu + i as f32 + 1.0) + z * r);
        }
        r
    }

    /// `dR_ν/dz`, relative error below 1e-13; even in z, `1 / (2(ν + 1))` at 0.
    ///
    /// Riccati's right side cancels at both ends, so this differentiates the two kernels instead.
    pub fn derivative_f64(&self, z: f64) -> f64 {
        let z = z.abs();
        if self.nu.is_nan() || z.is_nan() {
            return f64::NAN;
        }
        if z > self.switch {
            let r = 1.0 / z;
            let mut sum = 0.0;
            for (k, a) in self.expansion.iter().enumerate().skip(1).rev() {
                sum = sum * r - k as f64 * a;
            }
            return sum * r * r;
        }
        // R = z g with g = 1 / (b + z R₊): R' = g² (b - z² R₊').
        let steps = self.steps(z);
        let k = self.nu + steps as f64;
        let mut r = seed(k, z);
        let mut slope = {
            let root = (z * z + (k + 0.5) * (k + 1.5)).sqrt();
            let below = k + 0.5 + root;
            (below - z * z / root) / (below * below)
        };
        for i in (0..steps).rev() {
            let b = 2.0 * (self.nu + i as f64 + 1.0);
            let g = 1.0 / (b + z * r);
            slope = g * g * (b - z * z * slope);
            r = z * g;
        }
        slope
    }

    /// Steps from the seed that leave less than an ulp of its error: each shrinks it by `R_k²`, about
    /// `exp(-(2k + 1)/z)`. At most 370, since z stays below 20 ν for large orders.
    fn steps(&self, z: f64) -> usize {
        if self.nu <= 10.0 {
            return STEPS;
        }
        ((self.nu * self.nu + 36.0 * z).sqrt() - self.nu) as usize + 8
    }
}

/// A bound of `R_k(z)` exact to second order at large z.
fn seed(k: f64, z: f64) -> f64 {
    z / (k + 0.5 + (z * z + (k + 0.5) * (k + 1.5)).sqrt())
}

/// `ln(e^{-z} I_ν(z))` for z >= 0 and ν > -1; error below 1e-13, relative or absolute, whichever is larger.
/// At z = 0: 0 for ν = 0, minus infinity above, plus infinity below. Other arguments give NaN.
pub fn log_ive(nu: f64, z: f64) -> f64 {
    if !(nu > -1.0 && nu < f64::INFINITY && z >= 0.0) {
        return f64::NAN;
    }
    if z == 0.0 {
        return if nu == 0.0 { 0.0 } else { -nu * f64::INFINITY };
    }
    if z == f64::INFINITY {
        return f64::NEG_INFINITY;
    }
    if nu >= DEBYE_FROM {
        return log_ive_uniform(nu, z);
    }
    if z > (0.5 * nu * nu).max(30.0) { log_ive_large(nu, z) } else { log_ive_small(nu, z) }
}

/// [`log_ive`] rounded once.
pub fn log_ive_f32(nu: f32, z: f32) -> f32 {
    log_ive(f64::from(nu), f64::from(z)) as f32
}

/// The power series: every term is positive, and z <= 113 here.
fn log_ive_small(nu: f64, z: f64) -> f64 {
    let q = 0.25 * z * z;
    let (mut term, mut sum) = (1.0, 0.0);
    for k in 1..500 {
        let k = f64::from(k);
        term *= q / (k * (nu + k));
        sum += term;
        if term < sum * 1e-18 {
            break;
        }
    }
    nu * (0.5 * z).ln() - lgamma(nu + 1.0) + sum.ln_1p() - z
}

/// Hankel's expansion `(2πz)^{-1/2} Σ (-1)^k (4ν² - 1)(4ν² - 9)... / (k! (8z)^k)`.
fn log_ive_large(nu: f64, z: f64) -> f64 {
    let square = 4.0 * nu * nu;
    let (mut term, mut sum) = (1.0f64, 0.0);
    for k in 1..60 {
        let odd = f64::from(2 * k - 1);
        let next = term * (odd * odd - square) / (8.0 * f64::from(k) * z);
        // Half-integer orders end the series; otherwise it is cut at its smallest term, below e^-2z.
        if next == 0.0 || (next.abs() > term.abs() && odd > 2.0 * nu.abs()) {
            break;
        }
        sum += next;
        if next.abs() < 1e-18 {
            break;
        }
        term = next;
    }
    sum.ln_1p() - 0.5 * (TAU * z).ln()
}

/// Orders from which Debye's expansion with [`DEBYE_TERMS`] terms is exact to rounding at every z.
const DEBYE_FROM: f64 = 15.0;
const DEBYE_TERMS: usize = 14;

/// Debye's uniform expansion, the exponent written without cancellation.
fn log_ive_uniform(nu: f64, z: f64) -> f64 {
    let s = nu.hypot(z);
    let p = nu / s;
    let mut sum = 0.0;
    for k in (1..=DEBYE_TERMS).rev() {
        // U_k(p) / ν^k = Σ_j u_kj p^2j / s^k.
        let u = DEBYE[k][..=k].iter().rev().fold(0.0, |u, &c| u * (p * p) + c);
        sum = (sum + u) / s;
    }
    nu * (nu / (s + z)) - nu * (nu / z).asinh() - 0.5 * (TAU * s).ln() + sum.ln_1p()
}

/// `u_kj`: U_k(p) = p^k Σ_j u_kj p^2j.
const DEBYE: [[f64; DEBYE_TERMS + 1]; DEBYE_TERMS + 1] = debye();

/// `U_{k+1} = p²(1 - p²) U_k' / 2 + ∫_0^p (1 - 5t²) U_k dt / 8`: each coefficient is a sum of terms of one sign.
const fn debye() -> [[f64; DEBYE_TERMS + 1]; DEBYE_TERMS + 1] {
    let mut u = [[0.0; DEBYE_TERMS + 1]; DEBYE_TERMS + 1];
    u[0][0] = 1.0;
    let mut k = 0;
    while k < DEBYE_TERMS {
        let mut j = 0;
        while j <= k {
            let power = (k + 2 * j) as f64;
            u[k + 1][j] += u[k][j] * (0.5 * power + 0.125 / (power + 1.0));
            u[k + 1][j + 1] -= u[k][j] * (0.5 * power + 0.625 / (power + 3.0));
            j += 1;
        }
        k += 1;
    }
    u
}

#[cfg(test)]
#[allow(clippy::excessive_precision)] // golden rows as printed
mod tests {
    use super::*;
    use crate::base::special::tests::close;

    /// (ν, z, R, R') to 40 digits, around every switch.
    #[test]
    fn ratio_and_derivative() {
        for (nu, z, want, slope) in [
            (-0.95, 0.0001, 0.00099999995238095386, 9.9999985714286787),
            (-0.9, 31.0, 1.0132044259196971, -0.00043599771178699541),
            (3.3, 29.0, 0.87549860622011952, 0.0040611764627347214),
            (9.9, 49.0, 0.80832143946926661, 0.0034922476175828314),
            (9.9, 50.0, 0.81175197775263412, 0.003369903869591191),
            (10.5, 3.0, 0.12845041487196932, 0.041530781858110626),
            (24.0, 40.0, 0.55701636727041666, 0.0073877166866078809),
            (24.0, 287.0, 0.91813515979326958, 0.00027304497204863453),
            (24.0, 289.0, 0.91867763794011593, 0.00026944509525480752),
            (60.0, 1100.0, 0.94648774541072367, 4.729579214553963e-5),
            (60.0, 1250.0, 0.95275217782279664, 3.687684067138021e-5),
            (99.0, 0.1, 0.00049999987623768446, 0.0049999962871317463),
            (99.0, 300.0, 0.72153961280157911, 0.00075931066643314699),
            (99.0, 1970.0, 0.95075491978433708, 2.4357106344206638e-5),
            (99.0, 1990.0, 0.95123729326555663, 2.3882574261739394e-5),
            (400.0, 100.0, 0.12281216756629869, 0.001191709291614839),
            (400.0, 7990.0, 0.95112734475627203, 5.9601457730243973e-6),
            (400.0, 8010.0, 0.95124625782267786, 5.9311960837004453e-6),
        ] {
            let ratio = Ratio::new(nu);
            let got = ratio.f64(z);
            assert!((got / want - 1.0).abs() < 1e-15, "R_{nu}({z}) = {got:e}, want {want:e}");
            assert_eq!(ratio.f64(-z), -got);
            let d = ratio.derivative_f64(z);
            assert!((d / slope - 1.0).abs() < 1e-13, "R'_{nu}({z}) = {d:e}, want {slope:e}");
            assert!(
                (f64::from(ratio.f32(z as f32)) / Ratio::new(nu).f64(f64::from(z as f32)) - 1.0)
                    .abs()
                    < 5e-7
            );
        }
    }

    #[test]
    fn ratio_golden_rows() {
        for (nu, z, want) in [
            (-0.75, 0.3, 0.55999909256719),
            (-0.5, 0.7, 0.6043677771171635),
            (0.0, 1e-3, 0.0004999999375000105),
            (0.0, 1.0, 0.4463899658965345),
            (0.5, 2.5, 0.6135673098126084),
            (1.0, 10.0, 0.8541853083236816),
            (1.0, 100.0, 0.9850378800081568),
            (2.3, 1e4, 0.99972002520252),
            (10.0, 5.0, 0.217364953043283),
            (24.0, 3.0, 0.05979368119415572),
        ] {
            let got = Ratio::new(nu).f64(z);
            assert!((got / want - 1.0).abs() < 1e-13, "R_{nu}({z}) = {got}, want {want}");
            let short = Ratio::new(nu).f32(z as f32);
            assert!((f64::from(short) / want - 1.0).abs() < 5e-7, "R_{nu}({z}) = {short} in f32");
        }
    }

    #[test]
    fn ratio_closed_forms_and_recurrence() {
        let (below, above) = (Ratio::new(-0.5), Ratio::new(0.5));
        for k in 0..400 {
            let z = 10f64.powf(-3.0 + 0.02 * f64::from(k));
            assert!((below.f64(z) / z.tanh() - 1.0).abs() < 2e-15, "{z}");
            if z > 1.0 {
                assert!((above.f64(z) / (1.0 / z.tanh() - 1.0 / z) - 1.0).abs() < 2e-15, "{z}");
            }
            // 1/R_ν = 2(ν + 1)/z + R_{ν+1}, which joins the kernels of different orders.
            for nu in [-0.9, 0.3, 4.2, 9.5, 9.999, 30.0, 77.7, 1e3, 1e5] {
                let got = Ratio::new(nu).f64(z);
                let want = 1.0 / (2.0 * (nu + 1.0) / z + Ratio::new(nu + 1.0).f64(z));
                assert!((got / want - 1.0).abs() < 2e-15, "R_{nu}({z}) = {got:e}, want {want:e}");
            }
        }
    }

    #[test]
    fn f32_kernel_error() {
        let mut worst = 0f64;
        for nu in [-0.95f32, -0.5, 0.0, 0.5, 1.0, 2.3, 5.0, 7.1, 10.0, 12.0] {
            let ratio = Ratio::new(f64::from(nu));
            for k in 0..2000 {
                let z = 10f32.powf(-6.0 + 0.005 * k as f32);
                let want = ratio.f64(f64::from(z));
                worst = worst.max((f64::from(ratio.f32(z)) / want - 1.0).abs());
            }
        }
        assert!(worst < 5e-7, "{worst:e}");
    }

    #[test]
    fn borders() {
        for nu in [-0.9, 0.0, 3.0, 50.0] {
            let ratio = Ratio::new(nu);
            assert_eq!((ratio.f64(0.0), ratio.f64(f64::INFINITY)), (0.0, 1.0));
            assert_eq!((ratio.f32(0.0), ratio.f32(f32::INFINITY)), (0.0, 1.0));
            assert!(ratio.f64(f64::NAN).is_nan() && ratio.f32(f32::NAN).is_nan());
            let slope = 0.5 / (nu + 1.0);
            assert!((ratio.derivative_f64(0.0) / slope - 1.0).abs() < 1e-15);
            assert_eq!(ratio.derivative_f64(f64::INFINITY), 0.0);
        }
        for nu in [-1.0, f64::NAN] {
            let ratio = Ratio::new(nu);
            assert!(
                ratio.f64(1.0).is_nan() && ratio.f32(1.0).is_nan() && log_ive(nu, 1.0).is_nan()
            );
        }
        assert_eq!(log_ive(0.0, 0.0), 0.0);
        assert_eq!(log_ive(0.5, 0.0), f64::NEG_INFINITY);
        assert_eq!(log_ive(-0.5, 0.0), f64::INFINITY);
        assert_eq!(log_ive(0.5, f64::INFINITY), f64::NEG_INFINITY);
        assert!(log_ive(0.5, -1.0).is_nan());
    }

    #[test]
    fn log_bessel() {
        for (nu, z, want) in [
            (-0.95, 0.01, 2.0550221781599861),
            (-0.75, 0.3, -0.078259516992625866),
            (-0.5, 50.0, -2.8749500359187458),
            (0.0, 0.001, -0.00099975000001562502),
            (0.0, 29.5, -2.6068218779415614),
            (0.0, 30.5, -2.6236339074572933),
            (0.5, 2.5, -1.3838446485912388),
            (1.0, 700.0, -4.1950147981443477),
            (2.3, 10000.0, -5.5243607317929656),
            (7.9, 31.0, -3.6493800556494745),
            (12.5, 60.0, -4.2722557035872817),
            (12.5, 79.0, -4.0952128777350045),
            (14.9, 100.0, -4.3338260452704151),
            (14.9, 112.0, -4.2711572088987183),
            (15.0, 0.01, -107.38403031956151),
            (15.0, 14.0, -9.8756199801388391),
            (15.0, 300.0, -4.1459608222163702),
            (24.0, 3.0, -47.963721884614364),
            (99.0, 50.0, -84.394667437045239),
            (99.0, 5000.0, -6.1576761223349467),
            (1000.0, 1000.0, -471.70611290634336),
            (5.0, 1e-200, -2310.8383206396275),
            (100.0, 1e-05, -1584.3466501085806),
            (0.3, 1000000.0, -7.8266937321867698),
        ] {
            let got = log_ive(nu, z);
            assert!(close(got, want, 1e-13), "log_ive({nu}, {z}) = {got:e}, want {want:e}");
        }
    }

    #[test]
    fn log_bessel_of_half_integers() {
        for k in 0..700 {
            let z = 10f64.powf(-4.0 + 0.015 * f64::from(k));
            let front = -0.5 * (TAU * z).ln();
            let cosh = (-2.0 * z).exp().ln_1p() + front; // I_{-1/2} = √(2/πz) cosh z
            let sinh = (-(-2.0 * z).exp_m1()).ln() + front;
            assert!(close(log_ive(-0.5, z), cosh, 1e-13), "{z}");
            assert!(close(log_ive(0.5, z), sinh, 1e-13), "{z}");
        }
    }

    /// ln I_{ν+1} - ln I_ν = ln R_ν ties the three expansions and the ratio together.
    #[test]
    fn log_bessel_agrees_with_the_ratio() {
        for nu in [-0.8, 0.0, 1.7, 6.6, 13.9, 14.5, 14.99, 20.0, 60.0] {
            let ratio = Ratio::new(nu);
            for k in 0..400 {
                let z = 10f64.powf(-2.0 + 0.02 * f64::from(k));
                let (low, high) = (log_ive(nu, z), log_ive(nu + 1.0, z));
                let gap = high - low - ratio.f64(z).ln();
                assert!(gap.abs() < 1e-13 * high.abs().max(1.0), "({nu}, {z}): {gap:e}");
            }
        }
    }

    /// The squared Bessel transition density, whose rows exercise log_ive through the form the processes use.
    #[test]
    fn squared_bessel_golden_rows() {
        for (delta, u, x0, x, log_p, score) in [
            (0.5, 0.4, 1.3, 0.2, -0.8335659904032161, -1.209142998412579),
            (1.0, 0.4, 1.3, 2.0, -1.594069899301141, -0.4928529160461056),
            (2.0, 0.1, 0.8, 1.1, -0.5338719342776598, -0.9701025957057988),
            (3.0, 0.4, 1.3, 2.0, -1.379308869929185, -0.24158224634596298),
            (4.0, 2.0, 0.05, 0.3, -4.06359281318109, 3.0848955892499146),
            (7.3, 0.01, 3.0, 3.1, 0.12433378519908979, -0.46449129395783434),
        ] {
            let (delta, u, x0, x): (f64, f64, f64, f64) = (delta, u, x0, x);
            let nu = 0.5 * delta - 1.0;
            let z = (x * x0).sqrt() / u;
            let gap = x.sqrt() - x0.sqrt();
            let got =
                -(2.0 * u).ln() + 0.5 * nu * (x / x0).ln() - gap * gap / (2.0 * u) + log_ive(nu, z);
            assert!(close(got, log_p, 1e-12), "{delta}: {got} {log_p}");
            let got = nu / x + ((x0 / x).sqrt() * Ratio::new(nu).f64(z) - 1.0) / (2.0 * u);
            assert!(close(got, score, 1e-12), "{delta}: {got} {score}");
        }
    }
}
