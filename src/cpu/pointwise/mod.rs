//! Fused programs on the CPU: addresses are resolved once, then blocks of [`BLOCK`] elements run through all
//! instructions. Large tensors are split over threads by blocks; an element never depends on its neighbours, so neither
//! the split nor the vector width shows in the result.

mod element;
mod interpret;
mod level;
pub(super) mod math;

use super::kernel::split::{Share, share_count};
use super::pool::Pool;
use crate::bail;
use crate::base::special::bessel;
use crate::base::{DType, Result};
use crate::graph::op::Op;
use crate::graph::program::{Arg, Code, Instr, Kind, Program, Splat};
use element::{Element, Special};
use interpret::{Fill, Line, Lines, Spot, Task, interpret};
pub use level::Level;

/// Elements of a block. 256 floats are 1 KiB: a dozen registers leave the L1 cache room for the operands.
pub const BLOCK: usize = 256;

/// `row = op(row)` for a unary op without parameters, the same bits as in a program: what a matmul does to its result.
/// Inline, so that it is compiled for the vectors of the caller.
#[inline(always)]
pub(super) fn in_place<T: Element>(op: Op, row: &mut [T]) {
    let mut before = [T::zeroed(); BLOCK];
    for part in row.chunks_mut(BLOCK) {
        let n = part.len();
        before[..n].copy_from_slice(part);
        T::apply(op, DType::F32, &Special::None, part, &before[..n], &[], &[]);
    }
}

/// Below this much work one thread is faster than several.
const ALONE: usize = 32 << 10;

/// Registers start this many bytes apart from a power of two, so that they do not fall into the same cache sets.
const SKEW: usize = 320;

/// A program with the addresses of its operands.
pub(super) struct Prepared {
    kind: Kind,
    lines: Lines,
    file_bytes: usize,
    file: *mut u8,
    tasks: usize,
    /// Of one element, as `for_units` counts it.
    work: usize,
    level: Level,
}

// Safety: the pointers are those of a session's memory, which the session hands to one thread at a time.
unsafe impl Send for Prepared {}

fn register_bytes(kind: Kind) -> usize {
    BLOCK * kind.native().bytes() + SKEW
}

/// How many register files a program gets: one per task.
fn tasks(program: &Program, threads: usize) -> usize {
    let slow = |i: &&Instr| matches!(i.code, Code::Op(op) if is_slow(op));
    let weight = 1 + 16 * program.code.iter().filter(slow).count();
    if threads <= 1 || program.elements.saturating_mul(weight) < ALONE {
        return 1;
    }
    (threads * 4).min(program.elements.div_ceil(BLOCK))
}

/// Work of one element: some a quarter of a nanosecond for most ops, some thirty for the slow ones.
fn work(program: &Program) -> usize {
    let of = |i: &Instr| if matches!(i.code, Code::Op(op) if is_slow(op)) { 400 } else { 4 };
    program.code.iter().map(of).sum()
}

/// Ops that cost tens of nanoseconds per element.
fn is_slow(op: Op) -> bool {
    use Op::{BesselRatio, Lgamma, LogIve, LogNdtr, Polygamma, Pow, Rem};
    matches!(op, BesselRatio | Lgamma | LogIve | LogNdtr | Polygamma | Pow | Rem)
}

/// Bytes of scratch a program needs on a pool of `threads`.
pub(super) fn scratch_bytes(program: &Program, threads: usize) -> usize {
    file_bytes(program) * tasks(program, threads)
}

fn file_bytes(program: &Program) -> usize {
    let uniform = uniform(program).into_iter().filter(|u| *u).count();
    (program.registers + program.splats.len() + uniform) * register_bytes(program.kind)
}

/// Which instructions give one value for all elements: those of noise levels and other scalars. They have registers of
/// their own and run once, not for every block.
fn uniform(program: &Program) -> Vec<bool> {
    let mut holds = vec![false; program.registers];
    let mut out = Vec::with_capacity(program.code.len());
    for instr in &program.code {
        let each = instr.args.iter().all(|arg| match arg {
            Arg::Unused | Arg::Splat(_) => true,
            Arg::Register(r) => holds[*r as usize],
            Arg::Input(_) => false,
        });
        let one = each && instr.store.is_none() && matches!(instr.code, Code::Op(_));
        holds[instr.register as usize] = one;
        out.push(one);
    }
    out
}

