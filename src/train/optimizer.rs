//! One update of one parameter as graph nodes: AdamW with decoupled decay, then the moving average. The numbers that
//! change from step to step come in as a row of scalars, so that one plan serves the whole training.

use crate::bail;
use crate::base::Result;
use crate::graph::{AttrKey, Attrs, Graph, NodeId, Op};

/// How to optimise.
#[derive(Debug, Clone, PartialEq)]
pub struct Optimizer {
    /// Peak learning rate.
    pub rate: f64,
    /// Steps of linear warm-up.
    pub warmup: u32,
    pub schedule: Schedule,
    /// Share of the peak rate that a schedule ends at.
    pub floor: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub epsilon: f64,
    /// Decoupled decay, of weights of rank 2 and more: biases and scales have no reason to be small.
    pub decay: f64,
    /// Largest norm of the whole gradient; 0 = unlimited.
    pub clip: f64,
    /// Decay of the moving average; it starts lower, as (1 + t) / (10 + t).
    pub ema: f64,
}

macro_rules! schedules {
    ($($name:ident = $text:literal, $long:literal, $fall:expr, $meaning:literal;)*) => {
        /// What follows the warm-up.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Schedule { $(#[doc = $meaning] $name,)* }

        impl Schedule {
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            pub fn named(name: &str) -> Option<Self> {
                match name { $($text => Some(Self::$name),)* _ => None }
            }

            /// Whether a step is the same whatever number of steps will follow: such a run may be made longer.
            pub fn is_endless(self) -> bool {
                match self { $(Self::$name => $long,)* }
            }

            /// Share of the peak rate `after` steps behind the warm-up, of `rest` steps behind it.
            fn fall(self, after: f64, rest: f64, warmup: f64) -> f64 {
                let fall: fn(f64, f64, f64) -> f64 = match self { $(Self::$name => $fall,)* };
                fall(after, rest, warmup)
            }
        }
    };
}

schedules! {
    Constant = "constant", true, |_, _, _| 1.0, "The peak rate to the end.";
    Cosine = "cosine", false, |at, rest, _| 0.5 * (1.0 + (std::f64::consts::PI * (at / rest)).cos()),
        "Half a cosine, to 0 at the last step.";
    Linear = "linear", false, |at, rest, _| 1.0 - at / rest, "A line, to 0 at the last step.";
    Late = "late", false, |at, rest, _| ((1.0 - at / rest) / 0.2).min(1.0),
        "The peak rate for four fifths, then a line to 0.";
    Root = "root", true, |at, _, warmup| (warmup.max(1.0) / (warmup.max(1.0) + at)).sqrt(),
        "One over the root of the step.";
}

impl Default for Optimizer {
    fn default() -> Self {
        Self {
            rate: 1e-3,
            warmup: 100,
            schedule: Schedule::Cosine,
            floor: 0.0,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            decay: 0.0,
            clip: 1.0,
            ema: 0.999,
        }
    }
}

/// The scalars of a step, in the order of the row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Row {
    pub rate: f64,
    /// 1 / (1 - beta1^t) and 1 / (1 - beta2^t).
    pub unbias1: f64,
    pub unbias2: f64,
    /// 1 - d of the moving average, taken here: in f32 the difference of 1 and a d near it is mostly rounding.
    pub share: f64,
}

impl Row {
    pub const LEN: usize = 4;

    pub fn values(&self) -> [f64; Self::LEN] {
        [self.rate, self.unbias1, self.unbias2, self.share]
    }
}

impl Optimizer {
    pub fn check(&self) -> Result<()> {
        let rows = [
            ("rate", self.rate, self.rate >= 0.0, "0 or more"),
            ("floor", self.floor, (0.0..=1.0).contains(&self.floor), "in [0, 1]"),
            ("beta1", self.beta1, (0.0..1.0).contains(&self.beta1), "in [0, 1)"),
            ("beta2", self.beta2, (0.0..1.0).contains(&self.beta2), "in [0, 1)"),
            ("epsilon", self.epsilon, self.epsilon > 0.0, "above 0"),
            ("decay", self.decay, self.decay >= 0.0, "0 or more"),
            ("clip", self.clip, self.clip >= 0.0, "0 or more"),
            ("ema", self.ema, (0.0..1.0).contains(&self.ema), "in [0, 1)"),
        ];
        for (name, value, good, want) in rows {
            if !good || !value.is_finite() {
                bail!(Invalid, "optimiser: {name} is {value}, want {want}");
            }
        }
        Ok(())
    }

