//! `diff_CSDI` of ermongroup/CSDI: noise of missing values in several time series. A position is a series at a time;
//! attention runs along time, then across series (Tashiro et al. 2021).
//!
//! The state is what is to be imputed, `[target_dim, length]`; `cond_obs` are the values that are known (0 elsewhere),
//! `cond_info` features of each position, the mask of what is known among them. The level is the index of the diffusion
//! step, 0 to num_steps - 1. `target_dim` and `length` are ours: the reference takes them from its input.

use crate::block::attention::Heads;
use crate::block::embedding::{check_computed, index};
use crate::block::encoder::Encoder;
use crate::block::feed_forward::Activation;
use crate::block::layer::conv1x1;
use crate::block::{Start, linear};
use core::ffi::CStr;
use diffx_plugin::{
    Builder, Component, Cond, Config, Error, Factory, Model, ModelInfo, ModelIo, Node, Predicts,
    Result, schema,
};

pub(crate) struct Csdi {
    series: usize,
    length: usize,
    /// 2: known values beside the state; 1: the state alone.
    inputs: usize,
    side: usize,
    channels: usize,
    layers: usize,
    encoder: Encoder,
    steps: usize,
    embedding: usize,
    predicts: Predicts,
}

impl Factory for Csdi {
    const ID: &'static CStr = c"org.diffx.csdi";
    const SUMMARY: &'static CStr = c"attention along time and across series, to impute";
    const SCHEMA: Option<&'static CStr> = schema![
        "target_dim": integer "series", default 35, minimum 1, maximum 65536;
        "length": integer "times", default 48, minimum 1, maximum 1048576;
        "inputdim": integer "2: known values are an input, 1: they are not", default 2, minimum 1, maximum 2;
        "side_dim": integer "features of a position", default 145, minimum 1, maximum 65536;
        "channels": integer "width, a multiple of nheads", default 64, minimum 1, maximum 65536;
        "layers": integer "blocks", default 4, minimum 1, maximum 1024;
        "nheads": integer "heads of attention", default 8, minimum 1, maximum 4096;
        "dim_feedforward": integer "features of the feed-forward part", default 64, minimum 1, maximum 1048576;
        "num_steps": integer "steps of the diffusion", default 50, minimum 1, maximum 1000000;
        "diffusion_embedding_dim": integer "features of a step, even", default 128, minimum 4, maximum 65536;
        "is_linear": boolean "linear attention, which is not there", default false;
        "predicts": string "what the output means; residual leaves it to the process", default "residual", enum ["residual", "denoised", "noise", "velocity", "score", "value", "v"];
    ];

    fn create(config: &mut Config) -> Result<Self> {
        let channels = config.usize("channels", 64, 1..=65536)?;
        let heads = config.usize("nheads", 8, 1..=4096)?;
        if !channels.is_multiple_of(heads) {
            return Err(Error::invalid(format!(
                "nheads is {heads}, want a divisor of channels, which is {channels}"
            )));
        }
        let embedding = config.usize("diffusion_embedding_dim", 128, 4..=65536)?;
        if !embedding.is_multiple_of(2) {
            return Err(Error::invalid(format!(
                "diffusion_embedding_dim is {embedding}, want an even number"
            )));
        }
        let steps = config.usize("num_steps", 50, 1..=1_000_000)?;
        let what = format!("num_steps is {steps} and diffusion_embedding_dim {embedding}");
        check_computed(&what, steps, embedding)?;
        if config.bool("is_linear", false)? {
            return Err(Error::invalid(
                "is_linear is true, want false: there is no linear attention",
            ));
        }
        Ok(Self {
            series: config.usize("target_dim", 35, 1..=65536)?,
            length: config.usize("length", 48, 1..=1 << 20)?,
            inputs: config.usize("inputdim", 2, 1..=2)?,
            side: config.usize("side_dim", 145, 1..=65536)?,
            channels,
            layers: config.usize("layers", 4, 1..=1024)?,
            encoder: Encoder {
                heads: Heads::of(heads, channels / heads),
                inner: config.usize("dim_feedforward", 64, 1..=1 << 20)?,
                norm_first: false,
                act: Activation::Gelu,
            },
            steps,
            embedding,
            predicts: config.one_of("predicts", crate::block::predicts::PREDICTS)?,
        })
    }
}

impl Model for Csdi {
    fn info(&self) -> ModelInfo {
        let (series, length) = (self.series as i64, self.length as i64);
        let cond = |name: &str, dims: Vec<i64>| Cond {
            name: name.into(),
            dims,
            dtype: 0,
            null_value: 0.0,
        };
        let mut conds = vec![cond("cond_info", vec![self.side as i64, series, length])];
        if self.inputs == 2 {
            conds.push(cond("cond_obs", vec![series, length]));
        }
        ModelInfo {
            predicts: self.predicts,
            components: vec![Component::continuous("x", &[series, length])],
            conds,
            slots: vec![],
        }
    }

