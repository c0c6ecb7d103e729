//! A page of samples that are pictures, each with the name of its class: for models whose file says what their values are,
//! as those trained on a folder of pictures do.

use super::chart::Tiles;
use super::output::numbers;
use diffx::bail;
use diffx::base::Result;
use diffx::mem::Tensor;
use diffx::train::data::reader::{Channels, Layout};
use serde_json::{Map, Value};

/// Stands for every class.
pub(super) const ALL: &str = "all";

/// Names of the classes, as the reader of pictures left them.
pub(super) fn classes(data: &Map<String, Value>) -> Vec<String> {
    let list = data.get("classes").and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// What was asked for, with all classes in the place of `all` where the model names them.
pub(super) fn expanded(given: &[String], data: &Map<String, Value>) -> Vec<String> {
    let all = classes(data);
    let one = |g: &String| if g == ALL && !all.is_empty() { all.clone() } else { vec![g.clone()] };
    given.iter().flat_map(one).collect()
}

/// What stands below each of `n` samples that take these classes in turn; nothing where there are none.
pub(super) fn captions(given: &[String], data: &Map<String, Value>, n: usize) -> Vec<String> {
    let all = classes(data);
    // a name that is a number is a name, as it is where the class is looked up
    let number = |g: &String| if all.contains(g) { None } else { g.parse::<usize>().ok() };
    let name = |g: &String| number(g).and_then(|i| all.get(i)).unwrap_or(g).replace('_', " ");
    given.iter().cycle().take(if given.is_empty() { 0 } else { n }).map(name).collect()
}

/// How the values of a state are pixels.
#[derive(Debug, PartialEq)]
pub(super) struct Frame {
    /// Rows, columns, channels.
    size: [usize; 3],
    layout: Layout,
    channels: Channels,
}

impl Frame {
    /// As the model's file says of a state [n, ..].
    pub(super) fn of(data: &Map<String, Value>, dims: &[usize]) -> Option<Self> {
        let &[_, a, b, c] = dims else { return None };
        let text = |key: &str| data.get(key).and_then(Value::as_str);
        let (_, layout) = *Layout::NAMES.iter().find(|(n, _)| text("layout") == Some(n))?;
        let (_, channels) = *Channels::NAMES.iter().find(|(n, _)| text("channels") == Some(n))?;
        let size = match layout {
            Layout::Chw => [b, c, a],
            Layout::Hwc => [a, b, c],
        };
        (size[2] == channels.count()).then_some(Self { size, layout, channels })
    }

    /// A page of the samples in `tensor`.
    pub(super) fn page(
        &self,
        tensor: &Tensor,
        names: &[String],
        (title, subtitle): (String, String),
    ) -> Result<Vec<u8>> {
        let values = numbers(tensor)?;
        if values.iter().any(|v| !v.is_finite()) {
            bail!(Invalid, "a sample is not finite, nothing to draw");
        }
        let each = self.size.iter().product::<usize>().max(1);
        let pictures: Vec<Vec<u8>> = values.chunks_exact(each).map(|v| self.rgba(v)).collect();
        let size = (self.size[1], self.size[0]);
        Tiles { title, subtitle, size, pictures: &pictures, names }
            .png()
            .map_err(|e| e.within(format!("samples of {}", tensor.desc())))
    }

    /// A sample as RGBA, colours multiplied by alpha.
    fn rgba(&self, values: &[f64]) -> Vec<u8> {
        let [rows, columns, _] = self.size;
        let at = |y: usize, x: usize, c: usize| {
            let v = values.get(self.layout.at(self.size, y, x, c)).copied().unwrap_or(-1.0);
            (v + 1.0) * 127.5
        };
        let byte = |v: f64| v.round().clamp(0.0, 255.0) as u8;
        let mut out = Vec::with_capacity(rows * columns * 4);
        for y in 0..rows {
            for x in 0..columns {
                let colour = match self.channels {
                    Channels::Grey => [at(y, x, 0); 3],
                    _ => [at(y, x, 0), at(y, x, 1), at(y, x, 2)],
                };
                let alpha = match self.channels {
                    Channels::Rgba | Channels::Premultiplied => at(y, x, 3).clamp(0.0, 255.0),
                    Channels::Rgb | Channels::Grey => 255.0,
                };
                out.extend(colour.map(|v| match self.channels {
                    Channels::Rgba => byte(v * alpha / 255.0),
                    _ => byte(v.min(alpha)), // no more light than there is matter
                }));
                out.push(byte(alpha));
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn data(layout: &str, channels: &str) -> Map<String, Value> {
        let all = json!({"layout": layout, "channels": channels});
        all.as_object().cloned().unwrap_or_default()
    }

    #[test]
    fn a_file_says_what_its_values_are() {
        let known = Frame::of(&data("chw", "premultiplied"), &[9, 4, 2, 3]).unwrap();
        assert_eq!(known.size, [2, 3, 4]);
        assert_eq!(Frame::of(&data("chw", "rgb"), &[9, 4, 2, 3]), None);
        assert_eq!(Frame::of(&data("hwc", "rgb"), &[9, 8, 8, 3]).unwrap().size, [8, 8, 3]);
        assert_eq!(Frame::of(&Map::new(), &[9, 8, 8, 3]), None);
        assert_eq!(Frame::of(&data("hwc", "rgb"), &[9, 32]), None);
    }

    #[test]
    fn classes_go_round_in_turn() {
        let mut data = data("chw", "rgb");
        data.insert("classes".into(), json!(["a_b", "c"]));
        let text = |t: &[&str]| t.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
        let all = expanded(&text(&["all"]), &data);
        assert_eq!(all, ["a_b", "c"]);
        assert_eq!(captions(&all, &data, 3), ["a b", "c", "a b"]);
        assert_eq!(captions(&text(&["1", "7"]), &data, 2), ["c", "7"]);
        assert_eq!(captions(&[], &data, 2), [""; 0]);
        let digits = Map::from_iter([("classes".to_owned(), json!(["1", "2"]))]);
        assert_eq!(captions(&text(&["1", "2", "0"]), &digits, 3), ["1", "2", "1"]);
        assert_eq!(expanded(&text(&["all"]), &Map::new()), ["all"]); // left to be refused by name
    }

    #[test]
    fn values_become_pixels() {
        let one = |channels: &str, v: &[f64]| {
            let dims = [1, v.len(), 1, 1];
            Frame::of(&data("chw", channels), &dims).unwrap().rgba(v)
        };
        assert_eq!(one("grey", &[0.0]), [128, 128, 128, 255]);
        assert_eq!(one("rgb", &[-1.0, 1.5, 0.2]), [0, 255, 153, 255]);
        assert_eq!(one("rgba", &[1.0, -1.0, 1.0, -0.2]), [102, 0, 102, 102]);
        assert_eq!(one("premultiplied", &[1.0, -1.0, -0.6, -0.2]), [102, 0, 51, 102]);
    }
}
