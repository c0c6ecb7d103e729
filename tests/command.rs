//! The `diffx` program from outside: what it prints, writes and returns.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn scratch(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("diffx-command-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

fn diffx(dir: &Path, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_diffx")).current_dir(dir).args(words).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs, wants success, gives what was printed.
fn good(dir: &Path, words: &[&str]) -> String {
    let out = diffx(dir, words);
    assert!(out.status.success(), "{words:?}: {}", text(&out.stderr));
    text(&out.stdout)
}

/// Runs, wants this exit code and one line that says why.
fn bad(dir: &Path, words: &[&str], code: i32, want: &str) {
    let out = diffx(dir, words);
    let said = text(&out.stderr);
    assert_eq!(out.status.code(), Some(code), "{words:?}: {said}");
    assert!(said.contains(want), "{words:?}: {said}");
    if code == 1 {
        assert_eq!(said.trim_end().lines().count(), 1, "{said}");
        assert!(said.starts_with("diffx: "), "{said}");
    }
}

/// A mean-reverting positive series with a date per line.
fn series(path: &Path, n: usize) {
    let mut state = 3u64;
    let mut value = 20.0f64;
    let mut out = String::from("DATE,CLOSE\n");
    for i in 0..n {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let z = (state >> 11) as f64 / (1u64 << 53) as f64 - 0.5;
        value += 0.1 * (20.0 - value) + value.sqrt() * z;
        let (year, month, day) = (2000 + i / 336, i / 28 % 12 + 1, i % 28 + 1);
        out.push_str(&format!("{year}-{month:02}-{day:02},{value:.4}\n"));
    }
    std::fs::write(path, out).unwrap();
}

#[test]
fn words_that_make_no_sense_are_code_2_and_faults_code_1() {
    let dir = scratch("words");
    bad(&dir, &["simulat"], 2, "simulat");
    bad(&dir, &["sample", "vix", "--steps", "x", "-o", "a.npy"], 2, "--steps");
    bad(&dir, &["sample", "vix", "-o", "a.gif"], 2, "must end in .safetensors, .npy, .csv or .png");
    bad(&dir, &["sample", "vix", "--process", "cir:{", "-o", "a.npy"], 2, "JSON");
    bad(&dir, &["inspect", "none.safetensors"], 1, "none.safetensors: no such file");
    bad(&dir, &["sample", "none.safetensors", "-o", "a.npy"], 1, "no such file");
    bad(&dir, &["doctor", "--plugin", "/none.so"], 1, "none.so");
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn plugins_are_listed_and_the_machine_is_described() {
    let dir = scratch("list");
    let list = good(&dir, &["plugins"]);
    for id in ["org.diffx.cir", "org.diffx.temporal", "org.diffx.heun", "org.diffx.dsm"] {
        assert!(list.contains(id), "{list}");
    }
    let edm = good(&dir, &["plugins", "edm"]);
    assert!(edm.contains("rho") && edm.contains("from 1, up to 100, default 7"), "{edm}");
    bad(&dir, &["plugins", "no-such"], 1, "no plugin is called no-such");
    let json: serde_json::Value =
        serde_json::from_str(&good(&dir, &["plugins", "--json"])).unwrap();
    assert!(json.as_array().is_some_and(|a| a.len() >= 6));
    let doctor: serde_json::Value =
        serde_json::from_str(&good(&dir, &["doctor", "--json"])).unwrap();
    assert!(doctor["cuda"].is_string() && doctor["cores"].is_string(), "{doctor}");
    std::fs::remove_dir_all(&dir).unwrap();
}

/// What stands in the environment is loaded only for who asks for it.
#[test]
fn plugins_of_the_environment_are_loaded_with_a_flag() {
    let dir = scratch("environment");
    for (words, loads) in [(&["doctor"][..], false), (&["doctor", "--env-plugins"], true)] {
        let out = Command::new(env!("CARGO_BIN_EXE_diffx"))
            .current_dir(&dir)
            .args(words)
            .env("DIFFX_PLUGIN_PATH", "/nowhere/plugin.so")
            .output()
            .unwrap();
        assert!(out.status.success());
        let said = text(&out.stderr);
        assert_eq!(said.contains("/nowhere/plugin.so"), loads, "{words:?}: {said}");
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn starts_are_one_for_all_unless_said() {
    let dir = scratch("starts");
    let words = ["simulate", "--process", "cir", "--times", "1e-9", "-n", "3", "-o", "paths.csv"];
    let three = ["--x0", "1,2,3", "--per-sample"];
    good(&dir, &[&words[..], &three[..]].concat());
    let csv = std::fs::read_to_string(dir.join("paths.csv")).unwrap();
    let ends: Vec<f64> =
        csv.lines().skip(1).map(|l| l.split(',').nth(1).unwrap().parse().unwrap()).collect();
    assert!(ends.iter().zip([1.0, 2.0, 3.0]).all(|(x, x0)| (x - x0).abs() < 0.01), "{ends:?}");
    let two = ["--x0", "1,2", "--per-sample"];
    bad(&dir, &[&words[..], &two[..]].concat(), 2, "want 3 starts");
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn simulated_cir_has_the_mean_of_its_law() {
    let dir = scratch("simulate");
    let words = ["simulate", "--process", "cir:{\"kappa\":1.0,\"theta\":0.5,\"sigma\":0.8}"];
    let more = ["--x0", "2.0", "--times", "0.5,2", "-n", "20000", "--seed", "4", "-o", "paths.csv"];
    good(&dir, &[&words[..], &more[..]].concat());
    let csv = std::fs::read_to_string(dir.join("paths.csv")).unwrap();
    let mut lines = csv.lines();
    assert_eq!(lines.next(), Some("sample,t=0.5,t=2"));
    let rows: Vec<Vec<f64>> =
        lines.map(|l| l.split(',').map(|c| c.parse().unwrap()).collect()).collect();
    assert_eq!((rows.len(), rows[19_999][0]), (20_000, 19_999.0));
    for (k, t) in [(1, 0.5f64), (2, 2.0)] {
        let mean = rows.iter().map(|r| r[k]).sum::<f64>() / 20_000.0;
        let e = (-t).exp();
        let want = 2.0 * e + 0.5 * (1.0 - e);
        let variance = 2.0 * 0.64 * (e - e * e) + 0.5 * 0.32 * (1.0 - e).powi(2);
        let error = 4.5 * (variance / 20_000.0).sqrt();
        assert!((mean - want).abs() < error, "t={t}: {mean}, want {want} +- {error}");
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

/// Train, look, sample in every format, evaluate; the same ids give the same samples whatever the batch.
#[test]
fn a_model_from_a_csv_to_a_picture() {
    let dir = scratch("whole");
    series(&dir.join("data.csv"), 600);
    let model = "temporal:{\"width\":16,\"depth\":1,\"heads\":2}";
    let words = [
        "train",
        "--data",
        "data.csv",
        "--window",
        "8",
        "--history",
        "6",
        "--split",
        "2001-06-01",
        "--model",
        model,
        "--process",
        "cir",
        "--steps",
        "30",
        "--batch",
        "16",
        "--seed",
        "7",
        "-o",
        "model.safetensors",
    ];
    let said = good(&dir, &words);
    assert!(said.contains("values to train") && said.contains("held out"), "{said}");
    let first = std::fs::read(dir.join("model.safetensors")).unwrap();
    good(&dir, &[&words[..words.len() - 1], &["again.safetensors"]].concat());
    assert_eq!(first, std::fs::read(dir.join("again.safetensors")).unwrap());

    let inspected: serde_json::Value =
        serde_json::from_str(&good(&dir, &["inspect", "model.safetensors", "--json"])).unwrap();
    let about = &inspected["metadata"]["diffx"];
    assert_eq!(about["model"]["id"], "org.diffx.temporal");
    assert_eq!(about["model"]["config"]["window"], 8);
    assert_eq!(about["model"]["config"]["history_log"], true);
    assert_eq!(about["data"]["history_values"].as_array().unwrap().len(), 6);
    assert_eq!(about["data"]["held_out_dates"][0], "2001-06-01");
    let process = &about["components"][0]["process"];
    assert_eq!(process["id"], "org.diffx.cir");
    assert!((process["config"]["theta"].as_f64().unwrap() - 20.0).abs() < 2.0, "{process}");

    let sample = |more: &[&str]| {
        good(
            &dir,
            &[&["sample", "model.safetensors", "--steps", "6", "--seed", "3"], more].concat(),
        )
    };
    sample(&["-n", "40", "-o", "a.csv", "-o", "a.png", "-o", "a.npy", "-o", "a.safetensors"]);
    let csv = std::fs::read_to_string(dir.join("a.csv")).unwrap();
    let lines: Vec<&str> = csv.lines().collect();
    assert!(lines[0].starts_with("sample,2001-06-01,"), "{}", lines[0]);
    assert_eq!(lines.len(), 41);
    assert!(std::fs::read(dir.join("a.png")).unwrap().starts_with(b"\x89PNG"));
    let values: Vec<f64> =
        lines[1..].iter().flat_map(|l| l.split(',').skip(1)).map(|v| v.parse().unwrap()).collect();
    assert!(values.iter().all(|v| *v > 0.0 && v.is_finite()));
    sample(&["--first-sample", "25", "--batch", "7", "-n", "15", "-o", "b.csv"]);
    let later = std::fs::read_to_string(dir.join("b.csv")).unwrap();
    assert_eq!(later.lines().collect::<Vec<_>>()[1..], lines[26..41]);
    bad(
        &dir,
        &["sample", "model.safetensors", "--cond", "{\"history\":[1,2]}", "-o", "c.csv"],
        1,
        "want f32[6,1]",
    );
    bad(
        &dir,
        &["sample", "model.safetensors", "--cond", "{\"past\":[1,2]}", "-o", "c.csv"],
        1,
        "there are: history",
    );

    let x = [20.0f32; 16].iter().flat_map(|v| v.sqrt().to_le_bytes()).collect::<Vec<u8>>();
    let desc = |dims: &[usize]| diffx::base::Desc::new(diffx::base::DType::F32, dims).unwrap();
    let sigma: Vec<u8> = [0.5f32, 1.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    diffx::weights::write(
        &dir.join("in.safetensors"),
        &Default::default(),
        &[
            diffx::weights::Out { name: "x", desc: desc(&[2, 8]), bytes: &x },
            diffx::weights::Out { name: "sigma", desc: desc(&[2]), bytes: &sigma },
        ],
    )
    .unwrap();
    good(
        &dir,
        &[
            "eval",
            "model.safetensors",
            "--inputs",
            "in.safetensors",
            "--grad",
            "-o",
            "out.safetensors",
        ],
    );
    let out = diffx::weights::SafeTensors::open(&dir.join("out.safetensors")).unwrap();
    let names: Vec<&str> = out.entries().iter().map(|e| e.name.as_str()).collect();
    for name in ["x", "grad.x", "grad.sigma"] {
        assert!(names.contains(&name), "{names:?}");
    }
    likelihoods(&dir);
    std::fs::remove_dir_all(&dir).unwrap();
}

/// Nats and bits per dimension of a file of samples, exact and estimated.
fn likelihoods(dir: &Path) {
    good(dir, &["sample", "model.safetensors", "--num", "3", "--steps", "6", "-o", "s.npy"]);
    let score = |more: &[&str], out: &str| {
        let words = ["score", "model.safetensors", "--data", "s.npy", "--steps", "6", "-o", out];
        let said = good(dir, &[&words[..], more].concat());
        assert!(said.contains("bits per dimension"), "{said}");
        let file = diffx::weights::SafeTensors::open(&dir.join(out)).unwrap();
        let budget = diffx::mem::Budget::unlimited();
        let of =
            |name: &str| file.tensor(name, &budget).unwrap().elements::<f64>().unwrap().to_vec();
        (of("log_likelihood"), of("bits_per_dim"))
    };
    let (nats, bits) = score(&[], "exact.safetensors");
    assert_eq!((nats.len(), bits.len()), (3, 3));
    for (n, b) in nats.iter().zip(&bits) {
        assert!(n.is_finite() && (b + n / (8.0 * std::f64::consts::LN_2)).abs() < 1e-9);
    }
    let (estimated, _) = score(&["--probes", "256"], "estimated.safetensors");
    for (e, n) in estimated.iter().zip(&nats) {
        assert!((e - n).abs() < 0.05 * (1.0 + n.abs()), "{estimated:?} for {nats:?}");
    }
    assert!(estimated != nats);
    bad(
        dir,
        &["score", "model.safetensors", "--data", "in.safetensors", "-o", "a.csv"],
        1,
        "there is no condition named sigma",
    );
}

#[test]
fn a_pilot_is_kept_in_the_model_file() {
    let dir = scratch("pilot");
    let said = good(&dir, &["pilot", "vix", "--num", "16", "-o", "art.safetensors", "--json"]);
    assert_eq!(said.trim(), r#"{"levels":65,"model":"art.safetensors","samples":16}"#);
    // the file samples by its grid at any number of steps; alone, sample measures by itself
    for (model, out) in [("art.safetensors", "a.npy"), ("vix", "b.npy")] {
        good(&dir, &["sample", model, "--grid", "art", "--steps", "6", "--num", "4", "-o", out]);
    }
    let bytes = |name: &str| std::fs::read(dir.join(name)).unwrap();
    assert_ne!(bytes("a.npy"), bytes("b.npy"), "other pilots, other grids");
    good(&dir, &["sample", "art.safetensors", "--steps", "6", "--num", "4", "-o", "c.npy"]);
    assert_eq!(bytes("a.npy"), bytes("c.npy"), "the grid is the default of the file");
    bad(&dir, &["pilot", "vix", "--grid", "edm", "-o", "x.safetensors"], 1, "wants a pilot run");
}

#[test]
fn bad_data_is_one_sentence_with_its_line() {
    let dir = scratch("data");
    std::fs::write(dir.join("bad.csv"), "DATE,CLOSE\n2000-01-03,1\n2000-01-04,x\n").unwrap();
    let train = |data: &str| {
        let words = [
            "train",
            "--data",
            data,
            "--model",
            "temporal",
            "--process",
            "cir",
            "-o",
            "m.safetensors",
        ];
        diffx(&dir, &words)
    };
    let said = text(&train("bad.csv").stderr);
    assert!(said.contains("bad.csv: line 3: CLOSE is \"x\", want a number"), "{said}");
    series(&dir.join("short.csv"), 10);
    let said = text(&train("short.csv").stderr);
    assert!(said.contains("hold no window of 0 + 32"), "{said}");
    assert!(!dir.join("m.safetensors").exists());
    std::fs::remove_dir_all(&dir).unwrap();
}
