//! Choosing words and reading them: one plan for each length of text.

use std::collections::BTreeMap;
use std::sync::Arc;

use acclimate_kernels::{TensorOps, concat};
use acclimate_tensor::{Compiled, DType, Device, Tensor, compile};
use acclimate_train::layer::Init;
use acclimate_train::{Layer, Params, Pass, Result as TrainResult};

use super::network::{Reader, Scorer};
use crate::error::Error;

/// Lengths of padded texts are multiples of this, so that there are few plans.
pub(super) const STEP: usize = 64;

/// Texts as numbers of words, from 1, with their classes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Texts {
    ids: Vec<Vec<u32>>,
    labels: Vec<u32>,
}

impl Texts {
    /// A list of words and a class for each text. A text may be empty.
    ///
    /// # Errors
    /// If there is no text, there are not as many classes, or a word has the number 0, which is padding's.
    pub fn new(ids: Vec<Vec<u32>>, labels: Vec<u32>) -> Result<Self, Error> {
        if ids.is_empty() {
            return Err(Error::Empty { what: "the list of texts" });
        }
        if ids.len() != labels.len() {
            return Err(Error::size("labels of texts", ids.len(), labels.len()));
        }
        if let Some(position) = ids.iter().position(|text| text.contains(&0)) {
            let (expected, found) = ("words from 1".into(), "0".into());
            return Err(Error::Value { what: "the words of texts", position, expected, found });
        }
        Ok(Texts { ids, labels })
    }

    /// How many texts there are.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is none; never.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The words of the texts.
    pub fn ids(&self) -> &[Vec<u32>] {
        &self.ids
    }

    /// The classes.
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// The same texts, each up to `length` words.
    #[must_use]
    pub fn cut(&self, length: usize) -> Self {
        let ids = self.ids.iter().map(|text| text[..text.len().min(length)].to_vec()).collect();
        Texts { ids, labels: self.labels.clone() }
    }

    /// The same texts with only the words for which `keep` holds.
    #[must_use]
    pub fn only(&self, keep: impl Fn(u32) -> bool) -> Self {
        let ids = self.ids.iter().map(|text| text.iter().copied().filter(|id| keep(*id)).collect()).collect();
        Texts { ids, labels: self.labels.clone() }
    }

    /// Fails unless every word is below `n_words` and every class below `classes`.
    pub(super) fn check(&self, n_words: usize, classes: usize) -> Result<(), Error> {
        for (position, (text, label)) in self.ids.iter().zip(&self.labels).enumerate() {
            let (what, limit, found) = match text.iter().find(|id| **id as usize >= n_words) {
                Some(id) => ("the words of texts", n_words, *id),
                None if *label as usize >= classes => ("the classes of texts", classes, *label),
                None => continue,
            };
            let (expected, found) = (format!("numbers below {limit}"), found.to_string());
            return Err(Error::Value { what, position, expected, found });
        }
        Ok(())
    }

    /// Positions in groups of up to `size` texts of nearly the same length, so that little is padded.
    pub(super) fn groups(&self, size: usize) -> Vec<Vec<usize>> {
        let mut order: Vec<usize> = (0..self.len()).collect();
        order.sort_by_key(|&i| (self.ids[i].len(), i));
        order.chunks(size.max(1)).map(<[usize]>::to_vec).collect()
    }

    /// Some texts as a tensor [size, length], filled up with padding and empty texts.
    pub(super) fn padded(&self, device: &Device, positions: &[usize], size: usize) -> Result<Tensor, Error> {
        let longest = positions.iter().filter_map(|&i| self.ids.get(i)).map(Vec::len).max().unwrap_or(0);
        let length = longest.max(1).next_multiple_of(STEP);
        let mut ids = vec![0u32; size * length];
        for (row, text) in ids.chunks_mut(length).zip(positions.iter().filter_map(|&i| self.ids.get(i))) {
            row[..text.len()].copy_from_slice(text);
        }
        Ok(Tensor::from_slice(device, &ids, &[size, length])?)
    }
}

/// Reader, scorer, and the share of words that is read.
#[derive(Clone, Debug)]
pub struct WordSelector {
    pub(super) reader: Reader,
    pub(super) scorer: Scorer,
    share: f32,
}

/// What was chosen of a text, and the answer from that.
#[derive(Clone, Debug, PartialEq)]
pub struct Chosen {
    /// Positions of the chosen words, the best first.
    pub words: Vec<usize>,
    /// The answer: a probability for each class.
    pub probabilities: Vec<f32>,
}

impl WordSelector {
    /// Reads at most `share`, in (0, 1], of each text's words, rounded down, and one at least.
    ///
    /// # Errors
    /// If the share is no such number.
    pub fn new(reader: Reader, scorer: Scorer, share: f32) -> Result<Self, Error> {
        if !(share > 0.0 && share <= 1.0) {
            let expected = "a share above 0, at most 1".to_owned();
            return Err(Error::Value { what: "the share of words", position: 0, expected, found: share.to_string() });
        }
        Ok(WordSelector { reader, scorer, share })
    }

    /// The reader.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// The scorer.
    pub fn scorer(&self) -> &Scorer {
        &self.scorer
    }

