//! A sampler: rows of coefficients planned in f64 on the host, and the step that uses one row.

use crate::abi;
use crate::builder::Builder;
use crate::error::{Error, Result};
use crate::info::{self, Owned, Slot};
use crate::instance::{Factory, Instance, Kind, fill, guard, input, slice, slice_mut};
use crate::model::{read, write};
use crate::node::Node;
use core::ffi::c_void;
use core::marker::PhantomData;

#[derive(Debug, Clone, PartialEq)]
pub struct SamplerInfo {
    /// Columns of a row; with `per_component` for each component.
    pub n_coeff: u32,
    /// A row holds `n_coeff` columns for component 0, then for component 1, and so on; so do the slots, and one like
    /// component 0 is like each in turn.
    pub per_component: bool,
    /// Forms of the step, at least 1.
    pub n_variants: u32,
    pub slots: Vec<Slot>,
    /// The step sets a control per sample.
    pub control: bool,
    /// 0 ODE ... 1 reverse SDE.
    pub stochasticity: f64,
}

pub trait Sampler: Factory {
    /// It adds Gaussian noise itself, so the processes must be additive.
    const ADDITIVE: bool = false;

    fn info(&self) -> SamplerInfo;
    /// Host arithmetic; pure, since it is called more than once.
    fn plan(&self, knots: &Knots<'_>) -> Result<Plan>;
    fn step<'b>(&self, b: Builder<'b>, io: &mut Step<'b>) -> Result<()>;
}

/// Noise levels per component, from the noisiest down to the last, which may be 0.
#[derive(Debug, Clone, Copy)]
pub struct Knots<'a> {
    levels: &'a [f64],
    components: usize,
}

impl<'a> Knots<'a> {
    /// `levels` is component-major; every component has the same number.
    pub fn new(levels: &'a [f64], components: usize) -> Self {
        Self { levels, components: components.max(1) }
    }

    pub const fn components(&self) -> usize {
        self.components
    }

    pub const fn steps(&self) -> usize {
        (self.levels.len() / self.components).saturating_sub(1)
    }

    /// The steps + 1 levels of a component.
    pub fn of(&self, component: usize) -> &'a [f64] {
        let n = self.levels.len() / self.components;
        self.levels.get(component * n..(component + 1) * n).unwrap_or_default()
    }
}

/// Rows of coefficients, and the variant each runs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    pub rows: Vec<f64>,
    pub variants: Vec<u32>,
    /// `[rows, components]`: the noise level after each row. None = row k ends at knot k + 1.
    pub levels: Option<Vec<f64>>,
    /// `[rows, components]`: the highest noise level each row asks for D at. None = the level before the row.
    pub highest: Option<Vec<f64>>,
    /// `[rows, components, 3]`: a, c, v of a step `w' = a w + c D + sqrt(v) z`; NaN where it is none. None = nowhere.
    pub kernels: Option<Vec<f64>>,
}

impl Plan {
    pub fn push(&mut self, variant: u32, row: &[f64]) {
        self.rows.extend_from_slice(row);
        self.variants.push(variant);
    }

    /// Says of the row pushed last that component after component is Gaussian: `w' = a w + c D + sqrt(v) z`.
    pub fn push_kernel(&mut self, kernel: [f64; 3]) {
        self.kernels.get_or_insert_default().extend(kernel);
    }
}

/// Inputs and outputs of one step.
pub struct Step<'b> {
    b: Builder<'b>,
    variant: u32,
    x: &'b [abi::Node],
    coeff: &'b [abi::Node],
    slot: &'b [abi::Node],
    slot_out: &'b mut [abi::Node],
    next: &'b mut [abi::Node],
    control: &'b mut [abi::Node],
    denoised: &'b mut [abi::Node],
}

impl<'b> Step<'b> {
    pub const fn variant(&self) -> u32 {
        self.variant
    }

    pub const fn components(&self) -> usize {
        self.x.len()
    }

    /// The state now.
    pub fn x(&self, component: usize) -> Node<'b> {
        read(self.b, self.x, component, "component")
    }

    pub fn state(&self) -> Vec<Node<'b>> {
        self.x.iter().map(|id| self.b.node(*id)).collect()
    }

    /// A column of the row: a scalar, or `[batch]` with control.
    pub fn coeff(&self, column: usize) -> Node<'b> {
        read(self.b, self.coeff, column, "coefficient")
    }

    pub fn slot(&self, i: usize) -> Node<'b> {
        read(self.b, self.slot, i, "slot")
    }

    pub fn set_slot(&mut self, i: usize, value: Node<'b>) {
        write(self.b, self.slot_out, i, value, "slot");
    }

    pub fn set_next(&mut self, component: usize, value: Node<'b>) {
        write(self.b, self.next, component, value, "component");
    }

    /// `i32[batch]`, `abi::CONTROL_*`.
    pub fn set_control(&mut self, value: Node<'b>) {
        write(self.b, self.control, 0, value, "control");
    }

    /// The newest D of a component, for previews.
    pub fn set_denoised(&mut self, component: usize, value: Node<'b>) {
        if let Some(id) = self.denoised.get_mut(component) {
            *id = value.id;
        }
    }
}

/// A plugin type as a sampler.
pub struct AsSampler<T>(PhantomData<T>);

pub struct Forms {
    info: SamplerInfo,
    slots: Owned<abi::Slot>,
}

