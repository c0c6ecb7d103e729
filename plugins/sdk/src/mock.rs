//! A host that records what a plugin emits, and tests of the SDK through the C tables, as a host would call them.

use crate::abi;
use crate::*;
use core::ffi::{CStr, c_char, c_void};

/// Every call in order, one line each; node ids count from 1.
#[derive(Default)]
struct Recorder {
    lines: Vec<String>,
    nodes: u32,
    batch: i64,
}

impl Recorder {
    fn add(&mut self, line: String) -> abi::Node {
        self.nodes += 1;
        self.lines.push(line);
        self.nodes
    }

    unsafe fn of<'a>(g: *mut abi::Graph) -> &'a mut Self {
        // Safety: the tests below pass a Recorder as the graph.
        unsafe { &mut *g.cast() }
    }
}

unsafe extern "C" fn emit(g: *mut abi::Graph, call: *const abi::Call) -> abi::Node {
    // Safety: the SDK passes a whole call with arrays of the stated lengths.
    unsafe {
        let call = &*call;
        let ids = core::slice::from_raw_parts(call.r#in, call.n_in as usize);
        let mut line = format!("op{} {ids:?}", call.op);
        for a in core::slice::from_raw_parts(call.attr, call.n_attr as usize) {
            let value = if a.count > 0 {
                let p = a.p.cast::<i64>();
                format!("{:?}", core::slice::from_raw_parts(p, a.count as usize))
            } else {
                format!("{}/{}", a.i, a.f)
            };
            line += &format!(" {}={value}", a.key);
        }
        Recorder::of(g).add(line)
    }
}

unsafe extern "C" fn scalar(g: *mut abi::Graph, value: f64) -> abi::Node {
    // Safety: see Recorder::of.
    unsafe { Recorder::of(g) }.add(format!("scalar {value}"))
}

unsafe extern "C" fn weight(
    g: *mut abi::Graph,
    name: *const c_char,
    want: *const abi::Desc,
    init: *const abi::Init,
) -> abi::Node {
    // Safety: the SDK passes a NUL-terminated name, a whole desc and a whole init.
    unsafe {
        let (name, want, init) = (CStr::from_ptr(name).to_string_lossy(), &*want, &*init);
        let dims = &want.dims[..want.rank as usize];
        Recorder::of(g).add(format!("weight {name} {dims:?} init {} {}", init.kind, init.a))
    }
}

unsafe extern "C" fn describe(_: *mut abi::Graph, _: abi::Node, out: *mut abi::Desc) -> i32 {
    // Safety: the SDK passes a whole desc.
    unsafe { *out = abi::Desc { dtype: abi::F32, rank: 2, dims: [4, 3, 0, 0, 0, 0, 0, 0] } };
    abi::OK
}

unsafe extern "C" fn batch(g: *mut abi::Graph) -> i64 {
    // Safety: see Recorder::of.
    unsafe { Recorder::of(g) }.batch
}

unsafe extern "C" fn fail(g: *mut abi::Graph, status: i32, message: *const c_char) {
    // Safety: the SDK passes a NUL-terminated text.
    let text = unsafe { CStr::from_ptr(message) }.to_string_lossy().into_owned();
    // Safety: see Recorder::of.
    unsafe { Recorder::of(g) }.lines.push(format!("fail {status} {text}"));
}

fn zero<T: Copy>() -> T {
    // Safety: used for tables and io structs only, whose fields may all be zero.
    unsafe { core::mem::zeroed() }
}

fn tables() -> (abi::GraphApi, abi::BuildApi) {
    let graph = abi::GraphApi {
        struct_size: size_of::<abi::GraphApi>() as u32,
        emit: Some(emit),
        scalar: Some(scalar),
        weight: Some(weight),
        describe: Some(describe),
        batch: Some(batch),
        fail: Some(fail),
        ..zero()
    };
    (graph, abi::BuildApi { struct_size: size_of::<abi::BuildApi>() as u32, ..zero() })
}

fn error() -> abi::Error {
    abi::Error { struct_size: 512, ..zero() }
}

fn message(e: &abi::Error) -> String {
    // Safety: the SDK terminates what it writes.
    unsafe { CStr::from_ptr(e.message.as_ptr()) }.to_string_lossy().into_owned()
}

fn create(factory: &abi::Factory, config: &CStr) -> Result<*mut c_void> {
    let (graph, build) = tables();
    let host = abi::Host {
        struct_size: size_of::<abi::Host>() as u32,
        graph: &graph,
        build: &build,
        ..zero()
    };
    let (mut out, mut err) = (core::ptr::null_mut(), error());
    // Safety: every pointer lives through the call; an instance copies the tables.
    let status =
        unsafe { (factory.create.unwrap())(factory, &host, config.as_ptr(), &mut out, &mut err) };
    if status == abi::OK {
        return Ok(out);
    }
    assert!(out.is_null());
    Err(Error::new(status, message(&err)))
}

// ---- a plugin of each border

struct Plain {
    scale: f64,
}

impl Factory for Plain {
    const ID: &'static CStr = c"org.test.plain";
    const SUMMARY: &'static CStr = c"for tests";

    fn create(config: &mut Config) -> Result<Self> {
        Ok(Self { scale: config.f64("scale", 1.0, POSITIVE)? })
    }
}

impl Process for Plain {
    const FUNCTIONS: Functions = Functions::CONTINUOUS.without(Function::Renoise);

    fn info(&self, _: &Stats) -> Result<ProcessInfo> {
        panic!("no info for {}", self.scale)
    }

    fn encode<'b>(&self, _: &Cx<'b>, x: Node<'b>) -> Node<'b> {
        x * self.scale
    }

    fn perturb<'b>(&self, cx: &Cx<'b>, w0: Node<'b>, sigma: Node<'b>) -> [Node<'b>; 2] {
        [w0 + sigma * cx.normal_like(w0), w0]
    }

    fn prior<'b>(&self, cx: &Cx<'b>, sigma: Node<'b>) -> Node<'b> {
        2.0 / -sigma + cx.normal()
    }
}

