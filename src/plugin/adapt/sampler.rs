//! A sampler over `dfx_sampler_api`.

use super::super::frame::Role;
use super::super::instance::{Factory, Instance, raw};
use super::super::{abi, read};
use super::{Slot, resolve, sized, slots};
use crate::bail;
use crate::base::Result;
use crate::sample::{Build, Component, RowPlan, Sampler, SamplerInfo, SlotDecl, StepIo};
use std::ptr;
use std::sync::Arc;

/// `DFX_SAMPLER_*`
const CONTROL: u32 = 1;
const PER_COMPONENT: u32 = 2;
const ADDITIVE: u32 = 4;

const MAX_COEFF: u32 = 1024;
const MAX_VARIANTS: u32 = 64;
const MAX_STEPS: usize = 1 << 20;
const MAX_ROWS: u32 = 1 << 20;
/// Most coefficients of one plan: 512 MiB.
const MAX_CELLS: usize = 1 << 26;

pub(in super::super) struct SamplerPlugin {
    instance: Instance,
    api: abi::SamplerApi,
    info: abi::SamplerInfo,
    slots: Vec<Slot>,
}

// Safety: `info` is kept for its numbers; its pointers are not followed after `new`.
unsafe impl Send for SamplerPlugin {}
// Safety: as above.
unsafe impl Sync for SamplerPlugin {}

impl SamplerPlugin {
    pub(in super::super) fn new(factory: &Arc<Factory>, config: &str) -> Result<Self> {
        let instance = Instance::create(factory, config)?;
        // Safety: the table was checked when the factory was registered.
        let api = unsafe { read::table::<abi::SamplerApi>(instance.api().cast()) }?;
        // Safety: a mirror that begins with its size.
        let mut out: abi::SamplerInfo = unsafe { sized() };
        instance.call(|this, error| match api.info {
            // Safety: the contract of the table.
            Some(info) => unsafe { info(this, &raw mut out, error) },
            None => abi::OK,
        })?;
        let read = || {
            if out.n_coeff > MAX_COEFF || !(1..=MAX_VARIANTS).contains(&out.n_variants) {
                bail!(
                    Invalid,
                    "{} coefficients and {} variants, want at most {MAX_COEFF} and 1 to {MAX_VARIANTS}",
                    out.n_coeff,
                    out.n_variants
                );
            }
            if out.flags & !(CONTROL | PER_COMPONENT | ADDITIVE) != 0 {
                bail!(Unsupported, "flags {:#x} are not all known", out.flags);
            }
            if !out.stochasticity.is_finite() || out.stochasticity < 0.0 {
                bail!(Invalid, "stochasticity is {}", out.stochasticity);
            }
            // Safety: the plugin filled it; its array is owned by the instance.
            unsafe { slots(out.slots, out.n_slots) }
        };
        let slots = read().map_err(|e| instance.broke(format!("info: {e}")))?;
        Ok(Self { instance, api, info: out, slots })
    }

    fn control(&self) -> bool {
        self.info.flags & CONTROL != 0
    }

    /// Columns of a row in a pipeline of so many components.
    fn columns(&self, components: usize) -> usize {
        let per_row = if self.info.flags & PER_COMPONENT != 0 { components } else { 1 };
        self.info.n_coeff as usize * per_row
    }

    /// The slots of a pipeline: as declared, or those of component 0, then of component 1, each `like` its own.
    fn slots(&self, components: &[Component]) -> Result<Vec<SlotDecl>> {
        if self.info.flags & PER_COMPONENT == 0 {
            return resolve(&self.slots, components);
        }
        let mut all = Vec::new();
        for component in components {
            let own = resolve(&self.slots, std::slice::from_ref(component))?;
            let named =
                |s: SlotDecl| SlotDecl { name: format!("{}.{}", component.name, s.name), ..s };
            all.extend(own.into_iter().map(named));
        }
        Ok(all)
    }

    fn call_plan(&self, c: &mut abi::Plan) -> Result<()> {
        self.instance.call(|this, error| match self.api.plan {
            // Safety: the contract of the table; every array is as long as the plan says.
            Some(plan) => unsafe { plan(this, c, error) },
            None => abi::OK,
        })
    }
}

impl Sampler for SamplerPlugin {
    fn info(&self, components: &[Component]) -> Result<SamplerInfo> {
        Ok(SamplerInfo {
            n_coeff: self.columns(components.len()),
            n_variants: self.info.n_variants as usize,
            slots: self.slots(components).map_err(|e| self.instance.attribute(e))?,
            control: self.control(),
            additive: self.info.flags & ADDITIVE != 0,
            stochasticity: self.info.stochasticity,
        })
    }