    /// The scalars of step `t`, counted from 1, of `total`.
    pub fn row(&self, t: u32, total: u32) -> Row {
        let (step, warmup) = (f64::from(t), f64::from(self.warmup));
        let rise = if step < warmup { step / warmup } else { 1.0 };
        let rest = (f64::from(total) - warmup).max(1.0);
        let fall = self.schedule.fall((step - warmup).clamp(0.0, rest), rest, warmup);
        let unbias = |beta: f64| 1.0 / -(step * beta.ln()).exp_m1();
        Row {
            rate: self.rate * rise * (self.floor + (1.0 - self.floor) * fall),
            unbias1: if self.beta1 > 0.0 { unbias(self.beta1) } else { 1.0 },
            unbias2: if self.beta2 > 0.0 { unbias(self.beta2) } else { 1.0 },
            share: (1.0 - self.ema).max(9.0 / (10.0 + step)),
        }
    }
}

/// The tensors an update moves, as nodes.
#[derive(Debug, Clone, Copy)]
pub struct Moments {
    pub weight: NodeId,
    pub m: NodeId,
    pub v: NodeId,
    pub ema: NodeId,
}

/// The scalars of a row as nodes.
#[derive(Debug, Clone, Copy)]
pub struct RowNodes([NodeId; Row::LEN]);

impl RowNodes {
    /// `row` is [`Row::LEN`] long.
    pub fn of(g: &mut Graph, row: NodeId) -> Self {
        let mut at = 0i64;
        Self([(); Row::LEN].map(|()| {
            let bounds =
                Attrs::NONE.with_ints(AttrKey::Start, [at]).with_ints(AttrKey::Stop, [at + 1]);
            at += 1;
            let one = g.emit(Op::Slice, &[row], bounds);
            g.emit(Op::Reshape, &[one], Attrs::NONE.with_ints(AttrKey::Shape, []))
        }))
    }
}

/// Norm of all gradients together, and the gradients cut down to `clip`. Where the norm is not finite they become 0:
/// such a step moves on its momentum alone and the caller counts it.
pub fn clip(g: &mut Graph, grads: &[NodeId], clip: f64) -> (NodeId, Vec<NodeId>) {
    let mut total = g.scalar(0.0);
    for &grad in grads {
        let square = g.unary(Op::Square, grad);
        let sum = g.unary(Op::Sum, square);
        total = g.binary(Op::Add, total, sum);
    }
    let norm = g.unary(Op::Sqrt, total);
    let finite = g.unary(Op::IsFinite, norm);
    let zero = g.scalar(0.0);
    let scale = (clip > 0.0).then(|| {
        let (limit, tiny, one) = (g.scalar(clip), g.scalar(1e-12), g.scalar(1.0));
        let safe = g.binary(Op::Max, norm, tiny);
        let ratio = g.binary(Op::Div, limit, safe);
        g.binary(Op::Min, ratio, one)
    });
    let clipped = grads
        .iter()
        .map(|&grad| {
            let scaled = scale.map_or(grad, |s| g.binary(Op::Mul, grad, s));
            g.emit(Op::Where, &[finite, scaled, zero], Attrs::NONE)
        })
        .collect();
    (norm, clipped)
}

