//! The reader of pictures: a folder of PNG files of one size to `x` [examples, height, width, channels] (or channels first)
//! in [-1, 1], with labels from the folders below it or from a CSV file. Files are taken in the order of their paths, so
//! that an example has the same number on every machine; reflections stand behind all of them, in the same order.

use super::Tables;
use super::reader::{Channels, Labels, Layout, Read, Reader, Source};
use crate::base::{DType, Desc, Result};
use crate::mem::{Budget, Tensor, zeros};
use crate::weights::plain_file;
use crate::{bail, fail};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read as _, Seek};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Largest file, and largest picture once it is unpacked.
const MAX_FILE: u64 = 64 << 20;
const MAX_UNPACKED: usize = 256 << 20;
const MAX_FILES: usize = 1 << 22;
const MAX_DEPTH: usize = 32;

/// Folders of PNG files.
#[derive(Debug)]
pub struct Pictures;

impl Reader for Pictures {
    fn kind(&self) -> &'static str {
        "png"
    }

    fn keys(&self) -> &'static [&'static str] {
        &["channels", "layout", "mirror", "labels", "held_out"]
    }

    fn takes(&self, path: &Path) -> bool {
        path.is_dir()
    }

    fn read(&self, source: &Source, budget: &Arc<Budget>) -> Result<Read> {
        let root = source.only_path()?;
        let mut found = Found::default();
        walk(root, &mut Vec::new(), &mut found)?;
        found.pictures.sort();
        let (labels, classes) = labels(&source.labels, &mut found)?;
        let Some(first) = found.pictures.first() else {
            bail!(NotFound, "{}: no .png files there", root.display());
        };
        let (width, height) = file(&root.join(first), source.channels, budget, &mut Vec::new())?;
        let size = [height, width, source.channels.count()];
        let reflected = |p: &PathBuf| source.mirror.iter().any(|m| begins(p, m));
        let twice: Vec<usize> =
            (0..found.pictures.len()).filter(|i| reflected(&found.pictures[*i])).collect();
        let missed = source.mirror.iter().find(|m| !found.pictures.iter().any(|p| begins(p, m)));
        if let Some(missed) = missed {
            bail!(
                Invalid,
                "data: mirror names {missed:?}, and the path of no picture below {} begins so",
                root.display()
            );
        }
        let n = found.pictures.len() + twice.len();
        let desc = Desc::new(DType::F32, &[&[n][..], &source.layout.dims(size)].concat())?;
        let mut x = Tensor::new(desc, budget).map_err(|e| e.within(format!("{n} pictures")))?;
        let mut pixels = Vec::new();
        let each = (height * width * source.channels.count() * 4).max(1);
        let (once, again) = x.bytes_mut().split_at_mut(found.pictures.len() * each);
        let mut again = again.chunks_exact_mut(each);
        for (name, cells) in found.pictures.iter().zip(once.chunks_exact_mut(each)) {
            let path = root.join(name);
            let this = file(&path, source.channels, budget, &mut pixels)?;
            if this != (width, height) {
                bail!(
                    Invalid,
                    "{}: is {} by {} pixels, {} is {width} by {height}; want one size",
                    path.display(),
                    this.0,
                    this.1,
                    first.display()
                );
            }
            place(&pixels, size, source.layout, false, cells);
            if reflected(name)
                && let Some(cells) = again.next()
            {
                place(&pixels, size, source.layout, true, cells);
            }
        }
        let mut train = Tables::default();
        train.add("x", Arc::new(x), budget)?;
        if let Some(mut labels) = labels {
            labels.extend(twice.iter().map(|i| labels[*i]).collect::<Vec<_>>()); // one label a picture
            let desc = Desc::new(DType::I32, &[n])?;
            let table = Tensor::from_bytes(desc, bytemuck::cast_slice(&labels), budget)?;
            train.add("label", Arc::new(table), budget)?;
        }
        let mut about = Map::new();
        let mut put = |key: &str, value: Value| about.insert(key.to_owned(), value);
        put("kind", json!("png"));
        put("file", json!(root.file_name().unwrap_or_default().to_string_lossy()));
        put("name", json!(source.name));
        put("size", json!(size));
        put("channels", json!(source.channels.name()));
        put("layout", json!(source.layout.name()));
        if !classes.is_empty() {
            put("classes", json!(classes));
        }
        Ok(Read {
            what: match twice.len() {
                0 => format!("{n} pictures of {width} by {height}"),
                k => format!("{n} pictures of {width} by {height}, {k} of them reflections"),
            },
            train,
            skipped: found.others,
            about,
            ..Read::default()
        })
    }
}

