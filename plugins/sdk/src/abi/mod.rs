//! `diffx_plugin.h` in Rust: the same structs, field for field, and nothing else. The safe layer of this crate is
//! built on it; a plugin seldom needs it.
//!
//! Every struct is declared through one macro, so that the table the layout hash is taken over is made of the very
//! structs that cross the border. A change here without the same change in the header fails `tests/header.rs`.

pub mod code;
pub mod layout;

pub use code::{attr, op};

use core::ffi::{c_char, c_void};
use core::mem::{offset_of, size_of};

pub const MAGIC: u32 = 0x5058_4644;
pub const ABI_MAJOR: u16 = 0;
pub const ABI_MINOR: u16 = 1;

/// `DFX_PLUGIN_LAYOUT`: computed from the mirrors where pointers have 64 bits, written down elsewhere.
#[cfg(target_pointer_width = "64")]
pub const LAYOUT: u32 = layout::hash(STRUCTS);
#[cfg(not(target_pointer_width = "64"))]
pub const LAYOUT: u32 = HEADER_LAYOUT;
/// The value in the header; a test holds it to the computed one.
pub const HEADER_LAYOUT: u32 = 0x9d7b_cb54;

pub type Status = i32;
pub const OK: Status = 0;
pub const E_INVALID: Status = -1;
pub const E_STATE: Status = -2;
pub const E_NOT_FOUND: Status = -3;
pub const E_NO_MEMORY: Status = -4;
pub const E_IO: Status = -5;
pub const E_FORMAT: Status = -6;
pub const E_UNSUPPORTED: Status = -7;
pub const E_VERSION: Status = -8;
pub const E_CANCELLED: Status = -9;
pub const E_DENIED: Status = -10;
pub const E_DEVICE: Status = -11;
pub const E_PLUGIN: Status = -12;
pub const E_INTERNAL: Status = -13;

pub const MAX_RANK: usize = 8;
pub const F32: u32 = 1;
pub const F16: u32 = 2;
pub const BF16: u32 = 3;
pub const I32: u32 = 4;
pub const I64: u32 = 5;
pub const U8: u32 = 6;
pub const F64: u32 = 7;
pub const BOOL: u32 = 8;

pub const INIT_ZEROS: u32 = 0;
pub const INIT_ONES: u32 = 1;
pub const INIT_CONSTANT: u32 = 2;
pub const INIT_NORMAL: u32 = 3;
pub const INIT_UNIFORM: u32 = 4;

/// Purposes of random draws.
pub mod purpose {
    pub const PRIOR: u32 = 1;
    pub const STEP: u32 = 2;
    pub const LEVEL: u32 = 3;
    pub const DATA: u32 = 4;
    pub const INIT: u32 = 5;
    pub const MODEL: u32 = 6;
    pub const GUIDANCE: u32 = 7;
    pub const FINISH: u32 = 8;
    pub const SIMULATE: u32 = 9;
    pub const SCORE: u32 = 10;
    /// 64..=255 belong to the plugin.
    pub const USER: u32 = 64;
}

pub const SPACE_CONTINUOUS: u32 = 0;
pub const SPACE_DISCRETE: u32 = 1;

pub const KIND_MODEL: u32 = 1;
pub const KIND_PROCESS: u32 = 2;
pub const KIND_GUIDANCE: u32 = 3;
pub const KIND_SAMPLER: u32 = 4;
pub const KIND_GRID: u32 = 5;
pub const KIND_OBJECTIVE: u32 = 6;

pub const PROCESS_IS_POSITIVE: u32 = 1;
pub const PROCESS_IS_ADDITIVE: u32 = 2;
pub const PROCESS_IS_HOMOGENEOUS: u32 = 4;

/// `DFX_FIT_ORDERED`
pub const FIT_ORDERED: u32 = 1;
pub const SAMPLER_CONTROL: u32 = 1;
pub const SAMPLER_PER_COMPONENT: u32 = 2;
pub const SAMPLER_ADDITIVE: u32 = 4;
pub const CONTROL_ADVANCE: i32 = 0;
pub const CONTROL_STAY: i32 = 1;
pub const CONTROL_DONE: i32 = 2;

pub type Node = u32;
pub type Denoiser = u32;

