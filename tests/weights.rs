//! safetensors: what we write the reference crate reads, malformed files end in one clear sentence, and binding names
//! everything that is wrong at once.

use diffx::base::{DType, Desc, Status};
use diffx::mem::Budget;
use diffx::weights::{Out, SafeTensors, Wanted, bind, convert, write};
use std::collections::BTreeMap;
use std::path::PathBuf;

fn scratch(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("diffx-weights-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    dir.join(name)
}

fn desc(dtype: DType, dims: &[usize]) -> Desc {
    Desc::new(dtype, dims).unwrap()
}

/// A file with this header and so many bytes of data.
fn raw(name: &str, header: &[u8], data: usize) -> PathBuf {
    let path = scratch(name);
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header);
    bytes.resize(bytes.len() + data, 7);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn sample(path: &std::path::Path) {
    let a: Vec<u8> = [1.0f32, -2.5, 3.25, 1e-3].iter().flat_map(|v| v.to_le_bytes()).collect();
    let b: Vec<u8> = [7i64, -1].iter().flat_map(|v| v.to_le_bytes()).collect();
    let tensors = [
        Out { name: "layer.weight", desc: desc(DType::F32, &[2, 2]), bytes: &a },
        Out { name: "ids", desc: desc(DType::I64, &[2]), bytes: &b },
        Out { name: "flags", desc: desc(DType::Bool, &[3]), bytes: &[1, 0, 1] },
        Out { name: "empty", desc: desc(DType::F32, &[0, 5]), bytes: &[] },
    ];
    let metadata = BTreeMap::from([("diffx".to_owned(), "{\"format\":1}".to_owned())]);
    write(path, &metadata, &tensors).unwrap();
}

#[test]
fn the_reference_crate_reads_what_we_write() {
    let path = scratch("ours.safetensors");
    sample(&path);
    let bytes = std::fs::read(&path).unwrap();
    let theirs = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let w = theirs.tensor("layer.weight").unwrap();
    assert_eq!((w.shape(), w.dtype()), (&[2usize, 2][..], safetensors::Dtype::F32));
    assert_eq!(w.data()[..4], 1.0f32.to_le_bytes());
    assert_eq!(theirs.tensor("ids").unwrap().data()[8..], (-1i64).to_le_bytes());
    assert_eq!(theirs.tensor("empty").unwrap().shape(), [0, 5]);
    let (_, head) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    assert_eq!(head.metadata().as_ref().unwrap()["diffx"], "{\"format\":1}");
}

#[test]
fn we_read_what_the_reference_crate_writes() {
    let data: Vec<u8> = [0.5f32, 8.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    let view =
        safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![2], &data).unwrap();
    let bytes = safetensors::serialize([("x", view)], None).unwrap();
    let path = scratch("theirs.safetensors");
    std::fs::write(&path, bytes).unwrap();
    let file = SafeTensors::open(&path).unwrap();
    let x = file.tensor("x", &Budget::unlimited()).unwrap();
    assert_eq!(x.elements::<f32>().unwrap(), [0.5, 8.0]);
}

#[test]
fn round_trip_and_lazy_reads_obey_the_budget() {
    let path = scratch("round.safetensors");
    sample(&path);
    let file = SafeTensors::open(&path).unwrap();
    assert_eq!(file.metadata()["diffx"], "{\"format\":1}");
    assert_eq!(file.entry("layer.weight").unwrap().dims, [2, 2]);
    let small = Budget::new(15, None);
    let e = file.tensor("layer.weight", &small).unwrap_err();
    assert_eq!(e.status, Status::NoMemory);
    assert_eq!(small.used(), 0);
    let t = file.tensor("layer.weight", &Budget::new(16, None)).unwrap();
    assert_eq!(t.elements::<f32>().unwrap(), [1.0, -2.5, 3.25, 1e-3]);
    assert_eq!(file.tensor("flags", &Budget::unlimited()).unwrap().bytes(), [1, 0, 1]);
    let e = file.tensor("layer.bias", &Budget::unlimited()).unwrap_err();
    assert_eq!(e.status, Status::NotFound);
}

#[test]
fn a_failed_write_leaves_the_old_file_and_nothing_else() {
    let dir = scratch("atomic");
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("model.safetensors");
    sample(&path);
    let before = std::fs::read(&path).unwrap();
    let broken = diffx::weights::atomic::replace(&path, |out| {
        out.write_all(b"half")?;
        Err(std::io::Error::other("the disk is full"))
    });
    let message = broken.unwrap_err().message;
    assert!(
        message.contains("model.safetensors") && message.contains("the disk is full"),
        "{message}"
    );
    assert_eq!(std::fs::read(&path).unwrap(), before);
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 1);
}

