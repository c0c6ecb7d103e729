//! `UNet2DModel` of diffusers: the U-Net of DDPM (Ho et al. 2020) and of NCSN++ (Song et al. 2021), built from blocks by
//! name.
//!
//! The network's input level is the time step of its training, 0 to 999, or the noise level itself with a `fourier`
//! embedding. The state is `[in_channels, height, width]` of any size that the halvings divide. Dropout is for training
//! by the reference and does nothing here.

mod config;
mod down;
mod up;

use crate::block::Start;
use crate::block::embedding::{Sinusoid, index, table, two_layers};
use crate::block::picture::{conv2d, group_norm};
use crate::block::resnet::{PictureAttention, Style, middle};
use diffx_plugin::{
    Builder, Component, Cond, Init, Model, ModelInfo, ModelIo, Node, Predicts, Result, abi,
};

pub(crate) struct Unet2d {
    channels: [usize; 2],
    /// The input is in [0, 1] and is stretched to [-1, 1].
    center: bool,
    time: Time,
    classes: Classes,
    down: Vec<Kind>,
    up: Vec<Kind>,
    widths: Vec<usize>,
    layers: usize,
    style: Style,
    /// Channels of a head; None = one head.
    head: Option<usize>,
    middle: Option<Middle>,
    /// Zeros on each side before the convolution that halves the resolution; 0 = one below and right.
    down_zeros: usize,
    /// Attention blocks change their resolution by residual blocks.
    resnet_down: bool,
    resnet_up: bool,
    predicts: Predicts,
}

/// A block of the way down or up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Attention,
    /// Changes its resolution by a residual block.
    Resnet,
    /// A reduced (or growing) picture goes along beside the features.
    Skip,
    AttentionSkip,
}

impl Kind {
    fn attends(self) -> bool {
        matches!(self, Self::Attention | Self::AttentionSkip)
    }

    fn skips(self) -> bool {
        matches!(self, Self::Skip | Self::AttentionSkip)
    }
}

#[derive(Debug, Clone, Copy)]
enum Features {
    Positional(Sinusoid),
    /// At frequencies that stand in the file, of the logarithm.
    Fourier,
    /// Rows of a table of so many.
    Learned(usize),
}

#[derive(Debug, Clone, Copy)]
struct Time {
    features: Features,
    /// Channels of the first block, which the features are made for.
    first: usize,
    /// Of the embedding.
    width: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Classes {
    None,
    /// A table of so many rows.
    Labels(usize),
    /// Numbers embedded as times are.
    Times,
    /// Vectors added to the embedding.
    Vectors,
}

#[derive(Debug, Clone, Copy)]
struct Middle {
    gain: f64,
    attention: bool,
    /// Of the norm before attention.
    groups: Option<usize>,
}

/// The skip blocks of NCSN++ halve their variance, and their attention norm has this many groups.
const SKIP_GAIN: f64 = core::f64::consts::FRAC_1_SQRT_2;
const SKIP_GROUPS: usize = 32;

impl Model for Unet2d {
    fn info(&self) -> ModelInfo {
        let (dims, dtype) = match self.classes {
            Classes::Vectors => (vec![self.time.width as i64], abi::F32),
            Classes::Times => (vec![], abi::F32),
            Classes::Labels(_) | Classes::None => (vec![], abi::I32),
        };
        let cond = Cond { name: "class_labels".to_owned(), dims, dtype, null_value: 0.0 };
        ModelInfo {
            predicts: self.predicts,
            components: vec![Component::continuous("x", &[self.channels[0] as i64, -1, -1])],
            conds: if self.classes == Classes::None { vec![] } else { vec![cond] },
            slots: vec![],
        }
    }

