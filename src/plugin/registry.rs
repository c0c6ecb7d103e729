//! What is known by name: plugins, their factories by kind and id, and instances made from a setting.
//!
//! Built-in plugins come in through [`Registry::register`] like any other descriptor; a file comes in through
//! [`Registry::load`]. Nothing is ever unloaded: `disable` only makes names unknown.
//!
//! Code of a plugin and the host's log run while files are opened, in `create` and after a registration. Who keeps a
//! registry behind a lock does these without it: [`Candidate`] before, [`Choice`] after, notes when the lock is open.

use super::adapt::{
    GridPlugin, GuidancePlugin, ModelPlugin, ObjectivePlugin, ProcessPlugin, SamplerPlugin,
};
use super::entry::{self, Checked, Kind};
use super::host::{Host, Log};
use super::instance::Factory;
use super::load::{self, Trust};
use crate::bail;
use crate::base::Result;
use crate::sample::{Grid, Guidance, Model, Process, Sampler};
use crate::train::Objective;
use serde_json::{Value, json};
use std::ffi::c_void;
use std::path::Path;
use std::sync::Arc;

/// Short ids name our own plugins first.
const HOUSE: &str = "org.diffx.";

/// A registered plugin.
struct Plugin {
    id: String,
    version: String,
    license: String,
    /// The file, or "" for a descriptor that is linked in.
    file: String,
    enabled: bool,
}

/// A plugin that passed all checks and is not known by name yet.
pub struct Candidate {
    checked: Checked,
    file: String,
    notes: Notes,
}

/// What there is to log: level and text.
pub type Notes = Vec<(i32, String)>;

impl Candidate {
    /// A descriptor that is linked into the program.
    ///
    /// # Safety
    /// `descriptor` must point to a `dfx_plugin` that, with all it points to, lives unchanged until the process ends.
    pub unsafe fn linked(descriptor: *const c_void) -> Result<Self> {
        let linked = |p: *const c_void, _: usize| !p.is_null();
        // Safety: as the caller promised.
        let checked = unsafe { entry::check(descriptor, &linked) }?;
        Ok(Self { checked, file: String::new(), notes: Vec::new() })
    }

    /// A file. Loading runs code of it: what is loaded is trusted with the process.
    pub fn file(path: &Path, trust: &Trust<'_>) -> Result<Self> {
        let shown = path.display().to_string();
        let loaded = load::load(path, trust).map_err(|e| e.within(&shown))?;
        // Safety: the library stays mapped for good, and `holds` says which of its bytes may be read.
        let checked = unsafe { entry::check(loaded.descriptor, &|p, n| loaded.holds(p, n)) };
        let checked = checked.map_err(|e| e.within(&shown))?;
        #[cfg(feature = "layout-check")]
        let notes = vec![compare_mirrors(&loaded.name, &checked).map_err(|e| e.within(&shown))?];
        #[cfg(not(feature = "layout-check"))]
        let notes = Vec::new();
        Ok(Self { checked, file: shown, notes })
    }
}

/// Refuses a plugin that was built with other mirrors, and says whether there were any to compare.
#[cfg(feature = "layout-check")]
fn compare_mirrors(name: &Path, checked: &Checked) -> Result<(i32, String)> {
    let words = match super::mirrors::compare(name)? {
        true => "mirrors compared and equal",
        false => "describes no mirrors; its layout hash is right",
    };
    Ok((3, format!("plugin {}: {words}", checked.id)))
}

/// A factory and the config for an instance of it. Making one runs `create` of the plugin.
pub struct Choice {
    factory: Arc<Factory>,
    config: String,
}

impl Choice {
    pub fn model(&self) -> Result<Arc<dyn Model>> {
        Ok(Arc::new(ModelPlugin::new(&self.factory, &self.config)?))
    }

    pub fn process(&self) -> Result<Arc<dyn Process>> {
        Ok(Arc::new(ProcessPlugin::new(&self.factory, &self.config)?))
    }

    pub fn guidance(&self) -> Result<Arc<dyn Guidance>> {
        Ok(Arc::new(GuidancePlugin::new(&self.factory, &self.config)?))
    }

    pub fn sampler(&self) -> Result<Arc<dyn Sampler>> {
        Ok(Arc::new(SamplerPlugin::new(&self.factory, &self.config)?))
    }

    pub fn grid(&self) -> Result<Arc<dyn Grid>> {
        Ok(Arc::new(GridPlugin::new(&self.factory, &self.config)?))
    }

    pub fn objective(&self) -> Result<Arc<dyn Objective>> {
        Ok(Arc::new(ObjectivePlugin::new(&self.factory, &self.config)?))
    }
}

