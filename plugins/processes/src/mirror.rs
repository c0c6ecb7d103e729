//! Gaussian noise in the image of a mirror map (specs guidance_samplers 2.2): numbers that must stay within bounds are
//! taken to z, where they may be any, are trained and sampled there and come back by the inverse. So every sample is
//! within the bounds, whatever the network says and whatever guidance does; with y the distance to a bound over `scale`,
//!
//! | bounds | map | z | back |
//! |---|---|---|---|
//! | both | | `log((x - low)/(high - x))` | `low + (high - low) sigmoid(z)` |
//! | one | `log` | `log y` | `scale e^z` from the bound |
//! | one | `softplus` | `log(e^y - 1)` | `scale log(1 + e^z)` from the bound: far from it z is y |
//!
//! w = z - center, of which a trainer makes 0 the mean. A model must be trained in z: the map is part of what its network
//! knows, and of another model's network it would make nonsense. What lies on a bound has no z: it is taken from `inset`
//! within, a share of the width or of `scale`. Data that crowd at a bound are spread far in z; for those `softplus`, or
//! wider bounds.

use crate::additive::Additive;
use crate::gaussian;
use core::ffi::CStr;
use diffx_plugin::{
    Config, Data, Error, FINITE, Factory, Fitted, Node, POSITIVE, Result, Stats, schema,
};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Map {
    Both {
        low: f64,
        high: f64,
    },
    /// Distances from the bound, above it or below it.
    One {
        bound: f64,
        side: f64,
        soft: bool,
    },
}

#[derive(Debug)]
pub(crate) struct Mirror {
    map: Map,
    scale: f64,
    center: f64,
    inset: f64,
}

impl Factory for Mirror {
    const ID: &'static CStr = c"org.diffx.mirror";
    const SUMMARY: &'static CStr =
        c"numbers within bounds, noised where they have none (mirror map)";
    const SCHEMA: Option<&'static CStr> = schema![
        "low": number "no number is below it; without low and high both, 0";
        "high": number "no number is above it; without low and high both, 1";
        "map": string "of one bound: the logarithm of the distance, or one that leaves what is far as it is", default "log", enum ["log", "softplus"];
        "scale": number "of one bound: the distance that counts as 1", default 1, exclusiveMinimum 0;
        "center": number "z that has w = 0; a trainer sets it to the mean", default 0;
        "inset": number "what is nearer to a bound than this share of the width, or of scale, is taken from there", default 0.00001, minimum 0.000001, maximum 0.1;
    ];

    fn create(config: &mut Config) -> Result<Self> {
        let (low, high) = (config.opt_f64("low", FINITE)?, config.opt_f64("high", FINITE)?);
        let soft = config.one_of("map", &[("log", false), ("softplus", true)])?;
        let named = config.has("map") || config.has("scale");
        let scale = config.f64("scale", 1.0, POSITIVE)?;
        let map = match (low, high) {
            // who names a map or a scale means one bound
            (None, None) if named => Map::One { bound: 0.0, side: 1.0, soft },
            (None, None) => Map::Both { low: 0.0, high: 1.0 },
            (Some(low), Some(high)) if low < high => Map::Both { low, high },
            (Some(low), Some(high)) => {
                return Err(Error::invalid(format!(
                    "low is {low}, want below high, which is {high}"
                )));
            }
            (Some(bound), None) => Map::One { bound, side: 1.0, soft },
            (None, Some(bound)) => Map::One { bound, side: -1.0, soft },
        };
        if named && matches!(map, Map::Both { .. }) {
            return Err(Error::invalid("map and scale are of one bound, and there are two"));
        }
        let center = config.f64("center", 0.0, FINITE)?;
        let inset = config.f64("inset", 1e-5, 1e-6..=0.1)?; // a smaller one is none beside 1 in f32
        Ok(Self { map, scale, center, inset })
    }
}

impl Mirror {
    /// z of a number, as `encode` makes it; an error where it is outside.
    fn z(&self, x: f64) -> Result<f64> {
        match self.map {
            Map::Both { low, high } => {
                if !(low..=high).contains(&x) {
                    return Err(Error::invalid(format!("a value is {x}, want {low} to {high}")));
                }
                let share = ((x - low) / (high - low)).clamp(self.inset, 1.0 - self.inset);
                Ok((share / (1.0 - share)).ln())
            }
            Map::One { bound, side, soft } => {
                let y = side * (x - bound) / self.scale;
                if y < 0.0 {
                    let word = if side > 0.0 { "at least" } else { "at most" };
                    return Err(Error::invalid(format!("a value is {x}, want {word} {bound}")));
                }
                let y = y.max(self.inset);
                Ok(if soft { y + (-(-y).exp_m1()).ln() } else { y.ln() })
            }
        }
    }
}

