//! The one driver. Everything it does for a window is one graph: see the window, forward, objective, gradient, step,
//! update filters, forward again, outcome check, select, and the facts of the receipt in the same read.

use std::sync::Arc;

use acclimate_kernels::concat;
use acclimate_kernels::random::Key;
use acclimate_tensor::transform::vmap::vmap_with;
use acclimate_tensor::{DType, Tensor};
use acclimate_train::optim::State;
use acclimate_train::{Layer, Params, Pass, Statistics};

use super::guard::{self, Chosen};
use super::objective::Evidence;
use super::state::Carried;
use super::step::{Draw, Resets};
use super::{
    Adaptation, Answer, Guard, Memory, Moves, Objective, Output, Prepare, Window, answer, memory, prototypes, reset,
    teacher,
};
use crate::error::Error;
use crate::overlay::Overlay;
use crate::sensor;
use crate::source::SourceStatistics;
use crate::views::Views;

/// Facts of a window, in this order, before the squared norms of the overlay's entries: the objective before and after;
/// whether all was finite, the objective fell, and the input unusual; its score; rows kept; whether the running loss was
/// too low and that loss; whether a reset was due.
pub(crate) const FACTS: usize = 10;

/// What one window gave.
pub(crate) struct Outcome {
    /// Answer's logits of each row, then the frozen model's, then the facts, then what filters said of each row: one flat
    /// vector, one read.
    pub report: Tensor,
    /// The state after the window.
    pub state: Carried,
    /// The image as the network saw it, if the sensor moves and the change was accepted; else as it came.
    pub image: Option<Tensor>,
}

/// The driver of a session.
pub(crate) struct Driver {
    pub model: Arc<dyn Layer>,
    pub params: Params,
    pub method: Adaptation,
    pub overlay: Overlay,
    pub source: Option<SourceStatistics>,
}

/// A forward pass over the rows of a window.
pub(super) struct Seen {
    pub logits: Tensor,
    /// Score of each row under the source statistics, if they are needed.
    pub score: Option<Tensor>,
    /// What the last linear layer saw.
    pub features: Option<Tensor>,
    /// New running statistics.
    pub running: Vec<(String, Tensor)>,
}

/// Which look at a window a forward pass is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// The first, which moves running statistics.
    First,
    /// Another.
    Again,
    /// The teacher's first, which moves running statistics of its own.
    TeacherFirst,
    /// Another of the teacher's.
    Teacher,
    /// Another, of the side head.
    SideHead,
}

/// What a window shows to every step.
pub(super) struct Sight {
    pub rows: Tensor,
    pub key: Key,
    /// Sizes of one image.
    pub image: [usize; 3],
    /// One more view of each row.
    pub viewed: Option<Tensor>,
    /// The rows with patches shuffled.
    pub shuffled: Option<Tensor>,
    /// The teacher's answers for the rows.
    pub teacher: Option<Tensor>,
    /// The teacher's answers for what is answered.
    pub answer: Option<Tensor>,
    /// Which rows of a bank are inputs, and how timely each is.
    pub bank: Option<(Tensor, Tensor)>,
}

