//! A reward as a C function in a shared library: what the program that tunes may call on a thread of its own.
//!
//! `int32_t f(const float *x, uint64_t samples, uint64_t width, double *reward, float *gradient, uint8_t *valid)`
//! gets samples row by row, fills a reward per row, the gradient of it by the row where gradient is not NULL, and may put
//! 0 into valid (preset 1) of a row it has no reward for. It returns 0, or a number that is told.

use crate::base::Result;
use crate::{bail, fail};
use libloading::Library;
use std::path::Path;

type Function = unsafe extern "C" fn(*const f32, u64, u64, *mut f64, *mut f32, *mut u8) -> i32;

/// The function and the library it is of.
pub struct Judge {
    function: Function,
    name: String,
    _library: Library,
}

/// What a judge said of samples.
pub struct Judged {
    pub rewards: Vec<f64>,
    /// As the samples are; empty unless asked for.
    pub gradient: Vec<f32>,
    pub valid: Vec<bool>,
}

impl Judge {
    /// Loads the file, which runs its code: whoever names it trusts it.
    pub fn open(path: &Path, symbol: &str) -> Result<Self> {
        if !path.is_absolute() {
            bail!(Invalid, "reward library {}: want an absolute path", path.display());
        }
        let label = format!("reward library {}", path.display());
        // Safety: the caller trusts the file.
        let library = unsafe { Library::new(path) }.map_err(|e| fail!(Io, "{label}: {e}"))?;
        // Safety: the symbol has the type above, by the word of whoever names it.
        let function = unsafe { library.get::<Function>(symbol.as_bytes()) };
        let function = match function {
            Ok(f) => *f,
            Err(_) => bail!(NotFound, "{label}: has no function {symbol}"),
        };
        Ok(Self { function, name: format!("{symbol} of {}", path.display()), _library: library })
    }

    /// Rows of `x` judged.
    pub fn call(&self, x: &[f32], samples: usize, gradient: bool) -> Result<Judged> {
        let mut rewards = vec![f64::NAN; samples];
        let mut valid = vec![1u8; samples];
        let mut grad = vec![0f32; if gradient { x.len() } else { 0 }];
        let width = x.len() / samples.max(1);
        let by = if gradient { grad.as_mut_ptr() } else { std::ptr::null_mut() };
        // Safety: every array is as long as the signature says; the library is mapped as long as self lives.
        let status = unsafe {
            (self.function)(
                x.as_ptr(),
                samples as u64,
                width as u64,
                rewards.as_mut_ptr(),
                by,
                valid.as_mut_ptr(),
            )
        };
        if status != 0 {
            bail!(Invalid, "reward {}: returned {status}, want 0", self.name);
        }
        let valid = valid.into_iter().map(|v| v != 0).collect();
        Ok(Judged { rewards, gradient: grad, valid })
    }
}
