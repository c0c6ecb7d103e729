//! The built-in plugins as files. Each is loaded in the place of the one that is linked in, and beside it under another
//! name; what is sampled, simulated and trained through it has the bits of the built-in one.

use crate::tree::{FAMILIES, has, run, scratch, tree};
use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const SAMPLE: &[&str] = &["sample", "vix", "--num", "4", "--seed", "5", "--steps", "4"];
const SIMULATE: &[&str] =
    &["simulate", "--x0", "0.5", "--times", "0.5,1", "-n", "3", "--seed", "5"];
const TRAIN: &[&str] = &[
    "train",
    "--data",
    "data.csv",
    "--window",
    "8",
    "--history",
    "6",
    "--steps",
    "3",
    "--batch",
    "4",
    "--seed",
    "1",
];

/// A family, what is run through it, and the factories of it that are named there.
type Case = (&'static str, &'static [&'static str], &'static [&'static [&'static str]]);

const CASES: &[Case] = &[
    (
        "samplers",
        SAMPLE,
        &[
            &["--sampler", "org.diffx.euler"],
            &["--sampler", "org.diffx.heun"],
            &["--sampler", "org.diffx.ancestral"],
            &["--sampler", "org.diffx.churn"],
            &["--sampler", "org.diffx.ddim"],
            &["--sampler", "org.diffx.em"],
            &["--sampler", "org.diffx.dpmpp_2m"],
            &["--sampler", "org.diffx.dpmpp_3m"],
            &["--sampler", "org.diffx.sde_dpmpp_2m"],
            &["--sampler", "org.diffx.dpmpp_2s"],
            &["--sampler", "org.diffx.unipc"],
            &["--sampler", "org.diffx.rk4"],
            &["--sampler", "org.diffx.stochastic_heun"],
            &["--sampler", "org.diffx.seeds2"],
        ],
    ),
    (
        "grids",
        SAMPLE,
        &[
            &["--grid", "org.diffx.edm"],
            &["--grid", "org.diffx.geometric"],
            &["--grid", "org.diffx.uniform"],
            &["--grid", "org.diffx.uniform_lambda"],
            &["--grid", "org.diffx.cosine"],
            &["--grid", "org.diffx.flow_time"],
        ],
    ),
    (
        "guidance",
        SAMPLE,
        &[
            &["--guidance", "org.diffx.cfg:{\"scale\":2}"],
            &["--guidance", "org.diffx.reject:{\"event\":\"max(x) >= 20\"}"],
        ],
    ),
    (
        "processes",
        SIMULATE,
        &[
            &["--process", "org.diffx.cir"],
            &["--process", "org.diffx.besq"],
            &["--process", "org.diffx.gbm"],
            &["--process", "org.diffx.ou"],
            &["--process", "org.diffx.ve"],
        ],
    ),
    (
        "models",
        TRAIN,
        &[&["--model", "org.diffx.temporal", "--process", "cir", "--objective", "dsm"]],
    ),
    (
        "objectives",
        TRAIN,
        &[&["--objective", "org.diffx.dsm", "--process", "cir", "--model", "temporal"]],
    ),
];

/// Where the tests here work, with a series to train on.
fn desk(name: &str) -> PathBuf {
    let dir = scratch().join(name);
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut csv = String::from("DATE,CLOSE\n");
    for i in 0..60 {
        let value = 20.0 + 5.0 * f64::from(i).sin();
        writeln!(csv, "2000-{:02}-{:02},{value}", 1 + i / 28, 1 + i % 28).unwrap();
    }
    std::fs::write(dir.join("data.csv"), csv).unwrap();
    dir
}

/// What the command of the tree writes with these plugins. It must end well.
fn written(tree: &Path, dir: &Path, plugins: &[PathBuf], words: &[&str]) -> Vec<u8> {
    let out = dir.join("out.safetensors");
    let _ = std::fs::remove_file(&out);
    let mut command = Command::new(tree.join("bin/diffx"));
    command.current_dir(dir);
    for plugin in plugins {
        command.arg("--plugin").arg(plugin);
    }
    run(command.args(words).arg("-o").arg(&out));
    std::fs::read(out).unwrap()
}

fn file(tree: &Path, family: &str) -> PathBuf {
    tree.join(format!("lib/diffx/plugins/{family}.so"))
}

