//! The checks between a descriptor and a registered plugin: linked in or loaded, built in or foreign, all pass the same
//! ones. Nothing of the plugin runs here.

use super::abi;
use super::adapt;
use super::read::{self, Growing};
use crate::base::{Error, Result, Status};
use crate::{bail, fail};
use std::ffi::c_void;

const MAX_FACTORIES: u32 = 256;
const MAX_SCHEMA: usize = 1 << 20;

/// The layout of each minor we know: a plugin of one of these runs.
pub const LAYOUTS: &[(u16, u32)] = &[(abi::ABI_MINOR, abi::LAYOUT)];

/// The kinds of `diffx_plugin.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Kind {
    Model = 1,
    Process = 2,
    Guidance = 3,
    Sampler = 4,
    Grid = 5,
    Objective = 6,
}

impl Kind {
    pub const ALL: &'static [Self] =
        &[Self::Model, Self::Process, Self::Guidance, Self::Sampler, Self::Grid, Self::Objective];

    pub fn name(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Process => "process",
            Self::Guidance => "guidance",
            Self::Sampler => "sampler",
            Self::Grid => "grid",
            Self::Objective => "objective",
        }
    }

    pub fn from_code(code: u32) -> Option<Self> {
        Self::ALL.iter().copied().find(|k| *k as u32 == code)
    }
}

/// A descriptor that passed, read into values of ours.
pub(super) struct Checked {
    pub(super) id: String,
    pub(super) version: String,
    pub(super) license: String,
    pub(super) factories: Vec<CheckedFactory>,
    /// Factories of kinds this engine does not know.
    pub(super) skipped: Vec<String>,
}

#[derive(Clone)]
pub(super) struct CheckedFactory {
    pub(super) kind: Kind,
    pub(super) id: String,
    pub(super) summary: String,
    pub(super) schema: Option<String>,
    /// Where it lies; lives forever.
    pub(super) raw: *const abi::Factory,
    pub(super) api: *const c_void,
    pub(super) create: Create,
    pub(super) destroy: unsafe extern "C" fn(*mut c_void),
}

pub(super) type Create = unsafe extern "C" fn(
    *const abi::Factory,
    *const abi::Host,
    *const std::ffi::c_char,
    *mut *mut c_void,
    *mut abi::Error,
) -> i32;

/// Checks a descriptor. `mapped(p, bytes)` says whether a place may be read: for a loaded file, whether it lies in it.
///
/// # Safety
/// Where `mapped` says yes, memory must be readable and stay so, unchanged, until the process ends.
pub(super) unsafe fn check(
    descriptor: *const c_void,
    mapped: &dyn Fn(*const c_void, usize) -> bool,
) -> Result<Checked> {
    let p = descriptor.cast::<abi::Plugin>();
    if p.is_null() || !p.is_aligned() || !mapped(descriptor, abi::Plugin::LEAST) {
        bail!(Format, "descriptor at {p:p} is null, misaligned or outside its file");
    }
    // Safety: the promise of the caller; every field has a fixed place in all minors, and a number is what bytes are.
    let d = unsafe { p.read() };
    if d.magic != abi::MAGIC {
        bail!(Format, "descriptor has the magic {:#010x}, want {:#010x}", d.magic, abi::MAGIC);
    }
    if d.abi_major != abi::ABI_MAJOR {
        bail!(
            Version,
            "built for plugin ABI {}.{}, this engine speaks {}.{}",
            d.abi_major,
            d.abi_minor,
            abi::ABI_MAJOR,
            abi::ABI_MINOR
        );
    }
    let size = d.struct_size as usize;
    if !(abi::Plugin::LEAST..=read::MAX_STRUCT).contains(&size) {
        bail!(
            Format,
            "descriptor says it has {size} bytes, want {} to {}",
            abi::Plugin::LEAST,
            read::MAX_STRUCT
        );
    }
    if d.required_minor > u32::from(abi::ABI_MINOR) {
        bail!(
            Version,
            "needs plugin ABI {}.{}, this engine speaks {}.{}",
            abi::ABI_MAJOR,
            d.required_minor,
            abi::ABI_MAJOR,
            abi::ABI_MINOR
        );
    }
    match LAYOUTS.iter().find(|(minor, _)| *minor == d.abi_minor) {
        Some((minor, layout)) if *layout != d.layout => bail!(
            Version,
            "built with layout {:#010x}, ABI {}.{minor} has {layout:#010x}: build it again with this header",
            d.layout,
            abi::ABI_MAJOR
        ),
        None if d.abi_minor < abi::ABI_MINOR => {
            bail!(
                Version,
                "built for plugin ABI {}.{}, which was never released",
                d.abi_major,
                d.abi_minor
            )
        }
        _ => {}
    }
    if d.n_factories > MAX_FACTORIES {
        bail!(Format, "descriptor has {} factories, want at most {MAX_FACTORIES}", d.n_factories);
    }
    if d.n_factories > 0
        && !mapped(d.factories.cast(), d.n_factories as usize * size_of::<*const abi::Factory>())
    {
        bail!(Format, "the table of factories lies outside the plugin");
    }
    let in_file = |p: *const std::ffi::c_char, what: &str| match mapped(p.cast(), 1) {
        true => Ok(p),
        false => Err(fail!(Format, "{what} lies outside the plugin")),
    };
    // Safety: strings and the table lie in the plugin, which lives forever.
    let (id, version, license, table) = unsafe {
        (
            read::name(in_file(d.id, "plugin id")?, "plugin id").map_err(malformed)?,
            read::name(in_file(d.version, "version")?, "version").map_err(malformed)?,
            read::name(in_file(d.license, "license")?, "license").map_err(malformed)?,
            read::slice(d.factories, d.n_factories, MAX_FACTORIES as usize, "factories")
                .map_err(malformed)?,
        )
    };
    check_id(id)?;
    let mut out = Checked {
        id: id.to_owned(),
        version: version.to_owned(),
        license: license.to_owned(),
        factories: Vec::new(),
        skipped: Vec::new(),
    };
    for (i, p) in table.iter().enumerate() {
        // Safety: as the caller promised.
        let found = unsafe { factory(*p, mapped) };
        match found.map_err(|e| malformed(e).within(format!("factory {i}")))? {
            Ok(f) => {
                if out.factories.iter().any(|g| g.kind == f.kind && g.id == f.id) {
                    bail!(Format, "factory {i}: there are two of {} {}", f.kind.name(), f.id);
                }
                out.factories.push(f);
            }
            Err(skipped) => out.skipped.push(skipped),
        }
    }
    Ok(out)
}

