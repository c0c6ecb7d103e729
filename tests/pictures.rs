//! Jobs about pictures, on a transformer with a scheduler and an autoencoder in a folder as other programs leave it, with
//! weights by a formula: classes to pictures, a picture to set out from, a mask of what is made anew.

use diffx::base::torch::Torch;
use diffx::base::{DType, Desc};
use diffx::engine::{Engine, Evaluation, Job, JobOptions, OpenModel, Options, Pipeline, Setting};
use diffx::graph::NodeId;
use diffx::mem::{Budget, Tensor};
use diffx::sample::{Build, ModelIo, Network, Parts, Stats};
use diffx::weights::{Out, SafeTensors, write};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

/// A folder of its own, gone at the end.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Numbers in [-0.25, 0.25) by a name and a place.
fn formula(name: &str, n: usize) -> Vec<f32> {
    let mix = |h: u32, b: u8| (h ^ u32::from(b)).wrapping_mul(0x0100_0193);
    let start = name.bytes().fold(0x811c_9dc5, mix);
    let at = |i: usize| start.wrapping_add((i as u32).wrapping_add(1).wrapping_mul(2_654_435_761));
    (0..n).map(|i| (f64::from(at(i)) / 4_294_967_296.0 - 0.5) as f32 / 2.0).collect()
}

fn engine() -> Arc<Engine> {
    Engine::new(Options { no_threads: true, load_plugins: false, ..Options::default() }).unwrap()
}

/// A component's folder: its config, and every weight that the forms of its network ask for.
fn component(folder: &Path, class: &str, plugin: &str, config: &Value, forms: &[(u32, [i64; 3])]) {
    let setting = Setting::parse(&format!("{plugin}:{config}")).unwrap();
    let model = engine().model(&setting).unwrap();
    let info = model.info().unwrap();
    let mut tensors: BTreeMap<String, (Desc, Vec<f32>)> = BTreeMap::new();
    for (phase, dims) in forms {
        let mut components = info.components.clone();
        components[0].dims = dims.to_vec();
        let parts = Parts {
            components,
            processes: vec![],
            stats: vec![Stats::default()],
            conds: info.conds.clone(),
            networks: vec![Network { slot: "base".into(), model: Arc::clone(&model), lora: None }],
            guidances: vec![],
            float: DType::F32,
            weight_dtype: DType::F32,
        };
        let mut b = Build::new(&parts, 1).unwrap();
        let x = b.graph.input("x", parts.state(0, 1).unwrap());
        let mut io = ModelIo {
            phase: *phase,
            x: vec![x],
            sigma: vec![b.graph.full(0.0, DType::F32, &[1])],
            cond: b.cond.clone(),
            slots: vec![],
            slots_out: vec![],
            out: vec![NodeId::ERROR],
        };
        b.network("base", &mut io).unwrap();
        for w in b.graph.weights() {
            let values = formula(&w.name, w.desc.shape.elements());
            tensors.insert(w.name.clone(), (w.desc, values));
        }
    }
    std::fs::create_dir_all(folder).unwrap();
    let mut config = config.clone();
    config["_class_name"] = class.into();
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let bytes: Vec<(String, Desc, Vec<u8>)> = tensors
        .into_iter()
        .map(|(n, (d, v))| (n, d, v.iter().flat_map(|v| v.to_le_bytes()).collect()))
        .collect();
    let out: Vec<Out<'_>> =
        bytes.iter().map(|(name, desc, bytes)| Out { name, desc: *desc, bytes }).collect();
    write(&folder.join("diffusion_pytorch_model.safetensors"), &BTreeMap::new(), &out).unwrap();
}

