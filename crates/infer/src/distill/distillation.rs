//! The value that is a distillation, and the loop it makes.

use std::sync::Arc;

use acclimate_kernels::random::Key;
use acclimate_kernels::{Conv2d, TensorOps};
use acclimate_tensor::{Device, Tensor};
use acclimate_train::fit::Fit;
use acclimate_train::layer::{Init, Start};
use acclimate_train::nn::Taught;
use acclimate_train::optim::Optimizer;
use acclimate_train::params::Kind;
use acclimate_train::{Error as TrainError, Layer, Params, Pass, Result as TrainResult, Statistics, loss};

use super::term::{Term, Weighted};
use crate::error::Error;

/// What the paths of regressors begin with.
const HINT: &str = "hint";

/// A batch: inputs [n, ..], labels (u32) `[n]`, and the teacher's logits [n, c] where they were recorded.
pub type Lesson = (Tensor, Tensor, Option<Tensor>);

/// Who teaches.
#[derive(Clone, Debug)]
pub enum Teacher {
    /// A trained network, with its source statistics, asked in every step.
    Network(Arc<dyn Layer>, Params),
    /// Its answers come with each batch: see [`super::record`].
    Recorded,
    /// The student itself, as the exponential mean of what it was (Tarvainen and Valpola 2017), with the statistics of the
    /// batch.
    Mean {
        /// What the teacher keeps of itself at each step. It follows the parameters before the step.
        keep: f32,
    },
}

/// A distillation: student, teacher, and the terms of the loss.
///
/// ```
/// # use std::sync::Arc;
/// # use acclimate_tensor::{Device, Tensor};
/// # use acclimate_train::{Layer, data::{Batches, Tail}, fit::Progress, loss::Labels, nn::Mlp, optim};
/// use acclimate_infer::distill::{Distill, Teacher, hinton};
///
/// # let device = Device::cpu();
/// # let (large, small) = (Arc::new(Mlp::new("", 2, &[16], 2)), Arc::new(Mlp::new("", 2, &[4], 2)));
/// # let trained = large.init(&device, 0)?;
/// let distill = Distill::new(small.clone(), Teacher::Network(large, trained), hinton(4.0, 0.9))?;
/// let params = distill.params(&small.init(&device, 7)?, &[2], 7)?;
/// let fit = distill.fit(optim::sgd(0.1)).epochs(2);
/// # let fit = fit.progress(Progress::Silent);
/// # let x: Vec<f32> = (0..32).map(|i| (i % 7) as f32).collect();
/// let trained = fit.run(fit.begin(&params)?, &Batches::new(16, 8, 7, Tail::Drop)?, |positions| {
///     # let rows: Vec<f32> = positions.iter().flat_map(|&i| x[2 * i..2 * i + 2].to_vec()).collect();
///     # let inputs = Tensor::from_slice(&device, &rows, &[positions.len(), 2])?;
///     # let labels = Labels::new(&device, &vec![0; positions.len()], 2)?;
///     Ok((inputs, labels.tensor().clone(), None))
/// })?;
/// let student = distill.student(&trained.params)?; // parameters of the small network, and nothing else
/// # assert_eq!(student.paths().count(), small.init(&device, 7)?.paths().count());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Distill {
    student: Arc<dyn Layer>,
    teacher: Teacher,
    terms: Vec<Weighted>,
    /// Both networks as one layer; None where the teacher's answers are recorded.
    taught: Option<Taught>,
}

impl Distill {
    /// Fails on a loss without terms, a weight or a temperature out of range, a teacher that no term asks, and a term that
    /// asks recorded answers for features.
    pub fn new(student: Arc<dyn Layer>, teacher: Teacher, terms: Vec<Weighted>) -> Result<Self, Error> {
        let wrong = |what: String, expected: &str| {
            Err(Error::Method { method: "distillation".into(), what, expected: expected.into() })
        };
        for Weighted { weight, term } in &terms {
            if !(weight.is_finite() && *weight >= 0.0) {
                return wrong(format!("a weight of {weight}"), "a number of at least 0");
            }
            if let Term::Logits { temperature } = term
                && !(temperature.is_finite() && *temperature > 0.0)
            {
                return wrong(format!("a temperature of {temperature}"), "a number above 0");
            }
            if matches!(teacher, Teacher::Recorded) && term.layers().is_some() {
                return wrong(format!("{term:?} with recorded answers"), "`Teacher::Network`, which has features");
            }
        }
        if !terms.iter().any(|t| t.weight > 0.0 && t.term.asks_teacher()) {
            return wrong("a loss that never asks the teacher".into(), "a term of weight above 0 that does");
        }
        if let Teacher::Mean { keep } = teacher
            && !(0.0..=1.0).contains(&keep)
        {
            return wrong(format!("a teacher that keeps {keep} of itself"), "a share in 0..=1");
        }
        let taught = match &teacher {
            Teacher::Network(network, like) => Some(Taught::new(student.clone(), network.clone(), like)),
            // Parameters of its own, for their layout.
            Teacher::Mean { .. } => {
                Some(Taught::new(student.clone(), student.clone(), &student.init(&Device::cpu(), 0)?))
            }
            Teacher::Recorded => None,
        };
        Ok(Distill { student, teacher, terms, taught })
    }

