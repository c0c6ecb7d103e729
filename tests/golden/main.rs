//! Golden rows: numbers made by independent programs (mpmath at 40 digits), reproduced here in f64 through the graph, the
//! plugins and the CPU backend. The rows in `processes.json` beside this file make a bare clone test itself; the whole
//! file is read from `DIFFX_GOLDEN`, or from the shared folder, where there is one.

mod additive;
mod art;
mod besq;
mod bessel;
mod cir;
mod discrete;
mod doob;
mod drift;
mod edm;
mod fista;
mod flow_maps;
mod gbm;
mod graph;
mod guided;
#[path = "../support/joint.rs"]
mod joint;
mod momentum;
mod multimodal;
#[path = "../laws/oracle.rs"]
#[allow(dead_code)] // the starts and distributions are for runs
mod oracle;
mod pfgmpp;
mod predictions;
mod rng;
mod rows;
mod runner;
mod samplers;
mod traj;

use rows::{Row, Rows};

/// Runs `check` over the rows of one process, carried and shared, and says how many there were.
fn all(process: &str, at_least: usize, check: &dyn Fn(&Row)) {
    for rows in [Rows::carried(), Rows::shared()].into_iter().flatten() {
        let mut n = 0;
        for row in rows.of(process) {
            check(&row);
            n += 1;
        }
        println!("golden {process}: {n} rows of {} agree", rows.source);
        assert!(n >= at_least, "{}: only {n} rows for {process}", rows.source);
    }
}

#[test]
fn golden_rng() {
    all("rng", 7, &rng::check);
}

#[test]
fn golden_bessel() {
    all("bessel", 10, &bessel::check);
}

#[test]
fn golden_gbm() {
    all("gbm", 6, &gbm::check);
}

#[test]
fn golden_besq() {
    all("besq", 19, &besq::check);
}

#[test]
fn golden_eb() {
    all("eb", 2, &besq::empirical_bayes);
}

#[test]
fn golden_cir() {
    all("cir", 6, &cir::check);
}

#[test]
fn golden_edm() {
    all("edm", 4, &edm::check);
}

#[test]
fn golden_vp() {
    all("vp", 4, &additive::check);
    all("vp-discrete", 2, &additive::check);
}

#[test]
fn golden_flow() {
    all("flow", 5, &additive::check);
}

#[test]
fn golden_momentum() {
    all("cld", 2, &momentum::check);
    all("vsmd", 2, &momentum::check);
}

#[test]
fn golden_pfgmpp() {
    all("pfgmpp", 8, &pfgmpp::check);
}

#[test]
fn golden_discrete() {
    all("discrete", 6, &discrete::check);
}

#[test]
fn golden_multimodal() {
    all("multimodal", 3, &multimodal::check);
}

#[test]
fn golden_flow_maps() {
    all("consistency", 3, &flow_maps::check);
    all("flowmap", 2, &flow_maps::check);
}

#[test]
fn golden_drift() {
    all("drift", 3, &drift::check);
}

#[test]
fn golden_fista() {
    all("fista", 2, &fista::check);
}

#[test]
fn golden_traj() {
    all("traj", 4, &traj::check);
}

/// A row that travels with the repository and that nobody reads proves nothing.
#[test]
fn every_carried_row_is_of_a_process_that_is_read() {
    let read = [
        "rng",
        "bessel",
        "gbm",
        "besq",
        "cir",
        "eb",
        "edm",
        "vp",
        "vp-discrete",
        "flow",
        "pfgmpp",
        "cld",
        "vsmd",
        "discrete",
        "multimodal",
        "consistency",
        "flowmap",
        "drift",
        "fista",
        "traj",
    ];
    let carried = Rows::carried().unwrap();
    assert_eq!(carried.len(), read.iter().map(|p| carried.of(p).count()).sum::<usize>());
}

#[test]
fn a_wrong_number_is_seen() {
    let rows = Rows::carried().unwrap();
    let mut row = rows.of("gbm").next().unwrap();
    row.expected[0] += 1e-8;
    assert!(std::panic::catch_unwind(|| gbm::check(&row)).is_err());
}
