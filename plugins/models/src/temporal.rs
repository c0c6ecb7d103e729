//! A network for windows of time series: residual blocks of a dilated convolution and self-attention over the last
//! levels of the past followed by the window itself; the noise level shifts, scales and gates every block (adaLN-zero).
//!
//! State `x`: `[window]`, or `[window, channels]` with more than one channel. Condition `history`: the last
//! `history` levels as `[history, channels]` in the units of the data; it is normalised here, after a logarithm with
//! `history_log`, by `history_mean` and `history_std` (in log units then), which a trainer fills in. A level below
//! -1e8 is unknown; all of them so is the null history.

use crate::block::attention::{self, Heads};
use crate::block::embedding::noise_embedding;
use crate::block::layer::{EPS, conv};
use crate::block::modulation::{modulated_norm, modulation};
use crate::block::{Start, linear};
use core::ffi::CStr;
use diffx_plugin::{
    Builder, Component, Cond, Config, Error, FINITE, Factory, Init, Model, ModelInfo, ModelIo,
    Node, POSITIVE, Predicts, Result, schema,
};

pub(crate) struct Temporal {
    window: usize,
    channels: usize,
    history: usize,
    width: usize,
    depth: usize,
    heads: usize,
    mean: f64,
    std: f64,
    log: bool,
}

/// What stands for an unknown level, and the bound below which a level is unknown.
const NULL: f64 = -1e9;
const UNKNOWN: f64 = -1e8;
const KERNEL: usize = 3;
/// Dilations 1, 2, 4, 8, and again.
const CYCLE: usize = 4;

impl Factory for Temporal {
    const ID: &'static CStr = c"org.diffx.temporal";
    const SUMMARY: &'static CStr = c"convolution and attention over windows of time series";
    const SCHEMA: Option<&'static CStr> = schema![
        "window": integer "values per example", default 32, minimum 1, maximum 1048576;
        "channels": integer "series side by side", default 1, minimum 1, maximum 65536;
        "history": integer "values before the window that the network sees", default 0, minimum 0, maximum 1048576;
        "width": integer "features per position, a multiple of heads", default 64, minimum 1, maximum 65536;
        "depth": integer "blocks", default 3, minimum 1, maximum 256;
        "heads": integer "heads of attention", default 4, minimum 1, maximum 4096;
        "history_mean": number "taken off the history; a trainer sets it", default 0;
        "history_std": number "divides the history; a trainer sets it", default 1, exclusiveMinimum 0;
        "history_log": boolean "take the logarithm of the history first; a trainer sets it", default false;
    ];

    fn create(config: &mut Config) -> Result<Self> {
        let model = Self {
            window: config.usize("window", 32, 1..=1 << 20)?,
            channels: config.usize("channels", 1, 1..=1 << 16)?,
            history: config.usize("history", 0, 0..=1 << 20)?,
            width: config.usize("width", 64, 1..=65536)?,
            depth: config.usize("depth", 3, 1..=256)?,
            heads: config.usize("heads", 4, 1..=4096)?,
            mean: config.f64("history_mean", 0.0, FINITE)?,
            std: config.f64("history_std", 1.0, POSITIVE)?,
            log: config.bool("history_log", false)?,
        };
        if !model.width.is_multiple_of(model.heads) {
            let (width, heads) = (model.width, model.heads);
            return Err(Error::invalid(format!(
                "heads is {heads}, want a divisor of width, which is {width}"
            )));
        }
        Ok(model)
    }
}

impl Model for Temporal {
    fn info(&self) -> ModelInfo {
        let mut dims = vec![self.window as i64];
        if self.channels > 1 {
            dims.push(self.channels as i64);
        }
        let mut conds = Vec::new();
        if self.history > 0 {
            conds.push(Cond {
                name: "history".into(),
                dims: vec![self.history as i64, self.channels as i64],
                dtype: 0,
                null_value: NULL,
            });
        }
        ModelInfo {
            predicts: Predicts::Residual,
            components: vec![Component::continuous("x", &dims)],
            conds,
            slots: vec![],
        }
    }

