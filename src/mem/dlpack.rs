//! DLPack 1.x: the exchange format of tensors between libraries. Host memory only; contiguous, row-major.

use super::callback;
use super::tensor::Tensor;
use crate::bail;
use crate::base::{DType, Desc, Result};
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

const MAJOR: u32 = 1;
const MINOR: u32 = 1;
const CPU: i32 = 1;
/// Host memory that a CUDA driver pinned: as good as any to read.
const CUDA_HOST: i32 = 3;
const READ_ONLY: u64 = 1;

#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Version {
    pub major: u32,
    pub minor: u32,
}

#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Device {
    pub kind: i32,
    pub id: i32,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataType {
    pub code: u8,
    pub bits: u8,
    pub lanes: u16,
}

#[repr(C)]
#[derive(Debug)]
pub struct DlTensor {
    pub data: *mut c_void,
    pub device: Device,
    pub ndim: i32,
    pub dtype: DataType,
    pub shape: *mut i64,
    pub strides: *mut i64,
    pub byte_offset: u64,
}

/// `DLManagedTensorVersioned`.
#[repr(C)]
#[derive(Debug)]
pub struct Managed {
    pub version: Version,
    pub context: *mut c_void,
    pub deleter: Option<unsafe extern "C-unwind" fn(*mut Self)>,
    pub flags: u64,
    pub tensor: DlTensor,
}

/// Our element types in theirs: code 0 int, 1 unsigned, 2 float, 4 bfloat, 6 bool.
const TYPES: &[(DType, u8)] = &[
    (DType::F32, 2),
    (DType::F64, 2),
    (DType::F16, 2),
    (DType::BF16, 4),
    (DType::I32, 0),
    (DType::I64, 0),
    (DType::U8, 1),
    (DType::Bool, 6),
];

fn theirs(dtype: DType) -> DataType {
    let code = TYPES.iter().find(|(d, _)| *d == dtype).map_or(0, |(_, c)| *c);
    DataType { code, bits: (dtype.bytes() * 8) as u8, lanes: 1 }
}

/// Takes a tensor over without copying. On failure it is still the caller's.
///
/// # Safety
/// `source` must be null or a valid managed tensor whose memory stays unchanged until its deleter is called, which may
/// be on any thread.
pub unsafe fn import(source: *mut Managed) -> Result<Tensor> {
    // Safety: as the caller promised.
    let Some(m) = (unsafe { source.as_ref() }) else { bail!(Invalid, "the dlpack tensor is NULL") };
    if m.version.major != MAJOR {
        let v = m.version;
        bail!(Version, "dlpack {}.{}, want {MAJOR}.x", v.major, v.minor);
    }
    let t = &m.tensor;
    if t.device.kind != CPU && t.device.kind != CUDA_HOST {
        bail!(Unsupported, "dlpack device kind {}, want host memory", t.device.kind);
    }
    let Some((dtype, _)) = TYPES.iter().find(|(d, _)| theirs(*d) == t.dtype) else {
        bail!(Unsupported, "dlpack type {:?} is none of ours", t.dtype);
    };
    if !(0..=crate::base::MAX_RANK as i32).contains(&t.ndim) || (t.ndim > 0 && t.shape.is_null()) {
        bail!(Invalid, "dlpack rank {}, want 0 to {}", t.ndim, crate::base::MAX_RANK);
    }
    let rank = t.ndim as usize;
    let list = |p: *mut i64| -> Vec<i64> {
        // Safety: the format says `ndim` numbers; null was tested where it may be.
        (0..rank).map(|i| unsafe { p.add(i).read_unaligned() }).collect()
    };
    let mut dims = Vec::with_capacity(rank);
    for d in list(t.shape) {
        match usize::try_from(d) {
            Ok(d) => dims.push(d),
            Err(_) => bail!(Invalid, "dlpack dimension {d}, want 0 or more"),
        }
    }
    let desc = Desc::new(*dtype, &dims)?;
    if !t.strides.is_null() && desc.shape.elements() > 1 {
        let strides = list(t.strides);
        let want = desc.shape.strides();
        if (0..rank).any(|i| dims[i] > 1 && strides[i] != want[i] as i64) {
            bail!(Unsupported, "dlpack strides {strides:?} of {desc}, want row-major without gaps");
        }
    }
    let data = t.data.cast::<u8>().wrapping_add(t.byte_offset as usize);
    if desc.bytes() > 0 && (data.is_null() || !data.addr().is_multiple_of(dtype.bytes())) {
        bail!(Invalid, "dlpack data at {data:p} is null or not aligned for {dtype}");
    }
    // Safety: as below; looked at without the deleter, which must not be called on failure.
    unsafe { Tensor::borrow(desc, data.cast(), None, std::ptr::null_mut()) }.check_bools()?;
    // Safety: the memory is as long as shape and type say, and lives until the deleter is called.
    Ok(unsafe { Tensor::borrow(desc, data.cast(), Some(give_back), source.cast()) })
}

