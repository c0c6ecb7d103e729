//! A noise process: the coordinate w in which every continuous process follows `dw/dsigma = (w - D) / sigma`, its
//! exact perturbation, prior and conditional draws; or a discrete one on tokens.

use crate::abi;
use crate::builder::{Builder, Shape};
use crate::error::{Error, Result};
use crate::fit::{Data, Fitted};
use crate::info::{ComponentView, Space, Stats};
use crate::instance::{Factory, Instance, Kind, fill, guard, input, slice, slice_mut};
use crate::node::Node;
use core::ffi::c_void;
use core::marker::PhantomData;

/// Functions of a process; codes as `DFX_PROCESS_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Function {
    Encode = 1,
    Decode = 2,
    Perturb = 3,
    Prior = 4,
    Precond = 5,
    Renoise = 6,
    Ancestral = 7,
    ToScore = 8,
    LogTransition = 9,
    LossWeight = 10,
    Posterior = 11,
    Sde = 12,
}

/// Which functions a process has; the others are NULL in its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Functions(u32);

impl Functions {
    /// Everything a continuous process can have, but its equation ([`Function::Sde`]).
    pub const CONTINUOUS: Self = Self(0b0011_1111_1110);
    /// What a discrete one has, but its ratios ([`Function::ToScore`]).
    pub const DISCRETE: Self = Self(0b1100_0001_1110);

    #[must_use]
    pub const fn without(self, f: Function) -> Self {
        Self(self.0 & !(1 << f as u32))
    }

    #[must_use]
    pub const fn with(self, f: Function) -> Self {
        Self(self.0 | 1 << f as u32)
    }

    pub const fn has(self, f: Function) -> bool {
        self.0 & (1 << f as u32) != 0
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProcessInfo {
    pub space: Space,
    /// Data must be above 0.
    pub positive: bool,
    /// `ancestral` is `mu + sqrt(v) xi`.
    pub additive: bool,
    /// Default range of the grid for data of the given statistics; discrete: times in (0, 1].
    pub sigma_min: f64,
    pub sigma_max: f64,
}

/// Preconditioning: `D = skip w + out F(input w, noise)`, and the weight of `(D - target)^2` in the loss.
#[derive(Debug, Clone, Copy)]
pub struct Precond<'b> {
    pub skip: Node<'b>,
    pub out: Node<'b>,
    pub input: Node<'b>,
    pub noise: Node<'b>,
    pub weight: Node<'b>,
}

/// sigma, v and the outputs of precond are shaped `[batch, 1, .., 1]`. Functions outside [`Process::FUNCTIONS`] are
/// never called.
pub trait Process: Factory {
    const FUNCTIONS: Functions;
    /// Whether [`Process::clock`] maps natural times to noise levels.
    const CLOCK: bool = false;
    /// Whether only the time between two moments matters, so that simulation may start the clock anew at each.
    const HOMOGENEOUS: bool = false;

    fn info(&self, stats: &Stats) -> Result<ProcessInfo>;

    /// Whether [`Process::fit`] has something to say.
    const FIT: bool = false;

    /// Settings of this process that the data says; a trainer takes those its user left open.
    fn fit(&self, _data: &Data<'_>) -> Result<Vec<Fitted>> {
        Ok(Vec::new())
    }

    /// The noise level at a natural time.
    fn clock(&self, time: f64) -> f64 {
        time
    }

    fn encode<'b>(&self, _cx: &Cx<'b>, x: Node<'b>) -> Node<'b> {
        x
    }

