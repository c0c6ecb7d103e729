//! Consistency training (Song et al. 2023; ECT, Geng et al. 2024; specs processes 7.1): D is taught to be the end of the
//! path through w, so that one step of any sampler gives a sample, and `consistency` trades steps for quality.
//!
//! Two points of one path, `w` at level t and `w_r = (r/t) w + (1 - r/t) target` at r below it, which for additive noise is
//! the same noise; `|D(w, t) - sg D(w_r, r)|²/(t - r)`. r = t max(0, 1 - q^-(stage+1) (1 + k sigmoid(-b t))), t in units of
//! twice the deviation of the data, as ECT has it. A graph is built once, so `stage` does not grow within a run: each
//! stage is a run of its own. `tangent` is the limit of no gap: `t dD/dt` along the path by a JVP (sCM).
//! The network must be the identity at level 0 (any that predicts a `residual`), or at `boundary` of `ve`.

use crate::level;
use core::ffi::CStr;
use diffx_plugin::{
    Builder, Config, Error, FINITE, Factory, Loss, Node, Objective, ObjectiveInfo, POSITIVE,
    Result, abi, purpose, schema,
};

#[derive(Debug)]
pub(crate) struct Consistency {
    mean: f64,
    std: f64,
    stage: f64,
    q: f64,
    k: f64,
    b: f64,
    huber: f64,
    tangent: bool,
}

impl Factory for Consistency {
    const ID: &'static CStr = c"org.diffx.consistency";
    const SUMMARY: &'static CStr = c"consistency training: D becomes the end of the path";
    const SCHEMA: Option<&'static CStr> = schema![
        "mean": number "of ln(t / deviation of the data in w), when absent -0.4068528";
        "std": number "deviation of ln t", default 2, exclusiveMinimum 0;
        "stage": number "how near r is to t: the gap falls as q^-(stage+1)", default 6, minimum 0, maximum 40;
        "q": number "factor of the gap from stage to stage", default 2, exclusiveMinimum 1;
        "k": number "how much wider the gap is at low noise", default 8, minimum 0;
        "b": number "how fast that fades with t", default 1, minimum 0;
        "huber": number "c of the pseudo-Huber loss of a sample, sqrt(d^2 + c^2) - c; 0 is the squared error", default 0, minimum 0;
        "tangent": boolean "the limit of no gap, by a derivative along the path", default false;
    ];

    fn create(config: &mut Config) -> Result<Self> {
        let mean = config.opt_f64("mean", FINITE)?;
        let q =
            config.f64("q", 2.0, (core::ops::Bound::Excluded(1.0), core::ops::Bound::Unbounded));
        Ok(Self {
            mean: mean.unwrap_or(-1.1 + core::f64::consts::LN_2),
            std: config.f64("std", 2.0, POSITIVE)?,
            stage: config.f64("stage", 6.0, 0.0..=40.0)?,
            q: q?,
            k: config.f64("k", 8.0, 0.0..)?,
            b: config.f64("b", 1.0, 0.0..)?,
            huber: config.f64("huber", 0.0, 0.0..)?,
            tangent: config.bool("tangent", false)?,
        })
    }
}

impl Objective for Consistency {
    fn info(&self) -> ObjectiveInfo {
        let metrics = vec!["loss".into(), "mse".into()];
        ObjectiveInfo { metrics, ..ObjectiveInfo::default() }
    }

