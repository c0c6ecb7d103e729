//! A network under a scheduler: what it takes and what its output means is the process's to say (`scheduled`), whatever
//! the network itself declares for where there is none. Only the unit of its time is the network's own, where it says one.

use crate::bail;
use crate::base::Result;
use crate::engine::Setting;
use crate::sample::{Build, Model, ModelInfo, ModelIo, Network, Predicts};
use serde_json::Value;
use std::sync::Arc;

/// The process that schedulers are translated to.
pub const PROCESS: &str = "org.diffx.scheduled";

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

/// Frames the networks of a state whose components are all under a scheduler, however that was said.
pub fn frame(networks: &mut [Network], processes: &[Setting]) {
    if processes.iter().all(|p| p.id == PROCESS) {
        for network in networks {
            network.model = Arc::new(Framed(Arc::clone(&network.model)));
        }
    }
}

/// Tells networks that declare a velocity the time that comes with it, 0 to 1, where the scheduler counts its steps.
/// Others declare no unit, and take the scheduler's.
pub fn tell_time(process: &mut Setting, networks: &[Predicts]) -> Result<()> {
    let is_denoiser = |p: &&Predicts| !matches!(p, Predicts::Logits | Predicts::Value);
    let flows = networks.iter().filter(|p| **p == Predicts::Velocity).count();
    if process.id != PROCESS || flows == 0 {
        return Ok(());
    }
    let said = |key, default| {
        process.config.get(key).and_then(Value::as_str).unwrap_or(default).to_owned()
    };
    let asked =
        [said("frame", "preserving"), said("prediction", "epsilon"), said("clock", "table")];
    if asked != ["flow", "flow_prediction", "flow"] {
        bail!(
            Invalid,
            "the network predicts the velocity of a flow; its scheduler has frame {}, prediction {} and clock {}, want \
             flow, flow_prediction and flow",
            asked[0],
            asked[1],
            asked[2]
        );
    }
    if flows != networks.iter().filter(is_denoiser).count() {
        bail!(
            Invalid,
            "one network takes the time of a flow from 0 to 1 and another counts the scheduler's steps: they do not go \
             together under one scheduler"
        );
    }
    process.config.insert("time_scale".into(), 1.into());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_velocity_is_asked_at_times_up_to_one() {
        let flow = r#"scheduled:{"frame":"flow","prediction":"flow_prediction","clock":"flow","time_scale":1000}"#;
        let told = |text: &str, networks: &[Predicts]| {
            let mut process = Setting { id: PROCESS.into(), ..Setting::parse(text)? };
            tell_time(&mut process, networks)?;
            Ok::<_, crate::base::Error>(process.config.get("time_scale").and_then(Value::as_f64))
        };
        assert_eq!(told(flow, &[Predicts::Velocity, Predicts::Value]).unwrap(), Some(1.0));
        assert_eq!(told(flow, &[Predicts::Residual]).unwrap(), Some(1000.0));
        let message = told(flow, &[Predicts::Velocity, Predicts::Residual]).unwrap_err().message;
        assert!(message.contains("do not go together"), "{message}");
        let message = told("scheduled", &[Predicts::Velocity]).unwrap_err().message;
        assert!(message.contains("prediction epsilon and clock table"), "{message}");
    }
}
