//! What students are shown, and how they are trained: the same first weights, the same batches of the same views, as many
//! steps with the same optimizer; only the loss differs.

use std::path::Path;

use acclimate::infer::distill::{self, Distill, Lesson, Teacher, Term, Weighted, hinton};
use acclimate::prelude::*;
use acclimate::train::data::rng::Philox;
use acclimate::train::weights;
use anyhow::Result;
use clap::ValueEnum;
use cpu_time::ProcessTime;
use serde::{Deserialize, Serialize};

use crate::Options;
use crate::subject::Subject;

/// What the student learns from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// The labels alone
    Alone,
    /// The teacher's softened answers, and the labels
    Logits,
    /// The same, and the features of the teacher's stages
    Hints,
    /// The softened answers, the labels, and where the teacher looks
    Attention,
    /// The softened answers of the student that was trained alone, and the labels
    BornAgain,
    /// The softened answers of the student's own exponential mean, and the labels
    MeanTeacher,
}

impl Method {
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |v| v.get_name().to_owned())
    }
}

/// Pixels by which a view is moved, at most.
const SHIFT: usize = 4;

/// Views of the training images: each mirrored or not and moved by up to 4 pixels both ways, black beyond the edge.
pub struct Views<'a> {
    images: &'a Images,
    per_image: usize,
    key: Philox,
}

impl<'a> Views<'a> {
    pub fn new(images: &'a Images, per_image: usize) -> Self {
        Views { images, per_image, key: Philox::from_seed(0).fold_name("views") }
    }

    pub fn len(&self) -> usize {
        self.images.len() * self.per_image
    }

    pub fn labels(&self, positions: &[usize]) -> Result<Vec<u32>, data::DataError> {
        self.images.labels_at(&positions.iter().map(|p| p / self.per_image).collect::<Vec<_>>())
    }

    /// Pixels in 0..1 of these views, one after the other.
    pub fn pixels(&self, positions: &[usize]) -> Vec<f32> {
        let (h, w) = (self.images.height(), self.images.width());
        let mut all = Vec::with_capacity(positions.len() * self.images.image_len());
        for &position in positions {
            let mut draw = self.key.stream(position as u64);
            let mirrored = draw.bits() & 1 == 1;
            let mut shift = || usize::try_from(draw.below(2 * SHIFT as u64 + 1)).unwrap_or(SHIFT);
            let (down, right) = (shift(), shift());
            for plane in self.images.image(position / self.per_image).chunks_exact(h * w) {
                for y in 0..h {
                    for x in 0..w {
                        let x = if mirrored { w - 1 - x } else { x };
                        // Beyond the edge after wrapping around too.
                        let (y, x) = ((y + down).wrapping_sub(SHIFT), (x + right).wrapping_sub(SHIFT));
                        let pixel = if y < h && x < w { plane[y * w + x] } else { 0 };
                        all.push(f32::from(pixel) / 255.0);
                    }
                }
            }
        }
        all
    }

    /// The teacher's logits for every view, from a file beside the report if it was asked before.
    pub fn taught(&self, subject: &Subject, out: &Path, smoke: bool) -> Result<Vec<f32>> {
        let hash = subject.teacher_params.hash()?;
        let path = out.join(format!("teacher-{}-{}.safetensors", &hash[..12], self.len()));
        if let Ok(named) = weights::read(&path)
            && let [(_, _, logits)] = named.as_slice()
        {
            return Ok(logits.clone());
        }
        let classes = self.images.n_classes() as usize;
        let mut logits = Vec::with_capacity(self.len() * classes);
        let mut shown = Progress::Auto.begin("the teacher's answers", self.len() as u64);
        // In parts, since all views at once would fill the memory.
        for part in (0..self.len()).collect::<Vec<_>>().chunks(5_000) {
            let pixels = self.pixels(part);
            let done = logits.len() / classes;
            let (teacher, params) = (&subject.teacher, &subject.teacher_params);
            logits.extend(distill::record(teacher, params, &pixels, &subject.dims(), 100, |n| {
                shown.step((done + n) as u64);
            })?);
        }
        shown.end(self.len() as u64, "");
        if !smoke {
            std::fs::create_dir_all(out)?;
            let device = Device::cpu();
            let named = ("logits".to_owned(), vec![self.len(), classes], logits.clone());
            weights::save(&path, &Params::from_named(&device, vec![named])?)?;
        }
        Ok(logits)
    }
}

