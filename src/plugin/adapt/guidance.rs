//! A guidance over `dfx_guidance_api`.

use super::super::frame::Role;
use super::super::instance::{Factory, Instance, raw};
use super::super::{abi, read};
use super::{Slot, names, resolve, sized, slots};
use crate::bail;
use crate::base::Result;
use crate::graph::NodeId;
use crate::sample::MOST_REDRAWS;
use crate::sample::{Build, Component, Eval, Guidance, GuidanceInfo, GuideIo, Hook, Redraw};
use std::ptr;
use std::sync::Arc;

/// Largest number of particles that interact.
const MAX_GROUP: u32 = 1 << 16;
const MAX_VARIANTS: u32 = 64;

pub(in super::super) struct GuidancePlugin {
    instance: Instance,
    api: abi::GuidanceApi,
    stage: u32,
    group: u32,
    exact_for: f64,
    redraw: Option<Redraw>,
    slots: Vec<Slot>,
    networks: Vec<String>,
}

impl GuidancePlugin {
    pub(in super::super) fn new(factory: &Arc<Factory>, config: &str) -> Result<Self> {
        let instance = Instance::create(factory, config)?;
        // Safety: the table was checked when the factory was registered.
        let api = unsafe { read::table::<abi::GuidanceApi>(instance.api().cast()) }?;
        // Safety: a mirror that begins with its size.
        let mut out: abi::GuidanceInfo = unsafe { sized() };
        instance.call(|this, error| match api.info {
            // Safety: the contract of the table.
            Some(info) => unsafe { info(this, &raw mut out, error) },
            None => abi::OK,
        })?;
        let read = || {
            if out.group > MAX_GROUP || out.exact_for.is_nan() {
                bail!(
                    Invalid,
                    "group {} or exact_for {} is out of range",
                    out.group,
                    out.exact_for
                );
            }
            let share = 0.0..=1.0;
            if out.redraws > MOST_REDRAWS || (out.redraws > 0 && !share.contains(&out.redraw_share))
            {
                bail!(
                    Invalid,
                    "redraws {} of a share {} of the rows, want at most {MOST_REDRAWS} of 0 to 1",
                    out.redraws,
                    out.redraw_share
                );
            }
            // Safety: the plugin filled it; its arrays are owned by the instance.
            Ok(unsafe {
                (slots(out.slots, out.n_slots)?, names(out.networks, out.n_networks, "networks")?)
            })
        };
        let (slots, networks) = read().map_err(|e| instance.broke(format!("info: {e}")))?;
        let (stage, group, exact_for) = (out.stage, out.group.max(1), out.exact_for);
        let redraw = Redraw { times: out.redraws, share: out.redraw_share };
        let redraw = (redraw.times > 0 && api.finish.is_some()).then_some(redraw);
        Ok(Self { instance, api, stage, group, exact_for, redraw, slots, networks })
    }

    fn hook(&self, hook: Hook) -> abi::GuideFn {
        match hook {
            Hook::Wrap => None,
            Hook::Start => self.api.start,
            Hook::Project => self.api.project,
            Hook::Permute => self.api.permute,
            Hook::Finish => self.api.finish,
        }
    }
}

impl Guidance for GuidancePlugin {
    fn info(&self, components: &[Component]) -> Result<GuidanceInfo> {
        Ok(GuidanceInfo {
            stage: self.stage,
            slots: resolve(&self.slots, components).map_err(|e| self.instance.attribute(e))?,
            networks: self.networks.clone(),
            group: self.group,
            exact_for: self.exact_for,
        })
    }

    fn has(&self, hook: Hook) -> bool {
        if hook == Hook::Wrap { self.api.wrap.is_some() } else { self.hook(hook).is_some() }
    }

    fn redraw(&self) -> Option<Redraw> {
        self.redraw
    }

    fn variant(&self, lowest: &[f64], highest: &[f64]) -> Result<u32> {
        let Some(variant) = self.api.variant else { return Ok(0) };
        if lowest.len() != highest.len() {
            bail!(Invalid, "variant: {} lowest and {} highest levels", lowest.len(), highest.len());
        }
        let (n, mut out) = (lowest.len() as u32, 0u32);
        // Safety: the contract of the table; both arrays have n levels.
        self.instance.call(|this, error| unsafe {
            variant(this, lowest.as_ptr(), highest.as_ptr(), n, &raw mut out, error)
        })?;
        if out >= MAX_VARIANTS {
            return Err(self
                .instance
                .broke(format!("variant {out}, want less than {MAX_VARIANTS}")));
        }
        Ok(out)
    }

