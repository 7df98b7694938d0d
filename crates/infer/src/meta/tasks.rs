//! A batch of tasks.

use acclimate_tensor::{Result as TensorResult, Tensor, Tree};

use crate::error::Error;

/// Tasks side by side: what each adapts on (support) and what it is judged by (query).
#[derive(Clone, Debug)]
pub struct Tasks {
    /// Inputs to adapt on: [tasks, rows, ..].
    pub support: Tensor,
    /// Their targets: [tasks, rows, ..].
    pub support_target: Tensor,
    /// Inputs to judge by: [tasks, rows, ..].
    pub query: Tensor,
    /// Their targets.
    pub query_target: Tensor,
}

impl Tasks {
    /// How many tasks.
    pub fn len(&self) -> usize {
        self.support.dims().first().copied().unwrap_or(0)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fails unless all parts have as many tasks, and inputs as many rows as targets.
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.is_empty() {
            return Err(Error::Empty { what: "the batch of tasks" });
        }
        let parts = [
            ("support targets", &self.support_target, &self.support),
            ("query inputs", &self.query, &self.support),
            ("query targets", &self.query_target, &self.query),
        ];
        for (what, part, like) in parts {
            // Support and query may differ in rows; a target has the rows of its inputs.
            let n = if what == "query inputs" { 1 } else { 2 };
            let (expected, found) = (like.dims().get(..n), part.dims().get(..n));
            if expected.is_none() || expected != found {
                return Err(Error::size(
                    what,
                    format!("sizes that begin {:?}", like.dims().get(..n).unwrap_or_default()),
                    part.shape(),
                ));
            }
        }
        Ok(())
    }
}

impl Tree for Tasks {
    type Form = ();
    fn take_apart(self, leaves: &mut Vec<Tensor>) {
        leaves.extend([self.support, self.support_target, self.query, self.query_target]);
    }
    fn put_together(form: &(), leaves: &mut dyn Iterator<Item = Tensor>) -> TensorResult<Self> {
        let mut next = || Tensor::put_together(form, leaves);
        Ok(Tasks { support: next()?, support_target: next()?, query: next()?, query_target: next()? })
    }
}
