//! The library, one object of each kind, and a call that is checked.

use crate::rows;
use crate::values::{Memory, Place, Wrong};
use libloading::Library;
use std::ffi::{CStr, c_void};
use std::path::Path;
use std::time::{Duration, Instant};

pub(crate) const KINDS: [&str; 7] =
    ["engine", "model", "pipeline", "job", "tensor", "trainer", "tuner"];
const TENSOR: usize = 4;

/// What the calls of a child came to.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) calls: usize,
    pub(crate) refused: usize,
}

pub(crate) struct Live {
    library: Library,
    /// By `KINDS`.
    pub(crate) objects: [u64; 7],
    tensors: Vec<(&'static str, u64)>,
    released: [u64; 7],
}

/// `dfx_error`.
#[repr(C)]
struct Error {
    struct_size: u32,
    status: i32,
    source: u32,
    message_len: u32,
    message: [u8; 496],
}

/// Calls with integers and pointers only: on the 64-bit targets each goes the way of a 64-bit number.
///
/// # Safety
/// `f` takes as many arguments of these kinds.
unsafe fn call(f: *const c_void, a: &[u64]) -> u64 {
    macro_rules! with {
        ($($i:literal)*) => {{
            // Safety: as the caller promised.
            let f: unsafe extern "C" fn($(with!(@ $i)),*) -> u64 = unsafe { std::mem::transmute(f) };
            // Safety: as above.
            unsafe { f($(a[$i]),*) }
        }};
        (@ $i:literal) => { u64 };
    }
    match a.len() {
        0 => with!(),
        1 => with!(0),
        2 => with!(0 1),
        3 => with!(0 1 2),
        4 => with!(0 1 2 3),
        5 => with!(0 1 2 3 4),
        6 => with!(0 1 2 3 4 5),
        7 => with!(0 1 2 3 4 5 6),
        n => panic!("{n} arguments"),
    }
}

fn at<T>(p: &T) -> u64 {
    // the call does not outlive the borrow
    std::ptr::from_ref(p) as u64
}

impl Live {
    pub(crate) fn new(library: &Path) -> Self {
        // Safety: the library of this build.
        let library = unsafe { Library::new(library) }.unwrap();
        let mut live = Self { library, objects: [0; 7], tensors: Vec::new(), released: [0; 7] };
        live.objects[0] = live.make(0);
        let numbers = |n: u8| (1..=n).flat_map(|i| f32::from(i).to_ne_bytes()).collect::<Vec<u8>>();
        live.floats("x", 1, &[4, 3], &numbers(12));
        live.floats("sigma", 1, &[4], &numbers(4));
        live.floats("start", 7, &[1], &1.0f64.to_ne_bytes());
        for kind in 1..KINDS.len() {
            live.objects[kind] = live.make(kind);
        }
        if cfg!(debug_assertions) {
            for kind in 0..KINDS.len() {
                let object = live.make(kind);
                live.release(kind, object);
                live.released[kind] = object;
            }
        }
        live
    }

    pub(crate) fn function(&self, name: &str) -> *const c_void {
        // Safety: only its address is taken.
        let f = unsafe { self.library.get::<unsafe extern "C" fn()>(name.as_bytes()) };
        let f = f.unwrap_or_else(|e| panic!("{name}: {e}"));
        *f as *const c_void
    }

    /// A call that must go well; the error comes last.
    fn good(&self, name: &str, arguments: &[u64]) {
        let mut e =
            Error { struct_size: 512, status: 0, source: 0, message_len: 0, message: [0; 496] };
        let all: Vec<u64> =
            arguments.iter().copied().chain([std::ptr::from_mut(&mut e) as u64]).collect();
        // Safety: every caller below writes what the header asks for.
        let status = unsafe { call(self.function(name), &all) } as i32;
        let words = String::from_utf8_lossy(&e.message[..e.message_len as usize]).into_owned();
        assert_eq!(status, 0, "{name}: {words}");
    }

    /// The same for a call whose result is the last but one.
    fn made(&self, name: &str, arguments: &[u64]) -> u64 {
        let mut out = 0u64;
        let all: Vec<u64> =
            arguments.iter().copied().chain([std::ptr::from_mut(&mut out) as u64]).collect();
        self.good(name, &all);
        out
    }

    fn floats(&mut self, name: &'static str, dtype: u32, dims: &[i64], data: &[u8]) {
        let mut desc = [0i64; 9];
        desc[0] = i64::from(dtype) | (dims.len() as i64) << 32;
        desc[1..=dims.len()].copy_from_slice(dims);
        let tensor =
            self.made("dfx_tensor_create", &[self.objects[0], at(&desc), data.as_ptr() as u64]);
        self.tensors.push((name, tensor));
    }

