//! The row table of a run: what each step is told, computed once in f64 and stored in the graph's float type.
//!
//! A row is the sampler's coefficients, then the level of each component before the step, then after it. So the start
//! (before row 0), the hooks of guidances and the finish (after the last row) read levels from the same buffer.

use super::build::Parts;
use super::traits::{Grid, Sampler, Space};
use crate::bail;
use crate::base::{DType, Result};
use crate::mem::reserved;

/// Most rows a plan may have.
pub const MAX_ROWS: usize = 1 << 20;

/// Most forms of a step that one run may have: each is a graph of its own.
const MAX_FORMS: usize = 64;

/// Which graph a row runs: the sampler's variant and that of each guidance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Form {
    pub variant: u32,
    pub guidance: Vec<u32>,
}

/// Rows of one run.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    /// Coefficients of the sampler at the start of each row.
    pub n_coeff: usize,
    pub n_components: usize,
    /// The forms of the step this run has.
    pub forms: Vec<Form>,
    /// Which of them each row runs.
    pub form: Vec<u32>,
    /// Samples go through rows at their own pace.
    pub control: bool,
    /// Normals come from a source of the run (`Replay::give_noise`) instead of from their addresses.
    pub given_noise: bool,
    /// The run sets out from noised data, its inputs `start.NAME`, instead of from the prior.
    pub from_data: bool,
    /// [rows + 1, components]: the levels the state passes through.
    pub levels: Vec<f64>,
    /// [rows, components, 3]: a, c, v where every step is `w' = a w + c D + sqrt(v) z`; else empty.
    pub kernels: Vec<f64>,
    bytes: Vec<u8>,
    stride: usize,
}

impl Rows {
    /// Asks the sampler for its rows between `knots` (per component, noisiest first).
    pub fn new(sampler: &dyn Sampler, parts: &Parts, knots: &[Vec<f64>]) -> Result<Self> {
        check_knots(knots, parts.components.len(), parts.float)?;
        let info = sampler.info(&parts.components)?;
        if info.additive {
            for ((process, stats), c) in
                parts.processes.iter().zip(&parts.stats).zip(&parts.components)
            {
                let of = process.info(stats)?;
                if of.space == Space::Continuous && !of.additive {
                    bail!(
                        Unsupported,
                        "sampler: adds Gaussian noise, which the process of component {} does not take; want a \
                         sampler that draws by the process, such as churn or ancestral",
                        c.name
                    );
                }
            }
        }
        let plan = sampler.plan(knots)?;
        let n = plan.variants.len();
        if n == 0 || n > MAX_ROWS {
            bail!(Plugin, "sampler: planned {n} rows, want 1 to {MAX_ROWS}");
        }
        if plan.n_coeff != info.n_coeff || Some(plan.rows.len()) != n.checked_mul(info.n_coeff) {
            bail!(
                Plugin,
                "sampler: {} numbers for {n} rows of {} coefficients",
                plan.rows.len(),
                info.n_coeff
            );
        }
        if let Some(bad) = plan.variants.iter().find(|v| **v as usize >= info.n_variants) {
            bail!(Plugin, "sampler: variant {bad}, there are {}", info.n_variants);
        }
        if info.control && plan.variants.iter().any(|v| *v != 0) {
            bail!(Plugin, "sampler: with control every row has variant 0");
        }
        let levels = levels(knots, n, &plan.levels)?;
        let highest = highest(knots.len(), &levels, &plan.highest)?;
        let mut forms: Vec<Form> = Vec::new();
        let mut form = Vec::with_capacity(n);
        let (mut lowest, mut asked) = (Vec::new(), Vec::new()); // of one row; there may be a million
        for (row, variant) in plan.variants.iter().enumerate() {
            let at = row * knots.len();
            let (before, after) = levels[at..at + 2 * knots.len()].split_at(knots.len());
            lowest.clear();
            lowest.extend(before.iter().zip(after).map(|(a, b)| a.min(*b)));
            asked.clear();
            for g in &parts.guidances {
                asked.push(match info.control {
                    true => 0, // samples of one step are at levels of their own
                    false => g.variant(&lowest, &highest[at..at + knots.len()])?,
                });
            }
            // not the lists as such: memcmp of two empty ones takes 1.2 us where its masked load faults (AVX-512)
            let known = |f: &Form| f.variant == *variant && f.guidance.iter().eq(&asked);
            form.push(match forms.iter().position(known) {
                Some(known) => known as u32,
                None => {
                    forms.push(Form { variant: *variant, guidance: asked.clone() });
                    forms.len() as u32 - 1
                }
            });
            if forms.len() > MAX_FORMS {
                bail!(Plugin, "steps of more than {MAX_FORMS} forms of sampler and guidance");
            }
        }
        let parts_of = |row: usize| {
            let coeff = &plan.rows[row * info.n_coeff..(row + 1) * info.n_coeff];
            let at = row * knots.len();
            coeff.iter().chain(&levels[at..at + 2 * knots.len()])
        };
        let width = info.n_coeff + 2 * knots.len();
        let mut bytes = reserved(n * width * parts.float.bytes(), "the rows of a run")?;
        for row in 0..n {
            for (column, v) in parts_of(row).enumerate() {
                if !v.is_finite() || (parts.float == DType::F32 && !(*v as f32).is_finite()) {
                    bail!(
                        Plugin,
                        "sampler: row {row}, column {column} is {v}, want a finite number"
                    );
                }
                match parts.float {
                    DType::F64 => bytes.extend_from_slice(&v.to_ne_bytes()),
                    _ => bytes.extend_from_slice(&(*v as f32).to_ne_bytes()),
                }
            }
        }
        Ok(Self {
            n_coeff: info.n_coeff,
            n_components: knots.len(),
            forms,
            form,
            control: info.control,
            given_noise: false,
            from_data: false,
            stride: bytes.len() / n,
            levels,
            kernels: plan.kernels,
            bytes,
        })
    }

