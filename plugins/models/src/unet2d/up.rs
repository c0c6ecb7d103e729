//! The way up: residual blocks, each of which takes one of the features kept on the way down, then twice the resolution.

use super::{Kind, Unet2d, Way};
use crate::block::Start;
use crate::block::picture::{Filter, conv2d, group_norm};
use crate::block::resnet::{Resample, Resnet};
use diffx_plugin::{Builder, abi};

impl Unet2d {
    pub(super) fn up_block<'b>(&self, b: Builder<'b>, i: usize, way: &mut Way<'b>) {
        let (kind, levels, last) = (self.up[i], self.widths.len(), i + 1 == self.up.len());
        let at = |i: usize| self.widths[levels - 1 - i.min(levels - 1)];
        let (before, outputs, after) = (at(i.saturating_sub(1)), at(i), at(i + 1));
        let (style, attention) = self.styles(kind, outputs);
        let name = |part: &str| format!("up_blocks.{i}.{part}");
        let embedding = Some(way.embedding);
        for k in 0..=self.layers {
            let from_below = if k == 0 { before } else { outputs };
            let from_side = if k == self.layers { after } else { outputs };
            let mut resnet = style.resnet(from_below + from_side, outputs);
            if kind == Kind::AttentionSkip {
                // the reference's sum of one and a quarter of the other
                resnet.groups[0] = (from_below + from_side / 4).min(32);
            }
            let Some(kept) = way.kept.pop() else {
                b.fail(abi::E_INTERNAL, "the way up takes more than was kept");
                return;
            };
            let joined = b.concat(&[way.h, kept], 1);
            way.h = resnet.build(b, &name(&format!("resnets.{k}")), joined, embedding);
            if kind == Kind::Attention {
                way.h = attention.build(b, &name(&format!("attentions.{k}")), way.h);
            }
        }
        if kind == Kind::AttentionSkip {
            way.h = attention.build(b, &name("attentions.0"), way.h);
        }
        let (same, fir) = (style.resnet(outputs, outputs), Filter::fir());
        if kind.skips() {
            way.picture = way.picture.map(|p| fir.up(p));
        }
        if last {
            return;
        }
        if kind.skips() {
            let (norm, groups) = (name("skip_norm"), style.groups_of(outputs));
            let h = group_norm(b, &norm, way.h, outputs, groups, style.eps).silu();
            let said = conv2d(b, &name("skip_conv"), h, [outputs, 3], 3, Start::Spread);
            way.picture = Some(way.picture.map_or(said, |p| p + said));
            let double = Resnet { resample: Resample::Up(&fir), shortcut: true, ..same };
            way.h = double.build(b, &name("resnet_up"), way.h, embedding);
        } else if kind == Kind::Resnet || (kind == Kind::Attention && self.resnet_up) {
            let near = Filter::mean();
            let double = Resnet { resample: Resample::Up(&near), ..same };
            way.h = double.build(b, &name("upsamplers.0"), way.h, embedding);
        } else {
            let (conv, wide) = (name("upsamplers.0.conv"), Filter::mean().up(way.h));
            way.h = conv2d(b, &conv, wide, [outputs; 2], 3, Start::Spread);
        }
    }
}
