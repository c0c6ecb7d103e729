//! The graph as a plugin sees it: constants, weights, draws, scopes. Nodes and their arithmetic are in `node`, the
//! questions to the pipeline in `service`.
//!
//! Nothing here allocates per op: inputs and attributes stand on the stack, the host copies what it keeps. Errors are
//! sticky in the host, so no call here returns a result.

use crate::abi::{self, attr, op};
use crate::node::Node;
use core::ffi::{CStr, c_char, c_void};
use core::marker::PhantomData;

/// The host's tables as this plugin knows them: a field the host does not have is None.
#[derive(Clone, Copy)]
pub(crate) struct Services {
    pub(crate) graph: abi::GraphApi,
    pub(crate) build: abi::BuildApi,
}

/// One build call.
pub(crate) struct Core<'h> {
    pub(crate) services: &'h Services,
    pub(crate) graph: *mut abi::Graph,
}

/// A handle on the graph being built; valid for the one call it was given to.
#[derive(Clone, Copy)]
pub struct Builder<'b> {
    pub(crate) core: &'b Core<'b>,
}

/// An attribute of an op.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Attr<'a> {
    raw: abi::Attr,
    list: PhantomData<&'a [i64]>,
}

const NO_ATTR: abi::Attr =
    abi::Attr { key: 0, count: 0, i: 0, f: 0.0, p: core::ptr::null(), reserved: core::ptr::null() };

impl<'a> Attr<'a> {
    #[inline]
    pub const fn int(key: u32, i: i64) -> Self {
        Self { raw: abi::Attr { key, i, ..NO_ATTR }, list: PhantomData }
    }

    #[inline]
    pub const fn float(key: u32, f: f64) -> Self {
        Self { raw: abi::Attr { key, f, ..NO_ATTR }, list: PhantomData }
    }

    /// An empty list is the same as an absent attribute.
    #[inline]
    pub const fn ints(key: u32, list: &'a [i64]) -> Self {
        let p = list.as_ptr().cast::<c_void>();
        Self { raw: abi::Attr { key, count: list.len() as u32, p, ..NO_ATTR }, list: PhantomData }
    }

    /// Whether it is a list without elements, which is left out of a call.
    fn is_empty_list(&self) -> bool {
        self.raw.count == 0 && !self.raw.p.is_null()
    }
}

/// A shape: at most [`abi::MAX_RANK`] dimensions, outermost first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    rank: usize,
    dims: [i64; abi::MAX_RANK],
}

impl Shape {
    /// Dimensions beyond the eighth are cut off, which the host's own checks then refuse.
    pub fn new(dims: &[i64]) -> Self {
        let rank = dims.len().min(abi::MAX_RANK);
        let mut out = Self { rank, dims: [0; abi::MAX_RANK] };
        out.dims[..rank].copy_from_slice(&dims[..rank]);
        out
    }

    /// Another dimension in front.
    #[must_use]
    pub fn with_batch(self, batch: i64) -> Self {
        let mut out = Self { rank: (self.rank + 1).min(abi::MAX_RANK), dims: [0; abi::MAX_RANK] };
        out.dims[0] = batch;
        out.dims[1..].copy_from_slice(&self.dims[..abi::MAX_RANK - 1]);
        out
    }

    pub(crate) fn of(desc: &abi::Desc) -> Self {
        Self { rank: (desc.rank as usize).min(abi::MAX_RANK), dims: desc.dims }
    }
}

impl core::ops::Deref for Shape {
    type Target = [i64];
    fn deref(&self) -> &[i64] {
        &self.dims[..self.rank]
    }
}

/// How a weight starts when it is trained from nothing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    Zeros,
    Ones,
    Constant(f64),
    /// Of this standard deviation.
    Normal(f64),
    /// Between -a and a.
    Uniform(f64),
}

