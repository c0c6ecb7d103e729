//! What a device must offer.

use crate::base::Result;

/// Where a run stands in the address space of the generator (architecture idea 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunKey {
    pub seed: u64,
    /// The counter word that changes from step to step: the row of the sampler, the iteration of training.
    pub step: u32,
    /// Sample id of batch row 0; row b is sample `first_sample + b`.
    pub first_sample: u64,
}

/// A device that runs graphs.
pub trait Backend: Send + Sync {
    /// `cpu`, `cuda:0`.
    fn name(&self) -> &str;
    fn describe(&self) -> Result<String> {
        Ok(self.name().to_owned())
    }
}
