//! Linear regression on house sales, from zero coefficients, with three optimizers, beside the closed-form solution.
//!
//! Fails if an optimizer ends more than 1 % above the closed-form loss, or below it, where nothing can be.

use std::path::{Path, PathBuf};

use acclimate::prelude::*;
use anyhow::{Context, Result, ensure};
use clap::Parser;
use fit::regression::{least_squares, mean_squared_error, r_squared};
use serde_json::json;

/// Fit prices to rooms and size: gradient descent beside the closed form.
#[derive(Parser)]
struct Options {
    /// auto, gpu, cpu, software, or part of an adapter's name
    #[arg(long, default_value = "auto")]
    device: String,
    /// Seed of the split into training and held-out rows
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Folder for `house_prices.json`: coefficients, verdicts and the whole history
    #[arg(long)]
    out: Option<PathBuf>,
    /// One JSON object as the last line of standard output
    #[arg(long)]
    json: bool,
    /// Prints the verdicts without the curves; all of it takes less than a second anyway
    #[arg(long)]
    smoke: bool,
}

const COLUMNS: [&str; 4] = ["beds", "baths", "sqft", "price"];
const MOST_STEPS: u64 = 3_000;

/// Rows as a design matrix with a column of ones, and prices.
struct Rows {
    design: Vec<f64>,
    prices: Vec<f64>,
}

impl Rows {
    fn of(table: &Table) -> Result<Self> {
        let features = table.matrix(&COLUMNS[..3])?;
        let design = features.chunks(3).flat_map(|row| [1.0, row[0], row[1], row[2]]).collect();
        Ok(Rows { design, prices: table.column("price")?.to_vec() })
    }

    fn predicted(&self, coefficients: &[f64]) -> Vec<f64> {
        self.design.chunks(4).map(|row| row.iter().zip(coefficients).map(|(x, c)| x * c).sum()).collect()
    }

    fn loss(&self, coefficients: &[f64]) -> f64 {
        mean_squared_error(&self.predicted(coefficients), &self.prices)
    }

    fn r2(&self, coefficients: &[f64]) -> f64 {
        r_squared(&self.predicted(coefficients), &self.prices)
    }
}

fn main() -> Result<()> {
    env_logger::init();
    let o = Options::parse();
    let device = Device::named(&o.device)?;
    println!("{device}");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/sacramento/sacramento.csv");
    let table = Table::read(path, &COLUMNS).context("the sales of the repository")?;
    let (train, held_out) = table.split(0.8, o.seed)?;
    let (scaled, scaling) = train.standardized();
    let (train, held_out) = (Rows::of(&train)?, Rows::of(&held_out)?);
    println!("{} sales to train on, {} held out\n", train.prices.len(), held_out.prices.len());

    let exact = least_squares(&train.design, 4, &train.prices)?;
    let best = train.loss(&exact);
    let mut results = Vec::new();
    let mut histories = Vec::new();
    // What an adaptive step divides by shrinks with the gradient, so its rate has to fall for it to come to rest.
    let optimizers = [
        ("sgd", optim::sgd(0.1)),
        ("adam", optim::adam(Schedule::exponential(0.05, 0.99))),
        ("rmsprop", optim::rmsprop(Schedule::exponential(0.02, 0.99))),
    ];
    let mut rows = vec![("closed form", exact, best)];
    for (name, optimizer) in optimizers {
        let trained = descend(&device, name, optimizer, &scaled)?;
        let Some(Ended::Verdict(verdict)) = &trained.run.ended else {
            anyhow::bail!("{name}: not converged within {MOST_STEPS} steps; last: {:?}", trained.run.history.last());
        };
        println!("{name}: {verdict}");
        if !o.smoke {
            println!("{}", trained.run.history);
        }
        ensure!(verdict.rule.is_converged(), "{name} did not converge: {verdict}");
        let coefficients = in_dollars(&trained.params, &scaling)?;
        let loss = train.loss(&coefficients);
        ensure!(loss >= best && loss <= 1.01 * best, "{name} ends at {loss}, the closed form at {best}");
        let (r2, steps, rule) = (held_out.r2(&coefficients), trained.run.step, verdict.rule.to_string());
        results.push(json!({ "name": name, "loss": loss, "r2": r2, "steps": steps, "converged_by": rule }));
        histories.push(json!({ "name": name, "coefficients": coefficients, "run": trained.run }));
        rows.push((name, coefficients, loss));
    }

    println!(
        "{:<12} {:>10} {:>10} {:>10} {:>10} {:>14} {:>12} {:>6}",
        "", "intercept", "a bed", "a bath", "a sqft", "loss", "above best", "R²"
    );
    for (name, c, loss) in &rows {
        let (above, r2) = (loss / best - 1.0, held_out.r2(c));
        println!(
            "{name:<12} {:>10.0} {:>10.0} {:>10.0} {:>10.2} {loss:>14.6e} {above:>12.1e} {r2:>6.3}",
            c[0], c[1], c[2], c[3]
        );
    }
    println!("coefficients in dollars; loss: mean squared error on the training rows; R² on the held-out rows");
    if let Some(out) = &o.out {
        std::fs::create_dir_all(out)?;
        let path = out.join("house_prices.json");
        std::fs::write(&path, serde_json::to_string_pretty(&histories)?)?;
        println!("wrote {}", path.display());
    }
    if o.json {
        println!("{}", json!({ "closed_form_loss": best, "optimizers": results }));
    }
    Ok(())
}

