//! Times the rows. `speed` prints a table; `speed serve` is what the comparison with the peers drives: a line
//! `NAME COUNT` on the standard input is answered with the milliseconds of so many calls, `dump NAME STEPS FILE` writes
//! the result of the last of the first steps.

use std::collections::HashMap;
use std::io::{BufRead, Write};
use std::time::Instant;

use acclimate_benches::{Row, Size, rows};
use acclimate_tensor::Device;
use anyhow::{Context, Result};

/// Calls before the clock starts: tracing, planning, and the plan with donated state.
const WARM_UP: usize = 3;

fn time(row: &mut Row, count: usize) -> Result<Vec<f64>> {
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let start = Instant::now();
        let result = row.run()?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
        drop(result);
    }
    Ok(times)
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
            [name, count] => {
                if !ready.contains_key(name) {
                    let mut row = rows::make(name, device, Size::Full)?;
                    time(&mut row, WARM_UP)?;
                    ready.insert(name.to_owned(), row);
                }
                let row = ready.get_mut(name).context("just made")?;
                let times: Vec<String> = time(row, count.parse()?)?.iter().map(|t| format!("{t:.5}")).collect();
                writeln!(out, "{}", times.join(" "))?;
            }
            _ => anyhow::bail!("`NAME COUNT` or `dump NAME STEPS FILE`, not `{line}`"),
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
    println!("{:16} {:>10} {:>10}   (ms)", "row", "median", "fastest");
    for (name, make) in rows::ROWS.iter().filter(|r| args.is_empty() || args.iter().any(|a| a == r.0)) {
        let mut row = make(&device, Size::Full)?;
        time(&mut row, WARM_UP)?;
        let mut times = time(&mut row, 31)?;
        times.sort_by(f64::total_cmp);
        println!("{name:16} {:10.3} {:10.3}", times[times.len() / 2], times[0]);
    }
    Ok(())
}
