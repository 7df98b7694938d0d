//! Many tenants over one model: each has a state of its own, all share parameters and plans.

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::Error;
use crate::session::{Answered, Session, Snapshot};

/// Sessions by name, forked from one. A tenant costs what its state costs: nothing before its first answer and nothing
/// for methods that carry nothing on.
pub struct Tenants {
    base: Session,
    sessions: BTreeMap<String, Session>,
}

impl Tenants {
    /// Tenants over a session's model, method and seed. The session itself is the template and answers nobody.
    pub fn new(base: Session) -> Self {
        Tenants { base, sessions: BTreeMap::new() }
    }

    /// The tenant's session; made on first use.
    pub fn session(&mut self, name: &str) -> &mut Session {
        let base = &self.base;
        self.sessions.entry(name.to_owned()).or_insert_with(|| base.fork())
    }

    /// Answers a tenant's inputs with its own state.
    pub fn answer(&mut self, name: &str, images: &[f32], dims: [usize; 3]) -> Result<Vec<Answered>, Error> {
        self.session(name).answer(images, dims)
    }

    /// Names of the tenants that have a session, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.sessions.keys().map(String::as_str)
    }

    /// How many tenants have a session.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether no tenant has one.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Ends a tenant's session: its state is gone. Whether there was one.
    pub fn remove(&mut self, name: &str) -> bool {
        self.sessions.remove(name).is_some()
    }

    /// A tenant's state, out of memory and into a folder; the tenant's next answer begins at the source model, unless it
    /// is brought back first.
    pub fn put_away(&mut self, name: &str, folder: impl AsRef<Path>) -> Result<(), Error> {
        self.session(name).snapshot()?.save(folder)?;
        self.sessions.remove(name);
        Ok(())
    }

    /// Brings back a tenant that was put away: it goes on where it was, bit for bit on the same device.
    pub fn bring_back(&mut self, name: &str, folder: impl AsRef<Path>) -> Result<(), Error> {
        let snapshot = Snapshot::load(folder)?;
        let mut session = self.base.fork();
        session.restore(&snapshot)?;
        self.sessions.insert(name.to_owned(), session);
        Ok(())
    }
}
