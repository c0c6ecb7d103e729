//! What of an older header a newer one breaks. Appending is no break: a struct that grows may get fields at its end, a
//! reserved field may get a meaning, and functions, types and constants may be added. Anything else is, unless the header
//! says it is another generation: while the major is 0 a break of `diffx_plugin.h` needs another layout hash, one of
//! `diffx.h`, which has none, a higher minor; from 1 on there is no such way. Growth needs a higher minor (or that layout).
//! Nobody gets past the gate by saying so alone: today's headers must be those of the newest frozen generation, word for
//! word of what they promise, so whatever changes is frozen first, and from then on nothing of it may change.

use crate::layout::{TARGETS, interface, place};
use crate::reader::{Interface, STAMPS, Struct};

/// A frozen generation: what its headers promise.
#[derive(Debug, Clone)]
pub(crate) struct Frozen {
    pub(crate) name: String,
    pub(crate) host: Interface,
    pub(crate) plugin: Interface,
    /// Whether its `diffx.h` may hold more than the one before without a higher minor: an error of the past.
    pub(crate) excused: bool,
}

/// What keeps these headers from being today's, given all that was frozen, the newest last.
pub(crate) fn gate(frozen: &[Frozen], new_host: &Interface, new_plugin: &Interface) -> Vec<String> {
    let mut out = Vec::new();
    for old in frozen {
        for (header, said) in [
            ("diffx.h", host(&old.host, new_host)),
            ("diffx_plugin.h", plugin(&old.plugin, new_plugin)),
        ] {
            out.extend(said.into_iter().map(|s| format!("{header} breaks {}: {s}", old.name)));
        }
    }
    for pair in frozen.windows(2) {
        let [old, new] = pair else { continue };
        let numbered = [
            ("diffx.h", host_numbered(&old.host, &new.host) || new.excused, "DFX_API_MINOR"),
            (
                "diffx_plugin.h",
                plugin_numbered(&old.plugin, &new.plugin),
                "DFX_PLUGIN_ABI_MINOR or another DFX_PLUGIN_LAYOUT",
            ),
        ];
        for (header, fine, stamp) in numbered {
            if !fine {
                out.push(format!(
                    "{header} of {} is not that of {}, without a higher {stamp}",
                    new.name, old.name
                ));
            }
        }
    }
    let Some(newest) = frozen.last() else { return vec!["nothing is frozen".into()] };
    for (header, old, new) in
        [("diffx.h", &newest.host, new_host), ("diffx_plugin.h", &newest.plugin, new_plugin)]
    {
        let changes = changes(old, new);
        if !changes.is_empty() {
            out.push(format!(
                "{header} is not that of the newest frozen generation {}, freeze another: {}",
                newest.name,
                changes.join("; ")
            ));
        }
    }
    out
}

/// The lines of a snapshot that are not the same, as a diff has them; in another order all are.
fn changes(old: &Interface, new: &Interface) -> Vec<String> {
    let (was, is) = (interface(old), interface(new));
    let lost = was.lines().filter(|l| !is.lines().any(|i| i == *l)).map(|l| format!("-{l}"));
    let got = is.lines().filter(|l| !was.lines().any(|w| w == *l)).map(|l| format!("+{l}"));
    let mut out: Vec<String> = lost.chain(got).collect();
    if out.is_empty() && was != is {
        out.push("the same lines in another order".into());
    }
    out
}

/// Whether what a header promises has the number it should have beside an older one: a higher one where there is more.
fn host_numbered(old: &Interface, new: &Interface) -> bool {
    unchanged(old, new) || higher(old, new, "DFX_API_MAJOR", "DFX_API_MINOR")
}

fn plugin_numbered(old: &Interface, new: &Interface) -> bool {
    unchanged(old, new)
        || higher(old, new, "DFX_PLUGIN_ABI_MAJOR", "DFX_PLUGIN_ABI_MINOR")
        || old.stamp("DFX_PLUGIN_LAYOUT") != new.stamp("DFX_PLUGIN_LAYOUT")
}

fn unchanged(old: &Interface, new: &Interface) -> bool {
    let bare = |of: &Interface| {
        let mut of = of.clone();
        of.constants.retain(|name, _| !STAMPS.contains(&name.as_str()));
        interface(&of)
    };
    bare(old) == bare(new)
}

