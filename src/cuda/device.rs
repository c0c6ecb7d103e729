//! One device: its context, the stream everything runs on, and the kernels of this build.

use super::driver::{self, CUcontext, CUdevice, CUfunction, CUmodule, CUstream, Driver};
use crate::base::Result;
use crate::mem::Budget;
use crate::{bail, fail};
use std::ffi::{CString, c_void};
use std::sync::Arc;

// `IMAGES`: (file of kernels/, fatbin), empty without nvcc
include!(concat!(env!("OUT_DIR"), "/images.rs"));

macro_rules! kernels {
    ($($name:ident)*) => {
        /// A kernel, by the name it has in `kernels/`.
        #[allow(non_camel_case_types)] // those names
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Kernel { $($name),* }

        impl Kernel {
            const ALL: &'static [Self] = &[$(Self::$name),*];

            fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name)),* }
            }
        }
    };
}

kernels! {
    program_f32 program_f64 program_i64 laws_f32 laws_f64
    copy_box fill iota take add_at copy_dynamic
    reduce_rows arg_best running_sum softmax_rows norm_rows
    matmul_f32 matmul_f64 matmul_bf16 attention_rows attention_tiles sort_axis
    conv_f32 conv_f64 conv_input_f32 conv_input_f64 conv_weight_f32 conv_weight_f64
    draw_normal draw_uniform draw_gamma draw_poisson draw_categorical draw_brownian
}

pub(super) struct Device {
    device: CUdevice,
    context: CUcontext,
    stream: CUstream,
    own_stream: bool,
    modules: Vec<CUmodule>,
    /// In the order of `Kernel::ALL`.
    functions: Vec<CUfunction>,
    most_shared: u32,
    budget: Arc<Budget>,
    text: String,
}

// Safety: the driver takes every call from any thread once the context is current there (`enter`); a stream and a function
// may be used by several.
unsafe impl Send for Device {}
// Safety: as above; nothing here changes after `open`.
unsafe impl Sync for Device {}

impl Device {
    pub(super) fn open(index: i32, stream: *mut c_void, cap: u64) -> Result<Arc<Self>> {
        let found = driver::find()?;
        let own = match &found {
            Driver::Present(own) => own.as_ref(),
            Driver::Absent => None,
        };
        if IMAGES.is_empty() && own.is_none() {
            bail!(
                Unsupported,
                "this build of diffx has no CUDA kernels (no nvcc was found when it was built), use cpu"
            );
        }
        if matches!(found, Driver::Absent) {
            bail!(Unsupported, "there is no CUDA driver on this machine (libcuda), use cpu");
        }
        driver::start()?;
        let (mut count, mut device) = (0, 0);
        // Safety: the pointers are good for one number each.
        unsafe { driver::cuDeviceGetCount(&raw mut count) }?;
        if index >= count {
            bail!(Unsupported, "there are {count} CUDA devices on this machine, want one below it");
        }
        // Safety: as above.
        unsafe { driver::cuDeviceGet(&raw mut device, index) }?;
        let mut context = std::ptr::null_mut();
        // Safety: as above; given back when this is dropped.
        unsafe { driver::cuDevicePrimaryCtxRetain(&raw mut context, device) }?;
        let mut this = Self {
            device,
            context,
            stream: stream.cast(),
            own_stream: false,
            modules: Vec::new(),
            functions: Vec::new(),
            most_shared: 48 << 10,
            budget: Budget::new(cap, None),
            text: String::new(),
        };
        this.enter()?;
        if stream.is_null() {
            // Safety: the context is current.
            unsafe { driver::cuStreamCreate(&raw mut this.stream, driver::NON_BLOCKING) }?;
            this.own_stream = true;
        }
        match own {
            Some(image) => this.load(image)?,
            None => IMAGES.iter().try_for_each(|(name, image)| {
                this.load(image).map_err(|e| e.within(format_args!("kernels/{name}.cu")))
            })?,
        }
        this.look()?;
        this.resolve()?;
        Ok(Arc::new(this))
    }

