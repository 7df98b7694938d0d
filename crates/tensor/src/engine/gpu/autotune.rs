//! Choosing between the ways to launch an op by timing them, where somebody asked for it.
//!
//! Each way runs as a graph of one op on an engine of its own, on small integers: sums of their products are exact in every
//! order, so that all ways must agree to the bit. A choice is remembered by op, shapes, adapter and driver, in memory and in
//! a file. Without autotuning the op's own `launch` decides, by a static rule.

use std::any::Any;
use std::collections::HashMap;
use std::hash::Hasher;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::device::{Caps, Device};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::op::{BatchCx, Call, GradCx, Launches, Op, Rows};
use crate::plan::OpStep;
use crate::shape::Spec;
use crate::tensor::Tensor;

use super::health::lock;

/// The first line of a file of choices.
const HEADER: &str = "acclimate choices 1";
/// Runs of a way; the fastest counts.
const TIMES: usize = 3;
/// After this time the ways that were not tried are left.
const LONG: Duration = Duration::from_secs(2);

/// Opens an engine of its own on the adapter.
type Probe = Box<dyn Fn() -> Device + Send + Sync>;

/// The choices of a device.
pub(super) struct Autotuner {
    probe: Probe,
    /// Adapter, driver and version: choices of another are none.
    adapter: String,
    file: Option<PathBuf>,
    known: Mutex<HashMap<String, usize>>,
}

impl Autotuner {
    pub fn new(probe: Probe, adapter: String, file: Option<PathBuf>) -> Self {
        let known = file.as_deref().map(read).unwrap_or_default();
        Autotuner { probe, adapter, file, known: Mutex::new(known) }
    }

    /// The way to launch a step: the fastest that agrees with the op's own.
    pub fn launches(&self, step: &OpStep, caps: &Caps) -> Result<Launches> {
        let mut ways = ways(&*step.op, &step.in_specs, &step.out_specs, caps)?;
        if ways.len() == 1 || !can_try(step) {
            return Ok(ways.swap_remove(0));
        }
        let key = self.key(step, &ways);
        let known = lock(&self.known).get(&key).copied().filter(|&way| way < ways.len());
        let way = match known {
            Some(way) => way,
            None => {
                let way = self.fastest(step, ways.len());
                lock(&self.known).insert(key, way);
                self.write();
                way
            }
        };
        Ok(ways.swap_remove(way))
    }

    fn key(&self, step: &OpStep, ways: &[Launches]) -> String {
        let shader = |l: &Launches| l.list.iter().map(|l| l.shader.name).collect::<Vec<_>>().join("+");
        let shaders: Vec<String> = ways.iter().map(shader).collect();
        let shapes: Vec<String> = step.in_specs.iter().map(Spec::to_string).collect();
        let key = format!("{}; {:?}; {}; {}", self.adapter, step.op, shapes.join(" "), shaders.join(" "));
        key.replace(['\n', '\t'], " ")
    }

    /// Times the ways; what fails, or differs from the first, is out, and a warning says so.
    fn fastest(&self, step: &OpStep, n: usize) -> usize {
        let began = Instant::now();
        let device = (self.probe)();
        let mut best = (0, Duration::MAX);
        let mut expected = None;
        for way in 0..n {
            if began.elapsed() > LONG {
                log::warn!("autotune: {} of {n} ways of {} were tried in {LONG:?}", way, step.op.name());
                break;
            }
            let (time, found) = match timed(step, way, &device, best.1) {
                Ok(measured) => measured,
                Err(error) => {
                    log::warn!("autotune: way {way} of {} is out: {error}", step.op.name());
                    continue;
                }
            };
            let expected = expected.get_or_insert_with(|| found.clone());
            if let Some(at) = expected.iter().zip(&found).position(|(e, f)| e != f) {
                let (e, f) = (expected[at], found[at]);
                log::warn!("autotune: way {way} of {} is out: value {at} is {f}, expected {e}", step.op.name());
            } else if time < best.1 {
                best = (way, time);
            }
        }
        log::debug!("autotune: way {} of {} for {:?} takes {:?}", best.0, step.op.name(), step.in_specs, best.1);
        best.0
    }

    /// Adds the choices to the file, in one move: another process sees the old ones or the new ones.
    fn write(&self) {
        let Some(file) = &self.file else { return };
        let mut all = if file.exists() { read(file) } else { HashMap::new() };
        all.extend(lock(&self.known).iter().map(|(key, &way)| (key.clone(), way)));
        let mut lines: Vec<String> = all.iter().map(|(key, way)| format!("{way}\t{key}\n")).collect();
        lines.sort();
        let beside = file.with_extension(format!("{}.part", std::process::id()));
        let text = format!("{HEADER}\n{}", lines.concat());
        let written = file
            .parent()
            .map_or(Ok(()), std::fs::create_dir_all)
            .and_then(|()| std::fs::write(&beside, text))
            .and_then(|()| std::fs::rename(&beside, file));
        if let Err(error) = written {
            log::warn!("autotune: cannot write {}: {error}", file.display());
        }
    }
}

