//! A value in the graph, with arithmetic: a formula in a plugin reads as it stands on paper.
//!
//! `Node` is two words and `Copy`. Operators take nodes and `f64` on either side and broadcast as NumPy does. Methods
//! whose names Rust reserves are spelled out (`less`, `equals`, `choose`).

use crate::abi::{self, attr, op};
use crate::builder::{Attr, Builder, Shape};
use core::fmt;
use core::ops::{Add, BitAnd, BitOr, Div, Mul, Neg, Not, Rem, Sub};

/// A tensor that will exist when the graph runs.
#[derive(Clone, Copy)]
pub struct Node<'b> {
    pub(crate) id: abi::Node,
    pub(crate) b: Builder<'b>,
}

/// What may stand beside a node: another node or a number.
pub trait Operand<'b> {
    fn node(self, b: Builder<'b>) -> Node<'b>;
}

impl<'b> Operand<'b> for Node<'b> {
    #[inline]
    fn node(self, _: Builder<'b>) -> Self {
        self
    }
}

impl<'b> Operand<'b> for f64 {
    #[inline]
    fn node(self, b: Builder<'b>) -> Node<'b> {
        b.scalar(self)
    }
}

macro_rules! operators {
    ($($trait:ident $method:ident $code:ident;)*) => {$(
        impl<'b, R: Operand<'b>> $trait<R> for Node<'b> {
            type Output = Self;
            #[inline]
            fn $method(self, right: R) -> Self {
                self.binary(op::$code, right)
            }
        }

        impl<'b> $trait<Node<'b>> for f64 {
            type Output = Node<'b>;
            #[inline]
            fn $method(self, right: Node<'b>) -> Node<'b> {
                right.b.scalar(self).binary(op::$code, right)
            }
        }
    )*};
}

operators! {
    Add add ADD;
    Sub sub SUB;
    Mul mul MUL;
    Div div DIV;
    Rem rem REM;
}

impl Neg for Node<'_> {
    type Output = Self;
    #[inline]
    fn neg(self) -> Self {
        self.unary(op::NEG)
    }
}

impl Not for Node<'_> {
    type Output = Self;
    #[inline]
    fn not(self) -> Self {
        self.unary(op::NOT)
    }
}

impl BitAnd for Node<'_> {
    type Output = Self;
    #[inline]
    fn bitand(self, right: Self) -> Self {
        self.binary(op::AND, right)
    }
}

impl BitOr for Node<'_> {
    type Output = Self;
    #[inline]
    fn bitor(self, right: Self) -> Self {
        self.binary(op::OR, right)
    }
}

