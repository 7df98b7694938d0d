//! Convergence against theory, on problems whose constants are known: least squares, logistic regression, and a small network,
//! for which only a bound on the smallest gradient holds. Measured losses beside the bounds, and what each diagnostic said when.
//!
//! Fails if a measured curve is above its bound.

use std::path::{Path, PathBuf};

use acclimate::infer::report::{LinePlot, Report, Series};
use acclimate::kernels::concat;
use acclimate::prelude::*;
use acclimate::train::data::rng::Philox;
use acclimate::train::nn::Activation;
use anyhow::{Context, Result, ensure};
use clap::Parser;
use fit::Watcher;
use fit::convergence::constants::Constants;
use fit::convergence::line_search::Armijo;
use fit::convergence::noise::NoiseScale;
use fit::convergence::polyak::{Polyak, polyak};
use fit::regression::least_squares;
use serde_json::json;

/// Measured rates of convergence beside those that theory promises.
#[derive(Parser)]
struct Options {
    /// auto, gpu, cpu, software, or part of an adapter's name
    #[arg(long, default_value = "auto")]
    device: String,
    /// Seed of the network and of mini-batches
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Folder for the report
    #[arg(long, default_value = "run/convergence")]
    out: PathBuf,
    /// One JSON object as the last line of standard output
    #[arg(long)]
    json: bool,
    /// A hundred steps in place of a thousand
    #[arg(long)]
    smoke: bool,
}

const COLUMNS: [&str; 4] = ["beds", "baths", "sqft", "price"];
/// Weight of ½‖w‖² in logistic regression: its strong convexity.
const PENALTY: f64 = 0.01;

/// A function of flat parameters, where it starts, and what is known about it.
struct Problem {
    name: &'static str,
    objective: Box<dyn Fn(&Tensor) -> acclimate::train::Result<Tensor> + Send + Sync>,
    start: Vec<f32>,
    /// The smallest value, or a bound below it.
    minimum: f64,
    /// Smoothness L, if known.
    smoothness: Option<f64>,
    /// Strong convexity or Polyak-Łojasiewicz constant μ, if known.
    mu: Option<f64>,
}

/// What one way of stepping did.
struct Descent {
    way: &'static str,
    constants: Constants,
    verdict: Option<fit::Verdict>,
}

