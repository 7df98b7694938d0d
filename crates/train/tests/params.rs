//! Parameters: arena, overrides, gradients, trees, values, hash.
#![allow(clippy::unwrap_used, clippy::panic)]

use acclimate_tensor::{Device, Tensor, Tree, compile, transform::vmap::vmap_with};
use acclimate_train::params::{Kind, Named, Params};
use acclimate_train::{Error, Result};

fn named(path: &str, dims: &[usize], from: f32) -> Named {
    let n = dims.iter().product::<usize>();
    (path.to_owned(), dims.to_vec(), (0..n).map(|i| from + i as f32).collect())
}

fn params() -> Params {
    let main = [(named("fc.weight", &[2, 3], 1.0), Kind::Weight), (named("fc.bias", &[2], 10.0), Kind::Bias)];
    let norm = [(named("bn.weight", &[70], 0.5), Kind::NormScale)];
    let buffers = [
        (named("bn.running_mean", &[2], 7.0), Kind::RunningMean),
        (named("bn.running_var", &[2], 9.0), Kind::RunningVar),
    ];
    Params::from_items(&Device::cpu(), &[&main[..], &norm[..]].concat(), &buffers).unwrap()
}

#[test]
fn views_of_the_arena() {
    let params = params();
    assert_eq!(params.get("fc.weight").unwrap().dims(), [2, 3]);
    assert_eq!(params.get("fc.bias").unwrap().to_vec::<f32>().unwrap(), [10.0, 11.0]);
    assert_eq!(params.buffer("bn.running_var").unwrap().to_vec::<f32>().unwrap(), [9.0, 10.0]);
    assert_eq!(params.arena().dims(), [256]);
    assert_eq!(params.n_values(), 78);
    assert_eq!(params.select(|_, kind| kind.is_norm_affine()), ["bn.weight"]);
    let unknown = params.get("fc.wieght").unwrap_err().to_string();
    assert_eq!(unknown, "unknown parameter `fc.wieght`; did you mean `fc.weight`?");
    assert!(params.buffer("fc.weight").is_err());
}

#[test]
fn overrides_win_and_must_fit() {
    let params = params();
    let bias = Tensor::full(params.device(), &[2], -1.0).unwrap();
    let other = params.with_overrides([("fc.bias".to_owned(), bias.clone())]).unwrap();
    assert_eq!(other.get("fc.bias").unwrap().to_vec::<f32>().unwrap(), [-1.0; 2]);
    assert_eq!(other.to_named().unwrap()[1].2, [-1.0; 2]);
    assert_eq!(params.get("fc.bias").unwrap().to_vec::<f32>().unwrap(), [10.0, 11.0]);
    assert_ne!(params.hash().unwrap(), other.hash().unwrap());
    let wrong = params.with_overrides([("fc.weight".to_owned(), bias)]).unwrap_err();
    assert!(matches!(wrong, Error::ValueShape { .. }) && wrong.is_shape());
}

#[test]
fn a_gradient_has_the_layout_of_the_parameters() {
    let params = params();
    let (w, b) = (params.get("fc.weight").unwrap(), params.get("fc.bias").unwrap());
    let loss = w.square().unwrap().sum(&[]).unwrap().add(&b.mul_scalar(3.0).unwrap().sum(&[]).unwrap()).unwrap();
    let grads = params.grad(&loss).unwrap();
    assert_eq!(grads.get("fc.weight").unwrap().to_vec::<f32>().unwrap(), [2.0, 4.0, 6.0, 8.0, 10.0, 12.0]);
    assert_eq!(grads.get("fc.bias").unwrap().to_vec::<f32>().unwrap(), [3.0, 3.0]);
    // What the loss does not touch, padding included, has gradient zero.
    let all = grads.arena().to_vec::<f32>().unwrap();
    assert_eq!(all.iter().filter(|&&g| g != 0.0).count(), 8);
    assert!(grads.buffer_arena().is_none());
}

#[test]
fn each_input_may_have_weights_of_its_own() {
    let params = params();
    let biases = Tensor::from_slice(params.device(), &[1.0f32, 2.0, 3.0, 4.0], &[2, 2]).unwrap();
    let sums = vmap_with(
        |bias: Tensor| -> Result<Tensor> {
            let params = params.with_overrides([("fc.bias".to_owned(), bias)])?;
            let loss = params.get("fc.bias")?.square()?.add(&params.get("fc.weight")?.sum(&[1])?)?.sum(&[])?;
            params.grad(&loss)?.get("fc.bias")
        },
        biases,
    );
    assert_eq!(sums.unwrap().to_vec::<f32>().unwrap(), [2.0, 4.0, 6.0, 8.0]);
}

#[test]
fn taken_apart_and_put_together() {
    let params = params();
    let override_ = params.get("fc.bias").unwrap().mul_scalar(2.0).unwrap();
    let params = params.with_overrides([("fc.bias".to_owned(), override_)]).unwrap();
    let hash = params.hash().unwrap();
    let mut leaves = Vec::new();
    let form = params.clone().take_apart(&mut leaves);
    assert_eq!(leaves.len(), 3);
    assert!(Params::put_together(&form, &mut leaves[..2].iter().cloned()).is_err());
    let again = Params::put_together(&form, &mut leaves.into_iter()).unwrap();
    assert_eq!(again.hash().unwrap(), hash);
}

