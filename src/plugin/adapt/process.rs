//! A noise process over `dfx_process_api`.

use super::super::frame::Role;
use super::super::host::{raw_component, raw_stats};
use super::super::instance::{Factory, Instance, raw};
use super::super::{abi, read};
use super::sized;
use crate::bail;
use crate::base::Result;
use crate::graph::NodeId;
use crate::sample::{Build, Component, Fitted, Process, ProcessFn, ProcessInfo, Space, Stats};
use std::ffi::CString;
use std::sync::Arc;

/// Most times of one clock call.
const MAX_TIMES: usize = 1 << 24;

/// Room for settings that a fit may give.
const MAX_FITTED: usize = 32;

pub(in super::super) struct ProcessPlugin {
    instance: Instance,
    api: abi::ProcessApi,
}

// Safety: the table is function pointers and a reserved pointer that is never followed.
unsafe impl Send for ProcessPlugin {}
// Safety: as above.
unsafe impl Sync for ProcessPlugin {}

impl ProcessPlugin {
    pub(in super::super) fn new(factory: &Arc<Factory>, config: &str) -> Result<Self> {
        let instance = Instance::create(factory, config)?;
        // Safety: the table was checked when the factory was registered.
        let api = unsafe { read::table::<abi::ProcessApi>(instance.api().cast()) }?;
        Ok(Self { instance, api })
    }

    fn function(&self, f: ProcessFn) -> abi::ProcessFn {
        match f {
            ProcessFn::Encode => self.api.encode,
            ProcessFn::Decode => self.api.decode,
            ProcessFn::Perturb => self.api.perturb,
            ProcessFn::Prior => self.api.prior,
            ProcessFn::Precond => self.api.precond,
            ProcessFn::Renoise => self.api.renoise,
            ProcessFn::Ancestral => self.api.ancestral,
            ProcessFn::ToScore => self.api.to_score,
            ProcessFn::LogTransition => self.api.log_transition,
            ProcessFn::LossWeight => self.api.loss_weight,
            ProcessFn::Posterior => self.api.posterior,
            ProcessFn::Sde => self.api.sde,
        }
    }
}

impl Process for ProcessPlugin {
    fn info(&self, stats: &Stats) -> Result<ProcessInfo> {
        // Safety: a mirror that begins with its size.
        let mut out: abi::ProcessInfo = unsafe { sized() };
        let stats = raw_stats(stats);
        self.instance.call(|this, error| match self.api.info {
            // Safety: the contract of the table.
            Some(info) => unsafe { info(this, &raw const stats, &raw mut out, error) },
            None => abi::OK,
        })?;
        let space = match out.space {
            0 => Space::Continuous,
            1 => Space::Discrete,
            s => return Err(self.instance.broke(format!("info: space {s} is not known"))),
        };
        let (lo, hi) = (out.sigma_min, out.sigma_max);
        if !(lo.is_finite() && hi.is_finite() && lo >= 0.0 && hi > lo) {
            let message = format!("info: noise levels go from {lo} to {hi}");
            return Err(self.instance.out_of_range(message));
        }
        Ok(ProcessInfo {
            space,
            positive: out.flags & 1 != 0,
            additive: out.flags & 2 != 0,
            homogeneous: out.flags & 4 != 0,
            sigma_min: lo,
            sigma_max: hi,
        })
    }

    fn fit(&self, values: &[f64], ordered: bool) -> Result<Vec<Fitted>> {
        let Some(fit) = self.api.fit else {
            return Ok(Vec::new());
        };
        if let Some(bad) = values.iter().find(|v| !v.is_finite()) {
            bail!(Invalid, "fit: a value is {bad}");
        }
        let empty = abi::Fitted { key: std::ptr::null(), value: f64::NAN, group: 0, reserved: 0 };
        let mut out = [empty; MAX_FITTED];
        let mut io = abi::Fit {
            struct_size: size_of::<abi::Fit>() as u32,
            flags: u32::from(ordered),
            n_values: values.len() as u64,
            values: values.as_ptr(),
            out: out.as_mut_ptr(),
            n_out: MAX_FITTED as u32,
            reserved: 0,
        };
        // Safety: the contract of the table; both arrays are as long as it is told.
        self.instance.call(|this, error| unsafe { fit(this, &raw mut io, error) })?;
        let Some(found) = out.get(..io.n_out as usize) else {
            return Err(self.instance.broke(format!("fit: {} settings", io.n_out)));
        };
        found
            .iter()
            .map(|f| {
                // Safety: a plugin that says it fitted a setting names it.
                let key = unsafe { read::name(f.key, "fit: key") };
                let key = key.map_err(|e| self.instance.broke(e.message))?;
                if !f.value.is_finite() {
                    return Err(self.instance.broke(format!("fit: {key} is {}", f.value)));
                }
                Ok(Fitted { key: key.to_owned(), value: f.value, group: f.group })
            })
            .collect()
    }

    fn clock(&self, times: &[f64]) -> Result<Vec<f64>> {
        let Some(clock) = self.api.clock else {
            return Err(self.instance.attribute(crate::fail!(Unsupported, "has no clock")));
        };
        if times.len() > MAX_TIMES {
            bail!(Invalid, "clock: {} times, at most {MAX_TIMES}", times.len());
        }
        let mut out = vec![f64::NAN; times.len()];
        // Safety: the contract of the table; both arrays are as long as it is told.
        self.instance.call(|this, error| unsafe {
            clock(this, times.as_ptr(), times.len() as u32, out.as_mut_ptr(), error)
        })?;
        if let Some(i) = out.iter().position(|s| *s == f64::INFINITY) {
            let e = crate::fail!(
                Invalid,
                "time {} has a level beyond all numbers: it or a setting is too large",
                times[i]
            );
            return Err(self.instance.attribute(e));
        }
        match out.iter().position(|s| !s.is_finite() || *s < 0.0) {
            Some(i) => Err(self
                .instance
                .out_of_range(format!("clock: time {} has the level {}", times[i], out[i]))),
            None => Ok(out),
        }
    }

    fn has(&self, f: ProcessFn) -> bool {
        self.function(f).is_some()
    }

    fn call(
        &self,
        b: &mut Build<'_>,
        f: ProcessFn,
        purpose: u8,
        component: &Component,
        stats: &Stats,
        inputs: &[NodeId],
    ) -> Result<Vec<NodeId>> {
        let (_, name, _, n_out) = *f.row();
        let Some(function) = self.function(f) else {
            let e = crate::fail!(Unsupported, "has no {name}, which this pipeline needs");
            return Err(self.instance.attribute(e));
        };
        let Ok(component_name) = CString::new(component.name.as_str()) else {
            bail!(Invalid, "component {:?}: its name has a NUL", component.name);
        };
        let component = raw_component(component, component_name.as_ptr());
        let stats = raw_stats(stats);
        let inputs = raw(inputs);
        let mut out = vec![0; n_out];
        let mut c = abi::ProcessIo {
            struct_size: size_of::<abi::ProcessIo>() as u32,
            purpose: u32::from(purpose),
            n_in: inputs.len() as u32,
            n_out: n_out as u32,
            r#in: inputs.as_ptr(),
            out: out.as_mut_ptr(),
            stats: &raw const stats,
            component: &raw const component,
        };
        // Safety: the contract of the table; every array is as long as the io says.
        let built = self.instance.build(b, Role::Leaf, |this, g, error| unsafe {
            function(this, g, &raw mut c, error)
        })?;
        built.nodes(b, &out, &format!("a result of {name}, number"))
    }
}
