//! From tables to a training: which table is which component or condition, what is fitted to the data, its statistics in
//! the coordinate of its process, and the description the model file will carry.

use super::manifest::{Manifest, Part};
use super::model::Lender;
use super::moments::Moments;
use super::recipe::Recipe;
use super::setting::Setting;
use super::{Engine, OpenModel, complete, schedulers};
use crate::base::{DType, Desc, Result};
use crate::exec::{Interrupt, RunKey, SessionBuilder};
use crate::mem::{Tensor, reserved, zeros};
use crate::plugin::Kind;
use crate::sample::build::{Network, Parts};
use crate::sample::{Build, Component, ProcessFn, Space, Stats, classes};
use crate::train::Dataset;
use crate::train::data::{Column, Read, Tables};
use crate::train::objective::{Objective, REWARDS, of_examples};
use crate::{bail, fail};
use serde_json::json;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Most values that a process is fitted to and that statistics are taken from.
const MOST_MEASURED: usize = 1 << 20;

/// Everything a training is built from.
pub(super) struct Prepared {
    pub(super) parts: Parts,
    pub(super) manifest: Manifest,
    pub(super) train: Dataset,
    pub(super) held_out: Option<Dataset>,
    /// Of the networks that stay as they are.
    pub(super) lenders: Vec<Lender>,
}

pub(super) fn prepare(engine: &Arc<Engine>, recipe: &Recipe, read: Read) -> Result<Prepared> {
    let Read { train: mut tables, mut held_out, series, about, .. } = read;
    let objective = engine.objective(&engine.resolve(Kind::Objective, &recipe.objective)?)?;
    let worth = match of_examples(&*objective)? {
        false => [None, None],
        true => {
            let of = |tables: &mut Tables| worth(tables, &*objective);
            [Some(of(&mut tables)?), held_out.as_mut().map(of).transpose()?]
        }
    };
    let [worth, held_worth] = worth;
    let mut model = engine.resolve(Kind::Model, &recipe.model)?;
    complete::sizes(engine, &mut model, &tables)?;
    let info = engine.model(&model)?.info()?;
    // several columns stand one after another in `series`: no neighbours in time across their seams
    let one_column = |name: &str| tables.get(name).is_some_and(|t| t.dims().len() == 2);
    let ordered =
        !series.is_empty() && matches!(&info.components[..], [only] if one_column(&only.name));

    let mut components = Vec::new();
    let mut processes = Vec::new();
    for (c, component) in info.components.iter().enumerate() {
        let Some(table) = tables.get(&component.name) else {
            bail!(
                NotFound,
                "no table for the component {} of model {}; there are: {}",
                component.name,
                model.id,
                tables.listed()
            );
        };
        let dims = free_sizes(component, table)?;
        components.push(Component { dims, dtype: DType::F32, ..component.clone() });
        let Some(process) = recipe.process.get(if recipe.process.len() == 1 { 0 } else { c })
        else {
            bail!(
                Invalid,
                "{} processes, model {} has {} components",
                recipe.process.len(),
                model.id,
                info.components.len()
            );
        };
        let mut process = engine.resolve(Kind::Process, process)?;
        schedulers::tell_time(&mut process, &[info.predicts])?;
        processes.push(process);
    }
    let mut values = Vec::new();
    let mut laws = Vec::new();
    let mut stats = Vec::new();
    let mut positive = Vec::new();
    for ((component, process), c) in components.iter().zip(&mut processes).zip(0..) {
        if component.space == Space::Discrete {
            laws.push(engine.process(process)?);
            stats.push(Stats::default());
            positive.push(false);
            values.push(Cow::Owned(Vec::new()));
            continue;
        }
        let known = match ordered {
            true => Cow::Borrowed(series.as_slice()),
            false => Cow::Owned(sampled(&tables, &component.name)?),
        };
        complete::process(engine, process, &known, ordered)?;
        let law = engine.process(process)?;
        let moments =
            Moments::of(&known).map_err(|e| e.within(format!("component {}", component.name)))?;
        let of = Stats { x_mean: moments.mean, x_var: moments.variance, ..Stats::default() };
        positive.push(law.info(&of)?.positive);
        if positive[c] {
            // c counts what was pushed just now
            for table in [Some(&tables), held_out.as_ref()].into_iter().flatten() {
                check_positive(table, &component.name, &process.id)?;
            }
        }
        laws.push(law);
        stats.push(of);
        values.push(known);
    }
    if tables.get("history").is_some()
        && let (Some(known), Some(positive)) = (values.first(), positive.first())
    {
        complete::scales(engine, &mut model, known, *positive)?;
    }
    let network = engine.model(&model)?;
    let conds = network.info()?.conds;
    let mut networks = vec![Network { slot: "base".into(), model: network, lora: None }];
    let mut lenders = Vec::new();
    for (slot, path) in &recipe.networks {
        if slot == "base" {
            bail!(Invalid, "training config: networks names base, which is what trains");
        }
        let lent = OpenModel::lender(engine, slot, path)?;
        let model = Arc::clone(&lent.network);
        networks.push(Network { slot: slot.clone(), model, lora: None });
        lenders.push(lent);
    }
    schedulers::frame(&mut networks, &processes);
    let mut parts = Parts {
        components,
        processes: laws,
        stats,
        conds,
        networks,
        guidances: Vec::new(),
        float: DType::F32,
        weight_dtype: DType::F32,
    };
    let train = bound(&tables, &parts, &model, worth)?;
    let held_out = held_out.map(|t| bound(&t, &parts, &model, held_worth)).transpose()?;
    let measured = (0..parts.components.len()).map(|c| match parts.components[c].space {
        Space::Continuous => coordinate(engine, &parts, c, &values[c]), // one list per component
        Space::Discrete => Ok(Stats::default()),
    });
    parts.stats = measured.collect::<Result<_>>()?;
    let (train, held_out) = match held_out {
        Some(held) => (train, Some(held)),
        None if recipe.data.held_out > 0.0 => {
            let (train, held) = train.aside(recipe.data.held_out, recipe.plan.seed);
            (train, Some(held))
        }
        None => (train, None),
    };
    let manifest = describe(engine, recipe, about, model, processes, &parts)?;
    Ok(Prepared { parts, manifest, train, held_out, lenders })
}

