//! `AutoencoderKL` of diffusers (Rombach et al. 2022): pictures to the moments of latents, and latents to pictures. It is
//! no denoiser but a network of its own slot, `vae`, whose output is not shaped as its input; `phase` says which way.
//!
//! The latents of a denoiser are centered and scaled: decoding takes them so, and encoding gives the mean and the
//! logarithm of the variance in those units, one after the other along the channels. Decoding and encoding as the class
//! itself does, in its own units, are phases of their own.

use crate::block::picture::{Filter, conv2d, conv2d_with, group_norm};
use crate::block::resnet::{DIFFUSERS, PictureAttention, Style, middle};
use crate::block::{ACTIVATIONS, Start};
use core::ffi::CStr;
use diffx_plugin::{
    Builder, Component, Config, Error, FINITE, Factory, Model, ModelInfo, ModelIo, Node, POSITIVE,
    Predicts, Result, abi, schema,
};

pub(crate) struct AutoencoderKl {
    /// Of a picture going in, and coming out.
    channels: [usize; 2],
    latents: usize,
    widths: Vec<usize>,
    /// Which blocks attend, of the way down and up.
    down: Vec<bool>,
    up: Vec<bool>,
    layers: usize,
    style: Style,
    /// Whether the moments, and the latents, pass one more layer.
    quant: [bool; 2],
    attention: bool,
    /// Latents of a denoiser are (z - center) scale, per channel or of all.
    center: Vec<f64>,
    scale: Vec<f64>,
}

/// Forms of the network: a denoiser's latents to a picture, a picture to their moments, and the same in the units of the
/// autoencoder.
const DECODE: u32 = 0;
const ENCODE: u32 = 1;
const DECODE_RAW: u32 = 2;
const ENCODE_RAW: u32 = 3;
/// The decoder without the layer before it.
const DECODER: u32 = 4;

const EPS: f64 = 1e-6;
const MOST: usize = 65536;
/// The logarithm of the variance is kept within these.
const LOG_VARIANCE: (f64, f64) = (-30.0, 20.0);

impl Factory for AutoencoderKl {
    const ID: &'static CStr = c"org.diffx.autoencoder_kl";
    const SUMMARY: &'static CStr = c"autoencoder of latent diffusion, as diffusers has it";
    const SCHEMA: Option<&'static CStr> = schema![
        "in_channels": integer "channels of a picture to encode", default 3, minimum 1, maximum 65536;
        "out_channels": integer "channels of a decoded picture", default 3, minimum 1, maximum 65536;
        "down_block_types": strings "blocks of the encoder; one DownEncoderBlock2D when absent", enum ["DownEncoderBlock2D", "AttnDownEncoderBlock2D"];
        "up_block_types": strings "blocks of the decoder; one UpDecoderBlock2D when absent", enum ["UpDecoderBlock2D", "AttnUpDecoderBlock2D"];
        "block_out_channels": integers "channels of each block; 64 when absent", minimum 1, maximum 65536;
        "layers_per_block": integer "residual blocks of an encoder's block, a decoder's has one more", default 1, minimum 1, maximum 64;
        "act_fn": string "activation of the blocks", default "silu", enum ["silu", "swish", "mish", "gelu", "relu"];
        "latent_channels": integer "channels of latents", default 4, minimum 1, maximum 65536;
        "norm_num_groups": integer "groups of the norms", default 32, minimum 1, maximum 65536;
        "scaling_factor": number "multiplies latents for a denoiser", default 0.18215, exclusiveMinimum 0;
        "shift_factor": number "taken from latents before; 0 when absent";
        "latents_mean": numbers "taken from each channel of latents instead";
        "latents_std": numbers "divides each channel of latents", exclusiveMinimum 0;
        "force_upcast": boolean "whether half precision is not enough; all is computed in f32 at least here", default true;
        "use_quant_conv": boolean "whether moments pass a layer of their own", default true;
        "use_post_quant_conv": boolean "whether latents pass a layer of their own", default true;
        "mid_block_add_attention": boolean "whether the middles have attention", default true;
    ];

    fn create(config: &mut Config) -> Result<Self> {
        let widths = config.usizes("block_out_channels", 1..=MOST)?.unwrap_or_else(|| vec![64]);
        let down = config
            .words("down_block_types", DOWN)?
            .unwrap_or_else(|| vec![false; widths.len().min(1)]);
        let up =
            config.words("up_block_types", UP)?.unwrap_or_else(|| vec![false; widths.len().min(1)]);
        let levels = widths.len();
        if down.len() != levels || up.len() != levels || !(1..=16).contains(&levels) {
            return Err(Error::invalid(format!(
                "{levels} block_out_channels, {} down_block_types and {} up_block_types, want as \
                 many of each, from 1 to 16",
                down.len(),
                up.len()
            )));
        }
        config.bool("force_upcast", true)?;
        let latents = config.usize("latent_channels", 4, 1..=MOST)?;
        let (center, scale) = units(config, latents)?;
        Ok(Self {
            channels: [
                config.usize("in_channels", 3, 1..=MOST)?,
                config.usize("out_channels", 3, 1..=MOST)?,
            ],
            latents,
            widths,
            down,
            up,
            layers: config.usize("layers_per_block", 1, 1..=64)?,
            style: Style {
                names: DIFFUSERS,
                groups: Some(config.usize("norm_num_groups", 32, 1..=MOST)?),
                eps: EPS,
                act: config.one_of("act_fn", ACTIVATIONS)?,
                embedding: 0,
                act_embedding: false,
                adaptive: false,
                gain: 1.0,
            },
            quant: [
                config.bool("use_quant_conv", true)?,
                config.bool("use_post_quant_conv", true)?,
            ],
            attention: config.bool("mid_block_add_attention", true)?,
            center,
            scale,
        })
    }
}

