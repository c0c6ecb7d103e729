//! Rejection: the model's own samples given an event, by drawing again until it holds. The exact answer where the event is
//! not too rare, and what every other way is compared with: the number of draws is 1 / P(event) on average.
//!
//! With `redraw_share` below 1 only the last steps are drawn again, from where they set out: cheaper and no longer exact,
//! as the first steps know nothing of the event.

use core::ffi::CStr;
use diffx_plugin::event::{Event, holds};
use diffx_plugin::{
    Builder, Config, Error, Factory, Guidance, GuidanceInfo, Guide, Hooks, Node, Redraw, Result,
    Stage, schema,
};

pub(crate) struct Reject {
    event: Option<Event>,
    redraw: Option<Redraw>,
}

/// What is said of a setting without its event.
pub(crate) const NO_EVENT: &str = "needs an event, as in \"max(x) >= 40\"";

/// Reads `redraws` and `redraw_share`.
pub(crate) fn redraw(config: &mut Config, times: usize, share: f64) -> Result<Option<Redraw>> {
    let times = config.usize("redraws", times, 0..=1023)? as u32;
    let share = config.f64("redraw_share", share, 0.0..=1.0)?;
    Ok((times > 0).then_some(Redraw { times, share }))
}

impl Factory for Reject {
    const ID: &'static CStr = c"org.diffx.reject";
    const SUMMARY: &'static CStr = c"samples given an event, by drawing until it holds";
    const SCHEMA: Option<&'static CStr> = schema![
        "event": string "what the decoded sample must fulfil, as in max(x) >= 40";
        "redraws": integer "how often a sample outside of the event is drawn again; 0 leaves it there, marked", default 1023, minimum 0, maximum 1023;
        "redraw_share": number "share of the steps, from the last, that is drawn again; 1 = all, from a new prior", default 1, minimum 0, maximum 1;
    ];

    fn create(config: &mut Config) -> Result<Self> {
        let event = match config.opt_str("event")? {
            Some(text) => Some(Event::parse("event", &text)?),
            None => None,
        };
        Ok(Self { event, redraw: redraw(config, 1023, 1.0)? })
    }
}

impl Guidance for Reject {
    const HOOKS: Hooks = Hooks { finish: true, ..Hooks::NONE };

    fn info(&self) -> GuidanceInfo {
        GuidanceInfo {
            stage: Stage::State,
            slots: vec![],
            networks: vec![],
            group: 1,
            exact_for: -1.0,
        }
    }

    fn redraw(&self) -> Option<Redraw> {
        self.redraw
    }

    fn finish<'b>(&self, b: Builder<'b>, io: &mut Guide<'b>) -> Result<()> {
        let Some(event) = &self.event else {
            return Err(Error::invalid(format!("reject {NO_EVENT}")));
        };
        let event = event.resolve(b)?;
        let x: Vec<Node<'b>> = (0..io.components()).map(|c| io.x(c)).collect();
        io.set_feasible(holds(b, &event, &x));
        Ok(())
    }
}
