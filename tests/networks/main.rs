//! Networks with weights by a formula against numbers of NumPy (`reference.py` and `pictures.py` beside this file), so
//! that a bare clone tests each family; the checkpoints of the oracle test the same plugins with weights of their
//! references.

use diffx::base::{DType, Desc};
use diffx::cpu::Cpu;
use diffx::exec::{RunKey, SessionBuilder, WeightBinding};
use diffx::graph::{Graph, NodeId};
use diffx::mem::{Budget, Tensor};
use diffx::plugin::Registry;
use diffx::sample::{Build, Eval, ModelIo, Network, Parts, Stats};
use serde_json::{Value, json};
use std::sync::Arc;

/// Numbers in [-0.5, 0.5) by a name and a place: FNV-1a of the name and a multiplicative sequence.
fn formula(name: &str, n: usize) -> Vec<f32> {
    let mix = |h: u32, b: u8| (h ^ u32::from(b)).wrapping_mul(0x0100_0193);
    let start = name.bytes().fold(0x811c_9dc5, mix);
    let at = |i: usize| start.wrapping_add((i as u32).wrapping_add(1).wrapping_mul(2_654_435_761));
    (0..n).map(|i| (f64::from(at(i)) / 4_294_967_296.0 - 0.5) as f32).collect()
}

fn numbers(v: &Value) -> Vec<f64> {
    match v {
        Value::Array(list) => list.iter().flat_map(numbers).collect(),
        v => vec![v.as_f64().unwrap()],
    }
}

/// An input: listed, or by its name and sizes.
fn input(g: &mut Graph, name: &str, want: Desc, given: &Value) -> NodeId {
    let n = want.shape.elements();
    let listed = numbers(given);
    let values = match listed.len() == n && want.dtype == DType::I32 || want.dims().len() == 1 {
        true => listed,
        false => formula(name, n).iter().map(|v| f64::from(*v)).collect(),
    };
    let bytes: Vec<u8> = match want.dtype {
        DType::I32 => values.iter().flat_map(|v| (*v as i32).to_ne_bytes()).collect(),
        _ => values.iter().flat_map(|v| (*v as f32).to_ne_bytes()).collect(),
    };
    g.constant(want, &bytes)
}

fn registry() -> Registry {
    let mut registry = Registry::new(Box::new(|_, _| {}));
    let plugins = [diffx_models::plugin(), diffx_processes::plugin(), diffx_guidance::plugin()];
    for plugin in plugins {
        // Safety: a static of a crate linked into this test.
        unsafe { registry.register(std::ptr::from_ref(plugin).cast()) }.unwrap();
    }
    registry
}

struct Row {
    parts: Parts,
    about: Value,
    rows: usize,
}

impl Row {
    fn new(about: &Value) -> Self {
        let registry = registry();
        let model = registry.model(about["model"].as_str().unwrap(), &about["config"]).unwrap();
        let info = model.info().unwrap();
        let mut components = info.components.clone();
        let shape: Vec<usize> = numbers(&about["state"]).iter().map(|d| *d as usize).collect();
        for (d, n) in components[0].dims.iter_mut().zip(&shape[1..]) {
            *d = if *d < 0 { *n as i64 } else { *d };
        }
        let process = registry.process("ve", &json!({})).unwrap();
        let parts = Parts {
            components,
            processes: vec![process],
            stats: vec![Stats::default()],
            conds: info.conds,
            networks: vec![Network { slot: "base".into(), model, lora: None }],
            guidances: vec![],
            float: DType::F32,
            weight_dtype: DType::F32,
        };
        Self { parts, about: about.clone(), rows: shape[0] }
    }