/// The choices in a file; none if there is no file, or if it is not one of these.
fn read(file: &Path) -> HashMap<String, usize> {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return HashMap::new(),
        Err(error) => {
            log::warn!("autotune: cannot read {}: {error}; choices are made anew", file.display());
            return HashMap::new();
        }
    };
    let mut lines = text.lines();
    let whole = lines.next() == Some(HEADER) && text.ends_with('\n');
    let entry = |line: &str| line.split_once('\t').and_then(|(way, key)| Some((key.to_owned(), way.parse().ok()?)));
    match lines.map(entry).collect::<Option<HashMap<String, usize>>>().filter(|_| whole) {
        Some(known) => known,
        None => {
            log::warn!("autotune: {} is no file of choices, or damaged; choices are made anew", file.display());
            HashMap::new()
        }
    }
}

/// The file of choices in the user's folder for caches.
pub(super) fn default_file() -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).filter(|f| !f.is_empty()).map(PathBuf::from);
    let home = |below: &str| folder("HOME").map(|home| home.join(below));
    let cache = if cfg!(windows) {
        folder("LOCALAPPDATA")
    } else if cfg!(target_os = "macos") {
        home("Library/Caches")
    } else {
        folder("XDG_CACHE_HOME").or_else(|| home(".cache"))
    };
    Some(cache?.join("acclimate").join("choices"))
}

/// The op's own way and the others.
pub(super) fn ways(op: &dyn Op, ins: &[Spec], outs: &[Spec], caps: &Caps) -> Result<Vec<Launches>> {
    let mut ways = vec![op.launch(ins, outs, caps)?];
    ways.extend(op.alternatives(ins, outs, caps)?);
    Ok(ways)
}

/// Whether small integers say something of a step: it has real inputs alone, and changes none.
fn can_try(step: &OpStep) -> bool {
    let real = |s: &Spec| matches!(s.dtype, DType::F32 | DType::F16);
    step.op.in_place().is_empty()
        && step.in_specs.iter().all(real)
        && step.out_specs.iter().all(|s| s.dtype == DType::F32)
}

/// The time of one way and what it gives.
fn timed(step: &OpStep, way: usize, device: &Device, best: Duration) -> Result<(Duration, Vec<f32>)> {
    let values = |spec: &Spec, salt: usize| -> Vec<f32> {
        (0..spec.numel()).map(|i| (((i + salt).wrapping_mul(0x9E37_79B1) >> 13) % 5) as f32 - 2.0).collect()
    };
    // Small integers are halves as well.
    let input = |(s, salt): (&Spec, usize)| Tensor::from_slice(device, &values(s, salt), &s.shape)?.cast(s.dtype);
    let inputs = step.in_specs.iter().zip(0..).map(input);
    let inputs = inputs.collect::<Result<Vec<_>>>()?;
    let op: Arc<dyn Op> = Arc::new(Way { op: step.op.clone(), way });
    let run = || Tensor::record(op.clone(), &inputs.iter().collect::<Vec<_>>());
    // The first run compiles.
    let mut found = Vec::new();
    for y in run()? {
        found.extend(y.to_vec::<f32>()?);
    }
    let mut least = Duration::MAX;
    for _ in 0..TIMES {
        let start = Instant::now();
        let time = match device.profile(|| Tensor::realize(&run()?.iter().collect::<Vec<_>>())) {
            Ok((_, profile)) => profile.time(),
            // A device without a clock of its own: until a number is here.
            Err(Error::Argument { .. }) => {
                let y = run()?.swap_remove(0);
                y.reshape(&[y.numel()])?.narrow(0, 0, 1)?.to_vec::<f32>()?;
                start.elapsed()
            }
            Err(error) => return Err(error),
        };
        least = least.min(time);
        if time > best.saturating_mul(3) {
            break;
        }
    }
    Ok((least, found))
}

/// An op that is launched in one of its ways.
#[derive(Debug)]
struct Way {
    op: Arc<dyn Op>,
    way: usize,
}

impl Op for Way {
    fn name(&self) -> &'static str {
        self.op.name()
    }
    fn kernel(&self) -> Option<&dyn Any> {
        self.op.kernel()
    }
    fn key(&self, hasher: &mut dyn Hasher) {
        hasher.write(b"way");
        hasher.write_usize(self.way);
        self.op.key(hasher);
    }
    fn shape(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        self.op.shape(inputs)
    }
    fn reference64(&self, call: &mut Call<'_, f64>) {
        self.op.reference64(call);
    }
    fn reference32(&self, call: &mut Call<'_, f32>) {
        self.op.reference32(call);
    }
    fn cpu(&self, call: &mut Call<'_, f32>) {
        self.op.cpu(call);
    }
    fn launch(&self, inputs: &[Spec], outputs: &[Spec], caps: &Caps) -> Result<Launches> {
        let ways = ways(&*self.op, inputs, outputs, caps)?;
        ways.into_iter().nth(self.way).ok_or_else(|| Error::internal(self.name(), "a way to launch that is gone"))
    }
    fn grad(&self, cx: &GradCx<'_>) -> Result<Vec<Option<Tensor>>> {
        self.op.grad(cx)
    }
    fn batch(&self, cx: &BatchCx<'_>) -> Result<Vec<Tensor>> {
        self.op.batch(cx)
    }
    fn in_place(&self) -> &'static [(usize, usize)] {
        self.op.in_place()
    }
    fn rows(&self, inputs: &[Spec]) -> Rows {
        self.op.rows(inputs)
    }
}