impl Additive for Mirror {
    /// The mean of z. Numbers beyond the bounds are refused here, as far as a trainer shows them.
    fn fit(&self, data: &Data<'_>) -> Result<Vec<Fitted>> {
        let z: Vec<f64> = data.values.iter().map(|x| self.z(*x)).collect::<Result<_>>()?;
        let mean = Data { values: &z, ordered: data.ordered }.moments()?.mean;
        Ok(vec![Fitted::place(c"center", mean)])
    }

    /// 0.002 sd to 80 sd of z.
    fn range(&self, stats: &Stats) -> Result<(f64, f64)> {
        let sd = gaussian::deviation(stats)?;
        Ok((0.002 * sd, 80.0 * sd))
    }

    /// sigma(t) = t
    fn clock(&self, time: f64) -> f64 {
        time
    }

    fn encode<'b>(&self, x: Node<'b>) -> Node<'b> {
        let z = match self.map {
            Map::Both { low, high } => {
                let share = ((x - low) * (1.0 / (high - low))).clamp(self.inset, 1.0 - self.inset);
                (share / (1.0 - share)).log()
            }
            Map::One { bound, side, soft } => {
                let y = ((x - bound) * (side / self.scale)).max(self.inset);
                if soft { y + (-(-y).expm1()).log() } else { y.log() }
            }
        };
        if self.center == 0.0 { z } else { z - self.center }
    }

    fn decode<'b>(&self, w: Node<'b>, _: Node<'b>) -> Node<'b> {
        let z = if self.center == 0.0 { w } else { w + self.center };
        match self.map {
            // a product may round beyond the bound that it is of
            Map::Both { low, high } => (z.sigmoid() * (high - low) + low).clamp(low, high),
            Map::One { bound, side, soft } => {
                let y = if soft { z.softplus() } else { z.exp() };
                y * (side * self.scale) + bound
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mirror(json: &str) -> Result<Mirror> {
        Mirror::create(&mut Config::parse(json)?)
    }

    #[test]
    fn bounds_are_checked() {
        let message = |json: &str| mirror(json).unwrap_err().message;
        assert_eq!(message(r#"{"low":2,"high":2}"#), "low is 2, want below high, which is 2");
        assert_eq!(
            message(r#"{"low":0,"high":1,"map":"softplus"}"#),
            "map and scale are of one bound, and there are two"
        );
        assert_eq!(mirror("{}").unwrap().map, Map::Both { low: 0.0, high: 1.0 });
    }

    #[test]
    fn maps_are_those_of_their_inverses() {
        let both = mirror(r#"{"low":-1,"high":3}"#).unwrap();
        let back = |z: f64| -1.0 + 4.0 / (1.0 + (-z).exp());
        for x in [-0.999, 0.2, 2.9] {
            assert!((back(both.z(x).unwrap()) - x).abs() < 1e-12);
        }
        let soft = mirror(r#"{"high":3,"map":"softplus","scale":2}"#).unwrap();
        let back = |z: f64| 3.0 - 2.0 * z.exp().ln_1p();
        for x in [2.9, 0.2, -40.0] {
            assert!((back(soft.z(x).unwrap()) - x).abs() < 1e-12);
        }
        // far from the bound it leaves numbers as they are
        assert!((soft.z(-97.0).unwrap() - 50.0).abs() < 1e-12);
    }

    #[test]
    fn data_beyond_a_bound_are_named() {
        let fit = |json: &str, values: &[f64]| {
            mirror(json).unwrap().fit(&Data { values, ordered: false })
        };
        let said = fit(r#"{"low":0,"high":2}"#, &[0.5, 2.5, 1.0]).unwrap_err().message;
        assert_eq!(said, "a value is 2.5, want 0 to 2");
        let said = fit(r#"{"high":2}"#, &[0.5, 2.5, 1.0]).unwrap_err().message;
        assert_eq!(said, "a value is 2.5, want at most 2");
        // a bound itself is taken from within: by 2^-16, which 1 less it holds exactly
        let found = fit(r#"{"inset":0.0000152587890625}"#, &[0.0, 0.5, 1.0]).unwrap();
        assert!(found[0].value.abs() < 1e-12);
    }
}
