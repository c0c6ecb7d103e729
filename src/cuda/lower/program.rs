//! Pointwise programs as tables for the interpreter of `kernels/program.cu`.

use super::{Lower, whole};
use crate::bail;
use crate::base::special::bessel::Ratio;
use crate::base::{DType, Result};
use crate::cuda::args::{Args, Feed, Instr, Out, Splat};
use crate::cuda::device::Kernel;
use crate::graph::op::Op;
use crate::graph::plan::Place;
use crate::graph::program::{self, Access, Arg, Code, Kind, Program};
use bytemuck::Zeroable;

const LOAD: i32 = -1;
const MOVE: i32 = -2;

/// Whether the kernel has `op` for registers of `kind`.
fn knows(op: Op, kind: Kind) -> bool {
    use Op::{Abs, Add, And, Cast, Div, Eq, Ge, Gt, Le, Lt, Max, Min, Mul, Ne, Neg, Not, Or, Rem};
    use Op::{Sign, StopGradient, Sub, Where};
    match kind {
        Kind::F32 | Kind::F64 => op.class() == crate::graph::op::Class::Pointwise,
        Kind::I64 => {
            matches!(op, Abs | Add | And | Cast | Div | Eq | Ge | Gt | Le | Lt | Max | Min | Mul)
                || matches!(op, Ne | Neg | Not | Or | Rem | Sign | StopGradient | Sub | Where)
        }
    }
}

/// Whether it is one of `kernels/special.cuh`: a program with one has a kernel of its own.
fn is_law(instr: &program::Instr) -> bool {
    use Op::{BesselRatio, Lgamma, LogIve, LogNdtr, Polygamma};
    matches!(instr.code, Code::Op(BesselRatio | Lgamma | LogIve | LogNdtr | Polygamma))
}

impl Lower<'_> {
    pub(super) fn program(
        &mut self,
        program: &Program,
        inputs: &[Place],
        outputs: &[Place],
    ) -> Result<()> {
        if program.elements == 0 {
            return Ok(());
        }
        let code = program.code.iter().map(|i| self.instr(i, program.kind));
        let code = code.collect::<Result<Vec<_>>>()?;
        let laws = program.code.iter().any(is_law);
        let feeds = program.inputs.iter().zip(inputs);
        let feeds = feeds.map(|(f, place)| Ok(feed(f, self.address(*place)?)));
        let feeds = feeds.collect::<Result<Vec<Feed>>>()?;
        let outs = program.outputs.iter().zip(outputs);
        let outs = outs.map(|(d, place)| Ok(Out { at: self.address(*place)?, dtype: *d as i64 }));
        let outs = outs.collect::<Result<Vec<Out>>>()?;
        let splats: Vec<Splat> = program
            .splats
            .iter()
            .map(|s| match s {
                program::Splat::Value(value) => Splat { value: *value, input: -1 },
                program::Splat::Input(j) => Splat { value: 0.0, input: i64::from(*j) },
            })
            .collect();
        let mut args = Args::zeroed();
        args.p[0] = self.table(&code);
        args.p[1] = self.table(&feeds);
        args.p[2] = self.table(&outs);
        args.p[3] = self.table(&splats);
        args.set(0, [program.elements as i64, code.len() as i64]); // p[4] = 0: all tables
        let kernel = match program.kind {
            Kind::F32 if laws => Kernel::laws_f32,
            Kind::F64 if laws => Kernel::laws_f64,
            Kind::F32 => Kernel::program_f32,
            Kind::F64 => Kernel::program_f64,
            Kind::I64 => Kernel::program_i64,
        };
        // as many threads as leave room for another block beside this one, a warp at the least
        let column = program.registers * program.kind.native().bytes();
        let threads = [128, 64].into_iter().find(|t| t * column <= 48 << 10).unwrap_or(32);
        self.launch(
            kernel,
            program.elements.div_ceil(threads),
            threads,
            threads * column,
            args,
            0b1_1111,
        )
    }

    fn instr(&mut self, instr: &program::Instr, kind: Kind) -> Result<Instr> {
        let op = match instr.code {
            Code::Load => LOAD,
            Code::Move => MOVE,
            Code::Op(op) if knows(op, kind) && (instr.dtype != DType::U8 || op == Op::Cast) => {
                op.code() as i32
            }
            Code::Op(op) => {
                let name = op.name();
                bail!(Unsupported, "{name} of {}: CUDA has no kernel for it yet", instr.dtype)
            }
        };
        let table = match instr.code {
            Code::Op(Op::BesselRatio) => self.table(&Ratio::new(instr.param).table()) as i64,
            _ => 0,
        };
        let mut to = Instr {
            op,
            dtype: instr.dtype as i32,
            register: i32::from(instr.register),
            store: instr.store.map_or(-1, i32::from),
            kind: [0; 3],
            arg: [0; 3],
            param: instr.param,
            table,
        };
        for (k, arg) in instr.args.iter().enumerate() {
            (to.kind[k], to.arg[k]) = match arg {
                Arg::Unused => (0, 0),
                Arg::Register(r) => (1, i32::from(*r)),
                Arg::Input(j) => (2, i32::from(*j)),
                Arg::Splat(s) => (3, i32::from(*s)),
            };
        }
        Ok(to)
    }
}

fn feed(feed: &program::Feed, at: u64) -> Feed {
    let mut to = Feed::zeroed();
    (to.at, to.dtype) = (at, feed.dtype as i32);
    match &feed.access {
        Access::Uniform => to.access = 0,
        Access::Flat => to.access = 1,
        Access::Strided(axes) => {
            to.access = 2;
            to.rank = axes.len() as i64;
            let (extents, strides): (Vec<usize>, Vec<usize>) = axes.iter().copied().unzip();
            to.extent.iter_mut().zip(whole(&extents)).for_each(|(t, v)| *t = v);
            to.stride.iter_mut().zip(whole(&strides)).for_each(|(t, v)| *t = v);
        }
    }
    to
}
