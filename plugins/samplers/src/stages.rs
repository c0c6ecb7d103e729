//! What samplers of several calls per step share: the state between the calls. Tokens stay at their own time there and
//! move once, at the end, by the logits of the first call.

use crate::discrete;
use diffx_plugin::{Builder, Denoiser, Knots, Node, Plan, SamplerInfo, Step, purpose};

/// The state at the start of a step and its D.
pub(crate) struct Start<'b> {
    b: Builder<'b>,
    pub(crate) x: Vec<Node<'b>>,
    sigma: Vec<Node<'b>>,
    pub(crate) d: Vec<Node<'b>>,
}

impl<'b> Start<'b> {
    /// The first call: at the state itself.
    pub(crate) fn new(b: Builder<'b>, io: &Step<'b>, sigma: Vec<Node<'b>>) -> Self {
        let x = io.state();
        let d = b.denoise_at(Denoiser::OUTERMOST, &x, &sigma);
        Self { b, x, sigma, d }
    }

    /// `make(component)` for continuous components, the tokens as they are.
    pub(crate) fn state(&self, make: impl Fn(usize) -> Node<'b>) -> Vec<Node<'b>> {
        let of = |c: usize| {
            if discrete::is_discrete(self.b, c) { self.x[c] } else { make(c) }
        };
        (0..self.x.len()).map(of).collect()
    }

    /// Another call, at a state between and levels of the continuous components.
    pub(crate) fn call(&self, x: &[Node<'b>], level: impl Fn(usize) -> Node<'b>) -> Vec<Node<'b>> {
        let of = |c: usize| {
            if discrete::is_discrete(self.b, c) { self.sigma[c] } else { level(c) }
        };
        let sigma: Vec<_> = (0..x.len()).map(of).collect();
        self.b.denoise_at(Denoiser::OUTERMOST, x, &sigma)
    }

    /// One draw of each continuous component about `mean(component)` with variance `v(component)`.
    pub(crate) fn draw(
        &self,
        mean: impl Fn(usize) -> Node<'b>,
        v: impl Fn(usize) -> Node<'b>,
    ) -> Vec<Node<'b>> {
        self.state(|c| self.b.process(c).ancestral(mean(c), v(c), purpose::STEP))
    }

    /// Ends the step: `w` for continuous components, the tokens at their next time; `newest` D's for previews.
    pub(crate) fn finish(
        &self,
        io: &mut Step<'b>,
        w: Vec<Node<'b>>,
        next: impl Fn(usize) -> Node<'b>,
        newest: &[Node<'b>],
    ) {
        for (c, w) in w.into_iter().enumerate() {
            let (b, discrete) = (self.b, discrete::is_discrete(self.b, c));
            let to = match discrete {
                true => discrete::advance(b, c, self.x[c], self.d[c], self.sigma[c], next(c)),
                false => w,
            };
            io.set_next(c, to);
            io.set_denoised(c, newest[c]);
        }
    }
}

/// One row per step, `row(σ, σ')` for each component; variant 1 where a component goes to 0, which has no slope there.
pub(crate) fn plan<const N: usize>(knots: &Knots<'_>, row: impl Fn(f64, f64) -> [f64; N]) -> Plan {
    let mut plan = Plan::default();
    for k in 0..knots.steps() {
        let of = |c: usize| row(knots.of(c)[k], knots.of(c)[k + 1]);
        let columns: Vec<_> = (0..knots.components()).flat_map(of).collect();
        let last = (0..knots.components()).any(|c| knots.of(c)[k + 1] == 0.0);
        plan.push(u32::from(last), &columns);
    }
    plan
}

/// The columns of each component.
pub(crate) fn columns<'b, const N: usize>(io: &Step<'b>) -> Vec<[Node<'b>; N]> {
    let of = |c: usize| core::array::from_fn(|k| io.coeff(c * N + k));
    (0..io.components()).map(of).collect()
}

/// What a sampler of this kind says of itself.
pub(crate) fn info(columns: usize, stochasticity: f64) -> SamplerInfo {
    SamplerInfo {
        n_coeff: columns as u32,
        per_component: true,
        n_variants: 2,
        slots: vec![],
        control: false,
        stochasticity,
    }
}
