//! `dfx_graph_api`: the calls that emit nodes. Each checks what it was given and hands it to the graph; failures are
//! sticky and leave node 0.

use super::super::frame;
use super::super::{abi, read};
use crate::bail;
use crate::base::{DType, Error, Result, Status};
use crate::fail;
use crate::graph::attr::Value;
use crate::graph::op::AttrKind;
use crate::graph::{AttrKey, Attrs, Class, Graph, NodeId, Op, WeightInit};
use std::ffi::{c_char, c_void};
use std::ptr;

/// Deepest nesting of scopes.
const MAX_SCOPES: usize = 256;
/// Largest constant in bytes: more is a weight.
const MAX_CONSTANT: usize = 1 << 28;

pub(super) static TABLE: abi::GraphApi = abi::GraphApi {
    struct_size: size_of::<abi::GraphApi>() as u32,
    reserved: 0,
    emit: Some(emit),
    weight: Some(weight),
    constant: Some(constant),
    scalar: Some(scalar),
    describe: Some(describe),
    supports: Some(supports),
    batch: Some(batch),
    float_type: Some(float_type),
    push: Some(push),
    pop: Some(pop),
    fail: Some(fail_build),
    reserved_ptr: ptr::null(),
};

unsafe extern "C" fn emit(g: *mut abi::Graph, call: *const abi::Call) -> u32 {
    frame::graph(g, 0, |frame, b| {
        if b.graph.has_failed() {
            return Ok(0);
        }
        // Safety: the header asks for a dfx_call with arrays as long as it says, alive during this call.
        let (call, inputs, attrs) = unsafe {
            let call = read::value(call)?;
            let inputs = read::slice(call.r#in, call.n_in, read::MAX_INPUTS, "inputs of an op")?;
            (call, inputs, read::slice(call.attr, call.n_attr, read::MAX_ATTRS, "attributes")?)
        };
        let Some(op) = Op::from_code(call.op) else {
            bail!(Unsupported, "op {} is not known to this engine", call.op);
        };
        let mut ids = [NodeId::ERROR; read::MAX_INPUTS];
        for (id, n) in ids.iter_mut().zip(inputs) {
            *id = NodeId(*n);
        }
        let inputs = &ids[..inputs.len()]; // at most MAX_INPUTS, checked by `slice`
        frame.blame(inputs)?;
        if op == Op::Grad {
            return gradients(&mut b.graph, &call, inputs);
        }
        if call.n_out != 0 {
            bail!(Invalid, "{}: has one result, n_out is {}", op.name(), call.n_out);
        }
        let attrs = attributes(op, attrs)?;
        Ok(b.graph.emit(op, inputs, attrs).0)
    })
}

/// `grad` is the one op with several results: they go to `out`, the first is returned too.
fn gradients(graph: &mut Graph, call: &abi::Call, inputs: &[NodeId]) -> Result<u32> {
    let [y, cotangent, xs @ ..] = inputs else {
        bail!(Invalid, "grad: takes y, a cotangent and at least one x, got {}", inputs.len());
    };
    if xs.is_empty() || call.n_out as usize != xs.len() || call.n_attr != 0 {
        bail!(Invalid, "grad: n_out is {} for {} xs, want one each", call.n_out, xs.len());
    }
    // Safety: the header asks for n_out places in `out`.
    let out = unsafe { read::slice_mut(call.out, xs.len(), read::MAX_INPUTS, "results of grad") }?;
    out.fill(0);
    for (out, node) in out.iter_mut().zip(graph.grad(*y, *cotangent, xs)) {
        *out = node.0;
    }
    Ok(out.first().copied().unwrap_or(0))
}

fn attributes(op: Op, raw: &[abi::Attr]) -> Result<Attrs> {
    let mut out = Attrs::NONE;
    for a in raw {
        let key = match AttrKey::from_code(a.key) {
            // the builder's own keys are not in the header
            Some(key) if !matches!(key, AttrKey::Ordinal | AttrKey::Index) => key,
            _ => bail!(Unsupported, "{}: attribute {} is not known", op.name(), a.key),
        };
        if out.has(key) {
            bail!(Invalid, "{}: attribute {} is given twice", op.name(), key.name());
        }
        if !a.reserved.is_null() || (a.count > 0 && key.kind() != AttrKind::Ints) {
            bail!(Invalid, "{}: attribute {} is one number, not a list", op.name(), key.name());
        }
        let value = match key.kind() {
            AttrKind::Int => Value::Int(a.i),
            AttrKind::Float => Value::Float(a.f),
            AttrKind::Ints if a.count == 0 && a.i != 0 => {
                bail!(
                    Invalid,
                    "{}: attribute {} is a list: give p and count",
                    op.name(),
                    key.name()
                )
            }
            AttrKind::Ints => {
                // Safety: the header asks for `count` int64_t at `p`.
                let list = unsafe {
                    read::slice(a.p.cast::<i64>(), a.count, read::MAX_INTS, "a list attribute")
                }?;
                Value::Ints(list.to_vec())
            }
        };
        out.set(key, value);
    }
    Ok(out)
}

unsafe extern "C" fn weight(
    g: *mut abi::Graph,
    name: *const c_char,
    want: *const abi::Desc,
    init: *const abi::Init,
) -> u32 {
    frame::graph(g, 0, |_, b| {
        // Safety: a C string, a desc, and an init or null, alive during this call.
        let (name, want, init) = unsafe {
            (
                read::name(name, "name of a weight")?,
                read::slice(want, 1, 1, "shape of a weight")?,
                init.as_ref(),
            )
        };
        let [want] = want else { bail!(Invalid, "weight {name}: no shape") };
        let desc = read::desc(want, Some(b.parts.weight_dtype), &format!("weight {name}"))?;
        if !desc.dtype.is_float() || desc.dims().contains(&0) {
            bail!(Invalid, "weight {name}: {desc} is not a float type or is empty");
        }
        Ok(b.graph.weight(name, desc, start(name, init)?).0)
    })
}

fn start(name: &str, init: Option<&abi::Init>) -> Result<WeightInit> {
    let Some(init) = init else { return Ok(WeightInit::Zeros) };
    if !init.a.is_finite() {
        bail!(Invalid, "weight {name}: its init has the parameter {}", init.a);
    }
    Ok(match init.kind {
        0 => WeightInit::Zeros,
        1 => WeightInit::Ones,
        2 => WeightInit::Constant(init.a),
        3 => WeightInit::Normal(init.a.abs()),
        4 => WeightInit::Uniform(init.a.abs()),
        kind => bail!(Unsupported, "weight {name}: init {kind} is not known"),
    })
}

unsafe extern "C" fn constant(
    g: *mut abi::Graph,
    desc: *const abi::Desc,
    data: *const c_void,
) -> u32 {
    frame::graph(g, 0, |_, b| {
        // Safety: a desc, alive during this call.
        let desc = unsafe { read::slice(desc, 1, 1, "shape of a constant") }?;
        let [desc] = desc else { bail!(Invalid, "constant: no shape") };
        let desc = read::desc(desc, Some(b.graph.float()), "constant")?;
        if desc.bytes() > MAX_CONSTANT {
            bail!(
                Invalid,
                "constant: {desc} is larger than {MAX_CONSTANT} bytes; make it a weight"
            );
        }
        // Safety: the header asks for as many bytes as the shape holds; below 2^28, so they fit a u32.
        let bytes = unsafe {
            read::slice(data.cast::<u8>(), desc.bytes() as u32, MAX_CONSTANT, "data of a constant")
        }?;
        if desc.dtype == DType::Bool && bytes.iter().any(|b| *b > 1) {
            bail!(Invalid, "constant: a bool is a byte of 0 or 1");
        }
        Ok(b.graph.constant(desc, bytes).0)
    })
}

unsafe extern "C" fn scalar(g: *mut abi::Graph, value: f64) -> u32 {
    frame::graph(g, 0, |_, b| Ok(if b.graph.has_failed() { 0 } else { b.graph.scalar(value).0 }))
}

unsafe extern "C" fn describe(g: *mut abi::Graph, n: u32, out: *mut abi::Desc) -> i32 {
    let mut status = Status::State.code();
    frame::graph(g, (), |frame, b| {
        // Safety: a place for one desc.
        let out = unsafe { read::place(out, "describe") };
        let node = NodeId(n);
        status = match out {
            Err(e) => e.status.code(),
            Ok(out) if b.graph.is_valid(node) => {
                *out = read::raw_desc(&b.graph.desc(node));
                abi::OK
            }
            Ok(out) => {
                // Safety: a desc is numbers.
                *out = unsafe { std::mem::zeroed() };
                let e = match b.graph.check() {
                    Err(e) => e,
                    Ok(()) => frame.blame(&[node]).err().unwrap_or_else(|| {
                        fail!(Invalid, "describe: node {n} does not exist in this graph")
                    }),
                };
                let status = e.status.code();
                b.graph.fail(e); // a shape that was asked for is going to be used
                status
            }
        };
        Ok(())
    });
    status
}

unsafe extern "C" fn supports(g: *mut abi::Graph, op: u32, dtype: u32) -> i32 {
    frame::graph(g, 0, |_, b| {
        let dtype = if dtype == 0 { Some(b.graph.float()) } else { DType::from_code(dtype) };
        let (Some(op), Some(dtype)) = (Op::from_code(op), dtype) else { return Ok(0) };
        Ok(i32::from(takes(op, dtype)))
    })
}

/// Whether the op takes operands of this type; pointwise ops and reductions are tried on a graph of their own.
fn takes(op: Op, dtype: DType) -> bool {
    match op.class() {
        Class::Source => !matches!(op, Op::Input | Op::Weight | Op::Constant),
        Class::Index | Class::Layout => true,
        Class::Contract if op == Op::MatMul => dtype.is_float(),
        Class::Contract | Class::Norm | Class::Random | Class::Meta => dtype.is_compute_float(),
        Class::Pointwise | Class::Reduce => {
            let Ok(desc) = crate::base::Desc::new(dtype, &[2]) else { return false };
            let mut graph = Graph::new(2, DType::F32);
            let x = graph.input("x", desc);
            let mut inputs = vec![x; op.info().arity.0];
            if op == Op::Where {
                let condition = crate::base::Desc { dtype: DType::Bool, ..desc };
                inputs[0] = graph.input("condition", condition);
            }
            let mut attrs = Attrs::NONE;
            for key in op.info().required {
                attrs = match key.kind() {
                    AttrKind::Int if *key == AttrKey::DType => attrs.with_int(*key, 1),
                    AttrKind::Int => attrs.with_int(*key, 0),
                    AttrKind::Float => attrs.with_float(*key, 0.0),
                    AttrKind::Ints => attrs.with_ints(*key, vec![0]),
                };
            }
            !graph.emit(op, &inputs, attrs).is_error()
        }
    }
}

unsafe extern "C" fn batch(g: *mut abi::Graph) -> i64 {
    frame::graph(g, 0, |_, b| Ok(b.graph.batch() as i64))
}

unsafe extern "C" fn float_type(g: *mut abi::Graph) -> u32 {
    frame::graph(g, 0, |_, b| Ok(b.graph.float().code()))
}

unsafe extern "C" fn push(g: *mut abi::Graph, scope: *const c_char) {
    frame::graph(g, (), |_, b| {
        // Safety: a C string, alive during this call.
        let scope = unsafe { read::name(scope, "name of a scope") }?;
        if b.graph.scope_depth() >= MAX_SCOPES {
            bail!(Invalid, "scope {scope}: nested deeper than {MAX_SCOPES}");
        }
        b.graph.push_scope(scope);
        Ok(())
    });
}

unsafe extern "C" fn pop(g: *mut abi::Graph) {
    frame::graph(g, (), |frame, b| {
        if b.graph.scope_depth() <= frame.floor {
            bail!(Plugin, "pop of a scope that was never pushed");
        }
        b.graph.pop_scope();
        Ok(())
    });
}

unsafe extern "C" fn fail_build(g: *mut abi::Graph, status: i32, message: *const c_char) {
    frame::graph(g, (), |_, _| {
        // Safety: a C string or null.
        let message = unsafe { read::text(message, read::MAX_TEXT, "message") }
            .unwrap_or("failed without a readable message");
        Err(Error::new(Status::from_code(status).unwrap_or(Status::Plugin), message))
    });
}