impl Driver {
    /// Adapts to one window. x: [c, h, w], or [b, c, h, w] for a batch; key: the input's own.
    pub fn adapt(&self, x: &Tensor, key: &Key, state: Carried) -> Result<Outcome, Error> {
        let m = &self.method;
        let batch = !m.is_per_input();
        let inputs = if batch { x.clone() } else { x.unsqueeze(0)? };
        let frozen = self.forward(&self.params, &inputs, Statistics::Source)?;
        let prepared = self.prepared(x, batch)?;
        let (sight, mut now) = self.sight(&prepared, key, &state)?;
        // Steps. The first objective is that of Δ as it was.
        let mut first = None;
        let mut resets = Resets::default();
        for number in 0..m.steps {
            let stepped = self.step(number, &sight, &now)?;
            now = stepped.state;
            resets = stepped.resets;
            first.get_or_insert((stepped.objective, stepped.seen, stepped.chosen, stepped.kept));
        }
        // Where nobody looks at the objective after the step, no second forward pass is made.
        let checks = m.guards.contains(&Guard::LossMustFall);
        let second = match &first {
            Some(_) if matches!(m.answer, Answer::BeforeStep | Answer::Teacher) && !checks => None,
            _ => {
                let how = if first.is_some() { Look::Again } else { Look::First };
                let seen = self.look(&now, now.delta(), &sight.rows, how)?;
                if first.is_none() {
                    now = self.with_running(now, &seen);
                }
                let nothing = Chosen::all(&state);
                let chosen = first.as_ref().map_or(&nothing, |f| &f.2);
                let view = self.view(&now, now.delta(), &sight)?;
                let evidence = self.evidence(&seen, view.as_ref(), &sight, now.delta());
                Some((self.penalized(&evidence, chosen)?, seen))
            }
        };
        let (after, last) = match (&second, &first) {
            (Some((objective, seen)), _) => (objective, seen),
            (None, Some((objective, seen, ..))) => (objective, seen),
            (None, None) => return Err(Error::Empty { what: "the forward passes of this method" }),
        };
        let (before, earliest) = first.as_ref().map_or((after, last), |(objective, seen, ..)| (objective, seen));
        let answering = if m.answer == Answer::BeforeStep { earliest } else { last };
        let mut logits = match m.answer {
            Answer::BeforeStep if sight.bank.is_some() => {
                sight.answer.clone().ok_or(Error::Empty { what: "the answers of this batch" })?
            }
            Answer::BeforeStep => earliest.logits.clone(),
            Answer::AfterStep if batch => last.logits.clone(),
            Answer::AfterStep => last.logits.narrow(0, 0, 1)?,
            Answer::MeanOfViews => answer::mean_log_probability(&last.logits)?,
            Answer::Teacher => sight.answer.clone().ok_or(Error::Empty { what: "the teacher's answers" })?,
        };
        (now, logits) = self.put_out(now, logits, answering)?;
        let delta = now.delta().clone();
        let finite = all_finite(&[&logits, after, &delta])?;
        let kept = first.as_ref().and_then(|f| f.3.clone());
        let fell = match &kept {
            _ if !checks => finite.clone(),
            // Where nothing was kept there was no step that could be wrong.
            Some(kept) => after.lt(before)?.or(&kept.eq(&kept.zeros_like()?)?)?,
            None => after.lt(before)?,
        };
        // A gate asks for one score; only per-input windows have one.
        let (unusual, score) = match (m.gate(), frozen.score) {
            (Some(limit), Some(score)) if !batch => {
                let score = score.reshape(&[])?;
                (score.le(&score.full_like(limit)?)?.not()?, score)
            }
            _ => (finite.clone(), before.zeros_like()?),
        };
        let accept = finite.and(&fell)?.and(&unusual)?;
        let given = accept.broadcast_to(logits.shape())?.select(&logits, &frozen.logits)?;
        let state_after = now.or_old(&finite.and(&fell)?, &state)?;
        let flag = |t: &Tensor| t.cast(DType::F32)?.reshape(&[1]);
        let number = |t: &Tensor| t.reshape(&[1]);
        let none = number(&before.zeros_like()?)?;
        let kept = match &kept {
            Some(kept) => number(kept)?,
            None => none.full_like(sight.rows.dims()[0] as f32)?,
        };
        let (low, mean) = match &resets.low {
            Some((low, mean)) => (flag(low)?, mean.clone()),
            None => (none.clone(), none.clone()),
        };
        let due = resets.due.as_ref().map_or(Ok(none), flag)?;
        let flat = |t: &Tensor| t.reshape(&[t.numel()]);
        let mut parts = vec![
            flat(&given)?,
            flat(&frozen.logits)?,
            number(before)?,
            number(after)?,
            flag(&finite)?,
            flag(&fell)?,
            flag(&unusual)?,
            number(&score)?,
            kept,
            low,
            mean,
            due,
        ];
        if !self.overlay.is_empty() {
            parts.push(self.overlay.square_norms(&delta)?);
        }
        // What filters said, where the window's rows are the answers.
        let verdicts = first.as_ref().and_then(|f| f.2.verdicts.as_ref());
        if let Some(verdicts) = verdicts.filter(|_| m.judges_answers()) {
            parts.push(flat(verdicts)?);
        }
        let report = concat(&parts.iter().collect::<Vec<_>>(), 0)?;
        let image = match m.moves {
            Moves::Sensor => {
                let corrected = sensor::correct(&prepared, &delta)?;
                Some(accept.broadcast_to(x.shape())?.select(&corrected, x)?)
            }
            _ => None,
        };
        Ok(Outcome { report, state: state_after, image })
    }

