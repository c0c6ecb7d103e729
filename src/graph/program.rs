//! The program of a fused group: a short list of register instructions applied to every element.
//!
//! Backend-neutral: the CPU runs it over blocks of a few hundred elements, a GPU per element. All registers of a program
//! hold one type (f32, f64, or i64 for all integers); bools are 0 and 1 in it. Operands of another type or with
//! broadcasting are brought in by `Load`, results are converted when stored. The result register of an instruction is
//! never one of its operands.

use super::fuse::full_value;
use super::op::{AttrKey, Op};
use super::{Graph, NodeId};
use crate::base::{DType, Shape};
use std::collections::HashMap;

/// The type of all registers of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    F32,
    F64,
    I64,
}

/// What an instruction does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// An input that is broadcast or of another type, into a register.
    Load,
    /// A copy.
    Move,
    /// A pointwise op. `cast` rounds to what `Instr::dtype` can hold; integer ops wrap to it.
    Op(Op),
}

/// Where an operand is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arg {
    Unused,
    Register(u16),
    /// An input of the register type that is read element by element, without a `Load`.
    Input(u16),
    /// One value for all elements.
    Splat(u16),
}

/// One instruction.
#[derive(Debug, Clone, PartialEq)]
pub struct Instr {
    pub code: Code,
    /// Type of the node's result.
    pub dtype: DType,
    pub register: u16,
    pub args: [Arg; 3],
    /// Order of a Bessel or polygamma function.
    pub param: f64,
    /// The output that also receives the result.
    pub store: Option<u16>,
}

/// How an input runs beside the elements of the program.
#[derive(Debug, Clone, PartialEq)]
pub enum Access {
    /// One value.
    Uniform,
    /// Element i beside element i.
    Flat,
    /// (extent, stride) per merged axis, outermost first; some strides are 0.
    Strided(Vec<(usize, usize)>),
}

/// An input of a program.
#[derive(Debug, Clone, PartialEq)]
pub struct Feed {
    pub dtype: DType,
    pub access: Access,
}

/// A value that all elements share: known now, or the single element of an input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Splat {
    Value(f64),
    Input(u16),
}

/// A fused group.
#[derive(Debug, Clone, PartialEq)]
pub struct Program {
    pub kind: Kind,
    pub elements: usize,
    pub code: Vec<Instr>,
    pub inputs: Vec<Feed>,
    pub outputs: Vec<DType>,
    pub splats: Vec<Splat>,
    pub registers: usize,
}

impl Kind {
    /// The arithmetic of an element type; bools fit any.
    pub fn of(dtype: DType) -> Option<Self> {
        match dtype {
            DType::F32 | DType::F16 | DType::BF16 => Some(Self::F32),
            DType::F64 => Some(Self::F64),
            DType::I32 | DType::I64 | DType::U8 => Some(Self::I64),
            DType::Bool => None,
        }
    }

    /// The arithmetic in which a cast rounds once.
    pub fn of_cast(from: DType, to: DType) -> Option<Self> {
        let narrow = matches!(to, DType::F16 | DType::BF16);
        match (Self::of(from), Self::of(to)) {
            (Some(Self::F64 | Self::I64), Some(Self::F32)) if narrow => Some(Self::F64),
            (Some(Self::F32 | Self::F64), Some(Self::I64)) => Self::of(from),
            (from, None) => from,
            (_, to) => to,
        }
    }

    /// The element type a register holds as it is.
    pub fn native(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::F64 => DType::F64,
            Self::I64 => DType::I64,
        }
    }
}

impl Program {
    /// Whether output `k` may lie where input `j` lies: both run beside the elements and the input is not read again
    /// after the output is written.
    pub fn may_overwrite(&self, j: usize, k: usize) -> bool {
        let (feed, out) = (&self.inputs[j], self.outputs[k]);
        let stored = self.code.iter().position(|i| i.store == Some(k as u16));
        let read = self.code.iter().rposition(|i| i.args.contains(&Arg::Input(j as u16)));
        feed.access == Access::Flat && feed.dtype.bytes() == out.bytes() && read <= stored
    }

    /// Bytes read and written by one run.
    pub fn traffic(&self) -> usize {
        let flat = self.inputs.iter().filter(|f| f.access == Access::Flat);
        let bytes: usize = flat.map(|f| f.dtype.bytes()).sum();
        let out: usize = self.outputs.iter().map(|d| d.bytes()).sum();
        self.elements * (bytes + out)
    }
}

/// A program and the nodes it reads and writes.
#[derive(Debug)]
pub struct Lowered {
    pub program: Program,
    /// The root node behind each input.
    pub inputs: Vec<NodeId>,
    pub outputs: Vec<NodeId>,
}

/// Writes the program of a group. `members` are in graph order; `stored` says whose value is needed outside.
pub fn lower(
    graph: &Graph,
    roots: &[NodeId],
    members: &[NodeId],
    kind: Kind,
    stored: impl Fn(NodeId) -> bool,
) -> Lowered {
    let shape = members.first().map_or(Shape::SCALAR, |m| graph.desc(*m).shape);
    let program = Program {
        kind,
        elements: shape.elements(),
        code: Vec::new(),
        inputs: Vec::new(),
        outputs: Vec::new(),
        splats: Vec::new(),
        registers: 0,
    };
    let mut writer = Writer {
        graph,
        roots,
        shape,
        values: HashMap::new(),
        feeds: HashMap::new(),
        out: Lowered { program, inputs: Vec::new(), outputs: Vec::new() },
    };
    for &m in members {
        writer.node(m, stored(m));
    }
    let mut out = writer.out;
    allocate_registers(&mut out.program);
    out
}