    /// Of a replay that has not begun.
    pub(super) fn none() -> Self {
        Self {
            n_coeff: 0,
            n_components: 0,
            forms: Vec::new(),
            form: Vec::new(),
            control: false,
            given_noise: false,
            from_data: false,
            levels: Vec::new(),
            kernels: Vec::new(),
            bytes: Vec::new(),
            stride: 0,
        }
    }

    pub fn len(&self) -> usize {
        self.form.len()
    }

    pub fn is_empty(&self) -> bool {
        self.form.is_empty()
    }

    /// Numbers in a row.
    pub fn columns(&self) -> usize {
        self.n_coeff + 2 * self.n_components
    }

    /// The bytes of row `i`, in the graph's float type.
    pub fn row(&self, i: usize) -> &[u8] {
        &self.bytes[i * self.stride..(i + 1) * self.stride]
    }

    /// All rows.
    pub fn table(&self) -> &[u8] {
        &self.bytes
    }

    /// Level of component `c` before row `k`, or after the last for k = len.
    pub fn level(&self, k: usize, c: usize) -> f64 {
        self.levels[k * self.n_components + c]
    }
}

/// Knots of every component from one grid and the range of its levels.
pub fn knots(grid: &dyn Grid, n: u32, ranges: &[(f64, f64)]) -> Result<Vec<Vec<f64>>> {
    ranges.iter().map(|(lo, hi)| grid.knots(n, *lo, *hi)).collect()
}

/// The smallest level but 0 and the largest: samplers take squares and their inverses of them in this type.
pub fn extremes(float: DType) -> (f64, f64) {
    if float == DType::F64 { (1e-150, 1e150) } else { (1e-18, 1e18) }
}

fn check_knots(knots: &[Vec<f64>], components: usize, float: DType) -> Result<()> {
    if knots.len() != components || components == 0 {
        bail!(Invalid, "knots of {} components, there are {components}", knots.len());
    }
    for (c, k) in knots.iter().enumerate() {
        if k.len() < 2 || k.len() != knots[0].len() {
            bail!(
                Plugin,
                "grid: component {c} has {} knots, want at least 2 and as many as component 0",
                k.len()
            );
        }
        if let Some(i) = k.iter().position(|s| !s.is_finite() || *s < 0.0) {
            bail!(Plugin, "grid: knot {i} of component {c} is {}, want a finite level", k[i]);
        }
        let (least, most) = extremes(float);
        if let Some(i) = k.iter().position(|s| *s != 0.0 && !(least..=most).contains(s)) {
            bail!(
                Invalid,
                "grid: knot {i} of component {c} is {:e}, in {float} want 0 or {least:e} to {most:e}",
                k[i]
            );
        }
        if let Some(i) = k.windows(2).position(|w| w[1] >= w[0]) {
            bail!(
                Plugin,
                "grid: knot {} of component {c} is {}, not below {}",
                i + 1,
                k[i + 1],
                k[i]
            );
        }
    }
    Ok(())
}

/// [rows + 1, components]: the first knot, then the level after each row.
fn levels(knots: &[Vec<f64>], rows: usize, given: &[f64]) -> Result<Vec<f64>> {
    let mut out: Vec<f64> = knots.iter().map(|k| k[0]).collect();
    if given.is_empty() {
        for row in 0..rows {
            out.extend(knots.iter().map(|k| k[(row + 1).min(k.len() - 1)]));
        }
        return Ok(out);
    }
    if given.len() != rows * knots.len() {
        bail!(
            Plugin,
            "sampler: {} levels for {rows} rows of {} components",
            given.len(),
            knots.len()
        );
    }
    if let Some(bad) = given.iter().find(|l| !l.is_finite() || **l < 0.0) {
        bail!(Plugin, "sampler: a row ends at level {bad}, want a finite level");
    }
    out.extend_from_slice(given);
    Ok(out)
}

/// [rows, components]: the highest level each row asks for D at, at least those before and after it.
fn highest(n: usize, levels: &[f64], given: &[f64]) -> Result<Vec<f64>> {
    let ends = levels.iter().zip(&levels[n..]).map(|(before, after)| before.max(*after));
    if given.is_empty() {
        return Ok(ends.collect());
    }
    if given.len() + n != levels.len() {
        bail!(Plugin, "sampler: {} highest levels, want {}", given.len(), levels.len() - n);
    }
    if let Some(bad) = given.iter().find(|l| !l.is_finite()) {
        bail!(Plugin, "sampler: a row asks at level {bad}, want a finite level");
    }
    Ok(ends.zip(given).map(|(end, given)| end.max(*given)).collect())
}
