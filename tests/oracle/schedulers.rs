//! Schedulers of diffusers: loops whose network is given call by call, through the pipeline's own graphs; and the
//! levels of noising.

use crate::array::Array;
use crate::case::Test;
use crate::compare::Got;
use crate::{Answer, Row};
use diffx::base::{DType, Desc, Result as Done};
use diffx::engine::schedulers::{self, Framed, run::Asked, run::Run};
use diffx::engine::{Engine, OpenModel};
use diffx::exec::WeightBinding;
use diffx::graph::{AttrKey, Attrs, NodeId, Op, Weight};
use diffx::mem::Budget;
use diffx::sample::{
    Advance, Binder, Build, Component, Cond, Model, ModelInfo, ModelIo, Network, Parts, Predicts,
    Program, Replay, Request, Rows, SlotDecl, Space, Stats,
};
use serde_json::{Map, Value};
use std::sync::Arc;

pub(crate) const KINDS: &[Row] = &[
    Row { kind: "scheduler.loop", cases: &["schedulers"], run: looped },
    Row { kind: "scheduler.add_noise", cases: &["schedulers"], run: noised },
    Row { kind: "scheduler.get_velocity", cases: &["schedulers"], run: velocity },
    Row { kind: "pipeline.unconditional", cases: &["ddpm_unet2d"], run: unconditional },
];

/// The config of a test: a folder with the file, or the config itself with the class beside it.
pub(crate) fn config(test: &Test) -> Answer<Map<String, Value>> {
    let Some(folder) = test.params["config_dir"].as_str() else {
        let mut map = test.params["config"].as_object().cloned().ok_or("no config")?;
        let class = test.params["cls"].as_str().unwrap_or("DDPMScheduler");
        map.insert("_class_name".into(), class.into());
        return Ok(map);
    };
    let path = test.home.join(folder).join("scheduler_config.json");
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    schedulers::parse(&text).map_err(|e| e.to_string())
}

/// What a test asks of its scheduler.
pub(crate) fn asked(params: &Value) -> Answer<Asked> {
    let steps = params["num_inference_steps"].as_u64().unwrap_or(1) as usize;
    let mut asked = Asked::steps(steps);
    for (key, value) in
        ["set_timesteps", "step"].iter().flat_map(|k| params[*k].as_object()).flatten()
    {
        let number = || value.as_f64().ok_or_else(|| format!("{key} is {value}"));
        match key.as_str() {
            "eta" => asked.eta = Some(number()?),
            "use_clipped_model_output" => asked.use_clipped_model_output = value == true,
            "s_churn" => asked.s_churn = number()?,
            "s_tmin" => asked.s_tmin = number()?,
            "s_tmax" => asked.s_tmax = value.as_f64().unwrap_or(f64::INFINITY),
            "s_noise" => asked.s_noise = number()?,
            "mu" => asked.mu = Some(number()?),
            "order" => asked.order = number()? as usize,
            "sigmas" => {
                let list = value.as_array().into_iter().flatten().filter_map(Value::as_f64);
                asked.sigmas = Some(list.collect());
            }
            other => return Err(format!("params ask for {other}, which is not known here")),
        }
    }
    Ok(asked)
}

/// A network that answers call k with row k of its condition `outputs`.
struct Recorded {
    dims: Vec<i64>,
    /// Of an output: with a learned variance twice the channels.
    output: Vec<usize>,
    calls: usize,
}

impl Model for Recorded {
    fn info(&self) -> Done<ModelInfo> {
        Ok(ModelInfo {
            predicts: Predicts::Residual,
            components: vec![Component {
                name: "x".into(),
                dtype: DType::F32,
                dims: self.dims.clone(),
                space: Space::Continuous,
                classes: 0,
            }],
            conds: vec![Cond {
                name: "outputs".into(),
                desc: Desc::new(DType::F32, &[&[self.calls], self.output.as_slice()].concat())?,
                null_value: 0.0,
            }],
            slots: ["call", "time"]
                .map(|name| SlotDecl {
                    name: name.into(),
                    desc: Desc::new(DType::F32, &[1]).expect("a rank we have"),
                    free: true,
                    init: 0.0,
                })
                .into(),
        })
    }