/// A factory, or the words for one of a kind we do not know.
unsafe fn factory(
    p: *const abi::Factory,
    mapped: &dyn Fn(*const c_void, usize) -> bool,
) -> Result<std::result::Result<CheckedFactory, String>> {
    if p.is_null() || !p.is_aligned() || !mapped(p.cast(), abi::Factory::LEAST) {
        bail!(Format, "pointer {p:p} is null, misaligned or outside the plugin");
    }
    // Safety: the promise of the caller of `check`.
    let raw = unsafe { read::table(p) }?;
    let text = |p: *const std::ffi::c_char, most: usize, what: &str| {
        if p.is_null() {
            return Ok(None);
        }
        if !mapped(p.cast(), 1) {
            bail!(Format, "its {what} lies outside the plugin");
        }
        // Safety: a string of the plugin, which lives forever.
        unsafe { read::text(p, most, what) }.map(|s| Some(s.to_owned()))
    };
    let Some(id) = text(raw.id, read::MAX_NAME, "id")? else { bail!(Format, "has no id") };
    check_id(&id)?;
    let Some(kind) = Kind::from_code(raw.kind) else {
        return Ok(Err(format!("{id}: kind {} is not known to this engine", raw.kind)));
    };
    let (Some(create), Some(destroy)) = (raw.create, raw.destroy) else {
        bail!(Format, "{id}: has no create or no destroy");
    };
    if raw.api.is_null() || !mapped(raw.api, 8) {
        bail!(Format, "{id}: has no table of functions");
    }
    // Safety: the table lies in the plugin, which lives forever.
    unsafe { adapt::check_table(kind, raw.api) }.map_err(|e| e.within(&id))?;
    Ok(Ok(CheckedFactory {
        kind,
        summary: text(raw.summary, read::MAX_TEXT, "summary")?.unwrap_or_default(),
        schema: text(raw.config_schema, MAX_SCHEMA, "config schema")?,
        id,
        raw: p,
        api: raw.api,
        create,
        destroy,
    }))
}

/// Reverse-DNS: at least two labels of lower-case letters, digits, `-` and `_`, each beginning with a letter or digit.
fn check_id(id: &str) -> Result<()> {
    let label = |l: &str| {
        l.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
            && l.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
    };
    if id.len() > 128 || id.split('.').count() < 2 || !id.split('.').all(label) {
        bail!(Format, "id {id:?} is not a reverse-DNS name like org.example.dit");
    }
    Ok(())
}

/// A descriptor that cannot be read is a malformed file, not a bad argument.
fn malformed(e: Error) -> Error {
    if e.status == Status::Invalid { Error { status: Status::Format, ..e } } else { e }
}
