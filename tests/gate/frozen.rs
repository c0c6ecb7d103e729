//! The frozen generations: that they are still what was frozen, their headers against today's, and their snapshots against
//! their headers.
//!
//! A snapshot is the text a reviewer reads: where every field lies on eight targets, and what does not depend on one.
//! It is never edited; `DIFFX_FREEZE=v0-2026-12 cargo test --test gate freeze -- --nocapture` makes a new one of today's
//! headers, with the host and the plugin of the one before, which are edited by hand before they are committed where they
//! no longer fit, and prints the line that `FROZEN` gets.

use crate::compare::{self, Frozen, gate};
use crate::layout::{TARGETS, interface, lines};
use crate::reader::{Interface, read};
use crate::tools::{folder, header, root};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// A generation and the SHA-256 over all its files. A line is added when one is frozen, and never changed: an edit of a
/// generation shows as an edit here.
struct Pin {
    name: &'static str,
    sha256: &'static str,
    /// Why its `diffx.h` may hold more than the one before without a higher minor. No generation to come may.
    excuse: &'static str,
}

const FROZEN: &[Pin] = &[
    Pin {
        name: "v0-2026-11",
        sha256: "63e0fa86f7a702694cc03546f10d412979ee1f87b06719545b5596b87b0985d2",
        excuse: "",
    },
    Pin {
        name: "v0-2026-11-23",
        sha256: "fe4ecae12de73aea3856e13219441c14e6f6f11e92ef6c0d7bb88cc4a5c3e638",
        excuse: "dfx_job_preview_at and dfx_preview were appended before growth had to have a minor; nothing is released",
    },
];

fn frozen() -> PathBuf {
    root().join("tests/abi/frozen")
}

/// Every frozen generation, in their order: the newest last.
pub(crate) fn generations() -> Vec<PathBuf> {
    FROZEN.iter().map(|pin| frozen().join(pin.name)).collect()
}

/// What the headers of each promise.
pub(crate) fn kept() -> Vec<Frozen> {
    let one = |pin: &Pin| {
        let (host, plugin) = headers(&frozen().join(pin.name).join("include"));
        Frozen { name: pin.name.to_owned(), host, plugin, excused: !pin.excuse.is_empty() }
    };
    FROZEN.iter().map(one).collect()
}

/// Every file of a folder by its path from there, in order.
fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let (mut out, mut open) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(at) = open.pop() {
        for entry in std::fs::read_dir(&at).unwrap_or_else(|e| panic!("{}: {e}", at.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
                continue;
            }
            let name = path.strip_prefix(dir).unwrap().to_str().expect("a name in UTF-8");
            out.push((name.to_owned(), std::fs::read(&path).unwrap()));
        }
    }
    out.sort();
    out
}

