//! What a window shows: the rows that steps learn from, what is drawn from them, the teacher's answers, the bank.

use acclimate_kernels::random::Key;
use acclimate_tensor::Tensor;
use acclimate_tensor::transform::vmap::vmap_with;

use acclimate_train::nn::Masked;

use super::driver::Driver;
use super::look::{Look, TEACHER_BUFFER, keep_running};
use super::state::Carried;
use super::step::Draw;
use super::{Memory, Objective, Window, guard, teacher};
use crate::error::Error;
use crate::views::Views;

/// What a window shows to every step.
pub(super) struct Sight {
    pub rows: Tensor,
    pub key: Key,
    /// Sizes of one image.
    pub image: [usize; 3],
    /// One more view of each row.
    pub viewed: Option<Tensor>,
    /// The rows with patches hidden.
    pub masked: Option<Masked>,
    /// The rows with patches shuffled.
    pub shuffled: Option<Tensor>,
    /// The teacher's answers for the rows.
    pub teacher: Option<Tensor>,
    /// The teacher's answers for what is answered.
    pub answer: Option<Tensor>,
    /// The source's answers for a batch.
    pub source: Option<Tensor>,
    /// Which rows of a bank are inputs, and how timely each is.
    pub bank: Option<(Tensor, Tensor)>,
}

impl Driver {
    /// The rows of the window and what else steps look at; and the state with the window in its memory.
    pub(super) fn sight(&self, prepared: &Tensor, key: &Key, state: &Carried) -> Result<(Sight, Carried), Error> {
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
        let masked = match &m.objective {
            Objective::MaskedPatches(masks) => Some(masks.of(&rows, &Draw::Mask.key(key)?)?),
            _ => None,
        };
        let shuffled = match m.patches() {
            Some(patches) => Some(guard::shuffled(&rows, &Draw::Shuffle.key(key)?, patches)?),
            None => None,
        };
        let (key, image) = (key.clone(), [c, h, w]);
        Ok(Sight { rows, key, image, viewed, masked, shuffled, teacher: None, answer: None, source: None, bank: None })
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
