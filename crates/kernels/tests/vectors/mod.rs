//! Golden vectors that PyTorch made: reading them, computing them here, comparing.
//!
//! The bound: a value of the file is rounded once; ours as often as `roundings` says, each time by half a unit in the
//! last place of the sum of absolute terms. For ops linear in each input that sum is the op of absolute values; for the
//! others it is the largest value of the output.

mod ops;

use std::path::{Path, PathBuf};

use acclimate_kernels::testkit::Scale;
use acclimate_tensor::{DType, Device, EngineKind, Tensor, grad_with, oracle};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

/// Half a unit in the last place of 1.
const EPS: f64 = f32::EPSILON as f64 / 2.0;

/// A stored array.
#[derive(Clone, Debug)]
pub struct Array {
    pub dims: Vec<usize>,
    pub data: Data,
}

#[derive(Clone, Debug)]
pub enum Data {
    Real(Vec<f32>),
    Int(Vec<i32>),
    Bool(Vec<bool>),
}

impl Array {
    fn to(&self, device: &Device) -> Tensor {
        match &self.data {
            Data::Real(x) => Tensor::from_slice(device, x, &self.dims),
            Data::Int(x) => {
                let words: Vec<u32> = x.iter().map(|&x| u32::try_from(x).unwrap()).collect();
                Tensor::from_slice(device, &words, &self.dims)
            }
            Data::Bool(x) => Tensor::from_bools(device, x, &self.dims),
        }
        .unwrap()
    }

    fn absolute(&self) -> Array {
        match &self.data {
            Data::Real(x) => Array { dims: self.dims.clone(), data: Data::Real(x.iter().map(|x| x.abs()).collect()) },
            _ => self.clone(),
        }
    }
}

/// One case of a file.
pub struct Case {
    pub name: String,
    pub attrs: Value,
    pub inputs: Vec<Array>,
    pub outputs: Vec<Array>,
    /// Upstream gradients of the outputs, gradients of the inputs.
    pub upstream: Vec<Option<Array>>,
    pub gradients: Vec<Option<Array>>,
}

impl Case {
    pub fn numbers(&self, attr: &str) -> Vec<usize> {
        let list = self.attrs[attr].as_array().unwrap_or_else(|| panic!("{} has no list {attr}", self.name));
        list.iter().map(|n| n.as_u64().unwrap() as usize).collect()
    }

    pub fn number(&self, attr: &str) -> f32 {
        self.attrs[attr].as_f64().unwrap_or_else(|| panic!("{} has no number {attr}", self.name)) as f32
    }

    pub fn flag(&self, attr: &str) -> bool {
        self.attrs[attr].as_bool().unwrap_or_default()
    }
}

/// Beside the package that cargo runs, or that a bundle names in its place.
pub fn folder() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&package).join("golden")
}

