//! What token processes share: how long a token is kept, and how one is drawn anew (specs processes 5).
//!
//! A token is still itself at time t with probability alpha(t), which falls from 1 at t = 0. `linear` is 1 - t and
//! `cosine` 1 - sin(pi t/2) (MD4). `argmax` is the Gaussian duality (Duo; Latent Shadows): with the latent
//! (1 - t) e_x + t xi of flow matching over the K data tokens and c = (1 - t)/t, the largest coordinate is x with
//! probability I = ∫ phi(u) Phi(u + c)^{K-1} du; a token that is the argmax is uniform diffusion with
//! alpha = (K I - 1)/(K - 1), one that is masked unless x is the largest has alpha = I, and the 1/K that is left at the end
//! goes at t = 1 itself. `least` keeps a share of the tokens at t = 1, the epsilon of log-linear noise.

use diffx_plugin::{Attr, Config, Cx, Node, Result, abi, attr, op};

/// Log of a probability that is 0: finite, so that no NaN comes of it.
pub(crate) const NEVER: f64 = -1e30;

/// Divisors and arguments of logarithms are no smaller.
const TINY: f64 = 1e-37;

/// Nodes of the trapezoid rule over u, which converges faster than any power for such integrands.
const NODES: i32 = 64;
const SPACING: f64 = 0.15;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Schedule {
    Linear,
    Cosine,
    Argmax,
}

/// alpha(t), by what is missing from 1: it stays exact where alpha is near 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Kept {
    schedule: Schedule,
    least: f64,
}

impl Kept {
    pub(crate) fn read(config: &mut Config) -> Result<Self> {
        let words = [
            ("linear", Schedule::Linear),
            ("cosine", Schedule::Cosine),
            ("argmax", Schedule::Argmax),
        ];
        let schedule = config.one_of("schedule", &words)?;
        Ok(Self { schedule, least: config.f64("least", 0.0, 0.0..1.0)? })
    }

    /// 1 - alpha(t), shaped as t. A token that is lost to the argmax of K coordinates is any of them: `scale` says how
    /// much of 1 - I that is.
    pub(crate) fn lost<'b>(&self, t: Node<'b>, tokens: f64, scale: f64) -> Node<'b> {
        let lost = match self.schedule {
            Schedule::Linear => t,
            Schedule::Cosine => (t * core::f64::consts::FRAC_PI_2).sin(),
            Schedule::Argmax => {
                let all = t.greater_eq(1.0);
                all.choose(1.0, shadow(t, tokens)[0] * scale)
            }
        };
        if self.least == 0.0 { lost } else { lost * (1.0 - self.least) }
    }

    /// `-alpha' / (1 - alpha)`: of the tokens that are lost at t, how many were lost just then, per time.
    pub(crate) fn hazard<'b>(&self, t: Node<'b>, tokens: f64) -> Node<'b> {
        match self.schedule {
            Schedule::Linear => 1.0 / t,
            Schedule::Cosine => {
                let angle = t * core::f64::consts::FRAC_PI_2;
                angle.cos() / angle.sin().max(TINY) * core::f64::consts::FRAC_PI_2
            }
            Schedule::Argmax => {
                let [lost, slope] = shadow(t, tokens);
                slope / (t.square() * lost.max(TINY))
            }
        }
    }
}

/// 1 - I of c = (1 - t)/t, and dI/dc.
fn shadow<'b>(t: Node<'b>, tokens: f64) -> [Node<'b>; 2] {
    let b = t.builder();
    let at: Vec<f64> = (-NODES..=NODES).map(|i| f64::from(i) * SPACING).collect();
    let root = (2.0 * core::f64::consts::PI).sqrt();
    let weight: Vec<f64> = at.iter().map(|u| SPACING * (-0.5 * u * u).exp() / root).collect();
    let moment: Vec<f64> = at.iter().zip(&weight).map(|(u, w)| -u * w).collect();
    let table = |values: &[f64]| b.constant_f64(&[values.len() as i64], values).cast(0);
    let c = per_class((1.0 - t) / t.max(TINY));
    let missed = -((c + table(&at)).log_ndtr() * (tokens - 1.0)).expm1();
    [(missed * table(&weight)).sum(&[-1]), (missed * table(&moment)).sum(&[-1])]
}

/// Uniform tokens below `tokens`, of the shape of a node.
pub(crate) fn any_token<'b>(cx: &Cx<'b>, shape: &[i64], tokens: f64) -> Node<'b> {
    // in f64: 24 bits would favour some of many tokens
    let attrs = [
        Attr::ints(attr::SHAPE, shape),
        Attr::int(attr::PURPOSE, i64::from(cx.purpose)),
        Attr::int(attr::DTYPE, i64::from(abi::F64)),
    ];
    let u = cx.b.emit(op::UNIFORM, &[], &attrs);
    (u * tokens).floor().min(tokens - 1.0).cast(abi::I32)
}

/// Number of classes of the component, `least` or more.
pub(crate) fn classes(cx: &Cx<'_>, least: u32) -> f64 {
    let classes = cx.component.classes;
    if classes < least {
        cx.b.fail(
            abi::E_INVALID,
            &format!("the component has {classes} classes, want at least {least}"),
        );
    }
    f64::from(classes.max(least))
}

/// log x, finite at 0.
pub(crate) fn log(x: Node<'_>) -> Node<'_> {
    x.greater(0.0).choose(x.max(TINY).log(), NEVER)
}

/// Whether each class is the token, `[.., classes]` for tokens `[..]`, beside logits of that shape.
pub(crate) fn is_token<'b>(cx: &Cx<'b>, logits: Node<'b>, token: Node<'b>) -> Node<'b> {
    cx.b.iota(&logits.shape(), -1, abi::I32).equals(per_class(token))
}

/// With an axis for the classes at the end; a scalar broadcasts as it is.
pub(crate) fn per_class(x: Node<'_>) -> Node<'_> {
    let shape = x.shape();
    if shape.is_empty() {
        return x;
    }
    let dims: Vec<i64> = shape.iter().copied().chain([1]).collect();
    x.reshape(&dims)
}
