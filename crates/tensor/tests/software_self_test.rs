//! The start-up self-test on a software adapter: a path that fails is off, a warning says why, and answers stay right.

#![allow(clippy::unwrap_used, clippy::panic)]

mod adapter;

use std::sync::Mutex;

use acclimate_tensor::{Device, DeviceOptions, Result, Tensor};

/// What was logged.
static LOG: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Logger;

impl log::Log for Logger {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::Level::Warn
    }
    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            LOG.lock().unwrap().push(record.args().to_string());
        }
    }
    fn flush(&self) {}
}

/// A sum and an extreme that a workgroup of one output computes.
fn right_answers(device: &Device) -> Result<()> {
    let x: Vec<f32> = (0..777).map(|i| (i * 13 % 29) as f32).collect();
    let t = Tensor::from_slice(device, &x, &[777])?;
    assert_eq!(t.sum(&[])?.item()?, x.iter().sum::<f32>());
    assert_eq!(t.max(&[])?.item()?, 28.0);
    Ok(())
}

#[test]
fn a_path_that_fails_is_off() -> Result<()> {
    const PATH: &str = "subgroup reductions";
    log::set_logger(&Logger).unwrap();
    log::set_max_level(log::LevelFilter::Warn);
    let Some(sound) = adapter::open(Device::named) else { return Ok(()) };
    assert_eq!(sound.stats(), Default::default(), "the self-test leaves no trace");
    right_answers(&sound)?;
    if !sound.caps().subgroups {
        println!("skipped: the adapter has no subgroups to turn off");
        return Ok(());
    }
    assert!(LOG.lock().unwrap().iter().all(|line| !line.contains(PATH)));

    let broken = |name: &str| Device::open(name, DeviceOptions::default().corrupt_self_test(PATH));
    let device = adapter::open(broken).unwrap();
    assert!(!device.caps().subgroups, "{device}");
    right_answers(&device)?;
    let log = LOG.lock().unwrap();
    let lines: Vec<&String> = log.iter().filter(|line| line.contains(PATH)).collect();
    let [warning] = lines[..] else { panic!("one warning, not {log:?}") };
    for part in [PATH, &sound.info().name, &sound.info().driver, "expected ", "found "] {
        assert!(warning.contains(part), "{warning} lacks {part}");
    }
    drop(log);

    // Nobody else is touched by it.
    assert!(adapter::open(Device::named).unwrap().caps().subgroups);
    Ok(())
}
