//! Meta-learning: gradients through inner steps against numbers, known answers on quadratics, equalities between methods,
//! one submission for a meta-batch.

#[path = "../../tensor/tests/adapter/mod.rs"]
mod adapter;

use std::sync::Arc;

use acclimate_infer::Error;
use acclimate_infer::meta::{Meta, MetaLearner, Tasks, anil, fomaml, maml, meta_sgd, reptile};
use acclimate_tensor::{Device, Tensor, oracle};
use acclimate_train::data::rng::Philox;
use acclimate_train::nn::{Activation, Linear, Mlp};
use acclimate_train::optim::{self, Optimizer};
use acclimate_train::{Layer, Params, loss};

type Test = Result<(), Box<dyn std::error::Error>>;

fn numbers(n: usize, seed: u64) -> Vec<f32> {
    let mut draw = Philox::from_seed(seed).stream(0);
    (0..n).map(|_| draw.normal() as f32).collect()
}

/// Three tasks: four rows of support, five of query, two features.
fn tasks(device: &Device) -> Result<Tasks, Error> {
    let tensor = |seed, dims: &[usize]| {
        Tensor::from_slice(device, &numbers(dims.iter().product(), seed), dims).map_err(Error::from)
    };
    Ok(Tasks {
        support: tensor(1, &[3, 4, 2])?,
        support_target: tensor(2, &[3, 4, 1])?,
        query: tensor(3, &[3, 5, 2])?,
        query_target: tensor(4, &[3, 5, 1])?,
    })
}

fn net() -> Arc<dyn Layer> {
    Arc::new(Mlp::new("net", 2, &[6], 1).with_activation(Activation::Tanh))
}

fn learner(device: &Device, model: Arc<dyn Layer>, meta: Meta, outer: Optimizer) -> Result<MetaLearner, Error> {
    let params = model.init(device, 5)?;
    MetaLearner::new(model, params, loss::mse, meta, outer)
}

/// ⟨gradient, v⟩ against (L(θ + hv) − L(θ − hv))/2h, both in f64 by the oracle, which walks the graph of adaptation and
/// gradient node by node: the gradients of gradients are those of the function.
#[test]
fn second_order_gradients_are_those_of_the_function() -> Test {
    let device = Device::cpu();
    for meta in [maml(0.2, 1), maml(0.1, 3), anil(0.3, 2, ["net.fc2.weight", "net.fc2.bias"])] {
        let (name, steps) = (meta.name(), meta.steps());
        let learner = learner(&device, net(), meta, optim::sgd(0.1))?;
        let (gradient, loss) = learner.meta_gradient(tasks(&device)?)?;
        let arena = learner.params().arena().clone();
        let at = arena.to_vec::<f32>()?.into_iter().map(f64::from).collect::<Vec<_>>();
        let evaluate = |t: &Tensor, theta: &[f64]| -> Result<Vec<f64>, Error> {
            Ok(oracle::evaluate(t, &[(arena.clone(), theta.to_vec())])?.real().to_vec())
        };
        let exact = evaluate(&gradient, &at)?;
        let scale = exact.iter().map(|g| g * g).sum::<f64>().sqrt();
        assert!(scale > 1e-2, "{name}: a gradient of {scale} says nothing");
        let h = f64::EPSILON.cbrt();
        for direction in 0..5 {
            let v: Vec<f64> = numbers(at.len(), 20 + direction).into_iter().map(f64::from).collect();
            let moved = |sign: f64| at.iter().zip(&v).map(|(t, v)| t + sign * h * v).collect::<Vec<_>>();
            let numeric = (evaluate(&loss, &moved(1.0))?[0] - evaluate(&loss, &moved(-1.0))?[0]) / (2.0 * h);
            let along: f64 = exact.iter().zip(&v).map(|(g, v)| g * v).sum();
            // h² of truncation and eps/h of cancellation are both about 4e-11, times derivatives of some tens.
            assert!((numeric - along).abs() < 1e-7 * (1.0 + scale), "{name} {steps}: {along}, numeric {numeric}");
        }
        // The engine's f32 agrees with the oracle's f64: a chain of some hundred roundings.
        for (got, want) in gradient.to_vec::<f32>()?.into_iter().zip(&exact) {
            assert!((f64::from(got) - want).abs() < 300.0 * 6e-8 * (1.0 + scale), "{name}: {got}, oracle {want}");
        }
    }
    Ok(())
}

