//! Where there is no device, or not the right one: one sentence each, no panic. Each case is a process of its own, for a
//! process opens one driver.

use crate::machine::{self, build, library_path};
use diffx::engine::{Engine, Options};
use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;

/// What an engine on a device says; the body of every case below, which starts it in a process of its own.
#[test]
fn the_engine_says() {
    if !machine::is_child() {
        return;
    }
    let device = std::env::var("DIFFX_TEST_DEVICE").unwrap_or_else(|_| "cuda:0".into());
    let engine = Engine::new(Options { device, ..Options::default() });
    let Ok(engine) = engine.map_err(|e| println!("SAID {} {e}", e.status.name())) else { return };
    println!("SAID open {}", engine.backend().describe().unwrap());
    if std::env::var_os("DIFFX_TEST_RUN").is_some() {
        let run = super::job::trial(&engine);
        println!(
            "SAID {}",
            run.map_or_else(|e| format!("{} {e}", e.status.name()), |()| "ran".into())
        );
    }
}

fn said(variables: &[(&str, &OsStr)]) -> Vec<String> {
    let out = machine::again("faults::the_engine_says", variables);
    out.lines().filter_map(|l| l.split_once("SAID ")).map(|(_, said)| said.to_owned()).collect()
}

fn emulated() -> Option<PathBuf> {
    machine::driver()?; // says that it is skipped
    Some(machine::good())
}

#[test]
fn a_machine_without_a_driver_is_one_sentence() {
    if machine::is_real() {
        return;
    }
    let got = said(&[]);
    let [got] = &got[..] else { panic!("{got:?}") };
    let want = match diffx::cuda::has_kernels() {
        true => {
            "DFX_E_UNSUPPORTED device cuda:0: there is no CUDA driver on this machine (libcuda), use cpu"
        }
        false => {
            "DFX_E_UNSUPPORTED device cuda:0: this build of diffx has no CUDA kernels (no nvcc was found when it was built), use cpu"
        }
    };
    assert_eq!(got, want);
}

#[test]
fn a_name_that_is_no_device_is_named() {
    for device in ["cuda:", "cuda:x", "cuda:-1", "cuda:99999", "cudax", "gpu"] {
        let got = said(&[("DIFFX_TEST_DEVICE", OsStr::new(device))]);
        assert_eq!(got, [format!("DFX_E_INVALID device {device:?}: want cpu or cuda:N")]);
    }
}

#[test]
fn other_machines_are_one_sentence_each() {
    let Some(dir) = emulated() else { return };
    let path = library_path(&dir);
    let rows = [
        ("none", "cuda:0", "there is no CUDA device on this machine"),
        (
            "old",
            "cuda:0",
            "the CUDA driver here is for CUDA 12.4, want driver 580 (CUDA 13.0) or newer",
        ),
        ("", "cuda:1", "there are 1 CUDA devices on this machine"),
    ];
    for (fake, device, want) in rows {
        let got = said(&[
            ("LD_LIBRARY_PATH", path.as_os_str()),
            ("FAKE_CUDA", OsStr::new(fake)),
            ("DIFFX_TEST_DEVICE", OsStr::new(device)),
        ]);
        let [got] = &got[..] else { panic!("{fake}: {got:?}") };
        assert!(got.starts_with("DFX_E_UNSUPPORTED device cuda:") && got.contains(want), "{got}");
    }
}

#[test]
fn a_driver_without_a_symbol_is_one_sentence() {
    let Some(dir) = emulated() else { return };
    let dir = dir.parent().unwrap().join("cuda-empty");
    std::fs::create_dir_all(&dir).unwrap();
    let source = dir.join("empty.c");
    std::fs::write(&source, "int cuInit(unsigned f) { return 0; }\nconst char diffx_emulated_kernels[8] = \"EMULATE\";\n").unwrap();
    let done = Command::new("g++")
        .args(["-x", "c", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o"])
        .arg(dir.join("libcuda.so.1"))
        .arg(source)
        .status();
    assert!(done.unwrap().success());
    let got = said(&[("LD_LIBRARY_PATH", library_path(&dir).as_os_str())]);
    let [got] = &got[..] else { panic!("{got:?}") };
    assert!(
        got.contains("the CUDA driver here has no cuDriverGetVersion: want driver 580"),
        "{got}"
    );
}

#[test]
fn a_device_that_fails_is_a_status() {
    let Some(dir) = emulated() else { return };
    let path = library_path(&dir);
    let rows = [
        ("lost", "DFX_E_DEVICE a kernel failed; the device is lost"),
        ("small", "DFX_E_NO_MEMORY a session of"),
        ("", "ran"),
    ];
    for (fake, want) in rows {
        let got = said(&[
            ("LD_LIBRARY_PATH", path.as_os_str()),
            ("FAKE_CUDA", OsStr::new(fake)),
            ("DIFFX_TEST_RUN", OsStr::new("1")),
        ]);
        let [opened, ran] = &got[..] else { panic!("{fake}: {got:?}") };
        assert!(opened.starts_with("open cuda:0, emulated by the host, sm_90"), "{opened}");
        assert!(ran.starts_with(want), "{fake}: {ran}");
    }
}

/// What makes gcc stop where C++ defines nothing: overflow, shifts, indices, alignment.
const UNDEFINED: &[&str] = &[
    "-fsanitize=undefined",
    "-fno-sanitize=vptr",
    "-fno-sanitize-recover=all",
    "-static-libubsan",
];

/// Faults planted in the kernels: the tests above must see each. `what` is built, run in a process of its own with the
/// tests of the op table, of tiles and of the end of memory, and has to fail there.
#[test]
fn planted_faults_are_seen() {
    if machine::driver().is_none() {
        return;
    }
    let planted = |name, flag| build(name, &[flag]).expect("the good one was built");
    let checked = |name, flags: &[&str]| {
        let flags: Vec<&str> = UNDEFINED.iter().chain(flags).copied().collect();
        (name, build(name, &flags).expect("the good one was built"))
    };
    let mut rows = vec![
        ("race", planted("race", "-DPLANT_RACE")),
        ("overrun", planted("overrun", "-DPLANT_OVERRUN")),
        ("fragment", planted("fragment", "-DPLANT_FRAGMENT")),
        ("good", machine::good()),
    ];
    if machine::links(UNDEFINED) {
        rows.push(checked("shift", &["-DPLANT_SHIFT"]));
        rows.push(checked("good-checked", &[]));
    } else {
        println!("skipped: g++ has no undefined-behaviour sanitizer (libubsan.a)");
    }
    for (name, dir) in rows {
        let run = |test: &str| {
            let path = library_path(&dir);
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args(["--exact", test]).env("LD_LIBRARY_PATH", path).env("DIFFX_TEST_GPU", "1");
            command.env("DIFFX_TEST_PLANTED", name);
            command.output().unwrap().status.success()
        };
        let tests = [
            "tiles::weights_of_bf16_cost_the_other_operand_no_digits",
            "job::a_tensor_at_the_end_of_memory",
            "ops::f32_within_the_table",
        ];
        let seen = !tests.into_iter().all(run);
        assert_eq!(seen, !name.starts_with("good"), "{name}");
    }
}
