//! Steps given one by one: every call of the network is a row, and what it leaves are linear forms of the state, D, a
//! draw and registers of earlier calls. Published schedulers of any order, with predictors, correctors and stages, are
//! such tables; the engine makes them from the config files of other libraries.
//!
//! Row k asks at `levels[k]` and leads to `levels[k + 1]`. Term j adds `values[j n + k]` times source `sources[j]` to
//! target `targets[j]`, n the number of rows. Sources: 0 the state w, 1 D, 2 D before clipping, 3 a draw,
//! 4 the slope (w - D)/σ, 5 on the registers. Targets: 0 the state, 1 on the registers, the last one the estimate that previews show.
//!
//! Rows of `learned` draw with the variance that the network gives behind its prediction, between the two logarithms of
//! the row (Nichol and Dhariwal 2021): the network itself is asked once more, beside all guidance.
//!
//! Rows of `langevin` are a corrector's (Song et al. 2021, algorithm 4): the state's terms give w + s, and the step is
//! e s + √(2e) z, e = 2 (snr |z|/|s|)² with the means of both norms over the batch. So there, and only there, a sample
//! knows of the others, unless `langevin_alone` takes the norms of each.

use crate::discrete;
use crate::linear::history;
use core::ffi::CStr;
use diffx_plugin::abi::{self, attr, op};
use diffx_plugin::{
    Attr, Builder, Config, Denoiser, Error, Factory, Knots, Node, POSITIVE, Plan, Result, Sampler,
    SamplerInfo, Step, purpose, schema,
};

pub(crate) struct Recurrence {
    levels: Vec<f64>,
    registers: usize,
    terms: Vec<Term>,
    clip: Clip,
    snr: f64,
    /// Norms of each sample, instead of their means over the batch.
    alone: bool,
    /// Rows of the corrector.
    langevin: Vec<usize>,
    /// Rows of learned variance, and the least and largest logarithm of each row.
    learned: Vec<usize>,
    ends: [Vec<f64>; 2],
}

struct Term {
    target: usize,
    source: usize,
    /// One per row.
    values: Vec<f64>,
}

#[derive(Clone, Copy)]
enum Clip {
    No,
    Range(f64),
    Quantile { share: f64, most: f64 },
}

/// Most registers, and most terms.
const REGISTERS: usize = 16;
const TERMS: usize = 256;

const STATE: usize = 0;
const RAW: usize = 2;
const DRAW: usize = 3;
const SLOPE: usize = 4;
const REGISTER: usize = 5;

const QUIET: u32 = 0;
const NOISY: u32 = 1;
const LANGEVIN: u32 = 2;
const LEARNED: u32 = 3;

/// Columns before those of the terms: σ, σ'.
const FIRST: usize = 2;

