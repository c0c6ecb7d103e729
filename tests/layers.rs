//! Who may import whom (ARCHITECTURE.md, "Layers"): reads the `use` lines and paths of every file under `src` and
//! `plugins` and fails on an import upwards or sideways, on `unsafe` outside its rooms, and on files that grew too long.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Room -> the rooms it may name. Itself is always allowed.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("mem", &["base"]),
    ("graph", &["mem", "base"]),
    ("exec", &["graph", "mem", "base"]),
    ("cpu", &["exec", "graph", "mem", "base"]),
    ("cuda", &["exec", "graph", "mem", "base"]),
    ("weights", &["mem", "base"]),
    ("sample", &["exec", "graph", "mem", "base"]),
    ("train", &["sample", "exec", "graph", "mem", "base", "weights"]),
    ("plugin", &["train", "sample", "exec", "graph", "mem", "base"]),
    (
        "engine",
        &["plugin", "train", "sample", "exec", "graph", "mem", "base", "weights", "cpu", "cuda"],
    ),
    ("capi", &["engine", "plugin", "train", "sample", "exec", "graph", "mem", "base"]),
    (
        "command",
        &["engine", "plugin", "train", "sample", "exec", "graph", "mem", "base", "weights"],
    ),
];

/// Path prefixes under `src` that may contain `unsafe`.
const MAY_BE_UNSAFE: &[&str] = &[
    "capi/",
    "plugin/",
    "mem/",
    "cuda/",
    "cpu/",
    "base/philox_avx512.rs",
    "base/philox_simd.rs",
    "command/reward/process.rs", // kill(2) of a group
    "engine/builtin.rs",
    "engine/mod.rs",
];

