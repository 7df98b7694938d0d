//! What the camera sees: images of signs, or of clothes, by day, at dusk and in the fog.

use std::path::{Path, PathBuf};

use acclimate::prelude::*;
use acclimate::train::data::{cifar, rng::Philox};
use anyhow::{Context, Result};

/// Images to train on and to drive past.
pub struct Road {
    pub what: String,
    pub train: Images,
    pub test: Images,
    pub names: Vec<String>,
}

/// The phases of the drive, in order, with the ambient light at their begin and end.
pub const PHASES: [(&str, f64, f64); 3] = [("day", 0.85, 0.85), ("dusk", 0.75, 0.1), ("fog", 0.5, 0.5)];

/// One frame.
pub struct Shot {
    pub phase: usize,
    pub label: u32,
    pub pixels: Vec<f32>,
    /// What a healthy light meter reads.
    pub light: f64,
}

/// German traffic signs (Stallkamp et al. 2012), if the folder has them.
pub fn signs(folder: &Path) -> Result<Option<Road>> {
    let files = ["gtsrb32_train_2perTrack.bin.gz", "gtsrb32_test_every5th.bin.gz"].map(|name| folder.join(name));
    if files.iter().any(|f| !f.exists()) {
        return Ok(None);
    }
    let [train, test] = files;
    Ok(Some(Road {
        what: "German traffic signs".into(),
        train: cifar::read(train, 43)?,
        test: cifar::read(test, 43)?,
        names: (0..43).map(|i| format!("sign {i}")).collect(),
    }))
}

/// The images of the repository.
pub fn fashion(smoke: bool) -> Result<Road> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../data/fashion8k");
    let (train, test) = data::idx::fashion8k(folder).context("the images of the repository")?;
    let (train, test) = if smoke { (train.first_per_class(40), test.first_per_class(10)) } else { (train, test) };
    let names = data::idx::FASHION_CLASSES.iter().map(|n| (*n).to_owned()).collect();
    Ok(Road { what: "clothes from Fashion-MNIST".into(), train, test, names })
}

impl Road {
    /// `n` frames of each phase. The dusk gets darker, by low light of severity 1 to 4; the fog is of severity 2.
    pub fn frames(&self, n: usize, seed: u64) -> Result<Vec<Shot>> {
        let draw = |i: usize, lane: u32| Philox::from_seed(seed).block([i as u32, lane, 0xD21E, 0])[0];
        let mut shots = Vec::with_capacity(3 * n);
        for (phase, (_, begin, end)) in PHASES.iter().enumerate() {
            let positions: Vec<usize> = (0..n).map(|i| draw(phase * n + i, 0) as usize % self.test.len()).collect();
            let clean = self.test.select(&positions)?;
            let quarter = n.div_ceil(4).max(1);
            for part in 0..n.div_ceil(quarter) {
                let images = clean.subset(part * quarter..((part + 1) * quarter).min(n))?;
                let images = match phase {
                    0 => images,
                    1 => {
                        let level = Severity::new(u8::try_from(part + 1)?)?;
                        shift::apply(&images, Shift::LowLight, level, Family::Camera, seed)?
                    }
                    _ => shift::apply(&images, Shift::Fog, Severity::new(2)?, Family::Camera, seed)?,
                };
                let pixels = images.to_f32(0..images.len())?;
                for (i, image) in pixels.chunks(images.image_len()).enumerate() {
                    let at = part * quarter + i;
                    let flicker = f64::from(draw(phase * n + at, 1)) / f64::from(u32::MAX) - 0.5;
                    let light = begin + (end - begin) * at as f64 / n as f64 + 0.04 * flicker;
                    shots.push(Shot { phase, label: images.labels()[i], pixels: image.to_vec(), light });
                }
            }
        }
        Ok(shots)
    }
}

/// The label, or another one for a share of the frames.
pub fn perhaps_wrong(label: u32, classes: u32, frame: usize, share: f64) -> u32 {
    let block = Philox::from_seed(0xFA15E).block([frame as u32, 0, 0, 0]);
    if f64::from(block[0]) < share * f64::from(u32::MAX) && classes > 1 {
        (label + 1 + block[1] % (classes - 1)) % classes
    } else {
        label
    }
}
