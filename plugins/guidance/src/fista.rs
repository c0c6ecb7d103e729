//! Sparse consistency with a measurement y = A x (specs processes 8): D becomes what FISTA makes of it in a few iterations
//! on `|A x - y|²/2 + lambda |x|_1`, started at D (Beck and Teboulle 2009):
//! `x' = S(z - Aᵀ(A z - y)/L, lambda/L)`, `z' = x' + (t - 1)/t' (x' - x)`, t' = (1 + √(1 + 4t²))/2, S the soft threshold.
//!
//! Few iterations at every step keep a sample near the denoiser's law, as decomposed diffusion sampling does with
//! conjugate gradients; many give the LASSO solution whatever D was. It acts on the data, the first component, all its
//! elements in one vector. y is `measured`, or the condition named `y`. L is 1.1 times the largest eigenvalue of AᵀA by
//! 50 power iterations, unless given; it must not be below that eigenvalue.

use core::ffi::CStr;
use diffx_plugin::{
    Attr, Builder, Config, Error, Eval, FINITE, Factory, Guidance, GuidanceInfo, Hooks, Node,
    POSITIVE, Result, Stage, Wrap, abi, attr, op, schema,
};

#[derive(Debug)]
pub(crate) struct Fista {
    /// `[rows, columns]`
    matrix: Vec<f64>,
    rows: usize,
    columns: usize,
    measured: Option<Vec<f64>>,
    lambda: f64,
    lipschitz: f64,
    iterations: usize,
}

impl Factory for Fista {
    const ID: &'static CStr = c"org.diffx.fista";
    const SUMMARY: &'static CStr = c"sparse consistency with a linear measurement, by FISTA from D";
    const SCHEMA: Option<&'static CStr> = schema![
        "matrix": numbers "A of y = A x, row after row; default [1]";
        "rows": integer "of the matrix: how many numbers are measured", default 1, minimum 1, maximum 65536;
        "measured": numbers "y of every sample; when absent the condition y";
        "lambda": number "weight of the sum of absolute values", default 0.01, minimum 0;
        "lipschitz": number "L, at least the largest eigenvalue of A'A; when absent 1.1 times that", exclusiveMinimum 0;
        "iterations": integer "at each evaluation", default 10, minimum 1, maximum 500;
    ];

    fn create(config: &mut Config) -> Result<Self> {
        let matrix = config.f64s("matrix", FINITE)?.unwrap_or_else(|| vec![1.0]);
        let rows = config.usize("rows", 1, 1..=65536)?;
        let measured = config.f64s("measured", FINITE)?;
        let lambda = config.f64("lambda", 0.01, 0.0..)?;
        let lipschitz = config.opt_f64("lipschitz", POSITIVE)?;
        let iterations = config.usize("iterations", 10, 1..=500)?;
        if matrix.is_empty() || !matrix.len().is_multiple_of(rows) {
            let n = matrix.len();
            return Err(Error::invalid(format!(
                "matrix has {n} numbers, want {rows} rows of them"
            )));
        }
        if let Some(y) = measured.as_ref().filter(|y| y.len() != rows) {
            let n = y.len();
            return Err(Error::invalid(format!("measured has {n} numbers, want {rows}")));
        }
        let columns = matrix.len() / rows;
        let lipschitz = lipschitz.unwrap_or_else(|| 1.1 * largest(&matrix, columns));
        if !(lipschitz.is_finite() && lipschitz > 0.0) {
            return Err(Error::invalid(format!(
                "A'A has the eigenvalue {lipschitz}, want above 0"
            )));
        }
        Ok(Self { matrix, rows, columns, measured, lambda, lipschitz, iterations })
    }
}

/// The largest eigenvalue of AᵀA, from below.
fn largest(matrix: &[f64], columns: usize) -> f64 {
    // a start that is not orthogonal to an eigenvector by symmetry
    let mut v: Vec<f64> = (0..columns).map(|i| 1.0 + 0.3 * ((i * 7 + 1) as f64).sin()).collect();
    let mut value = 0.0;
    for _ in 0..50 {
        let mut next = vec![0.0; columns];
        for row in matrix.chunks(columns) {
            let dot: f64 = row.iter().zip(&v).map(|(a, v)| a * v).sum();
            next.iter_mut().zip(row).for_each(|(n, a)| *n += a * dot);
        }
        let norm = |v: &[f64]| v.iter().map(|x| x * x).sum::<f64>().sqrt();
        let size = norm(&next);
        if size == 0.0 {
            return 0.0;
        }
        value = size / norm(&v);
        v = next.iter().map(|x| x / size).collect();
    }
    value
}

