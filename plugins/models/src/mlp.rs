//! A multilayer perceptron for vectors and small arrays: residual blocks whose norms are shifted and scaled by the
//! noise embedding, conditions concatenated to the input.
//!
//! Config: `dims` of one sample, `width`, `depth`, `conds` {name: number of features}, `predicts`, `out` (features of
//! the output when it is not shaped as the input, for heads such as Doob's h).

use crate::block::embedding::noise_embedding;
use crate::block::layer::EPS;
use crate::block::modulation::{modulated_norm, modulation};
use crate::block::predicts::PREDICTS;
use crate::block::{Start, linear};
use core::ffi::CStr;
use diffx_plugin::{
    Builder, Component, Cond, Config, Error, FINITE, Factory, Model, ModelInfo, ModelIo, Node,
    Predicts, Result, schema,
};

pub(crate) struct Mlp {
    dims: Vec<i64>,
    features: usize,
    width: usize,
    depth: usize,
    conds: Vec<(String, usize)>,
    null_value: f64,
    predicts: Predicts,
    /// 0 = shaped as the input.
    out: usize,
}

const MOST: usize = 1 << 20;

impl Factory for Mlp {
    const ID: &'static CStr = c"org.diffx.mlp";
    const SUMMARY: &'static CStr = c"residual multilayer perceptron for vectors and small arrays";
    const SCHEMA: Option<&'static CStr> = schema![
        "dims": integers "shape of one sample; default [2]", minimum 1, maximum 1048576;
        "width": integer "features of a block", default 128, minimum 1, maximum 65536;
        "depth": integer "blocks", default 3, minimum 0, maximum 256;
        "conds": sizes "conditions: name and number of features", minimum 1, maximum 1048576;
        "null_value": number "what stands for a condition that is not given", default 0;
        "predicts": string "what the output means", default "residual", enum ["residual", "denoised", "noise", "velocity", "score", "value", "v"];
        "out": integer "features of the output; 0 = shaped as the input", default 0, minimum 0, maximum 1048576;
    ];

    fn create(config: &mut Config) -> Result<Self> {
        let dims = config.usizes("dims", 1..=MOST)?.unwrap_or_else(|| vec![2]);
        let features = dims.iter().try_fold(1_usize, |n, d| n.checked_mul(*d));
        let Some(features) = features.filter(|n| *n <= MOST) else {
            return Err(Error::invalid(format!("dims are {dims:?}, want at most {MOST} numbers")));
        };
        Ok(Self {
            dims: dims.iter().map(|d| *d as i64).collect(),
            features,
            width: config.usize("width", 128, 1..=65536)?,
            depth: config.usize("depth", 3, 0..=256)?,
            conds: config.sizes("conds", 1..=MOST)?,
            null_value: config.f64("null_value", 0.0, FINITE)?,
            predicts: config.one_of("predicts", PREDICTS)?,
            out: config.usize("out", 0, 0..=MOST)?,
        })
    }
}

impl Model for Mlp {
    fn info(&self) -> ModelInfo {
        let cond = |(name, size): &(String, usize)| Cond {
            name: name.clone(),
            dims: vec![*size as i64],
            dtype: 0,
            null_value: self.null_value,
        };
        ModelInfo {
            predicts: self.predicts,
            components: vec![Component::continuous("x", &self.dims)],
            conds: self.conds.iter().map(cond).collect(),
            slots: vec![],
        }
    }

    fn build<'b>(&self, b: Builder<'b>, io: &mut ModelIo<'b>) -> Result<()> {
        let (x, width) = (io.x(0), self.width);
        let mut inputs = vec![x.reshape(&[-1, self.features as i64])];
        inputs.extend((0..self.conds.len()).map(|i| io.cond(i)));
        let n_in = self.features + self.conds.iter().map(|c| c.1).sum::<usize>();
        let joined = if inputs.len() == 1 { inputs[0] } else { b.concat(&inputs, -1) };
        let embedding = noise_embedding(b, io.sigma(0), width);
        let mut h = linear(b, "input", joined, n_in, width, Start::Spread) + embedding;
        for i in 0..self.depth {
            h = b.scope(&format!("blocks.{i}"), |b| block(b, i, h, embedding, width));
        }
        let outputs = if self.out == 0 { self.features } else { self.out };
        let y = linear(b, "output", h.layer_norm(EPS), width, outputs, Start::Zero);
        io.set_out(0, if self.out == 0 { y.reshape(&x.shape()) } else { y });
        Ok(())
    }
}

fn block<'b>(b: Builder<'b>, i: usize, h: Node<'b>, embedding: Node<'b>, width: usize) -> Node<'b> {
    let name = |part: &str| format!("blocks.{i}.{part}");
    let m = modulation(b, &name("mod"), embedding, width, 2, 2);
    let u = modulated_norm(h, m[0], m[1], EPS);
    let u = linear(b, &name("fc1"), u, width, width, Start::Spread).silu();
    h + linear(b, &name("fc2"), u, width, width, Start::Spread)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mlp(json: &str) -> Result<Mlp> {
        let mut config = Config::parse(json)?;
        let mlp = Mlp::create(&mut config)?;
        config.finish(Mlp::SCHEMA).map(|()| mlp)
    }

    #[test]
    fn declares_state_and_conditions() {
        let m = mlp(r#"{"dims":[3,2],"conds":{"y":4},"null_value":-1}"#).unwrap();
        let info = m.info();
        assert_eq!(m.features, 6);
        assert_eq!(info.components, [Component::continuous("x", &[3, 2])]);
        assert_eq!((info.conds[0].name.as_str(), &info.conds[0].dims[..]), ("y", &[4][..]));
        assert_eq!(info.conds[0].null_value, -1.0);
    }

    #[test]
    fn config_is_checked() {
        let message = |json: &str| mlp(json).err().unwrap().message;
        assert_eq!(
            message(r#"{"dims":[1000000,1000000]}"#),
            "dims are [1000000, 1000000], want at most 1048576 numbers"
        );
        let want = "config has no key widht: want one of dims, width, depth, conds, null_value, \
                    predicts, out";
        assert_eq!(message(r#"{"widht":3}"#), want);
    }
}