    fn wrap(
        &self,
        b: &mut Build<'_>,
        inner: u32,
        evals: &[Eval],
        slots: &[NodeId],
        slots_out: &mut [NodeId],
    ) -> Result<Vec<Vec<NodeId>>> {
        let Some(wrap) = self.api.wrap else { bail!(State, "wrap: this guidance has none") };
        let n = b.parts.components.len();
        // x, sigma and conditions of each evaluation; the heap blocks stay where they are
        let arrays: Vec<[Vec<u32>; 3]> = evals
            .iter()
            .map(|e| [raw(&e.x), raw(&e.sigma), e.cond.as_deref().map_or(Vec::new(), raw)])
            .collect();
        let c_evals: Vec<abi::Eval> = evals
            .iter()
            .zip(&arrays)
            .map(|(e, [x, sigma, cond])| abi::Eval {
                struct_size: size_of::<abi::Eval>() as u32,
                phase: e.phase,
                x: x.as_ptr(),
                sigma: sigma.as_ptr(),
                cond: if e.cond.is_some() { cond.as_ptr() } else { ptr::null() },
                reserved: ptr::null(),
            })
            .collect();
        if arrays.iter().any(|[x, sigma, _]| x.len() != n || sigma.len() != n) {
            bail!(Invalid, "wrap: an evaluation does not have {n} states and levels");
        }
        let slot = raw(slots);
        let mut slot_out = raw(slots_out);
        let mut out = vec![0; evals.len() * n];
        let mut c = abi::WrapIo {
            struct_size: size_of::<abi::WrapIo>() as u32,
            inner,
            n_evals: evals.len() as u32,
            n_components: n as u32,
            evals: c_evals.as_ptr(),
            out: out.as_mut_ptr(),
            slot: slot.as_ptr(),
            slot_out: slot_out.as_mut_ptr(),
            variant: b.variant(inner),
            reserved: 0,
        };
        // Safety: the contract of the table; every array is as long as the io says.
        let built = self.instance.build(b, Role::Composer, |this, g, error| unsafe {
            wrap(this, g, &raw mut c, error)
        })?;
        let after = built.nodes(b, &slot_out, "slot")?;
        slots_out.copy_from_slice(&after);
        out.chunks(n.max(1))
            .map(|row| built.nodes(b, row, "a denoised estimate, component"))
            .collect()
    }

    fn guide(&self, b: &mut Build<'_>, hook: Hook, inner: u32, io: &mut GuideIo) -> Result<()> {
        let Some(function) = self.hook(hook) else {
            bail!(State, "{hook:?}: this guidance has no such hook");
        };
        if io.sigma.len() != io.x.len() || io.slots_out.len() != io.slots.len() {
            bail!(Invalid, "{hook:?}: want one level per state and one slot out per slot");
        }
        if io.out.len() != io.x.len() {
            io.out.clone_from(&io.x);
        }
        let (x, sigma, slot) = (raw(&io.x), raw(&io.sigma), raw(&io.slots));
        let (mut out, mut slot_out) = (raw(&io.out), raw(&io.slots_out));
        let given = |n: Option<NodeId>| n.map_or(0, |n| n.0);
        let (mut index, mut feasible, mut log_weight) =
            (given(io.index), given(io.feasible), given(io.log_weight));
        let mut c = abi::GuideIo {
            struct_size: size_of::<abi::GuideIo>() as u32,
            inner,
            n_components: x.len() as u32,
            n_slots: slot.len() as u32,
            x: x.as_ptr(),
            sigma: sigma.as_ptr(),
            out: out.as_mut_ptr(),
            slot: slot.as_ptr(),
            slot_out: slot_out.as_mut_ptr(),
            index: &raw mut index,
            feasible: &raw mut feasible,
            log_weight: &raw mut log_weight,
        };
        // Safety: the contract of the table; every array is as long as the io says.
        let built = self.instance.build(b, Role::Composer, |this, g, error| unsafe {
            function(this, g, &raw mut c, error)
        })?;
        io.out = built.nodes(b, &out, "a state, component")?;
        io.slots_out = built.nodes(b, &slot_out, "slot")?;
        io.index = built.optional(b, index, "index")?;
        io.feasible = built.optional(b, feasible, "feasible")?;
        io.log_weight = built.optional(b, log_weight, "log_weight")?;
        Ok(())
    }
}
