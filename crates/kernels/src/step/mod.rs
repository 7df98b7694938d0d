//! Step rules of optimizers as ops: one dispatch moves all parameters, in place.
//!
//! A rule is a configuration ([`SgdConfig`], [`AdamConfig`], ..). [`apply`] records one step of it; `sgd`, `adam`, ..
//! are the same by name. Hyper-parameters are f64, because differences such as 1 − β₂ are taken in f64 and rounded once:
//! 1 − 0.999 in f32 is off by 1e-5. What changes from step to step (rate, step number) is a tensor.
//!
//! Shapes: `theta`, `grad` and each state tensor are equal, usually flat `[n]`. `rate` and `step` are `[1]`, or `[s]` where
//! s divides n: element i then uses rate and step number ⌊i / (n/s)⌋, so that s slots flattened into [s·n] each have
//! their own. `step` counts from 1.

pub(crate) mod adagrad;
pub(crate) mod adam;
pub(crate) mod lion;
pub(crate) mod rmsprop;
pub(crate) mod sgd;

use std::fmt::Debug;
use std::hash::Hash;

use acclimate_shaders::Shader;
use acclimate_tensor::engine::cpu::simd::{Wide, wide};
use acclimate_tensor::expr::Func;
use acclimate_tensor::op::{BatchCx, Batched, Bind, Call, GradCx, In, Launch, Launches, Out, require_all};
use acclimate_tensor::{Caps, DType, Error, Kernel, Real, Result, Spec, Tensor, grad_with, record};

pub use adagrad::{AdagradConfig, adagrad};
pub use adam::{AdamConfig, adam};
pub use lion::{LionConfig, lion};
pub use rmsprop::{RmsPropConfig, rmsprop};
pub use sgd::{SgdConfig, sgd};

/// Elements that one thread moves at a time.
const PART: usize = 8192;
/// Tensors that a rule may remember.
const MAX_STATES: usize = 3;

/// A stretch of parameters that share a rate.
#[derive(Debug)]
pub struct Part<'a, R> {
    /// Parameters, moved in place.
    pub theta: &'a mut [R],
    /// Their gradient.
    pub grad: &'a [R],
    /// What the rule remembers, in the order of [`Rule::states`].
    pub states: [Option<&'a mut [R]>; MAX_STATES],
    /// The learning rate.
    pub rate: R,
    /// The number of this step, from 1.
    pub step: R,
}

/// The same as tensors that broadcast against each other, for the gradient of a step.
#[derive(Clone, Debug)]
pub struct Now {
    /// Parameters.
    pub theta: Tensor,
    /// Their gradient.
    pub grad: Tensor,
    /// What the rule remembers.
    pub states: Vec<Tensor>,
    /// The learning rate.
    pub rate: Tensor,
    /// The number of this step, from 1.
    pub step: Tensor,
}