    pub(crate) fn tensor(&self, name: &str) -> u64 {
        self.tensors.iter().find(|(n, _)| *n == name).expect("a live tensor").1
    }

    /// A new object.
    pub(crate) fn make(&self, kind: usize) -> u64 {
        let [engine, model, ..] = self.objects;
        match KINDS[kind] {
            "engine" => {
                // as rows::FIELDS has it: 16 MB, one thread
                let options: [u64; 10] = [80, 16 << 20, 0, 1, 0, 0, 0, 0, 0, 0];
                self.made("dfx_engine_create", &[at(&options)])
            }
            "model" => {
                if !Path::new("model.safetensors").exists() {
                    let trainer = self.make(5);
                    self.good("dfx_trainer_step", &[trainer, 2, 0]);
                    self.good("dfx_trainer_save", &[trainer, at(b"model.safetensors\0")]);
                    self.good("dfx_trainer_checkpoint", &[trainer, at(b"training.safetensors\0")]);
                    self.release(5, trainer);
                }
                self.made("dfx_model_open", &[engine, at(b"model.safetensors\0"), 0])
            }
            "pipeline" => self.made(
                "dfx_pipeline_create",
                &[model, at(b"{\"steps\":2,\"sampler\":\"euler\"}\0")],
            ),
            "job" => {
                let job = self.started(1);
                self.good("dfx_job_wait", &[job, u64::MAX]);
                job
            }
            "tensor" => {
                let desc: [i64; 9] = [1 | 1 << 32, 5, 0, 0, 0, 0, 0, 0, 0];
                self.made("dfx_tensor_create", &[engine, at(&desc), 0])
            }
            "trainer" => {
                let (name, x) = (at(b"x\0"), self.tensor("x"));
                let options = [32, 1, at(&name), at(&x)];
                let recipe = std::ffi::CString::new(rows::RECIPE).unwrap();
                let recipe = recipe.as_ptr() as u64;
                self.made("dfx_trainer_create", &[engine, recipe, at(&options)])
            }
            _ => {
                let config = std::ffi::CString::new(rows::TUNING).unwrap();
                let tuner = self.made("dfx_tuner_create", &[model, config.as_ptr() as u64]);
                if !Path::new("tuning.safetensors").exists() {
                    self.good("dfx_tuner_checkpoint", &[tuner, at(b"tuning.safetensors\0")]);
                }
                self.good("dfx_tuner_rollout", &[tuner, 0]);
                tuner
            }
        }
    }

