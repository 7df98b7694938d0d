//! The report: one file that needs nothing, shows everything, and lets no text out of its place.
#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::fs;
use std::path::PathBuf;

use acclimate_infer::receipt::{
    Action, Change, Digest, Engine, Facts, Guess, Moved, Place, Reason, Receipt, Rung, Scope, Verdict,
};
use acclimate_infer::report::{ImageCard, Labelled, LinePlot, Picture, Report, ResultRow, Series};

const METHODS: [&str; 8] =
    ["frozen", "stretch", "statistics", "tent", "memo-affine", "calibrate", "vote", "vote_same_cost"];
const SHIFTS: [&str; 5] = ["gaussian", "contrast", "defocus", "fog", "low_light"];

/// Made-up accuracies that fall with severity, each method its own way; the last ones get worse than `frozen`.
fn rows() -> Vec<ResultRow> {
    let row = |shift: &str, severity: u32, m: usize, accuracy: f64| ResultRow {
        shift: shift.into(),
        severity,
        method: METHODS[m].into(),
        images: if m == 4 { 500 } else { 2000 },
        accuracy,
        ece: 0.04 + 0.03 * f64::from(severity),
        ms_per_image: [0.021, 0.024, 0.03, 0.18, 9.7, 4.1, 0.4, 120.0][m],
        acted: if m >= 3 { 300 * severity as usize } else { 0 },
        rolled_back: if m == 4 { 17 } else { 0 },
        seed: 0,
    };
    let clean = (0..METHODS.len()).map(|m| row("clean", 0, m, 0.88 - 0.004 * m as f64));
    let shifted = SHIFTS.iter().enumerate().flat_map(|(s, shift)| {
        (1..=5).flat_map(move |severity| {
            (0..METHODS.len()).map(move |m| {
                let fall = f64::from(severity) * (0.05 + 0.02 * s as f64);
                let rescue = [0.0, 0.2, 0.3, 0.35, 0.15, 0.6, -0.05, -0.2][m];
                row(shift, severity, m, 0.88 - fall * (1.0 - rescue) - 0.004 * m as f64)
            })
        })
    });
    clean.chain(shifted).collect()
}

/// A disc of a given brightness on a given ground.
fn picture(low: f32, high: f32) -> Picture {
    let pixel = |i: usize| {
        let (x, y) = ((i % 28) as f32 - 13.5, (i / 28) as f32 - 13.5);
        let inside = (1.0 - ((x * x + y * y * 0.6).sqrt() / 11.0).powi(4)).max(0.0);
        low + (high - low) * inside * (0.8 + 0.2 * (x * 0.9).sin())
    };
    Picture::from_unit(&(0..28 * 28).map(pixel).collect::<Vec<_>>(), [1, 28, 28]).unwrap()
}

fn card(i: usize) -> ImageCard {
    let answers = METHODS.iter().enumerate().map(|(m, method)| Labelled {
        method: (*method).into(),
        class: if (m + i).is_multiple_of(3) { "ankle boot".into() } else { "t-shirt/top".into() },
        confidence: 0.31 + 0.07 * m as f32,
        right: (m + i).is_multiple_of(3),
    });
    ImageCard {
        title: format!("ankle boot, {} 5", SHIFTS[i % 5]),
        pictures: vec![
            ("clean".into(), picture(0.0, 1.0)),
            (format!("{} 5", SHIFTS[i % 5]), picture(0.4, 0.55)),
            ("after calibrate".into(), picture(0.05, 0.9)),
        ],
        answers: answers.collect(),
    }
}

