//! Who teaches whom, and on which images.

use std::path::PathBuf;
use std::sync::Arc;

use acclimate::infer::distill::inherit;
use acclimate::prelude::*;
use acclimate::train::nn::zoo::CifarResNet;
use acclimate::train::weights;
use anyhow::{Context, Result, bail};

use crate::{Options, Start};

/// A trained teacher, an untrained student, and images.
pub struct Subject {
    pub name: String,
    pub teacher: Arc<dyn Layer>,
    pub teacher_params: Params,
    pub student: Arc<dyn Layer>,
    pub train: Images,
    pub test: Images,
    pub family: Family,
    /// Layers with features of one size, student's and teacher's.
    pub layers: Vec<[String; 2]>,
    /// Residual blocks of a stage, student's and teacher's, where both are ResNets.
    pub blocks: Option<[usize; 2]>,
}

/// Seed of the part of the training images that constants are chosen on.
const HELD_OUT: u64 = 17;
/// Epochs of the teacher that is trained here.
const TEACHER_EPOCHS: u64 = 6;

/// A published ResNet and a smaller one on CIFAR-10, or two small networks on the repository's images, the student with a
/// few of each class.
pub fn subject(o: &Options, device: &Device) -> Result<Subject> {
    let mut subject = match (&o.weights, &o.train, &o.images) {
        (Some(weights), Some(train), Some(images)) => {
            let blocks = (0..)
                .take_while({
                    let named = weights::read(weights)?;
                    move |i| named.iter().any(|n| n.0 == format!("layer1.{i}.conv1.weight"))
                })
                .count();
            if blocks == 0 {
                bail!("{}: no `layer1.0.conv1.weight`; expected a CIFAR-10 ResNet", weights.display());
            }
            let depth = 6 * blocks + 2;
            let teacher: Arc<dyn Layer> = Arc::new(CifarResNet::for_pixels(depth, 10)?);
            let teacher_params = weights::load(weights, &teacher.init(device, 0)?)?;
            let last = |depth: usize, stage: usize| format!("layer{stage}.{}", (depth - 2) / 6 - 1);
            Subject {
                name: format!("ResNet-{depth} teaches ResNet-{}", o.depth),
                teacher,
                teacher_params,
                student: Arc::new(CifarResNet::for_pixels(o.depth, 10)?),
                train: data::cifar::cifar10(train)?,
                test: data::cifar::cifar10(images)?,
                family: Family::Cifar,
                layers: (1..=3).map(|stage| [last(o.depth, stage), last(depth, stage)]).collect(),
                blocks: Some([(o.depth.saturating_sub(2)) / 6, blocks]),
            }
        }
        (None, None, None) => repository(o, device)?,
        _ => bail!("--weights, --train and --images: expected all or none"),
    };
    if let Some(share) = o.hold_out {
        (subject.train, subject.test) = subject.train.split(1.0 - share, HELD_OUT)?;
    }
    if o.smoke {
        (subject.train, subject.test) = (subject.train.first_per_class(5), subject.test.first_per_class(3));
    }
    Ok(subject)
}

/// A small network that learned from all 8,000 images teaches a quarter as wide one that has 20 of each class.
fn repository(o: &Options, device: &Device) -> Result<Subject> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../data/fashion8k");
    let (train, test) = data::idx::fashion8k(&folder).context("the images of the repository")?;
    let known = if o.smoke { train.first_per_class(20) } else { train.clone() };
    let dims = [train.channels(), train.height(), train.width()];
    let net = |channels: &[usize]| -> Result<Arc<dyn Layer>> {
        Ok(Arc::new(SmallCnn::new("", dims, channels, train.n_classes() as usize)?))
    };
    let (teacher, student) = (net(&[16, 32, 32])?, net(&[8, 16, 16])?);
    let epochs = if o.smoke { 1 } else { TEACHER_EPOCHS };
    let batches = Batches::new(known.len(), 64, o.seed, Tail::Drop)?;
    let optimizer = optim::adam(Schedule::one_cycle(4e-3, epochs * batches.per_epoch() as u64));
    let fit = Fit::supervised(teacher.clone(), optimizer, loss::cross_entropy).epochs(epochs).label("teacher");
    let trained = fit.run(fit.begin(&teacher.init(device, o.seed)?)?, &batches, |positions| {
        let shape = [positions.len(), dims[0], dims[1], dims[2]];
        let x = Tensor::from_slice(device, &known.to_f32_at(positions)?, &shape)?;
        Ok((x, Labels::new(device, &known.labels_at(positions)?, known.n_classes())?.tensor().clone()))
    })?;
    Ok(Subject {
        name: "a small CNN teaches one half as wide".into(),
        teacher,
        teacher_params: trained.params,
        student,
        train: train.first_per_class(20),
        test,
        family: Family::Camera,
        layers: (1..=3).map(|stage| [format!("bn{stage}"), format!("bn{stage}")]).collect(),
        blocks: None,
    })
}

impl Subject {
    /// Sizes of an image.
    pub fn dims(&self) -> [usize; 3] {
        [self.train.channels(), self.train.height(), self.train.width()]
    }

    /// What students of a seed begin with, whatever they learn from.
    pub fn first(&self, o: &Options, seed: u64) -> Result<Params> {
        let drawn = self.student.init(self.teacher_params.device(), seed)?;
        let (Start::Teacher, Some([few, many])) = (o.start, self.blocks) else { return Ok(drawn) };
        // Evenly spaced blocks, the first and the last of each stage among them.
        let block = |i: usize| if few > 1 { (2 * i * (many - 1) + few - 1) / (2 * (few - 1)) } else { 0 };
        Ok(inherit(&drawn, &self.teacher_params, |path| {
            let mut parts: Vec<String> = path.split('.').map(str::to_owned).collect();
            if path.starts_with("layer")
                && let Some(number) = parts.get_mut(1)
                && let Ok(i) = number.parse::<usize>()
            {
                *number = block(i).to_string();
            }
            Some(parts.join("."))
        })?)
    }
}
