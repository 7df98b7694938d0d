//! From a plan to launches: pipelines, parameter words and bindings, made once.

use std::collections::HashSet;
use std::num::NonZero;
use std::sync::{Arc, Mutex};

use crate::device::Caps;
use crate::error::{Error, Result};
use crate::op::{Bind, Launches};
use crate::plan::{Action, OpStep, Plan, Root, Step, ValueId};

use super::check::Checks;
use super::codegen;
use super::launch::{Dispatch, Memory, Range, Slot, Word, fold};
use super::live::{self, LookUps};
use super::pipeline::{Pipeline, Pipelines, dump};
use super::run::State;

/// Most threads that compile at once.
const MAX_THREADS: usize = 8;

/// A dispatch that is ready to be recorded.
#[derive(Debug)]
pub(super) struct Launch {
    pub pipeline: Arc<Pipeline>,
    pub ranges: Vec<Range>,
    pub workgroups: (u32, u32),
    /// Where the workgroups stand instead, in bytes, if only the device knows them.
    pub indirect: Option<u64>,
    /// Where its `Params` lie in the plan's uniform buffer, in bytes.
    pub params: (u64, u64),
    /// The number of its step.
    pub step: usize,
    pub label: String,
}

/// What later runs of a plan need.
#[derive(Debug)]
pub(super) struct Ready {
    pub launches: Vec<Launch>,
    /// Content of the uniform buffer; scalars are filled in by each run.
    pub words: Vec<u32>,
    /// (word, scalar) pairs.
    pub scalars: Vec<(usize, usize)>,
    /// Bytes of each scratch slot.
    pub scratch: Vec<usize>,
    /// Launches that leave out rows.
    pub live: LookUps,
    /// What is checked after each step.
    pub checks: Checks,
    /// What runs use and give back: one for each run at the same time.
    pub states: Mutex<Vec<State>>,
}

/// How an op is launched.
pub(super) type Choose<'a> = &'a dyn Fn(&OpStep) -> Result<Launches>;

/// Makes a plan ready. `uniform_alignment` is that of the offset of a uniform binding, `choose` says how ops are launched.
pub(super) fn prepare(
    plan: &Plan,
    caps: &Caps,
    pipelines: &Pipelines,
    uniform_alignment: usize,
    choose: Choose<'_>,
) -> Result<Ready> {
    check_sizes(plan, caps)?;
    let memory = Memory { plan, alignment: caps.offset_alignment.max(4) };
    let mut scratch = Vec::new();
    let mut dispatches = Vec::new();
    // The step of each.
    let mut steps = Vec::new();
    let mut checks = Checks::default();
    for (number, step) in plan.steps.iter().enumerate() {
        let mut lowered = lower(step, memory, caps, &mut scratch, choose)?;
        if let Some(live) = &step.live {
            live::attach(step, live, caps, &mut lowered)?;
        }
        dispatches.extend(lowered);
        dispatches.extend(checks.of(number, step, memory)?);
        steps.resize(dispatches.len(), number);
    }
    checks.finish(&mut dispatches);
    for dispatch in &dispatches {
        check_bindings(dispatch, caps)?;
    }
    compile(&dispatches, pipelines)?;
    let mut ready = Ready {
        launches: Vec::new(),
        words: Vec::new(),
        scalars: Vec::new(),
        scratch,
        live: LookUps::default(),
        checks,
        states: Mutex::default(),
    };
    for (dispatch, step) in dispatches.into_iter().zip(steps) {
        ready.push(dispatch, step, memory, caps, pipelines, uniform_alignment / 4)?;
    }
    Ok(ready)
}