impl Factory for Recurrence {
    const ID: &'static CStr = c"org.diffx.recurrence";
    const SUMMARY: &'static CStr =
        c"a table of linear steps, as schedulers of other libraries give it";
    const SCHEMA: Option<&'static CStr> = schema![
        "levels": numbers "where each row asks for D, and the last level", minimum 0;
        "registers": integer "tensors kept between rows", default 0, minimum 0, maximum 16;
        "targets": integers "of each term: 0 the state, then the registers, then the estimate shown", minimum 0, maximum 17;
        "sources": integers "of each term: 0 the state, 1 D, 2 D before clipping, 3 a draw, 4 the slope, then the registers", minimum 0, maximum 20;
        "values": numbers "of each term in turn, one per row";
        "clip": number "D is clipped to this range about 0", exclusiveMinimum 0;
        "threshold": number "share of the magnitudes of a sample whose quantile D is clipped to and divided by", minimum 0, maximum 1;
        "threshold_max": number "largest such quantile; the least is 1", default 1, exclusiveMinimum 0;
        "langevin": integers "rows that correct by a Langevin step", minimum 0, maximum 1048576;
        "langevin_alone": boolean "whether each sample corrects by its own norms, instead of by their means over the batch", default false;
        "learned": integers "rows whose variance the network gives", minimum 0, maximum 1048576;
        "log_small": numbers "least logarithm of the variance, one per row";
        "log_large": numbers "largest logarithm of the variance, one per row";
        "snr": number "signal to noise of the Langevin steps", default 0.15, exclusiveMinimum 0;
    ];

    fn create(config: &mut Config) -> Result<Self> {
        let levels = config.f64s("levels", 0.0..)?.unwrap_or_default();
        let registers = config.usize("registers", 0, 0..=REGISTERS)?;
        let targets = config.usizes("targets", 0..=REGISTERS + 1)?.unwrap_or_default();
        let sources = config.usizes("sources", 0..=REGISTERS + 4)?.unwrap_or_default();
        let values = config.f64s("values", ..)?.unwrap_or_default();
        let clip = config.opt_f64("clip", POSITIVE)?;
        let threshold = config.opt_f64("threshold", 0.0..=1.0)?;
        let most = config.f64("threshold_max", 1.0, POSITIVE)?;
        let langevin = config.usizes("langevin", 0..=1 << 20)?.unwrap_or_default();
        let learned = config.usizes("learned", 0..=1 << 20)?.unwrap_or_default();
        let ends = [
            config.f64s("log_small", ..)?.unwrap_or_default(),
            config.f64s("log_large", ..)?.unwrap_or_default(),
        ];
        let snr = config.f64("snr", 0.15, POSITIVE)?;
        let alone = config.bool("langevin_alone", false)?;
        let rows = levels.len().saturating_sub(1);
        if !learned.is_empty() && ends.iter().any(|e| e.len() != rows) {
            let (a, b) = (ends[0].len(), ends[1].len());
            return Err(Error::invalid(format!(
                "{a} of log_small and {b} of log_large, want {rows} of each"
            )));
        }
        if targets.len() != sources.len() || targets.len() > TERMS {
            let (a, b) = (targets.len(), sources.len());
            return Err(Error::invalid(format!(
                "{a} targets and {b} sources, want as many of each, at most {TERMS}"
            )));
        }
        if Some(values.len()) != rows.checked_mul(targets.len()) {
            let (n, t) = (values.len(), targets.len());
            return Err(Error::invalid(format!("{n} values for {t} terms of {rows} rows")));
        }
        if let Some(bad) = targets.iter().find(|t| **t > registers + 1) {
            return Err(Error::invalid(format!("target {bad}, there are {registers} registers")));
        }
        if let Some(bad) = sources.iter().find(|s| **s >= registers + REGISTER) {
            return Err(Error::invalid(format!("source {bad}, there are {registers} registers")));
        }
        let mut chunks = values.chunks_exact(rows.max(1));
        let pairs = targets.into_iter().zip(sources);
        let term = |(target, source)| Term {
            target,
            source,
            values: chunks.next().unwrap_or_default().to_vec(),
        };
        Ok(Self {
            registers,
            terms: pairs.map(term).collect(),
            clip: match (threshold, clip) {
                (Some(share), _) => Clip::Quantile { share, most },
                (None, Some(range)) => Clip::Range(range),
                (None, None) => Clip::No,
            },
            snr,
            alone,
            langevin,
            learned,
            ends,
            levels,
        })
    }
}

impl Recurrence {
    /// Columns of a component.
    fn columns(&self) -> usize {
        FIRST + self.terms.len() + if self.learned.is_empty() { 0 } else { 2 }
    }

    fn variant(&self, row: usize) -> u32 {
        let draws = |t: &Term| t.source == DRAW && t.values.get(row).is_some_and(|v| *v != 0.0);
        if self.langevin.contains(&row) {
            LANGEVIN
        } else if self.learned.contains(&row) {
            LEARNED
        } else if self.terms.iter().any(draws) {
            NOISY
        } else {
            QUIET
        }
    }

    fn clipped<'b>(&self, d: Node<'b>) -> Node<'b> {
        match self.clip {
            Clip::No => d,
            Clip::Range(range) => d.clamp(-range, range),
            Clip::Quantile { share, most } => {
                let s = quantile(d.abs(), share).max(1.0).min(most);
                d.max(-s).min(s) / s
            }
        }
    }
}

/// Of all numbers of each sample, between the two nearest where it falls between; shaped `[batch, 1, .., 1]`.
fn quantile<'b>(x: Node<'b>, share: f64) -> Node<'b> {
    let shape = x.shape();
    let n: i64 = shape.iter().skip(1).product();
    let batch = shape.first().copied().unwrap_or(1);
    let flat = x.reshape(&[batch, n]);
    let order = x.builder().emit(op::ARGSORT, &[flat], &[Attr::int(attr::AXIS, 1)]);
    let sorted = flat.take_along(order, 1);
    let place = share * (n - 1) as f64;
    let low = (place.floor() as i64).clamp(0, n - 1);
    let high = (low + 1).min(n - 1);
    let at = |i: i64| sorted.slice(&[0, i], &[batch, i + 1]);
    let value = at(low) + (at(high) - at(low)) * (place - low as f64);
    let mut ones = vec![1; shape.len()];
    if let Some(first) = ones.first_mut() {
        *first = batch;
    }
    value.reshape(&ones)
}

