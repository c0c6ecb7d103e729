//! `SongUNet`: DDPM++ with sinusoids and means of 2 x 2, NCSN++ with Fourier features and the filter 1, 3, 3, 1. The
//! input may go along reduced beside the features (`residual`, `skip`), and outputs of all levels may be added (`skip`).

use super::{Block, Common, Defaults, conv_down};
use crate::block::embedding::{Sinusoid, Spacing};
use crate::block::feed_forward::Activation;
use crate::block::picture::{Filter, conv2d, group_norm};
use crate::block::resnet::{EDM, Resample, Style};
use crate::block::{Start, linear};
use core::f64::consts::FRAC_1_SQRT_2;
use core::ffi::CStr;
use diffx_plugin::{
    Builder, Config, Error, FINITE, Factory, Init, Model, ModelInfo, ModelIo, Node, Result, abi,
    schema,
};

pub(crate) struct SongUnet {
    common: Common,
    fourier: bool,
    input: Beside,
    /// Outputs of all levels are added.
    sum_outputs: bool,
    filter: Filter,
}

/// How the reduced input goes along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Beside {
    No,
    /// Halved, and added by a convolution of kernel 1.
    Skip,
    /// Halved by a convolution, and carrying on the sum.
    Residual,
}

const EPS: f64 = 1e-6;

impl Factory for SongUnet {
    const ID: &'static CStr = c"org.diffx.songunet";
    const SUMMARY: &'static CStr = c"U-Net of DDPM++ and NCSN++, as EDM's code has it";
    const SCHEMA: Option<&'static CStr> = schema![
        "img_resolution": integer "height and width of the state", default 32, minimum 1, maximum 65536;
        "img_channels": integer "channels of the state", default 3, minimum 1, maximum 65536;
        "out_channels": integer "channels of the output, as many when absent; twice with a learned variance", minimum 1, maximum 65536;
        "label_dim": integer "numbers of class_labels, of one class 1; 0 = there are none", default 0, minimum 0, maximum 1048576;
        "augment_dim": integer "numbers of augment_labels; 0 = there are none", default 0, minimum 0, maximum 1048576;
        "model_channels": integer "channels that the multipliers multiply", default 128, minimum 1, maximum 65536;
        "channel_mult": integers "multiplier of each level; 1, 2, 2, 2 when absent", minimum 1, maximum 1024;
        "channel_mult_emb": integer "multiplier of the embedding", default 4, minimum 1, maximum 1024;
        "num_blocks": integer "residual blocks of a level", default 4, minimum 1, maximum 64;
        "attn_resolutions": integers "resolutions with attention; 16 when absent", minimum 1, maximum 65536;
        "dropout": number "of training by the reference; not applied", default 0, minimum 0, maximum 1;
        "label_dropout": number "of training by the reference; not applied", default 0, minimum 0, maximum 1;
        "embedding_type": string "of the level", default "positional", enum ["positional", "fourier"];
        "channel_mult_noise": integer "multiplier of the embedding's first features", default 1, minimum 1, maximum 1024;
        "encoder_type": string "how the input goes along", default "standard", enum ["standard", "skip", "residual"];
        "decoder_type": string "whether outputs of all levels are added", default "standard", enum ["standard", "skip"];
        "resample_filter": numbers "taps, an even number; 1, 1 when absent";
        "predicts": string "what the output means; residual leaves it to the process", default "residual", enum ["residual", "denoised", "noise", "velocity", "score", "value", "v"];
    ];

    fn create(config: &mut Config) -> Result<Self> {
        let default = Defaults { channels: 128, mult: &[1, 2, 2, 2], blocks: 4, attention: &[16] };
        let mut common = Common::read(config, &default)?;
        common.noise *= config.usize("channel_mult_noise", 1, 1..=1024)?;
        let taps = config.f64s("resample_filter", FINITE)?.unwrap_or_else(|| vec![1.0, 1.0]);
        let Some(filter) = Filter::new(&taps).filter(|_| taps.len() <= 64) else {
            return Err(Error::invalid(format!(
                "resample_filter is {taps:?}, want an even number of taps whose sum is not 0"
            )));
        };
        let beside =
            [("standard", Beside::No), ("skip", Beside::Skip), ("residual", Beside::Residual)];
        Ok(Self {
            common,
            fourier: config
                .one_of("embedding_type", &[("positional", false), ("fourier", true)])?,
            input: config.one_of("encoder_type", &beside)?,
            sum_outputs: config.one_of("decoder_type", &[("standard", false), ("skip", true)])?,
            filter,
        })
    }
}

impl Model for SongUnet {
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

impl SongUnet {
    fn style(&self) -> Style {
        Style {
            names: EDM,
            groups: None,
            eps: EPS,
            act: Activation::Silu,
            embedding: self.common.embedding,
            act_embedding: false,
            adaptive: false,
            gain: FRAC_1_SQRT_2,
        }
    }

