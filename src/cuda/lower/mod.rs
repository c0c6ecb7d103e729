//! From the steps of a plan to launches: which kernel, how many blocks, what its record holds.
//!
//! Addresses are resolved here once. Tables (pointwise programs) go to one block of their own, after the key of the run;
//! a launch that reads them has offsets until the block is there.

mod conv;
mod draw;
mod index;
mod layout;
mod product;
mod program;
mod reduce;

use super::args::{Args, Key};
use super::device::{Device, Kernel};
use crate::bail;
use crate::base::{DType, Desc, Result};
use crate::exec::backend::{Home, Layout};
use crate::graph::plan::{Action, Place, Plan, Slot, Step};
use crate::graph::{AttrKey, Attrs, Op};
use bytemuck::Pod;

/// Something the device is told to do.
pub(super) enum Work {
    Launch {
        kernel: Kernel,
        blocks: u32,
        threads: u32,
        shared: u32,
        args: Box<Args>,
        /// Bit k: `args.p[k]` is an offset in the tables.
        in_tables: u8,
    },
    Copy {
        from: u64,
        to: u64,
        bytes: usize,
    },
}

/// How many elements a draw addresses.
pub(super) struct Draw {
    pub rows: u64,
    pub per_sample: u64,
}

/// A plan as launches.
pub(super) struct Lowered {
    /// Each with the number of its step.
    pub works: Vec<(Work, usize)>,
    pub tables: Vec<u8>,
    /// Scope and name of each step, for profiles.
    pub names: Vec<String>,
    pub scopes: Vec<String>,
    pub draws: Vec<Draw>,
}

/// Threads of a block where each does one element.
const THREADS: usize = 256;

pub(super) fn lower(device: &Device, plan: Plan, layout: &Layout, base: u64) -> Result<Lowered> {
    let mut lower = Lower {
        layout,
        base,
        most_shared: device.most_shared(),
        works: Vec::new(),
        tables: vec![0; size_of::<Key>()],
        draws: Vec::new(),
    };
    let mut out = Vec::new();
    let (mut names, mut scopes) = (Vec::new(), Vec::new());
    for (i, step) in plan.steps.into_iter().enumerate() {
        let done = lower.step(&step);
        let Step { name, scope, .. } = step;
        if let Err(e) = done {
            return Err(if scope.is_empty() { e } else { e.within(scope) });
        }
        out.extend(lower.works.drain(..).map(|work| (work, i)));
        names.push(format!("{scope} {name}").trim().to_owned());
        scopes.push(if scope.is_empty() { name } else { scope });
    }
    let Lower { tables, draws, .. } = lower;
    Ok(Lowered { works: out, tables, names, scopes, draws })
}

/// An operand with its address.
#[derive(Debug, Clone, Copy)]
struct Operand {
    desc: Desc,
    at: u64,
}

impl Operand {
    fn dims(&self) -> &[usize] {
        self.desc.dims()
    }

    fn elements(&self) -> usize {
        self.desc.shape.elements()
    }

    /// The code of its element type, as kernels read it.
    fn code(&self) -> i64 {
        self.desc.dtype as i64
    }
}

/// A kernel step with its addresses.
struct Call<'a> {
    op: Op,
    attrs: &'a Attrs,
    inputs: &'a [Operand],
    out: Operand,
}

impl Call<'_> {
    /// Input `i`; arity was checked when the graph was built.
    fn input(&self, i: usize) -> Result<Operand> {
        match self.inputs.get(i) {
            Some(x) => Ok(*x),
            None => bail!(Internal, "{}: operand {i} is missing", self.op.name()),
        }
    }

    /// `dims` of operand x as [outer, axis, inner].
    fn axis(&self, x: &Operand) -> (usize, usize, usize) {
        let dims = x.dims();
        let axis = (self.attrs.int(AttrKey::Axis, 0) as usize).min(dims.len().saturating_sub(1));
        let (outer, rest) = dims.split_at(axis);
        let n = rest.first().copied().unwrap_or(1);
        (outer.iter().product(), n, rest.iter().skip(1).product())
    }

    fn refuse<T>(&self, dtype: DType) -> Result<T> {
        bail!(Unsupported, "{}: CUDA has no kernel for {dtype}", self.op.name())
    }
}

struct Lower<'a> {
    layout: &'a Layout,
    base: u64,
    most_shared: usize,
    works: Vec<Work>,
    tables: Vec<u8>,
    draws: Vec<Draw>,
}

