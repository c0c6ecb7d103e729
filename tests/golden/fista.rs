//! The guidance `fista` around a network that says 0: D is what it makes of 0. f64; the iterate at the row's 1e-12, the
//! solution at its 1e-9.

use crate::graph::{evaluate_in, registry, vector};
use crate::rows::{Row, numbers};
use diffx::sample::Eval;
use serde_json::{Value, json};

fn solved(row: &Row, config: Value) -> Vec<f64> {
    let a = numbers(&row.inputs["A"]);
    let y = numbers(&row.inputs["y"]);
    let size = a.len() / y.len();
    let r = registry();
    let null = r.model("null", &json!({"dims": [size]})).unwrap();
    let mut parts = vector(size as i64, ("ve", json!({})), null, 1.0);
    let mut all = json!({
        "matrix": a, "rows": y.len(), "measured": y, "lambda": row.param("lam")
    });
    all.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
    parts.guidances.push(r.guidance("fista", &all).unwrap());
    let out = evaluate_in(&parts, 1, |f| {
        let (w, sigma) = (f.tensor(&[1, size], &vec![0.0; size]), f.tensor(&[1], &[0.5]));
        let eval = Eval { phase: 0, x: vec![w], sigma: vec![sigma], cond: None };
        vec![f.b.denoise(0, &[eval]).unwrap()[0][0]]
    });
    out.into_iter().next().unwrap()
}

pub(crate) fn check(row: &Row) {
    match row.id.as_str() {
        "fista.iter3" => {
            let l = row.param("L");
            row.agree(&solved(row, json!({"iterations": 3, "lipschitz": l})));
            let other = solved(row, json!({"iterations": 4, "lipschitz": l}));
            assert!((other[0] - row.expected[0]).abs() > 1e-3);
        }
        "fista.lasso" => {
            let x = solved(row, json!({"iterations": 300}));
            row.agree(&x);
            assert_eq!(x[2..], [0.0, 0.0], "not sparse");
            // a larger step than its own L gets there too, and fewer iterations do not
            row.agree(&solved(row, json!({"iterations": 400, "lipschitz": 2.5})));
            let early = solved(row, json!({"iterations": 5}));
            assert!((early[0] - row.expected[0]).abs() > 1e-3);
        }
        id => panic!("{id} is not read"),
    }
}
