//! `diffx.h` against `src/capi`: prototypes and structs that cbindgen reads from the Rust are compiled in one file with
//! the header, where any difference is an error of the compiler; and the library exports what the header declares and
//! nothing else. cbindgen only checks: the header is written by hand. A slip planted in a copy of `src/capi` shows that
//! each check bites.

use crate::compiler::{Language, command, folder, include, root};
use cbindgen::{Builder, Config, ItemType, SortKey, Style};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Types of `src/capi` and their names in the headers.
const NAMES: &[(&str, &str)] = &[
    ("CEngine", "dfx_engine"),
    ("CModel", "dfx_model"),
    ("CPipeline", "dfx_pipeline"),
    ("CJob", "dfx_job"),
    ("CTensor", "dfx_tensor"),
    ("CTrainer", "dfx_trainer"),
    ("CTuner", "dfx_tuner"),
    ("CError", "dfx_error"),
    ("CDesc", "dfx_desc"),
    ("Allocator", "dfx_allocator"),
    ("EngineOptions", "dfx_engine_options"),
    ("CProgress", "dfx_progress"),
    ("CPreview", "dfx_preview"),
    ("CJobOptions", "dfx_job_options"),
    ("SimulateOptions", "dfx_simulate_options"),
    ("EvalOptions", "dfx_eval_options"),
    ("ScoreOptions", "dfx_score_options"),
    ("Training", "dfx_training"),
    ("TrainerOptions", "dfx_trainer_options"),
    ("RolloutOptions", "dfx_rollout_options"),
    ("CReward", "dfx_reward"),
    ("LogFn", "dfx_log_fn"),
    ("ProgressFn", "dfx_progress_fn"),
    ("Plugin", "dfx_plugin"),
    ("Managed", "DLManagedTensorVersioned"),
];

fn header() -> String {
    std::fs::read_to_string(include().join("diffx.h")).unwrap()
}

/// What cbindgen writes for the functions or the structs of `dir`, under the names of the header.
fn generated(dir: &Path, items: ItemType) -> String {
    let mut config = Config { no_includes: true, usize_is_size_t: true, ..Config::default() };
    config.language = cbindgen::Language::C;
    config.style = Style::Type;
    config.documentation = false;
    config.function.sort_by = Some(SortKey::None);
    config.export.item_types = vec![items];
    config.export.rename = NAMES.iter().map(|(rust, c)| ((*rust).into(), (*c).into())).collect();
    let mut out = Vec::new();
    let builder = Builder::new().with_config(config).with_src(dir.join("mod.rs"));
    builder.generate().expect("cbindgen reads src/capi").write(&mut out);
    String::from_utf8(out).unwrap()
}

/// The structs of `dir` as `rust_NAME`, each field held against the one of the header: its type (signedness, pointer
/// targets and function types included), its place, and the size of the whole. Also which structs those are.
fn comparisons(dir: &Path) -> (String, BTreeSet<String>) {
    let mut c = format!("#define MAX_RANK {}\n", diffx::base::MAX_RANK);
    let mut names = BTreeSet::new();
    // cbindgen knows an absent function only where its type is written out
    let text = generated(dir, ItemType::Structs).replace("Option<", "").replace("_fn>", "_fn");
    for block in text.split("typedef struct {").skip(1) {
        let (body, rest) = block.split_once("\n} ").expect("a struct ends");
        let name = rest.split(';').next().expect("a struct has a name");
        assert!(names.insert(name.to_owned()), "{name} twice");
        writeln!(c, "typedef struct {{{body}\n}} rust_{name};").unwrap();
        writeln!(c, "_Static_assert(sizeof(rust_{name}) == sizeof({name}), \"{name}\");").unwrap();
        for line in body.lines().map(str::trim).filter(|l| !l.is_empty()) {
            let declared = match line.split_once("(*") {
                Some((_, rest)) => rest.split(')').next(),
                None => line.split([';', '[']).next().and_then(|l| l.rsplit([' ', '*']).next()),
            };
            let field = declared.expect("a field has a name");
            writeln!(
                c,
                "_Static_assert(offsetof(rust_{name}, {field}) == offsetof({name}, {field}) \
                 && __builtin_types_compatible_p(__typeof__(((rust_{name} *)0)->{field}), \
                 __typeof__((({name} *)0)->{field})), \"{name}.{field}\");"
            )
            .unwrap();
        }
    }
    (c, names)
}

