//! `diffx.h` as a host in Rust would declare it, written down again on purpose: the fuzzer must not share a mistake
//! with `capi`.

use std::ffi::{c_char, c_void};

#[repr(C)]
pub struct DfxError {
    pub struct_size: u32,
    pub status: i32,
    pub source: u32,
    pub message_len: u32,
    pub message: [u8; 496],
}

impl DfxError {
    pub fn empty() -> Self {
        Self { struct_size: 0, status: 0, source: 0, message_len: 0, message: [0; 496] }
    }

    pub fn text(&self) -> String {
        let n = (self.message_len as usize).min(self.message.len());
        String::from_utf8_lossy(&self.message[..n]).into_owned()
    }
}

#[repr(C)]
pub struct Desc {
    pub dtype: u32,
    pub rank: u32,
    pub dims: [i64; 8],
}

impl Desc {
    /// Bytes of it, or very many.
    pub fn bytes(&self) -> u64 {
        let width = match self.dtype {
            6 | 8 => 1,
            2 | 3 => 2,
            5 | 7 => 8,
            _ => 4,
        };
        let dims = self.dims.get(..self.rank as usize).unwrap_or(&[]);
        dims.iter().fold(width, |n: u64, d| n.saturating_mul(u64::try_from(*d).unwrap_or(u64::MAX)))
    }
}

#[repr(C)]
pub struct EngineOptions {
    pub struct_size: u32,
    pub flags: u32,
    pub arena_bytes: u64,
    pub device_bytes: u64,
    pub n_threads: u32,
    pub reserved: u32,
    pub device: *const c_char,
    pub allocator: *const c_void,
    pub log: Option<unsafe extern "C" fn(*mut c_void, i32, *const c_char)>,
    pub log_user: *mut c_void,
    pub cuda_stream: *mut c_void,
    pub reserved_ptr: *mut c_void,
}

#[repr(C)]
pub struct Progress {
    pub struct_size: u32,
    pub state: u32,
    pub step: u64,
    pub n_steps: u64,
    pub elapsed_ns: u64,
}

#[repr(C)]
pub struct Preview {
    pub struct_size: u32,
    pub reserved: u32,
    pub first_sample: u64,
    pub n_samples: u64,
    pub step: u64,
}

#[repr(C)]
pub struct JobOptions {
    pub struct_size: u32,
    pub flags: u32,
    pub seed: u64,
    pub first_sample: u64,
    pub n_samples: u64,
    pub n_steps: u32,
    pub preview_every: u32,
    pub n_inputs: u32,
    pub reserved: u32,
    pub input_names: *const *const c_char,
    pub inputs: *const *mut c_void,
    pub progress: Option<unsafe extern "C" fn(*mut c_void, *mut c_void, *const Progress) -> i32>,
    pub user: *mut c_void,
}

#[repr(C)]
pub struct SimulateOptions {
    pub struct_size: u32,
    pub flags: u32,
    pub seed: u64,
    pub first_sample: u64,
    pub n_samples: u64,
    pub n_times: u32,
    pub substeps: u32,
    pub process: *const c_char,
    pub times: *const f64,
    pub x0: *mut c_void,
    pub keep: *const u32,
    pub n_keep: u32,
    pub reserved: u32,
}

#[repr(C)]
pub struct EvalOptions {
    pub struct_size: u32,
    pub flags: u32,
    pub n_inputs: u32,
    pub n_outputs: u32,
    pub slot: *const c_char,
    pub input_names: *const *const c_char,
    pub inputs: *const *mut c_void,
    pub output_names: *const *const c_char,
}

#[repr(C)]
pub struct Training {
    pub struct_size: u32,
    pub reserved: u32,
    pub step: u64,
    pub n_steps: u64,
    pub loss: f64,
    pub norm: f64,
    pub rate: f64,
}

#[repr(C)]
pub struct TrainerOptions {
    pub struct_size: u32,
    pub flags: u32,
    pub n_tables: u32,
    pub reserved: u32,
    pub table_names: *const *const c_char,
    pub tables: *const *mut c_void,
}

/// The start of DLManagedTensorVersioned.
#[repr(C)]
pub struct DlManaged {
    pub version: [u32; 2],
    pub manager: *mut c_void,
    pub deleter: Option<unsafe extern "C" fn(*mut Self)>,
}

macro_rules! same_size {
    ($($ours:ident $theirs:ident;)*) => {
        $(const _: () = assert!(size_of::<$ours>() == size_of::<diffx::capi::option::$theirs>());)*
    };
}

same_size! {
    EngineOptions EngineOptions;
    Progress CProgress;
    Preview CPreview;
    JobOptions CJobOptions;
    SimulateOptions SimulateOptions;
    EvalOptions EvalOptions;
    Training Training;
    TrainerOptions TrainerOptions;
}

/// A struct with zeros behind it, for sizes of versions to come.
#[repr(C)]
pub struct Padded<T> {
    pub value: T,
    more: [u64; 80],
}

impl<T> Padded<T> {
    pub fn new(value: T) -> Self {
        Self { value, more: [0; 80] }
    }

    /// A pointer that may be used for all of it.
    pub fn at(&mut self) -> *const T {
        self.at_mut()
    }

    pub fn at_mut(&mut self) -> *mut T {
        std::ptr::from_mut(self).cast()
    }
}

pub type Release = unsafe extern "C" fn(*mut c_void);
type Out = *mut *mut c_void;
type Text = *const c_char;

macro_rules! any {
    ($_:ident) => {
        _
    };
}

