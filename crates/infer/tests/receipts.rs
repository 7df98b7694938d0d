//! Receipts: what a log finds when it was tampered with, and what replay says. The model is a toy that really computes.
#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::fs;
use std::path::{Path, PathBuf};

use acclimate_infer::error::Error;
use acclimate_infer::receipt::{
    Action, Change, Digest, Engine, Facts, Fault, Guess, Input, Inputs, Manifest, Moved, Outcome, Place, Reason,
    Receipt, Recompute, Replay, ReplayReport, Rung, Scope, Tolerance, Verdict, Writer, explain, explain_with_names,
    read, replay, verify,
};
use tempfile::TempDir;

/// Three classes over two features, times a gain that is chosen for each input (scope `Input`), from the whole batch
/// (`Batch`), or that drifts from batch to batch (`Stream`).
struct Toy {
    weights: [f32; 6],
    scope: Scope,
    state: f32,
    device: &'static str,
    /// What the hash of the weights is said to be, if that is a lie.
    claimed: Option<Digest>,
}

impl Toy {
    fn new(scope: Scope) -> Self {
        let weights = [0.3, -0.7, 0.11, 0.5, -0.2, 0.9];
        Self { weights, scope, state: 0.0, device: "toy cpu", claimed: None }
    }

    fn logits(&self, x: &[f32], gain: f32) -> Vec<f32> {
        self.weights.chunks(2).map(|w| gain * (w[0] * x[0] + w[1] * x[1])).collect()
    }

    fn batch(&mut self, since_reset: u64, inputs: &[Input]) -> Vec<Facts> {
        if since_reset == 0 {
            self.state = 0.0;
        }
        let level = |x: &[f32]| 1.0 + x.iter().map(|v| v.abs()).sum::<f32>().recip().min(4.0);
        let mean = inputs.iter().map(|x| level(x.values())).sum::<f32>() / inputs.len() as f32;
        let state = self.state;
        self.state += mean;
        inputs
            .iter()
            .map(|x| {
                self.facts(
                    x.values(),
                    match self.scope {
                        Scope::Input => level(x.values()),
                        Scope::Batch => mean,
                        Scope::Stream => mean + state,
                    },
                )
            })
            .collect()
    }

    fn facts(&self, x: &[f32], gain: f32) -> Facts {
        let (frozen, logits) = (self.logits(x, 1.0), self.logits(x, gain));
        let entropy = Change { before: frozen[0], after: logits[0] };
        Facts {
            steps: 3,
            views: 1,
            moved: Moved::summarize([("sensor.gain", gain - 1.0, 1.0), ("sensor.offset", 0.0, 0.0)]),
            loss: Some(Change { before: 1.5, after: 0.25 }),
            entropy,
            before: Guess::from_logits(&frozen).unwrap(),
            after: Guess::from_logits(&logits).unwrap(),
            proposed: None,
            verdict: Verdict { action: Action::Accepted, reason: Reason::LossFell { before: 1.5, after: 0.25 } },
            logits,
        }
    }
}

impl Recompute for Toy {
    fn base_hash(&self) -> Result<Digest, Error> {
        Ok(self.claimed.unwrap_or_else(|| Digest::of_tensor(&[3, 2], &self.weights)))
    }
    fn device(&self) -> String {
        self.device.to_owned()
    }
    fn engine(&self) -> Engine {
        Engine::Cpu
    }
    fn variants(&self) -> Vec<String> {
        vec!["plain".to_owned()]
    }
    fn answer(&mut self, receipts: &[Receipt], inputs: &[Input]) -> Result<Vec<Facts>, Error> {
        assert!(receipts.iter().zip(inputs).all(|(r, x)| r.input == x.digest()), "inputs go with their receipts");
        Ok(self.batch(receipts[0].since_reset, inputs))
    }
}

fn inputs(n: usize) -> Vec<Input> {
    (0..n).map(|i| Input::new([2], [0.1 + i as f32 * 0.37, 2.0 - i as f32 * 0.21]).unwrap()).collect()
}

fn receipt(toy: &Toy, index: u64, place: Place, since_reset: u64, input: Digest, facts: Facts) -> Receipt {
    let none = Digest::of_bytes(b"");
    Receipt {
        index,
        place,
        scope: toy.scope,
        since_reset,
        input,
        base: toy.base_hash().unwrap(),
        method: "toy-gain".to_owned(),
        config: serde_json::json!({"rate": 0.1, "steps": 3}),
        config_hash: none,
        seed: u64::MAX,
        device: toy.device(),
        engine: Engine::Cpu,
        variants: toy.variants(),
        rung: Rung { level: 0, name: "full".to_owned(), short: None },
        facts,
        answer: none,
        ms: 0.7,
        budget_ms: Some(5.0),
        events: Vec::new(),
    }
    .sealed()
}