/// Builds the instruction list with one register per instruction.
struct Writer<'a> {
    graph: &'a Graph,
    roots: &'a [NodeId],
    shape: Shape,
    values: HashMap<NodeId, Arg>,
    /// By root and operand shape.
    feeds: HashMap<(NodeId, Shape), Arg>,
    out: Lowered,
}

impl Writer<'_> {
    fn node(&mut self, id: NodeId, stored: bool) {
        let node = self.graph.node(id);
        let kind = self.out.program.kind;
        let mut args = [Arg::Unused; 3];
        for (arg, x) in args.iter_mut().zip(&node.inputs) {
            *arg = self.operand(*x);
        }
        let same = match node.op {
            Op::Full => Some(self.splat(Splat::Value(full_value(self.graph, id)))),
            Op::BroadcastTo => Some(args[0]),
            Op::Cast if node.desc.dtype == kind.native() => Some(args[0]),
            _ => None,
        };
        let param = match node.op {
            Op::Polygamma => node.attrs.int(AttrKey::Order, 0) as f64,
            _ => node.attrs.float(AttrKey::Nu, 0.0),
        };
        let value = match same {
            Some(arg) if !stored => arg,
            Some(arg) => {
                self.push(Code::Move, node.desc.dtype, [arg, Arg::Unused, Arg::Unused], 0.0)
            }
            None => self.push(Code::Op(node.op), node.desc.dtype, args, param),
        };
        if stored {
            let store = self.out.outputs.len() as u16;
            if let Some(last) = self.out.program.code.last_mut() {
                last.store = Some(store);
            }
            self.out.outputs.push(id);
            self.out.program.outputs.push(node.desc.dtype);
        }
        self.values.insert(id, value);
    }

    fn operand(&mut self, x: NodeId) -> Arg {
        let root = self.roots[x.index()];
        if let Some(value) = self.values.get(&root) {
            return *value;
        }
        if self.graph.node(root).op == Op::Full {
            return self.splat(Splat::Value(full_value(self.graph, root)));
        }
        let shape = self.graph.desc(x).shape;
        if let Some(value) = self.feeds.get(&(root, shape)) {
            return *value;
        }
        let (access, dtype) = (access(&shape, &self.shape), self.graph.desc(root).dtype);
        let j = self.out.inputs.len() as u16;
        let native = dtype == self.out.program.kind.native();
        let (uniform, flat) = (access == Access::Uniform, access == Access::Flat);
        self.out.inputs.push(root);
        self.out.program.inputs.push(Feed { dtype, access });
        let value = if uniform {
            self.splat(Splat::Input(j))
        } else if flat && native {
            Arg::Input(j)
        } else {
            self.push(Code::Load, dtype, [Arg::Input(j), Arg::Unused, Arg::Unused], 0.0)
        };
        self.feeds.insert((root, shape), value);
        value
    }

    fn splat(&mut self, splat: Splat) -> Arg {
        let splats = &mut self.out.program.splats;
        let same = |s: &Splat| match (s, &splat) {
            (Splat::Value(a), Splat::Value(b)) => a.to_bits() == b.to_bits(),
            (a, b) => *a == *b,
        };
        let at = splats.iter().position(same).unwrap_or_else(|| {
            splats.push(splat);
            splats.len() - 1
        });
        Arg::Splat(at as u16)
    }

    fn push(&mut self, code: Code, dtype: DType, args: [Arg; 3], param: f64) -> Arg {
        let register = self.out.program.code.len() as u16;
        self.out.program.code.push(Instr { code, dtype, register, args, param, store: None });
        Arg::Register(register)
    }
}

/// How an operand of shape `from` runs beside the elements of `to`, to which it broadcasts.
fn access(from: &Shape, to: &Shape) -> Access {
    if from.elements() == to.elements() {
        return Access::Flat; // only axes of length 1 differ
    }
    if from.elements() == 1 {
        return Access::Uniform;
    }
    let strides = from.strides();
    let lead = to.rank() - from.rank();
    let mut axes: Vec<(usize, usize)> = Vec::new();
    for (axis, &extent) in to.dims().iter().enumerate() {
        let stride = match axis.checked_sub(lead) {
            Some(a) if from.dim(a) != 1 => strides[a],
            _ => 0,
        };
        if extent == 1 {
            continue;
        }
        match axes.last_mut() {
            Some((e, s)) if *s == stride * extent => (*e, *s) = (*e * extent, stride),
            _ => axes.push((extent, stride)),
        }
    }
    Access::Strided(axes)
}

/// Gives every instruction a register that is free and is not one of its operands.
fn allocate_registers(program: &mut Program) {
    let n = program.code.len();
    let mut last_use: Vec<usize> = (0..n).collect();
    for (i, instr) in program.code.iter().enumerate() {
        for arg in instr.args {
            if let Arg::Register(v) = arg {
                last_use[v as usize] = i;
            }
        }
    }
    let mut home = vec![0u16; n];
    let mut free: Vec<u16> = Vec::new();
    for i in 0..n {
        let register = free.pop().unwrap_or_else(|| {
            program.registers += 1;
            program.registers as u16 - 1
        });
        home[i] = register;
        let instr = &mut program.code[i];
        instr.register = register;
        let mut freed = [usize::MAX; 3];
        for (k, arg) in instr.args.iter_mut().enumerate() {
            if let Arg::Register(v) = arg {
                let value = *v as usize;
                if last_use[value] == i && !freed.contains(&value) {
                    freed[k] = value;
                    free.push(home[value]);
                }
                *arg = Arg::Register(home[value]);
            }
        }
        if last_use[i] == i {
            free.push(register); // only stored, or a last instruction
        }
    }
}