impl Init {
    const fn raw(self) -> abi::Init {
        let (kind, a) = match self {
            Self::Zeros => (abi::INIT_ZEROS, 0.0),
            Self::Ones => (abi::INIT_ONES, 1.0),
            Self::Constant(a) => (abi::INIT_CONSTANT, a),
            Self::Normal(a) => (abi::INIT_NORMAL, a),
            Self::Uniform(a) => (abi::INIT_UNIFORM, a),
        };
        abi::Init { kind, reserved: 0, a }
    }
}

impl<'b> Builder<'b> {
    #[inline]
    pub(crate) const fn node(self, id: abi::Node) -> Node<'b> {
        Node { id, b: self }
    }

    /// The node of a failed call.
    #[inline]
    pub const fn error_node(self) -> Node<'b> {
        self.node(0)
    }

    /// Any op by its code; the methods of [`Node`] are shorter. At most 65 inputs, 8 attributes.
    pub fn emit(self, op: u32, inputs: &[Node<'b>], attrs: &[Attr<'_>]) -> Node<'b> {
        let mut ids = [0; 65];
        if inputs.len() > ids.len() {
            return self.fail(abi::E_INVALID, "an op takes at most 65 inputs");
        }
        for (id, input) in ids.iter_mut().zip(inputs) {
            *id = input.id;
        }
        self.emit_ids(op, &ids[..inputs.len()], attrs)
    }

    /// Gradients of `<y, cotangent>` by each of `xs` (at most 63).
    pub fn grad(self, y: Node<'b>, cotangent: Node<'b>, xs: &[Node<'b>]) -> Vec<Node<'b>> {
        let mut ids = vec![y.id, cotangent.id];
        ids.extend(xs.iter().map(|x| x.id));
        let mut out = vec![0; xs.len()];
        if !xs.is_empty() {
            self.call(op::GRAD, &ids, &[], &mut out);
        }
        out.into_iter().map(|id| self.node(id)).collect()
    }

    #[inline]
    pub(crate) fn emit_ids(self, op: u32, ids: &[abi::Node], attrs: &[Attr<'_>]) -> Node<'b> {
        if attrs.iter().any(Attr::is_empty_list) {
            let mut kept = [Attr { raw: NO_ATTR, list: PhantomData }; 8];
            let mut n = 0;
            for a in attrs.iter().filter(|a| !a.is_empty_list()).take(kept.len()) {
                kept[n] = *a;
                n += 1;
            }
            return self.call(op, ids, &kept[..n], &mut []);
        }
        self.call(op, ids, attrs, &mut [])
    }

    #[inline]
    fn call(
        self,
        op: u32,
        ids: &[abi::Node],
        attrs: &[Attr<'_>],
        out: &mut [abi::Node],
    ) -> Node<'b> {
        let call = abi::Call {
            struct_size: size_of::<abi::Call>() as u32,
            op,
            r#in: ids.as_ptr(),
            attr: attrs.as_ptr().cast(), // Attr is transparent over abi::Attr
            out: if out.is_empty() { core::ptr::null_mut() } else { out.as_mut_ptr() },
            reserved_ptr: core::ptr::null(),
            n_in: ids.len() as u32,
            n_attr: attrs.len() as u32,
            n_out: out.len() as u32,
            reserved: 0,
        };
        let Some(emit) = self.core.services.graph.emit else { return self.error_node() };
        // Safety: the graph is the one of this build call, and the call borrows arrays that outlive it.
        self.node(unsafe { emit(self.core.graph, &call) })
    }

    /// A number: rank 0, of its neighbour's type.
    #[inline]
    pub fn scalar(self, value: f64) -> Node<'b> {
        let Some(scalar) = self.core.services.graph.scalar else { return self.error_node() };
        // Safety: the graph is the one of this build call.
        self.node(unsafe { scalar(self.core.graph, value) })
    }

    /// Every element is `value`, in the graph's float type.
    pub fn full(self, value: f64, shape: &[i64]) -> Node<'b> {
        self.full_as(value, shape, 0)
    }

    /// The same in another type (`abi::I32` and so on).
    pub fn full_as(self, value: f64, shape: &[i64], dtype: u32) -> Node<'b> {
        let attrs = [
            Attr::float(attr::VALUE, value),
            Attr::ints(attr::SHAPE, shape),
            Attr::int(attr::DTYPE, i64::from(dtype)),
        ];
        self.emit_ids(op::FULL, &[], &attrs)
    }

    /// Each element is its index along `axis`.
    pub fn iota(self, shape: &[i64], axis: i64, dtype: u32) -> Node<'b> {
        let attrs = [
            Attr::ints(attr::SHAPE, shape),
            Attr::int(attr::AXIS, axis),
            Attr::int(attr::DTYPE, i64::from(dtype)),
        ];
        self.emit_ids(op::IOTA, &[], &attrs)
    }

    /// A table of f32 known now; `values` must be as many as the shape holds.
    pub fn constant(self, shape: &[i64], values: &[f32]) -> Node<'b> {
        // Safety: as many numbers of this type as is said.
        unsafe { self.table(abi::F32, shape, values.as_ptr().cast(), values.len()) }
    }

    /// The same in f64; `cast(0)` makes it the graph's float type.
    pub fn constant_f64(self, shape: &[i64], values: &[f64]) -> Node<'b> {
        // Safety: as many numbers of this type as is said.
        unsafe { self.table(abi::F64, shape, values.as_ptr().cast(), values.len()) }
    }

    /// # Safety
    /// `values` points to `n` numbers of `dtype`.
    unsafe fn table(self, dtype: u32, shape: &[i64], values: *const c_void, n: usize) -> Node<'b> {
        let count = shape.iter().try_fold(1_i64, |n, d| n.checked_mul(*d));
        if count != i64::try_from(n).ok() {
            let text = format!("constant: shape {shape:?} does not hold {n} values");
            return self.fail(abi::E_INVALID, &text);
        }
        let desc = describe(dtype, shape);
        let Some(constant) = self.core.services.graph.constant else { return self.error_node() };
        // Safety: the graph is the one of this build call, and the data is as long as the shape says.
        self.node(unsafe { constant(self.core.graph, &desc, values) })
    }

    /// How y moves when each of `xs` moves along its own tangent, also where one was made from another (at most 32).
    pub fn jvp(self, y: Node<'b>, xs: &[Node<'b>], tangents: &[Node<'b>]) -> Node<'b> {
        let all: Vec<Node<'b>> = [&[y], xs, tangents].concat();
        self.emit(op::JVP, &all, &[])
    }

    /// A parameter of the network being built, in the network's type. The same name again gives the same node.
    pub fn weight(self, name: &str, shape: &[i64], init: Init) -> Node<'b> {
        let (desc, init) = (describe(0, shape), init.raw());
        let Some(weight) = self.core.services.graph.weight else { return self.error_node() };
        // Safety: the graph is the one of this build call; name, desc and init live through it.
        with_c_str(name, |name| self.node(unsafe { weight(self.core.graph, name, &desc, &init) }))
    }

    // ---- draws; axis 0 of the shape is the batch

    pub fn normal(self, shape: &[i64], purpose: u32) -> Node<'b> {
        self.draw(op::NORMAL, shape, purpose)
    }

    pub fn uniform(self, shape: &[i64], purpose: u32) -> Node<'b> {
        self.draw(op::UNIFORM, shape, purpose)
    }

    /// W(to) - W(from) of one Brownian motion per element over `range`, the same path whenever it is asked; places are
    /// `[batch]`, told apart to 2^-depth of the range, depth up to 31.
    pub fn brownian(
        self,
        from: Node<'b>,
        to: Node<'b>,
        range: (f64, f64),
        shape: &[i64],
        purpose: u32,
        depth: i64,
    ) -> Node<'b> {
        let attrs = [
            Attr::ints(attr::SHAPE, shape),
            Attr::int(attr::PURPOSE, i64::from(purpose)),
            Attr::float(attr::RANGE_LO, range.0),
            Attr::float(attr::RANGE_HI, range.1),
            Attr::int(attr::DEPTH, depth),
        ];
        self.emit(op::BROWNIAN, &[from, to], &attrs)
    }

    fn draw(self, op: u32, shape: &[i64], purpose: u32) -> Node<'b> {
        let attrs = [Attr::ints(attr::SHAPE, shape), Attr::int(attr::PURPOSE, i64::from(purpose))];
        self.emit_ids(op, &[], &attrs)
    }

    // ---- joining

    /// One after another along the axis (at most 64).
    pub fn concat(self, parts: &[Node<'b>], axis: i64) -> Node<'b> {
        self.emit(op::CONCAT, parts, &[Attr::int(attr::AXIS, axis)])
    }

    // ---- facts

    /// Rows of the batch.
    pub fn batch(self) -> i64 {
        let Some(batch) = self.core.services.graph.batch else { return 0 };
        // Safety: the graph is the one of this build call.
        unsafe { batch(self.core.graph) }
    }

    /// Type of state and coefficients: `abi::F32` or `abi::F64`.
    pub fn float_type(self) -> u32 {
        let Some(float_type) = self.core.services.graph.float_type else { return abi::F32 };
        // Safety: the graph is the one of this build call.
        unsafe { float_type(self.core.graph) }
    }

    /// Whether the host can run an op in a type.
    pub fn supports(self, op: u32, dtype: u32) -> bool {
        let Some(supports) = self.core.services.graph.supports else { return false };
        // Safety: the graph is the one of this build call.
        unsafe { supports(self.core.graph, op, dtype) != 0 }
    }

    // ---- scopes and errors

    /// Names a part of the graph for error messages.
    pub fn scope<T>(self, name: &str, body: impl FnOnce(Self) -> T) -> T {
        let api = &self.core.services.graph;
        if let (Some(push), Some(_)) = (api.push, api.pop) {
            // Safety: the graph is the one of this build call; the name lives through it.
            with_c_str(name, |name| unsafe { push(self.core.graph, name) });
        }
        let out = body(self);
        if let (Some(_), Some(pop)) = (api.push, api.pop) {
            // Safety: as above.
            unsafe { pop(self.core.graph) };
        }
        out
    }

    /// Fails the build with one sentence; the first failure is the one reported.
    pub fn fail(self, status: abi::Status, message: &str) -> Node<'b> {
        if let Some(fail) = self.core.services.graph.fail {
            // Safety: the graph is the one of this build call; the text lives through it.
            with_c_str(message, |text| unsafe { fail(self.core.graph, status, text) });
        }
        self.error_node()
    }
}