    /// The terms.
    pub fn terms(&self) -> &[Weighted] {
        &self.terms
    }

    /// What a training of the student starts from: its parameters as given, regressors of the hints drawn from `seed`, and
    /// the teacher among the buffers. `dims` are the sizes of one input, [c, h, w] for images. Fails where a hint or an
    /// attention map names no layer, or layers that do not fit.
    pub fn params(&self, student: &Params, dims: &[usize], seed: u64) -> Result<Params, Error> {
        let [mut main, buffers] = student.to_items()?;
        if let Some(((path, ..), _)) = main.iter().find(|((path, ..), _)| is_hints(path)) {
            return Err(Error::size(
                "paths of the student",
                format!("none at `{HINT}`, which is the regressors'"),
                path,
            ));
        }
        let device = student.device();
        let pairs = self.terms.iter().filter_map(|t| t.term.layers()).count();
        if pairs == 0 {
            return self.with_teacher(student);
        }
        // Recorded for its shapes; nothing runs.
        let shape: Vec<usize> = std::iter::once(2).chain(dims.iter().copied()).collect();
        let both = self.with_teacher(student)?;
        let seen = self.look(&both, &Tensor::zeros(device, &shape)?, Pass::infer())?;
        let mut init = Init::new(seed);
        let mut any = false;
        for (i, Weighted { term, .. }) in self.terms.iter().enumerate() {
            let Some([of, to]) = term.layers() else { continue };
            let [of, to] = [seen.student.output_of(of)?, seen.teacher.output_of(to)?];
            if let Term::Hint { .. } = term {
                let dims = regressor(&of, &to)?;
                let fan_in = dims.get(1).copied().unwrap_or(1);
                init.param(hint_path(i), &dims, Kind::Other, Start::fan_in(fan_in))?;
                any = true;
            } else {
                loss::attention_rows(&of, &to)?;
            }
        }
        if any {
            let [hints, _] = init.into_params(device)?.to_items()?;
            main.extend(hints);
        }
        let student = Params::from_items(device, &main, &buffers)?;
        match (&self.teacher, &self.taught) {
            // The regressors are no part of what it was.
            (Teacher::Mean { .. }, Some(taught)) => Ok(taught.params(&student, &self.student(&both)?)?),
            _ => self.with_teacher(&student),
        }
    }

    /// The student's own parameters out of those of a training.
    pub fn student(&self, params: &Params) -> Result<Params, Error> {
        let alone = match &self.taught {
            Some(taught) => taught.student(params)?,
            None => params.clone(),
        };
        let [main, buffers] = alone.to_items()?;
        let own: Vec<_> = main.into_iter().filter(|((path, ..), _)| !is_hints(path)).collect();
        Ok(Params::from_items(params.device(), &own, &buffers)?)
    }

    /// The loop that trains the student: a step lowers the weighted sum of the terms.
    pub fn fit(&self, optimizer: Optimizer) -> Fit<Lesson> {
        let distill = self.clone();
        Fit::new(optimizer, move |params: &Params, lesson: Lesson, key| distill.objective(params, lesson, key))
    }

