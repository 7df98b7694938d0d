//! Answering again from receipts, along the recorded rung, never the clock.

use acclimate_tensor::EngineKind;

use super::Session;
use crate::error::Error;
use crate::receipt::{self, Digest, Facts, Input, Receipt, Recompute};

impl Recompute for Session {
    fn base_hash(&self) -> Result<Digest, Error> {
        Ok(Digest::of_bytes(self.ladder.full().driver.params.hash()?.as_bytes()))
    }

    fn device(&self) -> String {
        self.device.to_string()
    }

    fn engine(&self) -> receipt::Engine {
        match self.device.kind() {
            EngineKind::Gpu => receipt::Engine::Gpu,
            EngineKind::Cpu | EngineKind::Null => receipt::Engine::Cpu,
        }
    }

    fn variants(&self) -> Vec<String> {
        // Kernel variants are a function of device and shapes: none is chosen by measurement.
        vec!["static".into()]
    }

    fn answer(&mut self, receipts: &[Receipt], inputs: &[Input]) -> Result<Vec<Facts>, Error> {
        let Some(first) = receipts.first() else { return Ok(Vec::new()) };
        if first.config != self.config {
            return Err(Error::Method {
                method: self.method().name().to_owned(),
                what: format!("receipts of `{}` with another configuration", first.method),
                expected: "a session of the method that wrote the log".into(),
            });
        }
        if first.since_reset == 0 {
            self.clear();
        }
        self.seed = first.seed;
        let dims: [usize; 3] = inputs
            .first()
            .and_then(|i| i.shape().try_into().ok())
            .ok_or_else(|| Error::size("kept input", "[c, h, w]", format!("{:?}", inputs.first().map(Input::shape))))?;
        let mut facts = Vec::with_capacity(receipts.len());
        // A long call may have changed its rung on the way; an input's answer does not depend on its slot.
        for part in receipts.chunk_by(|a, b| a.rung.level == b.rung.level) {
            let level = part.first().map_or(0, |r| r.rung.level as usize);
            self.require_rung(&part[0])?;
            let most = if self.method().is_per_input() { self.slots } else { part.len() };
            for part in part.chunks(most) {
                let inputs = &inputs[facts.len()..facts.len() + part.len()];
                let images: Vec<f32> = inputs.iter().flat_map(|i| i.values().iter().copied()).collect();
                let ids: Vec<u64> = part.iter().map(|r| r.index).collect();
                let values = self.begin(level, &images, dims, &ids)?.reading.wait()?;
                facts.extend(self.facts(level, &values, &images, part.len())?);
            }
        }
        Ok(facts)
    }
}

impl Session {
    /// Fails if the ladder here is not the one the receipt was written under.
    fn require_rung(&self, receipt: &Receipt) -> Result<(), Error> {
        let rung = self.ladder.rungs.get(receipt.rung.level as usize);
        match rung {
            Some(rung) if rung.name == receipt.rung.name => Ok(()),
            _ => Err(Error::size(
                format!("rung {} of `{}`", receipt.rung.level, receipt.method),
                &receipt.rung.name,
                rung.map_or("no such rung", |r| &r.name),
            )),
        }
    }
}
