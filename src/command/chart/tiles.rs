//! A page of pictures in rows, each with its name below. They stand pixel for pixel as they are, enlarged without
//! smoothing, and clear pixels show the dark square behind them.

use super::canvas::{Align, Canvas, Ink, Weight, encode_png, page};
use diffx::bail;
use diffx::base::Result;

const PAPER: Ink = Ink::solid(0xFF_FF_FF);
const TEXT: Ink = Ink::solid(0x1F_29_33);
const QUIET: Ink = Ink::solid(0x69_74_80);
/// Behind clear pixels.
const BACK: [u8; 3] = [0x24, 0x29, 0x30];

const MARGIN: u32 = 44;
/// Room for title and subtitle.
const HEADER: u32 = 88;
const GAP: u32 = 24;
/// Room for a name.
const CAPTION: u32 = 24;
/// Width of a picture on the page, about.
const SHOWN: u32 = 96;
/// Most pictures along an edge of the page, and its most pixels, as far as more than one picture would go beyond.
const MOST: u32 = 16;
const LONGEST: u32 = 2048;

/// What a page shows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tiles<'a> {
    pub(crate) title: String,
    pub(crate) subtitle: String,
    /// Pixels across and down.
    pub(crate) size: (usize, usize),
    /// RGBA of each, row by row, colours multiplied by alpha.
    pub(crate) pictures: &'a [Vec<u8>],
    /// Of each, or empty.
    pub(crate) names: &'a [String],
}

/// Where things stand.
struct Place {
    columns: u32,
    rows: u32,
    /// Page pixels per pixel.
    scale: u32,
    /// From one picture to the next.
    step: (u32, u32),
}

impl Tiles<'_> {
    /// The page as a PNG file; of very many pictures the first.
    pub(crate) fn png(&self) -> Result<Vec<u8>> {
        let (across, down) = self.size;
        let odd = self.pictures.iter().any(|p| p.len() != across * down * 4);
        let named = self.names.is_empty() || self.names.len() == self.pictures.len();
        if self.pictures.is_empty() || odd || !named || across.max(down) > LONGEST as usize {
            bail!(Invalid, "{} pictures of {across} by {down} make no page", self.pictures.len());
        }
        let place = self.place();
        let width = 2 * MARGIN + place.columns * place.step.0 - GAP;
        let height = 2 * MARGIN + HEADER + place.rows * place.step.1 - GAP;
        let mut rgb = page(width, height, PAPER, |canvas| self.paint(canvas, &place))?;
        for (picture, i) in self.pictures.iter().zip(0..place.columns * place.rows) {
            let (left, top) = place.corner(i);
            for y in 0..down as u32 * place.scale {
                for x in 0..across as u32 * place.scale {
                    let from =
                        ((y / place.scale) as usize * across + (x / place.scale) as usize) * 4;
                    let to = (((top + y) * width + left + x) * 3) as usize;
                    if let (Some(&[r, g, b, a]), Some(out)) =
                        (picture.get(from..from + 4), rgb.get_mut(to..to + 3))
                    {
                        out.copy_from_slice(&over([r, g, b], a));
                    }
                }
            }
        }
        encode_png(&rgb, width, height)
    }

    fn place(&self) -> Place {
        let n = self.pictures.len().min((MOST * MOST) as usize) as u32;
        let (across, down) = (self.size.0.max(1) as u32, self.size.1.max(1) as u32);
        let scale = (SHOWN / across).max(1);
        let caption = if self.names.is_empty() { 0 } else { CAPTION };
        let step = (across * scale + GAP, down * scale + GAP + caption);
        let most = |step: u32| (LONGEST / step).clamp(1, MOST);
        let columns = (1..most(step.0)).find(|c| c * c >= n).unwrap_or(most(step.0));
        let rows = n.div_ceil(columns).min(most(step.1));
        Place { columns, rows, scale, step }
    }

    fn paint(&self, canvas: &Canvas<'_>, place: &Place) -> Result<()> {
        let left = f64::from(MARGIN);
        canvas.text(&self.title, (left, left + 8.0), 26.0, Weight::Medium, Align::Left, TEXT)?;
        let at = (left, left + 42.0);
        canvas.text(&self.subtitle, at, 15.0, Weight::Regular, Align::Left, QUIET)?;
        for (name, i) in self.names.iter().zip(0..place.columns * place.rows) {
            let (left, top) = place.corner(i);
            let middle = f64::from(left) + f64::from(place.step.0 - GAP) / 2.0;
            let at = (middle, f64::from(top + place.step.1 - GAP - CAPTION / 2) + 2.0);
            canvas.text(name, at, 12.5, Weight::Regular, Align::Center, TEXT)?;
        }
        Ok(())
    }
}

