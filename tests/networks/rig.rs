//! A network of the built-in plugins by its configuration, its inputs as constants, its weights from wherever, and what a
//! test builds on its output; and cases of the oracle: files of inputs and outputs with tolerances.

use diffx::base::{DType, Desc};
use diffx::cpu::Cpu;
use diffx::exec::{RunKey, SessionBuilder, WeightBinding};
use diffx::graph::{Attrs, Graph, NodeId, Op};
use diffx::mem::{Budget, Tensor};
use diffx::plugin::Registry;
use diffx::sample::{Build, ModelIo, Network, Parts, Stats};
use diffx::weights::SafeTensors;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A tensor of a test: numbers and a shape.
#[derive(Debug, Clone)]
pub(crate) struct Array {
    pub(crate) dims: Vec<usize>,
    pub(crate) values: Vec<f64>,
}

impl Array {
    pub(crate) fn new(dims: &[usize], values: Vec<f64>) -> Self {
        assert_eq!(dims.iter().product::<usize>(), values.len());
        Self { dims: dims.to_vec(), values }
    }

    pub(crate) fn rows(&self) -> usize {
        self.dims[0]
    }

    /// Elements `from..to` along an axis.
    pub(crate) fn cut(&self, axis: usize, from: usize, to: usize) -> Self {
        let inner: usize = self.dims[axis + 1..].iter().product();
        let n = self.dims[axis];
        let values = self.values.chunks(n * inner);
        let values = values.flat_map(|c| c[from * inner..to * inner].to_vec()).collect();
        let mut dims = self.dims.clone();
        dims[axis] = to - from;
        Self::new(&dims, values)
    }

    /// As a node; whole numbers are i32.
    pub(crate) fn node(&self, g: &mut Graph, dtype: DType) -> NodeId {
        let bytes: Vec<u8> = match dtype {
            DType::I32 => self.values.iter().flat_map(|v| (*v as i32).to_ne_bytes()).collect(),
            DType::Bool => self.values.iter().map(|v| u8::from(*v != 0.0)).collect(),
            DType::F64 => self.values.iter().flat_map(|v| v.to_ne_bytes()).collect(),
            _ => self.values.iter().flat_map(|v| (*v as f32).to_ne_bytes()).collect(),
        };
        g.constant(Desc::new(dtype, &self.dims).unwrap(), &bytes)
    }
}

/// Where weights come from: name and shape to numbers.
pub(crate) type Weights<'a> = &'a dyn Fn(&str, &[usize]) -> Vec<f32>;

/// A network and what stands around it.
pub(crate) struct Net {
    pub(crate) parts: Parts,
}

/// What goes into a network.
pub(crate) struct Given {
    pub(crate) x: Array,
    pub(crate) level: Array,
    pub(crate) conds: Vec<Array>,
}

impl Net {
    /// A model of one component; `dims` fill in what the model leaves free.
    pub(crate) fn new(
        id: &str,
        config: &Value,
        dims: &[usize],
        process: Option<&str>,
        stats: Stats,
    ) -> Self {
        let mut registry = Registry::new(Box::new(|_, _| {}));
        for plugin in [diffx_models::plugin(), diffx_processes::plugin()] {
            // Safety: a static of a crate linked into this test.
            unsafe { registry.register(std::ptr::from_ref(plugin).cast()) }.unwrap();
        }
        let model = registry.model(id, config).unwrap();
        let info = model.info().unwrap();
        let mut components = info.components.clone();
        for (d, n) in components[0].dims.iter_mut().zip(dims) {
            assert!(*d == *n as i64 || *d < 0, "dimensions are {dims:?}");
            *d = *n as i64;
        }
        let process = process.map(|p| registry.process(p, &Value::Null).unwrap());
        Self {
            parts: Parts {
                components,
                processes: process.into_iter().collect(),
                stats: vec![stats],
                conds: info.conds,
                networks: vec![Network { slot: "base".into(), model, lora: None }],
                guidances: vec![],
                float: DType::F32,
                weight_dtype: DType::F32,
            },
        }
    }

    /// The nodes of inputs: state, level, conditions.
    fn inputs(&self, b: &mut Build<'_>, given: &Given) -> (NodeId, NodeId) {
        let dtype = self.parts.state(0, 1).unwrap().dtype;
        let x = given.x.node(&mut b.graph, dtype);
        let level = given.level.node(&mut b.graph, DType::F32);
        for (i, c) in given.conds.iter().enumerate() {
            b.cond[i] = c.node(&mut b.graph, self.parts.conds[i].desc.dtype);
        }
        (x, level)
    }

