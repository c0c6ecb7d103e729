//! Particles steered by resampling (Feynman-Kac steering, Singhal et al. 2025, arXiv 2501.06848; twisted SMC, Wu et al.
//! 2023, arXiv 2306.17775; specs guidance_samplers 2.7). Groups of `particles` samples run by the sampler's own kernel; a
//! twist psi(w, sigma) says how promising a state is, `log weight += log psi' - log psi` after each step, and where the
//! effective size of a group falls below `ess` of it, its particles are drawn anew by weight (systematic resampling).
//!
//! The twist is `exp(scale r(D))` of a reward r of the decoded prediction, or an h of an event: of a normal posterior, or
//! of networks (`log_h`), which costs no evaluation of the model. It need
//! not be right: `finish` puts the true one in its place, so weighted samples are unbiased for any group size, and the
//! mean weight is that of the reward, or the probability of the event. Unweighted samples are right as groups grow.
//! `"finish": "draw"` draws each group anew by these last weights, so every sample of it is in the event if one was; a
//! group of which none was is run again. Fails for deterministic samplers: copies stay copies.

use crate::log_h::{self, H};
use crate::reject::NO_EVENT;
use crate::rows::per_row;
use core::ffi::CStr;
use diffx_plugin::event::{Event, Reward, holds};
use diffx_plugin::{
    Builder, Config, Error, FINITE, Factory, Guidance, GuidanceInfo, Guide, Hooks, Like, Node,
    Redraw, Result, Slot, Stage, WrapEval, abi, purpose, schema,
};

#[derive(Debug)]
enum Aim {
    Event(Event),
    Reward(Reward, f64),
}

#[derive(Debug)]
pub(crate) struct Steer {
    aim: Option<Aim>,
    h: H,
    particles: u32,
    ess: f64,
    /// How often a group is run again of which no particle is in the event; None = the weights are left to the host.
    draw: Option<u32>,
}

/// log psi of what cannot be any more.
const LEAST: f64 = -1e30;

/// Keeps the last point of a resampling below the sum of the shares, in f32 too.
const BELOW_ONE: f64 = 1.0 - 2e-6;

/// Slots: log psi where the particle stands, and the core's running log weight.
const PSI: usize = 0;
const WEIGHT: usize = 1;

impl Factory for Steer {
    const ID: &'static CStr = c"org.diffx.steer";
    const SUMMARY: &'static CStr =
        c"particles resampled towards an event or a reward (twisted SMC, FK steering)";
    const SCHEMA: Option<&'static CStr> = schema![
        "event": string "what the decoded sample must fulfil, as in max(x) >= 40";
        "reward": string "or a number of the decoded sample, as in mean(x)";
        "scale": number "the law is tilted by exp(scale reward)", default 1;
        "h": string "of an event: the twist, of a normal posterior or of networks as cdg learns them", default "normal", enum ["normal", "network"];
        "slot": string "network: the slot that gives the logit of h, default h; several with commas between: h of telescoped events, which multiply";
        "unit": number "network: the root mean square of w in what it learned from; default that of the model's data", exclusiveMinimum 0;
        "particles": integer "samples of a group; ranges of samples hold whole groups", default 16, minimum 2, maximum 4096;
        "ess": number "a group is resampled when its effective size falls below this share of it", default 0.5, minimum 0, maximum 1;
        "finish": string "weigh: log_weight says what each sample counts; draw: the group is drawn anew by weight, all count the same", default "weigh", enum ["weigh", "draw"];
        "redraws": integer "draw: how often a group is run again of which none is in the event", default 8, minimum 0, maximum 1023;
    ];

    fn create(config: &mut Config) -> Result<Self> {
        let (event, reward) = (config.opt_str("event")?, config.opt_str("reward")?);
        let scale = config.f64("scale", 1.0, FINITE)?;
        let aim = match (event, reward) {
            (Some(event), None) => Some(Aim::Event(Event::parse("event", &event)?)),
            (None, Some(text)) => Some(Aim::Reward(Reward::parse("reward", &text)?, scale)),
            (None, None) => None,
            (Some(_), Some(_)) => {
                return Err(Error::invalid("both event and reward are given, want one of them"));
            }
        };
        let network = config.one_of("h", &[("normal", false), ("network", true)])?;
        let learned = H::learned(config)?;
        if !network {
            crate::log_h::refuse(config, &["slot", "unit"], "network")?;
        }
        let draw = config.one_of("finish", &[("weigh", false), ("draw", true)])?;
        let redraws = config.usize("redraws", 8, 0..=1023)? as u32;
        Ok(Self {
            aim,
            h: if network { learned } else { H::Normal },
            particles: config.usize("particles", 16, 2..=4096)? as u32,
            ess: config.f64("ess", 0.5, 0.0..=1.0)?,
            draw: draw.then_some(redraws),
        })
    }
}