/// Declares the functions, and holds the number of their arguments to what the library has: a linker would not.
macro_rules! functions {
    ($($file:ident $name:ident($($arg:ident: $ty:ty),*) $(-> $out:ty)?;)*) => {
        unsafe extern "C" {
            $(pub fn $name($($arg: $ty),*) $(-> $out)?;)*
        }

        fn arities() {
            $(let _: unsafe extern "C" fn($(any!($arg)),*) $(-> $out)? = diffx::capi::$file::$name;)*
        }
    };
}

functions! {
    version dfx_has_feature(name: Text) -> i32;
    version dfx_extension(id: Text) -> *const c_void;
    version dfx_status_name(status: i32) -> Text;
    engine dfx_engine_create(o: *const EngineOptions, out: Out, err: *mut DfxError) -> i32;
    engine dfx_engine_release(e: *mut c_void);
    engine dfx_engine_pump(e: *mut c_void, us: u32) -> i32;
    engine dfx_engine_memory(e: *mut c_void, used: *mut u64, peak: *mut u64, err: *mut DfxError) -> i32;
    engine dfx_plugin_register(e: *mut c_void, p: *const c_void, err: *mut DfxError) -> i32;
    engine dfx_plugin_load(e: *mut c_void, path: Text, sha: Text, err: *mut DfxError) -> i32;
    engine dfx_factory_count(e: *mut c_void) -> u32;
    engine dfx_factory_json(e: *mut c_void, i: u32, json: *mut Text, err: *mut DfxError) -> i32;
    model dfx_model_open(e: *mut c_void, path: Text, config: Text, out: Out, err: *mut DfxError) -> i32;
    model dfx_model_release(m: *mut c_void);
    model dfx_model_json(m: *mut c_void, json: *mut Text, err: *mut DfxError) -> i32;
    model dfx_pipeline_create(m: *mut c_void, config: Text, out: Out, err: *mut DfxError) -> i32;
    model dfx_pipeline_release(p: *mut c_void);
    model dfx_pipeline_plan(p: *mut c_void, o: *const JobOptions, bytes: *mut u64, err: *mut DfxError) -> i32;
    model dfx_pipeline_eval(p: *mut c_void, o: *const EvalOptions, out: Out, err: *mut DfxError) -> i32;
    job dfx_job_start(p: *mut c_void, o: *const JobOptions, out: Out, err: *mut DfxError) -> i32;
    job dfx_job_resume(p: *mut c_void, path: Text, o: *const JobOptions, out: Out, err: *mut DfxError) -> i32;
    job dfx_job_poll(j: *mut c_void, out: *mut Progress, err: *mut DfxError) -> i32;
    job dfx_job_wait(j: *mut c_void, ns: u64, err: *mut DfxError) -> i32;
    job dfx_job_cancel(j: *mut c_void);
    job dfx_job_preview(j: *mut c_void, name: Text, out: Out, err: *mut DfxError) -> i32;
    job dfx_job_preview_at(j: *mut c_void, name: Text, what: *mut Preview, out: Out, err: *mut DfxError) -> i32;
    job dfx_job_save(j: *mut c_void, path: Text, err: *mut DfxError) -> i32;
    job dfx_job_result(j: *mut c_void, name: Text, out: Out, err: *mut DfxError) -> i32;
    job dfx_job_release(j: *mut c_void);
    tensor dfx_tensor_create(e: *mut c_void, d: *const Desc, data: *const c_void, out: Out, err: *mut DfxError) -> i32;
    tensor dfx_tensor_wrap(e: *mut c_void, d: *const Desc, data: *mut c_void, free: Option<unsafe extern "C" fn(*mut c_void, *mut c_void)>, user: *mut c_void, out: Out, err: *mut DfxError) -> i32;
    tensor dfx_tensor_from_dlpack(e: *mut c_void, src: *mut c_void, stream: *mut c_void, out: Out, err: *mut DfxError) -> i32;
    tensor dfx_tensor_to_dlpack(t: *mut c_void, stream: *mut c_void, out: Out, err: *mut DfxError) -> i32;
    tensor dfx_tensor_map(t: *mut c_void, data: *mut *const c_void, bytes: *mut usize, err: *mut DfxError) -> i32;
    tensor dfx_tensor_desc(t: *mut c_void, out: *mut Desc, err: *mut DfxError) -> i32;
    tensor dfx_tensor_retain(t: *mut c_void);
    tensor dfx_tensor_release(t: *mut c_void);
    engine dfx_simulate(e: *mut c_void, o: *const SimulateOptions, out: Out, err: *mut DfxError) -> i32;
    trainer dfx_trainer_create(e: *mut c_void, config: Text, o: *const TrainerOptions, out: Out, err: *mut DfxError) -> i32;
    trainer dfx_trainer_plan(e: *mut c_void, config: Text, o: *const TrainerOptions, bytes: *mut u64, err: *mut DfxError) -> i32;
    trainer dfx_trainer_release(t: *mut c_void);
    trainer dfx_trainer_step(t: *mut c_void, n: u32, out: *mut Training, err: *mut DfxError) -> i32;
    trainer dfx_trainer_measure(t: *mut c_void, out: *mut Training, err: *mut DfxError) -> i32;
    trainer dfx_trainer_metric(t: *mut c_void, name: Text, out: *mut f64, err: *mut DfxError) -> i32;
    trainer dfx_trainer_checkpoint(t: *mut c_void, path: Text, err: *mut DfxError) -> i32;
    trainer dfx_trainer_metric_count(t: *mut c_void) -> u32;
    trainer dfx_trainer_metric_name(t: *mut c_void, i: u32, name: *mut Text, err: *mut DfxError) -> i32;
    trainer dfx_trainer_resume(t: *mut c_void, path: Text, err: *mut DfxError) -> i32;
    trainer dfx_trainer_save(t: *mut c_void, path: Text, err: *mut DfxError) -> i32;
}