/// Values of a component spread evenly over its examples.
fn sampled(tables: &Tables, name: &str) -> Result<Vec<f64>> {
    let Some(table) = tables.get(name) else {
        bail!(Internal, "no table {name}");
    };
    let width: usize = table.dims().iter().skip(1).product();
    let column = Column::fit(name, table, Desc::new(DType::F32, &table.dims()[1..])?)?; // has rows
    let n = column.len();
    let rows = (MOST_MEASURED / width.max(1)).clamp(1, n.max(1)).min(n);
    let mut out = reserved(rows.saturating_mul(width), "the values that are measured")?;
    for k in 0..rows {
        out.extend(column.floats(k * n / rows)?.iter().map(|v| f64::from(*v)));
    }
    Ok(out)
}

fn check_positive(tables: &Tables, name: &str, process: &str) -> Result<()> {
    let Some(table) = tables.get(name) else { return Ok(()) };
    let values = table.elements::<f32>()?;
    match values.iter().position(|v| *v <= 0.0) {
        None => Ok(()),
        Some(i) => bail!(
            Invalid,
            "process {process} wants positive data, {name} has {} in example {}",
            values[i],
            i * tables.len() / values.len().max(1)
        ),
    }
}

/// The sizes of a component for its table: those of a row, with an axis of 1 before or behind where the model has one.
fn free_sizes(component: &Component, table: &Tensor) -> Result<Vec<i64>> {
    let row: Vec<i64> = table.dims().iter().skip(1).map(|d| *d as i64).collect();
    let fits = |dims: &[i64]| {
        dims.len() == component.dims.len()
            && dims.iter().zip(&component.dims).all(|(d, want)| *want < 0 || d == want)
    };
    let tight: Vec<i64> = row.iter().copied().filter(|d| *d != 1).collect();
    let forms = [row.clone(), [&row[..], &[1]].concat(), [&[1], &row[..]].concat(), tight];
    forms.into_iter().find(|d| fits(d)).ok_or_else(|| {
        fail!(
            Invalid,
            "the model's state {} is {:?}, the table of it is {}",
            component.name,
            component.dims,
            table.desc()
        )
    })
}

/// Conditions of networks of other programs, and what the readers of data call the same.
const ALSO: &[(&str, &str)] = &[("class_labels", "label")];

/// What the objective is told of each example: a table that is no condition of the network, which would read it.
fn worth(tables: &mut Tables, objective: &dyn Objective) -> Result<Column> {
    let Some(table) = tables.take(REWARDS) else {
        bail!(
            NotFound,
            "the objective is told what each example is worth: want a table {REWARDS}; there are: {}",
            tables.listed()
        );
    };
    let n = objective.info()?.n_rewards.max(1) as usize;
    // a row of one whole number would become n indicators
    if n > 1 && table.desc().dtype == DType::I32 && table.dims().iter().skip(1).all(|d| *d == 1) {
        bail!(Invalid, "table {REWARDS} is {}, want {n} numbers per example", table.desc());
    }
    Column::fit(REWARDS, &table, Desc::new(DType::F32, &[n])?)
}

