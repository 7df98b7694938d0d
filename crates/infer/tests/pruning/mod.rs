//! What pruning must do on every device.

use std::collections::BTreeMap;
use std::sync::Arc;

use acclimate_infer::Error;
use acclimate_infer::prune::{
    Choice, Dependencies, GatedCnn, Tokens, attention, class_attention, flop, input_norms, keep_attended, merge_similar,
};
use acclimate_tensor::{Device, Tensor};
use acclimate_train::data::rng::Philox;
use acclimate_train::nn::zoo::CifarResNet;
use acclimate_train::nn::{
    Activation, BatchNorm, Conv2d, GlobalAvgPool2d, Linear, Mlp, Norm, Residual, Sequential, Shortcut, SmallCnn,
};
use acclimate_train::params::Kind;
use acclimate_train::{Layer, Params};

pub type Test = Result<(), Box<dyn std::error::Error>>;

pub struct Golden(Vec<u8>);

impl Golden {
    pub fn read() -> std::io::Result<Self> {
        std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/golden/prune.safetensors")).map(Golden)
    }

    pub fn get(&self, name: &str) -> (Vec<usize>, Vec<f32>) {
        let file = safetensors::SafeTensors::deserialize(&self.0).expect("a safetensors file");
        let tensor = file.tensor(name).expect("a tensor of this name");
        let values = tensor.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        (tensor.shape().to_vec(), values)
    }

    pub fn tensor(&self, device: &Device, name: &str) -> Result<Tensor, Error> {
        let (dims, values) = self.get(name);
        Ok(Tensor::from_slice(device, &values, &dims)?)
    }

    /// The values of a model's parameters and buffers under a prefix.
    pub fn params(&self, prefix: &str, like: &Params) -> Result<Params, Error> {
        let paths = like.paths().chain(like.buffer_paths());
        let named = paths.map(|path| {
            let (dims, values) = self.get(&format!("{prefix}.{path}"));
            (path.to_owned(), dims, values)
        });
        Ok(like.with_values(named.collect(), "the golden file")?)
    }
}

/// Values differ by at most `tolerance` times the largest expected one.
pub fn close(what: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(0f32, |m, x| m.max(x.abs()));
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        assert!((f - e).abs() <= tolerance * largest, "{what}[{i}]: {f}, expected {e}");
    }
}

/// Parameters and buffers of a model, each drawn at random, variances positive: nothing has a value that hides a mistake.
pub fn drawn(model: &dyn Layer, device: &Device, seed: u64) -> Result<Params, Error> {
    let params = model.init(device, seed)?;
    let mut stream = Philox::from_seed(seed).fold_name("drawn").stream(0);
    let mut named = params.to_named()?;
    for (_, dims, values) in named.iter_mut().filter(|n| n.1.len() == 1) {
        let _ = dims;
        values.iter_mut().for_each(|v| *v = 0.5 + stream.uniform());
    }
    let mut buffers = params.buffers_to_named()?;
    buffers.iter_mut().flat_map(|b| &mut b.2).for_each(|v| *v = 0.3 + stream.uniform());
    named.extend(buffers);
    Ok(params.with_values(named, "draws")?)
}

pub fn image(device: &Device, dims: &[usize], seed: u64) -> Result<Tensor, Error> {
    let mut stream = Philox::from_seed(seed).fold_name("image").stream(0);
    let values: Vec<f32> = (0..dims.iter().product()).map(|_| stream.uniform() - 0.3).collect();
    Ok(Tensor::from_slice(device, &values, dims)?)
}