/// Compiles what is new, on several threads: every later `get` finds its pipeline. The threads are our own: one of a
/// shared pool would take up other work while it waits, perhaps under a lock of the caller.
fn compile(dispatches: &[Dispatch], pipelines: &Pipelines) -> Result<()> {
    let mut seen = HashSet::new();
    let mut new = Vec::new();
    for dispatch in dispatches {
        if seen.insert(&*dispatch.source) && !pipelines.has(&dispatch.source) {
            new.push(dispatch);
        }
    }
    let compile =
        |part: &[&Dispatch]| part.iter().try_for_each(|d| pipelines.get(&d.source, d.ranges.len(), &d.label).map(drop));
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get).min(MAX_THREADS);
    if new.len() < 2 || threads == 1 {
        return compile(&new);
    }
    std::thread::scope(|scope| {
        let parts = new.chunks(new.len().div_ceil(threads));
        let handles: Vec<_> = parts.map(|part| scope.spawn(|| compile(part))).collect();
        let lost = || Error::internal("prepare", "a thread that compiles pipelines ended early");
        handles.into_iter().try_for_each(|h| h.join().unwrap_or_else(|_| Err(lost())))
    })
}

impl Ready {
    fn push(
        &mut self,
        dispatch: Dispatch,
        step: usize,
        memory: Memory<'_>,
        caps: &Caps,
        pipelines: &Pipelines,
        alignment: usize,
    ) -> Result<()> {
        let workgroups = fold(dispatch.workgroups, caps.max_workgroups, &dispatch.label)?;
        if workgroups.0 == 0 {
            return Ok(());
        }
        let pipeline = pipelines.get(&dispatch.source, dispatch.ranges.len(), &dispatch.label)?;
        let first = self.words.len().next_multiple_of(alignment.max(4));
        self.words.resize(first, 0);
        for (i, word) in dispatch.words.iter().enumerate() {
            self.words.push(match *word {
                Word::Fixed(bits) => bits,
                Word::Scalar(scalar) => {
                    self.scalars.push((first + i, scalar));
                    0
                }
            });
        }
        // A uniform binding is whole rows of four words, and never empty.
        self.words.resize(first + dispatch.words.len().next_multiple_of(4).max(4), 0);
        let params = (4 * first as u64, 4 * (self.words.len() - first) as u64);
        let number = (self.launches.len(), first);
        let indirect = dispatch.by_rows.as_ref().map(|by| self.live.push(by, number, memory, caps, pipelines));
        let (ranges, label, indirect) = (dispatch.ranges, dispatch.label, indirect.transpose()?);
        self.launches.push(Launch { pipeline, ranges, workgroups, indirect, params, step, label });
        Ok(())
    }
}

/// The dispatches of a step.
fn lower(
    step: &Step,
    memory: Memory<'_>,
    caps: &Caps,
    scratch: &mut Vec<usize>,
    choose: Choose<'_>,
) -> Result<Vec<Dispatch>> {
    let label = &step.label;
    let generated: Vec<Dispatch> = match &step.action {
        Action::Map(map) => codegen::map(map, memory, label, caps)?.into_iter().collect(),
        Action::Reduce(reduce) => {
            let (dispatches, bytes) = codegen::reduce(reduce, memory, label, caps)?;
            if bytes > 0 {
                need(scratch, 0, bytes);
            }
            dispatches
        }
        Action::Copy { from, to, offset } => codegen::copy(*from, *to, *offset, memory, label)?.into_iter().collect(),
        Action::Zero { to, offset, bytes } => codegen::zero(*to, *offset, *bytes, memory, label)?.into_iter().collect(),
        // What leaves out rows was planned for the op's own way.
        Action::Op(op) if step.live.is_some() => {
            let launches = op.op.launch(&op.in_specs, &op.out_specs, caps)?;
            return op_dispatches(op, launches, memory, caps, label, scratch);
        }
        Action::Op(op) => {
            let mut launches = choose(op)?;
            if op.finish.is_some() && !launches.can_finish() {
                launches = op.op.launch(&op.in_specs, &op.out_specs, caps)?;
            }
            return op_dispatches(op, launches, memory, caps, label, scratch);
        }
    };
    generated.iter().for_each(|d| dump(&d.source));
    Ok(generated)
}

/// Makes room in a scratch slot, which all steps share.
fn need(scratch: &mut Vec<usize>, slot: usize, bytes: usize) {
    if scratch.len() <= slot {
        scratch.resize(slot + 1, 0);
    }
    scratch[slot] = scratch[slot].max(bytes);
}