/// Whether the path below the root, with slashes, begins so.
fn begins(path: &Path, with: &str) -> bool {
    let parts: Vec<_> = path.iter().map(|p| p.to_string_lossy()).collect();
    parts.join("/").starts_with(with)
}

/// Pixels row by row as floats in [-1, 1] where they belong.
fn place(pixels: &[u8], size: [usize; 3], layout: Layout, reflect: bool, out: &mut [u8]) {
    let [_, width, channels] = size;
    for (i, v) in pixels.iter().enumerate() {
        let (y, x, c) = (i / channels / width, i / channels % width, i % channels);
        let x = if reflect { width - 1 - x } else { x };
        if let Some(cell) = out.chunks_exact_mut(4).nth(layout.at(size, y, x, c)) {
            cell.copy_from_slice(&(f32::from(*v) / 127.5 - 1.0).to_ne_bytes());
        }
    }
}

/// Paths below the root.
#[derive(Default)]
struct Found {
    pictures: Vec<PathBuf>,
    /// Files that are no pictures.
    others: usize,
}

fn walk(root: &Path, below: &mut Vec<std::ffi::OsString>, out: &mut Found) -> Result<()> {
    let here: PathBuf = below.iter().collect();
    let label = root.join(&here);
    if below.len() > MAX_DEPTH {
        bail!(Unsupported, "{}: more than {MAX_DEPTH} folders deep", label.display());
    }
    let entries = std::fs::read_dir(&label).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => fail!(NotFound, "{}: no such folder", label.display()),
        _ => fail!(Io, "{}: {e}", label.display()),
    })?;
    for entry in entries {
        let entry = entry.map_err(|e| fail!(Io, "{}: {e}", label.display()))?;
        let kind = entry.file_type().map_err(|e| fail!(Io, "{}: {e}", label.display()))?;
        let name = entry.file_name();
        if kind.is_dir() {
            below.push(name);
            walk(root, below, out)?;
            below.pop();
        } else if Path::new(&name).extension().is_some_and(|e| e.eq_ignore_ascii_case("png")) {
            if out.pictures.len() == MAX_FILES {
                bail!(Unsupported, "{}: more than {MAX_FILES} pictures", root.display());
            }
            out.pictures.push(here.join(name));
        } else {
            out.others += 1;
        }
    }
    Ok(())
}

/// One label per picture, and what they stand for. With a CSV file pictures that it does not name are left out.
fn labels(how: &Labels, found: &mut Found) -> Result<(Option<Vec<i32>>, Vec<String>)> {
    let names: Vec<String> = match how {
        Labels::None => return Ok((None, Vec::new())),
        Labels::Folders => {
            let first = |p: &PathBuf| match p.iter().count() {
                0 | 1 => {
                    Err(fail!(Invalid, "{}: stands in no folder that could label it", p.display()))
                }
                _ => Ok(p.iter().next().unwrap_or_default().to_string_lossy().into_owned()),
            };
            found.pictures.iter().map(first).collect::<Result<_>>()?
        }
        Labels::Csv(path) => {
            let mut of = read_labels(path)?;
            let before = found.pictures.len();
            found.pictures.retain(|p| of.contains_key(p));
            found.others += before - found.pictures.len();
            found.pictures.iter().filter_map(|p| of.remove(p)).collect()
        }
    };
    // whole numbers are labels as they stand
    let numbers: Option<Vec<i32>> = names.iter().map(|n| n.parse().ok()).collect();
    if let (Labels::Csv(_), Some(numbers)) = (how, numbers) {
        return Ok((Some(numbers), Vec::new()));
    }
    let classes: BTreeSet<&String> = names.iter().collect();
    let classes: Vec<String> = classes.into_iter().cloned().collect();
    let at = |n: &String| classes.partition_point(|c| c < n) as i32; // fewer than MAX_FILES
    Ok((Some(names.iter().map(at).collect()), classes))
}

