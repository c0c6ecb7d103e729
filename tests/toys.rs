//! A denoiser learned on points of the plane, through the C API with data from memory: for every continuous process the
//! same network with the same steps must come near the true law, which neither a normal of the same moments nor the same
//! network before it learned anything does. `DIFFX_TOY_STEPS` trains longer.

use diffx::base::philox::Stream;
use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr::{null, null_mut};

extern crate diffx; // for its C functions

/// Structs of `diffx.h`; `tests/abi` holds the header and the library to each other.
#[repr(C)]
struct Error {
    struct_size: u32,
    status: i32,
    source: u32,
    message_len: u32,
    message: [c_char; 496],
}

#[repr(C)]
struct Desc {
    dtype: u32,
    rank: u32,
    dims: [i64; 8],
}

#[repr(C)]
struct TrainerOptions {
    struct_size: u32,
    flags: u32,
    n_tables: u32,
    reserved: u32,
    table_names: *const *const c_char,
    tables: *const *const c_void,
}

#[repr(C)]
#[derive(Default)]
struct JobOptions {
    struct_size: u32,
    flags: u32,
    seed: u64,
    first_sample: u64,
    n_samples: u64,
    n_steps: u32,
    preview_every: u32,
    n_inputs: u32,
    reserved: u32,
    rest: [u64; 4],
}

type Made = *mut *mut c_void;

unsafe extern "C" {
    fn dfx_engine_create(opt: *const c_void, out: Made, err: *mut Error) -> i32;
    fn dfx_engine_release(e: *mut c_void);
    fn dfx_tensor_create(
        e: *const c_void,
        d: *const Desc,
        data: *const c_void,
        out: Made,
        err: *mut Error,
    ) -> i32;
    fn dfx_tensor_map(
        t: *const c_void,
        data: *mut *const c_void,
        bytes: *mut usize,
        err: *mut Error,
    ) -> i32;
    fn dfx_tensor_release(t: *const c_void);
    fn dfx_trainer_create(
        e: *mut c_void,
        config: *const c_char,
        opt: *const TrainerOptions,
        out: Made,
        err: *mut Error,
    ) -> i32;
    fn dfx_trainer_step(t: *mut c_void, n: u32, out: *mut c_void, err: *mut Error) -> i32;
    fn dfx_trainer_metric_count(t: *const c_void) -> u32;
    fn dfx_trainer_metric_name(
        t: *const c_void,
        i: u32,
        name: *mut *const c_char,
        err: *mut Error,
    ) -> i32;
    fn dfx_trainer_metric(
        t: *mut c_void,
        name: *const c_char,
        out: *mut f64,
        err: *mut Error,
    ) -> i32;
    fn dfx_trainer_save(t: *mut c_void, path: *const c_char, err: *mut Error) -> i32;
    fn dfx_trainer_release(t: *mut c_void);
    fn dfx_model_open(
        e: *mut c_void,
        path: *const c_char,
        config: *const c_char,
        out: Made,
        err: *mut Error,
    ) -> i32;
    fn dfx_model_release(m: *mut c_void);
    fn dfx_pipeline_create(
        m: *const c_void,
        config: *const c_char,
        out: Made,
        err: *mut Error,
    ) -> i32;
    fn dfx_pipeline_release(p: *mut c_void);
    fn dfx_job_start(p: *const c_void, opt: *const JobOptions, out: Made, err: *mut Error) -> i32;
    fn dfx_job_wait(j: *mut c_void, timeout_ns: u64, err: *mut Error) -> i32;
    fn dfx_job_result(j: *const c_void, name: *const c_char, out: Made, err: *mut Error) -> i32;
    fn dfx_job_release(j: *mut c_void);
}

/// A call that must succeed.
fn ok(what: &str, call: impl FnOnce(*mut Error) -> i32) {
    let size = size_of::<Error>() as u32;
    let mut e =
        Error { struct_size: size, status: 0, source: 0, message_len: 0, message: [0; 496] };
    let status = call(&raw mut e);
    // Safety: the library ends its messages in NUL.
    let said = unsafe { CStr::from_ptr(e.message.as_ptr()) };
    assert_eq!(status, 0, "{what}: {}", said.to_string_lossy());
}

/// A call that makes an object.
fn made(what: &str, call: impl FnOnce(Made, *mut Error) -> i32) -> *mut c_void {
    let mut out = null_mut();
    ok(what, |e| call(&raw mut out, e));
    out
}

