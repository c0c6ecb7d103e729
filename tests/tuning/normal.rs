//! A line with the normal law N(.5, .6²) and t times a small network: deterministic control has a closed form on it.

use crate::mixture::residual;
use core::ffi::CStr;
use diffx_plugin::{
    Builder, Component, Config, Factory, Model, ModelInfo, ModelIo, Predicts, Result, schema,
};

pub(crate) const MEAN: f64 = 0.5;
pub(crate) const SPREAD: f64 = 0.6;

pub(crate) struct Normal;

impl Factory for Normal {
    const ID: &'static CStr = c"org.tuning.normal";
    const SUMMARY: &'static CStr = c"a normal of the line and a small network";
    const SCHEMA: Option<&'static CStr> = schema![];

    fn create(_: &mut Config) -> Result<Self> {
        Ok(Self)
    }
}

impl Model for Normal {
    fn info(&self) -> ModelInfo {
        ModelInfo {
            predicts: Predicts::Velocity,
            components: vec![Component::continuous("x", &[1])],
            conds: vec![],
            slots: vec![],
        }
    }

    fn build<'b>(&self, b: Builder<'b>, io: &mut ModelIo<'b>) -> Result<()> {
        let (x, t) = (io.x(0), io.sigma(0).reshape(&[-1, 1]));
        let a = -t + 1.0;
        let far = x - a * MEAN;
        let var = a.square() * (SPREAD * SPREAD) + t.square();
        let e0 = a * (SPREAD * SPREAD) / var * far + MEAN;
        io.set_out(0, t / var * far - e0 + residual(b, &[x, t], 48, 1));
        Ok(())
    }
}
