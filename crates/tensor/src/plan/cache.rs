//! The bounded cache of plans of a device, keyed by structure and never by values.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::device::{Counters, Device, EngineKind};
use crate::engine::{Prepared, checks_finite};
use crate::error::Result;
use crate::plan::graph::Graph;
use crate::plan::rows::LiveRows;
use crate::plan::usage::PlanMemory;
use crate::plan::{Plan, finish, fuse, memory, order, simplify, together};

/// Plans kept.
const CAPACITY: usize = 512;

/// A plan with what its engine prepared for it.
pub(crate) struct Executable {
    pub plan: Plan,
    pub prepared: Prepared,
}

/// The cache. The least recently used plan goes first.
#[derive(Default)]
pub(crate) struct Cache(Mutex<Plans>);

#[derive(Default)]
struct Plans {
    plans: HashMap<Vec<u8>, (Arc<Executable>, u64)>,
    clock: u64,
}

impl Cache {
    /// The memory of each plan.
    pub fn usage(&self) -> Vec<PlanMemory> {
        let plans = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        plans.plans.values().map(|(plan, _)| plan.plan.usage()).collect()
    }

    /// The plan of this key, built if it is not there.
    pub fn get(&self, device: &Device, key: &[u8], graph: &Graph, donated: &[bool]) -> Result<Arc<Executable>> {
        {
            let mut plans = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            plans.clock += 1;
            let now = plans.clock;
            if let Some((plan, used)) = plans.plans.get_mut(key) {
                *used = now;
                return Ok(plan.clone());
            }
        }
        let built = Arc::new(build(device, graph, donated)?);
        let mut plans = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if plans.plans.len() >= CAPACITY
            && let Some(oldest) = plans.plans.iter().min_by_key(|(_, (_, used))| *used).map(|(k, _)| k.clone())
        {
            plans.plans.remove(&oldest);
            log::debug!("the plan cache is full ({CAPACITY}); the least recently used plan was dropped");
        }
        let now = plans.clock;
        plans.plans.insert(key.to_vec(), (built.clone(), now));
        Ok(built)
    }
}

/// Switches to bisect a wrong answer: each pass can be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passes {
    /// Take factors out of sums, merge what becomes equal.
    pub simplify: bool,
    /// Fuse element-wise nodes and views into their readers.
    pub fusion: bool,
    /// Share memory between values (in place, assembled in place).
    pub reuse: bool,
    /// Put steps together that do not need each other.
    pub together: bool,
    /// Compute small groups where a reduction or an op stores what they read.
    pub finish: bool,
    /// Leave out rows that nobody reads.
    pub rows: bool,
}

impl Passes {
    /// Every pass, as devices have them.
    pub const ALL: Passes =
        Passes { simplify: true, fusion: true, reuse: true, together: true, finish: true, rows: true };
    /// No pass.
    pub const NONE: Passes =
        Passes { simplify: false, fusion: false, reuse: false, together: false, finish: false, rows: false };

    /// All, but those that `ACCLIMATE_PASSES` (a list such as `-fusion,-reuse,-rows`) leaves out.
    pub(crate) fn from_env() -> Self {
        let text = std::env::var("ACCLIMATE_PASSES").unwrap_or_default();
        let without = |name: &str| text.split(',').any(|w| w.trim().strip_prefix('-') == Some(name));
        Passes {
            simplify: !without("simplify"),
            fusion: !without("fusion"),
            reuse: !without("reuse"),
            together: !without("together"),
            finish: !without("finish"),
            rows: !without("rows"),
        }
    }
}

/// Builds a plan.
pub(crate) fn build(device: &Device, graph: &Graph, donated: &[bool]) -> Result<Executable> {
    build_with(device, graph, donated, device.0.passes)
}

pub(crate) fn build_with(device: &Device, graph: &Graph, donated: &[bool], passes: Passes) -> Result<Executable> {
    let inner = &device.0;
    let simpler = passes.simplify.then(|| simplify::simplify(graph));
    let graph = simpler.as_ref().unwrap_or(graph);
    let live = match passes.rows {
        true => LiveRows::find(graph, &inner.caps, inner.kind != EngineKind::Cpu)?,
        false => LiveRows::none(graph),
    };
    // A check says which step made a number that is not finite, so then each stands by itself.
    let by_launch = inner.kind != EngineKind::Cpu && !checks_finite();
    let finishes = passes.finish && by_launch;
    let mut drafted = fuse::draft(graph, &inner.caps, passes.fusion, finishes, live)?;
    if passes.together && by_launch {
        together::join(&mut drafted, &inner.caps, together::Kind::Sums);
    }
    if finishes {
        order::hoist(&mut drafted);
        finish::absorb(&mut drafted, &inner.caps);
    }
    if passes.together && by_launch {
        together::join(&mut drafted, &inner.caps, together::Kind::Maps);
    }
    let plan = memory::place(graph, drafted, donated, &inner.caps, passes.reuse)?;
    log::trace!("plan of {} nodes:\n{plan}", graph.nodes.len());
    let prepared = inner.engine.prepare(&plan)?;
    Counters::add(&inner.counters.plans_built, 1);
    Ok(Executable { plan, prepared })
}
