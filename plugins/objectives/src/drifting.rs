//! Drifting (arXiv 2602.04770; specs processes 7.4): a generator of one step, whose samples of a batch drift towards the
//! data and away from each other: `|f - sg(f + V)|²`, V(x) = MS_data(x) - MS_samples(x), the mean shifts under a
//! kernel of the distance, `MS(x) = Σ k(x, y)(y - x) / Σ k(x, y)`; a sample is not its own neighbour.
//!
//! f is D at one level: `sigma` is where the prior is drawn, and a pipeline with `sigma_max` of the same value and one
//! step of any sampler gives a sample. Distances are over all elements of w. With `relative` widths are multiples of
//! the mean distance to the data; with `unit` the drift of each width is brought to a root mean square of 1 before they
//! are summed, as in the paper, and then does not fade as the laws meet. Features of another network are not taken.

use crate::level;
use core::ffi::CStr;
use diffx_plugin::{
    Attr, Builder, Config, Error, Factory, Loss, Node, Objective, ObjectiveInfo, POSITIVE, Result,
    abi, attr, op, purpose, schema,
};

#[derive(Debug)]
pub(crate) struct Drifting {
    sigma: f64,
    gaussian: bool,
    widths: Vec<f64>,
    relative: bool,
    unit: bool,
}

impl Factory for Drifting {
    const ID: &'static CStr = c"org.diffx.drifting";
    const SUMMARY: &'static CStr = c"drifting: a one-step generator moved by mean shifts";
    const SCHEMA: Option<&'static CStr> = schema![
        "sigma": number "noise level of the prior it starts from", default 1, exclusiveMinimum 0;
        "kernel": string "of the distance: exp(-d/width), or exp(-d^2/(2 width^2))", default "laplace", enum ["laplace", "gaussian"];
        "widths": numbers "of the kernel, their drifts summed; default [0.5]", exclusiveMinimum 0;
        "relative": boolean "widths are multiples of the mean distance to the data", default false;
        "unit": boolean "the drift of each width has a root mean square of 1", default false;
    ];

    fn create(config: &mut Config) -> Result<Self> {
        let widths = config.f64s("widths", POSITIVE)?.unwrap_or_else(|| vec![0.5]);
        if widths.is_empty() || widths.len() > 16 {
            let n = widths.len();
            return Err(Error::invalid(format!("widths are {n} numbers, want 1 to 16")));
        }
        Ok(Self {
            sigma: config.f64("sigma", 1.0, POSITIVE)?,
            gaussian: config.one_of("kernel", &[("laplace", false), ("gaussian", true)])?,
            widths,
            relative: config.bool("relative", false)?,
            unit: config.bool("unit", false)?,
        })
    }
}

/// Log of a weight of 0.
const NEVER: f64 = -1e30;

impl Objective for Drifting {
    fn info(&self) -> ObjectiveInfo {
        let metrics = vec!["loss".into(), "drift".into()];
        ObjectiveInfo { metrics, ..ObjectiveInfo::default() }
    }

    fn loss<'b>(&self, b: Builder<'b>, io: &mut Loss<'b>) -> Result<()> {
        if io.components() != 1 || level::is_discrete(b, 0) {
            return Err(Error::invalid("drifting wants a state of one continuous component"));
        }
        let Some(base) = b.denoiser_of("base") else {
            return Err(Error::invalid("there is no network slot named base"));
        };
        let data = b.process(0).encode(io.x0(0));
        let sigma = b.full(self.sigma, &level::shape(data));
        let noise = b.process(0).prior(sigma, purpose::DATA);
        let Some(f) = b.denoise_at(base, &[noise], &[sigma]).pop() else {
            return Err(Error::invalid("there is no component"));
        };
        let flat = |x: Node<'b>| x.reshape(&[b.batch(), -1]).stop_gradient();
        let v = self.drift(b, flat(f), flat(data)).reshape(&f.shape());
        let loss = (f - (f.stop_gradient() + v)).square().mean(&[]);
        io.set_loss(loss);
        io.set_metric(0, loss);
        io.set_metric(1, loss.sqrt());
        Ok(())
    }
}

impl Drifting {
    /// V of samples `[batch, features]`.
    fn drift<'b>(&self, b: Builder<'b>, samples: Node<'b>, data: Node<'b>) -> Node<'b> {
        let square = [distance(samples, data), distance(samples, samples)];
        let shape = square[1].shape();
        let own = b.iota(&shape, 0, abi::I32).equals(b.iota(&shape, 1, abi::I32));
        let unit = if self.relative { square[0].sqrt().mean(&[]) } else { b.scalar(1.0) };
        let mut total = b.scalar(0.0);
        for width in &self.widths {
            let h = unit * *width;
            let [near, far] = square.map(|d| match self.gaussian {
                true => d / (h.square() * -2.0),
                false => -d.sqrt() / h,
            });
            let toward = near.softmax(-1).matmul(data);
            let away = own.choose(NEVER, far).softmax(-1).matmul(samples);
            let mut v = toward - away;
            if self.unit {
                v = v / v.square().mean(&[]).sqrt().max(1e-12);
            }
            total = total + v;
        }
        total
    }
}

/// Squared distances of each row of x from each of y.
fn distance<'b>(x: Node<'b>, y: Node<'b>) -> Node<'b> {
    let b = x.builder();
    let product = b.emit(op::MATMUL, &[x, y], &[Attr::int(attr::TRANS_B, 1)]);
    let (of_x, of_y) = (x.square().sum_keep(&[-1]), y.square().sum(&[-1]));
    (of_x + of_y - product * 2.0).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn config_is_checked() {
        let of = |json: &str| Drifting::create(&mut Config::parse(json).unwrap());
        assert_eq!(of("{}").unwrap().widths, [0.5]);
        let message = of(r#"{"widths":[]}"#).unwrap_err().message;
        assert_eq!(message, "widths are 0 numbers, want 1 to 16");
    }
}
