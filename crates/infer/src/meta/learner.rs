//! The meta-learner: a batch of tasks, each adapted with weights of its own, and the meta-step, are one graph and one
//! submission.

use std::collections::BTreeMap;
use std::sync::Arc;

use acclimate_kernels::{TensorOps, stack};
use acclimate_tensor::transform::vmap::vmap_with;
use acclimate_tensor::{Compiled, Tensor, compile, grad};
use acclimate_train::optim::{Flat, Optimizer, State, StepCx};
use acclimate_train::{Layer, Params, Pass};

use super::method::{Meta, Toward};
use super::tasks::Tasks;
use crate::adapt::inner::{Order, inner_step};
use crate::error::Error;

/// A loss of outputs and targets: a scalar.
type LossFn = dyn Fn(&Tensor, &Tensor) -> acclimate_train::Result<Tensor> + Send + Sync;

/// Starting point, learned rates, the outer optimizer's state for each.
#[derive(Clone)]
struct Now {
    params: Params,
    rates: Option<Tensor>,
    state: State,
    rates_state: Option<State>,
}

type Moving = (Params, Option<Tensor>, State, Option<State>);
type In = (Moving, Tasks, Tensor);
type Out = (Tensor, Moving);
type Judged = (Tensor, Tensor);

/// The adaptation inside a task.
struct Inner {
    model: Arc<dyn Layer>,
    loss: Box<LossFn>,
    meta: Meta,
}

impl Inner {
    fn answer(&self, params: &Params, x: &Tensor) -> Result<Tensor, Error> {
        Ok(self.model.apply(params, x, &mut Pass::infer().with_statistics(self.meta.statistics))?)
    }

    /// What moves, as one flat vector.
    fn moving(&self, params: &Params) -> Result<Tensor, Error> {
        Ok(match &self.meta.moves {
            None => params.arena().clone(),
            Some(paths) => params.subset(paths)?.arena().clone(),
        })
    }

    /// The parameters with what moves at `theta`.
    fn moved(&self, params: &Params, theta: &Tensor) -> Result<Params, Error> {
        Ok(match &self.meta.moves {
            None => params.with_arena(theta.clone())?,
            Some(paths) => params.overlaid(&params.subset(paths)?.with_arena(theta.clone())?)?,
        })
    }

    /// What moves before each of `steps` inner steps on one task, and after the last.
    fn path(
        &self,
        params: &Params,
        rates: Option<&Tensor>,
        (x, y): (&Tensor, &Tensor),
        steps: usize,
        order: Order,
    ) -> Result<Vec<Tensor>, Error> {
        let mut theta = self.moving(params)?;
        let mut state = self.meta.inner.init(&theta)?;
        let mut path = vec![theta.clone()];
        for step in 0..steps {
            let (x, y) = self.rows(x, y, step)?;
            let loss = (self.loss)(&self.answer(&self.moved(params, &theta)?, &x)?, &y)?;
            let rate = match rates {
                Some(rates) => rates.clone(),
                None => Tensor::full(x.device(), &[1], self.meta.inner.rate(step as u64))?,
            };
            (theta, state) = inner_step(&self.meta.inner, &loss, theta, state, &rate, order)?;
            path.push(theta.clone());
        }
        Ok(path)
    }

    /// The rows of an inner step.
    fn rows(&self, x: &Tensor, y: &Tensor, step: usize) -> Result<(Tensor, Tensor), Error> {
        let n = x.dims().first().copied().unwrap_or(0);
        match self.meta.minibatch {
            Some(rows) if rows < n => {
                let start = step % (n / rows) * rows;
                Ok((x.narrow(0, start, rows)?, y.narrow(0, start, rows)?))
            }
            _ => Ok((x.clone(), y.clone())),
        }
    }

    fn query_loss(&self, params: &Params, theta: &Tensor, task: &Tasks) -> Result<Tensor, Error> {
        let answer = self.answer(&self.moved(params, theta)?, &task.query)?;
        Ok((self.loss)(&answer, &task.query_target)?.reshape(&[])?)
    }

