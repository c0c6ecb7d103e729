//! Paths of scopes while a graph is built. Each path is kept once, however often a plugin goes in and out, and there is
//! an end to how many and how long they are.

use crate::bail;
use crate::base::Result;
use std::collections::HashMap;

/// Most paths of one graph, longest path, and the bytes of all together.
const MOST: usize = 1 << 16;
const LONGEST: usize = 4096;
const MOST_BYTES: usize = 16 << 20;

/// All paths of a graph, and where the builder is.
#[derive(Debug, Clone)]
pub(super) struct Scopes {
    /// The first is that of the graph itself.
    paths: Vec<String>,
    /// By parent and name.
    index: HashMap<(u32, String), u32>,
    stack: Vec<u32>,
    bytes: usize,
}

impl Scopes {
    pub(super) fn new() -> Self {
        Self { paths: vec![String::new()], index: HashMap::new(), stack: vec![0], bytes: 0 }
    }

    pub(super) fn current(&self) -> u32 {
        self.stack.last().copied().unwrap_or(0)
    }

    pub(super) fn path(&self, id: u32) -> &str {
        self.paths.get(id as usize).map_or("", String::as_str)
    }

    /// Goes into a scope. One that is refused is stood in for by the current one, so that its pop finds a push.
    pub(super) fn push(&mut self, name: &str) -> Result<()> {
        let found = self.find(name);
        self.stack.push(*found.as_ref().unwrap_or(&self.current()));
        found.map(|_| ())
    }

    /// Whether there was a scope to leave.
    pub(super) fn pop(&mut self) -> bool {
        self.stack.len() > 1 && self.stack.pop().is_some()
    }

    pub(super) fn depth(&self) -> usize {
        self.stack.len()
    }

    pub(super) fn truncate(&mut self, depth: usize) {
        self.stack.truncate(depth.max(1));
    }

    fn find(&mut self, name: &str) -> Result<u32> {
        let parent = self.current();
        let key = (parent, name.to_owned());
        if let Some(known) = self.index.get(&key) {
            return Ok(*known);
        }
        let above = self.path(parent);
        let length = above.len() + 1 + name.len();
        if length > LONGEST {
            bail!(Invalid, "a scope path of {length} bytes, want at most {LONGEST}");
        }
        if self.paths.len() >= MOST || self.bytes + length > MOST_BYTES {
            bail!(
                NoMemory,
                "scope {name} is one too many: a graph may have {MOST}, of {MOST_BYTES} bytes together"
            );
        }
        let path = if above.is_empty() { name.to_owned() } else { format!("{above}.{name}") };
        let id = self.paths.len() as u32;
        self.paths.push(path);
        self.bytes += length;
        self.index.insert(key, id);
        Ok(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_kept_once_and_paths_have_an_end() {
        let mut s = Scopes::new();
        let name = "a".repeat(250);
        for _ in 0..200_000 {
            s.push(&name).unwrap();
            s.push("b").unwrap();
            assert!(s.pop() && s.pop());
        }
        assert_eq!((s.paths.len(), s.bytes), (3, 251 + 252));
        assert!(!s.pop());
        for _ in 0..16 {
            s.push(&name).unwrap();
        }
        let error = s.push(&name).unwrap_err();
        assert_eq!(error.message, "a scope path of 4266 bytes, want at most 4096");
        assert_eq!(s.depth(), 18, "a refused push has its pop");
        s.truncate(1);
        let error = (0..MOST).find_map(|i| {
            let refused = s.push(&i.to_string()).err();
            s.pop();
            refused
        });
        assert!(error.unwrap().message.contains("is one too many"));
        assert!(s.paths.len() <= MOST && s.bytes <= MOST_BYTES);
    }
}
