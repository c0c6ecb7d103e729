//! Doob's h-transform: samples of the model given an event of the decoded sample (specs guidance_samplers 1;
//! Guo, Tang and Xu, arXiv 2602.05533). With h(w, sigma) = P(event | w) the score gains `grad log h`:
//! `D' = D + sigma^2 grad log h`, exact for every sampler and stochasticity, for h is that of the process itself.
//!
//! `start` tilts the prior by h (an ODE never forgets an untilted one): of `start` draws one is chosen with probability
//! h / sum h; the log of their mean h is the sample's log weight, whose mean over samples estimates log P(event).
//! `finish` says whether the sample is in the event, for near level 0 grad log h is singular and a finite grid misses.
//!
//! An h of networks may be of an event that only the host can tell (`cdg` learns it from labels): then there is no `event`
//! here, and the host judges what is finished.
//!
//! `strength` other than 1 makes everything feasible and the law wrong; it is there to show that.

use crate::gamma::HalfLine;
use crate::log_h::{self, H};
use crate::reject::{NO_EVENT, redraw};
use crate::rows::{column, eval};
use crate::score::want_scores;
use core::ffi::CStr;
use diffx_plugin::event::{Condition, Event, holds};
use diffx_plugin::{
    Builder, Config, Error, Eval, Factory, Guidance, GuidanceInfo, Guide, Hooks, Node, POSITIVE,
    Redraw, Result, Stage, Wrap, WrapEval, purpose, schema,
};

#[derive(Debug)]
pub(crate) struct Doob {
    event: Option<Event>,
    h: H,
    strength: f64,
    redraw: Option<Redraw>,
    /// Draws of the prior to choose from.
    start: usize,
}

impl Factory for Doob {
    const ID: &'static CStr = c"org.diffx.doob";
    const SUMMARY: &'static CStr = c"samples given an event, by Doob's h-transform";
    const SCHEMA: Option<&'static CStr> = schema![
        "event": string "what the decoded sample must fulfil, as in max(x) >= 40; may be absent where h is of networks: then nobody here says what is inside";
        "h": string "P(event | state): of a normal posterior (exact for normal data), of Gamma data, or a network", default "normal", enum ["normal", "gamma", "network"];
        "slot": string "network: the slot that gives the logit of h, default h; several with commas between: h of telescoped events, which multiply";
        "unit": number "network: the root mean square of w in what it learned from; default that of the model's data", exclusiveMinimum 0;
        "gradient": string "network: slots that give sigma grad log h, as cdg_gradient learns them, in the place of the gradient of slot; commas between";
        "dimension": number "gamma: of the Bessel process, 4 kappa theta / sigma^2 of CIR", default 3, exclusiveMinimum 0;
        "mean": number "gamma: of the data; default what the model's statistics say", exclusiveMinimum 0;
        "strength": number "of grad log h; the law is right at 1 only", default 1, minimum 0;
        "redraws": integer "how often a sample outside of the event is drawn again; 0 leaves it there, marked", default 64, minimum 0, maximum 1023;
        "redraw_share": number "share of the steps, from the last, that is drawn again; 1 = all, from a new prior", default 0.25, minimum 0, maximum 1;
        "start": integer "draws of the prior of which h chooses one; 1 leaves the prior as it is", default 8, minimum 1, maximum 64;
    ];

    fn create(config: &mut Config) -> Result<Self> {
        let event = match config.opt_str("event")? {
            Some(text) => Some(Event::parse("event", &text)?),
            None => None,
        };
        let kind = config.one_of("h", &[("normal", 0), ("gamma", 1), ("network", 2)])?;
        let learned = H::learned(config)?.with_gradient(config)?;
        let dimension = config.f64("dimension", 3.0, POSITIVE)?;
        let mean = config.opt_f64("mean", POSITIVE)?;
        let h = match kind {
            0 => H::Normal,
            1 => H::Gamma(HalfLine { dimension, mean }),
            _ => learned,
        };
        if kind != 1 {
            log_h::refuse(config, &["mean"], "gamma")?;
            if dimension != 3.0 {
                log_h::refuse(config, &["dimension"], "gamma")?; // who names what it is anyway means no harm
            }
        }
        if kind != 2 {
            log_h::refuse(config, &["slot", "unit", "gradient"], "network")?;
        }
        let strength = config.f64("strength", 1.0, 0.0..)?;
        let asked = config.has("redraws") || config.has("redraw_share");
        let mut redraw = redraw(config, 64, 0.25)?;
        if event.is_none() && kind == 2 {
            if redraw.is_some() && asked {
                return Err(Error::invalid(
                    "redraws are of samples outside of the event, and no event is given",
                ));
            }
            redraw = None;
        }
        Ok(Self { event, h, strength, redraw, start: config.usize("start", 8, 1..=64)? })
    }
}

impl Doob {
    /// None = only the host can tell.
    fn condition(&self, b: Builder<'_>) -> Result<Option<Condition>> {
        match (&self.event, &self.h) {
            (Some(event), _) => event.resolve(b).map(Some),
            (None, H::Network { .. }) => Ok(None),
            (None, _) => Err(Error::invalid(format!("doob {NO_EVENT}"))),
        }
    }
}

impl Guidance for Doob {
    const HOOKS: Hooks = Hooks { start: true, finish: true, ..Hooks::WRAP };

