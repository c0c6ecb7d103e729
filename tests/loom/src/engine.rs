//! Models of `engine/job.rs`, `engine/pump.rs` and `engine/hold.rs`.

macro_rules! engines {
    ($($tree:ident)*) => {
        $(#[allow(dead_code, unused, clippy::all)]
        mod $tree {
            pub mod job {
                include!(concat!(env!("OUT_DIR"), "/", stringify!($tree), "/job.rs"));
            }
            pub mod pump {
                include!(concat!(env!("OUT_DIR"), "/", stringify!($tree), "/pump.rs"));
            }
            mod hold {
                include!(concat!(env!("OUT_DIR"), "/", stringify!($tree), "/hold.rs"));
            }
            include!("tree.rs");
        })*

        pub fn on(tree: &str, model: &str) {
            match tree {
                $(stringify!($tree) => $tree::model(model),)*
                _ => engine::model(model),
            }
        }
    };
}

engines!(
    engine
    pump_unlocked_quit pump_silent_push
    job_second_end job_silent_end job_end_before_memory
    hold_no_join hold_one_too_early
);