/// The tables as the model takes them, and what examples are worth; every table must have a use.
fn bound(
    tables: &Tables,
    parts: &Parts,
    model: &Setting,
    worth: Option<Column>,
) -> Result<Dataset> {
    let mut tables = tables.clone();
    let mut x = Vec::new();
    for (c, component) in parts.components.iter().enumerate() {
        let want = parts.state(c, 1)?;
        let want = Desc::new(want.dtype, want.dims().get(1..).unwrap_or_default())?;
        let Some(table) = tables.take(&component.name) else {
            bail!(NotFound, "no table for the component {}", component.name);
        };
        if component.space == Space::Discrete && table.desc().dtype == DType::I32 {
            let outside = |t: &&i32| **t < 0 || **t as u64 >= u64::from(component.classes);
            if let Some(token) = table.elements::<i32>()?.iter().find(outside) {
                bail!(
                    Invalid,
                    "table {}: token {token}, want 0 to {}",
                    component.name,
                    component.classes.saturating_sub(1)
                );
            }
        }
        x.push(Column::fit(&component.name, &table, want)?);
    }
    let mut cond = Vec::new();
    for (c, known) in parts.conds.iter().zip(classes::of(parts)?) {
        let also = ALSO.iter().find(|a| a.0 == c.name).map(|a| a.1);
        let found = tables.take(&c.name).or_else(|| also.and_then(|name| tables.take(name)));
        let Some(table) = found else {
            bail!(
                NotFound,
                "model {} takes a condition {}, the data has no such table",
                model.id,
                c.name
            );
        };
        if let (true, Some(n)) = (c.desc.dtype == DType::I32, known) {
            classes::check(&c.name, &table, n)?;
        }
        cond.push(Column::fit(&c.name, &table, c.desc)?);
    }
    let odd = tables.iter().next().map(|(name, _)| name.to_owned());
    if let Some(odd) = odd {
        let names: Vec<&str> = parts.conds.iter().map(|c| c.name.as_str()).collect();
        bail!(
            Invalid,
            "model {} has no use for the table {odd}: its conditions are {}",
            model.id,
            if names.is_empty() { "none".to_owned() } else { names.join(", ") }
        );
    }
    cond.extend(worth);
    Dataset::of(x, cond)
}

/// Mean and variance of the data, and of it in the coordinate of its process.
fn coordinate(engine: &Engine, parts: &Parts, c: usize, known: &[f64]) -> Result<Stats> {
    let state = parts.state(c, 1)?;
    let width = state.shape.elements().max(1);
    let values = &known[..known.len().min(MOST_MEASURED.max(width)) / width * width];
    let rows = values.len() / width;
    let mut b = Build::new(parts, rows)?;
    let desc = Desc::new(parts.float, &[&[rows], &state.dims()[1..]].concat())?;
    let x = b.graph.input("x", desc);
    let w = b.process(c, ProcessFn::Encode, 0, &[x])?;
    let Some(&w) = w.first() else {
        bail!(Plugin, "encode gave nothing");
    };
    if b.graph.desc(w) != desc {
        bail!(Plugin, "encode gave {} for {desc}", b.graph.desc(w));
    }
    let graph = b.graph;
    let mut session = SessionBuilder::new(Arc::clone(engine.backend()));
    let (from, to) = (session.buffer("x", desc), session.buffer("w", desc));
    let plan = session.plan(&graph, &[from], &[(w, to)], &[])?;
    let mut session = session.allocate(engine.budget())?;
    let mut bytes = zeros(values.len() * 4, "the values that are measured")?;
    for (out, v) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(values) {
        *out = (*v as f32).to_le_bytes();
    }
    session.write(from, &bytes)?;
    let key = RunKey { seed: 0, step: 0, first_sample: 0 };
    session.run(plan, key, &mut || Interrupt::Continue)?;
    session.read(to, &mut bytes)?;
    let mut w = reserved(values.len(), "the values that are measured")?;
    w.extend(bytes.as_chunks::<4>().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))));
    let (x, w) = (Moments::of(values)?, Moments::of(&w)?);
    Ok(Stats { x_mean: x.mean, x_var: x.variance, w_mean: w.mean, w_var: w.variance })
}

fn describe(
    engine: &Engine,
    recipe: &Recipe,
    data: serde_json::Map<String, serde_json::Value>,
    model: Setting,
    processes: Vec<Setting>,
    parts: &Parts,
) -> Result<Manifest> {
    let o = &recipe.plan.optimizer;
    let provenance = json!({
        "created_by": concat!("diffx ", env!("CARGO_PKG_VERSION")),
        "seed": recipe.plan.seed,
        "config": {
            "objective": recipe.objective.to_value(), "steps": recipe.plan.steps, "batch": recipe.plan.batch,
            "rate": o.rate, "warmup": o.warmup, "schedule": o.schedule.name(),
            "decay": o.decay, "clip": o.clip, "ema": o.ema,
            "stride": recipe.data.stride,
        },
    });
    let components = parts.components.iter().zip(&parts.stats).zip(processes);
    let mut manifest = Manifest {
        model,
        components: components
            .map(|((c, stats), process)| Part {
                name: c.name.clone(),
                dims: c.dims.clone(),
                process,
                stats: *stats,
                sigma_min: None,
                sigma_max: None,
            })
            .collect(),
        networks: BTreeMap::new(),
        sampler: recipe.sampler.clone(),
        grid: recipe.grid.clone(),
        guidance: recipe.guidance.clone(),
        steps: recipe.sample_steps,
        data,
        pilot: None,
        provenance: provenance.as_object().cloned().unwrap_or_default(),
    };
    engine.canonical(&mut manifest)?;
    Ok(manifest)
}
