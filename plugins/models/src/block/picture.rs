//! Layers on pictures `[rows, channels, height, width]`: convolutions, group norms, and changes of resolution by 2, exact
//! ones or by a short filter as StyleGAN and its heirs do.

use super::layer::Start;
use diffx_plugin::{Attr, Builder, Init, Node, attr, op};

/// A convolution of odd `kernel` that keeps the resolution: `name.weight` [out, in, kernel, kernel] and `name.bias`.
pub(crate) fn conv2d<'b>(
    b: Builder<'b>,
    name: &str,
    x: Node<'b>,
    channels: [usize; 2],
    kernel: usize,
    start: Start,
) -> Node<'b> {
    let pad = kernel as i64 / 2;
    conv2d_with(b, name, x, channels, kernel, (1, [pad; 4]), start)
}

/// The same that moves by a stride; zeros are [above, below, left, right].
pub(crate) fn conv2d_with<'b>(
    b: Builder<'b>,
    name: &str,
    x: Node<'b>,
    channels: [usize; 2],
    kernel: usize,
    (stride, zeros): (i64, [i64; 4]),
    start: Start,
) -> Node<'b> {
    let w = kernel_weight(b, name, channels, kernel, start);
    x.conv(w, bias(b, name, channels[1]), &geometry(&[stride, stride], &zeros))
}

/// `name.weight` of a convolution.
pub(crate) fn kernel_weight<'b>(
    b: Builder<'b>,
    name: &str,
    [inputs, outputs]: [usize; 2],
    kernel: usize,
    start: Start,
) -> Node<'b> {
    let shape = [outputs as i64, inputs as i64, kernel as i64, kernel as i64];
    b.weight(&format!("{name}.weight"), &shape, start.init(inputs * kernel * kernel))
}

pub(crate) fn bias<'b>(b: Builder<'b>, name: &str, outputs: usize) -> Node<'b> {
    b.weight(&format!("{name}.bias"), &[outputs as i64], Init::Zeros)
}

fn geometry<'a>(stride: &'a [i64; 2], zeros: &'a [i64; 4]) -> [Attr<'a>; 2] {
    [Attr::ints(attr::STRIDE, stride), Attr::ints(attr::PADDING, zeros)]
}

/// Group norm with `name.weight` and `name.bias` per channel.
pub(crate) fn group_norm<'b>(
    b: Builder<'b>,
    name: &str,
    x: Node<'b>,
    channels: usize,
    groups: usize,
    eps: f64,
) -> Node<'b> {
    let scale = b.weight(&format!("{name}.weight"), &[channels as i64], Init::Ones);
    let shift = b.weight(&format!("{name}.bias"), &[channels as i64], Init::Zeros);
    x.group_norm(groups as i64, scale, shift, eps)
}

/// A vector `[rows, channels]` beside pictures.
pub(crate) fn beside(vector: Node<'_>) -> Node<'_> {
    let channels = vector.shape().get(1).copied().unwrap_or(1);
    vector.reshape(&[-1, channels, 1, 1])
}

/// `[rows, channels, h, w]` to `[rows, h w, channels]`.
pub(crate) fn to_tokens(x: Node<'_>) -> Node<'_> {
    let [_, c, h, w] = *x.shape() else { return x };
    x.reshape(&[-1, c, h * w]).transpose(&[0, 2, 1])
}

/// `[rows, h w, channels]` as a picture of the size of `like`.
pub(crate) fn to_picture<'b>(x: Node<'b>, like: Node<'b>) -> Node<'b> {
    let [_, _, c] = *x.shape() else { return x };
    let [_, _, h, w] = *like.shape() else { return x };
    x.transpose(&[0, 2, 1]).reshape(&[-1, c, h, w])
}

/// A change of resolution by 2: of each axis, a filter of an even number of taps, in its own units.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Filter(Vec<f64>);

impl Filter {
    /// Nothing for filters that references cannot run either: of odd length, empty, or of sum 0.
    pub(crate) fn new(taps: &[f64]) -> Option<Self> {
        let sum: f64 = taps.iter().sum();
        let fits = taps.len() >= 2 && taps.len().is_multiple_of(2) && sum != 0.0;
        fits.then(|| Self(taps.iter().map(|t| t / sum).collect()))
    }

    /// Means of 2 x 2, and nearest neighbours on the way back.
    pub(crate) fn mean() -> Self {
        Self(vec![0.5, 0.5])
    }

    /// 1, 3, 3, 1: that of NCSN++.
    pub(crate) fn fir() -> Self {
        Self(vec![0.125, 0.375, 0.375, 0.125])
    }

    fn is_mean(&self) -> bool {
        self.0 == [0.5, 0.5]
    }

    /// Zeros on each side that keep half (or twice) the resolution.
    pub(crate) fn zeros(&self) -> i64 {
        (self.0.len() as i64 - 1) / 2
    }

    /// Half the resolution, after as many zeros on each side as are said.
    pub(crate) fn down<'b>(&self, x: Node<'b>, zeros: i64) -> Node<'b> {
        let shape = x.shape();
        let [rows, c, h, w] = *shape else { return x };
        if self.is_mean() && zeros == 0 {
            let (half_h, half_w) = (h / 2, w / 2);
            let even = x.slice(&[0, 0, 0, 0], &[rows, c, 2 * half_h, 2 * half_w]);
            let x = if (2 * half_h, 2 * half_w) == (h, w) { x } else { even };
            return x.reshape(&[rows, c, half_h, 2, half_w, 2]).mean(&[3, 5]);
        }
        let planes = x.reshape(&[rows * c, 1, h, w]);
        let ins = [planes, self.kernel(x.builder(), 1.0)];
        let y = x.builder().emit(op::CONV, &ins, &geometry(&[2, 2], &[zeros; 4]));
        let [_, _, h, w] = *y.shape() else { return y };
        y.reshape(&[rows, c, h, w])
    }

    /// Twice the resolution.
    pub(crate) fn up<'b>(&self, x: Node<'b>) -> Node<'b> {
        let shape = x.shape();
        let [rows, c, h, w] = *shape else { return x };
        if self.is_mean() {
            let x = x.reshape(&[rows, c, h, 1, w, 1]).broadcast_to(&[rows, c, h, 2, w, 2]);
            return x.reshape(&[rows, c, 2 * h, 2 * w]);
        }
        let planes = x.reshape(&[rows * c, 1, h, w]);
        let (out, zeros) = ([rows * c, 1, 2 * h, 2 * w], [self.zeros(); 4]);
        let [stride, padding] = geometry(&[2, 2], &zeros);
        let ins = [planes, self.kernel(x.builder(), 4.0)];
        let attrs = [Attr::ints(attr::SHAPE, &out), stride, padding];
        x.builder().emit(op::CONV_INPUT_GRAD, &ins, &attrs).reshape(&[rows, c, 2 * h, 2 * w])
    }

    /// The filter of both axes, `[1, 1, taps, taps]`, times `gain`.
    fn kernel<'b>(&self, b: Builder<'b>, gain: f64) -> Node<'b> {
        let n = self.0.len() as i64;
        let cells = self.0.iter().flat_map(|y| self.0.iter().map(move |x| (gain * y * x) as f32));
        b.constant(&[1, 1, n, n], &cells.collect::<Vec<_>>()).cast(0)
    }
}
