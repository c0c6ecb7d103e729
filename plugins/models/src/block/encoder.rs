//! PyTorch's `nn.TransformerEncoderLayer`: self-attention and two linear layers, each added to its input, with a norm
//! after each (the class default) or before it.

use super::attention::{Heads, attend};
use super::feed_forward::Activation;
use super::layer::{Start, columns, layer_norm, linear};
use diffx_plugin::{Builder, Init, Node};

/// The sizes of a layer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Encoder {
    pub heads: Heads,
    pub inner: usize,
    pub norm_first: bool,
    pub act: Activation,
}

const EPS: f64 = 1e-5;

impl Encoder {
    /// `[rows, time, width]` to the same; `name` is the prefix of the layer's weights.
    pub(crate) fn of<'b>(&self, b: Builder<'b>, name: &str, x: Node<'b>) -> Node<'b> {
        let width = self.heads.width();
        let norm = |which: &str, x| layer_norm(b, &format!("{name}.{which}"), x, width, EPS);
        if self.norm_first {
            let x = x + self.attention(b, name, norm("norm1", x));
            return x + self.feed_forward(b, name, norm("norm2", x));
        }
        let x = norm("norm1", x + self.attention(b, name, x));
        norm("norm2", x + self.feed_forward(b, name, x))
    }

    fn attention<'b>(&self, b: Builder<'b>, name: &str, x: Node<'b>) -> Node<'b> {
        let width = self.heads.width();
        let (rows, columns_in) = (3 * width as i64, width as i64);
        // no `.weight` in these two names
        let init = Start::Spread.init(width);
        let w = b.weight(&format!("{name}.self_attn.in_proj_weight"), &[rows, columns_in], init);
        let bias = b.weight(&format!("{name}.self_attn.in_proj_bias"), &[rows], Init::Zeros);
        let all = x.linear(w, bias);
        let [q, k, v] = [0, 1, 2].map(|part| columns(all, part * width, width));
        let y = attend(q, k, v, self.heads);
        linear(b, &format!("{name}.self_attn.out_proj"), y, width, width, Start::Spread)
    }

    fn feed_forward<'b>(&self, b: Builder<'b>, name: &str, x: Node<'b>) -> Node<'b> {
        let width = self.heads.width();
        let (first, second) = (format!("{name}.linear1"), format!("{name}.linear2"));
        let h = self.act.of(linear(b, &first, x, width, self.inner, Start::Spread));
        linear(b, &second, h, self.inner, width, Start::Spread)
    }
}