    /// The loss of a batch, a scalar, and the parameters with updated buffers, for a loop of one's own.
    ///
    /// # Errors
    /// Where the batch does not fit the networks, and if the teacher's answers are missing, or come though nobody asked.
    pub fn objective(
        &self,
        params: &Params,
        (x, labels, recorded): Lesson,
        key: Tensor,
    ) -> TrainResult<(Tensor, Params)> {
        let mut seen = self.look(params, &x, Pass::train(Key::from_tensor(key)?))?;
        let answers = match (recorded, seen.answers.take()) {
            (Some(z), None) | (None, Some(z)) => z,
            (None, None) => return Err(TrainError::argument("lesson", "the teacher's recorded logits", "none")),
            (Some(_), Some(_)) => {
                return Err(TrainError::argument("lesson", "no recorded logits, as the teacher is asked", "some"));
            }
        };
        let mut total: Option<Tensor> = None;
        for (i, Weighted { weight, term }) in self.terms.iter().enumerate() {
            let pair = |[of, to]: [&str; 2]| -> TrainResult<[Tensor; 2]> {
                Ok([seen.student.output_of(of)?, seen.teacher.output_of(to)?])
            };
            let rows = match term {
                Term::Labels => loss::cross_entropy_rows(&seen.logits, &labels, 0.0)?,
                Term::Logits { temperature } => loss::soft_kl_rows(&seen.logits, &answers, *temperature)?,
                Term::Hint { student, teacher } => {
                    let [of, to] = pair([student, teacher])?;
                    loss::hint_rows(&regressed(&of, &params.get(&hint_path(i))?)?, &to)?
                }
                Term::Attention { student, teacher } => {
                    let [of, to] = pair([student, teacher])?;
                    loss::attention_rows(&of, &to)?
                }
            };
            let part = loss::mean(&rows)?.mul_scalar(*weight)?;
            total = Some(total.map_or(Ok(part.clone()), |sum| sum.add(&part))?);
        }
        let total = total.ok_or_else(|| TrainError::argument("distillation", "at least one term", "none"))?;
        let mut updates = seen.student.take_updates();
        if let (Teacher::Mean { keep }, Some(taught)) = (&self.teacher, &self.taught) {
            let followed = taught.follow(params, &updates, *keep)?;
            updates.extend(followed);
        }
        Ok((total, params.with_buffers(updates)?))
    }

    /// Both networks over one batch.
    fn look(&self, params: &Params, x: &Tensor, student: Pass) -> TrainResult<Looked> {
        let side = |i: usize| self.terms.iter().filter_map(move |t| t.term.layers().map(|pair| pair[i]));
        let mut student = student.with_outputs(side(0));
        let logits = self.student.apply(params, x, &mut student)?;
        let statistics =
            if matches!(self.teacher, Teacher::Mean { .. }) { Statistics::Batch } else { Statistics::Source };
        let mut teacher = Pass::infer().with_statistics(statistics).with_teacher().with_outputs(side(1));
        let answers = match &self.taught {
            Some(taught) => Some(taught.apply(params, x, &mut teacher)?),
            None => None,
        };
        Ok(Looked { logits, student, answers, teacher })
    }

    fn with_teacher(&self, student: &Params) -> Result<Params, Error> {
        Ok(match (&self.teacher, &self.taught) {
            (Teacher::Network(_, teacher), Some(taught)) => taught.params(student, teacher)?,
            (_, Some(taught)) => taught.params(student, student)?,
            (_, None) => student.clone(),
        })
    }
}

/// What both networks gave.
struct Looked {
    logits: Tensor,
    student: Pass,
    answers: Option<Tensor>,
    teacher: Pass,
}

fn is_hints(path: &str) -> bool {
    path.strip_prefix(HINT).is_some_and(|rest| rest.starts_with('.'))
}

fn hint_path(term: usize) -> String {
    format!("{HINT}.{term}.weight")
}

/// Sizes of the regressor from the student's features to the teacher's.
fn regressor(of: &Tensor, to: &Tensor) -> Result<Vec<usize>, Error> {
    match (of.dims(), to.dims()) {
        ([n, from, pixels @ ..], [m, into, others @ ..])
            if n == m && pixels == others && matches!(pixels.len(), 0 | 2) =>
        {
            Ok([*into, *from].into_iter().chain(pixels.iter().map(|_| 1)).collect())
        }
        _ => Err(Error::size(
            "features of a hint",
            format!("the student's shape {} but for axis 1, vectors or images", of.shape()),
            to.shape(),
        )),
    }
}

/// The student's features as the teacher would have them.
fn regressed(features: &Tensor, weight: &Tensor) -> TrainResult<Tensor> {
    Ok(match weight.rank() {
        2 => features.matmul_nt(weight)?,
        _ => features.conv2d(weight, &Conv2d::default())?,
    })
}