impl Guidance for Steer {
    const HOOKS: Hooks = Hooks { start: true, permute: true, finish: true, ..Hooks::NONE };

    fn info(&self) -> GuidanceInfo {
        let number = || Like::Tensor(0, vec![]);
        let slot = |name: &str| Slot { name: name.into(), like: number(), init: 0.0 };
        GuidanceInfo {
            stage: Stage::Particle,
            slots: vec![slot("log_psi"), slot("log_weight")],
            networks: self.h.slots(),
            group: self.particles,
            exact_for: 1.0,
        }
    }

    fn redraw(&self) -> Option<Redraw> {
        let times = self.draw.filter(|n| *n > 0)?;
        Some(Redraw { times, share: 1.0 })
    }

    fn start<'b>(&self, b: Builder<'b>, io: &mut Guide<'b>) -> Result<()> {
        let psi = self.log_twist(b, io)?;
        io.set_slot(PSI, psi);
        io.set_slot(WEIGHT, psi);
        io.set_log_weight(psi);
        Ok(())
    }

    fn permute<'b>(&self, b: Builder<'b>, io: &mut Guide<'b>) -> Result<()> {
        let k = i64::from(self.particles);
        let groups = b.batch() / k.max(1);
        let psi = self.log_twist(b, io)?;
        let was = io.slot(WEIGHT);
        let weight = (was + psi - io.slot(PSI)).reshape(&[groups, k]);
        let share = weight.softmax(1);
        let size = 1.0 / share.square().sum_keep(&[1]).max(1e-30);
        let again = size.less(self.ess * f64::from(self.particles));
        let place = b.iota(&[groups, k], 1, abi::I32);
        let every = |x: Node<'b>| x.broadcast_to(&[groups, k]);
        let parent = every(again).choose(self.parents(b, share), place);
        // of a group drawn anew all that is left of the weights is their mean
        let after = every(again).choose(every(self.mean_weight(weight)), weight);
        let of_parent = was.reshape(&[groups, k]).take_along(parent, 1);
        // the core moves slots with their owners, so they are given as the parents leave them
        let flat = |x: Node<'b>| x.reshape(&[b.batch()]);
        io.set_index(flat(parent));
        io.set_slot(PSI, psi);
        // every particle of a group drawn anew has the same weight, and the others keep their place
        io.set_slot(WEIGHT, flat(after));
        io.set_log_weight(flat(after - of_parent));
        Ok(())
    }

    /// The true value in the place of the last twist.
    fn finish<'b>(&self, b: Builder<'b>, io: &mut Guide<'b>) -> Result<()> {
        let x: Vec<Node<'b>> = (0..io.components()).map(|c| io.x(c)).collect();
        let psi = io.slot(PSI);
        let (inside, last) = match self.aim()? {
            Aim::Event(event) => {
                let inside = holds(b, &event.resolve(b)?, &x);
                let out = if self.draw.is_some() { LEAST } else { f64::NEG_INFINITY };
                (Some(inside), inside.choose(-psi, out))
            }
            Aim::Reward(reward, scale) => (None, reward.value(b, &x)? * *scale - psi),
        };
        if self.draw.is_none() {
            if let Some(inside) = inside {
                io.set_feasible(inside);
            }
            io.set_log_weight(last);
            return Ok(());
        }
        let (batch, k) = (b.batch(), i64::from(self.particles));
        let groups = batch / k.max(1);
        let was = io.slot(WEIGHT);
        let weight = (was + last).reshape(&[groups, k]);
        let first = b.iota(&[groups, k], 0, abi::I32) * b.full_as(k as f64, &[1, 1], abi::I32);
        let parent = (self.parents(b, weight.softmax(1)) + first).reshape(&[batch]);
        for (c, x) in x.iter().enumerate() {
            io.set_out(c, x.gather(parent, 0));
        }
        if let Some(inside) = inside {
            io.set_feasible(inside.gather(parent, 0));
        }
        let mean = self.mean_weight(weight).broadcast_to(&[groups, k]);
        io.set_log_weight(mean.reshape(&[batch]) - was);
        Ok(())
    }
}

