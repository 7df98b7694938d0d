//! The registry: what is known of every op, for tests, benches and documents.

#[cfg(feature = "testkit")]
use crate::testkit::{Case, Reject};

/// An op in the list.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The op's name: that of its file.
    pub name: &'static str,
    /// What the harness tries on every device.
    #[cfg(feature = "testkit")]
    pub cases: fn() -> Vec<Case>,
    /// What must be refused, and with which words.
    #[cfg(feature = "testkit")]
    pub rejects: fn() -> Vec<Reject>,
}

pub use crate::ops::ALL;

/// The entry of this name, if there is one.
#[must_use]
pub fn find(name: &str) -> Option<&'static Entry> {
    ALL.iter().find(|e| e.name == name)
}
