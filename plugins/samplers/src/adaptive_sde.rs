//! The reverse SDE with steps of its own size for every sample (specs guidance_samplers 4, "Adaptive SDE"): Euler-Maruyama
//! and stochastic Heun share one Brownian increment, their distance against `tolerance` decides.
//!
//! The path is a Brownian node over the variance u = sigma², so a rejected increment is bisected and not redrawn, which
//! would favour small ones. Steps are nested: halved when rejected, doubled where the longer one starts on its own
//! lattice. So none jumps over a place where a rejected one looked at the path: it was looked at because of what it is,
//! and an increment across it has no longer the law of one (2 % of variance at tolerance 0.05).

use core::ffi::CStr;
use diffx_plugin::{
    Builder, Config, Denoiser, Error, Factory, Knots, Like, Node, POSITIVE, Plan, Result, Sampler,
    SamplerInfo, Slot, Step, abi, purpose, schema,
};

pub(crate) struct AdaptiveSde {
    tolerance: f64,
}

/// Per component: the variance at the last level above 0 and what lies above it; 1 in the row that ends at 0.
const COLUMNS: usize = 3;
const PLACE: usize = 0;
const STEP: usize = 1;
/// The first step is this part of the way, the least one 2^-DEPTH of it, which is taken whatever the error.
const FIRST: f64 = 1.0 / 32.0;
const DEPTH: i64 = 31;
/// Part of the data's deviation that counts as scale besides sigma.
const FLOOR: f64 = 0.1;

impl Factory for AdaptiveSde {
    const ID: &'static CStr = c"org.diffx.adaptive_sde";
    const SUMMARY: &'static CStr =
        c"the reverse SDE by steps that each sample chooses, additive noise only";
    const SCHEMA: Option<&'static CStr> = schema![
        "tolerance": number "error of a step, as part of sigma and a tenth of the data's deviation", default 0.05, exclusiveMinimum 0;
    ];

    fn create(config: &mut Config) -> Result<Self> {
        Ok(Self { tolerance: config.f64("tolerance", 0.05, POSITIVE)? })
    }
}

impl Sampler for AdaptiveSde {
    const ADDITIVE: bool = true;

    fn info(&self) -> SamplerInfo {
        let slot =
            |name: &str, init| Slot { name: name.into(), like: Like::Tensor(0, vec![]), init };
        SamplerInfo {
            n_coeff: COLUMNS as u32,
            per_component: true,
            n_variants: 1,
            slots: vec![slot("place", 1.0), slot("step", FIRST)],
            control: true,
            stochasticity: 1.0,
        }
    }

    /// One row from the first level to the last above 0, at which samples stay as long as they need, and one to 0. The
    /// knots between are not used.
    fn plan(&self, knots: &Knots<'_>) -> Result<Plan> {
        let mut plan = Plan::default();
        let (mut way, mut end, mut low) = (Vec::new(), Vec::new(), Vec::new());
        for c in 0..knots.components() {
            let levels = knots.of(c);
            let last = levels.iter().rev().copied().find(|s| *s > 0.0).unwrap_or_default();
            let first = levels.first().copied().unwrap_or_default();
            if last >= first {
                return Err(Error::invalid(
                    "adaptive_sde goes to a level above 0 first, want 2 steps or more",
                ));
            }
            way.extend([last * last, (first - last) * (first + last), 0.0]);
            end.extend([last * last, 0.0, 1.0]);
            low.push(last);
        }
        plan.push(0, &way);
        let to_zero = (0..knots.components()).any(|c| knots.of(c).last() == Some(&0.0));
        if to_zero {
            plan.push(0, &end);
            low.extend(vec![0.0; knots.components()]);
        }
        plan.levels = Some(low);
        Ok(plan)
    }

