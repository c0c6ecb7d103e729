//! `diffx_plugin.h` compiles in every dialect, alone and beside `diffx.h`, and says the same as both Rust mirrors, the
//! op table and the status codes.

use crate::compiler::{Language, command, folder, include, run};
use diffx::base::{DType, Status};
use diffx::graph::op::AttrKey;
use diffx::graph::{OPS, Op};
use diffx::plugin::{Kind, abi};
use diffx::sample::ProcessFn;
use std::fmt::Write as _;
use std::process::Command;

fn text() -> String {
    std::fs::read_to_string(include().join("diffx_plugin.h")).unwrap()
}

/// Value of `#define NAME value`, without suffix and parentheses.
fn define(header: &str, name: &str) -> Option<String> {
    let rest = header
        .lines()
        .filter_map(|l| l.strip_prefix("#define "))
        .map(|l| l.split_whitespace().collect::<Vec<_>>())
        .find(|w| w.first() == Some(&name))?;
    let value = rest.get(1)?.trim_matches(['(', ')', 'u']).to_owned();
    Some(value)
}

const C: &[&str] = &["c89", "c99", "c11", "c17"];
const CPP: &[&str] = &["c++98", "c++11", "c++17", "c++20"];
const STRICT: &[&str] = &["-pedantic-errors", "-Wall", "-Wextra", "-Wpadded", "-Werror"];

#[test]
fn compiles_in_every_dialect() {
    let dir = folder("dialects");
    let plugin = "#include \"diffx_plugin.h\"\n";
    let helpers = "#define DFX_HELPERS\n#include \"diffx_plugin.h\"\n";
    let mut sources = vec![
        ("twice", format!("{plugin}{plugin}int used;\n")),
        ("helpers", format!("{helpers}int used;\n")),
    ];
    if include().join("diffx.h").exists() {
        let host = "#include \"diffx.h\"\n";
        sources.push(("host_first", format!("{host}{plugin}{host}int used;\n")));
        sources.push(("plugin_first", format!("{plugin}{host}{plugin}int used;\n")));
    } else {
        println!("skipped: both headers in both orders (no include/diffx.h yet)");
    }
    let mut compilers = Vec::new();
    for (language, ending, dialects) in [(Language::C, "c", C), (Language::Cpp, "cpp", CPP)] {
        compilers.extend(command(language).map(|c| (c.get_program().to_owned(), ending, dialects)));
    }
    for (clang, ending, dialects) in [("clang", "c", C), ("clang++", "cpp", CPP)] {
        if Command::new(clang).arg("--version").output().is_ok() {
            compilers.push((clang.into(), ending, dialects));
        } else {
            println!("skipped: no {clang}");
        }
    }
    for (name, source) in &sources {
        for (compiler, ending, dialects) in &compilers {
            let path = dir.join(format!("{name}.{ending}"));
            std::fs::write(&path, source).unwrap();
            for dialect in *dialects {
                run(Command::new(compiler)
                    .arg(format!("-std={dialect}"))
                    .args(STRICT)
                    .arg("-I")
                    .arg(include())
                    .arg("-fsyntax-only")
                    .arg(&path));
            }
        }
    }
}

#[test]
fn base_block_is_the_same_in_both_headers() {
    let Ok(host) = std::fs::read_to_string(include().join("diffx.h")) else {
        println!("skipped: no include/diffx.h yet");
        return;
    };
    let block = |text: &str| {
        let start = text.find("/* ---- base types").expect("the base block begins");
        let end = text.find("#endif /* DFX_BASE_TYPES */").expect("the base block ends");
        text[start..end].to_owned()
    };
    assert_eq!(block(&host), block(&text()));
}

