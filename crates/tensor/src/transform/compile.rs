//! `compile`: a function traced and planned once per input specs, then replayed.

use std::collections::HashMap;
use std::panic::Location;
use std::sync::{Arc, Mutex, PoisonError};

use crate::device::{Counters, Device};
use crate::dtype::{DType, Element};
use crate::engine::{Buffer, Readback};
use crate::error::{Error, Result};
use crate::eval;
use crate::plan::cache::Executable;
use crate::plan::graph::{self, Walk};
use crate::reading::Reading;
use crate::shape::Spec;
use crate::tensor::Tensor;
use crate::transform::tree::Tree;

type TreeForm<T> = <T as Tree>::Form;

/// A trace: the graph over placeholders, and where its leaves come from.
struct Trace<O: Tree> {
    walk: Walk,
    key: Vec<u8>,
    /// For each leaf of the graph: an argument, or a captured tensor.
    sources: Vec<Source>,
    /// For each tensor of the result: an output of the plan, or an argument handed through.
    results: Vec<From>,
    specs: Vec<Spec>,
    form: TreeForm<O>,
    device: Device,
    /// Plans by which arguments are donated.
    plans: Mutex<HashMap<Vec<bool>, Arc<Executable>>>,
    /// Calls so far; the second is checked against a second trace in debug builds.
    calls: std::sync::atomic::AtomicU64,
}

enum Source {
    Argument(usize),
    Captured(Tensor),
}

enum From {
    Output(usize),
    Argument(usize),
    Captured(Tensor),
}

/// A compiled function: see [`compile`].
pub struct Compiled<A: Tree, O: Tree, E = Error> {
    f: Box<dyn Fn(A) -> std::result::Result<O, E> + Send + Sync>,
    traces: Mutex<HashMap<Vec<Spec>, Vec<(TreeForm<A>, Arc<Trace<O>>)>>>,
    at: &'static Location<'static>,
}

/// Compiles a function of tensors. It is traced at the first call for each set of input shapes and dtypes; after that
/// a call costs an upload, a replay and a read. What the function captures is an input of the plan too; host numbers
/// are baked in, so a number that changes from call to call must be an argument. Arguments that are moved in and held
/// nowhere else are updated in place.
///
/// Reading a value while tracing is an error. In debug builds the second call traces again and fails with the first
/// node that differs.
#[track_caller]
pub fn compile<A: Tree, O: Tree, E: std::convert::From<Error>>(
    f: impl Fn(A) -> std::result::Result<O, E> + Send + Sync + 'static,
) -> Compiled<A, O, E> {
    Compiled { f: Box::new(f), traces: Mutex::default(), at: Location::caller() }
}

impl<A: Tree, O: Tree, E: std::convert::From<Error>> Compiled<A, O, E> {
    /// Runs the function.
    pub fn call(&self, args: A) -> std::result::Result<O, E> {
        let mut inputs = Vec::new();
        let form = args.take_apart(&mut inputs);
        let trace = self.checked_trace(&form, &inputs)?;
        Ok(trace.run(inputs, false)?.0)
    }

    /// Runs the function and reads the elements of the first tensor of its result, in one submission.
    pub fn call_read<T: Element>(&self, args: A) -> std::result::Result<(O, Vec<T>), E> {
        let (result, reading) = self.call_begin(args)?;
        Ok((result, reading.wait()?))
    }

    /// As [`Compiled::call_read`], without blocking: the work is submitted at once, the elements can be waited for or
    /// awaited.
    pub fn call_begin<T: Element>(&self, args: A) -> std::result::Result<(O, Reading<T>), E> {
        let mut inputs = Vec::new();
        let form = args.take_apart(&mut inputs);
        let trace = self.checked_trace(&form, &inputs)?;
        Ok(trace.run_read(inputs)?)
    }

    /// Traces and plans for such arguments, as if they were moved in, without running: the first call is then as fast as
    /// the others.
    pub fn warm(&self, args: A) -> std::result::Result<(), E> {
        let mut inputs = Vec::new();
        let form = args.take_apart(&mut inputs);
        let trace = self.trace(&form, &inputs)?;
        let handed = trace.handed();
        let given = |s: &Source| matches!(s, Source::Argument(i) if !handed.contains(i));
        trace.executable(&trace.sources.iter().map(given).collect::<Vec<_>>())?;
        Ok(())
    }

