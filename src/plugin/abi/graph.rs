//! Mirrors: graph calls, the values a build talks about, and the host's tables.

use super::layout::mirrors;
use super::{Desc, ModelIo};
use std::ffi::{c_char, c_void};

/// `dfx_graph`: never pointed into. The address is a token for one build call, see `frame`.
#[repr(C)]
pub struct Graph {
    _opaque: [u8; 0],
}

mirrors! { GRAPH
    "dfx_attr" Attr {
        key: u32,
        count: u32,
        i: i64,
        f: f64,
        p: *const c_void,
        reserved: *const c_void,
    }

    "dfx_call" Call {
        struct_size: u32,
        op: u32,
        r#in: *const u32,
        attr: *const Attr,
        out: *mut u32,
        reserved_ptr: *const c_void,
        n_in: u32,
        n_attr: u32,
        n_out: u32,
        reserved: u32,
    }

    "dfx_init" Init {
        kind: u32,
        reserved: u32,
        a: f64,
    }

    "dfx_graph_api" GraphApi {
        struct_size: u32,
        reserved: u32,
        emit: Option<unsafe extern "C" fn(*mut Graph, *const Call) -> u32>,
        weight: Option<unsafe extern "C" fn(*mut Graph, *const c_char, *const Desc, *const Init) -> u32>,
        constant: Option<unsafe extern "C" fn(*mut Graph, *const Desc, *const c_void) -> u32>,
        scalar: Option<unsafe extern "C" fn(*mut Graph, f64) -> u32>,
        describe: Option<unsafe extern "C" fn(*mut Graph, u32, *mut Desc) -> i32>,
        supports: Option<unsafe extern "C" fn(*mut Graph, u32, u32) -> i32>,
        batch: Option<unsafe extern "C" fn(*mut Graph) -> i64>,
        float_type: Option<unsafe extern "C" fn(*mut Graph) -> u32>,
        push: Option<unsafe extern "C" fn(*mut Graph, *const c_char)>,
        pop: Option<unsafe extern "C" fn(*mut Graph)>,
        fail: Option<unsafe extern "C" fn(*mut Graph, i32, *const c_char)>,
        reserved_ptr: *const c_void,
    }

    "dfx_component" Component {
        desc: Desc,
        space: u32,
        classes: u32,
        name: *const c_char,
        reserved: *const c_void,
    }

    "dfx_cond" Cond {
        desc: Desc,
        null_value: f64,
        name: *const c_char,
        reserved: *const c_void,
    }

    "dfx_slot" Slot {
        desc: Desc,
        init: f64,
        like: u32,
        reserved: u32,
        name: *const c_char,
        reserved_ptr: *const c_void,
    }

    "dfx_stats" Stats {
        x_mean: f64,
        x_var: f64,
        w_mean: f64,
        w_var: f64,
    }

    "dfx_eval" Eval {
        struct_size: u32,
        phase: u32,
        x: *const u32,
        sigma: *const u32,
        cond: *const u32,
        reserved: *const c_void,
    }

    "dfx_build_api" BuildApi {
        struct_size: u32,
        reserved: u32,
        denoise: Option<unsafe extern "C" fn(*mut Graph, u32, *const Eval, u32, *mut u32) -> i32>,
        denoiser_of: Option<unsafe extern "C" fn(*mut Graph, *const c_char) -> u32>,
        network: Option<unsafe extern "C" fn(*mut Graph, *const c_char, *mut ModelIo) -> i32>,
        process: Option<unsafe extern "C" fn(*mut Graph, u32, u32, u32, *const u32, u32, *mut u32, u32) -> i32>,
        components: Option<unsafe extern "C" fn(*mut Graph) -> u32>,
        component: Option<unsafe extern "C" fn(*mut Graph, u32, *mut Component) -> i32>,
        stats: Option<unsafe extern "C" fn(*mut Graph, u32, *mut Stats) -> i32>,
        conds: Option<unsafe extern "C" fn(*mut Graph) -> u32>,
        cond: Option<unsafe extern "C" fn(*mut Graph, u32, *mut u32, *mut u32) -> i32>,
        cond_index: Option<unsafe extern "C" fn(*mut Graph, *const c_char) -> i32>,
    }

    "dfx_host" Host {
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
}

// Safety: the tables are constants of function pointers and null pointers.
unsafe impl Sync for GraphApi {}
// Safety: as above.
unsafe impl Sync for BuildApi {}
