//! The pages of `docs/` that somebody follows command by command are followed here, from an installed tree and in a new
//! folder: files are written as they stand on the page, commands run as they stand, and what the page shows must come.
//! A page that explains a header must name all of it.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Instant;

#[path = "docs/page.rs"]
mod page;

use page::{Block, page};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn works(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|o| o.status.success())
}

/// `make install` over the outputs of this build; false, said out loud, where that cannot be done.
fn installed(prefix: &Path, out: &Path) -> bool {
    // cargo leaves what a test is built with beside the test; one folder up lies that of an earlier `cargo build`
    let exe = std::env::current_exe().unwrap();
    let archive = exe.ancestors().map(|p| p.join("libdiffx.a")).find(|p| p.is_file());
    let Some(archive) = archive else {
        println!("skipped: no libdiffx.a beside this test");
        return false;
    };
    let built = out.with_file_name("built");
    std::fs::create_dir_all(&built).unwrap();
    for (from, name) in
        [(archive.as_path(), "libdiffx.a"), (env!("CARGO_BIN_EXE_diffx").as_ref(), "diffx")]
    {
        std::os::unix::fs::symlink(from, built.join(name)).unwrap();
    }
    if !works("make") || !works("cc") {
        println!("skipped: no make or no compiler cc");
        return false;
    }
    let mut make = Command::new("make");
    make.current_dir(root()).args(["install", "PLUGINS="]);
    for (name, value) in [("PREFIX", prefix) as (&str, &Path), ("BUILT", &built), ("OUT", out)] {
        make.arg(format!("{name}={}", value.display()));
    }
    let run = make.env_remove("MAKEFLAGS").env_remove("MFLAGS").env_remove("DESTDIR").output();
    let run = run.unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    true
}

/// One installed tree for all tests.
fn prefix() -> Option<&'static Path> {
    static PREFIX: OnceLock<Option<PathBuf>> = OnceLock::new();
    PREFIX
        .get_or_init(|| {
            let scratch = Path::new(env!("CARGO_TARGET_TMPDIR")).join("docs");
            let _ = std::fs::remove_dir_all(&scratch);
            let prefix = scratch.join("prefix");
            installed(&prefix, &scratch.join("package")).then_some(prefix)
        })
        .as_deref()
}

