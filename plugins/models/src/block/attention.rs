//! Attention of several heads, and rotary positions. Queries, keys and values come as `[rows, time, heads x depth]`, as
//! linear layers give them; images are flattened to `[rows, height x width, channels]` first.

use super::layer::{columns, project};
use diffx_plugin::{Builder, Node};

/// Heads and the width of each. Keys and values may have fewer heads: then neighbouring queries share one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Heads {
    pub count: usize,
    pub shared: usize,
    pub depth: usize,
}

impl Heads {
    /// As many heads of keys as of queries.
    pub(crate) const fn of(count: usize, depth: usize) -> Self {
        Self { count, shared: count, depth }
    }

    pub(crate) const fn width(self) -> usize {
        self.count * self.depth
    }
}

/// `[rows, time, heads x depth]` to `[rows, heads, time, depth]`.
pub(crate) fn split(x: Node<'_>, heads: usize, depth: usize) -> Node<'_> {
    let time = x.shape().get(1).copied().unwrap_or(1);
    x.reshape(&[-1, time, heads as i64, depth as i64]).transpose(&[0, 2, 1, 3])
}

/// `[rows, heads, time, depth]` to `[rows, time, heads x depth]`.
pub(crate) fn join(x: Node<'_>) -> Node<'_> {
    let shape = x.shape();
    let [_, heads, time, depth] = *shape else { return x };
    x.transpose(&[0, 2, 1, 3]).reshape(&[-1, time, heads * depth])
}

/// Softmax attention, every position to every other: `[rows, time, heads x depth]`.
pub(crate) fn attend<'b>(q: Node<'b>, k: Node<'b>, v: Node<'b>, heads: Heads) -> Node<'b> {
    let [k, v] = [k, v].map(|x| split(x, heads.shared, heads.depth));
    attend_split(split(q, heads.count, heads.depth), k, v, heads)
}

/// The same of `[rows, heads, time, depth]`.
pub(crate) fn attend_split<'b>(q: Node<'b>, k: Node<'b>, v: Node<'b>, heads: Heads) -> Node<'b> {
    let [k, v] = [k, v].map(|x| repeat(x, heads));
    join(q.attention(k, v, false))
}

/// Each head of keys or values once for every query that shares it.
fn repeat(x: Node<'_>, heads: Heads) -> Node<'_> {
    let shape = x.shape();
    let times = heads.count / heads.shared;
    let [rows, shared, time, depth] = *shape else { return x };
    if times == 1 {
        return x;
    }
    x.reshape(&[rows, shared, 1, time, depth])
        .broadcast_to(&[rows, shared, times as i64, time, depth])
        .reshape(&[rows, shared * times as i64, time, depth])
}

/// Self-attention with one linear layer `qkv` for queries, keys and values, and one for the result.
pub(crate) fn fused<'b>(
    b: Builder<'b>,
    [qkv, out]: [&str; 2],
    x: Node<'b>,
    heads: Heads,
) -> Node<'b> {
    let width = heads.width();
    let all = project(b, qkv, x, width, 3 * width, true);
    let [q, k, v] = [0, 1, 2].map(|part| columns(all, part * width, width));
    project(b, out, attend(q, k, v, heads), width, width, true)
}

/// Rotary positions of `[rows, heads, time, depth]` (Su et al. 2021), the two halves of a head rotated against each
/// other, as Llama does.
pub(crate) fn rotate<'b>(b: Builder<'b>, x: Node<'b>, theta: f64) -> Node<'b> {
    let shape = x.shape();
    let [rows, heads, time, depth] = *shape else { return x };
    let half = depth / 2;
    // rounded to f32 wherever the references round
    let angle = |t: i64, k: i64| {
        let part = (2 * k) as f32 / depth as f32;
        let frequency = 1.0 / theta.powf(f64::from(part)) as f32;
        f64::from(t as f32 * frequency)
    };
    let table = |f: fn(f64) -> f64| -> Node<'b> {
        let cells = (0..time).flat_map(|t| (0..half).map(move |k| (t, k)));
        let values: Vec<f32> = cells.map(|(t, k)| f(angle(t, k)) as f32).collect();
        b.constant(&[1, 1, time, half], &values).cast(0)
    };
    let (cos, sin) = (table(f64::cos), table(f64::sin));
    let low = x.slice(&[0, 0, 0, 0], &[rows, heads, time, half]);
    let high = x.slice(&[0, 0, 0, half], &[rows, heads, time, depth]);
    b.concat(&[low * cos - high * sin, high * cos + low * sin], -1)
}