    fn build(&self) -> (Build<'_>, NodeId, NodeId) {
        let mut b = Build::new(&self.parts, self.rows).unwrap();
        let state = self.parts.state(0, self.rows).unwrap();
        let x = input(&mut b.graph, "x", state, &self.about["x"]);
        let per_row = Desc::new(DType::F32, &[self.rows]).unwrap();
        let level = input(&mut b.graph, "level", per_row, &self.about["level"]);
        for (i, c) in self.parts.conds.iter().enumerate() {
            let want = Desc::new(c.desc.dtype, &[&[self.rows], c.desc.dims()].concat()).unwrap();
            b.cond[i] = input(&mut b.graph, &c.name, want, &self.about["conds"][&c.name]);
        }
        (b, x, level)
    }

    /// What the network itself says.
    fn network(&self) -> Vec<f32> {
        let (mut b, x, level) = self.build();
        let mut io = ModelIo {
            phase: self.about["phase"].as_u64().unwrap_or(0) as u32,
            x: vec![x],
            sigma: vec![level],
            cond: b.cond.clone(),
            slots: vec![],
            slots_out: vec![],
            out: vec![NodeId::ERROR],
        };
        b.network("base", &mut io).unwrap();
        let dims: Vec<f64> = b.graph.desc(io.out[0]).dims().iter().map(|d| *d as f64).collect();
        assert_eq!(dims, numbers(&self.about["shape"]));
        run(&b.graph, io.out[0])
    }
}

fn run(graph: &Graph, output: NodeId) -> Vec<f32> {
    graph.check().unwrap();
    let budget = Budget::unlimited();
    let mut session = SessionBuilder::new(Arc::new(Cpu::new(1)));
    let out = session.buffer("out", graph.desc(output));
    let weight = |w: &diffx::graph::Weight| {
        let values = formula(&w.name, w.desc.shape.elements());
        WeightBinding::Tensor(Arc::new(Tensor::from_f32(w.desc.dims(), &values, &budget).unwrap()))
    };
    let weights: Vec<WeightBinding> = graph.weights().iter().map(weight).collect();
    let plan = session.plan(graph, &[], &[(output, out)], &weights).unwrap();
    let mut session = session.allocate(&budget).unwrap();
    session.replay(plan, RunKey { seed: 0, step: 0, first_sample: 0 }).unwrap();
    let mut bytes = vec![0; 4 * graph.desc(output).shape.elements()];
    session.read(out, &mut bytes).unwrap();
    bytes.chunks_exact(4).map(|c| f32::from_ne_bytes(c.try_into().unwrap())).collect()
}

fn rows() -> Vec<Value> {
    let files = [include_str!("rows.json"), include_str!("pictures.json")];
    let read = |text: &str| -> Vec<Value> { serde_json::from_str(text).unwrap() };
    files.iter().flat_map(|text| read(text)).collect()
}

#[test]
fn networks_say_what_numpy_says() {
    let mut seen = Vec::new();
    for about in rows() {
        let found = Row::new(&about).network();
        let at = numbers(&about["at"]);
        let far = at.iter().zip(numbers(&about["want"])).map(|(i, want)| {
            let got = f64::from(found[*i as usize]);
            (got - want).abs() / (1.0 + want.abs())
        });
        let worst = far.fold(0.0_f64, |a, b| if b.is_nan() { b } else { a.max(b) });
        println!("{}: {worst:.1e}", about["model"]);
        assert!(worst < 2e-5, "{} of {}: differs by {worst:e}", about["model"], about["config"]);
        seen.push(about["model"].as_str().unwrap().to_owned());
    }
    let sequences = ["dit", "dit_original", "sit", "csdi", "tabddpm", "tabsyn", "llada"];
    let pictures = ["unet2d", "songunet", "dhariwal", "autoencoder_kl"];
    for id in sequences.iter().chain(&pictures) {
        assert!(seen.iter().any(|s| s == id), "no row is of {id}");
    }
}

