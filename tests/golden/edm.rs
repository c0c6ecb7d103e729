//! EDM: the preconditioning of the additive process and the grid.

use crate::graph::evaluate;
use crate::rows::{Row, numbers};
use diffx::plugin::Registry;
use diffx::sample::ProcessFn::Precond;
use serde_json::json;

pub(crate) fn check(row: &Row) {
    let mut registry = Registry::new(Box::new(|_, _| {}));
    for plugin in [diffx_processes::plugin(), diffx_grids::plugin()] {
        // Safety: a static of a crate linked into this test.
        unsafe { registry.register(std::ptr::from_ref(plugin).cast()) }.unwrap();
    }
    if row.id == "edm.grid" {
        let config = json!({ "rho": row.param("rho") });
        let grid = registry.grid("edm", &config).unwrap();
        let n = row.param("N") as u32;
        let knots = grid.knots(n, row.param("sigma_min"), row.param("sigma_max")).unwrap();
        let at = numbers(&row.inputs["i"]);
        row.agree(&at.iter().map(|i| knots[*i as usize]).collect::<Vec<_>>());
        return;
    }
    assert!(row.id.starts_with("edm.precond"), "no reader for {}", row.id);
    // the statistics of `evaluate` are those of the rows, sigma_data = 1/2
    let ve = registry.process("ve", &json!({})).unwrap();
    let got = evaluate(&ve, 1, |f| {
        let sigma = f.same(row.input("sigma"));
        f.b.process(0, Precond, 64, &[sigma]).unwrap()
    });
    row.agree(&got.iter().map(|v| v[0]).collect::<Vec<_>>());
}