/// Latents of 4 by 8 by 8, pictures of 16 by 16, five classes of which two have names.
fn pipeline(name: &str) -> Folder {
    let root = std::env::temp_dir().join(format!("diffx-pictures-{}-{name}", std::process::id()));
    let dit = json!({"sample_size": 8, "patch_size": 2, "in_channels": 4, "out_channels": 8, "num_layers": 2,
        "num_attention_heads": 2, "attention_head_dim": 8, "num_embeds_ada_norm": 5});
    component(&root.join("transformer"), "DiTTransformer2DModel", "dit", &dit, &[(0, [4, 8, 8])]);
    let vae = json!({"block_out_channels": [8, 8], "norm_num_groups": 4, "latent_channels": 4,
        "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D"],
        "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D"]});
    let forms = [(0, [4, 8, 8]), (1, [3, 16, 16])];
    component(&root.join("vae"), "AutoencoderKL", "autoencoder_kl", &vae, &forms);
    let index = json!({"_class_name": "DiTPipeline", "transformer": ["diffusers", "DiTTransformer2DModel"],
        "vae": ["diffusers", "AutoencoderKL"], "scheduler": ["diffusers", "DDIMScheduler"],
        "id2label": {"0": "tench, Tinca tinca", "3": "kite"}});
    std::fs::write(root.join("model_index.json"), index.to_string()).unwrap();
    std::fs::create_dir_all(root.join("scheduler")).unwrap();
    let ddim = json!({"_class_name": "DDIMScheduler", "clip_sample": false});
    std::fs::write(root.join("scheduler/scheduler_config.json"), ddim.to_string()).unwrap();
    Folder(root)
}

fn open(folder: &Path) -> Arc<OpenModel> {
    OpenModel::open(&Engine::new(Options::default()).unwrap(), folder.to_str().unwrap(), "")
        .unwrap_or_else(|e| panic!("{e}"))
}

fn refused(model: &Arc<OpenModel>, config: &Value) -> String {
    Pipeline::new(model, &config.to_string()).err().expect("a refusal").message
}

fn job(model: &Arc<OpenModel>, config: &Value, options: JobOptions) -> Arc<Job> {
    let p = Pipeline::new(model, &config.to_string()).unwrap_or_else(|e| panic!("{e}"));
    let job = Job::start(&p, options).unwrap_or_else(|e| panic!("{e}"));
    assert!(job.wait(Duration::from_secs(600)));
    job
}

fn floats(t: &Tensor) -> Vec<f32> {
    t.elements::<f32>().unwrap().to_vec()
}

/// The output of a network of the folder.
fn network(model: &OpenModel, slot: &str, phase: u32, inputs: &[(&str, Tensor)]) -> Vec<f32> {
    let inputs: Vec<(String, Arc<Tensor>)> = inputs
        .iter()
        .map(|(n, t)| {
            let copy = Tensor::from_bytes(t.desc(), t.bytes(), &Budget::unlimited()).unwrap();
            ((*n).to_owned(), Arc::new(copy))
        })
        .collect();
    let asked = Evaluation { slot, phase, inputs: &inputs, outputs: &["x".to_owned()] };
    floats(&model.evaluate(&asked, DType::F32).unwrap_or_else(|e| panic!("{e}"))[0])
}

fn tensor(dims: &[usize], values: &[f32]) -> Tensor {
    Tensor::from_f32(dims, values, &Budget::unlimited()).unwrap()
}

fn labels(values: &[i32]) -> Tensor {
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_ne_bytes()).collect();
    let desc = Desc::new(DType::I32, &[values.len()]).unwrap();
    Tensor::from_bytes(desc, &bytes, &Budget::unlimited()).unwrap()
}

