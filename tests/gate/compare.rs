//! What of an older header a newer one breaks. Appending is no break: a struct that grows may get fields at its end, a
//! reserved field may get a meaning, and functions, types and constants may be added. Anything else is, unless the header
//! says it is another generation: while the major is 0 a break of `diffx_plugin.h` needs another layout hash or minor, one
//! of `diffx.h` another minor; from 1 on there is no such way. Nobody gets past the gate by saying so alone: the stamps of
//! today's headers must be those of the newest frozen generation, so a header that says it is another one is frozen first,
//! and from then on nothing of it may change.

use crate::layout::{TARGETS, place};
use crate::reader::{Interface, STAMPS, Struct};

/// A frozen generation: what its headers promise.
#[derive(Debug, Clone)]
pub(crate) struct Frozen {
    pub(crate) name: String,
    pub(crate) host: Interface,
    pub(crate) plugin: Interface,
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
    let Some(newest) = frozen.last() else { return vec!["nothing is frozen".into()] };
    for stamp in STAMPS {
        for (old, new) in [(&newest.host, new_host), (&newest.plugin, new_plugin)] {
            let (was, is) = (old.stamp(stamp), new.stamp(stamp));
            if was != is {
                out.push(format!(
                    "{stamp} is {is:#x}, in the newest frozen generation {} {was:#x}: freeze another",
                    newest.name
                ));
            }
        }
    }
    out
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
    for (what, old, new) in
        [("type", &old.types, &new.types), ("function", &old.functions, &new.functions)]
    {
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

/// Whether the newer header may break the older one: it is another generation of its major 0.
fn stamped(old: &Interface, new: &Interface, major: &str, others: &[&str]) -> bool {
    let changed = others.iter().any(|s| old.stamp(s) != new.stamp(s));
    old.stamp(major) == 0 && (new.stamp(major) != 0 || changed)
}

/// The verdict on `diffx.h`: what it breaks without saying so.
pub(crate) fn host(old: &Interface, new: &Interface) -> Vec<String> {
    let excused = stamped(old, new, "DFX_API_MAJOR", &["DFX_API_MINOR"]);
    if excused { Vec::new() } else { differences(old, new) }
}

/// The verdict on `diffx_plugin.h`.
pub(crate) fn plugin(old: &Interface, new: &Interface) -> Vec<String> {
    let stamps = ["DFX_PLUGIN_ABI_MINOR", "DFX_PLUGIN_LAYOUT"];
    let excused = stamped(old, new, "DFX_PLUGIN_ABI_MAJOR", &stamps);
    if excused { Vec::new() } else { differences(old, new) }
}
