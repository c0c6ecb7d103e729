//! The golden file: rows of id, parameters, inputs, expected numbers and a tolerance.

use serde_json::Value;
use std::path::PathBuf;

pub(crate) struct Rows {
    pub(crate) source: String,
    rows: Vec<Value>,
}

#[derive(Clone)]
pub(crate) struct Row {
    pub(crate) id: String,
    pub(crate) params: Value,
    pub(crate) inputs: Value,
    pub(crate) expected: Vec<f64>,
    pub(crate) rtol: f64,
}

impl Rows {
    /// The rows that travel with the repository.
    pub(crate) fn carried() -> Option<Self> {
        Some(Self::parse("tests/golden/processes.json", include_str!("processes.json")))
    }

    /// All rows, or `None` with a word where they are missing.
    pub(crate) fn shared() -> Option<Self> {
        let folder = std::env::var_os("DIFFX_GOLDEN").map(PathBuf::from).unwrap_or_else(|| {
            let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
            std::env::var_os("DIFFX_SHARED")
                .map_or_else(|| root.join("../shared"), PathBuf::from)
                .join("golden")
        });
        let path = folder.join("processes.json");
        match std::fs::read_to_string(&path) {
            Ok(text) => Some(Self::parse("the shared folder", &text)),
            Err(e) => {
                println!("skipped: no shared golden rows ({}: {e})", path.display());
                None
            }
        }
    }

    fn parse(source: &str, text: &str) -> Self {
        let file: Value = serde_json::from_str(text).unwrap();
        Self { source: source.to_owned(), rows: file["rows"].as_array().unwrap().clone() }
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn of(&self, process: &str) -> impl Iterator<Item = Row> {
        let process = process.to_owned();
        self.rows.iter().filter(move |r| r["process"] == process.as_str()).map(|r| Row {
            id: r["id"].as_str().unwrap().to_owned(),
            params: r["params"].clone(),
            inputs: r["inputs"].clone(),
            expected: numbers(&r["expected"]),
            rtol: r["rtol"].as_f64().unwrap(),
        })
    }
}

impl Row {
    pub(crate) fn param(&self, name: &str) -> f64 {
        self.params[name].as_f64().unwrap_or_else(|| panic!("{}: no parameter {name}", self.id))
    }

    pub(crate) fn input(&self, name: &str) -> f64 {
        self.inputs[name].as_f64().unwrap_or_else(|| panic!("{}: no input {name}", self.id))
    }

    /// `params.mixture.<name>`.
    pub(crate) fn mixture(&self, name: &str) -> Vec<f64> {
        numbers(&self.params["mixture"][name])
    }

    /// Compares number by number with the row's tolerance, relative to max(1e-3, |want|).
    pub(crate) fn agree(&self, got: &[f64]) {
        assert_eq!(got.len(), self.expected.len(), "{}: {got:?} for {:?}", self.id, self.expected);
        for (i, (got, want)) in got.iter().zip(&self.expected).enumerate() {
            let error = (got - want).abs() / want.abs().max(1e-3);
            assert!(
                error <= self.rtol,
                "{}: number {i} is {got:.17e}, want {want:.17e}, relative error {error:.1e} above {:.1e}",
                self.id,
                self.rtol
            );
        }
    }
}

pub(crate) fn numbers(v: &Value) -> Vec<f64> {
    match v {
        Value::Array(a) => a.iter().flat_map(numbers).collect(),
        v => v.as_f64().into_iter().collect(),
    }
}
