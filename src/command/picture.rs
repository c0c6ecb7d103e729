//! Jobs about pictures: classes by number or name, a picture to set out from, a mask of what is to be made anew, and the
//! samples of a run as one PNG. Where the model has an autoencoder the state is its latents.

use super::args::Pictures;
use super::{npy, page};
use diffx::base::{DType, Desc, Result};
use diffx::engine::{Evaluation, OpenModel};
use diffx::mem::{Budget, Tensor};
use diffx::sample::{Cond, start_input};
use diffx::train::data::png::decode;
use diffx::train::data::reader::Channels;
use diffx::weights::convert;
use diffx::{bail, fail};
use serde_json::{Value, json};
use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;

/// Slot of a network that makes pictures of samples, and the form of it that makes latents of pictures.
const AUTOENCODER: &str = "vae";
const ENCODE: u32 = 1;

/// Steps that are made of a picture where nobody says, as diffusers has it.
const STRENGTH: f64 = 0.8;

/// Samples where nobody says how many.
pub(super) const SAMPLES: usize = 4;

/// What the words about pictures come to.
#[derive(Default)]
pub(super) struct Job {
    /// Samples are pictures, or become some.
    pub(super) pictures: bool,
    /// The pipeline is to make them.
    pub(super) decode: bool,
    pub(super) strength: Option<f64>,
    /// Settings of guidance beside those that are named.
    pub(super) guidance: Vec<Value>,
    /// What the job sets out from.
    start: Option<(String, Vec<usize>, Vec<f64>)>,
    /// The picture and where it stays: shown there as it was.
    kept: Option<(Planes, Vec<bool>)>,
}

/// Channels of a picture, one behind the other, each row by row; -1 to 1.
struct Planes {
    dims: [usize; 3],
    values: Vec<f64>,
}

impl Job {
    pub(super) fn new(
        model: &Arc<OpenModel>,
        args: &Pictures,
        networks: Option<&Value>,
    ) -> Result<Self> {
        let Some(part) = model.manifest.components.first() else { return Ok(Self::default()) };
        let lent = networks.is_some_and(|n| n.get(AUTOENCODER).is_some());
        let decode = model.network(AUTOENCODER).is_some() || lent;
        let dims: Vec<usize> = part.dims.iter().map(|d| usize::try_from(*d).unwrap_or(0)).collect();
        let own = matches!(dims.as_slice(), [1 | 3 | 4, h, w] if *h > 1 && *w > 1);
        let mut job = Self { pictures: own || decode, decode, ..Self::default() };
        if let Some(scale) = args.guidance_scale {
            job.guidance.push(json!({"id": "cfg", "config": {"scale": scale}}));
        }
        let Some(path) = &args.image else {
            if args.mask.is_some() || args.strength.is_some() {
                bail!(Invalid, "--mask and --strength are about a picture: name it with --image");
            }
            return Ok(job);
        };
        let &[channels, height, width] = &dims[..] else {
            bail!(Unsupported, "--image: samples are {dims:?}, which are no pictures");
        };
        let budget = model.engine.budget();
        let image = read(path, if decode { 3 } else { channels }, budget)?;
        let x = match decode {
            true => encoded(model, &image, [channels, height, width])?,
            false => image.values.clone(),
        };
        if x.len() != channels * height * width {
            bail!(Invalid, "{}: has sizes {:?}, samples have {dims:?}", path.display(), image.dims);
        }
        match &args.mask {
            None => job.strength = Some(args.strength.unwrap_or(STRENGTH)),
            Some(mask) => {
                let anew = masked(mask, image.dims, budget)?;
                let at = known(&anew, image.dims, [channels, height, width]);
                if at.is_empty() {
                    bail!(Invalid, "{}: nothing of the picture is to stay", mask.display());
                }
                let values = at.iter().map(|k| shortest(x[*k] as f32)); // places of a sample
                let values = values.collect::<Result<Vec<Value>>>()?;
                job.guidance.push(json!({"id": "replace", "config": {"at": at, "values": values}}));
                job.strength = args.strength;
                job.kept = Some((image, anew.iter().map(|a| !a).collect()));
            }
        }
        if job.strength.is_some() {
            job.start = Some((start_input(&part.name), dims, x));
        }
        Ok(job)
    }

