//! Adaptive selection: losses and gradients of PyTorch, exact conditional mutual information, what acquisition promises.
#![allow(clippy::unwrap_used, clippy::panic)]

mod selection;

use std::sync::Arc;

use acclimate_infer::Error;
use acclimate_infer::select::words::{
    Reader, Scorer, Texts, WordReading, WordSelector, mutual_information, vocabulary_of,
};
use acclimate_infer::select::{
    Acquirer, Features, Judge, Method, Reason, Recipe, Rows, Selector, Stop, concrete, dime, gdfs, gumbel, invase,
    k_hot, l2x, learn, one_hot_of_largest, straight_through, warm_up,
};
use acclimate_kernels::random::Key;
use acclimate_tensor::{Device, Tensor, grad};
use acclimate_train::Layer;
use acclimate_train::data::rng::Philox;
use acclimate_train::fit::Progress;

#[test]
fn losses_and_words() {
    selection::losses_are_those_of_pytorch(&Device::cpu());
    selection::words_are_those_of_pytorch(&Device::cpu());
}

/// A distribution whose conditional mutual information is known: a says which of b and c holds the class; d is a weak copy of
/// the class. I(y; ·) = (0, I_half, I_half, I_d) with d first; but given a, one of b and c is worth ln 2 and the other nothing.
mod switch {
    use super::*;

    /// How often d is the class.
    const WEAK: f64 = 0.6;

    pub fn rows(n: usize, seed: u64) -> Rows {
        let mut draw = Philox::from_seed(seed).stream(0);
        let (mut x, mut y) = (Vec::new(), Vec::new());
        for _ in 0..n {
            let bit = |draw: &mut acclimate_train::data::rng::Stream| draw.below(2) as u32;
            let (a, b, c) = (bit(&mut draw), bit(&mut draw), bit(&mut draw));
            let label = if a == 0 { b } else { c };
            let d = if draw.uniform_f64() < WEAK { label } else { 1 - label };
            x.extend([a, b, c, d].map(|v| 2.0 * v as f32 - 1.0));
            y.push(label);
        }
        Rows::new(x, y, 4).unwrap()
    }

    /// P(a, b, c, d, y).
    fn joint() -> Vec<([u32; 4], u32, f64)> {
        let mut all = Vec::new();
        for bits in 0..16u32 {
            let [a, b, c, d] = [0, 1, 2, 3].map(|i| bits >> i & 1);
            let label = if a == 0 { b } else { c };
            all.push(([a, b, c, d], label, 0.125 * if d == label { WEAK } else { 1.0 - WEAK }));
        }
        all
    }

    fn entropy_of(rows: &[&([u32; 4], u32, f64)]) -> f64 {
        let total: f64 = rows.iter().map(|r| r.2).sum();
        (0..2)
            .map(|y| rows.iter().filter(|r| r.1 == y).map(|r| r.2).sum::<f64>() / total)
            .filter(|p| *p > 0.0)
            .map(|p| -p * p.ln())
            .sum()
    }

    /// I(y; x_j | x_S = known) by enumeration; what is not known is None.
    pub fn information(known: [Option<u32>; 4], j: usize) -> f64 {
        let all = joint();
        let fits: Vec<_> = all.iter().filter(|r| (0..4).all(|i| known[i].is_none_or(|v| v == r.0[i]))).collect();
        let total: f64 = fits.iter().map(|r| r.2).sum();
        let after: f64 = (0..2)
            .map(|v| {
                let part: Vec<_> = fits.iter().copied().filter(|r| r.0[j] == v).collect();
                let share = part.iter().map(|r| r.2).sum::<f64>() / total;
                if share > 0.0 { share * entropy_of(&part) } else { 0.0 }
            })
            .sum();
        entropy_of(&fits) - after
    }
}

fn learned(method: Method, rows: &Rows, epochs: u64) -> (Arc<Selector>, acclimate_train::Params) {
    let features = Features::named(["a", "b", "c", "d"]).unwrap();
    let selector = Arc::new(Selector::mlp(features, 2, &[32], 0.0, method).unwrap());
    let recipe =
        Recipe { warm_up: 10, epochs, batch: 64, rate: 5e-3, last_rate: 5e-5, seed: 1, progress: Progress::Silent };
    let params = selector.init(&Device::cpu(), 3).unwrap();
    let params = learn(&selector, params, rows, &recipe).unwrap();
    (selector, params)
}

