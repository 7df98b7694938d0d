//! Pruning: which channels depend on each other, smaller models that answer as they should, masks as PyTorch makes them,
//! schedules, budgets, files, and refusals.

mod pruning;

use std::time::Duration;

use acclimate_infer::Error;
use acclimate_infer::prune::{
    Budget, Cubic, Dependencies, GatedCnn, Gradual, Pruned, Reduction, Rungs, Score, Scores, Spread, TokenEncoder,
    Tokens, WeightScores, Within, flop, keep_attended, merge_similar, slimming_penalty,
};
use acclimate_tensor::{Device, Tensor};
use acclimate_train::data::{Batches, Tail};
use acclimate_train::fit::{Fit, Progress};
use acclimate_train::layer::Kept;
use acclimate_train::nn::zoo::CifarResNet;
use acclimate_train::nn::{Activation, BatchNorm, Conv2d, GlobalAvgPool2d, Linear, Mlp, Sequential, SmallCnn};
use acclimate_train::{Layer, Params, loss, optim};
use pruning::{Golden, Test, close, drawn, image, networks, unread};

#[test]
fn a_narrow_network_answers_as_the_wide_one_that_reads_less() -> Test {
    pruning::narrow_is_unread(&Device::cpu(), 6)
}

#[test]
fn reductions_of_tokens_are_those_of_the_published_code() -> Test {
    pruning::tokens_follow_the_golden(&Device::cpu())
}

#[test]
fn gated_networks_compute_the_winners() -> Test {
    pruning::gates_follow_the_golden(&Device::cpu())
}

#[test]
fn norms_and_wanda_scores() -> Test {
    pruning::norms_are_of_the_inputs(&Device::cpu())
}

/// Names and sizes of the groups.
fn groups(found: &Dependencies) -> Vec<(String, usize)> {
    found.groups().iter().enumerate().map(|(g, group)| (found.name(g).to_owned(), group.channels.len())).collect()
}

#[test]
fn channels_that_meet_belong_together() -> Test {
    let device = Device::cpu();
    let mut all = Vec::new();
    for (name, model, dims) in networks()? {
        let found = Dependencies::of(&*model, &model.init(&device, 0)?, &image(&device, &dims, 0)?)?;
        all.push((name, groups(&found)));
    }
    let expected: [(&str, &[(&str, usize)]); 5] = [
        // The first stage's 16 channels are padded into the second's and the third's, which have 16 and 32 of their own.
        (
            "option A",
            &[
                ("conv1.weight", 16),
                ("layer1.0.conv1.weight", 16),
                ("layer2.0.conv1.weight", 32),
                ("layer2.0.conv2.weight", 16),
                ("layer3.0.conv1.weight", 64),
                ("layer3.0.conv2.weight", 32),
            ],
        ),
        ("option B", &[("stem.weight", 4), ("a.weight", 6), ("b.weight", 6)]),
        ("depthwise", &[("up.weight", 6), ("down.weight", 4)]),
        ("flattened", &[("net.conv1.weight", 4), ("net.conv2.weight", 6)]),
        ("perceptron", &[("mlp.fc1.weight", 8), ("mlp.fc2.weight", 6)]),
    ];
    for ((name, mut found), (expected_name, expected)) in all.into_iter().zip(expected) {
        found.sort();
        let mut expected: Vec<(String, usize)> = expected.iter().map(|(n, k)| ((*n).to_owned(), *k)).collect();
        expected.sort();
        assert_eq!((name, found), (expected_name, expected));
    }
    Ok(())
}