/// The plugins of one engine. Errors carry a plugin's number: its place in the order of registration, from 1.
pub struct Registry {
    host: Arc<Host>,
    plugins: Vec<Plugin>,
    factories: Vec<Arc<Factory>>,
}

impl Registry {
    pub fn new(log: Log) -> Self {
        Self { host: Host::new(log), plugins: Vec::new(), factories: Vec::new() }
    }

    /// Registers a descriptor that is linked into the program. Returns the plugin's number.
    ///
    /// # Safety
    /// `descriptor` must point to a `dfx_plugin` that, with all it points to, lives unchanged until the process ends.
    pub unsafe fn register(&mut self, descriptor: *const c_void) -> Result<u32> {
        // Safety: as the caller promised.
        let (source, notes) = self.add(unsafe { Candidate::linked(descriptor) }?)?;
        self.tell(&notes);
        Ok(source)
    }

    /// Registers a descriptor of which nothing is known but what memory may be read: `mapped` says of a place and a
    /// number of bytes whether that is the case.
    ///
    /// # Safety
    /// Where `mapped` says yes, memory must be readable and stay so, unchanged, until the process ends.
    pub unsafe fn register_mapped(
        &mut self,
        descriptor: *const c_void,
        mapped: &dyn Fn(*const c_void, usize) -> bool,
    ) -> Result<u32> {
        // Safety: as the caller promised.
        let checked = unsafe { entry::check(descriptor, mapped) }?;
        let (source, notes) =
            self.add(Candidate { checked, file: String::new(), notes: Vec::new() })?;
        self.tell(&notes);
        Ok(source)
    }

    /// Loads a plugin from a file. Loading runs code of the file: what is loaded is trusted with the process.
    pub fn load(&mut self, path: &Path, trust: &Trust<'_>) -> Result<u32> {
        let (source, notes) = self.add(Candidate::file(path, trust)?)?;
        self.tell(&notes);
        Ok(source)
    }

    fn tell(&self, notes: &Notes) {
        notes.iter().for_each(|(level, text)| self.host.log(*level, text));
    }

    /// Makes a plugin known. Returns its number and what is to be logged.
    pub fn add(&mut self, candidate: Candidate) -> Result<(u32, Notes)> {
        let Candidate { checked, file, mut notes } = candidate;
        if self.plugins.iter().any(|p| p.enabled && p.id == checked.id) {
            bail!(State, "plugin {} is registered already", checked.id);
        }
        for f in &checked.factories {
            if let Some(other) = self.find(f.kind, &f.id) {
                bail!(
                    State,
                    "{}: its {} {} is registered already, by plugin {}",
                    checked.id,
                    f.kind.name(),
                    f.id,
                    other.plugin
                );
            }
        }
        for skipped in &checked.skipped {
            notes.push((1, format!("plugin {}: skipped {skipped}", checked.id)));
        }
        let source = self.plugins.len() as u32 + 1;
        self.factories.extend(checked.factories.into_iter().map(|f| {
            Arc::new(Factory {
                plugin: checked.id.clone(),
                source,
                checked: f,
                host: Arc::clone(&self.host),
            })
        }));
        self.plugins.push(Plugin {
            id: checked.id,
            version: checked.version,
            license: checked.license,
            file,
            enabled: true,
        });
        Ok((source, notes))
    }

    /// Makes a plugin known in the place of the one of its id, if there is one: instances of that go on. Whether there was.
    pub fn replace(&mut self, candidate: Candidate) -> Result<(u32, Notes, bool)> {
        let id = candidate.checked.id.clone();
        let Some(old) = self.plugins.iter().position(|p| p.enabled && p.id == id) else {
            return self.add(candidate).map(|(source, notes)| (source, notes, false));
        };
        let factories = self.factories.clone();
        self.disable(&id)?;
        match self.add(candidate) {
            Ok((source, notes)) => Ok((source, notes, true)),
            Err(e) => {
                self.factories = factories;
                if let Some(plugin) = self.plugins.get_mut(old) {
                    plugin.enabled = true;
                }
                Err(e)
            }
        }
    }

    /// Makes the factories of a plugin unknown. Instances that exist go on.
    pub fn disable(&mut self, plugin: &str) -> Result<()> {
        let Some(found) = self.plugins.iter_mut().find(|p| p.enabled && p.id == plugin) else {
            bail!(NotFound, "no plugin {plugin} is registered");
        };
        found.enabled = false;
        self.factories.retain(|f| f.plugin != plugin);
        Ok(())
    }

    /// Id of the plugin behind the number in an error.
    pub fn plugin_id(&self, source: u32) -> Option<&str> {
        let index = (source as usize).checked_sub(1)?;
        self.plugins.get(index).map(|p| p.id.as_str())
    }

    pub fn factories(&self) -> impl Iterator<Item = &Factory> {
        self.factories.iter().map(Arc::as_ref)
    }