    /// The rows of the window and what else steps look at; and the state with the window in its memory.
    fn sight(&self, prepared: &Tensor, key: &Key, state: &Carried) -> Result<(Sight, Carried), Error> {
        let m = &self.method;
        if let Window::Memory(memory, views) = m.window {
            return self.sight_of_bank(prepared, key, state, memory, views);
        }
        let rows = match &m.window {
            Window::Views(views) => views.of(prepared, key)?,
            Window::ThisInput => prepared.unsqueeze(0)?,
            Window::ThisBatch | Window::Memory(..) => prepared.clone(),
        };
        let mut sight = self.plain_sight(rows, key)?;
        sight.teacher = self.taught(&sight, state)?;
        sight.answer = sight.teacher.clone();
        Ok((sight, state.clone()))
    }

    /// Rows, and what is drawn from them.
    fn plain_sight(&self, rows: Tensor, key: &Key) -> Result<Sight, Error> {
        let m = &self.method;
        let &[_, c, h, w] = rows.dims() else {
            return Err(Error::size("images of a window", "[n, c, h, w]", rows.shape()));
        };
        let viewed = match &m.objective {
            Objective::LikelihoodRatio(Some(views)) => Some(last_view(&rows, *views, &Draw::View.key(key)?)?),
            Objective::QuarterTurns => Some(acclimate_train::nn::quarter_turns(&rows)?),
            _ => None,
        };
        let shuffled = match m.patches() {
            Some(patches) => Some(guard::shuffled(&rows, &Draw::Shuffle.key(key)?, patches)?),
            None => None,
        };
        let (key, image) = (key.clone(), [c, h, w]);
        Ok(Sight { rows, key, image, viewed, shuffled, teacher: None, answer: None, bank: None })
    }

    /// The batch is answered and enters the bank; the rows are views of what the bank then holds.
    fn sight_of_bank(
        &self,
        batch: &Tensor,
        key: &Key,
        state: &Carried,
        memory: Memory,
        views: Views,
    ) -> Result<(Sight, Carried), Error> {
        let teacher = match self.method.teacher {
            Some(_) => Some(state.memory(teacher::TEACHER)?),
            None => None,
        };
        let (delta, how) = teacher.map_or((state.delta(), Look::Again), |delta| (delta, Look::Teacher));
        let answer = self.look(state, delta, batch, how)?.logits.detach()?;
        let mut now = memory.insert(state.clone(), batch, &answer, &Draw::Bank.key(key)?)?;
        let shown = memory.shown(&now)?;
        let taught = match teacher {
            Some(delta) => {
                let seen = self.look(&now, delta, &shown.rows, Look::TeacherFirst)?;
                now = keep_running(now, &seen, TEACHER_BUFFER);
                Some(seen.logits.detach()?)
            }
            None => None,
        };
        let mut sight = self.plain_sight(last_view(&shown.rows, views, &Draw::View.key(key)?)?, key)?;
        sight.teacher = taught;
        sight.answer = Some(answer);
        sight.bank = Some((shown.filled, shown.timeliness));
        Ok((sight, now))
    }

    /// The teacher's answers for the window's rows.
    fn taught(&self, sight: &Sight, state: &Carried) -> Result<Option<Tensor>, Error> {
        let Some(teacher) = self.method.teacher else { return Ok(None) };
        let delta = state.memory(teacher::TEACHER)?;
        let plain = self.look(state, delta, &sight.rows, Look::Teacher)?.logits;
        let (views, source) = match teacher.views {
            Some(views) => {
                let views = views_of_rows(&sight.rows, views, &Draw::Teacher.key(&sight.key)?)?;
                // Each view of the batch is a batch of its own.
                let one = |rows: Tensor| Ok::<_, Error>(self.look(state, delta, &rows, Look::Teacher)?.logits);
                let source = self.forward(&self.params, &sight.rows, self.method.statistics)?.logits;
                (Some(vmap_with(one, views)?), source)
            }
            None => (None, plain.clone()),
        };
        Ok(Some(teacher.answer(&plain, views.as_ref(), &source)?.detach()?))
    }

    fn forward(&self, params: &Params, rows: &Tensor, statistics: Statistics) -> Result<Seen, Error> {
        let mut pass = Pass::infer().with_statistics(statistics);
        let score = self.source.as_ref().filter(|_| self.method.needs_source_statistics());
        if score.is_some() {
            pass = pass.with_taps();
        }
        let logits = self.model.apply(params, rows, &mut pass)?;
        let score = score.map(|s| s.score(&pass.take_taps())).transpose()?;
        let features = pass.take_features().map(|(_, x)| x);
        Ok(Seen { logits, score, features, running: pass.take_updates() })
    }

