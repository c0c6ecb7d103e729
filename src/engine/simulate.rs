//! Paths of a process by name, without a model.

use super::{Engine, Setting};
use crate::bail;
use crate::base::philox::MAX_ELEM;
use crate::base::{DType, Result};
use crate::exec::Interrupt;
use crate::mem::Tensor;
use crate::plugin::Kind;
use crate::sample::simulate::UNIT;
use crate::sample::{Component, Parts, Scheme, Simulation, Space};

/// What to simulate.
pub struct Paths<'a> {
    pub process: &'a Setting,
    /// Where the paths start: one sample, or with `per_sample` one for each along axis 0.
    pub x0: &'a Tensor,
    pub per_sample: bool,
    pub times: &'a [f64],
    /// Which times come out, ascending; all if empty.
    pub keep: &'a [u32],
    pub scheme: Scheme,
    pub n_samples: usize,
    pub seed: u64,
    pub first_sample: u64,
}

impl Engine {
    /// [n_samples, kept times, ...] in the type of `x0`. Exact transitions are drawn in f64, Euler steps are done in the
    /// type of `x0`.
    pub fn simulate(&self, p: &Paths<'_>) -> Result<Tensor> {
        let dims = match (p.per_sample, p.x0.dims()) {
            (false, dims) => dims,
            (true, [n, rest @ ..]) if *n == p.n_samples => rest,
            (true, dims) => {
                bail!(Invalid, "x0 has the shape {dims:?}, want {} samples on axis 0", p.n_samples)
            }
        };
        if p.n_samples == 0 || p.n_samples > 1 << 32 {
            bail!(Invalid, "{} samples, want 1 to 2^32", p.n_samples);
        }
        let width = dims.iter().product::<usize>().max(1) as u64;
        let last = p.first_sample.checked_add(p.n_samples as u64);
        if last.and_then(|l| l.checked_mul(width)).is_none_or(|elements| elements > MAX_ELEM) {
            bail!(
                Invalid,
                "samples from {} on exceed the address space of the generator: id x {width} elements, want below 2^56",
                p.first_sample
            );
        }
        let dtype = p.x0.desc().dtype;
        if !matches!(dtype, DType::F32 | DType::F64) {
            bail!(Invalid, "x0 is {}, want f32 or f64", p.x0.desc());
        }
        let process = self.process(&self.resolve(Kind::Process, p.process)?)?;
        let float = match p.scheme {
            Scheme::Exact => DType::F64,
            Scheme::Euler { .. } => dtype,
        };
        let component = Component {
            name: "x".into(),
            dtype: float,
            dims: dims.iter().map(|d| *d as i64).collect(),
            space: Space::Continuous,
            classes: 0,
        };
        let info = process.info(&UNIT)?;
        if info.positive && !all_positive(p.x0)? {
            bail!(Invalid, "process {} lives on positive numbers, x0 has others", p.process.id);
        }
        let parts = Parts {
            components: vec![component],
            processes: vec![process],
            stats: vec![UNIT],
            conds: Vec::new(),
            networks: Vec::new(),
            guidances: Vec::new(),
            float,
            weight_dtype: float,
        };
        let paths = Simulation {
            parts: &parts,
            x0: p.x0,
            times: p.times,
            keep: p.keep,
            scheme: p.scheme,
            n_samples: p.n_samples,
            seed: p.seed,
            first_sample: p.first_sample,
        };
        paths.run(self.backend(), self.budget(), &mut || Interrupt::Continue)
    }
}

fn all_positive(x: &Tensor) -> Result<bool> {
    Ok(match x.desc().dtype {
        DType::F32 => x.elements::<f32>()?.iter().all(|x| *x > 0.0 && x.is_finite()),
        _ => x.elements::<f64>()?.iter().all(|x| *x > 0.0 && x.is_finite()),
    })
}
