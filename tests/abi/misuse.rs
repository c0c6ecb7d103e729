//! A plugin that breaks the rules of emission, one by one: each has its status and its words, and the process lives.

use crate::compiler::{folder, library, source};
use crate::rig::{build_model, config, loaded};
use diffx::base::{Result, Status};
use diffx::plugin::Registry;

fn run(registry: &Registry, case: &str) -> Result<(u64, usize)> {
    build_model(registry.model("misuse", &config(&format!(r#"{{"case":"{case}"}}"#)))?)
}

#[test]
fn every_misuse_has_its_status() {
    use Status::{Device, Format, Invalid, NoMemory, Plugin, State, Unsupported};
    let out = folder("misuse").join("misuse.so");
    let Some(file) = library(&source("misuse.c"), &out, &[]) else { return };
    let registry = loaded(&file);
    let cases = [
        ("unknown_op", Unsupported, "op 9999"),
        ("weight_by_emit", Invalid, "declared by its own call"),
        ("node_zero", Invalid, "node 0 does not exist"),
        ("node_far", Invalid, "node 123456 does not exist"),
        ("no_prediction", Plugin, "without a prediction"),
        ("prediction_far", Plugin, "node 123456 does not exist"),
        ("pop", Plugin, "never pushed"),
        ("deep", Invalid, "nested deeper"),
        ("null_scope", Invalid, "name of a scope: is NULL"),
        ("null_call", Invalid, "dfx_call"),
        ("odd_call", Invalid, "misaligned"),
        ("short_call", Invalid, "struct_size is 8"),
        ("huge_call", Invalid, "struct_size is 1073741824"),
        ("longer_call_set", Unsupported, "is set"),
        ("null_inputs", Invalid, "null"),
        ("many_inputs", Invalid, "100 elements"),
        ("wrong_arity", Invalid, "takes 1 to 1 inputs, got 2"),
        ("many_results", Invalid, "one result"),
        ("many_attrs", Invalid, "40 elements"),
        ("null_attrs", Invalid, "null"),
        ("attr_unknown", Unsupported, "attribute 777"),
        ("attr_ordinal", Unsupported, "attribute 29"),
        ("attr_foreign", Invalid, "square: has no attribute axis"),
        ("attr_twice", Invalid, "given twice"),
        ("attr_as_list", Invalid, "one number"),
        ("list_as_attr", Invalid, "is a list"),
        ("list_null", Invalid, "null"),
        ("list_huge", Invalid, "2147483648 elements"),
        ("grad_places", Invalid, "n_out is 0 for 1"),
        ("huge_rank", Invalid, "rank 1000"),
        ("negative_dim", Invalid, "dimension -3 is negative"),
        ("huge_dims", Invalid, "weight w"),
        ("int_weight", Invalid, "not a float type"),
        ("unknown_dtype", Unsupported, "dtype 4242"),
        ("null_name", Invalid, "name of a weight: is NULL"),
        ("odd_name", Invalid, "not UTF-8"),
        ("null_shape", Invalid, "null"),
        ("null_constant", Invalid, "null"),
        ("large_constant", Invalid, "make it a weight"),
        ("describe_far", Invalid, "node 123456 does not exist"),
        ("fail", NoMemory, "the shelf is full"),
        ("fail_odd", Plugin, "without a readable message"),
        ("asks_denoiser", State, "may not ask"),
        ("asks_itself", State, "may not ask"),
        ("null_handle", State, "outside the build call"),
        ("thread", Plugin, "without a prediction"),
        ("status_plus", Plugin, "status 7"),
        ("status_odd", Plugin, "status -99"),
        ("status_plain", Unsupported, "not on a Sunday"),
        ("status_mute", Device, "without a message"),
        ("status_scribble", Invalid, ""),
        ("ok_after_bad", Invalid, "node 0 does not exist"),
        ("bad_scope", Invalid, "org.test/misuse: blocks.3: square: input node 99999"),
        ("info_null_array", Plugin, "components: pointer 0x0"),
        ("info_many", Plugin, "17 elements"),
        ("info_null_name", Plugin, "is NULL"),
        ("info_predicts", Plugin, "predicts 77"),
        ("info_none", Plugin, "no components"),
        ("no_instance", Plugin, "without an instance"),
    ];
    for (case, status, words) in cases {
        let e = run(&registry, case).expect_err(case);
        assert_eq!((e.status, e.source), (status, 1), "{case}: {}", e.message);
        assert!(e.message.contains(words), "{case}: want {words:?} in {:?}", e.message);
        assert!(e.message.starts_with("org.test/misuse: "), "{case}: {}", e.message);
    }
    for case in ["fine", "push_only", "longer_call_zero", "describe_null", "keeps"] {
        run(&registry, case).unwrap_or_else(|e| panic!("{case}: {}", e.message));
    }
    let e = run(&registry, "kept").expect_err("a handle of a build that is over");
    assert_eq!(e.status, State, "{}", e.message);
    let e = registry.model("misuse", &config("{}")).err().expect("a config without a case");
    assert_eq!((e.status, e.message.as_str()), (Format, "org.test/misuse: config: want a case"));
}
