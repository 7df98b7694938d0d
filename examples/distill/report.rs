//! The page: the paired table, curves, and the student in use.

use acclimate::infer::report::{LinePlot, Report, Series};

use crate::online::Stream;
use crate::subject::Subject;
use crate::{Difference, Options, SeedRun};

pub fn report(
    subject: &Subject,
    runs: &[SeedRun],
    differences: &[Difference],
    streams: &[Stream],
    teacher: f64,
    device: &str,
    o: &Options,
) -> Report {
    let mut report = Report::new("A small network learns from a large one");
    let first = differences.first().map_or_else(String::new, |d| {
        format!(
            "{:+.1} points (standard error {:.1}) over the same student trained alone, {} paired seeds.",
            100.0 * d.mean,
            100.0 * d.standard_error,
            d.by_seed.len()
        )
    });
    report.lede(&format!("{}. {first}", subject.name));
    report.facts([
        ("device", device.to_owned()),
        ("training images", format!("{}, {} views each, {} passes", subject.train.len(), o.views, o.passes)),
        ("judged on", format!("{} images", subject.test.len())),
        ("teacher", format!("{teacher:.4}")),
        ("loss", format!("{} of T² KL at T = {}, the rest cross-entropy", o.alpha, o.temperature)),
    ]);
    report.section("Seed by seed");
    report.text(
        "Each row is one seed: the same first weights, the same batches of the same views, as many steps with the same \
         optimizer. Only the loss differs.",
    );
    let methods: Vec<String> = runs.iter().take(1).flat_map(|r| &r.students).map(|s| s.method.name()).collect();
    let head: Vec<&str> = std::iter::once("seed").chain(methods.iter().map(String::as_str)).collect();
    report.table(
        &head,
        runs.iter().map(|run| {
            let cells = run.students.iter().map(|s| format!("{:.4}", s.accuracy()));
            std::iter::once(run.seed.to_string()).chain(cells).collect::<Vec<_>>()
        }),
    );
    report.section("Differences to the student trained alone");
    report.table(
        &["learns from", "by seed", "mean", "standard error", "mean / standard error"],
        differences.iter().map(|d| {
            let by_seed: Vec<String> = d.by_seed.iter().map(|x| format!("{x:+.4}")).collect();
            let cells = [d.mean, d.standard_error].map(|x| format!("{x:+.4}"));
            let ratio = format!("{:.1}", d.mean / d.standard_error);
            [vec![d.method.name(), by_seed.join(", ")], cells.to_vec(), vec![ratio]].concat()
        }),
    );
    let curves = runs.iter().take(1).flat_map(|run| &run.students).map(|s| LinePlot {
        title: format!("Loss of batches, {}", s.method.name()),
        x_label: "steps".into(),
        y_label: "nats".into(),
        series: vec![Series { name: s.method.name(), points: s.losses.clone() }],
        y_range: None,
    });
    report.section("Training, first seed").plots(&curves.collect::<Vec<_>>());
    if !streams.is_empty() {
        report.section("In use, without labels");
        report.text(
            "The student answers each batch, then learns from the teacher's answers for it: every parameter may move, a step \
             that does not near the teacher is undone, and labelled training images watch over what must stay known. Hostile \
             batches are of NaN, of 10^30 and of -50 in turn.",
        );
        let rows = streams.iter().flat_map(|stream| {
            stream.students.iter().map(|s| {
                vec![
                    stream.shift.clone(),
                    s.name.clone(),
                    format!("{:.4}", s.accuracy),
                    format!("{:.4}", s.agreement),
                    format!("{:.2}", s.distances.iter().sum::<f64>() / s.distances.len().max(1) as f64),
                    format!("{} / {}", s.kept, s.undone),
                    format!("{} / {}", s.hostile, s.harmless),
                    format!("{:.4}", stream.teacher),
                ]
            })
        });
        let head = [
            "shift",
            "student",
            "right",
            "agrees with the teacher",
            "T² KL",
            "steps kept / undone",
            "hostile batches / without effect",
            "teacher right",
        ];
        report.table(&head, rows.collect::<Vec<_>>());
        let plots = streams.iter().map(|stream| LinePlot {
            title: format!("Distance to the teacher, {}", stream.shift),
            x_label: "batches".into(),
            y_label: "T² KL, nats".into(),
            series: stream.students.iter().map(series).collect(),
            y_range: None,
        });
        report.plots(&plots.collect::<Vec<_>>());
    }
    report
}

fn series(of: &crate::online::Followed) -> Series {
    let points = of.distances.iter().enumerate().map(|(i, d)| (i as f64 + 1.0, *d)).collect();
    Series { name: of.name.clone(), points }
}