fn text(s: &str) -> CString {
    CString::new(s).unwrap()
}

/// exp of two correlated normals about (-0.7, 0.5) or (0.7, -0.5): two bent lobes in the positive quarter.
fn law(n: usize, step: u32) -> Vec<[f64; 2]> {
    let stream = Stream { seed: 77, purpose: 70, step, ordinal: 0 };
    let point = |i: u64| {
        let [a, b, c] = [3 * i, 3 * i + 1, 3 * i + 2].map(|e| stream.normal_f64(e));
        let side = if c < 0.3 { 1.0 } else { -1.0 };
        let z = [side * 0.7 + 0.25 * a, -side * 0.5 + 0.2 * (0.6 * a + 0.8 * b)];
        z.map(f64::exp)
    };
    (0..n as u64).map(point).collect()
}

/// Points with the mean and the covariance of the law, and nothing else of it.
fn normal_like(points: &[[f64; 2]]) -> Vec<[f64; 2]> {
    let n = points.len() as f64;
    let mean = [0, 1].map(|k| points.iter().map(|p| p[k]).sum::<f64>() / n);
    let cov = |i: usize, k: usize| {
        points.iter().map(|p| (p[i] - mean[i]) * (p[k] - mean[k])).sum::<f64>() / n
    };
    let l00 = cov(0, 0).sqrt();
    let l10 = cov(0, 1) / l00;
    let l11 = (cov(1, 1) - l10 * l10).sqrt();
    let stream = Stream { seed: 78, purpose: 70, step: 0, ordinal: 0 };
    let point = |i: u64| {
        let (a, b) = (stream.normal_f64(2 * i), stream.normal_f64(2 * i + 1));
        [mean[0] + l00 * a, mean[1] + l10 * a + l11 * b]
    };
    (0..points.len() as u64).map(point).collect()
}

/// Energy distance, 2 E|X - Y| - E|X - X'| - E|Y - Y'|: zero for one law only.
fn energy(x: &[[f64; 2]], y: &[[f64; 2]]) -> f64 {
    let mean = |a: &[[f64; 2]], b: &[[f64; 2]]| {
        let far = |p: &[f64; 2]| {
            b.iter().map(|q| (p[0] - q[0]).hypot(p[1] - q[1])).sum::<f64>() / b.len() as f64
        };
        a.iter().map(far).sum::<f64>() / a.len() as f64
    };
    2.0 * mean(x, y) - mean(x, x) - mean(y, y)
}

/// Kolmogorov's distance of two samples along one direction.
fn kolmogorov(x: &[[f64; 2]], y: &[[f64; 2]], along: [f64; 2]) -> f64 {
    let sorted = |p: &[[f64; 2]]| {
        let mut v: Vec<f64> = p.iter().map(|p| p[0] * along[0] + p[1] * along[1]).collect();
        v.sort_by(f64::total_cmp);
        v
    };
    let (a, b) = (sorted(x), sorted(y));
    let share = |v: &[f64], at: f64| v.partition_point(|w| *w <= at) as f64 / v.len() as f64;
    a.iter().chain(&b).map(|t| (share(&a, *t) - share(&b, *t)).abs()).fold(0.0, f64::max)
}