    /// Runs what `then` makes of the input and the output of the network itself.
    pub(crate) fn run(
        &self,
        given: &Given,
        weights: Weights<'_>,
        then: impl FnOnce(&mut Graph, NodeId, NodeId) -> Vec<NodeId>,
    ) -> Vec<Array> {
        let mut b = Build::new(&self.parts, given.x.rows()).unwrap();
        let (x, level) = self.inputs(&mut b, given);
        let mut io = ModelIo {
            phase: 0,
            x: vec![x],
            sigma: vec![level],
            cond: b.cond.clone(),
            slots: vec![],
            slots_out: vec![],
            out: vec![NodeId::ERROR],
        };
        b.network("base", &mut io).unwrap();
        let nodes = then(&mut b.graph, x, io.out[0]);
        run(&b.graph, weights, &nodes)
    }

    /// The denoiser: the network between what its process puts around it.
    pub(crate) fn denoise(&self, given: &Given, weights: Weights<'_>) -> Array {
        let mut b = Build::new(&self.parts, given.x.rows()).unwrap();
        let (x, level) = self.inputs(&mut b, given);
        let eval = diffx::sample::Eval { phase: 0, x: vec![x], sigma: vec![level], cond: None };
        let d = b.denoise(0, &[eval]).unwrap();
        run(&b.graph, weights, &d[0]).swap_remove(0)
    }
}

/// The mean over everything.
pub(crate) fn mean(g: &mut Graph, x: NodeId) -> NodeId {
    g.emit(Op::Mean, &[x], Attrs::NONE)
}

/// Names of all weights, and a loss with its gradients by them.
pub(crate) fn with_gradients(g: &mut Graph, loss: NodeId, names: &mut Vec<String>) -> Vec<NodeId> {
    *names = g.weights().iter().map(|w| w.name.clone()).collect();
    let by: Vec<NodeId> = g.weights().iter().map(|w| w.node).collect();
    let one = g.full(1.0, DType::F32, &[]);
    [vec![loss], g.grad(loss, one, &by)].concat()
}

fn run(graph: &Graph, weights: Weights<'_>, outputs: &[NodeId]) -> Vec<Array> {
    let budget = Budget::unlimited();
    graph.check().unwrap();
    let mut session = SessionBuilder::new(Arc::new(Cpu::new(1)));
    let outs: Vec<_> =
        outputs.iter().map(|o| (*o, session.buffer("out", graph.desc(*o)))).collect();
    let bound: Vec<WeightBinding> = graph
        .weights()
        .iter()
        .map(|w| {
            let values = weights(&w.name, w.desc.dims());
            let t = Tensor::from_f32(w.desc.dims(), &values, &budget).unwrap();
            WeightBinding::Tensor(Arc::new(t))
        })
        .collect();
    let plan = session.plan(graph, &[], &outs, &bound).unwrap();
    let mut session = session.allocate(&budget).unwrap();
    session.replay(plan, RunKey { seed: 0, step: 0, first_sample: 0 }).unwrap();
    let read = |(node, buffer): &(NodeId, _)| {
        let desc = graph.desc(*node);
        assert_eq!(desc.dtype, DType::F32);
        let mut bytes = vec![0; 4 * desc.shape.elements()];
        session.read(*buffer, &mut bytes).unwrap();
        let values =
            bytes.chunks_exact(4).map(|c| f64::from(f32::from_ne_bytes(c.try_into().unwrap())));
        Array::new(desc.dims(), values.collect())
    };
    outs.iter().map(read).collect()
}

/// Weights of a file.
pub(crate) fn stored(file: &SafeTensors) -> impl Fn(&str, &[usize]) -> Vec<f32> {
    move |name, dims| {
        let t = read(file, name);
        assert_eq!(t.dims, dims, "{name}");
        t.values.iter().map(|v| *v as f32).collect()
    }
}

pub(crate) fn read(file: &SafeTensors, name: &str) -> Array {
    let t = file.tensor(name, &Budget::unlimited()).unwrap();
    let bytes = t.bytes();
    let wide = |n: usize, f: &dyn Fn(&[u8]) -> f64| bytes.chunks_exact(n).map(f).collect();
    let values: Vec<f64> = match t.desc().dtype {
        DType::F32 => wide(4, &|c| f64::from(f32::from_ne_bytes(c.try_into().unwrap()))),
        DType::I64 => wide(8, &|c| i64::from_ne_bytes(c.try_into().unwrap()) as f64),
        DType::Bool => wide(1, &|c| f64::from(c[0])),
        other => panic!("{name} is {other}"),
    };
    Array::new(t.dims(), values)
}

/// A case of the oracle.
pub(crate) struct Case {
    folder: PathBuf,
    manifest: Value,
}

