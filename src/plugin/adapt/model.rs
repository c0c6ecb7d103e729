//! A model over `dfx_model_api`.

use super::super::frame::Role;
use super::super::instance::{Factory, Instance, raw};
use super::super::{abi, read};
use super::{resolve, sized, slots};
use crate::base::{DType, Result};
use crate::graph::NodeId;
use crate::sample::{Build, Component, Cond, Model, ModelInfo, ModelIo, Predicts, Space};
use crate::{bail, fail};
use std::sync::Arc;

const MAX_COMPONENTS: usize = 16;
const MAX_CONDS: usize = 64;

const PREDICTS: &[Predicts] = &[
    Predicts::Residual,
    Predicts::Denoised,
    Predicts::Noise,
    Predicts::Velocity,
    Predicts::Score,
    Predicts::Logits,
    Predicts::Value,
    Predicts::V,
];

pub(in super::super) struct ModelPlugin {
    instance: Instance,
    api: abi::ModelApi,
    info: ModelInfo,
}

impl ModelPlugin {
    pub(in super::super) fn new(factory: &Arc<Factory>, config: &str) -> Result<Self> {
        let instance = Instance::create(factory, config)?;
        // Safety: the table was checked when the factory was registered.
        let api = unsafe { read::table::<abi::ModelApi>(instance.api().cast()) }?;
        // Safety: a mirror that begins with its size.
        let mut out: abi::ModelInfo = unsafe { sized() };
        instance.call(|this, error| match api.info {
            // Safety: the contract of the table.
            Some(info) => unsafe { info(this, &raw mut out, error) },
            None => abi::OK,
        })?;
        // Safety: the plugin filled it; its arrays are owned by the instance.
        let info = unsafe { read_info(&out) }.map_err(|e| instance.broke(format!("info: {e}")))?;
        Ok(Self { instance, api, info })
    }
}

impl Model for ModelPlugin {
    fn info(&self) -> Result<ModelInfo> {
        Ok(self.info.clone())
    }

    fn build(&self, b: &mut Build<'_>, io: &mut ModelIo) -> Result<()> {
        if io.slots_out.len() != io.slots.len() {
            io.slots_out.clone_from(&io.slots);
        }
        if io.out.is_empty() {
            io.out = vec![NodeId::ERROR; io.x.len()];
        }
        let (x, sigma, cond, slot) = (raw(&io.x), raw(&io.sigma), raw(&io.cond), raw(&io.slots));
        let mut slot_out = raw(&io.slots_out);
        let mut out = vec![0; io.out.len()];
        let mut c = abi::ModelIo {
            struct_size: size_of::<abi::ModelIo>() as u32,
            phase: io.phase,
            n_components: x.len() as u32,
            n_conds: cond.len() as u32,
            n_slots: slot.len() as u32,
            n_out: out.len() as u32,
            x: x.as_ptr(),
            sigma: sigma.as_ptr(),
            cond: cond.as_ptr(),
            slot: slot.as_ptr(),
            slot_out: slot_out.as_mut_ptr(),
            out: out.as_mut_ptr(),
        };
        let built = self.instance.build(b, Role::Leaf, |this, g, error| match self.api.build {
            // Safety: the contract of the table; every array is as long as the io says.
            Some(build) => unsafe { build(this, g, &raw mut c, error) },
            None => abi::OK,
        })?;
        io.out = built.nodes(b, &out, "a prediction")?;
        io.slots_out = built.nodes(b, &slot_out, "slot")?;
        Ok(())
    }
}

unsafe fn read_info(raw: &abi::ModelInfo) -> Result<ModelInfo> {
    let Some(predicts) = PREDICTS.get(raw.predicts as usize) else {
        bail!(Unsupported, "predicts {} is not known", raw.predicts);
    };
    let mut components: Vec<Component> = Vec::new();
    // Safety: the caller's promise: arrays as long as the counts say.
    for c in unsafe { read::slice(raw.components, raw.n_components, MAX_COMPONENTS, "components") }?
    {
        // Safety: as above.
        let component = unsafe { read_component(c) }?;
        if components.iter().any(|o| o.name == component.name) {
            bail!(Invalid, "component {}: is there twice", component.name);
        }
        components.push(component);
    }
    if components.is_empty() {
        bail!(Invalid, "there are no components");
    }
    let mut conds: Vec<Cond> = Vec::new();
    // Safety: as above.
    for c in unsafe { read::slice(raw.conds, raw.n_conds, MAX_CONDS, "conditions") }? {
        // Safety: as above.
        let name = unsafe { read::name(c.name, "name of a condition") }?.to_owned();
        let desc = read::desc(&c.desc, Some(DType::F32), &format!("condition {name}"))?;
        if desc.dims().len() >= abi::MAX_RANK || conds.iter().any(|o| o.name == name) {
            bail!(Invalid, "condition {name}: is there twice, or leaves no axis for the batch");
        }
        conds.push(Cond { name, desc, null_value: c.null_value });
    }
    // Safety: as above.
    let slots = resolve(&unsafe { slots(raw.slots, raw.n_slots) }?, &components)?;
    Ok(ModelInfo { predicts: *predicts, components, conds, slots })
}

unsafe fn read_component(c: &abi::Component) -> Result<Component> {
    // Safety: the caller's promise.
    let name = unsafe { read::name(c.name, "name of a component") }?.to_owned();
    let (space, default) = match c.space {
        0 => (Space::Continuous, DType::F32),
        1 => (Space::Discrete, DType::I32),
        s => bail!(Unsupported, "component {name}: space {s} is not known"),
    };
    if space == Space::Discrete && c.classes < 2 {
        bail!(Invalid, "component {name}: has {} classes, want at least 2", c.classes);
    }
    let dtype = match c.desc.dtype {
        0 => default,
        code => DType::from_code(code)
            .ok_or_else(|| fail!(Unsupported, "component {name}: dtype {code} is not known"))?,
    };
    let dims = read::dims(&c.desc, &name)?;
    if dims.len() >= abi::MAX_RANK || dims.contains(&0) {
        bail!(
            Invalid,
            "component {name}: dimensions {dims:?} leave no axis for the batch or are 0"
        );
    }
    let fixed: Vec<usize> = dims.iter().filter_map(|d| usize::try_from(*d).ok()).collect();
    crate::base::Shape::new(&fixed).map_err(|e| e.within(&name))?;
    Ok(Component {
        name,
        dtype,
        dims: dims.iter().map(|d| (*d).max(-1)).collect(),
        space,
        classes: c.classes,
    })
}