impl Optimizer {
    /// The moments after one step with gradient `grad`.
    pub fn update(&self, g: &mut Graph, row: RowNodes, now: Moments, grad: NodeId) -> Moments {
        let [rate, unbias1, unbias2, share] = row.0;
        let m = blend(g, now.m, grad, self.beta1);
        let square = g.unary(Op::Square, grad);
        let v = blend(g, now.v, square, self.beta2);
        let m_hat = g.binary(Op::Mul, m, unbias1);
        let v_hat = g.binary(Op::Mul, v, unbias2);
        let root = g.unary(Op::Sqrt, v_hat);
        let epsilon = g.scalar(self.epsilon);
        let divisor = g.binary(Op::Add, root, epsilon);
        let mut direction = g.binary(Op::Div, m_hat, divisor);
        if self.decay > 0.0 && g.desc(now.weight).shape.rank() >= 2 {
            let decay = g.scalar(self.decay);
            let pull = g.binary(Op::Mul, now.weight, decay);
            direction = g.binary(Op::Add, direction, pull);
        }
        let step = g.binary(Op::Mul, direction, rate);
        let weight = g.binary(Op::Sub, now.weight, step);
        // ema + (1 - d) (w - ema): exact where the two already agree
        let gap = g.binary(Op::Sub, weight, now.ema);
        let moved = g.binary(Op::Mul, gap, share);
        let ema = g.binary(Op::Add, now.ema, moved);
        Moments { weight, m, v, ema }
    }
}

/// `beta a + (1 - beta) b`
fn blend(g: &mut Graph, a: NodeId, b: NodeId, beta: f64) -> NodeId {
    let (keep, take) = (g.scalar(beta), g.scalar(1.0 - beta));
    let (old, new) = (g.binary(Op::Mul, a, keep), g.binary(Op::Mul, b, take));
    g.binary(Op::Add, old, new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_rises_and_falls() {
        let o = Optimizer { rate: 2.0, warmup: 10, ..Optimizer::default() };
        assert_eq!(o.row(5, 110).rate, 1.0);
        assert_eq!(o.row(10, 110).rate, 2.0);
        assert!((o.row(60, 110).rate - 1.0).abs() < 1e-12);
        assert!(o.row(110, 110).rate.abs() < 1e-12);
        let flat = Optimizer { schedule: Schedule::Constant, warmup: 0, ..o.clone() };
        assert_eq!((flat.row(1, 3).rate, flat.row(3, 3).rate), (2.0, 2.0));
        // [half-way, the last step] of a warm-up of 10 and 100 steps behind it
        for (schedule, want) in [
            (Schedule::Constant, [2.0, 2.0]),
            (Schedule::Cosine, [1.0, 0.0]),
            (Schedule::Linear, [1.0, 0.0]),
            (Schedule::Late, [2.0, 0.0]),
            (Schedule::Root, [2.0 * (10f64 / 60.0).sqrt(), 2.0 * (10f64 / 110.0).sqrt()]),
        ] {
            let o = Optimizer { schedule, ..o.clone() };
            for (t, want) in [(60, want[0]), (110, want[1])] {
                let rate = o.row(t, 110).rate;
                assert!((rate - want).abs() < 1e-12, "{} {t}: {rate}", schedule.name());
                let floored = Optimizer { floor: 0.25, ..o.clone() }.row(t, 110).rate;
                assert!((floored - (0.5 + 0.75 * want)).abs() < 1e-12, "{floored}");
            }
            assert_eq!(Schedule::named(schedule.name()), Some(schedule));
        }
    }

    #[test]
    fn bias_corrections_are_those_of_adam() {
        let o = Optimizer::default();
        for t in [1, 2, 100, 100_000] {
            let row = o.row(t, 1);
            let want = 1.0 / (1.0 - 0.999f64.powi(t as i32));
            assert!((row.unbias2 / want - 1.0).abs() < 1e-9, "{t}");
        }
        assert_eq!(o.row(1, 1).share, 9.0 / 11.0);
        assert_eq!(o.row(1_000_000, 1).share, 1.0 - 0.999);
        // what the device gets is the share itself, to f32; the difference of rounded numbers is a percent off
        let late = Optimizer { ema: 0.999_999, ..o }.row(100_000_000, 1);
        let sent = late.values()[3] as f32;
        assert!((f64::from(sent) / 1e-6 - 1.0).abs() < 1e-7, "{sent}");
        assert!((f64::from(1.0 - 0.999_999f32) / 1e-6 - 1.0).abs() > 1e-2);
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        let e = Optimizer { beta2: 1.0, ..Optimizer::default() }.check().unwrap_err();
        assert!(e.message.contains("beta2 is 1, want in [0, 1)"), "{e}");
        assert!(Optimizer { rate: f64::NAN, ..Optimizer::default() }.check().is_err());
        assert!(Optimizer::default().check().is_ok());
    }
}
