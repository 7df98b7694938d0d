//! Launches that leave out rows. How many rows there are is known on the device only: a small dispatch looks up, for the
//! count, the parameters and workgroups of every launch that depends on it, and those launches are indirect.

use std::collections::HashMap;
use std::sync::Arc;

use acclimate_shaders::shaders::LIVE_ROWS;

use crate::device::{Caps, Counters};
use crate::error::{Error, Result};
use crate::plan::rows::launches;
use crate::plan::{Action, Live, Scope, Step, ValueId};

use super::Gpu;
use super::launch::{Dispatch, Memory, Range, Word, fold};
use super::pipeline::{Pipeline, Pipelines};

/// A dispatch for 0, 1, .. rows.
#[derive(Clone, Debug)]
pub(super) struct ByRows {
    pub count: ValueId,
    /// Which of its words depend on the rows.
    words: Vec<usize>,
    /// For each number of rows those words, and the workgroups.
    rows: Vec<(Vec<u32>, usize)>,
}

/// Adds to the dispatches of a step what they are for fewer rows.
pub(super) fn attach(step: &Step, live: &Live, caps: &Caps, dispatches: &mut [Dispatch]) -> Result<()> {
    let of = live.of;
    match &step.action {
        Action::Map(_) | Action::Reduce(_) => {
            // The codegen's first word is the number of results, a reduction's second that of combined elements.
            // A reduction keeps its workgroups: how they share the work was decided for all rows.
            let reduced = matches!(live.scope, Scope::Reduced);
            let keeps = matches!(step.action, Action::Reduce(_));
            let word = usize::from(reduced);
            let n = if reduced { 1 } else { dispatches.len() };
            dispatches.iter_mut().take(n).try_for_each(|d| attach_rows(live, word, keeps, d))?;
            Ok(())
        }
        Action::Op(o) => {
            let table = launches(&*o.op, &o.in_specs, &o.out_specs, (of, &live.scope), caps)?;
            let table = table.ok_or_else(|| Error::internal("live rows", "an op that the planner had refused"))?;
            for (k, d) in dispatches.iter_mut().enumerate() {
                let all = &table[of].list[k].params;
                let words = (0..all.len()).filter(|&w| table.iter().any(|l| l.list[k].params[w] != all[w]));
                let words: Vec<usize> = words.collect();
                let row = |l: &crate::op::Launches| {
                    (words.iter().map(|&w| l.list[k].params[w]).collect(), l.list[k].workgroups)
                };
                d.by_rows = Some(ByRows { count: live.count, rows: table.iter().map(row).collect(), words });
            }
            Ok(())
        }
        _ => Err(Error::internal("live rows", "a copy has none")),
    }
}

/// Lets one word, a number of elements, follow the rows; workgroups too, unless the dispatch keeps them.
pub(super) fn attach_rows(live: &Live, word: usize, keeps: bool, d: &mut Dispatch) -> Result<()> {
    let Some(&Word::Fixed(all)) = d.words.get(word) else {
        return Err(Error::internal("live rows", format!("{} has no number of elements", d.label)));
    };
    let of = live.of.max(1);
    let each = all / u32::try_from(of).unwrap_or(u32::MAX);
    let share = |rows: usize| if keeps { d.workgroups } else { (d.workgroups * rows).div_ceil(of) };
    let rows = (0u32..).zip(0..=of).map(|(r, rows)| (vec![each * r], share(rows))).collect();
    d.by_rows = Some(ByRows { count: live.count, words: vec![word], rows });
    Ok(())
}

/// The look-up for one count.
#[derive(Debug)]
struct LookUp {
    /// It runs before the launch of this index.
    before: usize,
    count: Range,
    count_at: usize,
    of: usize,
    heads: Vec<[u32; 5]>,
}

/// All look-ups of a plan.
#[derive(Debug, Default)]
pub(super) struct LookUps {
    list: Vec<LookUp>,
    by_count: HashMap<ValueId, usize>,
    table: Vec<u32>,
    n_args: u32,
    pipeline: Option<Arc<Pipeline>>,
}