    fn build<'b>(&self, b: Builder<'b>, io: &mut ModelIo<'b>) -> Result<()> {
        let (series, length, c) = (self.series as i64, self.length as i64, self.channels);
        let flat = series * length;
        let mut x = io.x(0).reshape(&[-1, 1, flat]);
        if self.inputs == 2 {
            x = b.concat(&[io.cond(1).reshape(&[-1, 1, flat]), x], 1);
        }
        let mut h = conv1x1(b, "input_projection", x, self.inputs, c, Start::Spread).relu();
        let side = io.cond(0).reshape(&[-1, self.side as i64, flat]);
        let step = self.step(b, io.sigma(0));
        let mut skips: Option<Node<'b>> = None;
        for i in 0..self.layers {
            let name = format!("residual_layers.{i}");
            let (next, skip) = b.scope(&name, |b| self.block(b, &name, h, side, step));
            h = next;
            skips = Some(skips.map_or(skip, |s| s + skip));
        }
        let h = skips.unwrap_or(h) / (self.layers as f64).sqrt();
        let h = conv1x1(b, "output_projection1", h, c, c, Start::Spread).relu();
        let y = conv1x1(b, "output_projection2", h, c, 1, Start::Zero);
        io.set_out(0, y.reshape(&[-1, series, length]));
        Ok(())
    }
}

impl Csdi {
    /// `[rows, embedding]` of the diffusion step: sines and cosines at frequencies from 1 to 1e4, from a table that is
    /// rounded to f32 where the reference rounds, for angles of 1e6 have no bits to spare.
    fn step<'b>(&self, b: Builder<'b>, level: Node<'b>) -> Node<'b> {
        let half = self.embedding / 2;
        let frequency = |k: usize| {
            let exponent = k as f32 / (half as f32 - 1.0) * 4.0;
            10_f64.powf(f64::from(exponent)) as f32
        };
        let mut values = Vec::with_capacity(self.steps * self.embedding);
        for step in 0..self.steps {
            for wave in [f64::sin, f64::cos] {
                let at = |k| wave(f64::from(step as f32 * frequency(k))) as f32;
                values.extend((0..half).map(at));
            }
        }
        let table = b.constant(&[self.steps as i64, self.embedding as i64], &values).cast(0);
        let (e, name) = (self.embedding, "diffusion_embedding.projection");
        let h = linear(b, &format!("{name}1"), table.gather(index(level), 0), e, e, Start::Spread);
        linear(b, &format!("{name}2"), h.silu(), e, e, Start::Spread).silu()
    }

    /// The next features and what goes to the output, both `[rows, channels, series x length]`.
    fn block<'b>(
        &self,
        b: Builder<'b>,
        name: &str,
        h: Node<'b>,
        side: Node<'b>,
        step: Node<'b>,
    ) -> (Node<'b>, Node<'b>) {
        let c = self.channels;
        let part = |p: &str| format!("{name}.{p}");
        let step = linear(b, &part("diffusion_projection"), step, self.embedding, c, Start::Spread);
        let y = h + step.reshape(&[-1, c as i64, 1]);
        let y = self.attention(b, &part("time_layer.layers.0"), y, true);
        let y = self.attention(b, &part("feature_layer.layers.0"), y, false);
        let y = conv1x1(b, &part("mid_projection"), y, c, 2 * c, Start::Spread);
        let y = y + conv1x1(b, &part("cond_projection"), side, self.side, 2 * c, Start::Spread);
        let [gate, filter] = halves(y, c);
        let y = gate.sigmoid() * filter.tanh();
        let y = conv1x1(b, &part("output_projection"), y, c, 2 * c, Start::Spread);
        let [residual, skip] = halves(y, c);
        ((h + residual) / 2_f64.sqrt(), skip)
    }

    /// Along time within each series, or across series at each time; along an axis of length 1 there is nothing to do.
    fn attention<'b>(&self, b: Builder<'b>, name: &str, x: Node<'b>, along: bool) -> Node<'b> {
        let (k, l, c) = (self.series as i64, self.length as i64, self.channels as i64);
        let (order, back, n) = match along {
            true => ([0, 2, 3, 1], [0, 3, 1, 2], l),
            false => ([0, 3, 2, 1], [0, 3, 2, 1], k),
        };
        if n == 1 {
            return x;
        }
        let y = x.reshape(&[-1, c, k, l]).transpose(&order).reshape(&[-1, n, c]);
        let other = k * l / n;
        let y = self.encoder.of(b, name, y).reshape(&[-1, other, n, c]);
        y.transpose(&back).reshape(&[-1, c, k * l])
    }
}

/// The two halves of the channels of `[rows, 2 c, time]`.
fn halves(x: Node<'_>, c: usize) -> [Node<'_>; 2] {
    let shape = x.shape();
    let (rows, time) = (shape.first().copied().unwrap_or(0), shape.last().copied().unwrap_or(0));
    let c = c as i64;
    [x.slice(&[0, 0, 0], &[rows, c, time]), x.slice(&[0, c, 0], &[rows, 2 * c, time])]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn config_is_checked() {
        let message =
            |json: &str| Csdi::create(&mut Config::parse(json).unwrap()).err().unwrap().message;
        assert_eq!(
            message(r#"{"nheads":5}"#),
            "nheads is 5, want a divisor of channels, which is 64"
        );
        let want = "is_linear is true, want false: there is no linear attention";
        assert_eq!(message(r#"{"is_linear":true}"#), want);
        let want = "num_steps is 1000000 and diffusion_embedding_dim 65536: a table of 65536000000 \
                    numbers to compute, want at most 67108864";
        assert_eq!(message(r#"{"num_steps":1000000,"diffusion_embedding_dim":65536}"#), want);
    }
}
