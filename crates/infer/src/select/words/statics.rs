//! Static vocabularies, the same for every text: what choosing for each text has to beat.

use std::collections::HashSet;

use acclimate_kernels::TensorOps;
use acclimate_tensor::{Device, Tensor, compile};
use acclimate_train::{Params, loss};

use super::learn::{WordRecipe, contributions};
use super::network::{Reader, present};
use super::selector::Texts;
use crate::error::Error;

/// How much each word says, by its number; padding's is 0.
pub type Worth = Vec<f64>;

/// Mutual information in nats between the class of a text and whether a word is in it. `n_words` counts padding.
///
/// # Errors
/// If a word is not below `n_words`.
pub fn mutual_information(texts: &Texts, n_words: usize) -> Result<Worth, Error> {
    let classes = texts.labels().iter().max().map_or(0, |c| *c as usize + 1);
    let mut with = vec![0.0; n_words * classes];
    let mut of_class = vec![0.0; classes];
    texts.check(n_words, classes)?;
    for (text, &label) in texts.ids().iter().zip(texts.labels()) {
        of_class[label as usize] += 1.0;
        for &id in text.iter().collect::<HashSet<_>>() {
            with[id as usize * classes + label as usize] += 1.0;
        }
    }
    let n = texts.len() as f64;
    let term = |joint: f64, of_word: f64, of_class: f64| {
        if joint == 0.0 { 0.0 } else { joint / n * (joint * n / (of_word * of_class)).ln() }
    };
    let worth = with.chunks(classes.max(1)).map(|with| {
        let total: f64 = with.iter().sum();
        let each = with.iter().zip(&of_class);
        each.map(|(w, c)| term(*w, total, *c) + term(c - w, n - total, *c)).sum()
    });
    Ok(worth.collect())
}

/// Largest |weight| over the classes in a linear model of the words of a text, softmax(Σ_i w_i + b), trained by `recipe`.
///
/// # Errors
/// If the device fails.
pub fn linear_weights(
    device: &Device,
    texts: &Texts,
    (n_words, classes): (usize, usize),
    recipe: &WordRecipe,
) -> Result<Worth, Error> {
    texts.check(n_words, classes)?;
    let start = vec![
        ("table".to_owned(), vec![n_words, classes], vec![0.0; n_words * classes]),
        ("bias".to_owned(), vec![1, classes], vec![0.0; classes]),
    ];
    let start = Params::from_named(device, start)?;
    let objective = move |params: &Params, (ids, y): (Tensor, Tensor), _| {
        let n = ids.dims().first().copied().unwrap_or(0);
        let words = params.get("table")?.take(&ids)?;
        let there = present(&ids)?.unsqueeze(1)?;
        let logits = there.matmul(&words)?.reshape(&[n, classes])?.add(&params.get("bias")?)?;
        loss::cross_entropy(&logits, &y)
    };
    let trained = recipe.run("linear model", &start, texts, objective, |ids, y| (ids, y))?;
    let weights = trained.get("table")?.to_vec::<f32>()?;
    let mut worth: Worth =
        weights.chunks(classes.max(1)).map(|w| w.iter().map(|w| f64::from(w.abs())).fold(0.0, f64::max)).collect();
    if let Some(padding) = worth.first_mut() {
        *padding = 0.0;
    }
    Ok(worth)
}

/// Mean |contribution| of each word to the answers of a reader, over its occurrences (see [`contributions`]).
///
/// # Errors
/// If the device fails.
pub fn mean_contributions(reader: &Reader, params: &Params, texts: &Texts, n_words: usize) -> Result<Worth, Error> {
    const BATCH: usize = 32;
    texts.check(n_words.min(reader.n_words()), reader.classes())?;
    let net = reader.clone();
    let step =
        compile(move |(params, ids): (Params, Tensor)| Ok::<_, Error>(contributions(&net, &params, &ids)?.abs()?));
    let (mut sum, mut count) = (vec![0.0; n_words], vec![0.0f64; n_words]);
    for group in texts.groups(BATCH) {
        let ids = texts.padded(params.device(), &group, BATCH)?;
        let length = ids.dims()[1];
        let (_, said) = step.call_read::<f32>((params.clone(), ids))?;
        for (&i, said) in group.iter().zip(said.chunks(length)) {
            for (&id, c) in texts.ids()[i].iter().zip(said) {
                let at = id as usize;
                (sum[at], count[at]) = (sum[at] + f64::from(*c), count[at] + 1.0);
            }
        }
    }
    Ok(sum.iter().zip(count).map(|(s, n)| s / n.max(1.0)).collect())
}

/// The words of most worth, as many as bring the mean number of words of a text to `mean_words`, not above: for each word
/// number whether it is one of them.
pub fn vocabulary_of(worth: &Worth, texts: &Texts, mean_words: f64) -> Vec<bool> {
    let mut count = vec![0u64; worth.len()];
    for id in texts.ids().iter().flatten() {
        if let Some(n) = count.get_mut(*id as usize) {
            *n += 1;
        }
    }
    let mut order: Vec<usize> = (1..worth.len()).collect();
    order.sort_by(|a, b| worth[*b].total_cmp(&worth[*a]).then(a.cmp(b)));
    let (mut keep, mut left) = (vec![false; worth.len()], mean_words * texts.len() as f64);
    for word in order {
        left -= count[word] as f64;
        if left < 0.0 {
            break;
        }
        keep[word] = true;
    }
    keep
}
