//! Linear forms over what a step of a scheduler sees: the sample, the network's estimate, one draw, and what earlier
//! steps left in registers. Every published step is one, so a class is written as its paper has it and what comes out
//! are the coefficients.

use std::ops::{Add, Mul, Neg, Sub};

/// Most registers a class keeps between its calls.
pub const REGISTERS: usize = 6;

pub const WIDTH: usize = 5 + REGISTERS;

/// Coefficients of the sample, of the estimate D, of D before clipping, of the draw, of the slope, and of each register.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Form(pub [f64; WIDTH]);

/// Where each stands in a form; register k is `REGISTER + k`.
pub const SAMPLE: usize = 0;
pub const DENOISED: usize = 1;
pub const RAW: usize = 2;
pub const DRAW: usize = 3;
pub const SLOPES: usize = 4;
pub const REGISTER: usize = 5;

const fn unit(at: usize) -> Form {
    let mut out = [0.0; WIDTH];
    out[at] = 1.0;
    Form(out)
}

/// The sample as the scheduler has it.
pub const X: Form = unit(SAMPLE);
/// The estimate of the data, after clipping or thresholding.
pub const D: Form = unit(DENOISED);
/// The estimate as the network gave it.
pub const D_RAW: Form = unit(RAW);
/// A standard normal draw.
pub const Z: Form = unit(DRAW);
/// (w - D)/sigma in our coordinate, which is the slope of samples that are data plus noise. By itself, so that it is
/// rounded as the originals round it: at a level of 4096 the difference shows.
pub const SLOPE: Form = unit(SLOPES);
pub const ZERO: Form = Form([0.0; WIDTH]);

/// What a register holds from before.
pub fn kept(k: usize) -> Form {
    let mut out = ZERO;
    if let Some(slot) = out.0.get_mut(REGISTER + k) {
        *slot = 1.0;
    }
    out
}

impl Add for Form {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] + other.0[i]))
    }
}

impl Sub for Form {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] - other.0[i]))
    }
}

impl Neg for Form {
    type Output = Self;
    fn neg(self) -> Self {
        Self(self.0.map(|v| -v))
    }
}

impl Mul<f64> for Form {
    type Output = Self;
    /// By infinity or NaN only what is there becomes that.
    fn mul(self, by: f64) -> Self {
        Self(self.0.map(|v| if v == 0.0 { 0.0 } else { v * by }))
    }
}

impl Mul<Form> for f64 {
    type Output = Form;
    fn mul(self, form: Form) -> Form {
        form * self
    }
}

/// One call of the network and the step it makes, in the scheduler's own units of the sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// Where the network is asked.
    pub at: Point,
    /// The time it is told.
    pub time: f64,
    /// The sample after the step.
    pub next: Form,
    /// Registers that change, and what they hold afterwards.
    pub keep: Vec<(usize, Form)>,
    /// What the class calls its estimate of the data.
    pub shown: Form,
    /// The step is Langevin's, whose size follows from the norms of score and draw: this signal-to-noise ratio.
    pub snr: Option<f64>,
    /// The draw has the variance that the network learned, between these two logarithms.
    pub learned: Option<[f64; 2]>,
}

impl Call {
    pub fn new(at: Point, time: f64, next: Form) -> Self {
        Self { at, time, next, keep: Vec::new(), shown: D, snr: None, learned: None }
    }

    pub fn keeping(mut self, k: usize, form: Form) -> Self {
        self.keep.push((k, form));
        self
    }

    pub fn showing(mut self, form: Form) -> Self {
        self.shown = form;
        self
    }
}

/// A noise level: the sample is `alpha x0 + sigma z`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    pub alpha: f64,
    pub sigma: f64,
}

/// Least signal: without any there is no coordinate x / alpha. A power of two, so that scaling by it loses nothing, and
/// so small that it vanishes beside the noise in f32.
const LEAST: f64 = 1.0 / (1u64 << 30) as f64;

impl Point {
    /// From the product of alphas.
    pub fn of_alpha_bar(bar: f64) -> Self {
        Self { alpha: bar.max(0.0).sqrt(), sigma: (1.0 - bar).max(0.0).sqrt() }
    }

    /// Noise to signal, of samples that keep their variance.
    pub fn of_ratio(sigma: f64) -> Self {
        let alpha = 1.0 / (1.0 + sigma * sigma).sqrt();
        Self { alpha, sigma: sigma * alpha }
    }

    /// Data plus noise.
    pub fn exploding(sigma: f64) -> Self {
        Self { alpha: 1.0, sigma }
    }

    /// (1 - t) x0 + t z.
    pub fn flow(t: f64) -> Self {
        Self { alpha: 1.0 - t, sigma: t }
    }

    /// log of signal over noise.
    pub fn lambda(self) -> f64 {
        self.alpha.ln() - self.sigma.ln()
    }

    /// The noise in the sample, from the sample and D before clipping.
    pub fn noise(self) -> Form {
        (X - self.alpha * D_RAW) * (1.0 / self.sigma)
    }

    /// The same by the clipped D.
    pub fn clipped_noise(self) -> Form {
        (X - self.alpha * D) * (1.0 / self.sigma)
    }

    /// The signal by which the sample is divided to get our coordinate.
    pub fn scale(self) -> f64 {
        self.alpha.max(LEAST)
    }

    /// Its level there.
    pub fn level(self) -> f64 {
        self.sigma / self.scale()
    }
}