impl Model for Plain {
    fn info(&self) -> ModelInfo {
        ModelInfo {
            predicts: Predicts::Residual,
            components: vec![Component::continuous("x", &[-1])],
            conds: vec![Cond { name: "y".into(), dims: vec![2], dtype: 0, null_value: -1.0 }],
            slots: vec![],
        }
    }

    fn build<'b>(&self, b: Builder<'b>, io: &mut ModelIo<'b>) -> Result<()> {
        let w = b.weight(&"w".repeat(300), &[3, 3], Init::Normal(0.5));
        let h = io.x(0).matmul(w).sum(&[]).sum_keep(&[-1]);
        io.set_out(0, h.less(0.0).choose(h, 1.0));
        io.set_out(1, h);
        Ok(())
    }
}

impl Sampler for Plain {
    fn info(&self) -> SamplerInfo {
        SamplerInfo {
            n_coeff: 2,
            per_component: true,
            n_variants: 1,
            slots: vec![Slot { name: "m".into(), like: Like::Component(0), init: 0.0 }],
            control: false,
            stochasticity: 0.0,
        }
    }

    fn plan(&self, knots: &Knots<'_>) -> Result<Plan> {
        let mut plan = Plan::default();
        for k in 0..knots.steps() {
            let row: Vec<f64> = (0..knots.components())
                .flat_map(|c| [knots.of(c)[k], knots.of(c)[k + 1]])
                .collect();
            plan.push(7, &row);
            let after = (0..knots.components()).map(|c| knots.of(c)[k + 1]);
            plan.levels.get_or_insert_default().extend(after);
        }
        Ok(plan)
    }

    fn step<'b>(&self, _: Builder<'b>, _: &mut Step<'b>) -> Result<()> {
        Err(Error::unsupported("é".repeat(400)))
    }
}

#[allow(unreachable_pub)] // the macro is for the root of a crate
mod descriptor {
    use super::Plain;
    crate::diffx_plugin! {
        id: "org.test",
        license: "MIT",
        models: [Plain],
        processes: [Plain],
        samplers: [Plain],
    }
}

fn call_process(
    f: abi::ProcessFn,
    this: *mut c_void,
    inputs: &[abi::Node],
    n_out: usize,
) -> (i32, Vec<abi::Node>, Recorder, String) {
    let mut recorder = Recorder { nodes: 10, batch: 4, ..Recorder::default() };
    let mut out = vec![0; n_out];
    let stats = Stats::default();
    let component = abi::Component {
        desc: abi::Desc { dtype: 0, rank: 1, dims: [3, 0, 0, 0, 0, 0, 0, 0] },
        ..zero()
    };
    let mut io = abi::ProcessIo {
        struct_size: size_of::<abi::ProcessIo>() as u32,
        purpose: 9,
        n_in: inputs.len() as u32,
        n_out: n_out as u32,
        r#in: inputs.as_ptr(),
        out: out.as_mut_ptr(),
        stats: &stats,
        component: &component,
    };
    let mut err = error();
    // Safety: everything the io names lives through the call; the recorder is the graph.
    let status = unsafe { (f.unwrap())(this, (&raw mut recorder).cast(), &mut io, &mut err) };
    (status, out, recorder, message(&err))
}

