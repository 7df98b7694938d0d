//! Reads the golden vectors that PyTorch made, and compares with them.
#![allow(dead_code)] // each test takes what it needs

use acclimate_tensor::{DType, Device, Tensor, grad_with};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

/// A stored array.
#[derive(Clone, Debug)]
pub struct Array {
    pub dims: Vec<usize>,
    /// Integers too: labels are small.
    pub values: Vec<f32>,
    dtype: Dtype,
}

impl Array {
    fn of(view: &TensorView) -> Self {
        let words = view.data().as_chunks::<4>().0;
        let values = match view.dtype() {
            Dtype::F32 => words.iter().map(|&b| f32::from_le_bytes(b)).collect(),
            Dtype::I32 => words.iter().map(|&b| i32::from_le_bytes(b) as f32).collect(),
            other => panic!("{other} is not expected here"),
        };
        Array { dims: view.shape().to_vec(), values, dtype: view.dtype() }
    }

    /// On a device; integers as u32.
    pub fn to(&self, device: &Device) -> Tensor {
        let tensor = Tensor::from_slice(device, &self.values, &self.dims).unwrap();
        if self.dtype == Dtype::I32 { tensor.cast(DType::U32).unwrap() } else { tensor }
    }
}

/// One case of a file.
pub struct Case {
    pub name: String,
    pub attrs: Value,
    pub inputs: Vec<Array>,
    pub outputs: Vec<Array>,
    /// Upstream gradients of the outputs.
    pub upstream: Vec<Option<Array>>,
    /// Gradients of the inputs.
    pub gradients: Vec<Option<Array>>,
}

impl Case {
    pub fn number(&self, attr: &str) -> f32 {
        self.attrs[attr].as_f64().unwrap_or_else(|| panic!("{} has no number {attr}", self.name)) as f32
    }

    pub fn text(&self, attr: &str) -> &str {
        self.attrs[attr].as_str().unwrap_or_default()
    }

    pub fn flag(&self, attr: &str) -> bool {
        self.attrs[attr].as_bool().unwrap_or_default()
    }
}

/// The cases of `crates/kernels/golden/<name>.safetensors`.
pub fn cases(name: &str) -> Vec<Case> {
    let path = format!("{}/../kernels/golden/{name}.safetensors", env!("CARGO_MANIFEST_DIR"));
    let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    let (_, meta) = SafeTensors::read_metadata(&bytes).unwrap();
    let meta = meta.metadata().clone().unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let n: usize = meta["n_cases"].parse().unwrap();
    assert!(n > 0);
    let get = |key: String| file.tensor(&key).ok().map(|view| Array::of(&view));
    let list = |i: usize, what: &str| (0..).map_while(|k| get(format!("case{i}.{what}{k}"))).collect::<Vec<_>>();
    (0..n)
        .map(|i| {
            let (inputs, outputs) = (list(i, "in"), list(i, "out"));
            let upstream = (0..outputs.len()).map(|j| get(format!("case{i}.dout{j}"))).collect();
            let gradients = (0..inputs.len()).map(|k| get(format!("case{i}.din{k}"))).collect();
            let attrs: Value = serde_json::from_str(&meta[&format!("case{i}")]).unwrap();
            Case { name: format!("{name} case {i} {attrs}"), attrs, inputs, outputs, upstream, gradients }
        })
        .collect()
}

/// The largest magnitude.
pub fn scale(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |m, v| m.max(v.abs()))
}

/// |found − expected| ≤ `bound` everywhere.
pub fn assert_close(what: &str, found: &Tensor, expected: &Array, bound: f32) {
    assert_eq!(found.dims(), expected.dims, "{what}");
    for (i, (f, e)) in found.to_vec::<f32>().unwrap().iter().zip(&expected.values).enumerate() {
        assert!((f - e).abs() <= bound, "{what}: element {i} is {f}, expected {e}, bound {bound:e}");
    }
}

/// Compares first outputs and gradients of a case with what `compute` makes of the inputs. A bound is `roundings` units
/// in the last place of the largest number around.
pub fn check(case: &Case, device: &Device, roundings: usize, compute: impl Fn(&[Tensor]) -> Tensor) {
    let inputs: Vec<Tensor> = case.inputs.iter().map(|a| a.to(device)).collect();
    let y = compute(&inputs);
    let bound = |expected: &[f32], more: f32| roundings as f32 * f32::EPSILON * (scale(expected) + more).max(1.0);
    if let Some(dy) = &case.upstream[0] {
        let wanted: Vec<usize> = (0..inputs.len()).filter(|&k| case.gradients[k].is_some()).collect();
        assert!(!wanted.is_empty(), "{}", case.name);
        let wrt: Vec<Tensor> = wanted.iter().map(|&k| inputs[k].clone()).collect();
        let grads = grad_with(&[(y.clone(), dy.to(device))], wrt).unwrap();
        for (k, found) in wanted.into_iter().zip(grads) {
            let expected = case.gradients[k].as_ref().unwrap();
            assert_close(&format!("{}: gradient {k}", case.name), &found, expected, bound(&expected.values, 0.0));
        }
    }
    let inputs_scale = case.inputs.iter().map(|a| scale(&a.values)).fold(0.0, f32::max);
    assert_close(&case.name, &y, &case.outputs[0], bound(&case.outputs[0].values, inputs_scale));
}
