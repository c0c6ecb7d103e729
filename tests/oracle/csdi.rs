//! CSDI's network.

use crate::array::Array;
use crate::case::Test;
use crate::compare::Got;
use crate::network::{Network, put_gradients};
use crate::{Answer, Row};
use serde_json::{Value, json};

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

/// The reference takes the sizes from its input; our plugin has keys for them, which are written beside the others.
fn read(test: &Test) -> Answer<Given> {
    let x = test.input("x")?;
    let &[rows, channels, series, length] = &x.dims[..] else {
        return Err(format!("x is {:?}, want rank 4", x.dims));
    };
    let from = test.checkpoint()?;
    let text = std::fs::read_to_string(from.join("config.json")).map_err(|e| e.to_string())?;
    let mut config: Value = serde_json::from_str(&text).map_err(|e| e.to_string())?;
    (config["target_dim"], config["length"]) = (json!(series), json!(length));
    let name = format!("diffx-oracle-{}-{}-{}", std::process::id(), test.case, test.name);
    let folder = std::env::temp_dir().join(name);
    let io = |e: std::io::Error| e.to_string();
    std::fs::create_dir_all(&folder).map_err(io)?;
    std::fs::write(folder.join("config.json"), config.to_string()).map_err(io)?;
    std::fs::copy(from.join("model.safetensors"), folder.join("model.safetensors")).map_err(io)?;
    let net = Network::open(&folder);
    std::fs::remove_dir_all(&folder).map_err(io)?;
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
    Ok(Given { net: net?, inputs })
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