/// DIME's values against the exact conditional mutual information, in every state with up to two known features, and the best
/// purchase by either.
#[test]
fn values_are_conditional_mutual_information() {
    let rows = switch::rows(4000, 1);
    let (selector, params) = learned(dime(3), &rows, 25);
    let device = params.device().clone();
    let mut states: Vec<[Option<u32>; 4]> = vec![[None; 4]];
    for i in 0..4 {
        for v in 0..2 {
            let mut one = [None; 4];
            one[i] = Some(v);
            states.push(one);
            for j in i + 1..4 {
                for w in 0..2 {
                    let mut two = one;
                    two[j] = Some(w);
                    states.push(two);
                }
            }
        }
    }
    let x: Vec<f32> = states.iter().flatten().map(|v| v.map_or(f32::NAN, |v| 2.0 * v as f32 - 1.0)).collect();
    let mask: Vec<f32> = states.iter().flatten().map(|v| if v.is_some() { 1.0 } else { 0.0 }).collect();
    let tensor = |v: &[f32]| Tensor::from_slice(&device, v, &[states.len(), 4]).unwrap();
    let (x, mask) = (tensor(&x), tensor(&mask));
    let said =
        selector.scores(&params, &x, &mask, &mut acclimate_train::Pass::infer()).unwrap().0.to_vec::<f32>().unwrap();
    let mut judged = 0;
    for (state, said) in states.iter().zip(said.chunks(4)) {
        let open: Vec<usize> = (0..4).filter(|j| state[*j].is_none()).collect();
        let exact = |j: &usize| switch::information(*state, *j);
        let best = *open.iter().max_by(|a, b| exact(a).total_cmp(&exact(b))).unwrap();
        for &j in &open {
            // 4,000 rows give a mean of losses below 2 nats to a few hundredths where a state has a few hundred of them.
            assert!((f64::from(said[j]) - exact(&j)).abs() < 0.12, "{state:?}, {j}: {}, exact {}", said[j], exact(&j));
        }
        // Where one feature is better than all others by more than the estimate's error, it is the choice.
        let margin = open.iter().filter(|j| **j != best).map(|j| exact(&best) - exact(j)).fold(f64::INFINITY, f64::min);
        if margin > 0.1 {
            let choice = *open.iter().max_by(|a, b| said[**a].total_cmp(&said[**b])).unwrap();
            assert_eq!(choice, best, "{state:?}: {said:?}");
            judged += 1;
        }
    }
    assert!(judged >= 8, "only {judged} states have a best feature");
}

/// GDFS learns the same order: once a is known, what it points at, and never the other.
#[test]
fn the_policy_buys_what_is_informative() {
    let rows = switch::rows(4000, 2);
    let (selector, params) = learned(gdfs(3), &rows, 25);
    let test = switch::rows(400, 3);
    let acquired = Acquirer::new(selector, params, Stop::never().budget(3.0)).unwrap().on(&test).unwrap();
    let mut after_a = 0;
    for (i, acquired) in acquired.iter().enumerate() {
        let mut known = [None; 4];
        for bought in &acquired.bought {
            let exact: Vec<f64> =
                (0..4).map(|j| if known[j].is_some() { -1.0 } else { switch::information(known, j) }).collect();
            let best = exact.iter().copied().fold(0.0, f64::max);
            if best > 0.3 {
                assert!(exact[bought.feature] > best - 0.1, "input {i}: {:?}, exact {exact:?}", acquired.bought);
                after_a += 1;
            }
            known[bought.feature] = Some(u32::from(test.row(i)[bought.feature] > 0.0));
        }
    }
    // Two of three known, the third decides in half of the inputs.
    assert!(after_a >= 150, "{after_a} purchases were of consequence");
}

/// Given a at the start, the first choice is what it points at.
#[test]
fn a_start_is_learned_from() {
    let rows = switch::rows(2000, 6);
    let (selector, params) = learned(gdfs(1).starting_with(&[0]), &rows, 20);
    let test = switch::rows(200, 7);
    let acquired = Acquirer::new(selector, params, Stop::never().budget(2.0)).unwrap().on(&test).unwrap();
    for (i, (a, y)) in acquired.iter().zip(test.y()).enumerate() {
        let pointed = if test.row(i)[0] < 0.0 { 1 } else { 2 };
        assert_eq!(a.bought.iter().map(|b| b.feature).collect::<Vec<_>>(), [0, pointed], "input {i}");
        assert_eq!(a.label(), *y as usize, "input {i}");
    }
}

