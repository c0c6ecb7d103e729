//! What samplers, guidance and objectives may ask of the pipeline they are built into: the denoiser, networks by
//! slot, the process of a component, its statistics, the conditions.

use crate::abi;
use crate::builder::{Builder, with_c_str};
use crate::info::{ComponentView, Stats};
use crate::node::Node;
use crate::process::Function;

/// A denoiser by its handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Denoiser(pub(crate) abi::Denoiser);

impl Denoiser {
    /// The outermost of the chain: network, preconditioning and every guidance.
    pub const OUTERMOST: Self = Self(0);
}

/// One evaluation of a denoiser.
#[derive(Debug, Clone, Copy)]
pub struct Eval<'e, 'b> {
    /// Which form of the model; 0 unless it has several.
    pub phase: u32,
    /// One node per component.
    pub x: &'e [Node<'b>],
    /// One per component: scalar, `[batch]` or shaped.
    pub sigma: &'e [Node<'b>],
    /// None = the conditions of the job.
    pub cond: Option<&'e [Node<'b>]>,
}

impl<'b> Builder<'b> {
    /// Several evaluations as one batch, so that weights are read once. One vector of D (all components) per
    /// evaluation.
    pub fn denoise(self, d: Denoiser, evals: &[Eval<'_, 'b>]) -> Vec<Vec<Node<'b>>> {
        let components = self.components();
        let failed = || vec![vec![self.error_node(); components]; evals.len()];
        let Some(denoise) = self.core.services.build.denoise else {
            self.fail(abi::E_UNSUPPORTED, "the host has no denoise");
            return failed();
        };
        if evals.iter().any(|e| e.x.len() != components || e.sigma.len() != components) {
            self.fail(
                abi::E_PLUGIN,
                &format!("denoise: want {components} nodes in x and sigma, one per component"),
            );
            return failed();
        }
        let conds = self.conds();
        if evals.iter().any(|e| e.cond.is_some_and(|c| c.len() != conds)) {
            self.fail(
                abi::E_PLUGIN,
                &format!("denoise: want {conds} conditions, all of the model's"),
            );
            return failed();
        }
        let ids = |nodes: &[Node<'b>]| nodes.iter().map(|n| n.id).collect::<Vec<_>>();
        let x: Vec<_> = evals.iter().map(|e| ids(e.x)).collect();
        let sigma: Vec<_> = evals.iter().map(|e| ids(e.sigma)).collect();
        let cond: Vec<_> = evals.iter().map(|e| e.cond.map(ids)).collect();
        let raw: Vec<_> = (0..evals.len())
            .map(|i| abi::Eval {
                struct_size: size_of::<abi::Eval>() as u32,
                phase: evals[i].phase,
                x: x[i].as_ptr(),
                sigma: sigma[i].as_ptr(),
                cond: cond[i].as_ref().map_or(core::ptr::null(), |c| c.as_ptr()),
                reserved: core::ptr::null(),
            })
            .collect();
        let mut out = vec![0; evals.len() * components];
        // Safety: the graph is the one of this build call; every array is as long as the contract says.
        unsafe {
            denoise(self.core.graph, d.0, raw.as_ptr(), raw.len() as u32, out.as_mut_ptr());
        }
        // a failure is sticky in the graph, its nodes are 0
        if components == 0 {
            return failed();
        }
        out.chunks(components).map(|c| c.iter().map(|id| self.node(*id)).collect()).collect()
    }

    /// The denoiser at one state, with the conditions of the job.
    pub fn denoise_at(self, d: Denoiser, x: &[Node<'b>], sigma: &[Node<'b>]) -> Vec<Node<'b>> {
        self.denoise(d, &[Eval { phase: 0, x, sigma, cond: None }]).pop().unwrap_or_default()
    }

    /// The preconditioned, unguided denoiser of a network slot (`base`, `ref`, `ema`, `h`, ...).
    pub fn denoiser_of(self, slot: &str) -> Option<Denoiser> {
        let of = self.core.services.build.denoiser_of?;
        // Safety: the graph is the one of this build call; the name lives through it.
        let handle = with_c_str(slot, |slot| unsafe { of(self.core.graph, slot) });
        (handle != 0).then_some(Denoiser(handle))
    }

    /// The network of a slot itself, without preconditioning. `sigma` is the noise embedding input, `[rows]` per
    /// component.
    pub fn network(
        self,
        slot: &str,
        x: &[Node<'b>],
        sigma: &[Node<'b>],
        cond: &[Node<'b>],
        n_out: usize,
    ) -> Vec<Node<'b>> {
        let ids = |nodes: &[Node<'b>]| nodes.iter().map(|n| n.id).collect::<Vec<_>>();
        let (x, sigma, cond) = (ids(x), ids(sigma), ids(cond));
        let mut out = vec![0; n_out];
        let mut io = abi::ModelIo {
            struct_size: size_of::<abi::ModelIo>() as u32,
            phase: 0,
            n_components: x.len() as u32,
            n_conds: cond.len() as u32,
            n_slots: 0,
            n_out: n_out as u32,
            x: x.as_ptr(),
            sigma: sigma.as_ptr(),
            cond: cond.as_ptr(),
            slot: core::ptr::null(),
            slot_out: core::ptr::null_mut(),
            out: out.as_mut_ptr(),
        };
        if let Some(network) = self.core.services.build.network {
            // Safety: the graph is the one of this build call; io's arrays are as long as its counts.
            with_c_str(slot, |slot| unsafe { network(self.core.graph, slot, &mut io) });
        } else {
            self.fail(abi::E_UNSUPPORTED, "the host has no network");
        }
        out.into_iter().map(|id| self.node(id)).collect()
    }

    /// How many components the state has.
    pub fn components(self) -> usize {
        let Some(components) = self.core.services.build.components else { return 0 };
        // Safety: the graph is the one of this build call.
        unsafe { components(self.core.graph) as usize }
    }

    /// One component of the state.
    pub fn component(self, i: usize) -> Option<ComponentView<'b>> {
        let component = self.core.services.build.component?;
        let mut out = core::mem::MaybeUninit::<abi::Component>::zeroed();
        // Safety: the graph is the one of this build call, out a whole dfx_component.
        let status = unsafe { component(self.core.graph, i as u32, out.as_mut_ptr()) };
        // Safety: zero bytes are a valid dfx_component, and the host may have filled it; its name lives as long as
        // the build call.
        (status == abi::OK).then(|| unsafe { ComponentView::new(&out.assume_init()) })
    }

    /// Moments of the data of a component; those of standardised data where the host has none.
    pub fn stats(self, component: usize) -> Stats {
        let mut out = Stats::default();
        if let Some(stats) = self.core.services.build.stats {
            // Safety: the graph is the one of this build call, out a whole dfx_stats.
            unsafe { stats(self.core.graph, component as u32, &mut out) };
        }
        out
    }

    /// The process of a component.
    pub const fn process(self, component: usize) -> Law<'b> {
        Law { b: self, component }
    }

    /// How many conditions the model has.
    pub fn conds(self) -> usize {
        let Some(conds) = self.core.services.build.conds else { return 0 };
        // Safety: the graph is the one of this build call.
        unsafe { conds(self.core.graph) as usize }
    }

    /// The job's value of a condition and its null value, `[batch, ...]`.
    pub fn cond(self, i: usize) -> (Node<'b>, Node<'b>) {
        let (mut value, mut null) = (0, 0);
        if let Some(cond) = self.core.services.build.cond {
            // Safety: the graph is the one of this build call, both outputs are nodes.
            unsafe { cond(self.core.graph, i as u32, &mut value, &mut null) };
        }
        (self.node(value), self.node(null))
    }

    /// Position of a condition by name.
    pub fn cond_index(self, name: &str) -> Option<usize> {
        let index = self.core.services.build.cond_index?;
        // Safety: the graph is the one of this build call; the name lives through it.
        let i = with_c_str(name, |name| unsafe { index(self.core.graph, name) });
        usize::try_from(i).ok()
    }
}

