//! What both engines have to agree on with PyTorch: losses of the methods with their gradients, and the networks of words.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use acclimate_infer::select::words::{Reader, Scorer, Texts, WordReading, WordSelector, contributions};
use acclimate_infer::select::{Draws, Features, Method, Selector, dime, gdfs, invase, l2x, relaxed_k_hot};
use acclimate_tensor::{Device, Tensor};
use acclimate_train::{Layer, Params, Pass};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/golden/select.safetensors");
pub const N: usize = 6;

/// The file made by `golden/make_select.py`.
pub struct Golden(Vec<u8>);

impl Golden {
    pub fn read() -> Self {
        Golden(std::fs::read(PATH).unwrap())
    }

    pub fn f32(&self, name: &str) -> (Vec<usize>, Vec<f32>) {
        let file = safetensors::SafeTensors::deserialize(&self.0).unwrap();
        let tensor = file.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}"));
        let values = tensor.data().as_chunks::<4>().0.iter();
        (tensor.shape().to_vec(), values.map(|b| f32::from_le_bytes(*b)).collect())
    }

    pub fn words(&self, name: &str) -> (Vec<usize>, Vec<u32>) {
        let (dims, bits) = self.f32(name);
        (dims, bits.iter().map(|x| x.to_bits()).collect())
    }

    fn tensor(&self, device: &Device, name: &str) -> Tensor {
        let (dims, values) = self.f32(name);
        Tensor::from_slice(device, &values, &dims).unwrap()
    }

    /// The parameters under a prefix, by path.
    fn params(&self, device: &Device, like: &dyn Layer, prefix: &str) -> Params {
        let start = like.init(device, 0).unwrap();
        let named = start.to_named().unwrap().into_iter().map(|(path, dims, _)| {
            let (stored, values) = self.f32(&format!("{prefix}{path}"));
            assert_eq!(stored, dims, "{path}");
            (path, dims, values)
        });
        start.with_values(named.collect(), PATH).unwrap()
    }
}

pub fn features() -> Features {
    let named = Features::named(["a", "b", "c", "d"]).unwrap();
    named.widths(&[1, 2, 1, 1]).unwrap().costs(&[1.0, 2.0, 0.5, 1.0]).unwrap()
}

pub fn selector(method: Method) -> Arc<Selector> {
    Arc::new(Selector::mlp(features(), 3, &[5], 0.0, method).unwrap())
}

pub fn selector_params(device: &Device, selector: &Selector) -> Params {
    Golden::read().params(device, selector, "params.")
}

/// Numbers that came through a chain of roundings: a few hundred of values below 10, each half an eps of its size.
fn close(what: &str, got: &[f32], want: &[f32]) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        assert!((g - w).abs() <= 300.0 * 6e-8 * (1.0 + w.abs()), "{what} at {i}: {g}, PyTorch {w}");
    }
}

/// Loss and gradient of every method on fixed random numbers.
pub fn losses_are_those_of_pytorch(device: &Device) {
    let golden = Golden::read();
    let x = golden.tensor(device, "x");
    let y = Tensor::from_slice(device, &golden.words("y").1, &[N]).unwrap();
    let coins = golden.tensor(device, "coins");
    for method in [gdfs(3), dime(3), invase(0.3), l2x(2)] {
        let name = method.name();
        let selector = selector(method);
        let params = golden.params(device, &*selector, "params.");
        let draws = Draws { noise: golden.tensor(device, &format!("{name}.noise")), coins: coins.clone() };
        let knobs = Tensor::from_slice(device, &[0.5f32, 0.4], &[2]).unwrap();
        let loss = selector.loss(&params, (&x, &y), &knobs, &draws, &mut Pass::infer()).unwrap();
        let gradient = params.grad(&loss).unwrap();
        close(name, &[loss.item().unwrap()], &golden.f32(&format!("{name}.loss")).1);
        for path in params.paths() {
            let found = gradient.get(path).unwrap().to_vec::<f32>().unwrap();
            close(&format!("{name}, {path}"), &found, &golden.f32(&format!("{name}.grad.{path}")).1);
        }
        let moved = gradient.norm().unwrap().item().unwrap();
        assert!(moved > 0.1, "{name}: a gradient of {moved} says nothing");
        if name == "l2x" {
            let whole = Tensor::ones(device, &[N, 4]).unwrap();
            let seen = selector.scores(&params, &x, &whole, &mut Pass::infer()).unwrap().0;
            let mask = relaxed_k_hot(&seen, &draws.noise, &Tensor::full(device, &[1], 0.5).unwrap()).unwrap();
            close("mask of l2x", &mask.to_vec::<f32>().unwrap(), &golden.f32("l2x.mask").1);
        }
    }
}

/// Reader, contributions, scorer, choice, and reading what was chosen.
pub fn words_are_those_of_pytorch(device: &Device) {
    let golden = Golden::read();
    let (dims, ids) = golden.words("words.ids");
    let (n, l) = (dims[0], dims[1]);
    let selector = WordSelector::new(Reader::new("reader", 12, 4, 3), Scorer::new("scorer", 12, 3), 0.3).unwrap();
    let params = golden.params(device, &selector, "words.");
    let tensor = Tensor::from_slice(device, &ids, &dims).unwrap();
    let logits = selector.reader().forward(&params, &tensor).unwrap().to_vec::<f32>().unwrap();
    close("logits", &logits, &golden.f32("words.logits").1);
    let found = contributions(selector.reader(), &params, &tensor).unwrap().to_vec::<f32>().unwrap();
    close("contributions", &found, &golden.f32("words.contributions").1);
    let scores = selector.scorer().forward(&params, &tensor).unwrap().to_vec::<f32>().unwrap();
    let there = |v: &[f32]| v.iter().zip(&ids).filter(|(_, id)| **id > 0).map(|(x, _)| *x).collect::<Vec<_>>();
    close("scores", &there(&scores), &there(&golden.f32("words.scores").1));

    // Texts are padded to other lengths here, which changes nothing.
    let texts = ids.chunks(l).map(|text| text.iter().copied().filter(|id| *id > 0).collect()).collect();
    let texts = Texts::new(texts, vec![0; n]).unwrap();
    let reading = WordReading::new(Arc::new(selector), 2);
    let chosen = reading.chosen_words(&params, &texts).unwrap();
    let (want, read) = (golden.f32("words.chosen").1, golden.f32("words.read").1);
    for (i, chosen) in chosen.iter().enumerate() {
        let mut words = chosen.words.clone();
        words.sort_unstable();
        let wanted: Vec<usize> = (0..l).filter(|j| want[i * l + j] > 0.5).collect();
        assert_eq!(words, wanted, "text {i}");
        let logits = &read[i * 3..][..3];
        let total: f32 = logits.iter().map(|z| z.exp()).sum();
        let p: Vec<f32> = logits.iter().map(|z| z.exp() / total).collect();
        close(&format!("answer of text {i}"), &chosen.probabilities, &p);
    }
}
