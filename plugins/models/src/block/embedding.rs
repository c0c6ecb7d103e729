//! Embeddings of noise levels and labels as vectors `[rows, width]`.
//!
//! References make their frequencies in f32, and a level of 1000 magnifies the last bit of one to 1e-4 of a radian: so
//! the frequencies here are rounded where theirs are, step by step.

use super::layer::{Start, linear};
use diffx_plugin::{Builder, Error, Init, Node, Result, abi};

/// Most numbers of a table that is computed where a network is built (256 MB).
pub(crate) const MOST_COMPUTED: usize = 1 << 26;

/// That such a table can be made; `what` names the settings that give its size, with their values.
pub(crate) fn check_computed(what: &str, rows: usize, width: usize) -> Result<()> {
    let numbers = rows as u128 * width as u128;
    if numbers > MOST_COMPUTED as u128 {
        return Err(Error::invalid(format!(
            "{what}: a table of {numbers} numbers to compute, want at most {MOST_COMPUTED}"
        )));
    }
    Ok(())
}

/// How the frequencies of a sinusoid are spaced.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Spacing {
    /// `exp(-ln(period) k / (half - shift))`: diffusers with its `downscale_freq_shift`, OpenAI's code with 0.
    Exp { shift: f64 },
    /// `(1/period)^(k / (half - shift))`: EDM, shift 1 where its `endpoint` is set.
    Power { shift: f64 },
}

/// Cosines and sines of a level at `width/2` frequencies from 1 down to `1/period`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Sinusoid {
    pub width: usize,
    pub spacing: Spacing,
    pub period: f64,
    /// Cosines in the first half (diffusers: `flip_sin_to_cos`).
    pub cos_first: bool,
}

impl Sinusoid {
    /// The frequencies with the roundings of f32 arithmetic.
    pub(crate) fn frequencies(&self) -> Vec<f32> {
        let half = self.width / 2;
        let frequency = |k: usize| match self.spacing {
            Spacing::Exp { shift } => {
                let exponent = (-self.period.ln()) as f32 * k as f32;
                let exponent = exponent / (half as f64 - shift) as f32;
                f64::from(exponent).exp() as f32
            }
            Spacing::Power { shift } => {
                let part = k as f32 / (half as f64 - shift) as f32;
                f64::from((1.0 / self.period) as f32).powf(f64::from(part)) as f32
            }
        };
        (0..half).map(frequency).collect()
    }

    /// `[rows, width]` of levels `[rows]`; an odd width ends in a 0.
    pub(crate) fn of<'b>(&self, b: Builder<'b>, level: Node<'b>) -> Node<'b> {
        let half = (self.width / 2) as i64;
        let frequency = b.constant(&[1, half], &self.frequencies()).cast(0);
        let angle = level.reshape(&[-1, 1]) * frequency;
        let (first, second) = match self.cos_first {
            true => (angle.cos(), angle.sin()),
            false => (angle.sin(), angle.cos()),
        };
        let both = b.concat(&[first, second], -1);
        if self.width.is_multiple_of(2) { both } else { both.pad(&[0, 0], &[0, 1]) }
    }
}

/// Two linear layers around a silu: what every reference puts behind its sinusoid.
pub(crate) fn two_layers<'b>(
    b: Builder<'b>,
    names: [&str; 2],
    x: Node<'b>,
    inputs: usize,
    width: usize,
) -> Node<'b> {
    let h = linear(b, names[0], x, inputs, width, Start::Spread).silu();
    linear(b, names[1], h, width, width, Start::Spread)
}

/// Rows of the table `name` `[count, width]` by labels `[rows]`.
pub(crate) fn table<'b>(
    b: Builder<'b>,
    name: &str,
    label: Node<'b>,
    count: usize,
    width: usize,
) -> Node<'b> {
    b.weight(name, &[count as i64, width as i64], Init::Normal(0.02)).gather(label, 0)
}

/// A whole number that came as a float, as an index.
pub(crate) fn index(level: Node<'_>) -> Node<'_> {
    level.round().cast(abi::I32)
}

/// Frequencies of our own networks: c_noise = ln(sigma)/4 moves over about 3 units between 0.002 and 80, so that
/// 1 to 64 radians per unit see its whole range and its details.
const FREQUENCIES: usize = 16;
const HIGHEST: f64 = 64.0;

/// The noise level `[rows]` as a vector `[rows, width]`: Fourier features, then two linear layers.
pub(crate) fn noise_embedding<'b>(b: Builder<'b>, noise: Node<'b>, width: usize) -> Node<'b> {
    let top = (FREQUENCIES - 1) as f64;
    let frequency: Vec<f32> =
        (0..FREQUENCIES).map(|k| HIGHEST.powf(k as f64 / top) as f32).collect();
    let frequency = b.constant(&[1, FREQUENCIES as i64], &frequency).cast(0);
    let angle = noise.reshape(&[-1, 1]) * frequency;
    let features = b.concat(&[angle.cos(), angle.sin()], -1);
    let h = linear(b, "noise.fc1", features, 2 * FREQUENCIES, width, Start::Spread).silu();
    linear(b, "noise.fc2", h, width, width, Start::Spread).silu()
}