impl Steer {
    fn aim(&self) -> Result<&Aim> {
        self.aim.as_ref().ok_or_else(|| Error::invalid(format!("steer {NO_EVENT}, or a reward")))
    }

    /// Systematic resampling: the place in its group of the parent of each particle, `i32 [groups, k]`, of shares
    /// `[groups, k]`. One that has no share is nobody's parent while another has some.
    fn parents<'b>(&self, b: Builder<'b>, share: Node<'b>) -> Node<'b> {
        let k = i64::from(self.particles);
        let groups = b.batch() / k.max(1);
        // parent i is the first whose cumulative share is above (i + U)/K, U of the first particle
        let u = b.uniform(&[b.batch()], purpose::GUIDANCE).reshape(&[groups, k]);
        let u = u.slice(&[0, 0], &[groups, 1]);
        let place = b.iota(&[groups, k], 1, abi::I32);
        let point = (place.cast(0) + u) * (BELOW_ONE / f64::from(self.particles));
        let passed = share
            .cumsum(1)
            .reshape(&[groups, 1, k])
            .less_eq((point * share.sum_keep(&[1])).reshape(&[groups, k, 1]));
        let most = b.full_as((k - 1) as f64, &[1, 1], abi::I32);
        passed.cast(abi::I32).sum(&[2]).min(most)
    }

    /// The log of the mean of the exponentials in each group, `[groups, 1]`.
    fn mean_weight<'b>(&self, weight: Node<'b>) -> Node<'b> {
        weight.reduce(diffx_plugin::op::LOGSUMEXP, &[1], true) - f64::from(self.particles).ln()
    }

    fn log_twist<'b>(&self, b: Builder<'b>, io: &Guide<'b>) -> Result<Node<'b>> {
        let n = io.components();
        let (x, sigma): (Vec<_>, Vec<_>) = (0..n).map(|c| (io.x(c), io.sigma(c))).unzip();
        if let (Aim::Event(_), H::Network { .. }) = (self.aim()?, &self.h) {
            // no D is read; at level 0, where no network has been, the twist stays what it was
            let level = x.iter().zip(&sigma).map(|(x, s)| per_row(*s, *x)).reduce(Node::max);
            let e = WrapEval { phase: 0, x, sigma, cond: None };
            let value = log_h::learned(b, &self.h, &e)?.max(LEAST);
            let level = level.ok_or_else(|| Error::invalid("steer wants a component"))?;
            return Ok(level.greater(0.0).choose(value, io.slot(PSI)));
        }
        let d = b.denoise_at(io.inner, &x, &sigma);
        let e = WrapEval { phase: 0, x, sigma, cond: None };
        match self.aim()? {
            // finite where the numbers of a state end: a difference of two of them is taken
            Aim::Event(event) => {
                let h = log_h::at(b, &H::Normal, Some(&event.resolve(b)?), &e, &d)?;
                Ok(h.value.max(LEAST))
            }
            Aim::Reward(reward, scale) => {
                let decode = |(c, d): (usize, &Node<'b>)| b.process(c).decode(*d, e.sigma[c] * 0.0);
                let x: Vec<Node<'b>> = d.iter().enumerate().map(decode).collect();
                Ok(reward.value(b, &x)? * *scale)
            }
        }
    }
}