const DOWN: &[(&str, bool)] = &[("DownEncoderBlock2D", false), ("AttnDownEncoderBlock2D", true)];
const UP: &[(&str, bool)] = &[("UpDecoderBlock2D", false), ("AttnUpDecoderBlock2D", true)];

/// Center and scale of a denoiser's latents. Channels of their own divide by a deviation and multiply by the factor.
fn units(config: &mut Config, latents: usize) -> Result<(Vec<f64>, Vec<f64>)> {
    let factor = config.f64("scaling_factor", 0.18215, POSITIVE)?;
    let shift = config.opt_f64("shift_factor", FINITE)?.unwrap_or(0.0);
    let mean = config.f64s("latents_mean", FINITE)?;
    let deviation = config.f64s("latents_std", POSITIVE)?;
    match (mean, deviation) {
        (None, None) => Ok((vec![shift], vec![factor])),
        (Some(mean), Some(std)) if mean.len() == latents && std.len() == latents => {
            Ok((mean, std.iter().map(|s| factor / s).collect()))
        }
        (mean, std) => Err(Error::invalid(format!(
            "latents_mean has {} numbers and latents_std {}, want {latents} each or none",
            mean.map_or(0, |m| m.len()),
            std.map_or(0, |s| s.len())
        ))),
    }
}

impl Model for AutoencoderKl {
    fn info(&self) -> ModelInfo {
        ModelInfo {
            predicts: Predicts::Value,
            components: vec![Component::continuous("x", &[-1, -1, -1])],
            conds: vec![],
            slots: vec![],
        }
    }

    fn build<'b>(&self, b: Builder<'b>, io: &mut ModelIo<'b>) -> Result<()> {
        let x = io.x(0);
        let out = match io.phase() {
            DECODE => {
                let own = x * self.table(b, &self.scale, |s| 1.0 / s);
                self.decode(b, own + self.table(b, &self.center, |c| c))
            }
            DECODE_RAW => self.decode(b, x),
            DECODER => self.decoder(b, x),
            ENCODE => {
                let [mean, log] = self.encode(b, x);
                let centered = mean - self.table(b, &self.center, |c| c);
                let mean = centered * self.table(b, &self.scale, |s| s);
                b.concat(&[mean, log + self.table(b, &self.scale, |s| 2.0 * s.ln())], 1)
            }
            ENCODE_RAW => {
                let moments = self.encode(b, x);
                b.concat(&moments, 1)
            }
            phase => {
                let text = format!(
                    "phase is {phase}, want 0 to 4: decode, encode, both unscaled, decoder"
                );
                b.fail(abi::E_INVALID, &text)
            }
        };
        io.set_out(0, out);
        Ok(())
    }
}

