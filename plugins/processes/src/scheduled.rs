//! The process of a network from another library's scheduler: the coordinate w = x/a of its samples, what its network
//! takes of it, what its prediction means, and the time it is told. The network is one that declares a residual, so the
//! process's own preconditioning surrounds it.
//!
//! `frame` says how the network sees the state: "preserving" a w with a = 1/√(1 + σ²), "flow" (1 - t) w with
//! t = σ/(1 + σ), "edm" w/√(σ² + data²) with EDM's preconditioning, "plain" w. `samples` says the same of the samples of
//! a host. With signal a and noise s = a σ of the frame, D is w - σ F of "epsilon", a² w - s F of "v_prediction", F of
//! "sample", a w - s F of "flow_prediction" and w + σ² F of "score".

use crate::gaussian;
use core::ffi::CStr;
use diffx_plugin::{
    Config, Cx, Error, Factory, Functions, Node, POSITIVE, Precond, Process, ProcessInfo, Result,
    Space, Stats, abi, schema,
};

pub(crate) struct Scheduled {
    frame: Frame,
    samples: Frame,
    prediction: Prediction,
    data: f64,
    start: f64,
    clock: Clock,
    time_scale: f64,
    /// log σ ascending, and the times there.
    logs: Vec<f64>,
    times: Vec<f64>,
    range: (f64, f64),
}

#[derive(Clone, Copy, PartialEq)]
enum Frame {
    Preserving,
    Flow,
    Edm,
    Plain,
}

#[derive(Clone, Copy, PartialEq)]
enum Prediction {
    Epsilon,
    V,
    Sample,
    Flow,
    Score,
}

/// Where the network's time comes from.
#[derive(Clone, Copy, PartialEq)]
enum Clock {
    Table,
    /// Of flow, times the scale.
    Flow,
    /// ln(σ)/4
    Log,
    Level,
}

const FRAMES: &[(&str, Frame)] = &[
    ("preserving", Frame::Preserving),
    ("flow", Frame::Flow),
    ("edm", Frame::Edm),
    ("plain", Frame::Plain),
];

impl Factory for Scheduled {
    const ID: &'static CStr = c"org.diffx.scheduled";
    const SUMMARY: &'static CStr = c"noise as the scheduler of another library has it";
    const SCHEMA: Option<&'static CStr> = schema![
        "frame": string "what the network takes of the state", default "preserving", enum ["preserving", "flow", "edm", "plain"];
        "samples": string "what the samples of a host are of the state", default "preserving", enum ["preserving", "flow", "edm", "plain"];
        "prediction": string "what the network gives", default "epsilon", enum ["epsilon", "v_prediction", "sample", "flow_prediction", "score"];
        "data": number "deviation of the data, of frame edm", default 0.5, exclusiveMinimum 0;
        "start": number "deviation of the first state; when absent the level", exclusiveMinimum 0;
        "clock": string "where the network's time comes from: the table, flow time, log of the level over 4, the level", default "table", enum ["table", "flow", "log", "level"];
        "time_scale": number "factor of flow time", default 1, exclusiveMinimum 0;
        "levels": numbers "of the table, ascending", exclusiveMinimum 0;
        "times": numbers "of the table, one per level";
    ];

    fn create(config: &mut Config) -> Result<Self> {
        let frame = config.one_of("frame", FRAMES)?;
        let samples = config.one_of("samples", FRAMES)?;
        let prediction = config.one_of(
            "prediction",
            &[
                ("epsilon", Prediction::Epsilon),
                ("v_prediction", Prediction::V),
                ("sample", Prediction::Sample),
                ("flow_prediction", Prediction::Flow),
                ("score", Prediction::Score),
            ],
        )?;
        let data = config.f64("data", 0.5, POSITIVE)?;
        let start = config.opt_f64("start", POSITIVE)?;
        let words = [
            ("table", Clock::Table),
            ("flow", Clock::Flow),
            ("log", Clock::Log),
            ("level", Clock::Level),
        ];
        let clock = config.one_of("clock", &words)?;
        let time_scale = config.f64("time_scale", 1.0, POSITIVE)?;
        let levels = config.f64s("levels", POSITIVE)?.unwrap_or_default();
        let times = config.f64s("times", ..)?.unwrap_or_default();
        if let Some(w) = levels.windows(2).find(|w| w[1] <= w[0]) {
            return Err(Error::invalid(format!(
                "levels: {} follows {}, want ascending levels",
                w[1], w[0]
            )));
        }
        if levels.len() != times.len() || levels.len() == 1 {
            let (a, b) = (levels.len(), times.len());
            return Err(Error::invalid(format!("{a} levels and {b} times, want as many, not one")));
        }
        let ends = levels.first().copied().zip(levels.last().copied());
        Ok(Self {
            frame,
            samples,
            prediction,
            data,
            start: start.unwrap_or(0.0),
            clock,
            time_scale,
            logs: levels.iter().map(|l| l.ln()).collect(),
            times,
            range: ends.unwrap_or((0.002, 80.0)),
        })
    }
}

impl Frame {
    /// What is taken of w.
    fn signal<'b>(self, sigma: Node<'b>, data: f64) -> Node<'b> {
        match self {
            Self::Preserving => (sigma.square() + 1.0).rsqrt(),
            Self::Flow => (sigma + 1.0).recip(),
            Self::Edm => (sigma.square() + data * data).rsqrt(),
            Self::Plain => sigma * 0.0 + 1.0,
        }
    }
}