#[test]
fn a_branch_that_loses_all_goes_away() -> Test {
    let device = Device::cpu();
    let model = CifarResNet::for_pixels(14, 10)?;
    let (params, x) = (drawn(&model, &device, 1)?, image(&device, &[2, 3, 8, 8], 1)?);
    let found = Dependencies::of(&model, &params, &x)?;
    let gone = |name: &str| name == "layer1.1.conv1.weight" || name == "layer2.0.conv1.weight";
    let scores = Scores(
        (0..found.groups().len())
            .map(|g| vec![if gone(found.name(g)) { 0.0 } else { 1.0 }; found.groups()[g].channels.len()])
            .collect(),
    );
    let all = found.flop(|_, _| true);
    // Of 11 full convolutions and the first these two blocks have 2 and 1.5: they go entirely, and no more.
    let choice = found.choose(&scores, &Budget::flop(0.69).multiple(8).least(0))?;
    let pruned = found.narrow(&model, &params, &choice)?;
    assert!(pruned.params.paths().all(|p| !p.starts_with("layer1.1.") && !p.starts_with("layer2.0.")));
    assert_eq!(flop(&*pruned.model, &pruned.params, &x)?, found.flop_of(&choice));
    assert!(found.flop_of(&choice) < all * 69 / 100 && found.flop_of(&choice) > all * 68 / 100);
    // As the wide network whose two branches give 0: nobody reads them, and their last normalization shifts by nothing.
    let mut named = unread(&found, &params, &choice)?.to_named()?;
    let mut buffers = params.buffers_to_named()?;
    for (path, _, values) in named.iter_mut().chain(&mut buffers) {
        if [".1.bn2.bias", ".1.bn2.running_mean"].iter().any(|end| *path == format!("layer1{end}"))
            || ["bias", "running_mean"].iter().any(|end| *path == format!("layer2.0.bn2.{end}"))
        {
            values.fill(0.0);
        }
    }
    named.extend(buffers);
    let expected = model.forward(&params.with_values(named, "the test")?, &x)?.to_vec::<f32>()?;
    let found = pruned.model.forward(&pruned.params, &x)?.to_vec::<f32>()?;
    close("without two branches", &found, &expected, 1e-5);
    Ok(())
}

#[test]
fn a_budget_is_kept_in_multiples() -> Test {
    let device = Device::cpu();
    let model = CifarResNet::for_pixels(14, 10)?;
    let params = drawn(&model, &device, 4)?;
    let found = Dependencies::of(&model, &params, &image(&device, &[1, 3, 32, 32], 0)?)?;
    let all = found.flop(|_, _| true);
    for score in [Score::L1, Score::GroupL2, Score::Scale] {
        let scores = found.scores(&params, score)?.relative();
        for spread in [Spread::Even, Spread::ByScore] {
            let budget = Budget::flop(0.5).multiple(8).spread(spread).sparing("conv1").sparing("layer2.0.conv2");
            let choice = found.choose(&scores, &budget)?;
            let cost = found.flop_of(&choice) as f64 / all as f64;
            assert!(cost <= 0.5 && cost > 0.44, "{score:?} {spread:?}: {cost}");
            for (g, group) in found.groups().iter().enumerate() {
                let kept = choice.count(g);
                assert!(kept >= 8 && (kept % 8 == 0 || kept == group.channels.len()), "{}: {kept}", found.name(g));
                let spared = found.name(g).starts_with("conv1") || found.name(g).starts_with("layer2.0.conv2");
                assert!(!spared || kept == group.channels.len());
                // Of the same step, whoever stays has no smaller score than whoever goes.
                let (stay, go): (Vec<usize>, Vec<usize>) = (0..group.channels.len()).partition(|&c| choice.stays(g, c));
                let least = stay.iter().map(|&c| scores.0[g][c]).fold(f64::MAX, f64::min);
                assert!(go.iter().all(|&c| scores.0[g][c] <= least));
            }
        }
    }
    // Evenly: every group keeps the same share, up to one step.
    let budget = Budget::flop(0.5).multiple(8).spread(Spread::Even);
    let choice = found.choose(&found.scores(&params, Score::L1)?, &budget)?;
    let shares: Vec<f64> =
        found.groups().iter().enumerate().map(|(g, x)| choice.count(g) as f64 / x.channels.len() as f64).collect();
    assert!(shares.iter().all(|s| (0.25..=1.0).contains(s)), "{shares:?}");
    Ok(())
}

