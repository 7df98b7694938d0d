//! lab
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use acclimate::infer::prune::{Budget, Dependencies, Score, Spread, flop};
use acclimate::prelude::*;
use acclimate::train::data::Augment;
use acclimate::train::{nn::zoo::CifarResNet, weights};
use anyhow::Result;
use clap::Parser;

#[derive(Parser)]
struct Options {
    #[arg(long)]
    weights: PathBuf,
    #[arg(long)]
    train: PathBuf,
    #[arg(long)]
    images: Option<PathBuf>,
    #[arg(long, default_value_t = 56)]
    depth: usize,
    #[arg(long, default_value_t = 0.5)]
    flop: f64,
    #[arg(long, default_value_t = 16)]
    multiple: usize,
    #[arg(long, default_value_t = 0)]
    least: usize,
    #[arg(long, default_value = "taylor")]
    score: String,
    #[arg(long)]
    even: bool,
    #[arg(long, value_delimiter = ',')]
    spare: Vec<String>,
    #[arg(long, default_value_t = 4)]
    epochs: u64,
    #[arg(long, default_value_t = 0.05)]
    rate: f32,
    #[arg(long, default_value_t = 64)]
    batch: usize,
    #[arg(long, default_value_t = 4.0)]
    temperature: f32,
    #[arg(long, default_value_t = 0.9)]
    alpha: f32,
    #[arg(long, default_value_t = 1)]
    rounds: usize,
    #[arg(long)]
    time: bool,
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

fn accuracy(model: &Arc<dyn Layer>, params: &Params, images: &Images) -> Result<f64> {
    let m = model.clone();
    let f = compile(move |(p, x): (Params, Tensor)| m.forward(&p, &x));
    let mut right = 0;
    let n = images.len();
    for s in (0..n).step_by(100) {
        let e = (s + 100).min(n);
        let x = Tensor::from_slice(params.device(), &images.to_f32(s..e)?, &[e - s, 3, 32, 32])?;
        let (_, z) = f.call_read::<f32>((params.clone(), x)).map(|(o, z)| (o, z))?;
        for (z, y) in z.chunks(10).zip(&images.labels()[s..e]) {
            let best = (0..10).max_by(|&a, &b| z[a].total_cmp(&z[b])).unwrap();
            right += usize::from(best == *y as usize);
        }
    }
    Ok(right as f64 / n as f64)
}

fn timing(models: &[(&Arc<dyn Layer>, &Params)], n: usize) -> Result<Vec<f64>> {
    let device = models[0].1.device().clone();
    let x = Tensor::from_slice(&device, &vec![0.3f32; n * 3072], &[n, 3, 32, 32])?;
    let fs: Vec<_> = models.iter().map(|(m, _)| { let m = (*m).clone(); compile(move |(p, x): (Params, Tensor)| m.forward(&p, &x)) }).collect();
    let mut best = vec![f64::MAX; models.len()];
    for _ in 0..(600 / n).max(12) {
        for (i, f) in fs.iter().enumerate() {
            let t = Instant::now();
            f.call_read::<f32>((models[i].1.clone(), x.clone()))?;
            best[i] = best[i].min(t.elapsed().as_secs_f64() * 1e3);
        }
    }
    Ok(best)
}

fn main() -> Result<()> {
    let o = Options::parse();
    let device = Device::cpu();
    let train = data::cifar::cifar10(&o.train)?;
    let (fit_images, val) = train.split(0.8, 1)?;
    let model: Arc<dyn Layer> = Arc::new(CifarResNet::for_pixels(o.depth, 10)?);
    let params = weights::load(&o.weights, &model.init(&device, 0)?)?;
    let x = Tensor::zeros(&device, &[1, 3, 32, 32])?;
    println!("flop {} M, val {:.4}", flop(&*model, &params, &x)? / 1_000_000, accuracy(&model, &params, &val)?);
    let (mut now_model, mut now) = (model.clone(), params.clone());
    for round in 0..o.rounds {
        let dep = Dependencies::of(&*now_model, &now, &x)?;
        if round == 0 {
            for g in 0..dep.groups().len() { if g < 3 || dep.groups()[g].axes.len() > 8 { println!("{} {} channels {} axes", dep.name(g), dep.groups()[g].channels.len(), dep.groups()[g].axes.len()); } }
        }
        let t = Instant::now();
        let scores = match o.score.as_str() {
            "l1" => dep.scores(&now, Score::L1)?.relative(),
            "l2" => dep.scores(&now, Score::GroupL2)?.relative(),
            "scale" => dep.scores(&now, Score::Scale)?,
            _ => {
                let m = now_model.clone();
                let step = compile(move |(p, x, y): (Params, Tensor, Tensor)| {
                    let l = loss::cross_entropy(&m.forward(&p, &x)?, &y)?;
                    p.grad(&l)
                });
                let augment = Augment::new(4, 5);
                dep.taylor(&now, (0..40u64).map(|b| {
                    let pos: Vec<usize> = (0..32).map(|i| (b as usize * 32 + i) % fit_images.len()).collect();
                    let x = Tensor::from_slice(&device, &augment.of(&fit_images, &pos, b).unwrap(), &[32, 3, 32, 32])?;
                    let y = Tensor::from_slice(&device, &fit_images.labels_at(&pos).unwrap(), &[32])?;
                    Ok(step.call((now.clone(), x, y))?)
                }))?
            }
        };
        let full = flop(&*model, &params, &x)? as f64;
        let current = flop(&*now_model, &now, &x)? as f64;
        let target = 1.0 - (1.0 - o.flop) * (round + 1) as f64 / o.rounds as f64;
        let mut budget = Budget::flop((target * full / current).min(1.0)).multiple(o.multiple).least(o.least).spread(if o.even { Spread::Even } else { Spread::ByScore });
        for s in &o.spare { budget = budget.sparing(s.clone()); }
        let choice = dep.choose(&scores, &budget)?;
        let widths: Vec<String> = (0..dep.groups().len()).map(|g| format!("{}:{}", dep.name(g).replace("layer", "").replace(".conv1.weight", ""), choice.count(g))).collect();
        println!("{}", widths.join(" "));
        let pruned = dep.narrow(&*now_model, &now, &choice)?;
        println!("flop {} M ({:.3}), params {} -> {}, {:.1} s", flop(&*pruned.model, &pruned.params, &x)? / 1_000_000, flop(&*pruned.model, &pruned.params, &x)? as f64 / full, params.n_values(), pruned.params.n_values(), t.elapsed().as_secs_f64());
        (now_model, now) = (pruned.model, pruned.params);
        if o.time {
            for n in [1, 64] {
                let t = timing(&[(&model, &params), (&now_model, &now)], n)?;
                println!("batch {n}: {:.3} ms -> {:.3} ms: {:.2} x", t[0], t[1], t[0] / t[1]);
            }
        }
        println!("val {:.4}", accuracy(&now_model, &now, &val)?);
        let teacher = (model.clone(), params.clone());
        let (student, temperature, alpha) = (now_model.clone(), o.temperature, o.alpha);
        let batches = Batches::new(fit_images.len(), o.batch, o.seed, Tail::Drop)?;
        let last = round + 1 == o.rounds;
        let epochs = if last { o.epochs } else { 2 };
        let steps = epochs * batches.per_epoch() as u64;
        let check = (now_model.clone(), val.clone());
        let fit = Fit::new(optim::sgd(Schedule::cosine(o.rate, steps)).momentum(0.9).nesterov().decay(5e-4), move |p: &Params, (x, y): (Tensor, Tensor), key| {
            let t = teacher.0.forward(&teacher.1, &x)?;
            let mut pass = Pass::train(Key::from_tensor(key)?);
            let z = student.apply(p, &x, &mut pass)?;
            let l = loss::mean(&loss::kd(&z, &t, &y, temperature, alpha)?)?;
            Ok((l, p.with_buffers(pass.take_updates())?))
        })
        .epochs(epochs).check_every(25).seed(o.seed).progress(Progress::Silent)
        .measure(move |e, p: &Params| {
            if e % 4 == 3 || e + 1 == epochs { let a = accuracy(&check.0, p, &check.1).unwrap(); println!("  epoch {} val {a:.4}", e + 1); return Ok(vec![("val", a)]) }
            Ok(vec![])
        });
        let augment = Augment::new(4, o.seed);
        let mut draw = 0;
        let t = Instant::now();
        let trained = fit.run(fit.begin(&now)?, &batches, |pos| {
            draw += 1;
            Ok((Tensor::from_slice(&device, &augment.of(&fit_images, pos, draw)?, &[pos.len(), 3, 32, 32])?, Tensor::from_slice(&device, &fit_images.labels_at(pos)?, &[pos.len()])?))
        })?;
        now = trained.params;
        println!("round {round}: {epochs} epochs, {:.1} s, loss {:.4}", t.elapsed().as_secs_f64(), trained.run.history.points.last().unwrap().loss);
    }
    println!("end val {:.4}", accuracy(&now_model, &now, &val)?);
    if let Some(p) = &o.images {
        let test = data::cifar::cifar10(p)?;
        println!("test {:.4} of {:.4}", accuracy(&now_model, &now, &test)?, accuracy(&model, &params, &test)?);
    }
    Ok(())
}