unsafe extern "C-unwind" fn give_back(user: *mut c_void, _data: *mut c_void) {
    let managed = user.cast::<Managed>();
    // Safety: `user` is the tensor that was taken over; it is alive until its deleter has run, and that is now.
    unsafe {
        if let Some(deleter) = (*managed).deleter {
            callback::call("DLPack deleter", || deleter(managed));
        }
    }
}

/// What an exported tensor owns.
struct Exported {
    managed: Managed,
    shape: [i64; crate::base::MAX_RANK],
    strides: [i64; crate::base::MAX_RANK],
    _tensor: Arc<Tensor>,
}

/// A view for another library, which frees it through the deleter. Read-only.
pub fn export(tensor: &Arc<Tensor>) -> *mut Managed {
    let desc = tensor.desc();
    let (mut shape, mut strides) = ([0; crate::base::MAX_RANK], [0; crate::base::MAX_RANK]);
    for (i, d) in desc.dims().iter().enumerate() {
        shape[i] = *d as i64;
        strides[i] = desc.shape.strides()[i] as i64;
    }
    let mut out = Box::new(Exported {
        managed: Managed {
            version: Version { major: MAJOR, minor: MINOR },
            context: std::ptr::null_mut(),
            deleter: Some(delete),
            flags: READ_ONLY,
            tensor: DlTensor {
                data: tensor.bytes().as_ptr().cast_mut().cast(),
                device: Device { kind: CPU, id: 0 },
                ndim: desc.shape.rank() as i32,
                dtype: theirs(desc.dtype),
                shape: std::ptr::null_mut(),
                strides: std::ptr::null_mut(),
                byte_offset: 0,
            },
        },
        shape,
        strides,
        _tensor: Arc::clone(tensor),
    });
    out.managed.tensor.shape = out.shape.as_mut_ptr();
    out.managed.tensor.strides = out.strides.as_mut_ptr();
    let raw = Box::into_raw(out);
    // Safety: just made; the context leads back to the whole box.
    unsafe {
        (*raw).managed.context = raw.cast();
        &raw mut (*raw).managed
    }
}

unsafe extern "C-unwind" fn delete(managed: *mut Managed) {
    if managed.is_null() {
        return;
    }
    let end = catch_unwind(AssertUnwindSafe(|| {
        // Safety: the context is the box `export` made; the deleter is called once.
        drop(unsafe { Box::from_raw((*managed).context.cast::<Exported>()) });
    }));
    if let Err(panic) = end {
        std::mem::forget(panic); // dropping a payload may panic again, and nothing of ours leaves here by unwinding
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::Budget;

    #[test]
    fn goes_out_and_comes_back() {
        let budget = Budget::unlimited();
        let t = Arc::new(Tensor::from_f32(&[2, 3], &[1., 2., 3., 4., 5., 6.], &budget).unwrap());
        let managed = export(&t);
        // Safety: just exported.
        let back = unsafe { import(managed) }.unwrap();
        assert_eq!(back.desc(), t.desc());
        assert_eq!(back.bytes(), t.bytes());
        drop(t);
        assert_eq!(back.elements::<f32>().unwrap()[5], 6.0);
        drop(back);
        assert_eq!(budget.used(), 0, "the deleter ran");
    }

    #[test]
    fn a_bool_is_0_or_1() {
        let budget = Budget::unlimited();
        for (bytes, fits) in [([0, 1, 1], true), ([0, 2, 1], false)] {
            let desc = Desc::new(DType::Bool, &[3]).unwrap();
            let t = Arc::new(Tensor::from_bytes(desc, &bytes, &budget).unwrap());
            let managed = export(&t);
            // Safety: just exported; what is refused is still ours to delete.
            match unsafe { import(managed) } {
                Ok(back) => assert!(fits && back.bytes() == bytes),
                Err(e) => {
                    assert!(!fits && e.message == "a bool is 2, want 0 or 1", "{e}");
                    assert_eq!(Arc::strong_count(&t), 2, "not deleted");
                    // Safety: as above.
                    unsafe { delete(managed) };
                }
            }
            drop(t);
            assert_eq!(budget.used(), 0);
        }
    }

    #[test]
    fn what_we_cannot_hold_stays_with_its_owner() {
        let budget = Budget::unlimited();
        let t = Arc::new(Tensor::from_f32(&[2, 2], &[1., 2., 3., 4.], &budget).unwrap());
        let managed = export(&t);
        // Safety: just exported, and alive until deleted below; the strides point into it.
        unsafe {
            (*managed).tensor.strides.write(1);
            assert!(import(managed).is_err());
            (*managed).tensor.strides.write(2);
            (*managed).tensor.device.kind = 2;
            assert!(import(managed).is_err());
            (*managed).tensor.device.kind = CPU;
            (*managed).version.major = 2;
            assert!(import(managed).is_err());
            delete(managed);
        }
    }
}
