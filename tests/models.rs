//! Folders and files as other programs leave them: one network in every spelling gives the same bits, and what is wrong
//! with a folder is said in one sentence before any weight is read.

use diffx::base::{DType, Desc, Result};
use diffx::engine::schedulers::{self, run::Asked};
use diffx::engine::{
    Engine, Evaluation, Job, JobOptions, OpenModel, Options, Pipeline, families, inspect,
};
use diffx::mem::{Budget, Tensor};
use diffx::weights::{Out, Source, convert, write};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A folder of its own, gone at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("diffx-models-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn text(&self, name: &str, text: &str) -> &Self {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self
    }

    fn weights(&self, name: &str, tensors: &[(String, Tensor)]) -> &Self {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let out: Vec<Out<'_>> = tensors
            .iter()
            .map(|(name, t)| Out { name, desc: t.desc(), bytes: t.bytes() })
            .collect();
        write(&path, &BTreeMap::new(), &out).unwrap();
        self
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const CONFIG: &str = r#"{"_class_name":"MLPDiffusion","d_in":3,"num_classes":0,"is_y_cond":false,"dim_t":4,
    "rtdl_params":{"d_layers":[5],"dropout":0.0},"of_no_interest":[1,2]}"#;

/// Weights of that network, any numbers.
fn tensors() -> Vec<(String, Tensor)> {
    let shapes: [(&str, &[usize]); 10] = [
        ("proj.weight", &[4, 3]),
        ("proj.bias", &[4]),
        ("time_embed.0.weight", &[4, 4]),
        ("time_embed.0.bias", &[4]),
        ("time_embed.2.weight", &[4, 4]),
        ("time_embed.2.bias", &[4]),
        ("mlp.blocks.0.linear.weight", &[5, 4]),
        ("mlp.blocks.0.linear.bias", &[5]),
        ("mlp.head.weight", &[3, 5]),
        ("mlp.head.bias", &[3]),
    ];
    let made = shapes.iter().enumerate().map(|(k, (name, dims))| {
        let n = dims.iter().product::<usize>();
        let values = (0..n).map(|i| ((i * 7 + k * 3) % 11) as f32 / 8.0 - 0.5); // exact in f16
        ((*name).to_owned(), tensor(dims, &values.collect::<Vec<f32>>()))
    });
    made.collect()
}

fn tensor(dims: &[usize], values: &[f32]) -> Tensor {
    let mut t = Tensor::new(Desc::new(DType::F32, dims).unwrap(), &Budget::unlimited()).unwrap();
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    t.bytes_mut().copy_from_slice(&bytes);
    t
}

fn engine() -> Arc<Engine> {
    Engine::new(Options { no_threads: true, ..Options::default() }).unwrap()
}

fn open(path: &Path, config: &str) -> Result<Arc<OpenModel>> {
    OpenModel::open(&engine(), path.to_str().unwrap(), config)
}

fn output(model: &OpenModel) -> Vec<u8> {
    let x = Arc::new(tensor(&[2, 3], &[0.5, -1.0, 2.0, 0.25, 3.0, -0.5]));
    let t = Arc::new(tensor(&[2], &[3.0, 40.0]));
    let inputs = [("x".to_owned(), x), ("sigma".to_owned(), t)];
    let e = Evaluation { slot: "base", phase: 0, inputs: &inputs, outputs: &["x".to_owned()] };
    model.evaluate(&e, DType::F32).unwrap()[0].bytes().to_vec()
}

fn refusal(path: &Path) -> String {
    open(path, "").map(|_| ()).unwrap_err().message
}