/// A step rule. Equal rules have equal bits.
pub trait Rule: Debug + Clone + PartialEq + Eq + Hash + Send + Sync + 'static {
    /// The rule's name: that of the literature.
    const NAME: &'static str;

    /// Names of the tensors that the rule remembers from step to step.
    fn states(&self) -> Vec<&'static str>;

    /// Their value before the first step.
    fn initial(&self) -> f32 {
        0.0
    }

    /// Fails for a hyper-parameter outside its range.
    fn validate(&self) -> Result<()>;

    /// Moves one stretch.
    fn advance<R: Real>(&self, part: Part<'_, R>);

    /// The same as graph: parameters, then states. Shapes broadcast to that of `theta`.
    fn graph(&self, now: &Now) -> Result<(Tensor, Vec<Tensor>)>;

    /// The shader, and for each array it binds after the parameters the state that it is; `None` is not touched.
    fn shader(&self) -> (&'static Shader, Vec<Option<usize>>);

    /// Adds the shader's parameters after n and per_rate.
    fn params(&self, launch: Launch) -> Launch;
}

/// States for the first step: one tensor like `theta` for each of [`Rule::states`].
pub fn init<R: Rule>(rule: &R, theta: &Tensor) -> Result<Vec<Tensor>> {
    rule.states().iter().map(|_| theta.full_like(rule.initial())).collect()
}

/// One step of any rule: the parameters and states after it. What is moved in and held by nobody else is updated in
/// place. Fails if a hyper-parameter is out of range, shapes differ, or rate and step do not divide the parameters.
#[track_caller]
pub fn apply<R: Rule>(
    rule: &R,
    theta: &Tensor,
    grad: &Tensor,
    states: &[Tensor],
    rate: &Tensor,
    step: &Tensor,
) -> Result<(Tensor, Vec<Tensor>)> {
    rule.validate()?;
    // Rate and step of one count: a single one stands for all.
    let slots = rate.numel().max(step.numel());
    let each =
        |t: &Tensor| if t.numel() == slots { t.reshape(&[slots]) } else { t.reshape(&[t.numel()])?.expand(&[slots]) };
    let (rate, step) = (each(rate)?, each(step)?);
    let mut inputs = vec![theta];
    inputs.extend(states);
    inputs.extend([grad, &rate, &step]);
    let mut outputs = record(Step(rule.clone()), &inputs)?.into_iter();
    let theta = outputs.next().ok_or_else(|| Error::internal(R::NAME, "no output"))?;
    Ok((theta, outputs.collect()))
}

/// One step of a rule. Inputs: theta, states, grad, rate, step; outputs: theta and states, in place.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Step<R>(pub R);

/// Parameters and states, each its own output.
const PAIRS: [(usize, usize); MAX_STATES + 1] = [(0, 0), (1, 1), (2, 2), (3, 3)];

impl<T: Rule> Kernel for Step<T> {
    const NAME: &'static str = T::NAME;

    fn shape(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let n_states = self.0.states().len();
        if inputs.len() != n_states + 4 {
            let expected = format!("{n_states} state tensors ({})", self.0.states().join(", "));
            return Err(Error::shape(T::NAME, expected, inputs.len().saturating_sub(4).to_string()));
        }
        require_all(T::NAME, inputs, DType::F32)?;
        let (theta, rate, step) = (&inputs[0], &inputs[n_states + 2], &inputs[n_states + 3]);
        if let Some(other) = inputs[1..n_states + 2].iter().find(|s| s.shape != theta.shape) {
            let expected = format!("gradient and states of the parameters' shape {}", theta.shape);
            return Err(Error::shape(T::NAME, expected, format!("shape {}", other.shape)));
        }
        let slots = rate.numel();
        if rate.shape.rank() != 1 || rate.shape != step.shape || slots == 0 || theta.numel() % slots != 0 {
            let expected =
                format!("rate and step of one shape [s] whose size divides the {} parameters", theta.numel());
            return Err(Error::shape(T::NAME, expected, format!("rate {} and step {}", rate.shape, step.shape)));
        }
        Ok(inputs[..=n_states].to_vec())
    }

    fn reference<R: Real>(&self, call: &mut Call<'_, R>) {
        each_part(
            call,
            |part| self.0.advance(part),
            |a, b| {
                a();
                b();
            },
        );
    }

    // Elements do not depend on each other, so neither does the answer on the number of threads.
    fn cpu(&self, call: &mut Call<'_, f32>) {
        struct Advance<'a, T>(&'a T, Part<'a, f32>);
        impl<T: Rule> Wide for Advance<'_, T> {
            type Output = ();
            #[inline(always)]
            fn run(self) {
                self.0.advance(self.1);
            }
        }
        each_part(
            call,
            |part| wide(Advance(&self.0, part)),
            |a, b| {
                rayon::join(a, b);
            },
        );
    }

    fn launch(&self, inputs: &[Spec], outputs: &[Spec], _: &Caps) -> Result<Launches> {
        let (n, first) = (inputs[0].numel(), outputs.len());
        let slots = inputs[first + 1].numel();
        let (shader, arrays) = self.0.shader();
        let mut binds = vec![Bind::In(first), Bind::In(first + 1), Bind::In(first + 2), Bind::Out(0)];
        let mut scratch = Vec::new();
        for array in arrays {
            binds.push(match array {
                Some(i) => Bind::Out(i + 1),
                None => {
                    scratch.push(4);
                    Bind::Scratch(scratch.len() - 1)
                }
            });
        }
        let launch = Launch::threads(shader, n).u32(n).u32((n / slots.max(1)).max(1));
        Ok(Launches { scratch, list: vec![self.0.params(launch).bind(&binds)] })
    }

    // The gradient of the same formula as graph.
    fn grad(&self, cx: &GradCx<'_>) -> Result<Vec<Option<Tensor>>> {
        let n_states = self.0.states().len();
        // Nodes of their own: an input that is given twice has two gradients.
        let own = |t: &Tensor| Tensor::map(Func::Identity, &[t]);
        let inputs = cx.inputs.iter().map(own).collect::<Result<Vec<_>>>()?;
        let slots = inputs[n_states + 2].numel();
        let per_slot = inputs[0].numel() / slots;
        let wide = |t: &Tensor| t.reshape(&[slots, per_slot]);
        let now = Now {
            theta: wide(&inputs[0])?,
            grad: wide(&inputs[n_states + 1])?,
            states: inputs[1..=n_states].iter().map(wide).collect::<Result<_>>()?,
            rate: inputs[n_states + 2].reshape(&[slots, 1])?,
            step: inputs[n_states + 3].reshape(&[slots, 1])?,
        };
        let (theta, states) = self.0.graph(&now)?;
        let mut pairs = Vec::new();
        for (y, dy) in std::iter::once(&theta).chain(&states).zip(cx.upstream) {
            if let Some(dy) = dy {
                pairs.push((y.clone(), wide(dy)?));
            }
        }
        Ok(grad_with(&pairs, inputs)?.into_iter().map(Some).collect())
    }

    // Slots are flattened; a rate of each slot becomes one of many.
    fn batch(&self, cx: &BatchCx<'_>) -> Result<Vec<Tensor>> {
        let first = self.0.states().len() + 2;
        let one = |i: usize| matches!(&cx.inputs[i], Batched::Shared(t) if t.numel() == 1);
        let shared_rate = one(first) && one(first + 1);
        let mut inputs = Vec::with_capacity(cx.inputs.len());
        for i in 0..cx.inputs.len() {
            inputs.push(match i >= first {
                true if shared_rate => cx.raw(i).clone(),
                true => cx.merged(i)?,
                false => cx.leading(i)?,
            });
        }
        record(self.clone(), &inputs.iter().collect::<Vec<_>>())
    }

    fn in_place(&self) -> &'static [(usize, usize)] {
        PAIRS.get(..=self.0.states().len()).unwrap_or(&PAIRS)
    }
}

