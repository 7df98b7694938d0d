//! Distillation: PyTorch's trajectory, who teaches, what is refused, and the same training after a checkpoint.
#![allow(clippy::unwrap_used, clippy::panic)]

mod distilled;

use std::sync::Arc;

use acclimate_infer::distill::{
    Distill, Lesson, Teacher, Weighted, attention_transfer, fitnets, hinton, inherit, record,
};
use acclimate_tensor::{Device, Tensor};
use acclimate_train::data::{Batches, Tail};
use acclimate_train::fit::{Fit, Progress, Training};
use acclimate_train::loss::Labels;
use acclimate_train::nn::Mlp;
use acclimate_train::nn::zoo::CifarResNet;
use acclimate_train::{Layer, Params, optim, weights};
use distilled::{DIMS, ROWS, Trace, net, quiet, terms};

#[test]
fn a_few_steps_are_pytorchs() {
    distilled::a_few_steps_are_pytorchs(&Device::cpu());
}

/// Two sets of points, of which a teacher knows which is which, and a student who sees no right label.
struct Blobs {
    device: Device,
    x: Vec<f32>,
    wrong: Vec<u32>,
    right: Vec<u32>,
}

impl Blobs {
    fn new() -> Self {
        let n = 40;
        let x = (0..n).flat_map(|i| {
            let (side, t) = ((i % 2) as f32 * 2.0 - 1.0, i as f32);
            [side + 0.3 * (1.7 * t).sin(), 0.5 * side + 0.3 * (2.3 * t).cos()]
        });
        Blobs {
            device: Device::cpu(),
            x: x.collect(),
            wrong: vec![0; n],
            right: (0..n as u32).map(|i| i % 2).collect(),
        }
    }

    fn teacher(&self) -> (Arc<dyn Layer>, Params) {
        let model: Arc<dyn Layer> = Arc::new(Mlp::new("", 2, &[8], 2));
        let fit = Fit::supervised(model.clone(), optim::sgd(0.5), acclimate_train::loss::cross_entropy).epochs(40);
        let fit = fit.progress(Progress::Silent);
        let params = model.init(&self.device, 1).unwrap();
        let trained = fit.run(fit.begin(&params).unwrap(), &self.batches(), |p| {
            let (x, _, _) = self.lesson(p, None);
            let labels: Vec<u32> = p.iter().map(|&i| self.right[i]).collect();
            Ok((x, Labels::new(&self.device, &labels, 2)?.tensor().clone()))
        });
        (model, trained.unwrap().params)
    }

    fn batches(&self) -> Batches {
        Batches::new(self.wrong.len(), 10, 3, Tail::Drop).unwrap()
    }

    fn lesson(&self, positions: &[usize], recorded: Option<&[f32]>) -> Lesson {
        let rows = |of: &[f32]| {
            let values: Vec<f32> = positions.iter().flat_map(|&i| of[2 * i..2 * i + 2].to_vec()).collect();
            Tensor::from_slice(&self.device, &values, &[positions.len(), 2]).unwrap()
        };
        let labels: Vec<u32> = positions.iter().map(|&i| self.wrong[i]).collect();
        (rows(&self.x), Labels::new(&self.device, &labels, 2).unwrap().tensor().clone(), recorded.map(rows))
    }

    fn train(&self, distill: &Distill, student: &dyn Layer, recorded: Option<&[f32]>) -> Training {
        let params = distill.params(&student.init(&self.device, 7).unwrap(), &[2], 7).unwrap();
        let fit = quiet(distill.fit(optim::sgd(0.5)).epochs(30));
        fit.run(fit.begin(&params).unwrap(), &self.batches(), |p| Ok(self.lesson(p, recorded))).unwrap()
    }

    fn accuracy(&self, model: &Arc<dyn Layer>, params: &Params) -> f64 {
        let logits = record(model, params, &self.x, &[2], 7, |_| {}).unwrap();
        let hit = |(z, y): (&[f32], &u32)| usize::from(u32::from(z[1] > z[0]) == *y);
        logits.chunks(2).zip(&self.right).map(hit).sum::<usize>() as f64 / self.right.len() as f64
    }
}