impl Scheduled {
    /// The network's time at a level, shaped like it.
    fn time<'b>(&self, sigma: Node<'b>) -> Node<'b> {
        let log = sigma.max(gaussian::TINY).log();
        match self.clock {
            Clock::Flow => sigma / (sigma + 1.0) * self.time_scale,
            Clock::Level => sigma,
            Clock::Log => log * 0.25,
            Clock::Table if self.logs.is_empty() => log * 0.25,
            Clock::Table => self.look_up(log),
        }
    }

    /// On the line between the two entries around a level, and at the ends the ends.
    fn look_up<'b>(&self, log: Node<'b>) -> Node<'b> {
        let b = log.builder();
        let shape = log.shape();
        let (rows, n) = (shape.iter().product::<i64>(), self.logs.len() as i64);
        let flat = log.reshape(&[rows, 1]);
        let logs = b.constant_f64(&[n], &self.logs).cast(0);
        let times = b.constant_f64(&[n], &self.times).cast(0);
        let below = logs.reshape(&[1, n]).less_eq(flat).cast(0).sum(&[1]);
        let low = (below - 1.0).clamp(0.0, (n - 2) as f64);
        let index = |node: Node<'b>| node.cast(abi::I32);
        let (low, high) = (index(low), index(low + 1.0));
        let (from, to) = (logs.gather(low, 0), logs.gather(high, 0));
        let part = ((flat.reshape(&[rows]) - from) / (to - from)).clamp(0.0, 1.0);
        let (early, late) = (times.gather(low, 0), times.gather(high, 0));
        (early + part * (late - early)).reshape(&shape)
    }
}

impl Process for Scheduled {
    const FUNCTIONS: Functions = Functions::CONTINUOUS;

    fn info(&self, _: &Stats) -> Result<ProcessInfo> {
        let (sigma_min, sigma_max) = self.range;
        Ok(ProcessInfo {
            space: Space::Continuous,
            positive: false,
            additive: true,
            sigma_min,
            sigma_max,
        })
    }

    fn decode<'b>(&self, _: &Cx<'b>, w: Node<'b>, sigma: Node<'b>) -> Node<'b> {
        match self.samples {
            Frame::Plain => w,
            samples => w * samples.signal(sigma, self.data),
        }
    }

    fn perturb<'b>(&self, cx: &Cx<'b>, w0: Node<'b>, sigma: Node<'b>) -> [Node<'b>; 2] {
        gaussian::perturb(cx, w0, sigma)
    }

    fn prior<'b>(&self, cx: &Cx<'b>, sigma: Node<'b>) -> Node<'b> {
        match self.start {
            0.0 => sigma * cx.normal(),
            start => cx.normal() * start,
        }
    }

    fn precond<'b>(&self, cx: &Cx<'b>, sigma: Node<'b>) -> Precond<'b> {
        let b = cx.b;
        let a = self.frame.signal(sigma, self.data);
        let variance = self.data * self.data;
        let s = a * sigma;
        let one = b.scalar(1.0);
        let (skip, out) = match (self.frame, self.prediction) {
            (_, Prediction::Sample) => (b.scalar(0.0), one),
            (Frame::Edm, Prediction::V) => (a.square() * variance, -(s * self.data)),
            (Frame::Edm, _) => (a.square() * variance, s * self.data),
            (_, Prediction::Epsilon) => (one, -sigma),
            (_, Prediction::V) => (a.square(), -s),
            (_, Prediction::Flow) => (a, -s),
            (_, Prediction::Score) => (one, sigma.square()),
        };
        let level = |node: Node<'b>| node.broadcast_to(&sigma.shape());
        let weight = level((out.square() + gaussian::TINY).recip());
        Precond {
            skip: level(skip),
            out: level(out),
            input: level(a),
            noise: self.time(sigma),
            weight,
        }
    }

    fn renoise<'b>(&self, cx: &Cx<'b>, w: Node<'b>, s: Node<'b>, s_hat: Node<'b>) -> Node<'b> {
        gaussian::renoise(cx, w, s, s_hat)
    }

    fn ancestral<'b>(&self, cx: &Cx<'b>, mu: Node<'b>, v: Node<'b>) -> Node<'b> {
        gaussian::ancestral(cx, mu, v)
    }

    fn to_score<'b>(&self, _: &Cx<'b>, w: Node<'b>, d: Node<'b>, sigma: Node<'b>) -> Node<'b> {
        gaussian::to_score(w, d, sigma)
    }

    fn log_transition<'b>(
        &self,
        _: &Cx<'b>,
        w: Node<'b>,
        w0: Node<'b>,
        sigma: Node<'b>,
    ) -> Node<'b> {
        gaussian::log_transition(w, w0, sigma)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_ascending_and_whole() {
        let message = |json: &str| {
            Scheduled::create(&mut Config::parse(json).unwrap()).err().unwrap().message
        };
        assert_eq!(
            message(r#"{"levels":[1,3,2],"times":[0,1,2]}"#),
            "levels: 2 follows 3, want ascending levels"
        );
        assert_eq!(
            message(r#"{"levels":[1,3],"times":[0]}"#),
            "2 levels and 1 times, want as many, not one"
        );
        let table = r#"{"levels":[1,3],"times":[0,9],"prediction":"v_prediction"}"#;
        let process = Scheduled::create(&mut Config::parse(table).unwrap()).unwrap();
        assert_eq!(process.info(&Stats::default()).unwrap().sigma_max, 3.0);
    }
}
