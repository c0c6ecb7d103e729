//! What an argument of a type can be: once right, and wrong in every way we know.

use crate::layout::{TARGETS, place};
use crate::live::{KINDS, Live};
use crate::reader::{Field, Interface, Struct};
use crate::rows;

/// Memory of an argument. It is as it was before each call; what only results may change must be as it was after one
/// that failed, and behind `room` bytes whatever happened.
pub(crate) struct Memory {
    pub(crate) at: *mut u8,
    pub(crate) initial: Vec<u8>,
    /// How many bytes a result may take; `None`: nobody may write there.
    pub(crate) room: Option<usize>,
    /// Written on failure too.
    pub(crate) is_error: bool,
}

pub(crate) struct Place {
    pub(crate) word: u64,
    pub(crate) memory: Option<Memory>,
    /// A kind of object that is made for each call.
    pub(crate) fresh: Option<usize>,
}

pub(crate) struct Wrong {
    pub(crate) label: String,
    pub(crate) word: u64,
    pub(crate) memory: Option<Memory>,
}

/// "dfx_status (const dfx_engine *, uint32_t)" as what is returned and what is taken.
pub(crate) fn signature(text: &str) -> (&str, Vec<String>) {
    let (returns, arguments) = text.split_once(" (").expect("a signature");
    let arguments = arguments.strip_suffix(')').expect("a signature ends");
    let types = arguments.split(", ").filter(|t| *t != "void");
    (returns, types.map(str::to_owned).collect())
}