fn main() -> Result<()> {
    env_logger::init();
    let o = Options::parse();
    let device = Device::named(&o.device)?;
    eprintln!("{device}");
    let steps = if o.smoke { 100 } else { 1000 };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/sacramento/sacramento.csv");
    let (table, _) = Table::read(path, &COLUMNS).context("the sales of the repository")?.standardized();
    let rows: Vec<[f64; 4]> = table.matrix(&COLUMNS[..3])?.chunks(3).map(|r| [1.0, r[0], r[1], r[2]]).collect();
    let price = table.column("price")?.to_vec();

    let mut report = Report::new("Convergence against theory");
    let mut printed = Vec::new();
    for problem in problems(&device, &rows, &price, o.seed)? {
        println!("\n{}", problem.name);
        let rate = 1.0
            / match problem.smoothness {
                Some(l) => l,
                None => explored_smoothness(&device, &problem)?,
            };
        let mut ways = vec![descend(&device, &problem, "gradient descent, rate 1/L", Way::Rate(rate), steps)?];
        ways.push(descend(&device, &problem, "Armijo's line search", Way::Armijo, steps)?);
        ways.push(descend(&device, &problem, "Polyak's steps", Way::Polyak, steps)?);
        let too_large = descend(&device, &problem, "rate 2.2/L", Way::Rate(2.2 * rate), steps.min(200))?;
        let c = &ways[0].constants;
        let (l, mu) = (c.smoothness(1.0).context("no steps")?, c.pl(problem.minimum));
        let measured = c.rate(problem.minimum);
        let known = |x: Option<f64>| x.map_or("unknown".to_owned(), |x| format!("{x:.4}"));
        println!("  smoothness L: known {}, along the run {l:.4}", known(problem.smoothness));
        println!("  PL constant μ: known {}, along the run {}", known(problem.mu), known(mu));
        let promised = problem.mu.map(|mu| 1.0 - mu * rate);
        println!("  factor of a step: promised at most {}, measured {}", known(promised), known(measured));
        for way in ways.iter().chain([&too_large]) {
            let last = way.constants.losses().last().copied().unwrap_or(f64::NAN);
            let said = way.verdict.as_ref().map_or("nothing: it goes on".to_owned(), ToString::to_string);
            println!(
                "  {}: loss {last:.6} after {} steps; the rules say {said}",
                way.way,
                way.constants.losses().len() - 1
            );
        }
        let announced = c.diverges_at(2.2 * rate);
        let said = if announced {
            "announced by the curvature of the first run"
        } else {
            "not announced by the curvature met"
        };
        println!("  that steps of 2.2/L diverge is {said}");
        let worst = check(&problem, c, rate)?;
        println!("  measured over bound, at most: {worst:.4}");
        printed.push(json!({
            "problem": problem.name, "smoothness": problem.smoothness, "smoothness_measured": l, "mu": problem.mu,
            "mu_measured": mu, "factor_promised": promised, "factor_measured": measured, "over_bound": worst, "divergence_announced": announced,
            "ways": ways.iter().chain([&too_large]).map(|w| json!({
                "way": w.way, "loss": w.constants.losses().last(), "verdict": w.verdict,
            })).collect::<Vec<_>>(),
        }));
        show(&mut report, &problem, &ways, &too_large, rate);
    }
    let (known, found) = noise(&device, &rows, &price, &o)?;
    println!("\nnoise scale of least squares at zero: known {known:.1} rows, from pairs of batches {found:.1}");
    ensure!(o.smoke || (found / known - 1.0).abs() < 0.15, "noise scale {found}, known {known}");
    report.section("Noise of gradients");
    report.text(&format!(
        "Least squares at zero weights: the variance of one row's gradient over the squared length of the mean gradient is \
         {known:.1} rows. From squared norms of the gradients of batches of 8 and 128 rows alone: {found:.1}."
    ));
    let path = o.out.join("report.html");
    report.lede("Measured losses beside the bounds of theory, and what each diagnostic said when.");
    report.write(&path)?;
    println!("report: {}", path.display());
    if o.json {
        println!(
            "{}",
            json!({ "device": device.to_string(), "problems": printed, "noise_known": known, "noise_measured": found, "report": path })
        );
    }
    Ok(())
}

