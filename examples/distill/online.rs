//! The student in use: on a shifted stream without labels it goes on learning from the teacher, batch by batch, within
//! guards, also where hostile batches come along. It answers each batch before it learns from it.

use std::sync::Arc;

use acclimate::infer::adapt::distill_online;
use acclimate::infer::drift::Canary;
use acclimate::prelude::*;
use acclimate::train::nn::Taught;
use anyhow::Result;
use serde::Serialize;

use crate::Options;
use crate::subject::Subject;

/// Images of a batch.
const BATCH: usize = 50;
/// How far the student may go from what it was.
const TRUST: f32 = 5.0;
/// A batch of these values comes before every third one of a hostile stream, in turn.
const HOSTILE: [f32; 3] = [f32::NAN, 1e30, -50.0];

/// How one student did on a stream.
#[derive(Clone, Serialize)]
pub struct Followed {
    pub name: String,
    pub accuracy: f64,
    /// Share of the images on which it says what the teacher says.
    pub agreement: f64,
    /// T²·KL from the teacher's answers to the student's, in nats, batch by batch.
    pub distances: Vec<f64>,
    /// Batches whose step was kept, batches whose step was undone.
    pub kept: usize,
    pub undone: usize,
    /// Hostile batches that came between, and those after which the student was what it had been before.
    pub hostile: usize,
    pub harmless: usize,
}

/// A shifted stream and who answered it.
#[derive(Clone, Serialize)]
pub struct Stream {
    pub shift: String,
    pub teacher: f64,
    pub students: Vec<Followed>,
}

/// A student on each shift: frozen, under the batch's statistics, learning, and learning with hostile batches between.
pub fn streams(subject: &Subject, student: &Params, o: &Options) -> Result<Vec<Stream>> {
    let taught = Taught::new(subject.student.clone(), subject.teacher.clone(), &subject.teacher_params);
    let params = taught.params(student, &subject.teacher_params)?;
    let model: Arc<dyn Layer> = Arc::new(taught);
    let dims = subject.dims();
    // What must stay known: a few training images, asked about after every batch.
    let known = subject.train.first_per_class(5);
    let known_pixels = known.to_f32(0..known.len())?;
    let learning = || distill_online(o.online_rate, o.temperature, TRUST).moves(Moves::All);
    let mut streams = Vec::new();
    for name in &o.shifts {
        let images = match name.as_str() {
            "clean" => subject.test.clone(),
            name => {
                shift::apply(&subject.test, name.parse::<Shift>()?, Severity::new(o.severity)?, subject.family, o.seed)?
            }
        };
        let mut teacher = Session::new(subject.teacher.clone(), subject.teacher_params.clone(), statistics())?;
        let (answers, _) = answer(&mut teacher, &images, false)?;
        let mut students = Vec::new();
        for (name, method, hostile) in [
            ("frozen", frozen(), false),
            ("batch statistics", statistics(), false),
            ("learning", learning(), false),
            ("learning among hostile batches", learning(), true),
        ] {
            let mut session = Session::new(model.clone(), params.clone(), method)?.seed(o.seed);
            if session.method().carries_state() {
                session = session.canary(Canary::new(&known_pixels, dims, known.labels(), 1, 0.1)?)?;
            }
            let (own, [hostile, harmless]) = answer(&mut session, &images, hostile)?;
            let followed = judged(name, &own, &answers, &images, o.temperature);
            students.push(Followed { hostile, harmless, ..followed });
        }
        let teacher = judged("teacher", &answers, &answers, &images, o.temperature).accuracy;
        streams.push(Stream { shift: name.clone(), teacher, students });
    }
    Ok(streams)
}

/// Answers for all images, batch by batch; how many hostile batches came between, and how many of them changed nothing.
fn answer(session: &mut Session, images: &Images, hostile: bool) -> Result<(Vec<Answered>, [usize; 2])> {
    let dims = [images.channels(), images.height(), images.width()];
    let (mut answers, mut counts) = (Vec::with_capacity(images.len()), [0, 0]);
    for (i, positions) in (0..images.len()).collect::<Vec<_>>().chunks(BATCH).enumerate() {
        if hostile && i % 3 == 2 {
            let delta = |session: &Session| session.carried().map(|state| state.delta().to_vec::<f32>()).transpose();
            let before = delta(session)?;
            session.answer(&vec![HOSTILE[i / 3 % HOSTILE.len()]; BATCH * images.image_len()], dims)?;
            counts = [counts[0] + 1, counts[1] + usize::from(delta(session)? == before)];
        }
        answers.extend(session.answer(&images.to_f32_at(positions)?, dims)?);
    }
    Ok((answers, counts))
}

fn judged(name: &str, own: &[Answered], teacher: &[Answered], images: &Images, temperature: f32) -> Followed {
    let n = own.len().max(1) as f64;
    let share = |hit: &dyn Fn(usize) -> bool| (0..own.len()).filter(|&i| hit(i)).count() as f64 / n;
    let distance = |i: usize| soft_kl(&own[i].logits, &teacher[i].logits, f64::from(temperature));
    let positions: Vec<usize> = (0..own.len()).collect();
    let mean = |part: &[usize]| part.iter().map(|&i| distance(i)).sum::<f64>() / part.len() as f64;
    // One verdict for each batch.
    let verdicts =
        |action: Action| own.iter().step_by(BATCH).filter(|a| a.receipt.facts.verdict.action == action).count();
    Followed {
        name: name.to_owned(),
        accuracy: share(&|i| own[i].label() == images.labels()[i]),
        agreement: share(&|i| own[i].label() == teacher[i].label()),
        distances: positions.chunks(BATCH).map(mean).collect(),
        kept: verdicts(Action::Accepted),
        undone: verdicts(Action::RolledBack),
        hostile: 0,
        harmless: 0,
    }
}

/// T²·KL from softened teacher to softened student.
fn soft_kl(student: &[f32], teacher: &[f32], temperature: f64) -> f64 {
    let log_softmax = |z: &[f32]| -> Vec<f64> {
        let z: Vec<f64> = z.iter().map(|z| f64::from(*z) / temperature).collect();
        let peak = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let total = peak + z.iter().map(|z| (z - peak).exp()).sum::<f64>().ln();
        z.iter().map(|z| z - total).collect()
    };
    let (log_p, log_t) = (log_softmax(student), log_softmax(teacher));
    temperature.powi(2) * log_t.iter().zip(log_p).map(|(t, p)| t.exp() * (t - p)).sum::<f64>()
}
