//! Steps put together that do not need each other: reductions over the same elements, such as the two sums in the gradient of a
//! normalization, read them once; and small maps side by side are one launch.
//!
//! For engines on which a launch and a pass over memory cost more than the arithmetic: not the CPU engine, whose loops have one
//! result.

use std::collections::HashSet;

use crate::device::Caps;
use crate::dtype::DType;
use crate::plan::fuse::{Draft, Drafted, MAX_TERMS};
use crate::plan::memory::touched;
use crate::plan::order::Order;
use crate::plan::{Action, MapStep, Program, ReduceStep, Step, Term, ValueId};

/// Elements up to which steps are put together though they read nothing in common: what a launch costs is more than they do.
const SMALL: usize = 1 << 14;
/// How many steps further the other one may stand.
const WINDOW: usize = 64;
/// Results of a step at most.
pub(super) const MAX_RESULTS: usize = 4;

/// Which steps are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Reductions.
    Sums,
    /// Element-wise groups.
    Maps,
}

/// Puts steps of a kind together where that can be done.
pub(crate) fn join(drafted: &mut Drafted, caps: &Caps, kind: Kind) {
    let mut order = Order::of(drafted);
    let values = &drafted.values;
    let is_of_kind = |step: &Step| match step.action {
        Action::Reduce(_) => kind == Kind::Sums,
        Action::Map(_) => kind == Kind::Maps,
        _ => false,
    };
    let mut steps: Vec<Option<Step>> = std::mem::take(&mut drafted.steps).into_iter().map(Some).collect();
    for i in 0..steps.len() {
        let Some(mut first) = steps[i].take_if(|s| is_of_kind(s)) else { continue };
        let end = steps.len().min(i + 1 + WINDOW);
        for place in &mut steps[i + 1..end] {
            let Some(second) = place.as_ref() else { continue };
            let Some(joined) = both(&first, second, values, caps) else { continue };
            if !order.can_be_at(&second.action, i, values, &[]) {
                continue;
            }
            order.moved(&second.action, i, values);
            (first, *place) = (joined, None);
        }
        steps[i] = Some(first);
    }
    drafted.steps = steps.into_iter().flatten().collect();
}

/// Both steps as one, if they walk over the same elements in the same way and it pays.
fn both(a: &Step, b: &Step, values: &[Draft], caps: &Caps) -> Option<Step> {
    if a.live.is_some() || b.live.is_some() {
        return None;
    }
    let ((reads, mut outs), (others, more)) = (touched(&a.action), touched(&b.action));
    outs.extend(more);
    let join = |dims: &[usize], x: &Program, y: &Program| {
        let pays = dims.iter().product::<usize>() <= SMALL || reads.iter().any(|v| others.contains(v));
        let bindings = reads.iter().chain(&others).collect::<HashSet<_>>().len() + outs.len();
        let words = |v: &ValueId| values[*v].spec.dtype != DType::F16;
        let fits = bindings <= caps.max_storage_buffers as usize && outs.len() <= MAX_RESULTS;
        let program = (pays && fits && outs.iter().all(words)).then(|| joined(x, y))?;
        (program.terms.len() <= MAX_TERMS).then_some(program)
    };
    let action = match (&a.action, &b.action) {
        (Action::Map(x), Action::Map(y)) if x.dims == y.dims => {
            let program = join(&x.dims, &x.program, &y.program)?;
            Action::Map(MapStep { dims: x.dims.clone(), program, outs })
        }
        (Action::Reduce(x), Action::Reduce(y)) if (&x.dims, &x.reduced, x.kind) == (&y.dims, &y.reduced, y.kind) => {
            let finished = x.finish.is_some() || y.finish.is_some();
            if finished || values[x.outs[0]].spec.dtype != values[y.outs[0]].spec.dtype {
                return None;
            }
            let program = join(&x.dims, &x.program, &y.program)?;
            Action::Reduce(ReduceStep { program, outs, ..x.clone() })
        }
        _ => return None,
    };
    Some(Step { action, label: format!("{} & {}", a.label, b.label), ..a.clone() })
}

/// One program with the results of both, what they have in common computed once.
fn joined(a: &Program, b: &Program) -> Program {
    let mut program = a.clone();
    append(&mut program, b, |_| None);
    program
}

/// Adds the terms and results of another program, what both have once; loads for which `known` has a term are that one.
pub(super) fn append(program: &mut Program, more: &Program, known: impl Fn(&Term) -> Option<usize>) {
    let mut new: Vec<usize> = Vec::with_capacity(more.terms.len());
    for term in &more.terms {
        let mut term = term.clone();
        if let Term::Apply { args, .. } = &mut term {
            args.iter_mut().for_each(|a| *a = new[*a]);
        }
        let there = known(&term).or_else(|| program.terms.iter().position(|t| *t == term));
        new.push(there.unwrap_or_else(|| {
            program.terms.push(term);
            program.terms.len() - 1
        }));
    }
    program.results.extend(more.results.iter().map(|&r| new[r]));
}
