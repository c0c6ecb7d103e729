//! Redrawing in the loop: samples that a guidance finds infeasible go through the last rows again. What comes out depends
//! on the sample alone, whatever the batch, and wherever the run was saved on the way.

#[path = "support/tiny.rs"]
mod tiny;

use diffx::base::Result;
use diffx::cpu::Cpu;
use diffx::exec::{Interrupt, SessionBuilder};
use diffx::graph::{AttrKey, Attrs, NodeId, Op};
use diffx::mem::{Budget, Tensor};
use diffx::plugin::Registry;
use diffx::sample::{
    Advance, Build, Component, Eval, Guidance, GuidanceInfo, GuideIo, Hook, Parts, Predicts,
    Program, Redraw, Replay, Request, Rows, Sampler,
};
use serde_json::json;
use std::collections::HashMap;
use std::sync::Arc;
use tiny::{Exact, knots, parts};

/// Feasible where the first number of a sample is at least `low`.
struct AtLeast {
    low: f64,
    redraw: Redraw,
}

impl Guidance for AtLeast {
    fn info(&self, _: &[Component]) -> Result<GuidanceInfo> {
        Ok(GuidanceInfo { stage: 40, slots: vec![], networks: vec![], group: 1, exact_for: -1.0 })
    }
    fn has(&self, hook: Hook) -> bool {
        hook == Hook::Finish
    }
    fn redraw(&self) -> Option<Redraw> {
        Some(self.redraw)
    }
    fn wrap(
        &self,
        _: &mut Build<'_>,
        _: u32,
        _: &[Eval],
        _: &[NodeId],
        _: &mut [NodeId],
    ) -> Result<Vec<Vec<NodeId>>> {
        Ok(vec![])
    }
    fn guide(&self, b: &mut Build<'_>, _: Hook, _: u32, io: &mut GuideIo) -> Result<()> {
        let dims = b.graph.desc(io.x[0]).dims().to_vec();
        let mut to = dims.clone();
        to[1..].fill(1);
        let attrs = Attrs::NONE
            .with_dims(AttrKey::Start, &vec![0; dims.len()])
            .with_dims(AttrKey::Stop, &to);
        let first = b.graph.emit(Op::Slice, &[io.x[0]], attrs);
        let flat = Attrs::NONE.with_dims(AttrKey::Shape, &[dims[0]]);
        let first = b.graph.emit(Op::Reshape, &[first], flat);
        let low = b.graph.scalar(self.low);
        io.feasible = Some(b.graph.binary(Op::Ge, first, low));
        Ok(())
    }
}

fn registry() -> Registry {
    let mut registry = Registry::new(Box::new(|_, _| {}));
    for plugin in [diffx_samplers::plugin(), diffx_processes::plugin()] {
        // Safety: a static of a crate linked into this test.
        unsafe { registry.register(std::ptr::from_ref(plugin).cast()) }.unwrap();
    }
    registry
}

fn sampler(id: &str) -> Arc<dyn Sampler> {
    registry().sampler(id, &json!({})).unwrap()
}

fn with(low: f64, times: u32, share: f64) -> Parts {
    let redraw = Redraw { times, share };
    let exact = Exact {
        predicts: Predicts::Residual,
        mean: 0.0,
        var: 1.0,
        conditional: false,
        dims: vec![2],
    };
    let mut parts = parts(exact, vec![Arc::new(AtLeast { low, redraw })]);
    parts.processes = vec![registry().process("ve", &json!({})).unwrap()];
    parts
}

fn request(first: u64, n: usize) -> Request {
    Request { seed: 7, first_sample: first, n_samples: n, preview_every: 0, conds: vec![] }
}

fn ready(parts: &Parts, sampler: &dyn Sampler, batch: usize, request: Request) -> Replay {
    let rows = Arc::new(Rows::new(sampler, parts, &[knots(10, 10.0, 0.1)]).unwrap());
    let mut session = SessionBuilder::new(Arc::new(Cpu::new(1)));
    let none = &mut |_: &[diffx::graph::Weight]| Ok(vec![]);
    let program = Program::new(parts, sampler, &rows, batch, false, &mut session, none).unwrap();
    let session = session.allocate(&Budget::unlimited()).unwrap();
    let mut replay = Replay::new(program, session);
    replay.begin(&rows, request, &[], &Budget::unlimited()).unwrap();
    replay
}

fn bytes(results: &[(String, Tensor)], name: &str) -> Vec<u8> {
    results.iter().find(|r| r.0 == name).unwrap().1.bytes().to_vec()
}

