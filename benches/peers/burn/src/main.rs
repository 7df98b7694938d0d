//! Serves the rows as `speed serve` does: a line `NAME COUNT` on the standard input is answered with the milliseconds of
//! so many calls, by the clock and of processor time (`WALL:CPU`); `dump NAME STEPS FILE` writes the result of the last
//! of the first steps; `facts` says what runs.

mod rows;

use std::collections::HashMap;
use std::io::{BufRead, Write};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use burn::tensor::{Device, DeviceKind};
use cpu_time::ProcessTime;

use rows::Call;

/// Calls before the clock starts: fusion plans and tuned kernels come with the first few.
const WARM_UP: usize = 5;

/// The adapter that `ACCLIMATE_DEVICE` asks for.
fn device() -> Device {
    let software = std::env::var("ACCLIMATE_DEVICE").is_ok_and(|d| d == "software");
    Device::wgpu(if software { DeviceKind::Cpu } else { DeviceKind::DefaultDevice })
}

fn time(call: &mut Call, count: usize) -> Result<String> {
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let (start, cpu) = (Instant::now(), ProcessTime::try_now()?);
        let result = call()?;
        let wall = start.elapsed().as_secs_f64() * 1e3;
        times.push(format!("{wall:.5}:{:.5}", cpu.try_elapsed()?.as_secs_f64() * 1e3));
        drop(std::hint::black_box(result));
    }
    Ok(times.join(" "))
}

fn main() -> Result<()> {
    let device = device();
    let mut ready: HashMap<String, Call> = HashMap::new();
    let mut out = std::io::stdout();
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["facts"] => {
                let shaders = if cfg!(feature = "spirv") { "spirv" } else { "wgsl" };
                writeln!(out, "burn 0.22.1, wgpu backend, {shaders}, fusion, autotune")?;
            }
            ["dump", name, steps, file] => {
                let mut call = rows::make(name, &device)?;
                let mut result = Vec::new();
                for _ in 0..steps.parse::<usize>()? {
                    result = call()?;
                }
                let bytes: Vec<u8> = result.iter().flat_map(|x| x.to_le_bytes()).collect();
                std::fs::write(file, &bytes).with_context(|| file.to_owned())?;
                writeln!(out, "done")?;
            }
            [name, count] => {
                if !ready.contains_key(name) {
                    let mut call = rows::make(name, &device)?;
                    time(&mut call, WARM_UP)?;
                    ready.insert(name.to_owned(), call);
                }
                writeln!(out, "{}", time(ready.get_mut(name).context("just made")?, count.parse()?)?)?;
            }
            _ => bail!("`NAME COUNT`, `dump NAME STEPS FILE` or `facts`, not `{line}`"),
        }
        out.flush()?;
    }
    Ok(())
}