impl Sampler for Recurrence {
    const ADDITIVE: bool = true;

    fn info(&self) -> SamplerInfo {
        let own = !self.langevin.is_empty() || !self.learned.is_empty();
        let draws = own || self.terms.iter().any(|t| t.source == DRAW);
        SamplerInfo {
            n_coeff: self.columns() as u32,
            per_component: true,
            n_variants: 4,
            slots: history(self.registers),
            control: false,
            stochasticity: if draws { 1.0 } else { 0.0 },
        }
    }

    fn plan(&self, knots: &Knots<'_>) -> Result<Plan> {
        let Some(rows) = self.levels.len().checked_sub(1).filter(|n| *n > 0) else {
            return Err(Error::invalid("no levels, want one more than there are rows"));
        };
        for c in 0..knots.components() {
            let (first, want) = (knots.of(c).first().copied(), self.levels[0]); // there are two
            if first.is_none_or(|f| (f - want).abs() > 1e-6 * want) {
                let first = first.unwrap_or(0.0);
                return Err(Error::invalid(format!(
                    "the run starts at level {first}, the table at {want}"
                )));
            }
        }
        let mut plan = Plan::default();
        let mut levels = Vec::new();
        for k in 0..rows {
            let row: Vec<f64> = [self.levels[k], self.levels[k + 1]]
                .into_iter()
                .chain(self.terms.iter().map(|t| t.values[k]))
                .chain(self.ends.iter().filter(|_| !self.learned.is_empty()).map(|e| e[k]))
                .collect();
            plan.push(self.variant(k), &row.repeat(knots.components()));
            levels.extend(core::iter::repeat_n(self.levels[k + 1], knots.components()));
        }
        plan.levels = Some(levels);
        Ok(plan)
    }

    fn step<'b>(&self, b: Builder<'b>, io: &mut Step<'b>) -> Result<()> {
        let n = io.components();
        let column = |io: &Step<'b>, c: usize, k: usize| io.coeff(c * self.columns() + k);
        let sigma: Vec<Node<'b>> = (0..n).map(|c| column(io, c, 0)).collect();
        let d = b.denoise_at(Denoiser::OUTERMOST, &io.state(), &sigma);
        for (c, raw) in d.into_iter().enumerate() {
            io.set_denoised(c, raw);
            let x = io.x(c);
            if discrete::is_discrete(b, c) {
                let next = discrete::advance(b, c, x, raw, sigma[c], column(io, c, 1));
                io.set_next(c, next);
                continue;
            }
            let clipped = self.clipped(raw);
            let noisy = io.variant() != QUIET;
            let z = noisy.then(|| b.normal(&x.shape(), purpose::STEP));
            let source = |io: &Step<'b>, s: usize| match s {
                STATE => Some(x),
                1 => Some(clipped),
                RAW => Some(raw),
                DRAW => z,
                SLOPE => Some((x - clipped) / sigma[c]),
                register => Some(io.slot(c * self.registers + register - REGISTER)),
            };
            let mut sums: Vec<Option<Node<'b>>> = vec![None; self.registers + 2];
            for (j, term) in self.terms.iter().enumerate() {
                let Some(value) = source(io, term.source) else { continue };
                let part = column(io, c, FIRST + j) * value;
                let sum = &mut sums[term.target]; // checked when it was read
                *sum = Some(sum.map_or(part, |s| s + part));
            }
            let next = sums[STATE].unwrap_or(x);
            let next = match z {
                Some(z) if io.variant() == LANGEVIN => self.langevin(x, next - x, z),
                Some(z) if io.variant() == LEARNED => {
                    let at = FIRST + self.terms.len();
                    let ends = [column(io, c, at), column(io, c, at + 1)];
                    next + deviation(b, &io.state(), &sigma, c, ends) * z
                }
                _ => next,
            };
            for (k, sum) in sums.iter().enumerate().skip(1).take(self.registers) {
                if let Some(sum) = sum {
                    io.set_slot(c * self.registers + k - 1, *sum);
                }
            }
            io.set_denoised(c, sums[self.registers + 1].unwrap_or(clipped));
            io.set_next(c, next);
        }
        Ok(())
    }
}

