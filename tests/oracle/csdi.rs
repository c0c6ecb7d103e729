//! CSDI's network.

use crate::array::Array;
use crate::case::Test;
use crate::compare::Got;
use crate::network::{Network, put_gradients};
use crate::{Answer, Row};
use serde_json::json;

pub(crate) const KINDS: &[Row] = &[
    Row { kind: "forward.csdi", cases: &[], run: forward },
    Row { kind: "grad.csdi", cases: &[], run: gradient },
];

struct Given {
    net: Network,
    /// Names of ours, and the reference's inputs behind them.
    inputs: Vec<(&'static str, Array)>,
}

impl Given {
    fn refs(&self) -> Vec<(&str, &Array)> {
        self.inputs.iter().map(|(n, a)| (*n, a)).collect()
    }
}

/// The reference takes the sizes from its input; our plugin has keys for them.
fn read(test: &Test) -> Answer<Given> {
    let x = test.input("x")?;
    let &[rows, channels, series, length] = &x.dims[..] else {
        return Err(format!("x is {:?}, want rank 4", x.dims));
    };
    let sizes = json!({"model": {"target_dim": series, "length": length}});
    let net = Network::open_with(&test.checkpoint()?, "base", &sizes.to_string())?;
    let n = series * length;
    let channel = |c: usize| {
        let values = (0..rows).flat_map(|r| &x.values[(r * channels + c) * n..][..n]);
        Array::new(&[rows, series, length], values.copied().collect())
    };
    let mut inputs = vec![
        ("x", channel(channels - 1)),
        ("sigma", test.input("diffusion_step")?),
        ("cond_info", test.input("cond_info")?),
    ];
    if channels == 2 {
        inputs.push(("cond_obs", channel(0)));
    }
    Ok(Given { net, inputs })
}

fn forward(test: &Test, got: &mut Got) -> Answer {
    let given = read(test)?;
    got.put("eps", given.net.forward(0, &given.refs())?);
    Ok(())
}

fn gradient(test: &Test, got: &mut Got) -> Answer {
    let given = read(test)?;
    let out = given.net.forward(0, &given.refs())?;
    let error = out.zip(&test.input("target")?, |a, b| a - b);
    got.put("loss", Array::new(&[], vec![error.map(|e| e * e).mean()]));
    let n = error.values.len() as f64;
    put_gradients(test, &given.net, &given.refs(), &error.map(|e| 2.0 * e / n), got)
}