impl Case {
    /// `None`, with a word, where there is none.
    pub(crate) fn open(name: &str) -> Option<Self> {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let shared =
            std::env::var_os("DIFFX_SHARED").map_or_else(|| root.join("../shared"), PathBuf::from);
        let oracle =
            std::env::var_os("DIFFX_ORACLE").map_or_else(|| shared.join("oracle"), PathBuf::from);
        let folder = oracle.join(name);
        let Ok(text) = std::fs::read_to_string(folder.join("manifest.json")) else {
            println!("skipped: no oracle case at {}", folder.display());
            return None;
        };
        Some(Self { folder, manifest: serde_json::from_str(&text).unwrap() })
    }

    /// The tests of one kind.
    pub(crate) fn tests<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = Test<'a>> {
        let tests = self.manifest["tests"].as_array().unwrap().iter();
        tests.filter(move |t| t["kind"] == kind).map(|t| {
            let file = self.folder.join(t["file"].as_str().unwrap());
            Test { case: self, about: t, data: SafeTensors::open(&file).unwrap() }
        })
    }

    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        self.folder.join(inside)
    }
}

/// The only file of a folder with weights, and its configuration without what no plugin reads.
pub(crate) fn checkpoint(folder: &Path, keys: &[&str]) -> (SafeTensors, Value) {
    let text = std::fs::read_to_string(folder.join("config.json")).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    config.as_object_mut().unwrap().retain(|k, _| keys.contains(&k.as_str()));
    let mut files = std::fs::read_dir(folder).unwrap().map(|f| f.unwrap().path());
    let file = files.find(|f| f.extension().is_some_and(|e| e == "safetensors")).unwrap();
    (SafeTensors::open(&file).unwrap(), config)
}

/// One test: inputs, and outputs with tolerances.
pub(crate) struct Test<'a> {
    case: &'a Case,
    about: &'a Value,
    data: SafeTensors,
}

impl Test<'_> {
    pub(crate) fn name(&self) -> &str {
        self.about["name"].as_str().unwrap()
    }

    pub(crate) fn param(&self, name: &str) -> &Value {
        &self.about["params"][name]
    }

    pub(crate) fn input(&self, name: &str) -> Array {
        read(&self.data, &format!("in.{name}"))
    }

    /// Compares one output; says by how much it differs.
    pub(crate) fn compare(&self, name: &str, got: &Array) {
        let want = read(&self.data, &format!("out.{name}"));
        let limit = |key: &str| self.about["outputs"][name][key].as_f64().unwrap();
        assert_eq!(got.dims, want.dims, "{}: {name}", self.name());
        let (atol, rtol) = (limit("atol"), limit("rtol"));
        close(&format!("{} {name}", self.name()), &got.values, &want.values, atol, rtol);
    }

    /// Compares gradients by all parameters with the samples of them that are stored, and every parameter that is.
    pub(crate) fn gradients(&self, names: &[String], got: &[Array]) {
        let path = self.case.path(self.about["grads_json"].as_str().unwrap());
        let all: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let params = all["params"].as_object().unwrap();
        let missing: Vec<_> = params.keys().filter(|k| !names.contains(*k)).collect();
        assert!(missing.is_empty(), "{}: no gradient by {missing:?}", self.name());
        let mut worst = 0.0_f64;
        for (name, got) in names.iter().zip(got) {
            let want = &params[name];
            let list = |key: &str| -> Vec<f64> {
                want[key].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
            };
            let l2 = want["l2"].as_f64().unwrap();
            let found: f64 = got.values.iter().map(|v| v * v).sum::<f64>().sqrt();
            let label = format!("{} grad {name}", self.name());
            worst = worst.max(part(&format!("{label} l2"), &[found], &[l2], 1e-6, 1e-3));
            let (at, values) = (list("idx"), list("val"));
            let found: Vec<f64> = at.iter().map(|i| got.values[*i as usize]).collect();
            let most = got.values.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
            worst = worst.max(part(&label, &found, &values, (1e-5 * most).max(1e-6), 1e-3));
        }
        println!(
            "{}: gradients by {} weights, {worst:.2} of the tolerance",
            self.name(),
            got.len()
        );
    }
}

fn close(label: &str, got: &[f64], want: &[f64], atol: f64, rtol: f64) {
    println!("{label}: {:.3} of the tolerance", part(label, got, want, atol, rtol));
}

/// The largest difference as a part of the tolerance, which it must not exceed.
fn part(label: &str, got: &[f64], want: &[f64], atol: f64, rtol: f64) -> f64 {
    assert_eq!(got.len(), want.len(), "{label}");
    let parts = got.iter().zip(want).map(|(g, w)| (g - w).abs() / (atol + rtol * w.abs()));
    let worst = parts.fold(0.0_f64, |a, b| if b.is_nan() { b } else { a.max(b) });
    assert!(worst <= 1.0, "{label}: {worst} of the tolerance");
    worst
}