    /// What the side head says.
    fn forward_side(&self, params: &Params, rows: &Tensor, statistics: Statistics) -> Result<Seen, Error> {
        let mut pass = Pass::infer().with_statistics(statistics).with_side_head();
        let logits = self.model.apply(params, rows, &mut pass)?;
        if !pass.had_side_head() {
            return Err(Error::Method {
                method: self.method.name().to_owned(),
                what: "a model without a side head".into(),
                expected: "`train::nn::TwoHeads`, trained jointly with `turn_loss`".into(),
            });
        }
        Ok(Seen { logits, score: None, features: None, running: Vec::new() })
    }

    /// The forward pass under an overlay. Running statistics move at the first look at a window alone; later ones use them
    /// as they are.
    pub(super) fn look(&self, state: &Carried, delta: &Tensor, rows: &Tensor, how: Look) -> Result<Seen, Error> {
        let running = matches!(self.method.statistics, Statistics::Ema(_) | Statistics::Robust(_));
        let moves = matches!(how, Look::First | Look::TeacherFirst);
        let statistics = if running && !moves { Statistics::Source } else { self.method.statistics };
        let mut params = self.params.clone();
        if running {
            let prefix = if matches!(how, Look::Teacher | Look::TeacherFirst) { TEACHER_BUFFER } else { BUFFER };
            let buffers = state.memories().filter_map(|(name, t)| Some((name.strip_prefix(prefix)?, t)));
            params = params.with_overrides(buffers.map(|(path, t)| (path.to_owned(), t.clone())))?;
        }
        match self.method.moves {
            Moves::Nothing => self.forward(&params, rows, statistics),
            Moves::Sensor => {
                let dims = rows.dims().to_vec();
                // The rows of a window are views of one image and share its correction.
                let mut corrected = Vec::with_capacity(dims[0]);
                for i in 0..dims[0] {
                    corrected.push(sensor::correct(&rows.narrow(0, i, 1)?.squeeze(0)?, delta)?);
                }
                let rows = acclimate_kernels::stack(&corrected.iter().collect::<Vec<_>>(), 0)?;
                self.forward(&params, &rows, statistics)
            }
            _ => {
                let params = self.overlay.applied(&params, delta)?;
                match how {
                    Look::SideHead => self.forward_side(&params, rows, statistics),
                    _ => self.forward(&params, rows, statistics),
                }
            }
        }
    }

    /// The state with the running statistics that a look recorded.
    pub(super) fn with_running(&self, state: Carried, seen: &Seen) -> Carried {
        keep_running(state, seen, BUFFER)
    }

    /// The answer after the method's correction of outputs, and the state with what that remembers.
    fn put_out(&self, state: Carried, logits: Tensor, from: &Seen) -> Result<(Carried, Tensor), Error> {
        let features = || from.features.as_ref().ok_or(Error::Empty { what: "the linear layers of this model" });
        Ok(match &self.method.output {
            Output::AsIs => (state, logits),
            Output::Temperature(t) => (state, answer::tempered(&logits, *t)?),
            Output::PriorCorrected => (state, answer::prior_corrected(&logits)?),
            Output::Lame(lame) => (state, lame.of(&logits, features()?)?),
            Output::Prototypes(p) => p.answer(state, features()?, &logits)?,
        })
    }

    /// The image that adaptation starts from.
    fn prepared(&self, x: &Tensor, batch: bool) -> Result<Tensor, Error> {
        match self.method.prepare {
            Prepare::AsIs => Ok(x.clone()),
            Prepare::Stretch if batch => Ok(acclimate_tensor::vmap(|x: Tensor| sensor::stretch(&x), x.clone())?),
            Prepare::Stretch => Ok(sensor::stretch(x)?),
            Prepare::BestCandidate => {
                let all = sensor::candidates(x)?;
                let seen = self.forward(&self.params, &all, self.method.statistics)?;
                let nowhere = Tensor::zeros(x.device(), &[1])?;
                let evidence = Evidence {
                    logits: &seen.logits,
                    score: seen.score.as_ref(),
                    view: None,
                    teacher: None,
                    delta: &nowhere,
                };
                let best = acclimate_kernels::TensorOps::argmin(&self.method.objective.scores(&evidence)?, 0)?;
                let best = best.reshape(&[1])?;
                let mut chosen = x.clone();
                for i in 1..all.dims()[0] {
                    let hit = best.eq(&Tensor::full_u32(x.device(), &[1], u32::try_from(i).unwrap_or(0))?)?;
                    let candidate = all.narrow(0, i, 1)?.squeeze(0)?;
                    chosen = hit.reshape(&[1, 1, 1])?.broadcast_to(x.shape())?.select(&candidate, &chosen)?;
                }
                // The choice is made; no gradient flows through it.
                Ok(chosen.detach()?)
            }
        }
    }