/// Writes 8 answers in batches of `batch`; a `Stream` is reset once, after 4 answers.
fn write_log(folder: &Path, scope: Scope, batch: usize) -> PathBuf {
    let path = folder.join("run").join("receipts.jsonl");
    let mut toy = Toy::new(scope);
    let mut writer = Writer::create(&path).unwrap().keep_inputs();
    let all = inputs(8);
    for (b, chunk) in all.chunks(batch).enumerate() {
        let since_reset = if scope == Scope::Stream { (b * batch % 4) as u64 } else { 0 };
        for (slot, (x, facts)) in chunk.iter().zip(toy.batch(since_reset, chunk)).enumerate() {
            let place = Place { batch: b as u64, slot: slot as u32, of: chunk.len() as u32 };
            let digest = writer.keep(x).unwrap();
            writer.push(&receipt(&toy, (b * batch + slot) as u64, place, since_reset, digest, facts)).unwrap();
        }
        writer.flush().unwrap();
    }
    assert_eq!(writer.finish().unwrap().records, 8);
    path
}

fn honest(scope: Scope, batch: usize) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = write_log(folder.path(), scope, batch);
    (folder, path)
}

fn run(path: &Path, toy: &mut Toy) -> ReplayReport {
    replay(path, toy, Inputs::kept()).unwrap()
}

fn outcomes(report: &ReplayReport, which: impl Fn(&Outcome) -> bool) -> Vec<usize> {
    report.outcomes.iter().filter(|(_, o)| which(o)).map(|(record, _)| *record).collect()
}

#[test]
fn an_honest_log_replays_equal_in_every_scope_and_batch_size() {
    for scope in [Scope::Input, Scope::Batch, Scope::Stream] {
        for batch in [1, 2, 4] {
            let (_folder, path) = honest(scope, batch);
            let report = run(&path, &mut Toy::new(scope));
            assert_eq!(report.count(|o| *o == Outcome::Equal), 8, "{scope:?} {batch}: {report}");
            report.require_equal().unwrap();
        }
    }
}

#[test]
fn inputs_can_be_handed_in() {
    let (_folder, path) = honest(Scope::Batch, 4);
    let mut all = inputs(8);
    all.reverse();
    assert!(replay(&path, &mut Toy::new(Scope::Batch), Inputs::given(all)).unwrap().holds());
}

#[test]
fn an_altered_weight_fails_with_and_without_a_lie_about_its_hash() {
    let (_folder, path) = honest(Scope::Input, 4);
    let mut toy = Toy::new(Scope::Input);
    let base = toy.base_hash().unwrap();
    toy.weights[3] = f32::from_bits(toy.weights[3].to_bits() + 1);
    let report = run(&path, &mut toy);
    assert_eq!(report.count(|o| *o == Outcome::BaseDiffers), 8);
    assert!(matches!(report.require_equal(), Err(Error::ReplayFailed { .. })));

    toy.claimed = Some(base);
    let report = run(&path, &mut toy);
    assert!(report.count(|o| matches!(o, Outcome::Differs { .. })) > 0, "{report}");
    assert!(report.to_string().contains("was recorded as"), "{report}");
    assert!(report.require_equal().is_err());
}

/// Every byte of one line in turn, and some bytes of each line.
#[test]
fn one_changed_byte_is_reported_at_its_record_and_nowhere_else() {
    let (_folder, path) = honest(Scope::Input, 4);
    let good = fs::read(&path).unwrap();
    let starts: Vec<usize> =
        std::iter::once(0).chain(good.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(i, _)| i + 1)).collect();
    for (record, line) in starts.windows(2).enumerate() {
        let stride = if record == 5 { 3 } else { 97 };
        for at in (line[0]..line[1] - 1).step_by(stride) {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&path, &bad).unwrap();
            let found = verify(&path).unwrap();
            let places: Vec<_> = found
                .faults
                .iter()
                .map(|f| match f {
                    Fault::Corrupt { record, .. } => *record,
                    other => panic!("byte {at}: {other}"),
                })
                .collect();
            assert_eq!(places, [record], "byte {at} of record {record}: {found}");
            assert_eq!(found.records, 8);
        }
    }
    let mut bad = good;
    bad[starts[5] + 400] ^= 1;
    fs::write(&path, &bad).unwrap();
    let log = read(&path).unwrap();
    assert_eq!(log.records.iter().map(|r| r.record).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 6, 7]);
    let report = run(&path, &mut Toy::new(Scope::Input));
    assert_eq!(report.count(|o| *o == Outcome::Equal), 7, "the others still replay");
    assert!(report.require_equal().is_err());
}

