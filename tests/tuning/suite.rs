//! The tunings of the plane that specs objectives 6.2 has figures for: settings, the reference's row, what is wanted of them
//! (6.7), and the whole table of docs/objectives.md.

use crate::reference;
use crate::rig::{Worth, drive, engine, file, linear, open, rows, temporary, worth};
use diffx::base::philox::Stream;
use diffx::engine::tuner::Tuner;
use diffx::mem::Tensor;
use diffx::train::Reward;
use serde_json::{Value, json};
use std::cell::Cell;

/// Samples of a rollout, each of them in one update.
const SAMPLES: usize = 256;

/// One tuning of the plane.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// The row of the reference.
    pub(crate) row: &'static str,
    pub(crate) objective: Value,
    pub(crate) rollout: Value,
    pub(crate) rounds: u32,
    pub(crate) rate: f64,
    pub(crate) more: Value,
    /// Of the network, per sample of an update: drawing it, and all the loss asks of all slots.
    pub(crate) evaluations: u32,
    /// Rewards are the labels of pairs.
    pub(crate) pairs: bool,
    pub(crate) wanted: Wanted,
}

/// What specs objectives 6.7 wants.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wanted {
    Regret(f64),
    /// A mean reward above, with less than so many times the least KL for it.
    Frontier(f64, f64),
    /// It says nothing.
    Nothing,
}

impl Wanted {
    pub(crate) fn holds(self, w: &Worth) -> bool {
        match self {
            Self::Regret(most) => w.regret < most,
            Self::Frontier(least, most) => w.reward > least && w.overhead() < most,
            Self::Nothing => true,
        }
    }
}

/// Few evaluations and yet the law of the model: a sampler whose samples are off it drifts away under these losses.
pub(crate) fn ode(steps: u32) -> Value {
    json!({"sampler": "unipc", "grid": "uniform_lambda", "steps": steps, "sigma_max": 80.0})
}

fn sde(sampler: &str, steps: u32) -> Value {
    json!({"sampler": sampler, "grid": "flow_time", "steps": steps, "sigma_max": 1000.0})
}

/// The law after a tuning.
pub(crate) fn tuned(case: &Case, seed: u64) -> Worth {
    tuned_and_measured(case, seed, 2048)
}

fn tuned_and_measured(case: &Case, seed: u64, samples: usize) -> Worth {
    let engine = engine();
    let tag = format!("{}-{seed}", case.name.replace(|c: char| !c.is_alphanumeric(), "-"));
    let base = file(&engine, &format!("{tag}.safetensors"), "mixture", &[2], seed);
    let mut config = json!({
        "objective": case.objective, "rollout": case.rollout, "rounds": case.rounds, "samples": SAMPLES,
        "rate": case.rate, "schedule": "cosine", "floor": 0.05, "ema": 0.99, "seed": seed, "clip": 1.0,
    });
    for (key, value) in case.more.as_object().unwrap() {
        config[key] = value.clone();
    }
    let mut tuner = Tuner::new(&open(&engine, &base), &config.to_string()).unwrap();
    let round = Cell::new(0);
    let labels = |x: &Tensor| {
        round.set(round.get() + 1);
        labelled(x, seed, round.get())
    };
    drive(&mut tuner, if case.pairs { &labels } else { &linear });
    let out = temporary(&format!("{tag}.tuned.safetensors"));
    tuner.save(&out).unwrap();
    let worth = worth(&engine, &out, samples);
    for path in [base, out] {
        std::fs::remove_file(path).unwrap();
    }
    println!(
        "{:<34} seed {seed} {:>6} updates  E r {:.3}  KL {:.3}  over {:.2}  regret {:.4}",
        case.name,
        case.rounds,
        worth.reward,
        worth.kl,
        worth.overhead(),
        worth.regret
    );
    worth
}

/// Of each two samples one is the winner, with the probability sigmoid(r - r').
fn labelled(x: &Tensor, seed: u64, round: u32) -> Reward {
    let x = rows(x);
    let n = x.len() / 2;
    let mut draws = vec![0f32; n / 2];
    Stream { seed, purpose: 65, step: round, ordinal: 0 }.fill_uniform_f32(0, &mut draws);
    let mut values = vec![0.0; n];
    for (pair, u) in draws.iter().enumerate() {
        let r = |i: usize| crate::mixture::reward(&x[2 * i..2 * i + 2]);
        let wins = 1.0 / (1.0 + (r(2 * pair + 1) - r(2 * pair)).exp());
        values[2 * pair + usize::from(f64::from(*u) >= wins)] = 1.0;
    }
    Reward { values, valid: vec![], grads: vec![] }
}