/// One symbol, every factory of it is made, and its name is that of the built-in one.
#[test]
fn a_built_in_as_a_file_is_a_plugin() {
    let (Some(tree), true) = (tree(), has("nm")) else { return };
    for family in FAMILIES {
        let file = file(tree, family);
        let text = run(Command::new("nm").args(["-D", "--defined-only"]).arg(&file));
        let symbols: Vec<&str> = text.lines().filter_map(|l| l.split(' ').next_back()).collect();
        assert_eq!(symbols, ["diffx_plugin_v0"], "{family}");
        let said = run(Command::new(tree.join("bin/diffx")).args(["plugin", "check"]).arg(&file));
        assert!(said.starts_with(&format!("org.diffx.{family} ")), "{said}");
        assert!(said.lines().skip(1).all(|l| l.contains("  org.diffx.")), "{said}");
    }
}

#[test]
fn files_in_the_place_of_the_built_ins_give_the_same_bits() {
    let Some(tree) = tree() else { return };
    let dir = desk("in place");
    let all: Vec<PathBuf> = FAMILIES.iter().map(|f| file(tree, f)).collect();
    // all six are in use then, none of the linked ones is
    let mut list = Command::new(tree.join("bin/diffx"));
    for plugin in &all {
        list.arg("--plugin").arg(plugin);
    }
    let said = run(list.args(["--json", "plugins"]));
    let plugins: serde_json::Value = serde_json::from_str(&said).unwrap();
    let files: Vec<&str> =
        plugins.as_array().unwrap().iter().filter_map(|p| p["file"].as_str()).collect();
    assert_eq!(files.len(), FAMILIES.len(), "{said}");
    assert_eq!(plugins.as_array().unwrap().len(), FAMILIES.len(), "{said}");
    for (family, words, named) in CASES {
        let mut different = std::collections::BTreeSet::new();
        for more in *named {
            let words = [words, *more].concat();
            let linked = written(tree, &dir, &[], &words);
            different.insert(linked.clone());
            assert!(linked == written(tree, &dir, &[file(tree, family)], &words), "{words:?}");
        }
        // another factory shows: the comparison can fail
        assert!(different.len() > named.len() / 2, "{family}: {} results", different.len());
    }
    // the carried model by its own process, sampler, grid and guidance
    for family in FAMILIES {
        let one = written(tree, &dir, &[file(tree, family)], SAMPLE);
        assert!(one == written(tree, &dir, &[], SAMPLE), "{family}");
    }
    let words = [SAMPLE, &["--guidance", "cfg:{\"scale\":2}", "--sampler", "churn"]].concat();
    assert!(written(tree, &dir, &all, &words) == written(tree, &dir, &[], &words));
}

/// Under names that only the files have: so it is the code of the files that runs.
#[test]
fn files_beside_the_built_ins_give_the_same_bits() {
    let Some(tree) = tree() else { return };
    let dir = desk("beside");
    let (ours, theirs) = ("org.diffx.", "org.files.");
    let all: Vec<PathBuf> = FAMILIES
        .iter()
        .map(|family| {
            let renamed = exchange(&std::fs::read(file(tree, family)).unwrap(), ours, theirs);
            let to = dir.join(format!("{family}.so"));
            std::fs::write(&to, renamed).unwrap();
            to
        })
        .collect();
    for (_, words, named) in CASES {
        for more in named.iter().take(2) {
            let linked = [words, *more].concat();
            let renamed: Vec<String> = linked.iter().map(|w| w.replace(ours, theirs)).collect();
            assert!(renamed.iter().any(|w| w.contains(theirs)));
            let renamed: Vec<&str> = renamed.iter().map(String::as_str).collect();
            let got = exchange(&written(tree, &dir, &all, &renamed), theirs, ours);
            assert!(got == written(tree, &dir, &[], &linked), "{linked:?}");
        }
    }
}

/// The bytes with one name in the place of another of the same length.
fn exchange(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut out = bytes.to_vec();
    let mut at = 0;
    while let Some(found) = out[at..].windows(from.len()).position(|w| w == from.as_bytes()) {
        out[at + found..at + found + to.len()].copy_from_slice(to.as_bytes());
        at += found + to.len();
    }
    out
}