#[test]
fn the_work_of_resnet56_is_the_known_one() -> Test {
    let device = Device::cpu();
    let model = CifarResNet::for_pixels(56, 10)?;
    let (params, x) = (model.init(&device, 0)?, Tensor::zeros(&device, &[1, 3, 32, 32])?);
    // He et al. 2016: 125,485,696 multiplications with an addition each; an image more or less changes nothing.
    assert_eq!(flop(&model, &params, &x)?, 250_971_392);
    assert_eq!(flop(&model, &params, &Tensor::zeros(&device, &[3, 3, 32, 32])?)?, 250_971_392);
    let found = Dependencies::of(&model, &params, &x)?;
    assert_eq!(found.groups().len(), 27 + 3);
    let streams = ["conv1", "layer2.0.conv2", "layer3.0.conv2"];
    let budget = streams.iter().fold(Budget::flop(0.5).multiple(16).least(8), |b, s| b.sparing(*s));
    let choice = found.choose(&found.scores(&params, Score::L1)?.relative(), &budget)?;
    let pruned = found.narrow(&model, &params, &choice)?;
    let share = flop(&*pruned.model, &pruned.params, &x)? as f64 / 250_971_392.0;
    assert!(share <= 0.5 && share > 0.48, "{share}");
    assert_eq!(pruned.model.forward(&pruned.params, &x)?.dims(), [1, 10]);
    Ok(())
}

#[test]
fn scores_are_those_of_the_formulas() -> Test {
    let device = Device::cpu();
    let net = Sequential::new()
        .then(Conv2d::new("a", 1, 2, 1).without_bias())
        .then(BatchNorm::new("n", 2))
        .then(Conv2d::new("b", 2, 1, 1).without_bias());
    let params = net.init(&device, 0)?;
    let values = [
        ("a.weight", vec![2, 1, 1, 1], vec![-3.0, 1.0]),
        ("n.weight", vec![2], vec![0.5, -2.0]),
        ("n.bias", vec![2], vec![0.0, 1.0]),
        ("b.weight", vec![1, 2, 1, 1], vec![4.0, 2.0]),
        ("n.running_mean", vec![2], vec![9.0, 9.0]),
        ("n.running_var", vec![2], vec![9.0, 9.0]),
    ];
    let params = params.with_values(values.map(|(p, d, v)| (p.to_owned(), d, v)).to_vec(), "the test")?;
    let found = Dependencies::of(&net, &params, &image(&device, &[1, 1, 2, 2], 0)?)?;
    assert_eq!(found.scores(&params, Score::L1)?.0, [[3.0, 1.0]]);
    assert_eq!(found.scores(&params, Score::Scale)?.0, [[0.5, 2.0]]);
    let l2 = found.scores(&params, Score::GroupL2)?.0;
    assert_eq!(l2, [[(9.0f64 + 0.25 + 16.0).sqrt(), (1.0f64 + 4.0 + 1.0 + 4.0).sqrt()]]);
    assert!((slimming_penalty(&params, 1e-2)?.item()? - 0.025).abs() < 1e-7);
    Ok(())
}

#[test]
fn taylor_scores_are_squared_gate_gradients() -> Test {
    let (device, golden) = (Device::cpu(), Golden::read()?);
    let net = Sequential::new()
        .then(Conv2d::new("conv1", 2, 6, 3).same().without_bias())
        .then(BatchNorm::new("bn1", 6))
        .then(Activation::Relu)
        .then(Conv2d::new("conv2", 6, 4, 3).same().without_bias())
        .then(Activation::Relu)
        .then(GlobalAvgPool2d)
        .then(Linear::new("fc", 4, 3));
    let params = golden.params("taylor", &net.init(&device, 0)?)?;
    let (x, y) = (golden.tensor(&device, "taylor.x")?, golden.get("taylor.y").1);
    let found = Dependencies::of(&net, &params, &x.narrow(0, 0, 1)?.squeeze(0)?)?;
    let gradients = (0..2).map(|batch| {
        let labels: Vec<u32> = y[4 * batch..4 * batch + 4].iter().map(|&l| l as u32).collect();
        let logits = net.forward(&params, &x.narrow(0, batch, 1)?.squeeze(0)?)?;
        Ok(params.grad(&loss::cross_entropy(&logits, &Tensor::from_slice(&device, &labels, &[4])?)?)?)
    });
    let scores = found.taylor(&params, gradients)?;
    for (g, group) in scores.0.iter().enumerate() {
        let name = found.name(g).trim_end_matches(".weight");
        let group: Vec<f32> = group.iter().map(|&s| s as f32).collect();
        close(name, &group, &golden.get(&format!("taylor.{name}")).1, 1e-4);
    }
    Ok(())
}

