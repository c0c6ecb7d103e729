//! A network that says 0: its input times 0. What a run costs with it is what everything but the network costs.

use core::ffi::CStr;
use diffx_plugin::{
    Builder, Component, Config, Factory, Model, ModelInfo, ModelIo, Predicts, Result, schema,
};

pub(crate) struct Null {
    dims: Vec<i64>,
}

impl Factory for Null {
    const ID: &'static CStr = c"org.diffx.null";
    const SUMMARY: &'static CStr = c"a network that says 0, to measure everything else";
    const SCHEMA: Option<&'static CStr> = schema![
        "dims": integers "shape of one sample; default any vector", minimum 1, maximum 1073741824;
    ];

    fn create(config: &mut Config) -> Result<Self> {
        let dims = config.usizes("dims", 1..=1 << 30)?;
        Ok(Self { dims: dims.map_or(vec![-1], |d| d.iter().map(|d| *d as i64).collect()) })
    }
}

impl Model for Null {
    fn info(&self) -> ModelInfo {
        ModelInfo {
            predicts: Predicts::Residual,
            components: vec![Component::continuous("x", &self.dims)],
            conds: vec![],
            slots: vec![],
        }
    }

    fn build<'b>(&self, _: Builder<'b>, io: &mut ModelIo<'b>) -> Result<()> {
        io.set_out(0, io.x(0) * 0.0);
        Ok(())
    }
}
