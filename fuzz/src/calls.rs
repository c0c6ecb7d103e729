//! A host gone wild: the input is a list of calls of `diffx.h`, with arguments that are right, NULL, of wrong sizes or
//! another object's, objects released in any order, and a low cap on memory. What the header forbids outright (a pointer
//! into nowhere, an object after its release) is not tried. Laws: a status of the header, never DFX_E_INTERNAL; an
//! error that is text; out-parameters written on success only; the engine's own account under its cap; after the last
//! release nothing is held.

mod tensors;

use super::bytes::Bytes;
use super::c::*;
use super::memory::bounded;
use std::cell::Cell;
use std::ffi::{CString, c_char, c_void};
use std::path::PathBuf;
use std::ptr::{null, null_mut};
use std::sync::OnceLock;

pub const WORDS: &[&str] = &["{\"batch\":2}"];

const CAP: u64 = 256 << 10;
/// An engine with its plugins, texts, graphs and plans of a tiny network.
const OUTSIDE: usize = 24 << 20;
const MOST_CALLS: usize = 48;

const NO_THREADS: u32 = 1;

struct Files {
    model: CString,
    series: CString,
    /// Where jobs and checkpoints are written.
    out: CString,
}

fn files() -> &'static Files {
    static FILES: OnceLock<Files> = OnceLock::new();
    FILES.get_or_init(|| {
        let dir: PathBuf = match std::path::Path::new("/dev/shm") {
            shm if shm.is_dir() => shm.into(),
            _ => std::env::temp_dir(),
        };
        let at = |name: &str| dir.join(format!("diffx-fuzz-{}-{name}", std::process::id()));
        let c = |p: PathBuf| CString::new(p.into_os_string().into_encoded_bytes()).expect("no NUL");
        let manifest = r#"{"format":1,"model":"null","components":[{"name":"x","dims":[2],"process":"ve"}],"steps":3}"#;
        let header = serde_json::json!({"__metadata__": {"diffx": manifest}}).to_string();
        let (model, series) = (at("model.safetensors"), at("series.csv"));
        let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
        std::fs::write(&model, bytes).expect("the model");
        let rows: String = (0..30).map(|i| format!("{}\n", 1.0 + f64::from(i % 5))).collect();
        std::fs::write(&series, format!("v\n{rows}")).expect("the series");
        Files { model: c(model), series: c(series), out: c(at("out.safetensors")) }
    })
}

/// Everything the host holds. NULL where nothing is.
struct Host<'a> {
    input: Bytes<'a>,
    engine: [*mut c_void; 2],
    model: [*mut c_void; 2],
    pipeline: [*mut c_void; 2],
    job: [*mut c_void; 2],
    tensor: [*mut c_void; 4],
    trainer: *mut c_void,
    /// One trainer a run: its graphs take as long as forty other calls.
    trained: bool,
    /// Memory lent by dfx_tensor_wrap, alive until the end.
    lent: Box<[u64; 64]>,
    freed: Box<u32>,
    wrapped: u32,
    error: DfxError,
}

thread_local! {
    /// An engine that goes on from run to run, as that of a host does from job to job: making one is most of a short
    /// run. A run that releases it leaves none, and the next makes another.
    static KEPT: Cell<*mut c_void> = const { Cell::new(null_mut()) };
}

pub fn run(data: &[u8]) {
    files();
    if KEPT.get().is_null() {
        once(&[]); // what is made once per process is not a leak of a run
    }
    bounded(OUTSIDE, || once(data));
}

fn once(data: &[u8]) {
    let mut host = Host {
        input: Bytes(data),
        engine: [null_mut(); 2],
        model: [null_mut(); 2],
        pipeline: [null_mut(); 2],
        job: [null_mut(); 2],
        tensor: [null_mut(); 4],
        trainer: null_mut(),
        trained: false,
        lent: Box::new([0; 64]),
        freed: Box::new(0),
        wrapped: 0,
        error: DfxError::empty(),
    };
    // a start with an odd error is a start from nothing
    if data.first().is_none_or(|b| *b < 200) {
        host.engine[0] = KEPT.take();
    }
    // Safety: the host keeps to what the header asks for, see there.
    unsafe {
        match host.engine[0].is_null() {
            true => host.create_engine(false),
            false => drop(host.err()), // as many bytes as the other takes
        }
        for _ in 0..MOST_CALLS {
            if host.input.is_empty() {
                break;
            }
            host.call();
        }
        host.end();
    }
}

