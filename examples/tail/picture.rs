//! Reward against KL: the frontier, and the laws that were tuned.

use crate::Point;
use crate::canvas::{Align, Canvas, Ink, Weight, encode_png, page};
use crate::frontier::Frontier;
use crate::ticks;
use diffx::base::Result;
use diffx::weights::atomic;
use std::path::Path;

const SIZE: (u32, u32) = (1100, 720);
/// Left, top, right, bottom.
const FRAME: (f64, f64, f64, f64) = (96.0, 130.0, 1050.0, 640.0);
const TEXT: Ink = Ink::solid(0x1F_29_33);
const QUIET: Ink = Ink::solid(0x69_74_80);
const GRID: Ink = Ink::solid(0xE9_EC_EF);
const INKS: [Ink; 4] = [
    Ink::solid(0x1C_5D_99),
    Ink::solid(0xC8_46_2F),
    Ink::solid(0x4C_8C_4A),
    Ink::solid(0x8A_56_AC),
];

pub(crate) fn draw(
    path: &Path,
    frontier: &Frontier,
    points: &[Point],
    names: &[&str],
) -> Result<()> {
    let finite = points.iter().filter(|p| p.kl.is_finite() && p.reward.is_finite());
    let most = finite.clone().map(|p| p.kl).fold(0.5, f64::max) * 1.08;
    let low = finite.clone().map(|p| p.reward).fold(frontier.mean, f64::min);
    let mut tilts = Vec::new();
    for i in 0..400 {
        let (reward, kl) = frontier.tilt(f64::from(i) * 0.1);
        if kl > most {
            break;
        }
        tilts.push((kl, reward));
    }
    let high =
        finite.clone().map(|p| p.reward).chain(tilts.iter().map(|t| t.1)).fold(low, f64::max);
    let (across, up) = (ticks::nice(0.0, most, 6), ticks::nice(low, high, 6));
    let span = |list: &[f64]| (list[0], list[list.len() - 1]); // `nice` gives two at least
    let ((x0, x1), (y0, y1)) = (span(&across), span(&up));
    let at = |kl: f64, reward: f64| {
        let (left, top, right, bottom) = FRAME;
        let x = left + (right - left) * (kl - x0) / (x1 - x0);
        (x, bottom - (bottom - top) * (reward - y0) / (y1 - y0))
    };
    let rgb = page(SIZE.0, SIZE.1, Ink::solid(0xFF_FF_FF), |c: &Canvas<'_>| {
        c.text(
            "VIX scenarios tuned to their largest close",
            (96.0, 44.0),
            27.0,
            Weight::Medium,
            Align::Left,
            TEXT,
        )?;
        let below = "mean of log max(x) against KL to the model as it was; as many evaluations of the network each";
        c.text(below, (96.0, 80.0), 17.0, Weight::Regular, Align::Left, QUIET)?;
        for x in &across {
            c.line(&[at(*x, y0), at(*x, y1)], 1.0, GRID)?;
            let text = ticks::label(*x, across[1] - across[0]);
            c.text(
                &text,
                (at(*x, y0).0, FRAME.3 + 20.0),
                16.0,
                Weight::Regular,
                Align::Center,
                QUIET,
            )?;
        }
        for y in &up {
            c.line(&[at(x0, *y), at(x1, *y)], 1.0, GRID)?;
            let text = ticks::label(*y, up[1] - up[0]);
            c.text(
                &text,
                (FRAME.0 - 12.0, at(x0, *y).1),
                16.0,
                Weight::Regular,
                Align::Right,
                QUIET,
            )?;
        }
        c.text("KL, nats", (FRAME.2, FRAME.3 + 50.0), 16.0, Weight::Regular, Align::Right, QUIET)?;
        let line: Vec<(f64, f64)> = tilts.iter().map(|(kl, r)| at(*kl, *r)).collect();
        c.line(&line, 2.0, QUIET)?;
        let mut key = 0.0;
        let mut told = |ink: Ink, text: &str| {
            let y = FRAME.3 - 24.0 - 26.0 * key;
            key += 1.0;
            c.dot((FRAME.2 - 230.0, y), 6.0, ink)?;
            c.text(text, (FRAME.2 - 214.0, y), 17.0, Weight::Regular, Align::Left, TEXT)
        };
        told(QUIET, "the most there is (tilts)")?;
        for (i, name) in names.iter().enumerate().rev() {
            told(INKS[i % INKS.len()], name)?;
        }
        for (i, _) in names.iter().enumerate() {
            let ink = INKS[i % INKS.len()];
            let own: Vec<&Point> = finite.clone().filter(|p| p.method == i).collect();
            let line: Vec<(f64, f64)> = own.iter().map(|p| at(p.kl, p.reward)).collect();
            c.line(&line, 1.5, ink.alpha(0.5))?;
            for p in own {
                let [e, f] = p.errors;
                c.line(&[at(p.kl, p.reward - e), at(p.kl, p.reward + e)], 1.5, ink)?;
                c.line(&[at(p.kl - f, p.reward), at(p.kl + f, p.reward)], 1.5, ink)?;
                c.dot(at(p.kl, p.reward), 6.0, ink)?;
            }
        }
        Ok(())
    })?;
    let png = encode_png(&rgb, SIZE.0, SIZE.1)?;
    atomic::replace(path, |out| out.write_all(&png))
}