fn problems(device: &Device, rows: &[[f64; 4]], price: &[f64], seed: u64) -> Result<Vec<Problem>> {
    let n = rows.len();
    let single = |v: Vec<f64>| v.into_iter().map(|x| x as f32).collect::<Vec<f32>>();
    let x = Tensor::from_slice(device, &single(rows.concat()), &[n, 4])?;
    let y = Tensor::from_slice(device, &single(price.to_vec()), &[n, 1])?;
    let high: Vec<f64> = price.iter().map(|p| f64::from(u8::from(*p > 0.0))).collect();
    let label = Tensor::from_slice(device, &single(high.clone()), &[n, 1])?;
    let mut gram = [[0.0; 4]; 4];
    for row in rows {
        for (i, line) in gram.iter_mut().enumerate() {
            (0..4).for_each(|j| line[j] += row[i] * row[j] / n as f64);
        }
    }
    let spectrum = eigenvalues(gram);

    let w = least_squares(&rows.concat(), 4, price)?;
    let score = |w: &[f64], row: &[f64; 4]| row.iter().zip(w).map(|(a, b)| a * b).sum::<f64>();
    let squares = rows.iter().zip(price).map(|(r, y)| (score(&w, r) - y).powi(2)).sum::<f64>() / n as f64;
    let (ax, ay) = (x.clone(), y.clone());
    let line = Problem {
        name: "Least squares",
        objective: Box::new(move |w| loss::mse(&ax.matmul(&w.reshape(&[4, 1])?)?, &ay)),
        start: vec![0.0; 4],
        minimum: squares,
        smoothness: Some(2.0 * spectrum[3]),
        mu: Some(2.0 * spectrum[0]),
    };

    let logistic = |w: &[f64]| {
        let each = rows.iter().zip(&high).map(|(r, y)| {
            let z = score(w, r);
            z.max(0.0) + (-z.abs()).exp().ln_1p() - y * z
        });
        each.sum::<f64>() / n as f64 + PENALTY / 2.0 * w.iter().map(|v| v * v).sum::<f64>()
    };
    let bx = x.clone();
    let classes = Problem {
        name: "Logistic regression",
        objective: Box::new(move |w| {
            let logits = bx.matmul(&w.reshape(&[4, 1])?)?;
            let penalty = w.square()?.sum(&[])?.mul_scalar(PENALTY as f32 / 2.0)?;
            Ok(loss::bce_with_logits(&logits, &label)?.add(&penalty)?)
        }),
        start: vec![0.0; 4],
        minimum: logistic(&newton(rows, &high)?),
        // σ′ is at most ¼.
        smoothness: Some(spectrum[3] / 4.0 + PENALTY),
        mu: Some(PENALTY),
    };

    let model = Mlp::new("net", 3, &[8], 1).with_activation(Activation::Tanh);
    let params = model.init(device, seed)?;
    let start = params.arena().to_vec::<f32>()?;
    let inputs = x.narrow(1, 1, 3)?;
    let net = Problem {
        name: "A network of 8 tanh units, not convex",
        objective: Box::new(move |theta| loss::mse(&model.forward(&params.with_arena(theta.clone())?, &inputs)?, &y)),
        start,
        minimum: 0.0,
        smoothness: None,
        mu: None,
    };
    Ok(vec![line, classes, net])
}

/// Weights that are best for penalized logistic regression: Newton's method as reweighted least squares.
fn newton(rows: &[[f64; 4]], labels: &[f64]) -> Result<Vec<f64>> {
    let mut w = vec![0.0; 4];
    for _ in 0..30 {
        let (mut design, mut target) = (Vec::new(), Vec::new());
        for (row, label) in rows.iter().zip(labels) {
            let z: f64 = row.iter().zip(&w).map(|(a, b)| a * b).sum();
            let p = 1.0 / (1.0 + (-z).exp());
            let weight = (p * (1.0 - p)).max(1e-12).sqrt();
            design.extend(row.iter().map(|v| v * weight));
            target.push(weight * z + (label - p) / weight);
        }
        for j in 0..4 {
            design.extend((0..4).map(|k| if k == j { (PENALTY * rows.len() as f64).sqrt() } else { 0.0 }));
            target.push(0.0);
        }
        w = least_squares(&design, 4, &target)?;
    }
    Ok(w)
}

/// Eigenvalues of a symmetric matrix in rising order, by Jacobi's rotations.
fn eigenvalues(mut a: [[f64; 4]; 4]) -> [f64; 4] {
    for _ in 0..50 {
        for p in 0..4 {
            for q in p + 1..4 {
                if a[p][q].abs() < 1e-300 {
                    continue;
                }
                let angle = 0.5 * (2.0 * a[p][q]).atan2(a[q][q] - a[p][p]);
                let (sin, cos) = angle.sin_cos();
                for row in &mut a {
                    (row[p], row[q]) = (cos * row[p] - sin * row[q], sin * row[p] + cos * row[q]);
                }
                let (x, y) = (a[p], a[q]);
                a[p] = std::array::from_fn(|k| cos * x[k] - sin * y[k]);
                a[q] = std::array::from_fn(|k| sin * x[k] + cos * y[k]);
            }
        }
    }
    let mut values = [a[0][0], a[1][1], a[2][2], a[3][3]];
    values.sort_by(f64::total_cmp);
    values
}

#[derive(Clone, Copy)]
enum Way {
    Rate(f64),
    Armijo,
    Polyak,
}