const MOST_LINES: usize = 800;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(dir: &Path, out: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for path in entries.map_while(Result::ok).map(|e| e.path()) {
        if path.is_dir() {
            if path.file_name().is_some_and(|n| n != "target") {
                rust_files(&path, out);
            }
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

/// The code of a file: comments and the test module are dropped.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    text.lines().map(|l| l.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// The rooms named by `crate::room`, `use crate::{a, b::c}` and `diffx::room`.
fn imports(code: &str) -> Vec<String> {
    let is_word = |c: &char| c.is_alphanumeric() || *c == '_';
    let mut out = Vec::new();
    for prefix in ["crate::", "diffx::"] {
        for (at, _) in code.match_indices(prefix) {
            let rest = &code[at + prefix.len()..];
            let Some(group) = rest.strip_prefix('{') else {
                out.push(rest.chars().take_while(is_word).collect());
                continue;
            };
            let mut depth = 0;
            let mut item = String::new();
            for c in group.chars() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => {
                        out.push(item.trim().chars().take_while(is_word).collect());
                        item.clear();
                        continue;
                    }
                    _ => {}
                }
                item.push(c);
            }
            out.push(item.trim().chars().take_while(is_word).collect());
        }
    }
    out.retain(|name: &String| !name.is_empty());
    out
}

#[test]
fn nothing_imports_upwards_or_sideways() {
    let rooms: BTreeMap<&str, &[&str]> = MAY_IMPORT.iter().copied().collect();
    let mut files = Vec::new();
    rust_files(&root().join("src"), &mut files);
    assert!(files.len() > 20, "found only {} files under src", files.len());
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for path in &files {
        let relative = path.strip_prefix(root().join("src")).unwrap();
        let room = relative.components().next().unwrap().as_os_str().to_str().unwrap();
        let Some(allowed) = rooms.get(room) else {
            assert!(
                ["lib.rs", "main.rs"].contains(&room),
                "src/{room} is in no layer: add it to MAY_IMPORT and ARCHITECTURE.md"
            );
            continue;
        };
        for name in imports(&code(path)) {
            if rooms.contains_key(name.as_str()) {
                seen += 1;
                if name != room && !allowed.contains(&name.as_str()) {
                    wrong.push(format!("src/{} imports {name}", relative.display()));
                }
            }
        }
    }
    assert!(seen > 50, "the reader of imports saw only {seen}: it is broken");
    assert!(wrong.is_empty(), "imports against the layers:\n{}", wrong.join("\n"));
}

#[test]
fn the_reader_sees_every_form_of_import() {
    let text =
        "use crate::base::Result;\nuse crate::{bail, exec::{Session, X}, graph};\n crate::mem::x()";
    assert_eq!(imports(text), ["base", "bail", "exec", "graph", "mem"]);
}

#[test]
fn plugins_know_only_the_sdk() {
    let mut files = Vec::new();
    rust_files(&root().join("plugins"), &mut files);
    for path in files {
        let text = code(&path);
        assert!(
            !text.contains("use diffx::") && !text.contains("diffx::engine"),
            "{} imports the engine: a plugin knows only the SDK",
            path.display()
        );
    }
    for entry in fs::read_dir(root().join("plugins")).unwrap().map_while(Result::ok) {
        let Ok(manifest) = fs::read_to_string(entry.path().join("Cargo.toml")) else { continue };
        let is_sdk = entry.file_name() == "sdk";
        for line in manifest.lines().filter(|l| l.starts_with("diffx")) {
            assert!(
                line.starts_with("diffx-plugin") || (is_sdk && line.starts_with("diffx-event")),
                "plugins/{} depends on {line}",
                entry.file_name().to_string_lossy()
            );
        }
    }
}

/// What the SDK and the command share: a leaf, which only they name.
#[test]
fn the_language_of_events_is_a_leaf() {
    let manifest = fs::read_to_string(root().join("plugins/event/Cargo.toml")).unwrap();
    assert!(!manifest.contains("[dependencies]"), "plugins/event depends on something");
    let mut files = Vec::new();
    rust_files(&root().join("src"), &mut files);
    for path in files {
        let inside = path.starts_with(root().join("src/command"));
        assert!(inside || !code(&path).contains("diffx_event"), "{}", path.display());
    }
}

/// An unmaintained crate, kept at arm's length: the feature `layout-check` and nothing else may need it.
#[test]
fn abi_stable_stands_in_two_manifests_and_is_optional() {
    let mut manifests = vec![root().join("Cargo.toml")];
    let plugins = fs::read_dir(root().join("plugins")).unwrap().map_while(Result::ok);
    manifests.extend(plugins.map(|e| e.path().join("Cargo.toml")).filter(|p| p.exists()));
    let mut found = Vec::new();
    for path in manifests {
        let text = fs::read_to_string(&path).unwrap();
        for line in text.lines().filter(|l| l.starts_with("abi_stable")) {
            assert!(line.contains("optional = true"), "{}: {line}", path.display());
            found.push(path.strip_prefix(root()).unwrap().to_owned());
        }
    }
    found.sort();
    assert_eq!(found, [Path::new("Cargo.toml"), Path::new("plugins/sdk/Cargo.toml")]);
}

#[test]
fn only_builtin_names_the_plugin_crates() {
    let mut files = Vec::new();
    rust_files(&root().join("src"), &mut files);
    for path in files {
        if path.ends_with("engine/builtin.rs") {
            continue;
        }
        let text = code(&path);
        for name in ["models", "processes", "guidance", "samplers", "grids", "objectives"] {
            assert!(
                !text.contains(&format!("diffx_{name}")),
                "{} names the crate diffx_{name}; only engine/builtin.rs may",
                path.display()
            );
        }
    }
}

#[test]
fn unsafe_stays_in_its_rooms() {
    let src = root().join("src");
    let mut files = Vec::new();
    rust_files(&src, &mut files);
    for path in files {
        let relative = path.strip_prefix(&src).unwrap().to_str().unwrap().to_owned();
        if MAY_BE_UNSAFE.iter().any(|room| relative.starts_with(room)) {
            continue;
        }
        for word in ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"] {
            assert!(!code(&path).contains(word), "src/{relative} contains `{word}`");
        }
    }
}

#[test]
fn files_stay_readable() {
    let mut files = Vec::new();
    rust_files(&root().join("src"), &mut files);
    rust_files(&root().join("plugins"), &mut files);
    let mut lines: Vec<(usize, PathBuf)> =
        files.into_iter().map(|p| (fs::read_to_string(&p).unwrap().lines().count(), p)).collect();
    lines.sort();
    let (most, longest) = lines.last().unwrap();
    println!(
        "{} files, median {} lines, longest {most} ({})",
        lines.len(),
        lines[lines.len() / 2].0,
        longest.display()
    );
    assert!(*most <= MOST_LINES, "{} has {most} lines", longest.display());
    for (_, path) in lines {
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("//!"), "{} does not open by saying what it is", path.display());
    }
}