/// L = ½(w·x − y)²·2 on one row is a quadratic with Hessian A = 2xxᵀ: θ′ = θ − α∇, and the meta-gradient is ∇L_q(θ′) for
/// first order and (I − αA)∇L_q(θ′) for second.
#[test]
fn on_a_quadratic_first_and_second_order_are_the_known_answers() -> Test {
    let device = Device::cpu();
    let model: Arc<dyn Layer> = Arc::new(Linear::new("w", 2, 1).without_bias());
    let (w, x, y, q, r) = ([0.5f64, -1.0], [1.5, 0.5], 2.0, [-0.5, 2.0], 0.25);
    let alpha = 0.1;
    let gradient = |w: [f64; 2], x: [f64; 2], y: f64| {
        let residual = 2.0 * (w[0] * x[0] + w[1] * x[1] - y);
        [residual * x[0], residual * x[1]]
    };
    let g = gradient(w, x, y);
    let first = gradient([w[0] - alpha * g[0], w[1] - alpha * g[1]], q, r);
    let along = 2.0 * (x[0] * first[0] + x[1] * first[1]);
    let second = [first[0] - alpha * along * x[0], first[1] - alpha * along * x[1]];
    for (meta, want) in [(fomaml(alpha, 1), first), (maml(alpha, 1), second)] {
        let params = Params::from_named(&device, vec![("w.weight".into(), vec![1, 2], w.map(|v| v as f32).to_vec())])?;
        let learner = MetaLearner::new(model.clone(), params, loss::mse, meta, optim::sgd(0.1))?;
        let tensor = |v: &[f64], dims: &[usize]| {
            Tensor::from_slice(&device, &v.iter().map(|v| *v as f32).collect::<Vec<_>>(), dims)
        };
        let tasks = Tasks {
            support: tensor(&x, &[1, 1, 2])?,
            support_target: tensor(&[y], &[1, 1, 1])?,
            query: tensor(&q, &[1, 1, 2])?,
            query_target: tensor(&[r], &[1, 1, 1])?,
        };
        let found = learner.meta_gradient(tasks)?.0.to_vec::<f32>()?;
        for (got, want) in found.iter().zip(want) {
            // A dozen roundings of numbers below 8.
            assert!((f64::from(*got) - want).abs() < 12.0 * 6e-8 * 8.0, "{got}, known {want}");
        }
    }
    Ok(())
}

/// Reptile with one step of SGD at α and ε = 1 is a step of SGD at α on the mean of the tasks' losses.
#[test]
fn reptile_of_one_step_is_sgd_on_the_mean_loss() -> Test {
    let device = Device::cpu();
    let mut learner = learner(&device, net(), reptile(optim::sgd(0.1), 1), optim::sgd(1.0))?;
    let params = learner.params().clone();
    let tasks = tasks(&device)?;
    let model = net();
    let mut losses = Vec::new();
    for i in 0..3 {
        let row = |t: &Tensor| t.narrow(0, i, 1)?.squeeze(0);
        losses.push(loss::mse(&model.forward(&params, &row(&tasks.support)?)?, &row(&tasks.support_target)?)?);
    }
    let mean = losses[0].add(&losses[1])?.add(&losses[2])?.mul_scalar(1.0 / 3.0)?;
    let sgd = optim::sgd(0.1);
    let gradient = params.grad(&mean)?;
    let cx = optim::StepCx::new(&sgd.rate_tensor(&device, 0)?);
    let (want, _) = sgd.step(params.clone(), &gradient, sgd.init(&params)?, &cx)?;
    learner.step(tasks)?;
    let (got, want) = (learner.params().arena().to_vec::<f32>()?, want.arena().to_vec::<f32>()?);
    let moved = params.arena().to_vec::<f32>()?.iter().zip(&want).filter(|(a, b)| a != b).count();
    assert!(moved >= 20, "{moved}");
    for (got, want) in got.iter().zip(&want) {
        // θ − ((θ − θ′) averaged) rounds a handful of times at the size of θ, below 1.
        assert!((got - want).abs() < 8.0 * 6e-8, "{got}, sgd {want}");
    }
    Ok(())
}

/// Meta-SGD with equal rates answers as MAML does, and its rates learn.
#[test]
fn meta_sgd_begins_as_maml_and_learns_rates() -> Test {
    let device = Device::cpu();
    let mut plain = learner(&device, net(), maml(0.1, 2), optim::adam(0.01))?;
    let mut rates = learner(&device, net(), meta_sgd(0.1, 2), optim::adam(0.01))?;
    let (a, b) = (plain.step(tasks(&device)?)?, rates.step(tasks(&device)?)?);
    assert!((a - b).abs() < 1e-6 * a, "{a} {b}");
    let (a, b) = (plain.params().arena().to_vec::<f32>()?, rates.params().arena().to_vec::<f32>()?);
    assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-5));
    let learned = rates.rates().ok_or("no rates")?.to_vec::<f32>()?;
    // Adam's first step has the size of its rate, up to padding that has no gradient.
    assert!(learned.iter().filter(|r| ((**r - 0.1).abs() - 0.01).abs() < 1e-5).count() >= 20, "{learned:?}");
    assert!(plain.rates().is_none());
    Ok(())
}

/// A meta-batch, inner steps and all, is one submission; from the second on nothing is planned.
#[test]
fn a_meta_batch_is_one_submission() -> Test {
    let device = Device::cpu();
    for meta in [maml(0.1, 2), reptile(optim::adam(0.01).betas(0.0, 0.999), 3).minibatch(2)] {
        let mut learner = learner(&device, net(), meta, optim::sgd(0.1))?;
        for _ in 0..2 {
            learner.step(tasks(&device)?)?;
        }
        let before = device.stats();
        for _ in 0..3 {
            learner.step(tasks(&device)?)?;
        }
        let now = device.stats();
        assert_eq!(now.submissions - before.submissions, 3, "{}", learner.method().name());
        assert_eq!(now.plans_built, before.plans_built);
    }
    Ok(())
}

