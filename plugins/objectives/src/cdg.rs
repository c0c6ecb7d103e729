//! The martingale loss of Doob's h (CDG-ML; Guo, Tang and Xu, arXiv 2602.05533; specs guidance_samplers 1.1, 1.2): along the
//! reverse process `E[1_event(x0) | w] = h(w, sigma)`, so h is a regression of the label of the end on the state before.
//! At stochasticity 1 the state and its end are jointly what noising makes of the end, so no path is simulated: the data
//! are examples, or samples of a model whose law h is to be of.
//!
//! The network (slot `base` here; a pipeline takes it as `h`) gives the logit of h for `w / sqrt(sigma^2 + unit^2)` and
//! `ln(sigma)/4`, as the guidance `doob` calls it; the loss is the cross entropy, with the same minimum as the square and a gradient in the
//! tails. Labels are said by the data alone, once per example: by an event of it, or with `labels` by the host, in a table
//! `reward` of 1 inside and 0 outside (a number between counts as that share of an example inside). Levels are log-uniform in `range`, relative to `unit` or,
//! where none is given, to the deviation of the data in w: at the small ones h is an edge that must be seen.
//!
//! Metrics: `loss`, `positive` (share of the event in the batch), `brier` (mean of (h - label)^2).

use core::ffi::CStr;
use diffx_plugin::event::{Event, holds};
use diffx_plugin::{
    Builder, Config, Error, Factory, Loss, Node, Objective, ObjectiveInfo, POSITIVE, Result,
    purpose, record, schema,
};

#[derive(Debug)]
pub(crate) struct Cdg {
    event: Option<Event>,
    /// The data's table `reward` says who is inside.
    labels: bool,
    /// ln of the ends of sigma / size.
    range: (f64, f64),
    unit: Option<f64>,
}

impl Factory for Cdg {
    const ID: &'static CStr = c"org.diffx.cdg";
    const SUMMARY: &'static CStr =
        c"the probability of an event given the noisy state, for Doob's h";
    const SCHEMA: Option<&'static CStr> = schema![
        "event": string "what h is the probability of, as in max(x) >= 40";
        "labels": boolean "in the place of an event, a table reward of the data: 1 inside, 0 outside", default false;
        "unit": number "the root mean square of w that the input is scaled by; default that of these data. Give it where h is for a model of other data, here and in doob", exclusiveMinimum 0;
        "range": numbers "[lowest, highest] sigma / unit, or / deviation of the data where no unit is given; default [0.002, 160]", exclusiveMinimum 0;
    ];

    fn create(config: &mut Config) -> Result<Self> {
        let event = match config.opt_str("event")? {
            Some(text) => Some(Event::parse("event", &text)?),
            None => None,
        };
        let labels = config.bool("labels", false)?;
        if labels && event.is_some() {
            return Err(Error::invalid("both event and labels are given, want one of them"));
        }
        let unit = config.opt_f64("unit", POSITIVE)?;
        Ok(Self { event, labels, range: range(config)?, unit })
    }
}

impl Objective for Cdg {
    fn info(&self) -> ObjectiveInfo {
        let metrics = vec!["loss".into(), "positive".into(), "brier".into()];
        let (records, n_rewards) = if self.labels { (record::REWARD, 1) } else { (0, 0) };
        ObjectiveInfo { records, n_rewards, metrics, ..ObjectiveInfo::default() }
    }

