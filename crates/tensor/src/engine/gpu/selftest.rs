//! The start-up self-test: paths that drivers get wrong are tried on a tiny case, through planner and engine as any other
//! graph, and compared with the CPU engine. A path that fails is off for that device, and a warning says what was found.
//!
//! Once per process for each adapter and driver; an answer costs a few small pipelines and one submission.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock};

use acclimate_shaders::shaders;

use crate::device::{Caps, Device, DeviceInfo};
use crate::dtype::DType;
use crate::error::Result;
use crate::op::{Bind, Call, Kernel, Launch, Launches, record_one};
use crate::real::Real;
use crate::shape::Spec;
use crate::tensor::Tensor;

use super::health::lock;

/// Something that a driver may get wrong.
struct Path {
    name: &'static str,
    /// What says that kernels may take it.
    flag: fn(&mut Caps) -> &mut bool,
    /// f32 tensors that go through it: small integers, whose sums are exact in every order, and few roundings beside.
    case: fn(&Device) -> Result<Vec<Tensor>>,
}

const PATHS: &[Path] = &[
    Path { name: "subgroup reductions", flag: |c| &mut c.subgroups, case: subgroups },
    Path { name: "vectors of eight lanes", flag: |c| &mut c.software, case: eight_lanes },
    Path { name: "cooperative matrices of 16×16", flag: |c| &mut c.cooperative_16, case: |d| cooperative(d, 64) },
    Path { name: "cooperative matrices of 8×8", flag: |c| &mut c.cooperative_8, case: |d| cooperative(d, 32) },
];

/// Sums and extremes of integers, of a length that leaves some threads with one element less; a row of a normalization.
fn subgroups(device: &Device) -> Result<Vec<Tensor>> {
    let n: u16 = 1000;
    let x: Vec<f32> = (0..n).map(|i| f32::from(i * 37 % 101) - 50.0).collect();
    let x = Tensor::from_slice(device, &x, &[n.into()])?;
    let flat = Tensor::full(device, &[1, 256], 3.0)?;
    Ok(vec![x.sum(&[])?, x.max(&[])?, x.min(&[])?, record_one(EvenRow, &[&flat])?])
}

/// A product whose blocks are cut, and element-wise work in pairs of words.
fn eight_lanes(device: &Device) -> Result<Vec<Tensor>> {
    let n: u16 = 36;
    let x: Vec<f32> = (0..n * n).map(|i| f32::from(i * 37 % 11) - 5.0).collect();
    let x = Tensor::from_slice(device, &x, &[n.into(), n.into()])?;
    Ok(vec![record_one(Square, &[&x])?, x.add(&x)?])
}

/// Products of halves that are stored each way, in cut blocks and more than one step of k; `tile` is a block's side.
fn cooperative(device: &Device, tile: usize) -> Result<Vec<Tensor>> {
    let n: u16 = 100;
    let x: Vec<f32> = (0..n * n).map(|i| f32::from(i % 101 * 37 % 11) - 5.0).collect();
    let x = Tensor::from_slice(device, &x, &[n.into(), n.into()])?.cast(DType::F16)?;
    let stored = [(false, false), (false, true), (true, false), (true, true)];
    stored.iter().map(|&(trans_a, trans_b)| record_one(Cooperative { tile, trans_a, trans_b }, &[&x])).collect()
}

/// A square matrix of halves times itself, either side transposed, on cooperative matrices.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Cooperative {
    tile: usize,
    trans_a: bool,
    trans_b: bool,
}

impl Kernel for Cooperative {
    const NAME: &'static str = "self_test_cooperative";
    fn shape(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        Ok(vec![Spec::f32(inputs[0].shape.dims())?])
    }
    fn reference<R: Real>(&self, call: &mut Call<'_, R>) {
        let (n, x) = (call.in_specs[0].as_rows().1, call.numbers(0));
        let at = |transposed: bool, i: usize, j: usize| if transposed { x[j * n + i] } else { x[i * n + j] };
        for (place, y) in call.out_real(0).iter_mut().enumerate() {
            let (i, j) = (place / n, place % n);
            *y = (0..n).fold(R::of(0.0), |sum, q| sum + at(self.trans_a, i, q) * at(self.trans_b, q, j));
        }
    }
    fn launch(&self, inputs: &[Spec], _: &[Spec], _: &Caps) -> Result<Launches> {
        let n = inputs[0].as_rows().1;
        let eight = if self.tile == 32 { shaders::MATMUL_COOP.eight } else { None };
        let launch = Launch::new(eight.unwrap_or(&shaders::MATMUL_COOP), n.div_ceil(self.tile).pow(2));
        let launch = launch.u32s(&[n, n, n, 1, 0, 0, usize::from(self.trans_a), usize::from(self.trans_b)]);
        Ok(launch.bind(&[Bind::In(0), Bind::In(0), Bind::Out(0)]).into())
    }
}