fn op_dispatches(
    step: &OpStep,
    launches: Launches,
    memory: Memory<'_>,
    caps: &Caps,
    label: &str,
    scratch: &mut Vec<usize>,
) -> Result<Vec<Dispatch>> {
    let op = step.op.name();
    for (slot, &bytes) in launches.scratch.iter().enumerate() {
        need(scratch, slot, bytes);
    }
    let missing =
        |what: &str, i: usize| Error::internal(op, format!("a launch binds {what} {i}, which it does not have"));
    let bind = |bind: &Bind| -> Result<Range> {
        match *bind {
            Bind::In(i) => memory.aligned(*step.ins.get(i).ok_or_else(|| missing("input", i))?),
            Bind::Out(i) => memory.aligned(*step.outs.get(i).ok_or_else(|| missing("output", i))?),
            Bind::Scratch(i) => {
                let bytes = *launches.scratch.get(i).ok_or_else(|| missing("scratch", i))?;
                Ok(Range::scratch(i, bytes))
            }
        }
    };
    let dispatch = |launch: &crate::op::Launch| {
        let shader = launch.shader;
        let (n_params, n_storage) = (launch.params.len(), launch.binds.len());
        if n_params != shader.n_params as usize || n_storage != shader.n_storage as usize {
            return Err(Error::internal(
                op,
                format!(
                    "a launch gives {} {n_params} parameters and {n_storage} bindings, the shader has {} and {}",
                    shader.name, shader.n_params, shader.n_storage
                ),
            ));
        }
        let mut dispatch = Dispatch {
            source: shader.text(caps.subgroups).into(),
            label: format!("{label} ({})", shader.name),
            words: launch.params.iter().map(|&bits| Word::Fixed(bits)).collect(),
            ranges: launch.binds.iter().map(bind).collect::<Result<_>>()?,
            workgroups: launch.workgroups,
            by_rows: None,
        };
        if let Some(finish) = step.finish.as_ref().filter(|_| launch.binds.contains(&Bind::Out(0))) {
            let (source, words, ranges) = codegen::finished(shader, &dispatch.source, finish, memory)?;
            dump(&source);
            dispatch.source = source.into();
            dispatch.words.extend(words);
            dispatch.ranges.extend(ranges);
        }
        Ok(dispatch)
    };
    launches.list.iter().map(dispatch).collect()
}

/// Every value must fit into a binding.
fn check_sizes(plan: &Plan, caps: &Caps) -> Result<()> {
    let too_large = |bytes: usize| bytes > caps.max_binding;
    let Some(id) = plan.values.iter().position(|v| too_large(v.spec.bytes())) else { return Ok(()) };
    let value = &plan.values[id];
    let maker = plan.steps.iter().find(|s| writes(s, id));
    let what = match (maker, value.place.root) {
        (Some(step), _) => format!("the value {} of {}, recorded at {},", value.spec, step.label, step.at),
        (None, Root::Input(i)) => format!("input {i}, {},", value.spec),
        (None, _) => format!("a value {}", value.spec),
    };
    Err(Error::Limit { what, needed: value.spec.bytes() as u64, limit: caps.max_binding as u64 })
}

fn writes(step: &Step, id: ValueId) -> bool {
    match &step.action {
        Action::Map(map) => map.outs.contains(&id),
        Action::Reduce(reduce) => reduce.outs.contains(&id),
        Action::Op(op) => op.outs.contains(&id),
        Action::Copy { to, .. } | Action::Zero { to, .. } => *to == id,
    }
}

fn check_bindings(dispatch: &Dispatch, caps: &Caps) -> Result<()> {
    if dispatch.ranges.len() > caps.max_storage_buffers as usize {
        let (n, max) = (dispatch.ranges.len(), caps.max_storage_buffers);
        return Err(Error::internal(
            "prepare",
            format!("{} binds {n} arrays, the device allows {max}", dispatch.label),
        ));
    }
    match dispatch.ranges.iter().find(|r| r.bytes > caps.max_binding as u64) {
        None => Ok(()),
        Some(range) => {
            let part = if matches!(range.slot, Slot::Scratch(_)) { "scratch memory" } else { "a binding" };
            let what = format!("{part} of {}", dispatch.label);
            Err(Error::Limit { what, needed: range.bytes, limit: caps.max_binding as u64 })
        }
    }
}