/// The process of one component, asked from outside of it.
#[derive(Clone, Copy)]
pub struct Law<'b> {
    b: Builder<'b>,
    component: usize,
}

impl<'b> Law<'b> {
    pub fn encode(self, x: Node<'b>) -> Node<'b> {
        self.one(Function::Encode, 0, &[x])
    }

    pub fn decode(self, w: Node<'b>, sigma: Node<'b>) -> Node<'b> {
        self.one(Function::Decode, 0, &[w, sigma])
    }

    /// (w, target); of a discrete process (z, 1 where corrupted).
    pub fn perturb(self, w0: Node<'b>, sigma: Node<'b>, purpose: u32) -> [Node<'b>; 2] {
        self.call(Function::Perturb, purpose, &[w0, sigma])
    }

    pub fn prior(self, sigma: Node<'b>, purpose: u32) -> Node<'b> {
        self.one(Function::Prior, purpose, &[sigma])
    }

    /// (c_skip, c_out, c_in, c_noise, loss weight).
    pub fn precond(self, sigma: Node<'b>) -> [Node<'b>; 5] {
        self.call(Function::Precond, 0, &[sigma])
    }

    pub fn renoise(
        self,
        w: Node<'b>,
        sigma: Node<'b>,
        sigma_hat: Node<'b>,
        purpose: u32,
    ) -> Node<'b> {
        self.one(Function::Renoise, purpose, &[w, sigma, sigma_hat])
    }

    pub fn ancestral(self, mu: Node<'b>, v: Node<'b>, purpose: u32) -> Node<'b> {
        self.one(Function::Ancestral, purpose, &[mu, v])
    }

    pub fn to_score(self, w: Node<'b>, d: Node<'b>, sigma: Node<'b>) -> Node<'b> {
        self.one(Function::ToScore, 0, &[w, d, sigma])
    }

    pub fn log_transition(self, w: Node<'b>, w0: Node<'b>, sigma: Node<'b>) -> Node<'b> {
        self.one(Function::LogTransition, 0, &[w, w0, sigma])
    }

    pub fn loss_weight(self, t: Node<'b>) -> Node<'b> {
        self.one(Function::LossWeight, 0, &[t])
    }

    pub fn posterior(self, z: Node<'b>, logits: Node<'b>, t: Node<'b>, s: Node<'b>) -> Node<'b> {
        self.one(Function::Posterior, 0, &[z, logits, t, s])
    }

    fn one(self, f: Function, purpose: u32, inputs: &[Node<'b>]) -> Node<'b> {
        let [out] = self.call(f, purpose, inputs);
        out
    }

    fn call<const N: usize>(self, f: Function, purpose: u32, inputs: &[Node<'b>]) -> [Node<'b>; N] {
        let mut ids = [0; 4];
        for (id, node) in ids.iter_mut().zip(inputs) {
            *id = node.id;
        }
        let mut out = [0; N];
        if let Some(process) = self.b.core.services.build.process {
            // Safety: the graph is the one of this build call; both arrays are as long as said.
            unsafe {
                process(
                    self.b.core.graph,
                    self.component as u32,
                    f as u32,
                    purpose,
                    ids.as_ptr(),
                    inputs.len() as u32,
                    out.as_mut_ptr(),
                    N as u32,
                );
            }
        } else {
            self.b.fail(abi::E_UNSUPPORTED, "the host has no process functions");
        }
        out.map(|id| self.b.node(id))
    }
}
