//! Golden traces of adaptation: the files, the small network they are of, and what every method is compared by.
#![allow(dead_code)] // each test takes what it needs

use std::collections::BTreeMap;
use std::sync::Arc;

use acclimate_infer::{Adaptation, Answered, Session};
use acclimate_tensor::Device;
use acclimate_train::nn::{Activation, BatchNorm, Conv2d, GlobalAvgPool2d, Linear, Sequential, Taught, TwoHeads};
use acclimate_train::{Layer, Params};
use safetensors::SafeTensors;

pub const DIMS: [usize; 3] = [1, 8, 8];

/// One stored array.
#[derive(Clone, Debug)]
pub struct Array {
    pub dims: Vec<usize>,
    pub values: Vec<f32>,
}

/// A file of `crates/infer/golden`.
pub struct Trace {
    pub name: String,
    arrays: BTreeMap<String, Array>,
}

impl Trace {
    pub fn read(name: &str) -> Self {
        let path = format!("{}/golden/adapt_{name}.safetensors", env!("CARGO_MANIFEST_DIR"));
        let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let array = |view: safetensors::tensor::TensorView| {
            let words = view.data().as_chunks::<4>().0;
            let values = match view.dtype() {
                safetensors::Dtype::F32 => words.iter().map(|&b| f32::from_le_bytes(b)).collect(),
                safetensors::Dtype::I32 => words.iter().map(|&b| i32::from_le_bytes(b) as f32).collect(),
                other => panic!("{path}: {other} is not expected"),
            };
            Array { dims: view.shape().to_vec(), values }
        };
        let arrays = file.tensors().into_iter().map(|(name, view)| (name, array(view))).collect();
        Trace { name: name.to_owned(), arrays }
    }

    pub fn get(&self, name: &str) -> &Array {
        self.arrays.get(name).unwrap_or_else(|| panic!("{} has no {name}", self.name))
    }

    pub fn has(&self, name: &str) -> bool {
        self.arrays.contains_key(name)
    }

    /// Row `i` along the first axis.
    pub fn row(&self, name: &str, i: usize) -> &[f32] {
        let array = self.get(name);
        let width = array.values.len() / array.dims[0];
        &array.values[i * width..(i + 1) * width]
    }

    /// The network that the trace is of, with the stored weights; with a teacher of the same shape, if that is stored.
    pub fn network(&self, device: &Device) -> (Arc<dyn Layer>, Params) {
        if !self.has("net.teacher.linear.weight") {
            return self.with_values(device, layers());
        }
        let own = layers().init(device, 0).unwrap();
        let taught = Taught::new(layers(), layers(), &own);
        let params = taught.params(&own, &own).unwrap();
        (Arc::new(taught), self.filled(params))
    }

    /// The network of the trace of test-time training: the same behind its first layers, with a side head.
    pub fn two_heads(&self, device: &Device) -> (Arc<dyn Layer>, Params) {
        let trunk = Sequential::new()
            .then(Conv2d::new("conv1", 1, 4, 3).same().without_bias())
            .then(BatchNorm::new("bn1", 4))
            .then(Activation::Relu);
        let main = Sequential::new()
            .then(Conv2d::new("conv2", 4, 8, 3).same().strided(2).without_bias())
            .then(BatchNorm::new("bn2", 8))
            .then(Activation::Relu)
            .then(GlobalAvgPool2d)
            .then(Linear::new("linear", 8, 3));
        let side = Sequential::new().then(Conv2d::new("side", 4, 4, 3).strided(2)).then(GlobalAvgPool2d);
        self.with_values(device, Arc::new(TwoHeads::new(trunk, main, side)))
    }

    /// The same with a side head that paints the image.
    pub fn painting(&self, device: &Device) -> (Arc<dyn Layer>, Params) {
        let trunk = Sequential::new()
            .then(Conv2d::new("conv1", 1, 4, 3).same().without_bias())
            .then(BatchNorm::new("bn1", 4))
            .then(Activation::Relu);
        let main = Sequential::new()
            .then(Conv2d::new("conv2", 4, 8, 3).same().strided(2).without_bias())
            .then(BatchNorm::new("bn2", 8))
            .then(Activation::Relu)
            .then(GlobalAvgPool2d)
            .then(Linear::new("linear", 8, 3));
        self.with_values(device, Arc::new(TwoHeads::new(trunk, main, Conv2d::new("side", 4, 1, 3).same())))
    }

    fn with_values(&self, device: &Device, model: Arc<dyn Layer>) -> (Arc<dyn Layer>, Params) {
        let params = model.init(device, 0).unwrap();
        (model, self.filled(params))
    }

    fn filled(&self, params: Params) -> Params {
        let of = self.arrays.iter().filter_map(|(name, a)| Some((name.strip_prefix("net.")?, a)));
        let named = of.map(|(name, a)| (name.to_owned(), a.dims.clone(), a.values.clone())).collect();
        params.with_values(named, &self.name).unwrap()
    }

    pub fn session(&self, device: &Device, method: Adaptation) -> Session {
        let (model, params) = self.network(device);
        Session::new(model, params, method).unwrap().slots(1)
    }
}

fn layers() -> Arc<dyn Layer> {
    Arc::new(
        Sequential::new()
            .then(Conv2d::new("conv1", 1, 4, 3).same().without_bias())
            .then(BatchNorm::new("bn1", 4))
            .then(Activation::Relu)
            .then(Conv2d::new("conv2", 4, 8, 3).same().strided(2).without_bias())
            .then(BatchNorm::new("bn2", 8))
            .then(Activation::Relu)
            .then(GlobalAvgPool2d)
            .then(Linear::new("linear", 8, 3)),
    )
}

/// How far f32 may be from the float64 trace: the network makes about 500 roundings on the longest way (products over 36
/// values, moments over 512, a mean over 16, an exponential and a logarithm), at random of size √500·ε, of the largest
/// number around; each step builds on the one before.
pub fn bound(step: usize, expected: &[f32]) -> f32 {
    let scale = expected.iter().fold(0f32, |m, v| m.max(v.abs()));
    128.0 * f32::EPSILON * (step + 1) as f32 * scale.max(1e-3)
}

/// |found − expected| within the bound, everywhere.
pub fn assert_close(what: &str, found: &[f32], expected: &[f32], step: usize) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let bound = bound(step, expected);
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        assert!((f - e).abs() <= bound, "{what}: element {i} is {f}, expected {e}, bound {bound:e}");
    }
}

pub fn logits(answers: &[Answered]) -> Vec<f32> {
    answers.iter().flat_map(|a| a.logits.iter().copied()).collect()
}

/// The value of a parameter under the overlay: θ₀ + Δ.
pub fn moved(session: &Session, params: &Params, delta: &[f32], path: &str) -> Vec<f32> {
    let entry = session.overlay().entries().iter().find(|e| e.path == path).unwrap();
    let own = params.get(path).unwrap().to_vec::<f32>().unwrap();
    own.iter().zip(&delta[entry.offset..entry.offset + entry.len()]).map(|(a, b)| a + b).collect()
}