    fn build<'b>(&self, b: Builder<'b>, io: &mut ModelIo<'b>) -> Result<()> {
        let (x, level) = (io.x(0), io.sigma(0));
        let first = self.time.first;
        let embedding = self.embedding(b, level, io);
        let x = if self.center { x * 2.0 - 1.0 } else { x };
        let h = conv2d(b, "conv_in", x, [self.channels[0], first], 3, Start::Spread);
        let mut way = Way { h, picture: Some(x), kept: vec![h], embedding };
        for i in 0..self.down.len() {
            b.scope(&format!("down_blocks.{i}"), |b| self.down_block(b, i, &mut way));
        }
        if let (Some(m), Some(last)) = (self.middle, self.widths.last()) {
            let style = Style { gain: m.gain, ..self.style };
            let attention =
                PictureAttention { gain: m.gain, groups: m.groups, ..self.attention(style, *last) };
            let attention = m.attention.then_some(attention);
            let block = style.resnet(*last, *last);
            way.h = b.scope("mid_block", |b| {
                middle(b, "mid_block", way.h, Some(embedding), &block, attention)
            });
        }
        way.picture = None;
        for i in 0..self.up.len() {
            b.scope(&format!("up_blocks.{i}"), |b| self.up_block(b, i, &mut way));
        }
        let groups = self.style.groups_of(first);
        let h = group_norm(b, "conv_norm_out", way.h, first, groups, self.style.eps).silu();
        let mut out = conv2d(b, "conv_out", h, [first, self.channels[1]], 3, Start::Zero);
        if let Some(picture) = way.picture {
            out = out + picture;
        }
        if matches!(self.time.features, Features::Fourier) {
            out = out / level.reshape(&[-1, 1, 1, 1]);
        }
        io.set_out(0, out);
        Ok(())
    }
}

/// What goes through the blocks.
struct Way<'b> {
    h: Node<'b>,
    /// Beside the features: the reduced input on the way down, the growing output on the way up.
    picture: Option<Node<'b>>,
    /// What the way up takes from the way down, last first.
    kept: Vec<Node<'b>>,
    embedding: Node<'b>,
}

impl Unet2d {
    fn embedding<'b>(&self, b: Builder<'b>, level: Node<'b>, io: &ModelIo<'b>) -> Node<'b> {
        let Time { width, .. } = self.time;
        let (features, inputs) = self.features(b, level);
        let names = ["time_embedding.linear_1", "time_embedding.linear_2"];
        let time = two_layers(b, names, features, inputs, width);
        match self.classes {
            Classes::None => time,
            Classes::Labels(count) => {
                time + table(b, "class_embedding.weight", io.cond(0), count, width)
            }
            Classes::Times => {
                let (features, inputs) = self.features(b, io.cond(0));
                let names = ["class_embedding.linear_1", "class_embedding.linear_2"];
                time + two_layers(b, names, features, inputs, width)
            }
            Classes::Vectors => time + io.cond(0),
        }
    }

    /// Features of levels `[rows]`, and how many.
    fn features<'b>(&self, b: Builder<'b>, level: Node<'b>) -> (Node<'b>, usize) {
        let first = self.time.first;
        match self.time.features {
            Features::Positional(sinusoid) => (sinusoid.of(b, level), first),
            Features::Fourier => {
                let w = b.weight("time_proj.weight", &[first as i64], Init::Normal(16.0));
                let turns = level.log().reshape(&[-1, 1]) * w.stop_gradient().reshape(&[1, -1]);
                let angle = turns * 2.0 * core::f64::consts::PI;
                (b.concat(&[angle.sin(), angle.cos()], -1), 2 * first)
            }
            Features::Learned(count) => {
                (table(b, "time_proj.weight", index(level), count, first), first)
            }
        }
    }

    fn attention(&self, style: Style, channels: usize) -> PictureAttention {
        PictureAttention {
            channels,
            head: self.head.unwrap_or(channels),
            groups: Some(style.groups_of(channels)),
            eps: style.eps,
            gain: style.gain,
        }
    }

    /// The style of a block's layers, and of its attention.
    fn styles(&self, kind: Kind, channels: usize) -> (Style, PictureAttention) {
        if !kind.skips() {
            return (self.style, self.attention(self.style, channels));
        }
        let style = Style { groups: None, gain: SKIP_GAIN, ..self.style };
        let attention = self.attention(style, channels);
        (style, PictureAttention { groups: Some(SKIP_GROUPS), ..attention })
    }
}
