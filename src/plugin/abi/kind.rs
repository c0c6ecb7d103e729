//! Mirrors: the tables of the six kinds, and what their functions get and give.

use super::layout::mirrors;
use super::{Component, Cond, Error, Eval, Graph, Slot, Stats};
use std::ffi::{c_char, c_void};

/// `dfx_process_fn`
pub type ProcessFn =
    Option<unsafe extern "C" fn(*const c_void, *mut Graph, *mut ProcessIo, *mut Error) -> i32>;
/// `dfx_guide_fn`
pub type GuideFn =
    Option<unsafe extern "C" fn(*const c_void, *mut Graph, *mut GuideIo, *mut Error) -> i32>;

mirrors! { KINDS
    "dfx_model_info" ModelInfo {
        struct_size: u32,
        predicts: u32,
        n_components: u32,
        n_conds: u32,
        n_slots: u32,
        reserved: u32,
        components: *const Component,
        conds: *const Cond,
        slots: *const Slot,
        reserved_ptr: *const c_void,
    }

    "dfx_model_io" ModelIo {
        struct_size: u32,
        phase: u32,
        n_components: u32,
        n_conds: u32,
        n_slots: u32,
        n_out: u32,
        x: *const u32,
        sigma: *const u32,
        cond: *const u32,
        slot: *const u32,
        slot_out: *mut u32,
        out: *mut u32,
    }

    "dfx_model_api" ModelApi {
        struct_size: u32,
        reserved: u32,
        info: Option<unsafe extern "C" fn(*const c_void, *mut ModelInfo, *mut Error) -> i32>,
        build: Option<unsafe extern "C" fn(*const c_void, *mut Graph, *mut ModelIo, *mut Error) -> i32>,
    }

    "dfx_process_info" ProcessInfo {
        struct_size: u32,
        space: u32,
        flags: u32,
        reserved: u32,
        sigma_min: f64,
        sigma_max: f64,
    }

    "dfx_process_io" ProcessIo {
        struct_size: u32,
        purpose: u32,
        n_in: u32,
        n_out: u32,
        r#in: *const u32,
        out: *mut u32,
        stats: *const Stats,
        component: *const Component,
    }

    "dfx_fitted" Fitted {
        key: *const c_char,
        value: f64,
        group: u32,
        reserved: u32,
    }

    "dfx_fit" Fit {
        struct_size: u32,
        flags: u32,
        n_values: u64,
        values: *const f64,
        out: *mut Fitted,
        n_out: u32,
        reserved: u32,
    }

    "dfx_process_api" ProcessApi {
        struct_size: u32,
        reserved: u32,
        info: Option<unsafe extern "C" fn(*const c_void, *const Stats, *mut ProcessInfo, *mut Error) -> i32>,
        clock: Option<unsafe extern "C" fn(*const c_void, *const f64, u32, *mut f64, *mut Error) -> i32>,
        encode: ProcessFn,
        decode: ProcessFn,
        perturb: ProcessFn,
        prior: ProcessFn,
        precond: ProcessFn,
        renoise: ProcessFn,
        ancestral: ProcessFn,
        to_score: ProcessFn,
        log_transition: ProcessFn,
        loss_weight: ProcessFn,
        posterior: ProcessFn,
        sde: ProcessFn,
        fit: Option<unsafe extern "C" fn(*const c_void, *mut Fit, *mut Error) -> i32>,
    }

    "dfx_guidance_info" GuidanceInfo {
        struct_size: u32,
        stage: u32,
        n_slots: u32,
        n_networks: u32,
        group: u32,
        redraws: u32,
        exact_for: f64,
        slots: *const Slot,
        networks: *const *const c_char,
        redraw_share: f64,
    }

    "dfx_wrap_io" WrapIo {
        struct_size: u32,
        inner: u32,
        n_evals: u32,
        n_components: u32,
        evals: *const Eval,
        out: *mut u32,
        slot: *const u32,
        slot_out: *mut u32,
        variant: u32,
        reserved: u32,
    }

    "dfx_guide_io" GuideIo {
        struct_size: u32,
        inner: u32,
        n_components: u32,
        n_slots: u32,
        x: *const u32,
        sigma: *const u32,
        out: *mut u32,
        slot: *const u32,
        slot_out: *mut u32,
        index: *mut u32,
        feasible: *mut u32,
        log_weight: *mut u32,
    }

    "dfx_guidance_api" GuidanceApi {
        struct_size: u32,
        reserved: u32,
        info: Option<unsafe extern "C" fn(*const c_void, *mut GuidanceInfo, *mut Error) -> i32>,
        wrap: Option<unsafe extern "C" fn(*const c_void, *mut Graph, *mut WrapIo, *mut Error) -> i32>,
        start: GuideFn,
        project: GuideFn,
        permute: GuideFn,
        finish: GuideFn,
        variant: Option<unsafe extern "C" fn(*const c_void, *const f64, *const f64, u32, *mut u32, *mut Error) -> i32>,
    }

    "dfx_sampler_info" SamplerInfo {
        struct_size: u32,
        n_coeff: u32,
        n_variants: u32,
        n_slots: u32,
        flags: u32,
        reserved: u32,
        stochasticity: f64,
        slots: *const Slot,
        reserved_ptr: *const c_void,
    }

    "dfx_plan" Plan {
        struct_size: u32,
        n_steps: u32,
        n_components: u32,
        n_coeff: u32,
        n_rows: u32,
        reserved: u32,
        knots: *const f64,
        rows: *mut f64,
        variants: *mut u32,
        levels: *mut f64,
        highest: *mut f64,
        kernels: *mut f64,
    }

    "dfx_step_io" StepIo {
        struct_size: u32,
        variant: u32,
        n_components: u32,
        n_coeff: u32,
        n_slots: u32,
        reserved: u32,
        x: *const u32,
        coeff: *const u32,
        slot: *const u32,
        slot_out: *mut u32,
        next: *mut u32,
        control: *mut u32,
        denoised: *mut u32,
        reserved_ptr: *const c_void,
    }

    "dfx_sampler_api" SamplerApi {
        struct_size: u32,
        reserved: u32,
        info: Option<unsafe extern "C" fn(*const c_void, *mut SamplerInfo, *mut Error) -> i32>,
        plan: Option<unsafe extern "C" fn(*const c_void, *mut Plan, *mut Error) -> i32>,
        step: Option<unsafe extern "C" fn(*const c_void, *mut Graph, *mut StepIo, *mut Error) -> i32>,
    }

    "dfx_pilot" Pilot {
        struct_size: u32,
        n: u32,
        sigma: *const f64,
        bend: *const f64,
    }

    "dfx_grid_api" GridApi {
        struct_size: u32,
        pilot_steps: u32,
        pilot_samples: u32,
        reserved: u32,
        knots: Option<unsafe extern "C" fn(*const c_void, u32, f64, f64, *mut f64, *mut Error) -> i32>,
        refine: Option<unsafe extern "C" fn(*const c_void, u32, f64, f64, *const Pilot, *mut f64, *mut Error) -> i32>,
    }

    "dfx_objective_info" ObjectiveInfo {
        struct_size: u32,
        records: u32,
        n_networks: u32,
        n_metrics: u32,
        sweep_backwards: u32,
        n_rewards: u32,
        networks: *const *const c_char,
        metrics: *const *const c_char,
    }

    "dfx_loss_io" LossIo {
        struct_size: u32,
        n_components: u32,
        n_metrics: u32,
        reserved: u32,
        x0: *const u32,
        states: *const u32,
        carry: *const u32,
        reward_grad: *const u32,
        sigmas: *const u32,
        metrics: *mut u32,
        reward: u32,
        loss: u32,
        kernels: *const u32,
        valid: u32,
        advantage: u32,
        group: u32,
        reserved2: u32,
    }

    "dfx_advantage_io" AdvantageIo {
        struct_size: u32,
        group: u32,
        n_rewards: u32,
        reserved: u32,
        reward: u32,
        valid: u32,
        advantage: u32,
        reserved2: u32,
    }

    "dfx_sweep_io" SweepIo {
        struct_size: u32,
        n_components: u32,
        x: *const u32,
        x_next: *const u32,
        carry: *const u32,
        carry_out: *mut u32,
        sigma: *const u32,
        sigma_next: *const u32,
        kernel: *const u32,
    }

    "dfx_objective_api" ObjectiveApi {
        struct_size: u32,
        reserved: u32,
        info: Option<unsafe extern "C" fn(*const c_void, *mut ObjectiveInfo, *mut Error) -> i32>,
        loss: Option<unsafe extern "C" fn(*const c_void, *mut Graph, *mut LossIo, *mut Error) -> i32>,
        sweep: Option<unsafe extern "C" fn(*const c_void, *mut Graph, *mut SweepIo, *mut Error) -> i32>,
        advantage: Option<unsafe extern "C" fn(*const c_void, *mut Graph, *mut AdvantageIo, *mut Error) -> i32>,
    }
}