    /// The trace; in debug builds the second call compares it with a second one.
    fn checked_trace(&self, form: &A::Form, inputs: &[Tensor]) -> std::result::Result<Arc<Trace<O>>, E> {
        let trace = self.trace(form, inputs)?;
        if cfg!(debug_assertions) && trace.calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 1 {
            self.check_retrace(form, inputs, &trace)?;
        }
        Ok(trace)
    }

    fn trace(&self, form: &A::Form, inputs: &[Tensor]) -> std::result::Result<Arc<Trace<O>>, E> {
        let specs: Vec<Spec> = inputs.iter().map(|t| t.spec().clone()).collect();
        let find = |traces: &HashMap<Vec<Spec>, Vec<(A::Form, Arc<Trace<O>>)>>| {
            let same =
                |t: &&(A::Form, Arc<Trace<O>>)| &t.0 == form && inputs.iter().all(|i| i.device().same(&t.1.device));
            traces.get(&specs).and_then(|list| list.iter().find(same).map(|t| t.1.clone()))
        };
        if let Some(trace) = find(&self.traces.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(trace);
        }
        let trace = Arc::new(self.trace_new(form, inputs)?);
        let mut traces = self.traces.lock().unwrap_or_else(PoisonError::into_inner);
        traces.entry(specs).or_default().push((form.clone(), trace.clone()));
        Ok(trace)
    }

    fn trace_new(&self, form: &A::Form, inputs: &[Tensor]) -> std::result::Result<Trace<O>, E> {
        let Some(device) = inputs.first().map(|t| t.device().clone()) else {
            return Err(Error::shape("compile", "at least one tensor as argument", "none").into());
        };
        let holes: Vec<Tensor> =
            inputs.iter().map(|t| Tensor::placeholder(t.spec().clone(), t.device(), self.at)).collect();
        let outputs = (self.f)(A::put_together(form, &mut holes.clone().into_iter())?)?;
        let mut results = Vec::new();
        let out_form = outputs.take_apart(&mut results);
        Ok(Trace::new(&results, &holes, out_form, device)?)
    }

    fn check_retrace(&self, form: &A::Form, inputs: &[Tensor], trace: &Trace<O>) -> std::result::Result<(), E> {
        let again = self.trace_new(form, inputs)?;
        let (a, b) = (&trace.walk.graph, &again.walk.graph);
        let difference = if again.key != trace.key {
            let first = a
                .nodes
                .iter()
                .zip(&b.nodes)
                .position(|(x, y)| x.name() != y.name() || x.inputs != y.inputs || x.specs != y.specs);
            let i = first.unwrap_or(a.nodes.len().min(b.nodes.len()));
            let name = |g: &crate::plan::graph::Graph| match g.nodes.get(i) {
                Some(n) => format!("{} {} recorded at {}", n.name(), n.specs[0], n.at),
                None => "nothing".to_owned(),
            };
            format!("node {i} was {} and is {}", name(a), name(b))
        } else if let Some(i) = trace.walk.scalars.iter().zip(&again.walk.scalars).position(|(x, y)| x != y) {
            let (x, y) = (f32::from_bits(trace.walk.scalars[i]), f32::from_bits(again.walk.scalars[i]));
            format!("host number {i} was {x} and is {y}")
        } else {
            return Ok(());
        };
        Err(Error::Retrace { difference }.into())
    }
}

impl<O: Tree> Trace<O> {
    fn new(results: &[Tensor], holes: &[Tensor], form: O::Form, device: Device) -> Result<Self> {
        let hole = |t: &Tensor| holes.iter().position(|h| h.is(t));
        let targets: Vec<&Tensor> = results.iter().filter(|t| !t.is_ready() && hole(t).is_none()).collect();
        let mut walk = graph::walk(&targets, true)?;
        let mut outputs = Vec::new();
        let mut from = Vec::with_capacity(results.len());
        for t in results {
            from.push(match (hole(t), walk.find(t)) {
                (Some(i), _) => From::Argument(i),
                (None, Some(r)) if !t.is_ready() => {
                    // The same result twice is two outputs: each has an owner of its own.
                    outputs.push(r);
                    From::Output(outputs.len() - 1)
                }
                _ => From::Captured(t.clone()),
            });
        }
        let sources = std::mem::take(&mut walk.leaves)
            .into_iter()
            .map(|l| match hole(&l) {
                Some(i) => Ok(Source::Argument(i)),
                None if l.is_ready() => Ok(Source::Captured(l)),
                None => Err(Error::Tracing { op: "compile" }),
            })
            .collect::<Result<Vec<_>>>()?;
        let specs = results.iter().map(|t| t.spec().clone()).collect();
        walk.seal(outputs, &[]);
        // The walk's handles to nodes are not needed any more.
        let key = walk.key.clone();
        walk.met.clear();
        Ok(Trace {
            walk,
            key,
            sources,
            results: from,
            specs,
            form,
            device,
            plans: Mutex::default(),
            calls: Default::default(),
        })
    }

