//! What a sampler asks of its pipeline, rightly and wrongly, and plans that break the rules. A failure a plugin does
//! without is no failure; one whose result it uses is.

use crate::compiler::{folder, library, root, source};
use crate::rig::{OPEN, config, parts, registry};
use diffx::base::{DType, Desc, Result, Status};
use diffx::graph::NodeId;
use diffx::plugin::Registry;
use diffx::sample::build::{Network, Parts};
use diffx::sample::{Build, RowPlan, Sampler, StepIo};
use std::sync::Arc;

/// The asker, the C example process and a model that gives back its input.
fn rigged() -> Option<(Registry, Parts)> {
    let dir = folder("services");
    let (mut registry, _) = registry();
    registry.load(&library(&source("services.c"), &dir.join("services.so"), &[])?, &OPEN).unwrap();
    registry.load(&library(&source("misuse.c"), &dir.join("misuse.so"), &[])?, &OPEN).unwrap();
    let ve = root().join("plugins/examples/c_minimal/ve_example.c");
    registry.load(&library(&ve, &dir.join("ve.so"), &[])?, &OPEN).unwrap();
    let mut parts = parts();
    parts.processes.push(registry.process("ve", &config("{}")).unwrap());
    let model = registry.model("misuse", &config(r#"{"case":"fine"}"#)).unwrap();
    parts.networks.push(Network { slot: "base".into(), model, lora: None });
    Some((registry, parts))
}

fn sampler(registry: &Registry, case: &str) -> Result<Arc<dyn Sampler>> {
    registry.sampler("asker.sampler", &config(&format!(r#"{{"case":"{case}"}}"#)))
}

fn step(sampler: &dyn Sampler, parts: &Parts) -> Result<StepIo> {
    let mut b = Build::new(parts, 4)?;
    let x = b.graph.input("x", Desc::new(DType::F32, &[4, 3])?);
    let info = sampler.info(&parts.components)?;
    assert_eq!(info.slots[0].desc, Desc::new(DType::F32, &[3])?, "like component 0");
    let coeff: Vec<NodeId> = (0..info.n_coeff).map(|i| b.graph.scalar(1.0 + i as f64)).collect();
    let mut io = StepIo {
        variant: 0,
        x: vec![x],
        coeff,
        slots: vec![x],
        slots_out: vec![x],
        next: Vec::new(),
        control: None,
        denoised: Vec::new(),
    };
    sampler.step(&mut b, &mut io)?;
    b.graph.check()?;
    Ok(io)
}

#[test]
fn asking_the_pipeline() {
    use Status::{Invalid, NotFound, Plugin, Unsupported};
    let Some((registry, parts)) = rigged() else { return };
    for case in ["fine", "asks", "probe_unused", "inner_fails", "per_component"] {
        let io = step(&*sampler(&registry, case).unwrap(), &parts);
        let io = io.unwrap_or_else(|e| panic!("{case}: {}", e.message));
        assert_eq!((io.next.len(), io.denoised.len(), io.control), (1, 1, None));
    }
    let cases = [
        ("evals_none", Invalid, "no evaluations"),
        ("evals_many", Invalid, "1000 elements"),
        ("evals_null", Invalid, "null"),
        ("evals_size", Invalid, "struct_size is 8"),
        ("eval_null_x", Invalid, "states of an evaluation"),
        ("out_null", Invalid, "results of denoise"),
        ("denoiser_far", Invalid, "no denoiser 77"),
        ("slot_unknown", NotFound, "no network slot named nowhere"),
        ("network_unknown", NotFound, "no network slot named nowhere"),
        ("network_null", Invalid, "dfx_model_io"),
        ("network_short", Invalid, "struct_size is 12"),
        ("function_far", Unsupported, "function 99"),
        ("purpose_far", Invalid, "purpose 256"),
        ("component_far", Invalid, "component 5 does not exist"),
        ("inputs_wrong", Invalid, "takes 1 inputs, got 2"),
        ("places_wrong", Invalid, "1 results, and places for 3"),
        ("stats_far", Invalid, "component 9"),
        ("stats_null", Invalid, "stats"),
        ("cond_far", Invalid, "condition 3"),
        ("probe_used", Unsupported, "has no log_transition"),
        ("probe_given", Unsupported, "has no log_transition"),
        ("no_next", Plugin, "without a next state"),
        ("slot_lost", Plugin, "without slot"),
        ("control_alone", Plugin, "DFX_SAMPLER_CONTROL"),
        ("control_promised", Plugin, "DFX_SAMPLER_CONTROL"),
    ];
    for (case, status, words) in cases {
        let e = step(&*sampler(&registry, case).unwrap(), &parts).expect_err(case);
        assert_eq!(e.status, status, "{case}: {}", e.message);
        assert!(e.message.contains(words), "{case}: want {words:?} in {:?}", e.message);
        assert!(e.source != 0, "{case}: a plugin is named: {}", e.message);
    }
}

#[test]
fn what_an_instance_says_of_itself() {
    let Some((registry, parts)) = rigged() else { return };
    for (case, words) in [("no_variants", "0 variants"), ("flags", "flags 0x100000")] {
        let e = sampler(&registry, case).err().expect(case);
        assert!(e.status == Status::Plugin && e.message.contains(words), "{case}: {e}");
    }
    let far = sampler(&registry, "slot_like_far").unwrap();
    let e = far.info(&parts.components).unwrap_err();
    assert!(e.message.contains("like component 8"), "{e}");
    let two = [parts.components[0].clone(), parts.components[0].clone()];
    assert_eq!(sampler(&registry, "fine").unwrap().info(&two).unwrap().n_coeff, 2);
    assert_eq!(sampler(&registry, "per_component").unwrap().info(&two).unwrap().n_coeff, 4);
}

#[test]
fn plans() {
    let Some((registry, _)) = rigged() else { return };
    let knots = vec![vec![4.0, 2.0, 1.0, 0.0]];
    let plan = |case: &str| sampler(&registry, case)?.plan(&knots);
    let fine = plan("fine").unwrap();
    let rows = vec![4.0, 2.0, 2.0, 1.0, 1.0, 0.0];
    let levels = vec![2.0, 1.0, 0.0];
    let want = RowPlan {
        n_coeff: 2,
        rows,
        variants: vec![0; 3],
        levels,
        highest: vec![],
        kernels: vec![],
    };
    assert_eq!(fine, want);
    assert_eq!(plan("level_set").unwrap().levels, [0.75, 1.0, 0.0]);
    for (case, words) in [
        ("rows_none", "0 rows"),
        ("rows_many", "1073741824 rows"),
        ("rows_nan", "row 1, column 1 is NaN"),
        ("rows_grow", "first 3 rows, then 4"),
        ("variant_far", "row 1 has variant 1 of 1"),
        ("level_below", "row 0 ends at the level -1"),
    ] {
        let e = plan(case).expect_err(case);
        assert!(e.status == Status::Plugin && e.message.contains(words), "{case}: {e}");
    }
    assert!(sampler(&registry, "fine").unwrap().plan(&[vec![1.0]]).is_err());
    assert!(sampler(&registry, "fine").unwrap().plan(&[]).is_err());
}