pub(crate) fn elbo_pg(rounds: u32, own: f64, shared: bool) -> Case {
    Case {
        name: "elbo_pg",
        row: if rounds > 5000 { "gmm.elbo_pg_klr_c1_long" } else { "gmm.elbo_pg_klr_c1" },
        objective: json!({"id": "elbo_pg", "config": {
            "anchor": "ref", "estimator": "exact", "draws": 8, "own": own, "shared_draws": shared,
        }}),
        rollout: ode(12),
        rounds,
        rate: 2e-3,
        more: json!({}),
        evaluations: 12 + if shared { 2 * 8 } else { 3 * 8 },
        pairs: false,
        wanted: Wanted::Regret(if rounds > 5000 { 0.012 } else { 0.10 }),
    }
}

/// Gradients with the weights of the bound and rewards of order 1, the KL as a loss: nothing bounds it from below.
pub(crate) fn unbounded(rounds: u32) -> Case {
    Case {
        name: "elbo_pg epg exact",
        row: "gmm.epg_exact_kl_as_loss_300it",
        objective: json!({"id": "elbo_pg", "config": {
            "form": "epg", "estimator": "exact", "draws": 8, "kl": 1.0, "shared_draws": true,
        }}),
        rate: 1e-3,
        evaluations: 12 + 3 * 8,
        wanted: Wanted::Nothing,
        ..elbo_pg(rounds, 0.0, true)
    }
}

/// The published recipe: an adaptive bound, A a tenth of the reward, `old` a moving average that also draws.
pub(crate) fn published(rounds: u32) -> Case {
    Case {
        name: "elbo_pg epg published",
        row: "gmm.published_epg_300it",
        objective: json!({"id": "elbo_pg", "config": {
            "form": "epg", "beta": 10.0, "kl": 1e-4, "shared_draws": true,
        }}),
        rate: 1e-3,
        more: json!({"actor": "old", "old": {"rate": 1.0, "most": 0.99}}),
        evaluations: 12 + 3 * 8,
        wanted: Wanted::Frontier(2.0, 1.5),
        ..elbo_pg(rounds, 0.0, true)
    }
}

pub(crate) fn adjoint(rounds: u32, pairing: &str) -> Case {
    let after = pairing == "after";
    Case {
        name: if after { "adjoint_matching" } else { "adjoint_matching before" },
        row: if after { "gmm.am_next_adjoint" } else { "gmm.am_same_adjoint" },
        objective: json!({"id": "adjoint_matching", "config": {"pairing": pairing}}),
        rollout: json!({"sampler": "ddim:{\"eta\":1}", "grid": "flow_time", "steps": 30}),
        rounds,
        rate: 3e-3,
        more: json!({}),
        evaluations: 4 * 30,
        pairs: false,
        wanted: if after { Wanted::Regret(0.06) } else { Wanted::Nothing },
    }
}

pub(crate) fn flow_grpo(rounds: u32, eta: f64, kl_in: &str) -> Case {
    let (name, row, wanted) = match (eta > 1.0, kl_in) {
        (true, "reward") => {
            ("flow_grpo", "gmm.flowgrpo_eta1.414_kl_in_reward", Wanted::Regret(0.09))
        }
        (true, _) => ("flow_grpo KL as loss", "gmm.flowgrpo_eta1.414_kl_as_loss", Wanted::Nothing),
        _ => ("flow_grpo released", "gmm.flowgrpo_eta0.7_kl_as_loss", Wanted::Regret(0.15)),
    };
    Case {
        name,
        row,
        objective: json!({"id": "flow_grpo", "config": {
            "kl": 1.0, "kl_in": kl_in, "reduce": "sum", "advantage": "mean", "advantage_clip": 1e9, "clip": 1e9,
        }}),
        rollout: sde(&format!("flow_sde:{{\"eta\":{eta}}}"), 20),
        rounds,
        rate: 1e-3,
        more: json!({}),
        evaluations: 4 * 20,
        pairs: false,
        wanted,
    }
}

/// Clipped steps of DDIM, and no KL: as far as so many updates go.
pub(crate) fn ddpo(rounds: u32) -> Case {
    Case {
        name: "ddpo",
        row: "",
        objective: json!({"id": "ddpo", "config": {"reduce": "sum", "clip": 1e9}}),
        rollout: sde("ddim:{\"eta\":1}", 20),
        evaluations: 3 * 20,
        wanted: Wanted::Nothing,
        ..flow_grpo(rounds, 0.7, "loss")
    }
}