/// Names of all files.
pub fn names() -> Vec<String> {
    let files = std::fs::read_dir(folder()).unwrap().map(|e| e.unwrap().path());
    let mut names: Vec<String> = files
        .filter(|p| p.extension().is_some_and(|e| e == "safetensors"))
        .map(|p| p.file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// The cases of a file.
pub fn cases(name: &str) -> Vec<Case> {
    let bytes = std::fs::read(folder().join(format!("{name}.safetensors"))).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let meta = header.metadata().clone().unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let get = |key: String| {
        let view = file.tensor(&key).ok()?;
        let words = view.data().chunks_exact(4).map(|b| [b[0], b[1], b[2], b[3]]);
        let data = match view.dtype() {
            Dtype::F32 => Data::Real(words.map(f32::from_le_bytes).collect()),
            Dtype::I32 => Data::Int(words.map(i32::from_le_bytes).collect()),
            Dtype::BOOL => Data::Bool(view.data().iter().map(|&b| b != 0).collect()),
            other => panic!("{key}: {other} is not expected here"),
        };
        Some(Array { dims: view.shape().to_vec(), data })
    };
    let list = |i: usize, what: &str| (0..).map_while(|k| get(format!("case{i}.{what}{k}"))).collect::<Vec<_>>();
    (0..meta["n_cases"].parse().unwrap())
        .map(|i: usize| {
            let (inputs, outputs) = (list(i, "in"), list(i, "out"));
            let attrs: Value = serde_json::from_str(&meta[&format!("case{i}")]).unwrap();
            Case {
                name: format!("{name} case {i} {attrs}"),
                upstream: (0..outputs.len()).map(|j| get(format!("case{i}.dout{j}"))).collect(),
                gradients: (0..inputs.len()).map(|k| get(format!("case{i}.din{k}"))).collect(),
                attrs,
                inputs,
                outputs,
            }
        })
        .collect()
}

/// Whether this crate has the op of a file.
pub fn is_here(name: &str) -> bool {
    ops::find(name).is_some()
}

/// Compares one case on a device, gradients too. Gives the number of arrays compared.
pub fn check(name: &str, case: &Case, device: &Device) -> usize {
    if case.flag("nonfinite") && case.attrs["op"] == "sign" {
        // The one known difference: PyTorch's sign of NaN is 0, here (as in NumPy) a NaN is never lost.
        let x = case.inputs[0].to(device);
        let is_nan = |t: Tensor| t.is_nan().unwrap().to_vec::<u32>().unwrap();
        assert_eq!(is_nan(x.sign().unwrap()), is_nan(x));
        return 1;
    }
    let row = ops::find(name).unwrap();
    let on = |arrays: &[Array], device: &Device| arrays.iter().map(|a| a.to(device)).collect::<Vec<Tensor>>();
    let compute = |inputs: &[Tensor]| (row.run)(case, inputs).unwrap_or_else(|e| panic!("{}: {e}", case.name));
    // The graph of outputs and gradients, of the inputs or of their absolute values.
    let graph = |absolute: bool, device: &Device| {
        let of = |a: &Array| if absolute { a.absolute() } else { a.clone() };
        let inputs = on(&case.inputs.iter().map(of).collect::<Vec<_>>(), device);
        let outputs = compute(&inputs);
        let pairs: Vec<(Tensor, Tensor)> = outputs
            .iter()
            .zip(&case.upstream)
            .filter_map(|(y, dy)| Some((y.clone(), of(dy.as_ref()?).to(device))))
            .collect();
        let wrt: Vec<Tensor> =
            inputs.iter().zip(&case.gradients).filter(|(_, g)| g.is_some()).map(|(t, _)| t.clone()).collect();
        let grads = if wrt.is_empty() { Vec::new() } else { grad_with(&pairs, wrt).unwrap() };
        (outputs, grads)
    };
    let (outputs, grads) = graph(false, device);
    let linear = row.scale == Scale::Magnitude;
    let sizes = if linear { Some(graph(true, &Device::cpu())) } else { None };
    let gpu = if device.kind() == EngineKind::Gpu { row.gpu } else { 1.0 };
    // What is only moved or chosen is the file's value.
    let roundings = match (row.roundings)(case) {
        0 => 0.0,
        n => 1.0 + gpu * n as f64,
    };
    let mut n = 0;
    let mut all = |got: &[Tensor], want: Vec<&Array>, sizes: Option<&[Tensor]>, roundings: f64, what: &str| {
        assert_eq!(got.len(), want.len(), "{}: number of {what}s", case.name);
        for (j, (got, want)) in got.iter().zip(want).enumerate() {
            let sizes = sizes.map(|s| oracle::evaluate(&s[j], &[]).unwrap().real().to_vec());
            compare(got, want, sizes.as_deref(), roundings, &format!("{}, {what} {j}", case.name));
            n += 1;
        }
    };
    all(&outputs, case.outputs.iter().collect(), sizes.as_ref().map(|s| &s.0[..]), roundings, "output");
    // A gradient has up to a term for each output, or is a chain of a few functions.
    let terms: usize = case.outputs.iter().map(|o| o.dims.iter().product::<usize>()).sum();
    let roundings = if linear { roundings + terms as f64 } else { 8.0 * roundings + 8.0 };
    let want = case.gradients.iter().flatten().collect();
    all(&grads, want, sizes.as_ref().map(|s| &s.1[..]), roundings, "gradient");
    n
}

fn compare(got: &Tensor, want: &Array, sizes: Option<&[f64]>, roundings: f64, what: &str) {
    assert_eq!(got.dims(), want.dims, "{what}: shape");
    match &want.data {
        Data::Real(want) => {
            assert_eq!(got.dtype(), DType::F32, "{what}");
            let got: Vec<f32> = got.to_vec().unwrap();
            let largest = want.iter().filter(|w| w.is_finite()).fold(0.0, |m: f64, w| m.max(f64::from(w.abs())));
            for (i, (&g, &w)) in got.iter().zip(want).enumerate() {
                let size = sizes.map_or(largest, |s| s[i]);
                let bound = roundings * EPS * size + f64::from(f32::MIN_POSITIVE);
                let error = (f64::from(g) - f64::from(w)).abs();
                let same = g == w || (g.is_nan() && w.is_nan()) || error <= bound;
                assert!(same, "{what}, element {i}: got {g:e}, PyTorch {w:e}, error {error:.1e} above {bound:.1e}");
            }
        }
        Data::Int(want) => {
            let want: Vec<u32> = want.iter().map(|&w| u32::try_from(w).unwrap()).collect();
            assert_eq!(got.to_vec::<u32>().unwrap(), want, "{what}");
        }
        Data::Bool(want) => {
            let want: Vec<u32> = want.iter().map(|&w| u32::from(w)).collect();
            assert_eq!(got.to_vec::<u32>().unwrap(), want, "{what}");
        }
    }
}
