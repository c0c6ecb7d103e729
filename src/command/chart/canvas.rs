//! A page of pixels with lines, areas and text in logical units. Everything is drawn larger and averaged down, which
//! gives smooth edges to shapes and letters alike. The fonts are carried: no system has to have any.

use diffx::base::Result;
use diffx::{bail, fail};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::sync::Once;

/// Pixels drawn per pixel kept, along each axis.
const OVERSAMPLE: u32 = 3;

/// A colour and how much it covers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Ink(pub(crate) u8, pub(crate) u8, pub(crate) u8, pub(crate) f64);

impl Ink {
    pub(crate) const fn solid(rgb: u32) -> Self {
        Self((rgb >> 16) as u8, (rgb >> 8) as u8, rgb as u8, 1.0)
    }

    pub(crate) const fn alpha(self, a: f64) -> Self {
        Self(self.0, self.1, self.2, a)
    }

    fn color(self) -> RGBAColor {
        RGBAColor(self.0, self.1, self.2, self.3)
    }
}

/// Where a text's anchor point lies on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Center,
    Right,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weight {
    Regular,
    Medium,
}

/// Draws `paint` on a page of `width` x `height` pixels and gives the RGB bytes.
pub(crate) fn page(
    width: u32,
    height: u32,
    background: Ink,
    paint: impl FnOnce(&Canvas<'_>) -> Result<()>,
) -> Result<Vec<u8>> {
    load_fonts();
    let (w, h) = (width * OVERSAMPLE, height * OVERSAMPLE);
    let mut large = vec![0; (w * h * 3) as usize];
    {
        let area = BitMapBackend::with_buffer(&mut large, (w, h)).into_drawing_area();
        area.fill(&background.color()).map_err(|e| fail!(Internal, "drawing: {e}"))?;
        let canvas = Canvas { area, scale: f64::from(OVERSAMPLE) };
        paint(&canvas)?;
        canvas.area.present().map_err(|e| fail!(Internal, "drawing: {e}"))?;
    }
    Ok(shrink(&large, width as usize, height as usize))
}

/// Average of each block of pixels.
fn shrink(large: &[u8], width: usize, height: usize) -> Vec<u8> {
    let k = OVERSAMPLE as usize;
    let mut out = vec![0; width * height * 3];
    for (i, px) in out.iter_mut().enumerate() {
        let (c, x, y) = (i % 3, i / 3 % width, i / 3 / width);
        let mut sum = 0u32;
        for dy in 0..k {
            for dx in 0..k {
                sum += u32::from(large[((y * k + dy) * width * k + x * k + dx) * 3 + c]);
            }
        }
        *px = (sum / (k * k) as u32) as u8;
    }
    out
}

/// RGB bytes as a PNG file.
pub(crate) fn encode_png(rgb: &[u8], width: u32, height: u32) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let done = encoder.write_header().and_then(|mut w| {
        w.write_image_data(rgb)?;
        w.finish()
    });
    match done {
        Ok(()) => Ok(out),
        Err(e) => bail!(Internal, "PNG: {e}"),
    }
}

pub(crate) struct Canvas<'a> {
    area: DrawingArea<BitMapBackend<'a>, Shift>,
    scale: f64,
}

impl Canvas<'_> {
    fn at(&self, (x, y): (f64, f64)) -> (i32, i32) {
        ((x * self.scale).round() as i32, (y * self.scale).round() as i32)
    }

    fn done<E: std::fmt::Display>(result: std::result::Result<(), E>) -> Result<()> {
        result.map_err(|e| fail!(Internal, "drawing: {e}"))
    }

    pub(crate) fn line(&self, points: &[(f64, f64)], width: f64, ink: Ink) -> Result<()> {
        let style = ShapeStyle {
            color: ink.color(),
            filled: false,
            stroke_width: (width * self.scale).round().max(1.0) as u32,
        };
        let points: Vec<_> = points.iter().map(|p| self.at(*p)).collect();
        Self::done(self.area.draw(&PathElement::new(points, style)))
    }

    pub(crate) fn dashed(&self, a: (f64, f64), b: (f64, f64), width: f64, ink: Ink) -> Result<()> {
        let length = (b.0 - a.0).hypot(b.1 - a.1);
        let (dash, gap) = (5.0, 5.0);
        let mut t = 0.0;
        while t < length {
            let end = (t + dash).min(length);
            let on = |t: f64| (a.0 + (b.0 - a.0) * t / length, a.1 + (b.1 - a.1) * t / length);
            self.line(&[on(t), on(end)], width, ink)?;
            t += dash + gap;
        }
        Ok(())
    }

    pub(crate) fn area(&self, outline: &[(f64, f64)], ink: Ink) -> Result<()> {
        let points: Vec<_> = outline.iter().map(|p| self.at(*p)).collect();
        Self::done(self.area.draw(&Polygon::new(points, ink.color().filled())))
    }

    pub(crate) fn dot(&self, center: (f64, f64), radius: f64, ink: Ink) -> Result<()> {
        let r = (radius * self.scale).round() as i32;
        Self::done(self.area.draw(&Circle::new(self.at(center), r, ink.color().filled())))
    }

    /// `y` is the middle of the text's height.
    pub(crate) fn text(
        &self,
        text: &str,
        at: (f64, f64),
        size: f64,
        weight: Weight,
        align: Align,
        ink: Ink,
    ) -> Result<()> {
        let h = match align {
            Align::Left => HPos::Left,
            Align::Center => HPos::Center,
            Align::Right => HPos::Right,
        };
        let color = ink.color();
        let style = TextStyle::from((family(weight), size * self.scale).into_font())
            .color(&color)
            .pos(Pos::new(h, VPos::Center));
        // centred on the letters, not on the line with its room for accents
        let at = (at.0, at.1 + 0.09 * size);
        Self::done(self.area.draw(&Text::new(text.to_owned(), self.at(at), style)))
    }

    /// Width of a text in logical units.
    pub(crate) fn width_of(&self, text: &str, size: f64, weight: Weight) -> f64 {
        let font = (family(weight), size * self.scale).into_font();
        font.box_size(text).map_or(0.0, |(w, _)| f64::from(w) / self.scale)
    }
}

fn family(weight: Weight) -> &'static str {
    match weight {
        Weight::Regular => "diffx",
        Weight::Medium => "diffx-medium",
    }
}

fn load_fonts() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let fonts: [(&str, &'static [u8]); 2] = [
            (family(Weight::Regular), include_bytes!("../../../assets/fonts/roboto-regular.ttf")),
            (family(Weight::Medium), include_bytes!("../../../assets/fonts/roboto-medium.ttf")),
        ];
        for (name, bytes) in fonts {
            // a font that fails to parse leaves its texts to fail by name; the tests draw with both
            let _ = plotters::style::register_font(name, FontStyle::Normal, bytes);
        }
    });
}