impl AutoencoderKl {
    /// A number per channel of latents.
    fn table<'b>(&self, b: Builder<'b>, values: &[f64], f: fn(f64) -> f64) -> Node<'b> {
        let values: Vec<f32> = values.iter().map(|v| f(*v) as f32).collect();
        b.constant(&[1, values.len() as i64, 1, 1], &values).cast(0)
    }

    fn attend(&self, channels: usize) -> PictureAttention {
        let groups = Some(self.style.groups_of(channels));
        PictureAttention { channels, head: channels, groups, eps: EPS, gain: 1.0 }
    }

    fn middle<'b>(&self, b: Builder<'b>, part: &str, h: Node<'b>) -> Node<'b> {
        let Some(channels) = self.widths.last().copied() else { return h };
        let attention = self.attention.then(|| self.attend(channels));
        let block = self.style.resnet(channels, channels);
        middle(b, &format!("{part}.mid_block"), h, None, &block, attention)
    }

    /// Norm, activation and convolution at the end of a part.
    fn finish<'b>(
        &self,
        b: Builder<'b>,
        part: &str,
        h: Node<'b>,
        channels: [usize; 2],
    ) -> Node<'b> {
        let (name, groups) = (format!("{part}.conv_norm_out"), self.style.groups_of(channels[0]));
        let h = group_norm(b, &name, h, channels[0], groups, EPS).silu();
        conv2d(b, &format!("{part}.conv_out"), h, channels, 3, Start::Spread)
    }

    /// Residual blocks of one block, with attention after each where it has it.
    fn layers<'b>(
        &self,
        b: Builder<'b>,
        prefix: &str,
        mut h: Node<'b>,
        [inputs, outputs]: [usize; 2],
        (count, attends): (usize, bool),
    ) -> Node<'b> {
        for k in 0..count {
            let resnet = self.style.resnet(if k == 0 { inputs } else { outputs }, outputs);
            h = resnet.build(b, &format!("{prefix}.resnets.{k}"), h, None);
            if attends {
                h = self.attend(outputs).build(b, &format!("{prefix}.attentions.{k}"), h);
            }
        }
        h
    }

    /// Mean and logarithm of the variance of the latents of pictures.
    fn encode<'b>(&self, b: Builder<'b>, x: Node<'b>) -> [Node<'b>; 2] {
        let across = [self.channels[0], self.widths[0]];
        let mut h = conv2d(b, "encoder.conv_in", x, across, 3, Start::Spread);
        let mut inputs = self.widths[0];
        for (i, outputs) in self.widths.iter().copied().enumerate() {
            let prefix = format!("encoder.down_blocks.{i}");
            h = b.scope(&prefix, |b| {
                self.layers(b, &prefix, h, [inputs, outputs], (self.layers, self.down[i]))
            });
            if i + 1 < self.widths.len() {
                // zeros below and right only, whatever the size
                let (conv, how) = (format!("{prefix}.downsamplers.0.conv"), (2, [0, 1, 0, 1]));
                h = conv2d_with(b, &conv, h, [outputs; 2], 3, how, Start::Spread);
            }
            inputs = outputs;
        }
        let h = self.middle(b, "encoder", h);
        let (latents, both) = (self.latents as i64, 2 * self.latents);
        let mut h = self.finish(b, "encoder", h, [inputs, both]);
        if self.quant[0] {
            h = conv2d(b, "quant_conv", h, [both; 2], 1, Start::Spread);
        }
        let [rows, _, height, width] = *h.shape() else { return [h; 2] };
        let part =
            |i: i64| h.slice(&[0, i * latents, 0, 0], &[rows, (i + 1) * latents, height, width]);
        [part(0), part(1).clamp(LOG_VARIANCE.0, LOG_VARIANCE.1)]
    }

    fn decode<'b>(&self, b: Builder<'b>, z: Node<'b>) -> Node<'b> {
        let z = match self.quant[1] {
            true => conv2d(b, "post_quant_conv", z, [self.latents; 2], 1, Start::Spread),
            false => z,
        };
        self.decoder(b, z)
    }

    fn decoder<'b>(&self, b: Builder<'b>, z: Node<'b>) -> Node<'b> {
        let (levels, latents) = (self.widths.len(), self.latents);
        let mut inputs = self.widths[levels - 1];
        let h = conv2d(b, "decoder.conv_in", z, [latents, inputs], 3, Start::Spread);
        let mut h = self.middle(b, "decoder", h);
        for i in 0..levels {
            let outputs = self.widths[levels - 1 - i];
            let prefix = format!("decoder.up_blocks.{i}");
            h = b.scope(&prefix, |b| {
                self.layers(b, &prefix, h, [inputs, outputs], (self.layers + 1, self.up[i]))
            });
            if i + 1 < levels {
                let (conv, wide) = (format!("{prefix}.upsamplers.0.conv"), Filter::mean().up(h));
                h = conv2d(b, &conv, wide, [outputs; 2], 3, Start::Spread);
            }
            inputs = outputs;
        }
        self.finish(b, "decoder", h, [inputs, self.channels[1]])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(json: &str) -> Result<AutoencoderKl> {
        let mut config = Config::parse(json).unwrap();
        let made = AutoencoderKl::create(&mut config)?;
        config.finish(AutoencoderKl::SCHEMA).map(|()| made)
    }

    #[test]
    fn units_are_those_of_the_pipelines() {
        let of = |json: &str| made(json).map(|a| (a.center, a.scale)).unwrap();
        assert_eq!(of("{}"), (vec![0.0], vec![0.18215]));
        let both = of(r#"{"scaling_factor":1.5305,"shift_factor":0.0609}"#);
        assert_eq!(both, (vec![0.0609], vec![1.5305]));
        let json =
            r#"{"latent_channels":2,"scaling_factor":2,"latents_mean":[1,-1],"latents_std":[4,8]}"#;
        assert_eq!(of(json), (vec![1.0, -1.0], vec![0.5, 0.25]));
    }

    #[test]
    fn settings_are_refused_with_a_sentence() {
        let message = |json: &str| made(json).err().unwrap().message;
        assert_eq!(
            message(r#"{"latents_mean":[0,0,0,0]}"#),
            "latents_mean has 4 numbers and latents_std 0, want 4 each or none"
        );
        let want = "2 block_out_channels, 1 down_block_types and 1 up_block_types, want as many of \
                    each, from 1 to 16";
        assert_eq!(message(r#"{"block_out_channels":[8,16]}"#), want);
        let types = r#"{"down_block_types":["CrossAttnDownBlock2D"]}"#;
        assert!(message(types).contains("want a list of DownEncoderBlock2D"), "{}", message(types));
    }
}
