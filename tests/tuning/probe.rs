//! An objective that learns nothing: it tells the log-density of every row's steps, so that a test may compare them.

use core::ffi::CStr;
use diffx_plugin::{
    Builder, Config, Factory, Loss, Objective, ObjectiveInfo, Result, record, schema,
};

pub(crate) const MOST_ROWS: usize = 8;

pub(crate) struct Probe;

impl Factory for Probe {
    const ID: &'static CStr = c"org.tuning.probe";
    const SUMMARY: &'static CStr = c"tells log-densities of steps";
    const SCHEMA: Option<&'static CStr> = schema![];

    fn create(_: &mut Config) -> Result<Self> {
        Ok(Self)
    }
}

impl Objective for Probe {
    fn info(&self) -> ObjectiveInfo {
        ObjectiveInfo {
            records: record::STATES | record::SIGMAS | record::KERNELS | record::REWARD,
            metrics: (0..MOST_ROWS).map(|i| format!("row{i}")).collect(),
            n_rewards: 1,
            ..ObjectiveInfo::default()
        }
    }

    /// The sum over steps that draw of -|x' - a x - c D|² / 2v, per row.
    fn loss<'b>(&self, b: Builder<'b>, io: &mut Loss<'b>) -> Result<()> {
        let batch = b.batch();
        let (states, kernels) = (io.states(0), io.kernels(0));
        let n = kernels.shape()[0];
        let mut total = b.scalar(0.0);
        for k in 0..n {
            let number = |i: i64| kernels.slice(&[k, i], &[k + 1, i + 1]).sum(&[]);
            let at = |k: i64| states.slice(&[k, 0, 0], &[k + 1, batch, 2]).reshape(&[batch, 2]);
            let level = io.sigmas(0).slice(&[k], &[k + 1]).sum(&[]);
            let base = b.denoiser_of("base").unwrap();
            let d = b.denoise_at(base, &[at(k)], &[level])[0];
            let v = number(2);
            let draws = v.greater(0.0);
            let square = (at(k + 1) - (number(0) * at(k) + number(1) * d)).square();
            let density = (-square / (draws.choose(v, 1.0) * 2.0)).sum(&[1]);
            total = total + draws.choose(density, density * 0.0);
        }
        for i in 0..MOST_ROWS as i64 {
            let one = if i < batch { total.slice(&[i], &[i + 1]).sum(&[]) } else { b.scalar(0.0) };
            io.set_metric(i as usize, one);
        }
        io.set_loss(total.mean(&[]));
        Ok(())
    }
}

/// Tells the levels and, where they are asked for, the a of each step; reads nothing else that it asks for.
pub(crate) struct Levels {
    also: u32,
}

impl Factory for Levels {
    const ID: &'static CStr = c"org.tuning.levels";
    const SUMMARY: &'static CStr = c"tells levels without states";
    const SCHEMA: Option<&'static CStr> = schema![
        "also": integer "what to ask for besides levels, as bits", default 0, minimum 0, maximum 63;
    ];

    fn create(config: &mut Config) -> Result<Self> {
        Ok(Self { also: config.usize("also", 0, 0..=63)? as u32 })
    }
}

impl Objective for Levels {
    fn info(&self) -> ObjectiveInfo {
        ObjectiveInfo {
            records: record::SIGMAS | record::REWARD | self.also,
            metrics: (0..2 * MOST_ROWS).map(|i| format!("told{i}")).collect(),
            n_rewards: 1,
            ..ObjectiveInfo::default()
        }
    }

    fn loss<'b>(&self, b: Builder<'b>, io: &mut Loss<'b>) -> Result<()> {
        let sigmas = io.sigmas(0);
        let kernels = (self.also & record::KERNELS != 0).then(|| io.kernels(0));
        let (levels, steps) = (sigmas.shape()[0], kernels.map_or(0, |k| k.shape()[0]));
        for i in 0..MOST_ROWS as i64 {
            let zero = || b.scalar(0.0);
            let level = if i < levels { sigmas.slice(&[i], &[i + 1]).sum(&[]) } else { zero() };
            let keeps = |k: i64| kernels.unwrap().slice(&[k, 0], &[k + 1, 1]).sum(&[]);
            io.set_metric(i as usize, level);
            io.set_metric(MOST_ROWS + i as usize, if i < steps { keeps(i) } else { zero() });
        }
        let base = b.denoiser_of("base").unwrap();
        let d = b.denoise_at(base, &[io.x0(0)], &[b.scalar(1.0)])[0];
        io.set_loss(d.square().mean(&[]));
        Ok(())
    }
}
