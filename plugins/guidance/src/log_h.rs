//! log h(w, sigma) = log P(event | w at sigma) and its gradient by w, in three ways.
//!
//! `normal`: the posterior of the clean coordinate is taken as normal with mean D and Tweedie's covariance
//! sigma^2 dD/dw. For the margin m of the event, linear about D with slope g:
//! `h = Phi(m(D) / tau)`, `tau^2 = sigma^2 g' (dD/dw) g`, `grad log h = lambda(z)/tau (dD/dw)' g`: one product with the
//! Jacobian. Exact where data are normal and the event is one half space; else an approximation from the model alone.
//! `gamma`: closed, for Gamma data under BESQ and CIR. `network`: a network of its own gives the logit of h; several, of
//! events each inside the last and each learned from samples given the last, multiply (telescoping).

use crate::gamma::HalfLine;
use crate::rows::{column, per_row, total};
use diffx_plugin::event::{Condition, margin_in_w, slope};
use diffx_plugin::{Builder, Config, Error, Node, POSITIVE, Result, WrapEval};

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum H {
    Normal,
    Gamma(HalfLine),
    Network {
        /// One of each telescoped event.
        slots: Vec<String>,
        /// The size of w its input is scaled by; None = what the statistics say.
        unit: Option<f64>,
        /// Networks whose sum is `sigma grad log h`; none = the gradient of those in `slots`.
        gradient: Vec<String>,
    },
}

/// What only an h of some kind reads must not be given to another.
pub(crate) fn refuse(config: &Config, keys: &[&str], of: &str) -> Result<()> {
    match keys.iter().find(|key| config.has(key)) {
        None => Ok(()),
        Some(key) => Err(Error::invalid(format!(
            "{key} is read where \"h\" is \"{of}\" alone, which it is not here"
        ))),
    }
}

impl H {
    /// Reads `slot` and `unit`.
    pub(crate) fn learned(config: &mut Config) -> Result<Self> {
        let slots = names(config, "slot")?.unwrap_or_else(|| vec!["h".into()]);
        Ok(Self::Network { slots, unit: config.opt_f64("unit", POSITIVE)?, gradient: vec![] })
    }

    /// Reads `gradient`.
    pub(crate) fn with_gradient(mut self, config: &mut Config) -> Result<Self> {
        let named = names(config, "gradient")?;
        if let (Self::Network { gradient, .. }, Some(named)) = (&mut self, named) {
            *gradient = named;
        }
        Ok(self)
    }

    /// The networks it reads.
    pub(crate) fn slots(&self) -> Vec<String> {
        match self {
            Self::Network { slots, gradient, .. } => [&slots[..], gradient].concat(),
            _ => vec![],
        }
    }
}

/// Slots with commas between.
fn names(config: &mut Config, key: &'static str) -> Result<Option<Vec<String>>> {
    let Some(text) = config.opt_str(key)? else { return Ok(None) };
    let slots: Vec<String> = text.split(',').map(|s| s.trim().to_owned()).collect();
    let twice = slots.iter().enumerate().any(|(i, s)| s.is_empty() || slots[..i].contains(s));
    if twice {
        return Err(Error::invalid(format!(
            "{key} is {text:?}, want names with commas between, each once"
        )));
    }
    Ok(Some(slots))
}

/// At one evaluation.
pub(crate) struct LogH<'b> {
    /// `[rows]`
    pub(crate) value: Node<'b>,
    /// Gradient by each component, where it has one.
    pub(crate) slope: Vec<Option<Node<'b>>>,
}

/// The variance of the margin is at least this share of what noise or data alone would give it: a network's Jacobian may
/// have no sign.
const LEAST_SHARE: f64 = 1e-4;
/// Keeps quotients finite at level 0, where they are multiplied by it.
const TINY: f64 = 1e-30;

pub(crate) fn at<'b>(
    b: Builder<'b>,
    h: &H,
    event: Option<&Condition>,
    e: &WrapEval<'b>,
    d: &[Node<'b>],
) -> Result<LogH<'b>> {
    let read = || event.ok_or_else(|| Error::invalid("this h reads the event, and there is none"));
    match h {
        H::Normal => normal(b, read()?, e, d),
        H::Gamma(law) => {
            let (c, threshold) = law.threshold(read()?)?;
            let value = law.log_h(b, c, e.x[c], e.sigma[c], threshold)?;
            let mut slopes = vec![None; e.x.len()];
            slopes[c] = slope(b, value, &[e.x[c]]).pop();
            Ok(LogH { value, slope: slopes })
        }
        H::Network { gradient, unit, .. } => {
            let value = learned(b, h, e)?;
            let slope = match &gradient[..] {
                [] => slopes(b, value, e),
                slots => told(b, slots, *unit, e)?,
            };
            Ok(LogH { value, slope })
        }
    }
}

/// The components of the state that have a gradient.
fn continuous(b: Builder<'_>) -> Vec<usize> {
    (0..b.components()).filter(|c| b.component(*c).is_some_and(|v| !v.discrete)).collect()
}

