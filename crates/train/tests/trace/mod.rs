//! Traces that PyTorch made, step by step.

use std::path::Path;

use safetensors::SafeTensors;

/// A file of steps.
pub struct Trace {
    file: Vec<u8>,
}

impl Trace {
    /// `golden/<name>.safetensors`.
    pub fn read(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("golden/{name}.safetensors"));
        Trace { file: std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())) }
    }

    /// Sizes and values.
    pub fn values(&self, key: &str) -> (Vec<usize>, Vec<f32>) {
        let file = SafeTensors::deserialize(&self.file).unwrap();
        let view = file.tensor(key).unwrap();
        let values = view.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        (view.shape().to_vec(), values)
    }

    /// `<what>.a` and `<what>.b`, at step `t` where there is one for each step.
    pub fn named(&self, what: &str, t: Option<usize>) -> Vec<(String, Vec<usize>, Vec<f32>)> {
        let part = |name: &str| {
            let (mut dims, mut values) = self.values(&format!("{what}.{name}"));
            if let Some(t) = t {
                dims.remove(0);
                let n: usize = dims.iter().product();
                values = values[t * n..(t + 1) * n].to_vec();
            }
            (name.to_owned(), dims, values)
        };
        vec![part("a"), part("b")]
    }
}