    /// A job of four samples with previews.
    fn started(&self, seed: u64) -> u64 {
        let options: [u64; 10] = [80, seed, 0, 4, 1 << 32, 0, 0, 0, 0, 0];
        let job = self.made("dfx_job_start", &[self.objects[2], at(&options)]);
        if !Path::new("job.safetensors").exists() {
            // a job that may be over: from an engine that waits
            let still: [u64; 10] = [80 | 1 << 32, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            let engine = self.made("dfx_engine_create", &[at(&still)]);
            let model = self.made("dfx_model_open", &[engine, at(b"model.safetensors\0"), 0]);
            let config = at(b"{\"steps\":2,\"sampler\":\"euler\"}\0");
            let pipeline = self.made("dfx_pipeline_create", &[model, config]);
            let job = self.made("dfx_job_start", &[pipeline, at(&options)]);
            self.good("dfx_job_save", &[job, at(b"job.safetensors\0")]);
            for (kind, object) in [(3, job), (2, pipeline), (1, model), (0, engine)] {
                self.release(kind, object);
            }
        }
        job
    }

    pub(crate) fn released(&self, kind: usize) -> u64 {
        self.released[kind]
    }

    pub(crate) fn release(&self, kind: usize, object: u64) {
        let f = self.function(&format!("dfx_{}_release", KINDS[kind]));
        // Safety: an object of this kind, or something that must be refused.
        unsafe { call(f, &[object]) };
    }

    /// The bytes of a sample.
    pub(crate) fn sample(&self) -> Vec<u8> {
        let job = self.started(5);
        self.good("dfx_job_wait", &[job, u64::MAX]);
        let x = self.made("dfx_job_result", &[job, at(b"x\0")]);
        let (mut data, mut n) = (0u64, 0u64);
        let places = [std::ptr::from_mut(&mut data) as u64, std::ptr::from_mut(&mut n) as u64];
        self.good("dfx_tensor_map", &[x, places[0], places[1]]);
        // Safety: the library says so.
        let out = unsafe { std::slice::from_raw_parts(data as *const u8, n as usize) }.to_vec();
        self.release(TENSOR, x);
        self.release(3, job);
        out
    }

    /// Releases everything; no memory is left.
    pub(crate) fn end(self) {
        for (_, tensor) in &self.tensors {
            self.release(TENSOR, *tensor);
        }
        for kind in (1..KINDS.len()).rev() {
            self.release(kind, self.objects[kind]);
        }
        // a thread of the engine lets go of a job just after it is over
        let (mut used, begun) = (u64::MAX, Instant::now());
        while used != 0 && begun.elapsed() < Duration::from_secs(20) {
            let place = std::ptr::from_mut(&mut used) as u64;
            self.good("dfx_engine_memory", &[self.objects[0], place, 0]);
        }
        assert_eq!(used, 0, "bytes are left when all objects but the engine are released");
        self.release(0, self.objects[0]);
    }
}

fn read(m: &Memory) -> Vec<u8> {
    // Safety: memory of ours that stays.
    unsafe { std::slice::from_raw_parts(m.at, m.initial.len()) }.to_vec()
}

/// One call, with what is chosen of the wrong values, and what must hold after it.
pub(crate) fn attempt(
    live: &Live,
    f: *const c_void,
    returns: &str,
    types: &[String],
    choice: &[Option<usize>],
    good: &mut [Place],
    wrong: &[Vec<Wrong>],
    seen: &mut Seen,
) {
    let mut words = Vec::new();
    let mut memories: Vec<(usize, &Memory)> = Vec::new();
    let mut fresh = None;
    for (i, c) in choice.iter().enumerate() {
        let memory = match c {
            Some(k) => {
                words.push(wrong[i][*k].word);
                wrong[i][*k].memory.as_ref()
            }
            None => {
                let made = good[i].fresh.map(|kind| live.make(kind));
                fresh = fresh.or(made);
                words.push(made.unwrap_or(good[i].word));
                good[i].memory.as_ref()
            }
        };
        if let Some(m) = memory {
            // Safety: memory of ours that stays.
            unsafe { m.at.copy_from_nonoverlapping(m.initial.as_ptr(), m.initial.len()) };
            memories.push((i, m));
        }
    }
    // Safety: this is the test: what the header forbids must be refused.
    let result = unsafe { call(f, &words) };
    seen.calls += 1;
    let status = result as i32;
    let has_status = matches!(returns, "dfx_status" | "int32_t");
    if returns == "dfx_status" {
        assert!((-12..=0).contains(&status), "status {status}");
    }
    let failed = has_status && status < 0;
    seen.refused += usize::from(failed);
    for (i, m) in &memories {
        let (now, room) = (read(m), m.room.unwrap_or(0));
        let writes = if failed && !m.is_error { 0 } else { room };
        assert!(
            now[writes..] == m.initial[writes..],
            "argument {i}: byte behind {writes} is written"
        );
        if failed && m.is_error && room == 512 {
            let len = u32::from_ne_bytes(now[12..16].try_into().unwrap()) as usize;
            let message = CStr::from_bytes_until_nul(&now[16..512]).expect("the message ends");
            assert!(message.count_bytes() == len && len > 0, "a failure without words");
            assert!(now[4..8] == status.to_ne_bytes(), "the status stands in dfx_error too");
        }
    }
    if failed || returns == "void" {
        if returns == "void"
            && types.len() == 1
            && types[0] == "const dfx_tensor *"
            && good[0].fresh.is_none()
            && choice[0].is_none()
        {
            live.release(TENSOR, words[0]); // retained
        }
        return;
    }
    // what came out is ours now
    for (i, m) in &memories {
        let ty = &types[*i];
        if !ty.ends_with("* *") || m.room.is_none() {
            continue;
        }
        let now = read(m);
        let made = u64::from_ne_bytes(now[..8].try_into().unwrap());
        let name = ty.trim_end_matches([' ', '*']).rsplit(' ').next().unwrap_or_default();
        if let Some(kind) = KINDS.iter().position(|k| name.strip_prefix("dfx_") == Some(k)) {
            live.release(kind, made);
        } else if name == "char" {
            // Safety: the header says a text.
            unsafe { CStr::from_ptr(made as *const _) }.to_str().expect("UTF-8");
        } else if name == "DLManagedTensorVersioned" {
            // Safety: DLPack: after two numbers and a pointer comes the deleter.
            unsafe { call(*(made as *const *const c_void).add(2), &[made]) };
        }
    }
}
