//! Safetensors files in memory. The first byte chooses: the rest is a whole file, or only its header, behind which come
//! so many bytes of data. Laws: the tensors of an accepted file cover its data exactly, and each reads as the bytes that
//! stand there, in memory of the budget.

use super::memory::bounded;
use diffx::mem::Budget;
use diffx::weights::{SafeTensors, Wanted, bind};

pub const WORDS: &[&str] = &[
    "__metadata__",
    "\"dtype\":",
    "\"shape\":",
    "\"data_offsets\":",
    "\"F32\"",
    "\"BF16\"",
    "\"F4\"",
    "\"BOOL\"",
    "\"I64\"",
    "[0,4]",
    "[]",
    "[1,",
    "18446744073709551615",
    "4294967296",
    "null",
    "{}",
];

/// Bytes per byte of the header.
const PER_BYTE: usize = 128;
const CAP: u64 = 1 << 16;

pub fn run(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    let file = match kind {
        0 => rest.to_vec(),
        n => {
            let mut file = (rest.len() as u64).to_le_bytes().to_vec();
            file.extend_from_slice(rest);
            file.extend((0..(usize::from(*n) - 1) * 2).map(|i| i as u8));
            file
        }
    };
    // Safety: the reader is gone before `file` is, and hands out copies only.
    let bytes: &'static [u8] = unsafe { std::slice::from_raw_parts(file.as_ptr(), file.len()) };
    let budget = Budget::new(CAP, None);
    bounded(PER_BYTE * data.len() + CAP as usize + 8192, || {
        let Ok(read) = SafeTensors::from_static("file", bytes) else { return };
        let base = bytes.len() - read.entries().last().map_or(0, |e| e.end as usize);
        let mut at = 0;
        for e in read.entries() {
            assert_eq!(e.begin, at, "{e:?}");
            at = e.end;
            assert_eq!(read.entry(&e.name), Some(e));
            if let Ok(tensor) = read.tensor(&e.name, &budget) {
                assert_eq!(tensor.bytes(), &bytes[base + e.begin as usize..base + e.end as usize]);
                let wanted = [Wanted { name: e.name.clone(), desc: tensor.desc() }];
                assert!(bind(&read, &wanted, &Budget::unlimited()).is_ok());
            }
        }
        assert!(read.tensor("none such", &budget).is_err() || read.entry("none such").is_some());
        assert!(budget.peak() <= CAP);
    });
    assert_eq!(budget.used(), 0);
}

pub fn seeds() -> Vec<Vec<u8>> {
    let whole = |header: &str, data: &[u8]| {
        let mut file = vec![0];
        file.extend((header.len() as u64).to_le_bytes());
        file.extend(header.as_bytes());
        file.extend(data);
        file
    };
    let header = |kind: u8, header: &str| [&[kind], header.as_bytes()].concat();
    vec![
        whole("{}", &[]),
        whole(r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, &[1; 8]),
        header(1, r#"{"__metadata__":{"diffx":"{}","k":"v"}}"#),
        header(
            4,
            r#"{"__metadata__":{"k":"v"},"w":{"dtype":"BF16","shape":[1,2],"data_offsets":[0,4]},
               "b":{"dtype":"BOOL","shape":[2],"data_offsets":[4,6]}}"#,
        ),
        header(3, r#"{"a":{"dtype":"F4","shape":[8],"data_offsets":[0,4]}}"#),
        header(1, r#"{"a":{"dtype":"I64","shape":[0,7],"data_offsets":[0,0]}}"#),
        header(5, r#"{"a":{"dtype":"F64","shape":[],"data_offsets":[0,8]}}"#),
    ]
}
