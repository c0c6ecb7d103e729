//! A network under a scheduler: what it takes and what its output means is the process's to say (`scheduled`), whatever
//! the network itself declares for where there is none.

use crate::base::Result;
use crate::sample::{Build, Model, ModelInfo, ModelIo, Predicts};
use std::sync::Arc;

pub struct Framed(pub Arc<dyn Model>);

impl Model for Framed {
    fn info(&self) -> Result<ModelInfo> {
        let info = self.0.info()?;
        let predicts = match info.predicts {
            Predicts::Logits | Predicts::Value => info.predicts,
            _ => Predicts::Residual,
        };
        Ok(ModelInfo { predicts, ..info })
    }

    fn build(&self, b: &mut Build<'_>, io: &mut ModelIo) -> Result<()> {
        self.0.build(b, io)
    }
}
