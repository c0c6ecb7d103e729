//! Softmax and normalisation.

use super::Call;
use crate::bail;
use crate::base::{Desc, Result};
use crate::graph::op::{AttrKey, Op};

pub(super) fn rule(call: &mut Call<'_>) -> Result<Desc> {
    call.want_float(0)?;
    let x = call.input(0);
    if matches!(call.op, Op::Softmax | Op::LogSoftmax) {
        call.axis(x.shape)?;
        return Ok(x);
    }
    let eps = call.finite(AttrKey::Epsilon, 0.0)?;
    if eps < 0.0 {
        bail!(Invalid, "{}: eps is {eps}, want 0 or more", call.name());
    }
    // the axis of the parameters, and how many elements share one mean
    let (channel, count) = if call.op == Op::GroupNorm {
        call.want(0, x.shape.rank() >= 2, "rank 2 or more")?;
        let groups = call.attrs.int(AttrKey::Groups, 1);
        let channels = x.dims()[1];
        match usize::try_from(groups) {
            Ok(g) if g >= 1 && channels.is_multiple_of(g) => {
                (1, channels / g * x.dims()[2..].iter().product::<usize>())
            }
            _ => bail!(Invalid, "group_norm: {groups} groups do not divide {channels} channels"),
        }
    } else {
        call.want(0, x.shape.rank() >= 1, "rank 1 or more")?;
        let last = x.shape.rank() - 1;
        (last, x.dims()[last])
    };
    if count == 0 {
        bail!(Invalid, "{}: {x} has no elements to normalise over", call.name());
    }
    for i in 1..call.inputs.len() {
        call.want_like_first(i, true)?;
        let want = x.dims()[channel];
        if call.input(i).dims() != [want] {
            bail!(
                Invalid,
                "{}: {}: operand {i} must have shape [{want}]",
                call.name(),
                call.operands()
            );
        }
    }
    Ok(x)
}
