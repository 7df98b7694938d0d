//! Times the rows. `speed [ROW..]` prints a table; with `--peaks` it measures what the device reaches first, and says what
//! share of that each row comes to, and what share of a call's time its launches take; with `--json` a row is a line of JSON. `speed profile ROW` prints the launches of a row.
//! `speed serve` is what the comparison with the peers drives: a line `NAME COUNT` on the standard input is answered with
//! the milliseconds of so many calls, by the clock and of processor time (`WALL:CPU`); `dump NAME STEPS FILE` writes the
//! result of the last of the first steps, `oracle NAME STEPS FILE` the same by the oracle in f64; `device` names the
//! device.

use std::collections::HashMap;
use std::io::{BufRead, Write};
use std::time::Instant;

use acclimate_benches::{Row, Size, peak, rows};
use acclimate_tensor::{Device, Error, Profile};
use anyhow::{Context, Result};
use cpu_time::ProcessTime;
use serde_json::json;

/// Calls before the clock starts: tracing, planning, and the plan with donated state.
const WARM_UP: usize = 3;
/// Seconds of a row in the table, where it is slow.
const LONG: f64 = 20.0;

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

/// At most `count` calls, and after so many seconds no more than three.
fn time_for(row: &mut Row, count: usize, seconds: f64) -> Result<Vec<Cost>> {
    let start = Instant::now();
    let mut times = Vec::with_capacity(count);
    while times.len() < count && (times.len() < 3 || start.elapsed().as_secs_f64() < seconds) {
        times.extend(time(row, 1)?);
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

/// Some calls of a row, looked at.
fn profile(device: &Device, row: &mut Row, calls: usize) -> acclimate_tensor::Result<Profile> {
    let run = || (0..calls).try_for_each(|_| row.run().map(drop)).map_err(|e| Error::internal("bench", e.to_string()));
    Ok(device.profile(run)?.1)
}

/// What is asked for beside the rows.
#[derive(Clone, Copy, Default)]
struct Asked {
    peaks: bool,
    json: bool,
}

fn table(device: &Device, names: &[String], asked: Asked) -> Result<()> {
    let measured = asked.peaks.then(|| peak::measure(device)).transpose()?;
    if asked.json {
        println!("{}", device_json(device, measured));
    } else {
        if let Some(peak::Measured { peaks, f16_flop_per_s }) = measured {
            let half = f16_flop_per_s.map_or("none".to_owned(), |rate| format!("{:.1}", rate / 1e9));
            let (bytes, f32) = (peaks.bytes_per_s / 1e9, peaks.flop_per_s / 1e9);
            println!("peaks: copy {bytes:.1} GB/s; fused GFLOP/s: f32 {f32:.1}, f16 {half}");
        }
        let peak = if asked.peaks { "  of peak  launches" } else { "" };
        println!("{:16} {:>10} {:>10}{peak}   (median, ms)", "row", "wall", "processor");
    }
    for (name, make) in rows::named(names, rows::ROWS.iter())? {
        let mut row = make(device, Size::Full)?;
        time(&mut row, WARM_UP)?;
        let times = time_for(&mut row, 31, LONG)?;
        let (wall, cpu) = (median(&times, |t| t.wall), median(&times, |t| t.cpu));
        // A device that cannot time its launches tells no share.
        let calls = times.len().min(10);
        let shares = measured.and_then(|m| {
            let profile = profile(device, &mut row, calls).ok()?;
            let launches = 1e3 * profile.time().as_secs_f64() / (calls as f64 * wall);
            Some((profile.share_of_peak(m.peaks), launches))
        });
        if asked.json {
            let (of_peak, launches) = shares.unzip();
            let line = json!({"row": name, "wall_ms": wall, "processor_ms": cpu, "share_of_peak": of_peak,
                "share_of_launches": launches});
            println!("{line}");
        } else {
            let both = |(peak, launches)| format!(" {:8.1}% {:8.1}%", 100.0 * peak, 100.0 * launches);
            println!("{name:16} {wall:10.3} {cpu:10.3}{}", shares.map_or(String::new(), both));
        }
    }
    Ok(())
}

fn device_json(device: &Device, measured: Option<peak::Measured>) -> serde_json::Value {
    let (info, caps) = (device.info(), device.caps());
    let peaks = measured.map(|m| {
        let peaks = m.peaks;
        json!({"copy_bytes_per_s": peaks.bytes_per_s, "f32_flop_per_s": peaks.flop_per_s, "f16_flop_per_s": m.f16_flop_per_s})
    });
    json!({
        "engine": device.kind().to_string(), "adapter": info.name, "backend": info.backend, "driver": info.driver,
        "subgroups": caps.subgroups, "f16": caps.f16, "peaks": peaks,
    })
}

fn main() -> Result<()> {
    let device = Device::auto()?;
    let (flags, args): (Vec<String>, Vec<String>) = std::env::args().skip(1).partition(|a| a.starts_with("--"));
    let mut asked = Asked::default();
    for flag in &flags {
        match flag.as_str() {
            "--peaks" => asked.peaks = true,
            "--json" => asked.json = true,
            other => anyhow::bail!("no option is called `{other}`; there are --peaks and --json"),
        }
    }
    if args.first().is_some_and(|a| a == "serve") {
        return serve(&device);
    }
    if !asked.json {
        println!("{device}");
    }
    if let [word, name] = &args[..]
        && word == "profile"
    {
        let mut row = rows::make(name, &device, Size::Full)?;
        time(&mut row, WARM_UP)?;
        let profile = profile(&device, &mut row, 10)?;
        let measured = asked.peaks.then(|| peak::measure(&device)).transpose()?;
        match measured {
            Some(m) => println!("{}", profile.against(m.peaks)),
            None => println!("{profile}"),
        }
        return Ok(());
    }
    table(&device, &args, asked)
}
