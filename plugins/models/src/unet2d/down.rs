//! The way down: residual blocks, attention after each where the block has it, then half the resolution.

use super::{Kind, Unet2d, Way};
use crate::block::Start;
use crate::block::picture::{Filter, conv2d, conv2d_with};
use crate::block::resnet::{Resample, Resnet};
use diffx_plugin::Builder;

impl Unet2d {
    pub(super) fn down_block<'b>(&self, b: Builder<'b>, i: usize, way: &mut Way<'b>) {
        let (kind, outputs) = (self.down[i], self.widths[i]);
        let inputs = if i == 0 { self.widths[0] } else { self.widths[i - 1] };
        let (style, attention) = self.styles(kind, outputs);
        let name = |part: &str| format!("down_blocks.{i}.{part}");
        let embedding = Some(way.embedding);
        for k in 0..self.layers {
            let resnet = style.resnet(if k == 0 { inputs } else { outputs }, outputs);
            way.h = resnet.build(b, &name(&format!("resnets.{k}")), way.h, embedding);
            if kind.attends() {
                way.h = attention.build(b, &name(&format!("attentions.{k}")), way.h);
            }
            way.kept.push(way.h);
        }
        if i + 1 == self.down.len() {
            return;
        }
        let same = style.resnet(outputs, outputs);
        if kind.skips() {
            let filter = Filter::fir();
            let halve = Resnet { resample: Resample::Down(&filter), shortcut: true, ..same };
            way.h = halve.build(b, &name("resnet_down"), way.h, embedding);
            if let Some(picture) = way.picture {
                let small = filter.down(picture, filter.zeros());
                // the reference writes 3 channels here, whatever the input has
                let across = [3, outputs];
                way.h = conv2d(b, &name("skip_conv"), small, across, 1, Start::Spread) + way.h;
                way.picture = Some(small);
            }
        } else if kind == Kind::Resnet || (kind == Kind::Attention && self.resnet_down) {
            let filter = Filter::mean();
            let halve = Resnet { resample: Resample::Down(&filter), ..same };
            way.h = halve.build(b, &name("downsamplers.0"), way.h, embedding);
        } else {
            let zeros = match self.down_zeros as i64 {
                0 => [0, 1, 0, 1],
                n => [n; 4],
            };
            let (conv, across) = (name("downsamplers.0.conv"), [outputs; 2]);
            way.h = conv2d_with(b, &conv, way.h, across, 3, (2, zeros), Start::Spread);
        }
        way.kept.push(way.h);
    }
}