fn two_layers(golden: &Golden) -> Result<Params, Error> {
    let named = ["conv", "fc"].map(|name| {
        let (dims, values) = golden.get(&format!("mask.{name}.weight"));
        ((format!("{name}.weight"), dims, values), acclimate_train::Kind::Weight)
    });
    Ok(Params::from_items(&Device::cpu(), &named, &[])?)
}

#[test]
fn masks_are_those_of_pytorch() -> Test {
    let golden = Golden::read()?;
    let scores = WeightScores::magnitude(&two_layers(&golden)?, |_| true)?;
    for (share, within, what) in [(0.3, Within::Layer, "layer"), (0.37, Within::Model, "global")] {
        let masks = scores.lowest(share, within)?;
        for name in ["conv", "fc"] {
            let expected: Vec<bool> = golden.get(&format!("mask.{name}.{what}")).1.iter().map(|&m| m == 1.0).collect();
            assert_eq!(masks.of_path(&format!("{name}.weight")), Some(&expected[..]), "{name} {what}");
        }
    }
    Ok(())
}

#[test]
fn wanda_compares_within_an_output() -> Test {
    // The sheet's example: W and ‖X‖ with known scores.
    let device = Device::cpu();
    let w = vec![0.5, -2.0, 0.1, 1.0, 1.0, -1.0, 2.0, -0.3];
    let params = Linear::new("fc", 4, 2).without_bias().init(&device, 0)?;
    let params = params.with_values(vec![("fc.weight".into(), vec![2, 4], w)], "the test")?;
    let norms = [("fc.weight".to_owned(), vec![1.0, 0.1, 3.0, 0.5])].into();
    let scores = WeightScores::wanda(&params, &norms)?;
    close("scores", scores.of_path("fc.weight").ok_or("none")?, &[0.5, 0.2, 0.3, 0.5, 1.0, 0.1, 6.0, 0.15], 1e-6);
    let masks = scores.lowest(0.5, Within::Output)?;
    let kept = |m: &[bool]| m.iter().map(|&b| u8::from(b)).collect::<Vec<_>>();
    assert_eq!(masks.of_path("fc.weight").map(kept), Some(vec![1, 0, 0, 1, 1, 0, 1, 0]));

    let golden = Golden::read()?;
    let (weight, norms) = (golden.get("wanda.weight").1, golden.get("wanda.x").1);
    let norms: Vec<f32> = (0..8).map(|j| norms.iter().skip(j).step_by(8).map(|x| x * x).sum::<f32>().sqrt()).collect();
    let params = Linear::new("fc", 8, 5).without_bias().init(&device, 0)?;
    let params = params.with_values(vec![("fc.weight".into(), vec![5, 8], weight)], "golden")?;
    let scores = WeightScores::wanda(&params, &[("fc.weight".to_owned(), norms)].into())?;
    for (within, what) in [(Within::Output, "half"), (Within::Neighbors { keep: 2, of: 4 }, "2of4")] {
        let expected: Vec<bool> = golden.get(&format!("wanda.{what}")).1.iter().map(|&m| m == 1.0).collect();
        assert_eq!(scores.lowest(0.5, within)?.of_path("fc.weight"), Some(&expected[..]), "{what}");
    }
    Ok(())
}

#[test]
fn the_cubic_schedule() {
    let schedule = Cubic { initial: 0.0, last: 0.9, begin: 100, end: 500 };
    for (step, expected) in
        [(0, 0.0), (100, 0.0), (200, 0.5203125), (300, 0.7875), (400, 0.8859375), (500, 0.9), (9999, 0.9)]
    {
        assert!((schedule.at(step) - expected).abs() < 1e-12, "{step}");
    }
    assert_eq!(Cubic::to(0.5, 0).at(0), 0.5);
}

