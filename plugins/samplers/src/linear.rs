//! Samplers of one call per step whose step is linear: `w' = a w + c_0 D_i + c_1 D_{i-1} + ..`, then maybe one draw of
//! the process about it with variance v. DDIM, Euler-Maruyama and the multistep solvers differ in the row only.
//!
//! The draw is the process's own `ancestral`, so that in Bessel coordinates it is the radius of the same Gaussian step
//! in delta dimensions (specs processes 0.3), positive by itself. Earlier D's live in slots, one set per component; how
//! many of them a row uses is its variant, which is how a run starts at low order.

use crate::discrete;
use core::ffi::CStr;
use diffx_plugin::{
    Builder, Config, Denoiser, Factory, Knots, Like, Node, Plan, Result, Sampler, SamplerInfo,
    Slot, Step, purpose,
};

/// Most D's before the newest that a step uses.
pub(crate) const MAX_PAST: usize = 2;

/// One step of one component.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Row {
    /// a
    pub(crate) keep: f64,
    /// c_0 of the newest D, then those of the ones before.
    pub(crate) moves: [f64; 1 + MAX_PAST],
    /// How many of the ones before count.
    pub(crate) past: usize,
    /// Variance of the draw; 0 = none.
    pub(crate) v: f64,
}

impl Row {
    /// `a w + c D`
    pub(crate) fn new(keep: f64, step: f64) -> Self {
        Self { keep, moves: [step, 0.0, 0.0], ..Self::default() }
    }
}

/// What tells one linear sampler from another.
pub(crate) trait Linear: Factory {
    /// How many D's before the newest are kept, at most [`MAX_PAST`].
    const PAST: usize;
    const STOCHASTICITY: f64;

    /// The row from `levels[k]` to `levels[k + 1]`, which is above 0: to 0 every sampler returns D.
    fn row(&self, levels: &[f64], k: usize) -> Row;
}

/// A linear sampler as a sampler.
pub(crate) struct OneCall<T>(T);

impl<T: Linear> OneCall<T> {
    /// σ, σ', a, v, c_0, c_1, ..
    const COLUMNS: usize = 5 + T::PAST;

    fn at(&self, levels: &[f64], k: usize) -> Row {
        if levels[k + 1] == 0.0 { Row::new(0.0, 1.0) } else { self.0.row(levels, k) }
    }
}

/// A variant: twice the D's before the newest, and one more when there is a draw.
const DRAW: u32 = 1;

impl<T: Linear> Factory for OneCall<T> {
    const ID: &'static CStr = T::ID;
    const SUMMARY: &'static CStr = T::SUMMARY;
    const SCHEMA: Option<&'static CStr> = T::SCHEMA;

    fn create(config: &mut Config) -> Result<Self> {
        T::create(config).map(Self)
    }
}

/// D's of the last few steps, newest first, one set per component.
pub(crate) fn history(n: usize) -> Vec<Slot> {
    let slot = |k| Slot { name: format!("d{}", k + 1), like: Like::Component(0), init: 0.0 };
    (0..n).map(slot).collect()
}

impl<T: Linear> Sampler for OneCall<T> {
    fn info(&self) -> SamplerInfo {
        SamplerInfo {
            n_coeff: Self::COLUMNS as u32,
            per_component: true,
            n_variants: 2 * (1 + T::PAST as u32),
            slots: history(T::PAST),
            control: false,
            stochasticity: T::STOCHASTICITY,
        }
    }

    fn plan(&self, knots: &Knots<'_>) -> Result<Plan> {
        let mut plan = Plan::default();
        for k in 0..knots.steps() {
            let (mut columns, mut past, mut draw) = (Vec::new(), 0, 0);
            for c in 0..knots.components() {
                let levels = knots.of(c);
                let row = self.at(levels, k);
                columns.extend([levels[k], levels[k + 1], row.keep, row.v]);
                columns.extend_from_slice(&row.moves[..=T::PAST]);
                past = past.max(row.past as u32);
                draw |= if row.v > 0.0 { DRAW } else { 0 };
            }
            plan.push(2 * past + draw, &columns);
            if T::PAST == 0 {
                columns
                    .chunks_exact(Self::COLUMNS)
                    .for_each(|r| plan.push_kernel([r[2], r[4], r[3]]));
            }
        }
        Ok(plan)
    }

    fn step<'b>(&self, b: Builder<'b>, io: &mut Step<'b>) -> Result<()> {
        let n = io.components();
        let column = |io: &Step<'b>, c: usize, k: usize| io.coeff(c * Self::COLUMNS + k);
        let sigma: Vec<Node<'b>> = (0..n).map(|c| column(io, c, 0)).collect();
        let d = b.denoise_at(Denoiser::OUTERMOST, &io.state(), &sigma);
        let (past, draw) = ((io.variant() / 2) as usize, io.variant() & DRAW != 0);
        for (c, d) in d.into_iter().enumerate() {
            io.set_denoised(c, d);
            if discrete::is_discrete(b, c) {
                let z = discrete::advance(b, c, io.x(c), d, sigma[c], column(io, c, 1));
                io.set_next(c, z);
                continue;
            }
            let mut w = column(io, c, 2) * io.x(c) + column(io, c, 4) * d;
            for k in 0..past {
                w = w + column(io, c, 5 + k) * io.slot(c * T::PAST + k);
            }
            if draw {
                w = b.process(c).ancestral(w, column(io, c, 3), purpose::STEP);
            }
            io.set_next(c, w);
            push(io, c, T::PAST, d);
        }
        Ok(())
    }
}

/// Puts a D in front of the history of a component; the oldest falls out.
pub(crate) fn push<'b>(io: &mut Step<'b>, component: usize, n: usize, newest: Node<'b>) {
    let first = component * n;
    for k in (1..n).rev() {
        let older = io.slot(first + k - 1);
        io.set_slot(first + k, older);
    }
    if n > 0 {
        io.set_slot(first, newest);
    }
}

#[cfg(test)]
pub(crate) fn plan<T: Linear>(json: &str, levels: &[f64]) -> Plan {
    let sampler = OneCall::<T>::create(&mut Config::parse(json).unwrap()).unwrap();
    sampler.plan(&Knots::new(levels, 1)).unwrap()
}