/// Trains for `steps` and draws `n` points.
fn learned(e: *mut c_void, process: &str, data: &[[f64; 2]], steps: u32, n: u64) -> Vec<[f64; 2]> {
    let path = std::env::temp_dir()
        .join(format!("diffx-toy-{}-{process}-{steps}.safetensors", std::process::id()));
    let file = text(path.to_str().unwrap());
    let d = Desc { dtype: 7, rank: 2, dims: [data.len() as i64, 2, 0, 0, 0, 0, 0, 0] };
    let recipe = text(&format!(
        r#"{{"model":"mlp:{{\"width\":48,\"depth\":2}}","process":"{process}","steps":{steps},
            "batch":128,"rate":0.004,"warmup":50,"ema":0.995,"seed":5,
            "sampler":"heun","grid":"edm","sample_steps":24}}"#
    ));
    // Safety: the contracts of diffx.h; what is lent lives until the end of this function.
    unsafe {
        let x = made("tensor", |out, err| {
            dfx_tensor_create(e, &raw const d, data.as_ptr().cast(), out, err)
        });
        let (names, tables) = ([c"x".as_ptr()], [x.cast_const()]);
        let opt = TrainerOptions {
            struct_size: size_of::<TrainerOptions>() as u32,
            flags: 0,
            n_tables: 1,
            reserved: 0,
            table_names: names.as_ptr(),
            tables: tables.as_ptr(),
        };
        let t = made("trainer", |out, err| {
            dfx_trainer_create(e, recipe.as_ptr(), &raw const opt, out, err)
        });
        dfx_tensor_release(x);
        ok("step", |err| dfx_trainer_step(t, steps, null_mut(), err));
        let mut name = null();
        assert_eq!(dfx_trainer_metric_count(t), 2);
        ok("metric name", |err| dfx_trainer_metric_name(t, 1, &raw mut name, err));
        assert_eq!(CStr::from_ptr(name), c"mse");
        let mut mse = 0.0;
        ok("metric", |err| dfx_trainer_metric(t, name, &raw mut mse, err));
        assert!(mse > 0.0);
        ok("save", |err| dfx_trainer_save(t, file.as_ptr(), err));
        dfx_trainer_release(t);

        let m = made("model", |out, err| dfx_model_open(e, file.as_ptr(), null(), out, err));
        let p = made("pipeline", |out, err| dfx_pipeline_create(m, null(), out, err));
        let opt = JobOptions {
            struct_size: size_of::<JobOptions>() as u32,
            seed: 9,
            n_samples: n,
            ..JobOptions::default()
        };
        let j = made("job", |out, err| dfx_job_start(p, &raw const opt, out, err));
        ok("wait", |err| dfx_job_wait(j, u64::MAX, err));
        let r = made("result", |out, err| dfx_job_result(j, null(), out, err));
        let (mut at, mut bytes) = (null(), 0);
        ok("map", |err| dfx_tensor_map(r, &raw mut at, &raw mut bytes, err));
        let values = std::slice::from_raw_parts(at.cast::<f32>(), bytes / 4);
        let out = values.chunks(2).map(|p| [f64::from(p[0]), f64::from(p[1])]).collect();
        dfx_tensor_release(r);
        dfx_job_release(j);
        dfx_pipeline_release(p);
        dfx_model_release(m);
        std::fs::remove_file(path).unwrap();
        out
    }
}

#[test]
fn every_process_learns_two_lobes_at_equal_budget() {
    let steps = std::env::var("DIFFX_TOY_STEPS").ok().and_then(|v| v.parse().ok()).unwrap_or(700);
    let (data, truth) = (law(4096, 0), law(1500, 1));
    // Safety: the contract of diffx.h.
    let e = made("engine", |out, err| unsafe { dfx_engine_create(null(), out, err) });
    let directions = [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, -1.0]];
    let farthest =
        |p: &[[f64; 2]]| directions.iter().map(|d| kolmogorov(p, &truth, *d)).fold(0.0, f64::max);
    let scores = |p: &[[f64; 2]]| (energy(p, &truth), farthest(p));
    let same = scores(&law(1500, 2));
    let bare = scores(&normal_like(&truth));
    println!("steps {steps}; the law itself: energy {:.5}, KS {:.3}", same.0, same.1);
    println!("a normal of its moments: energy {:.5}, KS {:.3}", bare.0, bare.1);
    for process in ["ve", "gbm", "besq", "cir", "vp", "sub_vp", "flow", "ou", "pfgmpp"] {
        let points = learned(e, process, &data, steps, 1500);
        assert!(points.iter().flatten().all(|v| v.is_finite()));
        if ["gbm", "besq", "cir"].contains(&process) {
            assert!(points.iter().flatten().all(|v| *v > 0.0), "{process}: positive for ever");
        }
        let (far, ks) = scores(&points);
        println!("{process}: energy {far:.5}, KS {ks:.3}");
        assert!(far < 0.1 * bare.0 && ks < 0.4 * bare.1, "{process} did not learn the law");
    }
    let (far, ks) = scores(&learned(e, "ve", &data, 1, 1500));
    println!("ve after one step: energy {far:.5}, KS {ks:.3}");
    assert!(far > 0.5 * bare.0, "the bound would pass a network that learned nothing");
    // Safety: from dfx_engine_create.
    unsafe { dfx_engine_release(e) };
}