fn receipt() -> Receipt {
    let none = Digest::of_bytes(b"");
    Receipt {
        index: 12,
        place: Place { batch: 0, slot: 12, of: 32 },
        scope: Scope::Input,
        since_reset: 0,
        input: Digest::of_bytes(b"input"),
        base: Digest::of_bytes(b"base"),
        method: "calibrate".into(),
        config: serde_json::json!({"steps": 20, "rate": 0.05}),
        config_hash: none,
        seed: 7,
        device: "native code on 2 cores (AVX2)".into(),
        engine: Engine::Cpu,
        variants: vec!["conv.rows".into()],
        rung: Rung { level: 0, name: "full".into(), short: None },
        facts: Facts {
            steps: 20,
            views: 1,
            moved: Moved::summarize([
                ("sensor.gain", 0.62, 1.0),
                ("sensor.offset", 0.11, 0.0),
                ("sensor.gamma", 0.08, 1.0),
            ]),
            loss: Some(Change { before: 41.2, after: 3.81 }),
            entropy: Change { before: 1.71, after: 0.42 },
            before: Guess { class: 0, confidence: 0.31 },
            after: Guess { class: 1, confidence: 0.88 },
            proposed: None,
            verdict: Verdict { action: Action::Accepted, reason: Reason::LossFell { before: 41.2, after: 3.81 } },
            logits: vec![0.5, 2.5],
        },
        answer: none,
        ms: 4.13,
        budget_ms: Some(5.0),
        events: Vec::new(),
    }
    .sealed()
}

fn demo() -> Report {
    let curve = |f: &dyn Fn(f64) -> f64| (0..=200).map(|i| (f64::from(i) * 5.0, f(f64::from(i) * 5.0))).collect();
    let plot = |title: &str, y_label: &str, series| LinePlot {
        title: title.into(),
        x_label: "step".into(),
        y_label: y_label.into(),
        series,
        y_range: None,
    };
    let mut report = Report::new("A classifier that adapts to each image");
    report.lede(
        "Made-up numbers: a small network was trained on clean images, the images were shifted as a camera in the world \
         would, and every image was answered in eight ways.",
    );
    report.section("The run").facts([
        ("device", "native code on 2 cores (AVX2); no adapter was found"),
        ("training", "61.2 s, 812 steps"),
        ("receipts", "7,000 records; the chain holds; 7,000 of 7,000 recomputed equal"),
    ]);
    report.section("Accuracy at a glance").overview(&rows());
    report.section("Training").plots(&[
        plot(
            "Loss",
            "cross-entropy",
            vec![
                Series {
                    name: "training".into(),
                    points: curve(&|x| 0.3 + 2.0 * (-x / 150.0).exp() + 0.05 * (x * 0.7).sin()),
                },
                Series { name: "held out".into(), points: curve(&|x| 0.36 + 1.9 * (-x / 160.0).exp()) },
            ],
        ),
        plot(
            "Accuracy",
            "%",
            vec![Series { name: "held out".into(), points: curve(&|x| 88.0 - 78.0 * (-x / 120.0).exp()) }],
        ),
    ]);
    report.section("Accuracy by severity").accuracy_by_severity(&rows());
    report.section("Images").text("Before and after each shift, and what each method answered.");
    report.images(&(0..4).map(card).collect::<Vec<_>>()).unwrap();
    report.section("One receipt in words").receipt(&receipt(), &["t-shirt/top", "ankle boot"]).unwrap();
    let last: Vec<_> = rows().into_iter().filter(|r| r.severity == 0 || r.severity == 5).collect();
    report.section("All results").results(&last);
    report
}

/// Written to `ACCLIMATE_REPORT_DEMO` when that is set, for a look at it.
#[test]
fn the_demo_is_one_whole_file_that_fetches_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sub").join("report.html");
    let report = demo();
    report.write(&path).unwrap();
    report.write(&path).unwrap(); // replaced, not refused
    let html = fs::read_to_string(&path).unwrap();
    if let Some(copy) = std::env::var_os("ACCLIMATE_REPORT_DEMO") {
        fs::write(PathBuf::from(copy), &html).unwrap();
    }
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no temporary file stays");
    for outside in ["http://", "https://", "<script", "<link", "@import", "url("] {
        assert!(!html.contains(outside), "{outside}");
    }
    assert_eq!(html.matches("data:image/png;base64,").count(), 12);
    assert_balanced(&html);
    // Every link of the contents has its target.
    for link in html.split("href=\"#").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        assert!(html.contains(&format!("id=\"{link}\"")), "{link}");
    }
}