/// L2X and INVASE see everything, so they keep what the switch points at.
#[test]
fn selectors_that_see_all_keep_what_matters() {
    let rows = switch::rows(4000, 4);
    let test = switch::rows(400, 5);
    for method in [l2x(1), invase(0.2)] {
        let name = method.name();
        let (selector, params) = learned(method, &rows, 30);
        let kept = Acquirer::new(selector, params, Stop::never()).unwrap().select(&test).unwrap();
        let pointed = |i: usize| if test.row(i)[0] < 0.0 { 1 } else { 2 };
        let right = kept.iter().enumerate().filter(|(i, k)| k.features.contains(&pointed(*i))).count();
        let answered = kept.iter().zip(test.y()).filter(|(k, y)| (k.probabilities[1] > 0.5) == (**y == 1)).count();
        assert!(answered >= 360, "{name}: {answered} of 400 right");
        assert!(right >= 300 || name == "l2x", "{name}: {right} of 400 keep the feature that says the class");
    }
}

#[test]
fn what_is_not_bought_is_never_read() {
    let selector = selection::selector(dime(3));
    let params = selection::selector_params(&Device::cpu(), &selector);
    let x = selection::Golden::read().f32("x").1;
    let rows = Rows::new(x.clone(), vec![0; selection::N], 5).unwrap();
    let acquirer = Acquirer::new(selector.clone(), params.clone(), Stop::never().budget(2.5)).unwrap();
    let acquired = acquirer.on(&rows).unwrap();
    let mut asked = Vec::new();
    let again = acquirer
        .run(selection::N, |input, feature| {
            asked.push((input, feature));
            let (start, width) = selection::features().columns(feature);
            Ok(x[input * 5 + start..][..width].to_vec())
        })
        .unwrap();
    assert_eq!(acquired, again);
    let bought: usize = acquired.iter().map(|a| a.bought.len()).sum();
    assert_eq!(asked.len(), bought, "asked for as much as was bought");
    for (i, a) in acquired.iter().enumerate() {
        assert!(a.spent <= 2.5 && (a.spent - a.bought.iter().map(|b| b.cost).sum::<f64>()).abs() < 1e-12, "{a}");
        assert!(a.bought.iter().all(|b| asked.contains(&(i, b.feature))));
        assert!(matches!(a.reason, Reason::Budget { .. } | Reason::NothingLeft), "{a}");
        assert!(a.bought.windows(2).all(|b| b[0].entropy_after == b[1].entropy_before), "{a}");
        assert!((a.probabilities.iter().sum::<f32>() - 1.0).abs() < 1e-5);
    }
    // An input answers with the same bits alone and beside others.
    let alone =
        Acquirer::new(selector, params, Stop::never().budget(2.5)).unwrap().on(&rows.at(&[3]).unwrap()).unwrap();
    assert_eq!(alone[0], acquired[3]);
}

