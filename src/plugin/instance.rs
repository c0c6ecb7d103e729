//! A factory of a plugin, and the instances it creates: one caller at a time, every status checked, every error
//! carrying the plugin's name.

use super::entry::{CheckedFactory, Kind};
use super::frame::{self, Left, Role};
use super::host::Host;
use super::{abi, read};
use crate::base::{Error, Result, Status};
use crate::graph::NodeId;
use crate::sample::Build;
use crate::{bail, fail};
use serde_json::Value;
use std::ffi::{CString, c_void};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A registered factory. Cheap to share; lives as long as its instances.
pub struct Factory {
    pub(super) plugin: String,
    /// Number of the plugin, as errors carry it.
    pub(super) source: u32,
    pub(super) checked: CheckedFactory,
    pub(super) host: Arc<Host>,
}

// Safety: the pointers lead to constants of a library that stays mapped; `create` may run concurrently by contract.
unsafe impl Send for Factory {}
// Safety: as above.
unsafe impl Sync for Factory {}

impl Factory {
    pub fn kind(&self) -> Kind {
        self.checked.kind
    }

    pub fn id(&self) -> &str {
        &self.checked.id
    }

    pub fn summary(&self) -> &str {
        &self.checked.summary
    }

    pub fn config_schema(&self) -> Option<&str> {
        self.checked.schema.as_deref()
    }

    pub fn plugin(&self) -> &str {
        &self.plugin
    }

    /// `org.example/dit`: the plugin and what is left of the factory's id.
    fn label(&self) -> String {
        let id = self.id();
        let short = id.strip_prefix(&self.plugin).and_then(|s| s.strip_prefix('.')).unwrap_or(id);
        format!("{}/{short}", self.plugin)
    }

    /// Names the plugin in an error that no plugin has been named in.
    fn attribute(&self, e: Error) -> Error {
        if e.source != 0 {
            return e;
        }
        Error { source: self.source, ..e }.within(self.label())
    }

    fn outcome(&self, status: i32, error: &abi::Error) -> Result<()> {
        if status == abi::OK {
            return Ok(());
        }
        let mut message = read::message(error);
        if message.is_empty() {
            message = format!("failed without a message (status {status})");
        }
        let status = Status::from_code(status).unwrap_or(Status::Plugin);
        Err(self.attribute(Error::new(status, message)))
    }
}

/// What `create` returned. Destroyed when dropped.
pub(super) struct Instance {
    factory: Arc<Factory>,
    this: *mut c_void,
    /// The user gave a setting far from 1.
    is_strained: bool,
    turn: Mutex<()>,
    /// The thread whose turn it is, 0 = nobody's.
    owner: AtomicUsize,
}

// Safety: rule 5 of the header allows calls from any thread, one at a time; `turn` sees to it.
unsafe impl Send for Instance {}
// Safety: as above.
unsafe impl Sync for Instance {}

impl Instance {
    /// `config` is a JSON object.
    pub(super) fn create(factory: &Arc<Factory>, config: &str) -> Result<Self> {
        let is_strained = serde_json::from_str(config).is_ok_and(|v| strains(&v));
        let Ok(config) = CString::new(config) else {
            bail!(Invalid, "config of {}: has a NUL byte", factory.id());
        };
        let mut this = std::ptr::null_mut();
        let mut error = abi::Error::empty();
        let f = &factory.checked;
        // Safety: the factory was checked; its host outlives the instance, which holds it through the factory.
        let status = unsafe {
            (f.create)(f.raw, factory.host.raw(), config.as_ptr(), &raw mut this, &raw mut error)
        };
        factory.outcome(status, &error)?;
        if this.is_null() {
            return Err(
                factory.attribute(fail!(Plugin, "create returned DFX_OK without an instance"))
            );
        }
        Ok(Self {
            factory: Arc::clone(factory),
            this,
            is_strained,
            turn: Mutex::new(()),
            owner: AtomicUsize::new(0),
        })
    }

    /// The table of functions, which must be the one of the factory's kind.
    pub(super) fn api(&self) -> *const c_void {
        self.factory.checked.api
    }

    pub(super) fn attribute(&self, e: Error) -> Error {
        self.factory.attribute(e)
    }

    /// A failure of this plugin to keep its contract.
    pub(super) fn broke(&self, message: impl Into<String>) -> Error {
        self.attribute(Error::new(Status::Plugin, message))
    }