/// Bytes at a multiple of 64 that stay, since the library may keep a pointer to them.
fn stay(bytes: &[u8]) -> *mut u8 {
    let mut room = vec![0u64; bytes.len() / 8 + 9].leak().as_mut_ptr().cast::<u8>();
    room = room.wrapping_add(room.align_offset(64));
    // Safety: the room is 64 bytes larger than what is put there.
    unsafe { room.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    room
}

fn word(bytes: &[u8]) -> u64 {
    stay(bytes) as u64
}

fn text(s: &[u8]) -> u64 {
    word(&[s, b"\0"].concat())
}

/// The last word of a type before its stars.
fn base(ty: &str) -> &str {
    ty.trim_end_matches([' ', '*']).rsplit(' ').next().unwrap_or_default()
}

fn stars(ty: &str) -> usize {
    ty.matches('*').count()
}

/// Of DLPack, which is none of our headers.
fn managed() -> Struct {
    let fields = [
        ("major", "uint32_t"),
        ("minor", "uint32_t"),
        ("manager", "void *"),
        ("deleter", "dlpack_deleter"),
        ("flags", "uint64_t"),
        ("data", "void *"),
        ("device_type", "int32_t"),
        ("device_id", "int32_t"),
        ("ndim", "int32_t"),
        ("code", "uint8_t"),
        ("bits", "uint8_t"),
        ("lanes", "uint16_t"),
        ("shape", "const int64_t *"),
        ("strides", "const int64_t *"),
        ("byte_offset", "uint64_t"),
    ];
    let field = |(name, ty): &(&str, &str)| Field {
        name: (*name).to_owned(),
        ty: if *ty == "dlpack_deleter" { "void *".to_owned() } else { (*ty).to_owned() },
        count: 1,
    };
    let fields = fields.iter().map(field).collect();
    Struct { name: "DLManagedTensorVersioned".to_owned(), fields, grows: false }
}

fn structure(ty: &str, all: &Interface) -> Option<Struct> {
    let name = base(ty);
    if stars(ty) != 1 {
        return None;
    }
    if name == "DLManagedTensorVersioned" {
        return Some(managed());
    }
    all.structure(name).cloned()
}

unsafe extern "C" fn nothing(_: *mut std::ffi::c_void) {}

/// A field of a good struct.
fn right(s: &str, f: &Field, all: &Interface, live: &Live) -> u64 {
    if s == "DLManagedTensorVersioned" {
        return match f.name.as_str() {
            "major" | "device_type" | "ndim" | "lanes" => 1,
            "code" => 2,
            "bits" => 32,
            "data" => word(&[0; 64]),
            "shape" => word(&4i64.to_ne_bytes()),
            "deleter" => nothing as *const () as u64,
            _ => 0,
        };
    }
    if f.name == "struct_size" {
        let s = all.structure(s).expect("a struct of the header");
        return place(s, all, &TARGETS[0]).whole.size;
    }
    let found = rows::FIELDS.iter().find(|r| r.0 == s && r.1 == f.name);
    found.map_or(0, |r| simple(r.2, live))
}

/// A word of a row that needs no type.
fn simple(said: &str, live: &Live) -> u64 {
    let pointers = |list: Vec<u64>| {
        let bytes: Vec<u8> = list.iter().flat_map(|w| w.to_ne_bytes()).collect();
        word(&bytes)
    };
    if let Some(s) = said.strip_prefix("text:") {
        return match s {
            "RECIPE" => text(rows::RECIPE.as_bytes()),
            "TUNING" => text(rows::TUNING.as_bytes()),
            s => text(s.as_bytes()),
        };
    }
    if let Some(names) = said.strip_prefix("names:") {
        return pointers(names.split(',').map(|n| text(n.as_bytes())).collect());
    }
    if let Some(names) = said.strip_prefix("tensors:") {
        return pointers(names.split(',').map(|n| live.tensor(n)).collect());
    }
    if let Some(name) = said.strip_prefix("tensor:") {
        return live.tensor(name);
    }
    match said {
        "NULL" => 0,
        "zeros" => word(&[0; 4096]),
        "times" => word(&[0.5f64.to_ne_bytes(), 1.0f64.to_ne_bytes()].concat()),
        _ => match KINDS.iter().position(|k| *k == said) {
            Some(kind) => live.objects[kind],
            None => said.parse().unwrap_or_else(|_| panic!("a word of a row: {said}")),
        },
    }
}

/// Struct bytes with one field set to something else.
fn bytes(s: &Struct, all: &Interface, live: &Live, other: Option<(usize, u64)>) -> Vec<u8> {
    let placed = place(s, all, &TARGETS[0]);
    let mut out = vec![0; placed.whole.size as usize];
    for (i, (f, (at, size))) in s.fields.iter().zip(&placed.offsets).enumerate() {
        let value = match other {
            Some((k, value)) if k == i => value,
            _ => right(&s.name, f, all, live),
        };
        let (at, width) = (*at as usize, (*size / f.count).min(8) as usize);
        out[at..at + width].copy_from_slice(&value.to_ne_bytes()[..width]);
    }
    out
}

/// A struct to read, or one that results are written to: then bytes behind it tell who writes too far.
fn lay(ty: &str, mut bytes: Vec<u8>) -> (u64, Memory) {
    let is_error = base(ty) == "dfx_error";
    let room = (!ty.starts_with("const ")).then(|| {
        let has_size = !["dfx_desc", "DLManagedTensorVersioned"].contains(&base(ty));
        let said = u32::from_ne_bytes(bytes[..4].try_into().unwrap()) as usize;
        if has_size { said.min(bytes.len()) } else { bytes.len() }
    });
    // sizes up to the largest that is read may be announced
    bytes.resize(
        if room.is_some() { bytes.len() + 64 } else { 8192 },
        if room.is_some() { 0xa5 } else { 0 },
    );
    let at = stay(&bytes);
    (at as u64, Memory { at, initial: bytes, room, is_error })
}

pub(crate) fn good(said: &str, ty: &str, all: &Interface, live: &Live) -> Place {
    let plain = |word| Place { word, memory: None, fresh: None };
    if let Some(kind) = said.strip_prefix("new:") {
        let kind = KINDS.iter().position(|k| *k == kind).expect("a kind of object");
        return Place { word: 0, memory: None, fresh: Some(kind) };
    }
    match said {
        "struct" | "err" | "out" if structure(ty, all).is_some() => {
            let (word, memory) = lay(ty, bytes(&structure(ty, all).unwrap(), all, live, None));
            Place { word, memory: Some(memory), fresh: None }
        }
        "struct" => plain(word(&[0; 4096])), // a plugin's descriptor: refused, as nothing is right in it
        "out" => {
            let initial = vec![0xa5; 128];
            let at = stay(&initial);
            let memory = Memory { at, initial, room: Some(8), is_error: false };
            Place { word: at as u64, memory: Some(memory), fresh: None }
        }
        _ => plain(simple(said, live)),
    }
}

fn numbers(width: u64, signed: bool) -> Vec<u64> {
    let bits = 8 * width as u32;
    let max = if bits == 64 { u64::MAX } else { (1 << bits) - 1 };
    let mut out = vec![0, 1, max, max >> 1, (max >> 1) + 1];
    if signed {
        out.push(max - 4);
    }
    out
}

fn texts() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("no text", b"".to_vec()),
        ("no UTF-8", b"\xff\xfe{".to_vec()),
        ("a long text", vec![b'a'; 2 << 20]),
        ("depth", vec![b'['; 100_000]),
        ("an empty object", b"{}".to_vec()),
        ("half an object", b"{\"steps\":".to_vec()),
        ("null", b"null".to_vec()),
        (
            "wild settings",
            b"{\"steps\":-1,\"rounds\":1e308,\"batch\":18446744073709551615}".to_vec(),
        ),
        ("the root", b"/".to_vec()),
        ("a folder that is not there", b"not/there/at all".to_vec()),
        ("this folder", b".".to_vec()),
        ("formats", b"%s%n%n%n".to_vec()),
        ("quotes and lines", b"\"\\\n\r\t\x01".to_vec()),
        ("a setting that is none", b"cir:{\"kappa\":{}}".to_vec()),
    ]
}

