//! `DiT` of facebookresearch/DiT and `SiT` of willisma/SiT: one backbone with the same names, one embedding of time and
//! class for all blocks. `DiT` says noise and, with `learn_sigma`, the variance behind it; `SiT` says the velocity of
//! the path from noise at time 0 to data at time 1, which is turned here into the engine's, whose time runs the other way.

use crate::block::attention::{self, Heads};
use crate::block::embedding::{Sinusoid, Spacing, table, two_layers};
use crate::block::feed_forward::{self, Activation, Wide};
use crate::block::modulation::{modulated_norm, modulation};
use crate::block::patch::Patches;
use crate::block::predicts::PREDICTS;
use crate::block::{Start, linear};
use crate::dit::class_labels;
use core::ffi::CStr;
use diffx_plugin::{
    Builder, Component, Config, Error, Factory, Init, Model, ModelInfo, ModelIo, Node, POSITIVE,
    Predicts, Result, schema,
};

/// What both have.
struct Backbone {
    patches: Patches,
    input: usize,
    channels: usize,
    depth: usize,
    heads: Heads,
    inner: usize,
    classes: usize,
    /// Whether the table has a row for no class.
    null: bool,
    learn_sigma: bool,
    stored: bool,
}

const EPS: f64 = 1e-6;
const TIME: usize = 256;

impl Backbone {
    fn read(config: &mut Config) -> Result<Self> {
        let (input, patch) =
            (config.usize("input_size", 32, 1..=8192)?, config.usize("patch_size", 2, 1..=1024)?);
        let width = config.usize("hidden_size", 1152, 1..=1 << 20)?;
        let heads = config.usize("num_heads", 16, 1..=4096)?;
        if !width.is_multiple_of(heads) {
            return Err(Error::invalid(format!(
                "num_heads is {heads}, want a divisor of hidden_size, which is {width}"
            )));
        }
        let stored = config.one_of("pos_embed", &[("computed", false), ("stored", true)])?;
        let patches = Patches::of(("input_size", input), patch, width)?;
        let ratio = config.f64("mlp_ratio", 4.0, 0.01..=64.0)?;
        Ok(Self {
            patches: if stored { patches } else { patches.with_positions("input_size")? },
            input,
            channels: config.usize("in_channels", 4, 1..=65536)?,
            depth: config.usize("depth", 28, 1..=1024)?,
            heads: Heads::of(heads, width / heads),
            inner: (width as f64 * ratio) as usize,
            classes: config.usize("num_classes", 1000, 1..=1 << 24)?,
            null: config.f64("class_dropout_prob", 0.1, 0.0..=1.0)? > 0.0,
            learn_sigma: config.bool("learn_sigma", true)?,
            stored,
        })
    }

    fn info(&self, predicts: Predicts) -> ModelInfo {
        let side = self.input as i64;
        ModelInfo {
            predicts,
            components: vec![Component::continuous("x", &[self.channels as i64, side, side])],
            conds: vec![class_labels(self.classes)],
            slots: vec![],
        }
    }

    /// `[rows, channels or twice as many, h, w]`.
    fn build<'b>(&self, b: Builder<'b>, x: Node<'b>, time: Node<'b>, label: Node<'b>) -> Node<'b> {
        let (width, patches) = (self.heads.width(), self.patches);
        let shape = [1, patches.count() as i64, width as i64];
        let place = match self.stored {
            true => b.weight("pos_embed", &shape, Init::Zeros),
            false => b.constant(&shape, &patches.positions()).cast(0),
        };
        let mut h = patches.embed(b, "x_embedder.proj", x, self.channels) + place;
        let sinusoid = Sinusoid {
            width: TIME,
            spacing: Spacing::Exp { shift: 0.0 },
            period: 1e4,
            cos_first: true,
        };
        let names = ["t_embedder.mlp.0", "t_embedder.mlp.2"];
        let time = two_layers(b, names, sinusoid.of(b, time), TIME, width);
        let rows = self.classes + usize::from(self.null);
        let label = table(b, "y_embedder.embedding_table.weight", label, rows, width);
        let e = (time + label).silu();
        for i in 0..self.depth {
            let name = format!("blocks.{i}");
            h = b.scope(&name, |b| self.block(b, &name, h, e));
        }
        let m = modulation(b, "final_layer.adaLN_modulation.1", e, width, 2, 3);
        let h = modulated_norm(h, m[0], m[1], EPS);
        let channels = self.channels * (1 + usize::from(self.learn_sigma));
        let outputs = patches.patch * patches.patch * channels;
        let y = linear(b, "final_layer.linear", h, width, outputs, Start::Zero);
        patches.unfold(y, channels)
    }

    fn block<'b>(&self, b: Builder<'b>, name: &str, h: Node<'b>, e: Node<'b>) -> Node<'b> {
        let width = self.heads.width();
        let part = |p: &str| format!("{name}.{p}");
        let m = modulation(b, &part("adaLN_modulation.1"), e, width, 6, 3);
        let u = modulated_norm(h, m[0], m[1], EPS);
        let u = attention::fused(b, [&part("attn.qkv"), &part("attn.proj")], u, self.heads);
        let h = h + m[2] * u;
        let u = modulated_norm(h, m[3], m[4], EPS);
        let wide = Wide { width, inner: self.inner, bias: true };
        let names = [&*part("mlp.fc1"), &*part("mlp.fc2")];
        h + m[5] * feed_forward::plain(b, names, u, wide, Activation::GeluTanh)
    }
}