    fn decode<'b>(&self, _cx: &Cx<'b>, w: Node<'b>, _sigma: Node<'b>) -> Node<'b> {
        w
    }

    /// (w, target); of a discrete process (z, 1 where corrupted).
    fn perturb<'b>(&self, cx: &Cx<'b>, w0: Node<'b>, sigma: Node<'b>) -> [Node<'b>; 2];

    fn prior<'b>(&self, cx: &Cx<'b>, sigma: Node<'b>) -> Node<'b>;

    fn precond<'b>(&self, cx: &Cx<'b>, _sigma: Node<'b>) -> Precond<'b> {
        let n = cx.absent("precond");
        Precond { skip: n, out: n, input: n, noise: n, weight: n }
    }

    fn renoise<'b>(
        &self,
        cx: &Cx<'b>,
        _w: Node<'b>,
        _sigma: Node<'b>,
        _sigma_hat: Node<'b>,
    ) -> Node<'b> {
        cx.absent("renoise")
    }

    fn ancestral<'b>(&self, cx: &Cx<'b>, _mu: Node<'b>, _v: Node<'b>) -> Node<'b> {
        cx.absent("ancestral")
    }

    /// Of a discrete process (z, logits, t) -> log of `p_t(y)/p_t(z)` per class y.
    fn to_score<'b>(&self, cx: &Cx<'b>, _w: Node<'b>, _d: Node<'b>, _sigma: Node<'b>) -> Node<'b> {
        cx.absent("to_score")
    }

    /// Per element.
    fn log_transition<'b>(
        &self,
        cx: &Cx<'b>,
        _w: Node<'b>,
        _w0: Node<'b>,
        _sigma: Node<'b>,
    ) -> Node<'b> {
        cx.absent("log_transition")
    }

    fn loss_weight<'b>(&self, cx: &Cx<'b>, _t: Node<'b>) -> Node<'b> {
        cx.absent("loss_weight")
    }

    /// Logits of the token at time s < t.
    fn posterior<'b>(
        &self,
        cx: &Cx<'b>,
        _z: Node<'b>,
        _logits: Node<'b>,
        _t: Node<'b>,
        _s: Node<'b>,
    ) -> Node<'b> {
        cx.absent("posterior")
    }

    /// Drift and diffusion of the data itself at natural time t: `dX = drift dt + diffusion dW`; scalars will do.
    fn sde<'b>(&self, cx: &Cx<'b>, _x: Node<'b>, _t: Node<'b>) -> [Node<'b>; 2] {
        [cx.absent("sde"); 2]
    }
}

/// What a process function knows besides its inputs. Draws made through it carry the right purpose.
#[derive(Clone, Copy)]
pub struct Cx<'b> {
    pub b: Builder<'b>,
    pub purpose: u32,
    pub stats: Stats,
    pub component: ComponentView<'b>,
}

impl<'b> Cx<'b> {
    /// Shape of the component with the batch in front.
    pub fn shape(&self) -> Shape {
        self.component.shape.with_batch(self.b.batch())
    }

    /// Standard normals of the component's shape.
    pub fn normal(&self) -> Node<'b> {
        self.b.normal(&self.shape(), self.purpose)
    }

    /// Standard normals of a node's shape.
    pub fn normal_like(&self, like: Node<'b>) -> Node<'b> {
        self.b.normal(&like.shape(), self.purpose)
    }

    /// Uniforms of a node's shape.
    pub fn uniform_like(&self, like: Node<'b>) -> Node<'b> {
        self.b.uniform(&like.shape(), self.purpose)
    }

    /// Gamma(a) draws of a node's shape.
    pub fn gamma_like(&self, a: f64, like: Node<'b>) -> Node<'b> {
        self.b.full(a, &like.shape()).gamma(self.purpose)
    }

    fn absent(&self, what: &str) -> Node<'b> {
        self.b.fail(abi::E_UNSUPPORTED, &format!("this process has no {what}"))
    }
}

/// A plugin type as a process.
pub struct AsProcess<T>(PhantomData<T>);

impl<T: Process> Kind for AsProcess<T> {
    type Plugin = T;
    type Info = ();
    const KIND: u32 = abi::KIND_PROCESS;
    const API: *const c_void = (&raw const *Self::TABLE).cast();

    fn info(_: &T) -> Result<()> {
        Ok(())
    }
}

macro_rules! function {
    ($t:ident $name:ident) => {
        if $t::FUNCTIONS.has(Function::$name) {
            Some(call::<$t, { Function::$name as u32 }>)
        } else {
            None
        }
    };
}

impl<T: Process> AsProcess<T> {
    const TABLE: &'static abi::ProcessApi = &abi::ProcessApi {
        struct_size: size_of::<abi::ProcessApi>() as u32,
        reserved: 0,
        info: Some(process_info::<T>),
        clock: if T::CLOCK { Some(clock::<T>) } else { None },
        encode: function!(T Encode),
        decode: function!(T Decode),
        perturb: function!(T Perturb),
        prior: function!(T Prior),
        precond: function!(T Precond),
        renoise: function!(T Renoise),
        ancestral: function!(T Ancestral),
        to_score: function!(T ToScore),
        log_transition: function!(T LogTransition),
        loss_weight: function!(T LossWeight),
        posterior: function!(T Posterior),
        sde: function!(T Sde),
        fit: if T::FIT { Some(fit::<T>) } else { None },
    };
}