#[test]
fn what_is_pruned_stays_so_while_training() -> Test {
    let device = Device::cpu();
    let model = Mlp::new("net", 6, &[16, 12], 3);
    let paths = vec!["net.fc1.weight".to_owned(), "net.fc2.weight".to_owned()];
    let gradual = Gradual { schedule: Cubic::to(0.75, 25), within: Within::Model, every: 10, paths: paths.clone() };
    let optimizer = optim::sgd(0.05).momentum(0.9).decay(1e-3);
    let kept = acclimate_infer::prune::KeepZeros { paths };
    // The link is the first of the chain.
    let optimizer = optim::Optimizer::transform(optimizer, kept);
    let fit = Fit::supervised(model.clone(), optimizer, loss::cross_entropy).epochs(15).progress(Progress::Silent);
    let (batches, x) = (Batches::new(24, 8, 0, Tail::Keep)?, image(&device, &[24, 6], 3)?.to_vec::<f32>()?);
    let data = |at: &[usize]| {
        let rows: Vec<f32> = at.iter().flat_map(|&i| x[6 * i..6 * i + 6].to_vec()).collect();
        let labels: Vec<u32> = at.iter().map(|&i| (i % 3) as u32).collect();
        Ok((Tensor::from_slice(&device, &rows, &[at.len(), 6])?, Tensor::from_slice(&device, &labels, &[at.len()])?))
    };
    let half = Gradual { schedule: Cubic { end: 20, ..gradual.schedule }, ..gradual.clone() };
    for (gradual, name) in [(&gradual, "to the end"), (&half, "shorter")] {
        let begun = fit.begin(&model.init(&device, 1)?)?;
        let before = begun.params.to_named()?;
        let trained = gradual.run(&fit, begun, &batches, data)?;
        assert_eq!(trained.run.step, 45);
        let named = trained.params.to_named()?;
        let weights: Vec<f32> =
            named.iter().filter(|n| gradual.paths.contains(&n.0)).flat_map(|n| n.2.clone()).collect();
        let zeros = weights.iter().filter(|&&w| w == 0.0).count();
        assert_eq!(zeros, weights.len() * 3 / 4, "{name}");
        // The others have moved, and so has what is never pruned.
        for (new, old) in named.iter().zip(&before) {
            let moved = new.2.iter().zip(&old.2).filter(|(a, b)| a != b).count();
            assert!(moved > new.2.len() / 5, "{name} {}", new.0);
        }
    }
    Ok(())
}

#[test]
fn a_pruned_model_is_read_again() -> Test {
    let (device, folder) = (Device::cpu(), tempfile::tempdir()?);
    let model = CifarResNet::for_pixels(14, 10)?;
    let (params, x) = (drawn(&model, &device, 1)?, image(&device, &[2, 3, 8, 8], 1)?);
    let found = Dependencies::of(&model, &params, &x)?;
    let budget = Budget::flop(0.6).multiple(8).least(0).sparing("conv1").sparing("layer2.0.conv2");
    let choice = found.choose(&found.scores(&params, Score::L1)?, &budget)?;
    let pruned = found.narrow(&model, &params, &choice)?;
    let path = folder.path().join("small.safetensors");
    let bytes = pruned.save(&path)?;
    assert!(bytes < acclimate_train::weights::to_bytes(&params)?.len() as u64);
    let again = Pruned::load(&model, &params, &path)?;
    assert_eq!(again.kept, pruned.kept);
    assert_eq!(again.params.hash()?, pruned.params.hash()?);
    let answer = |p: &Pruned| Ok::<_, Error>(p.model.forward(&p.params, &x)?.to_vec::<f32>()?);
    assert_eq!(answer(&again)?, answer(&pruned)?);
    // Pruned once more: what is kept is of the smaller one.
    let twice = Dependencies::of(&*again.model, &again.params, &x)?;
    let choice = twice.choose(&twice.scores(&again.params, Score::L1)?, &Budget::flop(0.7).multiple(4).least(4))?;
    let smaller = twice.narrow(&*again.model, &again.params, &choice)?;
    assert_eq!(flop(&*smaller.model, &smaller.params, &x)?, twice.flop_of(&choice));
    // Another network, no list, a damaged list.
    assert!(Pruned::load(&CifarResNet::for_pixels(8, 10)?, &params, &path).is_err());
    assert!(matches!(Pruned::load(&model, &params, folder.path().join("none")), Err(Error::Io { .. })));
    std::fs::write(folder.path().join("small.safetensors.kept.json"), "{")?;
    assert!(matches!(Pruned::load(&model, &params, &path), Err(Error::Malformed { .. })));
    Ok(())
}

