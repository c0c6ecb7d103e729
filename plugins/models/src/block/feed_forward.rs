//! The part of a transformer block that acts on each position alone: two linear layers around an activation, or a gated
//! pair of them.

use super::layer::{columns, project};
use diffx_plugin::{Builder, Node};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activation {
    Relu,
    Silu,
    Gelu,
    GeluTanh,
    Mish,
}

impl Activation {
    pub(crate) fn of(self, x: Node<'_>) -> Node<'_> {
        match self {
            Self::Relu => x.relu(),
            Self::Silu => x.silu(),
            Self::Gelu => x.gelu(),
            Self::GeluTanh => x.gelu_tanh(),
            Self::Mish => x * x.softplus().tanh(),
        }
    }
}

/// Those of diffusers' blocks by their names in configurations, with the default first.
pub(crate) const ACTIVATIONS: &[(&str, Activation)] = &[
    ("silu", Activation::Silu),
    ("swish", Activation::Silu),
    ("mish", Activation::Mish),
    ("gelu", Activation::Gelu),
    ("relu", Activation::Relu),
];

/// Widths of the two layers, and whether they have biases.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wide {
    pub width: usize,
    pub inner: usize,
    pub bias: bool,
}

/// `out(act(in(x)))`.
pub(crate) fn plain<'b>(
    b: Builder<'b>,
    [first, second]: [&str; 2],
    x: Node<'b>,
    Wide { width, inner, bias }: Wide,
    act: Activation,
) -> Node<'b> {
    let h = act.of(project(b, first, x, width, inner, bias));
    project(b, second, h, inner, width, bias)
}

/// `out(value(x) act(gate(x)))` where one layer gives values, then gates (diffusers' GEGLU).
pub(crate) fn gated_halves<'b>(
    b: Builder<'b>,
    [first, second]: [&str; 2],
    x: Node<'b>,
    Wide { width, inner, bias }: Wide,
    act: Activation,
) -> Node<'b> {
    let both = project(b, first, x, width, 2 * inner, bias);
    let h = columns(both, 0, inner) * act.of(columns(both, inner, inner));
    project(b, second, h, inner, width, bias)
}

/// `out(act(gate(x)) up(x))`, three layers (Llama's SwiGLU).
pub(crate) fn gated<'b>(
    b: Builder<'b>,
    [gate, up, out]: [&str; 3],
    x: Node<'b>,
    Wide { width, inner, bias }: Wide,
    act: Activation,
) -> Node<'b> {
    let h = act.of(project(b, gate, x, width, inner, bias));
    project(b, out, h * project(b, up, x, width, inner, bias), inner, width, bias)
}
