//! Autoguidance: `D = D_bad + s (D - D_bad)` with a worse model of the same data in the slot `bad`, smaller or trained for
//! less (Karras et al. 2024, arXiv 2406.02507). It pushes away from what both get wrong, without a null condition; like
//! classifier-free guidance it does not sample a power of the two densities.

use core::ffi::CStr;
use diffx_plugin::{
    Builder, Config, Error, Eval, Factory, Guidance, GuidanceInfo, Hooks, Result, Stage, Wrap,
    schema,
};

#[derive(Debug)]
pub(crate) struct Auto {
    scale: f64,
    slot: String,
}

impl Factory for Auto {
    const ID: &'static CStr = c"org.diffx.autoguidance";
    const SUMMARY: &'static CStr = c"guidance away from a worse model of the same data";
    const SCHEMA: Option<&'static CStr> = schema![
        "scale": number "s in D_bad + s (D - D_bad); 1 is the model itself", default 2;
        "slot": string "network of the worse model; default bad";
    ];

    fn create(config: &mut Config) -> Result<Self> {
        let scale = config.f64("scale", 2.0, diffx_plugin::FINITE)?;
        Ok(Self { scale, slot: config.opt_str("slot")?.unwrap_or_else(|| "bad".into()) })
    }
}

impl Guidance for Auto {
    const HOOKS: Hooks = Hooks::WRAP;

    fn info(&self) -> GuidanceInfo {
        GuidanceInfo {
            stage: Stage::Condition,
            slots: vec![],
            networks: vec![self.slot.clone()],
            group: 1,
            exact_for: -1.0,
        }
    }

    fn wrap<'b>(&self, b: Builder<'b>, io: &mut Wrap<'b>) -> Result<()> {
        let Some(bad) = b.denoiser_of(&self.slot) else {
            return Err(Error::invalid(format!("there is no network slot named {}", self.slot)));
        };
        let evals: Vec<Eval<'_, 'b>> = io.evals.iter().map(crate::rows::eval).collect();
        let good = b.denoise(io.inner, &evals);
        let bad = b.denoise(bad, &evals);
        drop(evals);
        for (i, (good, bad)) in good.iter().zip(&bad).enumerate() {
            for (c, (good, bad)) in good.iter().zip(bad).enumerate() {
                io.set_out(i, c, *bad + self.scale * (*good - *bad));
            }
        }
        Ok(())
    }
}
