//! What is benchmarked: a network and the images that it answers, clean and shifted.

use std::path::PathBuf;
use std::sync::Arc;

use acclimate::prelude::*;
use acclimate::train::nn::zoo::Network;
use acclimate::train::shift::Frost;
use acclimate::train::weights;
use anyhow::{Context, Result, bail};
use cpu_time::ProcessTime;

use crate::{Options, train};

/// A network, its clean test images, and how ordinary images look to it.
pub struct Subject {
    pub name: String,
    pub model: Arc<dyn Layer>,
    pub params: Params,
    pub images: Images,
    pub source: Option<SourceStatistics>,
    pub family: Family,
}

/// One shift of the images, as bytes and as the network reads them.
pub struct Shifted {
    pub name: String,
    pub severity: u8,
    pub images: Images,
    pub pixels: Vec<f32>,
}

/// Source images whose statistics are recorded.
const SOURCE_IMAGES: usize = 1000;

/// The network of `--weights` on the images of `--images`, or a small one trained here on the repository's images.
pub fn subject(o: &Options, device: &Device) -> Result<Subject> {
    match (&o.weights, &o.images) {
        (Some(weights), Some(images)) => {
            let named = weights::read(weights)?;
            let network = Network::of_weights(&named).with_context(|| weights.display().to_string())?;
            let model = network.layer()?;
            let params = weights::load(weights, &model.init(device, 0)?)?;
            let source = match &o.source {
                Some(path) => Some(recorded(&*model, &params, &network.images(path)?)?),
                None => None,
            };
            let family = if let Network::CifarResNet(_) = network { Family::Cifar } else { Family::Camera };
            Ok(Subject { name: network.to_string(), model, params, images: network.images(images)?, source, family })
        }
        (None, None) => {
            let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../data/fashion8k");
            let (train_set, test_set) = data::idx::fashion8k(&folder).context("the images of the repository")?;
            let train_set = if o.smoke { train_set.first_per_class(40) } else { train_set };
            let epochs = if o.smoke { 1 } else { train::EPOCHS };
            let trained = train::train(device, &train_set, &test_set.first_per_class(50), o.seed, epochs)?;
            let source = Some(recorded(&*trained.model, &trained.params, &train_set)?);
            let (model, params) = (trained.model, trained.params);
            Ok(Subject { name: "small CNN".into(), model, params, images: test_set, source, family: Family::Camera })
        }
        _ => bail!("--weights and --images: expected both or none"),
    }
}

fn recorded(model: &dyn Layer, params: &Params, images: &Images) -> Result<SourceStatistics> {
    let dims = [images.channels(), images.height(), images.width()];
    Ok(SourceStatistics::record(model, params, &images.to_f32(0..images.len().min(SOURCE_IMAGES))?, dims)?)
}

impl Subject {
    /// Sizes of an image.
    pub fn dims(&self) -> [usize; 3] {
        [self.images.channels(), self.images.height(), self.images.width()]
    }

    /// Clean images, then each shift. The whole set is shifted and then cut, so that an image meets the same noise
    /// whatever `--limit` says.
    pub fn shifted(&self, o: &Options) -> Result<Vec<Shifted>> {
        let family = o.family.unwrap_or(self.family);
        let channels = self.images.channels();
        let fits = |shift: &Shift| shift.channels().is_none_or(|n| n.contains(&channels));
        let shifts: Vec<Shift> = match o.shifts.as_slice() {
            [] if family == Family::Camera => Shift::CAMERA.to_vec(),
            [] => Shift::COMMON.into_iter().filter(fits).collect(),
            [all] if all == "all" => Shift::COMMON.into_iter().chain(Shift::EXTRA).filter(fits).collect(),
            names => names.iter().map(|name| name.parse()).collect::<Result<_, _>>()?,
        };
        let frost = o.frost.as_ref().map(Frost::read).transpose()?;
        let severity = Severity::new(o.severity)?;
        let n = o.limit.unwrap_or(usize::MAX).min(self.images.len());
        let cut = |name: &str, severity: u8, images: &Images| -> Result<Shifted> {
            let images = images.subset(0..n)?;
            Ok(Shifted { name: name.to_owned(), severity, pixels: images.to_f32(0..n)?, images })
        };
        let mut all = vec![cut("clean", 0, &self.images)?];
        for shift in shifts {
            let started = ProcessTime::now();
            let images = shift::apply_with(&self.images, shift, severity, family, o.seed, frost.as_ref())?;
            let ms = 1e3 * started.elapsed().as_secs_f64() / self.images.len() as f64;
            log::info!("{}: {ms:.3} ms of processor time an image", shift.name());
            all.push(cut(shift.name(), severity.level(), &images)?);
        }
        Ok(all)
    }
}
