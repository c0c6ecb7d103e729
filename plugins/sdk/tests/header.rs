//! The mirrors against `include/diffx_plugin.h` itself: the layout hash in the header is the computed one, and a C
//! compiler sees every field where the mirrors have it.

use diffx_plugin::abi;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

fn include() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../include")
}

#[test]
fn the_header_carries_the_layout_hash() {
    let header = std::fs::read_to_string(include().join("diffx_plugin.h")).unwrap();
    let line = header.lines().find(|l| l.starts_with("#define DFX_PLUGIN_LAYOUT ")).unwrap();
    let want = format!("{:#010x}u", abi::LAYOUT);
    let got = line.split_whitespace().nth(2).unwrap();
    assert_eq!(got, want, "DFX_PLUGIN_LAYOUT in the header; the mirrors hash to the right value");
    assert_eq!(abi::HEADER_LAYOUT, abi::LAYOUT);
}

#[test]
fn the_hash_is_fnv_1a_over_the_lines() {
    let lines = abi::layout::lines(abi::STRUCTS);
    let hash =
        lines.bytes().fold(0x811c_9dc5_u32, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193));
    assert_eq!(hash, abi::LAYOUT);
    assert!(lines.starts_with("dfx_error.struct_size:0:4\ndfx_error.status:4:4\n"));
    assert!(lines.contains("dfx_call.in:8:8\n"));
}

#[test]
fn a_c_compiler_sees_the_same_offsets() {
    let mut c = String::from("#include <stdio.h>\n#include \"diffx_plugin.h\"\nint main(void) {\n");
    for s in abi::STRUCTS {
        for f in s.fields {
            let (s, f) = (s.name, f.name.trim_start_matches("r#"));
            writeln!(
                c,
                "printf(\"{s}.{f}:%u:%u\\n\", (unsigned)offsetof({s}, {f}), (unsigned)sizeof((({s} *)0)->{f}));"
            )
            .unwrap();
        }
        let tail = s.fields.last().unwrap();
        assert_eq!(tail.offset + tail.size, s.size, "{} has padding at its end", s.name);
    }
    c.push_str("return 0; }\n");
    let dir = std::env::temp_dir().join(format!("diffx-header-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("layout.c"), c).unwrap();
    let compiled = Command::new("cc")
        .args(["-std=c99", "-I"])
        .arg(include())
        .arg("-o")
        .arg(dir.join("layout"))
        .arg(dir.join("layout.c"))
        .output();
    let Ok(compiled) = compiled else {
        println!("skipped: no C compiler named cc");
        return;
    };
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    let seen = Command::new(dir.join("layout")).output().unwrap().stdout;
    std::fs::remove_dir_all(&dir).unwrap();
    assert_eq!(String::from_utf8(seen).unwrap(), abi::layout::lines(abi::STRUCTS));
}

#[test]
fn every_code_is_in_the_header() {
    let header = std::fs::read_to_string(include().join("diffx_plugin.h")).unwrap();
    let source = include_str!("../src/abi/code.rs");
    let mut prefix = "";
    let mut count = 0;
    for line in source.lines() {
        match line.trim() {
            "pub mod op {" => prefix = "DFX_OP_",
            "pub mod attr {" => prefix = "DFX_ATTR_",
            line => {
                let Some(rest) = line.strip_prefix("pub const ") else { continue };
                let (name, code) = rest.trim_end_matches(';').split_once(": u32 = ").unwrap();
                let found = header.lines().any(|l| {
                    let mut words = l.split_whitespace();
                    words.next() == Some("#define")
                        && words.next() == Some(&format!("{prefix}{name}"))
                        && words.next() == Some(&format!("{code}u"))
                });
                assert!(found, "{prefix}{name} {code} is not in the header");
                count += 1;
            }
        }
    }
    let in_header = header
        .lines()
        .filter(|l| l.starts_with("#define DFX_OP_") || l.starts_with("#define DFX_ATTR_"));
    assert_eq!(count, in_header.count());
}