#[test]
fn every_stop_rule_fires_and_says_so() {
    let selector = selection::selector(dime(3));
    let device = Device::cpu();
    let params = selection::selector_params(&device, &selector);
    let rows = Rows::new(selection::Golden::read().f32("x").1, vec![0; selection::N], 5).unwrap();
    let run = |stop: Stop| Acquirer::new(selector.clone(), params.clone(), stop).unwrap().on(&rows).unwrap();
    assert!(run(Stop::never()).iter().all(|a| a.reason == Reason::NothingLeft && a.bought.len() == 4));
    assert!(
        run(Stop::never().confident(2.0)).iter().all(|a| a.bought.is_empty() && a.to_string().contains("confident"))
    );
    assert!(run(Stop::never().worth(50.0)).iter().all(|a| matches!(a.reason, Reason::NotWorthIt { .. })));
    assert!(run(Stop::never().budget(0.4)).iter().all(|a| a.reason == Reason::Budget { left: 0.4 }));
    let all = run(Stop::never());
    let limit = all.iter().map(|a| a.bought[1].entropy_after).fold(f64::INFINITY, f64::min) + 1e-6;
    let sure = run(Stop::never().confident(limit));
    assert!(sure.iter().zip(&all).all(|(s, a)| s.label() == a.until(limit).0 && s.bought.len() == a.until(limit).1));
    // What everybody buys first comes first, in its order, and is not weighed.
    let net = Arc::new(Selector::mlp(selection::features(), 3, &[5], 0.0, dime(2).starting_with(&[3, 1])).unwrap());
    let got = Acquirer::new(net, params.clone(), Stop::never().worth(50.0)).unwrap().on(&rows).unwrap();
    assert!(
        got.iter()
            .all(|a| a.bought.iter().map(|b| b.feature).eq([3, 1]) && matches!(a.reason, Reason::NotWorthIt { .. }))
    );
    // What costs nothing is there before the first question.
    let free = selection::features().costs(&[0.0, 2.0, 0.5, 1.0]).unwrap();
    let net = Arc::new(Selector::mlp(free, 3, &[5], 0.0, dime(3)).unwrap());
    let got = Acquirer::new(net, params, Stop::never()).unwrap().on(&rows).unwrap();
    assert!(got.iter().all(|a| a.bought.len() == 3 && a.bought.iter().all(|b| b.feature != 0)));
}

#[test]
fn nothing_is_planned_from_the_second_round_on() {
    let rows = switch::rows(256, 1);
    let device = Device::cpu();
    let features = Features::named(["a", "b", "c", "d"]).unwrap();
    let selector = Arc::new(Selector::mlp(features, 2, &[8], 0.0, gdfs(3)).unwrap());
    let recipe =
        Recipe { warm_up: 1, epochs: 1, batch: 64, rate: 1e-3, last_rate: 1e-3, seed: 1, progress: Progress::Silent };
    let params = learn(&selector, selector.init(&device, 0).unwrap(), &rows, &recipe).unwrap();
    let acquirer = Acquirer::new(selector.clone(), params.clone(), Stop::never()).unwrap();
    acquirer.on(&rows).unwrap();
    let before = device.stats();
    acquirer.on(&rows).unwrap();
    acquirer.on(&rows.at(&[0, 1, 2]).unwrap()).unwrap();
    assert_eq!(device.stats().plans_built, before.plans_built);
    // A predictor on any subset is judged by one plan.
    let judge = Judge::new(&selector, &rows);
    judge.judge(&params, &[0]).unwrap();
    let before = device.stats();
    assert_eq!(judge.best_subsets(&params, 2, 3).unwrap().iter().map(Vec::len).collect::<Vec<_>>(), [3, 3]);
    assert_eq!(device.stats().plans_built, before.plans_built);
}

#[test]
fn relaxed_choices_become_hard_ones() {
    let device = Device::cpu();
    let tensor = |v: &[f32], dims: &[usize]| Tensor::from_slice(&device, v, dims).unwrap();
    let logits = tensor(&[0.0, 2.0, 1.0, 3.0, 3.0, -1.0], &[2, 3]);
    let read = |t: Tensor| t.to_vec::<f32>().unwrap();
    assert_eq!(read(one_hot_of_largest(&logits).unwrap()), [0.0, 1.0, 0.0, 1.0, 0.0, 0.0]);
    assert_eq!(read(k_hot(&logits, 2).unwrap()), [0.0, 1.0, 1.0, 1.0, 1.0, 0.0]);
    assert!(k_hot(&logits, 4).is_err());
    let cold = concrete(&logits, &logits.zeros_like().unwrap(), &tensor(&[0.01], &[1])).unwrap();
    assert!(read(cold.narrow(0, 0, 1).unwrap())[1] > 0.999);
    // The value of the one, the gradient of the other.
    let soft = logits.sigmoid().unwrap();
    let both = straight_through(&k_hot(&logits, 1).unwrap(), &soft).unwrap();
    let gradient = read(grad(&both.sum(&[]).unwrap(), logits.clone()).unwrap());
    for (g, z) in gradient.iter().zip(read(logits)) {
        let p = 1.0 / (1.0 + (-z).exp());
        assert!((g - p * (1.0 - p)).abs() < 1e-6);
    }
    // The largest of logits + noise is a draw from softmax(logits): 40,000 draws, four standard errors.
    let n = 40_000;
    let noise = gumbel(&Key::new(&device, 9).unwrap(), &[n, 3]).unwrap();
    let noisy = noise.add(&tensor(&[0.0, 1.0, -0.5], &[1, 3])).unwrap();
    let counts = read(one_hot_of_largest(&noisy).unwrap().sum(&[0]).unwrap());
    let weights = [1.0f64, 1f64.exp(), (-0.5f64).exp()];
    for (count, w) in counts.iter().zip(weights) {
        let p = w / weights.iter().sum::<f64>();
        let error = (p * (1.0 - p) / n as f64).sqrt();
        assert!((f64::from(*count) / n as f64 - p).abs() < 4.0 * error, "{count} of {n}, expected {p}");
    }
    assert!(read(noise).iter().all(|x| x.is_finite()));
}

