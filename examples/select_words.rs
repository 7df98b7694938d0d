//! Read only the words that matter: film reviews (IMDB), of which a cheap network chooses a few words for an expensive one to
//! read, beside the best static vocabularies of the same mean number of words.
//!
//! Fails, on the reviews, if the chosen words are more than 20 % of the words, lose two points or more to all words, gain less than
//! two points over the best static vocabulary, or if choosing is not faster on long texts.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use acclimate::infer::metrics;
use acclimate::infer::report::{LinePlot, Report, Series};
use acclimate::infer::select::words::{
    Chosen, Reader, Scorer, Texts, WordReading, WordRecipe, WordSelector, learn_reader, learn_scorer, learn_together,
    linear_weights, mean_contributions, mutual_information, vocabulary_of,
};
use acclimate::prelude::*;
use acclimate::train::data::rng::Philox;
use acclimate::train::data::text::{Encoded, LabelledText, Vocabulary, read_split};
use anyhow::{Context, Result, ensure};
use clap::Parser;
use serde_json::json;

/// Adaptive selection of words.
#[derive(Parser)]
struct Options {
    /// The reviews: `imdb_10k_subset.tsv.gz` (else they are looked for in the folder ACCLIMATE_DATA; else texts are generated)
    #[arg(long)]
    data: Option<PathBuf>,
    /// auto, gpu, cpu, software, or part of an adapter's name
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Seed of the split, the networks and the noise
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Folder for the report
    #[arg(long, default_value = "run/select_words")]
    out: PathBuf,
    /// One JSON object as the last line of standard output
    #[arg(long)]
    json: bool,
    /// Generated texts, short training; the comparison is printed and not required
    #[arg(long)]
    smoke: bool,
    /// Shares of the words that are tried
    #[arg(long, value_delimiter = ',', default_values_t = [0.02, 0.05, 0.1, 0.2])]
    shares: Vec<f32>,
}

/// Longer texts are cut to this many words in training; answers read all of them.
const TRAINING_WORDS: usize = 400;
const WIDTH: usize = 64;
const NARROW: usize = 16;
const CLASSES: usize = 2;
/// A text is long from here on, in known words.
const LONG: usize = 400;

/// Texts in their three parts, and the vocabulary of the first.
struct Corpus {
    name: String,
    vocabulary: Vocabulary,
    train: Texts,
    validation: Texts,
    test: Texts,
    raw: Vec<LabelledText>,
    encoded: Vec<Encoded>,
}

/// One share of the words: what the selector and the best static vocabulary make of it.
struct Row {
    share: f32,
    /// Words that are read, mean over the test texts, and as a share of all words.
    words: f64,
    read: f64,
    /// Accuracy on validation and test.
    selector: (f64, f64),
    /// The same, of the reader that has read all words in training and is now shown the chosen ones.
    untouched: (f64, f64),
    static_name: String,
    static_words: f64,
    static_size: usize,
    r#static: (f64, f64),
    chosen: Vec<Chosen>,
    timing: Timing,
}

/// Milliseconds for a text of more than [`LONG`] words, alone and beside 31 others.
#[derive(Clone, Copy, Default)]
struct Timing {
    all: (f64, f64),
    chosen: (f64, f64),
}