    /// A number that no plugin should give. Under a large or small setting of the user it is that which overflowed; a
    /// plugin as it comes broke its contract.
    pub(super) fn out_of_range(&self, message: impl std::fmt::Display) -> Error {
        match self.is_strained {
            true => self.attribute(fail!(Invalid, "{message}; its settings are too extreme")),
            false => self.broke(message.to_string()),
        }
    }

    /// Host arithmetic and info: a call without a graph.
    pub(super) fn call(
        &self,
        function: impl FnOnce(*const c_void, *mut abi::Error) -> i32,
    ) -> Result<()> {
        let _turn = self.take_turn()?;
        let mut error = abi::Error::empty();
        let status = function(self.this, &raw mut error);
        self.factory.outcome(status, &error)
    }

    /// A build call. Sticky errors of the graph win over the status; scopes are left as they were found.
    pub(super) fn build(
        &self,
        b: &mut Build<'_>,
        role: Role,
        function: impl FnOnce(*const c_void, *mut abi::Graph, *mut abi::Error) -> i32,
    ) -> Result<Built<'_>> {
        b.graph.check()?;
        let _turn = self.take_turn()?;
        let depth = b.graph.scope_depth();
        let mut error = abi::Error::empty();
        let (status, Left { fatal, pending }) =
            frame::call(b, role, |g| function(self.this, g, &raw mut error));
        b.graph.truncate_scopes(depth);
        if let Some(e) = fatal {
            return Err(self.attribute(e));
        }
        b.graph.check().map_err(|e| self.attribute(e))?;
        match pending {
            // it passes on what a service returned
            Some(e) if status == e.status.code() => Err(self.attribute(e)),
            pending => {
                self.factory.outcome(status, &error)?;
                Ok(Built { instance: self, pending })
            }
        }
    }

    /// Waits for its turn. Calling an instance from within a call of itself is refused: it would wait for ever.
    fn take_turn(&self) -> Result<Turn<'_>> {
        let me = this_thread();
        if self.owner.load(Ordering::Relaxed) == me {
            return Err(self.broke("was called from within a call of its own"));
        }
        let lock = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.owner.store(me, Ordering::Relaxed);
        Ok(Turn { owner: &self.owner, _lock: lock })
    }
}

/// Whether a number in it may overflow: is 100 or more, or 1/100 or less, and not 0.
fn strains(value: &Value) -> bool {
    match value {
        Value::Number(n) => {
            n.as_f64().is_some_and(|n| n != 0.0 && !(0.01..100.0).contains(&n.abs()))
        }
        Value::Array(list) => list.iter().any(strains),
        Value::Object(map) => map.values().any(strains),
        _ => false,
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // Safety: `this` came from this factory's create, and nobody holds the instance any more.
        unsafe { (self.factory.checked.destroy)(self.this) };
    }
}

/// A build call that came back well: its results can be asked for.
pub(super) struct Built<'i> {
    instance: &'i Instance,
    pending: Option<Error>,
}

impl Built<'_> {
    /// A node the call must have given.
    pub(super) fn node(&self, b: &Build<'_>, node: u32, what: &str) -> Result<NodeId> {
        let id = NodeId(node);
        if b.graph.is_valid(id) {
            return Ok(id);
        }
        Err(match &self.pending {
            Some(e) if node == 0 => self.instance.attribute(e.clone()),
            _ if node == 0 => self.instance.broke(format!("returned DFX_OK without {what}")),
            _ => self.instance.broke(format!("{what}: node {node} does not exist in this graph")),
        })
    }

    /// A node the call may have left out.
    pub(super) fn optional(&self, b: &Build<'_>, node: u32, what: &str) -> Result<Option<NodeId>> {
        if node == 0 { Ok(None) } else { self.node(b, node, what).map(Some) }
    }

    pub(super) fn nodes(&self, b: &Build<'_>, nodes: &[u32], what: &str) -> Result<Vec<NodeId>> {
        let one = |(i, n): (usize, &u32)| self.node(b, *n, &format!("{what} {i}"));
        nodes.iter().enumerate().map(one).collect()
    }
}

struct Turn<'i> {
    owner: &'i AtomicUsize,
    _lock: std::sync::MutexGuard<'i, ()>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        // before the lock opens: fields drop after this
        self.owner.store(0, Ordering::Relaxed);
    }
}

/// A number of this thread: the address of a thread-local, which no other running thread has.
fn this_thread() -> usize {
    thread_local!(static HERE: u8 = const { 1 });
    HERE.with(|here| std::ptr::from_ref(here).addr())
}

/// Numbers of nodes, as C takes them.
pub(super) fn raw(nodes: &[NodeId]) -> Vec<u32> {
    nodes.iter().map(|n| n.0).collect()
}
