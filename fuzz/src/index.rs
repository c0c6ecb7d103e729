//! Indices of shards. Laws: an accepted one names plain files only, each once; its tensors are in ascending order, each
//! once, and each in a file that is named; written again as JSON it reads the same.

use super::memory::bounded;
use diffx::weights::index::{Index, check_plain};

pub const WORDS: &[&str] = &[
    "{\"weight_map\":{",
    "\"metadata\":{",
    "\"model-00001-of-00002.safetensors\"",
    "\"../x\"",
    "\"\\u002e\\u002e\"",
    "\":\"",
    "\",\"",
    "}}",
    "null",
];

/// Bytes per byte of the text.
const PER_BYTE: usize = 128;

pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    bounded(PER_BYTE * data.len() + 16384, || {
        let Ok(index) = Index::parse(text) else { return };
        assert!(index.files.iter().all(|f| check_plain(f).is_ok()), "{:?}", index.files);
        assert!(index.tensors.windows(2).all(|pair| pair[0].0 < pair[1].0));
        let mut map = serde_json::Map::new();
        for (name, at) in &index.tensors {
            map.insert(name.clone(), index.files[*at as usize].clone().into());
        }
        let again = serde_json::json!({ "weight_map": map }).to_string();
        let again = Index::parse(&again).expect("what was accepted");
        let named = |i: &Index| -> Vec<(String, String)> {
            i.tensors.iter().map(|(n, f)| (n.clone(), i.files[*f as usize].clone())).collect()
        };
        assert_eq!(named(&again), named(&index));
    });
}

pub fn seeds() -> Vec<Vec<u8>> {
    [
        r#"{"weight_map":{}}"#,
        r#"{"metadata":{"total_size":8},"weight_map":{"a":"m-1.safetensors","b":"m-2.safetensors"}}"#,
        r#"{"weight_map":{"b":"m","a":"m"},"x":[[],{"y":null}]}"#,
        r#"{"weight_map":{"a":"../m"}}"#,
    ]
    .iter()
    .map(|t| t.as_bytes().to_vec())
    .collect()
}
