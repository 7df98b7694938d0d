//! Follows who wrote which bytes, step by step.

use crate::device::Caps;
use crate::error::Result;
use crate::op::Bind;
use crate::plan::{Action, Finish, OpStep, Plan, Program, Root, Source, Term, ValueId};

use super::wrong;

/// Bytes of a root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Region {
    root: Root,
    start: usize,
    end: usize,
}

impl Region {
    fn overlaps(self, other: Region) -> bool {
        self.root == other.root && self.start < other.end && other.start < self.end
    }

    fn contains(self, other: Region) -> bool {
        self.root == other.root && self.start <= other.start && other.end <= self.end
    }
}

fn region(plan: &Plan, v: ValueId) -> Result<Region> {
    let value = plan.values.get(v).ok_or_else(|| wrong(format!("no value {v}")))?;
    let start = value.place.offset;
    Ok(Region { root: value.place.root, start, end: start + value.spec.bytes() })
}

/// Who wrote a region: a step and its value, or the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writer {
    Caller,
    Step(usize, ValueId),
}

/// What memory holds.
struct Content<'a> {
    plan: &'a Plan,
    written: Vec<(Region, Writer)>,
    /// For each value the content that it must be read with.
    expected: Vec<Option<Vec<(Region, Writer)>>>,
}

impl Content<'_> {
    fn write(&mut self, at: Region, writer: Writer) {
        if at.start == at.end {
            return;
        }
        let mut rest = Vec::with_capacity(self.written.len() + 2);
        for &(old, by) in &self.written {
            if !old.overlaps(at) {
                rest.push((old, by));
                continue;
            }
            for part in [Region { end: at.start, ..old }, Region { start: at.end, ..old }] {
                if part.start < part.end {
                    rest.push((part, by));
                }
            }
        }
        rest.push((at, writer));
        self.written = rest;
    }

    /// What lies in a region, in order; `None` where nothing was written.
    fn covering(&self, at: Region) -> Option<Vec<(Region, Writer)>> {
        let clip = |r: Region| Region { root: r.root, start: r.start.max(at.start), end: r.end.min(at.end) };
        let parts = self.written.iter().filter(|(r, _)| r.overlaps(at)).map(|&(r, w)| (clip(r), w));
        let mut parts: Vec<_> = parts.collect();
        parts.sort_by_key(|(r, _)| r.start);
        let mut end = at.start;
        for (part, _) in &parts {
            if part.start != end {
                return None;
            }
            end = part.end;
        }
        (end == at.end).then_some(parts)
    }

    fn read(&mut self, v: ValueId, label: &str) -> Result<()> {
        let at = region(self.plan, v)?;
        if at.start == at.end {
            return Ok(());
        }
        let Some(found) = self.covering(at) else {
            return Err(wrong(format!("{label} reads value {v}, which nothing wrote")));
        };
        match &self.expected[v] {
            Some(expected) if *expected != found => {
                Err(wrong(format!("{label} reads value {v}, which was overwritten by {:?}", found[0].1)))
            }
            Some(_) => Ok(()),
            None => {
                // Its own content, pieces of it, or a part of something larger.
                for &(_, writer) in &found {
                    let Writer::Step(_, w) = writer else { continue };
                    let other = region(self.plan, w)?;
                    if !at.contains(other) && !other.contains(at) {
                        return Err(wrong(format!("{label} reads value {v}, where value {w} is")));
                    }
                }
                self.expected[v] = Some(found);
                Ok(())
            }
        }
    }

    fn write_value(&mut self, v: ValueId, step: usize) -> Result<()> {
        let at = region(self.plan, v)?;
        self.write(at, Writer::Step(step, v));
        self.expected[v] = self.covering(at);
        Ok(())
    }
}