    /// What it sets out from, in the type of the state.
    pub(super) fn start(
        &self,
        float: DType,
        budget: &Arc<Budget>,
    ) -> Result<Option<(String, Arc<Tensor>)>> {
        let Some((name, dims, values)) = &self.start else { return Ok(None) };
        let tensor = Tensor::from_f64(dims, values, budget)?;
        Ok(Some((name.clone(), Arc::new(convert::convert(tensor, float, budget)?))))
    }

    /// Samples `[n, channels, height, width]` as one picture, in rows of about as many as there are rows.
    pub(super) fn png(&self, samples: &Tensor) -> Result<Vec<u8>> {
        let &[n, channels @ (1 | 3 | 4), height, width] = samples.dims() else {
            bail!(Unsupported, "samples of {} are no pictures", samples.desc());
        };
        let mut values = super::output::numbers(samples)?;
        let size = height * width;
        if let Some((image, kept)) =
            self.kept.as_ref().filter(|k| k.0.dims == [channels, height, width])
        {
            for sample in values.chunks_exact_mut((channels * size).max(1)) {
                for (i, v) in sample.iter_mut().enumerate() {
                    if kept[i % size] {
                        *v = image.values[i]; // of the same sizes
                    }
                }
            }
        }
        let columns = (1..=n).find(|c| c * c >= n).unwrap_or(1);
        let rows = n.div_ceil(columns);
        let mut out = vec![0_u8; rows * columns * size * channels];
        for i in 0..n {
            let (top, left) = (i / columns * height, i % columns * width);
            for c in 0..channels {
                for p in 0..size {
                    let v = values[(i * channels + c) * size + p];
                    let at = (top + p / width) * columns * width + left + p % width;
                    out[at * channels + c] = ((v + 1.0) * 127.5).round().clamp(0.0, 255.0) as u8;
                }
            }
        }
        encode(&out, columns * width, rows * height, channels)
    }
}

/// The shortest number that reads back as the same f32: a config has a length.
fn shortest(v: f32) -> Result<Value> {
    match serde_json::from_str(&v.to_string()) {
        Ok(value) => Ok(value),
        Err(_) => bail!(Invalid, "--image: a value of the picture is {v}"),
    }
}

fn encode(pixels: &[u8], width: usize, height: usize, channels: usize) -> Result<Vec<u8>> {
    let side = |n: usize| u32::try_from(n).map_err(|_| fail!(Unsupported, "{n} pixels on a side"));
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, side(width)?, side(height)?);
    encoder.set_color(match channels {
        1 => png::ColorType::Grayscale,
        3 => png::ColorType::Rgb,
        _ => png::ColorType::Rgba,
    });
    encoder.set_depth(png::BitDepth::Eight);
    let done = encoder.write_header().and_then(|mut w| {
        w.write_image_data(pixels)?;
        w.finish()
    });
    match done {
        Ok(()) => Ok(out),
        Err(e) => bail!(Internal, "PNG: {e}"),
    }
}