    fn build<'b>(&self, b: Builder<'b>, io: &mut ModelIo<'b>) -> Result<()> {
        let (window, channels, width) = (self.window as i64, self.channels, self.width);
        let x = io.x(0);
        let steps = x.reshape(&[-1, window, channels as i64]);
        let mut h = linear(b, "input", steps, channels, width, Start::Spread);
        if self.history > 0 {
            h = b.concat(&[self.past(b, io.cond(0)), h], 1);
        }
        let time = self.history as i64 + window;
        h = h + b.weight("position", &[time, width as i64], Init::Normal(0.02)).cast(0);
        let embedding = noise_embedding(b, io.sigma(0), width);
        for i in 0..self.depth {
            h = b.scope(&format!("blocks.{i}"), |b| self.block(b, i, h, embedding));
        }
        let rows = x.shape().first().copied().unwrap_or(0);
        let h = h.slice(&[0, time - window, 0], &[rows, time, width as i64]);
        let m = modulation(b, "output_mod", embedding, width, 2, 3);
        let h = modulated_norm(h, m[0], m[1], EPS);
        let y = linear(b, "output", h, width, channels, Start::Zero);
        io.set_out(0, y.reshape(&x.shape()));
        Ok(())
    }
}

impl Temporal {
    /// Known levels normalised, unknown ones 0, and beside each whether it is known: `[rows, history, width]`.
    fn past<'b>(&self, b: Builder<'b>, history: Node<'b>) -> Node<'b> {
        let known = history.greater(UNKNOWN);
        // the unknown never reach the logarithm, whose gradient they would spoil
        let level = known.choose(history, 1.0);
        let level = if self.log { level.log() } else { level };
        let level = known.choose((level - self.mean) / self.std, 0.0);
        let both = b.concat(&[level, known.cast(0)], -1);
        linear(b, "history", both, 2 * self.channels, self.width, Start::Spread)
    }

    fn block<'b>(&self, b: Builder<'b>, i: usize, h: Node<'b>, embedding: Node<'b>) -> Node<'b> {
        let name = |part: &str| format!("blocks.{i}.{part}");
        let m = modulation(b, &name("mod"), embedding, self.width, 6, 3);
        let u = modulated_norm(h, m[0], m[1], EPS).transpose(&[0, 2, 1]);
        let u = conv(b, &name("conv1"), u, self.width, KERNEL, 1 << (i % CYCLE)).silu();
        let u = conv(b, &name("conv2"), u, self.width, 1, 1).transpose(&[0, 2, 1]);
        let h = h + m[2] * u;
        let u = modulated_norm(h, m[3], m[4], EPS);
        let heads = Heads::of(self.heads, self.width / self.heads);
        h + m[5] * attention::fused(b, [&name("attn.qkv"), &name("attn.out")], u, heads)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn temporal(json: &str) -> Result<Temporal> {
        Temporal::create(&mut Config::parse(json).unwrap())
    }

    #[test]
    fn one_channel_has_no_axis_of_its_own() {
        let info = temporal(r#"{"window":32,"history":8}"#).unwrap().info();
        assert_eq!(info.components[0].dims, [32]);
        assert_eq!(info.conds[0].dims, [8, 1]);
        let info = temporal(r#"{"window":32,"channels":3}"#).unwrap().info();
        assert_eq!(info.components[0].dims, [32, 3]);
        assert!(info.conds.is_empty());
    }

    #[test]
    fn config_is_checked() {
        let message = |json: &str| temporal(json).err().unwrap().message;
        assert_eq!(
            message(r#"{"width":30,"heads":4}"#),
            "heads is 4, want a divisor of width, which is 30"
        );
        assert_eq!(message(r#"{"history_std":0}"#), "history_std is 0, want a number above 0");
    }
}