    fn embedding<'b>(&self, b: Builder<'b>, io: &ModelIo<'b>) -> Node<'b> {
        let c = &self.common;
        let level = io.sigma(0);
        // sines first: the reference swaps the halves of what its embeddings give
        let mut e = if self.fourier {
            let half = (c.noise / 2) as i64;
            let w = b.weight("model.map_noise.freqs", &[half], Init::Normal(16.0));
            let turns = w.stop_gradient().reshape(&[1, -1]) * (2.0 * core::f64::consts::PI);
            let angle = level.reshape(&[-1, 1]) * turns;
            b.concat(&[angle.sin(), angle.cos()], -1)
        } else {
            let spacing = Spacing::Power { shift: 1.0 };
            Sinusoid { width: c.noise, spacing, period: 1e4, cos_first: false }.of(b, level)
        };
        if c.labels > 0 {
            let labels = io.cond(0) * (c.labels as f64).sqrt();
            e = e + linear(b, "model.map_label", labels, c.labels, c.noise, Start::Spread);
        }
        let augment = (c.augment > 0).then(|| io.cond(c.augment_at()));
        let e = c.augmented(b, e, augment);
        let e = linear(b, "model.map_layer0", e, c.noise, c.embedding, Start::Spread).silu();
        linear(b, "model.map_layer1", e, c.embedding, c.embedding, Start::Spread).silu()
    }

    /// The features at the lowest resolution, and what is kept for the way up.
    fn down<'b>(
        &self,
        b: Builder<'b>,
        x: Node<'b>,
        embedding: Node<'b>,
    ) -> (Node<'b>, Vec<Node<'b>>) {
        let (c, style) = (&self.common, self.style());
        let (mut beside, mut width) = (x, c.channels[0]);
        let (mut h, mut kept, mut inputs) = (x, Vec::new(), c.first);
        for level in 0..c.levels() {
            let (size, outputs) = (c.size(level), c.widths[level]);
            let name = |part: &str| format!("model.enc.{size}x{size}_{part}");
            if level == 0 {
                h = conv2d(b, &name("conv"), x, [width, c.first], 3, Start::Spread);
            } else {
                let down = Resample::Down(&self.filter);
                h = Block::resampling(style, inputs, down, true).build(
                    b,
                    &name("down"),
                    h,
                    embedding,
                );
                match self.input {
                    Beside::No => {}
                    Beside::Skip => {
                        beside = self.filter.down(beside, self.filter.zeros());
                        let across = [width, inputs];
                        h = h + conv2d(b, &name("aux_skip"), beside, across, 1, Start::Spread);
                    }
                    Beside::Residual => {
                        let across = [width, inputs];
                        let aux = conv_down(b, &name("aux_residual"), beside, across, &self.filter);
                        h = (h + aux) * FRAC_1_SQRT_2;
                        (beside, width) = (h, inputs);
                    }
                }
            }
            kept.push(h);
            for i in 0..c.blocks {
                let heads = usize::from(c.attends(level));
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
        let mut channels = c.kept(c.first);
        let mut out: Option<Node<'b>> = None;
        let mut inputs = c.widths[c.levels() - 1];
        for level in (0..c.levels()).rev() {
            let (size, outputs, lowest) = (c.size(level), c.widths[level], level + 1 == c.levels());
            let name = |part: &str| format!("model.dec.{size}x{size}_{part}");
            if lowest {
                h = Block::new(style, inputs, inputs, 1).build(b, &name("in0"), h, embedding);
                h = Block::new(style, inputs, inputs, 0).build(b, &name("in1"), h, embedding);
            } else {
                let up = Resample::Up(&self.filter);
                h = Block::resampling(style, inputs, up, true).build(b, &name("up"), h, embedding);
            }
            for i in 0..=c.blocks {
                let (Some(side), Some(more)) = (kept.pop(), channels.pop()) else {
                    return b.fail(abi::E_INTERNAL, "the way up takes more than was kept");
                };
                let heads = usize::from(i == c.blocks && c.attends(level));
                let block = Block::new(style, inputs + more, outputs, heads);
                h = b.concat(&[h, side], 1);
                h = block.build(b, &name(&format!("block{i}")), h, embedding);
                inputs = outputs;
            }
            if self.sum_outputs || level == 0 {
                let groups = style.groups_of(outputs);
                let norm = group_norm(b, &name("aux_norm"), h, outputs, groups, EPS).silu();
                let across = [outputs, c.channels[1]];
                let said = conv2d(b, &name("aux_conv"), norm, across, 3, Start::Zero);
                out = Some(out.map_or(said, |below| self.filter.up(below) + said));
            }
        }
        out.unwrap_or(h) // level 0 always says something
    }
}