    fn step<'b>(&self, b: Builder<'b>, io: &mut Step<'b>) -> Result<()> {
        let n = io.components();
        if (0..n).any(|c| crate::discrete::is_discrete(b, c)) {
            b.fail(abi::E_UNSUPPORTED, "adaptive_sde: tokens have no step of their own size");
            return Ok(());
        }
        let x = io.state();
        let place = io.slot(PLACE);
        let step = io.slot(STEP).min(place);
        let to = place - step;
        let at = |io: &Step<'b>, c: usize, where_: Node<'b>| {
            io.coeff(c * COLUMNS) + io.coeff(c * COLUMNS + 1) * where_
        };
        let here: Vec<_> = (0..n).map(|c| at(io, c, place)).collect();
        let there: Vec<_> = (0..n).map(|c| at(io, c, to)).collect();
        let sigma: Vec<_> = here.iter().map(|u| u.sqrt()).collect();
        let next: Vec<_> = there.iter().map(|u| u.sqrt()).collect();
        let d = b.denoise_at(Denoiser::OUTERMOST, &x, &sigma);
        let (mut euler, mut half) = (Vec::new(), Vec::new());
        for c in 0..n {
            let all = io.coeff(c * COLUMNS + 1);
            let noise = column(all.sqrt(), x[c]) * increment(b, to, place, x[c]);
            let h = column(all * step, x[c]);
            let pull = h * (d[c] - x[c]) / column(here[c], x[c]);
            half.push((x[c] + 0.5 * pull + noise, 0.5 * h));
            euler.push(x[c] + pull + noise);
        }
        let d_next = b.denoise_at(Denoiser::OUTERMOST, &euler, &next);
        let mut heun = Vec::new();
        let mut square = b.scalar(0.0);
        for c in 0..n {
            let (start, half) = half[c];
            let w = start + half * (d_next[c] - euler[c]) / column(there[c], x[c]);
            let deviation = b.stats(c).w_var.sqrt();
            let scale = self.tolerance * (FLOOR * deviation + next[c]);
            let error = ((euler[c] - w) / column(scale, x[c])).square();
            let axes: Vec<i64> = (1..x[c].shape().len() as i64).collect();
            let mean = if axes.is_empty() { error } else { error.mean(&axes) };
            square = square + mean * (1.0 / n as f64);
            heun.push(w);
        }
        let error = square.sqrt();
        let least = 0.5f64.powi(DEPTH as i32);
        let accept = error.less_eq(1.0) | step.less_eq(least);
        // .9/√E is at least 2
        let calm = error.less_eq(0.45 * 0.45);
        let lattice = to / (step.max(least) * 2.0);
        let grow = calm & lattice.equals(lattice.floor());
        let place = accept.choose(to, place);
        let arrived = place.less_eq(0.0);
        let ends = io.coeff(2).greater(0.5);
        for c in 0..n {
            let w = column(accept, x[c]).choose(heun[c], x[c]);
            let w = column(ends, x[c]).choose(d[c], w);
            io.set_next(c, w);
            io.set_denoised(c, d_next[c]);
        }
        io.set_slot(PLACE, place);
        io.set_slot(STEP, step * accept.choose(grow.choose(2.0, 1.0), 0.5));
        let stay = f64::from(abi::CONTROL_STAY);
        let advance = f64::from(abi::CONTROL_ADVANCE);
        io.set_control(arrived.choose(advance, stay).cast(abi::I32));
        Ok(())
    }
}

/// W(to) - W(from) for every element of `like`, places on a path over [0, 1].
fn increment<'b>(b: Builder<'b>, from: Node<'b>, to: Node<'b>, like: Node<'b>) -> Node<'b> {
    b.brownian(from, to, (0.0, 1.0), &like.shape(), purpose::STEP, DEPTH)
}

/// One value per sample, `[batch]`, as `[batch, 1, ..]` beside `like`.
fn column<'b>(value: Node<'b>, like: Node<'b>) -> Node<'b> {
    let mut dims = like.shape().to_vec();
    dims.iter_mut().skip(1).for_each(|d| *d = 1);
    value.reshape(&dims)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_row_above_zero_and_one_to_it() {
        let s = AdaptiveSde::create(&mut Config::parse("{}").unwrap()).unwrap();
        let plan = s.plan(&Knots::new(&[4.0, 2.0, 1.0, 0.0], 1)).unwrap();
        assert_eq!(plan.rows, [1.0, 15.0, 0.0, 1.0, 0.0, 1.0]);
        assert_eq!(plan.levels, Some(vec![1.0, 0.0]));
        let open = s.plan(&Knots::new(&[4.0, 2.0, 1.0], 1)).unwrap();
        assert_eq!((open.rows, open.levels), (vec![1.0, 15.0, 0.0], Some(vec![1.0])));
        assert!(s.plan(&Knots::new(&[4.0, 0.0], 1)).is_err());
    }
}