    /// Δ scaled back into the trust region.
    pub(super) fn trusted(&self, delta: Tensor) -> Result<Tensor, Error> {
        let mut delta = delta;
        for guard in &self.method.guards {
            if let Guard::TrustRegion(radius) = guard {
                let norm = delta.square()?.sum_keep(&[])?.sqrt()?;
                let limit = norm.full_like(*radius)?;
                let scale = norm.gt(&limit)?.select(&limit.div(&norm)?, &norm.ones_like()?)?;
                delta = delta.mul(&scale)?;
            }
        }
        Ok(delta)
    }

    /// Fails unless a state could be this driver's: the overlay's length, the optimizer's names and the memories' names.
    pub fn check(&self, state: &Carried) -> Result<(), Error> {
        let len = self.overlay.len().max(1);
        let device = self.params.device();
        if state.iter().any(|(_, t)| !t.device().same(device)) {
            let expected = format!("this session's device, {device} (`Carried::to_device`)");
            return Err(Error::size("device of the adapted state", expected, state.delta().device()));
        }
        if state.delta().dims() != [len] {
            return Err(Error::size("adapted state `delta`", format!("[{len}]"), state.delta().shape()));
        }
        let names = |s: &State| s.iter().map(|(name, _)| name.to_owned()).collect::<Vec<_>>();
        let own = match &self.method.step {
            Some(optimizer) => names(&optimizer.init(state.delta())?),
            None => Vec::new(),
        };
        if names(state.optimizer()) != own {
            return Err(Error::size("adapted state's optimizer", format!("{own:?}"), format!("{:?}", state.names())));
        }
        let found: Vec<String> = state.memories().map(|(name, _)| name.to_owned()).collect();
        let expected = self.memory_names();
        if found != expected {
            return Err(Error::size("adapted state's memories", format!("{expected:?}"), format!("{found:?}")));
        }
        Ok(())
    }

    /// Names of what this method remembers, in order.
    fn memory_names(&self) -> Vec<String> {
        let m = &self.method;
        let running = matches!(m.statistics, Statistics::Ema(_) | Statistics::Robust(_));
        let parts: [(bool, &[&str]); 7] = [
            (m.guards.iter().any(|g| matches!(g, Guard::Unseen(_))), &guard::SEEN),
            (m.remembers_classes(), &[guard::CLASSES]),
            (matches!(m.output, Output::Prototypes(_)), &prototypes::SUPPORTS),
            (matches!(m.window, Window::Memory(..)), &memory::BANK),
            (m.guards.iter().any(|g| matches!(g, Guard::Recover(_))), &guard::LOSS),
            (matches!(m.reset, super::Reset::EveryUpdates(_)), &[reset::UPDATES]),
            (m.teacher.is_some(), &[teacher::TEACHER]),
        ];
        let named =
            parts.iter().filter(|(there, _)| *there).flat_map(|(_, names)| names.iter().map(|n| (*n).to_owned()));
        let prefixes = self.running_prefixes().iter().filter(|_| running);
        let buffers = prefixes.flat_map(|prefix| self.params.buffer_paths().map(move |path| format!("{prefix}{path}")));
        named.chain(buffers).collect()
    }