#[test]
fn wrong_use_is_refused_in_words() {
    let device = Device::cpu();
    let says = |e: Error, what: &str| assert!(e.to_string().contains(what), "{e}");
    says(Features::named(Vec::<String>::new()).unwrap_err(), "the list of features is empty");
    let three = || Features::named(["a", "b", "c"]).unwrap();
    says(three().widths(&[1, 2]).unwrap_err(), "one for each of 3 features, found 2");
    says(three().widths(&[1, 0, 1]).unwrap_err(), "position 1");
    says(three().costs(&[1.0, f64::NAN, 1.0]).unwrap_err(), "a finite cost");
    says(Rows::new(vec![1.0; 5], vec![0, 1], 3).unwrap_err(), "2 rows of 3 numbers, found 5");
    says(Rows::new(vec![1.0, f32::NAN], vec![0], 2).unwrap_err(), "position 1");
    says(Rows::new(vec![], vec![], 2).unwrap_err(), "the rows is empty");
    for (method, what) in [
        (gdfs(0), "a horizon of 0"),
        (gdfs(4), "1 to 3 features"),
        (l2x(4), "k = 4"),
        (gdfs(1).starting_with(&[0, 0]), "it starts with [0, 0]"),
        (dime(1).starting_with(&[3]), "different features below 3"),
        (dime(2).starting_with(&[0, 1]), "a horizon of 2"),
        (l2x(1).starting_with(&[0]), "it does not buy"),
        (invase(-1.0), "a price of -1"),
        (gdfs(1).temperatures(0.0, 0.1, 2), "temperatures 0 to 0.1"),
    ] {
        says(Selector::mlp(three(), 2, &[4], 0.0, method).unwrap_err(), what);
    }
    let selector = |method| Arc::new(Selector::mlp(three(), 2, &[4], 0.0, method).unwrap());
    let params = |s: &Selector| s.init(&device, 0).unwrap();
    let rows = Rows::new(vec![0.5; 6], vec![0, 1], 3).unwrap();
    let (policy, mask) = (selector(gdfs(2)), selector(l2x(1)));
    let stop = |s: Stop| Acquirer::new(policy.clone(), params(&policy), s).err().unwrap();
    says(stop(Stop::never().worth(0.1)), "does not estimate");
    says(stop(Stop::never().budget(-1.0)), "the budget as a finite number");
    let buyer = Acquirer::new(policy.clone(), params(&policy), Stop::never()).unwrap();
    says(buyer.select(&rows).unwrap_err(), "buys features one by one");
    says(
        Acquirer::new(mask.clone(), params(&mask), Stop::never()).unwrap().on(&rows).unwrap_err(),
        "sees the whole input",
    );
    says(buyer.run(1, |_, _| Ok(vec![f32::NAN])).unwrap_err(), "a feature that was paid for");
    says(buyer.run(1, |_, _| Ok(vec![])).unwrap_err(), "1 numbers, found 0");
    says(Judge::new(&policy, &rows).judge(&params(&policy), &[7]).unwrap_err(), "a feature below 3, found 7");
    let wide = Rows::new(vec![0.5; 4], vec![0], 4).unwrap();
    let recipe =
        Recipe { warm_up: 1, epochs: 1, batch: 1, rate: 1e-3, last_rate: 1e-3, seed: 0, progress: Progress::Silent };
    assert!(warm_up(&policy, params(&policy), &wide, &recipe).unwrap_err().to_string().contains("inputs [n, 3]"));
    // Words.
    says(Texts::new(vec![vec![1, 0]], vec![0]).unwrap_err(), "words from 1");
    says(Texts::new(vec![vec![1]], vec![]).unwrap_err(), "labels of texts");
    for share in [0.0, 1.5, f32::NAN] {
        let made = WordSelector::new(Reader::new("r", 4, 2, 2), Scorer::new("s", 4, 2), share);
        says(made.err().unwrap(), "a share above 0");
    }
    let unknown = Texts::new(vec![vec![9]], vec![0]).unwrap();
    says(
        mutual_information(&unknown, 4).unwrap_err(),
        "the words of texts at position 0: expected numbers below 4, found 9",
    );
    let selector = WordSelector::new(Reader::new("r", 4, 2, 2), Scorer::new("s", 4, 2), 0.5).unwrap();
    let words = selector.init(&device, 0).unwrap();
    let reading = WordReading::new(Arc::new(selector), 2);
    says(reading.chosen_words(&words, &unknown).unwrap_err(), "numbers below 4, found 9");
    let strange = Texts::new(vec![vec![1]], vec![2]).unwrap();
    says(reading.all_words(&words, &strange).unwrap_err(), "the classes of texts");
    let strange = Rows::new(vec![0.5; 3], vec![2], 3).unwrap();
    says(learn(&policy, params(&policy), &strange, &recipe).unwrap_err(), "a class below 2, found 2");
}