/// Every tag that is opened is closed in order.
fn assert_balanced(html: &str) {
    let mut open: Vec<&str> = Vec::new();
    for tag in html.split('<').skip(1).map(|rest| rest.split('>').next().unwrap()) {
        let name = tag.trim_start_matches('/').split([' ', '\n', '/']).next().unwrap();
        if tag.starts_with('!') || tag.ends_with('/') || ["meta", "img", "br"].contains(&name) {
            continue;
        }
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "closing {tag}");
        } else {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn no_text_gets_out_of_its_place() {
    let evil = "\"'><script>alert(1)</script>&";
    let mut report = Report::new(evil);
    let mut row = rows().swap_remove(20);
    (row.shift, row.method) = (evil.into(), evil.into());
    let series =
        vec![Series { name: evil.into(), points: vec![(0.0, 1.0)] }, Series { name: evil.into(), points: vec![] }];
    let plot = LinePlot { title: evil.into(), x_label: evil.into(), y_label: evil.into(), series, y_range: None };
    let answers = vec![Labelled { method: evil.into(), class: evil.into(), confidence: 0.5, right: true }];
    let card = ImageCard { title: evil.into(), pictures: vec![(evil.into(), picture(0.0, 1.0))], answers };
    let mut receipt = receipt();
    (receipt.method, receipt.device, receipt.rung.name) = (evil.into(), evil.into(), evil.into());
    receipt.config = serde_json::json!({ evil: evil });
    receipt.facts.verdict.reason = Reason::NotFinite { place: evil.into() };
    receipt.facts.moved = Moved::summarize([(evil, 1.0, 1.0)]);
    report.lede(evil).section(evil).section(evil).text(evil).facts([(evil, evil)]);
    report.results(std::slice::from_ref(&row)).overview(std::slice::from_ref(&row)).accuracy_by_severity(&[row]);
    report.plots(&[plot]).images(&[card]).unwrap().receipt(&receipt, &[evil, evil]).unwrap();
    let html = report.to_html();
    assert!(!html.contains("<script") && !html.contains("'><") && !html.contains("\"'"), "{html}");
    assert_balanced(&html);
    assert!(html.contains("id=\"script-alert-1-script\"") && html.contains("id=\"script-alert-1-script-2\""));
}

#[test]
fn the_best_of_each_shift_is_marked_and_frozen_is_what_the_others_are_compared_with() {
    let row = |method: &str, accuracy: f64, images| ResultRow {
        method: method.into(),
        accuracy,
        images,
        ..rows().swap_remove(10)
    };
    let mut report = Report::new("t");
    report.results(&[row("frozen", 0.5, 100), row("worse", 0.4, 100), row("best", 0.75, 100), row("few", 0.6, 50)]);
    let html = report.to_html();
    assert_eq!(html.matches("<tr class=\"best\">").count(), 1);
    assert!(html.contains("<tr class=\"best\"><th scope=\"row\">best"));
    assert!(html.contains("<td>+25.0</td>") && html.contains("<td>−10.0</td>"));
    assert!(!html.contains("<td>+10.0</td>"), "50 images are not compared with 100");
}

#[test]
fn nothing_measured_is_still_a_page() {
    let mut report = Report::new("empty");
    report.results(&[]).overview(&[]).accuracy_by_severity(&[]).plots(&[LinePlot::default()]).text("");
    let mut row = rows().swap_remove(0);
    (row.accuracy, row.ece, row.ms_per_image) = (f64::NAN, f64::INFINITY, f64::NAN);
    report.results(std::slice::from_ref(&row)).overview(&[row]);
    assert_balanced(&report.to_html());
}

#[test]
fn a_table_lets_no_text_out_of_its_cells() {
    let mut report = Report::new("t");
    report.table(&["a<b", "c"], [["<i>x", "1"], ["y", "<script>"]].map(|row| row.map(str::to_owned)));
    let html = report.to_html();
    assert!(html.contains("<th scope=\"col\">a&lt;b</th><th scope=\"col\">c</th>"));
    assert!(html.contains("<th scope=\"row\">&lt;i&gt;x</th><td>1</td>") && html.contains("<td>&lt;script&gt;</td>"));
    assert!(!html.contains("<script>"));
}
