//! `dfx_build_api`: what samplers, guidance and objectives ask of the pipeline they are built into. A failure is
//! returned, and the results are node 0.

use super::super::frame::{self, Frame};
use super::super::{abi, read};
use crate::bail;
use crate::base::Result;
use crate::graph::NodeId;
use crate::sample::{Build, Eval, ModelIo, ProcessFn, Space};
use std::ffi::c_char;

/// Most evaluations in one batch.
const MAX_EVALS: usize = 64;

pub(super) static TABLE: abi::BuildApi = abi::BuildApi {
    struct_size: size_of::<abi::BuildApi>() as u32,
    reserved: 0,
    denoise: Some(denoise),
    denoiser_of: Some(denoiser_of),
    network: Some(network),
    process: Some(process),
    components: Some(components),
    component: Some(component),
    stats: Some(stats),
    conds: Some(conds),
    cond: Some(cond),
    cond_index: Some(cond_index),
};

unsafe extern "C" fn denoise(
    g: *mut abi::Graph,
    d: u32,
    evals: *const abi::Eval,
    n_evals: u32,
    out: *mut u32,
) -> i32 {
    frame::service(g, |frame, b| {
        frame.composes("denoise")?;
        let n = b.parts.components.len();
        // Safety: the header asks for n_evals evaluations and for n_evals * n_components places.
        let (evals, out) = unsafe {
            let evals = read::slice(evals, n_evals, MAX_EVALS, "evaluations")?;
            (evals, read::slice_mut(out, evals.len() * n, usize::MAX, "results of denoise")?)
        };
        out.fill(0);
        let evals: Vec<Eval> = evals.iter().map(|e| eval(b, frame, e)).collect::<Result<_>>()?;
        let results = b.denoise(d, &evals)?;
        fill(out, results.iter().flatten())
    })
}

fn eval(b: &Build<'_>, frame: &Frame, e: &abi::Eval) -> Result<Eval> {
    if e.struct_size as usize != size_of::<abi::Eval>() {
        bail!(
            Invalid,
            "dfx_eval: struct_size is {}, it is frozen at {}",
            e.struct_size,
            size_of::<abi::Eval>()
        );
    }
    let n = b.parts.components.len() as u32;
    // Safety: the header asks for n_components states and levels, and for n_conds conditions or null.
    let (x, sigma, cond) = unsafe {
        let x = read::nodes(e.x, n, "states of an evaluation")?;
        let sigma = read::nodes(e.sigma, n, "levels of an evaluation")?;
        let conds = b.parts.conds.len() as u32;
        let cond = match e.cond.is_null() {
            true => None,
            false => Some(read::nodes(e.cond, conds, "conditions of an evaluation")?),
        };
        (x, sigma, cond)
    };
    frame.blame(&x)?;
    frame.blame(&sigma)?;
    Ok(Eval { phase: e.phase, x, sigma, cond })
}

/// A failure is sticky, unlike those of the other services: 0 is also the outermost denoiser.
unsafe extern "C" fn denoiser_of(g: *mut abi::Graph, slot: *const c_char) -> u32 {
    frame::graph(g, 0, |frame, b| {
        frame.composes("denoiser_of")?;
        // Safety: a C string, alive during this call.
        let slot = unsafe { read::name(slot, "name of a network slot") }?;
        b.denoiser_of(slot)
    })
}

unsafe extern "C" fn network(
    g: *mut abi::Graph,
    slot: *const c_char,
    io: *mut abi::ModelIo,
) -> i32 {
    frame::service(g, |frame, b| {
        frame.composes("network")?;
        // Safety: a C string and a dfx_model_io with arrays as long as it says.
        let (slot, raw, out) = unsafe {
            let slot = read::name(slot, "name of a network slot")?;
            let raw = read::value(io.cast_const())?;
            let out = read::slice_mut(raw.out, raw.n_out as usize, read::MAX_NODES, "outputs")?;
            (slot, raw, out)
        };
        out.fill(0);
        // Safety: as above.
        let mut io = unsafe {
            ModelIo {
                phase: raw.phase,
                x: read::nodes(raw.x, raw.n_components, "states of a network")?,
                sigma: read::nodes(raw.sigma, raw.n_components, "levels of a network")?,
                cond: read::nodes(raw.cond, raw.n_conds, "conditions of a network")?,
                slots: Vec::new(), // the build holds them
                slots_out: Vec::new(),
                out: vec![NodeId::ERROR; out.len()],
            }
        };
        for nodes in [&io.x, &io.sigma, &io.cond] {
            frame.blame(nodes)?;
        }
        b.network(slot, &mut io)?;
        fill(out, &io.out)
    })
}