/// Of twice as many channels a denoiser takes the first half: D is the same as from the same network cut off there.
#[test]
fn a_learned_variance_is_no_part_of_the_denoised() {
    let about = rows().into_iter().find(|r| r["model"] == "dit_original").unwrap();
    let row = Row::new(&about);
    let (mut b, x, level) = row.build();
    let eval = Eval { phase: 0, x: vec![x], sigma: vec![level], cond: None };
    let d = b.denoise(0, &[eval]).unwrap()[0][0];
    assert_eq!(b.graph.desc(d).dims(), [2, 2, 6, 6]);
    let found = run(&b.graph, d);

    // D = c_skip x + c_out F(c_in x, ln(sigma)/4) with data of variance 1, of the first half of F
    let (mut b, x, level) = row.build();
    let (sigma, ones) = ([3.0_f64, 731.0], [2, 1, 1, 1]);
    let mut table = |f: fn(f64) -> f64, dims: &[usize]| {
        let bytes: Vec<u8> = sigma.iter().flat_map(|s| (f(*s) as f32).to_ne_bytes()).collect();
        b.graph.constant(Desc::new(DType::F32, dims).unwrap(), &bytes)
    };
    let c_in = table(|s| 1.0 / (s * s + 1.0).sqrt(), &ones);
    let skip = table(|s| 1.0 / (s * s + 1.0), &ones);
    let out = table(|s| s / (s * s + 1.0).sqrt(), &ones);
    let noise = table(|s| s.ln() / 4.0, &[2]);
    let _ = level;
    let given = b.graph.mul(c_in, x);
    let mut io = ModelIo {
        phase: 0,
        x: vec![given],
        sigma: vec![noise],
        cond: b.cond.clone(),
        slots: vec![],
        slots_out: vec![],
        out: vec![NodeId::ERROR],
    };
    b.network("base", &mut io).unwrap();
    let g = &mut b.graph;
    let first = g.slice_axis(io.out[0], 1, 0, 2);
    let (kept, scaled) = (g.mul(skip, x), g.mul(out, first));
    let want = g.add(kept, scaled);
    let want = run(&b.graph, want);
    let far = found.iter().zip(&want).map(|(a, b)| (a - b).abs() / (1.0 + b.abs()));
    let worst = far.fold(0.0_f32, |a, b| if b.is_nan() { b } else { a.max(b) });
    assert!(worst < 2e-5, "differs by {worst:e}");
}

/// Guidance of the first channel only: there it is D_0 + s (D_c - D_0), in the others D_c.
#[test]
fn guidance_leaves_the_other_channels_alone() {
    let about = rows().into_iter().find(|r| r["model"] == "dit").unwrap();
    let denoised = |guidance: Option<Value>, null: bool| {
        let mut row = Row::new(&about);
        if let Some(config) = guidance {
            row.parts.guidances = vec![registry().guidance("cfg", &config).unwrap()];
        }
        let (mut b, x, level) = row.build();
        if null {
            b.cond[0] = b.graph.full(row.parts.conds[0].null_value, DType::I32, &[row.rows]);
        }
        let eval = Eval { phase: 0, x: vec![x], sigma: vec![level], cond: None };
        let d = b.denoise(0, &[eval]).unwrap()[0][0];
        run(&b.graph, d)
    };
    let (with, without) = (denoised(None, false), denoised(None, true));
    let found = denoised(Some(json!({"scale": 3.0, "channels": 1})), false);
    let (per_row, first) = (with.len() / 2, with.len() / 4); // two rows of two channels
    let mut far = 0.0_f32;
    for (i, found) in found.iter().enumerate() {
        let guided = i % per_row < first;
        let want = if guided { without[i] + 3.0 * (with[i] - without[i]) } else { with[i] };
        far = far.max((found - want).abs());
        assert!(guided || *found == with[i], "{i}: {found} is not that of D_c, {}", with[i]);
    }
    assert!(far < 1e-4, "differs by {far:e}");
    let moved = with.iter().zip(&without).any(|(a, b)| (a - b).abs() > 1e-2);
    assert!(moved, "the condition does nothing");
}
