//! MeanFlow (Geng et al. 2025; specs processes 7.2): the network learns the average velocity u(z, r, t) of flow matching
//! between two times, so that z_r = z - (t - r) u in one call (sampler `flow_map`).
//!
//! z = (1 - t) x + t e, v = e - x; `u = v - (t - r) (v ∂u/∂z + ∂u/∂t)`, the right side by one JVP and with its gradient
//! stopped. t and r are a sorted pair of sigmoids of normals, equal for a share of the rows, where it is flow matching.
//! The error of a sample is weighted by `1/(error + constant)^power`.
//!
//! The network predicts a `velocity` under the process `flow`; it takes t as its noise and r as the condition named
//! `r`, of null value 0, so that without a sampler that sets r it leads to the data. Data must bring a table `r`, whose
//! values are not read, because a trainer wants one for each condition.

use crate::level;
use core::ffi::CStr;
use diffx_plugin::{
    Builder, Config, Error, FINITE, Factory, Loss, Node, Objective, ObjectiveInfo, POSITIVE,
    Result, purpose, schema,
};

#[derive(Debug)]
pub(crate) struct MeanFlow {
    mean: f64,
    std: f64,
    equal: f64,
    power: f64,
    constant: f64,
}

impl Factory for MeanFlow {
    const ID: &'static CStr = c"org.diffx.meanflow";
    const SUMMARY: &'static CStr = c"MeanFlow: the average velocity between two times of a flow";
    const SCHEMA: Option<&'static CStr> = schema![
        "mean": number "of logit t", default -0.4;
        "std": number "deviation of logit t", default 1, exclusiveMinimum 0;
        "equal": number "share of the rows with r = t", default 0.75, minimum 0, maximum 1;
        "power": number "of the weight of a sample", default 1, minimum 0;
        "constant": number "added to the error in the weight", default 0.01, exclusiveMinimum 0;
    ];

    fn create(config: &mut Config) -> Result<Self> {
        Ok(Self {
            mean: config.f64("mean", -0.4, FINITE)?,
            std: config.f64("std", 1.0, POSITIVE)?,
            equal: config.f64("equal", 0.75, 0.0..=1.0)?,
            power: config.f64("power", 1.0, 0.0..)?,
            constant: config.f64("constant", 0.01, POSITIVE)?,
        })
    }
}

impl Objective for MeanFlow {
    fn info(&self) -> ObjectiveInfo {
        let metrics = vec!["loss".into(), "mse".into()];
        ObjectiveInfo { metrics, ..ObjectiveInfo::default() }
    }

    fn loss<'b>(&self, b: Builder<'b>, io: &mut Loss<'b>) -> Result<()> {
        if io.components() != 1 || level::is_discrete(b, 0) {
            return Err(Error::invalid("meanflow wants a state of one continuous component"));
        }
        let Some(at) = b.cond_index("r") else {
            return Err(Error::invalid("the network has no condition r, meanflow wants one"));
        };
        let x = b.process(0).encode(io.x0(0));
        let shape = level::shape(x);
        let time = || (b.normal(&shape, purpose::LEVEL) * self.std + self.mean).sigmoid();
        let (one, other) = (time(), time());
        let same = b.uniform(&shape, purpose::LEVEL).less(self.equal);
        let t = one.max(other);
        let r = same.choose(t, one.min(other));
        let noise = b.normal(&x.shape(), purpose::DATA);
        let z = (1.0 - t) * x + t * noise;
        let v = noise - x;
        let mut cond: Vec<Node<'b>> = (0..b.conds()).map(|i| b.cond(i).0).collect();
        let goal = r.reshape(&level::shape(cond[at])).broadcast_to(&cond[at].shape());
        cond[at] = goal;
        let start = t.reshape(&[-1]);
        let u = b.network("base", &[z], &[start], &cond, 1)[0];
        let along = [v, b.full(1.0, &start.shape()), b.full(0.0, &goal.shape())];
        let moved = b.jvp(u, &[z, start, goal], &along);
        let error = (u - (v - (t - r) * moved).stop_gradient()).square();
        let axes: Vec<i64> = (1..error.shape().len() as i64).collect();
        let each = if axes.is_empty() { error } else { error.sum(&axes) };
        let weight = (each + self.constant).log() * -self.power;
        let loss = (weight.exp().stop_gradient() * each).mean(&[]);
        io.set_loss(loss);
        io.set_metric(0, loss);
        io.set_metric(1, error.mean(&[]));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn config_is_checked() {
        let of = |json: &str| MeanFlow::create(&mut Config::parse(json).unwrap());
        let d = of("{}").unwrap();
        assert_eq!((d.mean, d.equal, d.constant), (-0.4, 0.75, 0.01));
        let message = of(r#"{"equal":2}"#).unwrap_err().message;
        assert_eq!(message, "equal is 2, want a number from 0 to 1");
    }
}
