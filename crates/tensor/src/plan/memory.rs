//! Where every value lives: lifetimes, updates in place, donated inputs, and offsets in few arenas.
//!
//! Values that share memory form one storage. Storages get offsets greedily, largest first, at the lowest place that
//! is free during their lifetime (Pisarchyk and Lee 2020, "greedy by size").

use std::collections::HashSet;

use crate::device::Caps;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::plan::fuse::{Assembled, Draft, Drafted};
use crate::plan::graph::Graph;
use crate::plan::{ALIGNMENT, Action, Finish, Place, Plan, Program, Root, Source, Step, Term, Value, ValueId};
use crate::shape::Spec;

/// Memory that one or more values share.
#[derive(Clone, Debug)]
struct Storage {
    bytes: usize,
    /// First and last step that touch it.
    first: usize,
    last: usize,
    root: Option<Root>,
}

/// Reads and writes of a step.
pub(super) fn touched(action: &Action) -> (Vec<ValueId>, Vec<ValueId>) {
    let loads = |program: &Program| {
        let value = |t: &Term| match t {
            Term::Load { source: Source::Value(v), .. } => Some(*v),
            _ => None,
        };
        program.terms.iter().filter_map(value).collect::<Vec<_>>()
    };
    let with = |mut reads: Vec<ValueId>, finish: &Option<Finish>| {
        reads.extend(finish.iter().flat_map(|f| loads(&f.program)));
        reads
    };
    match action {
        Action::Map(m) => (loads(&m.program), m.outs.clone()),
        Action::Reduce(r) => (with(loads(&r.program), &r.finish), r.outs.clone()),
        Action::Op(o) => (with(o.ins.clone(), &o.finish), o.outs.clone()),
        Action::Copy { from, to, .. } => (vec![*from], vec![*to]),
        Action::Zero { to, .. } => (Vec::new(), vec![*to]),
    }
}

/// Whether a map reads `v` only at the index that it writes.
fn reads_in_step(action: &Action, v: ValueId) -> bool {
    match action {
        Action::Map(m) => m.program.terms.iter().all(|t| match t {
            Term::Load { source: Source::Value(u), layout, .. } if *u == v => {
                layout.offset == 0 && layout.is_contiguous()
            }
            _ => true,
        }),
        _ => false,
    }
}

struct Planner<'a> {
    graph: &'a Graph,
    drafted: Drafted,
    donated_inputs: &'a [bool],
    /// Storage and byte offset of each value.
    home: Vec<Option<(usize, usize)>>,
    storages: Vec<Storage>,
    /// Last step that reads or writes a value, through aliases.
    last: Vec<usize>,
    output_of: Vec<Option<usize>>,
    donated: Vec<Option<usize>>,
    copies: u64,
}

/// Lays out memory and completes the plan.
pub(crate) fn place(
    graph: &Graph,
    drafted: Drafted,
    donated_inputs: &[bool],
    caps: &Caps,
    reuse: bool,
) -> Result<Plan> {
    let n = drafted.values.len();
    let mut output_of = vec![None; n];
    for (j, &v) in drafted.outputs.iter().enumerate() {
        output_of[v] = Some(j);
    }
    let donated = vec![None; drafted.outputs.len()];
    let mut p = Planner {
        graph,
        drafted,
        donated_inputs,
        home: vec![None; n],
        storages: Vec::new(),
        last: vec![0; n],
        output_of,
        donated,
        copies: 0,
    };
    p.insert_copies_for_in_place();
    p.lifetimes();
    p.assign(reuse);
    p.finish(caps)
}