#[test]
fn both_mirrors_and_a_c_compiler_agree() {
    let engine = abi::lines(abi::STRUCTS);
    let sdk = diffx_plugin::abi::layout::lines(diffx_plugin::abi::STRUCTS);
    assert_eq!(engine, sdk.lines().collect::<Vec<_>>(), "mirrors of engine and SDK");
    assert_eq!(abi::hash(abi::STRUCTS), diffx_plugin::abi::LAYOUT);
    let header = format!("{:#010x}", abi::LAYOUT);
    assert_eq!(define(&text(), "DFX_PLUGIN_LAYOUT"), Some(header), "the constant of the header");
    let fnv = |h: u32, b: u8| (h ^ u32::from(b)).wrapping_mul(0x0100_0193);
    let lines: String = engine.iter().map(|l| format!("{l}\n")).collect();
    assert_eq!(lines.bytes().fold(0x811c_9dc5, fnv), abi::LAYOUT, "the hash is over the lines");

    let Some(mut cc) = command(Language::C) else { return };
    let dir = folder("layout");
    let mut c = String::from("#include <stdio.h>\n#include \"diffx_plugin.h\"\nint main(void) {\n");
    for layout in abi::STRUCTS.iter().copied().flatten() {
        for field in layout.fields {
            let (s, f) = (layout.name, field.name());
            writeln!(
                c,
                "printf(\"{s}.{f}:%u:%u\\n\", (unsigned)offsetof({s}, {f}), (unsigned)sizeof(((({s} *)0)->{f})));"
            )
            .unwrap();
        }
        let end = layout.fields.last().map_or(0, |f| f.offset + f.size);
        writeln!(c, "if (sizeof({}) != {end}) return 1;", layout.name).unwrap();
    }
    c.push_str("return 0; }\n");
    std::fs::write(dir.join("layout.c"), c).unwrap();
    let program = dir.join("layout");
    run(cc
        .arg("-std=c99")
        .arg("-I")
        .arg(include())
        .arg(dir.join("layout.c"))
        .arg("-o")
        .arg(&program));
    assert_eq!(run(&mut Command::new(program)), lines);
}

/// Every struct of the header is mirrored: a new one cannot be forgotten.
#[test]
fn every_struct_of_the_header_is_mirrored() {
    let header = text();
    let mut found: Vec<&str> = header
        .lines()
        .filter_map(|l| l.trim_start_matches("typedef ").strip_prefix("struct "))
        .filter(|l| l.contains('{'))
        .filter_map(|l| l.split_whitespace().next())
        .collect();
    found.dedup();
    let mirrored: Vec<&str> = abi::STRUCTS.iter().copied().flatten().map(|l| l.name).collect();
    assert_eq!(found, mirrored);
}

#[test]
fn codes_are_those_of_the_tables() {
    let header = text();
    let check = |name: String, code: i64| {
        assert_eq!(define(&header, &name), Some(code.to_string()), "{name}");
    };
    let emitted = |op: &Op| !matches!(op, Op::Input | Op::Weight | Op::Constant);
    let given = |key: &AttrKey| !matches!(key, AttrKey::Ordinal | AttrKey::Index);
    let ops: Vec<_> = OPS.iter().filter(|o| emitted(&o.op)).collect();
    let keys: Vec<_> = AttrKey::ALL.iter().filter(|k| given(k)).collect();
    for op in &ops {
        check(format!("DFX_OP_{}", op.name.to_uppercase()), i64::from(op.code));
    }
    for key in &keys {
        check(format!("DFX_ATTR_{}", key.name().to_uppercase()), **key as i64);
    }
    let count = |prefix: &str| {
        header.lines().filter(|l| l.starts_with(&format!("#define {prefix}"))).count()
    };
    assert_eq!((count("DFX_OP_"), count("DFX_ATTR_")), (ops.len(), keys.len()));
    for status in Status::ALL {
        check(status.name().to_owned(), i64::from(status.code()));
    }
    for dtype in DType::ALL {
        check(format!("DFX_{}", dtype.name().to_uppercase()), i64::from(dtype.code()));
    }
    for (f, name, ..) in ProcessFn::ALL {
        check(format!("DFX_PROCESS_{}", name.to_uppercase()), *f as i64);
    }
    for kind in Kind::ALL {
        check(format!("DFX_KIND_{}", kind.name().to_uppercase()), *kind as i64);
    }
    check("DFX_PLUGIN_ABI_MAJOR".into(), i64::from(abi::ABI_MAJOR));
    check("DFX_PLUGIN_ABI_MINOR".into(), i64::from(abi::ABI_MINOR));
    assert_eq!(define(&header, "DFX_PLUGIN_MAGIC"), Some(format!("{:#x}", abi::MAGIC)));
}