    fn build(&self, b: &mut Build<'_>, io: &mut ModelIo) -> Done<()> {
        let g = &mut b.graph;
        let (outputs, call) = (io.cond[0], io.slots[0]);
        let dims = g.desc(outputs).dims().to_vec();
        let mut sum: Option<NodeId> = None;
        for k in 0..self.calls {
            let mut from = vec![0; dims.len()];
            let mut to = dims.clone();
            (from[1], to[1]) = (k, k + 1);
            let attrs = Attrs::NONE.with_dims(AttrKey::Start, &from).with_dims(AttrKey::Stop, &to);
            let row = g.emit(Op::Slice, &[outputs], attrs);
            let own = [&dims[..1], &dims[2..]].concat();
            let row = g.emit(Op::Reshape, &[row], Attrs::NONE.with_dims(AttrKey::Shape, &own));
            let mut ones = vec![1; own.len()];
            ones[0] = dims[0];
            let call = g.emit(Op::Reshape, &[call], Attrs::NONE.with_dims(AttrKey::Shape, &ones));
            let k = g.scalar(k as f64);
            let now = g.binary(Op::Eq, call, k);
            let cast = Attrs::NONE.with_int(AttrKey::DType, i64::from(DType::F32.code()));
            let now = g.emit(Op::Cast, &[now], cast);
            let part = g.binary(Op::Mul, now, row);
            sum = Some(sum.map_or(part, |s| g.binary(Op::Add, s, part)));
        }
        let one = g.scalar(1.0);
        io.slots_out[0] = g.binary(Op::Add, call, one);
        let attrs = Attrs::NONE.with_dims(AttrKey::Shape, &[dims[0], 1]);
        io.slots_out[1] = g.emit(Op::Reshape, &[io.sigma[0]], attrs);
        io.out[0] = sum.expect("a call");
        Ok(())
    }
}

/// Draws of a file in call order, the first being what the prior becomes the first sample by.
pub(crate) struct Given {
    pub draws: Vec<Vec<f32>>,
    pub next: usize,
}

impl diffx::sample::Noise for Given {
    fn fill(&mut self, out: &mut [f32]) -> Done<()> {
        let draw = self.draws.get(self.next).expect("as many draws as the file has");
        out.copy_from_slice(draw);
        self.next += 1;
        Ok(())
    }
}

/// The graphs of a pipeline of this network under a scheduler's settings.
fn planned(
    engine: &Engine,
    model: Arc<dyn Model>,
    t: &schedulers::Translated,
    batch: usize,
    bind: &mut Binder<'_>,
) -> Done<(Arc<Rows>, Replay)> {
    let info = model.info()?;
    let parts = Parts {
        components: info.components,
        processes: vec![engine.process(&t.process)?],
        stats: vec![Stats::default()],
        conds: info.conds,
        networks: vec![Network { slot: "base".into(), model, lora: None }],
        guidances: Vec::new(),
        float: DType::F32,
        weight_dtype: DType::F32,
    };
    let (sampler, grid) = (engine.sampler(&t.sampler)?, engine.grid(&t.grid)?);
    let knots = grid.knots(t.steps, t.sigma_min, t.sigma_max)?;
    let mut rows = Rows::new(&*sampler, &parts, &[knots])?;
    rows.given_noise = true;
    let rows = Arc::new(rows);
    let backend: Arc<dyn diffx::exec::Backend> = Arc::new(diffx::cpu::Cpu::new(1));
    let mut session = diffx::exec::SessionBuilder::new(backend);
    let program = Program::new(&parts, &*sampler, &rows, batch, true, &mut session, bind)?;
    let session = session.allocate(&Budget::unlimited())?;
    Ok((rows, Replay::new(program, session)))
}

/// A loop under way.
struct Loop {
    replay: Replay,
    dims: Vec<usize>,
}

impl Loop {
    fn new(test: &Test, config: &Map<String, Value>, run: &Run) -> Answer<Self> {
        let text = |e: diffx::base::Error| e.to_string();
        let (outputs, first) = (test.input("model_output")?, test.input("x_init")?);
        if outputs.dims.first() != Some(&run.calls.len()) {
            return Err(format!("{} calls, the file has {:?}", run.calls.len(), outputs.dims));
        }
        // a network is asked once more for a variance that it learned
        let twice =
            |k: usize| std::iter::repeat_n(k, 1 + usize::from(run.calls[k].learned.is_some()));
        let order: Vec<usize> = (0..run.calls.len()).flat_map(twice).collect();
        let calls = order.len();
        let t = run.translate(config).map_err(text)?;
        let engine = crate::network::engine();
        let (dims, batch) = (first.dims.clone(), first.dims[0]);
        let own: Vec<i64> = dims[1..].iter().map(|d| *d as i64).collect();
        let model = Arc::new(Recorded { dims: own, output: outputs.dims[2..].to_vec(), calls });
        let (rows, mut replay) =
            planned(&engine, model, &t, batch, &mut |_| Ok(vec![])).map_err(text)?;
        // [calls, batch, ..] as the condition wants it: [batch, calls, ..]
        let size: usize = outputs.dims[2..].iter().product();
        let mut turned = Vec::with_capacity(outputs.values.len());
        for b in 0..batch {
            for k in &order {
                let at = (k * batch + b) * size;
                turned.extend_from_slice(&outputs.values[at..at + size]);
            }
        }
        let turned = Array::new(&[&[batch, calls], &outputs.dims[2..]].concat(), turned);
        let request = Request {
            seed: 0,
            first_sample: 0,
            n_samples: batch,
            preview_every: 1,
            conds: vec![("outputs".into(), turned.tensor(DType::F32))],
        };
        replay.begin(&rows, request, &[], &Budget::unlimited()).map_err(text)?;
        let mut draws = vec![first.map(|v| v / run.init).f32()];
        if test.has_input("noise") {
            let noise = test.input("noise")?;
            draws.extend((0..noise.dims[0]).map(|k| noise.at(k).f32()));
        }
        replay.give_noise(Box::new(Given { draws, next: 0 })).map_err(text)?;
        Ok(Self { replay, dims })
    }