pub(crate) struct DitOriginal {
    net: Backbone,
    predicts: Predicts,
    time_scale: f64,
}

impl Factory for DitOriginal {
    const ID: &'static CStr = c"org.diffx.dit_original";
    const SUMMARY: &'static CStr =
        c"diffusion transformer over patches, as its authors published it";
    const SCHEMA: Option<&'static CStr> = schema![
        "input_size": integer "height and width of the state, a multiple of patch_size", default 32, minimum 1, maximum 8192;
        "patch_size": integer "height and width of a patch", default 2, minimum 1, maximum 1024;
        "in_channels": integer "channels of the state", default 4, minimum 1, maximum 65536;
        "hidden_size": integer "features of a patch, a multiple of num_heads", default 1152, minimum 1, maximum 1048576;
        "depth": integer "blocks", default 28, minimum 1, maximum 1024;
        "num_heads": integer "heads of attention", default 16, minimum 1, maximum 4096;
        "mlp_ratio": number "features of the feed-forward part over hidden_size", default 4, minimum 0.01, maximum 64;
        "class_dropout_prob": number "0: the table has no row for no class", default 0.1, minimum 0, maximum 1;
        "num_classes": integer "classes", default 1000, minimum 1, maximum 16777216;
        "learn_sigma": boolean "whether a learned variance follows the prediction", default true;
        "pos_embed": string "whether positions are computed or taken from the file", default "computed", enum ["computed", "stored"];
        "predicts": string "what the output means; residual leaves it to the process", default "residual", enum ["residual", "denoised", "noise", "velocity", "score", "value", "v"];
        "time_scale": number "multiplies the level before it is embedded", default 1, exclusiveMinimum 0;
    ];

    fn create(config: &mut Config) -> Result<Self> {
        Ok(Self {
            net: Backbone::read(config)?,
            predicts: config.one_of("predicts", PREDICTS)?,
            time_scale: config.f64("time_scale", 1.0, POSITIVE)?,
        })
    }
}

impl Model for DitOriginal {
    fn info(&self) -> ModelInfo {
        self.net.info(self.predicts)
    }

    fn build<'b>(&self, b: Builder<'b>, io: &mut ModelIo<'b>) -> Result<()> {
        let y = self.net.build(b, io.x(0), io.sigma(0) * self.time_scale, io.cond(0));
        io.set_out(0, y);
        Ok(())
    }
}

pub(crate) struct Sit {
    net: Backbone,
}

impl Factory for Sit {
    const ID: &'static CStr = c"org.diffx.sit";
    const SUMMARY: &'static CStr = c"diffusion transformer that predicts the velocity of a flow";
    const SCHEMA: Option<&'static CStr> = schema![
        "input_size": integer "height and width of the state, a multiple of patch_size", default 32, minimum 1, maximum 8192;
        "patch_size": integer "height and width of a patch", default 2, minimum 1, maximum 1024;
        "in_channels": integer "channels of the state", default 4, minimum 1, maximum 65536;
        "hidden_size": integer "features of a patch, a multiple of num_heads", default 1152, minimum 1, maximum 1048576;
        "depth": integer "blocks", default 28, minimum 1, maximum 1024;
        "num_heads": integer "heads of attention", default 16, minimum 1, maximum 4096;
        "mlp_ratio": number "features of the feed-forward part over hidden_size", default 4, minimum 0.01, maximum 64;
        "class_dropout_prob": number "0: the table has no row for no class", default 0.1, minimum 0, maximum 1;
        "num_classes": integer "classes", default 1000, minimum 1, maximum 16777216;
        "learn_sigma": boolean "whether the file has a second half of channels, which is dropped", default true;
        "pos_embed": string "whether positions are computed or taken from the file", default "computed", enum ["computed", "stored"];
    ];

    fn create(config: &mut Config) -> Result<Self> {
        Ok(Self { net: Backbone::read(config)? })
    }
}

impl Model for Sit {
    fn info(&self) -> ModelInfo {
        self.net.info(Predicts::Velocity)
    }

    fn build<'b>(&self, b: Builder<'b>, io: &mut ModelIo<'b>) -> Result<()> {
        let x = io.x(0);
        let y = self.net.build(b, x, 1.0 - io.sigma(0), io.cond(0));
        let shape = x.shape();
        io.set_out(0, -y.slice(&[0; 4], &shape));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn config_is_checked() {
        let message =
            |json: &str| Sit::create(&mut Config::parse(json).unwrap()).err().unwrap().message;
        assert_eq!(
            message(r#"{"num_heads":7}"#),
            "num_heads is 7, want a divisor of hidden_size, which is 1152"
        );
        assert_eq!(
            message(r#"{"input_size":9}"#),
            "input_size is 9, want a multiple of patch_size, which is 2"
        );
        assert_eq!(
            message(r#"{"hidden_size":18,"num_heads":3}"#),
            "the width is 18, want a multiple of 4 for the sines and cosines of positions"
        );
    }
}
