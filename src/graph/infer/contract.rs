//! Products of tensors: matmul, the three convolutions (each bilinear in the other two), attention.

use super::Call;
use crate::bail;
use crate::base::{DType, Desc, Result, Shape};
use crate::graph::attr::Value;
use crate::graph::op::{AttrKey, Op};

/// Unary ops that a matmul may apply to its result.
pub(crate) const ACTIVATIONS: &[Op] =
    &[Op::Relu, Op::Silu, Op::Gelu, Op::GeluTanh, Op::Sigmoid, Op::Tanh];

pub(super) fn rule(call: &mut Call<'_>) -> Result<Desc> {
    call.want_float(0)?;
    match call.op {
        Op::MatMul => matmul(call),
        Op::Attention => attention(call),
        _ => conv_family(call),
    }
}

fn matmul(call: &mut Call<'_>) -> Result<Desc> {
    let (a, b) = (call.input(0), call.input(1));
    call.want(0, a.shape.rank() >= 2, "rank 2 or more")?;
    call.want(1, b.shape.rank() >= 2, "rank 2 or more")?;
    call.want_like_first(1, true)?;
    let (m, k) = last_two(a.shape, call.flag(AttrKey::TransA)?);
    let (inner, n) = last_two(b.shape, call.flag(AttrKey::TransB)?);
    if k != inner {
        bail!(Invalid, "matmul: {}: inner sizes {k} and {inner} differ", call.operands());
    }
    let (a_lead, b_lead) = (&a.dims()[..a.shape.rank() - 2], &b.dims()[..b.shape.rank() - 2]);
    let Some(lead) = Shape::new(a_lead)?.broadcast(&Shape::new(b_lead)?) else {
        bail!(Invalid, "matmul: {}: leading axes do not broadcast", call.operands());
    };
    if call.inputs.len() == 3 {
        call.want_like_first(2, true)?;
        want_bias(call, 2, n)?;
    }
    let act = call.attrs.int(AttrKey::Activation, 0);
    if act != 0 && !ACTIVATIONS.iter().any(|op| i64::from(op.code()) == act) {
        bail!(Invalid, "matmul: act is {act}, want 0 or the code of an activation");
    }
    call.attrs.set(AttrKey::Activation, Value::Int(act));
    call.desc(a.dtype, &[lead.dims(), &[m, n]].concat())
}

/// Rows and columns of a matrix operand of rank 2 or more, after the optional swap.
fn last_two(shape: Shape, swapped: bool) -> (usize, usize) {
    let (rows, cols) = (shape.dim(shape.rank() - 2), shape.dim(shape.rank() - 1));
    if swapped { (cols, rows) } else { (rows, cols) }
}

fn want_bias(call: &Call<'_>, i: usize, length: usize) -> Result<()> {
    if call.input(i).dims() != [length] {
        bail!(
            Invalid,
            "{}: {}: operand {i} must have shape [{length}]",
            call.name(),
            call.operands()
        );
    }
    Ok(())
}

fn attention(call: &mut Call<'_>) -> Result<Desc> {
    let (q, k, v) = (call.input(0), call.input(1), call.input(2));
    let rank = q.shape.rank();
    call.want(0, rank >= 2, "rank 2 or more")?;
    for i in [1, 2] {
        call.want_like_first(i, false)?;
    }
    let fits = k.shape.rank() == rank
        && v.shape.rank() == rank
        && k.dims()[..rank - 2] == q.dims()[..rank - 2]
        && v.dims()[..rank - 2] == q.dims()[..rank - 2];
    if !fits {
        bail!(Invalid, "attention: {}: leading axes of q, k, v differ", call.operands());
    }
    let (s, d) = (q.dims()[rank - 2], q.dims()[rank - 1]);
    let (t, e) = (k.dims()[rank - 2], v.dims()[rank - 1]);
    if k.dims()[rank - 1] != d || d == 0 {
        bail!(
            Invalid,
            "attention: {}: the last axes of q and k must agree and not be empty",
            call.operands()
        );
    }
    if v.dims()[rank - 2] != t {
        bail!(
            Invalid,
            "attention: {}: k and v hold {t} and {} positions",
            call.operands(),
            v.dims()[rank - 2]
        );
    }
    call.flag(AttrKey::Causal)?;
    let scale = call.finite(AttrKey::Scale, 1.0 / (d as f64).sqrt())?;
    call.attrs.set(AttrKey::Scale, Value::Float(scale));
    let lead = &q.dims()[..rank - 2];
    if call.inputs.len() == 4 {
        let mask = call.input(3);
        let ok = mask.dtype == DType::Bool || mask.dtype == q.dtype;
        call.want(3, ok, &format!("bool or {}", q.dtype))?;
        let scores = Shape::new(&[lead, &[s, t]].concat())?;
        if mask.shape.broadcast(&scores) != Some(scores) {
            bail!(Invalid, "attention: mask {mask} does not broadcast to {scores}");
        }
    }
    call.desc(q.dtype, &[lead, &[s, e]].concat())
}

// ---- convolutions