    /// Losses of each task after adaptation, and the meta-gradients of parameters and rates.
    fn meta_gradient(
        &self,
        params: &Params,
        rates: &Option<Tensor>,
        tasks: Tasks,
    ) -> Result<(Tensor, Tensor, Option<Tensor>), Error> {
        let order = match self.meta.toward {
            Toward::Query(order) => order,
            Toward::Adapted => Order::First,
        };
        let (losses, ends) = vmap_with(
            |task: Tasks| {
                let support = (&task.support, &task.support_target);
                let path = self.path(params, rates.as_ref(), support, self.meta.steps, order)?;
                let end = path.last().cloned().ok_or(Error::Empty { what: "the path of inner steps" })?;
                Ok::<_, Error>((self.query_loss(params, &end, &task)?, end))
            },
            tasks,
        )?;
        if self.meta.toward == Toward::Adapted {
            let start = self.moving(params)?;
            return Ok((losses, start.sub(&ends.mean(&[0])?)?, None));
        }
        let (params_grad, rates_grad) = grad(&losses.mean(&[])?, (params.without_buffers(), rates.clone()))?;
        Ok((losses, params_grad.flat().clone(), rates_grad))
    }
}

/// Learns a starting point from which few steps suffice.
///
/// ```
/// use std::sync::Arc;
/// use acclimate_infer::meta::{MetaLearner, Tasks, maml};
/// use acclimate_tensor::{Device, Tensor};
/// use acclimate_train::{Layer, loss, nn::Linear, optim};
///
/// // Four tasks, lines of other slopes: two points to adapt on, one to be judged by.
/// let device = Device::cpu();
/// let model = Arc::new(Linear::new("line", 1, 1));
/// let params = model.init(&device, 0)?;
/// let tensor = |v: &[f32], rows| Tensor::from_slice(&device, v, &[4, rows, 1]);
/// let tasks = || Ok::<_, acclimate_tensor::Error>(Tasks {
///     support: tensor(&[1.0, 2.0, 1.0, 2.0, 1.0, 2.0, 1.0, 2.0], 2)?,
///     support_target: tensor(&[1.0, 2.0, 2.0, 4.0, 3.0, 6.0, 4.0, 8.0], 2)?,
///     query: tensor(&[3.0; 4], 1)?,
///     query_target: tensor(&[3.0, 6.0, 9.0, 12.0], 1)?,
/// });
/// let mut learner = MetaLearner::new(model, params, loss::mse, maml(0.1, 1), optim::adam(0.1))?;
/// let first = learner.step(tasks()?)?;
/// for _ in 0..50 { learner.step(tasks()?)?; }
/// assert!(learner.step(tasks()?)? < 0.5 * first);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct MetaLearner {
    inner: Arc<Inner>,
    outer: Optimizer,
    step: Compiled<In, Out, Error>,
    judges: BTreeMap<usize, Compiled<(Params, Option<Tensor>, Tasks), Judged, Error>>,
    now: Now,
    n_steps: u64,
}

/// How adapted parameters answer the queries of tasks.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// Outputs after the last step, task by task, row by row.
    pub outputs: Vec<f32>,
    /// Mean query loss over the tasks: before the first step, after it, .., after the last.
    pub losses: Vec<f64>,
    /// The same for each task: `[task][step]`.
    pub each: Vec<Vec<f32>>,
}

impl MetaLearner {
    /// Over a model, its first parameters, a loss that is a mean over rows, a method, and the optimizer of the meta-step
    /// (for Reptile: [`acclimate_train::optim::sgd`] with ε as the rate).
    pub fn new(
        model: Arc<dyn Layer>,
        params: Params,
        loss: impl Fn(&Tensor, &Tensor) -> acclimate_train::Result<Tensor> + Send + Sync + 'static,
        meta: Meta,
        outer: Optimizer,
    ) -> Result<Self, Error> {
        meta.check()?;
        let inner = Arc::new(Inner { model, loss: Box::new(loss), meta });
        let moving = inner.moving(&params)?;
        let rates = match inner.meta.learned_rates {
            true => Some(moving.full_like(inner.meta.inner.rate(0))?),
            false => None,
        };
        let rates_state = rates.as_ref().map(|r| outer.init(r)).transpose()?;
        let now = Now { state: outer.init(&params)?, params, rates, rates_state };
        let (chain, task) = (outer.clone(), inner.clone());
        let step = compile(move |((params, rates, state, rates_state), tasks, rate): In| {
            let (losses, gradient, rates_gradient) = task.meta_gradient(&params, &rates, tasks)?;
            let cx = StepCx::new(&rate).with_loss(&losses.mean(&[])?);
            let (params, state) = chain.step(params, &gradient, state, &cx)?;
            let (rates, rates_state) = match (rates, rates_gradient, rates_state) {
                (Some(rates), Some(gradient), Some(state)) => {
                    let (rates, state) = chain.step(rates, &gradient, state, &cx)?;
                    (Some(rates), Some(state))
                }
                (rates, _, state) => (rates, state),
            };
            Ok::<_, Error>((losses, (params, rates, state, rates_state)))
        });
        Ok(MetaLearner { inner, outer, step, judges: BTreeMap::new(), now, n_steps: 0 })
    }