/// Parameters with their rates.
struct Stretch<'a, R> {
    theta: &'a mut [R],
    grad: &'a [R],
    states: [Option<&'a mut [R]>; MAX_STATES],
    rate: &'a [R],
    step: &'a [R],
}

impl<'a, R: Real> Stretch<'a, R> {
    /// Before and from element `at` on; `rates` go to the first.
    fn split(self, at: usize, rates: std::ops::Range<usize>, rest: std::ops::Range<usize>) -> [Self; 2] {
        let (first, second) = self.theta.split_at_mut(at);
        let (grad, grad_rest) = self.grad.split_at(at);
        let mut after: [Option<&'a mut [R]>; MAX_STATES] = [const { None }; MAX_STATES];
        let mut before: [Option<&'a mut [R]>; MAX_STATES] = [const { None }; MAX_STATES];
        for (i, state) in self.states.into_iter().enumerate() {
            (before[i], after[i]) = state.map(|s| s.split_at_mut(at)).unzip();
        }
        let (rate, step) = (self.rate, self.step);
        [
            Stretch { theta: first, grad, states: before, rate: &rate[rates.clone()], step: &step[rates] },
            Stretch { theta: second, grad: grad_rest, states: after, rate: &rate[rest.clone()], step: &step[rest] },
        ]
    }

    /// Calls `f` for parts of one rate and at most [`PART`] elements.
    fn each(
        self,
        f: &(impl Fn(Part<'_, R>) + Sync),
        both: &(impl Fn(&mut (dyn FnMut() + Send), &mut (dyn FnMut() + Send)) + Sync),
    ) {
        let (n, slots) = (self.theta.len(), self.rate.len());
        let halves = if slots > 1 {
            let half = slots / 2;
            self.split(n / slots * half, 0..half, half..slots)
        } else if n > PART {
            self.split((n / 2).next_multiple_of(64), 0..1, 0..1)
        } else {
            let [(Some(&rate), Some(&step))] = [(self.rate.first(), self.step.first())] else { return };
            return f(Part { theta: self.theta, grad: self.grad, states: self.states, rate, step });
        };
        let [mut first, mut second] = halves.map(Some);
        let run = |half: &mut Option<Self>| half.take().into_iter().for_each(|half| half.each(f, both));
        if n <= 2 * PART {
            // Another thread would not have woken up in time.
            run(&mut first);
            return run(&mut second);
        }
        both(&mut || run(&mut first), &mut || run(&mut second));
    }
}

/// Calls `f` for stretches of one rate and at most [`PART`] elements; `both` runs two halves.
fn each_part<R: Real>(
    call: &mut Call<'_, R>,
    f: impl Fn(Part<'_, R>) + Sync,
    both: impl Fn(&mut (dyn FnMut() + Send), &mut (dyn FnMut() + Send)) + Sync,
) {
    let first = call.outs.len();
    let real = |i: usize| match call.ins.get(i) {
        Some(In::Real(x)) => *x,
        _ => &[],
    };
    let (grad, rate, step) = (real(first), real(first + 1), real(first + 2));
    let mut outs = call.outs.iter_mut().filter_map(|o| match o {
        Out::Real(x) => Some(&mut **x),
        _ => None,
    });
    let Some(theta) = outs.next() else { return };
    let states = std::array::from_fn(|_| outs.next());
    if theta.len() == grad.len() && rate.len() == step.len() {
        Stretch { theta, grad, states, rate, step }.each(&f, &both);
    }
}

/// Fails unless a hyper-parameter lies in a range.
fn require(op: &'static str, what: &'static str, range: &str, ok: bool, found: f64) -> Result<()> {
    if ok { Ok(()) } else { Err(Error::argument(op, what, range, found)) }
}

/// Equality and hash of a configuration by bits: plans are cached by them.
macro_rules! by_bits {
    ($t:ident { $($f:ident),* $(; $($b:ident),*)? }) => {
        impl PartialEq for $t {
            fn eq(&self, other: &Self) -> bool {
                true $(&& self.$f.to_bits() == other.$f.to_bits())* $($(&& self.$b == other.$b)*)?
            }
        }
        impl Eq for $t {}
        impl std::hash::Hash for $t {
            fn hash<H: std::hash::Hasher>(&self, hasher: &mut H) {
                $(self.$f.to_bits().hash(hasher);)*
                $($(self.$b.hash(hasher);)*)?
            }
        }
    };
}
use by_bits;

/// A case of a rule: parameters, gradient, states drawn between two bounds, and a rate; the step number is a constant.
#[cfg(feature = "testkit")]
fn case<R: Rule>(
    name: &str,
    rule: R,
    n: usize,
    slots: usize,
    step: f32,
    states: &[(f32, f32)],
) -> crate::testkit::Case {
    use crate::testkit::{Case, Input, Scale, Tolerance};
    let n_states = states.len();
    let mut inputs = vec![Input::normal(&[n]), Input::normal(&[n]), Input::uniform(&[slots], 0.01, 0.1)];
    inputs.extend(states.iter().map(|&(low, high)| Input::uniform(&[n], low, high)));
    let build = move |x: &[Tensor]| {
        let step = Tensor::full(x[0].device(), &[1], step)?;
        let (theta, states) = apply(&rule, &x[0], &x[1], &x[3..3 + n_states], &x[2], &step)?;
        Ok(std::iter::once(theta).chain(states).collect())
    };
    // A chain of a dozen operations of half an ulp each; WGSL grants quotients and roots 2.5, exponentials more.
    let tolerance = |depth| Tolerance { k: 1.0, depth, scale: Scale::Largest };
    let name = format!("{name}, {n} in {slots}");
    Case::new(name, inputs, build).tolerance(tolerance(16.0)).gpu_tolerance(tolerance(48.0))
}

/// Rows that every rule refuses. `rule` has `n` states.
#[cfg(feature = "testkit")]
macro_rules! common_rejects {
    ($rule:expr) => {{
        use crate::testkit::Reject;
        use acclimate_tensor::Tensor;
        vec![
            Reject::new("a gradient of another shape", &["[6]", "[5]"], |d| {
                let (x, one) = (Tensor::zeros(d, &[6])?, Tensor::ones(d, &[1])?);
                let states = crate::step::init(&$rule, &x)?;
                Ok(crate::step::apply(&$rule, &x, &Tensor::zeros(d, &[5])?, &states, &one, &one)?.0)
            }),
            Reject::new("rates that do not divide the parameters", &["6 parameters", "[4]"], |d| {
                let (x, rate) = (Tensor::zeros(d, &[6])?, Tensor::ones(d, &[4])?);
                let states = crate::step::init(&$rule, &x)?;
                Ok(crate::step::apply(&$rule, &x, &x, &states, &rate, &rate)?.0)
            }),
            Reject::new("a state too many", &["state tensors", "4"], |d| {
                let (x, one) = (Tensor::zeros(d, &[6])?, Tensor::ones(d, &[1])?);
                Ok(crate::step::apply(&$rule, &x, &x, &[x.clone(), x.clone(), x.clone(), x.clone()], &one, &one)?.0)
            }),
        ]
    }};
}
#[cfg(feature = "testkit")]
use common_rejects;