fn conv_family(call: &mut Call<'_>) -> Result<Desc> {
    let (first, second) = (call.input(0), call.input(1));
    match call.op {
        Op::Conv => {
            call.want_like_first(1, true)?;
            let out = conv_result(call, first.shape, second.shape)?;
            if call.inputs.len() == 3 {
                call.want_like_first(2, true)?;
                want_bias(call, 2, second.dims()[0])?;
            }
            call.desc(first.dtype, &out)
        }
        Op::ConvInputGrad => {
            call.want_like_first(1, true)?;
            let x = shape_attr(call)?;
            let out = conv_result(call, x, second.shape)?;
            want_cotangent(call, 0, &out)?;
            call.desc(first.dtype, x.dims())
        }
        _ => {
            call.want_like_first(1, false)?;
            let w = shape_attr(call)?;
            let out = conv_result(call, first.shape, w)?;
            want_cotangent(call, 1, &out)?;
            call.desc(first.dtype, w.dims())
        }
    }
}

fn shape_attr(call: &Call<'_>) -> Result<Shape> {
    Shape::new(&call.dims(AttrKey::Shape)?).map_err(|e| e.within(call.name()))
}

fn want_cotangent(call: &Call<'_>, i: usize, dims: &[usize]) -> Result<()> {
    if call.input(i).dims() != dims {
        bail!(
            Invalid,
            "{}: {}: operand {i} must have the shape {dims:?} of the convolution's result",
            call.name(),
            call.operands()
        );
    }
    Ok(())
}

/// Checks and completes the convolution attributes; the shape of `conv(x, w)`.
fn conv_result(call: &mut Call<'_>, x: Shape, w: Shape) -> Result<Vec<usize>> {
    let name = call.name();
    let rank = x.rank();
    if !(rank == 3 || rank == 4) || w.rank() != rank {
        bail!(Invalid, "{name}: x {x} and w {w}: want both of rank 3 or both of rank 4");
    }
    let spatial = rank - 2;
    let (channels, outputs) = (x.dim(1), w.dim(0));
    let groups = call.attrs.int(AttrKey::Groups, 1);
    let groups = match usize::try_from(groups) {
        Ok(g) if g >= 1 && channels.is_multiple_of(g) && outputs.is_multiple_of(g) => g,
        _ => bail!(
            Invalid,
            "{name}: {groups} groups do not divide {channels} and {outputs} channels"
        ),
    };
    call.attrs.set(AttrKey::Groups, Value::Int(groups as i64));
    if w.dim(1) != channels / groups {
        bail!(
            Invalid,
            "{name}: x {x} has {channels} channels in {groups} groups, w {w} takes {} per group",
            w.dim(1)
        );
    }
    let stride = spatial_list(call, AttrKey::Stride, spatial)?;
    let dilation = spatial_list(call, AttrKey::Dilation, spatial)?;
    let padding = padding_pairs(call, spatial)?;
    let mut out = vec![x.dim(0), outputs];
    for i in 0..spatial {
        let kernel = w.dim(2 + i);
        // every factor is below 2^31 or a dimension of a checked shape; u128 holds the sums and the product
        let reach = dilation[i] as u128 * (kernel as u128).saturating_sub(1) + 1;
        let padded = x.dim(2 + i) as u128 + padding[2 * i] as u128 + padding[2 * i + 1] as u128;
        if kernel == 0 || reach > padded {
            bail!(
                Invalid,
                "{name}: the kernel reaches over {reach} positions of spatial axis {i}, \
                 x {x} has {padded} with padding"
            );
        }
        out.push(((padded - reach) / stride[i] as u128 + 1) as usize);
    }
    Ok(out)
}

/// Largest stride, dilation or padding: kernels add a few of them in an i64.
const MOST: usize = i32::MAX as usize;

fn spatial_list(call: &mut Call<'_>, key: AttrKey, spatial: usize) -> Result<Vec<usize>> {
    let mut list = call.dims(key)?;
    if list.is_empty() {
        list = vec![1; spatial];
    }
    if list.len() != spatial || list.iter().any(|v| *v < 1 || *v > MOST) {
        bail!(
            Invalid,
            "{}: {} is {list:?}, want {spatial} numbers of 1 or more",
            call.name(),
            key.name()
        );
    }
    call.set_dims(key, &list);
    Ok(list)
}

fn padding_pairs(call: &mut Call<'_>, spatial: usize) -> Result<Vec<usize>> {
    let given = call.dims(AttrKey::Padding)?;
    let pairs = match given.len() {
        0 => vec![0; 2 * spatial],
        n if n == spatial => given.iter().flat_map(|&p| [p, p]).collect(),
        n if n == 2 * spatial => given.clone(),
        _ => Vec::new(),
    };
    if pairs.is_empty() || pairs.iter().any(|p| *p > MOST) {
        bail!(
            Invalid,
            "{}: padding is {given:?}, want {spatial} numbers or {spatial} pairs",
            call.name()
        );
    }
    call.set_dims(AttrKey::Padding, &pairs);
    Ok(pairs)
}