impl Planner<'_> {
    fn root(&self, v: ValueId) -> (ValueId, usize) {
        root(&self.drafted.values, v)
    }

    fn lifetimes(&mut self) {
        self.last = vec![0; self.drafted.values.len()];
        for (s, step) in self.drafted.steps.iter().enumerate() {
            let (reads, writes) = touched(&step.action);
            let count = step.live.as_ref().map(|l| l.count);
            for v in reads.into_iter().chain(writes).chain(count) {
                let (base, _) = self.root(v);
                self.last[base] = s;
                self.last[v] = s;
            }
        }
    }

    /// An op that updates an input in place gets that input's memory if this is its last reader and the input is its
    /// own to give; else a copy is made first, and the op updates the copy.
    fn insert_copies_for_in_place(&mut self) {
        self.lifetimes();
        let mut taken = vec![false; self.drafted.values.len()];
        let steps = std::mem::take(&mut self.drafted.steps);
        for (s, mut step) in steps.into_iter().enumerate() {
            if let Action::Op(op) = &mut step.action {
                for &(i, _) in op.op.in_place() {
                    let u = op.ins[i];
                    let (base, _) = self.root(u);
                    let leaf = self.drafted.values[base].leaf;
                    let whole = self.drafted.values[u].alias.is_none();
                    let others = op.ins.iter().filter(|&&v| self.root(v).0 == base).count() > 1;
                    let mine = leaf.is_none_or(|l| self.donated_inputs.get(l) == Some(&true))
                        && self.output_of[base].is_none();
                    if whole && mine && !others && self.last[base] == s && !taken[base] {
                        taken[base] = true;
                        continue;
                    }
                    self.copies += u64::from(leaf.is_some());
                    let spec = self.drafted.values[u].spec.clone();
                    let copy = self.push_value(spec);
                    taken.push(true);
                    let action = Action::Copy { from: u, to: copy, offset: 0 };
                    self.drafted.steps.push(Step { action, live: None, label: "copy".into(), at: step.at });
                    op.ins[i] = copy;
                }
            }
            self.drafted.steps.push(step);
        }
    }

    fn push_value(&mut self, spec: Spec) -> ValueId {
        self.drafted.values.push(Draft { spec, alias: None, leaf: None });
        self.home.push(None);
        self.last.push(0);
        self.output_of.push(None);
        self.drafted.values.len() - 1
    }

    fn new_storage(&mut self, v: ValueId, s: usize, root: Option<Root>) -> usize {
        let bytes = self.drafted.values[v].spec.bytes();
        self.storages.push(Storage { bytes, first: s, last: if s == usize::MAX { 0 } else { s }, root });
        self.storages.len() - 1
    }

    /// Gives every value a storage, step by step.
    fn assign(&mut self, reuse: bool) {
        for v in 0..self.drafted.values.len() {
            if let Some(l) = self.drafted.values[v].leaf {
                let storage = self.new_storage(v, 0, Some(Root::Input(l)));
                self.storages[storage].last = self.last[v];
                self.home[v] = Some((storage, 0));
            }
        }
        if reuse {
            self.place_pieces();
        }
        for s in 0..self.drafted.steps.len() {
            let (_, writes) = touched(&self.drafted.steps[s].action);
            for (o, v) in writes.into_iter().enumerate() {
                if self.home[v].is_none() {
                    let storage = self.choose(s, o, v, reuse);
                    self.home[v] = Some((storage, 0));
                }
                if let Some((storage, _)) = self.home[v] {
                    let last = self.last[v];
                    let st = &mut self.storages[storage];
                    st.first = st.first.min(s);
                    st.last = st.last.max(last).max(s);
                }
            }
        }
    }

    /// Pieces of an assembled value that nothing else needs elsewhere are computed at their offsets.
    fn place_pieces(&mut self) {
        // What ops touch begins where a binding may; groups find a value at any word.
        let (mut in_place, mut bound) = (HashSet::new(), HashSet::new());
        for step in &self.drafted.steps {
            if let Action::Op(o) = &step.action {
                bound.extend(o.ins.iter().chain(&o.outs).map(|&v| self.root(v).0));
                in_place.extend(o.op.in_place().iter().flat_map(|&(i, k)| [o.ins[i], o.outs[k]]));
            }
        }
        for a in std::mem::take(&mut self.drafted.assembled) {
            let Assembled { out, pieces } = a;
            if self.drafted.values[out].alias.is_some() {
                continue;
            }
            let root = self.output_of[out].map(Root::Output);
            let storage = self.new_storage(out, usize::MAX, root);
            self.home[out] = Some((storage, 0));
            for &(piece, offset) in &pieces {
                let (base, at) = self.root(piece);
                // What stands at several places can be computed at none of them: the copies would read what they write.
                let once = pieces.iter().filter(|p| self.root(p.0).0 == base).count() == 1;
                let d = &self.drafted.values[base];
                let same = at == 0 && d.spec.bytes() == self.drafted.values[piece].spec.bytes();
                let free = d.leaf.is_none() && self.output_of[base].is_none() && self.home[base].is_none();
                let reachable = offset % if bound.contains(&base) { ALIGNMENT } else { 4 } == 0;
                if once && same && free && !in_place.contains(&base) && reachable {
                    self.home[base] = Some((storage, offset));
                }
            }
        }
        // Copies of placed pieces onto themselves go away.
        let values = &self.drafted.values;
        let home = &self.home;
        let root_home = |v: ValueId| {
            let (base, offset) = root(values, v);
            home[base].map(|(s, at)| (s, at + offset))
        };
        for step in &mut self.drafted.steps {
            if let Action::Copy { from, to, offset } = step.action {
                let target = home[to].map(|(s, at)| (s, at + offset));
                if target.is_some() && root_home(from) == target {
                    step.action = Action::Zero { to, offset, bytes: 0 };
                }
            }
        }
    }

    /// The storage of value `v`, output `o` of step `s`.
    fn choose(&mut self, s: usize, o: usize, v: ValueId, reuse: bool) -> usize {
        let bytes = self.drafted.values[v].spec.bytes();
        let output = self.output_of[v];
        let action = &self.drafted.steps[s].action;
        let in_place = match action {
            Action::Op(op) => op.op.in_place().iter().find(|p| p.1 == o).map(|p| op.ins[p.0]),
            _ => None,
        };
        let mut candidates: Vec<(ValueId, bool)> = in_place.into_iter().map(|u| (u, true)).collect();
        // A half and what it is made from do not lie at the same bytes.
        let is_half = |u: ValueId| self.drafted.values[u].spec.dtype == DType::F16;
        if reuse && in_place.is_none() && matches!(action, Action::Map(_)) && !is_half(v) {
            let (reads, _) = touched(action);
            candidates
                .extend(reads.into_iter().filter(|&u| reads_in_step(action, u) && !is_half(u)).map(|u| (u, false)));
        }
        for (u, forced) in candidates {
            let base = self.root(u).0;
            let Some((storage, 0)) = self.home[base] else { continue };
            if self.drafted.values[u].alias.is_some() {
                continue;
            }
            let st = &self.storages[storage];
            let fits = st.bytes == bytes && (st.last <= s || st.first == usize::MAX) && self.last[base] == s;
            match (st.root, output) {
                _ if !fits && !forced => {}
                (None, None) => return storage,
                (None, Some(j)) => {
                    self.storages[storage].root = Some(Root::Output(j));
                    return storage;
                }
                (Some(Root::Input(l)), Some(j)) if self.donated_inputs.get(l) == Some(&true) => {
                    self.donated[j] = Some(l);
                    self.storages[storage].root = Some(Root::Output(j));
                    return storage;
                }
                // A donated input that is updated in place but is no output still needs memory that is ours.
                (Some(Root::Input(_)) | Some(Root::Output(_)) | Some(Root::Arena(_)), _) => {}
            }
        }
        self.new_storage(v, s, output.map(Root::Output))
    }

    fn finish(mut self, caps: &Caps) -> Result<Plan> {
        // An op in place whose input could not be given its memory after all gets a copy just before.
        self.repair_in_place();
        let mut order: Vec<usize> = (0..self.storages.len()).filter(|&i| self.storages[i].root.is_none()).collect();
        order.sort_by_key(|&i| std::cmp::Reverse(self.storages[i].bytes));
        let mut placed: Vec<(usize, usize, usize)> = Vec::new(); // storage, arena, offset
        let mut arenas: Vec<usize> = Vec::new();
        let mut at = vec![(Root::Arena(0), 0usize); self.storages.len()];
        for i in order {
            let st = &self.storages[i];
            let bytes = st.bytes.max(4).next_multiple_of(ALIGNMENT);
            check_limit(st.bytes, caps)?;
            let mut found = None;
            for arena in 0..=arenas.len() {
                let mut busy: Vec<(usize, usize)> = placed
                    .iter()
                    .filter(|p| p.1 == arena && overlap(&self.storages[p.0], st))
                    .map(|p| (p.2, p.2 + self.storages[p.0].bytes.max(4).next_multiple_of(ALIGNMENT)))
                    .collect();
                busy.sort_unstable();
                let mut offset = 0;
                for (from, to) in busy {
                    if from >= offset + bytes {
                        break;
                    }
                    offset = offset.max(to);
                }
                if offset + bytes <= caps.max_binding.max(bytes) || offset == 0 {
                    found = Some((arena, offset));
                    break;
                }
            }
            let (arena, offset) = found.unwrap_or((arenas.len(), 0));
            if arena == arenas.len() {
                arenas.push(0);
            }
            arenas[arena] = arenas[arena].max(offset + bytes);
            placed.push((i, arena, offset));
            at[i] = (Root::Arena(arena), offset);
        }
        for (i, st) in self.storages.iter().enumerate() {
            if let Some(root) = st.root {
                at[i] = (root, 0);
            }
        }
        let values = self.places(&at)?;
        for v in &values {
            check_limit(v.spec.bytes(), caps)?;
        }
        let steps =
            self.drafted.steps.into_iter().filter(|s| !matches!(s.action, Action::Zero { bytes: 0, .. })).collect();
        let mut inputs = vec![None; self.graph.n_leaves];
        for node in &self.graph.nodes {
            if let crate::plan::graph::Kind::Leaf(l) = node.kind {
                inputs[l] = Some(node.specs[0].clone());
            }
        }
        Ok(Plan {
            inputs: inputs.into_iter().flatten().collect(),
            n_scalars: self.graph.n_scalars,
            values,
            steps,
            outputs: self.graph.outputs.iter().map(|&r| self.graph.spec(r).clone()).collect(),
            donated: self.donated,
            arenas,
            copies: self.copies,
        })
    }

    fn repair_in_place(&mut self) {
        let mut s = 0;
        while s < self.drafted.steps.len() {
            let mut copies = Vec::new();
            let at = self.drafted.steps[s].at;
            if let Action::Op(op) = &self.drafted.steps[s].action {
                for &(i, o) in op.op.in_place() {
                    let (u, v) = (op.ins[i], op.outs[o]);
                    if self.home[self.root(u).0] != self.home[v] {
                        copies.push((i, u, v));
                    }
                }
            }
            for (i, u, v) in copies {
                let action = Action::Copy { from: u, to: v, offset: 0 };
                if let Action::Op(op) = &mut self.drafted.steps[s].action {
                    op.ins[i] = v;
                }
                self.drafted.steps.insert(s, Step { action, live: None, label: "copy".into(), at });
                for st in &mut self.storages {
                    if st.first > s && st.first != usize::MAX {
                        st.first += 1;
                    }
                    if st.last >= s {
                        st.last += 1;
                    }
                }
                s += 1;
            }
            s += 1;
        }
    }

    fn places(&self, at: &[(Root, usize)]) -> Result<Vec<Value>> {
        (0..self.drafted.values.len())
            .map(|v| {
                let (base, offset) = self.root(v);
                let spec = self.drafted.values[v].spec.clone();
                // A value that no step touches has no home and no reader.
                let (root, start) = match self.home[base] {
                    Some((storage, inside)) => (at[storage].0, at[storage].1 + inside),
                    None => (Root::Arena(0), 0),
                };
                Ok(Value { spec, place: Place { root, offset: start + offset } })
            })
            .collect()
    }
}

/// The value that `v` is part of, and where in it.
pub(super) fn root(values: &[Draft], mut v: ValueId) -> (ValueId, usize) {
    let mut offset = 0;
    while let Some((base, at)) = values[v].alias {
        (v, offset) = (base, offset + at);
    }
    (v, offset)
}

fn overlap(a: &Storage, b: &Storage) -> bool {
    a.first <= b.last && b.first <= a.last
}

fn check_limit(bytes: usize, caps: &Caps) -> Result<()> {
    if bytes > caps.max_binding {
        return Err(Error::Limit { what: "a value".into(), needed: bytes as u64, limit: caps.max_binding as u64 });
    }
    Ok(())
}