impl LookUps {
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Notes launch number `launch`, whose parameters begin at word `first` of the plan's, and returns where in the
    /// arguments its workgroups will stand, in bytes.
    pub fn push(
        &mut self,
        by: &ByRows,
        (launch, first): (usize, usize),
        memory: Memory<'_>,
        caps: &Caps,
        pipelines: &Pipelines,
    ) -> Result<u64> {
        if self.pipeline.is_none() {
            self.pipeline = Some(pipelines.get(LIVE_ROWS.source, LIVE_ROWS.n_storage as usize, LIVE_ROWS.name)?);
        }
        let at = match self.by_count.get(&by.count) {
            Some(&at) => at,
            None => {
                let (count, count_at) = memory.value(by.count)?;
                let of = by.rows.len() - 1;
                self.list.push(LookUp { before: launch, count, count_at, of, heads: Vec::new() });
                self.by_count.insert(by.count, self.list.len() - 1);
                self.list.len() - 1
            }
        };
        let word = |n: usize| u32::try_from(n).map_err(|_| Error::internal("live rows", "a table beyond u32"));
        let slots = self.table.len();
        for &w in &by.words {
            self.table.push(word(w)?);
        }
        let rows = self.table.len();
        for (words, workgroups) in &by.rows {
            let (x, y) = fold(*workgroups, caps.max_workgroups, "live rows")?;
            self.table.extend(words);
            self.table.extend([x, y]);
        }
        let head = [word(rows)?, word(by.words.len())?, word(slots)?, word(first)?, self.n_args];
        self.list[at].heads.push(head);
        self.n_args += 1;
        Ok(12 * u64::from(self.n_args - 1))
    }
}

/// A look-up as it is recorded.
#[derive(Debug)]
pub(super) struct LookUpState {
    pub before: usize,
    pub count: Range,
    pub params: wgpu::Buffer,
    pub workgroups: u32,
    pub groups: super::run::Cached,
}

/// What the look-ups of a run use.
#[derive(Debug)]
pub(super) struct LiveState {
    pub pipeline: Arc<Pipeline>,
    pub table: wgpu::Buffer,
    pub args: wgpu::Buffer,
    pub list: Vec<LookUpState>,
}

impl Gpu {
    /// Buffers for the look-ups of a plan; `None` if it has none.
    pub(super) fn live_state(&self, live: &LookUps) -> Result<Option<LiveState>> {
        let Some(pipeline) = &live.pipeline else { return Ok(None) };
        let make = |label: &str, words: usize, usage: wgpu::BufferUsages| {
            let size = 4 * words.max(4) as u64;
            let usage = usage | wgpu::BufferUsages::COPY_DST;
            let desc = wgpu::BufferDescriptor { label: Some(label), size, usage, mapped_at_creation: false };
            Counters::add(&self.counters.buffers_allocated, 1);
            self.health.catch(&self.device, label, size, || self.device.create_buffer(&desc))
        };
        let mut table = live.table.clone();
        let mut list = Vec::with_capacity(live.list.len());
        for l in &live.list {
            let heads = table.len() as u32;
            l.heads.iter().for_each(|h| table.extend(h));
            let words = [l.heads.len() as u32, l.of as u32, l.count_at as u32, heads];
            let params = make("acclimate.live_rows.params", 4, wgpu::BufferUsages::UNIFORM)?;
            self.queue.write_buffer(&params, 0, bytemuck::cast_slice(&words));
            let workgroups = words[0].div_ceil(256);
            list.push(LookUpState { before: l.before, count: l.count, params, workgroups, groups: Default::default() });
        }
        let n_args = 3 * live.n_args as usize;
        let args =
            make("acclimate.live_rows.args", n_args, wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::INDIRECT)?;
        let buffer = make("acclimate.live_rows.table", table.len(), wgpu::BufferUsages::STORAGE)?;
        self.queue.write_buffer(&buffer, 0, bytemuck::cast_slice(&table));
        Ok(Some(LiveState { pipeline: pipeline.clone(), table: buffer, args, list }))
    }
}
