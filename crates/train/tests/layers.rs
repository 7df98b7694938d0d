//! Layers and networks: what they compute, what they leave in a pass, what they refuse.
#![allow(clippy::unwrap_used, clippy::panic)]

use acclimate_kernels::random::Key;
use acclimate_kernels::{Pool2d, TensorOps};
use acclimate_tensor::{Device, Tensor, compile, grad, transform::vmap::vmap_with};
use acclimate_train::nn::{
    Activation, AvgPool2d, Conv2d, Dropout, Embedding, Flatten, GlobalAvgPool2d, Linear, MaxPool2d, Mlp,
    MultiHeadAttention, Norm, Residual, Sequential, SmallCnn,
};
use acclimate_train::nn::{BatchNorm, Shortcut, Standardize};
use acclimate_train::params::Params;
use acclimate_train::{Layer, Pass, Result, loss};

fn tensor(device: &Device, dims: &[usize], f: impl Fn(usize) -> f32) -> Tensor {
    let n = dims.iter().product();
    Tensor::from_slice(device, &(0..n).map(f).collect::<Vec<f32>>(), dims).unwrap()
}

fn values(t: &Tensor) -> Vec<f32> {
    t.to_vec::<f32>().unwrap()
}

#[test]
fn linear_by_hand() {
    let device = Device::cpu();
    let layer = Linear::new("fc", 3, 2);
    let named = vec![
        ("fc.weight".into(), vec![2, 3], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
        ("fc.bias".into(), vec![2], vec![0.5, -0.5]),
    ];
    let params = Params::from_named(&device, named).unwrap();
    let x = tensor(&device, &[2, 3], |i| i as f32);
    assert_eq!(values(&layer.forward(&params, &x).unwrap()), [8.5, 16.5, 26.5, 61.5]);
    assert_eq!(layer.without_bias().forward(&params, &x).unwrap().dims(), [2, 2]);
}

#[test]
fn convolution_by_hand() {
    let device = Device::cpu();
    let layer = Conv2d::new("conv", 1, 2, 3).same();
    let mut kernel = vec![0.0; 18];
    kernel[4] = 2.0; // twice the image
    kernel[9 + 3] = 1.0; // the pixel to the left
    let named = vec![("conv.weight".into(), vec![2, 1, 3, 3], kernel), ("conv.bias".into(), vec![2], vec![0.0, 10.0])];
    let params = Params::from_named(&device, named).unwrap();
    let x = tensor(&device, &[1, 1, 2, 2], |i| 1.0 + i as f32);
    assert_eq!(values(&layer.forward(&params, &x).unwrap()), [2.0, 4.0, 6.0, 8.0, 10.0, 11.0, 10.0, 13.0]);
}

#[test]
fn heads_attend_apart() {
    let device = Device::cpu();
    let layer = MultiHeadAttention::new("a", 4, 2).unwrap();
    let params = layer.init(&device, 3).unwrap();
    let x = tensor(&device, &[3, 5, 4], |i| (i as f32 * 0.7).sin());
    let get = |name: &str| params.get(name).unwrap();
    let all = x.matmul_nt(&get("a.qkv.weight")).unwrap().add(&get("a.qkv.bias")).unwrap();
    // Columns of queries, keys and values of a head, and which keys a query sees: j ≤ i.
    let head = |h: usize, causal: bool| {
        let part = |i: usize| all.narrow(2, 4 * i + 2 * h, 2).unwrap();
        let scores = part(0).matmul_nt(&part(1)).unwrap().mul_scalar(0.5f32.sqrt()).unwrap();
        let place = |axis| Tensor::iota(&device, &[3, 5, 5], axis).unwrap();
        let hidden = scores.full_like(-1e9).unwrap();
        let seen = place(2).le(&place(1)).unwrap().select(&scores, &hidden).unwrap();
        (if causal { seen } else { scores }).softmax(-1).unwrap().matmul(&part(2)).unwrap()
    };
    for causal in [false, true] {
        let heads = acclimate_kernels::concat(&[&head(0, causal), &head(1, causal)], 2).unwrap();
        let want = heads.matmul_nt(&get("a.out.weight")).unwrap().add(&get("a.out.bias")).unwrap();
        let layer = if causal { layer.clone().causal() } else { layer.clone() };
        let got = layer.forward(&params, &x).unwrap();
        // Sums of up to five products of numbers near one, and an exponential, in another order.
        let far = values(&got).iter().zip(values(&want)).map(|(g, w)| (g - w).abs()).fold(0.0, f32::max);
        assert!(far < 1e-6, "{far}");
    }
    assert!(MultiHeadAttention::new("a", 5, 2).is_err());
    assert!(layer.forward(&params, &tensor(&device, &[5, 4], |_| 0.0)).unwrap_err().is_shape());
}

#[test]
fn an_error_names_its_layer_once() {
    let device = Device::cpu();
    let model = Mlp::new("digits", 784, &[16], 10);
    let params = model.init(&device, 1).unwrap();
    let error = model.forward(&params, &tensor(&device, &[32, 100], |_| 0.0)).unwrap_err();
    let message = error.to_string();
    assert!(message.starts_with("matmul in digits.fc1: "), "{message}");
    assert!(error.is_shape() && message.matches("digits").count() == 1);
    let other = Mlp::new("numbers", 784, &[16], 10).init(&device, 1).unwrap();
    let error = model.forward(&other, &tensor(&device, &[1, 784], |_| 0.0)).unwrap_err().to_string();
    assert!(error.starts_with("unknown parameter `digits.fc1.weight`"), "{error}");
}

#[test]
fn first_values_are_spread_as_pytorchs() {
    let params = Linear::new("fc", 400, 300).init(&Device::cpu(), 3).unwrap();
    for (path, n) in [("fc.weight", 120_000.0f32), ("fc.bias", 300.0)] {
        let w = values(&params.get(path).unwrap());
        assert!(w.iter().all(|w| w.abs() <= 0.05), "1/√400");
        // Uniform in ±b has variance b²/3, and that of its square is 4b⁴/45; five standard errors.
        let variance = w.iter().map(|w| w * w).sum::<f32>() / n;
        assert!((variance - 0.0025 / 3.0).abs() < 5.0 * (4.0f32 / 45.0).sqrt() * 0.0025 / n.sqrt());
    }
    let again = Linear::new("fc", 400, 300).init(&Device::cpu(), 3).unwrap();
    assert_eq!(params.hash().unwrap(), again.hash().unwrap());
    let first = values(&params.get("fc.weight").unwrap())[..2].to_vec();
    let longer = Sequential::new().then(Linear::new("before", 2, 2)).then(Linear::new("fc", 400, 300));
    let longer = longer.init(&Device::cpu(), 3).unwrap();
    assert_eq!(first, values(&longer.get("fc.weight").unwrap())[..2], "what stands before changes nothing");
}

#[test]
fn activations() {
    let device = Device::cpu();
    let x = tensor(&device, &[4], |i| [-1.0, 0.0, 1.0, 7.0][i]);
    let table = [
        (Activation::Relu, [0.0, 0.0, 1.0, 7.0]),
        (Activation::Relu6, [0.0, 0.0, 1.0, 6.0]),
        (Activation::Gelu, [-0.158_655_25, 0.0, 0.841_344_8, 7.0]),
        (Activation::Silu, [-0.268_941_42, 0.0, 0.731_058_6, 6.993_623]),
        (Activation::Tanh, [-0.761_594_2, 0.0, 0.761_594_2, 0.999_998_3]),
        (Activation::Sigmoid, [0.268_941_42, 0.5, 0.731_058_6, 0.999_089]),
    ];
    for (activation, expected) in table {
        for (found, expected) in values(&activation.of(&x).unwrap()).iter().zip(expected) {
            assert!((found - expected).abs() < 2e-6, "{activation:?}: {found} {expected}");
        }
    }
}

#[test]
fn dropouts_of_one_graph_differ_and_follow_the_key() {
    let device = Device::cpu();
    let model = Sequential::new().then(Dropout::new("a", 0.25)).then(Linear::new("unused", 1, 1));
    let params = model.init(&device, 0).unwrap();
    let (a, b) = (Dropout::new("a", 0.25), Dropout::new("b", 0.25));
    let x = tensor(&device, &[10_000], |_| 3.0);
    let run = |seed| {
        let mut pass = Pass::train(Key::new(&device, seed).unwrap());
        (values(&a.apply(&params, &x, &mut pass).unwrap()), values(&b.apply(&params, &x, &mut pass).unwrap()))
    };
    let (first, second) = run(1);
    assert_ne!(first, second);
    assert_eq!(run(1), (first.clone(), second));
    assert_ne!(run(2).0, first);
    assert!(first.iter().all(|&v| v == 0.0 || v == 4.0));
    // Binomial: five standard errors.
    let dropped = first.iter().filter(|&&v| v == 0.0).count() as f32;
    assert!((dropped - 2500.0).abs() < 5.0 * (10_000.0f32 * 0.25 * 0.75).sqrt());
    assert!(a.forward(&params, &x).unwrap().is(&x), "nothing happens when answering");
    for p in [1.0, -0.1, f32::NAN] {
        assert!(Dropout::new("c", p).forward(&params, &x).is_err());
    }
}

#[test]
fn a_compiled_step_drops_anew_at_each_call() {
    let device = Device::cpu();
    let params = Linear::new("fc", 1, 1).init(&device, 0).unwrap();
    let step = compile(move |(x, key): (Tensor, Key)| Dropout::new("a", 0.5).apply(&params, &x, &mut Pass::train(key)));
    let x = tensor(&device, &[256], |_| 1.0);
    let run = |seed| values(&step.call((x.clone(), Key::new(&device, seed).unwrap())).unwrap());
    let (a, b) = (run(1), run(2));
    assert_ne!(a, b);
    assert_eq!(run(1), a);
}

#[test]
fn residual_blocks() {
    let device = Device::cpu();
    let zero = vec![("c.weight".to_owned(), vec![2, 2, 1, 1], vec![0.0; 4])];
    let params = Params::from_named(&device, zero).unwrap();
    let body = || Sequential::new().then(Conv2d::new("c", 2, 2, 1).without_bias());
    let x = tensor(&device, &[1, 2, 3, 3], |i| i as f32 - 5.0);
    let y = Residual::new("block", body()).forward(&params, &x).unwrap();
    assert_eq!(values(&y), values(&x.relu().unwrap()));
    // Every second pixel, and a channel of zeros on both sides.
    let wide = Sequential::new().then(Conv2d::new("d", 2, 4, 1).strided(2).without_bias());
    let params = Params::from_named(&device, vec![("d.weight".to_owned(), vec![4, 2, 1, 1], vec![0.0; 8])]).unwrap();
    let block =
        Residual::new("block", wide).with_shortcut(Shortcut::Pad { stride: 2, channels: [1; 2] }).with_activation(None);
    let y = block.forward(&params, &x).unwrap();
    assert_eq!(y.dims(), [1, 4, 2, 2]);
    assert_eq!(values(&y)[..12], [0.0, 0.0, 0.0, 0.0, -5.0, -3.0, 1.0, 3.0, 4.0, 6.0, 10.0, 12.0]);
    let error = Residual::new("block", body()).with_shortcut(Shortcut::Pad { stride: 0, channels: [0; 2] });
    let params = Params::from_named(&device, vec![("c.weight".to_owned(), vec![2, 2, 1, 1], vec![0.0; 4])]).unwrap();
    assert!(error.forward(&params, &x).unwrap_err().to_string().starts_with("shortcut in block: stride"));
}

#[test]
fn standardized_and_flattened() {
    let device = Device::cpu();
    let params = Linear::new("fc", 1, 1).init(&device, 0).unwrap();
    let x = tensor(&device, &[1, 2, 1, 2], |i| i as f32);
    let layer = Standardize::new(&[1.0, 2.0], &[0.5, 2.0]).unwrap();
    let y = Sequential::new().then(layer.clone()).then(Flatten).forward(&params, &x).unwrap();
    assert_eq!((y.dims(), values(&y)), (&[1, 4][..], vec![-2.0, 0.0, 0.0, 0.5]));
    assert_eq!(values(&GlobalAvgPool2d.forward(&params, &x).unwrap()), [0.5, 2.5]);
    assert!(layer.forward(&params, &tensor(&device, &[1, 3, 2, 2], |_| 0.0)).unwrap_err().is_shape());
    assert!(Standardize::new(&[0.0], &[0.0]).is_err() && Standardize::new(&[0.0], &[]).is_err());
}

/// Training records running statistics; answering does not.
#[test]
fn running_statistics_move_in_training_only() {
    let device = Device::cpu();
    let model = Mlp::new("m", 3, &[5], 2).with_norm(Norm::Batch).with_dropout(0.1);
    let params = model.init(&device, 4).unwrap();
    let x = tensor(&device, &[6, 3], |i| (i as f32).sin());
    let mut pass = Pass::infer();
    model.apply(&params, &x, &mut pass).unwrap();
    assert!(pass.take_updates().is_empty());
    let mut pass = Pass::train(Key::new(&device, 1).unwrap());
    model.apply(&params, &x, &mut pass).unwrap();
    let updates = pass.take_updates();
    assert_eq!(
        updates.iter().map(|u| u.0.as_str()).collect::<Vec<_>>(),
        ["m.norm1.running_mean", "m.norm1.running_var"]
    );
    let moved = params.with_buffers(updates).unwrap();
    assert_ne!(values(&moved.buffer("m.norm1.running_mean").unwrap()), [0.0; 5]);
    assert_eq!(values(params.arena()), values(moved.arena()));
}

/// Records of a mapped training pass have a value for each input; shared buffers refuse them.
#[test]
fn shared_buffers_refuse_updates_of_a_mapped_pass() {
    let device = Device::cpu();
    let layer = BatchNorm::new("bn", 2);
    let params = layer.init(&device, 0).unwrap();
    let x = tensor(&device, &[3, 4, 2], |i| (i as f32).cos());
    let means = vmap_with(
        |x: Tensor| -> Result<Tensor> {
            let mut pass = Pass::train(Key::new(&device, 1)?);
            layer.apply(&params, &x, &mut pass)?;
            Ok(pass.take_updates().swap_remove(0).1)
        },
        x,
    )
    .unwrap();
    assert_eq!(means.dims(), [3, 2]);
    let refused = params.with_buffers([("bn.running_mean".to_owned(), means)]).unwrap_err();
    assert!(refused.is_shape());
}

/// Per-input weights: the gradient of each input alone, in one pass.
#[test]
fn a_mapped_network_is_a_loop() {
    let device = Device::cpu();
    let model = Sequential::new()
        .then(Conv2d::new("conv", 2, 3, 3).same().without_bias())
        .then(BatchNorm::new("bn", 3))
        .then(Activation::Silu)
        .then(GlobalAvgPool2d)
        .then(Linear::new("fc", 3, 4));
    let params = model.init(&device, 9).unwrap();
    let pull = |x: Tensor| -> Result<Tensor> {
        let gamma = params.get("bn.weight")?.mul_scalar(1.5)?;
        let params = params.with_overrides([("bn.weight".to_owned(), gamma.clone())])?;
        let mut pass = Pass::infer().with_statistics(acclimate_train::Statistics::Prior(4.0));
        let logits = model.apply(&params, &x, &mut pass)?;
        Ok(grad(&loss::marginal_entropy(&logits)?, gamma)?)
    };
    let x = tensor(&device, &[3, 5, 2, 4, 4], |i| (i as f32 * 0.37).sin());
    let mapped = values(&vmap_with(pull, x.clone()).unwrap());
    for i in 0..3 {
        let alone = values(&pull(x.narrow(0, i, 1).unwrap().squeeze(0).unwrap()).unwrap());
        assert!(alone.iter().any(|g| g.abs() > 1e-4), "{alone:?}");
        // Sums of 5·4·4 terms may run in another order.
        for (a, b) in alone.iter().zip(&mapped[3 * i..]) {
            assert!((a - b).abs() < 80.0 * f32::EPSILON, "{a} {b}");
        }
    }
}

/// Plain gradient descent learns classes that can be told apart, through a whole network.
#[test]
fn networks_learn() {
    let device = Device::cpu();
    let model = Mlp::new("m", 4, &[16, 16], 3).with_norm(Norm::Layer).with_activation(Activation::Gelu);
    let mut params = model.init(&device, 2).unwrap();
    // Each class has a feature of its own, under noise.
    let x = tensor(&device, &[12, 4], |i| 0.3 * (i as f32 * 1.7).sin() + if i % 4 == i / 4 % 3 { 1.0 } else { 0.0 });
    let y = loss::Labels::new(&device, &[0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2], 3).unwrap();
    let mut losses = Vec::new();
    for _ in 0..30 {
        let loss = loss::cross_entropy(&model.forward(&params, &x).unwrap(), &y).unwrap();
        let grads = params.grad(&loss).unwrap();
        params = params.with_arena(params.arena().sub(&grads.arena().mul_scalar(0.3).unwrap()).unwrap()).unwrap();
        Tensor::realize(&[&loss, params.arena()]).unwrap();
        losses.push(loss.item().unwrap());
    }
    assert!(losses[29] < 0.2 * losses[0], "{losses:?}");
}

#[test]
fn pools_and_rows_of_a_table() {
    let device = Device::cpu();
    let table = Embedding::new("words", 4, 2);
    let params = table.init(&device, 1).unwrap();
    let ids = Tensor::from_slice(&device, &[3u32, 0, 3], &[3]).unwrap();
    let (rows, all) = (values(&table.forward(&params, &ids).unwrap()), values(&params.get("words.weight").unwrap()));
    assert_eq!(rows, [all[6], all[7], all[0], all[1], all[6], all[7]]);
    let x = tensor(&device, &[1, 1, 2, 4], |i| i as f32);
    assert_eq!(values(&MaxPool2d(Pool2d::new(2)).forward(&params, &x).unwrap()), [5.0, 7.0]);
    assert_eq!(values(&AvgPool2d(Pool2d::new(2)).forward(&params, &x).unwrap()), [2.5, 4.5]);
}

#[test]
fn a_small_network_for_images() {
    let device = Device::cpu();
    let model = SmallCnn::new("net", [1, 28, 28], &[8, 16, 32], 10).unwrap();
    let params = model.init(&device, 1).unwrap();
    // Convolutions 8·9 + 16·8·9 + 32·16·9, affine 2·(8 + 16 + 32), linear 10·(32·3·3) + 10.
    assert_eq!(params.n_values(), 72 + 1152 + 4608 + 112 + 2890);
    let x = tensor(&device, &[4, 1, 28, 28], |i| (i as f32 * 0.1).sin());
    let mut pass = Pass::train(Key::new(&device, 1).unwrap()).with_taps();
    assert_eq!(model.apply(&params, &x, &mut pass).unwrap().dims(), [4, 10]);
    assert_eq!((pass.take_updates().len(), pass.take_taps().len()), (6, 3));
    let error = model.forward(&params, &tensor(&device, &[4, 3, 28, 28], |_| 0.0)).unwrap_err().to_string();
    assert!(error.starts_with("conv2d in net.conv1: "), "{error}");
    assert!(
        SmallCnn::new("net", [1, 4, 4], &[8, 8, 8], 10).is_err() && SmallCnn::new("net", [1, 4, 4], &[], 10).is_err()
    );
    assert!(SmallCnn::new("net", [1, 1 << 40, 1 << 40], &[1 << 40], 10).unwrap().init(&device, 0).is_err());
}
