//! `DiTTransformer2DModel` of diffusers (`Transformer2DModel` with `ada_norm_zero` in older files): a transformer over
//! patches of a square picture whose every block embeds the time and the class anew (Peebles and Xie 2023).
//!
//! The network's input level is the time step of its training, 0 to 999. With `out_channels` twice `in_channels` the
//! second half is the learned variance: asked for itself it says both, as a denoiser the first.

use crate::block::attention::{Heads, attend};
use crate::block::embedding::{Sinusoid, Spacing, table, two_layers};
use crate::block::feed_forward::{self, Activation, Wide};
use crate::block::layer::layer_norm;
use crate::block::modulation::{modulate, modulated_norm, modulation};
use crate::block::patch::Patches;
use crate::block::predicts::PREDICTS;
use crate::block::{Start, linear, project};
use core::ffi::CStr;
use diffx_plugin::{
    Builder, Component, Cond, Config, Factory, Model, ModelInfo, ModelIo, Node, POSITIVE, Predicts,
    Result, abi, schema,
};

pub(crate) struct Dit {
    patches: Patches,
    sample: usize,
    channels: usize,
    out_channels: usize,
    depth: usize,
    heads: Heads,
    classes: usize,
    bias: bool,
    act: Forward,
    affine: bool,
    eps: f64,
    predicts: Predicts,
    time_scale: f64,
}

/// Forms of the feed-forward part.
#[derive(Debug, Clone, Copy)]
enum Forward {
    Plain(Activation),
    Gated(Activation),
}

/// Of the norm before attention and of the last one, whatever `norm_eps` says.
const EPS: f64 = 1e-6;
/// Features of the time before its two layers.
const TIME: usize = 256;

impl Factory for Dit {
    const ID: &'static CStr = c"org.diffx.dit";
    const SUMMARY: &'static CStr = c"diffusion transformer over patches, as diffusers has it";
    const SCHEMA: Option<&'static CStr> = schema![
        "sample_size": integer "height and width of the state, a multiple of patch_size", default 32, minimum 1, maximum 8192;
        "patch_size": integer "height and width of a patch", default 2, minimum 1, maximum 1024;
        "in_channels": integer "channels of the state", default 4, minimum 1, maximum 65536;
        "out_channels": integer "channels of the output: as many as in_channels, or twice with a learned variance", minimum 1, maximum 131072;
        "num_layers": integer "blocks", default 28, minimum 1, maximum 1024;
        "num_attention_heads": integer "heads of attention", default 16, minimum 1, maximum 4096;
        "attention_head_dim": integer "width of a head", default 72, minimum 1, maximum 65536;
        "num_embeds_ada_norm": integer "classes; one more row of the table stands for none", default 1000, minimum 1, maximum 16777216;
        "attention_bias": boolean "whether queries, keys and values have biases", default true;
        "activation_fn": string "of the feed-forward part", default "gelu-approximate", enum ["gelu-approximate", "gelu", "geglu"];
        "norm_type": string "how blocks are conditioned", default "ada_norm_zero", enum ["ada_norm_zero"];
        "norm_elementwise_affine": boolean "whether the norm before the feed-forward part has weights", default false;
        "norm_eps": number "added to the variance there", default 1e-5, exclusiveMinimum 0;
        "predicts": string "what the output means; residual leaves it to the process", default "residual", enum ["residual", "denoised", "noise", "velocity", "score", "value", "v"];
        "time_scale": number "multiplies the level before it is embedded", default 1, exclusiveMinimum 0;
    ];

    fn create(config: &mut Config) -> Result<Self> {
        let channels = config.usize("in_channels", 4, 1..=65536)?;
        let heads = Heads::of(
            config.usize("num_attention_heads", 16, 1..=4096)?,
            config.usize("attention_head_dim", 72, 1..=65536)?,
        );
        let (sample, patch) =
            (config.usize("sample_size", 32, 1..=8192)?, config.usize("patch_size", 2, 1..=1024)?);
        config.one_of("norm_type", &[("ada_norm_zero", ())])?;
        let act = [
            ("gelu-approximate", Forward::Plain(Activation::GeluTanh)),
            ("gelu", Forward::Plain(Activation::Gelu)),
            ("geglu", Forward::Gated(Activation::Gelu)),
        ];
        Ok(Self {
            patches: Patches::of(("sample_size", sample), patch, heads.width())?
                .with_positions("sample_size")?,
            sample,
            channels,
            out_channels: config.opt_usize("out_channels", 1..=131_072)?.unwrap_or(channels),
            depth: config.usize("num_layers", 28, 1..=1024)?,
            heads,
            classes: config.usize("num_embeds_ada_norm", 1000, 1..=1 << 24)?,
            bias: config.bool("attention_bias", true)?,
            act: config.one_of("activation_fn", &act)?,
            affine: config.bool("norm_elementwise_affine", false)?,
            eps: config.f64("norm_eps", 1e-5, POSITIVE)?,
            predicts: config.one_of("predicts", PREDICTS)?,
            time_scale: config.f64("time_scale", 1.0, POSITIVE)?,
        })
    }
}

