//! Plugin descriptors before any of their code runs. The first byte chooses: the rest is the image of a library's data,
//! with a `dfx_plugin` at its start and every pointer in it as wild as its bytes, checked as a loaded file is; or it is
//! a shared library in the file, looked at before the linker may see it. Laws: nothing outside the image is read, and a
//! registered factory has a reverse-DNS id.
//!
//! The image lies at a fixed address, so that pointers in seeds and findings stay valid from run to run.

use super::memory::bounded;
use diffx::plugin::{Registry, abi, check_library};
use std::ffi::c_void;
use std::mem::offset_of;
use std::sync::Mutex;

pub const WORDS: &[&str] = &["org.example.a", "1.0.0", "MIT", "org.diffx.mlp", "diffx_plugin_v0"];

const BASE: usize = 0x6_1000_0000;
/// The largest struct a size may announce, twice, and the largest table: reads of an accepted place stay inside.
const MAPPED: usize = 1 << 16;
/// Behind it lie zeros, where texts without an end find one.
const BEHIND: usize = 2 << 20;

struct Image(*mut u8);

// Safety: the pages are shared under the lock only.
unsafe impl Send for Image {}

/// The pages at the fixed address, or nothing when somebody else is there.
static IMAGE: Mutex<Option<Image>> = Mutex::new(None);