fn describe(dtype: u32, shape: &[i64]) -> abi::Desc {
    let mut dims = [0; abi::MAX_RANK];
    for (to, from) in dims.iter_mut().zip(shape) {
        *to = *from;
    }
    abi::Desc { dtype, rank: shape.len() as u32, dims } // a rank above 8 is the host's to refuse
}

/// Calls with a NUL-terminated copy, on the stack where it fits. A NUL inside ends the text.
pub(crate) fn with_c_str<T>(text: &str, call: impl FnOnce(*const c_char) -> T) -> T {
    let mut small = [0_u8; 256];
    if text.len() < small.len() {
        small[..text.len()].copy_from_slice(text.as_bytes());
        return call(small.as_ptr().cast());
    }
    let mut long = Vec::with_capacity(text.len() + 1);
    long.extend_from_slice(text.as_bytes());
    long.push(0);
    call(long.as_ptr().cast())
}

/// A borrowed C string as text; "" for null or what is not UTF-8.
///
/// # Safety
/// `p` is null or NUL-terminated and lives for `'a`.
pub(crate) unsafe fn text<'a>(p: *const c_char) -> &'a str {
    if p.is_null() {
        return "";
    }
    // Safety: by the caller's promise.
    unsafe { CStr::from_ptr(p) }.to_str().unwrap_or_default()
}
