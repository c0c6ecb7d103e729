//! Reference checkpoints and tensors: every test of every manifest of `DIFFX_ORACLE`, else of the shared folder's
//! `oracle`, is handed to the function for its kind, and what comes back is held to the manifest's tolerance.
//!
//! A family's file has a table `KINDS`: the kinds it covers, and a function that puts the outputs the manifest names
//! (and gradients by parameter) into `Got`. Write from the checkpoints' configs: other sizes and types are tried too.
//! A covered test that differs in anything fails; so does a run of all that tests nothing, and, in the shared folder, a
//! kind of a case that is ours which neither a family nor `UNCOVERED` lists. What is left out is listed.
//!
//! Without the harness of the test library, so that the table below is always seen:
//!     cargo test --release --test oracle [-- TEXT]        tests whose case/name holds TEXT; none or `oracle`: all

// what the families need, as they come
#[allow(dead_code)]
mod array;
#[allow(dead_code)]
mod case;
#[allow(dead_code)]
mod compare;
mod csdi;
mod dit;
mod edm;
mod image;
mod llada;
mod loader;
#[allow(dead_code)]
mod network;
mod rng;
mod schedulers;
mod sit;
mod tabular;
mod unet2d;
mod vae;

use case::{Case, Test};
use compare::Got;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

/// A kind of tests, and what gives its outputs.
pub(crate) struct Row {
    pub kind: &'static str,
    /// Cases it is of; none: any. Some kinds are called alike.
    pub cases: &'static [&'static str],
    pub run: fn(&Test, &mut Got) -> Answer,
}

/// An error is a sentence.
pub(crate) type Answer<T = ()> = Result<T, String>;

const FAMILIES: &[&[Row]] = &[
    dit::KINDS,
    unet2d::KINDS,
    edm::KINDS,
    vae::KINDS,
    csdi::KINDS,
    tabular::KINDS,
    llada::KINDS,
    schedulers::KINDS,
    rng::KINDS,
    loader::KINDS,
    image::KINDS,
    sit::KINDS,
];

/// Cases of the shared folder, and what of each no family covers yet. Other cases may have kinds we know nothing of.
const UNCOVERED: &[(&str, &[&str])] = &[
    ("csdi", &[]),
    ("ddpm_unet2d", &[]),
    ("dit", &[]),
    (
        "dit_moe",
        &[
            "forward.dit_moe_token_choice",
            "forward.dit_moe_expert_choice",
            "forward.nucleus_moe",
            "grad.dit_moe",
            "grad.dit_moe_ec",
            "grad.nucleus_moe",
        ],
    ),
    ("dream", &["forward.dream", "generate.dream", "grad.dream_ce"]),
    ("edm", &[]),
    (
        "flux2_klein",
        &[
            "forward.flux2_transformer",
            "forward.qwen3_causal",
            "forward.vae_decode",
            "grad.flux2_flow_mse",
            "pipeline.flux2_encode_ref",
            "pipeline.flux2_klein",
            "pipeline.flux2_klein_encode_prompt",
            "pipeline.flux2_latents",
            SINGLE_FILE,
        ],
    ),
    ("llada", &["generate.llada"]),
    (
        "llada2_moe",
        &[
            "forward.llada2_moe",
            "generate.llada2",
            "generate.llada2_pipeline",
            "grad.llada2_moe_ce",
            "scheduler.block_refinement",
            "scheduler.discrete_ddim",
            "scheduler.entropy_bound",
        ],
    ),
    ("loader", &[]),
    (
        "rae",
        &[
            "forward.ditdh",
            "forward.rae_decode",
            "forward.rae_encode",
            "forward.taesd",
            "grad.rae_decoder",
        ],
    ),
    ("rng", &[]),
    ("schedulers", &[]),
    (
        "sd15",
        &[
            "forward.clip_text",
            "forward.unet2d_condition",
            "grad.unet_mse",
            "pipeline.sd",
            SINGLE_FILE,
        ],
    ),
    (
        "sd35",
        &[
            "forward.clip_text_projection",
            "forward.sd3_transformer",
            "forward.t5_encoder",
            "grad.sd3_flow_mse",
            "pipeline.sd3",
            "pipeline.sd3_encode_prompt",
            SINGLE_FILE,
        ],
    ),
    ("sdar", &["forward.sdar", "generate.sdar", "grad.sdar_block_diffusion"]),
    ("sit", &[ADAPTIVE]),
    ("tabular", &["train.steps"]),
    ("tokenizers", &["tokenizer"]),
    (
        "tsdiff",
        &[
            "forward.s4_kernel",
            "forward.s4_layer",
            "forward.tsdiff",
            "grad.tsdiff",
            "grad.tsdiff_guidance",
            "sampler.tsdiff_ddpm",
        ],
    ),
];