    /// One meta-step on a batch of tasks: one submission. The mean query loss after adaptation, before the meta-step.
    ///
    /// # Errors
    /// If tasks do not fit each other or the model, or the device fails; the starting point is then what it was.
    pub fn step(&mut self, tasks: Tasks) -> Result<f64, Error> {
        tasks.check()?;
        let rate = self.outer.rate_tensor(self.now.params.device(), self.n_steps)?;
        let Now { params, rates, state, rates_state } = self.now.clone();
        let ((_, (params, rates, state, rates_state)), losses) =
            self.step.call_read::<f32>(((params, rates, state, rates_state), tasks, rate))?;
        self.now = Now { params, rates, state, rates_state };
        self.n_steps += 1;
        Ok(losses.iter().map(|l| f64::from(*l)).sum::<f64>() / losses.len() as f64)
    }

    /// Adapts to each task with `steps` inner steps and answers its query; learns nothing. One submission.
    ///
    /// # Errors
    /// As [`MetaLearner::step`].
    pub fn judge(&mut self, tasks: Tasks, steps: usize) -> Result<Judgement, Error> {
        tasks.check()?;
        let n_tasks = tasks.len();
        let inner = self.inner.clone();
        let judge = self.judges.entry(steps).or_insert_with(|| {
            compile(move |(params, rates, tasks): (Params, Option<Tensor>, Tasks)| {
                vmap_with(
                    |task: Tasks| {
                        let support = (&task.support, &task.support_target);
                        let path = inner.path(&params, rates.as_ref(), support, steps, Order::First)?;
                        let end = path.last().ok_or(Error::Empty { what: "the path of inner steps" })?;
                        let output = inner.answer(&inner.moved(&params, end)?, &task.query)?;
                        let losses = path.iter().map(|theta| inner.query_loss(&params, theta, &task));
                        let losses = losses.collect::<Result<Vec<_>, _>>()?;
                        Ok::<_, Error>((output, stack(&losses.iter().collect::<Vec<_>>(), 0)?))
                    },
                    tasks,
                )
            })
        });
        let (params, rates) = (self.now.params.clone(), self.now.rates.clone());
        let ((_, losses), outputs) = judge.call_read::<f32>((params, rates, tasks))?;
        let each: Vec<Vec<f32>> = losses.to_vec::<f32>()?.chunks(steps + 1).map(<[f32]>::to_vec).collect();
        let mean = |step: usize| each.iter().map(|l| f64::from(l[step])).sum::<f64>() / n_tasks as f64;
        Ok(Judgement { outputs, losses: (0..=steps).map(mean).collect(), each })
    }

    /// The starting point adapted to one task, support [rows, ..], with `steps` inner steps: ordinary parameters, for
    /// anything that answers.
    pub fn adapted(&self, support: &Tensor, target: &Tensor, steps: usize) -> Result<Params, Error> {
        let rates = self.now.rates.as_ref();
        let path = self.inner.path(&self.now.params, rates, (support, target), steps, Order::First)?;
        let end = path.last().ok_or(Error::Empty { what: "the path of inner steps" })?;
        self.inner.moved(&self.now.params, end)
    }

    /// The gradient that a meta-step would follow, flat, without stepping; and the mean query loss. For checks.
    pub fn meta_gradient(&self, tasks: Tasks) -> Result<(Tensor, Tensor), Error> {
        tasks.check()?;
        let (losses, gradient, _) = self.inner.meta_gradient(&self.now.params, &self.now.rates, tasks)?;
        Ok((gradient, losses.mean(&[])?))
    }

    /// The starting point.
    pub fn params(&self) -> &Params {
        &self.now.params
    }

    /// The learned rates, one for each parameter that moves, if the method learns them.
    pub fn rates(&self) -> Option<&Tensor> {
        self.now.rates.as_ref()
    }

    /// The method.
    pub fn method(&self) -> &Meta {
        &self.inner.meta
    }
}