/// By the second half of the network's channels: from the small to the large one as it goes from -1 to 1.
fn deviation<'b>(
    b: Builder<'b>,
    state: &[Node<'b>],
    sigma: &[Node<'b>],
    component: usize,
    [small, large]: [Node<'b>; 2],
) -> Node<'b> {
    let (mut xs, mut times) = (Vec::new(), Vec::new());
    for (c, (x, sigma)) in state.iter().zip(sigma).enumerate() {
        let mut ones = x.shape().to_vec();
        ones.iter_mut().skip(1).for_each(|d| *d = 1);
        let [_, _, input, time, _] = b.process(c).precond(sigma.broadcast_to(&ones));
        xs.push(input * *x);
        times.push(time.reshape(&ones[..1]));
    }
    let conds: Vec<Node<'b>> = (0..b.conds()).map(|i| b.cond(i).0).collect();
    let out = b.network("base", &xs, &times, &conds, state.len());
    let (Some(out), Some(x)) = (out.get(component), state.get(component)) else { return small };
    let (shape, own) = (out.shape(), x.shape());
    let channels = own.get(1).copied().unwrap_or(0);
    if shape.len() != own.len() || shape.get(1) != Some(&(2 * channels)) {
        return b.fail(abi::E_INVALID, "a learned variance wants a network of twice the channels");
    }
    let mut from = vec![0; shape.len()];
    from[1] = channels; // there are two axes, as just seen
    let part = (out.slice(&from, &shape) + 1.0) * 0.5;
    ((part * large + (1.0 - part) * small) * 0.5).exp()
}

impl Recurrence {
    fn langevin<'b>(&self, x: Node<'b>, score: Node<'b>, z: Node<'b>) -> Node<'b> {
        let axes: Vec<i64> = (1..x.shape().len() as i64).collect();
        let mut ones = x.shape().to_vec();
        ones.iter_mut().skip(1).for_each(|d| *d = 1);
        let norm = |v: Node<'b>| {
            let each = v.square().sum(&axes).sqrt();
            if self.alone { each.reshape(&ones) } else { each.mean(&[0]) }
        };
        let step = (norm(z) / norm(score) * self.snr).square() * 2.0;
        x + step * score + (step * 2.0).sqrt() * z
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(json: &str) -> Result<Recurrence> {
        Recurrence::create(&mut Config::parse(json)?)
    }

    #[test]
    fn rows_are_columns_of_the_terms() {
        let json = r#"{"levels":[4,1,0],"registers":1,"targets":[0,0,1,0],"sources":[0,1,1,3],
            "values":[0.25,0, 0.75,1, 1,1, 0.5,0]}"#;
        let plan = table(json).unwrap().plan(&Knots::new(&[4.0, 0.0], 1)).unwrap();
        assert_eq!(plan.rows[..6], [4.0, 1.0, 0.25, 0.75, 1.0, 0.5]);
        assert_eq!(plan.rows[6..], [1.0, 0.0, 0.0, 1.0, 1.0, 0.0]);
        assert_eq!(plan.variants, [NOISY, QUIET]);
        assert_eq!(plan.levels, Some(vec![1.0, 0.0]));
        assert!(table(json).unwrap().plan(&Knots::new(&[5.0, 0.0], 1)).is_err());
    }

    #[test]
    fn tables_that_do_not_fit_are_refused() {
        let message = |json: &str| table(json).err().unwrap().message;
        let few = r#"{"levels":[4,1],"targets":[0],"sources":[0],"values":[]}"#;
        assert_eq!(message(few), "0 values for 1 terms of 1 rows");
        let far = r#"{"levels":[4,1],"targets":[2],"sources":[0],"values":[1]}"#;
        assert_eq!(message(far), "target 2, there are 0 registers");
        let far = r#"{"levels":[4,1],"targets":[0],"sources":[5],"values":[1]}"#;
        assert_eq!(message(far), "source 5, there are 0 registers");
        assert!(table("{}").unwrap().plan(&Knots::new(&[1.0, 0.0], 1)).is_err());
    }
}