#[test]
fn parameters_go_through_compile() {
    let step = compile(|(params, x): (Params, Tensor)| -> Result<Params> {
        let loss = params.get("fc.weight")?.mul(&x)?.sum(&[])?;
        let grads = params.grad(&loss)?;
        let mean = params.buffer("bn.running_mean")?.add_scalar(1.0)?;
        let params = params.with_arena(params.arena().sub(grads.arena())?)?;
        params.with_buffers([("bn.running_mean".to_owned(), mean)])
    });
    let mut state = params();
    let x = Tensor::from_slice(state.device(), &[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0], &[2, 3]).unwrap();
    for _ in 0..3 {
        state = step.call((state, x.clone())).unwrap();
    }
    assert_eq!(state.get("fc.weight").unwrap().to_vec::<f32>().unwrap(), [-2.0, -4.0, -6.0, -8.0, -10.0, -12.0]);
    assert_eq!(state.get("bn.weight").unwrap().to_vec::<f32>().unwrap()[69], 69.5);
    assert_eq!(state.buffer("bn.running_mean").unwrap().to_vec::<f32>().unwrap(), [10.0, 11.0]);
    assert_eq!(state.buffer("bn.running_var").unwrap().to_vec::<f32>().unwrap(), [9.0, 10.0]);
}

#[test]
fn parts_and_overlays() {
    let params = params();
    let part = params.subset(&["bn.weight".to_owned(), "fc.bias".to_owned()]).unwrap();
    assert_eq!(part.arena().dims(), [192]);
    assert_eq!(part.get("fc.bias").unwrap().to_vec::<f32>().unwrap(), [10.0, 11.0]);
    let moved = part.with_arena(part.arena().add_scalar(1.0).unwrap()).unwrap();
    let whole = params.overlaid(&moved).unwrap();
    assert_eq!(whole.get("fc.bias").unwrap().to_vec::<f32>().unwrap(), [11.0, 12.0]);
    assert!(params.subset(&[]).is_err());
}

#[test]
fn values_go_out_and_come_back() {
    let params = params();
    let mut named = params.to_named().unwrap();
    named.extend(params.buffers_to_named().unwrap());
    let back = params.zeros_like().unwrap();
    assert_ne!(back.hash().unwrap(), params.hash().unwrap());
    assert_eq!(params.with_values(named.clone(), "here").unwrap().hash().unwrap(), params.hash().unwrap());
    let mut missing = named.clone();
    missing.remove(3);
    let message = params.with_values(missing, "a.safetensors").unwrap_err().to_string();
    assert_eq!(message, "buffer `bn.running_mean` is missing in a.safetensors; expected shape [2]");
    let mut unknown = named.clone();
    unknown[0].0 = "fc.weights".to_owned();
    assert!(params.with_values(unknown, "here").unwrap_err().to_string().contains("did you mean `fc.weight`?"));
    named[0].1 = vec![3, 2];
    assert!(params.with_values(named, "here").unwrap_err().is_shape());
}

#[test]
fn the_hash_follows_values_and_paths_but_not_order_or_padding() {
    let device = Device::cpu();
    let (a, b) = (named("a", &[2], 1.0), named("b", &[3], 5.0));
    let hash = |list: &[Named]| Params::from_named(&device, list.to_vec()).unwrap().hash().unwrap();
    let there = hash(&[a.clone(), b.clone()]);
    assert_eq!(there, hash(&[b.clone(), a.clone()]));
    let params = Params::from_named(&device, vec![a.clone(), b.clone()]).unwrap();
    let mut arena = params.arena().to_vec::<f32>().unwrap();
    arena[10] = 3.0; // padding
    let padded = params.with_arena(Tensor::from_slice(&device, &arena, &[arena.len()]).unwrap()).unwrap();
    assert_eq!(there, padded.hash().unwrap());
    arena[65] = f32::from_bits(arena[65].to_bits() ^ 1);
    let changed = params.with_arena(Tensor::from_slice(&device, &arena, &[arena.len()]).unwrap()).unwrap();
    assert_ne!(there, changed.hash().unwrap());
    assert_ne!(there, hash(&[named("a", &[1, 2], 1.0), b.clone()]));
    assert_ne!(there, hash(&[named("c", &[2], 1.0), b]));
}

#[test]
fn refuses_what_is_no_parameter_list() {
    let device = Device::cpu();
    assert!(Params::from_named(&device, vec![]).is_err());
    assert!(Params::from_named(&device, vec![("a".into(), vec![2], vec![1.0])]).is_err());
    assert!(Params::from_named(&device, vec![named("a", &[2], 0.0), named("a", &[2], 0.0)]).is_err());
    assert!(params().with_arena(Tensor::zeros(&device, &[255]).unwrap()).unwrap_err().is_shape());
    let update = ("bn.running_mean".to_owned(), Tensor::zeros(&device, &[3]).unwrap());
    assert!(params().with_buffers([update]).unwrap_err().is_shape());
}