/// A file of a whole pipeline: in the table above, whatever kind reads it, but for the kinds here.
const SINGLE_FILE: &str = "single_file";
const OF_A_SINGLE_FILE: &[&str] = &["forward.vae_decode"];

/// A method whose reference chooses its own steps, which no table of steps does: left out in the same way.
const ADAPTIVE: &str = "dopri5";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let filter: Vec<&str> = words
        .iter()
        .map(String::as_str)
        .filter(|w| !w.starts_with('-') && *w != "oracle")
        .collect();
    let Some(root) = case::root() else {
        println!("skipped: no oracle, neither in DIFFX_ORACLE nor in the shared folder");
        return ExitCode::SUCCESS;
    };
    let cases = match case::read(&root) {
        Ok(cases) => cases,
        Err(e) => {
            println!("{e}");
            return ExitCode::FAILURE;
        }
    };
    let list = words.iter().any(|w| w == "--list");
    let elsewhere = std::env::var_os("DIFFX_ORACLE").is_some();
    let mut left: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let (mut faults, mut met, mut tested) = (0, 0, 0);
    for case in &cases {
        let (mut good, mut covered) = (0, 0);
        let begun = Instant::now();
        let mut chosen = 0;
        for test in &case.tests {
            let path = format!("{}/{}", case.name, test.name);
            if !filter.is_empty() && !filter.iter().any(|f| path.contains(f)) {
                continue;
            }
            chosen += 1;
            if list {
                println!("{path}: {}", test.kind);
                continue;
            }
            let Some(row) = row(case, test) else {
                if !elsewhere && !may_be_left(case, test) {
                    println!("FAILED {path}: no family covers {}, nor is it to be left", test.kind);
                    faults += 1;
                    continue;
                }
                left.entry(case.name.clone()).or_default().push(test.name.clone());
                continue;
            };
            covered += 1;
            match judge(row, test) {
                Ok(()) => good += 1,
                Err(e) => println!("FAILED {path}: {e}"),
            }
        }
        faults += covered - good;
        met += chosen;
        tested += covered;
        if covered > 0 && !list {
            let seconds = begun.elapsed().as_secs_f64();
            println!("{good:4} of {covered:3}  {} ({chosen} tests, {seconds:.1} s)", case.name);
        }
    }
    if !left.is_empty() {
        println!("not covered:");
        for (case, names) in left {
            println!("  {case}: {}", names.join(", "));
        }
    }
    // words that are for other targets choose nothing here, as in every target
    if tested == 0 && filter.is_empty() && !list {
        println!("FAILED: nothing was tested, of {met} tests of {}", root.display());
        faults += 1;
    }
    if faults > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn row(case: &Case, test: &Test) -> Option<&'static Row> {
    if test.params["ckpt"] == SINGLE_FILE && !OF_A_SINGLE_FILE.contains(&test.kind.as_str()) {
        return None;
    }
    if test.params["sampling_method"] == ADAPTIVE {
        return None;
    }
    let is_of = |r: &&Row| r.cases.is_empty() || r.cases.contains(&case.name.as_str());
    FAMILIES.iter().copied().flatten().find(|r| r.kind == test.kind && is_of(r))
}

/// Whether a test that no family covers is known to be so, or is of a case that is not ours.
fn may_be_left(case: &Case, test: &Test) -> bool {
    let what = match () {
        () if test.params["ckpt"] == SINGLE_FILE => SINGLE_FILE,
        () if test.params["sampling_method"] == ADAPTIVE => ADAPTIVE,
        () => test.kind.as_str(),
    };
    let ours = UNCOVERED.iter().find(|(name, _)| *name == case.name);
    ours.is_none_or(|(_, left)| left.contains(&what))
}

fn judge(row: &Row, test: &Test) -> Answer {
    let mut got = Got::default();
    match catch_unwind(AssertUnwindSafe(|| (row.run)(test, &mut got))) {
        Ok(done) => done?,
        Err(_) => return Err("panicked".into()),
    }
    compare::check(test, &got)
}
