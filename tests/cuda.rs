//! The CUDA backend: every op it has against the f64 reference, the bits of the noise, whole jobs, and what is said where
//! there is no driver. Without a GPU all of it runs through an emulated driver (`tests/cuda/emulator`), which proves
//! everything but speed and what hardware alone does; `DIFFX_TEST_GPU=1` runs the same tests on a device.

#[path = "ops/cases.rs"]
mod cases;
#[path = "cuda/faults.rs"]
mod faults;
#[path = "cuda/job.rs"]
mod job;
#[path = "cuda/machine.rs"]
mod machine;
#[path = "cuda/noise.rs"]
mod noise;
#[path = "exec/once.rs"]
mod once;
#[path = "cuda/ops.rs"]
mod ops;
#[path = "support/model.rs"]
mod support;
#[path = "cuda/tiles.rs"]
mod tiles;
#[path = "ops/worst.rs"]
mod worst;