impl Prepared {
    /// Resolves a program. `inputs` and `outputs` are the tensors in the program's order; `staged[k]` says that output k
    /// lies on an input. `file` is the scratch.
    ///
    /// # Safety
    /// Every pointer must stay valid for its tensor (the scratch: [`scratch_bytes`]) while the result is used, aligned
    /// for its elements, and results may overlap operands only as `staged` says.
    pub(super) unsafe fn new(
        program: &Program,
        inputs: &[*const u8],
        outputs: &[*mut u8],
        staged: &[bool],
        file: *mut u8,
        threads: usize,
        level: Level,
    ) -> Result<Self> {
        let stride = register_bytes(program.kind);
        let native = program.kind.native();
        // splats first, then registers, then those of uniform results
        let splat = |i: u16| i as usize * stride;
        let register = |i: u16| (program.splats.len() + i as usize) * stride;
        let fills = program.splats.iter().enumerate().map(|(i, s)| {
            let fill = match s {
                Splat::Value(v) => Fill::Value(*v),
                Splat::Input(j) => Fill::Element {
                    from: inputs[*j as usize],
                    dtype: program.inputs[*j as usize].dtype,
                },
            };
            (splat(i as u16), fill)
        });
        let fills = fills.collect();
        // a value written straight to an output is read from there
        let mut home: Vec<Spot> =
            (0..program.registers).map(|r| Spot::Register(register(r as u16))).collect();
        let mut lines = Vec::with_capacity(program.code.len());
        let mut once = Vec::new();
        for (instr, uniform) in program.code.iter().zip(uniform(program)) {
            let args = instr.args.map(|arg| match arg {
                Arg::Unused => Spot::Unused,
                Arg::Register(r) => home[r as usize],
                Arg::Input(j) => Spot::Memory(inputs[j as usize].cast_mut()),
                Arg::Splat(i) => Spot::Register(splat(i)),
            });
            let own = Spot::Register(match uniform {
                true => (program.splats.len() + program.registers + once.len()) * stride,
                false => register(instr.register),
            });
            let out = instr.store.map(|k| (outputs[k as usize], staged[k as usize]));
            let (to, store) = match out {
                None => (own, None),
                Some((p, false)) if instr.dtype == native => (Spot::Memory(p), None),
                Some((p, _)) => (own, Some(p)),
            };
            home[instr.register as usize] = to;
            let task = task(program, instr, inputs)?;
            let list = if uniform { &mut once } else { &mut lines };
            list.push(Line { task, dtype: instr.dtype, to, args, store });
        }
        let lines = Lines { elements: program.elements, fills, once, lines };
        Ok(Self {
            kind: program.kind,
            lines,
            file_bytes: file_bytes(program),
            file,
            tasks: tasks(program, threads),
            work: work(program),
            level,
        })
    }

    /// How many shares the program may be cut into, so that a run can pause between them.
    pub(super) fn shares(&self) -> usize {
        share_count(self.lines.elements.div_ceil(BLOCK), BLOCK * self.work)
    }

    /// Runs the program once, or a share of it.
    ///
    /// # Safety
    /// The tensors given to `new` must not be used by anyone else meanwhile.
    pub(super) unsafe fn run(&self, pool: &Pool, share: Share) -> Result<()> {
        let elements = self.lines.elements;
        if share.of > 1 {
            let blocks = share.range(elements.div_ceil(BLOCK));
            let (start, end) = (blocks.start * BLOCK, (blocks.end * BLOCK).min(elements));
            let shared = Shared(self);
            // Safety: the caller's promise.
            return pool.run(1, &|_| unsafe { shared.part(0, start, end) });
        }
        let blocks = elements.div_ceil(BLOCK);
        let shared = Shared(self);
        if self.tasks == 1 {
            // Safety: the caller's promise.
            return pool.run(usize::from(blocks > 0), &|_| unsafe { shared.part(0, 0, elements) });
        }
        let each = blocks.div_ceil(self.tasks) * BLOCK;
        pool.run(self.tasks, &|i| {
            let start = (i * each).min(elements);
            // Safety: the caller's promise; tasks write disjoint elements and have a register file each.
            unsafe { shared.part(i, start, (start + each).min(elements)) };
        })
    }
}

fn task(program: &Program, instr: &Instr, inputs: &[*const u8]) -> Result<Task> {
    Ok(match instr.code {
        Code::Load => {
            let Arg::Input(j) = instr.args[0] else {
                bail!(Internal, "a load of no input");
            };
            let feed = &program.inputs[j as usize];
            let from = inputs[j as usize];
            Task::Load { from, dtype: feed.dtype, access: feed.access.clone() }
        }
        Code::Move => Task::Move,
        Code::Op(op) => {
            let known = match program.kind {
                Kind::F32 => f32::knows(op),
                Kind::F64 => f64::knows(op),
                Kind::I64 => i64::knows(op),
            };
            if !known || instr.dtype == DType::U8 && op != Op::Cast {
                bail!(
                    Unsupported,
                    "{} of {}: the CPU has no kernel for it",
                    op.name(),
                    instr.dtype
                );
            }
            let special = match op {
                Op::BesselRatio => Special::Ratio(Box::new(bessel::Ratio::new(instr.param))),
                Op::LogIve | Op::Polygamma => Special::Order(instr.param),
                _ => Special::None,
            };
            Task::Apply { op, special }
        }
    })
}

/// Lets the tasks of one run see the program.
struct Shared<'a>(&'a Prepared);

// Safety: tasks only read the program, write disjoint elements and use a register file each.
unsafe impl Sync for Shared<'_> {}

impl Shared<'_> {
    /// # Safety
    /// As `interpret`, with register file `i` not in use.
    unsafe fn part(&self, i: usize, start: usize, end: usize) {
        let p = self.0;
        if start >= end {
            return;
        }
        let file = p.file.wrapping_add(i * p.file_bytes);
        // Safety: the caller's promise.
        unsafe {
            match p.kind {
                Kind::F32 => interpret::<f32>(p.level, &p.lines, file, start, end),
                Kind::F64 => interpret::<f64>(p.level, &p.lines, file, start, end),
                Kind::I64 => interpret::<i64>(p.level, &p.lines, file, start, end),
            }
        }
    }
}