/// A square matrix times itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Square;

impl Kernel for Square {
    const NAME: &'static str = "self_test_square";
    fn shape(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        Ok(inputs.to_vec())
    }
    fn reference<R: Real>(&self, call: &mut Call<'_, R>) {
        let (n, x) = (call.in_specs[0].as_rows().1, call.numbers(0));
        for (at, y) in call.out_real(0).iter_mut().enumerate() {
            *y = (0..n).fold(R::of(0.0), |sum, q| sum + x[at / n * n + q] * x[q * n + at % n]);
        }
    }
    fn launch(&self, inputs: &[Spec], _: &[Spec], _: &Caps) -> Result<Launches> {
        let n = inputs[0].as_rows().1;
        let launch = Launch::new(&shaders::MATMUL_DIRECT, 1).u32s(&[n, n, n, 1, 0, 0, 0, 0, 1]);
        Ok(launch.bind(&[Bind::In(0), Bind::In(0), Bind::Out(0)]).into())
    }
}

/// Softmax of a row of equal numbers: 1/n each.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct EvenRow;

impl Kernel for EvenRow {
    const NAME: &'static str = "self_test_row";
    fn shape(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        Ok(inputs.to_vec())
    }
    fn reference<R: Real>(&self, call: &mut Call<'_, R>) {
        let n = call.in_specs[0].as_rows().1;
        call.out_real(0).fill(R::of(1.0 / n as f64));
    }
    fn launch(&self, inputs: &[Spec], _: &[Spec], _: &Caps) -> Result<Launches> {
        let (n_rows, n) = inputs[0].as_rows();
        Ok(Launch::new(&shaders::SOFTMAX, n_rows).u32s(&[n_rows, n]).bind(&[Bind::In(0), Bind::Out(0)]).into())
    }
}

/// What a path failed with; none if it is sound.
type Verdict = Option<String>;

/// The capabilities without what fails. `probe` opens the adapter's device for one test; `corrupt` names a path whose
/// expected values are spoilt.
pub(super) fn sound(mut caps: Caps, info: &DeviceInfo, corrupt: Option<&str>, probe: impl Fn(Caps) -> Device) -> Caps {
    static VERDICTS: OnceLock<Mutex<HashMap<String, Verdict>>> = OnceLock::new();
    for path in PATHS {
        if !*(path.flag)(&mut caps) {
            continue;
        }
        let spoilt = corrupt == Some(path.name);
        let key = [path.name, &info.name, &info.backend, &info.driver].join("\n");
        let known = lock(VERDICTS.get_or_init(Mutex::default)).get(&key).cloned().filter(|_| !spoilt);
        let verdict = known.unwrap_or_else(|| {
            let verdict = test(path, &probe(caps.clone()), spoilt);
            if !spoilt {
                lock(VERDICTS.get_or_init(Mutex::default)).insert(key, verdict.clone());
            }
            verdict
        });
        if let Some(failure) = verdict {
            log::warn!("{} are off on {} ({}, {}): {failure}", path.name, info.name, info.backend, info.driver);
            *(path.flag)(&mut caps) = false;
        }
    }
    caps
}

fn test(path: &Path, device: &Device, spoilt: bool) -> Verdict {
    let compared = values(path, device).and_then(|found| Ok((found, values(path, &Device::cpu())?)));
    let (found, mut expected) = match compared {
        Ok(both) => both,
        Err(error) => return Some(format!("the self-test ended with: {error}")),
    };
    if spoilt && let Some(first) = expected.first_mut() {
        *first += 1.0;
    }
    // WGSL grants exp 3 ulp and a division 2.5; a NaN is far from everything.
    let near = |f: f32, e: f32| (f - e).abs() <= 8.0 * f32::EPSILON * e.abs();
    let wrong = found.iter().zip(&expected).position(|(&f, &e)| !near(f, e))?;
    Some(format!("value {wrong} of the self-test: expected {}, found {}", expected[wrong], found[wrong]))
}

fn values(path: &Path, device: &Device) -> Result<Vec<f32>> {
    let tensors = (path.case)(device)?;
    Tensor::realize(&tensors.iter().collect::<Vec<_>>())?;
    let mut values = Vec::new();
    for t in &tensors {
        values.extend(t.to_vec::<f32>()?);
    }
    Ok(values)
}