/// Gradient descent on the mean squared error of all rows, in standardized columns, from zero coefficients.
fn descend(device: &Device, name: &str, optimizer: Optimizer, table: &Table) -> Result<Training> {
    let single = |values: Vec<f64>| values.into_iter().map(|x| x as f32).collect::<Vec<f32>>();
    let n = table.n_rows();
    let x = Tensor::from_slice(device, &single(table.matrix(&COLUMNS[..3])?), &[n, 3])?;
    let y = Tensor::from_slice(device, &single(table.column("price")?.to_vec()), &[n, 1])?;
    let zeros = |path: &str, n: usize| (path.to_owned(), vec![n, 1], vec![0.0; n]);
    let params = Params::from_named(device, vec![zeros("slopes", 3), zeros("intercept", 1)])?;
    let fit = Fit::new(optimizer, |params: &Params, (x, y): (Tensor, Tensor), _key| {
        let prediction = x.matmul(&params.get("slopes")?)?.add(&params.get("intercept")?)?;
        Ok(prediction.sub(&y)?.square()?.mean(&[0, 1])?)
    })
    .epochs(MOST_STEPS)
    .check_every(5)
    // Tighter than by default: the number of baths says little beside the others, so its coefficient comes last.
    .converge(Convergence { gradient: 1e-4, ..Convergence::default() })
    .label(name);
    // Every batch is all of the rows.
    let batches = Batches::new(n, n, 0, Tail::Keep)?;
    Ok(fit.run(fit.begin(&params)?, &batches, |_| Ok((x.clone(), y.clone())))?)
}

/// Intercept and slopes for columns as they are: undoes the standardization.
fn in_dollars(params: &Params, scaling: &Scaling) -> Result<Vec<f64>> {
    let slopes = params.get("slopes")?.to_vec::<f32>()?;
    let (mean, std) = (&scaling.mean, &scaling.std);
    let mut intercept = mean[3] + f64::from(params.get("intercept")?.item()?) * std[3];
    let mut coefficients = vec![0.0];
    for (j, slope) in slopes.into_iter().enumerate() {
        let slope = f64::from(slope) * std[3] / std[j];
        intercept -= slope * mean[j];
        coefficients.push(slope);
    }
    coefficients[0] = intercept;
    Ok(coefficients)
}
