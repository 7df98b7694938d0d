//! Which channels go: the least important ones until the rest costs no more than the budget.

use super::score::Scores;
use super::trace::Dependencies;
use crate::error::Error;

/// Where channels are taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Spread {
    /// The same share from each group.
    Even,
    /// Wherever the least score is lost for the work that is saved.
    ByScore,
}

/// How far to prune, and how.
#[derive(Clone, Debug)]
pub struct Budget {
    /// Share of the multiplications and additions that may stay, in (0, 1].
    pub flop: f64,
    /// Numbers of channels stay multiples of this, or the least, because kernels compute them so many at a time.
    pub multiple: usize,
    /// Channels that a group keeps at least; 0 lets whole layers go, which needs a residual sum around them.
    pub least: usize,
    /// Where from.
    pub spread: Spread,
    /// Groups that keep everything, by the name that [`Dependencies::name`] gives.
    pub spare: Vec<String>,
}

impl Budget {
    /// Down to this share of the work: multiples of 8, at least 8 a group, where the score says.
    pub fn flop(share: f64) -> Self {
        Budget { flop: share, multiple: 8, least: 8, spread: Spread::ByScore, spare: Vec::new() }
    }

    /// With another multiple, which is the least as well.
    #[must_use]
    pub fn multiple(self, multiple: usize) -> Self {
        Budget { multiple, least: multiple, ..self }
    }

    /// Groups keep at least so many channels.
    #[must_use]
    pub fn least(self, least: usize) -> Self {
        Budget { least, ..self }
    }

    /// Spread so.
    #[must_use]
    pub fn spread(self, spread: Spread) -> Self {
        Budget { spread, ..self }
    }

    /// Groups whose name begins with this keep everything.
    #[must_use]
    pub fn sparing(mut self, name: impl Into<String>) -> Self {
        self.spare.push(name.into());
        self
    }

    fn check(&self) -> Result<(), Error> {
        if !(self.flop > 0.0 && self.flop <= 1.0) {
            return Err(Error::prune("share of the work", "a number in (0, 1]", self.flop));
        }
        if self.multiple == 0 {
            return Err(Error::prune("multiple of channels", "at least 1", 0));
        }
        Ok(())
    }
}

/// Which channels stay, `[group][channel]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice(pub Vec<Vec<bool>>);

impl Choice {
    /// Whether a channel stays.
    pub fn stays(&self, group: usize, channel: usize) -> bool {
        self.0.get(group).and_then(|g| g.get(channel)).copied().unwrap_or(true)
    }

    /// How many channels of a group stay.
    pub fn count(&self, group: usize) -> usize {
        self.0.get(group).map_or(0, |g| g.iter().filter(|s| **s).count())
    }
}

impl Dependencies {
    /// The work of one input with a choice, by the formulas of convolutions and products.
    pub fn flop_of(&self, choice: &Choice) -> u64 {
        self.flop(|group, channel| choice.stays(group, channel))
    }

    /// Takes channels away, the least important first, until the budget is kept.
    ///
    /// # Errors
    /// For a budget that makes no sense or cannot be kept, and scores of other groups.
    pub fn choose(&self, scores: &Scores, budget: &Budget) -> Result<Choice, Error> {
        budget.check()?;
        let sizes: Vec<usize> = self.groups().iter().map(|g| g.channels.len()).collect();
        if scores.0.iter().map(Vec::len).ne(sizes.iter().copied()) {
            return Err(Error::prune("scores", format!("one for each channel of groups of {sizes:?}"), "others"));
        }
        if let Some(bad) = scores.0.iter().flatten().find(|s| !s.is_finite()) {
            return Err(Error::prune("scores", "finite numbers", bad));
        }
        let all = self.flop(|_, _| true);
        let target = (all as f64 * budget.flop) as u64;
        let mut choice = Choice(sizes.iter().map(|&n| vec![true; n]).collect());
        let mut now = all;
        let spared = |g: usize| budget.spare.iter().any(|s| self.name(g).starts_with(s.as_str()));
        while now > target {
            let mut best: Option<(f64, u64, Choice)> = None;
            for g in (0..sizes.len()).filter(|&g| !spared(g)) {
                let Some(after) = next(&choice, g, &scores.0[g], budget) else { continue };
                let flop = self.flop_of(&after);
                if flop >= now {
                    continue;
                }
                let lost: f64 =
                    (0..sizes[g]).filter(|&c| choice.stays(g, c) && !after.stays(g, c)).map(|c| scores.0[g][c]).sum();
                let cost = match budget.spread {
                    Spread::ByScore => lost / (now - flop) as f64,
                    // The group that has kept the largest share is next; among equals the one that loses least.
                    Spread::Even => {
                        let sum = scores.0[g].iter().sum::<f64>();
                        lost / sum.max(f64::MIN_POSITIVE) * 1e-3 - choice.count(g) as f64 / sizes[g] as f64
                    }
                };
                if best.as_ref().is_none_or(|b| cost < b.0) {
                    best = Some((cost, flop, after));
                }
            }
            let Some((_, flop, after)) = best else {
                let (least, found) = (budget.least, now as f64 / all as f64);
                let expected = format!("at least {found:.3}, what is left with {least} channels in each group");
                return Err(Error::prune("share of the work", expected, budget.flop));
            };
            (now, choice) = (flop, after);
        }
        Ok(choice)
    }
}

/// The choice with one step of channels of a group less, if there is one.
fn next(choice: &Choice, g: usize, scores: &[f64], budget: &Budget) -> Option<Choice> {
    let mut left: Vec<usize> = (0..scores.len()).filter(|&c| choice.stays(g, c)).collect();
    // From a number that is no multiple, the first step goes to the multiple below.
    let to = left.len().checked_sub(1)? / budget.multiple * budget.multiple;
    let to = to.max(budget.least);
    if to >= left.len() {
        return None;
    }
    left.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]).then(b.cmp(&a)));
    let mut after = choice.clone();
    left.iter().take(left.len() - to).for_each(|&c| after.0[g][c] = false);
    Some(after)
}
