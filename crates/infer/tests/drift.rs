//! Drift detectors against the golden traces of `golden/make_drift.py`, step by step.

#![allow(clippy::unwrap_used, clippy::panic)]

use acclimate_infer::drift::{Adwin, Collapse, Detector, Kswin, Sign, ks_two_sample};
use safetensors::SafeTensors;

struct Golden(Vec<u8>);

impl Golden {
    fn read() -> Self {
        Golden(std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/golden/drift.safetensors")).unwrap())
    }
    fn floats(&self, name: &str) -> Vec<f64> {
        let all = SafeTensors::deserialize(&self.0).unwrap();
        let data = all.tensor(name).unwrap();
        data.data().as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)).collect()
    }
    fn bytes(&self, name: &str) -> Vec<u8> {
        SafeTensors::deserialize(&self.0).unwrap().tensor(name).unwrap().data().to_vec()
    }
}

const STREAMS: [&str; 4] = ["calm", "jump", "slope", "wide"];
const ERRORS: [&str; 3] = ["few_then_many", "steady", "rare_then_dense"];

fn code(sign: Sign) -> u8 {
    match sign {
        Sign::Stable => 0,
        Sign::Warning => 1,
        Sign::Drift => 2,
    }
}

fn check(golden: &Golden, stream: &str, trace: &str, mut detector: Detector) -> usize {
    let values = golden.floats(&format!("{stream}/values"));
    let expected = golden.bytes(&format!("{stream}/{trace}"));
    assert_eq!(values.len(), expected.len());
    for (i, (x, want)) in values.iter().zip(&expected).enumerate() {
        assert_eq!(code(detector.update(*x)), *want, "{trace} on {stream} at {i}");
    }
    expected.iter().filter(|&&e| e == 2).count()
}

#[test]
fn every_detector_says_what_the_reference_says() {
    let golden = Golden::read();
    let mut drifts = [0; 4];
    for stream in STREAMS.iter().chain(&ERRORS) {
        drifts[0] += check(&golden, stream, "adwin", Detector::adwin());
        drifts[1] += check(&golden, stream, "page_hinkley", Detector::page_hinkley(50.0));
        check(&golden, stream, "page_hinkley_5", Detector::page_hinkley(5.0));
    }
    for stream in ERRORS {
        drifts[2] += check(&golden, stream, "ddm", Detector::ddm());
        drifts[3] += check(&golden, stream, "eddm", Detector::eddm());
    }
    assert!(drifts.iter().all(|&n| n > 0), "each detector fires somewhere: {drifts:?}");
}

#[test]
fn the_window_of_adwin_is_the_references() {
    let golden = Golden::read();
    for stream in STREAMS.iter().chain(&ERRORS) {
        let mut adwin = Adwin::default();
        let width = golden.floats(&format!("{stream}/adwin_width"));
        let mean = golden.floats(&format!("{stream}/adwin_mean"));
        for (i, x) in golden.floats(&format!("{stream}/values")).iter().enumerate() {
            adwin.update(*x);
            assert_eq!(adwin.width(), width[i], "{stream} at {i}");
            // The same sums in the same order.
            assert!((adwin.mean() - mean[i]).abs() <= 1e-12 * (1.0 + mean[i].abs()), "{stream} at {i}");
        }
    }
    // ε for two parts of 100 numbers of variance 1/4.
    let epsilon = Adwin::default().epsilon(100.0, 100.0, 0.25);
    assert!((epsilon - 0.4180).abs() < 5e-5, "{epsilon}");
}

#[test]
fn kswin_agrees_on_the_same_draws() {
    let golden = Golden::read();
    for stream in STREAMS {
        let mut kswin = Kswin::new(0);
        let drawn = golden.bytes(&format!("{stream}/kswin_drawn"));
        let expected = golden.bytes(&format!("{stream}/kswin"));
        for (i, x) in golden.floats(&format!("{stream}/values")).iter().enumerate() {
            let at: [usize; 30] = std::array::from_fn(|k| usize::from(drawn[i * 30 + k]));
            assert_eq!(code(kswin.update_drawing(*x, &at)), expected[i], "{stream} at {i}");
        }
        // With its own draws: calm streams rarely, jumps soon.
        let mut own = Kswin::new(7);
        let signs: Vec<Sign> = golden.floats(&format!("{stream}/values")).iter().map(|&x| own.update(x)).collect();
        if stream == "jump" {
            assert!(signs[600..680].contains(&Sign::Drift));
        }
    }
    let pairs = golden.floats("ks/pairs");
    for ((pair, st), p) in pairs.chunks(60).zip(golden.floats("ks/statistic")).zip(golden.floats("ks/p")) {
        let (found, q) = ks_two_sample(&pair[..30], &pair[30..]);
        assert!((found - st).abs() < 1e-12 && (q - p).abs() <= 1e-9 * p.max(1e-12) + 1e-15, "{found} {st}, {q} {p}");
    }
}

#[test]
fn numbers_that_are_none_are_passed_over() {
    for mut detector in
        [Detector::adwin(), Detector::ddm(), Detector::eddm(), Detector::page_hinkley(5.0), Detector::kswin(1)]
    {
        let mut clean = detector.clone();
        for i in 0..400 {
            let x = f64::from(u8::from(i % 7 == 0)) + f64::from(u8::from(i > 200));
            assert_eq!(detector.update(f64::NAN), Sign::Stable);
            assert_eq!(detector.update(f64::INFINITY), Sign::Stable);
            assert_eq!(detector.update(x), clean.update(x), "{} at {i}", clean.name());
        }
        // What is saved goes on as what was not.
        let text = serde_json::to_string(&detector).unwrap();
        let mut back: Detector = serde_json::from_str(&text).unwrap();
        for i in 0..200 {
            let x = f64::from(i % 5);
            assert_eq!(back.update(x), detector.update(x), "{} at {i}", clean.name());
        }
    }
}

#[test]
fn a_collapse_is_one_class_and_sure() {
    let mut collapse = Collapse::new(20, 0.9);
    assert!((0..200).all(|i| collapse.update(i % 4, 0.9).is_none()));
    assert!((0..200).all(|_| collapse.update(1, 0.3).is_none()), "unsure answers are no collapse");
    collapse.reset();
    let fired: Vec<usize> = (0..40).filter(|_| collapse.update(2, 0.95).is_some()).collect();
    assert_eq!(fired.first(), Some(&19));
}