/// A folder that only its owner may write to, with the source beside it as `diffx`.
fn desk(name: &str) -> Option<PathBuf> {
    prefix()?;
    let desk = std::env::temp_dir().join(format!("diffx-docs-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&desk).unwrap();
    std::fs::set_permissions(&desk, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::symlink(root(), desk.join("diffx")).unwrap();
    Some(desk)
}

/// What somebody who follows blocks has seen.
struct Followed {
    commands: usize,
    seconds: f64,
    said: String,
}

/// Writes the files, runs the commands one block in one shell, and holds what they say to what the page shows. With a
/// toolbox the commands find what is in it and the installed tree, and nothing else.
fn follow(desk: &Path, toolbox: Option<&Path>, blocks: &[&Block]) -> Followed {
    let began = Instant::now();
    let mut out = Followed { commands: 0, seconds: 0.0, said: String::new() };
    let mut last = String::new();
    for block in blocks {
        match (block.language.as_str(), block.file.as_deref()) {
            (_, Some(file)) => {
                let path = desk.join(file);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, &block.text).unwrap();
            }
            ("sh", None) => {
                out.commands += block.commands();
                last = match toolbox {
                    Some(toolbox) => confined(desk, toolbox, &block.text),
                    None => shell(desk, &block.text),
                };
                out.said += &last;
            }
            ("text", None) => page::shown(&block.text, &last),
            (other, None) => {
                panic!("line {}: a {other} block that is neither a file nor run", block.line)
            }
        }
    }
    out.seconds = began.elapsed().as_secs_f64();
    out
}

/// Runs commands as they stand; they must all succeed.
fn shell(desk: &Path, commands: &str) -> String {
    let prefix = prefix().unwrap();
    let path = format!("{}:{}", prefix.join("bin").display(), std::env::var("PATH").unwrap());
    let mut bash = Command::new("bash");
    bash.args(["-euo", "pipefail", "-c", commands])
        .current_dir(desk)
        .env("PREFIX", prefix)
        .env("PATH", path)
        .env("CARGO_NET_OFFLINE", "true")
        .env("JULIA_DEPOT_PATH", Path::new(env!("CARGO_TARGET_TMPDIR")).join("julia"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("DIFFX_LIBRARY")
        .env_remove("LD_LIBRARY_PATH");
    succeed(&mut bash, commands)
}

/// The same on a machine that has the installed tree and the toolbox: no other program, no variable of ours.
fn confined(desk: &Path, toolbox: &Path, commands: &str) -> String {
    let prefix = prefix().unwrap();
    let path = format!("{}:{}", prefix.join("bin").display(), toolbox.display());
    let mut sh = Command::new(toolbox.join("sh"));
    sh.args(["-eu", "-c", commands])
        .current_dir(desk)
        .env_clear()
        .env("PREFIX", prefix)
        .env("PATH", path)
        .env("HOME", desk)
        .env("TMPDIR", desk);
    succeed(&mut sh, commands)
}

fn succeed(command: &mut Command, commands: &str) -> String {
    let run = command.output().unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{commands}\n{said}");
    said
}

/// What the author of a plugin in C has beside diffx: a compiler with its assembler and linker, a shell, and the two
/// programs of every Unix that the page names.
const TOOLS: [&str; 6] = ["cc", "as", "ld", "sh", "cut", "cmp"];

/// A folder with these programs and nothing else.
fn toolbox(desk: &Path) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let toolbox = desk.join("tools");
    std::fs::create_dir_all(&toolbox).unwrap();
    for tool in TOOLS {
        let Some(found) = std::env::split_paths(&path).map(|p| p.join(tool)).find(|p| p.is_file())
        else {
            println!("skipped: no {tool} for a compiler alone");
            return None;
        };
        std::os::unix::fs::symlink(found.canonicalize().unwrap(), toolbox.join(tool)).unwrap();
    }
    Some(toolbox)
}

/// The numbers of a table that `cut` showed: the lines after the one that begins with "sample".
fn rows(said: &str) -> Vec<Vec<f64>> {
    said.lines()
        .filter_map(|l| l.split(',').map(|f| f.parse().ok()).collect::<Option<Vec<f64>>>())
        .filter(|r| r.len() == 5)
        .collect()
}

fn near(a: &[Vec<f64>], b: &[Vec<f64>]) -> bool {
    a.len() == b.len()
        && a.iter()
            .flatten()
            .zip(b.iter().flatten())
            .all(|(x, y)| (x / y - 1.0).abs() < 1e-4 || x == y)
}

/// With a C compiler and the installed tree alone, as the page says; and in as many commands.
#[test]
fn a_first_plugin_in_c() {
    let page = page("plugins.md");
    let blocks = page.section("Your first plugin, in C");
    let Some(desk) = desk("plugin-c") else { return };
    std::fs::remove_file(desk.join("diffx")).unwrap(); // no source here
    let Some(toolbox) = toolbox(&desk) else { return };
    for other in ["cargo", "rustc", "c++", "make", "python3", "bash", "ls"] {
        let there = confined(&desk, &toolbox, &format!("command -v {other} || echo none"));
        assert_eq!(there.trim(), "none", "{other} can be called");
    }
    let followed = follow(&desk, Some(&toolbox), &blocks);
    let (commands, files) = (followed.commands, blocks.iter().filter(|b| b.file.is_some()).count());
    println!("{commands} commands, {:.1} s, of which nobody typed any", followed.seconds);
    assert_eq!(files, 1, "the page says one file");
    assert!(
        page.says(&format!("{commands} commands and one file")),
        "docs/plugins.md says another number than {commands} commands"
    );
    let table = rows(&followed.said);
    assert_eq!(table.len(), 8, "four paths of ours and four of the built-in:\n{}", followed.said);
    assert!(near(&table[..4], &table[4..]), "{table:?}");
    assert!(!near(&table[..3], &table[1..4]), "paths differ from each other");
    std::fs::remove_dir_all(desk).unwrap();
}

#[test]
fn a_first_plugin_in_rust() {
    if !works("cargo") {
        println!("skipped: no cargo");
        return;
    }
    let page = page("plugins.md");
    let Some(desk) = desk("plugin-rust") else { return };
    let followed = follow(&desk, None, &page.section("Your first plugin, in Rust"));
    println!("{} commands in {:.1} s", followed.commands, followed.seconds);
    let said = shell(
        &desk,
        "diffx sample vix --sampler euler --num 4 --seed 1 --out e.csv; cut -d, -f1-5 e.csv",
    );
    assert_eq!(rows(&followed.said).len(), 4);
    assert!(near(&rows(&followed.said), &rows(&said)), "{}\n{said}", followed.said);
    std::fs::remove_dir_all(desk).unwrap();
}

/// The commands of the section on testing, on the plugin of the first page.
#[test]
fn a_plugin_is_tested_as_the_page_says() {
    let page = page("plugins.md");
    let Some(desk) = desk("plugin-tested") else { return };
    follow(&desk, None, &page.section("Your first plugin, in C"));
    let followed = follow(&desk, None, &page.section("Testing a plugin"));
    assert!(followed.commands >= 4);
    std::fs::remove_dir_all(desk).unwrap();
}

/// The program of a language, compiled and run as its section says, prints what the page shows.
fn host(language: &str, probe: &[&str]) {
    let ready = Command::new(probe[0]).args(&probe[1..]).output().is_ok_and(|o| o.status.success());
    if !ready {
        println!("skipped: {} cannot be used here", probe[0]);
        return;
    }
    let Some(desk) = desk(probe[0]) else { return };
    let page = page("hosts.md");
    let blocks = page.section(language);
    assert!(blocks.iter().any(|b| b.language == "text"), "what it prints is shown");
    let followed = follow(&desk, None, &blocks);
    println!("{}{} commands in {:.1} s", followed.said, followed.commands, followed.seconds);
    std::fs::remove_dir_all(desk).unwrap();
}

#[test]
fn a_host_in_c() {
    host("C", &["cc", "--version"]);
}

#[test]
fn a_host_in_cpp() {
    host("C++", &["c++", "--version"]);
}

/// Not with a Julia that dies of its own exceptions; see tests/julia.rs.
#[test]
fn a_host_in_julia() {
    host("Julia", &["julia", "--startup-file=no", "-e", "f() = error(\"x\"); try f() catch end"]);
}

#[test]
fn a_host_in_python() {
    host("Python", &["python3", "--version"]);
}

#[test]
fn a_host_in_lua() {
    host("Lua", &["luajit", "-v"]);
}

/// Every function of every table of `diffx_plugin.h` is explained under the name it has there.
#[test]
fn the_contract_names_every_function_of_every_table() {
    let header = std::fs::read_to_string(root().join("include/diffx_plugin.h")).unwrap();
    let page = std::fs::read_to_string(root().join("docs/plugins.md")).unwrap();
    let tables = page::tables(&header);
    assert!(tables.len() >= 9, "{tables:?}");
    let mut missing = Vec::new();
    for (table, functions) in &tables {
        // under its heading, to the next one
        let section = page.split("\n## ").find(|s| s.starts_with(&format!("`{table}`")));
        for f in functions {
            if !section.is_some_and(|s| s.contains(&format!("`{f}`"))) {
                missing.push(format!("{table}.{f}"));
            }
        }
    }
    assert!(missing.is_empty(), "docs/plugins.md does not explain {missing:?}");
    let functions: usize = tables.iter().map(|t| t.1.len()).sum();
    println!("{} tables, {functions} functions", tables.len());
}

/// The reference of the headers builds without a warning and has every exported function.
#[test]
fn the_headers_have_a_reference() {
    if !works("doxygen") {
        println!("skipped: doxygen is not installed");
        return;
    }
    let out = std::env::temp_dir().join(format!("diffx-docs-{}-doxygen", std::process::id()));
    std::fs::create_dir_all(&out).unwrap();
    let settings = std::fs::read_to_string(root().join("docs/Doxyfile")).unwrap();
    let file = out.join("Doxyfile");
    std::fs::write(&file, format!("{settings}\nOUTPUT_DIRECTORY = {}\n", out.display())).unwrap();
    let run = Command::new("doxygen").arg(&file).current_dir(root()).output().unwrap();
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success() && said.is_empty(), "{said}");
    let html = std::fs::read_to_string(out.join("html/diffx_8h.html")).unwrap();
    let exports = std::fs::read_to_string(root().join("tests/abi/exports.txt")).unwrap();
    let missing: Vec<&str> = exports
        .lines()
        .filter(|l| l.starts_with("dfx_") && !html.contains(&format!(">{l}</a>")))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert!(
        html.contains("Never blocks and never fails because the job did"),
        "comments are carried over"
    );
    std::fs::remove_dir_all(out).unwrap();
}