#[test]
fn a_changed_line_end_is_found() {
    let (_folder, path) = honest(Scope::Input, 4);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen('\n', " ", 1)).unwrap();
    let found = verify(&path).unwrap();
    assert!(matches!(found.faults[0], Fault::Corrupt { record: 0, .. }), "{found}");
}

fn cut_lines(path: &Path, keep: impl Fn(usize) -> bool) {
    let text = fs::read_to_string(path).unwrap();
    let kept: Vec<_> = text.split_inclusive('\n').enumerate().filter(|(i, _)| keep(*i)).map(|(_, l)| l).collect();
    fs::write(path, kept.concat()).unwrap();
}

#[test]
fn dropped_records_are_found_at_the_end_in_the_middle_and_all_of_them() {
    let (_folder, path) = honest(Scope::Input, 4);
    cut_lines(&path, |i| i < 6);
    let found = verify(&path).unwrap();
    assert_eq!(found.faults, [Fault::Dropped { vouched: 8, found: 6 }]);
    assert!(run(&path, &mut Toy::new(Scope::Input)).require_equal().is_err());
    cut_lines(&path, |i| i != 2);
    assert!(matches!(verify(&path).unwrap().faults[0], Fault::Corrupt { record: 2, .. }));
    cut_lines(&path, |_| false);
    assert_eq!(verify(&path).unwrap().faults, [Fault::Dropped { vouched: 8, found: 0 }]);
}

#[test]
fn a_truncated_last_line_loses_nothing_before_it() {
    let (_folder, path) = honest(Scope::Input, 4);
    let good = fs::read(&path).unwrap();
    let last = good[..good.len() - 1].iter().rposition(|b| *b == b'\n').unwrap() + 1;
    for length in [last + 1, last + 100, good.len() - 1] {
        fs::write(&path, &good[..length]).unwrap();
        let log = read(&path).unwrap();
        assert_eq!(log.records.len(), 7);
        let bytes = (length - last) as u64;
        assert_eq!(log.verification.faults[0], Fault::Truncated { record: 7, bytes });
        let report = run(&path, &mut Toy::new(Scope::Input));
        assert_eq!(report.count(|o| *o == Outcome::Equal), 7);
        assert!(report.require_equal().is_err());
    }
}

#[test]
fn a_missing_or_foreign_manifest_is_reported() {
    let (_folder, path) = honest(Scope::Input, 4);
    let manifest = Manifest::path_of(&path);
    let good = fs::read_to_string(&manifest).unwrap();
    let head = verify(&path).unwrap().head.to_string();
    let other = good.replace(&head, &Digest::of_bytes(b"other").to_string());
    assert_ne!(good, other);
    fs::write(&manifest, other).unwrap();
    assert!(matches!(verify(&path).unwrap().faults[..], [Fault::ManifestDiffers { .. }]));
    fs::write(&manifest, "{").unwrap();
    assert!(matches!(verify(&path).unwrap().faults[..], [Fault::ManifestDiffers { .. }]));
    fs::remove_file(&manifest).unwrap();
    assert_eq!(verify(&path).unwrap().faults, [Fault::ManifestMissing]);
    assert!(run(&path, &mut Toy::new(Scope::Input)).require_equal().is_err());
}

/// A forger who redoes the chain after changing a number passes the chain, but neither the manifest nor the replay.
#[test]
fn a_forged_record_in_a_redone_chain_is_exposed() {
    let (folder, path) = honest(Scope::Input, 4);
    let forged = folder.path().join("forged.jsonl");
    let mut writer = Writer::create(&forged).unwrap().keep_inputs();
    for record in read(&path).unwrap().records {
        let mut receipt = record.receipt;
        if record.record == 3 {
            receipt.facts.loss = Some(Change { before: 1.5, after: 0.1 });
        }
        writer.push(&receipt).unwrap();
    }
    writer.finish().unwrap();
    assert!(verify(&forged).unwrap().holds());
    let report = replay(&forged, &mut Toy::new(Scope::Input), Inputs::given(inputs(8))).unwrap();
    assert_eq!(outcomes(&report, |o| matches!(o, Outcome::Differs { .. })), [3]);
    assert!(report.to_string().contains("loss.after was recorded as 0.1"), "{report}");
    fs::copy(&forged, &path).unwrap();
    assert!(matches!(verify(&path).unwrap().faults[..], [Fault::ManifestDiffers { .. }]));
}

