//! The start-up self-test on a software adapter: a path that fails is off, a warning says why, and answers stay right.

#![allow(clippy::unwrap_used, clippy::panic)]

mod adapter;

use std::sync::Mutex;

use acclimate_tensor::{Caps, Device, DeviceOptions, Result, Tensor};

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
    const PATHS: [(&str, fn(&Caps) -> bool); 4] = [
        ("subgroup reductions", |c| c.subgroups),
        ("vectors of eight lanes", |c| c.software),
        ("cooperative matrices of 16×16", |c| c.cooperative_16),
        ("cooperative matrices of 8×8", |c| c.cooperative_8),
    ];
    log::set_logger(&Logger).unwrap();
    log::set_max_level(log::LevelFilter::Warn);
    let Some(sound) = adapter::open(Device::named) else { return Ok(()) };
    assert_eq!(sound.stats(), Default::default(), "the self-test leaves no trace");
    right_answers(&sound)?;
    for (path, has) in PATHS {
        if !has(sound.caps()) {
            println!("skipped: the adapter has no {path} to turn off");
            continue;
        }
        assert!(LOG.lock().unwrap().iter().all(|line| !line.contains(path)));
        let broken = |name: &str| Device::open(name, DeviceOptions::default().corrupt_self_test(path));
        let device = adapter::open(broken).unwrap();
        assert!(!has(device.caps()), "{device}");
        right_answers(&device)?;
        let log = LOG.lock().unwrap();
        let lines: Vec<&String> = log.iter().filter(|line| line.contains(path)).collect();
        let [warning] = lines[..] else { panic!("one warning, not {log:?}") };
        for part in [path, &sound.info().name, &sound.info().driver, "expected ", "found "] {
            assert!(warning.contains(part), "{warning} lacks {part}");
        }
        drop(log);
        // Nobody else is touched by it.
        assert!(has(adapter::open(Device::named).unwrap().caps()));
    }
    Ok(())
}