/// Methods that emit an op of one operand, and of two.
macro_rules! methods {
    (one [$($name:ident $code:ident $doc:literal;)*] two [$($name2:ident $code2:ident $doc2:literal;)*]) => {
        impl<'b> Node<'b> {
            $(#[doc = $doc] #[inline] #[must_use] pub fn $name(self) -> Self { self.unary(op::$code) })*
            $(#[doc = $doc2] #[inline] #[must_use]
              pub fn $name2(self, right: impl Operand<'b>) -> Self { self.binary(op::$code2, right) })*
        }
    };
}

methods! {
    one [
    abs ABS "`|x|`";
    sign SIGN "-1, 0 or 1";
    recip RECIP "`1/x`";
    square SQUARE "`x x`";
    sqrt SQRT "square root";
    rsqrt RSQRT "`1/sqrt(x)`";
    exp EXP "`e^x`";
    expm1 EXPM1 "`e^x - 1` without cancellation";
    log LOG "natural logarithm";
    log1p LOG1P "`log(1 + x)` without cancellation";
    sin SIN "sine";
    cos COS "cosine";
    tanh TANH "hyperbolic tangent";
    sigmoid SIGMOID "`1/(1 + e^-x)`";
    silu SILU "`x sigmoid(x)`";
    gelu GELU "`x Phi(x)`";
    gelu_tanh GELU_TANH "the tanh approximation of gelu";
    relu RELU "`max(x, 0)`";
    softplus SOFTPLUS "`log(1 + e^x)`";
    erf ERF "error function";
    floor FLOOR "round down";
    ceil CEIL "round up";
    round ROUND "to nearest, ties to even";
    is_finite IS_FINITE "bool: neither infinite nor NaN";
    stop_gradient STOP_GRADIENT "the value, with no gradient through it";
    lgamma LGAMMA "`log |Gamma(x)|`";
    log_ndtr LOG_NDTR "log of the standard normal distribution function";
    ]
    two [
    pow POW "`a^b`";
    min MIN "the smaller";
    max MAX "the larger";
    equals EQ "bool";
    differs NE "bool";
    less LT "bool";
    less_eq LE "bool";
    greater GT "bool";
    greater_eq GE "bool";
    ]
}

impl<'b> Node<'b> {
    /// The graph this node belongs to.
    #[inline]
    pub const fn builder(self) -> Builder<'b> {
        self.b
    }

    /// Whether this is the node of a failed call.
    #[inline]
    pub const fn is_error(self) -> bool {
        self.id == 0
    }

    #[inline]
    fn unary(self, code: u32) -> Self {
        self.b.emit_ids(code, &[self.id], &[])
    }

    #[inline]
    fn binary(self, code: u32, right: impl Operand<'b>) -> Self {
        let right = right.node(self.b);
        self.b.emit_ids(code, &[self.id, right.id], &[])
    }

    #[inline]
    fn unary_with(self, code: u32, attrs: &[Attr<'_>]) -> Self {
        self.b.emit_ids(code, &[self.id], attrs)
    }

    // ---- pointwise with attributes, and choices

    /// Between two bounds.
    #[must_use]
    pub fn clamp(self, lo: impl Operand<'b>, hi: impl Operand<'b>) -> Self {
        self.max(lo).min(hi)
    }

    /// This bool node chooses: `self ? yes : no`.
    #[must_use]
    pub fn choose(self, yes: impl Operand<'b>, no: impl Operand<'b>) -> Self {
        let (yes, no) = (yes.node(self.b), no.node(self.b));
        self.b.emit_ids(op::WHERE, &[self.id, yes.id, no.id], &[])
    }

    /// To another element type; 0 is the graph's float type.
    #[must_use]
    pub fn cast(self, dtype: u32) -> Self {
        self.unary_with(op::CAST, &[Attr::int(attr::DTYPE, i64::from(dtype))])
    }

    /// The (order+1)-th derivative of lgamma; order 0 is digamma.
    #[must_use]
    pub fn polygamma(self, order: i64) -> Self {
        self.unary_with(op::POLYGAMMA, &[Attr::int(attr::ORDER, order)])
    }

    /// `I_{nu+1}(z) / I_nu(z)`, z at least 0.
    #[must_use]
    pub fn bessel_ratio(self, nu: f64) -> Self {
        self.unary_with(op::BESSEL_RATIO, &[Attr::float(attr::NU, nu)])
    }

    /// `log(e^-z I_nu(z))`, z at least 0.
    #[must_use]
    pub fn log_ive(self, nu: f64) -> Self {
        self.unary_with(op::LOG_IVE, &[Attr::float(attr::NU, nu)])
    }

    // ---- reductions; no axes = all of them

    #[must_use]
    pub fn sum(self, axes: &[i64]) -> Self {
        self.reduce(op::SUM, axes, false)
    }

    /// The reduced axes stay with length 1.
    #[must_use]
    pub fn sum_keep(self, axes: &[i64]) -> Self {
        self.reduce(op::SUM, axes, true)
    }

    #[must_use]
    pub fn mean(self, axes: &[i64]) -> Self {
        self.reduce(op::MEAN, axes, false)
    }

    #[must_use]
    pub fn mean_keep(self, axes: &[i64]) -> Self {
        self.reduce(op::MEAN, axes, true)
    }

    #[must_use]
    pub fn max_over(self, axes: &[i64]) -> Self {
        self.reduce(op::REDUCE_MAX, axes, false)
    }

    #[must_use]
    pub fn min_over(self, axes: &[i64]) -> Self {
        self.reduce(op::REDUCE_MIN, axes, false)
    }

    #[must_use]
    pub fn logsumexp(self, axes: &[i64]) -> Self {
        self.reduce(op::LOGSUMEXP, axes, false)
    }

    #[must_use]
    pub fn reduce(self, code: u32, axes: &[i64], keep: bool) -> Self {
        let attrs = [Attr::ints(attr::AXES, axes), Attr::int(attr::KEEPDIMS, i64::from(keep))];
        self.unary_with(code, &attrs)
    }

    #[must_use]
    pub fn argmax(self, axis: i64) -> Self {
        self.unary_with(op::ARGMAX, &[Attr::int(attr::AXIS, axis)])
    }

    #[must_use]
    pub fn cumsum(self, axis: i64) -> Self {
        self.unary_with(op::CUMSUM, &[Attr::int(attr::AXIS, axis)])
    }

    #[must_use]
    pub fn softmax(self, axis: i64) -> Self {
        self.unary_with(op::SOFTMAX, &[Attr::int(attr::AXIS, axis)])
    }

    #[must_use]
    pub fn log_softmax(self, axis: i64) -> Self {
        self.unary_with(op::LOG_SOFTMAX, &[Attr::int(attr::AXIS, axis)])
    }

    // ---- products

    #[must_use]
    pub fn matmul(self, right: Self) -> Self {
        self.b.emit_ids(op::MATMUL, &[self.id, right.id], &[])
    }

    /// `self W^T + bias`, W `[out, in]` and bias `[out]`, as frameworks store a linear layer.
    #[must_use]
    pub fn linear(self, w: Self, bias: Self) -> Self {
        let attrs = [Attr::int(attr::TRANS_B, 1)];
        self.b.emit_ids(op::MATMUL, &[self.id, w.id, bias.id], &attrs)
    }

    /// `x[n, c, l]` or `[n, c, h, w]` with `w[o, c/groups, k..]` and a bias; `attrs` as in the header.
    #[must_use]
    pub fn conv(self, w: Self, bias: Self, attrs: &[Attr<'_>]) -> Self {
        self.b.emit_ids(op::CONV, &[self.id, w.id, bias.id], attrs)
    }

    /// Softmax attention of this query `[.., s, d]` over keys `[.., t, d]` and values `[.., t, e]`.
    #[must_use]
    pub fn attention(self, k: Self, v: Self, causal: bool) -> Self {
        let attrs = [Attr::int(attr::CAUSAL, i64::from(causal))];
        self.b.emit_ids(op::ATTENTION, &[self.id, k.id, v.id], &attrs)
    }

    /// Over the last axis, without scale and bias.
    #[must_use]
    pub fn layer_norm(self, eps: f64) -> Self {
        self.unary_with(op::LAYER_NORM, &[Attr::float(attr::EPS, eps)])
    }

    #[must_use]
    pub fn group_norm(self, groups: i64, scale: Self, bias: Self, eps: f64) -> Self {
        let attrs = [Attr::float(attr::EPS, eps), Attr::int(attr::GROUPS, groups)];
        self.b.emit_ids(op::GROUP_NORM, &[self.id, scale.id, bias.id], &attrs)
    }

    #[must_use]
    pub fn rms_norm(self, scale: Self, eps: f64) -> Self {
        self.b.emit_ids(op::RMS_NORM, &[self.id, scale.id], &[Attr::float(attr::EPS, eps)])
    }

    // ---- addressing

    /// Slices of this at `index` along the axis.
    #[must_use]
    pub fn gather(self, index: Self, axis: i64) -> Self {
        self.b.emit_ids(op::GATHER, &[self.id, index.id], &[Attr::int(attr::AXIS, axis)])
    }

    /// Element-wise lookup along the axis.
    #[must_use]
    pub fn take_along(self, index: Self, axis: i64) -> Self {
        self.b.emit_ids(op::TAKE_ALONG, &[self.id, index.id], &[Attr::int(attr::AXIS, axis)])
    }

    // ---- layout

    /// One dimension may be -1.
    #[must_use]
    pub fn reshape(self, shape: &[i64]) -> Self {
        self.unary_with(op::RESHAPE, &[Attr::ints(attr::SHAPE, shape)])
    }

    #[must_use]
    pub fn transpose(self, perm: &[i64]) -> Self {
        self.unary_with(op::TRANSPOSE, &[Attr::ints(attr::PERM, perm)])
    }

    #[must_use]
    pub fn broadcast_to(self, shape: &[i64]) -> Self {
        self.unary_with(op::BROADCAST_TO, &[Attr::ints(attr::SHAPE, shape)])
    }

    /// A block; negative bounds count from the end.
    #[must_use]
    pub fn slice(self, start: &[i64], stop: &[i64]) -> Self {
        self.unary_with(op::SLICE, &[Attr::ints(attr::START, start), Attr::ints(attr::STOP, stop)])
    }

    /// Zeros before and after, per axis.
    #[must_use]
    pub fn pad(self, lo: &[i64], hi: &[i64]) -> Self {
        self.unary_with(op::PAD, &[Attr::ints(attr::LO, lo), Attr::ints(attr::HI, hi)])
    }

    // ---- draws with this node as their parameter

    /// Gamma(a, scale 1) draws.
    #[must_use]
    pub fn gamma(self, purpose: u32) -> Self {
        self.unary_with(op::GAMMA, &[Attr::int(attr::PURPOSE, i64::from(purpose))])
    }

    /// Poisson draws as floats.
    #[must_use]
    pub fn poisson(self, purpose: u32) -> Self {
        self.unary_with(op::POISSON, &[Attr::int(attr::PURPOSE, i64::from(purpose))])
    }

    /// i32 draws from logits `[batch, .., k]`.
    #[must_use]
    pub fn categorical(self, purpose: u32) -> Self {
        self.unary_with(op::CATEGORICAL, &[Attr::int(attr::PURPOSE, i64::from(purpose))])
    }

    // ---- facts

    /// Rank 0 for the error node.
    pub fn shape(self) -> Shape {
        self.describe().map_or_else(|| Shape::new(&[]), |desc| Shape::of(&desc))
    }

    /// Element type, 0 for the error node.
    pub fn dtype(self) -> u32 {
        self.describe().map_or(0, |desc| desc.dtype)
    }

    fn describe(self) -> Option<abi::Desc> {
        let mut desc = abi::Desc { dtype: 0, rank: 0, dims: [0; abi::MAX_RANK] };
        let describe = self.b.core.services.graph.describe?;
        // Safety: the graph is the one of this build call, and desc is a whole dfx_desc.
        let status = unsafe { describe(self.b.core.graph, self.id, &mut desc) };
        (status == abi::OK).then_some(desc)
    }
}

impl fmt::Debug for Node<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {}", self.id)
    }
}