    /// How many words of a text of so many are read.
    pub fn n_chosen(&self, n_words: usize) -> usize {
        (((f64::from(self.share) * n_words as f64) + 1e-6).floor() as usize).clamp(1, n_words.max(1))
    }

    /// The best words by their scores: numbers of the words (u32), weights (1 for a chosen word, 0 beyond the text's own
    /// share), positions (u32), each [n, k], and the scores [n, k + 1] of the best, of which the last is the first that was
    /// not chosen at full length. No gradient flows through the choice itself.
    pub(super) fn choose(&self, ids: &Tensor, scores: &Tensor) -> Result<[Tensor; 4], Error> {
        let &[n, l] = ids.dims() else { return Err(Error::size("ids", "shape [n, l]", ids.shape())) };
        let k = self.n_chosen(l);
        let (best, index) = scores.topk((k + 1).min(l), true)?;
        let index = index.narrow(1, 0, k)?;
        let words = ids.gather(1, &index)?;
        // Each text its own number, from how many words it has.
        let length = super::network::present(ids)?.sum_keep(&[1])?;
        let own = length.mul_scalar(self.share)?.add_scalar(1e-4)?.floor()?;
        let own = own.maximum(&Tensor::ones(ids.device(), &[n, 1])?)?.minimum(&length)?;
        let rank = Tensor::iota(ids.device(), &[n, k], 1)?.cast(DType::F32)?;
        Ok([words, rank.lt(&own)?.cast(DType::F32)?, index, best])
    }
}

impl Layer for WordSelector {
    fn declare(&self, init: &mut Init) -> TrainResult<()> {
        self.reader.declare(init)?;
        self.scorer.declare(init)
    }

    /// Logits from the chosen words.
    fn apply(&self, params: &Params, ids: &Tensor, pass: &mut Pass) -> TrainResult<Tensor> {
        let scores = self.scorer.apply(params, ids, pass)?;
        let [words, weights, ..] = self.choose(ids, &scores).map_err(crate::select::in_training)?;
        self.reader.read(params, &words, &weights, pass)
    }
}

/// Answers for texts: all words, or the chosen ones. Plans are made once for each number of texts and padded length.
pub struct WordReading {
    selector: Arc<WordSelector>,
    all: Compiled<(Params, Tensor), Tensor, Error>,
    chosen: Compiled<(Params, Tensor), Tensor, Error>,
    batch: usize,
}

impl WordReading {
    /// With so many texts of a submission; texts of nearly the same length go together.
    pub fn new(selector: Arc<WordSelector>, batch: usize) -> Self {
        let (whole, net) = (selector.clone(), selector.clone());
        let all = compile(move |(params, ids): (Params, Tensor)| {
            Ok::<_, Error>(whole.reader.forward(&params, &ids)?.softmax(1)?)
        });
        let chosen = compile(move |(params, ids): (Params, Tensor)| {
            let scores = net.scorer.forward(&params, &ids)?;
            let [words, weights, index, _] = net.choose(&ids, &scores)?;
            let p = net.reader.read(&params, &words, &weights, &mut Pass::infer())?.softmax(1)?;
            // Positions are below 2^24, so f32 holds them; −1 where nothing is chosen.
            let at = weights.gt(&weights.zeros_like()?)?.select(&index.cast(DType::F32)?, &weights.full_like(-1.0)?)?;
            Ok::<_, Error>(concat(&[&p, &at], 1)?)
        });
        WordReading { selector, all, chosen, batch: batch.max(1) }
    }

    /// Probabilities [texts, classes] from all words.
    ///
    /// # Errors
    /// If the device fails.
    pub fn all_words(&self, params: &Params, texts: &Texts) -> Result<Vec<f32>, Error> {
        let classes = self.selector.reader.classes();
        let mut p = vec![0.0; texts.len() * classes];
        self.each_group(params, texts, &self.all, |i, said| p[i * classes..][..classes].copy_from_slice(said))?;
        Ok(p)
    }

    /// What is chosen of each text, and the answers from that alone.
    ///
    /// # Errors
    /// If the device fails.
    pub fn chosen_words(&self, params: &Params, texts: &Texts) -> Result<Vec<Chosen>, Error> {
        let classes = self.selector.reader.classes();
        let mut chosen = BTreeMap::new();
        self.each_group(params, texts, &self.chosen, |i, said| {
            let (p, at) = said.split_at(classes);
            let words = at.iter().filter(|x| **x >= 0.0).map(|x| *x as usize).collect();
            chosen.insert(i, Chosen { words, probabilities: p.to_vec() });
        })?;
        Ok(chosen.into_values().collect())
    }

    fn each_group(
        &self,
        params: &Params,
        texts: &Texts,
        step: &Compiled<(Params, Tensor), Tensor, Error>,
        mut take: impl FnMut(usize, &[f32]),
    ) -> Result<(), Error> {
        let (reader, scorer) = (&self.selector.reader, &self.selector.scorer);
        texts.check(reader.n_words().min(scorer.n_words()), reader.classes())?;
        for group in texts.groups(self.batch) {
            let ids = texts.padded(params.device(), &group, self.batch)?;
            let (_, said) = step.call_read::<f32>((params.clone(), ids))?;
            for (&i, said) in group.iter().zip(said.chunks(said.len() / self.batch)) {
                take(i, said);
            }
        }
        Ok(())
    }
}