impl Lower<'_> {
    fn step(&mut self, step: &Step) -> Result<()> {
        match &step.action {
            Action::Kernel { op, attrs, inputs, output } => {
                let inputs =
                    inputs.iter().map(|s| self.operand(s)).collect::<Result<Vec<Operand>>>()?;
                let out = self.operand(output)?;
                if out.elements() == 0 {
                    return Ok(()); // nothing to compute
                }
                self.kernel(&Call { op: *op, attrs, inputs: &inputs, out })
            }
            Action::Program { program, inputs, outputs, .. } => {
                // results on operands need no care: a thread reads an element before it writes it, and no other one
                self.program(program, inputs, outputs)
            }
            Action::Copy { from, to, bytes } => {
                let (from, to, bytes) = (self.address(*from)?, self.address(*to)?, *bytes);
                if bytes > 0 {
                    self.works.push(Work::Copy { from, to, bytes });
                }
                Ok(())
            }
        }
    }

    fn kernel(&mut self, call: &Call<'_>) -> Result<()> {
        match call.op {
            Op::Full | Op::Iota => self.pattern(call),
            Op::Reshape
            | Op::Transpose
            | Op::BroadcastTo
            | Op::Slice
            | Op::Flip
            | Op::Pad
            | Op::Concat
            | Op::DynamicSlice
            | Op::DynamicUpdate => self.layout(call),
            Op::Sum | Op::Mean | Op::ReduceMax | Op::ReduceMin | Op::Prod | Op::LogSumExp => {
                self.reduce(call)
            }
            Op::ArgMax | Op::ArgMin | Op::CumSum => self.along(call),
            Op::Softmax | Op::LogSoftmax => self.softmax(call),
            Op::LayerNorm | Op::GroupNorm | Op::RmsNorm => self.norm(call),
            Op::MatMul => self.matmul(call),
            Op::Conv | Op::ConvInputGrad | Op::ConvWeightGrad => self.conv(call),
            Op::Attention => self.attention(call),
            Op::Gather | Op::TakeAlong | Op::ScatterAdd | Op::ScatterAddAlong => self.index(call),
            Op::Sort | Op::ArgSort | Op::TopK => self.sort(call),
            Op::Normal | Op::Uniform | Op::Gamma | Op::Poisson | Op::Categorical | Op::Brownian => {
                self.draw(call)
            }
            op => bail!(Unsupported, "{}: CUDA has no kernel for it yet", op.name()),
        }
    }

    /// One thread an element.
    fn each(&mut self, kernel: Kernel, elements: usize, args: Args, in_tables: u8) -> Result<()> {
        self.launch(kernel, elements.div_ceil(THREADS), THREADS, 0, args, in_tables)
    }

    fn launch(
        &mut self,
        kernel: Kernel,
        blocks: usize,
        threads: usize,
        shared: usize,
        args: Args,
        in_tables: u8,
    ) -> Result<()> {
        if blocks == 0 {
            return Ok(());
        }
        let Ok(blocks @ 0..=0x7fff_ffff) = u32::try_from(blocks) else {
            bail!(Unsupported, "{blocks} blocks: CUDA starts at most 2147483647 at once");
        };
        if shared > self.most_shared {
            let most = self.most_shared;
            bail!(Unsupported, "{shared} bytes of shared memory: this device has {most} a block");
        }
        let (threads, shared, args) = (threads as u32, shared as u32, Box::new(args));
        self.works.push(Work::Launch { kernel, blocks, threads, shared, args, in_tables });
        Ok(())
    }

    /// Appends records to the tables; where they begin.
    fn table<T: Pod>(&mut self, records: &[T]) -> u64 {
        let at = self.tables.len().next_multiple_of(8);
        self.tables.resize(at, 0);
        self.tables.extend_from_slice(bytemuck::cast_slice(records));
        at as u64
    }

    fn operand(&self, slot: &Slot) -> Result<Operand> {
        Ok(Operand { desc: slot.desc, at: self.address(slot.place)? })
    }

    fn address(&self, place: Place) -> Result<u64> {
        let offset = match place {
            Place::Work(at) => Some(self.layout.work + at),
            Place::Buffer(i) => self.layout.buffers.get(i as usize).copied(),
            Place::Constant(i) => self.layout.constants.get(i as usize).copied(),
            Place::Weight(i) => match self.layout.weights.get(i as usize) {
                Some(Some(Home::Memory(at))) => Some(*at),
                _ => None,
            },
        };
        match offset {
            Some(offset) => Ok(self.base + offset as u64),
            None => bail!(Internal, "{place} has no address on the device"),
        }
    }
}

/// Lengths as kernels read them.
fn whole(dims: &[usize]) -> impl Iterator<Item = i64> + '_ {
    dims.iter().map(|d| *d as i64)
}