/// SHA-256 over name, zero byte, length (64 bits, little endian) and content of every file.
fn sum(dir: &Path) -> String {
    let mut hash = Sha256::new();
    for (name, content) in files(dir) {
        hash.update(name.as_bytes());
        hash.update([0]);
        hash.update((content.len() as u64).to_le_bytes());
        hash.update(content);
    }
    hash.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

fn line(dir: &Path) -> String {
    let name = dir.file_name().unwrap().to_string_lossy();
    format!("Pin {{ name: \"{name}\", sha256: \"{}\", excuse: \"\" }},", sum(dir))
}

/// What of a folder of generations is not what was frozen.
fn unlike_frozen(all: &Path) -> Vec<String> {
    let mut out = Vec::new();
    for pin in FROZEN {
        let dir = all.join(pin.name);
        if !dir.is_dir() {
            out.push(format!("{} was frozen and is gone", pin.name));
            continue;
        }
        let now = sum(&dir);
        if now != pin.sha256 {
            out.push(format!(
                "{} was frozen and is edited: its files sum to {now}, frozen was {}",
                pin.name, pin.sha256
            ));
        }
    }
    for entry in std::fs::read_dir(all).unwrap() {
        let dir = entry.unwrap().path();
        let name = dir.file_name().unwrap().to_string_lossy().into_owned();
        if !FROZEN.iter().any(|pin| pin.name == name) {
            let line = if dir.is_dir() { line(&dir) } else { "and is no folder".into() };
            out.push(format!("{name} is not listed in FROZEN of tests/gate/frozen.rs: {line}"));
        }
    }
    out
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
fn what_is_frozen_stays() {
    assert_eq!(unlike_frozen(&frozen()), [""; 0]);
    assert!(FROZEN.windows(2).all(|pair| pair[0].name < pair[1].name), "the newest is last");
    let excused: Vec<&str> =
        FROZEN.iter().filter(|p| !p.excuse.is_empty()).map(|p| p.name).collect();
    assert_eq!(
        excused,
        ["v0-2026-11-23"],
        "growth needs a minor: there is one excuse, of the past"
    );
}

/// Copies of the generations, each with one thing done to it.
#[test]
fn a_generation_edited_removed_or_added_is_refused() {
    type Deed = fn(&Path);
    fn write(path: &Path, change: impl Fn(String) -> String) {
        let text = std::fs::read_to_string(path).unwrap();
        let new = change(text.clone());
        assert_ne!(new, text);
        std::fs::write(path, new).unwrap();
    }
    let deeds: &[(&str, Deed, &str)] = &[
        ("untouched", |_| (), ""),
        (
            "one byte",
            |dir| write(&dir.join("v0-2026-11/plugin.c"), |t| t.replacen("0.999", "0.998", 1)),
            "v0-2026-11 was frozen and is edited",
        ),
        (
            "an op renumbered in header and snapshot",
            |dir| {
                let dir = dir.join("v0-2026-11-23");
                write(&dir.join("include/diffx_plugin.h"), |t| {
                    t.replacen("DFX_OP_ADD                50u", "DFX_OP_ADD                49u", 1)
                });
                write(&dir.join("interface.txt"), |t| {
                    t.replacen("constant DFX_OP_ADD 50\n", "constant DFX_OP_ADD 49\n", 1)
                });
            },
            "v0-2026-11-23 was frozen and is edited",
        ),
        (
            "a file gone",
            |dir| std::fs::remove_file(dir.join("v0-2026-11/host.c")).unwrap(),
            "v0-2026-11 was frozen and is edited",
        ),
        (
            "a file moved",
            |dir| {
                let dir = dir.join("v0-2026-11");
                std::fs::rename(dir.join("host.c"), dir.join("guest.c")).unwrap();
            },
            "v0-2026-11 was frozen and is edited",
        ),
        (
            "a generation gone",
            |dir| std::fs::remove_dir_all(dir.join("v0-2026-11")).unwrap(),
            "v0-2026-11 was frozen and is gone",
        ),
        (
            "one more",
            |dir| std::fs::create_dir(dir.join("v0-2026-12")).unwrap(),
            "v0-2026-12 is not listed",
        ),
    ];
    for (what, deed, words) in deeds {
        let copy = folder("generations");
        std::fs::remove_dir_all(&copy).unwrap();
        for generation in generations() {
            let to = copy.join(generation.file_name().unwrap());
            for (name, content) in files(&generation) {
                std::fs::create_dir_all(to.join(&name).parent().unwrap()).unwrap();
                std::fs::write(to.join(&name), content).unwrap();
            }
        }
        deed(&copy);
        let said = unlike_frozen(&copy);
        if words.is_empty() {
            assert_eq!(said, [""; 0], "{what}");
        } else {
            assert!(said.len() == 1 && said[0].contains(words), "{what}: {said:#?}");
        }
    }
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
    let dir = frozen().join(name);
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
    println!(
        "add to FROZEN of tests/gate/frozen.rs (once host.c and plugin.c are what they shall be):"
    );
    println!("{}", line(&dir));
}
