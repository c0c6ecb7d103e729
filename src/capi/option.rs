//! The growing structs of `diffx.h`, and the rule for reading them: what the caller's version lacks is zero, what it
//! has more must be zero (as in Linux's openat2).

use crate::base::Result;
use crate::{bail, fail};
use std::ffi::{c_char, c_void};

/// Largest struct anybody may send.
const MOST: usize = 4096;

/// A struct of the header that begins with `struct_size` and is valid as zeros.
///
/// # Safety
/// `repr(C)`, first field `u32`, every bit pattern of zeros a value.
pub unsafe trait Growing: Copy {
    const NAME: &'static str;
}

/// Reads options; NULL is all defaults.
///
/// # Safety
/// `p` must be null or readable for as many bytes as its first word says.
pub(super) unsafe fn read<T: Growing>(p: *const T) -> Result<T> {
    // Safety: the trait's promise.
    let mut out: T = unsafe { std::mem::zeroed() };
    if p.is_null() {
        return Ok(out);
    }
    // Safety: the first word is always there.
    let size = unsafe { p.cast::<u32>().read_unaligned() } as usize;
    // every version of a struct ends at a multiple of 8, so that no pointer is cut in half
    if !(8..=MOST).contains(&size) || !size.is_multiple_of(8) {
        bail!(Invalid, "{}: struct_size is {size}: start from the _INIT macro", T::NAME);
    }
    let known = size.min(size_of::<T>());
    // Safety: both are at least `known` bytes long; they are different objects.
    unsafe { std::ptr::copy_nonoverlapping(p.cast::<u8>(), (&raw mut out).cast::<u8>(), known) };
    // Safety: the struct is `size` bytes long.
    let more = unsafe { std::slice::from_raw_parts(p.cast::<u8>().add(known), size - known) };
    match more.iter().position(|b| *b != 0) {
        Some(i) => Err(fail!(
            Unsupported,
            "{}: byte {} is set, which this version of diffx does not know",
            T::NAME,
            known + i
        )),
        None => Ok(out),
    }
}

/// Writes a result struct: as much as the caller has room for. `struct_size` stays the caller's.
///
/// # Safety
/// `p` must be null or valid for as many bytes as its first word says.
pub(super) unsafe fn write<T: Growing>(p: *mut T, value: &T) -> Result<()> {
    if p.is_null() {
        bail!(Invalid, "{}: the out pointer is NULL", T::NAME);
    }
    // Safety: the first word is always there.
    let size = unsafe { p.cast::<u32>().read_unaligned() } as usize;
    if !(4..=MOST).contains(&size) {
        bail!(Invalid, "{}: struct_size is {size}: start from the _INIT macro", T::NAME);
    }
    let n = size.min(size_of::<T>()) - 4;
    // Safety: behind the first word both have `n` more bytes.
    unsafe {
        let from = std::ptr::from_ref(value).cast::<u8>().add(4);
        std::ptr::copy_nonoverlapping(from, p.cast::<u8>().add(4), n);
    }
    Ok(())
}

