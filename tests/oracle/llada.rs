//! LLaDA.

use crate::array::Array;
use crate::case::Test;
use crate::compare::Got;
use crate::network::{Network, put_gradients};
use crate::{Answer, Row};

pub(crate) const KINDS: &[Row] = &[
    Row { kind: "forward.llada", cases: &[], run: forward },
    Row { kind: "grad.mdm_loss", cases: &["llada"], run: gradient },
];

fn forward(test: &Test, got: &mut Got) -> Answer {
    let net = Network::open(&test.checkpoint()?)?;
    got.put("logits", net.forward(0, &[("tokens", &test.input("input_ids")?)])?);
    Ok(())
}

/// Cross entropies of masked tokens over how probable their masking was.
fn gradient(test: &Test, got: &mut Got) -> Answer {
    let net = Network::open(&test.checkpoint()?)?;
    let (ids, masked) = (test.input("input_ids")?, test.input("masked")?);
    let (p, mask) = (test.input("p_mask")?, test.number("mask_id")?);
    let noisy = ids.zip(&masked, |id, m| if m != 0.0 { mask } else { id });
    let inputs = [("tokens", &noisy)];
    let logits = net.forward(0, &inputs)?;
    let (classes, n) = (logits.dims[2], ids.values.len());
    let mut cotangent = logits.map(|_| 0.0);
    let mut loss = 0.0;
    for i in (0..n).filter(|i| masked.values[*i] != 0.0) {
        let row = &logits.values[i * classes..][..classes];
        let most = row.iter().fold(f64::NEG_INFINITY, |m, v| m.max(*v));
        let sum: f64 = row.iter().map(|v| (v - most).exp()).sum();
        let (id, weight) = (ids.values[i] as usize, 1.0 / p.values[i] / n as f64);
        loss += weight * (most + sum.ln() - row[id]);
        for (k, v) in row.iter().enumerate() {
            let hit = f64::from(u8::from(k == id));
            cotangent.values[i * classes + k] = weight * ((v - most).exp() / sum - hit);
        }
    }
    got.put("loss", Array::new(&[], vec![loss]));
    put_gradients(test, &net, &inputs, &cotangent, got)
}