    /// Whose running statistics there are: the student's, and those of a teacher that learns from a bank.
    fn running_prefixes(&self) -> &'static [&'static str] {
        match (self.method.window, self.method.teacher) {
            (Window::Memory(..), Some(_)) => &[BUFFER, TEACHER_BUFFER],
            _ => &[BUFFER],
        }
    }

    /// The state before the first window of images of these sizes, with memory of its own.
    pub fn fresh(&self, [c, h, w]: [usize; 3]) -> Result<Carried, Error> {
        let (m, device) = (&self.method, self.params.device());
        let zeros = |n: usize| Tensor::from_slice(device, &vec![0f32; n], &[n]);
        let delta = zeros(self.overlay.len().max(1))?;
        let optimizer = match &m.step {
            Some(optimizer) => optimizer.init(&delta)?,
            None => State::new(),
        };
        let mut state = Carried::new(delta, optimizer);
        let seen = m.guards.iter().any(|g| matches!(g, Guard::Unseen(_)));
        let bank = if let Window::Memory(memory, _) = m.window { Some(memory) } else { None };
        if seen || bank.is_some() || m.remembers_classes() || matches!(m.output, Output::Prototypes(_)) {
            // Recorded for its shapes; nothing runs.
            let shapes = self.forward(&self.params, &Tensor::zeros(device, &[2, c, h, w])?, Statistics::Source)?;
            let classes = shapes.logits.dims()[1];
            if seen {
                state = state.remember(guard::SEEN[0], zeros(classes)?).remember(guard::SEEN[1], zeros(1)?);
            }
            if m.remembers_classes() {
                let even = vec![1.0 / classes as f32; classes];
                state = state.remember(guard::CLASSES, Tensor::from_slice(device, &even, &[classes])?);
            }
            if let Output::Prototypes(p) = &m.output {
                let [supports, entropies] = p.initial(&self.model, &self.params, [c, h, w])?;
                state = state.remember(prototypes::SUPPORTS[0], supports);
                state = state.remember(prototypes::SUPPORTS[1], entropies);
            }
            if let Some(memory) = bank {
                state = memory.empty(state, [c, h, w], classes)?;
            }
        }
        if m.guards.iter().any(|g| matches!(g, Guard::Recover(_))) {
            state = state.remember(guard::LOSS[0], zeros(1)?).remember(guard::LOSS[1], zeros(1)?);
        }
        if matches!(m.reset, super::Reset::EveryUpdates(_)) {
            state = state.remember(reset::UPDATES, zeros(1)?);
        }
        if m.teacher.is_some() {
            state = state.remember(teacher::TEACHER, zeros(self.overlay.len().max(1))?);
        }
        if matches!(m.statistics, Statistics::Ema(_) | Statistics::Robust(_)) {
            for prefix in self.running_prefixes() {
                for path in self.params.buffer_paths() {
                    let own = self.params.buffer(path)?.add_scalar(0.0)?;
                    state = state.remember(&format!("{prefix}{path}"), own);
                }
            }
        }
        Ok(state)
    }
}

/// Before the path of a running statistic among what is remembered.
const BUFFER: &str = "buffer/";
/// The same of the teacher's.
const TEACHER_BUFFER: &str = "teacher_buffer/";

fn keep_running(state: Carried, seen: &Seen, prefix: &str) -> Carried {
    seen.running.iter().fold(state, |state, (path, t)| state.remember(&format!("{prefix}{path}"), t.clone()))
}

/// All views of each row: [n, c, h, w] → [k, n, c, h, w].
fn views_of_rows(rows: &Tensor, views: Views, key: &Key) -> Result<Tensor, Error> {
    let keys = key.split_stacked(rows.dims()[0])?;
    let all = acclimate_tensor::vmap(
        |(x, key): (Tensor, Tensor)| views.of(&x, &Key::from_tensor(key)?),
        (rows.clone(), keys),
    )?;
    Ok(all.permute(&[1, 0, 2, 3, 4])?)
}

/// The last view of each row: [n, c, h, w] → the same.
fn last_view(rows: &Tensor, views: Views, key: &Key) -> Result<Tensor, Error> {
    let all = views_of_rows(rows, views, key)?;
    Ok(all.narrow(0, all.dims()[0] - 1, 1)?.squeeze(0)?)
}

/// Whether every element of every tensor is finite: a bool scalar.
fn all_finite(tensors: &[&Tensor]) -> Result<Tensor, Error> {
    let mut all: Option<Tensor> = None;
    for t in tensors {
        let bad = t.is_finite()?.not()?.cast(DType::F32)?.sum(&[])?;
        let ok = bad.eq(&bad.zeros_like()?)?;
        all = Some(match all {
            Some(a) => a.and(&ok)?,
            None => ok,
        });
    }
    all.ok_or(Error::Empty { what: "a list of tensors to check" })
}
