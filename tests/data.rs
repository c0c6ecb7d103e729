//! Training data from memory, from safetensors, from pictures and from several series, through the engine as a host
//! would: what meets what, what is refused, what the file says afterwards.

use diffx::base::{DType, Desc, Status};
use diffx::engine::recipe::Recipe;
use diffx::engine::trainer::Trainer;
use diffx::engine::{Engine, Job, JobOptions, OpenModel, Options, Pipeline};
use diffx::exec::Interrupt;
use diffx::mem::{Budget, Tensor};
use diffx::weights::{Out, write};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

type Tables = Vec<(String, Arc<Tensor>)>;

fn engine() -> Arc<Engine> {
    Engine::new(Options { threads: 1, ..Options::default() }).unwrap()
}

fn scratch(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("diffx-data-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

fn floats(dims: &[usize], values: impl Fn(usize) -> f32) -> Arc<Tensor> {
    let n = dims.iter().product();
    let values: Vec<f32> = (0..n).map(values).collect();
    Arc::new(Tensor::from_f32(dims, &values, &Budget::unlimited()).unwrap())
}

fn labels(n: usize, of: impl Fn(usize) -> i32) -> Arc<Tensor> {
    let values: Vec<i32> = (0..n).map(of).collect();
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let desc = Desc::new(DType::I32, &[n]).unwrap();
    Arc::new(Tensor::from_bytes(desc, &bytes, &Budget::unlimited()).unwrap())
}

/// Two points apart, told by their label.
fn toy(n: usize) -> Tables {
    let x = floats(&[n, 2], |i| [1.0, 5.0][i / 2 % 2] + 0.1 * (i % 7) as f32);
    vec![("x".into(), x), ("label".into(), labels(n, |i| (i % 2) as i32))]
}

fn recipe(more: Value) -> Recipe {
    let mut all = json!({
        "model": {"id": "mlp", "config": {"width": 8, "depth": 1}}, "process": "ve",
        "steps": 6, "batch": 8, "seed": 2,
    });
    for (key, value) in more.as_object().unwrap() {
        all[key] = value.clone();
    }
    Recipe::parse(&all.to_string()).unwrap()
}

fn train(trainer: &mut Trainer) {
    while trainer.training().done() < trainer.training().steps() {
        trainer.advance(&mut || Interrupt::Continue).unwrap();
    }
}

fn refused(tables: Tables, more: Value) -> String {
    let e = Trainer::with_tables(&engine(), recipe(more), tables).err().unwrap();
    assert!(!e.message.contains('\n'));
    e.message
}

#[test]
fn tables_from_memory_train_a_conditional_model() {
    let dir = scratch("memory");
    let file = dir.join("m.safetensors");
    let engine = engine();
    let mut trainer =
        Trainer::with_tables(&engine, recipe(json!({"data": {"held_out": 0.25}})), toy(40))
            .unwrap();
    assert_eq!(
        (trainer.examples, trainer.what.as_str()),
        (30, "40 examples of x f32[40,2], label i32[40]")
    );
    train(&mut trainer);
    assert!(trainer.measure().unwrap().unwrap().loss.is_finite());
    trainer.save(&file).unwrap();
    let model = OpenModel::open(&engine, file.to_str().unwrap(), "").unwrap();
    assert_eq!(model.manifest.model.config["dims"], json!([2]));
    assert_eq!(model.manifest.model.config["conds"], json!({"label": 2}));
    assert_eq!(model.manifest.data["kind"], "memory");
    // the fit: 've' is centred at the mean of the data
    let center = model.manifest.components[0].process.config["center"].as_f64().unwrap();
    assert!((center - 3.3).abs() < 0.1, "{center}");
    let pipeline = Pipeline::new(&model, r#"{"sampler":"heun","grid":"edm","steps":4}"#).unwrap();
    let label = floats(&[2], |i| i as f32);
    let inputs = vec![("label".to_owned(), label)];
    let job = Job::start(&pipeline, JobOptions { n_samples: 3, inputs, ..JobOptions::default() });
    let job = job.unwrap();
    assert!(job.wait(Duration::from_secs(600)));
    assert_eq!(job.result("x").unwrap().dims(), [3, 2]);
    std::fs::remove_dir_all(&dir).unwrap();
}

/// The same numbers in a safetensors file, wider and from a file, are the same training.
#[test]
fn the_way_data_comes_in_does_not_matter() {
    let dir = scratch("ways");
    let path = dir.join("data.safetensors");
    let tables = toy(24);
    let doubles: Vec<u8> = tables[0]
        .1
        .elements::<f32>()
        .unwrap()
        .iter()
        .flat_map(|v| f64::from(*v).to_le_bytes())
        .collect();
    let longs: Vec<u8> = tables[1]
        .1
        .elements::<i32>()
        .unwrap()
        .iter()
        .flat_map(|v| i64::from(*v).to_le_bytes())
        .collect();
    let out = [
        Out { name: "x", desc: Desc::new(DType::F64, &[24, 2]).unwrap(), bytes: &doubles },
        Out { name: "label", desc: Desc::new(DType::I64, &[24]).unwrap(), bytes: &longs },
    ];
    write(&path, &BTreeMap::new(), &out).unwrap();
    let engine = engine();
    let weights = |mut t: Trainer| {
        train(&mut t);
        t.training().weights(false).unwrap()
    };
    let memory = Trainer::with_tables(&engine, recipe(json!({})), tables).unwrap();
    let stored = Trainer::new(&engine, recipe(json!({"data": {"path": path}}))).unwrap();
    assert_eq!(stored.manifest().data["kind"], "safetensors");
    assert_eq!(weights(memory), weights(stored));
    std::fs::remove_dir_all(&dir).unwrap();
}

/// A network of another program is trained from nothing; it calls labels by a name of its own.
#[test]
fn labels_reach_a_network_of_pictures() {
    let x = floats(&[24, 2, 4, 4], |i| ((i / 32 % 3) as f32 - 1.0) + 0.05 * (i % 7) as f32);
    let tables = vec![("x".to_owned(), x), ("label".into(), labels(24, |i| (i % 3) as i32))];
    let config = json!({
        "sample_size": 4, "patch_size": 2, "in_channels": 2, "out_channels": 2, "num_layers": 1,
        "num_attention_heads": 2, "attention_head_dim": 4, "num_embeds_ada_norm": 3, "time_scale": 100,
    });
    let more = json!({"model": {"id": "dit", "config": config}, "steps": 60, "rate": 0.01});
    let beyond = vec![tables[0].clone(), ("label".into(), labels(24, |i| (i % 5) as i32))];
    let said = refused(beyond, more.clone());
    assert!(said.contains("condition class_labels is 4, and the network knows 0 to 3"), "{said}");
    let mut trainer = Trainer::with_tables(&engine(), recipe(more), tables).unwrap();
    let table = "transformer_blocks.0.norm1.emb.class_embedder.embedding_table.weight";
    let row = |t: &Trainer, i: usize| -> Vec<u8> {
        let weights = t.training().weights(false).unwrap();
        let (.., bytes) = weights.iter().find(|w| w.0 == table).unwrap();
        bytes[i * 32..][..32].to_vec() // a row of 8 floats
    };
    let before: Vec<_> = (0..4).map(|i| row(&trainer, i)).collect();
    train(&mut trainer);
    let moved = |i: usize| row(&trainer, i) != before[i];
    assert!(moved(0) && moved(1) && moved(2), "no gradient reached the classes");
}

#[test]
fn what_does_not_meet_is_named() {
    let none = json!({});
    let x = |dims: &[usize]| ("x".to_owned(), floats(dims, |i| i as f32));
    let e = refused(vec![("y".into(), floats(&[4, 2], |i| i as f32))], none.clone());
    assert!(e.contains("no table for the component x of model org.diffx.mlp"), "{e}");
    assert!(e.contains("there are: y f32[4,2]"), "{e}");
    let narrow = json!({"model": {"id": "mlp", "config": {"dims": [3], "width": 8}}});
    let e = refused(vec![x(&[4, 2])], narrow);
    assert_eq!(e, "the model's state x is [3], the table of it is f32[4,2]");
    let e = refused(toy(8), json!({"model": "temporal"}));
    assert!(e.contains("model org.diffx.temporal has no use for the table label"), "{e}");
    let asks = json!({"model": {"id": "mlp", "config": {"dims": [2], "conds": {"z": 1}}}});
    let e = refused(vec![x(&[4, 2])], asks);
    assert!(e.contains("takes a condition z, the data has no such table"), "{e}");
    let few = json!({"model": {"id": "mlp", "config": {"conds": {"label": 3}}}});
    let mut tables = toy(8);
    tables[1].1 = labels(8, |i| i as i32);
    assert_eq!(refused(tables, few), "table label: label 3 of example 3, want 0 to 2");
    assert!(refused(vec![x(&[4, 2])], json!({"process": "gbm"})).contains("wants positive data"));
    let e = refused(toy(8), json!({"data": {"path": "a.csv"}}));
    assert_eq!(e, "data: a path and 2 tables are given, want one");
    let e = refused(toy(8), json!({"data": {"window": 3}}));
    assert!(e.starts_with("data: window is not for tables from memory"), "{e}");
    assert!(refused(vec![], none).contains("path is missing"));
    let mut long = toy(8);
    long[1].1 = labels(9, |_| 0);
    assert_eq!(refused(long, json!({})), "table label has 9 rows, x has 8");
    let odd = vec![("x".into(), floats(&[4, 2], |i| if i == 5 { f32::NAN } else { 1.0 }))];
    assert_eq!(refused(odd, json!({})), "table x: a value of example 2 is NaN");
}

#[test]
fn the_bytes_are_told_before() {
    let engine = engine();
    let tables = toy(4000);
    let told = Trainer::plan(&engine, recipe(json!({})), tables.clone()).unwrap();
    assert_eq!(engine.budget().used(), 0);
    let trainer = Trainer::with_tables(&engine, recipe(json!({})), tables).unwrap();
    assert_eq!(engine.budget().used(), told);
    assert_eq!(trainer.training().bytes(), told); // the tables are the host's
    drop(trainer);
    let small = Engine::new(Options { threads: 1, arena_bytes: told / 2, ..Options::default() });
    let e = Trainer::with_tables(&small.unwrap(), recipe(json!({})), toy(8)).err().unwrap();
    assert_eq!(e.status, Status::NoMemory);
}

#[test]
fn series_side_by_side_and_as_returns() {
    let dir = scratch("series");
    let line = |i: usize, v: f64| format!("2020-{:02}-{:02},{v}\n", i / 28 + 1, i % 28 + 1);
    let file = |name: &str, skip: usize| {
        let rows: String =
            (0..100).filter(|i| i % 50 != skip).map(|i| line(i, 10.0 + (i % 9) as f64)).collect();
        std::fs::write(dir.join(name), format!("date,close\n{rows}")).unwrap();
    };
    file("a.csv", 7);
    file("b.csv", 8);
    let data = json!({
        "path": [dir.join("a.csv"), dir.join("b.csv")], "window": 4, "history": 3,
        "values": "log_return", "split": "2020-04-01",
    });
    let model = json!({"id": "temporal", "config": {"width": 8, "depth": 1, "heads": 2}});
    let recipe = recipe(json!({"data": data, "model": model}));
    let mut trainer = Trainer::new(&engine(), recipe).unwrap();
    let m = trainer.manifest();
    assert_eq!(m.components[0].dims, [4, 2]);
    assert_eq!(m.model.config["channels"], 2);
    assert_eq!((m.data["column"].as_str(), trainer.skipped), (Some("close, close"), 2));
    assert_eq!(m.data["values"], "log_return");
    assert!(m.components[0].stats.x_var < 0.1, "{:?}", m.components[0].stats);
    train(&mut trainer);
    assert!(trainer.measure().unwrap().unwrap().loss.is_finite());
    std::fs::remove_dir_all(&dir).unwrap();
}

/// The end of one column and the start of the next are no neighbours in time.
#[test]
fn columns_of_two_levels_have_no_jump_between_them() {
    let path = scratch("levels").join("levels.csv");
    let line = |i: u32| {
        let day = format!("{}-{:02}-{:02}", 2000 + i / 336, i % 336 / 28 + 1, i % 28 + 1);
        let move_ = (f64::from(i) * 0.7).sin() * 0.01;
        format!("{day},{},{}\n", 10.0 * move_.exp(), 1000.0 * move_.exp())
    };
    let rows: String = (0..600).map(line).collect();
    std::fs::write(&path, format!("date,low,high\n{rows}")).unwrap();
    let data = json!({"path": path, "column": ["low", "high"], "window": 4, "history": 3});
    let model = json!({"id": "temporal", "config": {"width": 8, "depth": 1, "heads": 2}});
    let recipe = recipe(json!({"data": data, "model": model, "process": "gbm"}));
    let trainer = Trainer::new(&engine(), recipe).unwrap();
    let fitted = &trainer.manifest().components[0].process.config;
    // ln 100 between two of 1200 values would make it 0.13
    assert!(fitted.get("sigma").and_then(|s| s.as_f64()).is_none_or(|s| s < 0.05), "{fitted:?}");
}

#[test]
fn real_pictures_with_the_labels_of_their_folders() {
    let shared = std::env::var_os("DIFFX_SHARED")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let tiles = shared.join("data/tiles");
    if !tiles.exists() {
        println!("skipped: {} is missing", tiles.display());
        return;
    }
    let data = json!({"path": tiles, "channels": "rgba", "labels": "folders", "held_out": 0.1});
    let recipe = recipe(json!({"data": data, "steps": 2}));
    let mut trainer = Trainer::new(&engine(), recipe).unwrap();
    println!("{}: {} to train on", trainer.what, trainer.examples);
    assert_eq!(trainer.what, "3437 pictures of 32 by 32");
    assert_eq!(trainer.examples, 3437 - 344);
    let m = trainer.manifest();
    assert_eq!(m.components[0].dims, [32, 32, 4]);
    assert_eq!(m.model.config["conds"], json!({"label": 34}));
    assert_eq!(m.data["classes"].as_array().unwrap().len(), 34);
    // most of a tile is clear: -1 in every channel
    let s = m.components[0].stats;
    assert!((-0.9..-0.2).contains(&s.x_mean) && (0.2..0.8).contains(&s.x_var), "{s:?}");
    train(&mut trainer);
    assert!(trainer.measure().unwrap().unwrap().loss.is_finite());
}