#[test]
fn descriptor_lists_every_factory() {
    let plugin = descriptor::plugin();
    assert_eq!((plugin.magic, plugin.n_factories, plugin.layout), (abi::MAGIC, 3, abi::LAYOUT));
    // Safety: the descriptor's texts and factories are constants.
    unsafe {
        assert_eq!(CStr::from_ptr(plugin.id), c"org.test");
        assert_eq!(CStr::from_ptr(plugin.version).to_str().unwrap(), env!("CARGO_PKG_VERSION"));
        let factories = core::slice::from_raw_parts(plugin.factories, 3);
        let kinds: Vec<u32> = factories.iter().map(|f| (**f).kind).collect();
        assert_eq!(kinds, [abi::KIND_MODEL, abi::KIND_PROCESS, abi::KIND_SAMPLER]);
        assert_eq!(CStr::from_ptr((*factories[0]).id), c"org.test.plain");
    }
}

#[test]
fn a_formula_emits_what_it_says() {
    let factory = FactoryOf::<AsProcess<Plain>>::FACTORY;
    let this = create(factory, c"{\"scale\":3}").unwrap();
    // Safety: api of a process factory is a process table.
    let api = unsafe { &*factory.api.cast::<abi::ProcessApi>() };
    assert!(api.renoise.is_none() && api.posterior.is_none() && api.clock.is_none());
    let (status, out, r, _) = call_process(api.encode, this, &[1], 1);
    assert_eq!((status, out), (abi::OK, vec![12]));
    assert_eq!(r.lines, ["scalar 3", "op52 [1, 11]"]);
    let (status, out, r, _) = call_process(api.perturb, this, &[1, 2], 2);
    assert_eq!((status, out), (abi::OK, vec![13, 1]));
    assert_eq!(r.lines, ["op160 [] 4=[4, 3] 28=9/0", "op52 [2, 11]", "op50 [1, 12]"]);
    let (_, _, r, _) = call_process(api.prior, this, &[2], 1);
    let want =
        ["op10 [2]", "scalar 2", "op53 [12, 11]", "op160 [] 4=[4, 3] 28=9/0", "op50 [13, 14]"];
    assert_eq!(r.lines, want);
    // wrong arity is refused before anything is emitted; an absent function is a sticky failure
    let (status, _, r, text) = call_process(api.encode, this, &[1, 2], 1);
    assert_eq!((status, r.lines.len()), (abi::E_INVALID, 0));
    assert!(text.contains("takes 1 inputs and gives 1"), "{text}");
    let (status, _, r, _) = call_process(api.precond, this, &[1], 5);
    assert_eq!(status, abi::OK);
    assert_eq!(r.lines, [format!("fail {} this process has no precond", abi::E_UNSUPPORTED)]);
    // Safety: destroyed once.
    unsafe { (factory.destroy.unwrap())(this) };
}

#[test]
fn panics_and_errors_become_statuses() {
    let factory = FactoryOf::<AsProcess<Plain>>::FACTORY;
    let this = create(factory, c"").unwrap();
    // Safety: api of a process factory is a process table; null stats and a null out are allowed to be refused.
    let (status, text) = unsafe {
        let api = &*factory.api.cast::<abi::ProcessApi>();
        let mut err = error();
        let status = (api.info.unwrap())(this, core::ptr::null(), core::ptr::null_mut(), &mut err);
        (status, message(&err))
    };
    assert_eq!((status, text.as_str()), (abi::E_PLUGIN, "plugin panicked: no info for 1"));
    let e = create(factory, c"{\"scale\":-2}").unwrap_err();
    assert_eq!(e, Error::invalid("scale is -2, want a number above 0"));
    let e = create(factory, c"{\"sclae\":2}").unwrap_err();
    assert_eq!(e, Error::format("config has no key sclae: want one of scale"));
    // Safety: destroyed once.
    unsafe { (factory.destroy.unwrap())(this) };
}