#[test]
fn one_network_in_every_spelling() {
    let folder = Folder::new("spelling");
    let whole =
        folder.text("whole/config.json", CONFIG).weights("whole/model.safetensors", &tensors());
    let want = output(&open(&whole.0.join("whole"), "").unwrap());
    assert!(want.iter().any(|b| *b != 0));
    folder.text("own/config.json", CONFIG).weights("own/MyTable.safetensors", &tensors());
    assert_eq!(output(&open(&folder.0.join("own"), "").unwrap()), want, "by the only name");
    // the file itself, with the config beside it
    assert_eq!(output(&open(&folder.0.join("whole/model.safetensors"), "").unwrap()), want);

    let (mut first, mut second) = (tensors(), Vec::new());
    second.append(&mut first.split_off(4));
    let place = |list: &[(String, Tensor)], file: &str| -> Vec<(String, serde_json::Value)> {
        list.iter().map(|(n, _)| (n.clone(), file.into())).collect()
    };
    let (a, b) = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors");
    let map = [place(&first, a), place(&second, b)].concat();
    let map: serde_json::Map<String, serde_json::Value> = map.into_iter().collect();
    folder
        .text("shards/config.json", CONFIG)
        .text("shards/model.safetensors.index.json", &json!({"weight_map": map}).to_string())
        .weights(&format!("shards/{a}"), &first)
        .weights(&format!("shards/{b}"), &second);
    assert_eq!(output(&open(&folder.0.join("shards"), "").unwrap()), want);

    let under = |prefix: &str| -> Vec<(String, Tensor)> {
        tensors().into_iter().map(|(n, t)| (format!("{prefix}{n}"), t)).collect()
    };
    folder.text("wrapped/config.json", CONFIG);
    folder.weights("wrapped/model.safetensors", &under("module._denoise_fn."));
    assert_eq!(output(&open(&folder.0.join("wrapped"), "").unwrap()), want);

    let narrow = |to: DType| -> Vec<(String, Tensor)> {
        let as_type = |t: Tensor| convert::convert(t, to, &Budget::unlimited()).unwrap();
        tensors().into_iter().map(|(n, t)| (n, as_type(t))).collect()
    };
    folder.text("half/config.json", CONFIG);
    folder.weights("half/model.fp16.safetensors", &narrow(DType::F16));
    assert_eq!(output(&open(&folder.0.join("half"), r#"{"variant":"fp16"}"#).unwrap()), want);
    assert_eq!(output(&open(&folder.0.join("half"), "").unwrap()), want, "the only one there is");
    folder.weights("half/model.bf16.safetensors", &narrow(DType::BF16));
    assert!(refusal(&folder.0.join("half")).contains("name one as"), "two variants");
}

#[test]
fn what_is_wrong_is_said() {
    let folder = Folder::new("wrong");
    let at = |name: &str| folder.0.join(name);
    std::fs::create_dir_all(at("empty")).unwrap();
    assert!(refusal(&at("empty")).ends_with("holds neither model_index.json nor config.json"));
    folder.text("class/config.json", r#"{"_class_name":"MotionModel"}"#);
    let message = refusal(&at("class"));
    assert!(message.contains("config.json: no network here reads class MotionModel"), "{message}");
    folder.text("none/config.json", CONFIG);
    assert!(refusal(&at("none")).contains("holds no weights"), "{}", refusal(&at("none")));
    // the only file of its kind is opened, but never in the place of a variant
    folder.text("own/config.json", CONFIG).weights("own/foo.safetensors", &tensors());
    folder.text("own.gguf/config.json", CONFIG).text("own.gguf/foo.gguf", "GGUF");
    open(&at("own"), "").unwrap();
    for name in ["own", "own.gguf"] {
        let message = open(&at(name), r#"{"variant":"fp16"}"#).map(|_| ()).unwrap_err().message;
        assert!(message.contains("holds no weights of the variant fp16, want"), "{message}");
    }
    folder.text("pickled/config.json", CONFIG).text("pickled/model.bin", "PK\u{3}\u{4} and so on");
    assert!(refusal(&at("pickled")).contains("convert-pickle.py"), "{}", refusal(&at("pickled")));
    let index = r#"{"weight_map":{"proj.weight":"../whole/model.safetensors"}}"#;
    folder.text("out/config.json", CONFIG).text("out/model.safetensors.index.json", index);
    let message = refusal(&at("out"));
    assert!(message.contains("proj.weight: \"../whole/model.safetensors\""), "{message}");
    folder.text("gone/config.json", CONFIG);
    folder.text("gone/model.safetensors.index.json", &index.replace("../whole/", ""));
    assert!(refusal(&at("gone")).contains("shard model.safetensors is missing"));
    let mut twice = tensors();
    twice.extend(tensors().into_iter().map(|(n, t)| (format!("module.{n}"), t)));
    folder.text("twice/config.json", CONFIG).weights("twice/model.safetensors", &twice);
    let message = refusal(&at("twice"));
    assert!(message.contains("two tensors of it stand for"), "{message}");
    folder.text(
        "pipe/model_index.json",
        r#"{"_class_name":"P","../unet":["diffusers","UNet2DModel"],"unet":["diffusers","UNet2DModel"]}"#,
    );
    assert!(refusal(&at("pipe")).contains("is no name of a file in this folder"));
    assert!(open(&at("empty"), r#"{"variant":"../x"}"#).is_err());
    assert!(open(&at("empty"), r#"{"variants":"x"}"#).is_err());
}

#[test]
fn a_file_of_dit_is_known_by_its_tensors() {
    let folder = Folder::new("detected");
    let zeros = |name: &str, dims: &[usize]| {
        let desc = Desc::new(DType::U8, dims).unwrap();
        (name.to_owned(), Tensor::new(desc, &Budget::unlimited()).unwrap())
    };
    let mut list = vec![
        zeros("x_embedder.proj.weight", &[384, 4, 2, 2]),
        zeros("y_embedder.embedding_table.weight", &[11, 384]),
        zeros("final_layer.linear.weight", &[32, 384]),
        zeros("blocks.0.mlp.fc1.weight", &[1536, 384]),
        zeros("blocks.0.attn.qkv.weight", &[1152, 384]),
        zeros("blocks.1.attn.qkv.weight", &[1152, 384]),
        zeros("pos_embed", &[1, 64, 384]),
    ];
    folder.weights("SiT-S-2.safetensors", &list);
    let found = |file: &str| {
        families::detect(&Source::open(&folder.0.join(file)).unwrap()).map(Option::unwrap)
    };
    let want = json!({"_class_name": "SiT", "input_size": 16, "patch_size": 2, "in_channels": 4, "hidden_size": 384,
        "depth": 2, "num_heads": 6, "mlp_ratio": 4.0, "num_classes": 10, "learn_sigma": true});
    assert_eq!(serde_json::Value::Object(found("SiT-S-2.safetensors").unwrap()), want);
    folder.weights("ema.safetensors", &list);
    let message = found("ema.safetensors").unwrap_err().message;
    assert!(message.contains("do not say whether it is a DiT"), "{message}");
    list[0] = zeros("x_embedder.proj.weight", &[100, 4, 2, 2]);
    folder.weights("other.safetensors", &list);
    let message = found("other.safetensors").unwrap_err().message;
    assert!(message.contains("how many heads of attention 100 features make"), "{message}");
    folder.weights("table.safetensors", &tensors());
    assert!(refusal(&folder.0.join("table.safetensors")).contains("no family that is known"));
}

/// What a network was trained with is asked of its config before the family's own stands in.
#[test]
fn a_network_alone_follows_the_chain_its_config_tells() {
    let folder = Folder::new("chains");
    folder.weights("w.safetensors", &tensors());
    let source = Source::open(&folder.0.join("w.safetensors")).unwrap();
    let engine = engine();
    let chain = |config: serde_json::Value, over: serde_json::Value| {
        let (config, over) = (config.as_object().unwrap(), over.as_object().unwrap());
        let family = families::of(config).unwrap();
        family.manifest(&engine, config, &source, over).unwrap().provenance["scheduler"].clone()
    };
    let csdi = json!({"_class_name": "diff_CSDI", "num_steps": 100, "beta_end": 0.4});
    let told = chain(csdi, json!({"target_dim": 2, "length": 8}));
    assert_eq!((&told["num_train_timesteps"], &told["beta_end"]), (&json!(100), &json!(0.4)));
    let plain = chain(json!({"_class_name": "UNet2DModel"}), json!({}));
    assert_eq!(plain["_class_name"], "DDIMScheduler");
    let levels = json!({"_class_name": "UNet2DModel", "time_embedding_type": "fourier"});
    assert_eq!(chain(levels, json!({}))["_class_name"], "ScoreSdeVeScheduler");
}

#[test]
fn inspecting_tells_bytes_and_faults_without_opening() {
    let folder = Folder::new("inspected");
    let mut list = tensors();
    folder.text("m/config.json", CONFIG).weights("m/model.safetensors", &list);
    let path = folder.0.join("m");
    let told = inspect::inspect(&engine(), path.to_str().unwrap(), "", 8).unwrap();
    let row = &told["components"][0];
    assert_eq!(row["family"], "org.diffx.tabddpm");
    let values: u64 = list.iter().map(|(_, t)| t.desc().shape.elements() as u64).sum();
    assert_eq!((row["parameters"].as_u64(), row["values"].as_u64()), (Some(values), Some(values)));
    assert_eq!(row["weight_bytes"], values * 4);
    assert!(row["work_bytes"].as_u64().unwrap() >= 8 * 3 * 4, "at least the state");
    assert_eq!(row["dtypes"], json!({"F32": values}));
    assert!(row["fault"].is_null(), "{row}");
    list.remove(0);
    folder.weights("m/model.safetensors", &list);
    let told = inspect::inspect(&engine(), path.to_str().unwrap(), "", 8).unwrap();
    let fault = told["components"][0]["fault"].as_str().unwrap().to_owned();
    assert!(fault.contains("proj.weight"), "{fault}");
}

/// As diffusers writes it, with the word that is no JSON.
const DDIM: &str =
    r#"{"_class_name":"DDIMScheduler","clip_sample":false,"lambda_min_clipped":-Infinity}"#;

/// A pipeline's folder of that network under a scheduler.
fn scheduled(name: &str, scheduler: &str) -> Folder {
    let folder = Folder::new(name);
    let index =
        r#"{"_class_name":"P","denoiser":["m","MLPDiffusion"],"scheduler":["diffusers","S"]}"#;
    folder
        .text("model_index.json", index)
        .text("scheduler/scheduler_config.json", scheduler)
        .text("denoiser/config.json", CONFIG)
        .weights("denoiser/model.safetensors", &tensors());
    folder
}

fn samples(path: &Path, config: &serde_json::Value) -> (Arc<Pipeline>, Vec<f32>) {
    let model =
        OpenModel::open(&Engine::new(Options::default()).unwrap(), path.to_str().unwrap(), "");
    let p = Pipeline::new(&model.unwrap(), &config.to_string()).unwrap_or_else(|e| panic!("{e}"));
    let job =
        Job::start(&p, JobOptions { seed: 5, n_samples: 4, ..JobOptions::default() }).unwrap();
    assert!(job.wait(Duration::from_secs(600)));
    let x = job.result("x").unwrap_or_else(|e| panic!("{e}"));
    let values = x.elements::<f32>().unwrap().to_vec();
    (p, values)
}

/// DDIM is Euler in this coordinate: named as a sampler, over the levels of DDIM, it asks the network as DDIM does.
#[test]
fn another_sampler_keeps_the_process_of_the_scheduler() {
    let folder = scheduled("sampler", DDIM);
    let (_, want) = samples(&folder.0, &json!({"steps": 6}));
    let config = schedulers::parse(DDIM).unwrap();
    let levels = schedulers::plan(&config, &Asked::steps(6)).unwrap().levels();
    let list = json!({"id": "list", "config": {"sigmas": levels}});
    let euler = json!({"steps": 6, "sampler": "euler", "grid": list, "sigma_max": levels[0]});
    let (_, got) = samples(&folder.0, &euler);
    for (a, b) in got.iter().zip(&want) {
        assert!((a - b).abs() <= 2e-4 * b.abs().max(1.0), "{a}, want {b}");
    }
    assert_ne!(samples(&folder.0, &json!({"sampler": "heun"})).1, want);
    // no chain, no process for another sampler
    let flow = scheduled("flow", r#"{"_class_name":"FlowMatchEulerDiscreteScheduler"}"#);
    let model = open(&flow.0, "").unwrap();
    let refused = Pipeline::new(&model, r#"{"sampler":"heun"}"#).map(|_| ()).unwrap_err().message;
    assert!(refused.contains("FlowMatchEulerDiscreteScheduler has no chain"), "{refused}");
    assert!(refused.contains("name process too, or scheduler"), "{refused}");
    assert!(Pipeline::new(&model, "").is_ok());
    let scheduled = json!({"process": {"id": "scheduled", "config": {"frame": "flow", "clock": "flow"}},
        "sampler": "heun"});
    assert!(Pipeline::new(&model, &scheduled.to_string()).is_ok(), "a process that is named");
}

#[test]
fn a_saved_pipeline_opens_as_itself() {
    let folder = scheduled("saved", DDIM);
    let file = folder.0.join("saved.safetensors");
    for config in [json!({"steps": 6}), json!({"steps": 6, "sampler": "heun", "sigma_max": 20})] {
        let (p, want) = samples(&folder.0, &config);
        p.save_model(&file).unwrap();
        assert_eq!(samples(&file, &json!({})).1, want, "{config}");
    }
}

/// One file in two slots is one network, whichever way it came there.
#[test]
fn a_lent_network_is_asked_as_the_base_is() {
    let noise = CONFIG.replacen('{', r#"{"predicts":"noise","#, 1);
    let folder = scheduled("lent", DDIM);
    folder.text("denoiser/config.json", &noise);
    let lent = json!({"steps": 4, "networks": {"base": {"model": folder.0.to_str()}}});
    assert_eq!(samples(&folder.0, &lent).1, samples(&folder.0, &json!({"steps": 4})).1);
}

/// The corrector of the VE SDE goes by norms over the batch, as published, unless each sample is to have its own.
#[test]
fn a_corrector_may_go_by_each_sample() {
    let ve = json!({"_class_name": "ScoreSdeVeScheduler", "sigma_max": 50.0});
    let folder = scheduled("ve", &ve.to_string());
    let drawn = |per_sample: bool, batch: usize| {
        let scheduler = json!({"config": ve, "norms_per_sample": per_sample});
        samples(&folder.0, &json!({"steps": 5, "batch": batch, "scheduler": scheduler})).1
    };
    assert_ne!(drawn(false, 1), drawn(false, 4), "a batch of one has other means");
    assert_eq!(drawn(true, 1), drawn(true, 4));
}
