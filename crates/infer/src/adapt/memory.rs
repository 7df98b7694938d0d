//! A bank of inputs seen before, from which a method learns in place of the batch at hand: what stays in it is chosen so
//! that classes are balanced although labels come in runs.
//!
//! Inputs enter one by one, each insertion seeing the bank that the one before left. The scan is unrolled into the graph,
//! so a batch of n inputs records about 40·n small nodes: meant for batches of up to a few hundred.

use acclimate_kernels::random::{Key, uniform};
use acclimate_kernels::{TensorOps, concat, stack};
use acclimate_tensor::{DType, Tensor};
use acclimate_train::loss;
use serde::Serialize;

use super::state::Carried;
use crate::error::Error;

/// Which inputs stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// Category-balanced sampling with timeliness and uncertainty (Yuan, Xie, Li 2023, RoTTA): a class holds at most
    /// size/C; what is oldest and least sure goes first, and only for something that scores lower.
    Timely,
    /// Prediction-balanced reservoir sampling (Gong et al. 2022, NOTE): in a full bank a random input of the largest class
    /// makes room for other classes; within it, one is replaced with probability (held of the class)/(seen of the class).
    Reservoir,
}

/// A bank.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// How many inputs it holds.
    pub size: usize,
    /// Which stay.
    pub policy: Policy,
}

/// The images, f32 [size, c, h, w]; their class, entropy, age and whether the place is filled, f32 [4, size]; how many
/// inputs of each class were seen, f32 `[c]`.
pub(super) const BANK: [&str; 3] = ["bank_images", "bank_facts", "bank_seen"];

/// The facts of a bank while inputs enter, each f32 `[size]`; `filled` bool. Filled places are always the first ones.
struct Bank {
    class: Tensor,
    entropy: Tensor,
    age: Tensor,
    filled: Tensor,
    /// Where the image of each place comes from: its number among the old images and the new rows.
    from: Tensor,
    /// Inputs seen of each class: `[c]`.
    seen: Tensor,
}

/// What a bank shows to a step.
pub(super) struct Shown {
    /// Its images; free places show filled ones again, so that statistics are of filled ones alone.
    pub rows: Tensor,
    /// Which places are filled: bool `[size]`.
    pub filled: Tensor,
    /// e^(−age/size)/(1 + e^(−age/size)): f32 `[size]`.
    pub timeliness: Tensor,
}

fn count(marks: &Tensor) -> Result<Tensor, Error> {
    Ok(marks.cast(DType::F32)?.sum_keep(&[0])?)
}

impl Memory {
    /// An empty bank.
    pub(super) fn empty(&self, state: Carried, image: [usize; 3], classes: usize) -> Result<Carried, Error> {
        let device = state.delta().device().clone();
        let zeros = |dims: &[usize]| Tensor::from_slice(&device, &vec![0f32; dims.iter().product()], dims);
        let [c, h, w] = image;
        let images = zeros(&[self.size, c, h, w])?;
        let facts = zeros(&[4, self.size])?;
        Ok(state.remember(BANK[0], images).remember(BANK[1], facts).remember(BANK[2], zeros(&[classes])?))
    }

    /// The state with rows [n, c, h, w] offered one by one, by what logits [n, classes] say of them.
    pub(super) fn insert(&self, state: Carried, rows: &Tensor, logits: &Tensor, key: &Key) -> Result<Carried, Error> {
        let [n, classes] = [logits.dims()[0], logits.dims()[1]];
        let (device, size) = (rows.device(), self.size);
        let part = |i: usize| state.memory(BANK[1])?.narrow(0, i, 1)?.reshape(&[size]).map_err(Error::from);
        let filled = part(3)?;
        let mut bank = Bank {
            class: part(0)?,
            entropy: part(1)?,
            age: part(2)?,
            filled: filled.gt(&filled.zeros_like()?)?,
            from: Tensor::iota(device, &[size], 0)?,
            seen: state.memory(BANK[2])?.clone(),
        };
        let class = logits.argmax(1)?.cast(DType::F32)?;
        let entropy = loss::entropy(logits)?;
        let draws = uniform(key, &[n, 2])?;
        for i in 0..n {
            let number =
                u32::try_from(size + i).map_err(|_| Error::size("bank", "fewer than 2^32 inputs", size + i))?;
            let new = New {
                class: class.narrow(0, i, 1)?,
                entropy: entropy.narrow(0, i, 1)?,
                number: Tensor::full_u32(device, &[1], number)?,
                draws: draws.narrow(0, i, 1)?.reshape(&[2])?,
            };
            bank = self.offer(bank, &new, classes)?;
        }
        let width: usize = rows.dims()[1..].iter().product();
        let old = state.memory(BANK[0])?;
        let table = concat(&[&old.reshape(&[size, width])?, &rows.reshape(&[n, width])?], 0)?;
        let images = table.take(&bank.from)?.reshape(old.dims())?;
        let filled = bank.filled.cast(DType::F32)?;
        let facts = stack(&[&bank.class, &bank.entropy, &bank.age, &filled], 0)?;
        Ok(state.remember(BANK[0], images).remember(BANK[1], facts).remember(BANK[2], bank.seen))
    }

