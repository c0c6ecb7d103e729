//! Exact paths of a process by name, without a model.

use super::{Engine, Setting};
use crate::bail;
use crate::base::{DType, Desc, Result};
use crate::exec::Interrupt;
use crate::mem::Tensor;
use crate::plugin::Kind;
use crate::sample::{Component, Parts, Simulation, Space, Stats};
use crate::weights::convert::converted;

/// What to simulate.
pub struct Paths<'a> {
    pub process: &'a Setting,
    /// Where the paths start: one sample, or with `per_sample` one for each along axis 0.
    pub x0: &'a Tensor,
    pub per_sample: bool,
    pub times: &'a [f64],
    pub n_samples: usize,
    pub seed: u64,
    pub first_sample: u64,
}

impl Engine {
    /// [n_samples, times, ...] in the type of `x0`; the arithmetic is f64.
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
        if !matches!(p.x0.desc().dtype, DType::F32 | DType::F64) {
            bail!(Invalid, "x0 is {}, want f32 or f64", p.x0.desc());
        }
        let wide; // f64 already is used where it is
        let x0 = match p.x0.desc().dtype {
            DType::F64 => p.x0,
            _ => {
                wide = converted(p.x0, DType::F64, self.budget())?;
                &wide
            }
        };
        let process = self.process(&self.resolve(Kind::Process, p.process)?)?;
        let component = Component {
            name: "x".into(),
            dtype: DType::F64,
            dims: dims.iter().map(|d| *d as i64).collect(),
            space: Space::Continuous,
            classes: 0,
        };
        let info = process.info(&Stats::default())?;
        if info.positive && x0.elements::<f64>()?.iter().any(|x| !(*x > 0.0 && x.is_finite())) {
            bail!(Invalid, "process {} lives on positive numbers, x0 has others", p.process.id);
        }
        let parts = Parts {
            components: vec![component],
            processes: vec![process],
            stats: vec![Stats::default()],
            conds: Vec::new(),
            networks: Vec::new(),
            guidances: Vec::new(),
            float: DType::F64,
            weight_dtype: DType::F64,
        };
        let paths = Simulation {
            parts: &parts,
            x0,
            times: p.times,
            n_samples: p.n_samples,
            seed: p.seed,
            first_sample: p.first_sample,
        };
        let out = paths.run(self.backend(), self.budget(), &mut || Interrupt::Continue)?;
        if p.x0.desc().dtype == DType::F64 {
            return Ok(out);
        }
        let mut narrow = Tensor::new(Desc::new(DType::F32, out.dims())?, self.budget())?;
        let wide = out.elements::<f64>()?;
        for (to, from) in narrow.bytes_mut().chunks_exact_mut(4).zip(wide) {
            to.copy_from_slice(&(*from as f32).to_ne_bytes());
        }
        Ok(narrow)
    }
}