/// A header, then a path below the root and, behind the last comma, a label.
fn read_labels(path: &Path) -> Result<BTreeMap<PathBuf, String>> {
    let label = path.display();
    let (file, len) = plain_file(path)?;
    if len > MAX_FILE {
        bail!(Unsupported, "{label}: has {len} bytes, want at most {MAX_FILE}");
    }
    let mut text = String::new();
    file.take(MAX_FILE)
        .read_to_string(&mut text)
        .map_err(|e| fail!(Format, "{label}: no text: {e}"))?;
    let mut out = BTreeMap::new();
    let lines = text.lines().enumerate().skip(1).filter(|(_, line)| !line.trim().is_empty());
    for (i, line) in lines {
        let Some((name, class)) = line.rsplit_once(',') else {
            bail!(Format, "{label}: line {}: want a path, a comma and a label", i + 1);
        };
        let bare = |t: &str| t.trim().trim_matches('"').to_owned();
        if out.insert(PathBuf::from(bare(name)), bare(class)).is_some() {
            bail!(Format, "{label}: line {}: {} is there twice", i + 1, name.trim());
        }
    }
    Ok(out)
}

/// The picture in a file.
fn file(
    path: &Path,
    channels: Channels,
    budget: &Budget,
    out: &mut Vec<u8>,
) -> Result<(usize, usize)> {
    let label = path.display();
    let (file, len) = plain_file(path)?;
    if len > MAX_FILE {
        bail!(Unsupported, "{label}: has {len} bytes, a picture may have at most {MAX_FILE}");
    }
    decode(BufReader::new(file), channels, budget, out).map_err(|e| e.within(label))
}

