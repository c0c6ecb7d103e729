//! Some numbers of the sample were measured: `y = x0[at] + noise`, in the coordinate w, of variance `noise`. With the
//! residual r = y - D there and 0 elsewhere, and J = dD/dw (one product with it per evaluation):
//!
//! `corrected` (default): `D' = D + sigma^2 J'r / (noise + tau^2)`, `tau^2 = sigma^2 r'Jr / r'r`: the variance of what is
//! not known yet, by Tweedie's formula (Song et al. 2023, PiGDM). Exact for normal data and one measurement, or
//! measurements that the data leave independent.
//! `plain`: `D' = D + scale sigma^2 J'r / noise` (Chung et al. 2023, arXiv 2209.14687), which takes D for x0 itself and
//! is over-confident: the variance comes out several times too small (specs guidance_samplers 2.4).
//! `self`: `D' = D + scale sigma^2 J'r`, self-guidance by the squared error (Kollovieh et al. 2023, arXiv 2307.11494).
//! `quantile`: `D' = D + scale sigma^2 J'q`, theirs by the pinball loss: q is kappa where r > 0 and kappa - 1 where r < 0, with
//! a kappa in (0, 1) of each sample's own, so the samples spread over the quantiles of what is measured.

use crate::rows::{column, eval, total};
use crate::score::wants_score;
use core::ffi::CStr;
use diffx_plugin::event::slope;
use diffx_plugin::{
    Builder, Config, Error, Eval, Factory, Guidance, GuidanceInfo, Guide, Hooks, Like, Node,
    POSITIVE, Result, Slot, Stage, Wrap, purpose, schema,
};
use std::collections::HashSet;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Form {
    Corrected,
    Plain,
    SelfGuidance,
    /// Of one kappa, or of one for each sample.
    Quantile(Option<f64>),
}

/// The slot of each sample's kappa.
const KAPPA: usize = 0;

#[derive(Debug)]
pub(crate) struct Dps {
    known: Known,
    noise: f64,
    scale: f64,
    form: Form,
}

/// Numbers of a sample that are given: their places, row-major in the first component, and values.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Known {
    at: Vec<usize>,
    values: Vec<f64>,
}

impl Known {
    /// Reads `at` and `values`.
    pub(crate) fn read(config: &mut Config) -> Result<Self> {
        let at = config.usizes("at", 0..=1 << 20)?.unwrap_or_default();
        let values = config.f64s("values", diffx_plugin::FINITE)?.unwrap_or_default();
        let mut seen = HashSet::with_capacity(at.len());
        if let Some(twice) = at.iter().find(|k| !seen.insert(**k)) {
            return Err(Error::invalid(format!("at has {twice} twice")));
        }
        Ok(Self { at, values })
    }

    /// The values in the coordinate and 1 where they stand, shaped as one row of the state `[1, ..]`.
    pub(crate) fn in_w<'b>(&self, b: Builder<'b>) -> Result<(Node<'b>, Node<'b>)> {
        let (x, mask) = self.as_given(b)?;
        Ok((b.process(0).encode(x), mask))
    }

    /// The same in the units of the data, bit for bit what was given.
    pub(crate) fn as_given<'b>(&self, b: Builder<'b>) -> Result<(Node<'b>, Node<'b>)> {
        if self.at.is_empty() || self.at.len() != self.values.len() {
            return Err(Error::invalid(format!(
                "at has {} places and values {} numbers, want as many, at least one",
                self.at.len(),
                self.values.len()
            )));
        }
        let Some(view) = b.component(0).filter(|v| !v.discrete) else {
            return Err(Error::unsupported("the first component is discrete"));
        };
        let n: i64 = view.shape.iter().product();
        // places that are not known hold a number that every coordinate takes
        let any = self.values.first().copied().unwrap_or(1.0);
        let (mut full, mut mask) = (vec![any; n as usize], vec![0.0; n as usize]);
        for (at, value) in self.at.iter().zip(&self.values) {
            match (full.get_mut(*at), mask.get_mut(*at)) {
                (Some(x), Some(m)) => (*x, *m) = (*value, 1.0),
                _ => return Err(Error::invalid(format!("place {at} of a sample of {n} numbers"))),
            }
        }
        let shape = view.shape.with_batch(1);
        let node = |x: &[f64]| b.constant_f64(&shape, x).cast(0);
        Ok((node(&full), node(&mask)))
    }
}