/// All labels are of one class: only the teacher can tell the student that there are two. Recorded answers teach the same,
/// and what is kept out of the loss teaches nothing.
#[test]
fn answers_teach_and_labels_alone_do_not() {
    let blobs = Blobs::new();
    let (teacher, taught) = blobs.teacher();
    assert_eq!(blobs.accuracy(&teacher, &taught), 1.0);
    let student: Arc<dyn Layer> = Arc::new(Mlp::new("", 2, &[3], 2));
    let asked =
        Distill::new(student.clone(), Teacher::Network(teacher.clone(), taught.clone()), hinton(2.0, 1.0)).unwrap();
    let one = blobs.train(&asked, &*student, None);
    assert_eq!(blobs.accuracy(&student, &asked.student(&one.params).unwrap()), 1.0);

    let logits = record(&teacher, &taught, &blobs.x, &[2], 16, |_| {}).unwrap();
    let recorded = Distill::new(student.clone(), Teacher::Recorded, hinton(2.0, 1.0)).unwrap();
    let two = blobs.train(&recorded, &*student, Some(&logits));
    let losses = |t: &Training| t.run.history.points.iter().map(|p| p.loss).collect::<Vec<_>>();
    for (a, b) in losses(&one).iter().zip(losses(&two)) {
        // The recorded logits went through other batches, whose products may round otherwise.
        assert!((a - b).abs() <= 1e-4 * (1.0 + a), "{a} {b}");
    }
    // Weight 0 on the teacher but for a trace: the labels win.
    let nearly = Distill::new(student.clone(), Teacher::Recorded, hinton(2.0, 1e-6)).unwrap();
    let three = blobs.train(&nearly, &*student, Some(&logits));
    assert_eq!(blobs.accuracy(&student, &nearly.student(&three.params).unwrap()), 0.5);
}

/// A mean teacher is m·teacher + (1 − m)·student, one step behind: with m = 0 what the student was, with m = 1 what it began
/// as. Running statistics follow too.
#[test]
fn a_mean_teacher_follows() {
    let device = Device::cpu();
    let trace = Trace::read();
    let student = net(3);
    for keep in [0.0f32, 1.0, 0.9] {
        let distill = Distill::new(student.clone(), Teacher::Mean { keep }, hinton(2.0, 0.5)).unwrap();
        let begin = distill.params(&trace.params(&device, "student", &*student), &DIMS, 0).unwrap();
        let fit = quiet(distill.fit(optim::sgd(0.1)).epochs(3));
        let batches = Batches::new(ROWS, ROWS, 0, Tail::Drop).unwrap();
        let value = |params: &Params, path: &str| {
            params.get(path).or_else(|_| params.buffer(path)).unwrap().to_vec::<f32>().unwrap()
        };
        let mut at = fit.begin(&begin).unwrap();
        let mut expected = [value(&begin, "conv1.weight"), value(&begin, "bn1.running_mean")];
        for step in 1..=3 {
            let before = value(&at.params, "conv1.weight");
            at = fit.run_to(step, at, &batches, |_| Ok(trace.lesson(&device))).unwrap();
            let student = [before, value(&at.params, "bn1.running_mean")];
            for ((e, s), path) in
                expected.iter_mut().zip(student).zip(["teacher.conv1.weight", "teacher.bn1.running_mean"])
            {
                e.iter_mut().zip(s).for_each(|(e, s)| *e = *e * keep + s * (1.0 - keep));
                for (f, e) in value(&at.params, path).iter().zip(e.iter()) {
                    assert!((f - e).abs() <= 1e-6, "keep {keep}, step {step}, {path}: {f}, expected {e}");
                }
            }
        }
    }
}

/// The teacher is in the checkpoint: what goes on from it is bit for bit what would have been.
#[test]
fn a_saved_distillation_goes_on_bit_for_bit() {
    let device = Device::cpu();
    let trace = Trace::read();
    let (student, teacher) = (net(3), net(5));
    let taught = trace.params(&device, "teacher", &*teacher);
    let distill = Distill::new(student.clone(), Teacher::Network(teacher, taught), terms()).unwrap();
    let start = distill.params(&student.init(&device, 4).unwrap(), &DIMS, 4).unwrap();
    let fit = quiet(distill.fit(optim::adam(1e-2)).epochs(6));
    let batches = Batches::new(ROWS, ROWS, 0, Tail::Drop).unwrap();
    let lesson = |_: &[usize]| Ok(trace.lesson(&device));
    let straight = fit.run(fit.begin(&start).unwrap(), &batches, lesson).unwrap();
    let half = fit.run_to(3, fit.begin(&start).unwrap(), &batches, lesson).unwrap();
    let folder = tempfile::tempdir().unwrap();
    half.save(folder.path(), 0).unwrap();
    let loaded = Training::load(folder.path(), &start, fit.optimizer()).unwrap();
    let resumed = fit.run(loaded, &batches, lesson).unwrap();
    assert_eq!(resumed.params.hash().unwrap(), straight.params.hash().unwrap());
    // And a student's file is an ordinary file of weights.
    let path = folder.path().join("student.safetensors");
    weights::save(&path, &distill.student(&straight.params).unwrap()).unwrap();
    weights::load(&path, &student.init(&device, 0).unwrap()).unwrap();
}

