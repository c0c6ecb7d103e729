//! NumPy's `.npy` format, version 1: one array of f32 or f64, row-major, little-endian.

use diffx::base::{DType, Desc, Result};
use diffx::mem::{Budget, Tensor};
use diffx::{bail, fail};
use std::path::Path;
use std::sync::Arc;

const MAGIC: &[u8] = b"\x93NUMPY\x01\x00";

/// The bytes of a file that holds `tensor`.
pub(crate) fn encode(tensor: &Tensor) -> Result<Vec<u8>> {
    let desc = tensor.desc();
    let kind = match desc.dtype {
        DType::F32 => "<f4",
        DType::F64 => "<f8",
        DType::I32 => "<i4",
        DType::I64 => "<i8",
        DType::U8 => "|u1",
        DType::Bool => "|b1",
        DType::F16 => "<f2",
        DType::BF16 => bail!(Unsupported, ".npy has no bf16, write .safetensors"),
    };
    let dims: String = desc.dims().iter().map(|d| format!("{d}, ")).collect();
    let mut head = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({dims}), }}");
    // the data starts at a multiple of 64
    let unpadded = MAGIC.len() + 2 + head.len() + 1;
    head.push_str(&" ".repeat(unpadded.next_multiple_of(64) - unpadded));
    head.push('\n');
    let Ok(length) = u16::try_from(head.len()) else {
        bail!(Unsupported, "the shape {} is too long for .npy", desc.shape);
    };
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(tensor.bytes());
    Ok(out)
}

/// Reads an array of f32 or f64.
pub(crate) fn read(path: &Path, budget: &Arc<Budget>) -> Result<Tensor> {
    let label = path.display();
    let bytes = std::fs::read(path).map_err(|e| fail!(Io, "{label}: {e}"))?;
    decode(&bytes, budget).map_err(|e| e.within(label))
}

/// Reads the bytes of a file.
pub(crate) fn decode(bytes: &[u8], budget: &Arc<Budget>) -> Result<Tensor> {
    let (desc, data) = header(bytes)?;
    Tensor::from_bytes(desc, data, budget)
}

/// How many bytes of elements follow a header, which is all of `head`.
pub(crate) fn data_bytes(head: &[u8]) -> Result<usize> {
    Ok(header(head)?.0.bytes())
}

fn header(bytes: &[u8]) -> Result<(Desc, &[u8])> {
    let Some(rest) = bytes.strip_prefix(MAGIC) else {
        bail!(Format, "not a .npy file of version 1");
    };
    let Some((length, rest)) = rest.split_first_chunk::<2>() else {
        bail!(Format, "the header is cut off");
    };
    let Some((head, data)) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length))) else {
        bail!(Format, "the header is cut off");
    };
    let head = std::str::from_utf8(head).map_err(|_| fail!(Format, "the header is not text"))?;
    let field = |name: &str, end: char| {
        let at = head.find(&format!("'{name}':"))? + name.len() + 3;
        let text = head.get(at..)?.trim_start();
        Some(text.split(end).next()?.trim_matches([' ', '\'', '(']))
    };
    let dtype = match field("descr", ',') {
        Some("<f4") => DType::F32,
        Some("<f8") => DType::F64,
        other => bail!(Unsupported, "elements are {}, want <f4 or <f8", other.unwrap_or("unnamed")),
    };
    if field("fortran_order", ',') != Some("False") {
        bail!(Unsupported, "column-major arrays are not read");
    }
    let dims = field("shape", ')').unwrap_or_default();
    let dims: Vec<usize> = dims
        .split(',')
        .map(str::trim)
        .filter(|d| !d.is_empty())
        .map(|d| d.parse().map_err(|_| fail!(Format, "the shape holds {d:?}")))
        .collect::<Result<_>>()?;
    Ok((Desc::new(dtype, &dims)?, data))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_come_back() {
        let budget = Budget::unlimited();
        for dims in [&[][..], &[6], &[2, 3], &[1, 2, 3]] {
            let n = dims.iter().product::<usize>();
            let t = Tensor::from_f32(dims, &[1.0, -2.0, 3.5, 0.0, 5.0, 6.0][..n], &budget).unwrap();
            let bytes = encode(&t).unwrap();
            assert_eq!((bytes.len() - n * 4) % 64, 0);
            let back = decode(&bytes, &budget).unwrap();
            assert_eq!((back.desc(), back.bytes()), (t.desc(), t.bytes()));
            for cut in 0..bytes.len() {
                assert!(decode(&bytes[..cut], &budget).is_err(), "{cut}");
            }
        }
    }

    #[test]
    fn the_header_is_that_of_numpy() {
        let t = Tensor::from_f32(&[2, 3], &[0.0; 6], &Budget::unlimited()).unwrap();
        let bytes = encode(&t).unwrap();
        assert_eq!(&bytes[..8], MAGIC);
        let head = String::from_utf8_lossy(&bytes[10..128]);
        assert!(head.starts_with("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3, ), }"));
        assert!(head.ends_with('\n'));
    }
}
