//! Compiles a loop a second time for the wider vectors of the machine it runs on.
//!
//! Only the width changes: Rust never contracts a multiply and an add, and a fused multiply-add that is asked for has
//! one result, so both versions give the same bits.

/// Runs `f` with AVX2 and FMA when there are any. `f` and what it calls must be `#[inline(always)]` to gain from it.
#[inline]
pub fn wide<T>(f: impl FnOnce() -> T) -> T {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2,fma")]
        fn with_avx2<T>(f: impl FnOnce() -> T) -> T {
            f()
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // Safety: the features were just detected.
            return unsafe { with_avx2(f) };
        }
    }
    f()
}