/// Two blocks of each stage begin as the first and the last of a teacher's three: the values are the teacher's, running statistics too, and
/// what nobody names stays the student's.
#[test]
fn a_student_begins_as_a_part_of_its_teacher() {
    let device = Device::cpu();
    let net = |depth| CifarResNet::new(depth, 10).unwrap();
    let (teacher, own) = (net(20).init(&device, 1).unwrap(), net(14).init(&device, 2).unwrap());
    let last = |path: &str| path.replace(".1.", ".2.");
    let begun = inherit(&own, &teacher, |path| (!path.starts_with("linear")).then(|| last(path))).unwrap();
    let value = |params: &Params, path: &str| {
        params.get(path).or_else(|_| params.buffer(path)).unwrap().to_vec::<f32>().unwrap()
    };
    for path in own.paths().chain(own.buffer_paths()) {
        let expected = if path.starts_with("linear") { value(&own, path) } else { value(&teacher, &last(path)) };
        assert_eq!(value(&begun, path), expected, "{path}");
    }
    let unknown = inherit(&own, &teacher, |path| Some(path.replace(".1.", ".7."))).unwrap_err().to_string();
    assert!(unknown.contains("layer1.7.") && unknown.contains("none"), "{unknown}");
    let other = inherit(&own, &teacher, |path| Some(path.replace("layer2.0.conv1", "layer3.0.conv1"))).unwrap_err();
    assert!(other.to_string().contains("layer3.0.conv1.weight"), "{other}");
}

#[test]
fn refuses_what_is_no_distillation() {
    let device = Device::cpu();
    let (student, teacher) = (net(3), net(5));
    let taught = teacher.init(&device, 0).unwrap();
    let network = || Teacher::Network(teacher.clone(), taught.clone());
    let refused =
        |teacher: Teacher, terms: Vec<Weighted>| Distill::new(student.clone(), teacher, terms).unwrap_err().to_string();
    assert!(refused(network(), Vec::new()).contains("never asks the teacher"));
    assert!(refused(network(), hinton(4.0, 0.0)).contains("never asks the teacher"));
    assert!(refused(network(), hinton(0.0, 0.9)).contains("a temperature of 0"));
    assert!(refused(network(), hinton(4.0, 1.5)).contains("a weight of -0.5"));
    assert!(refused(network(), hinton(4.0, f32::NAN)).contains("a weight of NaN"));
    assert!(refused(Teacher::Recorded, fitnets(1.0, [["bn2", "bn2"]])).contains("recorded answers"));
    assert!(refused(Teacher::Mean { keep: 1.5 }, hinton(4.0, 0.9)).contains("keeps 1.5"));

    let of = |terms: Vec<Weighted>| Distill::new(student.clone(), network(), terms).unwrap();
    let first = student.init(&device, 0).unwrap();
    let error = of(fitnets(1.0, [["bn3", "bn2"]])).params(&first, &DIMS, 0).unwrap_err().to_string();
    assert_eq!(error, "unknown output of a layer `bn3`; did you mean `bn2`?");
    let apart = of(attention_transfer(1.0, [["bn1", "bn2"]])).params(&first, &DIMS, 0).unwrap_err().to_string();
    assert!(apart.contains("but for axis 1"), "{apart}");
    let apart = of(fitnets(1.0, [["bn1", "bn2"]])).params(&first, &DIMS, 0).unwrap_err().to_string();
    assert!(apart.contains("features of a hint"), "{apart}");

    // A lesson with answers that nobody asked for, and one without those that are needed.
    let (x, y, _) = Trace::read().lesson(&device);
    let z = Tensor::zeros(&device, &[ROWS, 4]).unwrap();
    let key = || Tensor::from_slice(&device, &[0u32, 1], &[2]).unwrap();
    let asked = of(hinton(4.0, 0.9));
    let params = asked.params(&first, &DIMS, 0).unwrap();
    assert!(asked.objective(&params, (x.clone(), y.clone(), Some(z)), key()).is_err());
    let recorded = Distill::new(student.clone(), Teacher::Recorded, hinton(4.0, 0.9)).unwrap();
    assert!(recorded.objective(&first, (x, y, None), key()).is_err());
    assert!(record(&student, &first, &[0.0; 35], &DIMS, 4, |_| {}).is_err());
}
