//! How far the outputs of a case are from the f64 reference.

use crate::cases::Case;
use crate::once::decoded;
use diffx::base::DType;

/// The worst error over the outputs, relative to max(floor of the op, |want|), and where it is.
pub(crate) fn worst(case: &Case, got: &[Vec<u8>]) -> (f64, String) {
    let mut worst = (0.0, String::new());
    for ((node, bytes), want) in case.outputs.iter().zip(got).zip(case.expected()) {
        let got = decoded(&case.graph, *node, bytes);
        assert_eq!(got.len(), want.data.len());
        for (i, (got, want)) in got.iter().zip(&want.data).enumerate() {
            // what the output type itself cannot hold is no error of the op
            let want = match case.graph.desc(*node).dtype {
                DType::F32 if !want.is_finite() || want.abs() > f64::from(f32::MAX) => {
                    f64::from(*want as f32)
                }
                _ => *want,
            };
            let same = *got == want || got.is_nan() && want.is_nan();
            let floor = case.op.info().floor();
            let error = if same { 0.0 } else { (got - want).abs() / want.abs().max(floor) };
            let error = if error.is_nan() { f64::INFINITY } else { error };
            if error > worst.0 {
                worst = (error, format!("element {i}: got {got}, want {want}"));
            }
        }
    }
    worst
}