/// Bits nobody knows are refused.
pub(super) fn check_flags(flags: u32, known: u32, what: &str) -> Result<()> {
    match flags & !known {
        0 => Ok(()),
        odd => Err(fail!(Unsupported, "{what}: flag {odd:#x} is not known to this version")),
    }
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Allocator {
    pub(super) struct_size: u32,
    pub(super) reserved: u32,
    pub(super) user: *mut c_void,
    pub(super) alloc: Option<unsafe extern "C-unwind" fn(*mut c_void, usize, usize) -> *mut c_void>,
    pub(super) free: Option<unsafe extern "C-unwind" fn(*mut c_void, *mut c_void, usize, usize)>,
    pub(super) reserved_ptr: *mut c_void,
}

pub type LogFn = unsafe extern "C-unwind" fn(*mut c_void, i32, *const c_char);

#[repr(C)]
#[derive(Clone, Copy)]
pub struct EngineOptions {
    pub(super) struct_size: u32,
    pub(super) flags: u32,
    pub(super) arena_bytes: u64,
    pub(super) device_bytes: u64,
    pub(super) n_threads: u32,
    pub(super) reserved: u32,
    pub(super) device: *const c_char,
    pub(super) allocator: *const Allocator,
    pub(super) log: Option<LogFn>,
    pub(super) log_user: *mut c_void,
    pub(super) cuda_stream: *mut c_void,
    pub(super) reserved_ptr: *mut c_void,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct CProgress {
    pub(super) struct_size: u32,
    pub(super) state: u32,
    pub(super) step: u64,
    pub(super) n_steps: u64,
    pub(super) elapsed_ns: u64,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct CPreview {
    pub(super) struct_size: u32,
    pub(super) reserved: u32,
    pub(super) first_sample: u64,
    pub(super) n_samples: u64,
    pub(super) step: u64,
}

pub type ProgressFn =
    unsafe extern "C-unwind" fn(*mut c_void, *mut super::job::CJob, *const CProgress) -> i32;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct CJobOptions {
    pub(super) struct_size: u32,
    pub(super) flags: u32,
    pub(super) seed: u64,
    pub(super) first_sample: u64,
    pub(super) n_samples: u64,
    pub(super) n_steps: u32,
    pub(super) preview_every: u32,
    pub(super) n_inputs: u32,
    pub(super) reserved: u32,
    pub(super) input_names: *const *const c_char,
    pub(super) inputs: *const *const super::tensor::CTensor,
    pub(super) progress: Option<ProgressFn>,
    pub(super) user: *mut c_void,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct SimulateOptions {
    pub(super) struct_size: u32,
    pub(super) flags: u32,
    pub(super) seed: u64,
    pub(super) first_sample: u64,
    pub(super) n_samples: u64,
    pub(super) n_times: u32,
    pub(super) substeps: u32,
    pub(super) process: *const c_char,
    pub(super) times: *const f64,
    pub(super) x0: *const super::tensor::CTensor,
    pub(super) keep: *const u32,
    pub(super) n_keep: u32,
    pub(super) reserved: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct EvalOptions {
    pub(super) struct_size: u32,
    pub(super) flags: u32,
    pub(super) n_inputs: u32,
    pub(super) n_outputs: u32,
    pub(super) slot: *const c_char,
    pub(super) input_names: *const *const c_char,
    pub(super) inputs: *const *const super::tensor::CTensor,
    pub(super) output_names: *const *const c_char,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct ScoreOptions {
    pub(super) struct_size: u32,
    pub(super) flags: u32,
    pub(super) n_inputs: u32,
    pub(super) n_steps: u32,
    pub(super) n_probes: u32,
    pub(super) reserved: u32,
    pub(super) seed: u64,
    pub(super) first_sample: u64,
    pub(super) input_names: *const *const c_char,
    pub(super) inputs: *const *const super::tensor::CTensor,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Training {
    pub(super) struct_size: u32,
    pub(super) reserved: u32,
    pub(super) step: u64,
    pub(super) n_steps: u64,
    pub(super) loss: f64,
    pub(super) norm: f64,
    pub(super) rate: f64,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct TrainerOptions {
    pub(super) struct_size: u32,
    pub(super) flags: u32,
    pub(super) n_tables: u32,
    pub(super) reserved: u32,
    pub(super) table_names: *const *const c_char,
    pub(super) tables: *const *const super::tensor::CTensor,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct RolloutOptions {
    pub(super) struct_size: u32,
    pub(super) flags: u32,
    pub(super) n_inputs: u32,
    pub(super) reserved: u32,
    pub(super) input_names: *const *const c_char,
    pub(super) inputs: *const *const super::tensor::CTensor,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct CReward {
    pub(super) struct_size: u32,
    pub(super) flags: u32,
    pub(super) values: *const super::tensor::CTensor,
    pub(super) valid: *const super::tensor::CTensor,
    pub(super) n_grads: u32,
    pub(super) reserved: u32,
    pub(super) grad_names: *const *const c_char,
    pub(super) grads: *const *const super::tensor::CTensor,
}

macro_rules! growing {
    ($($type:ty = $name:literal;)*) => { $(
        // Safety: repr(C), begins with struct_size, made of integers, raw pointers and optional functions.
        unsafe impl Growing for $type { const NAME: &'static str = $name; }
    )* };
}

growing! {
    Allocator = "dfx_allocator";
    EngineOptions = "dfx_engine_options";
    CProgress = "dfx_progress";
    CPreview = "dfx_preview";
    CJobOptions = "dfx_job_options";
    SimulateOptions = "dfx_simulate_options";
    EvalOptions = "dfx_eval_options";
    ScoreOptions = "dfx_score_options";
    Training = "dfx_training";
    TrainerOptions = "dfx_trainer_options";
    RolloutOptions = "dfx_rollout_options";
    CReward = "dfx_reward";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_and_newer_callers() {
        let newer = [std::mem::size_of::<CProgress>() as u32 + 8, 2, 3, 0, 0, 0, 0, 0, 0, 0];
        // Safety: the array is as long as its first word says.
        let read_newer = |words: &[u32; 10]| unsafe { read(words.as_ptr().cast::<CProgress>()) };
        assert_eq!(read_newer(&newer).unwrap().state, 2);
        let mut odd = newer;
        odd[9] = 1;
        let e = read_newer(&odd).err().unwrap();
        assert_eq!(e.status, crate::base::Status::Unsupported);
        let mut older = newer;
        older[0] = 8;
        let got = read_newer(&older).unwrap();
        assert_eq!((got.state, got.step), (2, 0));
        let mut bad = newer;
        bad[0] = 0;
        assert!(read_newer(&bad).is_err());
    }
}
