//! The pilot run of a pipeline: what it measured, for which settings it holds, and how it is written in configs and
//! model files. Grids that adapt read any number of steps off one measurement.

use super::job::JobOptions;
use super::pipeline::Pipeline;
use super::setting::Setting;
use super::strict::Fields;
use crate::bail;
use crate::base::Result;
use crate::exec::Interrupt;
use crate::graph::Weight;
use crate::sample::{PilotRun, Request};
use serde_json::{Value, json};
use std::sync::Arc;

/// What a pilot run measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Pilot {
    pub seed: u64,
    pub samples: usize,
    /// It holds for these only.
    pub process: Vec<Setting>,
    pub guidance: Vec<Setting>,
    pub components: Vec<Bends>,
}

/// How much the path of a component bends.
#[derive(Debug, Clone, PartialEq)]
pub struct Bends {
    pub name: String,
    /// Descending levels, one more than there are bends.
    pub sigma: Vec<f64>,
    pub bend: Vec<f64>,
}

/// Most steps of a pilot run.
const MOST_STEPS: u32 = 4096;

impl Pilot {
    pub fn from_value(value: Value) -> Result<Self> {
        let mut f = Fields::new("pilot", value)?;
        let Some(Ok(seed)) = f.text("seed")?.map(|s| s.parse::<u64>()) else {
            bail!(Format, "pilot: seed is no 64-bit number as text");
        };
        let samples = f.whole("samples", 1, 1 << 32)?.unwrap_or(1) as usize;
        let process = Setting::list("process", f.take("process"))?;
        let guidance = Setting::list("guidance", f.take("guidance"))?;
        let mut components = Vec::new();
        for value in f.list("components")?.unwrap_or_default() {
            let mut c = Fields::new("pilot component", value)?;
            let Some(name) = c.text("name")? else {
                bail!(Format, "pilot: a component has no name")
            };
            let (sigma, bend) = (c.numbers("sigma")?, c.numbers("bend")?);
            c.done()?;
            let descends = sigma.windows(2).all(|w| w[1] < w[0]) && sigma.iter().all(|s| *s > 0.0);
            if bend.is_empty() || sigma.len() != bend.len() + 1 || !descends {
                bail!(
                    Format,
                    "pilot of {name}: {} levels and {} bends, want descending levels, one more than bends",
                    sigma.len(),
                    bend.len()
                );
            }
            if let Some(bad) = bend.iter().find(|b| **b < 0.0) {
                bail!(Format, "pilot of {name}: a bend of {bad}, want at least 0");
            }
            components.push(Bends { name, sigma, bend });
        }
        f.done()?;
        Ok(Self { seed, samples, process, guidance, components })
    }

    pub fn to_value(&self) -> Value {
        let list =
            |settings: &[Setting]| settings.iter().map(Setting::to_value).collect::<Vec<_>>();
        let components = self.components.iter();
        json!({
            "seed": self.seed.to_string(),
            "samples": self.samples,
            "process": list(&self.process),
            "guidance": list(&self.guidance),
            "components": components
                .map(|c| json!({"name": c.name, "sigma": c.sigma, "bend": c.bend}))
                .collect::<Vec<_>>(),
        })
    }

    /// Why it does not hold for a pipeline of these settings and ranges of levels, if it does not.
    pub fn misfit(
        &self,
        process: &[Setting],
        guidance: &[Setting],
        ranges: &[(String, (f64, f64))],
    ) -> Option<String> {
        if self.process != process {
            return Some("it was run with other processes".into());
        }
        if self.guidance != guidance {
            return Some("it was run with other guidance".into());
        }
        if self.components.len() != ranges.len() {
            return Some(format!("it measured {} components", self.components.len()));
        }
        let near = |a: f64, b: f64| (a - b).abs() <= 1e-6 * b;
        self.components.iter().zip(ranges).find_map(|(c, (name, (lo, hi)))| {
            let (first, last) = (c.sigma[0], c.sigma[c.bend.len()]); // at least two, as parsed and as measured
            if c.name != *name {
                return Some(format!("it measured {}", c.name));
            }
            // a component whose grid wants no pilot may end where it likes
            let fits = near(first, *hi) && last <= *lo * (1.0 + 1e-6);
            (!fits).then(|| format!("it measured {name} from {first} to {last}"))
        })
    }
}

