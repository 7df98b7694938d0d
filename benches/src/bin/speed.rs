//! Times the rows. `speed` prints a table, `speed profile NAME` the launches of a row.
//!
//! `speed serve` is what the comparison with the peers drives: a line `NAME COUNT` on the standard input is answered with
//! the milliseconds of so many calls, by the clock and of processor time (`WALL:CPU`); `dump NAME STEPS FILE` writes the
//! result of the last of the first steps, `oracle NAME STEPS FILE` the same by the oracle in f64; `device` names the
//! device.

use std::collections::HashMap;
use std::io::{BufRead, Write};
use std::time::Instant;

use acclimate_benches::{Row, Size, rows};
use acclimate_tensor::{Device, Error};
use anyhow::{Context, Result};
use cpu_time::ProcessTime;

/// Calls before the clock starts: tracing, planning, and the plan with donated state.
const WARM_UP: usize = 3;

/// Milliseconds of a call: by the clock, and of processor time over all threads.
#[derive(Clone, Copy)]
struct Cost {
    wall: f64,
    cpu: f64,
}

fn time(row: &mut Row, count: usize) -> Result<Vec<Cost>> {
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let (start, cpu) = (Instant::now(), ProcessTime::try_now()?);
        let result = row.run()?;
        let wall = start.elapsed().as_secs_f64() * 1e3;
        times.push(Cost { wall, cpu: cpu.try_elapsed()?.as_secs_f64() * 1e3 });
        drop(result);
    }
    Ok(times)
}

fn median(times: &[Cost], of: impl Fn(&Cost) -> f64) -> f64 {
    let mut sorted: Vec<f64> = times.iter().map(of).collect();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn serve(device: &Device) -> Result<()> {
    let mut ready: HashMap<String, Row> = HashMap::new();
    let mut out = std::io::stdout();
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["dump", name, steps, file] => {
                let mut row = rows::make(name, device, Size::Full)?;
                let mut bytes = Vec::new();
                for _ in 0..steps.parse::<usize>()? {
                    bytes = row.run()?.to_vec::<f32>()?.iter().flat_map(|x| x.to_le_bytes()).collect();
                }
                std::fs::write(file, &bytes).with_context(|| file.to_owned())?;
                writeln!(out, "done")?;
            }
            ["oracle", name, steps, file] => {
                let result = rows::make(name, device, Size::Full)?.oracle(steps.parse()?)?;
                let bytes: Vec<u8> = result.iter().flat_map(|x| x.to_le_bytes()).collect();
                std::fs::write(file, &bytes).with_context(|| file.to_owned())?;
                writeln!(out, "done")?;
            }
            ["device"] => writeln!(out, "{device}")?,
            [name, count] => {
                if !ready.contains_key(name) {
                    let mut row = rows::make(name, device, Size::Full)?;
                    time(&mut row, WARM_UP)?;
                    ready.insert(name.to_owned(), row);
                }
                let row = ready.get_mut(name).context("just made")?;
                let times: Vec<String> =
                    time(row, count.parse()?)?.iter().map(|t| format!("{:.5}:{:.5}", t.wall, t.cpu)).collect();
                writeln!(out, "{}", times.join(" "))?;
            }
            _ => anyhow::bail!("`NAME COUNT`, `dump` or `oracle NAME STEPS FILE`, or `device`, not `{line}`"),
        }
        out.flush()?;
    }
    Ok(())
}

fn main() -> Result<()> {
    let device = Device::auto()?;
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|a| a == "serve") {
        return serve(&device);
    }
    println!("{device}");
    if let [word, name] = &args[..]
        && word == "profile"
    {
        let mut row = rows::make(name, &device, Size::Full)?;
        time(&mut row, WARM_UP)?;
        let run = || (0..10).try_for_each(|_| row.run().map(drop)).map_err(|e| Error::internal("bench", e.to_string()));
        println!("{}", device.profile(run)?.1);
        return Ok(());
    }
    println!("{:16} {:>10} {:>10}   (median, ms)", "row", "wall", "processor");
    for (name, make) in rows::ROWS.iter().filter(|r| args.is_empty() || args.iter().any(|a| a == r.0)) {
        let mut row = make(&device, Size::Full)?;
        time(&mut row, WARM_UP)?;
        let times = time(&mut row, 31)?;
        println!("{name:16} {:10.3} {:10.3}", median(&times, |t| t.wall), median(&times, |t| t.cpu));
    }
    Ok(())
}
