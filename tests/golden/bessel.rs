//! R_nu(z) = I_{nu+1}(z) / I_nu(z), as the op computes it.

use crate::graph::{evaluate, process};
use crate::rows::Row;
use serde_json::json;

pub(crate) fn check(row: &Row) {
    let any = process("besq", &json!({}));
    let got = evaluate(&any, 1, |f| {
        let z = f.same(row.input("z"));
        vec![f.ratio(row.param("nu"), z)]
    });
    row.agree(&got[0]);
}