/// `dfx_graph`: only ever seen behind a pointer.
#[repr(C)]
#[derive(Debug)]
#[cfg_attr(feature = "layout-check", derive(abi_stable::StableAbi))]
pub struct Graph {
    opaque: [u8; 0],
}

/// Declares the mirrors and the table of their layouts. Types of functions are written out in the fields, not behind a
/// name: abi_stable's derive cannot look through one.
macro_rules! mirrors {
    ($($(#[$meta:meta])* $name:ident = $c:literal { $($field:ident: $ty:ty,)* })*) => {
        $(
            $(#[$meta])*
            #[repr(C)]
            #[derive(Debug, Clone, Copy)]
            #[cfg_attr(feature = "layout-check", derive(abi_stable::StableAbi))]
            pub struct $name { $(pub $field: $ty,)* }
        )*

        /// A pointer to each: one type through which a comparison of layouts reaches them all.
        #[cfg(feature = "layout-check")]
        #[repr(C)]
        #[derive(Debug, abi_stable::StableAbi)]
        #[expect(non_snake_case, reason = "fields are named as the structs they lead to")]
        pub struct Every { $(pub $name: *const $name,)* }

        /// Every struct of the header in its order.
        pub const STRUCTS: &[layout::Struct] = &[$(layout::Struct {
            name: $c,
            size: size_of::<$name>(),
            fields: &[$(layout::Field {
                name: stringify!($field),
                offset: offset_of!($name, $field),
                size: size_of::<$ty>(),
            },)*],
        },)*];
    };
}

pub type ProcessFn =
    Option<unsafe extern "C" fn(*const c_void, *mut Graph, *mut ProcessIo, *mut Error) -> Status>;
pub type GuideFn =
    Option<unsafe extern "C" fn(*const c_void, *mut Graph, *mut GuideIo, *mut Error) -> Status>;

mirrors! {
    Error = "dfx_error" {
        struct_size: u32,
        status: Status,
        source: u32,
        message_len: u32,
        message: [c_char; 496],
    }
    Desc = "dfx_desc" {
        dtype: u32,
        rank: u32,
        dims: [i64; MAX_RANK],
    }
    Attr = "dfx_attr" {
        key: u32,
        count: u32,
        i: i64,
        f: f64,
        p: *const c_void,
        reserved: *const c_void,
    }
    Call = "dfx_call" {
        struct_size: u32,
        op: u32,
        r#in: *const Node,
        attr: *const Attr,
        out: *mut Node,
        reserved_ptr: *const c_void,
        n_in: u32,
        n_attr: u32,
        n_out: u32,
        reserved: u32,
    }
    Init = "dfx_init" {
        kind: u32,
        reserved: u32,
        a: f64,
    }
    GraphApi = "dfx_graph_api" {
        struct_size: u32,
        reserved: u32,
        emit: Option<unsafe extern "C" fn(*mut Graph, *const Call) -> Node>,
        weight: Option<unsafe extern "C" fn(*mut Graph, *const c_char, *const Desc, *const Init) -> Node>,
        constant: Option<unsafe extern "C" fn(*mut Graph, *const Desc, *const c_void) -> Node>,
        scalar: Option<unsafe extern "C" fn(*mut Graph, f64) -> Node>,
        describe: Option<unsafe extern "C" fn(*mut Graph, Node, *mut Desc) -> Status>,
        supports: Option<unsafe extern "C" fn(*mut Graph, u32, u32) -> i32>,
        batch: Option<unsafe extern "C" fn(*mut Graph) -> i64>,
        float_type: Option<unsafe extern "C" fn(*mut Graph) -> u32>,
        push: Option<unsafe extern "C" fn(*mut Graph, *const c_char)>,
        pop: Option<unsafe extern "C" fn(*mut Graph)>,
        fail: Option<unsafe extern "C" fn(*mut Graph, Status, *const c_char)>,
        reserved_ptr: *const c_void,
    }
    Component = "dfx_component" {
        desc: Desc,
        space: u32,
        classes: u32,
        name: *const c_char,
        reserved: *const c_void,
    }
    Cond = "dfx_cond" {
        desc: Desc,
        null_value: f64,
        name: *const c_char,
        reserved: *const c_void,
    }
    Slot = "dfx_slot" {
        desc: Desc,
        init: f64,
        like: u32,
        reserved: u32,
        name: *const c_char,
        reserved_ptr: *const c_void,
    }
    Stats = "dfx_stats" {
        x_mean: f64,
        x_var: f64,
        w_mean: f64,
        w_var: f64,
    }
    Eval = "dfx_eval" {
        struct_size: u32,
        phase: u32,
        x: *const Node,
        sigma: *const Node,
        cond: *const Node,
        reserved: *const c_void,
    }
    BuildApi = "dfx_build_api" {
        struct_size: u32,
        reserved: u32,
        denoise: Option<unsafe extern "C" fn(*mut Graph, Denoiser, *const Eval, u32, *mut Node) -> Status>,
        denoiser_of: Option<unsafe extern "C" fn(*mut Graph, *const c_char) -> Denoiser>,
        network: Option<unsafe extern "C" fn(*mut Graph, *const c_char, *mut ModelIo) -> Status>,
        process: Option<unsafe extern "C" fn(*mut Graph, u32, u32, u32, *const Node, u32, *mut Node, u32) -> Status>,
        components: Option<unsafe extern "C" fn(*mut Graph) -> u32>,
        component: Option<unsafe extern "C" fn(*mut Graph, u32, *mut Component) -> Status>,
        stats: Option<unsafe extern "C" fn(*mut Graph, u32, *mut Stats) -> Status>,
        conds: Option<unsafe extern "C" fn(*mut Graph) -> u32>,
        cond: Option<unsafe extern "C" fn(*mut Graph, u32, *mut Node, *mut Node) -> Status>,
        cond_index: Option<unsafe extern "C" fn(*mut Graph, *const c_char) -> i32>,
    }
    Host = "dfx_host" {
        struct_size: u32,
        abi_major: u16,
        abi_minor: u16,
        ctx: *mut c_void,
        graph: *const GraphApi,
        build: *const BuildApi,
        alloc: Option<unsafe extern "C" fn(*const Host, usize, usize) -> *mut c_void>,
        free: Option<unsafe extern "C" fn(*const Host, *mut c_void, usize, usize)>,
        log: Option<unsafe extern "C" fn(*const Host, i32, *const c_char)>,
        extension: Option<unsafe extern "C" fn(*const Host, *const c_char) -> *const c_void>,
        reserved: *const c_void,
    }
    ModelInfo = "dfx_model_info" {
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
    ModelIo = "dfx_model_io" {
        struct_size: u32,
        phase: u32,
        n_components: u32,
        n_conds: u32,
        n_slots: u32,
        n_out: u32,
        x: *const Node,
        sigma: *const Node,
        cond: *const Node,
        slot: *const Node,
        slot_out: *mut Node,
        out: *mut Node,
    }
    ModelApi = "dfx_model_api" {
        struct_size: u32,
        reserved: u32,
        info: Option<unsafe extern "C" fn(*const c_void, *mut ModelInfo, *mut Error) -> Status>,
        build: Option<unsafe extern "C" fn(*const c_void, *mut Graph, *mut ModelIo, *mut Error) -> Status>,
    }
    ProcessInfo = "dfx_process_info" {
        struct_size: u32,
        space: u32,
        flags: u32,
        reserved: u32,
        sigma_min: f64,
        sigma_max: f64,
    }
    ProcessIo = "dfx_process_io" {
        struct_size: u32,
        purpose: u32,
        n_in: u32,
        n_out: u32,
        r#in: *const Node,
        out: *mut Node,
        stats: *const Stats,
        component: *const Component,
    }
    Fitted = "dfx_fitted" {
        key: *const c_char,
        value: f64,
        group: u32,
        reserved: u32,
    }
    Fit = "dfx_fit" {
        struct_size: u32,
        flags: u32,
        n_values: u64,
        values: *const f64,
        out: *mut Fitted,
        n_out: u32,
        reserved: u32,
    }
    ProcessApi = "dfx_process_api" {
        struct_size: u32,
        reserved: u32,
        info: Option<unsafe extern "C" fn(*const c_void, *const Stats, *mut ProcessInfo, *mut Error) -> Status>,
        clock: Option<unsafe extern "C" fn(*const c_void, *const f64, u32, *mut f64, *mut Error) -> Status>,
        encode: Option<unsafe extern "C" fn(*const c_void, *mut Graph, *mut ProcessIo, *mut Error) -> Status>,
        decode: Option<unsafe extern "C" fn(*const c_void, *mut Graph, *mut ProcessIo, *mut Error) -> Status>,
        perturb: Option<unsafe extern "C" fn(*const c_void, *mut Graph, *mut ProcessIo, *mut Error) -> Status>,
        prior: Option<unsafe extern "C" fn(*const c_void, *mut Graph, *mut ProcessIo, *mut Error) -> Status>,
        precond: Option<unsafe extern "C" fn(*const c_void, *mut Graph, *mut ProcessIo, *mut Error) -> Status>,
        renoise: Option<unsafe extern "C" fn(*const c_void, *mut Graph, *mut ProcessIo, *mut Error) -> Status>,
        ancestral: Option<unsafe extern "C" fn(*const c_void, *mut Graph, *mut ProcessIo, *mut Error) -> Status>,
        to_score: Option<unsafe extern "C" fn(*const c_void, *mut Graph, *mut ProcessIo, *mut Error) -> Status>,
        log_transition: Option<unsafe extern "C" fn(*const c_void, *mut Graph, *mut ProcessIo, *mut Error) -> Status>,
        loss_weight: Option<unsafe extern "C" fn(*const c_void, *mut Graph, *mut ProcessIo, *mut Error) -> Status>,
        posterior: Option<unsafe extern "C" fn(*const c_void, *mut Graph, *mut ProcessIo, *mut Error) -> Status>,
        sde: Option<unsafe extern "C" fn(*const c_void, *mut Graph, *mut ProcessIo, *mut Error) -> Status>,
        fit: Option<unsafe extern "C" fn(*const c_void, *mut Fit, *mut Error) -> Status>,
    }
    GuidanceInfo = "dfx_guidance_info" {
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
    WrapIo = "dfx_wrap_io" {
        struct_size: u32,
        inner: Denoiser,
        n_evals: u32,
        n_components: u32,
        evals: *const Eval,
        out: *mut Node,
        slot: *const Node,
        slot_out: *mut Node,
        variant: u32,
        reserved: u32,
    }
    GuideIo = "dfx_guide_io" {
        struct_size: u32,
        inner: Denoiser,
        n_components: u32,
        n_slots: u32,
        x: *const Node,
        sigma: *const Node,
        out: *mut Node,
        slot: *const Node,
        slot_out: *mut Node,
        index: *mut Node,
        feasible: *mut Node,
        log_weight: *mut Node,
    }
    GuidanceApi = "dfx_guidance_api" {
        struct_size: u32,
        reserved: u32,
        info: Option<unsafe extern "C" fn(*const c_void, *mut GuidanceInfo, *mut Error) -> Status>,
        wrap: Option<unsafe extern "C" fn(*const c_void, *mut Graph, *mut WrapIo, *mut Error) -> Status>,
        start: Option<unsafe extern "C" fn(*const c_void, *mut Graph, *mut GuideIo, *mut Error) -> Status>,
        project: Option<unsafe extern "C" fn(*const c_void, *mut Graph, *mut GuideIo, *mut Error) -> Status>,
        permute: Option<unsafe extern "C" fn(*const c_void, *mut Graph, *mut GuideIo, *mut Error) -> Status>,
        finish: Option<unsafe extern "C" fn(*const c_void, *mut Graph, *mut GuideIo, *mut Error) -> Status>,
        variant: Option<unsafe extern "C" fn(*const c_void, *const f64, *const f64, u32, *mut u32, *mut Error) -> Status>,
    }
    SamplerInfo = "dfx_sampler_info" {
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
    Plan = "dfx_plan" {
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
    StepIo = "dfx_step_io" {
        struct_size: u32,
        variant: u32,
        n_components: u32,
        n_coeff: u32,
        n_slots: u32,
        reserved: u32,
        x: *const Node,
        coeff: *const Node,
        slot: *const Node,
        slot_out: *mut Node,
        next: *mut Node,
        control: *mut Node,
        denoised: *mut Node,
        reserved_ptr: *const c_void,
    }
    SamplerApi = "dfx_sampler_api" {
        struct_size: u32,
        reserved: u32,
        info: Option<unsafe extern "C" fn(*const c_void, *mut SamplerInfo, *mut Error) -> Status>,
        plan: Option<unsafe extern "C" fn(*const c_void, *mut Plan, *mut Error) -> Status>,
        step: Option<unsafe extern "C" fn(*const c_void, *mut Graph, *mut StepIo, *mut Error) -> Status>,
    }
    Pilot = "dfx_pilot" {
        struct_size: u32,
        n: u32,
        sigma: *const f64,
        bend: *const f64,
    }
    GridApi = "dfx_grid_api" {
        struct_size: u32,
        pilot_steps: u32,
        pilot_samples: u32,
        reserved: u32,
        knots: Option<unsafe extern "C" fn(*const c_void, u32, f64, f64, *mut f64, *mut Error) -> Status>,
        refine: Option<unsafe extern "C" fn(*const c_void, u32, f64, f64, *const Pilot, *mut f64, *mut Error) -> Status>,
    }
    ObjectiveInfo = "dfx_objective_info" {
        struct_size: u32,
        records: u32,
        n_networks: u32,
        n_metrics: u32,
        sweep_backwards: u32,
        n_rewards: u32,
        networks: *const *const c_char,
        metrics: *const *const c_char,
    }
    LossIo = "dfx_loss_io" {
        struct_size: u32,
        n_components: u32,
        n_metrics: u32,
        reserved: u32,
        x0: *const Node,
        states: *const Node,
        carry: *const Node,
        reward_grad: *const Node,
        sigmas: *const Node,
        metrics: *mut Node,
        reward: Node,
        loss: Node,
        kernels: *const Node,
        valid: Node,
        advantage: Node,
        group: u32,
        reserved2: u32,
    }
    AdvantageIo = "dfx_advantage_io" {
        struct_size: u32,
        group: u32,
        n_rewards: u32,
        reserved: u32,
        reward: Node,
        valid: Node,
        advantage: Node,
        reserved2: u32,
    }
    SweepIo = "dfx_sweep_io" {
        struct_size: u32,
        n_components: u32,
        x: *const Node,
        x_next: *const Node,
        carry: *const Node,
        carry_out: *mut Node,
        sigma: *const Node,
        sigma_next: *const Node,
        kernel: *const Node,
    }
    ObjectiveApi = "dfx_objective_api" {
        struct_size: u32,
        reserved: u32,
        info: Option<unsafe extern "C" fn(*const c_void, *mut ObjectiveInfo, *mut Error) -> Status>,
        loss: Option<unsafe extern "C" fn(*const c_void, *mut Graph, *mut LossIo, *mut Error) -> Status>,
        sweep: Option<unsafe extern "C" fn(*const c_void, *mut Graph, *mut SweepIo, *mut Error) -> Status>,
        advantage: Option<unsafe extern "C" fn(*const c_void, *mut Graph, *mut AdvantageIo, *mut Error) -> Status>,
    }
    Factory = "dfx_factory" {
        struct_size: u32,
        kind: u32,
        api: *const c_void,
        id: *const c_char,
        summary: *const c_char,
        config_schema: *const c_char,
        create: Option<unsafe extern "C" fn(*const Factory, *const Host, *const c_char, *mut *mut c_void, *mut Error) -> Status>,
        destroy: Option<unsafe extern "C" fn(*mut c_void)>,
    }
    Plugin = "dfx_plugin" {
        magic: u32,
        abi_major: u16,
        abi_minor: u16,
        struct_size: u32,
        required_minor: u32,
        layout: u32,
        n_factories: u32,
        factories: *const *const Factory,
        id: *const c_char,
        version: *const c_char,
        license: *const c_char,
    }
}

// Safety: descriptors are constants: everything they point to is constant too and lives as long as the program.
unsafe impl Sync for Plugin {}
// Safety: as above.
unsafe impl Sync for Factory {}

const _: () = assert!(size_of::<Error>() == 512 && size_of::<Desc>() == 72);
const _: () = assert!(offset_of!(Plugin, factories) == 24 && offset_of!(Host, ctx) == 8);
#[cfg(target_pointer_width = "64")]
const _: () = {
    // frozen structs never change size; the growing ones are pinned by the layout hash
    assert!(size_of::<Attr>() == 40 && size_of::<Init>() == 16);
    assert!(size_of::<Component>() == 96 && size_of::<Cond>() == 96 && size_of::<Slot>() == 104);
    assert!(size_of::<Stats>() == 32 && size_of::<Plugin>() == 56 && size_of::<Factory>() == 56);
};
