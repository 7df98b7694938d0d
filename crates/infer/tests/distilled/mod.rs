//! The golden trace of a distillation: its networks, its file, and what must agree.
#![allow(dead_code)] // each test takes what it needs

use std::sync::Arc;

use acclimate_infer::distill::{Distill, Lesson, Teacher, Term, Weighted, fitnets, hinton};
use acclimate_tensor::{Device, Tensor};
use acclimate_train::data::{Batches, Tail};
use acclimate_train::fit::{Fit, Progress};
use acclimate_train::loss::Labels;
use acclimate_train::nn::{Activation, BatchNorm, Conv2d, GlobalAvgPool2d, Linear, Sequential};
use acclimate_train::params::Named;
use acclimate_train::{Layer, Params, optim};

pub const DIMS: [usize; 3] = [1, 6, 6];
pub const ROWS: usize = 8;

/// The network of `golden/make_distill.py`.
pub fn net(width: usize) -> Arc<dyn Layer> {
    Arc::new(
        Sequential::new()
            .then(Conv2d::new("conv1", 1, width, 3).same().without_bias())
            .then(BatchNorm::new("bn1", width))
            .then(Activation::Relu)
            .then(Conv2d::new("conv2", width, width, 3).same().strided(2).without_bias())
            .then(BatchNorm::new("bn2", width))
            .then(Activation::Relu)
            .then(GlobalAvgPool2d)
            .then(Linear::new("linear", width, 4)),
    )
}

pub fn terms() -> Vec<Weighted> {
    let mut terms = hinton(4.0, 0.9);
    terms.extend(fitnets(0.002, [["bn2", "bn2"]]));
    terms.push(Weighted { weight: 0.5, term: Term::Attention { student: "bn2".into(), teacher: "bn2".into() } });
    terms
}

/// The golden trace: its arrays by name, and the networks with their stored weights.
pub struct Trace(Vec<Named>);

impl Trace {
    pub fn read() -> Self {
        // Labels are integers, which weight files have none of.
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/golden/distill.safetensors");
        let bytes = std::fs::read(path).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let array = |(name, view): (String, safetensors::tensor::TensorView)| {
            let whole = view.dtype() == safetensors::Dtype::I32;
            let words = view.data().as_chunks::<4>().0;
            let value = |b: &[u8; 4]| if whole { i32::from_le_bytes(*b) as f32 } else { f32::from_le_bytes(*b) };
            (name, view.shape().to_vec(), words.iter().map(value).collect())
        };
        Trace(file.tensors().into_iter().map(array).collect())
    }

    pub fn get(&self, name: &str) -> &Named {
        self.0.iter().find(|(n, ..)| n == name).unwrap_or_else(|| panic!("no {name}"))
    }

    pub fn params(&self, device: &Device, role: &str, model: &dyn Layer) -> Params {
        let own = self.0.iter().filter_map(|(name, dims, values)| {
            Some((name.strip_prefix(role)?.strip_prefix('.')?.to_owned(), dims.clone(), values.clone()))
        });
        model.init(device, 0).unwrap().with_values(own.collect(), role).unwrap()
    }

    pub fn lesson(&self, device: &Device) -> Lesson {
        let x = Tensor::from_slice(device, &self.get("x").2, &[ROWS, 1, 6, 6]).unwrap();
        let labels: Vec<u32> = self.get("labels").2.iter().map(|l| *l as u32).collect();
        (x, Labels::new(device, &labels, 4).unwrap().tensor().clone(), None)
    }
}

pub fn quiet(fit: Fit<Lesson>) -> Fit<Lesson> {
    fit.progress(Progress::Silent).check_every(1)
}

/// Six steps, all terms at once: losses, student, running statistics and regressor as PyTorch has them.
pub fn a_few_steps_are_pytorchs(device: &Device) {
    let trace = Trace::read();
    let (student, teacher) = (net(3), net(5));
    let taught = trace.params(device, "teacher", &*teacher);
    let distill = Distill::new(student.clone(), Teacher::Network(teacher, taught), terms()).unwrap();
    let start = distill.params(&trace.params(device, "student", &*student), &DIMS, 0).unwrap();
    // The regressor of the file in place of the drawn one.
    let mut named = start.to_named().unwrap();
    named.extend(start.buffers_to_named().unwrap());
    named.iter_mut().filter(|n| n.0 == "hint.2.weight").for_each(|n| *n = trace.get("hint.2.weight").clone());
    let mut training = None;
    let fit = quiet(distill.fit(optim::sgd(0.05).momentum(0.9)).epochs(6));
    // One batch of all rows: their order changes the last bit at most.
    let batches = Batches::new(ROWS, ROWS, 0, Tail::Drop).unwrap();
    let begun = fit.begin(&start.with_values(named, "golden").unwrap()).unwrap();
    let mut at = Some(begun);
    for step in 1..=6 {
        let done = fit.run_to(step, at.take().unwrap(), &batches, |_| Ok(trace.lesson(device))).unwrap();
        let mut now = done.params.to_named().unwrap();
        now.extend(done.params.buffers_to_named().unwrap());
        let row = |name: &str| {
            let (_, dims, values) = trace.get(name);
            let width = values.len() / dims[0];
            values[(step as usize - 1) * width..][..width].to_vec()
        };
        let mut compared = 0;
        for (path, _, found) in now.iter().filter(|n| !n.0.starts_with("teacher.")) {
            let expected = row(&format!("after.{path}"));
            // PyTorch's own f32 run is within 8e-7 of the trace; another order of sums may double that each few steps.
            let bound = 1e-5 * expected.iter().fold(0.1f32, |m, v| m.max(v.abs()));
            for (f, e) in found.iter().zip(&expected) {
                assert!((f - e).abs() <= bound, "step {step}, {path}: {f}, expected {e}");
            }
            compared += 1;
        }
        assert_eq!(compared, 8 + 4 + 1, "parameters, running statistics, regressor");
        let point = done.run.history.points[step as usize - 1];
        let loss = f64::from(row("loss")[0]);
        assert!((point.loss - loss).abs() <= 1e-5 * loss.abs(), "step {step}: loss {}, expected {loss}", point.loss);
        at = Some(done.clone());
        training = Some(done);
    }
    // The teacher did not move, and the student that comes out has its own layout.
    let trained = training.unwrap().params;
    for (path, _, values) in trained.buffers_to_named().unwrap().iter().filter(|n| n.0.starts_with("teacher.")) {
        assert_eq!(*values, trace.get(path).2, "{path}");
    }
    let alone = distill.student(&trained).unwrap();
    let like = net(3).init(device, 0).unwrap();
    assert!(alone.paths().eq(like.paths()) && alone.buffer_paths().eq(like.buffer_paths()));
    assert_eq!(
        alone.get("conv1.weight").unwrap().to_vec::<f32>().unwrap(),
        trained.get("conv1.weight").unwrap().to_vec::<f32>().unwrap()
    );
}