fn main() -> Result<()> {
    env_logger::init();
    let o = Options::parse();
    let device = Device::named(&o.device)?;
    eprintln!("{device}");
    let file = o.data.clone().or_else(|| {
        let folder = std::env::var_os("ACCLIMATE_DATA")?;
        Some(Path::new(&folder).join("imdb_10k_subset.tsv.gz"))
    });
    let corpus = match file.filter(|path| path.exists() && !o.smoke) {
        Some(path) => corpus("IMDB reviews", read_split(&path, 2)?, o.seed)?,
        None => corpus("generated texts (no data)", (generated(1000, o.seed), generated(300, o.seed + 1)), o.seed)?,
    };
    let n_words = corpus.vocabulary.len() + 1;
    let mean = |texts: &Texts| texts.ids().iter().map(Vec::len).sum::<usize>() as f64 / texts.len() as f64;
    println!(
        "{}: {} / {} / {} texts, {} words in the vocabulary, {:.0} known words a text",
        corpus.name,
        corpus.train.len(),
        corpus.validation.len(),
        corpus.test.len(),
        n_words - 1,
        mean(&corpus.test)
    );
    // Small corpora take more rounds.
    let rounds = if corpus.train.len() < 2000 { 3 } else { 1 };
    let recipe = |epochs: u64, rate| WordRecipe {
        epochs: rounds * epochs,
        batch: 32,
        rate,
        seed: o.seed,
        progress: Progress::Auto,
    };

    // The reader on all words, and the scorer on what words contribute to its answers.
    let reader = Reader::new("reader", n_words, WIDTH, CLASSES);
    let scorer = Scorer::new("scorer", n_words, NARROW);
    let cut = corpus.train.cut(TRAINING_WORDS);
    let reader_params = learn_reader(&reader, &reader.init(&device, o.seed)?, &cut, &recipe(2, 5e-3))?;
    let start = scorer.init(&device, o.seed)?;
    let scorer_params = learn_scorer((&scorer, &start), (&reader, &reader_params), &cut, &recipe(3, 1e-2))?;
    let both = joined(&device, &[&reader_params, &scorer_params])?;
    let whole = Arc::new(WordSelector::new(reader.clone(), scorer.clone(), 1.0)?);
    let reading = WordReading::new(whole, 32);
    let all = (
        accuracy(&reading.all_words(&both, &corpus.validation)?, &corpus.validation)?,
        accuracy(&reading.all_words(&both, &corpus.test)?, &corpus.test)?,
    );
    println!("all words: validation {:.4}, test {:.4}", all.0, all.1);

    let rankings = [
        ("mutual information", mutual_information(&corpus.train, n_words)?),
        ("linear weights", linear_weights(&device, &cut, (n_words, CLASSES), &recipe(4, 1e-2))?),
        ("mean contribution", mean_contributions(&reader, &reader_params, &cut, n_words)?),
    ];
    let mut rows = Vec::new();
    let shares = if o.smoke { &o.shares[o.shares.len().min(1)..o.shares.len().min(2)] } else { &o.shares[..] };
    for &share in shares {
        // Few words are left: fewer of them are dropped in training.
        let gentle = reader.clone().word_dropout(0.2);
        let selector = Arc::new(WordSelector::new(gentle.clone(), scorer.clone(), share)?);
        let reading = WordReading::new(selector.clone(), 32);
        let judged = |params: &Params, texts: &Texts| -> Result<(f64, Vec<Chosen>)> {
            let chosen = reading.chosen_words(params, texts)?;
            let p: Vec<f32> = chosen.iter().flat_map(|c| c.probabilities.iter().copied()).collect();
            Ok((accuracy(&p, texts)?, chosen))
        };
        let untouched = (judged(&both, &corpus.validation)?.0, judged(&both, &corpus.test)?.0);
        let learned = learn_together(&selector, &both, &cut, 0.3, &recipe(2, 1e-3))?;
        // Whether learning together helped is for the validation texts to say.
        let after = judged(&learned, &corpus.validation)?.0;
        let (kept, validation) = if after > untouched.0 { (&learned, after) } else { (&both, untouched.0) };
        let (test, chosen) = judged(kept, &corpus.test)?;
        let words = chosen.iter().map(|c| c.words.len()).sum::<usize>() as f64 / chosen.len() as f64;
        let read = chosen
            .iter()
            .zip(&corpus.encoded)
            .map(|(c, e)| c.words.len() as f64 / e.n_words.max(1) as f64)
            .sum::<f64>()
            / chosen.len() as f64;

        // Static vocabularies of the same mean number of words, each with a reader of its own.
        let wanted = corpus.train.ids().iter().map(|t| selector.n_chosen(t.len()).min(t.len())).sum::<usize>() as f64
            / corpus.train.len() as f64;
        let mut best: Option<(f64, f64, String, f64, usize)> = None;
        for (name, worth) in &rankings {
            let keep = vocabulary_of(worth, &corpus.train, wanted);
            let only = |texts: &Texts| texts.only(|id| keep[id as usize]);
            let starts = [("from nothing", gentle.init(&device, o.seed)?), ("from all words", reader_params.clone())];
            for ((how, start), rate) in starts.iter().zip([5e-3, 1e-3]) {
                let params = learn_reader(&gentle, start, &only(&cut), &recipe(2, rate))?;
                let reading = WordReading::new(selector.clone(), 32);
                let on = |texts: &Texts| -> Result<f64> { accuracy(&reading.all_words(&params, &only(texts))?, texts) };
                let (validation, test) = (on(&corpus.validation)?, on(&corpus.test)?);
                if best.as_ref().is_none_or(|b| validation > b.0) {
                    let size = keep.iter().filter(|k| **k).count();
                    best = Some((validation, test, format!("{name}, {how}"), mean(&only(&corpus.test)), size));
                }
            }
        }
        let best = best.context("no ranking")?;
        let timing = time(&selector, kept, &corpus.test, o.smoke)?;
        let row = Row {
            share,
            words,
            read,
            selector: (validation, test),
            untouched,
            static_name: best.2,
            static_words: best.3,
            static_size: best.4,
            r#static: (best.0, best.1),
            chosen,
            timing,
        };
        println!("{}", line(&row));
        rows.push(row);
    }
    // The least share that is within a point of all words on the validation texts; else the best there.
    let enough = rows.iter().find(|r| r.selector.0 >= all.0 - 0.01);
    let picked =
        enough.or_else(|| rows.iter().max_by(|a, b| a.selector.0.total_cmp(&b.selector.0))).context("no share")?;
    println!(
        "picked on validation: {:.0} % of the words. Test: {:.4}, all words {:.4}, best static vocabulary {:.4} ({}). \
         Long texts: {:.2} ms for {:.2} ms",
        100.0 * picked.share,
        picked.selector.1,
        all.1,
        picked.r#static.1,
        picked.static_name,
        picked.timing.chosen.0,
        picked.timing.all.0
    );
    for i in shown(&corpus) {
        println!("{}", plain(&corpus, picked, i));
    }
    let path = o.out.join("report.html");
    report(&device, &corpus, &rows, picked, all, &o).write(&path)?;
    println!("report: {}", path.display());
    if o.json {
        let lines: Vec<_> = rows.iter().map(|r| json!({
            "share": r.share, "words_mean": r.words, "share_of_all_words": r.read,
            "selector_validation": r.selector.0, "selector_test": r.selector.1,
            "reader_not_retrained_test": r.untouched.1, "static": r.static_name, "static_words_mean": r.static_words,
            "static_vocabulary": r.static_size, "static_validation": r.r#static.0, "static_test": r.r#static.1,
            "ms_long_all": r.timing.all, "ms_long_chosen": r.timing.chosen,
        })).collect();
        println!(
            "{}",
            json!({ "device": device.to_string(), "corpus": corpus.name, "vocabulary": n_words - 1, "seed": o.seed,
            "all_words_test": all.1, "picked_share": picked.share, "rows": lines, "report": path })
        );
    }
    if corpus.raw.len() > 1000 {
        let (mine, of_static) = (picked.selector.1, picked.r#static.1);
        ensure!(picked.read <= 0.2, "{:.3} of the words are read; expected at most .2", picked.read);
        ensure!(mine >= all.1 - 0.02, "{mine:.4} from chosen words; expected within .02 of {:.4}", all.1);
        ensure!(mine >= of_static + 0.02, "{mine:.4} from chosen words; expected .02 more than static {of_static:.4}");
        let t = picked.timing;
        ensure!(t.chosen.0 < t.all.0, "{:.2} ms with choosing; expected less than {:.2}", t.chosen.0, t.all.0);
    }
    Ok(())
}

fn accuracy(p: &[f32], texts: &Texts) -> Result<f64> {
    let labels: Vec<usize> = texts.labels().iter().map(|l| *l as usize).collect();
    Ok(metrics::accuracy(p, CLASSES, &labels)?)
}

/// Parameters of several networks as one.
fn joined(device: &Device, parts: &[&Params]) -> Result<Params> {
    let mut named = Vec::new();
    for part in parts {
        named.extend(part.to_named()?);
    }
    Ok(Params::from_named(device, named)?)
}

/// A fifth of the training texts is for choosing; the vocabulary is that of the others.
fn corpus(name: &str, (mut train, test): (Vec<LabelledText>, Vec<LabelledText>), seed: u64) -> Result<Corpus> {
    Philox::from_seed(seed).fold_name("texts").stream(0).shuffle(&mut train);
    let validation = train.split_off(train.len() * 4 / 5);
    let vocabulary = Vocabulary::build(train.iter().map(|t| t.text.as_str()), 2, usize::MAX)?;
    let encode = |part: &[LabelledText]| part.iter().map(|t| vocabulary.encode(&t.text)).collect::<Vec<_>>();
    let texts = |part: &[LabelledText], encoded: &[Encoded]| {
        Texts::new(encoded.iter().map(|e| e.ids.clone()).collect(), part.iter().map(|t| t.label).collect())
    };
    let encoded = encode(&test);
    Ok(Corpus {
        name: name.to_owned(),
        train: texts(&train, &encode(&train))?,
        validation: texts(&validation, &encode(&validation))?,
        test: texts(&test, &encoded)?,
        raw: test,
        encoded,
        vocabulary,
    })
}

/// Texts without data: forty to two hundred words that say nothing, among them a few that do. A static list of those few is the
/// best vocabulary by construction: this shows how the program runs, not what choosing for each text is worth.
fn generated(n: usize, seed: u64) -> Vec<LabelledText> {
    const GOOD: [&str; 8] = ["splendid", "moving", "tender", "witty", "gripping", "superb", "charming", "honest"];
    const BAD: [&str; 8] = ["dull", "clumsy", "tedious", "lifeless", "awful", "shallow", "noisy", "bland"];
    let syllables = ["ba", "den", "fo", "gil", "ka", "lor", "mi", "nu", "pe", "ru", "sta", "ti", "vo", "zu"];
    let mut draw = Philox::from_seed(seed).fold_name("generated").stream(0);
    let mut pick = |n: usize| draw.below(n as u64) as usize;
    let text = |_| {
        let label = pick(2) as u32;
        let mut words: Vec<String> =
            (0..40 + pick(160)).map(|_| (0..2).map(|_| syllables[pick(syllables.len())]).collect()).collect();
        // More of the one kind than of the other.
        let less = pick(2);
        for (kind, count) in [(label, less + 1 + pick(3)), (1 - label, less)] {
            for _ in 0..count {
                let at = pick(words.len());
                words[at] = if kind == 1 { GOOD[pick(GOOD.len())] } else { BAD[pick(BAD.len())] }.to_owned();
            }
        }
        LabelledText { label, text: words.join(" ") }
    };
    (0..n).map(text).collect()
}

/// Milliseconds a text, of long texts: all words and chosen words, alone and in batches of 32. Medians; plans are made before.
fn time(selector: &Arc<WordSelector>, params: &Params, texts: &Texts, smoke: bool) -> Result<Timing> {
    let long: Vec<usize> =
        (0..texts.len()).filter(|&i| texts.ids()[i].len() >= if smoke { 150 } else { LONG }).take(64).collect();
    let batch = |size: usize| -> Result<Vec<Texts>> {
        let part = |group: &[usize]| {
            let of = |i: &usize| (texts.ids()[*i].clone(), texts.labels()[*i]);
            let (ids, labels) = group.iter().map(of).unzip();
            Texts::new(ids, labels)
        };
        Ok(long.chunks(size).filter(|g| g.len() == size).map(part).collect::<Result<Vec<_>, _>>()?)
    };
    let mut result = Timing::default();
    for size in [1, 32] {
        let reading = WordReading::new(selector.clone(), size);
        let (mut all, mut chosen) = (Vec::new(), Vec::new());
        for part in batch(size)? {
            for round in 0..3 {
                let started = Instant::now();
                reading.all_words(params, &part)?;
                let between = Instant::now();
                reading.chosen_words(params, &part)?;
                if round > 0 {
                    all.push((between - started).as_secs_f64() * 1e3 / size as f64);
                    chosen.push(between.elapsed().as_secs_f64() * 1e3 / size as f64);
                }
            }
        }
        let median = |mut v: Vec<f64>| {
            v.sort_by(f64::total_cmp);
            v.get(v.len() / 2).copied().unwrap_or(f64::NAN)
        };
        let (all, chosen) = (median(all), median(chosen));
        if size == 1 {
            (result.all.0, result.chosen.0) = (all, chosen);
        } else {
            (result.all.1, result.chosen.1) = (all, chosen);
        }
    }
    Ok(result)
}

fn line(r: &Row) -> String {
    format!(
        "{:>3.0} % of the words ({:.1}): validation {:.4}, test {:.4} (reader as it was {:.4}); best static vocabulary \
         ({}, {} words, {:.1} a text): validation {:.4}, test {:.4}; long texts {:.2} ms for {:.2} ms alone, {:.2} for {:.2} in 32",
        100.0 * r.share,
        r.words,
        r.selector.0,
        r.selector.1,
        r.untouched.1,
        r.static_name,
        r.static_size,
        r.static_words,
        r.r#static.0,
        r.r#static.1,
        r.timing.chosen.0,
        r.timing.all.0,
        r.timing.chosen.1,
        r.timing.all.1
    )
}

/// Test texts to show: the first of each class that are not long.
fn shown(corpus: &Corpus) -> Vec<usize> {
    let short = |label: u32| {
        (0..corpus.raw.len()).filter(move |&i| corpus.raw[i].label == label && corpus.encoded[i].n_words < 180).take(4)
    };
    short(1).chain(short(0)).collect()
}

fn title(corpus: &Corpus, row: &Row, i: usize) -> String {
    let p = &row.chosen[i].probabilities;
    let name = |positive: bool| if positive { "positive" } else { "negative" };
    format!(
        "{} of {} words: {} ({:.0} %), truth {}",
        row.chosen[i].words.len(),
        corpus.encoded[i].n_words,
        name(p[1] > p[0]),
        100.0 * p[1].max(p[0]),
        name(corpus.raw[i].label == 1)
    )
}

/// A text with its chosen words in brackets.
fn plain(corpus: &Corpus, row: &Row, i: usize) -> String {
    let (text, mut at, mut out) = (&corpus.raw[i].text, 0, String::new());
    let mut words = row.chosen[i].words.clone();
    words.sort_unstable();
    for span in words.iter().map(|w| &corpus.encoded[i].spans[*w]) {
        out.push_str(&format!("{}[{}]", &text[at..span.start], &text[span.clone()]));
        at = span.end;
    }
    format!("{}\n  {}{}", title(corpus, row, i), out, &text[at..])
}

fn report(device: &Device, corpus: &Corpus, rows: &[Row], picked: &Row, all: (f64, f64), o: &Options) -> Report {
    let mut report = Report::new("The words that matter");
    report.lede(&format!(
        "{}: {:.0} % of the words of each text, chosen for that text, give {:.4}; all words give {:.4}, the best static \
         vocabulary of the same mean number of words {:.4}.",
        corpus.name, 100.0 * picked.share, picked.selector.1, all.1, picked.r#static.1
    ));
    report.facts([
        ("device", device.to_string()),
        ("seed", o.seed.to_string()),
        ("texts", format!("{} / {} / {}", corpus.train.len(), corpus.validation.len(), corpus.test.len())),
        ("vocabulary", format!("{} words", corpus.vocabulary.len())),
    ]);
    report.section("Chosen words");
    for i in shown(corpus) {
        let spans: Vec<_> = picked.chosen[i].words.iter().map(|w| corpus.encoded[i].spans[*w].clone()).collect();
        report.marked(&title(corpus, picked, i), &corpus.raw[i].text, &spans);
    }
    report.section("Accuracy against words read");
    let series = |name: &str, points: Vec<(f64, f64)>| Series { name: name.into(), points };
    let percent = |r: &Row| 100.0 * f64::from(r.share);
    report.plots(&[
        LinePlot {
            title: "Test accuracy".into(),
            x_label: "words read, % of each text".into(),
            y_label: "accuracy".into(),
            series: vec![
                series("chosen for each text", rows.iter().map(|r| (percent(r), r.selector.1)).collect()),
                series("best static vocabulary", rows.iter().map(|r| (percent(r), r.r#static.1)).collect()),
                series("all words", rows.iter().map(|r| (percent(r), all.1)).collect()),
            ],
            y_range: None,
        },
        LinePlot {
            title: format!("A text of {LONG} words or more"),
            x_label: "words read, % of each text".into(),
            y_label: "ms".into(),
            series: vec![
                series("choose and read", rows.iter().map(|r| (percent(r), r.timing.chosen.0)).collect()),
                series("read all", rows.iter().map(|r| (percent(r), r.timing.all.0)).collect()),
            ],
            y_range: None,
        },
    ]);
    report.table(
        &["share", "words a text", "chosen", "reader as it was", "static", "which", "its words a text"],
        rows.iter().map(|r| {
            vec![
                format!("{:.0} %", percent(r)),
                format!("{:.1}", r.words),
                format!("{:.4}", r.selector.1),
                format!("{:.4}", r.untouched.1),
                format!("{:.4}", r.r#static.1),
                r.static_name.clone(),
                format!("{:.1}", r.static_words),
            ]
        }),
    );
    report
}
