//! Implicit score matching (Hyvärinen 2005; Rademacher probes as in Hutchinson 1989): learns the denoiser of data that
//! is *already* noise of one known level, from that data alone. With the score `s(w) = to_score(w, D, sigma)`,
//!
//! `E[|s|²/2 + div s] = E[|s - d/dw log q|²]/2 + const`
//!
//! for every density q that vanishes at the ends of its range fast enough; for a squared Bessel process that means
//! delta > 2. One number per sample: the divergence is exact. More: one probe v of ±1 per element, `v · (ds/dw v)`.

use crate::level;
use core::ffi::CStr;
use diffx_plugin::{
    Builder, Config, Error, Factory, Loss, Node, Objective, ObjectiveInfo, POSITIVE, Result,
    purpose, schema,
};

#[derive(Debug)]
pub(crate) struct Ism {
    sigma: f64,
}

impl Factory for Ism {
    const ID: &'static CStr = c"org.diffx.ism";
    const SUMMARY: &'static CStr = c"implicit score matching of data that is noise of one level";
    const SCHEMA: Option<&'static CStr> = schema![
        "sigma": number "noise level of the data", default 1, exclusiveMinimum 0;
    ];

    fn create(config: &mut Config) -> Result<Self> {
        Ok(Self { sigma: config.f64("sigma", 1.0, POSITIVE)? })
    }
}

impl Objective for Ism {
    fn info(&self) -> ObjectiveInfo {
        ObjectiveInfo { metrics: vec!["loss".into()], ..ObjectiveInfo::default() }
    }

    fn loss<'b>(&self, b: Builder<'b>, io: &mut Loss<'b>) -> Result<()> {
        let n = io.components();
        if n == 0 {
            return Err(Error::invalid("there are 0 components, want at least 1"));
        }
        if (0..n).any(|c| level::is_discrete(b, c)) {
            return Err(Error::invalid("a component is discrete, ism wants continuous ones"));
        }
        let Some(base) = b.denoiser_of("base") else {
            return Err(Error::invalid("there is no network slot named base"));
        };
        let w: Vec<_> = (0..n).map(|c| b.process(c).encode(io.x0(c))).collect();
        let sigma: Vec<_> = w.iter().map(|w| at(b, self.sigma, *w)).collect();
        let d = b.denoise_at(base, &w, &sigma);
        let mut loss = b.scalar(0.0);
        for (c, d) in d.into_iter().enumerate() {
            let score = b.process(c).to_score(w[c], d, sigma[c]);
            let probe = probe(b, w[c]);
            let slope = b.grad(score, probe, &w[c..=c]).pop().unwrap_or(b.error_node());
            // sigma² makes the loss of a level comparable to that of any other
            let part = score.square() * 0.5 + slope * probe;
            loss = loss + (sigma[c].square() * part).mean(&[]);
        }
        io.set_loss(loss);
        io.set_metric(0, loss);
        Ok(())
    }
}

/// One level per row, `[batch, 1, ..]`.
fn at<'b>(b: Builder<'b>, sigma: f64, like: Node<'b>) -> Node<'b> {
    b.full(sigma, &level::shape(like))
}

/// Ones where a row has one element, else signs.
fn probe<'b>(b: Builder<'b>, like: Node<'b>) -> Node<'b> {
    let shape = like.shape();
    if shape.iter().skip(1).product::<i64>() == 1 {
        return b.full(1.0, &shape);
    }
    let coin = b.uniform(&shape, purpose::DATA).less(0.5);
    coin.choose(b.full(1.0, &shape), b.full(-1.0, &shape))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn config_is_checked() {
        let ism = |json: &str| Ism::create(&mut Config::parse(json).unwrap());
        assert_eq!(ism("{}").unwrap().sigma, 1.0);
        assert!(ism(r#"{"sigma":0}"#).unwrap_err().message.starts_with("sigma is 0"));
    }
}
