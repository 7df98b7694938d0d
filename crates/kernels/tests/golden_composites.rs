//! PyTorch's answers for what picks, orders, joins and normalizes, with gradients: `golden/README.md` has the layout.

use std::collections::HashMap;

use acclimate_kernels::{TensorOps, concat};
use acclimate_tensor::{DType, Device, Result, Tensor, grad_with, oracle};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

/// A stored tensor.
struct Stored {
    dims: Vec<usize>,
    data: Data,
}

enum Data {
    Real(Vec<f32>),
    Word(Vec<u32>),
}

impl Stored {
    fn tensor(&self, d: &Device) -> Result<Tensor> {
        match &self.data {
            Data::Real(x) => Tensor::from_slice(d, x, &self.dims),
            Data::Word(x) => Tensor::from_slice(d, x, &self.dims),
        }
    }
}

/// A case: attributes, and tensors by `in0`, `out0`, `dout0`, `din0`, ..
struct Case {
    name: String,
    attributes: Value,
    tensors: HashMap<String, Stored>,
}

impl Case {
    fn size(&self, key: &str) -> usize {
        self.attributes[key].as_u64().unwrap_or_else(|| panic!("{}: no {key}", self.name)) as usize
    }

    fn axis(&self) -> isize {
        self.size("axis") as isize
    }

    fn axes(&self) -> Vec<isize> {
        self.attributes["axes"].as_array().unwrap().iter().map(|a| a.as_i64().unwrap() as isize).collect()
    }

    fn flag(&self, key: &str) -> bool {
        self.attributes[key].as_bool().unwrap_or_else(|| panic!("{}: no {key}", self.name))
    }

    fn all(&self, kind: &str) -> Vec<&Stored> {
        (0..).map_while(|i| self.tensors.get(&format!("{kind}{i}"))).collect()
    }
}

