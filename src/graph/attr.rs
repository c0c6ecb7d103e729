//! Attributes of a node: a short list of key and value, in key order.

use super::op::{AttrKey, AttrKind};

/// One attribute value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Int(i64),
    Float(f64),
    Ints(Vec<i64>),
}

impl Value {
    pub fn kind(&self) -> AttrKind {
        match self {
            Self::Int(_) => AttrKind::Int,
            Self::Float(_) => AttrKind::Float,
            Self::Ints(_) => AttrKind::Ints,
        }
    }
}

/// The attributes of one node. Most ops have none, and then nothing is allocated.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Attrs(Vec<(AttrKey, Value)>);

impl Attrs {
    pub const NONE: Self = Self(Vec::new());

    #[must_use]
    pub fn with_int(mut self, key: AttrKey, value: i64) -> Self {
        self.set(key, Value::Int(value));
        self
    }

    #[must_use]
    pub fn with_float(mut self, key: AttrKey, value: f64) -> Self {
        self.set(key, Value::Float(value));
        self
    }

    #[must_use]
    pub fn with_ints(mut self, key: AttrKey, value: impl Into<Vec<i64>>) -> Self {
        self.set(key, Value::Ints(value.into()));
        self
    }

    /// A list of dimensions or indices.
    #[must_use]
    pub fn with_dims(self, key: AttrKey, value: &[usize]) -> Self {
        self.with_ints(key, value.iter().map(|&d| d as i64).collect::<Vec<_>>())
    }

    #[must_use]
    pub fn with_axis(self, axis: usize) -> Self {
        self.with_int(AttrKey::Axis, axis as i64)
    }

    pub fn set(&mut self, key: AttrKey, value: Value) {
        match self.0.binary_search_by_key(&key, |(k, _)| *k) {
            Ok(i) => self.0[i].1 = value,
            Err(i) => self.0.insert(i, (key, value)),
        }
    }

    pub fn get(&self, key: AttrKey) -> Option<&Value> {
        self.0.binary_search_by_key(&key, |(k, _)| *k).ok().map(|i| &self.0[i].1)
    }

    pub fn has(&self, key: AttrKey) -> bool {
        self.get(key).is_some()
    }

    /// The integer, or `default` when absent.
    pub fn int(&self, key: AttrKey, default: i64) -> i64 {
        match self.get(key) {
            Some(Value::Int(v)) => *v,
            _ => default,
        }
    }

    pub fn float(&self, key: AttrKey, default: f64) -> f64 {
        match self.get(key) {
            Some(Value::Float(v)) => *v,
            _ => default,
        }
    }

    /// The list, empty when absent.
    pub fn ints(&self, key: AttrKey) -> &[i64] {
        match self.get(key) {
            Some(Value::Ints(v)) => v,
            _ => &[],
        }
    }

    pub fn flag(&self, key: AttrKey) -> bool {
        self.int(key, 0) != 0
    }

    pub fn iter(&self) -> impl Iterator<Item = (AttrKey, &Value)> {
        self.0.iter().map(|(k, v)| (*k, v))
    }
}