/// Mutual information of words against numbers worked out by hand, and the vocabulary it gives.
#[test]
fn static_vocabularies() {
    // Word 1 is the class, word 2 is everywhere, word 3 is in one text of four.
    let texts = Texts::new(vec![vec![1, 2, 2], vec![1, 2, 3], vec![2], vec![2]], vec![1, 1, 0, 0]).unwrap();
    let worth = mutual_information(&texts, 4).unwrap();
    let third = 2f64.ln() - 0.75 * (-(2.0 / 3.0f64 * (2.0 / 3.0f64).ln()) - (1.0 / 3.0f64 * (1.0 / 3.0f64).ln()));
    for (got, want) in worth.iter().zip([0.0, 2f64.ln(), 0.0, third]) {
        assert!((got - want).abs() < 1e-12, "{worth:?}");
    }
    assert_eq!(vocabulary_of(&worth, &texts, 0.75), [false, true, false, true]);
    assert_eq!(vocabulary_of(&worth, &texts, 0.5), [false, true, false, false]);
}

#[test]
fn words_have_the_same_scores_in_any_company() {
    let device = Device::cpu();
    let selector = WordSelector::new(Reader::new("r", 40, 8, 2), Scorer::new("s", 40, 4), 0.2).unwrap();
    let params = selector.init(&device, 5).unwrap();
    let mut draw = Philox::from_seed(6).stream(0);
    let text = |n: u64, draw: &mut acclimate_train::data::rng::Stream| {
        (0..n).map(|_| 1 + draw.below(39) as u32).collect::<Vec<u32>>()
    };
    let ids: Vec<Vec<u32>> = [5, 17, 64, 65, 130, 0].iter().map(|n| text(*n, &mut draw)).collect();
    let texts = Texts::new(ids.clone(), vec![0; ids.len()]).unwrap();
    let selector = Arc::new(selector);
    let together = WordReading::new(selector.clone(), 4).chosen_words(&params, &texts).unwrap();
    let alone = WordReading::new(selector.clone(), 1);
    for (i, (text, chosen)) in ids.iter().zip(&together).enumerate() {
        let one = &alone.chosen_words(&params, &Texts::new(vec![text.clone()], vec![0]).unwrap()).unwrap()[0];
        assert_eq!(one.words, chosen.words, "text {i}");
        assert_eq!(chosen.words.len(), if text.is_empty() { 0 } else { selector.n_chosen(text.len()) }, "text {i}");
        assert!(chosen.words.len() <= 1.max(text.len() / 5), "text {i}");
        for (a, b) in one.probabilities.iter().zip(&chosen.probabilities) {
            // Padded lengths differ, and with them the order of at most 192 summands.
            assert!((a - b).abs() < 200.0 * 6e-8, "text {i}: {a}, {b}");
        }
    }
}