    fn info(&self) -> GuidanceInfo {
        GuidanceInfo {
            stage: Stage::Score,
            slots: vec![],
            networks: self.h.slots(),
            group: 1,
            exact_for: -1.0,
        }
    }

    fn redraw(&self) -> Option<Redraw> {
        self.redraw
    }

    fn wrap<'b>(&self, b: Builder<'b>, io: &mut Wrap<'b>) -> Result<()> {
        let event = self.condition(b)?;
        let evals: Vec<Eval<'_, 'b>> = io.evals.iter().map(eval).collect();
        let d = b.denoise(io.inner, &evals);
        drop(evals);
        let mut out = Vec::new();
        for (e, d) in io.evals.iter().zip(&d) {
            want_scores(b, &e.x, d, &e.sigma)?;
            let found = log_h::at(b, &self.h, event.as_ref(), e, d)?;
            for (c, d) in d.iter().enumerate() {
                out.push(match found.slope[c] {
                    Some(slope) => *d + column(e.sigma[c], *d).square() * self.strength * slope,
                    None => *d,
                });
            }
        }
        let n = io.components().max(1);
        for (i, d) in out.into_iter().enumerate() {
            io.set_out(i / n, i % n, d);
        }
        Ok(())
    }

    fn start<'b>(&self, b: Builder<'b>, io: &mut Guide<'b>) -> Result<()> {
        let event = self.condition(b)?;
        let n = io.components();
        let sigma: Vec<Node<'b>> = (0..n).map(|c| io.sigma(c)).collect();
        let mut drawn: Vec<WrapEval<'b>> = Vec::new();
        for i in 0..self.start {
            let x = (0..n).map(|c| match i {
                0 => io.x(c),
                _ => b.process(c).prior(sigma[c], purpose::GUIDANCE),
            });
            drawn.push(WrapEval { phase: 0, x: x.collect(), sigma: sigma.clone(), cond: None });
        }
        let evals: Vec<Eval<'_, 'b>> = drawn.iter().map(eval).collect();
        // an h that reads no D does without the network
        let d = match &self.h {
            H::Normal => b.denoise(io.inner, &evals),
            _ => drawn.iter().map(|e| e.x.clone()).collect(),
        };
        let mut logs = Vec::new();
        for (e, d) in drawn.iter().zip(&d) {
            logs.push(log_h::at(b, &self.h, event.as_ref(), e, d)?.value);
        }
        let batch = b.batch();
        let each: Vec<Node<'b>> = logs.iter().map(|l| l.reshape(&[batch, 1])).collect();
        let logits = b.concat(&each, 1);
        let total = logits.logsumexp(&[1]) - (self.start as f64).ln();
        if self.start > 1 {
            let chosen = logits.categorical(purpose::GUIDANCE);
            for c in 0..n {
                let mut x = drawn[0].x[c];
                for (i, e) in drawn.iter().enumerate().skip(1) {
                    let at = b.full_as(i as f64, &[batch], chosen.dtype());
                    x = column(chosen.equals(at), x).choose(e.x[c], x);
                }
                io.set_out(c, x);
            }
        }
        io.set_log_weight(total);
        Ok(())
    }

    fn finish<'b>(&self, b: Builder<'b>, io: &mut Guide<'b>) -> Result<()> {
        let Some(event) = self.condition(b)? else { return Ok(()) };
        let x: Vec<Node<'b>> = (0..io.components()).map(|c| io.x(c)).collect();
        io.set_feasible(holds(b, &event, &x));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn config_is_checked() {
        let doob = |json: &str| Doob::create(&mut Config::parse(json).unwrap());
        assert_eq!(doob(r#"{"event":"max(x) >= 4"}"#).unwrap().h, H::Normal);
        assert_eq!(
            doob(r#"{"event":"max(x >= 4"}"#).unwrap_err().message,
            "event, column 11: found the end, want ) for the ( of column 4"
        );
        let net = doob(r#"{"event":"max(x) >= 4","h":"network"}"#).unwrap();
        assert_eq!(net.info().networks, ["h"]);
        let two = r#"{"event":"max(x) >= 4","h":"network","slot":"h3, h4"}"#;
        assert_eq!(doob(two).unwrap().info().networks, ["h3", "h4"]);
        let message = |json: &str| doob(json).unwrap_err().message;
        assert_eq!(
            message(r#"{"event":"max(x) >= 4","h":"network","slot":"h,h"}"#),
            "slot is \"h,h\", want names with commas between, each once"
        );
        // what this h passes by would be believed to act
        for key in [r#""gradient":"q""#, r#""slot":"q""#, r#""unit":2"#, r#""mean":2"#] {
            let said = message(&format!(r#"{{"event":"max(x) >= 4",{key}}}"#));
            assert!(said.ends_with("alone, which it is not here"), "{said}");
        }
        assert_eq!(
            message(r#"{"event":"max(x) >= 4","h":"network","dimension":2}"#),
            "dimension is read where \"h\" is \"gamma\" alone, which it is not here"
        );
        // an event that only the host can tell
        let host = doob(r#"{"h":"network"}"#).unwrap();
        assert!(host.redraw().is_none() && host.info().networks == ["h"]);
        assert!(message(r#"{"h":"network","redraws":3}"#).contains("no event is given"));
    }
}
