//! The smaller model that a choice of channels leaves, its file, and how it is read again.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use acclimate_train::layer::Kept;
use acclimate_train::params::Named;
use acclimate_train::{Layer, Params, weights};

use super::choose::Choice;
use super::trace::Dependencies;
use crate::error::Error;

/// A pruned model: a network with fewer channels, and parameters of its smaller shapes.
#[derive(Clone, Debug)]
pub struct Pruned {
    /// The network.
    pub model: Arc<dyn Layer>,
    /// Its parameters.
    pub params: Params,
    /// What it kept of the network it was made from.
    pub kept: Kept,
}

impl Dependencies {
    /// What a choice keeps of each parameter and buffer.
    pub fn kept(&self, choice: &Choice) -> Kept {
        let mut kept = Kept::all();
        for (entry, (path, _, dims)) in self.entries().iter().enumerate() {
            for (axis, &size) in dims.iter().enumerate() {
                let mut stays = vec![true; size];
                for (g, group) in self.groups().iter().enumerate().filter(|(_, g)| g.axes.contains(&(entry, axis))) {
                    let gone = (0..group.channels.len()).filter(|&c| !choice.stays(g, c));
                    let places = gone.flat_map(|c| &group.channels[c]);
                    places.filter(|p| (p.entry, p.axis) == (entry, axis)).for_each(|p| stays[p.at] = false);
                }
                if stays.contains(&false) {
                    kept = kept.with(path, axis, (0..size).filter(|&i| stays[i]).collect());
                }
            }
        }
        kept
    }

    /// The smaller model. A channel that is gone is as if everything that reads it had weight 0 for it.
    ///
    /// # Errors
    /// If a layer does not say how it is narrowed, or nothing is left.
    pub fn narrow(&self, model: &dyn Layer, params: &Params, choice: &Choice) -> Result<Pruned, Error> {
        Pruned::new(model, params, self.kept(choice))
    }
}

impl Pruned {
    /// A model with what is kept of its parameters.
    ///
    /// # Errors
    /// As [`Dependencies::narrow`].
    pub fn new(model: &dyn Layer, params: &Params, kept: Kept) -> Result<Self, Error> {
        let model = narrowed(model, &kept)?;
        // The layout is the narrower model's own, so that its files and everyone else's fit.
        let like = model.init(params.device(), 0)?;
        let values = params.all_to_named()?;
        let has =
            |path: &str| like.index().get(path).is_some() || like.buffer_index().is_some_and(|b| b.get(path).is_some());
        let values = values.iter().filter(|v| has(&v.0)).filter_map(|v| kept.select(v).transpose());
        let values = values.collect::<Result<Vec<Named>, _>>()?;
        let params = like.with_values(values, "the wider model")?;
        Ok(Pruned { model, params, kept })
    }

    /// The same network with other parameters, after more training.
    #[must_use]
    pub fn with_params(self, params: Params) -> Self {
        Pruned { params, ..self }
    }

    /// Writes the parameters as safetensors, and what was kept beside them as JSON (the same name, ending in
    /// `.kept.json`). Returns the bytes of the first.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<u64, Error> {
        let path = path.as_ref();
        weights::save(path, &self.params)?;
        let text =
            serde_json::to_string(&self.kept).map_err(|source| Error::Encode { what: "kept channels", source })?;
        let beside = beside(path);
        std::fs::write(&beside, text).map_err(Error::io(&beside, "write"))?;
        Ok(std::fs::metadata(path).map_err(Error::io(path, "read"))?.len())
    }

    /// What [`Pruned::save`] wrote, for the network that it was made from, on the device of `like`, any parameters.
    ///
    /// # Errors
    /// If a file is missing or not what it claims, or the network is another.
    pub fn load(model: &dyn Layer, like: &Params, path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let beside = beside(path);
        let text = std::fs::read_to_string(&beside).map_err(Error::io(&beside, "read"))?;
        let kept: Kept = serde_json::from_str(&text)
            .map_err(|e| Error::Malformed { path: beside.clone(), what: format!("no list of kept channels: {e}") })?;
        let model = narrowed(model, &kept)?;
        let params = weights::load(path, &model.init(like.device(), 0)?)?;
        Ok(Pruned { model, params, kept })
    }
}

fn narrowed(model: &dyn Layer, kept: &Kept) -> Result<Arc<dyn Layer>, Error> {
    let layer = model.narrowed(kept, None)?.layer;
    layer.ok_or_else(|| Error::prune("model", "a channel left in each layer outside residual sums", "none left"))
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".kept.json");
    name.into()
}