fn map() -> Option<Image> {
    // Safety: a new mapping at a hint; where it does not come out at the hint it is not used.
    let p = unsafe {
        libc::mmap(
            BASE as *mut c_void,
            MAPPED + BEHIND,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    (p.addr() == BASE).then_some(Image(p.cast()))
}

pub fn run(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    if kind & 1 == 1 {
        return bounded(4096, || drop(check_library(rest)));
    }
    let mut image = IMAGE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if image.is_none() {
        *image = map();
    }
    let Some(Image(p)) = &*image else {
        eprintln!("skipped: the address of the image is taken");
        return;
    };
    let rest = &rest[..rest.len().min(MAPPED)];
    // Safety: the pages are ours, under the lock, and at least as long.
    unsafe { std::ptr::copy_nonoverlapping(rest.as_ptr(), *p, rest.len()) };
    let mapped = |p: *const c_void, n: usize| {
        let at = p.addr();
        at >= BASE && at.checked_add(n).is_some_and(|end| end <= BASE + MAPPED)
    };
    // behind the image are zeros: a text has at most its length, and a factory takes eight bytes of the table
    bounded((16 << 10) + rest.len() / 8 * (4 * rest.len() + 512), || {
        let mut registry = Registry::new(Box::new(|_, _| ()));
        // Safety: `mapped` says yes to the pages only, which stay as they are until the registry is gone.
        if unsafe { registry.register_mapped(BASE as *const c_void, &mapped) }.is_ok() {
            for f in registry.factories() {
                assert!(f.id().contains('.') && f.id().bytes().all(|b| b.is_ascii()), "{}", f.id());
            }
            // Safety: as above.
            let again = unsafe { registry.register_mapped(BASE as *const c_void, &mapped) };
            assert!(again.is_err(), "a plugin is registered once");
        }
    });
    // Safety: as above.
    unsafe { p.write_bytes(0, rest.len()) };
}

/// An image with one factory of each kind of `kinds`.
fn image(kinds: &[u32]) -> Vec<u8> {
    let mut out = vec![0u8; 512];
    let put = |out: &mut Vec<u8>, at: usize, bytes: &[u8]| {
        out.resize(out.len().max(at + bytes.len()), 0);
        out[at..at + bytes.len()].copy_from_slice(bytes);
    };
    let place = |at: usize| ((BASE + at) as u64).to_le_bytes();
    let (table, texts) = (80, 120);
    put(&mut out, 0, &abi::MAGIC.to_le_bytes());
    put(&mut out, offset_of!(abi::Plugin, abi_minor), &abi::ABI_MINOR.to_le_bytes());
    for (at, v) in [
        (offset_of!(abi::Plugin, struct_size), size_of::<abi::Plugin>() as u32),
        (offset_of!(abi::Plugin, layout), abi::LAYOUT),
        (offset_of!(abi::Plugin, n_factories), kinds.len() as u32),
    ] {
        put(&mut out, at, &v.to_le_bytes());
    }
    put(&mut out, offset_of!(abi::Plugin, factories), &place(table));
    put(&mut out, texts, b"org.a\x001.0\0MIT\0org.a.b\0{}\0");
    for (field, at) in [
        (offset_of!(abi::Plugin, id), texts),
        (offset_of!(abi::Plugin, version), texts + 6),
        (offset_of!(abi::Plugin, license), texts + 10),
    ] {
        put(&mut out, field, &place(at));
    }
    for (i, kind) in kinds.iter().enumerate() {
        let (factory, api) = (160 + i * 64, 160 + kinds.len() * 64 + i * 112);
        put(&mut out, table + 8 * i, &place(factory));
        put(&mut out, factory, &(size_of::<abi::Factory>() as u32).to_le_bytes());
        put(&mut out, factory + 4, &kind.to_le_bytes());
        for (field, at) in [
            (offset_of!(abi::Factory, api), api),
            (offset_of!(abi::Factory, id), texts + 14),
            (offset_of!(abi::Factory, summary), texts + 10),
            (offset_of!(abi::Factory, config_schema), texts + 22),
            (offset_of!(abi::Factory, create), 8), // never called
            (offset_of!(abi::Factory, destroy), 8),
        ] {
            put(&mut out, factory + field, &place(at));
        }
        let size = [
            size_of::<abi::ModelApi>(),
            size_of::<abi::ProcessApi>(),
            size_of::<abi::GuidanceApi>(),
            size_of::<abi::SamplerApi>(),
            size_of::<abi::GridApi>(),
            size_of::<abi::ObjectiveApi>(),
        ][(*kind as usize - 1) % 6];
        put(&mut out, api, &(size as u32).to_le_bytes());
        for at in (8..size).step_by(8) {
            put(&mut out, api + at, &place(8));
        }
    }
    out
}

/// The smallest library that passes: headers, one segment, a symbol table with the descriptor.
fn library() -> Vec<u8> {
    let mut out = vec![0u8; 64 + 56 + 2 * 64 + 24];
    let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"\x7fELF\x02\x01\x01");
    let machine: u16 = if cfg!(target_arch = "aarch64") { 183 } else { 62 };
    for (at, v) in [(16, 3u16), (18, machine), (54, 56), (56, 1), (58, 64), (60, 2)] {
        put(at, &v.to_le_bytes());
    }
    let (segments, sections, symbols, names) = (64u64, 120u64, 248u64, 272u64);
    put(32, &segments.to_le_bytes());
    put(40, &sections.to_le_bytes());
    put(64, &1u32.to_le_bytes()); // loaded, empty
    put(120 + 4, &11u32.to_le_bytes()); // symbols, named in section 1
    put(120 + 24, &symbols.to_le_bytes());
    put(120 + 32, &24u64.to_le_bytes());
    put(120 + 40, &1u32.to_le_bytes());
    put(184 + 24, &names.to_le_bytes());
    put(248 + 6, &1u16.to_le_bytes());
    put(248 + 16, &64u64.to_le_bytes());
    out.extend_from_slice(b"diffx_plugin_v0\0");
    out
}

pub fn seeds() -> Vec<Vec<u8>> {
    let mut out: Vec<Vec<u8>> = (1..=6).map(|kind| [&[0][..], &image(&[kind])].concat()).collect();
    out.push([&[0][..], &image(&[1, 9, 2])].concat());
    out.push([&[1][..], &library()].concat());
    out
}

/// The seeds are what they claim to be: a spoilt one would fuzz nothing but the first check.
pub fn check_seeds() {
    assert_eq!(check_library(&library()), Ok(()));
    let mut guard = IMAGE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if guard.is_none() {
        *guard = map();
    }
    let Some(Image(p)) = &*guard else { return };
    for kind in 1..=6 {
        let bytes = image(&[kind]);
        let mut registry = Registry::new(Box::new(|_, _| ()));
        let mapped = |p: *const c_void, n: usize| {
            p.addr() >= BASE && p.addr().checked_add(n).is_some_and(|end| end <= BASE + MAPPED)
        };
        // Safety: the pages are ours, under the lock; the registry is gone before they change.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), *p, bytes.len());
            assert_eq!(registry.register_mapped(BASE as *const c_void, &mapped), Ok(1), "{kind}");
            drop(registry);
            p.write_bytes(0, bytes.len());
        }
    }
}
