//! From nothing to a first answer: a device, a small model, one image. Prints the parts; run it as a process of its own.

use std::time::Instant;

use acclimate_benches::values;
use acclimate_tensor::{Device, Tensor};
use acclimate_train::Layer;
use acclimate_train::nn::SmallCnn;
use anyhow::{Result, ensure};

fn main() -> Result<()> {
    let start = Instant::now();
    let ms = || start.elapsed().as_secs_f64() * 1e3;
    let device = match std::env::args().nth(1) {
        Some(name) => Device::named(&name)?,
        None => Device::auto()?,
    };
    let opened = ms();
    let model = SmallCnn::new("net", [1, 28, 28], &[16, 32], 10)?;
    let params = model.init(&device, 1)?;
    let made = ms();
    let x = Tensor::from_slice(&device, &values(784, 1), &[1, 1, 28, 28])?;
    let answer = model.forward(&params, &x)?.to_vec::<f32>()?;
    let answered = ms();
    let again = Instant::now();
    model.forward(&params, &x)?.to_vec::<f32>()?;
    println!("{device}");
    println!(
        "device {opened:.1} ms, model {:.1} ms, first answer {:.1} ms: {answered:.1} ms together",
        made - opened,
        answered - made
    );
    println!("second answer {:.2} ms", again.elapsed().as_secs_f64() * 1e3);
    ensure!(answer.len() == 10 && answer.iter().all(|x| x.is_finite()), "no answer: {answer:?}");
    Ok(())
}