/// Steps from the start; each is one compiled graph that also tells loss, parameters and gradient.
fn descend(device: &Device, problem: &Problem, way: &'static str, how: Way, steps: u64) -> Result<Descent> {
    let mut theta = Tensor::from_slice(device, &problem.start, &[problem.start.len()])?;
    let n = theta.numel();
    let optimizer = match how {
        Way::Rate(rate) => optim::sgd(rate),
        // On convex problems with a known minimum Polyak's steps need no growth bound.
        Way::Polyak => polyak(Polyak { minimum: problem.minimum, c: 1.0, growth: 2.0, first: 1.0 }),
        Way::Armijo => optim::sgd(1.0),
    };
    let mut state = optimizer.init(&theta)?;
    let mut first = Tensor::ones(device, &[1])?;
    let mut constants = Constants::new();
    let mut watcher = Watcher::new(&Convergence { gradient: 1e-3, ..Convergence::default() })?;
    let mut verdict = None;
    let objective = &problem.objective;
    for step in 0..=steps {
        let loss = objective(&theta)?;
        let gradient = grad(&loss, theta.clone())?;
        let told = concat(&[&loss.reshape(&[1])?, &theta, &gradient], 0)?;
        let cx = StepCx::new(&optimizer.rate_tensor(device, step)?).with_loss(&loss);
        let (next, next_state, next_first) = match how {
            Way::Armijo => {
                let found = Armijo::default().step(|t| objective(t), &theta, &loss, &gradient, &first)?;
                (found.theta, state, found.next)
            }
            _ => {
                let (next, state) = optimizer.step(theta.clone(), &gradient, state, &cx)?;
                (next, state, first)
            }
        };
        let kept: Vec<&Tensor> = next_state.iter().map(|(_, t)| t).chain([&told, &next, &next_first]).collect();
        Tensor::realize(&kept)?;
        let told = told.to_vec::<f32>()?;
        (theta, state, first) = (next, next_state, next_first);
        let loss = f64::from(told[0]);
        constants.observe(loss, &told[1..=n], &told[n + 1..]);
        let length = constants.gradients().last().copied().unwrap_or(f64::NAN);
        if verdict.is_none() {
            verdict = watcher.check(step, loss, length);
        }
        if !loss.is_finite() {
            break;
        }
    }
    Ok(Descent { way, constants, verdict })
}

/// The largest curvature that cautious steps from the start meet, with a margin of two: what to step by where nothing is known.
fn explored_smoothness(device: &Device, problem: &Problem) -> Result<f64> {
    let explored = descend(device, problem, "exploring", Way::Rate(0.05), 200)?;
    Ok(2.0 * explored.constants.smoothness(1.0).context("no curvature was met")?)
}

/// The largest ratio of measured to bound over the run: 1 or less.
fn check(problem: &Problem, c: &Constants, rate: f64) -> Result<f64> {
    let losses = c.losses();
    let above = losses[0] - problem.minimum;
    let mut worst = 0f64;
    match problem.mu {
        Some(mu) => {
            // At the start both are equal.
            for (t, loss) in (0i32..).zip(losses).skip(1) {
                let bound = (1.0 - mu * rate).powi(t) * above;
                // The loss is an f32 mean: beyond this it is rounding.
                let floor = 64.0 * 6e-8 * losses[0].abs();
                worst = worst.max((loss - problem.minimum - floor) / bound);
            }
        }
        None => {
            let mut smallest = f64::INFINITY;
            for (t, length) in (1u32..).zip(c.gradients()) {
                smallest = smallest.min(length * length);
                worst = worst.max(smallest / (2.0 * above / rate / f64::from(t)));
            }
        }
    }
    ensure!(worst <= 1.0 + 1e-6, "{}: measured is {worst} times the bound", problem.name);
    Ok(worst)
}