fn draws(results: &[(String, Tensor)]) -> Vec<i32> {
    results.iter().find(|r| r.0 == "draws").unwrap().1.elements::<i32>().unwrap().to_vec()
}

const NAMES: [&str; 4] = ["x", "feasible", "log_weight", "draws"];

#[test]
fn a_sample_does_not_see_its_batch() {
    let em = sampler("em");
    for share in [0.3, 1.0] {
        let parts = with(0.5, 60, share);
        let mut whole = ready(&parts, &*em, 40, request(0, 40));
        whole.finish().unwrap();
        let want = whole.take_results();
        let turns = draws(&want);
        assert!(turns.contains(&1) && turns.iter().any(|d| *d > 3), "{turns:?}");
        for batch in [1, 7] {
            let mut small = ready(&parts, &*em, batch, request(0, 40));
            small.finish().unwrap();
            let got = small.take_results();
            NAMES.iter().for_each(|n| assert_eq!(bytes(&got, n), bytes(&want, n), "{n}, {batch}"));
        }
        // the first draw is what there is without redrawing
        let none = with(-1e9, 60, share);
        let mut plain = ready(&none, &*em, 40, request(0, 40));
        plain.finish().unwrap();
        let plain = plain.take_results();
        let size = bytes(&plain, "x").len() / 40;
        for (i, d) in turns.iter().enumerate() {
            let at = i * size..(i + 1) * size;
            let same = bytes(&plain, "x")[at.clone()] == bytes(&want, "x")[at];
            assert_eq!(same, *d == 1, "sample {i} was drawn {d} times");
        }
    }
}

#[test]
fn a_run_saved_in_any_turn_ends_in_the_same_bits() {
    let em = sampler("em");
    for share in [0.3, 1.0] {
        let parts = with(0.5, 8, share);
        let begun = || ready(&parts, &*em, 4, request(0, 10));
        let mut whole = begun();
        let mut plans = 0;
        while whole.advance(&mut || Interrupt::Continue).unwrap() != Advance::Done {
            plans += 1;
        }
        let want = whole.take_results();
        assert!(draws(&want).iter().any(|d| *d > 2));
        for stop in 0..plans {
            let mut first = begun();
            for _ in 0..stop {
                first.advance(&mut || Interrupt::Continue).unwrap();
            }
            let (done, total) = first.progress();
            assert!(done <= total);
            let saved = first.save().unwrap();
            let mut kept: HashMap<String, Vec<u8>> = HashMap::new();
            for (i, (name, _)) in saved.tensors.iter().enumerate() {
                let own = kept.entry(name.clone()).or_default();
                let put = &mut |piece: &[u8]| {
                    own.extend_from_slice(piece);
                    Ok(())
                };
                first.show_saved(i, put).unwrap();
            }
            let mut second = begun();
            let load = &mut |name: &str, _, at: usize, out: &mut [u8]| {
                out.copy_from_slice(&kept[name][at..at + out.len()]);
                Ok(())
            };
            second.restore(saved.batch, saved.at, load).unwrap();
            second.finish().unwrap();
            let got = second.take_results();
            NAMES.iter().for_each(|n| assert_eq!(bytes(&got, n), bytes(&want, n), "{n}, {stop}"));
        }
        println!("share {share}: saved at {plans} places");
    }
}

#[test]
fn what_is_never_feasible_ends_and_is_marked() {
    let em = sampler("em");
    let parts = with(1e9, 5, 0.3);
    let mut run = ready(&parts, &*em, 4, request(0, 6));
    run.finish().unwrap();
    let got = run.take_results();
    assert_eq!(draws(&got), [6; 6]);
    assert_eq!(bytes(&got, "feasible"), [0; 6]);
    // without noise the last rows end where they ended: all turns are whole runs
    let parts = with(0.5, 60, 0.3);
    let mut run = ready(&parts, &*sampler("heun"), 40, request(0, 40));
    run.finish().unwrap();
    assert!(bytes(&run.take_results(), "feasible").iter().all(|f| *f == 1));
}

/// Half of the turns are of the last rows only, the other half begin at the prior: a state from which the last rows
/// cannot come back is left.
#[test]
fn hopeless_states_are_left() {
    let em = sampler("em");
    // far up in the law: from where most samples stand at the last row, out of reach
    let parts = with(1.5, 400, 0.01);
    let mut run = ready(&parts, &*em, 32, request(0, 32));
    run.finish().unwrap();
    let got = run.take_results();
    let turns = draws(&got);
    assert!(bytes(&got, "feasible").iter().all(|f| *f == 1));
    assert!(turns.iter().any(|d| *d > 201), "{turns:?}");
}