unsafe extern "C" fn process_info<T: Process>(
    this: *const c_void,
    stats: *const abi::Stats,
    out: *mut abi::ProcessInfo,
    err: *mut abi::Error,
) -> abi::Status {
    // Safety: this came from create; stats, out and err are the host's for this call.
    let body = || unsafe {
        let instance = Instance::<AsProcess<T>>::of(this)?;
        let stats = stats.as_ref().copied().unwrap_or_default();
        let info = instance.plugin.info(&stats)?;
        let positive = if info.positive { abi::PROCESS_IS_POSITIVE } else { 0 };
        let additive = if info.additive { abi::PROCESS_IS_ADDITIVE } else { 0 };
        let homogeneous = if T::HOMOGENEOUS { abi::PROCESS_IS_HOMOGENEOUS } else { 0 };
        let raw = abi::ProcessInfo {
            struct_size: 0,
            space: info.space as u32,
            flags: positive | additive | homogeneous,
            reserved: 0,
            sigma_min: info.sigma_min,
            sigma_max: info.sigma_max,
        };
        fill(out, raw)
    };
    // Safety: err is null or the host's error.
    unsafe { guard(err, body) }
}

unsafe extern "C" fn fit<T: Process>(
    this: *const c_void,
    io: *mut abi::Fit,
    err: *mut abi::Error,
) -> abi::Status {
    // Safety: this came from create; io and its arrays are the host's for this call, as long as it says.
    let body = || unsafe {
        let instance = Instance::<AsProcess<T>>::of(this)?;
        let io = input(io, "fit")?;
        let n = u32::try_from(io.n_values)
            .map_err(|_| Error::invalid(format!("{} values, want below 2^32", io.n_values)))?;
        let data = Data { values: slice(io.values, n), ordered: io.flags & abi::FIT_ORDERED != 0 };
        let found = instance.plugin.fit(&data)?;
        let room = slice_mut(io.out, io.n_out);
        if found.len() > room.len() {
            let (n, room) = (found.len(), room.len());
            return Err(Error::invalid(format!(
                "{n} settings are fitted, there is room for {room}"
            )));
        }
        for (to, f) in room.iter_mut().zip(&found) {
            *to = abi::Fitted { key: f.key.as_ptr(), value: f.value, group: f.group, reserved: 0 };
        }
        io.n_out = found.len() as u32;
        Ok(())
    };
    // Safety: err is null or the host's error.
    unsafe { guard(err, body) }
}