    fn floats(bytes: &[u8]) -> Vec<f64> {
        let float = |b: &[u8]| f64::from(f32::from_ne_bytes([b[0], b[1], b[2], b[3]]));
        bytes.chunks_exact(4).map(float).collect()
    }

    fn state(&self) -> Vec<f64> {
        let mut bytes = vec![0; 4 * self.dims.iter().product::<usize>()];
        self.replay.read_state(0, &mut bytes).expect("the state");
        Self::floats(&bytes)
    }

    fn shown(&self) -> Vec<f64> {
        let mut bytes = vec![0; 4 * self.dims.iter().product::<usize>()];
        self.replay.read_preview(0, &mut bytes).expect("a preview");
        Self::floats(&bytes)
    }
}

fn looped(test: &Test, got: &mut Got) -> Answer {
    let config = config(test)?;
    let asked = asked(&test.params)?;
    let run = schedulers::plan(&config, &asked).map_err(|e| e.to_string())?;
    let mut l = Loop::new(test, &config, &run)?;
    let calls = run.calls.len();
    let scales = run.scales();
    let all = [&[calls], l.dims.as_slice()].concat();
    let (mut samples, mut inputs, mut shown) = (Vec::new(), Vec::new(), Vec::new());
    let mut begun = false;
    loop {
        match l.replay.advance(&mut || diffx::exec::Interrupt::Continue) {
            Ok(Advance::Stage) if !begun => {
                begun = true;
                inputs.push(l.state());
            }
            Ok(Advance::Row) => {
                let (state, k) = (l.state(), inputs.len());
                samples.extend(state.iter().map(|w| w * scales[k]));
                inputs.push(state);
            }
            Ok(Advance::Preview) => shown.extend(l.shown()),
            Ok(Advance::Done) => break,
            Ok(_) => {}
            Err(e) => return Err(e.to_string()),
        }
    }
    let list = |values: Vec<f64>| Array::new(&[values.len()], values);
    for (name, _) in &test.outputs {
        match name.as_str() {
            "timesteps" if test.params["cls"] == "ScoreSdeVeScheduler" => {
                let want = test.expected(name)?.values.len();
                let times = diffx::engine::schedulers::betas::linspace_f32(
                    1.0,
                    config["sampling_eps"].as_f64().unwrap_or(1e-5),
                    want,
                );
                got.put(name, list(times.iter().map(|t| f64::from(*t)).collect()));
            }
            "timesteps" => got.put(name, list(run.calls.iter().map(|c| c.time).collect())),
            "sigmas" => got.put(name, list(run.sigmas.clone())),
            "prev_samples" => got.put(name, Array::new(&all, samples.clone())),
            "pred_original" => got.put(name, Array::new(&all, shown.clone())),
            "scaled_inputs" => {
                let frames = inputs.iter().zip(run.levels()).take(calls);
                let scaled = frames.flat_map(|(w, level)| {
                    let by = match run.frame {
                        schedulers::run::Frame::Edm { data } => level * level + data * data,
                        _ => level * level + 1.0,
                    };
                    w.iter().map(move |w| w / by.sqrt()).collect::<Vec<_>>()
                });
                got.put(name, Array::new(&all, scaled.collect()));
            }
            "alphas_cumprod" => {
                let chain = run.chain.as_ref().ok_or("no chain")?;
                got.put(name, list(chain.bars.iter().map(|a| f64::from(*a)).collect()));
            }
            "betas" => {
                let chain = run.chain.as_ref().ok_or("no chain")?;
                got.put(name, list(chain.betas.iter().map(|a| f64::from(*a)).collect()));
            }
            "discrete_sigmas" => got.put(name, list(run.discrete.clone())),
            "is_corrector" => {
                let is = run.calls.iter().map(|c| f64::from(u8::from(c.snr.is_some())));
                got.put(name, list(is.collect()));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Data and noise at times of the scheduler.
fn noised(test: &Test, got: &mut Got) -> Answer {
    let config = config(test)?;
    let asked = asked(&test.params)?;
    let run = schedulers::plan(&config, &asked).map_err(|e| e.to_string())?;
    let (x, noise, times) = (test.input("x")?, test.input("noise")?, test.input("timesteps")?);
    let mut out = Vec::new();
    for (k, t) in times.values.iter().enumerate() {
        let at = run.noising(*t).map_err(|e| e.to_string())?;
        let mixed = x.at(k).zip(&noise.at(k), |x, z| at.alpha * x + at.sigma * z);
        out.extend(mixed.values);
    }
    got.put("noisy", Array::new(&x.dims, out));
    Ok(())
}

fn velocity(test: &Test, got: &mut Got) -> Answer {
    let config = config(test)?;
    let run = schedulers::plan(&config, &Asked::steps(1)).map_err(|e| e.to_string())?;
    let (x, noise, times) = (test.input("x")?, test.input("noise")?, test.input("timesteps")?);
    let mut out = Vec::new();
    for (k, t) in times.values.iter().enumerate() {
        let at = run.noising(*t).map_err(|e| e.to_string())?;
        out.extend(x.at(k).zip(&noise.at(k), |x, z| at.alpha * z - at.sigma * x).values);
    }
    got.put("v", Array::new(&x.dims, out));
    Ok(())
}

/// A whole pipeline: the network of the folder under its scheduler, from given latents and draws.
fn unconditional(test: &Test, got: &mut Got) -> Answer {
    let text = |e: diffx::base::Error| e.to_string();
    let folder = test.checkpoint()?;
    let mut config = schedulers::open(&folder).map_err(text)?;
    if let Some(class) = test.params["scheduler"].as_str() {
        config.insert("_class_name".into(), class.into()); // another class made from this config
    }
    let mut asked = Asked::steps(test.number("steps")? as usize);
    asked.eta = test.params["eta"].as_f64();
    let run = schedulers::plan(&config, &asked).map_err(text)?;
    let t = run.translate(&config).map_err(text)?;
    let engine = crate::network::engine();
    let unet = folder.join("unet");
    let open = OpenModel::open(&engine, &unet.to_string_lossy(), "").map_err(text)?;
    let first = test.input("latents")?;
    let model = Arc::new(Sized {
        inner: Framed(Arc::clone(open.network("base").ok_or("no network")?)),
        dims: first.dims[1..].iter().map(|d| *d as i64).collect(),
    });
    let mut bind = |weights: &[Weight]| {
        let all: Vec<&Weight> = weights.iter().collect();
        let tensors = open.bind("base", &all)?;
        Ok(tensors.into_iter().map(WeightBinding::Tensor).collect())
    };
    let (rows, replay) = planned(&engine, model, &t, first.dims[0], &mut bind).map_err(text)?;
    let mut l = Loop { replay, dims: first.dims.clone() };
    let request = Request {
        seed: 0,
        first_sample: 0,
        n_samples: first.dims[0],
        preview_every: 0,
        conds: Vec::new(),
    };
    l.replay.begin(&rows, request, &[], &Budget::unlimited()).map_err(text)?;
    let mut draws = vec![first.map(|v| v / run.init).f32()];
    if test.has_input("noise") {
        let noise = test.input("noise")?;
        draws.extend((0..noise.dims[0]).map(|k| noise.at(k).f32()));
    }
    l.replay.give_noise(Box::new(Given { draws, next: 0 })).map_err(text)?;
    let (scales, mut latents, mut image) = (run.scales(), Vec::new(), Vec::new());
    let mut row = 0;
    loop {
        match l.replay.advance(&mut || diffx::exec::Interrupt::Continue).map_err(text)? {
            Advance::Row => {
                row += 1;
                image = l.state().iter().map(|w| w * scales[row]).collect();
                latents.extend(image.iter().copied());
            }
            Advance::Done => break,
            _ => {}
        }
    }
    got.put("latents", Array::new(&[&[row], first.dims.as_slice()].concat(), latents));
    let shown = image.iter().map(|v| (0.5 * v + 0.5).clamp(0.0, 1.0)).collect();
    got.put("image", Array::new(&first.dims, shown));
    Ok(())
}

/// A network of any size for one.
struct Sized {
    inner: Framed,
    dims: Vec<i64>,
}

impl Model for Sized {
    fn info(&self) -> Done<ModelInfo> {
        let mut info = self.inner.info()?;
        if let Some(c) = info.components.first_mut() {
            c.dims.clone_from(&self.dims);
        }
        Ok(info)
    }

    fn build(&self, b: &mut Build<'_>, io: &mut ModelIo) -> Done<()> {
        self.inner.build(b, io)
    }
}