/// Classes of the samples as the model's condition takes them: numbers, or names that the folder gives them.
pub(super) fn classes(
    model: &OpenModel,
    wanted: &[Cond],
    given: &[String],
    n: usize,
) -> Result<Option<(String, Arc<Tensor>)>> {
    if given.is_empty() {
        return Ok(None);
    }
    let names = ["class_labels", "label", "y"];
    let Some(cond) = names.iter().find_map(|name| wanted.iter().find(|c| c.name == *name)) else {
        bail!(Invalid, "--class: the model takes no classes");
    };
    let numbers = given.iter().map(|text| class(model, text)).collect::<Result<Vec<_>>>()?;
    let per_sample = cond.desc.shape.elements();
    let mut values = Vec::with_capacity(n * per_sample);
    for i in 0..n {
        let class = numbers[i % numbers.len()]; // some are given
        if !cond.desc.dtype.is_float() || per_sample == 1 {
            values.push(class as f64);
            continue;
        }
        if class >= per_sample as u64 {
            bail!(Invalid, "--class {class}, the model has {per_sample}");
        }
        values.extend((0..per_sample as u64).map(|k| f64::from(u8::from(k == class))));
    }
    let budget = model.engine.budget();
    let want = Desc::new(cond.desc.dtype, &[&[n], cond.desc.dims()].concat())?;
    let tensor = super::sample::of_type(&cond.name, want, &values, budget)?;
    Ok(Some((cond.name.clone(), Arc::new(tensor))))
}

fn class(model: &OpenModel, text: &str) -> Result<u64> {
    let own = page::classes(&model.manifest.data);
    if let Some(number) = own.iter().position(|name| name == text) {
        return Ok(number as u64);
    }
    if let Ok(number) = text.parse() {
        // beyond them the network has at most the class of no class
        if !own.is_empty() && number >= own.len() as u64 {
            bail!(Invalid, "--class {number}, the model has {}, counted from 0", own.len());
        }
        return Ok(number);
    }
    if !own.is_empty() {
        bail!(NotFound, "--class {text:?}, want all, or one of: {}", own.join(", "));
    }
    let labels = model.manifest.provenance.get("id2label").and_then(Value::as_object);
    let is =
        |v: &Value| v.as_str().is_some_and(|v| v == text || v.split(',').any(|p| p.trim() == text));
    let found = labels.into_iter().flatten().find(|(_, v)| is(v));
    match found.and_then(|(k, _)| k.parse().ok()) {
        Some(number) => Ok(number),
        None if labels.is_none() => {
            bail!(Invalid, "--class {text:?}, want a number: the model names no classes")
        }
        None => bail!(NotFound, "--class: no class of the model is called {text:?}"),
    }
}

/// The mean of the latents of a picture, in the units of the denoiser.
fn encoded(model: &Arc<OpenModel>, image: &Planes, latent: [usize; 3]) -> Result<Vec<f64>> {
    let Some(network) = model.network(AUTOENCODER) else {
        bail!(Unsupported, "--image: the model itself has no network {AUTOENCODER} to encode with");
    };
    let info = network.info()?;
    let Some(component) = info.components.first() else {
        bail!(Internal, "an autoencoder without a component");
    };
    let [c, h, w] = image.dims;
    let budget = model.engine.budget();
    let x = Tensor::from_f64(&[1, c, h, w], &image.values, budget)?;
    let x = Arc::new(convert::convert(x, DType::F32, budget)?);
    let name = component.name.clone();
    let (inputs, outputs) = ([(name.clone(), x)], [name]);
    let asked = Evaluation { slot: AUTOENCODER, phase: ENCODE, inputs: &inputs, outputs: &outputs };
    let moments = model.evaluate(&asked, DType::F32)?;
    let Some(moments) = moments.first() else { bail!(Internal, "an encoder without an output") };
    if moments.dims() != [1, 2 * latent[0], latent[1], latent[2]] {
        bail!(
            Invalid,
            "a picture of {w} by {h} pixels becomes latents of {:?} with their variances, samples have {latent:?}",
            &moments.dims()[1..]
        );
    }
    let mut mean = super::output::numbers(moments)?;
    mean.truncate(mean.len() / 2);
    Ok(mean)
}