    /// Arguments that are results as they are.
    fn handed(&self) -> Vec<usize> {
        self.results.iter().filter_map(|r| if let From::Argument(i) = r { Some(*i) } else { None }).collect()
    }

    fn executable(&self, donated: &[bool]) -> Result<Arc<Executable>> {
        if let Some(exe) = self.plans.lock().unwrap_or_else(PoisonError::into_inner).get(donated) {
            return Ok(exe.clone());
        }
        let mut key = self.key.clone();
        key.extend(donated.iter().map(|&d| u8::from(d)));
        let exe = self.device.0.plans.get(&self.device, &key, &self.walk.graph, donated)?;
        self.plans.lock().unwrap_or_else(PoisonError::into_inner).insert(donated.to_vec(), exe.clone());
        Ok(exe)
    }

    /// Runs, and begins to read the first tensor of the result.
    fn run_read<T: Element>(&self, inputs: Vec<Tensor>) -> Result<(O, Reading<T>)> {
        let spec =
            self.specs.first().ok_or_else(|| Error::shape("call_read", "a tensor in the result", "none"))?.clone();
        let stored = if spec.dtype == DType::Bool { DType::U32 } else { spec.dtype };
        if stored != T::DTYPE {
            return Err(Error::DType { op: "call_read", expected: spec.dtype.to_string(), found: T::DTYPE });
        }
        let (result, readback) = self.run(inputs, true)?;
        match readback {
            Some(readback) => Ok((result, Reading::new(readback, spec.numel()))),
            // The first tensor is an argument handed through, or captured: it is read by itself.
            None => {
                let mut leaves = Vec::new();
                let form = result.take_apart(&mut leaves);
                let reading = leaves[0].to_vec_async()?;
                Ok((O::put_together(&form, &mut leaves.into_iter())?, reading))
            }
        }
    }

    /// Runs; with `read`, the first tensor of the result is on its way to the host in the same submission.
    fn run(&self, inputs: Vec<Tensor>, read: bool) -> Result<(O, Option<Box<dyn Readback>>)> {
        let pending: Vec<&Tensor> = inputs.iter().filter(|t| !t.is_ready()).collect();
        if !pending.is_empty() {
            eval::realize(&pending)?;
        }
        // An argument is donated if this call is its only owner and it appears once.
        let handed = self.handed();
        let donated: Vec<bool> = self
            .sources
            .iter()
            .map(|s| match s {
                Source::Argument(i) => {
                    let t = &inputs[*i];
                    Arc::strong_count(&t.node) == 1 && eval::owns_buffer(t) && !handed.contains(i)
                }
                Source::Captured(_) => false,
            })
            .collect();
        let buffers: Vec<Buffer> = self
            .sources
            .iter()
            .map(|s| match s {
                Source::Argument(i) => inputs[*i].buffer(),
                Source::Captured(t) => t.buffer(),
            })
            .map(|b| b.ok_or(Error::Tracing { op: "call" }))
            .collect::<Result<_>>()?;
        let wanted = match self.results.first() {
            Some(From::Output(j)) if read => vec![(*j, self.specs[0].bytes())],
            _ => Vec::new(),
        };
        let mut readback = None;
        let outputs = if self.walk.graph.outputs.is_empty() {
            Vec::new()
        } else {
            let exe = self.executable(&donated)?;
            let (outputs, there) = eval::run(&self.device, &exe, buffers, &self.walk.scalars, &wanted)?;
            if !wanted.is_empty() {
                Counters::add(&self.device.0.counters.read_backs, 1);
                readback = Some(there);
            }
            outputs
        };
        let at = Location::caller();
        let mut results = self.results.iter().zip(&self.specs).map(|(r, spec)| match r {
            From::Output(j) => Tensor::ready(spec.clone(), &self.device, at, outputs[*j].clone()),
            From::Argument(i) => inputs[*i].clone(),
            From::Captured(t) => t.clone(),
        });
        Ok((O::put_together(&self.form, &mut results)?, readback))
    }
}
