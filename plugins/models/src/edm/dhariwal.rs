//! `DhariwalUNet`: ADM, whose embedding scales and shifts, with a head for every 64 channels. A block of fewer has no
//! attention at all, as in the reference.

use super::{Block, Common, Defaults};
use crate::block::embedding::{Sinusoid, Spacing};
use crate::block::feed_forward::Activation;
use crate::block::picture::{Filter, conv2d, group_norm};
use crate::block::resnet::{EDM, Resample, Style};
use crate::block::{Start, linear, project};
use core::ffi::CStr;
use diffx_plugin::{
    Builder, Config, Factory, Model, ModelInfo, ModelIo, Node, Result, abi, schema,
};

pub(crate) struct Dhariwal {
    common: Common,
    filter: Filter,
}

const EPS: f64 = 1e-5;
/// Channels of a head.
const HEAD: usize = 64;

impl Factory for Dhariwal {
    const ID: &'static CStr = c"org.diffx.dhariwal";
    const SUMMARY: &'static CStr = c"U-Net of ADM, as EDM's code has it";
    const SCHEMA: Option<&'static CStr> = schema![
        "img_resolution": integer "height and width of the state", default 32, minimum 1, maximum 65536;
        "img_channels": integer "channels of the state", default 3, minimum 1, maximum 65536;
        "out_channels": integer "channels of the output, as many when absent; twice with a learned variance", minimum 1, maximum 65536;
        "label_dim": integer "numbers of class_labels, of one class 1; 0 = there are none", default 0, minimum 0, maximum 1048576;
        "augment_dim": integer "numbers of augment_labels; 0 = there are none", default 0, minimum 0, maximum 1048576;
        "model_channels": integer "channels that the multipliers multiply", default 192, minimum 1, maximum 65536;
        "channel_mult": integers "multiplier of each level; 1, 2, 3, 4 when absent", minimum 1, maximum 1024;
        "channel_mult_emb": integer "multiplier of the embedding", default 4, minimum 1, maximum 1024;
        "num_blocks": integer "residual blocks of a level", default 3, minimum 1, maximum 64;
        "attn_resolutions": integers "resolutions with attention; 32, 16, 8 when absent", minimum 1, maximum 65536;
        "dropout": number "of training by the reference; not applied", default 0, minimum 0, maximum 1;
        "label_dropout": number "of training by the reference; not applied", default 0, minimum 0, maximum 1;
        "predicts": string "what the output means; residual leaves it to the process", default "residual", enum ["residual", "denoised", "noise", "velocity", "score", "value", "v"];
    ];

    fn create(config: &mut Config) -> Result<Self> {
        let default =
            Defaults { channels: 192, mult: &[1, 2, 3, 4], blocks: 3, attention: &[32, 16, 8] };
        Ok(Self { common: Common::read(config, &default)?, filter: Filter::mean() })
    }
}

impl Model for Dhariwal {
    fn info(&self) -> ModelInfo {
        self.common.info()
    }

    fn build<'b>(&self, b: Builder<'b>, io: &mut ModelIo<'b>) -> Result<()> {
        let embedding = self.embedding(b, io);
        let (h, kept) = self.down(b, io.x(0), embedding);
        io.set_out(0, self.up(b, h, kept, embedding));
        Ok(())
    }
}

impl Dhariwal {
    fn style(&self) -> Style {
        Style {
            names: EDM,
            groups: None,
            eps: EPS,
            act: Activation::Silu,
            embedding: self.common.embedding,
            act_embedding: false,
            adaptive: true,
            gain: 1.0,
        }
    }

    fn embedding<'b>(&self, b: Builder<'b>, io: &ModelIo<'b>) -> Node<'b> {
        let c = &self.common;
        let spacing = Spacing::Power { shift: 0.0 };
        let sinusoid = Sinusoid { width: c.noise, spacing, period: 1e4, cos_first: true };
        let augment = (c.augment > 0).then(|| io.cond(c.augment_at()));
        let e = c.augmented(b, sinusoid.of(b, io.sigma(0)), augment);
        let e = linear(b, "model.map_layer0", e, c.noise, c.embedding, Start::Spread).silu();
        let mut e = linear(b, "model.map_layer1", e, c.embedding, c.embedding, Start::Spread);
        if c.labels > 0 {
            e = e + project(b, "model.map_label", io.cond(0), c.labels, c.embedding, false);
        }
        e.silu()
    }

    fn down<'b>(
        &self,
        b: Builder<'b>,
        x: Node<'b>,
        embedding: Node<'b>,
    ) -> (Node<'b>, Vec<Node<'b>>) {
        let (c, style) = (&self.common, self.style());
        let (mut h, mut kept, mut inputs) = (x, Vec::new(), c.widths[0]);
        for level in 0..c.levels() {
            let (size, outputs) = (c.size(level), c.widths[level]);
            let name = |part: &str| format!("model.enc.{size}x{size}_{part}");
            h = if level == 0 {
                conv2d(b, &name("conv"), x, [c.channels[0], inputs], 3, Start::Spread)
            } else {
                let down = Resample::Down(&self.filter);
                let block = Block::resampling(style, inputs, down, false);
                block.build(b, &name("down"), h, embedding)
            };
            kept.push(h);
            for i in 0..c.blocks {
                let heads = if c.attends(level) { outputs / HEAD } else { 0 };
                let block = Block::new(style, inputs, outputs, heads);
                h = block.build(b, &name(&format!("block{i}")), h, embedding);
                kept.push(h);
                inputs = outputs;
            }
        }
        (h, kept)
    }

    fn up<'b>(
        &self,
        b: Builder<'b>,
        mut h: Node<'b>,
        mut kept: Vec<Node<'b>>,
        embedding: Node<'b>,
    ) -> Node<'b> {
        let (c, style) = (&self.common, self.style());
        let mut channels = c.kept(c.widths[0]);
        let mut inputs = c.widths[c.levels() - 1];
        for level in (0..c.levels()).rev() {
            let (size, outputs, lowest) = (c.size(level), c.widths[level], level + 1 == c.levels());
            let name = |part: &str| format!("model.dec.{size}x{size}_{part}");
            if lowest {
                let first = Block::new(style, inputs, inputs, inputs / HEAD);
                h = first.build(b, &name("in0"), h, embedding);
                h = Block::new(style, inputs, inputs, 0).build(b, &name("in1"), h, embedding);
            } else {
                let up = Resample::Up(&self.filter);
                h = Block::resampling(style, inputs, up, false).build(b, &name("up"), h, embedding);
            }
            for i in 0..=c.blocks {
                let (Some(side), Some(more)) = (kept.pop(), channels.pop()) else {
                    return b.fail(abi::E_INTERNAL, "the way up takes more than was kept");
                };
                let heads = if c.attends(level) { outputs / HEAD } else { 0 };
                let block = Block::new(style, inputs + more, outputs, heads);
                h = b.concat(&[h, side], 1);
                h = block.build(b, &name(&format!("block{i}")), h, embedding);
                inputs = outputs;
            }
        }
        let h = group_norm(b, "model.out_norm", h, inputs, style.groups_of(inputs), EPS).silu();
        conv2d(b, "model.out_conv", h, [inputs, c.channels[1]], 3, Start::Zero)
    }
}
