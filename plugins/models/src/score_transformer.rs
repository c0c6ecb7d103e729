//! A small transformer over series, `[length, d_in]`: positions from a table, the time added to each, encoder layers with
//! the norms before. Lengths are free up to `max_len`.

use crate::block::attention::Heads;
use crate::block::embedding::{Sinusoid, Spacing, two_layers};
use crate::block::encoder::Encoder;
use crate::block::feed_forward::Activation;
use crate::block::layer::layer_norm;
use crate::block::predicts::PREDICTS;
use crate::block::{Start, linear};
use core::ffi::CStr;
use diffx_plugin::{
    Builder, Component, Config, Error, Factory, Init, Model, ModelInfo, ModelIo, Predicts, Result,
    schema,
};

pub(crate) struct ScoreTransformer {
    inputs: usize,
    layers: usize,
    encoder: Encoder,
    longest: usize,
    predicts: Predicts,
}

const EPS: f64 = 1e-5;

impl Factory for ScoreTransformer {
    const ID: &'static CStr = c"org.diffx.score_transformer";
    const SUMMARY: &'static CStr = c"encoder layers over a series";
    const SCHEMA: Option<&'static CStr> = schema![
        "d_in": integer "series side by side", default 1, minimum 1, maximum 65536;
        "d": integer "features of a time, a multiple of heads and of 2", default 64, minimum 2, maximum 65536;
        "heads": integer "heads of attention", default 4, minimum 1, maximum 4096;
        "layers": integer "layers", default 2, minimum 1, maximum 1024;
        "ff": integer "features of the feed-forward part", default 128, minimum 1, maximum 1048576;
        "max_len": integer "longest series", default 512, minimum 1, maximum 1048576;
        "predicts": string "what the output means; residual leaves it to the process", default "residual", enum ["residual", "denoised", "noise", "velocity", "score", "value", "v"];
    ];

    fn create(config: &mut Config) -> Result<Self> {
        let width = config.usize("d", 64, 2..=65536)?;
        let heads = config.usize("heads", 4, 1..=4096)?;
        if !width.is_multiple_of(heads) || !width.is_multiple_of(2) {
            return Err(Error::invalid(format!(
                "d is {width}, want a multiple of 2 and of heads, which is {heads}"
            )));
        }
        Ok(Self {
            inputs: config.usize("d_in", 1, 1..=65536)?,
            layers: config.usize("layers", 2, 1..=1024)?,
            encoder: Encoder {
                heads: Heads::of(heads, width / heads),
                inner: config.usize("ff", 128, 1..=1 << 20)?,
                norm_first: true,
                act: Activation::Gelu,
            },
            longest: config.usize("max_len", 512, 1..=1 << 20)?,
            predicts: config.one_of("predicts", PREDICTS)?,
        })
    }
}

impl Model for ScoreTransformer {
    fn info(&self) -> ModelInfo {
        ModelInfo {
            predicts: self.predicts,
            components: vec![Component::continuous("x", &[-1, self.inputs as i64])],
            conds: vec![],
            slots: vec![],
        }
    }

    fn build<'b>(&self, b: Builder<'b>, io: &mut ModelIo<'b>) -> Result<()> {
        let (x, width) = (io.x(0), self.encoder.heads.width());
        let length = x.shape().get(1).copied().unwrap_or(0);
        let longest = self.longest as i64;
        if length > longest {
            let text = format!("the series has {length} times, want at most max_len, {longest}");
            return Err(Error::invalid(text));
        }
        let place = b.weight("pos_emb.weight", &[longest, width as i64], Init::Normal(0.02));
        let place = place.slice(&[0, 0], &[length, width as i64]);
        let sinusoid =
            Sinusoid { width, spacing: Spacing::Exp { shift: 0.0 }, period: 1e4, cos_first: true };
        let names = ["time_embed.0", "time_embed.2"];
        let time = two_layers(b, names, sinusoid.of(b, io.sigma(0)), width, width);
        let mut h = linear(b, "in_proj", x, self.inputs, width, Start::Spread) + place;
        h = h + time.reshape(&[-1, 1, width as i64]);
        for i in 0..self.layers {
            let name = format!("layers.{i}");
            h = b.scope(&name, |b| self.encoder.of(b, &name, h));
        }
        let h = layer_norm(b, "norm", h, width, EPS);
        io.set_out(0, linear(b, "out_proj", h, width, self.inputs, Start::Zero));
        Ok(())
    }
}