unsafe extern "C" fn clock<T: Process>(
    this: *const c_void,
    times: *const f64,
    n: u32,
    sigmas: *mut f64,
    err: *mut abi::Error,
) -> abi::Status {
    // Safety: this came from create; both arrays have n elements and are the host's for this call.
    let body = || unsafe {
        let instance = Instance::<AsProcess<T>>::of(this)?;
        for (time, sigma) in slice(times, n).iter().zip(slice_mut(sigmas, n)) {
            let at = if time.is_finite() && *time >= 0.0 {
                instance.plugin.clock(*time)
            } else {
                return Err(Error::invalid(format!("time is {time}, want 0 or more")));
            };
            if !at.is_finite() {
                return Err(Error::invalid(format!("time {time} has no finite noise level")));
            }
            *sigma = at;
        }
        Ok(())
    };
    // Safety: err is null or the host's error.
    unsafe { guard(err, body) }
}

unsafe extern "C" fn call<T: Process, const FUNCTION: u32>(
    this: *const c_void,
    graph: *mut abi::Graph,
    io: *mut abi::ProcessIo,
    err: *mut abi::Error,
) -> abi::Status {
    // Safety: this came from create; io and what it points to are the host's for this call.
    let body = || unsafe {
        let instance = Instance::<AsProcess<T>>::of(this)?;
        let io = input(io, "io")?;
        let core = instance.core(graph);
        let b = Builder::new(&core);
        let stats = io.stats.as_ref().copied().unwrap_or_default();
        let component = io.component.as_ref().ok_or_else(|| crate::instance::null("component"))?;
        let component = ComponentView::new(component);
        let cx = Cx { b, purpose: io.purpose, stats, component };
        let mut x = [b.error_node(); 4];
        for (node, id) in x.iter_mut().zip(slice(io.r#in, io.n_in)) {
            *node = b.node(*id);
        }
        let mut y = [b.error_node(); 5];
        let (n_in, n_out) = emit::<T, FUNCTION>(&instance.plugin, &cx, io.n_in, x, &mut y);
        if io.n_in != n_in || io.n_out != n_out {
            let (got_in, got_out) = (io.n_in, io.n_out);
            return Err(Error::invalid(format!(
                "process function {FUNCTION} takes {n_in} inputs and gives {n_out}, asked for {got_in} and {got_out}"
            )));
        }
        for (id, node) in slice_mut(io.out, io.n_out).iter_mut().zip(y) {
            *id = node.id;
        }
        Ok(())
    };
    // Safety: err is null or the host's error.
    unsafe { guard(err, body) }
}

/// Emits one function and tells its arity; emits nothing when `n_in` is not right.
fn emit<'b, T: Process, const FUNCTION: u32>(
    p: &T,
    cx: &Cx<'b>,
    n_in: u32,
    x: [Node<'b>; 4],
    y: &mut [Node<'b>; 5],
) -> (u32, u32) {
    const ARITY: [(u32, u32); 13] = [
        (0, 0),
        (1, 1),
        (2, 1),
        (2, 2),
        (1, 1),
        (1, 5),
        (3, 1),
        (2, 1),
        (3, 1),
        (3, 1),
        (1, 1),
        (4, 1),
        (2, 2),
    ];
    let arity = ARITY[FUNCTION as usize];
    if n_in != arity.0 {
        return arity;
    }
    let [a, b, c, d] = x;
    match FUNCTION {
        1 => y[0] = p.encode(cx, a),
        2 => y[0] = p.decode(cx, a, b),
        3 => [y[0], y[1]] = p.perturb(cx, a, b),
        4 => y[0] = p.prior(cx, a),
        5 => {
            let q = p.precond(cx, a);
            *y = [q.skip, q.out, q.input, q.noise, q.weight];
        }
        6 => y[0] = p.renoise(cx, a, b, c),
        7 => y[0] = p.ancestral(cx, a, b),
        8 => y[0] = p.to_score(cx, a, b, c),
        9 => y[0] = p.log_transition(cx, a, b, c),
        10 => y[0] = p.loss_weight(cx, a),
        11 => y[0] = p.posterior(cx, a, b, c, d),
        _ => [y[0], y[1]] = p.sde(cx, a, b),
    }
    arity
}