/// Pixels row by row in the wanted channels; gives (width, height). What is transparent is put on black where alpha is
/// not asked for. A picture of which the budget could not hold one example is not unpacked.
pub fn decode(
    file: impl BufRead + Seek,
    channels: Channels,
    budget: &Budget,
    out: &mut Vec<u8>,
) -> Result<(usize, usize)> {
    let wrong = |e: png::DecodingError| fail!(Format, "{e}");
    let limits = png::Limits { bytes: MAX_UNPACKED };
    let mut decoder = png::Decoder::new_with_limits(file, limits);
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    // texts and profiles are unpacked for nobody
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    let mut reader = decoder.read_info().map_err(wrong)?;
    // the decoder takes a palette apart in threes without having asked
    if let Some(odd) = reader.info().palette.as_ref().filter(|p| p.len() % 3 != 0) {
        bail!(Format, "the palette has {} bytes, want three per colour", odd.len());
    }
    let Some(size) = reader.output_buffer_size().filter(|n| *n <= MAX_UNPACKED) else {
        bail!(Unsupported, "more than {MAX_UNPACKED} bytes unpacked");
    };
    let (width, height) = (u64::from(reader.info().width), u64::from(reader.info().height));
    let cells = width.saturating_mul(height).saturating_mul(channels.count() as u64);
    budget.check(cells.saturating_mul(4).max(size as u64), "a picture")?;
    let mut raw = zeros(size, "a picture")?;
    let frame = reader.next_frame(&mut raw).map_err(wrong)?;
    let (kind, samples) = (frame.color_type, frame.color_type.samples().max(1));
    out.clear();
    for p in raw.get(..frame.buffer_size()).unwrap_or_default().chunks_exact(samples) {
        let (rgb, alpha) = match (kind, p) {
            (png::ColorType::Grayscale, &[v]) => ([v; 3], 255),
            (png::ColorType::GrayscaleAlpha, &[v, a]) => ([v; 3], a),
            (png::ColorType::Rgb, &[r, g, b]) => ([r, g, b], 255),
            (png::ColorType::Rgba, &[r, g, b, a]) => ([r, g, b], a),
            _ => bail!(Unsupported, "pixels are {kind:?}, want grey or RGB"),
        };
        let on_black = |v: u8| ((u32::from(v) * u32::from(alpha) + 127) / 255) as u8;
        match channels {
            Channels::Rgba => out.extend_from_slice(&[rgb[0], rgb[1], rgb[2], alpha]),
            Channels::Premultiplied => {
                out.extend_from_slice(&rgb.map(on_black));
                out.push(alpha);
            }
            Channels::Rgb => out.extend_from_slice(&rgb.map(on_black)),
            Channels::Grey => {
                // ITU-R BT.601
                let [r, g, b] = rgb.map(|v| u32::from(on_black(v)));
                out.push(((299 * r + 587 * g + 114 * b + 500) / 1000) as u8);
            }
        }
    }
    Ok((frame.width as usize, frame.height as usize))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, width: u32, color: png::ColorType, pixels: &[u8]) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut e = png::Encoder::new(std::fs::File::create(path).unwrap(), width, 1);
        e.set_color(color);
        e.write_header().unwrap().write_image_data(pixels).unwrap();
    }

    fn folder(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("diffx-png-{}-{name}", std::process::id()))
    }

    fn source(root: &Path, channels: Channels, labels: Labels) -> Source {
        Source { paths: vec![root.to_owned()], channels, labels, ..Source::default() }
    }

    #[test]
    fn folders_label_and_channels_are_made() {
        let root = folder("labels");
        write(&root.join("b/1.png"), 2, png::ColorType::Rgba, &[255, 0, 0, 255, 0, 255, 0, 0]);
        write(&root.join("a/2.png"), 2, png::ColorType::Grayscale, &[0, 255]);
        std::fs::write(root.join("a/note.txt"), "x").unwrap();
        let read = |c, l| Pictures.read(&source(&root, c, l), &Budget::unlimited()).unwrap();
        let all = read(Channels::Rgba, Labels::Folders);
        let x = all.train.get("x").unwrap();
        assert_eq!((x.dims(), all.skipped), (&[2, 1, 2, 4][..], 1));
        let grey = [-1.0, -1.0, -1.0, 1.0, 1.0, 1.0, 1.0, 1.0];
        let colour = [1.0, -1.0, -1.0, 1.0, -1.0, 1.0, -1.0, -1.0];
        assert_eq!(x.elements::<f32>().unwrap(), [grey, colour].concat());
        assert_eq!(all.train.get("label").unwrap().elements::<i32>().unwrap(), [0, 1]);
        assert_eq!(all.about["classes"], json!(["a", "b"]));
        let rgb = read(Channels::Rgb, Labels::None);
        let x = rgb.train.get("x").unwrap().elements::<f32>().unwrap();
        assert_eq!(x[6..], [1.0, -1.0, -1.0, -1.0, -1.0, -1.0]); // the clear pixel is black
        let grey = read(Channels::Grey, Labels::None);
        let x = grey.train.get("x").unwrap().elements::<f32>().unwrap();
        assert_eq!(x[2], 76.0 / 127.5 - 1.0);

        std::fs::write(root.join("labels.csv"), "file,label\nb/1.png,7\n").unwrap();
        let some = read(Channels::Rgb, Labels::Csv(root.join("labels.csv")));
        assert_eq!(some.train.get("label").unwrap().elements::<i32>().unwrap(), [7]);
        assert_eq!(some.skipped, 3);
        std::fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn reflections_stand_behind_all_pictures_in_any_layout() {
        let root = folder("mirror");
        write(&root.join("a/1.png"), 2, png::ColorType::Rgba, &[255, 0, 0, 255, 0, 255, 0, 0]);
        write(&root.join("b/2.png"), 2, png::ColorType::Rgba, &[255, 255, 255, 51, 0, 0, 0, 255]);
        let read = |layout, mirror: &[&str]| {
            let mirror = mirror.iter().map(|m| (*m).to_owned()).collect();
            let source = Source {
                layout,
                mirror,
                ..source(&root, Channels::Premultiplied, Labels::Folders)
            };
            let read = Pictures.read(&source, &Budget::unlimited()).unwrap();
            let x = read.train.get("x").unwrap();
            let bytes = x.elements::<f32>().unwrap().iter().map(|v| (v + 1.0) * 127.5);
            let bytes: Vec<u8> = bytes.map(|v| v.round() as u8).collect();
            let labels = read.train.get("label").unwrap().elements::<i32>().unwrap().to_vec();
            (x.dims().to_vec(), bytes, labels, read.about)
        };
        let a = [255, 0, 0, 255, 0, 0, 0, 0]; // what is clear has lost its green
        let b = [51, 51, 51, 51, 0, 0, 0, 255];
        let (dims, bytes, labels, about) = read(Layout::Hwc, &["b/"]);
        assert_eq!((&dims[..], &labels[..]), (&[3, 1, 2, 4][..], &[0, 1, 1][..]));
        assert_eq!(bytes, [&a[..], &b, &[0, 0, 0, 255, 51, 51, 51, 51]].concat());
        assert_eq!(
            (&about["channels"], &about["layout"]),
            (&json!("premultiplied"), &json!("hwc"))
        );
        let (dims, bytes, labels, _) = read(Layout::Chw, &[""]);
        assert_eq!((&dims[..], &labels[..]), (&[4, 4, 1, 2][..], &[0, 1, 0, 1][..]));
        assert_eq!(bytes[..8], [255, 0, 0, 0, 0, 0, 255, 0]);
        assert_eq!(bytes[16..24], [0, 255, 0, 0, 0, 0, 0, 255]);
        std::fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn faults_name_their_file() {
        let root = folder("faults");
        write(&root.join("a.png"), 2, png::ColorType::Grayscale, &[0, 255]);
        let read = |l| {
            let source = source(&root, Channels::Rgb, l);
            Pictures.read(&source, &Budget::unlimited()).unwrap_err().message
        };
        assert!(read(Labels::Folders).contains("a.png: stands in no folder"));
        let mirror = vec!["a".to_owned(), "rare/".to_owned()];
        let reflected = Source { mirror, ..source(&root, Channels::Rgb, Labels::None) };
        let said = Pictures.read(&reflected, &Budget::unlimited()).unwrap_err().message;
        assert!(said.contains("mirror names \"rare/\", and the path of no picture"), "{said}");
        write(&root.join("b.png"), 3, png::ColorType::Grayscale, &[0, 255, 0]);
        assert!(read(Labels::None).contains("is 3 by 1 pixels, a.png is 2 by 1; want one size"));
        std::fs::write(root.join("b.png"), b"\x89PNG no").unwrap();
        assert!(read(Labels::None).contains("b.png: "), "{}", read(Labels::None));
        let small = Budget::new(8, None);
        std::fs::remove_file(root.join("b.png")).unwrap();
        let e = Pictures.read(&source(&root, Channels::Rgb, Labels::None), &small).unwrap_err();
        assert_eq!(e.status, crate::base::Status::NoMemory);
        std::fs::remove_dir_all(&root).unwrap();
    }
}
