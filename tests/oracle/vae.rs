//! The autoencoder of latent diffusion.

use crate::array::Array;
use crate::case::Test;
use crate::compare::Got;
use crate::network::{Network, parameters};
use crate::{Answer, Row};

pub(crate) const KINDS: &[Row] = &[
    Row { kind: "forward.vae_decode", cases: &["sd15"], run: decode },
    Row { kind: "forward.vae_decode", cases: &["sd35"], run: decode_latents },
    Row { kind: "forward.vae_encode", cases: &["sd15"], run: encode },
    Row { kind: "grad.vae_decoder", cases: &["sd15"], run: loss },
];

/// Of a denoiser's latents to a picture.
const DECODE_LATENTS: u32 = 0;
/// Forms of the network in its own units.
const DECODE: u32 = 2;
const ENCODE: u32 = 3;
/// ... and without the layer before the decoder.
const DECODER: u32 = 4;

/// The autoencoder of a folder, or of a file of a whole pipeline by the config in the case's folder of the same.
fn open(test: &Test) -> Answer<Network> {
    let path = test.checkpoint()?;
    if path.is_dir() {
        return Network::open(&path);
    }
    let config = test.checkpoint_of("pipe/vae")?;
    Network::open_with(&path, "base", &serde_json::json!({ "config": config }).to_string())
}

fn decode(test: &Test, got: &mut Got) -> Answer {
    let network = open(test)?;
    got.put("sample", network.forward(DECODE, &[("x", &test.input("z")?)])?);
    Ok(())
}

/// A denoiser's latents, whose units the config says.
fn decode_latents(test: &Test, got: &mut Got) -> Answer {
    let network = Network::open(&test.checkpoint()?)?;
    let latents = test.input("latents")?;
    got.put("sample", network.forward(DECODE_LATENTS, &[("x", &latents)])?);
    let (scale, shift) = (test.number("scaling_factor")?, test.number("shift_factor")?);
    got.put("z_unscaled", latents.map(|z| z / scale + shift));
    Ok(())
}

fn encode(test: &Test, got: &mut Got) -> Answer {
    let network = Network::open(&test.checkpoint()?)?;
    let moments = network.forward(ENCODE, &[("x", &test.input("image")?)])?;
    let (mut dims, n) = (moments.dims.clone(), moments.stride());
    dims[1] /= 2;
    for (half, name) in ["mean", "logvar"].into_iter().enumerate() {
        let rows = moments.values.chunks(n);
        let part = rows.flat_map(|r| r[half * n / 2..(half + 1) * n / 2].to_vec()).collect();
        got.put(name, Array::new(&dims, part));
    }
    Ok(())
}

/// mean decoder(z)², by the decoder's weights.
fn loss(test: &Test, got: &mut Got) -> Answer {
    let network = Network::open(&test.checkpoint()?)?;
    let z = test.input("z")?;
    let inputs = [("x", &z)];
    let y = network.forward(DECODER, &inputs)?;
    got.put("loss", Array::new(&[], vec![y.map(|v| v * v).mean()]));
    let slope = y.map(|v| 2.0 * v / y.values.len() as f64);
    let names = parameters(test)?;
    let mut by: Vec<String> = names.iter().map(|n| format!("weight.decoder.{n}")).collect();
    by.push("x".into());
    let grads = network.gradients(DECODER, &inputs, &slope, &by)?;
    for name in &names {
        got.put_grad(name, grads[&format!("weight.decoder.{name}")].clone());
    }
    got.put("grad_in.z", grads["x"].clone());
    Ok(())
}