fn higher(old: &Interface, new: &Interface, major: &str, minor: &str) -> bool {
    let version = |of: &Interface| (of.stamp(major), of.stamp(minor));
    version(new) > version(old)
}

/// One sentence per break, the stamps aside.
pub(crate) fn differences(old: &Interface, new: &Interface) -> Vec<String> {
    let mut out = Vec::new();
    for (name, value) in old.constants.iter().filter(|(n, _)| !STAMPS.contains(&n.as_str())) {
        match new.constants.get(name) {
            None => out.push(format!("constant {name} is gone")),
            Some(now) if now != value => {
                out.push(format!("constant {name} was {value} and is {now}"))
            }
            Some(_) => {}
        }
    }
    for (what, old, new) in [
        ("macro", &old.macros, &new.macros),
        ("type", &old.types, &new.types),
        ("function", &old.functions, &new.functions),
    ] {
        for (name, was) in old {
            match new.get(name) {
                None => out.push(format!("{what} {name} is gone")),
                Some(is) if is != was => out.push(format!("{what} {name} was {was} and is {is}")),
                Some(_) => {}
            }
        }
    }
    for was in &old.structs {
        let Some(is) = new.structure(&was.name) else {
            out.push(format!("struct {} is gone", was.name));
            continue;
        };
        if was.grows != is.grows {
            out.push(format!("struct {} grew and is frozen, or the other way", was.name));
        }
        for (i, field) in was.fields.iter().enumerate() {
            let place = format!("{}.{}", was.name, field.name);
            match is.fields.get(i) {
                Some(now) if now == field => {}
                // zero until now, and zero means as before; that it lies where it lay is looked at below
                Some(now) if field.name.starts_with("reserved") && is_new(&now.name, was) => {}
                Some(now) if now.name == field.name => out.push(format!(
                    "{place} was {} [{}] and is {} [{}]",
                    field.ty, field.count, now.ty, now.count
                )),
                _ if is.fields.iter().any(|f| f.name == field.name) => {
                    out.push(format!("{place} moved"))
                }
                _ => out.push(format!("{place} is gone")),
            }
        }
        if !was.grows && is.fields.len() > was.fields.len() {
            out.push(format!("struct {} is frozen and got fields", was.name));
        }
    }
    // once more by the places themselves, on every target: what a field is made of may have changed
    for target in TARGETS {
        for was in &old.structs {
            let Some(is) = new.structure(&was.name) else { continue };
            let (before, after) = (place(was, old, target), place(is, new, target));
            for (i, field) in was.fields.iter().enumerate() {
                if after.offsets.get(i) != before.offsets.get(i) {
                    out.push(format!(
                        "{}.{} lies elsewhere on {}",
                        was.name, field.name, target.name
                    ));
                }
            }
            if !was.grows && after.whole != before.whole {
                out.push(format!("struct {} has another size on {}", was.name, target.name));
            }
        }
    }
    out
}

/// Whether a name is none of the older struct's.
fn is_new(name: &str, was: &Struct) -> bool {
    was.fields.iter().all(|f| f.name != name)
}

/// The verdict on `diffx.h`: what it breaks without saying so.
pub(crate) fn host(old: &Interface, new: &Interface) -> Vec<String> {
    let excused =
        old.stamp("DFX_API_MAJOR") == 0 && higher(old, new, "DFX_API_MAJOR", "DFX_API_MINOR");
    if excused { Vec::new() } else { differences(old, new) }
}

/// The verdict on `diffx_plugin.h`. Its minor says that there is more, never that something is another thing: an engine
/// takes plugins of lower minors, and tells by the layout alone which it may not take.
pub(crate) fn plugin(old: &Interface, new: &Interface) -> Vec<String> {
    let other = |stamp: &str| old.stamp(stamp) != new.stamp(stamp);
    let excused = old.stamp("DFX_PLUGIN_ABI_MAJOR") == 0
        && (other("DFX_PLUGIN_ABI_MAJOR") || other("DFX_PLUGIN_LAYOUT"));
    if excused { Vec::new() } else { differences(old, new) }
}