pub(super) fn check_plan(plan: &Plan) -> Result<()> {
    let size = |root: Root| match root {
        Root::Input(i) => plan.inputs.get(i).map(|s| s.bytes()),
        Root::Output(j) => plan.outputs.get(j).map(|s| s.bytes()),
        Root::Arena(a) => plan.arenas.get(a).copied(),
    };
    let expected = vec![None; plan.values.len()];
    let mut content = Content { plan, written: Vec::new(), expected };
    let donated = plan.donated.iter().enumerate().filter(|(_, d)| d.is_some()).map(|(j, _)| Root::Output(j));
    for root in (0..plan.inputs.len()).map(Root::Input).chain(donated) {
        content.write(Region { root, start: 0, end: size(root).unwrap_or(0) }, Writer::Caller);
    }
    for (s, step) in plan.steps.iter().enumerate() {
        let (reads, writes) = touched(&step.action);
        for &v in reads.iter().chain(&writes) {
            let at = region(plan, v)?;
            if at.start != at.end && size(at.root).is_none_or(|n| at.end > n) {
                return Err(wrong(format!("{} touches value {v}, which lies outside its memory: {at:?}", step.label)));
            }
        }
        reads.iter().try_for_each(|&v| content.read(v, &step.label))?;
        check_overlaps(plan, &step.action, &step.label)?;
        match &step.action {
            Action::Op(op) => check_launches(op)?,
            Action::Copy { from, to, offset } => {
                let (from, to) = (region(plan, *from)?, region(plan, *to)?);
                content.write(part(to, *offset, from.end - from.start, &step.label)?, Writer::Step(s, writes[0]));
                content.expected[writes[0]] = None;
                continue;
            }
            Action::Zero { to, offset, bytes } => {
                let to = region(plan, *to)?;
                content.write(part(to, *offset, *bytes, &step.label)?, Writer::Step(s, writes[0]));
                content.expected[writes[0]] = None;
                continue;
            }
            Action::Map(_) | Action::Reduce(_) => {}
        }
        writes.iter().try_for_each(|&v| content.write_value(v, s))?;
    }
    for (j, spec) in plan.outputs.iter().enumerate() {
        let at = Region { root: Root::Output(j), start: 0, end: spec.bytes() };
        if content.covering(at).is_none() {
            return Err(wrong(format!("output {j} is not written")));
        }
    }
    Ok(())
}

fn part(to: Region, offset: usize, bytes: usize, label: &str) -> Result<Region> {
    let start = to.start + offset;
    let part = Region { root: to.root, start, end: start + bytes };
    if part.end <= to.end { Ok(part) } else { Err(wrong(format!("{label} writes {part:?}, outside {to:?}"))) }
}

fn loads(program: &Program) -> Vec<ValueId> {
    let value = |t: &Term| match t {
        Term::Load { source: Source::Value(v), .. } => Some(*v),
        _ => None,
    };
    program.terms.iter().filter_map(value).collect()
}

/// What a step reads and writes: said here once more, so that the planner's own account is checked.
fn touched(action: &Action) -> (Vec<ValueId>, Vec<ValueId>) {
    let after = |finish: &Option<Finish>| finish.as_ref().map(|f| loads(&f.program)).unwrap_or_default();
    match action {
        Action::Map(m) => (loads(&m.program), m.outs.clone()),
        Action::Reduce(r) => ([loads(&r.program), after(&r.finish)].concat(), r.outs.clone()),
        Action::Op(o) => ([o.ins.clone(), after(&o.finish)].concat(), o.outs.clone()),
        Action::Copy { from, to, .. } => (vec![*from], vec![*to]),
        Action::Zero { to, .. } => (Vec::new(), vec![*to]),
    }
}

/// Within a step nothing written may overlap anything read, but what is updated in place.
fn check_overlaps(plan: &Plan, action: &Action, label: &str) -> Result<()> {
    let (reads, mut writes) = touched(action);
    if let Action::Copy { from, to, offset } = action {
        let (from, to) = (region(plan, *from)?, region(plan, *to)?);
        if from.overlaps(part(to, *offset, from.end - from.start, label)?) {
            return Err(wrong(format!("{label} copies a value onto itself")));
        }
        writes.clear();
    }
    for (i, &w) in writes.iter().enumerate() {
        let at = region(plan, w)?;
        for &u in &writes[i + 1..] {
            if at.overlaps(region(plan, u)?) {
                return Err(wrong(format!("{label} writes values {w} and {u} to the same memory")));
            }
        }
        for (k, &v) in reads.iter().enumerate() {
            let read = region(plan, v)?;
            if !at.overlaps(read) {
                continue;
            }
            let allowed = match action {
                Action::Map(m) => read == at && m.program.terms.iter().all(|t| reads_same_index(t, v)),
                Action::Op(o) => read == at && o.op.in_place().contains(&(k, i)),
                _ => false,
            };
            if !allowed {
                return Err(wrong(format!("{label} writes value {w} where it reads value {v}")));
            }
        }
    }
    if let Action::Op(o) = action {
        for &(i, j) in o.op.in_place() {
            if region(plan, o.ins[i])? != region(plan, o.outs[j])? {
                return Err(wrong(format!("{label} updates input {i} in place, but output {j} is elsewhere")));
            }
        }
    }
    Ok(())
}

