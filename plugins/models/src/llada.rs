//! `LLaDAModelLM` of ML-GSAI/LLaDA: a Llama without a causal mask that says the logits of every token. The noise level is
//! not an input: how many tokens are masked says enough (Nie et al. 2025). Lengths are free.

use crate::block::attention::{Heads, attend_split, rotate, split};
use crate::block::feed_forward::{self, Activation, Wide};
use crate::block::layer::rms_norm;
use crate::block::project;
use core::ffi::CStr;
use diffx_plugin::{
    Attr, Builder, Component, Config, Error, Factory, Init, Model, ModelInfo, ModelIo, Node,
    POSITIVE, Predicts, Result, attr, op, schema,
};

pub(crate) struct Llada {
    heads: Heads,
    depth: usize,
    inner: usize,
    act: Activation,
    /// Rows of the table of tokens, and logits.
    tokens: usize,
    theta: f64,
    eps: f64,
    qkv_bias: bool,
    bias: bool,
    norm_bias: bool,
    tied: bool,
    scale_logits: bool,
    scale_input: bool,
}

const MOST: usize = 1 << 20;

impl Factory for Llada {
    const ID: &'static CStr = c"org.diffx.llada";
    const SUMMARY: &'static CStr = c"Llama-style transformer over masked tokens";
    const SCHEMA: Option<&'static CStr> = schema![
        "d_model": integer "features of a token, a multiple of n_heads", default 768, minimum 1, maximum 1048576;
        "n_heads": integer "heads of attention", default 12, minimum 1, maximum 4096;
        "multi_query_attention": boolean "one head of keys and values where n_kv_heads does not say", default false;
        "n_kv_heads": integer "heads of keys and values, a divisor of n_heads; default n_heads", minimum 1, maximum 4096;
        "n_layers": integer "blocks", default 12, minimum 1, maximum 1024;
        "mlp_ratio": integer "features of the feed-forward part over d_model", default 4, minimum 1, maximum 1024;
        "mlp_hidden_size": integer "the same, as a number of features", minimum 1, maximum 16777216;
        "activation_type": string "of the gate of the feed-forward part", default "silu", enum ["silu", "gelu", "relu"];
        "block_type": string "kind of block", default "llama", enum ["llama"];
        "layer_norm_type": string "kind of norm", default "rms", enum ["rms"];
        "rms_norm_eps": number "added to the mean square", default 1e-5, exclusiveMinimum 0;
        "bias_for_layer_norm": boolean "whether norms have biases; by default where linear layers have", default false;
        "attention_layer_norm": boolean "norms of queries and keys, which are not there", default false;
        "block_group_size": integer "blocks per group", default 1, minimum 1, maximum 1;
        "alibi": boolean "positions by distance, which are not there", default false;
        "rope": boolean "rotary positions", default true;
        "rope_theta": number "base of the rotary positions", default 10000, exclusiveMinimum 0;
        "include_bias": boolean "whether linear layers have biases", default false;
        "include_qkv_bias": boolean "whether queries, keys and values have them", default false;
        "vocab_size": integer "tokens, the mask among them", default 50257, minimum 2, maximum 16777216;
        "embedding_size": integer "rows of the table of tokens and logits; default vocab_size", minimum 2, maximum 16777216;
        "weight_tying": boolean "whether logits use the table of tokens", default true;
        "scale_logits": boolean "divide logits by the root of d_model", default false;
        "input_emb_norm": boolean "multiply embeddings by the root of d_model", default false;
    ];

    fn create(config: &mut Config) -> Result<Self> {
        let width = config.usize("d_model", 768, 1..=MOST)?;
        let count = config.usize("n_heads", 12, 1..=4096)?;
        let single = config.bool("multi_query_attention", false)?;
        let shared = config.opt_usize("n_kv_heads", 1..=4096)?;
        let shared = shared.unwrap_or(if single { 1 } else { count });
        if !width.is_multiple_of(2 * count) {
            return Err(Error::invalid(format!(
                "n_heads is {count}, want heads of an even width from d_model, which is {width}"
            )));
        }
        if !count.is_multiple_of(shared) {
            return Err(Error::invalid(format!(
                "n_kv_heads is {shared}, want a divisor of n_heads, which is {count}"
            )));
        }
        let ratio = config.usize("mlp_ratio", 4, 1..=1024)?;
        let inner = config.opt_usize("mlp_hidden_size", 1..=1 << 24)?.unwrap_or(ratio * width);
        config.one_of("block_type", &[("llama", ())])?;
        config.one_of("layer_norm_type", &[("rms", ())])?;
        config.usize("block_group_size", 1, 1..=1)?;
        for (key, must) in [("attention_layer_norm", false), ("alibi", false), ("rope", true)] {
            if config.bool(key, must)? != must {
                return Err(Error::invalid(format!("{key} is {}, want {must}", !must)));
            }
        }
        let acts =
            [("silu", Activation::Silu), ("gelu", Activation::Gelu), ("relu", Activation::Relu)];
        let bias = config.bool("include_bias", false)?;
        let given = config.has("bias_for_layer_norm");
        let norm_bias = config.bool("bias_for_layer_norm", false)? || (!given && bias);
        let tokens = config.usize("vocab_size", 50257, 2..=1 << 24)?;
        Ok(Self {
            heads: Heads { count, shared, depth: width / count },
            depth: config.usize("n_layers", 12, 1..=1024)?,
            inner,
            act: config.one_of("activation_type", &acts)?,
            tokens: config.opt_usize("embedding_size", 2..=1 << 24)?.unwrap_or(tokens),
            theta: config.f64("rope_theta", 1e4, POSITIVE)?,
            eps: config.f64("rms_norm_eps", 1e-5, POSITIVE)?,
            qkv_bias: config.bool("include_qkv_bias", false)? || bias,
            bias,
            norm_bias,
            tied: config.bool("weight_tying", true)?,
            scale_logits: config.bool("scale_logits", false)?,
            scale_input: config.bool("input_emb_norm", false)?,
        })
    }
}