#[test]
fn an_encoder_reduces_what_it_says() -> Test {
    let device = Device::cpu();
    let full = TokenEncoder::new("vit", [1, 8, 8], 2, [12, 3, 3], 4)?;
    let (params, x) = (full.init(&device, 1)?, image(&device, &[3, 1, 8, 8], 2)?);
    let answer = |network: &TokenEncoder| network.forward(&params, &x).and_then(|y| Ok(y.to_vec::<f32>()?));
    let whole = answer(&full)?;
    assert_eq!(full.tokens(), [17, 17, 17]);
    // Keeping all only changes the order of tokens, and merging none nothing: attention does not see the order.
    close("keep all", &answer(&full.reducing(&[0, 1], Reduction::Keep(1.0)))?, &whole, 1e-5);
    close("merge none", &answer(&full.reducing(&[0, 1, 2], Reduction::Merge(0)))?, &whole, 1e-5);
    let (kept, merged) = (full.reducing(&[0, 2], Reduction::Keep(0.5)), full.reducing(&[0, 1, 2], Reduction::Merge(4)));
    assert_eq!((kept.tokens(), merged.tokens()), (vec![10, 10, 7], vec![13, 9, 5]));
    let cost = |n: &TokenEncoder| flop(n, &params, &x);
    for fewer in [&kept, &merged] {
        assert!(cost(fewer)? < cost(&full)? * 8 / 10);
        let logits = answer(fewer)?;
        assert!(logits.iter().all(|y| y.is_finite()) && logits != whole);
    }
    // Each input decides for itself: alone it gets the same answer.
    let alone = kept.forward(&params, &x.narrow(0, 1, 1)?)?.to_vec::<f32>()?;
    close("alone", &alone, &answer(&kept)?[4..8], 1e-5);
    // Both can be trained through.
    for network in [&kept, &merged] {
        let loss = network.forward(&params, &x)?.square()?.sum(&[])?;
        let gradient = params.grad(&loss)?;
        assert!(gradient.get("vit.patch.weight")?.to_vec::<f32>()?.iter().any(|g| *g != 0.0));
        assert!(gradient.arena().to_vec::<f32>()?.iter().all(|g| g.is_finite()));
    }
    assert!(TokenEncoder::new("vit", [1, 8, 8], 3, [12, 3, 1], 4).is_err());
    assert!(TokenEncoder::new("vit", [1, 8, 8], 2, [12, 5, 1], 4).is_err());
    assert!(full.forward(&params, &image(&device, &[3, 1, 8, 6], 2)?).is_err());
    Ok(())
}

#[test]
fn gates_learn_through_the_winners() -> Test {
    let device = Device::cpu();
    let model = GatedCnn::new("net", 1, &[(8, 1), (8, 2)], 2).at_density(0.5)?;
    let fit =
        Fit::supervised(model.clone(), optim::adam(1e-2), loss::cross_entropy).epochs(30).progress(Progress::Silent);
    // Bright images against dark ones.
    let data = |at: &[usize]| {
        let shade =
            |i: &usize| (0..36).map(|p| (i % 2) as f32 * 0.5 + (p * (i + 3) % 7) as f32 * 0.02).collect::<Vec<_>>();
        let pixels: Vec<f32> = at.iter().flat_map(shade).collect();
        let labels: Vec<u32> = at.iter().map(|&i| (i % 2) as u32).collect();
        let x = Tensor::from_slice(&device, &pixels, &[at.len(), 1, 6, 6])?;
        Ok((x, Tensor::from_slice(&device, &labels, &[at.len()])?))
    };
    let begun = fit.begin(&model.init(&device, 3)?)?;
    let before = begun.params.get("net.gate1.weight")?.to_vec::<f32>()?;
    let trained = fit.run(begun, &Batches::new(16, 8, 0, Tail::Keep)?, data)?;
    assert!(trained.params.get("net.gate1.weight")?.to_vec::<f32>()? != before);
    let (x, y) = data(&(0..16).collect::<Vec<_>>())?;
    let said = model.forward(&trained.params, &x)?.to_vec::<f32>()?;
    let right = said.chunks(2).zip(y.to_vec::<u32>()?).filter(|(z, y)| u32::from(z[1] > z[0]) == *y).count();
    assert_eq!(right, 16);
    Ok(())
}