    fn find(&self, kind: Kind, id: &str) -> Option<&Arc<Factory>> {
        self.factories.iter().find(|f| f.kind() == kind && f.id() == id)
    }

    /// A factory by its full id, by its short id among our own, or by an ending that only one factory has.
    pub fn resolve(&self, kind: Kind, id: &str) -> Result<Arc<Factory>> {
        if let Some(f) = self.find(kind, id).or_else(|| self.find(kind, &format!("{HOUSE}{id}"))) {
            return Ok(Arc::clone(f));
        }
        let ends = |f: &&Arc<Factory>| {
            f.kind() == kind && f.id().strip_suffix(id).is_some_and(|rest| rest.ends_with('.'))
        };
        let found: Vec<&Arc<Factory>> = self.factories.iter().filter(ends).collect();
        match found.as_slice() {
            [one] => Ok(Arc::clone(one)),
            [] => {
                let hint = self.nearest(kind, id);
                bail!(NotFound, "no {} is called {id:?}; {hint}", kind.name())
            }
            many => {
                let ids: Vec<&str> = many.iter().map(|f| f.id()).collect();
                bail!(Invalid, "{} {id:?} may be any of {}", kind.name(), ids.join(", "))
            }
        }
    }

    /// Words naming the ids of this kind that look most like `id`.
    fn nearest(&self, kind: Kind, id: &str) -> String {
        let short = |id: &str| id.rsplit('.').next().unwrap_or_default().to_owned();
        let mut known: Vec<(usize, &str)> = self
            .factories
            .iter()
            .filter(|f| f.kind() == kind)
            .map(|f| (edits(&short(id), &short(f.id())), f.id()))
            .collect();
        known.sort_unstable();
        let names: Vec<&str> = known.iter().take(3).map(|(_, id)| *id).collect();
        match names.is_empty() {
            true => format!("no {} is registered at all", kind.name()),
            false => format!("nearest: {}", names.join(", ")),
        }
    }

    // ---- instances

    pub fn model(&self, id: &str, config: &Value) -> Result<Arc<dyn Model>> {
        self.choose(Kind::Model, id, config)?.model()
    }

    pub fn process(&self, id: &str, config: &Value) -> Result<Arc<dyn Process>> {
        self.choose(Kind::Process, id, config)?.process()
    }

    pub fn guidance(&self, id: &str, config: &Value) -> Result<Arc<dyn Guidance>> {
        self.choose(Kind::Guidance, id, config)?.guidance()
    }

    pub fn sampler(&self, id: &str, config: &Value) -> Result<Arc<dyn Sampler>> {
        self.choose(Kind::Sampler, id, config)?.sampler()
    }

    pub fn grid(&self, id: &str, config: &Value) -> Result<Arc<dyn Grid>> {
        self.choose(Kind::Grid, id, config)?.grid()
    }

    pub fn objective(&self, id: &str, config: &Value) -> Result<Arc<dyn Objective>> {
        self.choose(Kind::Objective, id, config)?.objective()
    }

    /// `config` is an object, or null for none.
    pub fn choose(&self, kind: Kind, id: &str, config: &Value) -> Result<Choice> {
        let factory = self.resolve(kind, id)?;
        match config {
            Value::Null => Ok(Choice { factory, config: "{}".to_owned() }),
            Value::Object(_) => Ok(Choice { factory, config: config.to_string() }),
            other => bail!(Invalid, "config of {} {id}: is {other}, want an object", kind.name()),
        }
    }

    // ---- listing

    /// Every plugin with its factories.
    pub fn list(&self) -> Value {
        let plugins = self.plugins.iter().filter(|p| p.enabled);
        let factory = |f: &Factory| {
            let schema = f.config_schema();
            json!({
                "kind": f.kind().name(),
                "id": f.id(),
                "summary": f.summary(),
                "config_schema": schema.map(|s| serde_json::from_str(s).unwrap_or_else(|_| json!(s))),
            })
        };
        let plugin = |p: &Plugin| {
            let own = self.factories().filter(|f| f.plugin() == p.id);
            json!({
                "id": p.id,
                "version": p.version,
                "license": p.license,
                "file": (!p.file.is_empty()).then_some(&p.file),
                "factories": own.map(factory).collect::<Vec<_>>(),
            })
        };
        Value::Array(plugins.map(plugin).collect())
    }
}

/// Edits (insert, delete, change) between two short words.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let change = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::edits;

    #[test]
    fn edits_between_words() {
        let cases = [("heun", "heun", 0), ("hen", "heun", 1), ("", "cir", 3), ("cri", "cir", 2)];
        for (a, b, want) in cases {
            assert_eq!(edits(a, b), want, "{a} {b}");
        }
    }
}
