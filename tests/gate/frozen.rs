//! The frozen generations: their headers against today's, and their snapshots against their headers.
//!
//! A snapshot is the text a reviewer reads: where every field lies on eight targets, and what does not depend on one.
//! It is never edited; `DIFFX_FREEZE=v0-2026-12 cargo test --test gate freeze` makes a new one of today's headers, with the
//! host and the plugin of the one before, which are edited by hand before they are committed where they no longer fit.

use crate::compare::{self, Frozen, gate};
use crate::layout::{TARGETS, interface, lines};
use crate::reader::{Interface, read};
use crate::tools::{header, root};
use std::path::{Path, PathBuf};

/// Every frozen generation, by name: the newest last.
pub(crate) fn generations() -> Vec<PathBuf> {
    let dir = root().join("tests/abi/frozen");
    let mut out: Vec<PathBuf> =
        std::fs::read_dir(dir).unwrap().map_while(Result::ok).map(|e| e.path()).collect();
    out.sort();
    out
}

/// What the headers of each promise.
pub(crate) fn kept() -> Vec<Frozen> {
    let one = |dir: &PathBuf| {
        let (host, plugin) = headers(&dir.join("include"));
        Frozen { name: dir.file_name().unwrap().to_string_lossy().into_owned(), host, plugin }
    };
    generations().iter().map(one).collect()
}

fn headers(include: &Path) -> (Interface, Interface) {
    let text = |name: &str| read(&std::fs::read_to_string(include.join(name)).unwrap());
    (text("diffx.h"), text("diffx_plugin.h"))
}

/// File and content of every part of a snapshot.
fn snapshot(host: &Interface, plugin: &Interface) -> Vec<(String, String)> {
    let both = |f: &dyn Fn(&Interface) -> String| {
        format!("# diffx.h\n{}# diffx_plugin.h\n{}", f(host), f(plugin))
    };
    let mut out = vec![("interface.txt".to_owned(), both(&interface))];
    for target in TARGETS {
        out.push((format!("layout/{}.txt", target.name), both(&|i| lines(i, target))));
    }
    out
}

#[test]
fn todays_headers_keep_what_was_frozen() {
    let (host, plugin) = (read(&header("diffx.h")), read(&header("diffx_plugin.h")));
    let said = gate(&kept(), &host, &plugin);
    assert!(said.is_empty(), "{}", said.join("\n"));
    for old in kept() {
        let owned = compare::differences(&old.plugin, &plugin);
        println!("{}: {} breaks of diffx_plugin.h, owned up to", old.name, owned.len());
    }
}

#[test]
fn snapshots_are_those_of_their_headers() {
    for generation in generations() {
        let (host, plugin) = headers(&generation.join("include"));
        for (file, text) in snapshot(&host, &plugin) {
            let path = generation.join(&file);
            let kept = std::fs::read_to_string(&path)
                .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            assert_eq!(kept, text, "{}", path.display());
        }
    }
}

/// Makes a new generation when it is told a name; else shows only that today's headers can be frozen.
#[test]
fn freeze() {
    let (host, plugin) = (read(&header("diffx.h")), read(&header("diffx_plugin.h")));
    let parts = snapshot(&host, &plugin);
    assert_eq!(parts.len(), TARGETS.len() + 1);
    let Some(name) = std::env::var_os("DIFFX_FREEZE") else { return };
    let dir = root().join("tests/abi/frozen").join(name);
    assert!(!dir.join("interface.txt").exists(), "{} is frozen already", dir.display());
    let before = generations().pop().expect("a generation before");
    std::fs::create_dir_all(dir.join("layout")).unwrap();
    std::fs::create_dir_all(dir.join("include")).unwrap();
    for (file, text) in parts {
        std::fs::write(dir.join(file), text).unwrap();
    }
    for name in ["diffx.h", "diffx_plugin.h"] {
        std::fs::write(dir.join("include").join(name), header(name)).unwrap();
    }
    for name in ["host.c", "plugin.c"] {
        if !dir.join(name).exists() {
            std::fs::copy(before.join(name), dir.join(name)).unwrap();
        }
    }
}
