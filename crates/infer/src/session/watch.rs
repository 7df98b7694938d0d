//! What watches a session: the monitor of its answers, the canaries, the judge of late labels, side sensors.

use serde::{Deserialize, Serialize};

use super::carried::HostState;
use super::program::Program;
use super::{Answered, Mode, Session};
use crate::drift::{Canary, Monitor, OnAlarm};
use crate::error::Error;
use crate::feedback::{Feedback, Judge, Meter, Stance};
use crate::receipt::{Event, Reason};

/// Everything that watches; part of a snapshot.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Watch {
    monitor: Option<Monitor>,
    canary: Option<Canary>,
    judge: Option<Judge>,
    meters: Vec<Meter>,
    /// Whether a meter holds adaptation back.
    gated: bool,
    /// States that went through a period without an alarm, and the one that is going through it.
    #[serde(skip)]
    good: [Option<(HostState, u64)>; 2],
}

impl Watch {
    /// With the canary images of `own`, which a snapshot does not hold. Fails if they are of another set.
    pub fn with_images_of(mut self, own: &Watch) -> Result<Self, Error> {
        let Some(canary) = &mut self.canary else { return Ok(self) };
        match &own.canary {
            Some(own) if own.digest == canary.digest => {
                canary.images.clone_from(&own.images);
                Ok(self)
            }
            found => Err(Error::size(
                "canary set (give the session the one it was saved with, by `Session::canary`)",
                canary.digest,
                found.as_ref().map_or("none".to_owned(), |c| c.digest.to_string()),
            )),
        }
    }
}

impl Session {
    /// Watches the answers for drift and collapse, and resets or goes back on an alarm.
    #[must_use]
    pub fn monitor(mut self, monitor: Monitor) -> Self {
        self.watch.monitor = Some(monitor);
        self
    }

    /// Asks canaries between batches. Fails for methods that carry nothing on: nothing could get worse.
    pub fn canary(mut self, canary: Canary) -> Result<Self, Error> {
        if self.step_free().is_none() {
            return Err(Error::Method {
                method: self.method().name().to_owned(),
                what: "canaries for a method that carries no state".into(),
                expected: "a method that steps over batches and is not reset after each input".into(),
            });
        }
        self.watch.canary = Some(canary);
        Ok(self)
    }

    /// Listens to labels and scores that arrive late: see [`Session::feedback`].
    #[must_use]
    pub fn judge(mut self, judge: Judge) -> Self {
        self.watch.judge = Some(judge);
        self
    }

    /// One more side sensor: see [`Session::sense`].
    #[must_use]
    pub fn meter(mut self, meter: Meter) -> Self {
        self.watch.meters.push(meter);
        self
    }

    /// What came back about the answer with this index in its receipt. Fails if there is no judge, or no such answer
    /// among the last 4,096.
    pub fn feedback(&mut self, index: u64, feedback: Feedback) -> Result<(), Error> {
        let judge = self
            .watch
            .judge
            .as_mut()
            .ok_or(Error::Empty { what: "the judge of this session (call `Session::judge`)" })?;
        let events = judge.take_in(index, feedback, self.index)?;
        if events.iter().any(|e| matches!(e, Event::HeldBack { .. } | Event::Reset { .. })) {
            self.clear();
        }
        self.events.extend(events);
        Ok(())
    }

    /// The reading of a side sensor for the next inputs. NaN is a reading as well: a broken one.
    pub fn sense(&mut self, meter: &str, reading: f64) -> Result<(), Error> {
        match self.watch.meters.iter_mut().find(|m| m.name() == meter) {
            Some(meter) => {
                meter.sense(reading);
                Ok(())
            }
            None => {
                let names: Vec<&str> = self.watch.meters.iter().map(Meter::name).collect();
                Err(Error::size("side sensor", format!("one of {names:?}"), meter))
            }
        }
    }

