//! Classifier-free guidance: `D = D_0 + s (D_c - D_0)`, both evaluations in one batch (specs guidance_samplers 2.5;
//! Ho and Salimans 2022). s = 1 is the conditional model itself and costs nothing extra.
//!
//! `interval` [lo, hi]: s only for sigma in (lo, hi], 1 outside (Kynkäänniemi et al. 2024), where a step asks for D_c
//! alone. `rescale` phi:
//! `D' = phi D std(D_c)/std(D) + (1 - phi) D`, std over all but the batch (Lin et al. 2024), continuous components
//! only. It does not sample p_c^s p_0^{1-s}, whatever is said of it. `channels`: only so many of the first channels are
//! guided, the others are D_c's, as the published code of DiT and SiT has it (3 of 4).

use crate::rows::column;
use core::ffi::CStr;
use diffx_plugin::{
    Builder, Config, Error, Eval, Factory, Guidance, GuidanceInfo, Hooks, Node, Result, Stage,
    Wrap, schema,
};

#[derive(Debug)]
pub(crate) struct Cfg {
    scale: f64,
    interval: Option<(f64, f64)>,
    rescale: f64,
    /// 0 = all.
    channels: usize,
}

/// Keeps the ratio of deviations finite where D is flat.
const TINY: f64 = 1e-12;

impl Factory for Cfg {
    const ID: &'static CStr = c"org.diffx.cfg";
    const SUMMARY: &'static CStr = c"classifier-free guidance, with interval and rescale";
    const SCHEMA: Option<&'static CStr> = schema![
        "scale": number "s in D_0 + s (D_c - D_0); 1 is the conditional model itself", default 1;
        "interval": numbers "[lowest, highest sigma] where scale holds, 1 outside; default everywhere", minimum 0;
        "rescale": number "share of the deviation of D_c that the result gets back", default 0, minimum 0, maximum 1;
        "channels": integer "how many of the first channels are guided, the others being those of D_c; 0 = all", default 0, minimum 0, maximum 1048576;
    ];

    fn create(config: &mut Config) -> Result<Self> {
        let scale = config.f64("scale", 1.0, diffx_plugin::FINITE)?;
        let interval = match config.f64s("interval", 0.0..)?.as_deref() {
            None => None,
            Some([lo, hi]) if lo < hi => Some((*lo, *hi)),
            Some(other) => {
                let text = format!("interval is {other:?}, want [lowest, highest sigma]");
                return Err(Error::invalid(text));
            }
        };
        let rescale = config.f64("rescale", 0.0, 0.0..=1.0)?;
        Ok(Self { scale, interval, rescale, channels: config.usize("channels", 0, 0..=1 << 20)? })
    }
}

/// Both evaluations, the scale chosen by the level; the conditional one alone, for rows outside the interval.
const BOTH: u32 = 0;
const OUTSIDE: u32 = 1;

impl Guidance for Cfg {
    const HOOKS: Hooks = Hooks { variant: true, ..Hooks::WRAP };

    fn variant(&self, lowest: &[f64], highest: &[f64]) -> Result<u32> {
        let Some((lo, hi)) = self.interval else { return Ok(BOTH) };
        let outside = lowest.iter().zip(highest).all(|(low, high)| *high <= lo || *low > hi);
        Ok(if outside { OUTSIDE } else { BOTH })
    }

    fn info(&self) -> GuidanceInfo {
        GuidanceInfo {
            stage: Stage::Condition,
            slots: vec![],
            networks: vec![],
            group: 1,
            exact_for: -1.0,
        }
    }

    fn wrap<'b>(&self, b: Builder<'b>, io: &mut Wrap<'b>) -> Result<()> {
        let null: Vec<Node<'b>> = (0..b.conds()).map(|i| b.cond(i).1).collect();
        let guided = self.scale != 1.0 && !null.is_empty() && io.variant() == BOTH;
        let mut evals = Vec::new();
        for e in &io.evals {
            let cond = e.cond.as_deref();
            evals.push(Eval { phase: e.phase, x: &e.x, sigma: &e.sigma, cond });
            if guided {
                evals.push(Eval { phase: e.phase, x: &e.x, sigma: &e.sigma, cond: Some(&null) });
            }
        }
        let d = b.denoise(io.inner, &evals);
        drop(evals);
        let per_eval = if guided { 2 } else { 1 };
        let mut out = Vec::new();
        for (e, d) in io.evals.iter().zip(d.chunks(per_eval)) {
            for c in 0..io.components() {
                out.push(match d {
                    [with, without] => self.combine(b, c, with[c], without[c], e.sigma[c]),
                    _ => d[0][c],
                });
            }
        }
        let n = io.components().max(1);
        for (i, d) in out.into_iter().enumerate() {
            io.set_out(i / n, i % n, d);
        }
        Ok(())
    }
}

impl Cfg {
    fn combine<'b>(
        &self,
        b: Builder<'b>,
        component: usize,
        with: Node<'b>,
        without: Node<'b>,
        sigma: Node<'b>,
    ) -> Node<'b> {
        let scale = match self.interval {
            None => b.scalar(self.scale),
            Some((lo, hi)) => {
                let inside = column(sigma, with).greater(lo) & column(sigma, with).less_eq(hi);
                inside.choose(self.scale, 1.0)
            }
        };
        let d = self.chosen(b, with, without + scale * (with - without));
        let tokens = b.component(component).is_some_and(|c| c.discrete);
        if self.rescale == 0.0 || tokens {
            return d;
        }
        d * (deviation(with) / deviation(d).max(TINY) * self.rescale + (1.0 - self.rescale))
    }
}

impl Cfg {
    /// The first channels (axis 1) of what is guided, the others of D_c.
    fn chosen<'b>(&self, b: Builder<'b>, with: Node<'b>, guided: Node<'b>) -> Node<'b> {
        let (shape, n) = (guided.shape(), self.channels as i64);
        if n == 0 || shape.len() < 3 || shape[1] <= n {
            return guided; // a vector has no channels
        }
        let (mut start, mut stop) = (vec![0; shape.len()], shape.to_vec());
        stop[1] = n;
        let first = guided.slice(&start, &stop);
        (start[1], stop[1]) = (n, shape[1]);
        b.concat(&[first, with.slice(&start, &stop)], 1)
    }
}

/// Standard deviation of each row, `[batch, 1, ..]`.
fn deviation(x: Node<'_>) -> Node<'_> {
    let axes: Vec<i64> = (1..x.shape().len() as i64).collect();
    if axes.is_empty() {
        return x * 0.0 + 1.0; // one number per row has none
    }
    (x - x.mean_keep(&axes)).square().mean_keep(&axes).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn config_is_checked() {
        let cfg = |json: &str| Cfg::create(&mut Config::parse(json).unwrap());
        assert_eq!(
            cfg(r#"{"scale":3,"interval":[0.28,2.9]}"#).unwrap().interval,
            Some((0.28, 2.9))
        );
        let message = |json: &str| cfg(json).unwrap_err().message;
        assert_eq!(
            message(r#"{"interval":[2,1]}"#),
            "interval is [2.0, 1.0], want [lowest, highest sigma]"
        );
        let want = "channels is -1, want a whole number from 0 to 1048576";
        assert_eq!(message(r#"{"channels":-1}"#), want);
        assert_eq!(message(r#"{"rescale":1.5}"#), "rescale is 1.5, want a number from 0 to 1");
    }
}
