//! Random nodes: the address of each element is made on the device, from the key of the run.

use super::{Call, Draw, Lower};
use crate::bail;
use crate::base::{DType, Result};
use crate::cuda::args::Args;
use crate::cuda::device::Kernel;
use crate::graph::{AttrKey, Op};
use bytemuck::Zeroable;

/// Threads that choose one category: a stretch of the logits each, as `kernels/draw.cu` has it.
const STRETCHES: usize = 64;

impl Lower<'_> {
    pub(super) fn draw(&mut self, call: &Call<'_>) -> Result<()> {
        let (out, of) = (call.out, call.inputs.first().copied());
        let kernel = match call.op {
            Op::Normal => Kernel::draw_normal,
            Op::Uniform => Kernel::draw_uniform,
            Op::Gamma => Kernel::draw_gamma,
            Op::Poisson => Kernel::draw_poisson,
            Op::Categorical => Kernel::draw_categorical,
            _ => Kernel::draw_brownian,
        };
        let float = match (call.op, of) {
            (Op::Categorical, Some(logits)) => logits,
            _ => out,
        };
        if !matches!(float.desc.dtype, DType::F32 | DType::F64) {
            return call.refuse(float.desc.dtype);
        }
        let purpose = call.attrs.int(AttrKey::Purpose, 0);
        let ordinal = call.attrs.int(AttrKey::Ordinal, 0);
        if u8::try_from(purpose).is_err() || u16::try_from(ordinal).is_err() {
            let name = call.op.name();
            bail!(
                Invalid,
                "{name}: purpose {purpose}, ordinal {ordinal}: want at most 255 and 65535"
            );
        }
        let rows = out.dims().first().copied().unwrap_or(1).max(1);
        let per_sample = out.elements() / rows;
        self.draws.push(Draw { rows: rows as u64, per_sample: per_sample as u64 });
        let mut args = Args::zeroed();
        args.p[0] = out.at; // p[1] = 0: the key is what the tables begin with
        args.p[2] = of.map_or(0, |x| x.at);
        args.set(0, [out.elements() as i64, float.code(), purpose, ordinal, per_sample as i64]);
        match call.op {
            Op::Categorical => {
                args.n[5] = float.dims().last().copied().unwrap_or(1) as i64;
                let room = STRETCHES * size_of::<f64>();
                return self.launch(kernel, out.elements(), STRETCHES, room, args, 0b10);
            }
            Op::Brownian => {
                let (from, to) = (call.input(0)?, call.input(1)?);
                args.p[3] = to.at;
                let depth = call.attrs.int(AttrKey::Depth, 24).clamp(1, 31);
                args.set(5, [depth, from.code(), to.code()]);
                args.f[0] = call.attrs.float(AttrKey::RangeLo, 0.0);
                args.f[1] = call.attrs.float(AttrKey::RangeHi, 0.0);
            }
            _ => {}
        }
        self.each(kernel, out.elements(), args, 0b10)
    }
}
