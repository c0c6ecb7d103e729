//! Uniform discrete diffusion: a token is replaced by any of the K, itself included, with probability 1 - alpha(t)
//! (specs processes 5.2; D3PM, UDLM, Duo). A token can be revised until the last step, which absorbed ones cannot.
//!
//! The logits are those of the token *given the others*: `x = p(x0_i | z of the other positions)`. Then
//! `[K alpha_t x ∘ z + (alpha_{t|s} - alpha_t) z + (alpha_s - alpha_t) x + (1 - alpha_{t|s})(1 - alpha_s)/K]`, normalised, is
//! the exact law at time s, and alpha x + (1 - alpha)/K that at time t. It is what a network learns that sees all of z
//! by the cross entropy of the tokens that were replaced (`dsm`: those say nothing of themselves) and by the bound on
//! the likelihood (`elbo`).

use crate::tokens::{self, Kept, is_token, per_class};
use core::ffi::CStr;
use diffx_plugin::{
    Config, Cx, Factory, Function, Functions, Node, Process, ProcessInfo, Result, Space, Stats,
    schema,
};

pub(crate) struct Uniform {
    kept: Kept,
}

impl Uniform {
    fn lost<'b>(&self, cx: &Cx<'b>, t: Node<'b>) -> Node<'b> {
        let k = tokens::classes(cx, 2);
        self.kept.lost(t, k, k / (k - 1.0))
    }
}

impl Factory for Uniform {
    const ID: &'static CStr = c"org.diffx.uniform";
    const SUMMARY: &'static CStr = c"uniform discrete diffusion: tokens turn into any other";
    const SCHEMA: Option<&'static CStr> = schema![
        "schedule": string "share of tokens kept at t: 1 - t, 1 - sin(pi t/2), or that of the argmax of a Gaussian latent (1 - t) e_x + t xi (Duo)", default "linear", enum ["linear", "cosine", "argmax"];
        "least": number "share of tokens still kept at t = 1", default 0, minimum 0, exclusiveMaximum 1;
    ];

    fn create(config: &mut Config) -> Result<Self> {
        Ok(Self { kept: Kept::read(config)? })
    }
}

impl Process for Uniform {
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

    /// A replaced token may by chance be what it was: it still counts as replaced.
    fn perturb<'b>(&self, cx: &Cx<'b>, x0: Node<'b>, t: Node<'b>) -> [Node<'b>; 2] {
        let hit = cx.uniform_like(x0).less(self.lost(cx, t));
        let any = tokens::any_token(cx, &x0.shape(), tokens::classes(cx, 2));
        [hit.choose(any, x0), hit.cast(0)]
    }

    fn prior<'b>(&self, cx: &Cx<'b>, _: Node<'b>) -> Node<'b> {
        tokens::any_token(cx, &cx.shape(), tokens::classes(cx, 2))
    }

    fn loss_weight<'b>(&self, cx: &Cx<'b>, t: Node<'b>) -> Node<'b> {
        self.kept.hazard(t, tokens::classes(cx, 2))
    }

    /// log of `p_t(y)/p_t(z)` of each class y at one position, the others as they are (the concrete score).
    fn to_score<'b>(&self, cx: &Cx<'b>, z: Node<'b>, logits: Node<'b>, t: Node<'b>) -> Node<'b> {
        let lost = per_class(self.lost(cx, t));
        let x = logits.softmax(-1);
        let p = tokens::log((1.0 - lost) * x + lost / tokens::classes(cx, 2));
        p - p.take_along(per_class(z), -1)
    }

    fn posterior<'b>(
        &self,
        cx: &Cx<'b>,
        z: Node<'b>,
        logits: Node<'b>,
        t: Node<'b>,
        s: Node<'b>,
    ) -> Node<'b> {
        let k = tokens::classes(cx, 2);
        let (late, early) = (self.lost(cx, t), self.lost(cx, s)); // 1 - alpha_t, 1 - alpha_s
        let (kept_late, kept_early) = (1.0 - late, (1.0 - early).max(1e-30));
        let moved = late - early; // alpha_s - alpha_t; alpha_{t|s} - alpha_t = alpha_{t|s} (1 - alpha_s)
        let jump = early * moved / kept_early * (1.0 / k);
        let stay = early * kept_late / kept_early;
        let [moved, jump, stay, kept] = [moved, jump, stay, kept_late * k].map(per_class);
        let x = logits.softmax(-1);
        let here = is_token(cx, logits, z);
        tokens::log(moved * x + jump + here.choose(kept * x + stay, 0.0))
    }
}