fn normal<'b>(
    b: Builder<'b>,
    event: &Condition,
    e: &WrapEval<'b>,
    d: &[Node<'b>],
) -> Result<LogH<'b>> {
    let mut reads = Vec::new();
    event.reads(&mut reads);
    if reads.is_empty() {
        return Err(Error::invalid("event: reads no component"));
    }
    let clean: Vec<Node<'b>> = e.sigma.iter().zip(d).map(|(s, d)| column(*s, *d) * 0.0).collect();
    let margin = margin_in_w(b, event, d, &clean);
    let read: Vec<Node<'b>> = reads.iter().map(|c| d[*c]).collect();
    let g: Vec<Node<'b>> = slope(b, margin, &read).into_iter().map(Node::stop_gradient).collect();
    let along = read.iter().zip(&g).map(|(d, g)| total(*d * *g)).reduce(|a, b| a + b);
    let along = along.unwrap_or_else(|| b.error_node()); // there is at least one
    let by = continuous(b);
    let x: Vec<Node<'b>> = by.iter().map(|c| e.x[*c]).collect();
    let back = slope(b, along, &x);
    let mut variance = b.scalar(TINY);
    let mut least = b.scalar(TINY);
    for (c, g) in reads.iter().zip(&g) {
        let square = column(e.sigma[*c], *g).square();
        let noise = square.min(b.stats(*c).w_var) * LEAST_SHARE;
        least = least + total(noise * g.square());
        if let Some(at) = by.iter().position(|k| k == c) {
            variance = variance + total(square * *g * back[at]);
        }
    }
    let tau = variance.max(least).sqrt();
    let z = margin / tau;
    let value = z.log_ndtr();
    let rate = slope(b, value, &[z]).pop().unwrap_or_else(|| b.error_node()) / tau;
    let mut slopes = vec![None; e.x.len()];
    for (c, back) in by.iter().zip(back) {
        slopes[*c] = Some(column(rate, back) * back);
    }
    Ok(LogH { value, slope: slopes })
}

/// log h of networks, which read no D, `[rows]`.
pub(crate) fn learned<'b>(b: Builder<'b>, h: &H, e: &WrapEval<'b>) -> Result<Node<'b>> {
    let H::Network { slots, unit, .. } = h else {
        return Err(Error::invalid("h is of no network"));
    };
    let rows = e.x.first().map_or(0, |x| x.shape().first().copied().unwrap_or(0));
    let mut sum: Option<Node<'b>> = None;
    for slot in slots {
        let out = asked(b, slot, *unit, e, 1).pop().unwrap_or_else(|| b.error_node());
        if !out.is_error() && out.shape().iter().product::<i64>() != rows {
            return Err(Error::invalid(format!(
                "network {slot}: gives more than one number per sample, want the logit of h"
            )));
        }
        let value = -((-out.reshape(&[rows])).softplus());
        sum = Some(sum.map_or(value, |s| s + value));
    }
    sum.ok_or_else(|| Error::invalid("h of no network"))
}

/// The gradient of a number of each row by each continuous component.
pub(crate) fn slopes<'b>(
    b: Builder<'b>,
    value: Node<'b>,
    e: &WrapEval<'b>,
) -> Vec<Option<Node<'b>>> {
    let by = continuous(b);
    let x: Vec<Node<'b>> = by.iter().map(|c| e.x[*c]).collect();
    let mut out = vec![None; e.x.len()];
    for (c, s) in by.iter().zip(slope(b, value, &x)) {
        out[*c] = Some(s);
    }
    out
}

/// What the network of the slot says. It sees `w / sqrt(sigma^2 + unit^2)`, `ln(sigma)/4` and the conditions of the
/// evaluation. The unit is the root mean square of w: h of a rarer event may be learned from other data than the model,
/// and says it then.
pub(crate) fn asked<'b>(
    b: Builder<'b>,
    slot: &str,
    unit: Option<f64>,
    e: &WrapEval<'b>,
    n_out: usize,
) -> Vec<Node<'b>> {
    let (mut given, mut noise) = (Vec::new(), Vec::new());
    for (c, x) in e.x.iter().enumerate() {
        if b.component(c).is_some_and(|v| v.discrete) {
            given.push(*x);
            noise.push(per_row(e.sigma[c], *x));
            continue;
        }
        let stats = b.stats(c);
        let square = unit.map_or(stats.w_var + stats.w_mean * stats.w_mean, |u| u * u);
        given.push(*x * (column(e.sigma[c], *x).square() + square).rsqrt());
        noise.push(per_row(e.sigma[c], *x).max(TINY).log() * 0.25);
    }
    let cond = match &e.cond {
        Some(cond) => cond.clone(),
        None => (0..b.conds()).map(|i| b.cond(i).0).collect(),
    };
    b.network(slot, &given, &noise, &cond, n_out)
}

/// The gradient as networks say it that give `sigma grad log h` of each component.
fn told<'b>(
    b: Builder<'b>,
    slots: &[String],
    unit: Option<f64>,
    e: &WrapEval<'b>,
) -> Result<Vec<Option<Node<'b>>>> {
    let mut sum: Vec<Option<Node<'b>>> = vec![None; e.x.len()];
    for slot in slots {
        let out = asked(b, slot, unit, e, e.x.len());
        for (c, out) in out.into_iter().enumerate() {
            let (x, sigma) = (&e.x[c], &e.sigma[c]); // as many as were asked for
            if b.component(c).is_some_and(|v| v.discrete) {
                continue;
            }
            let numbers = |n: Node<'b>| n.shape().iter().product::<i64>();
            if !out.is_error() && numbers(out) != numbers(*x) {
                let text =
                    format!("network {slot}: gives other than a number for each of the state");
                return Err(Error::invalid(text));
            }
            let slope = out.reshape(&x.shape()) / column(*sigma, *x).max(TINY);
            sum[c] = Some(sum[c].map_or(slope, |s| s + slope));
        }
    }
    Ok(sum)
}