impl<T: Sampler> Kind for AsSampler<T> {
    type Plugin = T;
    type Info = Forms;
    const KIND: u32 = abi::KIND_SAMPLER;
    const API: *const c_void = (&raw const *Self::TABLE).cast();

    fn info(plugin: &T) -> Result<Forms> {
        let info = plugin.info();
        let slots = info::slots(&info.slots)?;
        Ok(Forms { info, slots })
    }
}

impl<T: Sampler> AsSampler<T> {
    const TABLE: &'static abi::SamplerApi = &abi::SamplerApi {
        struct_size: size_of::<abi::SamplerApi>() as u32,
        reserved: 0,
        info: Some(sampler_info::<T>),
        plan: Some(plan::<T>),
        step: Some(step::<T>),
    };
}

unsafe extern "C" fn sampler_info<T: Sampler>(
    this: *const c_void,
    out: *mut abi::SamplerInfo,
    err: *mut abi::Error,
) -> abi::Status {
    // Safety: this came from create, out and err from the host.
    let body = || unsafe {
        let Forms { info, slots } = &Instance::<AsSampler<T>>::of(this)?.info;
        let control = if info.control { abi::SAMPLER_CONTROL } else { 0 };
        let per_component = if info.per_component { abi::SAMPLER_PER_COMPONENT } else { 0 };
        let additive = if T::ADDITIVE { abi::SAMPLER_ADDITIVE } else { 0 };
        let raw = abi::SamplerInfo {
            struct_size: 0,
            n_coeff: info.n_coeff,
            n_variants: info.n_variants,
            n_slots: slots.len(),
            flags: control | per_component | additive,
            reserved: 0,
            stochasticity: info.stochasticity,
            slots: slots.ptr(),
            reserved_ptr: core::ptr::null(),
        };
        fill(out, raw)
    };
    // Safety: err is null or the host's error.
    unsafe { guard(err, body) }
}

unsafe extern "C" fn plan<T: Sampler>(
    this: *const c_void,
    io: *mut abi::Plan,
    err: *mut abi::Error,
) -> abi::Status {
    // Safety: this came from create; io and its arrays are the host's for this call, as long as the header says.
    let body = || unsafe {
        let instance = Instance::<AsSampler<T>>::of(this)?;
        let io = input(io, "plan")?;
        let levels = u64::from(io.n_components) * (u64::from(io.n_steps) + 1);
        let Ok(levels) = u32::try_from(levels) else {
            return Err(Error::invalid(format!("{levels} knots, want at most {}", u32::MAX)));
        };
        let knots = Knots::new(slice(io.knots, levels), io.n_components as usize);
        let plan = instance.plugin.plan(&knots)?;
        let n_rows = plan.variants.len();
        if plan.rows.len() != n_rows * io.n_coeff as usize {
            let got = plan.rows.len();
            let want = io.n_coeff;
            return Err(Error::new(
                abi::E_PLUGIN,
                format!("plan has {got} coefficients in {n_rows} rows of {want}"),
            ));
        }
        if io.rows.is_null() {
            io.n_rows = n_rows as u32;
            return Ok(());
        }
        if io.n_rows as usize != n_rows {
            let want = io.n_rows;
            return Err(Error::new(
                abi::E_PLUGIN,
                format!("plan has {n_rows} rows, and had {want} before"),
            ));
        }
        slice_mut(io.rows, plan.rows.len() as u32).copy_from_slice(&plan.rows);
        let variants = slice_mut(io.variants, n_rows as u32);
        if variants.len() == n_rows {
            variants.copy_from_slice(&plan.variants);
        }
        let want = n_rows * io.n_components as usize;
        let lists = [
            (&plan.levels, io.levels, want, "levels, want", "one per row and component"),
            (&plan.highest, io.highest, want, "levels, want", "one per row and component"),
            (&plan.kernels, io.kernels, 3 * want, "kernel numbers, want", "three of each"),
        ];
        for (given, out, want, what, each) in lists {
            let Some(numbers) = given else { continue };
            if numbers.len() != want {
                let got = numbers.len();
                let text = format!("plan has {got} {what} {want}: {each}");
                return Err(Error::new(abi::E_PLUGIN, text));
            }
            let out = slice_mut(out, want as u32);
            if out.len() == want {
                out.copy_from_slice(numbers);
            }
        }
        Ok(())
    };
    // Safety: err is null or the host's error.
    unsafe { guard(err, body) }
}

unsafe extern "C" fn step<T: Sampler>(
    this: *const c_void,
    graph: *mut abi::Graph,
    io: *mut abi::StepIo,
    err: *mut abi::Error,
) -> abi::Status {
    // Safety: this came from create; io and its arrays, of the lengths in io, are the host's for this call.
    let body = || unsafe {
        let instance = Instance::<AsSampler<T>>::of(this)?;
        let io = input(io, "io")?;
        let core = instance.core(graph);
        let b = Builder::new(&core);
        let mut io = Step {
            b,
            variant: io.variant,
            x: slice(io.x, io.n_components),
            coeff: slice(io.coeff, io.n_coeff),
            slot: slice(io.slot, io.n_slots),
            slot_out: slice_mut(io.slot_out, io.n_slots),
            next: slice_mut(io.next, io.n_components),
            control: slice_mut(io.control, 1),
            denoised: slice_mut(io.denoised, io.n_components),
        };
        instance.plugin.step(b, &mut io)
    };
    // Safety: err is null or the host's error.
    unsafe { guard(err, body) }
}
