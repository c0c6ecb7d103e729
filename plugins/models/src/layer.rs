//! Layers that the networks share. Weights are named and laid out as frameworks store them: a linear layer's weight is
//! `[out, in]`, a convolution's `[out, in, kernel]`.

use diffx_plugin::{Attr, Builder, Init, Node, attr};

/// Added to the variance in layer norms.
pub(crate) const EPS: f64 = 1e-5;

/// How the weight of a layer starts; biases start at 0.
#[derive(Clone, Copy)]
pub(crate) enum Start {
    /// Keeps the variance: normal of deviation 1/√in.
    Spread,
    /// The layer says nothing at first.
    Zero,
}

impl Start {
    fn init(self, fan_in: usize) -> Init {
        match self {
            Self::Spread => Init::Normal(1.0 / (fan_in as f64).sqrt()),
            Self::Zero => Init::Zeros,
        }
    }
}

/// `name.weight` [out, in] and `name.bias` [out] on the last axis.
pub(crate) fn linear<'b>(
    b: Builder<'b>,
    name: &str,
    x: Node<'b>,
    inputs: usize,
    outputs: usize,
    start: Start,
) -> Node<'b> {
    let shape = [outputs as i64, inputs as i64];
    let w = b.weight(&format!("{name}.weight"), &shape, start.init(inputs));
    let bias = b.weight(&format!("{name}.bias"), &[outputs as i64], Init::Zeros);
    x.linear(w, bias)
}

/// A convolution of odd `kernel` over `[rows, channels, time]` that keeps the length.
pub(crate) fn conv<'b>(
    b: Builder<'b>,
    name: &str,
    x: Node<'b>,
    channels: usize,
    kernel: usize,
    dilation: usize,
) -> Node<'b> {
    let (c, k, d) = (channels as i64, kernel as i64, dilation as i64);
    let init = Start::Spread.init(channels * kernel);
    let w = b.weight(&format!("{name}.weight"), &[c, c, k], init);
    let bias = b.weight(&format!("{name}.bias"), &[c], Init::Zeros);
    let padding = [d * (k - 1) / 2];
    let dilation = [d];
    x.conv(w, bias, &[Attr::ints(attr::PADDING, &padding), Attr::ints(attr::DILATION, &dilation)])
}

/// Frequencies of the noise embedding: c_noise = ln(sigma)/4 moves over about 3 units between 0.002 and 80, so that
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

/// `count` vectors `[rows, 1.., width]` from the embedding, 0 at first: shifts, scales and gates of one block.
pub(crate) fn modulation<'b>(
    b: Builder<'b>,
    name: &str,
    embedding: Node<'b>,
    width: usize,
    count: usize,
    rank: usize,
) -> Vec<Node<'b>> {
    let all = linear(b, name, embedding, width, count * width, Start::Zero);
    let mut dims = vec![1; rank];
    dims[0] = -1;
    dims[rank - 1] = width as i64;
    (0..count).map(|k| columns(all, k * width, width).reshape(&dims)).collect()
}

/// Columns `from..from + count` of the last axis.
pub(crate) fn columns(x: Node<'_>, from: usize, count: usize) -> Node<'_> {
    let shape = x.shape();
    let (mut start, mut stop) = (vec![0; shape.len()], shape.to_vec());
    if let (Some(lo), Some(hi)) = (start.last_mut(), stop.last_mut()) {
        *lo = from as i64;
        *hi = (from + count) as i64;
    }
    x.slice(&start, &stop)
}

/// Layer norm with a shift and scale from the noise embedding (Peebles and Xie 2023).
pub(crate) fn modulated_norm<'b>(x: Node<'b>, shift: Node<'b>, scale: Node<'b>) -> Node<'b> {
    x.layer_norm(EPS) * (scale + 1.0) + shift
}
