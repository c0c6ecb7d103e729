//! Replacement inpainting: after every step the known numbers of a sample are put back, noised to the level of the state
//! (Song et al. 2021; RePaint, Lugmayr et al. 2022, arXiv 2201.09865). The others never see how they hang together with
//! the known ones beyond what D says of them: their law is wrong unless each level is gone through several times
//! (`repeats` of the ancestral sampler), and better served by `dps` (specs guidance_samplers 2.3).
//!
//! The finished sample has the known numbers exactly.

use crate::dps::Known;
use core::ffi::CStr;
use diffx_plugin::{
    Builder, Config, Factory, Guidance, GuidanceInfo, Guide, Hooks, Node, Result, Stage, purpose,
    schema,
};

#[derive(Debug)]
pub(crate) struct Replace(Known);

impl Factory for Replace {
    const ID: &'static CStr = c"org.diffx.replace";
    const SUMMARY: &'static CStr = c"known numbers put back after every step (inpainting, RePaint)";
    const SCHEMA: Option<&'static CStr> = schema![
        "at": integers "places of the known numbers in a sample, row-major", minimum 0, maximum 1048576;
        "values": numbers "the numbers, in the units of the data";
    ];

    fn create(config: &mut Config) -> Result<Self> {
        Known::read(config).map(Self)
    }
}

impl Guidance for Replace {
    const HOOKS: Hooks = Hooks { start: true, project: true, finish: true, ..Hooks::NONE };

    fn info(&self) -> GuidanceInfo {
        GuidanceInfo {
            stage: Stage::State,
            slots: vec![],
            networks: vec![],
            group: 1,
            exact_for: 1.0,
        }
    }

    fn start<'b>(&self, b: Builder<'b>, io: &mut Guide<'b>) -> Result<()> {
        self.project(b, io)
    }

    fn project<'b>(&self, b: Builder<'b>, io: &mut Guide<'b>) -> Result<()> {
        let (known, mask) = self.0.in_w(b)?;
        let (x, sigma) = (io.x(0), io.sigma(0));
        // at level 0 there is nothing to draw, and a target of the process has no number there
        let whole = known.broadcast_to(&x.shape());
        let [noised, _] = b.process(0).perturb(whole, sigma.max(1e-30), purpose::GUIDANCE);
        io.set_out(0, put(mask, noised, x));
        Ok(())
    }

    fn finish<'b>(&self, b: Builder<'b>, io: &mut Guide<'b>) -> Result<()> {
        let (known, mask) = self.0.as_given(b)?;
        let x = io.x(0);
        io.set_out(0, put(mask, known.broadcast_to(&x.shape()), x));
        Ok(())
    }
}

/// The first where the mask is 1.
fn put<'b>(mask: Node<'b>, known: Node<'b>, x: Node<'b>) -> Node<'b> {
    mask.broadcast_to(&x.shape()).greater(0.5).choose(known, x)
}
