//! The fan chart: what was, the spread of sampled futures around their median, a few of them as paths, and what came.

use super::canvas::{Align, Canvas, Ink, Weight, encode_png, page};
use super::date::Date;
use super::ticks;
use diffx::bail;
use diffx::base::Result;

const WIDTH: u32 = 1600;
const HEIGHT: u32 = 900;

const PAPER: Ink = Ink::solid(0xFF_FF_FF);
const TEXT: Ink = Ink::solid(0x1F_29_33);
const QUIET: Ink = Ink::solid(0x69_74_80);
const GRID: Ink = Ink::solid(0xE9_EC_EF);
const AXIS: Ink = Ink::solid(0xB8_C0_C8);
const PAST: Ink = Ink::solid(0x3B_47_54);
const WIDE: Ink = Ink::solid(0xDC_E8_F4);
const NARROW: Ink = Ink::solid(0xAF_CB_E6);
const MEDIAN: Ink = Ink::solid(0x1C_5D_99);
const PATH: Ink = Ink::solid(0x1C_5D_99).alpha(0.30);
const TRUTH: Ink = Ink::solid(0xC8_46_2F);

/// Plot area: left, top, right, bottom.
const FRAME: (f64, f64, f64, f64) = (96.0, 216.0, 1536.0, 806.0);

/// How many sampled paths are drawn.
const PATHS: usize = 5;

/// What a fan shows. `samples` is row-major [n, horizon]; dates are `YYYY-MM-DD` or empty.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fan<'a> {
    pub(crate) title: String,
    pub(crate) subtitle: String,
    /// What the vertical axis measures.
    pub(crate) quantity: String,
    pub(crate) history: &'a [f64],
    pub(crate) history_dates: &'a [String],
    pub(crate) samples: &'a [f64],
    pub(crate) horizon: usize,
    /// What happened instead, as far as it is known.
    pub(crate) truth: &'a [f64],
    pub(crate) truth_dates: &'a [String],
}

