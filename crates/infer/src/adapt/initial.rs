//! The state that a method begins with, and whether a state could be its own.

use acclimate_tensor::Tensor;
use acclimate_train::Statistics;
use acclimate_train::optim::State;

use super::driver::Driver;
use super::look::{BUFFER, TEACHER_BUFFER};
use super::state::Carried;
use super::{Guard, Output, Window, guard, memory, prototypes, reset, search, teacher};
use crate::error::Error;

impl Driver {
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
        let parts: [(bool, &[&str]); 8] = [
            (m.guards.iter().any(|g| matches!(g, Guard::Unseen(_))), &guard::SEEN),
            (m.remembers_classes(), &[guard::CLASSES]),
            (matches!(m.output, Output::Prototypes(_)), &prototypes::SUPPORTS),
            (matches!(m.window, Window::Memory(..)), &memory::BANK),
            (m.guards.iter().any(|g| matches!(g, Guard::Recover(_))), &guard::LOSS),
            (matches!(m.reset, super::Reset::EveryUpdates(_)), &[reset::UPDATES]),
            (m.teacher.is_some(), &[teacher::TEACHER]),
            (m.search.is_some(), &search::SEARCH),
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
        if let Some(search) = m.search {
            state = search.begin(state)?;
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