impl Model for Llada {
    fn info(&self) -> ModelInfo {
        ModelInfo {
            predicts: Predicts::Logits,
            components: vec![Component::discrete("tokens", &[-1], self.tokens as u32)],
            conds: vec![],
            slots: vec![],
        }
    }

    fn build<'b>(&self, b: Builder<'b>, io: &mut ModelIo<'b>) -> Result<()> {
        const PREFIX: &str = "model.transformer";
        let width = self.heads.width();
        let (tokens, root) = (self.tokens as i64, (width as f64).sqrt());
        let shape = [tokens, width as i64];
        let table = b.weight(&format!("{PREFIX}.wte.weight"), &shape, Init::Normal(0.02));
        let mut h = table.gather(io.x(0), 0);
        if self.scale_input {
            h = h * root;
        }
        for i in 0..self.depth {
            let name = format!("{PREFIX}.blocks.{i}");
            h = b.scope(&name, |b| self.block(b, &name, h));
        }
        let h = self.norm(b, &format!("{PREFIX}.ln_f"), h);
        let logits = match self.tied {
            true => b.emit(op::MATMUL, &[h, table], &[Attr::int(attr::TRANS_B, 1)]),
            false => project(b, &format!("{PREFIX}.ff_out"), h, width, self.tokens, self.bias),
        };
        io.set_out(0, if self.scale_logits { logits / root } else { logits });
        Ok(())
    }
}

impl Llada {
    fn norm<'b>(&self, b: Builder<'b>, name: &str, x: Node<'b>) -> Node<'b> {
        let width = self.heads.width();
        let y = rms_norm(b, name, x, width, self.eps);
        match self.norm_bias {
            true => y + b.weight(&format!("{name}.bias"), &[width as i64], Init::Zeros),
            false => y,
        }
    }

    fn block<'b>(&self, b: Builder<'b>, name: &str, h: Node<'b>) -> Node<'b> {
        let (heads, width) = (self.heads, self.heads.width());
        let part = |p: &str| format!("{name}.{p}");
        let u = self.norm(b, &part("attn_norm"), h);
        let of = |p: &str, count: usize| {
            let x = project(b, &part(p), u, width, count * heads.depth, self.qkv_bias);
            split(x, count, heads.depth)
        };
        let q = rotate(b, of("q_proj", heads.count), self.theta);
        let k = rotate(b, of("k_proj", heads.shared), self.theta);
        let u = attend_split(q, k, of("v_proj", heads.shared), heads);
        let h = h + project(b, &part("attn_out"), u, width, width, self.bias);
        let u = self.norm(b, &part("ff_norm"), h);
        // `ff_proj` is the gate
        let names = [part("ff_proj"), part("up_proj"), part("ff_out")];
        let wide = Wide { width, inner: self.inner, bias: self.bias };
        h + feed_forward::gated(b, names.each_ref().map(String::as_str), u, wide, self.act)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn config_is_checked() {
        let message =
            |json: &str| Llada::create(&mut Config::parse(json).unwrap()).err().unwrap().message;
        assert_eq!(
            message(r#"{"n_heads":5}"#),
            "n_heads is 5, want heads of an even width from d_model, which is 768"
        );
        assert_eq!(
            message(r#"{"n_kv_heads":5}"#),
            "n_kv_heads is 5, want a divisor of n_heads, which is 12"
        );
        assert_eq!(message(r#"{"rope":false}"#), "rope is false, want true");
        let want = "block_type is \"sequential\", want one of llama";
        assert_eq!(message(r#"{"block_type":"sequential"}"#), want);
    }
}
