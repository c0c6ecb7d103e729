//! Compilers on the headers: what `layout` computes is what clang lays out on every target and what this machine's own
//! compiler says by offsetof; and both headers compile in every dialect of C and C++, alone, twice, and in both orders,
//! also without a C library.

use crate::layout::{TARGETS, lines, place};
use crate::reader::{Interface, read};
use crate::tools::{folder, has, header, root, run};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;

/// Both headers as one, the block that stands in both once.
fn both() -> Interface {
    let (mut all, plugin) = (read(&header("diffx.h")), read(&header("diffx_plugin.h")));
    let more = plugin.structs.into_iter().filter(|s| all.structure(&s.name).is_none());
    let more: Vec<_> = more.collect();
    all.structs.extend(more);
    all.constants.extend(plugin.constants);
    all.types.extend(plugin.types);
    all
}

fn file(name: &str, text: &str) -> PathBuf {
    let path = folder("compilers").join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// The lines of our snapshot out of clang's dump.
fn dumped(dump: &str, names: &Interface) -> String {
    let mut out = Vec::new();
    for block in dump.split("*** Dumping AST Record Layout").skip(1) {
        let mut rows = block.lines().filter(|l| l.contains('|'));
        let Some(name) = rows.next().and_then(|l| l.split("struct ").nth(1)).map(str::trim) else {
            continue;
        };
        let Some(s) = names.structure(name) else { continue };
        let mut fields = Vec::new();
        let mut whole = String::new();
        for row in rows {
            let (at, rest) = row.split_once('|').unwrap();
            if let Some(size) = rest.trim().strip_prefix("[sizeof=") {
                whole = size.trim_end_matches(']').replace(", align=", " align ");
                break;
            }
            // a field of ours is indented by one level; those inside it by more
            if rest.starts_with("   ") && !rest.starts_with("    ") {
                let field = rest.rsplit([' ', '*']).next().unwrap();
                fields.push((field.to_owned(), at.trim().to_owned()));
            }
        }
        assert_eq!(fields.len(), s.fields.len(), "{name}: {block}");
        let rows: Vec<String> = fields.iter().map(|(f, at)| format!("{name}.{f} {at}")).collect();
        out.push((name.to_owned(), format!("{}\n{name} size {whole}\n", rows.join("\n"))));
    }
    // in the order of the header, which clang follows only mostly
    let order = |n: &str| names.structs.iter().position(|s| s.name == n);
    out.sort_by_key(|(n, _)| order(n));
    out.into_iter().map(|(_, text)| text).collect()
}

#[test]
fn clang_lays_out_what_we_compute() {
    if !has("clang") {
        return;
    }
    let source = file("both.c", "#include \"diffx.h\"\n#include \"diffx_plugin.h\"\n");
    let names = both();
    for target in TARGETS {
        let mut clang = Command::new("clang");
        clang.arg(format!("--target={}", target.triple)).args([
            "-ffreestanding",
            "-fsyntax-only",
            "-I",
        ]);
        clang.arg(root().join("include"));
        let dump = run(clang.args(["-Xclang", "-fdump-record-layouts-complete"]).arg(&source));
        // ours without the size of a field, which a dump does not have
        let ours: String = lines(&names, target)
            .lines()
            .map(|l| match l.split_once('.') {
                Some(_) => format!("{}\n", l.rsplit_once(' ').unwrap().0),
                None => format!("{l}\n"),
            })
            .collect();
        assert_eq!(dumped(&dump, &names), ours, "{}", target.name);
    }
    println!("{} structs on {} targets", names.structs.len(), TARGETS.len());
}

/// Every offset, size and type, by static assertions: types are compared as C sees them.
#[test]
fn this_machines_compiler_agrees() {
    if !has("cc") {
        return;
    }
    let names = both();
    let Some(target) =
        TARGETS.iter().find(|t| t.name == format!("{}-linux", std::env::consts::ARCH))
    else {
        println!("skipped: no layout for {}", std::env::consts::ARCH);
        return;
    };
    let mut c = String::from("#include \"diffx.h\"\n#include \"diffx_plugin.h\"\n");
    for s in &names.structs {
        let placed = place(s, &names, target);
        for (f, (offset, size)) in s.fields.iter().zip(&placed.offsets) {
            let (s, f) = (&s.name, &f.name);
            writeln!(c, "_Static_assert(offsetof({s}, {f}) == {offset} && sizeof((({s} *)0)->{f}) == {size}, \"{s}.{f}\");").unwrap();
        }
        writeln!(c, "_Static_assert(sizeof({0}) == {1}, \"{0}\");", s.name, placed.whole.size)
            .unwrap();
    }
    for (name, value) in names.constants.iter().filter(|(n, _)| !n.ends_with("_FOREVER")) {
        writeln!(c, "_Static_assert({name} == {value}, \"{name}\");").unwrap();
    }
    let source = file("agrees.c", &c);
    run(Command::new("cc")
        .args(["-std=c11", "-fsyntax-only", "-I"])
        .arg(root().join("include"))
        .arg(source));
}

const STRICT: &[&str] = &["-pedantic-errors", "-Wall", "-Wextra", "-Wpadded", "-Werror"];
const C: &[&str] = &["c89", "c99", "c11", "c17", "c2x"];
const CPP: &[&str] = &["c++98", "c++11", "c++14", "c++17", "c++20", "c++2b"];

#[test]
fn headers_compile_in_every_dialect() {
    let host = "#include \"diffx.h\"\n";
    let plugin = "#include \"diffx_plugin.h\"\n";
    let text = format!("{host}{plugin}{host}{plugin}int used;\n");
    let back = format!("#define DFX_HELPERS\n{plugin}{host}int used_too;\n");
    let mut compiled = 0;
    for (compilers, ending, dialects) in
        [(["gcc", "clang"], "c", C), (["g++", "clang++"], "cpp", CPP)]
    {
        let sources =
            [file(&format!("twice.{ending}"), &text), file(&format!("back.{ending}"), &back)];
        for compiler in compilers.into_iter().filter(|c| has(c)) {
            for dialect in dialects {
                let mut command = Command::new(compiler);
                command.arg(format!("-std={dialect}")).args(STRICT).arg("-fsyntax-only");
                run(command.arg("-I").arg(root().join("include")).args(&sources));
                compiled += 1;
            }
        }
    }
    println!("{compiled} dialects");
}

/// No C library, other pointers, other alignments: nothing is padded anywhere, so that a size tells every change.
#[test]
fn headers_compile_for_every_target() {
    if !has("clang") {
        return;
    }
    let source = file("free.c", "#include \"diffx.h\"\n#include \"diffx_plugin.h\"\nint used;\n");
    for target in TARGETS {
        let mut clang = Command::new("clang");
        clang
            .arg(format!("--target={}", target.triple))
            .args(STRICT)
            .args(["-std=c99", "-ffreestanding"]);
        run(clang.arg("-fsyntax-only").arg("-I").arg(root().join("include")).arg(&source));
    }
}