fn show(report: &mut Report, problem: &Problem, ways: &[Descent], too_large: &Descent, rate: f64) {
    report.section(problem.name);
    let points = |values: &mut dyn Iterator<Item = f64>| -> Vec<(f64, f64)> {
        values.enumerate().map(|(t, v)| (t as f64, if v > 0.0 { v.log10() } else { f64::NAN })).collect()
    };
    let above = |d: &Descent| Series {
        name: d.way.into(),
        points: points(&mut d.constants.losses().iter().map(|l| l - problem.minimum)),
    };
    let c = &ways[0].constants;
    let start = c.losses()[0] - problem.minimum;
    let mut series: Vec<Series> = ways.iter().map(above).collect();
    let mut plots = Vec::new();
    let plot = |title: &str, y_label: &str, series| LinePlot {
        title: title.into(),
        x_label: "steps".into(),
        y_label: y_label.into(),
        series,
        y_range: None,
    };
    if let Some(mu) = problem.mu {
        let bound = points(&mut (0..c.losses().len()).map(|t| start * (1.0 - mu * rate).powf(t as f64)));
        series.push(Series { name: "bound (1 − μ/L)ᵗ".into(), points: bound });
    }
    plots.push(plot("Loss above the minimum", "log₁₀", series));
    if problem.mu.is_none() {
        let mut smallest = f64::INFINITY;
        let measured = points(&mut c.gradients().iter().map(|g| {
            smallest = smallest.min(g * g);
            smallest
        }));
        let bound = points(&mut (1..=c.losses().len()).map(|t| 2.0 * start / rate / t as f64));
        plots.push(plot(
            "Smallest squared gradient",
            "log₁₀",
            vec![
                Series { name: "measured".into(), points: measured },
                Series { name: "bound 2L(f₀ − f*)/T".into(), points: bound },
            ],
        ));
    }
    report.plots(&plots);
    report.facts(
        ways.iter()
            .chain([too_large])
            .map(|d| (d.way, d.verdict.as_ref().map_or("no rule fired".to_owned(), ToString::to_string))),
    );
}

/// The noise scale of least squares at zero weights: exact, from each row's gradient, and from norms of batches.
fn noise(device: &Device, rows: &[[f64; 4]], price: &[f64], o: &Options) -> Result<(f64, f64)> {
    let gradients: Vec<[f64; 4]> = rows.iter().zip(price).map(|(r, y)| r.map(|x| -2.0 * y * x)).collect();
    let n = gradients.len() as f64;
    let mean: Vec<f64> = (0..4).map(|j| gradients.iter().map(|g| g[j]).sum::<f64>() / n).collect();
    let signal: f64 = mean.iter().map(|m| m * m).sum();
    let variance = (0..4).map(|j| gradients.iter().map(|g| (g[j] - mean[j]).powi(2)).sum::<f64>() / n).sum::<f64>();
    let mut scale = NoiseScale::new(8, 128)?;
    let mut draw = Philox::from_seed(o.seed).fold_name("noise").stream(0);
    let square = compile(|(x, y): (Tensor, Tensor)| {
        let w = Tensor::zeros(x.device(), &[4, 1])?;
        Ok::<_, acclimate::train::Error>(grad(&loss::mse(&x.matmul(&w)?, &y)?, w)?.square()?.sum(&[])?)
    });
    for _ in 0..if o.smoke { 50 } else { 5000 } {
        let mut of = |size: usize| -> Result<f64> {
            let drawn: Vec<usize> =
                (0..size).map(|_| usize::try_from(draw.below(rows.len() as u64)).unwrap_or(0)).collect();
            let x: Vec<f32> = drawn.iter().flat_map(|i| rows[*i].map(|v| v as f32)).collect();
            let y: Vec<f32> = drawn.iter().map(|i| price[*i] as f32).collect();
            let batch = (Tensor::from_slice(device, &x, &[size, 4])?, Tensor::from_slice(device, &y, &[size, 1])?);
            Ok(f64::from(square.call(batch)?.item()?))
        };
        let (small, large) = (of(8)?, of(128)?);
        scale.add(small, large);
    }
    let found = scale.estimate().context("no pair of batches")?;
    Ok((variance / signal, found.rows))
}