    fn plan(&self, knots: &[Vec<f64>]) -> Result<RowPlan> {
        let levels = knots.first().map_or(0, Vec::len);
        if !(2..=MAX_STEPS).contains(&levels) || knots.iter().any(|k| k.len() != levels) {
            bail!(Invalid, "plan: {levels} knots, want 2 to {MAX_STEPS} and as many per component");
        }
        let all = knots.concat();
        let columns = self.columns(knots.len());
        let mut c = abi::Plan {
            struct_size: size_of::<abi::Plan>() as u32,
            n_steps: levels as u32 - 1,
            n_components: knots.len() as u32,
            n_coeff: columns as u32,
            n_rows: 0,
            reserved: 0,
            knots: all.as_ptr(),
            rows: ptr::null_mut(),
            variants: ptr::null_mut(),
            levels: ptr::null_mut(),
            highest: ptr::null_mut(),
            kernels: ptr::null_mut(),
        };
        self.call_plan(&mut c)?;
        let (n_rows, n_coeff) = (c.n_rows, columns);
        let cells = n_rows as usize * n_coeff;
        if n_rows == 0 || n_rows > MAX_ROWS || cells > MAX_CELLS {
            return Err(self.instance.broke(format!("plan: {n_rows} rows, want 1 to {MAX_ROWS}")));
        }
        let mut rows = vec![f64::NAN; cells];
        let mut variants = vec![0u32; n_rows as usize];
        // preset: row k ends at knot k + 1, rows after the last knot stay there
        let end = |row: usize| (row + 1).min(levels - 1);
        let mut ends: Vec<f64> =
            (0..n_rows as usize).flat_map(|row| knots.iter().map(move |k| k[end(row)])).collect();
        // preset: asks at the level before the row and below
        let mut highest: Vec<f64> = (0..n_rows as usize)
            .flat_map(|row| knots.iter().map(move |k| k[row.min(levels - 1)]))
            .collect();
        let untouched = highest.clone();
        let mut kernels = vec![f64::NAN; 3 * ends.len()];
        c.knots = all.as_ptr();
        c.rows = rows.as_mut_ptr();
        c.variants = variants.as_mut_ptr();
        c.levels = ends.as_mut_ptr();
        c.highest = highest.as_mut_ptr();
        c.kernels = kernels.as_mut_ptr();
        c.n_coeff = columns as u32;
        self.call_plan(&mut c)?;
        if c.n_rows != n_rows {
            return Err(self
                .instance
                .broke(format!("plan: first {n_rows} rows, then {}", c.n_rows)));
        }
        if let Some(i) = rows.iter().position(|v| v.is_nan()) {
            let (row, column) = (i / n_coeff.max(1), i % n_coeff.max(1));
            return Err(self.instance.broke(format!("plan: row {row}, column {column} is NaN")));
        }
        if let Some(i) = ends.iter().position(|s| !s.is_finite() || *s < 0.0) {
            let row = i / knots.len();
            return Err(self
                .instance
                .broke(format!("plan: row {row} ends at the level {}", ends[i])));
        }
        let most = if self.control() { 1 } else { self.info.n_variants };
        if let Some(row) = variants.iter().position(|v| *v >= most) {
            let found = variants[row];
            return Err(self
                .instance
                .broke(format!("plan: row {row} has variant {found} of {most}")));
        }
        // a plugin that leaves it asks at most at the level before the row, which may be one of its own
        let highest = if highest == untouched { Vec::new() } else { highest };
        // all of them or none: a rollout is of one kind
        let known = kernels.as_chunks::<3>().0.iter();
        let gaussian = |k: &[f64; 3]| k.iter().all(|v| v.is_finite()) && k[2] >= 0.0;
        let kernels = if known.copied().all(|k| gaussian(&k)) { kernels } else { Vec::new() };
        Ok(RowPlan { n_coeff, rows, variants, levels: ends, highest, kernels })
    }

    fn step(&self, b: &mut Build<'_>, io: &mut StepIo) -> Result<()> {
        if io.slots_out.len() != io.slots.len() || io.coeff.len() != self.columns(io.x.len()) {
            bail!(
                Invalid,
                "step: want {} coefficients and one slot out per slot",
                self.info.n_coeff
            );
        }
        let n = io.x.len();
        let (x, coeff, slot) = (raw(&io.x), raw(&io.coeff), raw(&io.slots));
        let mut slot_out = raw(&io.slots_out);
        let (mut next, mut denoised, mut control) = (vec![0; n], vec![0; n], 0);
        let mut c = abi::StepIo {
            struct_size: size_of::<abi::StepIo>() as u32,
            variant: io.variant,
            n_components: n as u32,
            n_coeff: coeff.len() as u32,
            n_slots: slot.len() as u32,
            reserved: 0,
            x: x.as_ptr(),
            coeff: coeff.as_ptr(),
            slot: slot.as_ptr(),
            slot_out: slot_out.as_mut_ptr(),
            next: next.as_mut_ptr(),
            control: &raw mut control,
            denoised: denoised.as_mut_ptr(),
            reserved_ptr: ptr::null(),
        };
        let built =
            self.instance.build(b, Role::Composer, |this, g, error| match self.api.step {
                // Safety: the contract of the table; every array is as long as the io says.
                Some(step) => unsafe { step(this, g, &raw mut c, error) },
                None => abi::OK,
            })?;
        io.next = built.nodes(b, &next, "a next state, component")?;
        io.slots_out = built.nodes(b, &slot_out, "slot")?;
        io.control = built.optional(b, control, "control")?;
        io.denoised =
            denoised.iter().map(|d| built.optional(b, *d, "denoised")).collect::<Result<_>>()?;
        if self.control() != io.control.is_some() {
            let (has, says) = (io.control.is_some(), self.control());
            return Err(self.instance.broke(format!(
                "step: control is given: {has}, announced by DFX_SAMPLER_CONTROL: {says}"
            )));
        }
        Ok(())
    }
}