/// A trained student.
pub struct Student {
    pub params: Params,
    /// Loss of batches against the step.
    pub losses: Vec<(f64, f64)>,
    pub cpu_seconds: f64,
}

/// Trains a student.
pub fn train(
    subject: &Subject,
    views: &Views<'_>,
    logits: &[f32],
    method: Method,
    alone: Option<&Params>,
    o: &Options,
    seed: u64,
) -> Result<Student> {
    let device = subject.teacher_params.device();
    let started = ProcessTime::now();
    let batches = Batches::new(views.len(), o.batch, seed, Tail::Drop)?;
    let rounds = o.passes.div_ceil(o.views as u64).max(1);
    let steps = rounds * batches.per_epoch() as u64;
    // Its steps do not grow with the loss, which is larger by the factor T where the teacher counts.
    let optimizer = optim::adamw(Schedule::one_cycle(o.rate, steps)).decay(0.05);
    let first = subject.first(o, seed)?;
    let classes = subject.train.n_classes() as usize;
    let dims = subject.dims();
    let lesson = |positions: &[usize], recorded: bool| -> Result<Lesson, acclimate::train::Error> {
        let shape = [positions.len(), dims[0], dims[1], dims[2]];
        let x = Tensor::from_slice(device, &views.pixels(positions), &shape)?;
        let y = Labels::new(device, &views.labels(positions)?, subject.train.n_classes())?.tensor().clone();
        let answers: Vec<f32> = positions.iter().flat_map(|&p| &logits[p * classes..][..classes]).copied().collect();
        let z = Tensor::from_slice(device, &answers, &[positions.len(), classes])?;
        Ok((x, y, recorded.then_some(z)))
    };
    let label = format!("seed {seed}, {}", method.name());
    let trained = if method == Method::Alone {
        let fit = Fit::supervised(subject.student.clone(), optimizer, loss::cross_entropy).epochs(rounds).label(label);
        fit.run(fit.begin(&first)?, &batches, |positions| {
            let (x, y, _) = lesson(positions, false)?;
            Ok((x, y))
        })?
    } else {
        let distillation = distillation(subject, method, alone, o)?;
        let fit = distillation.fit(optimizer).epochs(rounds).label(label);
        let params = distillation.params(&first, &dims, seed)?;
        let mut trained = fit.run(fit.begin(&params)?, &batches, |p| lesson(p, method == Method::Logits))?;
        trained.params = distillation.student(&trained.params)?;
        trained
    };
    let losses = trained.run.history.losses();
    Ok(Student { params: trained.params, losses, cpu_seconds: started.elapsed().as_secs_f64() })
}

/// The value that is the method.
fn distillation(subject: &Subject, method: Method, alone: Option<&Params>, o: &Options) -> Result<Distill> {
    let network = || Teacher::Network(subject.teacher.clone(), subject.teacher_params.clone());
    let teacher = match (method, alone) {
        (Method::Logits, _) => Teacher::Recorded,
        (Method::BornAgain, Some(alone)) => Teacher::Network(subject.student.clone(), alone.clone()),
        (Method::MeanTeacher, _) => Teacher::Mean { keep: 0.98 },
        _ => network(),
    };
    let mut terms = hinton(o.temperature, o.alpha);
    let pairs = subject.layers.iter().cloned();
    terms.extend(pairs.filter_map(|[student, teacher]| match method {
        Method::Hints => Some(Weighted { weight: o.hint, term: Term::Hint { student, teacher } }),
        Method::Attention => Some(Weighted { weight: o.attention, term: Term::Attention { student, teacher } }),
        _ => None,
    }));
    Ok(Distill::new(subject.student.clone(), teacher, terms)?)
}

/// Which images a network gets right.
pub fn right(model: &std::sync::Arc<dyn Layer>, params: &Params, images: &Images) -> Result<Vec<bool>> {
    let dims = [images.channels(), images.height(), images.width()];
    let logits = distill::record(model, params, &images.to_f32(0..images.len())?, &dims, 100, |_| {})?;
    let classes = logits.len() / images.len().max(1);
    let best = |row: &[f32]| row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |b| b.0);
    Ok(logits.chunks(classes).zip(images.labels()).map(|(row, &label)| best(row) == label as usize).collect())
}