/// Wrong pointers to an object of this kind.
fn objects(kind: usize, live: &Live) -> Vec<(String, u64)> {
    let zeros = word(&[0; 4096]);
    let mut out = vec![
        ("NULL".to_owned(), 0),
        ("an odd pointer".to_owned(), zeros + 1),
        ("zeros".to_owned(), zeros),
        ("ones".to_owned(), word(&[0xff; 4096])),
    ];
    for (other, name) in KINDS.iter().enumerate().filter(|(other, _)| *other != kind) {
        out.push((format!("a {name}"), live.objects[other]));
    }
    if cfg!(debug_assertions) {
        out.push(("one that was released".to_owned(), live.released(kind)));
    }
    out
}

/// Wrong values of a type by name; `what` is the field, or nothing for an argument.
fn values(ty: &str, what: &str, all: &Interface, live: &Live) -> Vec<(String, u64)> {
    let pointer = |more: Vec<(&str, u64)>| -> Vec<(String, u64)> {
        let zeros = word(&[0; 4096]);
        let mut list = vec![("NULL", 0), ("an odd pointer", zeros + 1)];
        list.extend(more);
        list.into_iter().map(|(l, v)| (l.to_owned(), v)).collect()
    };
    let (name, depth) = (base(ty), stars(ty));
    let kind = KINDS.iter().position(|k| name.strip_prefix("dfx_") == Some(k));
    match (depth, kind, name) {
        (1, Some(kind), _) => objects(kind, live),
        // arrays that are lent; places for results
        (2, Some(_), _) if ty.ends_with("const *") => {
            let others =
                word(&live.objects.iter().flat_map(|o| o.to_ne_bytes()).collect::<Vec<_>>());
            pointer(vec![("NULLs", word(&[0; 4096])), ("objects of all kinds", others)])
        }
        (2, None, "char") if ty.ends_with("const *") => pointer(vec![("NULLs", word(&[0; 4096]))]),
        (1, None, "char") => {
            let some = texts().into_iter().map(|(l, t)| (l.to_owned(), text(&t)));
            std::iter::once(("NULL".to_owned(), 0)).chain(some).collect()
        }
        (1, None, "void") if what.is_empty() && !ty.starts_with("const") => pointer(vec![]),
        (1, None, "void") => vec![("NULL".to_owned(), 0), ("a pointer".to_owned(), word(&[0; 64]))],
        (1, None, "double" | "uint32_t" | "int64_t") if ty.starts_with("const") => {
            pointer(vec![("ones", word(&[0xff; 4096])), ("zeros", word(&[0; 4096]))])
        }
        (1, None, "dfx_allocator") => {
            let s = all.structure(name).expect("a struct of the header");
            let empty = lay(ty, bytes(s, all, live, None)).0;
            pointer(vec![("one without functions", empty), ("zeros", word(&[0; 4096]))])
        }
        (1, None, "dfx_plugin") => pointer(vec![("ones", word(&[0xff; 4096]))]),
        (1.., ..) => pointer(vec![]),
        (0, None, "dfx_free_fn" | "dfx_log_fn" | "dfx_progress_fn") => Vec::new(),
        (0, ..) => {
            let under = all.types.get(name).map_or(name, String::as_str);
            let width = match under {
                "uint8_t" => 1,
                "uint16_t" => 2,
                "uint32_t" | "int32_t" => 4,
                _ => 8,
            };
            numbers(width, under.starts_with("int"))
                .into_iter()
                .map(|v| (format!("{v:#x}"), v))
                .collect()
        }
    }
}

