//! Layers with weights of their own. Names and layouts are those of frameworks: a linear layer's weight is `[out, in]`, a
//! convolution's `[out, in, kernel..]`, a norm has a `weight` and a `bias`.

use diffx_plugin::{Attr, Builder, Init, Node, attr, op};

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
    pub(crate) fn init(self, fan_in: usize) -> Init {
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

/// The same, or without the bias.
pub(crate) fn project<'b>(
    b: Builder<'b>,
    name: &str,
    x: Node<'b>,
    inputs: usize,
    outputs: usize,
    bias: bool,
) -> Node<'b> {
    if bias {
        return linear(b, name, x, inputs, outputs, Start::Spread);
    }
    let shape = [outputs as i64, inputs as i64];
    let w = b.weight(&format!("{name}.weight"), &shape, Start::Spread.init(inputs));
    b.emit(op::MATMUL, &[x, w], &[Attr::int(attr::TRANS_B, 1)])
}

/// Layer norm over the last axis with `name.weight` and `name.bias`.
pub(crate) fn layer_norm<'b>(
    b: Builder<'b>,
    name: &str,
    x: Node<'b>,
    width: usize,
    eps: f64,
) -> Node<'b> {
    let w = b.weight(&format!("{name}.weight"), &[width as i64], Init::Ones);
    let bias = b.weight(&format!("{name}.bias"), &[width as i64], Init::Zeros);
    b.emit(op::LAYER_NORM, &[x, w, bias], &[Attr::float(attr::EPS, eps)])
}

/// Root mean square norm over the last axis with `name.weight`.
pub(crate) fn rms_norm<'b>(
    b: Builder<'b>,
    name: &str,
    x: Node<'b>,
    width: usize,
    eps: f64,
) -> Node<'b> {
    x.rms_norm(b.weight(&format!("{name}.weight"), &[width as i64], Init::Ones), eps)
}

/// A convolution of kernel 1 over `[rows, inputs, time]`: a linear layer per position, its weight `[out, in, 1]`.
pub(crate) fn conv1x1<'b>(
    b: Builder<'b>,
    name: &str,
    x: Node<'b>,
    inputs: usize,
    outputs: usize,
    start: Start,
) -> Node<'b> {
    let shape = [outputs as i64, inputs as i64, 1];
    let w = b.weight(&format!("{name}.weight"), &shape, start.init(inputs));
    let bias = b.weight(&format!("{name}.bias"), &[outputs as i64], Init::Zeros);
    x.conv(w, bias, &[])
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