    fn loss<'b>(&self, b: Builder<'b>, io: &mut Loss<'b>) -> Result<()> {
        let n = io.components();
        if n == 0 || (0..n).any(|c| b.component(c).is_some_and(|v| v.discrete)) {
            return Err(Error::invalid("cdg wants continuous components, at least one"));
        }
        let x: Vec<Node<'b>> = (0..n).map(|c| io.x0(c)).collect();
        let batch = b.batch();
        let label = match &self.event {
            Some(event) => holds(b, &event.resolve(b)?, &x).cast(0),
            None if self.labels => io.reward().reshape(&[batch]).clamp(0.0, 1.0),
            None => {
                return Err(Error::invalid(
                    "cdg needs an event, as in \"max(x) >= 40\", or \"labels\": true and a table reward",
                ));
            }
        };
        let log = level(b, self.range);
        let (mut w, mut sigmas) = (Vec::new(), Vec::new());
        for (c, x) in x.iter().enumerate() {
            let law = b.process(c);
            let sigma = (log.exp() * size(b, c, self.unit)).reshape(&crate::level::shape(*x));
            let [noised, _] = law.perturb(law.encode(*x), sigma, purpose::DATA);
            w.push(noised);
            sigmas.push(sigma);
        }
        let out = asked(b, "base", &w, &sigmas, &unit_of(b, n, self.unit), 1);
        let logit = match out.first() {
            Some(out) if out.shape().iter().product::<i64>() == batch => out.reshape(&[batch]),
            Some(out) if out.is_error() => b.error_node(),
            _ => {
                return Err(Error::invalid(
                    "cdg: the network gives more than one number per sample, want the logit of h, as of \
                     mlp with predicts \"value\" and out 1",
                ));
            }
        };
        let loss = (logit.softplus() - logit * label).mean(&[]);
        io.set_loss(loss);
        io.set_metric(0, loss);
        io.set_metric(1, label.mean(&[]));
        io.set_metric(2, (logit.sigmoid() - label).square().mean(&[]));
        Ok(())
    }
}

/// Reads `range`, as logarithms.
pub(crate) fn range(config: &mut Config) -> Result<(f64, f64)> {
    match config.f64s("range", POSITIVE)?.as_deref() {
        None => Ok((0.002f64.ln(), 160f64.ln())),
        Some([lo, hi]) if lo < hi => Ok((lo.ln(), hi.ln())),
        Some(other) => Err(Error::invalid(format!("range is {other:?}, want [lowest, highest]"))),
    }
}

/// The logarithm of a level relative to the deviation, one place in the range per row, for all components.
pub(crate) fn level<'b>(b: Builder<'b>, (lo, hi): (f64, f64)) -> Node<'b> {
    b.uniform(&[b.batch()], purpose::LEVEL) * (hi - lo) + lo
}

/// What levels are relative to: the size of the model's data where it is given, or the deviation of these. Data given an
/// event are narrower than the model's, and an h must know the levels that the model starts from.
pub(crate) fn size(b: Builder<'_>, c: usize, unit: Option<f64>) -> f64 {
    unit.unwrap_or_else(|| b.stats(c).w_var.sqrt())
}

/// Squares of the sizes that states are scaled by: of each component.
pub(crate) fn unit_of(b: Builder<'_>, components: usize, unit: Option<f64>) -> Vec<f64> {
    let of = |c| {
        let stats = b.stats(c);
        unit.map_or(stats.w_var + stats.w_mean * stats.w_mean, |u| u * u)
    };
    (0..components).map(of).collect()
}

/// What the network of a slot says of `w / sqrt(sigma^2 + unit^2)` and `ln(sigma)/4`, as the guidance `doob` asks it.
pub(crate) fn asked<'b>(
    b: Builder<'b>,
    slot: &str,
    w: &[Node<'b>],
    sigma: &[Node<'b>],
    squares: &[f64],
    n_out: usize,
) -> Vec<Node<'b>> {
    let scaled = |((w, s), u): ((&Node<'b>, &Node<'b>), &f64)| *w * (s.square() + *u).rsqrt();
    let given: Vec<Node<'b>> = w.iter().zip(sigma).zip(squares).map(scaled).collect();
    let noise: Vec<Node<'b>> = sigma.iter().map(|s| s.reshape(&[b.batch()]).log() * 0.25).collect();
    let cond: Vec<Node<'b>> = (0..b.conds()).map(|i| b.cond(i).0).collect();
    b.network(slot, &given, &noise, &cond, n_out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn config_is_checked() {
        let cdg = |json: &str| Cdg::create(&mut Config::parse(json).unwrap());
        assert_eq!(cdg("{}").unwrap().range, (0.002f64.ln(), 160f64.ln()));
        let message = |json: &str| cdg(json).unwrap_err().message;
        assert_eq!(message(r#"{"range":[2,1]}"#), "range is [2.0, 1.0], want [lowest, highest]");
        assert!(message(r#"{"event":"max(x"}"#).starts_with("event, column 6"));
        assert_eq!(
            message(r#"{"event":"x >= 1","labels":true}"#),
            "both event and labels are given, want one of them"
        );
        let told = cdg(r#"{"labels":true}"#).unwrap().info();
        assert_eq!((told.records, told.n_rewards), (record::REWARD, 1));
    }
}
