//! DiT in both layouts, and SiT.

use crate::rig::{Array, Case, Given, Net, Test, checkpoint, mean, stored, with_gradients};
use diffx::base::DType;
use diffx::sample::Stats;
use diffx::weights::SafeTensors;
use serde_json::{Value, json};

const DIFFUSERS: &[&str] = &[
    "sample_size",
    "patch_size",
    "in_channels",
    "out_channels",
    "num_layers",
    "num_attention_heads",
    "attention_head_dim",
    "num_embeds_ada_norm",
    "attention_bias",
    "activation_fn",
    "norm_type",
    "norm_elementwise_affine",
    "norm_eps",
];
const ORIGINAL: &[&str] = &[
    "input_size",
    "patch_size",
    "in_channels",
    "hidden_size",
    "depth",
    "num_heads",
    "mlp_ratio",
    "class_dropout_prob",
    "num_classes",
    "learn_sigma",
];

fn net(id: &str, config: &Value, x: &Array) -> Net {
    Net::new(id, config, &x.dims[1..], None, Stats::default())
}

/// Folder of weights, and the network they are for.
fn original(case: &Case, folder: &str, id: &str, x: &Array) -> (SafeTensors, Net) {
    let (file, mut config) = checkpoint(&case.path(folder), ORIGINAL);
    config["pos_embed"] = json!("stored");
    let net = net(id, &config, x);
    (file, net)
}

fn given(x: Array, level: Array, label: Array) -> Given {
    Given { x, level, conds: vec![label] }
}

#[test]
fn dit_of_diffusers() {
    let Some(case) = Case::open("dit") else { return };
    for t in case.tests("forward.dit_diffusers") {
        let folder = format!("ckpt/{}", t.param("ckpt").as_str().unwrap());
        let (file, config) = checkpoint(&case.path(&folder), DIFFUSERS);
        let x = t.input("sample");
        let net = net("dit", &config, &x);
        let given = given(x, t.input("timestep"), t.input("class_labels"));
        let out = net.run(&given, &stored(&file), |_, _, y| vec![y]);
        t.compare("sample", &out[0]);
    }
}

#[test]
fn dit_as_published() {
    let Some(case) = Case::open("dit") else { return };
    for t in case.tests("forward.dit_orig") {
        let (file, net) = original(&case, "ckpt/orig", "dit_original", &t.input("x"));
        let given = given(t.input("x"), t.input("t"), t.input("y"));
        t.compare("out", &net.run(&given, &stored(&file), |_, _, y| vec![y])[0]);
        // computed positions are those of the file
        let (_, config) = checkpoint(&case.path("ckpt/orig"), ORIGINAL);
        let computed = self::net("dit_original", &config, &given.x);
        t.compare("out", &computed.run(&given, &stored(&file), |_, _, y| vec![y])[0]);
    }
}

/// Classifier-free guidance of the first three channels only, as `forward_with_cfg` of both repositories has it:
/// the first half of the rows is conditional, the second is not, and both get the state of the first.
fn guided(t: &Test<'_>, net: &Net, file: &SafeTensors, level: Array, sign: f64) -> Array {
    let x = t.input("x");
    let half = x.cut(0, 0, x.rows() / 2);
    let both = Array::new(&x.dims, [half.values.clone(), half.values].concat());
    let out = net.run(&given(both, level, t.input("y")), &stored(file), |_, _, y| vec![y]);
    let (out, scale) = (&out[0], t.param("cfg_scale").as_f64().unwrap());
    let per_row = out.values.len() / out.rows();
    let guided = 3 * per_row / out.dims[1];
    let mut values: Vec<f64> = out.values.iter().map(|v| sign * v).collect();
    let (with, without) = values.split_at_mut(out.rows() / 2 * per_row);
    for i in (0..with.len()).filter(|i| i % per_row < guided) {
        let v = without[i] + scale * (with[i] - without[i]);
        (with[i], without[i]) = (v, v);
    }
    Array::new(&out.dims, values)
}

#[test]
fn dit_with_guidance_of_three_channels() {
    let Some(case) = Case::open("dit") else { return };
    for t in case.tests("forward.dit_orig_cfg") {
        let (file, net) = original(&case, "ckpt/orig", "dit_original", &t.input("x"));
        t.compare("out", &guided(&t, &net, &file, t.input("t"), 1.0));
    }
}

/// SiT's time runs from noise to data, the engine's the other way, and so do velocities.
fn turned(t: &Array) -> Array {
    Array::new(&t.dims, t.values.iter().map(|t| 1.0 - t).collect())
}

#[test]
fn sit() {
    let Some(case) = Case::open("sit") else { return };
    for t in case.tests("forward.sit") {
        let (file, net) = original(&case, "ckpt/sit", "sit", &t.input("x"));
        let given = given(t.input("x"), turned(&t.input("t")), t.input("y"));
        let out = net.run(&given, &stored(&file), |g, _, y| vec![g.neg(y)]);
        t.compare("v", &out[0]);
    }
    for t in case.tests("forward.sit_cfg") {
        let (file, net) = original(&case, "ckpt/sit", "sit", &t.input("x"));
        t.compare("v", &guided(&t, &net, &file, turned(&t.input("t")), -1.0));
    }
}

#[test]
fn sit_gradient() {
    let Some(case) = Case::open("sit") else { return };
    for t in case.tests("grad.sit_velocity") {
        let (data, noise, time) = (t.input("x1"), t.input("x0"), t.input("t"));
        let (file, net) = original(&case, "ckpt/sit", "sit", &data);
        let per_row = data.values.len() / data.rows();
        let mix = |i: usize| {
            // in f32, as the reference mixes
            let t = time.values[i / per_row] as f32;
            f64::from(t * data.values[i] as f32 + (1.0 - t) * noise.values[i] as f32)
        };
        let x = Array::new(&data.dims, (0..data.values.len()).map(mix).collect());
        let given = given(x, turned(&time), t.input("y"));
        let mut names = Vec::new();
        let out = net.run(&given, &stored(&file), |g, _, v| {
            let [data, noise] = [&data, &noise].map(|a| a.node(g, DType::F32));
            let want = g.sub(noise, data);
            let error = g.sub(v, want);
            let square = g.square(error);
            let loss = mean(g, square);
            with_gradients(g, loss, &mut names)
        });
        t.compare("loss", &out[0]);
        t.gradients(&names, &out[1..]);
    }
}