#[test]
fn model_declares_and_builds() {
    let factory = FactoryOf::<AsModel<Plain>>::FACTORY;
    let this = create(factory, c"{}").unwrap();
    let mut info = abi::ModelInfo { struct_size: 24, ..zero() };
    let (x, sigma, cond, mut out) = ([1], [2], [3], [0]);
    let mut io = abi::ModelIo {
        struct_size: size_of::<abi::ModelIo>() as u32,
        n_components: 1,
        n_conds: 1,
        n_out: 1,
        x: x.as_ptr(),
        sigma: sigma.as_ptr(),
        cond: cond.as_ptr(),
        out: out.as_mut_ptr(),
        ..zero()
    };
    let mut r = Recorder { nodes: 10, ..Recorder::default() };
    // Safety: api of a model factory is a model table; io's arrays live through the call.
    unsafe {
        let api = &*factory.api.cast::<abi::ModelApi>();
        // an older host's smaller struct is not written past its end
        assert_eq!((api.info.unwrap())(this, &mut info, core::ptr::null_mut()), abi::OK);
        assert_eq!((info.struct_size, info.n_conds, info.components.is_null()), (24, 1, true));
        info.struct_size = size_of::<abi::ModelInfo>() as u32;
        assert_eq!((api.info.unwrap())(this, &mut info, core::ptr::null_mut()), abi::OK);
        assert_eq!((*info.components).desc.dims[0], -1);
        assert_eq!(CStr::from_ptr((*info.conds).name), c"y");
        let g = (&raw mut r).cast();
        assert_eq!((api.build.unwrap())(this, g, &mut io, core::ptr::null_mut()), abi::OK);
        (factory.destroy.unwrap())(this);
    }
    let name = "w".repeat(300);
    let want = [
        format!("weight {name} [3, 3] init 3 0.5"),
        "op100 [1, 11]".into(),
        "op80 [12] 3=0/0".into(),
        "op80 [13] 2=[-1] 3=1/0".into(),
        "scalar 0".into(),
        "op62 [14, 15]".into(),
        "scalar 1".into(),
        "op70 [16, 14, 17]".into(),
        format!("fail {} plugin used output 1, there are 1", abi::E_PLUGIN),
    ];
    assert_eq!(r.lines, want);
    assert_eq!(out, [18]);
}

#[test]
fn sampler_plans_in_two_calls() {
    let factory = FactoryOf::<AsSampler<Plain>>::FACTORY;
    let this = create(factory, c"{}").unwrap();
    let knots = [4.0, 2.0, 0.0, 8.0, 4.0, 1.0];
    let (mut rows, mut variants, mut levels) = ([0.0; 8], [0; 2], [0.0; 4]);
    let mut plan = abi::Plan {
        struct_size: size_of::<abi::Plan>() as u32,
        n_steps: 2,
        n_components: 2,
        n_coeff: 4,
        knots: knots.as_ptr(),
        ..zero()
    };
    let mut err = error();
    // Safety: api of a sampler factory is a sampler table; every array lives through the calls.
    unsafe {
        let api = &*factory.api.cast::<abi::SamplerApi>();
        let mut info = abi::SamplerInfo { struct_size: 56, ..zero() };
        assert_eq!((api.info.unwrap())(this, &mut info, &mut err), abi::OK);
        assert_eq!((info.flags, (*info.slots).like), (abi::SAMPLER_PER_COMPONENT, 1));
        assert_eq!((api.plan.unwrap())(this, &mut plan, &mut err), abi::OK);
        assert_eq!(plan.n_rows, 2);
        plan.rows = rows.as_mut_ptr();
        plan.variants = variants.as_mut_ptr();
        plan.levels = levels.as_mut_ptr();
        assert_eq!((api.plan.unwrap())(this, &mut plan, &mut err), abi::OK);
        plan.n_coeff = 3;
        assert_eq!((api.plan.unwrap())(this, &mut plan, &mut err), abi::E_PLUGIN);
        assert_eq!(message(&err), "plan has 8 coefficients in 2 rows of 3");
        // a message longer than the error is cut between characters
        let mut io = abi::StepIo { struct_size: size_of::<abi::StepIo>() as u32, ..zero() };
        let status = (api.step.unwrap())(this, core::ptr::null_mut(), &mut io, &mut err);
        assert_eq!(status, abi::E_UNSUPPORTED);
        (factory.destroy.unwrap())(this);
    }
    assert_eq!(rows, [4.0, 2.0, 8.0, 4.0, 2.0, 0.0, 4.0, 1.0]);
    assert_eq!(variants, [7, 7]);
    assert_eq!(levels, [2.0, 4.0, 0.0, 1.0]);
    assert_eq!((err.message_len, message(&err)), (494, "é".repeat(247)));
}