pub(crate) fn wrong(ty: &str, good: &Place, all: &Interface, live: &Live) -> Vec<Wrong> {
    let plain = |(label, word)| Wrong { label, word, memory: None };
    let Some(s) = structure(ty, all) else {
        return values(ty, "", all, live).into_iter().map(plain).collect();
    };
    let mut out: Vec<Wrong> = vec![plain(("NULL".to_owned(), 0))];
    let mut add = |label: String, bytes: Vec<u8>| {
        let (word, memory) = lay(ty, bytes);
        out.push(Wrong { label, word, memory: Some(memory) });
    };
    let right = bytes(&s, all, live, None);
    if s.fields[0].name == "struct_size" {
        let size = right.len() as u32;
        for n in [
            0,
            1,
            4,
            7,
            8,
            9,
            12,
            16,
            17,
            size - 8,
            size - 1,
            size + 1,
            size + 8,
            4096,
            4104,
            1 << 31,
            u32::MAX,
        ] {
            let mut sized = right.clone();
            if ty.starts_with("const") {
                sized.resize(8192, 0);
            } else if base(ty) != "dfx_error" {
                sized.resize((n as usize).clamp(sized.len(), 8192), 0xa5);
            }
            sized[..4].copy_from_slice(&n.to_ne_bytes());
            add(format!("struct_size {n}"), sized);
        }
        let mut longer = right.clone();
        longer[..4].copy_from_slice(&(size + 8).to_ne_bytes());
        longer.extend([1; 8]);
        add("a field of a later version".to_owned(), longer);
    }
    if ty.starts_with("const") || s.name == "DLManagedTensorVersioned" {
        for (i, f) in s.fields.iter().enumerate().filter(|(_, f)| f.name != "struct_size") {
            let name = format!("{}.{}", s.name, f.name);
            if f.name == "deleter" {
                continue; // a function that is none is nothing anybody can survive
            }
            for (label, value) in values(&f.ty, &f.name, all, live) {
                // a list that is lent has as many elements as it says, or no pointer at all
                let is_count = f.name.starts_with("n_") && value > 1 && value < 1 << 31;
                let is_work = rows::WORK.contains(&name.as_str()) && value > 1 << 20;
                if !is_count && !is_work {
                    add(format!("{}: {label}", f.name), bytes(&s, all, live, Some((i, value))));
                }
            }
        }
    }
    let _ = good;
    out
}