    /// One input comes: a place for it, if there is one, and everything ages.
    fn offer(&self, bank: Bank, new: &New, classes: usize) -> Result<Bank, Error> {
        let size = self.size as f32;
        let mine = bank.filled.and(&bank.class.eq(&new.class)?)?;
        let (held, total) = (count(&mine)?, count(&bank.filled)?);
        let places = Tensor::iota(bank.class.device(), &[self.size], 0)?.cast(DType::F32)?;
        let first_free = places.eq(&total)?;
        let has_room = total.lt(&total.full_like(size)?)?;
        // How many are held of the class of each place.
        let n = self.size;
        let same = bank.class.reshape(&[n, 1])?.eq(&bank.class.reshape(&[1, n])?)?;
        let occupancy = same.and(&bank.filled.reshape(&[1, n])?)?.cast(DType::F32)?.sum(&[1])?;
        let occupancy = bank.filled.select(&occupancy, &occupancy.zeros_like()?)?;
        let most = occupancy.max_keep(&[0])?;
        let majority = bank.filled.and(&occupancy.eq(&most)?)?;
        let seen_now = {
            let column = Tensor::iota(bank.class.device(), &[classes], 0)?.cast(DType::F32)?;
            bank.seen.add(&column.eq(&new.class)?.cast(DType::F32)?)?
        };
        let target = match self.policy {
            Policy::Timely => {
                let room_of_class = held.lt(&held.full_like(size / classes as f32)?)?;
                let candidates = room_of_class.select_marks(&majority, &mine)?;
                let score =
                    timeliness_score(&bank.age, size)?.add(&bank.entropy.mul_scalar(1.0 / (classes as f32).ln())?)?;
                let own = new.entropy.mul_scalar(1.0 / (classes as f32).ln())?.add_scalar(0.5)?;
                let offered = candidates.select(&score, &score.full_like(f32::MIN)?)?;
                let worst = offered.max_keep(&[0])?;
                let at_worst = candidates.and(&offered.eq(&worst)?)?;
                // Equal scores: the older one goes. Ages differ, as everything ages at every input.
                let ages = at_worst.select(&bank.age, &bank.age.full_like(-1.0)?)?;
                let victim = at_worst.and(&ages.eq(&ages.max_keep(&[0])?)?)?;
                let free = room_of_class.and(&has_room)?;
                free.select_marks(&first_free, &victim.and(&worst.gt(&own)?)?)?
            }
            Policy::Reservoir => {
                let in_majority = held.eq(&most)?;
                let candidates = in_majority.select_marks(&mine, &majority)?;
                let victim = nth(&candidates, &new.draws.narrow(0, 0, 1)?)?;
                let column = Tensor::iota(bank.class.device(), &[classes], 0)?.cast(DType::F32)?;
                let hit = column.eq(&new.class)?;
                let seen = hit.select(&seen_now, &seen_now.zeros_like()?)?.sum_keep(&[0])?;
                let lucky = new.draws.narrow(0, 1, 1)?.lt(&held.div(&seen)?)?;
                let enters = in_majority.not()?.or(&lucky)?;
                has_room.select_marks(&first_free, &victim.and(&enters)?)?
            }
        };
        let filled = bank.filled.or(&target)?;
        let zero = bank.age.zeros_like()?;
        let age = target.select(&zero, &bank.age)?;
        Ok(Bank {
            class: target.select(&new.class, &bank.class)?,
            entropy: target.select(&new.entropy, &bank.entropy)?,
            age: filled.select(&age.add_scalar(1.0)?, &zero)?,
            from: target.select(&new.number, &bank.from)?,
            filled,
            seen: seen_now,
        })
    }

    /// What the bank shows.
    pub(super) fn shown(&self, state: &Carried) -> Result<Shown, Error> {
        let images = state.memory(BANK[0])?;
        let part = |i: usize| state.memory(BANK[1])?.narrow(0, i, 1)?.reshape(&[self.size]).map_err(Error::from);
        let filled = part(3)?;
        let filled = filled.gt(&filled.zeros_like()?)?;
        // Place i shows i mod (number filled): a whole number below 2^24, so exact.
        let places = Tensor::iota(images.device(), &[self.size], 0)?.cast(DType::F32)?;
        let total = count(&filled)?;
        let total = total.maximum(&total.ones_like()?)?;
        let rest = places.sub(&places.div(&total)?.floor()?.mul(&total)?)?;
        let width: usize = images.dims()[1..].iter().product();
        let rows = images.reshape(&[self.size, width])?.take(&rest.cast(DType::U32)?)?.reshape(images.dims())?;
        let decayed = part(2)?.mul_scalar(-1.0 / self.size as f32)?.exp()?;
        let timeliness = decayed.div(&decayed.add_scalar(1.0)?)?;
        Ok(Shown { rows, filled, timeliness })
    }
}

/// An input on its way in.
struct New {
    class: Tensor,
    entropy: Tensor,
    number: Tensor,
    draws: Tensor,
}

/// 1/(1 + e^(−age/size)).
fn timeliness_score(age: &Tensor, size: f32) -> Result<Tensor, Error> {
    Ok(age.mul_scalar(1.0 / size)?.sigmoid()?)
}

/// Of the marked places, the one that a draw in [0, 1) hits, all alike.
fn nth(marks: &Tensor, draw: &Tensor) -> Result<Tensor, Error> {
    let rank = marks.cast(DType::F32)?.cumsum(0)?;
    let wanted = draw.mul(&count(marks)?)?.floor()?.add_scalar(1.0)?;
    Ok(marks.and(&rank.eq(&wanted)?)?)
}

/// A choice between marks by one mark.
trait SelectMarks {
    /// `yes` where this (bool `[1]`) is true, else `no`; both bool.
    fn select_marks(&self, yes: &Tensor, no: &Tensor) -> Result<Tensor, Error>;
}

impl SelectMarks for Tensor {
    fn select_marks(&self, yes: &Tensor, no: &Tensor) -> Result<Tensor, Error> {
        Ok(self.and(yes)?.or(&self.not()?.and(no)?)?)
    }
}
