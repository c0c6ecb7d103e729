//! The op table: one row per op. Code, name, arity, attributes, class, tolerances and meaning stand here and nowhere
//! else; shape inference, gradients, the f64 reference, backends, docs and conformance tests walk this table.
//!
//! Conventions: tensors are row-major; every op has one output; binary and ternary pointwise ops broadcast as NumPy
//! does; axes may be negative (from the end) when emitted and are stored non-negative. Adding an op: a row here, a
//! shape rule in `infer`, a gradient in `grad`, a reference in `reference`, a kernel per backend. Codes are ABI:
//! never renumber, a changed meaning is a new code.

use crate::base::DType;

/// How an op computes, which decides who handles it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// No inputs from the graph; bound before a run (input, weight, constant) or a pattern (full, iota).
    Source,
    /// Element by element with broadcasting; these fuse.
    Pointwise,
    /// Over axes of one tensor.
    Reduce,
    /// Products of two tensors.
    Contract,
    /// Along trailing axes or groups: normalisation, softmax.
    Norm,
    /// Addressing by data.
    Index,
    /// Moves elements, computes nothing.
    Layout,
    /// Draws.
    Random,
    /// Rewritten into other ops while building.
    Meta,
}

macro_rules! attr_keys {
    ($($name:ident = $code:literal, $kind:ident, $text:literal, $meaning:literal;)*) => {
        /// Attribute keys of ops.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u32)]
        pub enum AttrKey { $(#[doc = $meaning] $name = $code,)* }

        impl AttrKey {
            pub const ALL: &'static [Self] = &[$(Self::$name),*];
            pub const fn name(self) -> &'static str { match self { $(Self::$name => $text,)* } }
            pub const fn kind(self) -> AttrKind { match self { $(Self::$name => AttrKind::$kind,)* } }
            pub const fn from_code(code: u32) -> Option<Self> {
                match code { $($code => Some(Self::$name),)* _ => None }
            }
        }
    };
}

/// What an attribute holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttrKind {
    Int,
    Float,
    Ints,
}

attr_keys! {
    Axis = 1, Int, "axis", "one axis; negative counts from the end";
    Axes = 2, Ints, "axes", "several axes; absent or empty = all";
    KeepDims = 3, Int, "keepdims", "1 keeps reduced axes with length 1";
    Shape = 4, Ints, "shape", "result shape";
    Perm = 5, Ints, "perm", "permutation of axes";
    Start = 6, Ints, "start", "first index per axis";
    Stop = 7, Ints, "stop", "one past the last index per axis";
    Step = 8, Ints, "step", "stride per axis, at least 1; absent = 1";
    Epsilon = 9, Float, "eps", "added to the variance";
    Groups = 10, Int, "groups", "channel groups; default 1";
    Stride = 11, Ints, "stride", "per spatial axis; default 1";
    Padding = 12, Ints, "padding", "zeros per spatial axis: [lo, hi] pairs, or one number per axis for both sides";
    Dilation = 13, Ints, "dilation", "per spatial axis; default 1";
    TransA = 14, Int, "trans_a", "1 = use the first operand with its last two axes swapped";
    TransB = 15, Int, "trans_b", "1 = use the second operand with its last two axes swapped";
    Activation = 16, Int, "act", "0 none, else the code of a unary op (relu, silu, gelu, gelu_tanh, sigmoid, tanh)";
    Nu = 17, Float, "nu", "order of the Bessel function, above -1";
    DType = 18, Int, "dtype", "element type code; 0 = the graph's float type";
    Value = 19, Float, "value", "fill value";
    K = 20, Int, "k", "how many";
    Causal = 21, Int, "causal", "1 = position i attends to positions up to i (aligned at the end)";
    Scale = 22, Float, "scale", "score scale; default 1/sqrt(head dim)";
    Descending = 23, Int, "descending", "1 = largest first";
    Reverse = 24, Int, "reverse", "1 = from the end";
    Exclusive = 25, Int, "exclusive", "1 = without the element itself";
    Lo = 26, Ints, "lo", "elements added before, per axis";
    Hi = 27, Ints, "hi", "elements added after, per axis";
    Purpose = 28, Int, "purpose", "RNG purpose, 0..255 (DFX_PURPOSE_*)";
    Ordinal = 29, Int, "ordinal", "which node of its purpose; set by the builder";
    RangeLo = 30, Float, "range_lo", "start of the Brownian interval";
    RangeHi = 31, Float, "range_hi", "end of the Brownian interval";
    Depth = 32, Int, "depth", "levels of bisection, 1..31; default 24";
    Order = 33, Int, "order", "order of the polygamma function, from 0";
    Index = 34, Int, "index", "which input, weight or constant; set by the builder";
    Sizes = 35, Ints, "sizes", "extent per axis";
}

/// One row of the op table.
#[derive(Debug, Clone, Copy)]
pub struct OpInfo {
    pub op: Op,
    pub code: u32,
    pub name: &'static str,
    pub class: Class,
    /// Fewest and most inputs.
    pub arity: (usize, usize),
    pub required: &'static [AttrKey],
    pub optional: &'static [AttrKey],
    /// Largest |got - want| / max(floor, |want|) against the f64 reference in f32; in f64 it is `1e-12` unless the
    /// op says otherwise in `tolerance`.
    pub tolerance_f32: f64,
    pub meaning: &'static str,
}

macro_rules! op_table {
    ($($name:ident = $code:literal, $text:literal, $class:ident, $lo:literal..$hi:literal,
       [$($req:ident)*], [$($opt:ident)*], $tol:literal, $meaning:literal;)*) => {
        /// An operation.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u32)]
        #[allow(rustdoc::broken_intra_doc_links)] // what an op means is said in shapes, [batch, ..]
        pub enum Op { $(#[doc = $meaning] $name = $code,)* }

        /// Every op, in code order.
        pub const OPS: &[OpInfo] = &[$(OpInfo {
            op: Op::$name, code: $code, name: $text, class: Class::$class, arity: ($lo, $hi),
            required: &[$(AttrKey::$req),*], optional: &[$(AttrKey::$opt),*], tolerance_f32: $tol, meaning: $meaning,
        }),*];

        impl Op {
            pub const fn from_code(code: u32) -> Option<Self> {
                match code { $($code => Some(Self::$name),)* _ => None }
            }

            pub fn info(self) -> &'static OpInfo {
                // the discriminant is not the position; the match is a jump table over it
                const POSITION: [u8; 256] = {
                    let mut table = [255u8; 256];
                    let mut i = 0;
                    while i < OPS.len() {
                        table[OPS[i].code as usize] = i as u8;
                        i += 1;
                    }
                    table
                };
                &OPS[POSITION[self as usize] as usize]
            }
        }
    };
}

op_table! {
    // ---- sources
    Input = 1, "input", Source, 0..0, [Index], [], 0.0, "a tensor bound by the caller for each run";
    Weight = 2, "weight", Source, 0..0, [Index], [], 0.0, "a parameter of the model, bound by name";
    Constant = 3, "constant", Source, 0..0, [Index], [], 0.0, "a tensor given while building";
    Full = 4, "full", Source, 0..0, [Value], [Shape DType], 0.0, "every element is `value`; scalar unless `shape` is given";
    Iota = 5, "iota", Source, 0..0, [Shape Axis], [DType], 0.0, "element = its index along `axis`";
    // ---- pointwise, one operand
    Neg = 10, "neg", Pointwise, 1..1, [], [], 0.0, "-x";
    Abs = 11, "abs", Pointwise, 1..1, [], [], 0.0, "|x|, gradient sign(x)";
    Sign = 12, "sign", Pointwise, 1..1, [], [], 0.0, "-1, 0 or 1";
    Recip = 13, "recip", Pointwise, 1..1, [], [], 2e-7, "1/x";
    Square = 14, "square", Pointwise, 1..1, [], [], 2e-7, "x*x";
    Sqrt = 15, "sqrt", Pointwise, 1..1, [], [], 2e-7, "square root; gradient at 0 is 0, so that a clamped root trains";
    Rsqrt = 16, "rsqrt", Pointwise, 1..1, [], [], 4e-7, "1/sqrt(x)";
    Exp = 17, "exp", Pointwise, 1..1, [], [], 5e-7, "e^x";
    Expm1 = 18, "expm1", Pointwise, 1..1, [], [], 5e-7, "e^x - 1 without cancellation";
    Log = 19, "log", Pointwise, 1..1, [], [], 5e-7, "natural logarithm";
    Log1p = 20, "log1p", Pointwise, 1..1, [], [], 5e-7, "log(1 + x) without cancellation";
    Sin = 21, "sin", Pointwise, 1..1, [], [], 5e-7, "sine";
    Cos = 22, "cos", Pointwise, 1..1, [], [], 5e-7, "cosine";
    Tanh = 23, "tanh", Pointwise, 1..1, [], [], 5e-7, "hyperbolic tangent";
    Sigmoid = 24, "sigmoid", Pointwise, 1..1, [], [], 5e-7, "1/(1 + e^-x)";
    Silu = 25, "silu", Pointwise, 1..1, [], [], 1e-6, "x sigmoid(x)";
    Gelu = 26, "gelu", Pointwise, 1..1, [], [], 1e-6, "x Phi(x) by erf";
    GeluTanh = 27, "gelu_tanh", Pointwise, 1..1, [], [], 1e-6, "the tanh approximation of gelu";
    Relu = 28, "relu", Pointwise, 1..1, [], [], 0.0, "max(x, 0), gradient 0 at 0";
    Softplus = 29, "softplus", Pointwise, 1..1, [], [], 1e-6, "log(1 + e^x)";
    Erf = 30, "erf", Pointwise, 1..1, [], [], 5e-7, "error function";
    Floor = 31, "floor", Pointwise, 1..1, [], [], 0.0, "round down; gradient 0";
    Ceil = 32, "ceil", Pointwise, 1..1, [], [], 0.0, "round up; gradient 0";
    Round = 33, "round", Pointwise, 1..1, [], [], 0.0, "to nearest, ties to even; gradient 0";
    Not = 34, "not", Pointwise, 1..1, [], [], 0.0, "of bool";
    IsFinite = 35, "is_finite", Pointwise, 1..1, [], [], 0.0, "bool: neither infinite nor NaN";
    Cast = 36, "cast", Pointwise, 1..1, [DType], [], 0.0, "to another element type; float to int truncates and saturates, NaN to 0; to bool is != 0";
    StopGradient = 37, "stop_gradient", Pointwise, 1..1, [], [], 0.0, "the value, with no gradient through it";
    Lgamma = 38, "lgamma", Pointwise, 1..1, [], [], 2e-6, "log |Gamma(x)|";
    Polygamma = 39, "polygamma", Pointwise, 1..1, [], [Order], 4e-6, "(order+1)-th derivative of lgamma, x > 0; order 0 is digamma";
    LogNdtr = 40, "log_ndtr", Pointwise, 1..1, [], [], 2e-6, "log of the standard normal CDF, stable far into the left tail";
    BesselRatio = 41, "bessel_ratio", Pointwise, 1..1, [Nu], [], 1e-6, "R_nu(z) = I_{nu+1}(z)/I_nu(z), z >= 0 (specs processes 1.2)";
    LogIve = 42, "log_ive", Pointwise, 1..1, [Nu], [], 2e-6, "log(e^-z I_nu(z)), z >= 0";
    // ---- pointwise, two and three operands
    Add = 50, "add", Pointwise, 2..2, [], [], 2e-7, "a + b";
    Sub = 51, "sub", Pointwise, 2..2, [], [], 2e-7, "a - b";
    Mul = 52, "mul", Pointwise, 2..2, [], [], 2e-7, "a b";
    Div = 53, "div", Pointwise, 2..2, [], [], 2e-7, "a / b; of integers truncates, by zero gives 0";
    Pow = 54, "pow", Pointwise, 2..2, [], [], 4e-6, "a^b; gradient by b only where a > 0";
    Min = 55, "min", Pointwise, 2..2, [], [], 0.0, "smaller; NaN if either is; ties send half the gradient to each";
    Max = 56, "max", Pointwise, 2..2, [], [], 0.0, "larger; NaN if either is; ties send half the gradient to each";
    Rem = 57, "rem", Pointwise, 2..2, [], [], 2e-7, "remainder with the sign of the divisor; of integers by zero gives 0";
    Eq = 60, "eq", Pointwise, 2..2, [], [], 0.0, "bool a == b";
    Ne = 61, "ne", Pointwise, 2..2, [], [], 0.0, "bool a != b";
    Lt = 62, "lt", Pointwise, 2..2, [], [], 0.0, "bool a < b";
    Le = 63, "le", Pointwise, 2..2, [], [], 0.0, "bool a <= b";
    Gt = 64, "gt", Pointwise, 2..2, [], [], 0.0, "bool a > b";
    Ge = 65, "ge", Pointwise, 2..2, [], [], 0.0, "bool a >= b";
    And = 66, "and", Pointwise, 2..2, [], [], 0.0, "of bools";
    Or = 67, "or", Pointwise, 2..2, [], [], 0.0, "of bools";
    Where = 70, "where", Pointwise, 3..3, [], [], 0.0, "condition (bool) ? a : b; the branch not taken gets gradient exactly 0";
    // ---- reductions; a fixed pairwise order per row, independent of batch and threads
    Sum = 80, "sum", Reduce, 1..1, [], [Axes KeepDims], 2e-6, "over axes";
    Mean = 81, "mean", Reduce, 1..1, [], [Axes KeepDims], 2e-6, "over axes";
    ReduceMax = 82, "reduce_max", Reduce, 1..1, [], [Axes KeepDims], 0.0, "over axes; ties share the gradient evenly";
    ReduceMin = 83, "reduce_min", Reduce, 1..1, [], [Axes KeepDims], 0.0, "over axes; ties share the gradient evenly";
    Prod = 84, "prod", Reduce, 1..1, [], [Axes KeepDims], 4e-6, "over axes; gradient right with zeros too";
    ArgMax = 85, "argmax", Reduce, 1..1, [Axis], [KeepDims], 0.0, "i32 index of the first largest";
    ArgMin = 86, "argmin", Reduce, 1..1, [Axis], [KeepDims], 0.0, "i32 index of the first smallest";
    LogSumExp = 87, "logsumexp", Reduce, 1..1, [], [Axes KeepDims], 2e-6, "log sum exp over axes; -inf for a row of -inf";
    CumSum = 88, "cumsum", Reduce, 1..1, [Axis], [Reverse Exclusive], 4e-6, "running sum";
    // ---- along an axis
    Softmax = 95, "softmax", Norm, 1..1, [Axis], [], 2e-6, "e^x normalised along the axis; a row of -inf gives zeros";
    LogSoftmax = 96, "log_softmax", Norm, 1..1, [Axis], [], 2e-6, "log of softmax";
    // ---- products
    MatMul = 100, "matmul", Contract, 2..3, [], [TransA TransB Activation], 1e-5, "a[..,m,k] b[..,k,n] (+ bias[n]), then `act`; leading axes broadcast; b and bias may be f16 or bf16, accumulation in a's type";
    Conv = 101, "conv", Contract, 2..3, [], [Stride Padding Dilation Groups], 1e-5, "x[n,c,l] or [n,c,h,w] with w[o,c/groups,k..] (+ bias[o])";
    ConvInputGrad = 102, "conv_input_grad", Contract, 2..2, [Shape], [Stride Padding Dilation Groups], 1e-5, "(g, w): gradient of conv by its input of `shape`; also the transposed convolution";
    ConvWeightGrad = 103, "conv_weight_grad", Contract, 2..2, [Shape], [Stride Padding Dilation Groups], 1e-5, "(x, g): gradient of conv by its weight of `shape`";
    Attention = 104, "attention", Contract, 3..4, [], [Causal Scale], 1e-5, "softmax(q k^T scale + mask) v; q[..,s,d] k[..,t,d] v[..,t,e]; mask broadcasts to [..,s,t]: bool (true = attend) or additive float; a row that attends to nothing gives zeros";
    // ---- normalisation
    LayerNorm = 110, "layer_norm", Norm, 1..3, [Epsilon], [], 1e-5, "over the last axis, biased variance; optional scale and bias of that length";
    GroupNorm = 111, "group_norm", Norm, 1..3, [Epsilon Groups], [], 1e-5, "x[n,c,..] over each group of channels and all positions; optional scale[c] and bias[c]";
    RmsNorm = 112, "rms_norm", Norm, 1..2, [Epsilon], [], 1e-5, "x / sqrt(mean x^2 + eps) over the last axis; optional scale";
    // ---- addressing; indices are i32 or i64 and are clamped into range
    Gather = 120, "gather", Index, 2..2, [Axis], [], 0.0, "(x, idx): slices of x at idx along the axis; result x[..axis] ++ idx.shape ++ x[axis+1..]";
    ScatterAdd = 121, "scatter_add", Index, 3..3, [Axis], [], 2e-6, "(x, idx, u): x with u added at idx along the axis, in index order; the transpose of gather";
    TakeAlong = 122, "take_along", Index, 2..2, [Axis], [], 0.0, "(x, idx): element-wise lookup along the axis; idx has x's shape except on the axis";
    ScatterAddAlong = 123, "scatter_add_along", Index, 3..3, [Axis], [], 2e-6, "(x, idx, u): the transpose of take_along, added to x";
    Sort = 124, "sort", Index, 1..1, [Axis], [Descending], 0.0, "stable; NaN last";
    ArgSort = 125, "argsort", Index, 1..1, [Axis], [Descending], 0.0, "i32 indices of the stable sort";
    TopK = 126, "top_k", Index, 1..1, [Axis K], [], 0.0, "i32 indices of the k largest, largest first, ties by position; values by take_along";
    DynamicSlice = 127, "dynamic_slice", Index, 2..2, [Sizes], [], 0.0, "(x, start i32[rank]): a block of `sizes`; start is clamped so that the block fits";
    DynamicUpdate = 128, "dynamic_update", Index, 3..3, [], [], 0.0, "(x, u, start i32[rank]): x with the block u written at start, clamped so that it fits";
    // ---- layout
    Reshape = 140, "reshape", Layout, 1..1, [Shape], [], 0.0, "same elements, new shape; one dimension may be -1";
    Transpose = 141, "transpose", Layout, 1..1, [Perm], [], 0.0, "permute the axes";
    BroadcastTo = 142, "broadcast_to", Layout, 1..1, [Shape], [], 0.0, "repeat axes of length 1";
    Slice = 143, "slice", Layout, 1..1, [Start Stop], [Step], 0.0, "a strided block; negative bounds count from the end, bounds are clamped";
    Pad = 144, "pad", Layout, 1..1, [Lo Hi], [Value], 0.0, "constant border, 0 unless `value`";
    Concat = 145, "concat", Layout, 1..64, [Axis], [], 0.0, "one after another along the axis";
    Flip = 146, "flip", Layout, 1..1, [Axes], [], 0.0, "reverse axes";
    // ---- draws; axis 0 is the batch, each row is a sample id (architecture idea 5); no gradient flows into a draw
    Normal = 160, "normal", Random, 0..0, [Shape Purpose], [DType Ordinal], 0.0, "standard normal draws";
    Uniform = 161, "uniform", Random, 0..0, [Shape Purpose], [DType Ordinal], 0.0, "uniform draws in (0,1)";
    Gamma = 162, "gamma", Random, 1..1, [Purpose], [Ordinal], 0.0, "(shape parameter): Gamma(a, scale 1) draws; a = 0 gives 0";
    Poisson = 163, "poisson", Random, 1..1, [Purpose], [Ordinal], 0.0, "(mean): Poisson draws as floats";
    Categorical = 164, "categorical", Random, 1..1, [Purpose], [Ordinal], 0.0, "(logits [batch,..,k]): i32 draws [batch,..], by inverse CDF in f64; a row of -inf, or with a NaN, gives 0";
    Brownian = 165, "brownian", Random, 2..2, [Shape Purpose RangeLo RangeHi], [DType Depth Ordinal], 0.0, "(s0[batch], s1[batch]): W(s1) - W(s0) of one Brownian motion per element, consistent under bisection and independent of when it is asked; W is per (purpose, ordinal), not per step";
    // ---- rewrites
    Grad = 180, "grad", Meta, 3..65, [], [], 0.0, "(y, cotangent, xs..): gradients of <y, cotangent> by each x; emitted as ordinary ops";
    Jvp = 181, "jvp", Meta, 3..65, [], [], 0.0, "(y, xs.., tangents..): directional derivative of y; each x moves along its own tangent, also where it was made from another x";
}

impl OpInfo {
    /// Below this size of the reference an error counts as if the reference were this large: 1 for ops that subtract,
    /// and next to nothing for those whose small results are right to their last digits too.
    pub fn floor(&self) -> f64 {
        use Op::{
            BesselRatio, Div, Erf, Exp, Expm1, Log1p, Recip, Rsqrt, Sigmoid, Softmax, Softplus,
            Sqrt, Square, Tanh,
        };
        match self.op {
            Recip | Square | Sqrt | Rsqrt | Exp | Expm1 | Log1p | Tanh | Sigmoid | Softplus
            | Erf | BesselRatio | Div | Softmax => 1e-37,
            _ => 1.0,
        }
    }

    /// Largest error against the f64 reference, relative to max(floor, |reference|).
    pub fn tolerance(&self, dtype: DType) -> f64 {
        match dtype {
            DType::F64 if self.tolerance_f32 == 0.0 => 0.0,
            DType::F64 => 1e-12,
            _ => self.tolerance_f32,
        }
    }
}

impl Op {
    pub fn name(self) -> &'static str {
        self.info().name
    }

    pub fn class(self) -> Class {
        self.info().class
    }

    pub const fn code(self) -> u32 {
        self as u32
    }
}
