//! Absorbing discrete diffusion: each token is replaced by the mask with probability 1 - alpha(t), by default t (specs
//! processes 5.1; MDLM, LLaDA), where the weight of the cross entropy is exactly 1/t.
//!
//! The mask is the last class unless `mask` names another. A network never predicts the mask itself (SUBS), and a
//! token once revealed stays. The network needs no t.

use crate::tokens::{self, Kept, NEVER, is_token, per_class};
use core::ffi::CStr;
use diffx_plugin::{
    Config, Cx, Error, Factory, Function, Functions, Node, Process, ProcessInfo, Result, Space,
    Stats, abi, schema,
};

pub(crate) struct Mask {
    token: Option<u32>,
    kept: Kept,
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

    /// 1 - alpha(t), alpha that of the classes but the mask.
    fn lost<'b>(&self, cx: &Cx<'b>, t: Node<'b>) -> Node<'b> {
        self.kept.lost(t, tokens::classes(cx, 2) - 1.0, 1.0)
    }
}

impl Factory for Mask {
    const ID: &'static CStr = c"org.diffx.mask";
    const SUMMARY: &'static CStr = c"absorbing discrete diffusion: tokens turn into a mask";
    const SCHEMA: Option<&'static CStr> = schema![
        "mask": integer "token that means masked; default the last class", minimum 0;
        "schedule": string "share of tokens kept at t: 1 - t, 1 - sin(pi t/2), or how often x is the argmax of a Gaussian latent (1 - t) e_x + t xi (Latent Shadows)", default "linear", enum ["linear", "cosine", "argmax"];
        "least": number "share of tokens still kept at t = 1", default 0, minimum 0, exclusiveMaximum 1;
    ];

    fn create(config: &mut Config) -> Result<Self> {
        let token = config.opt_usize("mask", 0..)?.map(u32::try_from).transpose();
        let token = token.map_err(|_| Error::invalid("mask is above 4294967295, want a token"))?;
        Ok(Self { token, kept: Kept::read(config)? })
    }
}

impl Process for Mask {
    const FUNCTIONS: Functions = Functions::DISCRETE.with(Function::ToScore);

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
        let hit = cx.uniform_like(x0).less(self.lost(cx, t));
        [hit.choose(self.token(cx), x0), hit.cast(0)]
    }

    /// All masks.
    fn prior<'b>(&self, cx: &Cx<'b>, _: Node<'b>) -> Node<'b> {
        cx.b.full_as(self.index(cx), &cx.shape(), abi::I32)
    }

    fn loss_weight<'b>(&self, cx: &Cx<'b>, t: Node<'b>) -> Node<'b> {
        self.kept.hazard(t, tokens::classes(cx, 2) - 1.0)
    }

    /// log of `p_t(y)/p_t(z)` of each class y where z is the mask: alpha/(1 - alpha) p(y). What is revealed stays.
    fn to_score<'b>(&self, cx: &Cx<'b>, z: Node<'b>, logits: Node<'b>, t: Node<'b>) -> Node<'b> {
        let mask = self.token(cx);
        let is_mask = is_token(cx, logits, mask);
        let lost = per_class(self.lost(cx, t));
        let odds = tokens::log(1.0 - lost) - tokens::log(lost);
        let masked = is_mask.choose(0.0, known(is_mask, logits) + odds);
        per_class(z.equals(mask)).choose(masked, is_token(cx, logits, z).choose(0.0, NEVER))
    }

    /// A masked token is revealed with probability (alpha_s - alpha_t)/(1 - alpha_t) and then follows the logits without
    /// the mask's.
    fn posterior<'b>(
        &self,
        cx: &Cx<'b>,
        z: Node<'b>,
        logits: Node<'b>,
        t: Node<'b>,
        s: Node<'b>,
    ) -> Node<'b> {
        let mask = self.token(cx);
        let is_mask = is_token(cx, logits, mask);
        let (late, early) = (per_class(self.lost(cx, t)), per_class(self.lost(cx, s)));
        let some = late.greater(0.0); // else nothing was masked, as far as the float type can tell
        let stay = some.choose((early / late).log().max(NEVER), NEVER);
        let reveal = some.choose(((late - early) / late).log().max(NEVER), 0.0);
        let masked = is_mask.choose(stay, known(is_mask, logits) + reveal);
        per_class(z.equals(mask)).choose(masked, is_token(cx, logits, z).choose(0.0, NEVER))
    }
}

/// Log probabilities of the classes but the mask.
fn known<'b>(is_mask: Node<'b>, logits: Node<'b>) -> Node<'b> {
    is_mask.choose(NEVER, logits).log_softmax(-1)
}
