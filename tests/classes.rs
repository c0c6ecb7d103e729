//! Pictures through the command: a folder of them to a model, classes by name, a page of samples.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn scratch(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("diffx-classes-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

fn diffx(dir: &Path, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_diffx")).current_dir(dir).args(words).output().unwrap()
}

fn good(dir: &Path, words: &[&str]) {
    let out = diffx(dir, words);
    assert!(out.status.success(), "{words:?}: {}", String::from_utf8_lossy(&out.stderr));
}

fn bad(dir: &Path, words: &[&str], code: i32, want: &str) {
    let out = diffx(dir, words);
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(code), "{words:?}: {said}");
    assert!(said.contains(want), "{words:?}: {said}");
}

/// Eight by eight pixels of one brightness, clear on the left.
fn picture(path: &Path, brightness: u8) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut e = png::Encoder::new(std::fs::File::create(path).unwrap(), 8, 8);
    e.set_color(png::ColorType::Rgba);
    let pixel = |i: usize| [brightness, brightness, brightness, if i % 8 < 4 { 0 } else { 255 }];
    let pixels: Vec<u8> = (0..64).flat_map(pixel).collect();
    e.write_header().unwrap().write_image_data(&pixels).unwrap();
}

/// The f32 values of a `.npy` file.
fn values(path: &Path) -> Vec<f32> {
    let bytes = std::fs::read(path).unwrap();
    let header = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    bytes[header..].chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

#[test]
fn a_folder_becomes_a_model_that_draws_its_classes_by_name() {
    let dir = scratch("classes");
    for i in 0..4u8 {
        picture(&dir.join(format!("data/dark_ones/{i}.png")), 20 + i);
        picture(&dir.join(format!("data/light_ones/{i}.png")), 240 + i);
    }
    let recipe = r#"{"data": {"path": "data", "name": "Squares", "channels": "premultiplied", "layout": "chw",
        "labels": "folders", "mirror": ["light"]}, "model": {"id": "dit_original", "config": {"input_size": 8,
        "patch_size": 2, "in_channels": 4, "hidden_size": 32, "depth": 2, "num_heads": 2, "num_classes": 2,
        "learn_sigma": false, "time_scale": 250}}, "process": "ve", "steps": 600, "batch": 16, "rate": 0.005,
        "sampler": "heun", "grid": "edm", "sample_steps": 8}"#;
    std::fs::write(dir.join("recipe.json"), recipe).unwrap();
    good(&dir, &["train", "recipe.json", "-o", "m.safetensors"]);

    let sample = |more: &[&str]| {
        let words = ["sample", "m.safetensors", "-n", "8", "--seed", "3", "-o", "x.npy"];
        good(&dir, &[&words[..], more].concat());
        values(&dir.join("x.npy"))
    };
    let all = sample(&["--class", "all", "-o", "page.png"]);
    assert_eq!(all.len(), 8 * 4 * 8 * 8);
    // samples take the classes in turn; red where the pictures are not clear
    let red = |x: &[f32], of: usize| {
        let right =
            |s: &[f32]| (0..64).filter(|i| i % 8 >= 4).map(|i| f64::from(s[i])).sum::<f64>();
        x.chunks_exact(256).skip(of).step_by(2).map(right).sum::<f64>()
            / (x.len() / 512 * 32) as f64
    };
    let (dark, light) = (red(&all, 0), red(&all, 1));
    println!("mean red of dark {dark:.3}, of light {light:.3}");
    assert!(light > dark + 1.2, "dark {dark}, light {light}; the data has -0.83 and 0.90");

    // a name, a number and a condition are the same
    let named = sample(&["--class", "light_ones"]);
    assert_eq!(named[256..512], all[256..512]); // the second sample
    assert_eq!(named, sample(&["--class", "1"]));
    assert_eq!(named, sample(&["--cond", r#"{"class_labels":[1]}"#]));

    // three by three places for eight pictures
    let page = std::fs::File::open(dir.join("page.png")).unwrap();
    let reader = png::Decoder::new(std::io::BufReader::new(page)).read_info().unwrap();
    assert_eq!(reader.info().width, 2 * 44 + 3 * 96 + 2 * 24);

    let words = ["sample", "m.safetensors", "-n", "2", "-o", "x.npy", "--class"];
    let grey = [&words[..], &["grey"]].concat();
    bad(&dir, &grey, 1, "--class \"grey\", want all, or one of: dark_ones, light_ones");
    bad(&dir, &["sample", "vix", "-n", "2", "-o", "x.npy", "--class", "0"], 1, "takes no classes");
    std::fs::remove_dir_all(&dir).unwrap();
}
