//! A number and a token of two classes in one state, the number normal given the token, with the exact network: D of
//! the number and logits of the token given both, by the transition of the number's own process.

use diffx::base::{DType, Result};
use diffx::graph::{AttrKey, Attrs, Op};
use diffx::sample::ProcessFn::LogTransition;
use diffx::sample::{Build, Component, Model, ModelInfo, ModelIo, Predicts, Space};

pub(crate) const MASK: i32 = 2;

/// Class c has weight `weight[c]`, and then the number is normal.
pub(crate) struct Joint {
    pub(crate) weight: Vec<f64>,
    pub(crate) mean: Vec<f64>,
    pub(crate) sd: f64,
    /// The number does not ask for the token: the wrong variant.
    pub(crate) blind: bool,
    pub(crate) float: DType,
}

pub(crate) fn components(float: DType) -> Vec<Component> {
    let (continuous, discrete) = (Space::Continuous, Space::Discrete);
    vec![
        Component { name: "x".into(), dtype: float, dims: vec![1], space: continuous, classes: 0 },
        Component {
            name: "c".into(),
            dtype: DType::I32,
            dims: vec![1],
            space: discrete,
            classes: 3,
        },
    ]
}

impl Model for Joint {
    fn info(&self) -> Result<ModelInfo> {
        let predicts = Predicts::Denoised;
        Ok(ModelInfo { predicts, components: components(self.float), conds: vec![], slots: vec![] })
    }

    fn build(&self, b: &mut Build<'_>, io: &mut ModelIo) -> Result<()> {
        let (y, z) = (io.x[0], io.x[1]);
        let dims = b.graph.desc(y).dims().to_vec();
        let log = b.graph.scaled(io.sigma[0], 4.0);
        let sigma = b.graph.unary(Op::Exp, log);
        let sigma = b.graph.reshape(sigma, &dims);
        let u = b.graph.square(sigma);
        let total = b.graph.shifted(u, self.sd * self.sd);
        let level = b.graph.unary(Op::Sqrt, total);
        let (mut logs, mut means) = (Vec::new(), Vec::new());
        for (c, (weight, mean)) in self.weight.iter().zip(&self.mean).enumerate() {
            let from = b.graph.full(*mean, self.float, &dims);
            let log = b.process(0, LogTransition, 64, &[y, from, level])?[0];
            let g = &mut b.graph;
            let log = g.shifted(log, weight.ln());
            let token = g.cast(z, self.float);
            let is = g.compare(Op::Eq, token, c as f64);
            let open = g.compare(Op::Eq, token, f64::from(MASK));
            let fits = g.binary(Op::Or, is, open);
            logs.push(if self.blind { log } else { g.choose_or(fits, log, -1e30) });
            let (near, far) = (g.scaled(y, self.sd * self.sd), g.scaled(u, *mean));
            let sum = g.add(near, far);
            means.push(g.div(sum, total));
        }
        let g = &mut b.graph;
        let all = g.concat(&logs, 1);
        let share = g.emit(Op::Softmax, &[all], Attrs::NONE.with_int(AttrKey::Axis, 1));
        let each = g.concat(&means, 1);
        let part = g.mul(share, each);
        io.out[0] = g.reduce(Op::Sum, part, &[1], true);
        let never = g.full(-1e30, self.float, &dims);
        let row = g.concat(&[logs[0], logs[1], never], 1);
        io.out[1] = g.reshape(row, &[dims[0], 1, 3]);
        Ok(())
    }
}