impl Model for Dit {
    fn info(&self) -> ModelInfo {
        let side = self.sample as i64;
        ModelInfo {
            predicts: self.predicts,
            components: vec![Component::continuous("x", &[self.channels as i64, side, side])],
            conds: vec![class_labels(self.classes)],
            slots: vec![],
        }
    }

    fn build<'b>(&self, b: Builder<'b>, io: &mut ModelIo<'b>) -> Result<()> {
        let (width, patches) = (self.heads.width(), self.patches);
        let place = b.constant(&[1, patches.count() as i64, width as i64], &patches.positions());
        let mut h = patches.embed(b, "pos_embed.proj", io.x(0), self.channels) + place.cast(0);
        let level = io.sigma(0) * self.time_scale;
        let time = Sinusoid {
            width: TIME,
            spacing: Spacing::Exp { shift: 1.0 },
            period: 1e4,
            cos_first: true,
        };
        let (time, label) = (time.of(b, level), io.cond(0));
        for i in 0..self.depth {
            let name = format!("transformer_blocks.{i}");
            h = b.scope(&name, |b| self.block(b, &name, h, time, label));
        }
        // the first block's embedding is that of the output too
        let e = self.embedding(b, "transformer_blocks.0", time, label).silu();
        let m = modulation(b, "proj_out_1", e, width, 2, 3);
        let h = modulated_norm(h, m[0], m[1], EPS);
        let outputs = patches.patch * patches.patch * self.out_channels;
        let y = linear(b, "proj_out_2", h, width, outputs, Start::Zero);
        io.set_out(0, patches.unfold(y, self.out_channels));
        Ok(())
    }
}

impl Dit {
    fn embedding<'b>(
        &self,
        b: Builder<'b>,
        block: &str,
        time: Node<'b>,
        label: Node<'b>,
    ) -> Node<'b> {
        let (width, name) = (self.heads.width(), format!("{block}.norm1.emb"));
        let layers = [1, 2].map(|i| format!("{name}.timestep_embedder.linear_{i}"));
        let time = two_layers(b, [&layers[0], &layers[1]], time, TIME, width);
        let rows = format!("{name}.class_embedder.embedding_table.weight");
        time + table(b, &rows, label, self.classes + 1, width)
    }

    fn block<'b>(
        &self,
        b: Builder<'b>,
        name: &str,
        h: Node<'b>,
        time: Node<'b>,
        label: Node<'b>,
    ) -> Node<'b> {
        let width = self.heads.width();
        let part = |p: &str| format!("{name}.{p}");
        let e = self.embedding(b, name, time, label).silu();
        let m = modulation(b, &part("norm1.linear"), e, width, 6, 3);
        let u = modulated_norm(h, m[0], m[1], EPS);
        let [q, k, v] = ["q", "k", "v"]
            .map(|p| project(b, &part(&format!("attn1.to_{p}")), u, width, width, self.bias));
        let u = attend(q, k, v, self.heads);
        let h = h + m[2] * linear(b, &part("attn1.to_out.0"), u, width, width, Start::Spread);
        let u = match self.affine {
            true => layer_norm(b, &part("norm3"), h, width, self.eps),
            false => h.layer_norm(self.eps),
        };
        let u = modulate(u, m[3], m[4]);
        let (first, second) = (part("ff.net.0.proj"), part("ff.net.2"));
        let (names, wide) = ([&*first, &*second], Wide { width, inner: 4 * width, bias: true });
        let u = match self.act {
            Forward::Plain(act) => feed_forward::plain(b, names, u, wide, act),
            Forward::Gated(act) => feed_forward::gated_halves(b, names, u, wide, act),
        };
        h + m[5] * u
    }
}

/// One class per sample; its null is the row behind the last class.
pub(crate) fn class_labels(classes: usize) -> Cond {
    Cond { name: "class_labels".into(), dims: vec![], dtype: abi::I32, null_value: classes as f64 }
}