/// Compiles the generated text behind the headers. None without a compiler; else what the compiler said against it.
fn complaints(name: &str, generated: &str) -> Option<String> {
    let mut cc = command(Language::C)?;
    let file = folder("prototypes").join(format!("{name}.c"));
    let text = format!(
        "#include \"diffx.h\"\n#include \"diffx_plugin.h\"\n\
         typedef struct DLManagedTensorVersioned DLManagedTensorVersioned;\n{generated}"
    );
    std::fs::write(&file, text).unwrap();
    cc.args(["-std=gnu11", "-Wall", "-Werror", "-fsyntax-only", "-I"]).arg(include()).arg(&file);
    let out = cc.output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.success(), said.is_empty(), "{said}");
    Some(said)
}

fn capi() -> PathBuf {
    root().join("src/capi")
}

/// A copy of `src/capi` with one slip in it.
fn slipped(name: &str, file: &str, from: &str, to: &str) -> PathBuf {
    let dir = folder("prototypes").join(name);
    std::fs::create_dir_all(&dir).unwrap();
    for entry in std::fs::read_dir(capi()).unwrap().map_while(Result::ok) {
        std::fs::copy(entry.path(), dir.join(entry.file_name())).unwrap();
    }
    let text = std::fs::read_to_string(dir.join(file)).unwrap();
    assert!(text.contains(from), "{file} contains {from}");
    std::fs::write(dir.join(file), text.replacen(from, to, 1)).unwrap();
    dir
}

#[test]
fn functions_are_those_of_the_header() {
    let Some(said) = complaints("functions", &generated(&capi(), ItemType::Functions)) else {
        return;
    };
    assert_eq!(said, "");
    let slip = slipped("wider", "engine.rs", "budget_us: u32", "budget_us: u64");
    let said = complaints("wider", &generated(&slip, ItemType::Functions)).unwrap();
    assert!(said.contains("conflicting types for") && said.contains("dfx_engine_pump"), "{said}");
    let slip = slipped("mutable", "model.rs", "m: *const CModel", "m: *mut CModel");
    let said = complaints("mutable", &generated(&slip, ItemType::Functions)).unwrap();
    assert!(said.contains("conflicting types for"), "{said}");
}

#[test]
fn structs_are_those_of_the_header() {
    let (text, mut names) = comparisons(&capi());
    let Some(said) = complaints("structs", &text) else { return };
    assert_eq!(said, "");
    let header = header();
    let declared =
        header.lines().filter_map(|l| l.strip_prefix("typedef struct ")?.split_once(" {"));
    let declared: BTreeSet<String> = declared.map(|(name, _)| name.to_owned()).collect();
    names.retain(|n| n.starts_with("dfx_"));
    assert_eq!(names, declared, "structs of src/capi and of the header");

    for (name, from, to, field) in [
        ("signed", "pub(super) n_times: u32", "pub(super) n_times: i32", "n_times"),
        ("order", "pub(super) step: u64", "pub(super) last: u64", "last"),
        ("shrunk", "pub(super) arena_bytes: u64", "pub(super) arena_bytes: u32", "arena_bytes"),
    ] {
        let said = complaints(name, &comparisons(&slipped(name, "option.rs", from, to)).0).unwrap();
        assert!(said.contains(field), "{name}: {said}");
    }
}

/// Names that the header declares as functions.
fn declared() -> Vec<String> {
    let header = header();
    let calls = header.split("DFX_API ").skip(1).filter_map(|rest| rest.split('(').next());
    let names = calls.filter_map(|l| l.rsplit([' ', '*']).next());
    let mut names: Vec<String> = names.filter(|n| n.starts_with("dfx_")).map(Into::into).collect();
    names.sort();
    names
}

#[test]
fn exports_are_the_functions_of_the_header() {
    let list = include_str!("exports.txt").lines().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(list, declared(), "tests/abi/exports.txt and include/diffx.h");
    let exe = std::env::current_exe().unwrap();
    let places = exe.ancestors().skip(1).take(2).map(|dir| dir.join("libdiffx.so"));
    let Some(library) = places.into_iter().find(|p| p.is_file()) else {
        println!("skipped: no libdiffx.so beside this test");
        return;
    };
    let Ok(out) = Command::new("nm").args(["-D", "--defined-only"]).arg(&library).output() else {
        println!("skipped: no nm");
        return;
    };
    let text = String::from_utf8(out.stdout).unwrap();
    let mut exported: Vec<_> = text.lines().filter_map(|l| l.split(' ').next_back()).collect();
    exported.sort_unstable();
    assert_eq!(exported, list, "exports of {}", library.display());
}
