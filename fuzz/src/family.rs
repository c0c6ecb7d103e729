//! Configs of other programs (`config.json`). Laws: whatever one says, its family is found or refused, the plugin it
//! becomes is made or refuses its settings, and what is made describes itself; the same text gives the same description.

use super::memory::bounded;
use diffx::engine::{Engine, Options, families};
use diffx::weights::{SafeTensors, Source};
use std::sync::{Arc, OnceLock};

pub const WORDS: &[&str] = &[
    "\"_class_name\":",
    "\"architectures\":[",
    "\"DiTTransformer2DModel\"",
    "\"Transformer2DModel\"",
    "\"UNet2DModel\"",
    "\"AutoencoderKL\"",
    "\"EDMPrecond\"",
    "\"LLaDAModelLM\"",
    "\"diff_CSDI\"",
    "\"MLPDiffusion\"",
    "\"SiT\"",
    "\"model_type\":\"SongUNet\"",
    "\"sample_size\":",
    "\"block_out_channels\":[",
    "\"num_layers\":",
    "\"d_in\":",
    "null",
    "1048576",
    "-1",
    "1e308",
];

/// Bytes per byte of the text: parsed JSON, twice.
const PER_BYTE: usize = 512;

fn engine() -> &'static Arc<Engine> {
    static ENGINE: OnceLock<Arc<Engine>> = OnceLock::new();
    ENGINE.get_or_init(|| {
        Engine::new(Options { no_threads: true, ..Options::default() }).expect("an engine")
    })
}

fn source() -> &'static Source {
    static SOURCE: OnceLock<Source> = OnceLock::new();
    SOURCE.get_or_init(|| {
        let file = SafeTensors::from_static("none", b"\x02\0\0\0\0\0\0\0{}").expect("a file");
        Source::of(file).expect("no names")
    })
}

pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (engine, source) = (engine(), source());
    bounded(PER_BYTE * data.len() + (1 << 18), || {
        let Ok(config) = families::config("config", text) else { return };
        let Ok(family) = families::of(&config) else { return };
        let none = families::Config::new();
        let Ok(made) = family.manifest(engine, &config, source, &none) else { return };
        assert!(!made.components.is_empty());
        assert!(made.components.iter().all(|p| p.dims.iter().all(|d| *d > 0)));
        let again = family.manifest(engine, &config, source, &none).expect("as before");
        assert_eq!(again.to_json(), made.to_json());
    });
}

pub fn seeds() -> Vec<Vec<u8>> {
    [
        r#"{"_class_name":"DiTTransformer2DModel","num_layers":2,"num_attention_heads":2,"attention_head_dim":12}"#,
        r#"{"_class_name":"Transformer2DModel","norm_type":"ada_norm_zero","sample_size":8,"out_channels":8}"#,
        r#"{"_class_name":"SiT","input_size":8,"hidden_size":24,"depth":2,"num_heads":3}"#,
        r#"{"_class_name":"EDMPrecond","model_type":"SongUNet","img_resolution":16,"channel_mult":[1,2]}"#,
        r#"{"_class_name":"UNet2DModel","sample_size":[8,16],"block_out_channels":[16,32],
            "down_block_types":["DownBlock2D","AttnDownBlock2D"],"up_block_types":["AttnUpBlock2D","UpBlock2D"]}"#,
        r#"{"_class_name":"AutoencoderKL","block_out_channels":[8],"norm_num_groups":4,"latents_mean":null}"#,
        r#"{"architectures":["LLaDAModelLM"],"d_model":32,"n_heads":4,"n_layers":3,"vocab_size":422}"#,
        r#"{"_class_name":"MLPDiffusion","d_in":11,"rtdl_params":{"d_layers":[32,48]}}"#,
        r#"{"_class_name":"diff_CSDI","channels":16,"nheads":4,"layers":2}"#,
        // tables too large to compute
        r#"{"_class_name":"diff_CSDI","num_steps":1000000,"diffusion_embedding_dim":65536}"#,
        r#"{"_class_name":"DiTTransformer2DModel","sample_size":8192,"patch_size":1}"#,
        r#"{"_class_name":"SiT","input_size":8192,"patch_size":1,"hidden_size":1048576}"#,
    ]
    .iter()
    .map(|t| t.as_bytes().to_vec())
    .collect()
}
