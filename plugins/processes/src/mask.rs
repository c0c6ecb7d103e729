//! Absorbing discrete diffusion: each token is replaced by the mask with probability t (specs processes 5.1; MDLM,
//! LLaDA). alpha = 1 - t, so the weight of the cross entropy is exactly 1/t.
//!
//! The mask is the last class unless `mask` names another. A network never predicts the mask itself (SUBS), and a
//! token once revealed stays. The network needs no t.

use core::ffi::CStr;
use diffx_plugin::{
    Config, Cx, Error, Factory, Functions, Node, Process, ProcessInfo, Result, Space, Stats, abi,
    schema,
};

/// Log of a probability that is 0: finite, so that no NaN comes of it.
const NEVER: f64 = -1e30;

pub(crate) struct Mask {
    token: Option<u32>,
}

impl Mask {
    /// The mask as an i32 scalar.
    fn token<'b>(&self, cx: &Cx<'b>) -> Node<'b> {
        cx.b.full_as(self.index(cx), &[], abi::I32)
    }

    fn index(&self, cx: &Cx<'_>) -> f64 {
        let classes = cx.component.classes;
        let token = self.token.unwrap_or_else(|| classes.saturating_sub(1));
        if token >= classes {
            let text = format!("mask is token {token}, the component has {classes} classes");
            cx.b.fail(abi::E_INVALID, &text);
        }
        f64::from(token)
    }
}

impl Factory for Mask {
    const ID: &'static CStr = c"org.diffx.mask";
    const SUMMARY: &'static CStr = c"absorbing discrete diffusion: tokens turn into a mask";
    const SCHEMA: Option<&'static CStr> = schema![
        "mask": integer "token that means masked; default the last class", minimum 0;
    ];

    fn create(config: &mut Config) -> Result<Self> {
        let token = config.opt_usize("mask", 0..)?.map(u32::try_from).transpose();
        let token = token.map_err(|_| Error::invalid("mask is above 4294967295, want a token"))?;
        Ok(Self { token })
    }
}

impl Process for Mask {
    const FUNCTIONS: Functions = Functions::DISCRETE;

    fn info(&self, _: &Stats) -> Result<ProcessInfo> {
        Ok(ProcessInfo {
            space: Space::Discrete,
            positive: false,
            additive: false,
            sigma_min: 1e-3,
            sigma_max: 1.0,
        })
    }

    fn perturb<'b>(&self, cx: &Cx<'b>, x0: Node<'b>, t: Node<'b>) -> [Node<'b>; 2] {
        let hit = cx.uniform_like(x0).less(t);
        [hit.choose(self.token(cx), x0), hit.cast(0)]
    }

    /// All masks.
    fn prior<'b>(&self, cx: &Cx<'b>, _: Node<'b>) -> Node<'b> {
        cx.b.full_as(self.index(cx), &cx.shape(), abi::I32)
    }

    fn loss_weight<'b>(&self, _: &Cx<'b>, t: Node<'b>) -> Node<'b> {
        1.0 / t
    }

    /// A masked token is revealed with probability (t - s)/t and then follows the logits without the mask's.
    fn posterior<'b>(
        &self,
        cx: &Cx<'b>,
        z: Node<'b>,
        logits: Node<'b>,
        t: Node<'b>,
        s: Node<'b>,
    ) -> Node<'b> {
        let class = cx.b.iota(&logits.shape(), -1, abi::I32);
        let mask = self.token(cx);
        let is_mask = class.equals(mask);
        let (z, t, s) = (per_class(z), per_class(t), per_class(s));
        let stay = (s / t).log().max(NEVER);
        let reveal = ((t - s) / t).log().max(NEVER);
        let known = is_mask.choose(NEVER, logits).log_softmax(-1);
        let masked = is_mask.choose(stay, known + reveal);
        z.equals(mask).choose(masked, class.equals(z).choose(0.0, NEVER))
    }
}

/// With an axis for the classes at the end; a scalar broadcasts as it is.
fn per_class(x: Node<'_>) -> Node<'_> {
    let shape = x.shape();
    if shape.is_empty() {
        return x;
    }
    let dims: Vec<i64> = shape.iter().copied().chain([1]).collect();
    x.reshape(&dims)
}
