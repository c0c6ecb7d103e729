//! Networks of tables: TabDDPM, TabSyn.

use crate::array::Array;
use crate::case::Test;
use crate::compare::Got;
use crate::network::{Network, put_gradients};
use crate::{Answer, Row};

pub(crate) const KINDS: &[Row] = &[
    Row { kind: "forward.tabddpm", cases: &[], run: tabddpm },
    Row { kind: "grad.tabddpm", cases: &[], run: tabddpm_gradient },
    Row { kind: "forward.tabsyn", cases: &[], run: tabsyn },
    Row { kind: "forward.score_transformer", cases: &[], run: score_transformer },
    Row { kind: "grad.score_transformer", cases: &[], run: score_transformer_gradient },
];

/// The network, and its inputs: a target where it takes one and one is given.
fn read(test: &Test) -> Answer<(Network, Vec<(&'static str, Array)>)> {
    let net = Network::open(&test.checkpoint()?)?;
    let mut inputs = vec![("x", test.input("x")?), ("sigma", test.input("timesteps")?)];
    if !net.model.info().conds.is_empty() && test.has_input("y") {
        let y = test.input("y")?;
        inputs.push(("y", y.reshaped(&y.dims[..1])));
    }
    Ok((net, inputs))
}

fn refs<'a>(inputs: &'a [(&'static str, Array)]) -> Vec<(&'a str, &'a Array)> {
    inputs.iter().map(|(n, a)| (*n, a)).collect()
}

fn tabddpm(test: &Test, got: &mut Got) -> Answer {
    let (net, inputs) = read(test)?;
    got.put("out", net.forward(0, &refs(&inputs))?);
    Ok(())
}

/// Mean squares of what is left of a target.
fn squares(test: &Test, net: &Network, inputs: &[(&str, &Array)], got: &mut Got) -> Answer<Array> {
    let error = net.forward(0, inputs)?.zip(&test.input("target")?, |a, b| a - b);
    got.put("loss", Array::new(&[], vec![error.map(|e| e * e).mean()]));
    let n = error.values.len() as f64;
    Ok(error.map(|e| 2.0 * e / n))
}

fn tabddpm_gradient(test: &Test, got: &mut Got) -> Answer {
    let (net, inputs) = read(test)?;
    let inputs = refs(&inputs);
    let cotangent = squares(test, &net, &inputs, got)?;
    let mut by_x = net.gradients(0, &inputs, &cotangent, &["x".to_owned()])?;
    got.put("grad_in.x", by_x.remove("x").ok_or("no gradient by x")?);
    put_gradients(test, &net, &inputs, &cotangent, got)
}

/// The network alone is asked at x/(1 + sigma) and ln(sigma)/4; D is what its process makes of it, with the deviation of
/// the data that its config says.
fn tabsyn(test: &Test, got: &mut Got) -> Answer {
    let net = Network::open(&test.checkpoint()?)?;
    let (x, sigma) = (test.input("x")?, test.input("sigma")?);
    let mut scaled = x.clone();
    for (i, v) in scaled.values.iter_mut().enumerate() {
        *v /= 1.0 + sigma.values[i / x.stride()];
    }
    let noise = sigma.map(|s| s.ln() / 4.0);
    got.put("F", net.forward(0, &[("x", &scaled), ("sigma", &noise)])?);
    got.put("D", net.denoise(&[("x", &x), ("sigma", &sigma)])?);
    Ok(())
}

fn score_transformer(test: &Test, got: &mut Got) -> Answer {
    let net = Network::open(&test.checkpoint()?)?;
    let (x, t) = (test.input("x")?, test.input("t")?);
    got.put("out", net.forward(0, &[("x", &x), ("sigma", &t)])?);
    Ok(())
}

fn score_transformer_gradient(test: &Test, got: &mut Got) -> Answer {
    let net = Network::open(&test.checkpoint()?)?;
    let (x, t) = (test.input("x")?, test.input("t")?);
    let inputs = [("x", &x), ("sigma", &t)];
    let cotangent = squares(test, &net, &inputs, got)?;
    put_gradients(test, &net, &inputs, &cotangent, got)
}
