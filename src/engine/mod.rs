//! The engine: what a host holds. Plugins by name, models, pipelines, jobs and who drives them.
//!
//! Path of a job: `model` opens a file -> `pipeline` binds it to a process, guidance, sampler and grid, plans the step
//! and knows its bytes -> `job` is one run -> `pump` advances it on a thread of ours or on the host's.

mod builtin;
pub mod carried;
mod complete;
pub mod config;
mod directory;
mod eval;
pub mod families;
mod hold;
pub mod inspect;
pub mod job;
#[cfg(test)]
mod latency;
pub mod log;
pub mod manifest;
pub mod model;
mod moments;
#[cfg(test)]
mod overrun;
pub mod pilot;
pub mod pipeline;
mod prepare;
mod pump;
pub mod recipe;
mod saved;
pub mod schedulers;
mod score;
pub mod setting;
mod simulate;
pub mod spelling;
pub mod strict;
pub mod trainer;
pub mod tuner;
pub mod tuning;
#[cfg(test)]
mod watched;

pub use eval::{Evaluation, Planned};
pub use hold::Hold;
pub use job::{Job, JobOptions, Preview, Progress, State};
pub use manifest::Manifest;
pub use model::OpenModel;
pub use pipeline::Pipeline;
pub use score::Scoring;
pub use setting::Setting;
pub use simulate::Paths;

use crate::bail;
use crate::base::{Error, Result, Status};
use crate::cpu::Cpu;
use crate::cuda;
use crate::exec::Backend;
use crate::mem::Budget;
use crate::mem::arena::HostAllocator;
use crate::plugin::{Candidate, Choice, Factory, Kind, Registry, Trust};
use crate::sample::{Grid, Guidance, Model, Process, Sampler};
use crate::train::Objective;
use pump::Queue;
use serde_json::Value;
use std::collections::VecDeque;
use std::ffi::c_void;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// Most log messages kept for a host that does not come to fetch them.
const MOST_MESSAGES: usize = 1024;

/// How an engine is made. The default is a CPU engine with its own thread and no cap.
#[derive(Default)]
pub struct Options {
    /// Never spawn a thread; the host calls [`Engine::pump`].
    pub no_threads: bool,
    pub load_plugins: bool,
    /// Also load the files of `DIFFX_PLUGIN_PATH`.
    pub env_plugins: bool,
    /// Bytes of host memory; 0 = no cap.
    pub arena_bytes: u64,
    /// 0 = as many as the machine has cores.
    pub threads: usize,
    /// `cpu`, `cuda:0`; empty = the best there is.
    pub device: String,
    /// Bytes of device memory; 0 = no cap. On the CPU all memory is the host's.
    pub device_bytes: u64,
    /// A CUDA stream of the host's to work on; 0 = one of our own. It must outlive the engine.
    pub cuda_stream: usize,
    pub allocator: Option<HostAllocator>,
    pub log: Option<LogSink>,
    /// The sink may be called on any thread, at once; else messages wait for a call of the host.
    pub log_anywhere: bool,
}

/// Where messages go: level (0 error, 1 warning, 2 information, 3 debugging) and text.
pub type LogSink = Arc<dyn Fn(i32, &str) + Send + Sync>;

/// Everything hangs off this; nothing is global.
pub struct Engine {
    budget: Arc<Budget>,
    backend: Arc<dyn Backend>,
    registry: RwLock<Registry>,
    queue: Arc<Queue>,
    worker: Mutex<Option<std::thread::JoinHandle<()>>>,
    threaded: bool,
    /// How many handles the host has, see [`Hold`].
    holds: AtomicUsize,
    log: Arc<Messages>,
    load_plugins: bool,
    poisoned: AtomicBool,
}

impl Engine {
    pub fn new(options: Options) -> Result<Arc<Self>> {
        let backend = backend(&options)?;
        Self::with_backend(options, backend)
    }

    /// On a device of the caller's; `device` and `threads` of the options are not read.
    pub(crate) fn with_backend(options: Options, backend: Arc<dyn Backend>) -> Result<Arc<Self>> {
        let log = Arc::new(Messages {
            sink: options.log,
            anywhere: options.log_anywhere,
            waiting: Mutex::new(VecDeque::new()),
        });
        let to = Arc::clone(&log);
        let mut registry = Registry::new(Box::new(move |level, text| to.put(level, text)));
        builtin::register(&mut registry)?;
        let queue = Arc::new(Queue::default());
        let worker = if options.no_threads { None } else { Some(pump::spawn(&queue)?) };
        let engine = Arc::new(Self {
            budget: Budget::new(options.arena_bytes, options.allocator),
            backend,
            registry: RwLock::new(registry),
            queue,
            threaded: worker.is_some(),
            worker: Mutex::new(worker),
            holds: AtomicUsize::new(0),
            log,
            load_plugins: options.load_plugins,
            poisoned: AtomicBool::new(false),
        });
        if options.load_plugins && options.env_plugins && !elevated() {
            engine.load_from_env();
        }
        Ok(engine)
    }

