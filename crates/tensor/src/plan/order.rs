//! Which step may be done earlier than it stands, and small groups as early as they can be.

use std::collections::HashMap;

use crate::plan::fuse::{Draft, Drafted};
use crate::plan::memory::{root, touched};
use crate::plan::{Action, Step, ValueId};

/// Elements of a group that is done early: its results must wait in memory, so they have to be few.
const SMALL: usize = 1 << 14;

/// What steps wait for.
pub(super) struct Order {
    /// The last step that writes a value.
    made: HashMap<ValueId, usize>,
    /// The step that sets all of an assembled value to zero, before which none of its pieces may be computed.
    zeroed: HashMap<ValueId, usize>,
}

impl Order {
    pub fn of(drafted: &Drafted) -> Self {
        let values = &drafted.values;
        let mut order = Order { made: HashMap::new(), zeroed: HashMap::new() };
        for (s, step) in drafted.steps.iter().enumerate() {
            order.made.extend(touched(&step.action).1.iter().map(|&v| (root(values, v).0, s)));
            let Action::Zero { to, bytes, .. } = step.action else { continue };
            let whole = bytes == values[to].spec.bytes();
            let pieces = drafted.assembled.iter().filter(|a| whole && a.out == to).flat_map(|a| &a.pieces);
            order.zeroed.extend(pieces.map(|&(piece, _)| (root(values, piece).0, s)));
        }
        order
    }

    /// The steps that a step waits for.
    fn before(&self, action: &Action, values: &[Draft]) -> Vec<usize> {
        let (reads, writes) = touched(action);
        let made = reads.iter().filter_map(|&v| self.made.get(&root(values, v).0));
        let zeroed = writes.iter().filter_map(|&v| self.zeroed.get(&root(values, v).0));
        made.chain(zeroed).copied().collect()
    }

    /// Whether what a later step does can be done as a part of step `at`, which makes the values of `own` itself.
    pub fn can_be_at(&self, action: &Action, at: usize, values: &[Draft], own: &[ValueId]) -> bool {
        let (reads, writes) = touched(action);
        let after = |of: &HashMap<ValueId, usize>, v| of.get(&root(values, v).0).is_some_and(|&s| s >= at);
        !reads.iter().any(|v| !own.contains(v) && after(&self.made, *v))
            && !writes.iter().any(|&v| after(&self.zeroed, v))
    }

    /// Its results are made at step `at` from now on.
    pub fn moved(&mut self, action: &Action, at: usize, values: &[Draft]) {
        self.made.extend(touched(action).1.iter().map(|&v| (root(values, v).0, at)));
    }
}

/// Moves small groups to where what they read is there, all others stay in order: what is made of parameters alone, such as the
/// factors of a normalization, comes first, and a step that reads it need not wait for what stands between.
pub(crate) fn hoist(drafted: &mut Drafted) {
    let order = Order::of(drafted);
    // The step that each comes after or is, and its place among those that come after the same.
    let mut places: Vec<(usize, usize)> = Vec::with_capacity(drafted.steps.len());
    for (s, step) in drafted.steps.iter().enumerate() {
        let is_small = matches!(&step.action, Action::Map(m) if m.dims.iter().product::<usize>() <= SMALL);
        let before = order.before(&step.action, &drafted.values).into_iter().map(|b| places[b].0);
        places.push(match is_small && step.live.is_none() {
            true => (before.max().unwrap_or(0), s + 1),
            false => (s + 1, 0),
        });
    }
    let mut steps: Vec<(usize, Step)> = std::mem::take(&mut drafted.steps).into_iter().enumerate().collect();
    steps.sort_by_key(|(s, _)| places[*s]);
    drafted.steps = steps.into_iter().map(|(_, step)| step).collect();
}