fn reads_same_index(term: &Term, v: ValueId) -> bool {
    match term {
        Term::Load { source: Source::Value(u), layout, .. } if *u == v => layout.offset == 0 && layout.is_contiguous(),
        _ => true,
    }
}

/// The launches of an op must bind what its shaders declare.
fn check_launches(step: &OpStep) -> Result<()> {
    let name = step.op.name();
    let launches = step.op.launch(&step.in_specs, &step.out_specs, &Caps::webgpu())?;
    for launch in &launches.list {
        let shader = launch.shader;
        let (params, binds) = (launch.params.len(), launch.binds.len());
        if params != shader.n_params as usize || binds != shader.n_storage as usize {
            let (n, m) = (shader.n_params, shader.n_storage);
            let shader = shader.name;
            return Err(wrong(format!(
                "{name}: {params} parameters and {binds} bindings for {shader}, which has {n} and {m}"
            )));
        }
        let missing = launch.binds.iter().find(|bind| match **bind {
            Bind::In(i) => i >= step.ins.len(),
            Bind::Out(i) => i >= step.outs.len(),
            Bind::Scratch(i) => i >= launches.scratch.len(),
        });
        if let Some(bind) = missing {
            return Err(wrong(format!("{name}: {bind:?} does not exist")));
        }
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::expr::Func;
    use crate::plan::layout::Layout;
    use crate::plan::{MapStep, Place, Step, Value};
    use crate::shape::Spec;

    /// A chain x → a → b → y of maps of 64 elements, with the values a and b at these offsets of the arena.
    pub(in crate::engine::null) fn chain(a: usize, b: usize, reversed: bool) -> Plan {
        let spec = Spec::f32(&[64]).unwrap();
        let roots = [(Root::Input(0), 0), (Root::Arena(0), a), (Root::Arena(0), b), (Root::Output(0), 0)];
        let values = roots.map(|(root, offset)| Value { spec: spec.clone(), place: Place { root, offset } }).to_vec();
        let step = |reads: &[ValueId], out: ValueId| {
            let mut layout = Layout::contiguous(&[64]);
            if reversed {
                layout.offset = 63;
                layout.axes[0].stride = -1;
            }
            let load =
                |&v: &ValueId| Term::Load { source: Source::Value(v), dtype: spec.dtype, layout: layout.clone() };
            let mut terms: Vec<Term> = reads.iter().map(load).collect();
            let args = vec![0, reads.len() - 1];
            terms.push(Term::Apply { func: Func::Add, dtype: spec.dtype, out: spec.dtype, args });
            let program = Program { results: vec![terms.len() - 1], terms };
            let action = Action::Map(MapStep { dims: vec![64], program, outs: vec![out] });
            Step { action, live: None, label: format!("step {out}"), at: std::panic::Location::caller() }
        };
        Plan {
            inputs: vec![spec.clone()],
            n_scalars: 0,
            values,
            // The last step reads both a and b.
            steps: vec![step(&[0], 1), step(&[1], 2), step(&[1, 2], 3)],
            outputs: vec![spec.clone()],
            donated: vec![None],
            arenas: vec![512],
            copies: 0,
        }
    }

    #[test]
    fn null_overlapping_lives_are_refused() {
        check_plan(&chain(0, 256, false)).unwrap();
        check_plan(&chain(0, 256, true)).unwrap();
        // b overwrites a, which the last step reads.
        assert!(check_plan(&chain(0, 0, false)).unwrap_err().to_string().contains("overwritten"));
        assert!(check_plan(&chain(0, 128, false)).unwrap_err().to_string().contains("where it reads"));
        // In place, but read backwards.
        assert!(check_plan(&chain(0, 0, true)).unwrap_err().to_string().contains("where it reads"));
        // Outside the arena.
        assert!(check_plan(&chain(0, 260, false)).unwrap_err().to_string().contains("outside"));
    }

    #[test]
    fn null_unwritten_memory_is_refused() {
        let mut plan = chain(0, 256, false);
        plan.steps.remove(0);
        assert!(check_plan(&plan).unwrap_err().to_string().contains("nothing wrote"));
        let mut plan = chain(0, 256, false);
        plan.steps.pop();
        assert!(check_plan(&plan).unwrap_err().to_string().contains("not written"));
    }
}