impl Fan<'_> {
    /// The chart as a PNG file.
    pub(crate) fn png(&self) -> Result<Vec<u8>> {
        if self.horizon == 0
            || self.samples.is_empty()
            || !self.samples.len().is_multiple_of(self.horizon)
        {
            bail!(
                Invalid,
                "a fan of {} values over {} days has no whole samples",
                self.samples.len(),
                self.horizon
            );
        }
        let drawn = self.samples.iter().chain(self.history).chain(self.truth);
        if drawn.clone().any(|v| !v.is_finite()) {
            bail!(Invalid, "a sample is not finite, nothing to draw");
        }
        let rgb = page(WIDTH, HEIGHT, PAPER, |canvas| self.paint(canvas))?;
        encode_png(&rgb, WIDTH, HEIGHT)
    }

    fn paint(&self, canvas: &Canvas<'_>) -> Result<()> {
        let bands: Vec<[f64; 5]> =
            (0..self.horizon).map(|day| quantiles(self.samples, self.horizon, day)).collect();
        let past = self.history.len();
        let axes = self.axes(&bands);
        let (left, top, right, bottom) = FRAME;

        canvas.text(&self.title, (left - 52.0, 56.0), 34.0, Weight::Medium, Align::Left, TEXT)?;
        canvas.text(
            &self.subtitle,
            (left - 52.0, 98.0),
            20.0,
            Weight::Regular,
            Align::Left,
            QUIET,
        )?;
        self.legend(canvas)?;

        let step = axes.ticks.windows(2).next().map_or(1.0, |w| w[1] - w[0]);
        for &tick in &axes.ticks {
            let y = axes.y(tick);
            canvas.line(&[(left, y), (right, y)], 1.0, GRID)?;
            let text = ticks::label(tick, step);
            canvas.text(&text, (left - 14.0, y), 18.0, Weight::Regular, Align::Right, QUIET)?;
        }
        canvas.text(
            &self.quantity,
            (left - 52.0, top - 30.0),
            18.0,
            Weight::Regular,
            Align::Left,
            QUIET,
        )?;
        self.date_axis(canvas, &axes)?;

        // the fan starts where the history ends, so that it grows out of the last known value
        let origin = self.history.last().copied();
        let spread = |k: usize| -> Vec<(f64, f64)> {
            let start = origin.map(|v| axes.point(past as f64 - 1.0, v));
            let days = bands.iter().enumerate().map(|(d, q)| axes.point((past + d) as f64, q[k]));
            start.into_iter().chain(days).collect()
        };
        for (lo, hi, ink) in [(0, 4, WIDE), (1, 3, NARROW)] {
            let mut outline = spread(hi);
            outline.extend(spread(lo).into_iter().rev());
            canvas.area(&outline, ink)?;
        }
        // the grid stays readable through the fan
        for &tick in &axes.ticks {
            let y = axes.y(tick);
            canvas.line(&[(left, y), (right, y)], 1.0, Ink::solid(0x1F_29_33).alpha(0.05))?;
        }
        for path in self.samples.chunks_exact(self.horizon).take(PATHS) {
            let start = origin.map(|v| axes.point(past as f64 - 1.0, v));
            let days = path.iter().enumerate().map(|(d, v)| axes.point((past + d) as f64, *v));
            canvas.line(&start.into_iter().chain(days).collect::<Vec<_>>(), 1.3, PATH)?;
        }
        canvas.line(&spread(2), 3.0, MEDIAN)?;
        if past > 0 {
            let x = axes.x(past as f64 - 1.0);
            canvas.dashed((x, top), (x, bottom), 1.2, AXIS)?;
            let line: Vec<_> =
                self.history.iter().enumerate().map(|(i, v)| axes.point(i as f64, *v)).collect();
            canvas.line(&line, 2.4, PAST)?;
        }
        if !self.truth.is_empty() {
            let start = origin.map(|v| axes.point(past as f64 - 1.0, v));
            let days =
                self.truth.iter().enumerate().map(|(d, v)| axes.point((past + d) as f64, *v));
            canvas.line(&start.into_iter().chain(days).collect::<Vec<_>>(), 2.4, TRUTH)?;
        }
        if let Some(v) = origin {
            let at = axes.point(past as f64 - 1.0, v);
            canvas.dot(at, 6.5, PAPER)?;
            canvas.dot(at, 4.5, PAST)?;
        }
        canvas.line(&[(left, bottom), (right, bottom)], 1.4, AXIS)
    }

    fn axes(&self, bands: &[[f64; 5]]) -> Axes {
        let shown = self.samples.chunks_exact(self.horizon).take(PATHS).flatten();
        let all = bands.iter().flatten().chain(shown).chain(self.history).chain(self.truth);
        let (lo, hi) =
            all.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(*v), h.max(*v)));
        let ticks = ticks::nice(lo, hi, 6);
        let (lo, hi) = (ticks.first().copied().unwrap_or(lo), ticks.last().copied().unwrap_or(hi));
        Axes { ticks, lo, hi, last: (self.history.len() + self.horizon - 1).max(1) as f64 }
    }

    fn legend(&self, canvas: &Canvas<'_>) -> Result<()> {
        let mut x = FRAME.0 - 52.0;
        let y = 138.0;
        let mut entry = |name: &str, draw: &dyn Fn(f64) -> Result<()>| -> Result<()> {
            draw(x)?;
            canvas.text(name, (x + 42.0, y), 18.0, Weight::Regular, Align::Left, TEXT)?;
            x += 42.0 + canvas.width_of(name, 18.0, Weight::Regular) + 34.0;
            Ok(())
        };
        let swatch = |ink: Ink| {
            move |x: f64| {
                canvas.area(
                    &[(x, y - 8.0), (x + 32.0, y - 8.0), (x + 32.0, y + 8.0), (x, y + 8.0)],
                    ink,
                )
            }
        };
        let stroke =
            |ink: Ink, width: f64| move |x: f64| canvas.line(&[(x, y), (x + 32.0, y)], width, ink);
        if !self.history.is_empty() {
            entry("history", &stroke(PAST, 2.4))?;
        }
        entry("median", &stroke(MEDIAN, 3.0))?;
        entry("25\u{2013}75 %", &swatch(NARROW))?;
        entry("5\u{2013}95 %", &swatch(WIDE))?;
        entry("single samples", &stroke(PATH, 1.6))?;
        if !self.truth.is_empty() {
            entry("what happened", &stroke(TRUTH, 2.4))?;
        }
        Ok(())
    }

    fn date_axis(&self, canvas: &Canvas<'_>, axes: &Axes) -> Result<()> {
        let bottom = FRAME.3;
        let n = self.history.len() + self.horizon;
        let dates = self.dates();
        let every = (n / 8).max(1);
        // counted from the last known day, so that it has a tick of its own
        let anchor = self.history.len().saturating_sub(1);
        let mut year = None;
        for i in (anchor % every..n).step_by(every) {
            let x = axes.x(i as f64);
            canvas.line(&[(x, bottom), (x, bottom + 7.0)], 1.4, AXIS)?;
            let Some(date) = dates.get(i).copied().flatten() else {
                let text = (i as i64 - self.history.len() as i64 + 1).to_string();
                canvas.text(
                    &text,
                    (x, bottom + 26.0),
                    18.0,
                    Weight::Regular,
                    Align::Center,
                    QUIET,
                )?;
                continue;
            };
            canvas.text(
                &date.short(),
                (x, bottom + 26.0),
                18.0,
                Weight::Regular,
                Align::Center,
                QUIET,
            )?;
            if year != Some(date.year) {
                let text = date.year.to_string();
                canvas.text(
                    &text,
                    (x, bottom + 50.0),
                    18.0,
                    Weight::Medium,
                    Align::Center,
                    QUIET,
                )?;
                year = Some(date.year);
            }
        }
        Ok(())
    }

    /// One date per position; after the last known one, weekdays.
    fn dates(&self) -> Vec<Option<Date>> {
        let n = self.history.len() + self.horizon;
        let known = self.history_dates.iter().chain(self.truth_dates);
        let mut dates: Vec<Option<Date>> = known.map(|d| Date::parse(d)).take(n).collect();
        if self.history_dates.len() != self.history.len() {
            dates.clear();
        }
        while dates.len() < n {
            dates.push(dates.last().copied().flatten().map(Date::next_weekday));
        }
        dates
    }
}