    pub fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    pub fn backend(&self) -> &Arc<dyn Backend> {
        &self.backend
    }

    // ---- jobs

    /// Advances every job for about `budget_us` on this thread, then hands over log messages. Returns how many jobs
    /// are unfinished.
    pub fn pump(&self, budget_us: u64) -> usize {
        let left = self.queue.pump(budget_us);
        self.deliver_log();
        left
    }

    fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Whether jobs advance without the host.
    pub fn has_thread(&self) -> bool {
        self.threaded
    }

    // ---- faults

    /// A bug of ours showed: nothing is promised any more but that objects can be released.
    pub fn poison(&self) {
        self.poisoned.store(true, Ordering::Relaxed);
    }

    pub fn check(&self) -> Result<()> {
        if self.poisoned.load(Ordering::Relaxed) {
            return Err(Error::new(
                Status::State,
                "the engine met a bug of its own earlier; release it and make another",
            ));
        }
        Ok(())
    }

    pub fn message(&self, level: i32, text: &str) {
        self.log.put(level, text);
    }

    /// Gives waiting log messages to the sink, on this thread.
    pub fn deliver_log(&self) {
        self.log.deliver();
    }

    // ---- plugins

    /// Registers a descriptor that is linked into the host program.
    ///
    /// # Safety
    /// `descriptor` must point to a `dfx_plugin` that, with all it points to, lives unchanged until the process ends.
    pub unsafe fn register(&self, descriptor: *const c_void) -> Result<u32> {
        // Safety: as the caller promised.
        self.add(unsafe { Candidate::linked(descriptor) }?)
    }

    pub fn load(&self, path: &Path, sha256: Option<&str>) -> Result<u32> {
        self.add(Candidate::file(path, &Trust { allowed: self.load_plugins, sha256 })?)
    }

    /// A file in the place of the plugin of its id, if there is one. The log says so.
    pub fn load_instead(&self, path: &Path, sha256: Option<&str>) -> Result<u32> {
        let candidate = Candidate::file(path, &Trust { allowed: self.load_plugins, sha256 })?;
        let (source, mut notes, replaced) = self.plugins_mut().replace(candidate)?;
        if replaced {
            notes.push((2, format!("{} takes the place of a plugin of its id", path.display())));
        }
        for (level, text) in notes {
            self.message(level, &text);
        }
        Ok(source)
    }

    fn add(&self, plugin: Candidate) -> Result<u32> {
        let (source, notes) = self.plugins_mut().add(plugin)?;
        for (level, text) in notes {
            self.message(level, &text); // the lock is open: the host's log may ask for plugins
        }
        Ok(source)
    }

    pub fn factory_count(&self) -> usize {
        self.plugins().factories().count()
    }

    /// Kind, id, summary and config schema of a factory, as a JSON object.
    pub fn factory(&self, i: usize) -> Result<String> {
        let registry = self.plugins();
        match registry.factories().nth(i) {
            Some(f) => Ok(describe(f)),
            None => bail!(NotFound, "factory {i}, there are {}", registry.factories().count()),
        }
    }

    /// The same of every factory.
    pub fn factories(&self) -> Vec<String> {
        self.plugins().factories().map(describe).collect()
    }

    /// Every plugin with its factories.
    pub fn plugins_json(&self) -> Value {
        self.plugins().list()
    }

    pub fn model(&self, s: &Setting) -> Result<Arc<dyn Model>> {
        self.choose(Kind::Model, s)?.model()
    }

    pub fn process(&self, s: &Setting) -> Result<Arc<dyn Process>> {
        self.choose(Kind::Process, s)?.process()
    }

    pub fn guidance(&self, s: &Setting) -> Result<Arc<dyn Guidance>> {
        self.choose(Kind::Guidance, s)?.guidance()
    }

    pub fn sampler(&self, s: &Setting) -> Result<Arc<dyn Sampler>> {
        self.choose(Kind::Sampler, s)?.sampler()
    }

    pub fn grid(&self, s: &Setting) -> Result<Arc<dyn Grid>> {
        self.choose(Kind::Grid, s)?.grid()
    }

    pub fn objective(&self, s: &Setting) -> Result<Arc<dyn Objective>> {
        self.choose(Kind::Objective, s)?.objective()
    }

    /// What a setting names. `create` of the plugin runs after this, under no lock: it may take its time, and log.
    fn choose(&self, kind: Kind, s: &Setting) -> Result<Choice> {
        self.plugins().choose(kind, &s.id, &s.value())
    }

    /// The setting with its full id.
    pub fn resolve(&self, kind: Kind, s: &Setting) -> Result<Setting> {
        let factory = self.plugins().resolve(kind, &s.id)?;
        Ok(Setting { id: factory.id().to_owned(), config: s.config.clone() })
    }