impl Pipeline {
    /// Runs the pilot that the grids want and keeps what it measured. The samples are those of a job of these options;
    /// 0 samples or steps are as many as the grids ask for.
    pub fn pilot(&self, o: &JobOptions) -> Result<Arc<Pilot>> {
        let wanted = self.grids().map(|g| g.pilot_steps()).max().unwrap_or(0);
        if wanted == 0 {
            bail!(State, "no grid of this pipeline wants a pilot run");
        }
        let steps = if o.n_steps == 0 { wanted } else { o.n_steps };
        let most = self.grids().map(|g| g.pilot_samples()).max().unwrap_or(1);
        let samples = if o.n_samples == 0 { most as usize } else { o.n_samples };
        if !(2..=MOST_STEPS).contains(&steps) || samples > 1 << 32 {
            bail!(
                Invalid,
                "a pilot of {steps} steps and {samples} samples, want 2 to {MOST_STEPS} steps"
            );
        }
        let samples = samples.max(1).next_multiple_of(self.parts.group()?);
        let mut knots = Vec::new();
        for (grid, (_, (lo, hi))) in self.grids().zip(self.ranges()) {
            let mut own = grid.knots(steps, *lo, *hi)?;
            if let [.., before, last] = own.as_mut_slice()
                && *last == 0.0
            {
                *last = 0.5 * *before;
            }
            knots.push(own);
        }
        let request = Request {
            seed: o.seed,
            first_sample: o.first_sample,
            n_samples: samples,
            preview_every: 0,
            conds: o.inputs.clone(),
        };
        let run = PilotRun {
            parts: &self.parts,
            knots: &knots,
            request,
            nulls: &self.nulls(),
            batch: self.batch_for(samples)?,
        };
        let mut bind = |weights: &[Weight]| self.bind(weights);
        let (backend, budget) = (self.engine.backend(), self.engine.budget());
        let bends = run.run(backend, budget, &mut bind, &mut || Interrupt::Continue)?;
        let names = self.parts.components.iter().map(|c| c.name.clone());
        let components = names.zip(knots).zip(bends);
        let (process, guidance) = self.identity();
        let pilot = Arc::new(Pilot {
            seed: o.seed,
            samples,
            process,
            guidance: guidance.to_vec(),
            components: components
                .map(|((name, sigma), bend)| Bends { name, sigma, bend })
                .collect(),
        });
        self.keep_pilot(&pilot);
        Ok(pilot)
    }
}

/// The object under a key, or none.
pub fn taken(map: Option<Value>) -> Result<Option<Pilot>> {
    match map {
        None => Ok(None),
        Some(value) => Pilot::from_value(value).map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Map;

    fn pilot() -> Pilot {
        let bends = Bends { name: "x".into(), sigma: vec![4.0, 2.0, 1.0], bend: vec![0.5, 0.0] };
        Pilot {
            seed: u64::MAX,
            samples: 64,
            process: vec![Setting::of("org.diffx.ve")],
            guidance: vec![],
            components: vec![bends],
        }
    }

    #[test]
    fn reads_back_what_it_writes_and_names_faults() {
        let p = pilot();
        assert_eq!(Pilot::from_value(p.to_value()).unwrap(), p);
        for (key, value, want) in [
            ("seed", json!(3), "seed"),
            (
                "components",
                json!([{"name": "x", "sigma": [1.0], "bend": []}]),
                "1 levels and 0 bends",
            ),
            ("components", json!([{"name": "x", "sigma": [1, 2], "bend": [1]}]), "want descending"),
            ("components", json!([{"name": "x", "sigma": [2, 1], "bend": [-1]}]), "bend of -1"),
        ] {
            let mut map: Map<String, Value> = p.to_value().as_object().unwrap().clone();
            map.insert(key.into(), value);
            let e = Pilot::from_value(Value::Object(map)).unwrap_err();
            assert!(e.message.contains(want), "{e}");
        }
    }

    #[test]
    fn holds_for_what_it_was_run_with() {
        let p = pilot();
        let ranges = [("x".to_owned(), (1.0, 4.0))];
        assert_eq!(p.misfit(&p.process, &[], &ranges), None);
        let other = [Setting::of("org.diffx.cfg")];
        assert!(p.misfit(&p.process, &other, &ranges).unwrap().contains("other guidance"));
        let wider = [("x".to_owned(), (1.0, 8.0))];
        assert!(p.misfit(&p.process, &[], &wider).unwrap().contains("from 4 to 1"));
    }
}