/// The 5, 25, 50, 75 and 95 % points of one day, interpolated between order statistics.
pub(crate) fn quantiles(samples: &[f64], horizon: usize, day: usize) -> [f64; 5] {
    let mut values: Vec<f64> = samples.iter().skip(day).step_by(horizon).copied().collect();
    values.sort_by(f64::total_cmp);
    [0.05, 0.25, 0.5, 0.75, 0.95].map(|p| {
        let at = p * values.len().saturating_sub(1) as f64;
        let (lo, hi) = (at.floor() as usize, at.ceil() as usize);
        let get = |i: usize| values.get(i).copied().unwrap_or(f64::NAN);
        get(lo) + (get(hi) - get(lo)) * (at - at.floor())
    })
}

struct Axes {
    ticks: Vec<f64>,
    lo: f64,
    hi: f64,
    /// Position of the last day.
    last: f64,
}

impl Axes {
    fn x(&self, i: f64) -> f64 {
        FRAME.0 + (FRAME.2 - FRAME.0) * i / self.last
    }

    fn y(&self, v: f64) -> f64 {
        FRAME.3 - (FRAME.3 - FRAME.1) * (v - self.lo) / (self.hi - self.lo)
    }

    fn point(&self, i: f64, v: f64) -> (f64, f64) {
        (self.x(i), self.y(v))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fan(samples: &[f64], truth: &[f64], path: Option<&str>) -> Vec<u8> {
        let history: Vec<f64> = (0..32).map(|i| 15.0 + 3.0 * (f64::from(i) * 0.4).sin()).collect();
        let mut date = Date::parse("2019-12-02").unwrap();
        let mut dates = Vec::new();
        for _ in 0..32 {
            dates.push(date.iso());
            date = date.next_weekday();
        }
        let fan = Fan {
            title: "VIX, the next 32 trading days".into(),
            subtitle: "512 samples of the carried model: temporal network, CIR process".into(),
            quantity: "VIX close".into(),
            history: &history,
            history_dates: &dates,
            samples,
            horizon: 32,
            truth,
            truth_dates: &[],
        };
        let png = fan.png().unwrap();
        if let Some(path) = path {
            std::fs::write(path, &png).unwrap();
        }
        png
    }

    #[test]
    fn a_fan_is_drawn_with_text_and_without_a_system_font() {
        let mut samples = Vec::new();
        let mut state = 1u64;
        for _ in 0..512 {
            let mut v: f64 = 16.0;
            for _ in 0..32 {
                let z = (0..12).map(|_| {
                    state =
                        state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    (state >> 11) as f64 / (1u64 << 53) as f64
                });
                v += 0.06 * (18.0 - v) + 0.3 * v.sqrt() * (z.sum::<f64>() - 6.0);
                v = v.max(5.0);
                samples.push(v);
            }
        }
        let truth: Vec<f64> = (0..32).map(|i| 16.0 + f64::from(i) * 0.2).collect();
        let png = fan(&samples, &truth, std::env::var("DIFFX_FAN").ok().as_deref());
        let mut reader = png::Decoder::new(std::io::Cursor::new(png)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        assert_eq!((info.width, info.height), (WIDTH, HEIGHT));
        // the title's row has dark letters, the bands and the truth their inks
        let at = |x: usize, y: usize| &pixels[(y * WIDTH as usize + x) * 3..][..3];
        let dark = (0..WIDTH as usize).filter(|x| at(*x, 56)[0] < 0x60).count();
        assert!(dark > 20, "the title has {dark} dark pixels");
        for ink in [WIDE, NARROW, MEDIAN, TRUTH] {
            let has = pixels.as_chunks::<3>().0.contains(&[ink.0, ink.1, ink.2]);
            assert!(has, "{ink:?} is nowhere");
        }
    }

    #[test]
    fn quantiles_interpolate() {
        let values: Vec<f64> = (0..=100).map(f64::from).collect();
        assert_eq!(quantiles(&values, 1, 0), [5.0, 25.0, 50.0, 75.0, 95.0]);
        assert_eq!(quantiles(&[1.0, 9.0, 3.0, 9.0], 2, 0)[2], 2.0);
    }

    #[test]
    fn nothing_to_draw_is_an_error() {
        assert!(Fan { horizon: 3, samples: &[1.0, 2.0], ..Fan::default() }.png().is_err());
        assert!(Fan { horizon: 1, samples: &[f64::NAN], ..Fan::default() }.png().is_err());
    }
}
