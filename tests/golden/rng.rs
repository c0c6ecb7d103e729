//! Known answers of the generator and of the draws made from it.

use crate::rows::{Row, numbers};
use diffx::base::philox::{Stream, philox4x32_10};

pub(crate) fn check(row: &Row) {
    let word = |v: f64| v as u32;
    if row.id.starts_with("rng.philox") {
        let c = numbers(&row.inputs["counter"]);
        let k = numbers(&row.inputs["key"]);
        let out = philox4x32_10(
            [word(c[0]), word(c[1]), word(c[2]), word(c[3])],
            [word(k[0]), word(k[1])],
        );
        return row.agree(&out.map(f64::from));
    }
    let seed = row.params["seed"].as_str().unwrap().trim_start_matches("0x");
    let stream = Stream {
        seed: u64::from_str_radix(seed, 16).unwrap(),
        purpose: row.input("purpose") as u8,
        step: row.input("step") as u32,
        ordinal: row.inputs["draw"].as_f64().unwrap_or(0.0) as u16,
    };
    let elem = row.input("elem") as u64;
    if row.id.starts_with("rng.normal4") {
        // the row names the block; element e of a node takes lane e mod 4 of the block of e / 4
        let got: Vec<f64> = (0..4).map(|lane| stream.normal_f64(elem * 4 + lane)).collect();
        return row.agree(&got);
    }
    assert!(row.id.starts_with("rng.gamma"), "no reader for {}", row.id);
    let (value, blocks) = stream.gamma_f64(elem, row.param("shape"));
    row.agree(&[value, f64::from(blocks)]);
}
