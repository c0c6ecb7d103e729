//! The bound on the likelihood of tokens (D3PM; MDLM, UDLM and Duo in the limit of many steps): of a reverse chain of
//! `steps` steps, steps times the divergence of one step at a time drawn evenly,
//!
//! `KL(q(z_s | z_t, x0) || q(z_s | z_t, network))`, s = t - 1/steps,
//!
//! in nats per token; the step to 0 is the reconstruction. Both laws are the process's own `posterior`, one of the token
//! itself, one of the logits, so it serves every discrete process. With the ideal network and one token it is the
//! entropy, but for what the state at t = 1 still knows of x0. Times are spread over the batch, one in each of its
//! equal parts, which takes most of their variance away.

use crate::level;
use core::ffi::CStr;
use diffx_plugin::{
    Builder, Config, Error, Factory, Loss, Node, Objective, ObjectiveInfo, Result, abi, purpose,
    schema,
};

#[derive(Debug)]
pub(crate) struct Elbo {
    steps: f64,
}

/// Log of a probability that is 0.
const NEVER: f64 = -1e30;

impl Factory for Elbo {
    const ID: &'static CStr = c"org.diffx.elbo";
    const SUMMARY: &'static CStr =
        c"bound on the likelihood of tokens: one step of the reverse chain";
    const SCHEMA: Option<&'static CStr> = schema![
        "steps": integer "steps of the chain; many approach the bound of continuous time", default 1000, minimum 1, maximum 10000;
    ];

    fn create(config: &mut Config) -> Result<Self> {
        Ok(Self { steps: config.usize("steps", 1000, 1..=10_000)? as f64 })
    }
}

impl Objective for Elbo {
    fn info(&self) -> ObjectiveInfo {
        ObjectiveInfo { metrics: vec!["loss".into()], ..ObjectiveInfo::default() }
    }

    fn loss<'b>(&self, b: Builder<'b>, io: &mut Loss<'b>) -> Result<()> {
        let n = io.components();
        if n == 0 || (0..n).any(|c| !level::is_discrete(b, c)) {
            return Err(Error::invalid("a component is continuous, elbo wants discrete ones"));
        }
        let Some(base) = b.denoiser_of("base") else {
            return Err(Error::invalid("there is no network slot named base"));
        };
        let (mut z, mut late, mut early) = (Vec::new(), Vec::new(), Vec::new());
        for c in 0..n {
            let [t, s] = self.times(b, io.x0(c));
            let [noised, _] = b.process(c).perturb(io.x0(c), t, purpose::DATA);
            z.push(noised);
            late.push(t);
            early.push(s);
        }
        let logits = b.denoise_at(base, &z, &late);
        let mut loss = b.scalar(0.0);
        for (c, logits) in logits.into_iter().enumerate() {
            let x0 = io.x0(c);
            let dims: Vec<i64> = x0.shape().iter().copied().chain([1]).collect();
            let is_x0 = b.iota(&logits.shape(), -1, abi::I32).equals(x0.reshape(&dims));
            let known = is_x0.choose(b.full(0.0, &logits.shape()), NEVER);
            let law =
                |logits| b.process(c).posterior(z[c], logits, late[c], early[c]).log_softmax(-1);
            let (q, p) = (law(known), law(logits));
            // with - q + p each term is at least 0, so that rounding does not cancel
            let kl = q.exp() * (q - p) - q.exp() + p.exp();
            loss = loss + kl.sum(&[-1]).mean(&[]) * self.steps;
        }
        io.set_loss(loss);
        io.set_metric(0, loss);
        Ok(())
    }
}

impl Elbo {
    /// t in {1/steps, .., 1} and the time before it, one per row.
    fn times<'b>(&self, b: Builder<'b>, like: Node<'b>) -> [Node<'b>; 2] {
        let shape = level::shape(like);
        let row = b.iota(&shape, 0, 0);
        let u = (row + b.uniform(&shape, purpose::LEVEL)) / b.batch() as f64;
        let step = (u * self.steps).ceil().clamp(1.0, self.steps);
        [step / self.steps, (step - 1.0) / self.steps]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn config_is_checked() {
        let elbo = |json: &str| Elbo::create(&mut Config::parse(json).unwrap());
        assert_eq!(elbo("{}").unwrap().steps, 1000.0);
        let message = elbo(r#"{"steps":0}"#).unwrap_err().message;
        assert_eq!(message, "steps is 0, want a whole number from 1 to 10000");
    }
}