/// Networks of every kind of dependency, with the sizes of an input.
pub fn networks() -> Result<Vec<(&'static str, Arc<dyn Layer>, Vec<usize>)>, Error> {
    let conv = |name: &str, from, to| Conv2d::new(name, from, to, 3).same();
    let projected = Sequential::new().then(Conv2d::new("side", 4, 6, 1).strided(2)).then(BatchNorm::new("side_bn", 6));
    let body = Sequential::new()
        .then(conv("a", 4, 6).strided(2))
        .then(BatchNorm::new("a_bn", 6))
        .then(Activation::Relu)
        .then(conv("b", 6, 6));
    let option_b = Sequential::new()
        .then(conv("stem", 2, 4))
        .then(Activation::Relu)
        .then(Residual::new("block", body).with_shortcut(Shortcut::Layers(projected)))
        .then(GlobalAvgPool2d)
        .then(Linear::new("fc", 6, 3));
    let depthwise = Sequential::new()
        .then(Conv2d::new("up", 2, 6, 1).without_bias())
        .then(BatchNorm::new("up_bn", 6))
        .then(Activation::Relu6)
        .then(conv("deep", 6, 6).grouped(6))
        .then(BatchNorm::new("deep_bn", 6))
        .then(Activation::Relu6)
        .then(Conv2d::new("down", 6, 4, 1))
        .then(GlobalAvgPool2d)
        .then(Linear::new("fc", 4, 3));
    Ok(vec![
        ("option A", Arc::new(CifarResNet::for_pixels(8, 10)?), vec![2, 3, 8, 8]),
        ("option B", Arc::new(option_b), vec![2, 2, 6, 6]),
        ("depthwise", Arc::new(depthwise), vec![2, 2, 5, 5]),
        ("flattened", Arc::new(SmallCnn::new("net", [1, 8, 8], &[4, 6], 3)?), vec![2, 1, 8, 8]),
        ("perceptron", Arc::new(Mlp::new("mlp", 5, &[8, 6], 3).with_norm(Norm::Batch)), vec![4, 5]),
    ])
}

/// The parameters with weight 0 wherever a channel that is gone would be read.
pub fn unread(found: &Dependencies, params: &Params, choice: &Choice) -> Result<Params, Error> {
    let mut named = params.to_named()?;
    for (g, group) in found.groups().iter().enumerate() {
        for places in group.channels.iter().enumerate().filter(|(c, _)| !choice.stays(g, *c)).map(|(_, p)| p) {
            for place in places.iter().filter(|p| p.axis == 1) {
                let (_, kind, dims) = &found.entries()[place.entry];
                assert_eq!(*kind, Kind::Weight);
                let inner: usize = dims[2..].iter().product();
                for outer in named[place.entry].2.chunks_mut(dims[1] * inner) {
                    outer[place.at * inner..(place.at + 1) * inner].fill(0.0);
                }
            }
        }
    }
    named.extend(params.buffers_to_named()?);
    Ok(params.with_values(named, "the test")?)
}

/// A smaller network answers as the wide one whose gone channels nobody reads, and costs what was said.
pub fn narrow_is_unread(device: &Device, seeds: u64) -> Test {
    for (name, model, dims) in networks()? {
        let x = image(device, &dims, 1)?;
        let params = drawn(&*model, device, 3)?;
        let found = Dependencies::of(&*model, &params, &x)?;
        assert_eq!(found.flop(|_, _| true), flop(&*model, &params, &x)?, "{name}");
        for seed in 0..seeds {
            let mut stream = Philox::from_seed(seed).fold_name("choice").stream(0);
            let one = |n: usize| {
                let mut stays: Vec<bool> = (0..n).map(|_| stream.uniform() < 0.6).collect();
                // Never all of them, and never none.
                (stays[0], stays[n / 2]) = (false, true);
                stays
            };
            let choice = Choice(found.groups().iter().map(|g| g.channels.len()).map(one).collect());
            let pruned = found.narrow(&*model, &params, &choice)?;
            assert!(pruned.params.n_values() < params.n_values(), "{name}");
            assert_eq!(flop(&*pruned.model, &pruned.params, &x)?, found.flop_of(&choice), "{name} {seed}");
            let expected = model.forward(&unread(&found, &params, &choice)?, &x)?.to_vec::<f32>()?;
            let narrow = pruned.model.forward(&pruned.params, &x)?.to_vec::<f32>()?;
            // Sums of up to 600 products, in another order.
            close(&format!("{name} {seed}"), &narrow, &expected, 1e-5);
        }
    }
    Ok(())
}