    /// Full ids everywhere in a description.
    pub fn canonical(&self, m: &mut Manifest) -> Result<()> {
        m.model = self.resolve(Kind::Model, &m.model)?;
        for s in m.networks.values_mut() {
            *s = self.resolve(Kind::Model, s)?;
        }
        for part in &mut m.components {
            part.process = self.resolve(Kind::Process, &part.process)?;
        }
        for s in &mut m.guidance {
            *s = self.resolve(Kind::Guidance, s)?;
        }
        if let Some(s) = &mut m.sampler {
            *s = self.resolve(Kind::Sampler, s)?;
        }
        if let Some(s) = &mut m.grid {
            *s = self.resolve(Kind::Grid, s)?;
        }
        Ok(())
    }

    /// The keys of its config, where the plugin documents them.
    pub fn config_keys(&self, kind: Kind, id: &str) -> Result<Option<Vec<String>>> {
        let registry = self.plugins();
        let factory = registry.resolve(kind, id)?;
        let Some(text) = factory.config_schema() else { return Ok(None) };
        let schema: Value = serde_json::from_str(text).unwrap_or_default();
        let keys = schema.get("properties").and_then(Value::as_object);
        Ok(keys.map(|map| map.keys().cloned().collect()))
    }

    fn plugins(&self) -> std::sync::RwLockReadGuard<'_, Registry> {
        // a registry that panicked half-way has at worst one plugin less
        self.registry.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn plugins_mut(&self) -> std::sync::RwLockWriteGuard<'_, Registry> {
        self.registry.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Loads the files of `DIFFX_PLUGIN_PATH`; a file that fails is a warning.
    fn load_from_env(&self) {
        let Some(list) = std::env::var_os("DIFFX_PLUGIN_PATH") else { return };
        for path in std::env::split_paths(&list).filter(|p| !p.as_os_str().is_empty()) {
            if let Err(e) = self.load(&path, None) {
                self.message(1, &format!("DIFFX_PLUGIN_PATH: {e}"));
            }
        }
    }
}

/// The lock, whatever happened to an earlier holder: what these locks guard is valid after every statement.
fn lock<T>(m: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether this build holds kernels for CUDA devices; whether there is a device shows when one is opened.
pub fn has_cuda() -> bool {
    cuda::has_kernels()
}

fn backend(options: &Options) -> Result<Arc<dyn Backend>> {
    match options.device.as_str() {
        "" | "cpu" if options.cuda_stream != 0 => {
            bail!(Unsupported, "cuda_stream is set, device {:?} has no streams", options.device)
        }
        "" | "cpu" => {
            let threads = match (options.no_threads, options.threads) {
                (true, _) => 1,
                (false, 0) => std::thread::available_parallelism().map_or(1, usize::from),
                (false, n) => n.min(1024),
            };
            Ok(Arc::new(Cpu::new(threads)))
        }
        device => cuda::open(cuda::Options {
            device,
            stream: std::ptr::with_exposed_provenance_mut(options.cuda_stream),
            bytes: options.device_bytes,
        }),
    }
}

/// Whether the process runs with rights its user does not have; the environment is not trusted then.
fn elevated() -> bool {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return true };
    let differ = |key: &str| {
        let line = status.lines().find_map(|l| l.strip_prefix(key));
        let ids: Vec<&str> = line.unwrap_or_default().split_whitespace().collect();
        ids.len() < 2 || ids.iter().any(|id| *id != ids[0])
    };
    differ("Uid:") || differ("Gid:")
}

/// Kind, id, summary and config schema, as a JSON object.
fn describe(f: &Factory) -> String {
    let schema: Option<Value> =
        f.config_schema().map(|s| serde_json::from_str(s).unwrap_or_else(|_| s.into()));
    serde_json::json!({
        "kind": f.kind().name(),
        "id": f.id(),
        "plugin": f.plugin(),
        "summary": f.summary(),
        "config_schema": schema,
    })
    .to_string()
}

/// Log messages on their way to the host.
struct Messages {
    sink: Option<LogSink>,
    anywhere: bool,
    waiting: Mutex<VecDeque<(i32, String)>>,
}

impl Messages {
    fn put(&self, level: i32, text: &str) {
        let Some(sink) = &self.sink else { return };
        if self.anywhere {
            sink(level, text);
            return;
        }
        let mut waiting = lock(&self.waiting);
        if waiting.len() == MOST_MESSAGES {
            waiting.pop_front();
        }
        waiting.push_back((level, text.to_owned()));
    }

    fn deliver(&self) {
        let Some(sink) = &self.sink else { return };
        loop {
            // not held while the host runs: it may call us
            let Some((level, text)) = lock(&self.waiting).pop_front() else { return };
            sink(level, &text);
        }
    }
}