unsafe extern "C" fn process(
    g: *mut abi::Graph,
    component: u32,
    function: u32,
    purpose: u32,
    inputs: *const u32,
    n_in: u32,
    out: *mut u32,
    n_out: u32,
) -> i32 {
    frame::service(g, |frame, b| {
        frame.composes("process")?;
        // Safety: the header asks for n_in nodes and n_out places.
        let (inputs, out) = unsafe {
            let inputs = read::nodes(inputs, n_in, "inputs of a process function")?;
            (inputs, read::slice_mut(out, n_out as usize, read::MAX_NODES, "its results")?)
        };
        out.fill(0);
        let Some(f) = ProcessFn::from_code(function) else {
            bail!(Unsupported, "process function {function} is not known");
        };
        let Ok(purpose) = u8::try_from(purpose) else {
            bail!(Invalid, "purpose {purpose} is outside 0..=255");
        };
        frame.blame(&inputs)?;
        let results = b.process(component as usize, f, purpose, &inputs)?;
        fill(out, &results)
    })
}

/// Writes results to the places the plugin counted.
fn fill<'r>(
    out: &mut [u32],
    results: impl IntoIterator<Item = &'r NodeId, IntoIter: Clone>,
) -> Result<()> {
    let results = results.into_iter();
    let n = results.clone().count();
    if n != out.len() {
        bail!(Invalid, "there are {n} results, and places for {}", out.len());
    }
    for (out, node) in out.iter_mut().zip(results) {
        *out = node.0;
    }
    Ok(())
}

unsafe extern "C" fn components(g: *mut abi::Graph) -> u32 {
    let mut n = 0;
    frame::service(g, |_, b| {
        n = b.parts.components.len() as u32;
        Ok(())
    });
    n
}

unsafe extern "C" fn component(g: *mut abi::Graph, i: u32, out: *mut abi::Component) -> i32 {
    frame::service(g, |frame, b| {
        // Safety: a place for one component.
        let out = unsafe { read::place(out, "component") }?;
        let Some(c) = b.parts.components.get(i as usize) else {
            bail!(Invalid, "component {i} does not exist, there are {}", b.parts.components.len());
        };
        *out = raw_component(c, frame.keep(&c.name)?);
        Ok(())
    })
}

/// The mirror of a component under a name that the caller keeps alive.
pub(in crate::plugin) fn raw_component(
    c: &crate::sample::Component,
    name: *const c_char,
) -> abi::Component {
    let mut desc = abi::Desc { dtype: c.dtype.code(), rank: c.dims.len() as u32, dims: [0; 8] };
    for (out, d) in desc.dims.iter_mut().zip(&c.dims) {
        *out = *d;
    }
    let space = match c.space {
        Space::Continuous => 0,
        Space::Discrete => 1,
    };
    abi::Component { desc, space, classes: c.classes, name, reserved: std::ptr::null() }
}

unsafe extern "C" fn stats(g: *mut abi::Graph, component: u32, out: *mut abi::Stats) -> i32 {
    frame::service(g, |_, b| {
        // Safety: a place for the statistics.
        let out = unsafe { read::place(out, "stats") }?;
        let Some(s) = b.parts.stats.get(component as usize) else {
            bail!(
                Invalid,
                "component {component} does not exist, there are {}",
                b.parts.stats.len()
            );
        };
        *out = raw_stats(s);
        Ok(())
    })
}

pub(in crate::plugin) fn raw_stats(s: &crate::sample::Stats) -> abi::Stats {
    abi::Stats { x_mean: s.x_mean, x_var: s.x_var, w_mean: s.w_mean, w_var: s.w_var }
}

unsafe extern "C" fn conds(g: *mut abi::Graph) -> u32 {
    let mut n = 0;
    frame::service(g, |_, b| {
        n = b.parts.conds.len() as u32;
        Ok(())
    });
    n
}

unsafe extern "C" fn cond(
    g: *mut abi::Graph,
    i: u32,
    value: *mut u32,
    null_value: *mut u32,
) -> i32 {
    frame::service(g, |_, b| {
        let (Some(v), Some(n)) = (b.cond.get(i as usize), b.null_cond.get(i as usize)) else {
            bail!(Invalid, "condition {i} does not exist, there are {}", b.cond.len());
        };
        // Safety: places for one node each; either may be null.
        unsafe {
            if let Some(out) = value.as_mut() {
                *out = v.0;
            }
            if let Some(out) = null_value.as_mut() {
                *out = n.0;
            }
        }
        Ok(())
    })
}

unsafe extern "C" fn cond_index(g: *mut abi::Graph, name: *const c_char) -> i32 {
    let mut at = -1;
    frame::service(g, |_, b| {
        // Safety: a C string, alive during this call.
        let name = unsafe { read::name(name, "name of a condition") }?;
        if let Some(i) = b.parts.conds.iter().position(|c| c.name == name) {
            at = i as i32;
        }
        Ok(())
    });
    at
}