#[test]
fn samples_come_with_their_pictures() {
    let folder = pipeline("image");
    let model = open(&folder.0);
    let classes = || vec![("class_labels".to_owned(), Arc::new(labels(&[1, 3, 4])))];
    let options =
        || JobOptions { seed: 7, n_samples: 3, inputs: classes(), ..JobOptions::default() };
    let config =
        json!({"steps": 3, "image": true, "guidance": [{"id": "cfg", "config": {"scale": 3}}]});
    let done = job(&model, &config, options());
    let (x, image) = (done.result("x").unwrap(), done.result("image").unwrap());
    assert_eq!((x.dims(), image.dims()), (&[3, 4, 8, 8][..], &[3, 3, 16, 16][..]));
    let own = network(&model, "vae", 0, &[("x", tensor(&[3, 4, 8, 8], &floats(&x)))]);
    assert_eq!(floats(&image), own);
    let one = json!({"steps": 3, "image": true, "batch": 1, "guidance": config["guidance"]});
    assert_eq!(floats(&job(&model, &one, options()).result("image").unwrap()), own);
    // of five classes, and the one that is none
    for (class, fits) in [(5, true), (6, false), (-1, false)] {
        let inputs = vec![("class_labels".to_owned(), Arc::new(labels(&[class])))];
        let pipeline = Pipeline::new(&model, r#"{"steps": 3}"#).unwrap();
        let started = Job::start(&pipeline, JobOptions { n_samples: 1, inputs, ..options() });
        let said = started.err().map(|e| e.message);
        let want = format!("condition class_labels is {class}, and the network knows 0 to 5");
        assert_eq!(said, (!fits).then_some(want));
    }
    // without being asked for, none is made
    let none = job(&model, &json!({"steps": 3}), options());
    assert!(none.result("image").unwrap_err().message.contains("there are: x, feasible"));
    let alone = open(&folder.0.join("transformer"));
    assert!(refused(&alone, &json!({"image": true})).contains("no network vae"));
    let lent = json!({"steps": 3, "networks": {"vae": {"model": folder.0.join("vae")}}, "image": true,
        "scheduler": folder.0, "guidance": config["guidance"]});
    assert_eq!(floats(&job(&alone, &lent, options()).result("image").unwrap()), own);
}

/// The last two of four steps of DDIM, by hand from the same noise.
#[test]
fn a_run_sets_out_from_data() {
    let folder = pipeline("strength");
    let model = open(&folder.0);
    let x0 = formula("a picture", 4 * 8 * 8);
    let config = json!({"steps": 4, "strength": 0.5, "noise": "torch_cpu"});
    let inputs = vec![
        ("start.x".to_owned(), Arc::new(tensor(&[4, 8, 8], &x0))),
        ("class_labels".to_owned(), Arc::new(labels(&[2]))),
    ];
    let options = JobOptions { seed: 11, n_samples: 1, inputs, ..JobOptions::default() };
    let done = job(&model, &config, options.clone());
    assert_eq!(done.progress().n_steps, 2);

    let kept: Vec<f64> = (0..1000)
        .scan(1.0, |left, i| {
            *left *= 1.0 - (1e-4 + (2e-2 - 1e-4) * f64::from(i) / 999.0);
            Some(*left)
        })
        .collect();
    let mut noise = vec![0.0; x0.len()];
    Torch::new(11).normals_f32(&mut noise);
    let (a, s) = (kept[250].sqrt(), (1.0 - kept[250]).sqrt());
    let mut x: Vec<f64> =
        x0.iter().zip(&noise).map(|(x, z)| a * f64::from(*x) + s * f64::from(*z)).collect();
    for (time, before) in [(250, kept[0]), (0, 1.0)] {
        let f32s: Vec<f32> = x.iter().map(|v| *v as f32).collect();
        let inputs = [
            ("x", tensor(&[1, 4, 8, 8], &f32s)),
            ("sigma", tensor(&[1], &[time as f32])),
            ("class_labels", labels(&[2])),
        ];
        let eps = network(&model, "base", 0, &inputs); // its second half is a variance
        let (a, s) = (kept[time].sqrt(), (1.0 - kept[time]).sqrt());
        for (x, e) in x.iter_mut().zip(&eps) {
            let e = f64::from(*e);
            *x = before.sqrt() * (*x - s * e) / a + (1.0 - before).sqrt() * e;
        }
    }
    let most = x.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
    for (got, want) in floats(&done.result("x").unwrap()).iter().zip(&x) {
        assert!((f64::from(*got) - want).abs() <= 1e-5 * most, "{got}, want {want}");
    }

    // a grid is cut in the same way: of four steps of any sampler two are left
    let heun = json!({"steps": 4, "strength": 0.5, "sampler": "euler"});
    assert_eq!(job(&model, &heun, options.clone()).progress().n_steps, 2);
    let without = Pipeline::new(&model, &config.to_string()).unwrap();
    let message = Job::start(&without, JobOptions { inputs: vec![], ..options.clone() });
    let message = message.err().expect("nothing to set out from").message;
    assert!(message.contains("no input start.x"), "{message}");
    let few = json!({"steps": 4, "strength": 0.2});
    assert!(refused(&model, &few).contains("strength 0.2 of 4 steps leaves none"));
    let scheduler =
        |class: &str| json!({"steps": 4, "strength": 0.5, "scheduler": {"_class_name": class}});
    for class in ["PNDMScheduler", "LMSDiscreteScheduler", "UniPCMultistepScheduler"] {
        let said = refused(&model, &scheduler(class));
        assert!(said.contains("cannot set out later"), "{class}: {said}");
    }
    for class in ["DPMSolverMultistepScheduler", "HeunDiscreteScheduler", "DEISMultistepScheduler"]
    {
        let x = job(&model, &scheduler(class), options.clone()).result("x").unwrap();
        assert!(floats(&x).iter().all(|v| v.is_finite()), "{class}");
    }
}

/// A network that counts the steps of its scheduler is not asked by another process, which would tell it something else.
#[test]
fn a_process_it_was_not_trained_under_is_refused() {
    let folder = pipeline("process");
    let model = open(&folder.0);
    for process in ["vp", "ve"] {
        let said = refused(&model, &json!({"process": process}));
        assert!(said.contains("trained under"), "{said}");
    }
    assert!(refused(&model, &json!({"process": "vp"})).contains("counts that one's steps"));
    let noise = r#"{"model": {"predicts": "noise"}}"#;
    let told = OpenModel::open(&engine(), folder.0.to_str().unwrap(), noise).unwrap();
    assert!(
        Pipeline::new(&told, r#"{"process": "vp"}"#).is_ok(),
        "who says what it predicts knows"
    );
}

fn diffx(dir: &Path, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_diffx")).current_dir(dir).args(words).output().unwrap()
}

fn good(dir: &Path, words: &[&str]) {
    let out = diffx(dir, words);
    assert!(out.status.success(), "{words:?}: {}", String::from_utf8_lossy(&out.stderr));
}

fn bad(dir: &Path, words: &[&str], want: &str) {
    let out = diffx(dir, words);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(!out.status.success() && said.contains(want), "{words:?}: {said}");
}

/// Sizes and pixels in red, green, blue.
fn png(path: &Path) -> (u32, u32, Vec<u8>) {
    let file = std::io::BufReader::new(std::fs::File::open(path).unwrap());
    let mut reader = png::Decoder::new(file).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    (info.width, info.height, pixels)
}

fn write_png(path: &Path, side: u32, color: png::ColorType, pixels: &[u8]) {
    let mut e = png::Encoder::new(std::fs::File::create(path).unwrap(), side, side);
    e.set_color(color);
    e.write_header().unwrap().write_image_data(pixels).unwrap();
}

#[test]
fn the_command_draws_classes() {
    let folder = pipeline("command");
    let dir = &folder.0;
    let words = ["sample", "./", "--class", "kite", "--class", "1", "--class", "Tinca tinca"];
    let more = ["--steps", "3", "--guidance-scale", "2", "--seed", "5"];
    let out = ["-o", "a.png", "-o", "a.safetensors", "-o", "a.npy"];
    good(dir, &[&words[..], &more, &out].concat());
    let (width, height, pixels) = png(&dir.join("a.png"));
    assert_eq!((width, height), (32, 32), "three pictures in two rows");
    let file = SafeTensors::open(&dir.join("a.safetensors")).unwrap();
    let image = floats(&file.tensor("image", &Budget::unlimited()).unwrap());
    assert_eq!(image.len(), 3 * 3 * 256);
    // the last pixel of the second picture
    let want: Vec<u8> = (0..3)
        .map(|c| image[(3 + c) * 256 + 255])
        .map(|v| ((f64::from(v) + 1.0) * 127.5).round().clamp(0.0, 255.0) as u8)
        .collect();
    let at = 3 * (15 * 32 + 31);
    assert_eq!(pixels[at..at + 3], want);
    // a name is its number
    let same = ["sample", "./", "--class", "3", "--class", "1", "--class", "0", "-o", "b.png"];
    good(dir, &[&same[..], &more].concat());
    assert_eq!(png(&dir.join("b.png")).2, pixels);
    good(dir, &["sample", "./", "--class", "1", "--steps", "3", "-o", "c.png"]);
    assert_eq!(png(&dir.join("c.png")).0, 16);
    good(
        dir,
        &[
            "sample",
            "./",
            "--steps",
            "3",
            "--scheduler",
            "{\"_class_name\":\"DDPMScheduler\"}",
            "--noise",
            "torch_cpu",
            "-o",
            "d.png",
        ],
    );
    assert_eq!(png(&dir.join("d.png")).0, 32, "four pictures where nobody says how many");
    bad(dir, &["sample", "./", "--class", "cat", "-o", "e.png"], "no class of the model is called");
    bad(dir, &["sample", "./", "--strength", "0.5", "-o", "e.png"], "name it with --image");
}

#[test]
fn the_command_changes_pictures() {
    let folder = pipeline("change");
    let dir = &folder.0;
    let pixels: Vec<u8> =
        formula("pixels", 768).iter().map(|v| ((v + 0.25) * 510.0) as u8).collect();
    write_png(&dir.join("in.png"), 16, png::ColorType::Rgb, &pixels);
    // the upper half is made anew
    let mask: Vec<u8> = (0..256).map(|p| if p < 128 { 255 } else { 0 }).collect();
    write_png(&dir.join("mask.png"), 16, png::ColorType::Grayscale, &mask);
    let words = ["sample", "./", "--class", "2", "--steps", "5", "--image", "in.png"];
    good(dir, &[&words[..], &["-o", "a.safetensors"]].concat());
    good(
        dir,
        &[&words[..], &["--mask", "mask.png", "-o", "b.png", "-o", "b.safetensors"]].concat(),
    );
    let (_, _, made) = png(&dir.join("b.png"));
    assert_eq!(made[3 * 128..], pixels[3 * 128..]);
    assert_ne!(made[..3 * 128], pixels[..3 * 128]);
    // under the mask's black stand the latents of the picture
    let model = open(dir);
    let planes: Vec<f32> =
        (0..768).map(|i| f32::from(pixels[i % 256 * 3 + i / 256]) / 127.5 - 1.0).collect();
    let moments = network(&model, "vae", 1, &[("x", tensor(&[1, 3, 16, 16], &planes))]);
    let file = SafeTensors::open(&dir.join("b.safetensors")).unwrap();
    let x = floats(&file.tensor("x", &Budget::unlimited()).unwrap());
    for (k, (x, mean)) in x.iter().zip(&moments).enumerate() {
        let kept = k % 64 >= 32;
        let near = (x - mean).abs() <= 1e-6 * mean.abs().max(1.0);
        assert!(near || !kept, "[{k}] is {x}, want {mean}");
    }
    // less strength, less change
    let distance = |strength: &str| {
        let name = format!("s{strength}.safetensors");
        good(dir, &[&words[..], &["--strength", strength, "-o", &name]].concat());
        let x = SafeTensors::open(&dir.join(&name)).unwrap().tensor("x", &Budget::unlimited());
        let x = floats(&x.unwrap());
        x.iter().zip(&moments).map(|(a, b)| (a - b).powi(2)).sum::<f32>()
    };
    assert!(distance("0.2") < 0.5 * distance("1"));
    write_png(&dir.join("small.png"), 8, png::ColorType::Rgb, &pixels[..192]);
    bad(
        dir,
        &["sample", "./", "--image", "small.png", "-o", "c.png"],
        "becomes latents of [8, 4, 4]",
    );
    let odd = [&words[..], &["--mask", "small.png", "-o", "c.png"]].concat();
    bad(dir, &odd, "the mask is 8 by 8 pixels");
}

/// The example of `docs/images.md`, on the tiny checkpoint of the oracle.
#[test]
fn the_page_runs_on_the_reference_checkpoint() {
    let shared = std::env::var_os("DIFFX_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let path = shared.join("oracle/dit/ckpt/pipe");
    if !path.is_dir() {
        println!("skipped: no {}", path.display());
        return;
    }
    let page = include_str!("../docs/images.md");
    let folder = Folder(std::env::temp_dir().join(format!("diffx-page-{}", std::process::id())));
    std::fs::create_dir_all(&folder.0).unwrap();
    let mut ran = 0;
    for line in page.lines().filter_map(|l| l.strip_prefix("    diffx ")) {
        let line = line.replace("../shared/oracle/dit/ckpt/pipe", path.to_str().unwrap());
        let mut words: Vec<String> = Vec::new();
        for (i, part) in line.split('\'').enumerate() {
            match i % 2 {
                0 => words.extend(part.split_whitespace().map(str::to_owned)),
                _ => words.push(part.to_owned()),
            }
        }
        good(&folder.0, &words.iter().map(String::as_str).collect::<Vec<_>>());
        if ran == 0 {
            let black = vec![0; 64 * 64];
            let mask: Vec<u8> =
                black.iter().enumerate().map(|(p, _)| if p % 64 < 32 { 255 } else { 0 }).collect();
            write_png(&folder.0.join("mask.png"), 64, png::ColorType::Grayscale, &mask);
        }
        ran += 1;
    }
    assert_eq!(ran, 4);
    assert_eq!(png(&folder.0.join("two.png")).0, 128);
    assert_eq!(png(&folder.0.join("inpainted.png")).0, 64);
}