pub(crate) fn nft(rounds: u32) -> Case {
    Case {
        name: "nft",
        row: "gmm.nft_beta1_150it",
        objective: json!({"id": "nft", "config": {"estimator": "uniform", "reduce": "sum", "kl": 0.0}}),
        rollout: ode(12),
        rounds,
        rate: 1e-3,
        more: json!({}),
        evaluations: 12 + 2 * 8,
        pairs: false,
        wanted: Wanted::Frontier(2.0, 1.5),
    }
}

pub(crate) fn draft(rounds: u32, last: usize) -> Case {
    let whole = last == 20;
    Case {
        name: if whole { "draft" } else { "draft, last step" },
        row: if whole { "gmm.draft_full_150it" } else { "gmm.draft_1_150it" },
        objective: json!({"id": "draft", "config": {"last": last}}),
        rollout: sde("euler", 20),
        rounds,
        rate: 1e-3,
        more: json!({}),
        evaluations: 20 + last as u32,
        pairs: false,
        wanted: if whole { Wanted::Frontier(2.0, 1.5) } else { Wanted::Nothing },
    }
}

/// On labels, with the weights of the bound; pairs of the model as it was.
pub(crate) fn dpo(rounds: u32, draws: u32) -> Case {
    Case {
        name: if draws == 1 { "dpo" } else { "dpo 16 draws" },
        row: if draws == 1 { "gmm.dpo_T1" } else { "gmm.dpo_T16" },
        objective: json!({"id": "dpo", "config": {"strength": 1.0, "estimator": "exact", "draws": draws}}),
        rollout: ode(12),
        rounds,
        rate: 2e-3,
        more: json!({"actor": "ref", "samples": 2 * SAMPLES}),
        evaluations: 12 + 2 * draws,
        pairs: true,
        wanted: if draws == 1 { Wanted::Frontier(0.3, 1.6) } else { Wanted::Nothing },
    }
}

fn all() -> Vec<Case> {
    let root = std::f64::consts::SQRT_2;
    vec![
        elbo_pg(3000, 1.0, false),
        elbo_pg(10_000, 1.0, false),
        adjoint(3000, "after"),
        adjoint(3000, "before"),
        flow_grpo(4000, root, "reward"),
        flow_grpo(4000, root, "loss"),
        flow_grpo(4000, 0.7, "loss"),
        published(300),
        nft(95),
        draft(95, 20),
        draft(95, 1),
        ddpo(60),
        dpo(1500, 1),
        dpo(1500, 16),
    ]
}

/// `cargo test --release --test tuning table -- --ignored --nocapture`: the rows of docs/objectives.md, three seeds each. Only
/// the rows whose name is that of DIFFX_TUNE where it is set.
#[test]
#[ignore = "the whole table: half an hour of one core"]
fn table() {
    let only = std::env::var("DIFFX_TUNE").ok();
    let mut missed = Vec::new();
    for case in all().iter().filter(|c| only.as_deref().is_none_or(|o| c.name == o)) {
        let got: Vec<Worth> = (1..=3).map(|seed| tuned_and_measured(case, seed, 8192)).collect();
        let list = |f: &dyn Fn(&Worth) -> f64| {
            got.iter().map(|w| format!("{:.3}", f(w))).collect::<Vec<_>>().join(", ")
        };
        let ours = |key: &str| match case.row {
            "" => String::new(),
            row => format!("{:.3}", reference::of(row, key)),
        };
        let others: Vec<String> =
            reference::seeds(case.row).iter().map(|r| format!("{r:.3}")).collect();
        let samples = case.more["samples"].as_u64().unwrap_or(SAMPLES as u64);
        let evaluations = u64::from(case.rounds) * samples * u64::from(case.evaluations);
        println!(
            "| `{}` | {} | {:.0} | {} | {} | {} | {} | {} {} | {:?} |",
            case.name,
            case.rounds,
            evaluations as f64 / 1e6,
            list(&|w| w.reward),
            ours("Er"),
            list(&|w| w.overhead()),
            list(&|w| w.regret),
            ours("regret"),
            others.join(", "),
            case.wanted,
        );
        if !got.iter().all(|w| case.wanted.holds(w)) {
            missed.push(case.name);
        }
    }
    assert!(missed.is_empty(), "not what is wanted: {missed:?}");
}