impl Factory for Dps {
    const ID: &'static CStr = c"org.diffx.dps";
    const SUMMARY: &'static CStr =
        c"some numbers of the sample were measured (DPS, corrected or plain)";
    const SCHEMA: Option<&'static CStr> = schema![
        "at": integers "places of the measured numbers in a sample, row-major", minimum 0, maximum 1048576;
        "values": numbers "what was measured there, in the units of the data";
        "noise": number "variance of the measurement, in the coordinate of the process", default 0.01, exclusiveMinimum 0;
        "form": string "with the variance of what is not known yet, without, or TSDiff's by squares or by quantiles", default "corrected", enum ["corrected", "plain", "self", "quantile"];
        "scale": number "plain, self and quantile: factor of the gradient", default 1, minimum 0;
        "kappa": number "quantile: which, the same for all samples; default one of its own for each", minimum 0, maximum 1;
    ];

    fn create(config: &mut Config) -> Result<Self> {
        let known = Known::read(config)?;
        let noise = config.f64("noise", 0.01, POSITIVE)?;
        let form = config.one_of(
            "form",
            &[
                ("corrected", Form::Corrected),
                ("plain", Form::Plain),
                ("self", Form::SelfGuidance),
                ("quantile", Form::Quantile(None)),
            ],
        )?;
        let kappa = config.opt_f64("kappa", 0.0..=1.0)?;
        let form = if form == Form::Quantile(None) { Form::Quantile(kappa) } else { form };
        Ok(Self { known, noise, scale: config.f64("scale", 1.0, 0.0..)?, form })
    }
}

impl Guidance for Dps {
    const HOOKS: Hooks = Hooks { start: true, ..Hooks::WRAP };

    fn info(&self) -> GuidanceInfo {
        let kappa = Slot { name: "kappa".into(), like: Like::Tensor(0, vec![]), init: 0.5 };
        GuidanceInfo {
            stage: Stage::Score,
            slots: if self.form == Form::Quantile(None) { vec![kappa] } else { vec![] },
            networks: vec![],
            group: 1,
            exact_for: -1.0,
        }
    }

    fn start<'b>(&self, b: Builder<'b>, io: &mut Guide<'b>) -> Result<()> {
        if self.form == Form::Quantile(None) {
            io.set_slot(KAPPA, b.uniform(&[b.batch()], purpose::GUIDANCE));
        }
        Ok(())
    }

    fn wrap<'b>(&self, b: Builder<'b>, io: &mut Wrap<'b>) -> Result<()> {
        let (y, mask) = self.known.in_w(b)?;
        let evals: Vec<Eval<'_, 'b>> = io.evals.iter().map(eval).collect();
        let d = b.denoise(io.inner, &evals);
        drop(evals);
        let mut out = Vec::new();
        for (e, d) in io.evals.iter().zip(&d) {
            wants_score(b, 0, e.x[0], d[0], e.sigma[0])?;
            let mut residual = ((y - d[0]) * mask).stop_gradient();
            if let Form::Quantile(kappa) = self.form {
                let kappa = match kappa {
                    Some(kappa) => b.scalar(kappa),
                    None => column(io.slot(KAPPA), residual),
                };
                residual = residual.greater(0.0).choose(kappa, kappa - 1.0) * mask;
            }
            // all components see the measurement of the first
            let pulls = slope(b, total(residual * d[0]), &e.x[..1]);
            let pull = pulls.first().copied().unwrap_or_else(|| b.error_node());
            let square = column(e.sigma[0], d[0]).square();
            let step = match self.form {
                Form::Corrected => {
                    let size = total(residual.square()).max(1e-30);
                    let unknown = total(square * residual * pull) / size;
                    let all = unknown.max(0.0) + self.noise;
                    square * pull / column(all, pull)
                }
                Form::Plain => square * pull * (self.scale / self.noise),
                Form::SelfGuidance | Form::Quantile(_) => square * pull * self.scale,
            };
            let mut row = d.clone();
            row[0] = d[0] + step;
            out.push(row);
        }
        for (i, row) in out.into_iter().enumerate() {
            for (c, d) in row.into_iter().enumerate() {
                io.set_out(i, c, d);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn config_is_checked() {
        let dps = |json: &str| Dps::create(&mut Config::parse(json).unwrap());
        assert_eq!(dps(r#"{"at":[2,0],"values":[1,-1]}"#).unwrap().known.at, [2, 0]);
        let message = |json: &str| dps(json).unwrap_err().message;
        assert_eq!(message(r#"{"at":[2,0,2]}"#), "at has 2 twice");
        assert_eq!(message(r#"{"noise":0}"#), "noise is 0, want a number above 0");
    }
}
