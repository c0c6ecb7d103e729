//! Pictures as sequences of patches and back, and where each patch lies (Dosovitskiy et al. 2021, Peebles and Xie 2023).

use super::embedding::check_computed;
use super::layer::Start;
use diffx_plugin::{Attr, Builder, Error, Init, Node, Result, attr};

/// Square pictures in square patches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Patches {
    /// Patches along one side.
    pub side: usize,
    pub patch: usize,
    pub width: usize,
}

impl Patches {
    /// Of pictures of a size, with the name of its key.
    pub(crate) fn of((key, size): (&str, usize), patch: usize, width: usize) -> Result<Self> {
        if !size.is_multiple_of(patch) {
            return Err(Error::invalid(format!(
                "{key} is {size}, want a multiple of patch_size, which is {patch}"
            )));
        }
        if !width.is_multiple_of(4) {
            return Err(Error::invalid(format!(
                "the width is {width}, want a multiple of 4 for the sines and cosines of positions"
            )));
        }
        Ok(Self { side: size / patch, patch, width })
    }

    /// The same, if its `positions` can be computed.
    pub(crate) fn with_positions(self, key: &str) -> Result<Self> {
        let Self { side, patch, width } = self;
        let size = side * patch;
        let what = format!("{key} is {size}, patch_size {patch} and the width {width}");
        check_computed(&what, self.count(), width)?;
        Ok(self)
    }

    pub(crate) const fn count(&self) -> usize {
        self.side * self.side
    }

    /// `[rows, channels, h, w]` to `[rows, patches, width]`, row by row, by a convolution that moves by a patch.
    pub(crate) fn embed<'b>(
        &self,
        b: Builder<'b>,
        name: &str,
        x: Node<'b>,
        channels: usize,
    ) -> Node<'b> {
        let (c, p, d) = (channels as i64, self.patch as i64, self.width as i64);
        let init = Start::Spread.init(channels * self.patch * self.patch);
        let w = b.weight(&format!("{name}.weight"), &[d, c, p, p], init);
        let bias = b.weight(&format!("{name}.bias"), &[d], Init::Zeros);
        let y = x.conv(w, bias, &[Attr::ints(attr::STRIDE, &[p, p])]);
        y.reshape(&[-1, d, self.count() as i64]).transpose(&[0, 2, 1])
    }

    /// `[rows, patches, patch x patch x channels]` to `[rows, channels, h, w]`.
    pub(crate) fn unfold<'b>(&self, x: Node<'b>, channels: usize) -> Node<'b> {
        let (n, p, c) = (self.side as i64, self.patch as i64, channels as i64);
        x.reshape(&[-1, n, n, p, p, c]).transpose(&[0, 5, 1, 3, 2, 4]).reshape(&[
            -1,
            c,
            n * p,
            n * p,
        ])
    }

    /// Fixed positions `[1, patches, width]`: sines and cosines of the column, then of the row, each at `width/4`
    /// frequencies from 1 to 1e-4.
    pub(crate) fn positions(&self) -> Vec<f32> {
        let quarter = self.width / 4;
        let frequency = |k: usize| 1e4_f64.powf(-(k as f64) / quarter as f64);
        let mut out = Vec::with_capacity(self.count() * self.width);
        for patch in 0..self.count() {
            for place in [patch % self.side, patch / self.side] {
                for wave in [f64::sin, f64::cos] {
                    let at = |k| wave(place as f64 * frequency(k)) as f32;
                    out.extend((0..quarter).map(at));
                }
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_come_before_rows() {
        let p = Patches { side: 2, patch: 1, width: 4 }.positions();
        let (s, c) = (1_f32.sin(), 1_f32.cos());
        let want = [[0.0, 1.0, 0.0, 1.0], [s, c, 0.0, 1.0], [0.0, 1.0, s, c], [s, c, s, c]];
        assert_eq!(p, want.concat());
    }

    #[test]
    fn what_is_too_large_to_compute_is_refused() {
        let of = |side, width| Patches { side, patch: 2, width }.with_positions("sample_size");
        assert!(of(1 << 8, 1 << 10).is_ok());
        let want = "sample_size is 1024, patch_size 2 and the width 260: a table of 68157440 \
                    numbers to compute, want at most 67108864";
        assert_eq!(of(1 << 9, 260).unwrap_err().message, want);
    }
}