/// Each method learns lines through the origin from two points, and one task adapted alone answers as it does in a batch.
#[test]
fn every_method_learns_and_one_task_is_as_in_a_batch() -> Test {
    let device = Device::cpu();
    let slopes = |seed| numbers(8, seed).iter().map(|s| 1.0 + 2.0 * s.abs()).collect::<Vec<f32>>();
    let lines = |seed: u64| -> Result<Tasks, Error> {
        let slopes = slopes(seed);
        let (x, q) = (numbers(8 * 4, seed + 1), numbers(8 * 3, seed + 2));
        let target = |x: &[f32], n: usize| x.iter().enumerate().map(|(i, x)| x * slopes[i / n]).collect::<Vec<f32>>();
        let tensor = |v: &[f32], n: usize| Tensor::from_slice(&device, v, &[8, n, 1]);
        Ok(Tasks {
            support: tensor(&x, 4)?,
            support_target: tensor(&target(&x, 4), 4)?,
            query: tensor(&q, 3)?,
            query_target: tensor(&target(&q, 3), 3)?,
        })
    };
    let methods = [
        (maml(0.1, 1), optim::adam(0.02)),
        (fomaml(0.1, 1), optim::adam(0.02)),
        (anil(0.1, 1, ["net.fc2.weight", "net.fc2.bias"]), optim::adam(0.02)),
        (meta_sgd(0.1, 1), optim::adam(0.02)),
        (reptile(optim::sgd(0.03), 3), optim::sgd(0.2)),
    ];
    for (meta, outer) in methods {
        let name = meta.name();
        let model: Arc<dyn Layer> = Arc::new(Mlp::new("net", 1, &[8], 1).with_activation(Activation::Tanh));
        let mut learner = learner(&device, model.clone(), meta, outer)?;
        let before = learner.judge(lines(900)?, 1)?;
        for i in 0..150 {
            learner.step(lines(10 * i)?)?;
        }
        let after = learner.judge(lines(900)?, 1)?;
        assert!(after.losses[1] < 0.5 * before.losses[1], "{name}: {:?}, at first {:?}", after.losses, before.losses);
        let tasks = lines(900)?;
        let row = |t: &Tensor| t.narrow(0, 2, 1)?.squeeze(0);
        let adapted = learner.adapted(&row(&tasks.support)?, &row(&tasks.support_target)?, 1)?;
        let alone = model.forward(&adapted, &row(&tasks.query)?)?.to_vec::<f32>()?;
        for (a, b) in alone.iter().zip(&after.outputs[6..9]) {
            assert!((a - b).abs() < 64.0 * 6e-8 * (1.0 + b.abs()), "{name}: {a} alone, {b} in a batch");
        }
    }
    Ok(())
}

#[test]
fn gpu_meta_gradients_equal_the_processors() -> Test {
    let Some(device) = adapter::open(Device::named) else { return Ok(()) };
    let on = |device: &Device| -> Result<Vec<f32>, Error> {
        let learner = learner(device, net(), maml(0.1, 2), optim::sgd(0.1))?;
        Ok(learner.meta_gradient(tasks(device)?)?.0.to_vec::<f32>()?)
    };
    let (got, want) = (on(&device)?, on(&Device::cpu())?);
    let scale = want.iter().fold(0f32, |m, w| m.max(w.abs()));
    for (got, want) in got.iter().zip(&want) {
        // Some hundred roundings on each side, and WGSL's tanh to 5 in the last place more.
        assert!((got - want).abs() < 1000.0 * 6e-8 * (1.0 + scale), "{got}, processor {want}");
    }
    Ok(())
}

#[test]
fn what_does_not_fit_is_refused() -> Test {
    let device = Device::cpu();
    assert!(learner(&device, net(), maml(0.1, 0), optim::sgd(0.1)).is_err());
    assert!(learner(&device, net(), maml(f64::NAN, 1), optim::sgd(0.1)).is_err());
    assert!(learner(&device, net(), anil(0.1, 1, ["net.fc9.weight"]), optim::sgd(0.1)).is_err());
    assert!(learner(&device, net(), anil(0.1, 1, Vec::<String>::new()), optim::sgd(0.1)).is_err());
    assert!(learner(&device, net(), reptile(optim::sgd(0.1), 1).minibatch(0), optim::sgd(1.0)).is_err());
    let mut learner = learner(&device, net(), maml(0.1, 1), optim::sgd(0.1))?;
    let good = tasks(&device)?;
    let less = good.query_target.narrow(1, 0, 4)?;
    let error = learner.step(Tasks { query_target: less, ..good.clone() }).unwrap_err();
    assert!(error.to_string().starts_with("query targets: expected sizes that begin [3, 5]"), "{error}");
    assert!(learner.step(Tasks { query: good.query.narrow(0, 0, 2)?, ..good.clone() }).is_err());
    assert!(learner.step(Tasks { support: good.query_target.clone(), ..good.clone() }).is_err());
    learner.step(good)?;
    Ok(())
}
