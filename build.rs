//! Compiles `kernels/*.cu` ahead of time where there is an nvcc, and embeds the images; without one the library is built
//! all the same and a CUDA device is a clear error when it is asked for.
//!
//! `DIFFX_CUDA`: `auto` (default), `off`, `require` (no nvcc is an error). `DIFFX_CUDA_ARCHS`: a shorter list than the
//! shipped one while developing (`90a`). nvcc is looked for in `DIFFX_NVCC`, `CUDA_HOME`, `CUDA_PATH`, `PATH`,
//! `/usr/local/cuda`, and the wheels of `scripts/cuda-toolchain` in `DIFFX_CUDA_WHEELS` or `VIRTUAL_ENV`.

use std::env;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, thread};

/// SASS for every card from Ampere on; what is newer than this list takes the PTX at the end.
const ARCHS: &str = "80,86,89,90a,100a,120";
const VARIABLES: [&str; 7] = [
    "DIFFX_CUDA",
    "DIFFX_CUDA_ARCHS",
    "DIFFX_NVCC",
    "CUDA_HOME",
    "CUDA_PATH",
    "DIFFX_CUDA_WHEELS",
    "VIRTUAL_ENV",
];

fn main() {
    for name in VARIABLES {
        println!("cargo:rerun-if-env-changed={name}");
    }
    println!("cargo:rerun-if-changed=build.rs");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let mode = env::var("DIFFX_CUDA").unwrap_or_else(|_| "auto".into());
    let nvcc = match mode.as_str() {
        "off" => None,
        "auto" | "require" => nvcc(),
        other => panic!("DIFFX_CUDA is {other:?}: want auto, off or require"),
    };
    let images = match nvcc {
        Some(nvcc) => {
            println!("cargo:rerun-if-changed=kernels");
            compile(&nvcc, &out)
        }
        None if mode == "require" => panic!(
            "DIFFX_CUDA=require, and there is no nvcc: set DIFFX_NVCC, or run scripts/cuda-toolchain and set DIFFX_CUDA_WHEELS"
        ),
        None => {
            if mode == "auto" {
                println!(
                    "cargo:warning=no nvcc: diffx is built without CUDA kernels (DIFFX_CUDA=off says so silently)"
                );
            }
            Vec::new()
        }
    };
    let mut table = String::from("pub(super) static IMAGES: &[(&str, &[u8])] = &[\n");
    for (name, image) in images {
        writeln!(table, "    ({name:?}, include_bytes!({image:?})),").expect("a string takes text");
    }
    table.push_str("];\n");
    fs::write(out.join("images.rs"), table).expect("OUT_DIR can be written");
}

/// The first nvcc of the places above.
fn nvcc() -> Option<PathBuf> {
    let file = if cfg!(windows) { "nvcc.exe" } else { "nvcc" };
    let folder = |name: &str| env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let mut places: Vec<PathBuf> = folder("DIFFX_NVCC").into_iter().collect();
    for name in ["CUDA_HOME", "CUDA_PATH"] {
        places.extend(folder(name).map(|home| home.join("bin").join(file)));
    }
    let path = env::var_os("PATH").unwrap_or_default();
    places.extend(env::split_paths(&path).map(|dir| dir.join(file)));
    places.push(Path::new("/usr/local/cuda/bin").join(file));
    for prefix in ["DIFFX_CUDA_WHEELS", "VIRTUAL_ENV"].into_iter().filter_map(folder) {
        let versions = fs::read_dir(prefix.join("lib")).into_iter().flatten().flatten();
        places.extend(versions.map(|v| v.path().join("site-packages/nvidia/cu13/bin").join(file)));
    }
    places.into_iter().find(|p| p.is_file())
}

/// One image a source file, all at the same time.
fn compile(nvcc: &Path, out: &Path) -> Vec<(String, PathBuf)> {
    let mut sources: Vec<PathBuf> = fs::read_dir("kernels")
        .expect("kernels/ is part of the tree")
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.extension().is_some_and(|x| x == "cu"))
        .collect();
    sources.sort();
    let archs = env::var("DIFFX_CUDA_ARCHS").unwrap_or_else(|_| ARCHS.into());
    let each = |source: PathBuf| {
        let name = source.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let image = out.join(&name).with_extension("fatbin");
        let mut command = Command::new(nvcc);
        command.args(["-fatbin", "-O3", "-std=c++17", "--compress-mode=size", "-t0"]);
        command.args(["-fmad=false", "-lineinfo"]); // fma is written where it is meant, so that bits are the CPU's
        for arch in archs.split(',').map(str::trim).filter(|a| !a.is_empty()) {
            command.arg("-gencode").arg(format!("arch=compute_{arch},code=sm_{arch}"));
        }
        command
            .args(["-gencode", "arch=compute_80,code=compute_80", "-o"])
            .arg(&image)
            .arg(&source);
        thread::spawn(move || {
            let done = command.output().unwrap_or_else(|e| panic!("nvcc does not start: {e}"));
            let said = String::from_utf8_lossy(&done.stderr).into_owned();
            assert!(done.status.success(), "nvcc refuses {}:\n{said}", source.display());
            (name, image)
        })
    };
    let running: Vec<_> = sources.into_iter().map(each).collect();
    running.into_iter().map(|t| t.join().unwrap_or_else(|e| std::panic::resume_unwind(e))).collect()
}