impl Place {
    /// Left upper corner of a picture.
    fn corner(&self, i: u32) -> (u32, u32) {
        let (column, row) = (i % self.columns, i / self.columns);
        (MARGIN + column * self.step.0, MARGIN + HEADER + row * self.step.1)
    }
}

/// A colour multiplied by its alpha, on the dark square.
fn over(colour: [u8; 3], alpha: u8) -> [u8; 3] {
    let shines = |b: u8| (u32::from(b) * u32::from(255 - alpha) + 127) / 255;
    let mut out = colour;
    for (v, back) in out.iter_mut().zip(BACK) {
        *v = (u32::from(*v) + shines(back)).min(255) as u8;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_are_enlarged_where_they_belong() {
        let red = vec![255, 0, 0, 255, 0, 0, 0, 0];
        let tiles = Tiles {
            title: "two".into(),
            size: (2, 1),
            pictures: &[red.clone(), vec![0, 255, 0, 255, 100, 100, 100, 128]],
            names: &["first".into(), "second".into()],
            ..Tiles::default()
        };
        let file = tiles.png().unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(file)).read_info().unwrap();
        let mut rgb = vec![0; reader.output_buffer_size().unwrap()];
        let frame = reader.next_frame(&mut rgb).unwrap();
        let at = |x: u32, y: u32| {
            let i = ((y * frame.width + x) * 3) as usize;
            [rgb[i], rgb[i + 1], rgb[i + 2]]
        };
        let (left, top, next) = (MARGIN, MARGIN + HEADER, SHOWN + GAP);
        assert_eq!(frame.width, 2 * MARGIN + 2 * SHOWN + GAP);
        assert_eq!((at(left, top), at(left + 47, top + 47)), ([255, 0, 0], [255, 0, 0]));
        assert_eq!((at(left + 48, top), at(left - 1, top)), (BACK, [255; 3]));
        assert_eq!(at(left + next, top), [0, 255, 0]);
        assert_eq!(at(left + next + 48, top), [100 + 18, 100 + 20, 100 + 24]);
    }

    #[test]
    fn a_page_is_no_larger_than_it_may_be() {
        let place = |n: usize, side: usize| {
            let pictures = vec![Vec::new(); n];
            let tiles = Tiles { size: (side, side), pictures: &pictures, ..Tiles::default() };
            let place = tiles.place();
            (place.columns, place.rows, place.scale)
        };
        assert_eq!((place(64, 32), place(65, 32)), ((8, 8, 3), (9, 8, 3)));
        assert_eq!((place(512, 32), place(1, 32)), ((16, 16, 3), (1, 1, 3)));
        assert_eq!((place(9, 512), place(64, 2000)), ((3, 3, 1), (1, 1, 1)));
    }

    #[test]
    fn a_page_without_whole_pictures_is_refused() {
        let short = [vec![0; 7]];
        let tiles = Tiles { size: (2, 1), pictures: &short, ..Tiles::default() };
        let e = tiles.png().unwrap_err();
        assert_eq!(e.message, "1 pictures of 2 by 1 make no page");
    }
}
