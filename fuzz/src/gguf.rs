//! GGUF files in memory. The first byte chooses: the rest is a whole file, or what follows the magic and the version,
//! behind which come padding and so many bytes of data. Laws: the tensors of an accepted file lie inside its data without
//! overlap, and each that the engine can hold reads, in memory of the budget.

use super::memory::bounded;
use diffx::mem::Budget;
use diffx::weights::{Gguf, Source};

pub const WORDS: &[&str] = &[
    "GGUF",
    "general.alignment",
    "\x01\x00\x00\x00\x00\x00\x00\x00",
    "\x20\x00\x00\x00\x00\x00\x00\x00",
    "\x08\x00\x00\x00",
    "\x09\x00\x00\x00",
    "\x1e\x00\x00\x00",
];

/// Bytes per byte of the header.
const PER_BYTE: usize = 128;
const CAP: u64 = 1 << 16;

pub fn run(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    let file = match kind {
        0 => rest.to_vec(),
        n => {
            let mut file = b"GGUF\x03\x00\x00\x00".to_vec();
            file.extend_from_slice(rest);
            file.resize(file.len().next_multiple_of(32), 0);
            file.extend((0..(usize::from(*n) - 1) * 2).map(|i| i as u8));
            file
        }
    };
    // Safety: the readers are gone before `file` is, and hand out copies only.
    let bytes: &'static [u8] = unsafe { std::slice::from_raw_parts(file.as_ptr(), file.len()) };
    let budget = Budget::new(CAP, None);
    bounded(PER_BYTE * data.len() + CAP as usize + 16384, || {
        let Ok(read) = Gguf::from_static("file", bytes) else { return };
        let mut at = 0;
        for e in read.entries() {
            assert!(at <= e.begin && e.begin <= e.end && e.end <= bytes.len() as u64, "{e:?}");
            at = e.end;
        }
        let source = Source::from_gguf(read).expect("names that differ");
        for e in source.entries() {
            if let Some(desc) = e.desc()
                && desc.bytes() as u64 <= CAP
            {
                let tensor = source.tensor(&e.name, &budget).expect("a tensor inside the file");
                assert_eq!(tensor.desc(), desc);
            }
        }
        assert!(budget.peak() <= CAP);
    });
    assert_eq!(budget.used(), 0);
}

fn text(t: &str) -> Vec<u8> {
    [&(t.len() as u64).to_le_bytes(), t.as_bytes()].concat()
}

/// Counts, an alignment where one is given, tensors by name, sizes and type one behind another.
fn header(alignment: Option<u32>, tensors: &[(&str, &[u64], u32, u64)]) -> Vec<u8> {
    let mut out = (tensors.len() as u64).to_le_bytes().to_vec();
    out.extend(u64::from(alignment.is_some()).to_le_bytes());
    if let Some(n) = alignment {
        out.extend([text("general.alignment"), 4u32.to_le_bytes().to_vec()].concat());
        out.extend(n.to_le_bytes());
    }
    for (name, dims, code, offset) in tensors {
        out.extend(text(name));
        out.extend((dims.len() as u32).to_le_bytes());
        out.extend(dims.iter().flat_map(|d| d.to_le_bytes()));
        out.extend(code.to_le_bytes());
        out.extend(offset.to_le_bytes());
    }
    out
}

pub fn seeds() -> Vec<Vec<u8>> {
    let with = |data: u8, header: Vec<u8>| [vec![data / 2 + 1], header].concat();
    vec![
        with(0, header(None, &[])),
        with(8, header(None, &[("a", &[2], 0, 0)])),
        with(34, header(None, &[("q", &[32], 8, 0)])),
        with(56, header(None, &[("a", &[4], 0, 0), ("q", &[32, 1], 7, 32)])),
        with(18, header(Some(32), &[("q", &[32], 2, 0)])),
        with(42, header(Some(4), &[("a", &[], 30, 0), ("q", &[32], 3, 4), ("r", &[32], 6, 20)])),
    ]
}

/// Seeds that are refused would fuzz nothing; the last one overlaps, to be mended by the fuzzer.
pub fn check_seeds() {
    let seeds = seeds();
    for seed in &seeds[..seeds.len() - 1] {
        let mut file = b"GGUF\x03\x00\x00\x00".to_vec();
        file.extend_from_slice(&seed[1..]);
        file.resize(file.len().next_multiple_of(32), 0);
        file.resize(file.len() + (usize::from(seed[0]) - 1) * 2, 0);
        Gguf::from_static("seed", file.leak()).expect("a seed");
    }
}