impl Guidance for Fista {
    const HOOKS: Hooks = Hooks::WRAP;

    fn info(&self) -> GuidanceInfo {
        GuidanceInfo {
            stage: Stage::State,
            slots: vec![],
            networks: vec![],
            group: 1,
            exact_for: -1.0,
        }
    }

    fn wrap<'b>(&self, b: Builder<'b>, io: &mut Wrap<'b>) -> Result<()> {
        if b.component(0).is_none_or(|c| c.discrete) {
            return Err(Error::invalid("the first component is discrete, fista wants numbers"));
        }
        let evals: Vec<Eval<'_, 'b>> = io
            .evals
            .iter()
            .map(|e| Eval { phase: e.phase, x: &e.x, sigma: &e.sigma, cond: e.cond.as_deref() })
            .collect();
        let mut all = b.denoise(io.inner, &evals);
        for (e, d) in evals.iter().zip(&mut all) {
            if let Some(first) = d.first_mut() {
                *first = self.solve(b, *first, e.cond)?;
            }
        }
        drop(evals);
        for (i, d) in all.into_iter().enumerate() {
            for (c, d) in d.into_iter().enumerate() {
                io.set_out(i, c, d);
            }
        }
        Ok(())
    }
}

impl Fista {
    fn solve<'b>(
        &self,
        b: Builder<'b>,
        d: Node<'b>,
        cond: Option<&[Node<'b>]>,
    ) -> Result<Node<'b>> {
        let shape = d.shape();
        let size: i64 = shape.iter().skip(1).product();
        if size != self.columns as i64 {
            let columns = self.columns;
            return Err(Error::invalid(format!(
                "a sample has {size} numbers, the matrix {columns} columns"
            )));
        }
        let law = b.process(0);
        let mut level = shape.to_vec();
        level.iter_mut().skip(1).for_each(|d| *d = 1);
        let start = law.decode(d, b.full(0.0, &level)).reshape(&[-1, size]);
        let dims = [self.rows as i64, size];
        let a = b.constant_f64(&dims, &self.matrix).cast(0);
        let y = match &self.measured {
            Some(y) => b.constant_f64(&[1, self.rows as i64], y).cast(0),
            None => self.condition(b, cond)?,
        };
        let (mut x, mut z, mut t) = (start, start, 1.0_f64);
        for _ in 0..self.iterations {
            let gap = b.emit(op::MATMUL, &[z, a], &[Attr::int(attr::TRANS_B, 1)]) - y;
            let moved = z - gap.matmul(a) * (1.0 / self.lipschitz);
            let next = moved.sign() * (moved.abs() - self.lambda / self.lipschitz).max(0.0);
            let t_next = (1.0 + (1.0 + 4.0 * t * t).sqrt()) / 2.0;
            z = next + (next - x) * ((t - 1.0) / t_next);
            (x, t) = (next, t_next);
        }
        Ok(law.encode(x.reshape(&shape)))
    }

    fn condition<'b>(&self, b: Builder<'b>, cond: Option<&[Node<'b>]>) -> Result<Node<'b>> {
        let Some(at) = b.cond_index("y") else {
            let text = "the network has no condition y, fista wants one or measured";
            return Err(Error::invalid(text));
        };
        let y = cond.and_then(|c| c.get(at)).copied().unwrap_or_else(|| b.cond(at).0);
        let size: i64 = y.shape().iter().skip(1).product();
        if size != self.rows as i64 || y.dtype() == abi::I32 {
            let rows = self.rows;
            return Err(Error::invalid(format!("condition y has {size} numbers, want {rows}")));
        }
        Ok(y.reshape(&[-1, size]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn config_is_checked() {
        let of = |json: &str| Fista::create(&mut Config::parse(json).unwrap());
        let message = |json: &str| of(json).unwrap_err().message;
        assert_eq!(
            message(r#"{"matrix":[1,2,3],"rows":2}"#),
            "matrix has 3 numbers, want 2 rows of them"
        );
        assert_eq!(message(r#"{"measured":[1,2]}"#), "measured has 2 numbers, want 1");
        assert_eq!(message(r#"{"matrix":[0]}"#), "A'A has the eigenvalue 0, want above 0");
    }

    #[test]
    fn the_largest_eigenvalue() {
        // A'A of diag(3, 1)
        assert!((largest(&[3.0, 0.0, 0.0, 1.0], 2) - 9.0).abs() < 1e-12);
    }
}