    /// Before inputs are answered: whether adaptation is held back.
    pub(super) fn hold_back(&mut self, images: &[f32]) {
        let mut mode = Mode::Free;
        if let Some(judge) = &mut self.watch.judge {
            let event;
            (mode, event) = match judge.stance(self.index) {
                (Stance::Free, event) => (Mode::Free, event),
                (Stance::Shadow, event) => (Mode::Shadow, event),
                (Stance::Held { .. }, event) => (Mode::HeldBack, event),
            };
            self.events.extend(event);
        }
        let mut gate = None;
        if !self.watch.meters.is_empty() {
            let brightness = images.iter().map(|&x| f64::from(x)).sum::<f64>() / images.len().max(1) as f64;
            for meter in &mut self.watch.meters {
                let (reason, event) = meter.gate(brightness);
                self.events.extend(event);
                gate = gate.or(reason);
            }
        }
        let gated = gate.is_some();
        if gated != self.watch.gated {
            self.watch.gated = gated;
            self.events.push(match gate {
                Some(because) => Event::HeldBack { because },
                None => Event::Resumed {
                    because: Reason::Custom { guard: "side sensors holding back".into(), value: 0.0, limit: 0.0 },
                },
            });
        }
        self.mode = if gated { Mode::HeldBack } else { mode };
    }

    /// After inputs were answered: monitor, judge, canaries.
    pub(super) fn look_back(&mut self, answers: &[Answered]) -> Result<(), Error> {
        if let Some(judge) = &mut self.watch.judge {
            answers.iter().for_each(|a| judge.answered(a.receipt.index, &a.receipt.facts));
        }
        let mut alarm = None;
        if let Some(monitor) = &mut self.watch.monitor {
            for answer in answers {
                alarm = monitor.observe(&answer.receipt.facts).or(alarm);
            }
        }
        let due = |c: &Canary| self.batch.is_multiple_of(c.every);
        if alarm.is_none()
            && let Some(canary) = self.watch.canary.take_if(|c| due(c))
        {
            alarm = self.ask(&canary)?;
            self.watch.canary = Some(canary);
        }
        match alarm {
            Some(because) => self.alarmed(because),
            None => self.keep_good(),
        }
    }

    /// The rung that answers with the state as it is.
    fn step_free(&self) -> Option<usize> {
        self.ladder
            .rungs
            .iter()
            .position(|r| r.driver.method.steps == 0 && !r.driver.overlay.is_empty())
            .filter(|_| !self.method().is_per_input())
    }

    /// Asks the canaries with the state as it is; the state stays as it is.
    fn ask(&self, canary: &Canary) -> Result<Option<Reason>, Error> {
        let (Some(level), Some(carried)) = (self.step_free(), &self.carried) else { return Ok(None) };
        let Program::Batch(step) = &*self.ladder.rungs[level].program else { return Ok(None) };
        let n = canary.labels.len();
        let [c, h, w] = canary.dims;
        let x = acclimate_tensor::Tensor::from_slice(&self.device, &canary.images, &[n, c, h, w])?;
        let (_, values) = step.call_read::<f32>((x, self.key(self.index)?, carried.clone()))?;
        Ok(canary.judge(&self.facts(level, &values, &canary.images, n)?))
    }

    fn alarmed(&mut self, because: Reason) -> Result<(), Error> {
        let good = std::mem::take(&mut self.watch.good);
        let back = matches!(self.watch.monitor.as_ref().map(Monitor::action), Some(OnAlarm::GoBack { .. }));
        match good.into_iter().next().flatten().filter(|_| back) {
            Some((state, answers)) => {
                let dims = self.dims.ok_or(Error::Empty { what: "the sizes of images answered" })?;
                self.carried = Some(state.on(&self.ladder.full().driver, dims)?);
                self.since_reset = answers;
                self.events.push(Event::WentBack { answers, because });
            }
            None => self.reset_because(because),
        }
        Ok(())
    }

    /// Keeps a copy of the state at the end of each period without an alarm.
    fn keep_good(&mut self) -> Result<(), Error> {
        let Some(OnAlarm::GoBack { period }) = self.watch.monitor.as_ref().map(Monitor::action) else { return Ok(()) };
        if self.batch.is_multiple_of(period.max(1))
            && let Some(carried) = &self.carried
        {
            let now = (HostState::of(carried)?, self.since_reset);
            // What was new a period ago has gone through one.
            self.watch.good = [self.watch.good[1].take(), Some(now)];
        }
        Ok(())
    }
}