#[test]
fn a_missing_input_is_missing_and_never_a_pass() {
    let missing = |o: &Outcome| matches!(o, Outcome::Missing { .. });
    let expect = [
        // Alone: only itself. With its batch: records 0 to 3. In a stream of batches of 2, until the reset after 4.
        (Scope::Input, 4, vec![1]),
        (Scope::Batch, 4, vec![0, 1, 2, 3]),
        (Scope::Stream, 2, vec![0, 1, 2, 3]),
    ];
    for (scope, batch, gone) in expect {
        let (_folder, path) = honest(scope, batch);
        let name = format!("{}.f32", inputs(8)[1].digest());
        let kept = PathBuf::from(format!("{}.inputs", path.display())).join(name);
        fs::remove_file(&kept).unwrap();
        let report = run(&path, &mut Toy::new(scope));
        assert_eq!(outcomes(&report, missing), gone, "{scope:?}");
        assert_eq!(report.count(|o| *o == Outcome::Equal), 8 - gone.len());
        assert!(report.require_equal().is_err());
        fs::write(&kept, b"not an input").unwrap();
        assert_eq!(outcomes(&run(&path, &mut Toy::new(scope)), missing), gone, "{scope:?}");
    }
}

#[test]
fn a_gap_in_a_stream_is_no_pass_for_what_comes_after_it() {
    let (_folder, path) = honest(Scope::Stream, 1);
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<_> = text.split_inclusive('\n').collect();
    let changed = lines[1].replace("toy-gain", "toy-gate");
    assert_ne!(lines[1], changed);
    fs::write(&path, [&[lines[0], &changed], &lines[2..]].concat().concat()).unwrap();
    let report = run(&path, &mut Toy::new(Scope::Stream));
    assert_eq!(outcomes(&report, |o| *o == Outcome::Equal), [0, 4, 5, 6, 7]);
    assert_eq!(outcomes(&report, |o| matches!(o, Outcome::Missing { .. })), [2, 3]);
}

#[test]
fn bits_are_required_on_the_same_device_and_a_tolerance_holds_only_elsewhere() {
    let (_folder, path) = honest(Scope::Input, 4);
    let mut toy = Toy::new(Scope::Input);
    toy.claimed = Some(toy.base_hash().unwrap());
    toy.weights[0] += 1e-6;
    let near = |absolute| Replay::new(Inputs::kept()).tolerance(Tolerance { absolute, relative: 0.0 });
    assert!(!near(1e-3).run(&path, &mut toy).unwrap().holds(), "same device: bits");
    toy.device = "another";
    let report = near(1e-3).run(&path, &mut toy).unwrap();
    assert!(report.holds() && report.count(|o| *o == Outcome::WithinTolerance) > 0, "{report}");
    assert!(!near(1e-9).run(&path, &mut toy).unwrap().holds());
    let report = run(&path, &mut toy);
    assert!(!report.holds());
    assert!(report.to_string().contains("no tolerance was given"), "{report}");
}

#[test]
fn a_log_is_continued_only_if_it_holds() {
    let (_folder, path) = honest(Scope::Input, 4);
    let extra = read(&path).unwrap().records[0].receipt.clone();
    let mut writer = Writer::append(&path).unwrap();
    writer.push(&extra).unwrap();
    writer.finish().unwrap();
    let found = verify(&path).unwrap();
    assert!(found.holds() && found.records == 9, "{found}");

    // A crash in the middle of a write: recover drops the half line and nothing else.
    let good = fs::read(&path).unwrap();
    fs::write(&path, [&good[..], b"{\"prev\":\"12"].concat()).unwrap();
    assert!(matches!(Writer::append(&path), Err(Error::CannotAppend { .. })));
    let (mut writer, before) = Writer::recover(&path).unwrap();
    assert_eq!(before.faults, [Fault::Truncated { record: 9, bytes: 11 }]);
    writer.push(&extra).unwrap();
    writer.finish().unwrap();
    assert!(verify(&path).unwrap().holds());
    assert!(fs::read(&path).unwrap().starts_with(&good));

    // A changed byte is no crash.
    let mut bad = good.clone();
    bad[500] ^= 1;
    fs::write(&path, bad).unwrap();
    assert!(matches!(Writer::append(&path), Err(Error::CannotAppend { .. })));
    assert!(matches!(Writer::recover(&path), Err(Error::CannotAppend { .. })));
}