/// A picture of a .png or .npy file.
fn read(path: &Path, channels: usize, budget: &Arc<Budget>) -> Result<Planes> {
    let label = path.display();
    if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("npy")) {
        let tensor = npy::read(path, budget)?;
        let values = convert::to_f64(&tensor)?;
        return match tensor.dims() {
            &[c, h, w] | &[1, c, h, w] if c == channels => Ok(Planes { dims: [c, h, w], values }),
            other => {
                bail!(Invalid, "{label}: is {other:?}, want {channels} channels, rows, columns")
            }
        };
    }
    let kind = match channels {
        1 => Channels::Grey,
        3 => Channels::Rgb,
        4 => Channels::Rgba,
        n => bail!(Unsupported, "{label}: a sample has {n} channels, a .png 1, 3 or 4: give .npy"),
    };
    let bytes = std::fs::read(path).map_err(|e| fail!(Io, "{label}: {e}"))?;
    let mut pixels = Vec::new();
    let (width, height) =
        decode(Cursor::new(&bytes), kind, budget, &mut pixels).map_err(|e| e.within(&label))?;
    let size = width * height;
    let value = |i: usize| f64::from(pixels[i % size * channels + i / size]) / 127.5 - 1.0;
    Ok(Planes {
        dims: [channels, height, width],
        values: (0..size * channels).map(value).collect(),
    })
}

/// Which pixels are to be made anew: white ones, or numbers above a half.
fn masked(path: &Path, [_, height, width]: [usize; 3], budget: &Arc<Budget>) -> Result<Vec<bool>> {
    let label = path.display();
    let is_array = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("npy"));
    let (dims, values) = if is_array {
        let tensor = npy::read(path, budget)?;
        let &[.., h, w] = tensor.dims() else { bail!(Invalid, "{label}: is no picture") };
        ([h, w], convert::to_f64(&tensor)?.into_iter().map(|v| v > 0.5).collect::<Vec<_>>())
    } else {
        let mask = read(path, 1, budget)?;
        ([mask.dims[1], mask.dims[2]], mask.values.iter().map(|v| *v > 0.0).collect())
    };
    if dims != [height, width] || values.len() != height * width {
        bail!(
            Invalid,
            "{label}: the mask is {} by {} pixels, the picture {width} by {height}",
            dims[1],
            dims[0]
        );
    }
    Ok(values)
}

/// Places of a sample that stay: those under which no pixel is made anew.
fn known(anew: &[bool], [_, rows, columns]: [usize; 3], [c, h, w]: [usize; 3]) -> Vec<usize> {
    let mut touched = vec![false; h * w];
    for (p, _) in anew.iter().enumerate().filter(|(_, anew)| **anew) {
        let (row, column) =
            (p / columns.max(1) * h / rows.max(1), p % columns.max(1) * w / columns.max(1));
        if let Some(cell) = touched.get_mut(row * w + column) {
            *cell = true;
        }
    }
    (0..c * h * w).filter(|k| !touched[k % (h * w)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_of_latents_stays_where_no_pixel_is_made_anew() {
        let mut anew = vec![false; 16];
        anew[5] = true; // row 1, column 1: the first of four cells
        assert_eq!(known(&anew, [3, 4, 4], [2, 2, 2]), [1, 2, 3, 5, 6, 7]);
        assert_eq!(known(&[true; 16], [3, 4, 4], [2, 2, 2]), [0; 0]);
    }

    #[test]
    fn samples_stand_side_by_side() {
        let budget = Budget::unlimited();
        let four: Vec<f32> = (0..4).flat_map(|i| [i as f32 / 2.0 - 1.0; 2]).collect();
        let samples = Tensor::from_f32(&[4, 1, 1, 2], &four, &budget).unwrap();
        let png = Job::default().png(&samples).unwrap();
        let mut pixels = Vec::new();
        let size = decode(Cursor::new(&png), Channels::Grey, &budget, &mut pixels).unwrap();
        assert_eq!((size, pixels), ((4, 2), vec![0, 0, 64, 64, 128, 128, 191, 191]));
    }
}
