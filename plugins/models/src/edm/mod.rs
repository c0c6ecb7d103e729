//! The U-Nets of "Elucidating the design space" (Karras et al. 2022) with the names of its code: `songunet` is DDPM++ and
//! NCSN++ of Song et al. (2021), `dhariwal` the ADM of Dhariwal and Nichol (2021). Here is what the two share.
//!
//! The network alone is here: its input level is c_noise, and the process `edm` wraps it as `EDMPrecond`, `VPPrecond`,
//! `VEPrecond` or `iDDPMPrecond` do. Weights are named as in a state dict of those, under `model.`. Fixed filters are
//! made from the settings and not read. Dropout is for training by the reference and does nothing here.

mod dhariwal;
mod song;

pub(crate) use dhariwal::Dhariwal;
pub(crate) use song::SongUnet;

use crate::block::attention::{Heads, attend_split};
use crate::block::picture::{Filter, bias, conv2d, group_norm, kernel_weight, to_picture};
use crate::block::predicts::PREDICTS;
use crate::block::resnet::{Resample, Resnet, Style, scaled};
use crate::block::{Start, project};
use diffx_plugin::{
    Attr, Builder, Component, Cond, Config, Error, ModelInfo, Node, Predicts, Result, attr, op,
};

const MOST: usize = 65536;
const MOST_LEVELS: usize = 16;

/// Settings of both.
struct Common {
    resolution: usize,
    /// Of the state, and of the output.
    channels: [usize; 2],
    labels: usize,
    augment: usize,
    /// Channels of the embedding of the level, and of that after its two layers.
    noise: usize,
    embedding: usize,
    /// Channels of each level.
    widths: Vec<usize>,
    first: usize,
    blocks: usize,
    /// Resolutions with attention.
    attention: Vec<usize>,
    predicts: Predicts,
}

/// Class defaults that differ.
struct Defaults {
    channels: usize,
    mult: &'static [usize],
    blocks: usize,
    attention: &'static [usize],
}

impl Common {
    fn read(config: &mut Config, default: &Defaults) -> Result<Self> {
        let channels = config.usize("img_channels", 3, 1..=MOST)?;
        let outputs = config.opt_usize("out_channels", 1..=MOST)?.unwrap_or(channels);
        let resolution = config.usize("img_resolution", 32, 1..=MOST)?;
        let first = config.usize("model_channels", default.channels, 1..=MOST)?;
        let list = |given: Option<Vec<usize>>, default: &[usize]| {
            given.unwrap_or_else(|| default.to_vec())
        };
        let mult = list(config.usizes("channel_mult", 1..=1024)?, default.mult);
        if !(1..=MOST_LEVELS).contains(&mult.len()) {
            let n = mult.len();
            return Err(Error::invalid(format!(
                "channel_mult has {n} numbers, want 1 to {MOST_LEVELS}"
            )));
        }
        let halvings = mult.len() - 1;
        if !resolution.is_multiple_of(1 << halvings) {
            return Err(Error::invalid(format!(
                "img_resolution is {resolution}, want a multiple of 2^{halvings}: channel_mult has \
                 {} levels",
                mult.len()
            )));
        }
        config.f64("dropout", 0.0, 0.0..=1.0)?;
        config.f64("label_dropout", 0.0, 0.0..=1.0)?;
        Ok(Self {
            resolution,
            channels: [channels, outputs],
            labels: config.usize("label_dim", 0, 0..=1 << 20)?,
            augment: config.usize("augment_dim", 0, 0..=1 << 20)?,
            noise: first,
            embedding: first * config.usize("channel_mult_emb", 4, 1..=1024)?,
            widths: mult.iter().map(|m| first * m).collect(),
            first,
            blocks: config.usize("num_blocks", default.blocks, 1..=64)?,
            attention: list(config.usizes("attn_resolutions", 1..=MOST)?, default.attention),
            predicts: config.one_of("predicts", PREDICTS)?,
        })
    }

    fn info(&self) -> ModelInfo {
        let cond = |name: &str, dim: usize| Cond {
            name: name.to_owned(),
            dims: vec![dim as i64],
            dtype: 0,
            null_value: 0.0,
        };
        let given = [("class_labels", self.labels), ("augment_labels", self.augment)];
        let side = self.resolution as i64;
        ModelInfo {
            predicts: self.predicts,
            components: vec![Component::continuous("x", &[self.channels[0] as i64, side, side])],
            conds: given.iter().filter(|(_, d)| *d > 0).map(|(n, d)| cond(n, *d)).collect(),
            slots: vec![],
        }
    }

    /// Where the condition of augmentation stands.
    fn augment_at(&self) -> usize {
        usize::from(self.labels > 0)
    }

