//! Particles steered by resampling (Feynman-Kac steering, Singhal et al. 2025, arXiv 2501.06848; twisted SMC, Wu et al.
//! 2023, arXiv 2306.17775; specs guidance_samplers 2.7). Groups of `particles` samples run by the sampler's own kernel; a
//! twist psi(w, sigma) says how promising a state is, `log weight += log psi' - log psi` after each step, and where the
//! effective size of a group falls below `ess` of it, its particles are drawn anew by weight (systematic resampling).
//!
//! The twist is `exp(scale r(D))` of a reward r of the decoded prediction, or the normal-posterior h of an event. It need
//! not be right: `finish` puts the true one in its place, so weighted samples are unbiased for any group size, and the
//! mean weight is that of the reward, or the probability of the event. Unweighted samples are right as groups grow.
//! Fails for deterministic samplers: copies stay copies.

use crate::log_h::{self, H};
use crate::reject::NO_EVENT;
use core::ffi::CStr;
use diffx_plugin::event::{Event, Reward, holds};
use diffx_plugin::{
    Builder, Config, Error, FINITE, Factory, Guidance, GuidanceInfo, Guide, Hooks, Like, Node,
    Result, Slot, Stage, WrapEval, abi, purpose, schema,
};

#[derive(Debug)]
enum Aim {
    Event(Event),
    Reward(Reward, f64),
}

#[derive(Debug)]
pub(crate) struct Steer {
    aim: Option<Aim>,
    particles: u32,
    ess: f64,
}

/// log psi of what cannot be any more.
const LEAST: f64 = -1e30;

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
        "particles": integer "samples of a group; ranges of samples hold whole groups", default 16, minimum 2, maximum 4096;
        "ess": number "a group is resampled when its effective size falls below this share of it", default 0.5, minimum 0, maximum 1;
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
        Ok(Self {
            aim,
            particles: config.usize("particles", 16, 2..=4096)? as u32,
            ess: config.f64("ess", 0.5, 0.0..=1.0)?,
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
            networks: vec![],
            group: self.particles,
            exact_for: 1.0,
        }
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
        // parent i is the first whose cumulative share reaches (i + U)/K, U of the first particle
        let u = b.uniform(&[b.batch()], purpose::GUIDANCE).reshape(&[groups, k]);
        let u = u.slice(&[0, 0], &[groups, 1]);
        let place = b.iota(&[groups, k], 1, abi::I32);
        let point = (place.cast(0) + u) / f64::from(self.particles);
        let below = share.cumsum(1).reshape(&[groups, 1, k]).less(point.reshape(&[groups, k, 1]));
        let most = b.full_as((k - 1) as f64, &[1, 1], abi::I32);
        let parent = below.cast(abi::I32).sum(&[2]).min(most);
        let every = |x: Node<'b>| x.broadcast_to(&[groups, k]);
        let parent = every(again).choose(parent, place);
        // of a group drawn anew all that is left of the weights is their mean
        let log_k = f64::from(self.particles).ln();
        let mean = weight.reduce(diffx_plugin::op::LOGSUMEXP, &[1], true) - log_k;
        let after = every(again).choose(every(mean), weight);
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
        match self.aim()? {
            Aim::Event(event) => {
                let inside = holds(b, &event.resolve(b)?, &x);
                io.set_feasible(inside);
                io.set_log_weight(inside.choose(-psi, f64::NEG_INFINITY));
            }
            Aim::Reward(reward, scale) => {
                io.set_log_weight(reward.value(b, &x)? * *scale - psi);
            }
        }
        Ok(())
    }
}

impl Steer {
    fn aim(&self) -> Result<&Aim> {
        self.aim.as_ref().ok_or_else(|| Error::invalid(format!("steer {NO_EVENT}, or a reward")))
    }

    fn log_twist<'b>(&self, b: Builder<'b>, io: &Guide<'b>) -> Result<Node<'b>> {
        let n = io.components();
        let (x, sigma): (Vec<_>, Vec<_>) = (0..n).map(|c| (io.x(c), io.sigma(c))).unzip();
        let d = b.denoise_at(io.inner, &x, &sigma);
        let e = WrapEval { phase: 0, x, sigma, cond: None };
        match self.aim()? {
            // finite where the numbers of a state end: a difference of two of them is taken
            Aim::Event(event) => {
                let h = log_h::at(b, &H::Normal, &event.resolve(b)?, &e, &d)?;
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