#[test]
fn two_writers_of_one_log_notice_each_other() {
    let (_folder, path) = honest(Scope::Input, 4);
    let extra = read(&path).unwrap().records[0].receipt.clone();
    let (mut one, mut two) = (Writer::append(&path).unwrap(), Writer::append(&path).unwrap());
    one.push(&extra).unwrap();
    one.flush().unwrap();
    two.push(&extra).unwrap();
    assert!(matches!(two.flush(), Err(Error::CannotAppend { .. })));
    assert_eq!(read(&path).unwrap().records.len(), 9);
}

#[test]
fn every_field_comes_back_as_it_was_written() {
    let toy = Toy::new(Scope::Batch);
    let mut facts = toy.facts(&[1.0, 2.0], 1.5);
    facts.logits = vec![f32::NAN, -0.0, f32::NEG_INFINITY];
    facts.loss = None;
    facts.verdict = Verdict { action: Action::RolledBack, reason: Reason::TooFar { norm: f32::INFINITY, limit: 0.02 } };
    let place = Place { batch: 7, slot: 3, of: 32 };
    let receipt = receipt(&toy, 99, place, 12, Digest::of_bytes(b"x"), facts);
    let text = serde_json::to_string(&receipt).unwrap();
    let back: Receipt = serde_json::from_str(&text).unwrap();
    assert_eq!(serde_json::to_string(&back).unwrap(), text);
    assert!(back.contradiction().is_none());
    assert_eq!(back.facts.logits[1].to_bits(), (-0.0_f32).to_bits());
    let mut other = back;
    other.facts.logits[1] = 0.0;
    assert!(other.contradiction().is_some());
}

#[test]
fn a_missing_log_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nothing.jsonl");
    let error = verify(&path).unwrap_err();
    assert!(error.to_string().contains("nothing.jsonl"), "{error}");
    fs::write(&path, "").unwrap();
    assert_eq!(verify(&path).unwrap().faults, [Fault::ManifestMissing]);
}

#[test]
fn the_words_tell_what_moved_how_far_and_why() {
    let toy = Toy::new(Scope::Input);
    let place = Place { batch: 0, slot: 3, of: 32 };
    let mut receipt = receipt(&toy, 12, place, 0, Digest::of_bytes(b"x"), toy.facts(&[0.5, -2.0], 1.5));
    receipt.facts.after.class = 2;
    let text = explain_with_names(&receipt, &["shirt", "bag", "boot"]);
    for part in [
        "Input 12",
        "slot 3",
        "\"shirt\"",
        "\"boot\"",
        "sensor.gain moved furthest, by 0.500 (50.0 % of its norm)",
        "objective fell from 1.50 to 0.250",
        "accepted, because",
        "within its budget",
        "seed 18446744073709551615",
    ] {
        assert!(text.contains(part), "\"{part}\" is not in:\n{text}");
    }
    receipt.facts.verdict = Verdict { action: Action::RolledBack, reason: Reason::NotFinite { place: "loss".into() } };
    let text = explain(&receipt);
    assert!(text.contains("rolled back") && text.contains("the loss has a NaN"), "{text}");
    assert!(receipt.to_string().contains("class 0 → 2"), "{receipt}");
}

#[test]
fn what_moved_is_summed_and_the_five_furthest_are_named() {
    let names = ["a", "b", "c", "d", "e", "f", "g"];
    let moved = Moved::summarize(names.iter().enumerate().map(|(i, n)| (*n, i as f32, 2.0)));
    assert_eq!(moved.top.iter().map(|m| m.path.as_str()).collect::<Vec<_>>(), ["g", "f", "e", "d", "c"]);
    assert_eq!(moved.norm, 91.0_f32.sqrt());
    assert_eq!(moved.relative, (91.0_f32 / 28.0).sqrt());
    assert_eq!(Moved::summarize([("still", 0.0, 0.0)]).relative, 0.0);
    assert!(Moved::summarize([("from zero", 1.0, 0.0)]).relative.is_infinite());
}
