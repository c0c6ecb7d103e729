//! A host whose allocator refuses, one request after the other: `exhausted.c`, plainly and under the address sanitizer,
//! which also sees what the library itself loses. Of memory that is not the host's, Rust's own allocator ends the process
//! when the system refuses; `tests/memory.rs` shows that this is left for what is small.

use crate::tools;
use std::process::Command;

fn refused_in_turn(name: &str, flags: &[&str]) {
    let (Some(library), true) = (tools::engine(), tools::has("cc")) else { return };
    let dir = tools::folder(name);
    let exe = dir.join("exhausted");
    let place = library.parent().unwrap();
    let built = Command::new("cc")
        .args([
            "-std=c89",
            "-D_POSIX_C_SOURCE=200112L",
            "-pedantic-errors",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-g",
            "-O1",
        ])
        .args(flags)
        .arg("-I")
        .arg(tools::root().join("include"))
        .arg(tools::root().join("tests/hostile/exhausted.c"))
        .arg("-o")
        .arg(&exe)
        .arg("-L")
        .arg(place)
        .arg(format!("-Wl,-rpath,{},--disable-new-dtags", place.display()))
        .args(["-ldiffx", "-lm"])
        .output()
        .unwrap();
    let said = tools::text(&built.stderr);
    if !built.status.success() && said.contains("asan") {
        println!("skipped: cc has no address sanitizer: {said}");
        return;
    }
    assert!(built.status.success(), "{said}");
    let said = tools::run(Command::new(&exe).arg(&dir));
    println!("{said}");
    assert!(said.ends_with("ok\n"), "{said}");
    let total: u32 = said.lines().filter_map(|l| l.strip_suffix(" requests")).map(last).sum();
    let refused = said.lines().find(|l| l.contains("refused in turn")).unwrap();
    let refused: u32 = refused.split(' ').next().unwrap().parse().unwrap();
    assert!(total >= 100 && refused >= 2 * total, "{total} requests, {refused} refused");
}

fn last(line: &str) -> u32 {
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn each_request_for_memory_may_be_refused() {
    refused_in_turn("exhausted", &[]);
}

#[test]
fn nothing_is_lost_where_one_was_refused() {
    refused_in_turn("exhausted-asan", &["-fsanitize=address,undefined"]);
}