fn load(name: &str) -> Vec<Case> {
    let bytes = std::fs::read(format!("{}/golden/{name}.safetensors", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let meta = header.metadata().clone().unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let n: usize = meta["n_cases"].parse().unwrap();
    (0..n)
        .map(|i| {
            let prefix = format!("case{i}.");
            let mut tensors = HashMap::new();
            for (key, view) in file.iter() {
                let Some(key) = key.strip_prefix(&prefix) else { continue };
                let words = || view.data().chunks_exact(4).map(|b| u32::from_le_bytes(b.try_into().unwrap()));
                let data = match view.dtype() {
                    Dtype::F32 => Data::Real(words().map(f32::from_bits).collect()),
                    Dtype::I32 => Data::Word(words().collect()),
                    Dtype::BOOL => Data::Word(view.data().iter().map(|&b| u32::from(b)).collect()),
                    other => panic!("{other:?}"),
                };
                tensors.insert(key.to_owned(), Stored { dims: view.shape().to_vec(), data });
            }
            let attributes = serde_json::from_str(&meta[&format!("case{i}")]).unwrap();
            Case { name: format!("{name} {i}"), attributes, tensors }
        })
        .collect()
}

/// Runs every case of a file; `skip` says which ops of a shared file are not meant here. Returns how many ran.
fn check(d: &Device, name: &str, f: impl Fn(&Case, &[Tensor]) -> Result<Option<Vec<Tensor>>>) -> Result<usize> {
    let mut ran = 0;
    for case in load(name) {
        if !d.info().backend.contains("native") && case.attributes["nonfinite"] == true {
            continue; // Shading languages may assume that there are none.
        }
        let inputs: Vec<Tensor> = case.all("in").iter().map(|t| t.tensor(d)).collect::<Result<_>>()?;
        let Some(outputs) = f(&case, &inputs)? else { continue };
        ran += 1;
        assert_eq!(outputs.len(), case.all("out").len(), "{}", case.name);
        let upstream = case.all("dout");
        let mut grads = Vec::new();
        if !upstream.is_empty() {
            let mut pairs = Vec::new();
            for (y, dy) in outputs.iter().filter(|y| y.dtype() == DType::F32).zip(&upstream) {
                pairs.push((y.clone(), dy.tensor(d)?));
            }
            assert_eq!(pairs.len(), upstream.len(), "{}", case.name);
            let wanted: Vec<usize> =
                (0..inputs.len()).filter(|k| case.tensors.contains_key(&format!("din{k}"))).collect();
            assert!(!wanted.is_empty(), "{}", case.name);
            let wrt: Vec<Tensor> = wanted.iter().map(|&k| inputs[k].clone()).collect();
            let dx = grad_with(&pairs, wrt)?;
            grads = wanted.into_iter().map(|k| format!("din{k}")).zip(dx).collect();
        }
        let exact: Vec<_> =
            outputs.iter().chain(grads.iter().map(|g| &g.1)).map(|t| oracle::evaluate(t, &[])).collect();
        let names = (0..outputs.len()).map(|j| format!("out{j}")).chain(grads.iter().map(|g| g.0.clone()));
        for ((key, got), exact) in names.zip(outputs.iter().chain(grads.iter().map(|g| &g.1))).zip(exact) {
            let at = format!("{} {key} {}", case.name, case.attributes);
            let want = &case.tensors[&key];
            assert_eq!(got.dims(), want.dims, "{at}");
            match &want.data {
                Data::Word(want) => assert_eq!(&got.to_vec::<u32>()?, want, "{at}"),
                Data::Real(want) => {
                    let largest = want.iter().filter(|x| x.is_finite()).fold(0.0f64, |m, &x| m.max(f64::from(x).abs()));
                    // The oracle: one rounding for the file, and constants of the graph that f32 holds.
                    close(exact?.real().iter().copied(), want, 2e-7 * largest, &format!("{at}, oracle"));
                    // The engine: sums of up to 1025 terms in f32, exp and erf of drivers.
                    close(got.to_vec::<f32>()?.into_iter().map(f64::from), want, 1e-5 * largest, &at);
                }
            }
        }
    }
    Ok(ran)
}

fn close(got: impl ExactSizeIterator<Item = f64>, want: &[f32], bound: f64, at: &str) {
    assert_eq!(got.len(), want.len(), "{at}");
    for (i, (got, &want)) in got.zip(want).enumerate() {
        let want = f64::from(want);
        let same = got == want || got.is_nan() && want.is_nan() || (got - want).abs() <= bound;
        assert!(same, "{at} [{i}]: {got} for {want}, bound {bound:e}");
    }
}

/// Without the axis, or with size 1 in its place.
fn dropped(y: Tensor, case: &Case) -> Result<Tensor> {
    if case.flag("keepdim") { y.unsqueeze(case.size("axis")) } else { Ok(y) }
}

/// A function of the last axis along the case's axis.
fn two_along(x: &Tensor, axis: isize, f: impl Fn(&Tensor) -> Result<(Tensor, Tensor)>) -> Result<Vec<Tensor>> {
    let (a, b) = f(&x.transpose(axis, -1)?)?;
    Ok(vec![a.transpose(axis, -1)?, b.transpose(axis, -1)?])
}

fn all(d: &Device) -> Result<()> {
    let one = |y: Result<Tensor>| Ok(Some(vec![y?]));
    let mut ran = Vec::new();
    let mut run = |name: &'static str, f: &dyn Fn(&Case, &[Tensor]) -> Result<Option<Vec<Tensor>>>| -> Result<()> {
        ran.push((name, check(d, name, f)?));
        Ok(())
    };
    run("gather", &|c, x| one(x[0].gather(c.axis(), &x[1])))?;
    run("scatter_add", &|c, x| one(x[0].scatter_add(c.axis(), &x[1], &x[2])))?;
    run("index_select", &|c, x| one(x[0].index_select(c.axis(), &x[1])))?;
    run("embedding", &|_, x| one(x[0].take(&x[1])))?;
    run("concat", &|c, x| one(concat(&x.iter().collect::<Vec<_>>(), c.axis())))?;
    run("sort", &|c, x| Ok(Some(two_along(&x[0], c.axis(), |x| x.sort(c.flag("descending")))?)))?;
    run("topk", &|c, x| Ok(Some(two_along(&x[0], c.axis(), |x| x.topk(c.size("k"), c.flag("largest")))?)))?;
    run("cumsum", &|c, x| one(x[0].cumsum(c.axis())))?;
    run("argmax", &|c, x| one(dropped(x[0].argmax(c.axis())?, c)))?;
    run("argmin", &|c, x| one(dropped(x[0].argmin(c.axis())?, c)))?;
    run("mean", &|c, x| one(if c.flag("keepdim") { x[0].mean_keep(&c.axes()) } else { x[0].mean(&c.axes()) }))?;
    run("var", &|c, x| {
        let correction = c.size("correction") as f32;
        one(if c.flag("keepdim") { x[0].var_keep(&c.axes(), correction) } else { x[0].var(&c.axes(), correction) })
    })?;
    run("softmax", &|c, x| one(x[0].softmax(c.axis())))?;
    run("log_softmax", &|c, x| one(x[0].log_softmax(c.axis())))?;
    run("logsumexp", &|c, x| one(dropped(x[0].logsumexp(c.axis())?, c)))?;
    run("unary", &|c, x| match c.attributes["op"].as_str().unwrap() {
        "silu" => one(x[0].silu()),
        "gelu" => one(x[0].gelu()),
        "gelu_tanh" => one(x[0].gelu_tanh()),
        "relu6" => one(x[0].relu6()),
        "softplus" => one(x[0].softplus()),
        _ => Ok(None),
    })?;
    for (name, n) in ran {
        println!("{name}: {n} cases");
        assert!(n > 0, "{name}");
    }
    Ok(())
}

#[test]
fn cpu_follows_pytorch() -> Result<()> {
    all(&Device::cpu())
}

#[test]
fn software_follows_pytorch() -> Result<()> {
    match Device::named("software") {
        Ok(d) => all(&d),
        Err(e) => {
            println!("skipped: {e}");
            Ok(())
        }
    }
}
