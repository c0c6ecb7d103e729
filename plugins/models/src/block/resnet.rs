//! The residual block of every U-Net and autoencoder here (Ho et al. 2020, Dhariwal and Nichol 2021, Karras et al.
//! 2022), attention over the positions of a picture, and the pair of both in the middle of diffusers' networks.
//!
//! One block serves all references because they differ in names, scales and switches only:
//! `(shortcut(x) + conv(act(norm(conv(act(norm x)) <- embedding)))) gain`, the embedding added before the second norm or,
//! `adaptive`, scaling and shifting after it; both branches change their resolution before their first convolution.

use super::attention::{Heads, attend};
use super::feed_forward::Activation;
use super::layer::{Start, columns, linear};
use super::picture::{Filter, beside, conv2d, group_norm, to_picture, to_tokens};
use diffx_plugin::{Builder, Node, abi};

/// Names of the parts of a residual block.
#[derive(Debug)]
pub(crate) struct Names {
    pub norms: [&'static str; 2],
    pub convs: [&'static str; 2],
    pub embedding: &'static str,
    pub shortcut: &'static str,
}

pub(crate) const DIFFUSERS: &Names = &Names {
    norms: ["norm1", "norm2"],
    convs: ["conv1", "conv2"],
    embedding: "time_emb_proj",
    shortcut: "conv_shortcut",
};

/// Karras et al.'s code.
pub(crate) const EDM: &Names = &Names {
    norms: ["norm0", "norm1"],
    convs: ["conv0", "conv1"],
    embedding: "affine",
    shortcut: "skip",
};

/// A change of resolution inside a block.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Resample<'a> {
    Keep,
    Up(&'a Filter),
    Down(&'a Filter),
}

impl Resample<'_> {
    pub(crate) fn of<'b>(&self, x: Node<'b>) -> Node<'b> {
        match self {
            Self::Keep => x,
            Self::Up(filter) => filter.up(x),
            Self::Down(filter) => filter.down(x, filter.zeros()),
        }
    }
}

/// What all blocks of one network share.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Style {
    pub names: &'static Names,
    /// Groups of the norms. None = one for every 4 channels, at most 32.
    pub groups: Option<usize>,
    pub eps: f64,
    pub act: Activation,
    /// Width of the embedding; 0 = there is none.
    pub embedding: usize,
    /// The embedding passes the activation first.
    pub act_embedding: bool,
    /// It scales and shifts after the second norm.
    pub adaptive: bool,
    /// Of the sum of a block.
    pub gain: f64,
}

impl Style {
    /// Groups of a norm over so many channels.
    pub(crate) fn groups_of(&self, channels: usize) -> usize {
        self.groups.unwrap_or((channels / 4).min(32))
    }

    pub(crate) fn resnet(&self, inputs: usize, outputs: usize) -> Resnet<'static> {
        Resnet {
            style: *self,
            inputs,
            outputs,
            groups: [self.groups_of(inputs), self.groups_of(outputs)],
            resample: Resample::Keep,
            shortcut: inputs != outputs,
        }
    }
}

/// One residual block.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Resnet<'a> {
    pub style: Style,
    pub inputs: usize,
    pub outputs: usize,
    /// Of the two norms.
    pub groups: [usize; 2],
    pub resample: Resample<'a>,
    /// The shortcut is a convolution of kernel 1.
    pub shortcut: bool,
}

impl Resnet<'_> {
    pub(crate) fn build<'b>(
        &self,
        b: Builder<'b>,
        prefix: &str,
        x: Node<'b>,
        embedding: Option<Node<'b>>,
    ) -> Node<'b> {
        let Style { names, eps, act, adaptive, .. } = self.style;
        let name = |part: &str| format!("{prefix}.{part}");
        let h = group_norm(b, &name(names.norms[0]), x, self.inputs, self.groups[0], eps);
        let h = self.resample.of(act.of(h));
        let channels = [self.inputs, self.outputs];
        let h = conv2d(b, &name(names.convs[0]), h, channels, 3, Start::Spread);
        let vector = embedding.filter(|_| self.style.embedding > 0).map(|e| {
            let e = if self.style.act_embedding { act.of(e) } else { e };
            let width = self.outputs * if adaptive { 2 } else { 1 };
            linear(b, &name(names.embedding), e, self.style.embedding, width, Start::Spread)
        });
        let norm = |h| group_norm(b, &name(names.norms[1]), h, self.outputs, self.groups[1], eps);
        let h = match vector {
            Some(v) if adaptive => {
                let [scale, shift] =
                    [0, self.outputs].map(|from| beside(columns(v, from, self.outputs)));
                norm(h) * (scale + 1.0) + shift
            }
            Some(v) => norm(h + beside(v)),
            None => norm(h),
        };
        let same = [self.outputs; 2];
        let h = conv2d(b, &name(names.convs[1]), act.of(h), same, 3, Start::Spread);
        let x = self.resample.of(x);
        let x = match self.shortcut {
            true => conv2d(b, &name(names.shortcut), x, channels, 1, Start::Spread),
            false => x,
        };
        scaled(x + h, self.style.gain)
    }
}

/// Attention over all positions of a picture, as diffusers writes it: norm, three linear layers, a fourth, the shortcut.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PictureAttention {
    pub channels: usize,
    /// Channels of a head.
    pub head: usize,
    /// Of the norm before it; None = there is none.
    pub groups: Option<usize>,
    pub eps: f64,
    pub gain: f64,
}

impl PictureAttention {
    pub(crate) fn build<'b>(&self, b: Builder<'b>, prefix: &str, x: Node<'b>) -> Node<'b> {
        let name = |part: &str| format!("{prefix}.{part}");
        let (c, heads) = (self.channels, Heads::of(self.channels / self.head, self.head));
        if heads.count == 0 {
            let text = format!("{prefix}: {c} channels have no head of {}", self.head);
            return b.fail(abi::E_INVALID, &text);
        }
        let h = match self.groups {
            Some(groups) => group_norm(b, &name("group_norm"), x, c, groups, self.eps),
            None => x,
        };
        let tokens = to_tokens(h);
        let [q, k, v] = ["to_q", "to_k", "to_v"]
            .map(|part| linear(b, &name(part), tokens, c, heads.width(), Start::Spread));
        let out = attend(q, k, v, heads);
        let out = linear(b, &name("to_out.0"), out, heads.width(), c, Start::Spread);
        scaled(to_picture(out, x) + x, self.gain)
    }
}

/// The middle of diffusers' networks: two residual blocks, attention between them.
pub(crate) fn middle<'b>(
    b: Builder<'b>,
    prefix: &str,
    x: Node<'b>,
    embedding: Option<Node<'b>>,
    block: &Resnet<'_>,
    attention: Option<PictureAttention>,
) -> Node<'b> {
    let x = block.build(b, &format!("{prefix}.resnets.0"), x, embedding);
    let x = match attention {
        Some(a) => a.build(b, &format!("{prefix}.attentions.0"), x),
        None => x,
    };
    block.build(b, &format!("{prefix}.resnets.1"), x, embedding)
}

pub(crate) fn scaled(x: Node<'_>, gain: f64) -> Node<'_> {
    if gain == 1.0 { x } else { x * gain }
}
