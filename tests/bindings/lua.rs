//! Lua: the declarations in `bindings/lua/diffx.lua` are those of the header, and the binding's own tests.

use crate::host::{library, root, succeed, works};
use std::path::Path;
use std::process::Command;

/// `luajit`, said out loud where it is missing.
pub(crate) fn luajit() -> Option<String> {
    let there = works("luajit", &["-v"]);
    if !there {
        println!("skipped: luajit is not installed");
    }
    there.then(|| "luajit".into())
}

pub(crate) fn run_lua(lua: &str, library: &Path) -> Command {
    let mut command = Command::new(lua);
    command
        .env("DIFFX_LIBRARY", library)
        .env("LUA_PATH", format!("{};;", root().join("bindings/lua/?.lua").display()));
    command
}

/// The header as `ffi.cdef` takes it: constants as enumerators, no macros, no comments.
fn declarations(header: &str) -> String {
    let (mut code, mut enumerators) = (String::new(), String::new());
    let mut rest = header;
    while let Some(start) = rest.find("/*") {
        code.push_str(&rest[..start]);
        let end = rest[start..].find("*/").expect("a comment ends") + start + 2;
        rest = &rest[end..];
    }
    code.push_str(rest);
    let mut out = String::new();
    let mut continued = false;
    for line in code.lines().map(str::trim_end) {
        let macros = continued || line.trim_start().starts_with('#');
        continued = macros && line.ends_with('\\');
        if let Some(constant) = line.strip_prefix("#define DFX_") {
            let mut words = constant.split_whitespace();
            let (name, value) = (words.next().unwrap_or_default(), words.next());
            let value = value.unwrap_or_default().trim_matches(['(', ')', 'u']);
            if value.parse::<i64>().is_ok() {
                enumerators.push_str(&format!("    DFX_{name} = {value},\n"));
            }
        }
        let outside = macros
            || line.is_empty()
            || line.starts_with("DFX_STATIC_ASSERT")
            || line == "extern \"C\" {"
            || line == "}";
        if outside {
            continue;
        }
        let mut line = line.to_owned();
        for word in ["DFX_API ", "DFX_CALL ", "DFX_CALL", " DFX_NOEXCEPT"] {
            line = line.replace(word, "");
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    let out = out.replace("DFX_MAX_RANK", "8");
    format!("enum {{\n{enumerators}}};\n{out}")
}

#[test]
fn lua_declares_what_the_header_declares() {
    let path = root().join("bindings/lua/diffx.lua");
    let header = std::fs::read_to_string(root().join("include/diffx.h")).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let (begin, end) = ("-- begin\nffi.cdef [[\n", "]]\n-- end\n");
    let (before, rest) = text.split_once(begin).unwrap();
    let (found, after) = rest.split_once(end).unwrap();
    let wanted = declarations(&header);
    assert!(wanted.matches('(').count() > 40 && wanted.matches("DFX_").count() > 30, "{wanted}");
    if std::env::var_os("DIFFX_BLESS").is_some() {
        std::fs::write(&path, format!("{before}{begin}{wanted}{end}{after}")).unwrap();
        return;
    }
    assert!(
        found == wanted,
        "bindings/lua/diffx.lua declares another diffx.h; write it anew with \
         DIFFX_BLESS=1 cargo test --release --test bindings lua_declares"
    );
}

#[test]
fn lua_passes_its_own_tests() {
    let (Some(lua), Some(library)) = (luajit(), library()) else { return };
    let out = succeed(run_lua(&lua, &library).arg(root().join("bindings/lua/test.lua")));
    assert!(out.trim_end().ends_with("ok"), "{out}");
}