unsafe extern "C" fn freed(user: *mut c_void, _: *mut c_void) {
    // Safety: `user` is the counter of the host, which outlives its tensors.
    unsafe { *user.cast::<u32>() += 1 };
}

unsafe extern "C" fn progress(user: *mut c_void, job: *mut c_void, _: *const Progress) -> i32 {
    let mut out = null_mut();
    // Safety: the header allows cancel and preview from here.
    unsafe {
        if dfx_job_preview(job, c"x".as_ptr(), &raw mut out, null_mut()) == 0 {
            dfx_tensor_release(out);
        }
    }
    i32::from(user.addr() & 1 != 0)
}

unsafe extern "C" fn log(_: *mut c_void, level: i32, message: *const c_char) {
    assert!((0..=3).contains(&level) && !message.is_null());
}

/// # Safety of all of these
/// What is passed is alive; sizes that are announced are there.
impl Host<'_> {
    /// A status of the header; the error says the same.
    fn said(&mut self, status: i32) -> bool {
        assert!((-12..=0).contains(&status), "status {status}: {}", self.error.text());
        if status < 0 && self.error.struct_size == 512 {
            assert_eq!(self.error.status, status);
            let n = self.error.message_len as usize;
            assert!(n < 496 && self.error.message[n] == 0);
            assert!(std::str::from_utf8(&self.error.message[..n]).is_ok());
        }
        status == 0
    }

    /// Where an error goes: to ours, cut short, or nowhere.
    fn err(&mut self) -> *mut DfxError {
        self.error = DfxError::empty();
        self.error.struct_size = match self.input.u8() {
            0..=199 => 512,
            200 => return null_mut(), // and the size stays 0: nothing is read there
            n => (u32::from(n) * 3).min(512),
        };
        &raw mut self.error
    }

    /// One of two, NULL, or an object of another kind.
    fn pick(&mut self, of: fn(&Self) -> [*mut c_void; 2]) -> *mut c_void {
        let own = of(self);
        match self.input.u8() {
            b @ 0..=229 => own[usize::from(b) & 1],
            230..=239 => null_mut(),
            240..=243 => self.engine[0],
            244..=247 => self.tensor[0],
            248..=251 => self.pipeline[0],
            252 => self.trainer,
            253 => self.job[0],
            _ => self.model[0],
        }
    }

    fn any_engine(&mut self) -> *mut c_void {
        self.pick(|h| h.engine)
    }

    fn any_tensor(&mut self) -> *mut c_void {
        let i = self.input.below(4);
        match self.input.u8() {
            0..=239 => self.tensor[i],
            240..=247 => null_mut(),
            _ => self.pipeline[0],
        }
    }

    /// A text of a table, or of the input; it may be NULL and need not be UTF-8.
    fn text(&mut self, table: &[&str]) -> Option<CString> {
        match self.input.u8() {
            0..=219 => {
                let i = self.input.below(table.len());
                CString::new(*table.get(i)?).ok()
            }
            220..=224 => None,
            _ => {
                let bytes = self.input.text();
                let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
                CString::new(&bytes[..end]).ok()
            }
        }
    }

    /// What a call made takes the place of `slot`, whose object is released first.
    unsafe fn place(slot: &mut *mut c_void, new: *mut c_void, release: Release) {
        // Safety: the object is ours and not used after this.
        unsafe { release(*slot) };
        *slot = new;
    }

    unsafe fn create_engine(&mut self, wild: bool) {
        let mut options = Padded::new(EngineOptions {
            struct_size: size_of::<EngineOptions>() as u32,
            flags: NO_THREADS,
            arena_bytes: CAP,
            device_bytes: 0,
            n_threads: 1,
            reserved: 0,
            device: null(),
            allocator: null(),
            log: Some(log),
            log_user: null_mut(),
            cuda_stream: null_mut(),
            reserved_ptr: null_mut(),
        });
        let mut device = None;
        if wild {
            options.value.flags |= u32::from(self.input.u8()) & !7 | (self.input.u32() & 0x100);
            device = self.text(&["cpu", "cpu", "cuda:0", "", "gpu"]);
            options.value.device = device.as_ref().map_or(null(), |d| d.as_ptr());
            options.value.struct_size = self.struct_size(size_of::<EngineOptions>());
            if options.value.struct_size < 24 {
                return; // without flags and cap it would be another test
            }
        }
        let mut out = null_mut();
        let err = self.err();
        // Safety: all of it lives until the call returns.
        let status = unsafe { dfx_engine_create(options.at(), &raw mut out, err) };
        drop(device);
        if self.said(status) {
            let i = usize::from(wild);
            // Safety: as said there.
            unsafe { Self::place(&mut self.engine[i], out, dfx_engine_release) };
        } else {
            assert!(out.is_null());
        }
    }

    /// Right as a rule, else older, newer or nonsense; behind a [`Padded`] all of it is there.
    fn struct_size(&mut self, right: usize) -> u32 {
        match self.input.u8() {
            0..=199 => right as u32,
            200..=209 => 0,
            210..=229 => (right + 8) as u32,
            n => u32::from(n) * 8 % 512,
        }
    }

    unsafe fn call(&mut self) {
        // Safety: of each as said at the impl.
        unsafe {
            match self.input.u8() % 28 {
                0 => self.create_engine(true),
                1 | 2 => self.open_model(),
                3 => self.describe(),
                4..=6 => self.create_pipeline(),
                7 => self.plan_or_start(true),
                8..=10 => self.plan_or_start(false),
                11 => self.poll(),
                12 | 13 => self.wait(),
                14 => self.save(),
                15 => self.resume(),
                16 => self.result(),
                17 => self.create_tensor(),
                18 => self.wrap_tensor(),
                19 => self.use_tensor(),
                20 => self.simulate(),
                21 => self.evaluate(),
                22 if !self.trained => self.create_trainer(),
                22..=24 => self.train(),
                25 => self.pump(),
                26 => self.plugins(),
                _ => self.release(),
            }
        }
    }

    unsafe fn open_model(&mut self) {
        let (engine, err) = (self.any_engine(), self.err());
        let mut path = files().model.clone();
        if self.input.u8() > 200 {
            match self.text(&["", "/", ".", "none such", "vix/", "/dev/null", "a.safetensors"]) {
                Some(text) => path = text,
                None => path = files().series.clone(),
            }
        }
        let config = self.text(&["", "{}", "{\"x-a\":1}", "{\"a\":1}", "["]);
        let config = config.as_ref().map_or(null(), |c| c.as_ptr());
        let mut out = null_mut();
        // Safety: texts live until the call returns.
        let status = unsafe { dfx_model_open(engine, path.as_ptr(), config, &raw mut out, err) };
        let i = self.input.below(2);
        if self.said(status) {
            // Safety: as said there.
            unsafe { Self::place(&mut self.model[i], out, dfx_model_release) };
        }
    }

    unsafe fn describe(&mut self) {
        let mut json = null();
        let (model, engine) = (self.pick(|h| h.model), self.any_engine());
        let (i, err) = (self.input.size(80) as u32, self.err());
        // Safety: the objects are alive; the text is read while they are.
        unsafe {
            let status = match self.input.u8() & 1 {
                0 => dfx_model_json(model, &raw mut json, err),
                _ => dfx_factory_json(engine, i, &raw mut json, err),
            };
            if self.said(status) {
                let text = std::ffi::CStr::from_ptr(json).to_str().expect("UTF-8");
                assert!(text.starts_with('{'));
            }
            assert!(dfx_factory_count(engine) < 1000);
        }
    }

    unsafe fn create_pipeline(&mut self) {
        let config = self.text(&[
            "",
            "{\"batch\":3}",
            "{\"sampler\":\"euler\",\"grid\":\"log\",\"steps\":2}",
            "{\"sampler\":\"heun\",\"dtype\":\"f64\"}",
            "{\"sampler\":\"ancestral\",\"sigma_min\":0.1,\"sigma_max\":1e3}",
            "{\"process\":\"ve:{\\\"sigma_max\\\":1e300}\",\"sigma_max\":1e300}",
            "{\"guidance\":[\"cfg\",\"cfg\"]}",
            "{\"steps\":2000,\"batch\":1048576}",
            "{\"steps\":100001}",
            "{\"process\":[\"ve\",\"ve\"]}",
            "{\"sigma_min\":[1,2]}",
            "{\"networks\":{\"h\":{\"model\":\"none such\"}}}",
        ]);
        let (model, err) = (self.pick(|h| h.model), self.err());
        let config = config.as_ref().map_or(null(), |c| c.as_ptr());
        let mut out = null_mut();
        // Safety: the text lives until the call returns.
        let status = unsafe { dfx_pipeline_create(model, config, &raw mut out, err) };
        let i = self.input.below(2);
        if self.said(status) {
            // Safety: as said there.
            unsafe { Self::place(&mut self.pipeline[i], out, dfx_pipeline_release) };
        }
    }

    unsafe fn plan_or_start(&mut self, plan: bool) {
        let names = [c"x".as_ptr(), c"sigma".as_ptr(), null(), c"x".as_ptr()];
        let inputs = [self.any_tensor(), self.any_tensor(), null_mut(), self.any_tensor()];
        let mut options = Padded::new(JobOptions {
            struct_size: self.struct_size(size_of::<JobOptions>()),
            flags: u32::from(self.input.u8() == 255),
            seed: self.input.u64(),
            first_sample: self.input.size(1000),
            n_samples: self.input.size(20),
            n_steps: self.input.size(6) as u32,
            preview_every: self.input.size(2) as u32,
            n_inputs: self.input.size(0).min(4) as u32,
            reserved: 0,
            input_names: names.as_ptr(),
            inputs: inputs.as_ptr(),
            progress: Some(progress),
            user: (self.input.u8() & 1) as *mut c_void,
        });
        let (pipeline, err) = (self.pick(|h| h.pipeline), self.err());
        let options = if self.input.u8() == 255 { null() } else { options.at() };
        // Safety: lists and options live until the call returns; tensors are held by us.
        unsafe {
            if plan {
                let mut bytes = 0;
                let status = dfx_pipeline_plan(pipeline, options, &raw mut bytes, err);
                self.said(status);
                return;
            }
            let mut out = null_mut();
            let status = dfx_job_start(pipeline, options, &raw mut out, err);
            let i = self.input.below(2);
            if self.said(status) {
                Self::place(&mut self.job[i], out, dfx_job_release);
            }
        }
    }

    unsafe fn poll(&mut self) {
        let (job, err) = (self.pick(|h| h.job), self.err());
        let mut out = Padded::new(Progress {
            struct_size: self.struct_size(size_of::<Progress>()),
            state: 0,
            step: 0,
            n_steps: 0,
            elapsed_ns: 0,
        });
        // Safety: the job is alive.
        unsafe {
            let status = dfx_job_poll(job, out.at_mut(), err);
            if self.said(status) {
                assert!(out.value.state <= 4);
            }
            if self.input.u8() > 200 {
                dfx_job_cancel(self.pick(|h| h.job));
            }
        }
    }

    unsafe fn wait(&mut self) {
        let (job, err) = (self.pick(|h| h.job), self.err());
        let timeout = u64::from(self.input.u16()) * 8;
        // Safety: the job is alive.
        let status = unsafe { dfx_job_wait(job, timeout, err) };
        self.said(status);
    }

    unsafe fn save(&mut self) {
        let (job, err) = (self.pick(|h| h.job), self.err());
        // never a path of the input: it would be written
        let out = match self.input.u8() {
            0..=249 => Some(files().out.clone()),
            250 => Some(c"".into()),
            251 => Some(c"/".into()),
            252 => Some(c"/nowhere/at/all".into()),
            _ => None,
        };
        let path = out.as_ref().map_or(null(), |p| p.as_ptr());
        // Safety: the job is alive.
        let status = unsafe { dfx_job_save(job, path, err) };
        self.said(status);
    }

    unsafe fn resume(&mut self) {
        let (pipeline, err) = (self.pick(|h| h.pipeline), self.err());
        let mut out = null_mut();
        // Safety: the path lives until the call returns.
        let status =
            unsafe { dfx_job_resume(pipeline, files().out.as_ptr(), null(), &raw mut out, err) };
        if self.said(status) {
            // Safety: as said there.
            unsafe { Self::place(&mut self.job[1], out, dfx_job_release) };
        }
    }

    /// A result or a preview.
    unsafe fn result(&mut self) {
        let name = self.text(&["x", "feasible", "log_weight", "", "y"]);
        let name = name.as_ref().map_or(null(), |n| n.as_ptr());
        let (job, err) = (self.pick(|h| h.job), self.err());
        let mut out = null_mut();
        let kind = self.input.u8() & 3;
        // Safety: the job is alive.
        let status = unsafe {
            match kind {
                0 | 2 => dfx_job_result(job, name, &raw mut out, err),
                1 => dfx_job_preview(job, name, &raw mut out, err),
                _ => {
                    let struct_size = self.struct_size(size_of::<Preview>());
                    let (first_sample, n_samples, step) = (7, 0, u64::MAX);
                    let mut what = Padded::new(Preview {
                        struct_size,
                        reserved: 0,
                        first_sample,
                        n_samples,
                        step,
                    });
                    let what = what.at_mut();
                    let status = dfx_job_preview_at(job, name, what, &raw mut out, err);
                    let (n, step) = ((*what).n_samples, (*what).step);
                    assert!(status == 0 || (n == 0 && step == u64::MAX), "written on failure");
                    status
                }
            }
        };
        self.keep_tensor(status, out);
    }

    unsafe fn simulate(&mut self) {
        let process = self.text(&[
            "ve",
            "cir",
            "gbm:{\"sigma\":0.5}",
            "besq:{\"delta\":3}",
            "mask",
            "none",
            "cir:{\"kappa\":1e-300}",
            "",
            "{\"id\":\"ve\"}",
        ]);
        let times = [0.0, 0.5, 1.0, f64::from(self.input.u8()) * 10.0, f64::NAN];
        let keep = [0, self.input.size(4) as u32, 2];
        let mut options = Padded::new(SimulateOptions {
            struct_size: self.struct_size(size_of::<SimulateOptions>()),
            flags: u32::from(self.input.u8() & 3),
            seed: 1,
            first_sample: self.input.size(10),
            n_samples: self.input.size(10),
            n_times: self.input.size(4).min(5) as u32,
            substeps: match self.input.size(3) as u32 {
                n @ ..=100_000 => n % 4, // what is allowed is done, and takes as long as it takes
                n => n,
            },
            process: process.as_ref().map_or(null(), |p| p.as_ptr()),
            times: times.as_ptr(),
            x0: self.any_tensor(),
            keep: if self.input.u8() < 200 { null() } else { keep.as_ptr() },
            n_keep: self.input.size(2).min(3) as u32,
            reserved: 0,
        });
        let (engine, err) = (self.any_engine(), self.err());
        let mut out = null_mut();
        // Safety: all of it lives until the call returns.
        let status = unsafe { dfx_simulate(engine, options.at(), &raw mut out, err) };
        self.keep_tensor(status, out);
    }

    unsafe fn evaluate(&mut self) {
        let slot = self.text(&["base", "h", ""]);
        let names = [c"x".as_ptr(), c"sigma".as_ptr(), c"cotangent.x".as_ptr(), null()];
        let inputs = [self.any_tensor(), self.any_tensor(), self.any_tensor(), null_mut()];
        let outputs = [c"x".as_ptr(), c"grad.x".as_ptr(), c"grad.sigma".as_ptr(), c"x".as_ptr()];
        let mut options = Padded::new(EvalOptions {
            struct_size: self.struct_size(size_of::<EvalOptions>()),
            flags: 0,
            n_inputs: self.input.size(3).min(4) as u32,
            n_outputs: self.input.size(3).min(4) as u32,
            slot: slot.as_ref().map_or(null(), |s| s.as_ptr()),
            input_names: names.as_ptr(),
            inputs: inputs.as_ptr(),
            output_names: outputs.as_ptr(),
        });
        let (pipeline, err) = (self.pick(|h| h.pipeline), self.err());
        let mut out = [null_mut(); 4];
        // Safety: all of it lives until the call returns; there is room for every output.
        let status = unsafe { dfx_pipeline_eval(pipeline, options.at(), out.as_mut_ptr(), err) };
        self.said(status);
        for t in out {
            assert!(status == 0 || t.is_null(), "all outputs or none");
            // Safety: ours, or NULL.
            unsafe { dfx_tensor_release(t) };
        }
    }

    unsafe fn create_trainer(&mut self) {
        let series = files().series.to_str().unwrap_or_default();
        let extra = self.text(&[
            "",
            ",\"split\":\"2020-01-01\"",
            ",\"batch\":1048576",
            ",\"rate\":1e300",
            ",\"steps\":0",
        ]);
        let extra = extra.as_ref().and_then(|e| e.to_str().ok()).unwrap_or_default();
        let window = self.input.size(4);
        let recipe = format!(
            "{{\"data\":{{\"path\":\"{series}\",\"window\":{window}}},\"model\":\"mlp:{{\\\"width\\\":2,\\\"depth\\\":1}}\",\
             \"process\":\"ve\",\"steps\":3,\"batch\":2{extra}}}"
        );
        let (engine, err) = (self.any_engine(), self.err());
        let Ok(recipe) = CString::new(recipe) else { return };
        let names = [c"x".as_ptr(), c"held_out.x".as_ptr(), null(), c"x".as_ptr()];
        let tables = [self.any_tensor(), self.any_tensor(), null_mut(), self.any_tensor()];
        let mut options = Padded::new(TrainerOptions {
            struct_size: self.struct_size(size_of::<TrainerOptions>()),
            flags: u32::from(self.input.u8() == 255),
            n_tables: self.input.size(1).min(4) as u32,
            reserved: 0,
            table_names: names.as_ptr(),
            tables: tables.as_ptr(),
        });
        let options = if self.input.u8() < 128 { null() } else { options.at() };
        if self.input.u8() > 200 {
            let mut bytes = 0;
            // Safety: texts and lists live until the call returns.
            let status =
                unsafe { dfx_trainer_plan(engine, recipe.as_ptr(), options, &raw mut bytes, err) };
            self.trained = self.said(status);
            return;
        }
        let mut out = null_mut();
        // Safety: as above.
        let status =
            unsafe { dfx_trainer_create(engine, recipe.as_ptr(), options, &raw mut out, err) };
        if self.said(status) {
            self.trained = true;
            // Safety: as said there.
            unsafe { Self::place(&mut self.trainer, out, dfx_trainer_release) };
        }
    }

    unsafe fn train(&mut self) {
        let t = if self.input.u8() < 250 { self.trainer } else { self.model[0] };
        let mut out = Padded::new(Training {
            struct_size: self.struct_size(size_of::<Training>()),
            reserved: 0,
            step: 0,
            n_steps: 0,
            loss: 0.0,
            norm: 0.0,
            rate: 0.0,
        });
        let (mut value, err) = (0.0, self.err());
        let path = files().out.as_ptr();
        // Safety: the trainer is alive and has one caller.
        let status = unsafe {
            match self.input.u8() % 7 {
                0 | 1 => dfx_trainer_step(t, self.input.size(2) as u32, out.at_mut(), err),
                2 => dfx_trainer_measure(t, out.at_mut(), err),
                3 => {
                    let mut name = null();
                    let n = dfx_trainer_metric_count(t);
                    let status = dfx_trainer_metric_name(t, n.wrapping_sub(1), &raw mut name, err);
                    match status {
                        0 => dfx_trainer_metric(t, name, &raw mut value, err),
                        _ => status,
                    }
                }
                4 => dfx_trainer_checkpoint(t, path, err),
                5 => dfx_trainer_resume(t, path, err),
                _ => dfx_trainer_save(t, path, err),
            }
        };
        self.said(status);
    }

    unsafe fn pump(&mut self) {
        let engine = self.any_engine();
        let us = u32::from(self.input.u8());
        // Safety: the engine is alive.
        let left = unsafe { dfx_engine_pump(engine, us) };
        assert!((-12..=16).contains(&left), "{left}");
    }

    unsafe fn plugins(&mut self) {
        let (engine, err) = (self.any_engine(), self.err());
        let path = self.text(&["/none.so", "relative.so", "", "/"]);
        let path = path.as_ref().map_or(null(), |p| p.as_ptr());
        // Safety: NULL and texts; loading is off, so no code runs.
        unsafe {
            let status = dfx_plugin_load(engine, path, null(), err);
            assert!(!self.said(status));
            let err = self.err();
            let status = dfx_plugin_register(engine, null(), err);
            assert!(!self.said(status));
            let text = self.text(&["cpu", "cuda", "diffx.version/1", "none"]);
            let text = text.as_ref().map_or(null(), |p| p.as_ptr());
            std::hint::black_box((dfx_has_feature(text), dfx_extension(text)));
            assert!(!dfx_status_name(i32::from(self.input.u8()) - 200).is_null());
        }
    }

    unsafe fn release(&mut self) {
        let (kind, i) = (self.input.below(6), self.input.u8());
        let (slot, release): (&mut *mut c_void, Release) = match kind {
            0 => (&mut self.engine[usize::from(i) & 1], dfx_engine_release),
            1 => (&mut self.model[usize::from(i) & 1], dfx_model_release),
            2 => (&mut self.pipeline[usize::from(i) & 1], dfx_pipeline_release),
            3 => (&mut self.job[usize::from(i) & 1], dfx_job_release),
            4 => (&mut self.tensor[usize::from(i) & 3], dfx_tensor_release),
            _ => (&mut self.trainer, dfx_trainer_release),
        };
        // Safety: the object is ours and forgotten.
        unsafe { Self::place(slot, null_mut(), release) };
    }

    /// Everything goes, the engines last, whose account must be empty then.
    unsafe fn end(&mut self) {
        // Safety: all of them are ours, and gone after this.
        unsafe {
            self.job.into_iter().for_each(|j| dfx_job_release(j));
            self.pipeline.into_iter().for_each(|p| dfx_pipeline_release(p));
            self.model.into_iter().for_each(|m| dfx_model_release(m));
            self.tensor.into_iter().for_each(|t| dfx_tensor_release(t));
            dfx_trainer_release(self.trainer);
            for e in self.engine {
                dfx_engine_pump(e, 0); // the log is empty then
                let (mut used, mut peak) = (0, 0);
                if dfx_engine_memory(e, &raw mut used, &raw mut peak, null_mut()) == 0 {
                    assert!(used == 0 && peak <= CAP, "{used} are left, the peak was {peak}");
                }
                match KEPT.get().is_null() && e == self.engine[0] {
                    true => KEPT.set(e),
                    false => dfx_engine_release(e),
                }
            }
        }
        assert_eq!(*self.freed, self.wrapped, "lent memory is given back once");
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    // rows of calls with arguments that are all right: small numbers pick the first of every table
    let rows: &[&[u8]] = &[
        &[1, 4, 8, 12, 16, 19],
        &[1, 4, 8, 14, 15, 12, 16],
        &[1, 4, 7, 8, 11, 25, 16],
        &[17, 20, 19, 27],
        &[17, 17, 1, 4, 21],
        &[22, 23, 23, 23, 27],
        &[3, 26, 18, 19, 27, 0],
    ];
    let mut out = Vec::new();
    for row in rows {
        for fill in [0u8, 2, 5] {
            out.push(row.iter().flat_map(|call| [&[*call][..], &[fill; 24]].concat()).collect());
        }
    }
    out
}