    /// Makes the context current on this thread.
    pub(super) fn enter(&self) -> Result<()> {
        // Safety: the context is retained until this is dropped.
        unsafe { driver::cuCtxSetCurrent(self.context) }
    }

    /// Returns when everything that was started has ended.
    pub(super) fn wait(&self) -> Result<()> {
        // Safety: the stream is ours, or the host's that it lent for the life of the engine.
        unsafe { driver::cuStreamSynchronize(self.stream) }
    }

    pub(super) fn stream(&self) -> CUstream {
        self.stream
    }

    pub(super) fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    pub(super) fn describe(&self) -> &str {
        &self.text
    }

    /// Bytes of shared memory a block may have.
    pub(super) fn most_shared(&self) -> usize {
        self.most_shared as usize
    }

    pub(super) fn function(&self, kernel: Kernel) -> CUfunction {
        self.functions[kernel as usize] // `resolve` filled one for each
    }

    fn load(&mut self, image: &[u8]) -> Result<()> {
        let mut module = std::ptr::null_mut();
        // Safety: an image of ours says itself how long it is; the context is current.
        unsafe { driver::cuModuleLoadData(&raw mut module, image.as_ptr().cast()) }?;
        self.modules.push(module);
        Ok(())
    }

    /// Finds every kernel, and lets those that want it have all the shared memory there is.
    fn resolve(&mut self) -> Result<()> {
        for kernel in Kernel::ALL {
            let name = CString::new(kernel.name()).map_err(|e| fail!(Internal, "{e}"))?;
            let mut function = std::ptr::null_mut();
            let found = self.modules.iter().any(|m| {
                // Safety: the module is loaded, the name ends in 0.
                unsafe { driver::cuModuleGetFunction(&raw mut function, *m, name.as_ptr()) }.is_ok()
            });
            if !found {
                bail!(Internal, "no image holds the kernel {}", kernel.name());
            }
            let most = self.most_shared as i32;
            // Safety: the function is that of a loaded module.
            unsafe { driver::cuFuncSetAttribute(function, driver::DYNAMIC_SHARED, most) }?;
            self.functions.push(function);
        }
        Ok(())
    }

    /// What it is called and how much it has.
    fn look(&mut self) -> Result<()> {
        let mut name = [0u8; 128];
        let (mut bytes, mut major, mut minor, mut shared) = (0usize, 0, 0, 0);
        let len = name.len() as i32 - 1;
        // Safety: every pointer is good for what is written there; the name keeps a 0 at its end.
        unsafe {
            driver::cuDeviceGetName(name.as_mut_ptr().cast(), len, self.device)?;
            driver::cuDeviceTotalMem_v2(&raw mut bytes, self.device)?;
            driver::cuDeviceGetAttribute(&raw mut major, driver::MAJOR, self.device)?;
            driver::cuDeviceGetAttribute(&raw mut minor, driver::MINOR, self.device)?;
            driver::cuDeviceGetAttribute(&raw mut shared, driver::MOST_SHARED, self.device)?;
        }
        let end = name.iter().position(|b| *b == 0).unwrap_or(0);
        let name = String::from_utf8_lossy(&name[..end]);
        self.most_shared = self.most_shared.max(u32::try_from(shared).unwrap_or(0));
        self.text = format!("{name}, sm_{major}{minor}, {} MiB", bytes >> 20);
        Ok(())
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // where any of this fails the device is lost, and all of it with it
        let _ = self.enter();
        if self.own_stream || !self.stream.is_null() {
            let _ = self.wait();
        }
        for module in &self.modules {
            // Safety: loaded by us; nothing runs any more.
            let _ = unsafe { driver::cuModuleUnload(*module) };
        }
        if self.own_stream {
            // Safety: created by us, used by nobody any more.
            let _ = unsafe { driver::cuStreamDestroy_v2(self.stream) };
        }
        // Safety: retained by `open`.
        let _ = unsafe { driver::cuDevicePrimaryCtxRelease_v2(self.device) };
    }
}