/// Reductions of tokens are those of the published code.
pub fn tokens_follow_the_golden(device: &Device) -> Test {
    let golden = Golden::read()?;
    let get = |name: &str| golden.tensor(device, &format!("tokens.{name}"));
    let check = |what: &str, found: &Tensor| -> Result<(), Error> {
        let (dims, expected) = golden.get(&format!("tokens.{what}"));
        assert_eq!(found.dims(), dims, "{what}");
        close(what, &found.to_vec::<f32>()?, &expected, 1e-5);
        Ok(())
    };
    let (attended, weights) = attention(&get("q")?, &get("k")?, &get("v")?, Some(&get("size")?))?;
    check("attended", &attended)?;
    let cls = class_attention(&weights)?;
    check("cls", &cls)?;
    let tokens = Tokens { x: get("x")?, size: get("size")?, from: None };
    let kept = keep_attended(&tokens, &cls, 4)?;
    check("evit", &kept.x)?;
    let merged = merge_similar(&tokens, &get("keys")?, 3)?;
    check("merged", &merged.x)?;
    check("merged_size", &merged.size)?;
    // Nothing is lost of the sizes.
    let total = |t: &Tensor| t.sum(&[1])?.to_vec::<f32>();
    assert_eq!(total(&merged.size)?, total(&tokens.size)?);
    assert_eq!(total(&kept.size)?, total(&tokens.size)?);
    Ok(())
}

/// Channels chosen by the input: what is left out does not matter to the answer.
pub fn gates_follow_the_golden(device: &Device) -> Test {
    let golden = Golden::read()?;
    let model = GatedCnn::new("", 2, &[(6, 1), (8, 2)], 3);
    let params = golden.params("gate", &model.init(device, 0)?)?;
    let x = golden.tensor(device, "gate.x")?;
    for density in ["1.0", "0.5", "0.25"] {
        let logits = model.at_density(density.parse()?)?.forward(&params, &x)?;
        close(density, &logits.to_vec::<f32>()?, &golden.get(&format!("gate.logits.{density}")).1, 1e-5);
    }
    let cost = |d: f32| flop(&model.at_density(d)?, &params, &x);
    assert!(cost(0.5)? * 2 < cost(1.0)?, "{} of {}", cost(0.5)?, cost(1.0)?);
    Ok(())
}

/// Norms of the inputs of each weight, over rows and pixels.
pub fn norms_are_of_the_inputs(device: &Device) -> Test {
    let golden = Golden::read()?;
    let linear = Linear::new("fc", 8, 5).without_bias();
    let params = linear.init(device, 0)?;
    let params = params.with_values(vec![("fc.weight".into(), vec![5, 8], golden.get("wanda.weight").1)], "golden")?;
    let norms = input_norms(&linear, &params, &golden.tensor(device, "wanda.x")?)?;
    let scores = acclimate_infer::prune::WeightScores::wanda(&params, &norms)?;
    close("wanda", scores.of_path("fc.weight").ok_or("no scores")?, &golden.get("wanda.score").1, 1e-6);
    // A convolution behind another: the norms of what it sees, not of the input.
    let net = Sequential::new().then(Conv2d::new("a", 2, 3, 1)).then(Activation::Relu).then(Conv2d::new("b", 3, 2, 3));
    let (params, x) = (drawn(&net, device, 2)?, image(device, &[2, 2, 4, 4], 5)?);
    let norms = input_norms(&net, &params, &x)?;
    let hidden = Conv2d::new("a", 2, 3, 1).forward(&params, &x)?.relu()?;
    let expected = hidden.square()?.sum(&[0, 2, 3])?.sqrt()?.to_vec::<f32>()?;
    close("b", norms.get("b.weight").ok_or("no norms")?, &expected, 1e-6);
    assert_eq!(norms.keys().collect::<Vec<_>>(), ["a.weight", "b.weight"]);
    let _: &BTreeMap<String, Vec<f32>> = &norms;
    Ok(())
}
