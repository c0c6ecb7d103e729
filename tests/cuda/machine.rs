//! The driver of the tests: builds `emulator/driver.cpp` with g++ and opens it, so that the `libcuda.so.1` this process
//! finds is one that runs the kernels on the host. On a machine with a GPU, `DIFFX_TEST_GPU=1` leaves the real one.
#![allow(dead_code)] // each test program uses its part

use diffx::cuda::{self, Options};
use diffx::exec::Backend;
use libloading::Library;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};

/// Whether the tests are to run on a device.
pub(crate) fn is_real() -> bool {
    std::env::var_os("DIFFX_TEST_GPU").is_some_and(|v| v == "1")
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Compiles `driver.cpp` as libcuda.so.1 in a folder of its own; `None` where there is no g++.
pub(crate) fn build(name: &str, flags: &[&str]) -> Option<PathBuf> {
    if !cfg!(all(target_arch = "x86_64", target_os = "linux")) {
        return None; // the fibers are switched by hand
    }
    let dir = folder(name);
    std::fs::create_dir_all(&dir).expect("the target folder can be written");
    let to = dir.join("libcuda.so.1");
    // under a name of this process first: others may be loading the one that is there
    let own = dir.join(format!("building-{}", std::process::id()));
    let emulator = root().join("tests/cuda/emulator");
    let mut command = Command::new("g++");
    command.args(["-O1", "-std=c++17", "-shared", "-fPIC", "-ffp-contract=off", "-w"]);
    command.args(["-DDIFFX_EMULATE", "-Wl,-soname,libcuda.so.1", "-I"]).arg(&emulator);
    command.args(flags).arg("-o").arg(&own).arg(emulator.join("driver.cpp"));
    let done = command.output().ok()?;
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    std::fs::rename(&own, &to).expect("the target folder can be written");
    Some(dir)
}

/// Whether g++ has what these flags ask for.
pub(crate) fn links(flags: &[&str]) -> bool {
    let mut command = Command::new("g++");
    command.args(["-x", "c++", "-shared", "-fPIC", "-o", "/dev/null", "/dev/null"]).args(flags);
    command.output().is_ok_and(|done| done.status.success())
}

/// Where the driver without faults lies, once `driver` built it.
pub(crate) fn good() -> PathBuf {
    folder("good")
}

fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("cuda-{name}"))
}

/// The emulated driver of this process, opened before anything asks for one. `None`: said to be skipped, or a real device
/// is asked for, beside which it would be found in the place of the real driver.
pub(crate) fn driver() -> Option<&'static Library> {
    if is_real() {
        return None;
    }
    static DRIVER: OnceLock<Option<Library>> = OnceLock::new();
    let found = DRIVER.get_or_init(|| {
        let dir = build("good", &[])?;
        // Safety: our own library; its initialisers fill a list.
        Some(unsafe { Library::new(dir.join("libcuda.so.1")) }.expect("the emulated driver loads"))
    });
    if found.is_none() {
        println!("skipped: compiler g++ for x86-64 Linux is needed to emulate a CUDA device");
    }
    found.as_ref()
}

/// A device: a real one where that is asked for, else the emulated one. `None`: said to be skipped.
pub(crate) fn device(bytes: u64) -> Option<Arc<dyn Backend>> {
    if !is_real() {
        driver()?;
    }
    let options = Options { device: "cuda:0", stream: std::ptr::null_mut(), bytes };
    let device = cuda::open(options).unwrap_or_else(|e| panic!("{e}"));
    let name = device.describe().unwrap_or_else(|e| panic!("{e}"));
    let planted = std::env::var_os("DIFFX_TEST_PLANTED").is_some(); // an emulated one in the place of a real one
    assert_eq!(name.contains("emulated"), planted || !is_real(), "{name}");
    Some(device)
}

/// Runs one test of this program again in a process with other variables, and gives back what it printed.
pub(crate) fn again(test: &str, variables: &[(&str, &OsStr)]) -> String {
    let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]);
    command.envs(variables.iter().copied()).env("DIFFX_TEST_CHILD", "1");
    let done = command.output().expect("this program starts again");
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    let err = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{test}: {said}\n{err}");
    assert!(!err.contains("panicked"), "{test}: {err}");
    said
}

/// Whether this process was started by `again`.
pub(crate) fn is_child() -> bool {
    std::env::var_os("DIFFX_TEST_CHILD").is_some()
}

/// A library path with `dir` in front.
pub(crate) fn library_path(dir: &Path) -> OsString {
    let mut path = dir.as_os_str().to_owned();
    if let Some(old) = std::env::var_os("LD_LIBRARY_PATH") {
        path.push(":");
        path.push(old);
    }
    path
}

/// What the emulated driver counted: launches, graph launches, allocations alive, copies from the host.
pub(crate) fn counts(driver: &Library) -> [i64; 4] {
    let mut to = [0; 4];
    // Safety: the function of driver.cpp, which writes four numbers.
    unsafe {
        let f: libloading::Symbol<'_, unsafe extern "C" fn(*mut i64)> =
            driver.get(b"diffx_emulated_counts").expect("driver.cpp exports it");
        f(to.as_mut_ptr());
    }
    to
}

/// In which order the threads of a block run: 0 up, 1 down.
pub(crate) fn order(driver: &Library, order: i32) {
    // Safety: the function of driver.cpp.
    unsafe {
        let f: libloading::Symbol<'_, unsafe extern "C" fn(i32)> =
            driver.get(b"diffx_emulated_order").expect("driver.cpp exports it");
        f(order);
    }
}