    /// Adds what augmentation says.
    fn augmented<'b>(&self, b: Builder<'b>, e: Node<'b>, augment: Option<Node<'b>>) -> Node<'b> {
        match augment {
            Some(a) => e + project(b, "model.map_augment", a, self.augment, self.noise, false),
            None => e,
        }
    }

    fn levels(&self) -> usize {
        self.widths.len()
    }

    /// `32x32` of level 0, and so on: parts of names.
    fn size(&self, level: usize) -> usize {
        self.resolution >> level
    }

    fn attends(&self, level: usize) -> bool {
        self.attention.contains(&self.size(level))
    }

    /// Channels of what the way down leaves for the way up: the first convolution's, then of each level its halving and
    /// its blocks.
    fn kept(&self, first: usize) -> Vec<usize> {
        let mut kept = vec![first];
        for (level, width) in self.widths.iter().enumerate() {
            if level > 0 {
                kept.push(self.widths[level - 1]);
            }
            kept.extend(core::iter::repeat_n(*width, self.blocks));
        }
        kept
    }
}

/// A block of these networks: residual, then attention by so many heads.
struct Block<'a> {
    resnet: Resnet<'a>,
    heads: usize,
}

impl<'a> Block<'a> {
    /// One that keeps its resolution.
    fn new(style: Style, inputs: usize, outputs: usize, heads: usize) -> Self {
        Self { resnet: style.resnet(inputs, outputs), heads }
    }

    /// One that changes it. With `project` its shortcut has a convolution although channels stay.
    fn resampling(style: Style, channels: usize, resample: Resample<'a>, project: bool) -> Self {
        let same = style.resnet(channels, channels);
        Self { resnet: Resnet { resample, shortcut: project, ..same }, heads: 0 }
    }

    fn build<'b>(&self, b: Builder<'b>, name: &str, x: Node<'b>, embedding: Node<'b>) -> Node<'b> {
        b.scope(name, |b| {
            let x = self.resnet.build(b, name, x, Some(embedding));
            if self.heads == 0 { x } else { self.attention(b, name, x) }
        })
    }

    /// One convolution says queries, keys and values: for each channel of a head the three of them in turn.
    fn attention<'b>(&self, b: Builder<'b>, name: &str, x: Node<'b>) -> Node<'b> {
        let (c, style) = (self.resnet.outputs, self.resnet.style);
        let (heads, depth) = (self.heads as i64, (c / self.heads) as i64);
        let norm = group_norm(b, &format!("{name}.norm2"), x, c, style.groups_of(c), style.eps);
        let all = conv2d(b, &format!("{name}.qkv"), norm, [c, 3 * c], 1, Start::Spread);
        let [rows, _, h, w] = *x.shape() else { return x };
        let all = all.reshape(&[rows, heads, depth, 3, h * w]);
        let [q, k, v] = [0, 1, 2].map(|i| {
            let part = all.slice(&[0, 0, 0, i, 0], &[rows, heads, depth, i + 1, h * w]);
            part.reshape(&[rows, heads, depth, h * w]).transpose(&[0, 1, 3, 2])
        });
        let out = attend_split(q, k, v, Heads::of(self.heads, depth as usize));
        let out = to_picture(out, x);
        let out = conv2d(b, &format!("{name}.proj"), out, [c, c], 1, Start::Zero);
        scaled(out + x, style.gain)
    }
}

/// A convolution of kernel 3, then half the resolution; zeros for both stand before the convolution.
fn conv_down<'b>(
    b: Builder<'b>,
    name: &str,
    x: Node<'b>,
    channels: [usize; 2],
    filter: &Filter,
) -> Node<'b> {
    let w = kernel_weight(b, name, channels, 3, Start::Spread);
    let zeros = [1 + filter.zeros(); 4];
    let wide = b.emit(op::CONV, &[x, w], &[Attr::ints(attr::PADDING, &zeros)]);
    filter.down(wide, 0) + bias(b, name, channels[1]).reshape(&[1, -1, 1, 1])
}

#[cfg(test)]
mod tests {
    use super::*;
    use diffx_plugin::Factory;

    fn message<T: Factory>(json: &str) -> String {
        let mut config = Config::parse(json).unwrap();
        let made = T::create(&mut config).and_then(|_| config.finish(T::SCHEMA));
        made.err().map(|e| e.message).unwrap_or_default()
    }

    #[test]
    fn schemas_say_what_is_asked() {
        assert_eq!(message::<SongUnet>("{}"), "");
        assert_eq!(message::<Dhariwal>("{}"), "");
    }

    #[test]
    fn settings_are_refused_with_a_sentence() {
        assert_eq!(
            message::<SongUnet>(r#"{"img_resolution":12,"channel_mult":[1,2,2,2]}"#),
            "img_resolution is 12, want a multiple of 2^3: channel_mult has 4 levels"
        );
        assert_eq!(
            message::<SongUnet>(r#"{"resample_filter":[1,2,1]}"#),
            "resample_filter is [1.0, 2.0, 1.0], want an even number of taps whose sum is not 0"
        );
        assert_eq!(
            message::<Dhariwal>(r#"{"channel_mult":[]}"#),
            "channel_mult has 0 numbers, want 1 to 16"
        );
    }
}