    fn loss<'b>(&self, b: Builder<'b>, io: &mut Loss<'b>) -> Result<()> {
        let n = io.components();
        if n == 0 || (0..n).any(|c| level::is_discrete(b, c)) {
            return Err(Error::invalid(
                "a component is discrete, consistency wants continuous ones",
            ));
        }
        let Some(base) = b.denoiser_of("base") else {
            return Err(Error::invalid("there is no network slot named base"));
        };
        let (mut w, mut late, mut target) = (Vec::new(), Vec::new(), Vec::new());
        for c in 0..n {
            let sd = b.stats(c).w_var.sqrt();
            let log = b.normal(&level::shape(io.x0(c)), purpose::LEVEL) * self.std + self.mean;
            let t = log.exp() * sd;
            let law = b.process(c);
            let [noised, of] = law.perturb(law.encode(io.x0(c)), t, purpose::DATA);
            w.push(noised);
            late.push(t);
            target.push(of);
        }
        let d = b.denoise_at(base, &w, &late);
        // the change of D down the path, and what divides its square
        let (change, gap): (Vec<Node<'b>>, Vec<Node<'b>>) = match self.tangent {
            true => self.slope(b, &d, &w, &late, &target),
            false => {
                self.check_gap(b)?;
                // the share of t that is the gap; as a difference of levels it would be their rounding
                let share: Vec<Node<'b>> = (0..n).map(|c| self.share(b, c, late[c])).collect();
                let at = |c: usize| w[c] + share[c] * (target[c] - w[c]);
                let (before, early): (Vec<_>, Vec<_>) =
                    (0..n).map(|c| (at(c), late[c] * (1.0 - share[c]))).unzip();
                let below = b.denoise_at(base, &before, &early);
                let one = |c: usize| (d[c] - below[c].stop_gradient(), late[c] * share[c]);
                (0..n).map(one).unzip()
            }
        };
        let (mut loss, mut error) = (b.scalar(0.0), b.scalar(0.0));
        for (change, gap) in change.into_iter().zip(gap) {
            loss = loss + self.cost(change, gap);
            error = error + change.square().mean(&[]);
        }
        io.set_loss(loss);
        io.set_metric(0, loss);
        io.set_metric(1, error);
        Ok(())
    }
}

impl Consistency {
    /// The least share of t that a gap is.
    fn least(&self) -> f64 {
        self.q.powf(-self.stage - 1.0)
    }

    /// A gap that is lost in t leaves two equal points and 0/0.
    fn check_gap(&self, b: Builder<'_>) -> Result<()> {
        let (name, precision) = match b.float_type() {
            abi::F64 => ("f64", f64::EPSILON),
            _ => ("f32", f64::from(f32::EPSILON)),
        };
        let (least, stage, q) = (self.least(), self.stage, self.q);
        if least < precision {
            return Err(Error::invalid(format!(
                "stage {stage} with q {q} has gaps of {least:.1e} of t, want at least {precision:.1e}, the precision of {name}"
            )));
        }
        Ok(())
    }

    /// (t - r)/t
    fn share<'b>(&self, b: Builder<'b>, component: usize, t: Node<'b>) -> Node<'b> {
        let unit = 2.0 * b.stats(component).w_var.sqrt();
        let wider = (t * (-self.b / unit)).sigmoid() * self.k + 1.0;
        (wider * self.least()).min(1.0)
    }

    /// `D - sg(D - t dD/dt)` along the path, and no gap to divide by.
    fn slope<'b>(
        &self,
        b: Builder<'b>,
        d: &[Node<'b>],
        w: &[Node<'b>],
        t: &[Node<'b>],
        target: &[Node<'b>],
    ) -> (Vec<Node<'b>>, Vec<Node<'b>>) {
        let xs: Vec<Node<'b>> = w.iter().chain(t).copied().collect();
        let path = (0..w.len()).map(|c| w[c] - target[c]); // t dw/dt
        let along: Vec<Node<'b>> = path.chain(t.iter().copied()).collect();
        let one = |d: &Node<'b>| {
            let moved = b.jvp(*d, &xs, &along);
            (*d - (*d - moved).stop_gradient(), b.scalar(1.0))
        };
        d.iter().map(one).unzip()
    }

    fn cost<'b>(&self, change: Node<'b>, gap: Node<'b>) -> Node<'b> {
        if self.huber == 0.0 {
            return (change.square() / gap).mean(&[]);
        }
        let axes: Vec<i64> = (1..change.shape().len() as i64).collect();
        let square =
            if axes.is_empty() { change.square() } else { change.square().sum_keep(&axes) };
        let c = self.huber;
        (((square + c * c).sqrt() - c) / gap).mean(&[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn config_is_checked() {
        let of = |json: &str| Consistency::create(&mut Config::parse(json).unwrap());
        let d = of("{}").unwrap();
        assert!((d.mean - 2f64.ln() + 1.1).abs() < 1e-15 && d.stage == 6.0 && !d.tangent);
        assert_eq!(of(r#"{"q":1}"#).unwrap_err().message, "q is 1, want a number above 1");
    }
}
