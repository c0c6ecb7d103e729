//! Bounds on every number of the sample. `prediction`: D is put between them before the sampler sees it (static
//! thresholding), in the coordinate, which every process makes an increasing function of the data. `end`: only the
//! finished sample is. `reflect`: after each step the state is mirrored at the bound it passed, also in the coordinate.
//!
//! The first two leave an atom on the bound: N(0, 1) put above 1.5 at the end has 93 % of its samples there (specs
//! guidance_samplers 2.1); the third leaves none, and a law too near the bound, for the score is not that of reflected noise
//! (2.2). A net below guidance, never the guidance: for a law given its bounds use `doob` or `reject`.

use crate::score::wants_apart;
use core::ffi::CStr;
use diffx_plugin::{
    Builder, Config, Error, Eval, FINITE, Factory, Guidance, GuidanceInfo, Guide, Hooks, Node,
    Result, Stage, Wrap, schema,
};

#[derive(Debug)]
pub(crate) struct Project {
    low: Option<f64>,
    high: Option<f64>,
    when: When,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    Prediction,
    End,
    Reflect,
}

impl Factory for Project {
    const ID: &'static CStr = c"org.diffx.project";
    const SUMMARY: &'static CStr = c"every number of the sample between two bounds";
    const SCHEMA: Option<&'static CStr> = schema![
        "low": number "no number of the sample is below it";
        "high": number "no number of the sample is above it";
        "when": string "every prediction and the end, the end alone, or the end and every state, by reflection", default "prediction", enum ["prediction", "end", "reflect"];
    ];

    fn create(config: &mut Config) -> Result<Self> {
        let (low, high) = (config.opt_f64("low", FINITE)?, config.opt_f64("high", FINITE)?);
        if let (Some(low), Some(high)) = (low, high)
            && low > high
        {
            return Err(Error::invalid(format!(
                "low is {low}, want at most high, which is {high}"
            )));
        }
        let when = config.one_of(
            "when",
            &[("prediction", When::Prediction), ("end", When::End), ("reflect", When::Reflect)],
        )?;
        Ok(Self { low, high, when })
    }
}

impl Guidance for Project {
    const HOOKS: Hooks = Hooks { project: true, finish: true, ..Hooks::WRAP };

    fn info(&self) -> GuidanceInfo {
        GuidanceInfo {
            stage: Stage::Rescale,
            slots: vec![],
            networks: vec![],
            group: 1,
            exact_for: -1.0,
        }
    }

    fn wrap<'b>(&self, b: Builder<'b>, io: &mut Wrap<'b>) -> Result<()> {
        let evals: Vec<Eval<'_, 'b>> = io.evals.iter().map(crate::rows::eval).collect();
        let d = b.denoise(io.inner, &evals);
        drop(evals);
        for (i, row) in d.into_iter().enumerate() {
            for (c, d) in row.into_iter().enumerate() {
                let free =
                    self.when != When::Prediction || b.component(c).is_some_and(|v| v.discrete);
                if !free {
                    wants_apart(b, c, d, io.evals[i].sigma[c])?;
                }
                io.set_out(i, c, if free { d } else { self.clamp(d, in_w(b, c, d)) });
            }
        }
        Ok(())
    }

    fn project<'b>(&self, b: Builder<'b>, io: &mut Guide<'b>) -> Result<()> {
        if self.when != When::Reflect {
            return Ok(());
        }
        for c in 0..io.components() {
            if b.component(c).is_some_and(|v| v.discrete) {
                continue;
            }
            let x = io.x(c);
            wants_apart(b, c, x, io.sigma(c))?;
            let bound = in_w(b, c, x);
            let up = self.low.map_or(x, |low| x.max(bound(low) * 2.0 - x));
            let down = self.high.map_or(up, |high| up.min(bound(high) * 2.0 - up));
            io.set_out(c, self.clamp(down, bound)); // from beyond the other bound
        }
        Ok(())
    }

    fn finish<'b>(&self, b: Builder<'b>, io: &mut Guide<'b>) -> Result<()> {
        for c in 0..io.components() {
            if !b.component(c).is_some_and(|v| v.discrete) {
                io.set_out(c, self.clamp(io.x(c), |x| b.scalar(x)));
            }
        }
        Ok(())
    }
}

/// A number of the data in the coordinate, beside `like`.
fn in_w<'b>(b: Builder<'b>, c: usize, like: Node<'b>) -> impl Fn(f64) -> Node<'b> {
    move |x| b.process(c).encode(b.full(x, &vec![1; like.shape().len()]))
}

impl Project {
    fn clamp<'b>(&self, x: Node<'b>, bound: impl Fn(f64) -> Node<'b>) -> Node<'b> {
        let x = self.low.map_or(x, |low| x.max(bound(low)));
        self.high.map_or(x, |high| x.min(bound(high)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn config_is_checked() {
        let project = |json: &str| Project::create(&mut Config::parse(json).unwrap());
        let e = project(r#"{"low":2,"high":1}"#).unwrap_err();
        assert_eq!(e.message, "low is 2, want at most high, which is 1");
    }
}
