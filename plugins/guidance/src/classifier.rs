//! Classifier guidance (Dhariwal and Nichol 2021): the score gains `strength grad log p(class | w, sigma)` of a classifier
//! that has seen noise. At strength 1 this is Doob's h of a class, exact for every sampler; above it samples are more
//! typical of the class than the law given it.
//!
//! The network of the slot gives the logits of all classes, or one logit of class 1 against class 0; its input is as that
//! of `doob`'s network.

use crate::log_h;
use crate::rows::{column, eval};
use crate::score::want_scores;
use core::ffi::CStr;
use diffx_plugin::{
    Builder, Config, Error, Eval, Factory, Guidance, GuidanceInfo, Hooks, Node, POSITIVE, Result,
    Stage, Wrap, WrapEval, schema,
};

#[derive(Debug)]
pub(crate) struct Classifier {
    slot: String,
    class: usize,
    strength: f64,
    unit: Option<f64>,
}

impl Factory for Classifier {
    const ID: &'static CStr = c"org.diffx.classifier";
    const SUMMARY: &'static CStr =
        c"samples of a class, by the gradient of a classifier of noisy samples";
    const SCHEMA: Option<&'static CStr> = schema![
        "slot": string "network that gives the logits of the classes; default classifier";
        "class": integer "which of them", default 1, minimum 0, maximum 1048576;
        "strength": number "of the gradient; the law of the class at 1", default 1, minimum 0;
        "unit": number "the root mean square of w in what the network learned from; default that of the model's data", exclusiveMinimum 0;
    ];

    fn create(config: &mut Config) -> Result<Self> {
        Ok(Self {
            slot: config.opt_str("slot")?.unwrap_or_else(|| "classifier".into()),
            class: config.usize("class", 1, 0..=1 << 20)?,
            strength: config.f64("strength", 1.0, 0.0..)?,
            unit: config.opt_f64("unit", POSITIVE)?,
        })
    }
}

impl Guidance for Classifier {
    const HOOKS: Hooks = Hooks::WRAP;

    fn info(&self) -> GuidanceInfo {
        GuidanceInfo {
            stage: Stage::Score,
            slots: vec![],
            networks: vec![self.slot.clone()],
            group: 1,
            exact_for: -1.0,
        }
    }

    fn wrap<'b>(&self, b: Builder<'b>, io: &mut Wrap<'b>) -> Result<()> {
        let evals: Vec<Eval<'_, 'b>> = io.evals.iter().map(eval).collect();
        let d = b.denoise(io.inner, &evals);
        drop(evals);
        let mut out = Vec::new();
        for (e, d) in io.evals.iter().zip(&d) {
            want_scores(b, &e.x, d, &e.sigma)?;
            let value = self.log_class(b, e)?;
            let slopes = log_h::slopes(b, value, e);
            for (c, d) in d.iter().enumerate() {
                let add = slopes[c].map(|s| column(e.sigma[c], *d).square() * self.strength * s);
                out.push(add.map_or(*d, |add| *d + add));
            }
        }
        let n = io.components().max(1);
        for (i, d) in out.into_iter().enumerate() {
            io.set_out(i / n, i % n, d);
        }
        Ok(())
    }
}

impl Classifier {
    /// log p(class), `[rows]`.
    fn log_class<'b>(&self, b: Builder<'b>, e: &WrapEval<'b>) -> Result<Node<'b>> {
        let out =
            log_h::asked(b, &self.slot, self.unit, e, 1).pop().unwrap_or_else(|| b.error_node());
        let shape = out.shape();
        let (rows, classes) = match *shape {
            _ if out.is_error() => return Ok(out),
            [rows] | [rows, 1] => (rows, 1),
            [rows, classes] => (rows, classes),
            _ => {
                let text = format!("network {}: gives {:?}, want logits", self.slot, &*shape);
                return Err(Error::invalid(text));
            }
        };
        if self.class as i64 >= classes.max(2) {
            let n = classes.max(2);
            return Err(Error::invalid(format!("class {} of {n} classes", self.class)));
        }
        let class = self.class as i64;
        if classes == 1 {
            let logit = out.reshape(&[rows]) * if class == 1 { 1.0 } else { -1.0 };
            return Ok(-((-logit).softplus()));
        }
        let log = out.log_softmax(1).slice(&[0, class], &[rows, class + 1]);
        Ok(log.reshape(&[rows]))
    }
}
