//! Variance exploding, in the form of EDM: `w = w0 + sigma xi` (specs processes 0.2, 2; Karras et al. 2022).
//!
//! w = x - center: the preconditioning is that of data about 0, so a trainer sets `center` (default 0) to the mean of
//! the data.
//!
//! `boundary` makes a network a consistency model (specs processes 7.1): D is the state itself at that level and below.
//!
//! The default range is EDM's 0.002 to 80 for data of standard deviation 0.5, scaled to the data: 0.004 sd to 160 sd.

use crate::additive::{Additive, Frame};
use crate::gaussian;
use core::ffi::CStr;
use diffx_plugin::{Config, Data, Factory, Fitted, Node, Result, Stats, schema};

pub(crate) struct Ve {
    frame: Frame,
    boundary: f64,
}

impl Factory for Ve {
    const ID: &'static CStr = c"org.diffx.ve";
    const SUMMARY: &'static CStr = c"Gaussian noise added to the data (variance exploding, EDM)";
    const SCHEMA: Option<&'static CStr> = schema![
        "center": number "x that has w = 0; a trainer sets it to the mean", default 0;
        "boundary": number "level at which a network's D is the state itself, as consistency models want it; 0 is EDM", default 0, minimum 0;
    ];

    fn create(config: &mut Config) -> Result<Self> {
        let boundary = config.f64("boundary", 0.0, 0.0..)?;
        Ok(Self { frame: Frame::centered(config)?, boundary })
    }
}

impl Additive for Ve {
    fn fit(&self, data: &Data<'_>) -> Result<Vec<Fitted>> {
        Frame::fit_center(data)
    }

    fn range(&self, stats: &Stats) -> Result<(f64, f64)> {
        let sd = gaussian::deviation(stats)?;
        Ok((0.004 * sd, 160.0 * sd))
    }

    /// The EDM clock: sigma(t) = t.
    fn clock(&self, time: f64) -> f64 {
        time
    }

    fn boundary(&self) -> f64 {
        self.boundary
    }

    fn encode<'b>(&self, x: Node<'b>) -> Node<'b> {
        self.frame.enter(x)
    }

    fn decode<'b>(&self, w: Node<'b>, _: Node<'b>) -> Node<'b> {
        self.frame.leave(w)
    }
}