#[test]
fn malformed_files_end_in_one_sentence() {
    let t = |body: &str| format!("{{\"a\":{body}}}");
    let deep = format!("{{\"a\":{{\"dtype\":{}1{}}}}}", "[".repeat(5000), "]".repeat(5000));
    let rows: Vec<(&str, Vec<u8>, usize, &str)> = vec![
        ("json", b"{\"a\":".to_vec(), 0, "not the JSON"),
        ("list", b"[1,2]".to_vec(), 0, "not the JSON"),
        ("utf8", b"{\"\xff\xfe\":{}}".to_vec(), 0, "not UTF-8"),
        ("deep", deep.into(), 0, "not the JSON"),
        ("field", t(r#"{"dtype":"F32","shape":[1]}"#).into(), 4, "want the fields"),
        ("extra", t(r#"{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1}"#).into(), 4, "unknown field x"),
        ("dtype", t(r#"{"dtype":"Q9","shape":[1],"data_offsets":[0,4]}"#).into(), 4, "dtype is \"Q9\""),
        ("shape", t(r#"{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}"#).into(), 4, "integer `-1`, expected u64"),
        ("huge", t(r#"{"dtype":"F32","shape":[4294967296,4294967296,16],"data_offsets":[0,4]}"#).into(), 4, "address space"),
        ("size", t(r#"{"dtype":"F32","shape":[3],"data_offsets":[0,4]}"#).into(), 4, "takes 12 bytes"),
        ("order", t(r#"{"dtype":"F32","shape":[1],"data_offsets":[4,0]}"#).into(), 4, "data_offsets are [4, 0]"),
        ("three", t(r#"{"dtype":"F32","shape":[1],"data_offsets":[0,4,8]}"#).into(), 4, "has 3 numbers"),
        ("short", t(r#"{"dtype":"F32","shape":[2],"data_offsets":[0,8]}"#).into(), 4, "ends at byte 8, the file has 4"),
        ("long", t(r#"{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#).into(), 9, "cover 4 bytes, the file has 9"),
        ("gap", t(r#"{"dtype":"F32","shape":[1],"data_offsets":[4,8]}"#).into(), 8, "belong to no tensor"),
        ("overlap", br#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#.to_vec(), 8, "inside the one before it"),
        ("twice", br#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#.to_vec(), 2, "names a twice"),
        ("meta", br#"{"__metadata__":{"k":3}}"#.to_vec(), 0, "metadata k: invalid type: integer `3`, expected a text"),
    ];
    for (name, header, data, want) in rows {
        let path = raw(&format!("bad-{name}.safetensors"), &header, data);
        let e = SafeTensors::open(&path).unwrap_err();
        assert_eq!(e.status, Status::Format, "{name}: {e}");
        assert!(e.message.contains(want), "{name}: {e}");
        assert!(e.message.contains("bad-") && !e.message.contains('\n'), "{name}: {e}");
    }
}

#[test]
fn a_header_length_is_never_believed() {
    for (name, length, rest, want) in [
        ("cap", u64::MAX, 100, "more than 100000000 are refused"),
        ("cap2", 100_000_001, 100, "more than 100000000 are refused"),
        ("trunc", 101, 100, "the file has 100 after its length"),
    ] {
        let path = scratch(&format!("len-{name}.safetensors"));
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.resize(8 + rest, b' ');
        std::fs::write(&path, bytes).unwrap();
        let e = SafeTensors::open(&path).unwrap_err();
        assert!(e.message.contains(want), "{e}");
    }
    let path = scratch("len-short.safetensors");
    std::fs::write(&path, [1, 2, 3]).unwrap();
    assert!(SafeTensors::open(&path).unwrap_err().message.contains("too few"));
    let missing = SafeTensors::open(&scratch("none.safetensors")).unwrap_err();
    assert_eq!(missing.status, Status::NotFound);
}

/// Every prefix of a good file is refused or, where only the header is whole, refused as well: never a panic.
#[test]
fn every_truncation_is_refused() {
    let path = scratch("whole.safetensors");
    sample(&path);
    let bytes = std::fs::read(&path).unwrap();
    let cut = scratch("cut.safetensors");
    for n in 0..bytes.len() {
        std::fs::write(&cut, &bytes[..n]).unwrap();
        assert!(SafeTensors::open(&cut).is_err(), "{n} of {} bytes were accepted", bytes.len());
    }
}

#[test]
fn a_type_we_lack_is_listed_but_not_read() {
    let header = br#"{"q":{"dtype":"F8_E4M3","shape":[4],"data_offsets":[0,4]}}"#;
    let file = SafeTensors::open(&raw("f8.safetensors", header, 4)).unwrap();
    assert_eq!(file.entries()[0].type_name, "F8_E4M3");
    let e = file.tensor("q", &Budget::unlimited()).unwrap_err();
    assert_eq!(e.status, Status::Unsupported);
}

#[test]
fn binding_converts_and_names_every_fault_at_once() {
    let path = scratch("bind.safetensors");
    sample(&path);
    let file = SafeTensors::open(&path).unwrap();
    let want = |name: &str, d: Desc| Wanted { name: name.into(), desc: d };
    let budget = Budget::unlimited();
    let bound = bind(&file, &[want("layer.weight", desc(DType::BF16, &[2, 2]))], &budget).unwrap();
    assert_eq!(bound[0].desc(), desc(DType::BF16, &[2, 2]));
    assert_eq!(
        convert::to_f64(&bound[0]).unwrap(),
        [1.0, -2.5, 3.25, f64::from(half::bf16::from_f64(1e-3))]
    );
    let e = bind(
        &file,
        &[
            want("layer.weight", desc(DType::F32, &[4])),
            want("ids", desc(DType::F32, &[2])),
            want("flags", desc(DType::Bool, &[3])),
            want("head.bias", desc(DType::F32, &[9])),
        ],
        &budget,
    )
    .unwrap_err();
    for part in [
        "weight layer.weight: want f32[4], file has f32[2,2]",
        "weight ids: want f32[2], file has i64[2]",
        "weight head.bias: want f32[9], file has none",
    ] {
        assert!(e.message.contains(part), "{e}");
    }
    assert!(!e.message.contains("flags"));
}

#[test]
fn conversions_round_to_nearest_even_and_keep_what_is_exact() {
    let budget = Budget::unlimited();
    let t = diffx::mem::Tensor::from_f32(
        &[5],
        &[1.0, 1.0 + 1.0 / 256.0, 1.0 + 3.0 / 256.0, f32::INFINITY, -0.0],
        &budget,
    )
    .unwrap();
    // bf16 has 8 bits of mantissa: 1 + 2^-8 lies between two of its numbers and goes to the even one
    let b = convert::convert(t, DType::BF16, &budget).unwrap();
    assert_eq!(convert::to_f64(&b).unwrap(), [1.0, 1.0, 1.015625, f64::INFINITY, 0.0]);
    let back = convert::convert(b, DType::F32, &budget).unwrap();
    assert_eq!(back.elements::<f32>().unwrap()[2], 1.015625);
    let half = convert::convert(back, DType::F16, &budget).unwrap();
    assert_eq!(convert::to_f64(&half).unwrap()[2], 1.015625);
    let ids = diffx::mem::Tensor::new(desc(DType::I32, &[2]), &budget).unwrap();
    assert!(convert::convert(ids, DType::F32, &budget).is_err());
}