#[test]
fn the_knob_turns_by_the_time_that_is_left() -> Test {
    let device = Device::cpu();
    let full = GatedCnn::new("", 3, &[(32, 1), (32, 1)], 4);
    let (params, x) = (full.init(&device, 1)?, image(&device, &[4, 3, 16, 16], 2)?);
    let networks = [1.0, 0.25].map(|d| full.at_density(d).map(|n| (format!("density {d}"), n, params.clone())));
    let mut rungs = Rungs::new(networks.into_iter().collect::<Result<Vec<_>, _>>()?, &x)?;
    assert!(rungs.rungs()[1].flop * 4 < rungs.rungs()[0].flop);
    let plans = device.stats().plans_built;
    for (left, rung) in [(None, 0), (Some(Duration::from_secs(3600)), 0), (Some(Duration::ZERO), 1)] {
        let answer = rungs.answer(&x, left)?;
        assert_eq!(answer.rung, rung, "{left:?}");
        let expected = full.at_density([1.0, 0.25][rung])?.forward(&params, &x)?.to_vec::<f32>()?;
        close("answer", &answer.output, &expected, 1e-6);
    }
    let none: Vec<(String, GatedCnn, Params)> = Vec::new();
    assert!(matches!(Rungs::new(none, &x), Err(Error::Empty { .. })));
    // The answers themselves planned nothing; the two comparisons did.
    assert!(device.stats().plans_built <= plans + 2);
    Ok(())
}

#[test]
fn refusals_say_what_is_wrong() -> Test {
    let device = Device::cpu();
    let model = SmallCnn::new("net", [1, 8, 8], &[4, 6], 3)?;
    let (params, x) = (model.init(&device, 0)?, image(&device, &[1, 1, 8, 8], 0)?);
    let found = Dependencies::of(&model, &params, &x)?;
    let scores = found.scores(&params, Score::L1)?;
    let says = |budget: Budget, scores: &Scores| found.choose(scores, &budget).map(|_| ()).unwrap_err().to_string();
    assert_eq!(says(Budget::flop(0.0), &scores), "pruning: share of the work: expected a number in (0, 1], found 0");
    assert!(says(Budget::flop(0.1), &scores).contains("what is left with 8 channels in each group"));
    assert!(says(Budget::flop(0.5).multiple(0), &scores).contains("multiple of channels"));
    assert!(says(Budget::flop(0.5), &Scores(vec![vec![1.0]])).contains("one for each channel of groups of [4, 6]"));
    let bad = Scores(vec![vec![f64::NAN; 4], vec![1.0; 6]]);
    assert!(says(Budget::flop(0.5).multiple(1), &bad).contains("finite numbers"));
    let other = Mlp::new("mlp", 3, &[4], 2).init(&device, 0)?;
    assert!(matches!(found.scores(&other, Score::L1), Err(Error::Prune { .. })));
    assert!(matches!(found.taylor(&params, []), Err(Error::Empty { .. })));
    // Whole layers can go only where a sum carries on.
    let none = found.choose(&scores, &Budget::flop(0.2).multiple(8).least(0))?;
    assert!(found.narrow(&model, &params, &none).unwrap_err().to_string().contains("outside residual sums"));
    // Positions that no axis has.
    let beyond = Kept::all().with("net.conv1.weight", 0, vec![9]);
    assert!(Pruned::new(&model, &params, beyond).is_err());
    let weights = WeightScores::magnitude(&params, |_| true)?;
    assert!(weights.lowest(1.5, Within::Layer).is_err() && weights.lowest(f64::NAN, Within::Layer).is_err());
    assert!(weights.lowest(0.5, Within::Neighbors { keep: 2, of: 7 }).unwrap_err().to_string().contains("2 of 7"));
    assert!(WeightScores::magnitude(&params, |_| false).is_err());
    assert!(weights.lowest(0.5, Within::Layer)?.apply(&other).is_err());
    let tokens = Tokens { x: image(&device, &[1, 5, 3], 0)?, size: Tensor::ones(&device, &[1, 5])?, from: None };
    assert!(keep_attended(&tokens, &Tensor::ones(&device, &[1, 4])?, 5).is_err());
    assert!(keep_attended(&tokens, &Tensor::ones(&device, &[1, 5])?, 2).is_err());
    assert!(merge_similar(&tokens, &tokens.x, 3).is_err() && merge_similar(&tokens, &tokens.x, 2).is_ok());
    assert!(GatedCnn::new("", 1, &[(4, 1)], 2).at_density(0.0).is_err());
    Ok(())
}
