//! What each file's cases are here, and how often they round.

use acclimate_kernels::testkit::Scale;
use acclimate_kernels::{Attend, Conv2d, Pool2d, TensorOps, concat};
use acclimate_tensor::expr::Func;
use acclimate_tensor::{Result, Tensor};

use super::Case;

/// A file.
pub struct Row {
    name: &'static str,
    pub run: fn(&Case, &[Tensor]) -> Result<Vec<Tensor>>,
    pub roundings: fn(&Case) -> usize,
    /// How many times as inexact GPUs are (WGSL: exp up to 23 ulp here, log 2⁻²¹, quotients 2.5 ulp).
    pub gpu: f64,
    pub scale: Scale,
}

const fn linear(
    name: &'static str,
    run: fn(&Case, &[Tensor]) -> Result<Vec<Tensor>>,
    roundings: fn(&Case) -> usize,
) -> Row {
    Row { name, run, roundings, gpu: 3.0, scale: Scale::Magnitude }
}

/// Nothing but moved or chosen.
const fn exact(name: &'static str, run: fn(&Case, &[Tensor]) -> Result<Vec<Tensor>>) -> Row {
    Row { name, run, roundings: |_| 0, gpu: 1.0, scale: Scale::Largest }
}

const fn smooth(
    name: &'static str,
    run: fn(&Case, &[Tensor]) -> Result<Vec<Tensor>>,
    roundings: fn(&Case) -> usize,
) -> Row {
    Row { name, run, roundings, gpu: 16.0, scale: Scale::Largest }
}

pub fn find(name: &str) -> Option<&'static Row> {
    ROWS.iter().find(|r| r.name == name)
}

fn numel(dims: &[usize]) -> usize {
    dims.iter().product()
}

/// Elements of input 0 for each of output 0.
fn reduced(c: &Case) -> usize {
    numel(&c.inputs[0].dims) / numel(&c.outputs[0].dims).max(1) + 1
}

fn axes(c: &Case) -> Vec<isize> {
    c.numbers("axes").iter().map(|&a| a as isize).collect()
}

fn axis(c: &Case) -> isize {
    c.attrs["axis"].as_i64().unwrap() as isize
}

/// In the file's shape: `keepdim` changes nothing else.
fn kept(c: &Case, y: Result<Tensor>) -> Result<Vec<Tensor>> {
    Ok(vec![y?.reshape(&c.outputs[0].dims)?])
}

fn pair(c: &Case, attr: &str) -> [usize; 2] {
    c.numbers(attr).try_into().unwrap()
}

fn pool(c: &Case) -> Pool2d {
    Pool2d {
        kernel: pair(c, "kernel"),
        stride: pair(c, "stride"),
        padding: pair(c, "padding"),
        dilation: if c.attrs["dilation"].is_null() { [1; 2] } else { pair(c, "dilation") },
        count_include_pad: c.flag("count_include_pad"),
    }
}

/// An op of the last axis along another one.
fn along(c: &Case, x: &Tensor, f: impl Fn(&Tensor) -> Result<(Tensor, Tensor)>) -> Result<Vec<Tensor>> {
    let (values, places) = f(&x.transpose(axis(c), -1)?)?;
    Ok(vec![values.transpose(axis(c), -1)?, places.transpose(axis(c), -1)?])
}

static ROWS: &[Row] = &[
    linear(
        "matmul",
        |c, x| {
            Ok(vec![match (c.flag("trans_a"), c.flag("trans_b")) {
                (false, false) => x[0].matmul(&x[1])?,
                (false, true) => x[0].matmul_nt(&x[1])?,
                (true, false) => x[0].matmul_tn(&x[1])?,
                (true, true) => x[0].transpose(-1, -2)?.matmul_nt(&x[1])?,
            }])
        },
        |c| c.inputs[0].dims.iter().copied().rev().take(2).max().unwrap_or(1),
    ),
    linear(
        "conv2d",
        |c, x| {
            let [ph, pw] = pair(c, "padding");
            let groups = c.number("groups") as usize;
            let conv = Conv2d {
                stride: pair(c, "stride"),
                padding: [[ph; 2], [pw; 2]],
                dilation: pair(c, "dilation"),
                groups,
            };
            Ok(vec![x[0].conv2d(&x[1], &conv)?])
        },
        |c| numel(&c.inputs[1].dims[1..]),
    ),
    exact("max_pool2d", |c, x| Ok(vec![x[0].max_pool2d(&pool(c))?])),
    linear("avg_pool2d", |c, x| Ok(vec![x[0].avg_pool2d(&pool(c))?]), |c| numel(&c.numbers("kernel")) + 1),
    linear("global_avg_pool", |c, x| kept(c, x[0].global_avg_pool2d()), reduced),
    linear("sum", |c, x| kept(c, x[0].sum(&axes(c))), reduced),
    linear("mean", |c, x| kept(c, x[0].mean(&axes(c))), reduced),
    exact("max", |c, x| kept(c, x[0].max(&axes(c)))),
    exact("min", |c, x| kept(c, x[0].min(&axes(c)))),
    smooth("prod", |c, x| kept(c, x[0].prod(&axes(c))), reduced),
    // Deviations are smaller than what they are of.
    smooth("var", |c, x| kept(c, x[0].var(&axes(c), c.number("correction"))), |c| 8 * reduced(c)),
    exact("argmax", |c, x| kept(c, x[0].argmax(axis(c)))),
    exact("argmin", |c, x| kept(c, x[0].argmin(axis(c)))),
    smooth("softmax", |c, x| Ok(vec![x[0].softmax(axis(c))?]), |c| 8 + c.inputs[0].dims[axis(c) as usize]),
    smooth("log_softmax", |c, x| Ok(vec![x[0].log_softmax(axis(c))?]), |c| 8 + c.inputs[0].dims[axis(c) as usize]),
    smooth("logsumexp", |c, x| kept(c, x[0].logsumexp(axis(c))), |c| 8 + reduced(c)),
    // A score is a sum of products, and moves a weight by as many roundings.
    smooth(
        "scaled_dot_product_attention",
        |c, x| {
            let scale = Some(c.number("scale")).filter(|&s| s > 0.0);
            Ok(vec![x[0].attention(
                &x[1],
                &x[2],
                &Attend { causal: c.flag("causal"), scale, mask: x.get(3).cloned() },
            )?])
        },
        |c| c.inputs[1].dims.iter().rev().take(2).sum::<usize>() * 4,
    ),
    exact("gather", |c, x| Ok(vec![x[0].gather(axis(c), &x[1])?])),
    exact("index_select", |c, x| Ok(vec![x[0].index_select(axis(c), &x[1])?])),
    linear("scatter_add", |c, x| Ok(vec![x[0].scatter_add(axis(c), &x[1], &x[2])?]), |c| numel(&c.inputs[2].dims)),
    exact("embedding", |_, x| Ok(vec![x[0].take(&x[1])?])),
    exact("concat", |c, x| Ok(vec![concat(&x.iter().collect::<Vec<_>>(), axis(c))?])),
    exact("slice", |c, x| {
        let (start, stop, step) = (c.numbers("start"), c.numbers("stop"), c.numbers("step"));
        let len: Vec<usize> = (0..start.len()).map(|d| (stop[d] - start[d]).div_ceil(step[d])).collect();
        let step: Vec<isize> = step.iter().map(|&s| s as isize).collect();
        Ok(vec![x[0].strided_slice(&start, &step, &len)?])
    }),
    exact("pad", |c, x| {
        let around: Vec<(usize, usize)> = c.numbers("before").into_iter().zip(c.numbers("after")).collect();
        let inside = x[0].ones_like()?.pad(&around)?.gt(&Tensor::zeros(x[0].device(), &[])?)?;
        let value = Tensor::full(x[0].device(), &[], c.number("value"))?;
        Ok(vec![inside.select(&x[0].pad(&around)?, &value)?])
    }),
    exact("where", |_, x| Ok(vec![x[0].select(&x[1], &x[2])?])),
    exact("comparisons", |c, x| Ok(vec![by_name(c, x)?])),
    exact("topk", |c, x| {
        let (k, largest) = (c.number("k") as usize, c.flag("largest"));
        along(c, &x[0], |x| x.topk(k, largest))
    }),
    exact("sort", |c, x| along(c, &x[0], |x| x.sort(c.flag("descending")))),
    linear("cumsum", |c, x| Ok(vec![x[0].cumsum(axis(c))?]), |c| c.inputs[0].dims[axis(c) as usize]),
    // The standard library's functions are within 1 ulp, that is two roundings; compositions take a few.
    smooth("unary", |c, x| Ok(vec![by_name(c, x)?]), |_| 8),
    smooth("binary", |c, x| Ok(vec![by_name(c, x)?]), |_| 4),
];

/// The function that a case names, broadcast.
fn by_name(c: &Case, x: &[Tensor]) -> Result<Tensor> {
    let name = c.attrs["op"].as_str().unwrap();
    let a = &x[0];
    match name {
        "silu" => a.silu(),
        "gelu" => a.gelu(),
        "gelu_tanh" => a.gelu_tanh(),
        "relu6" => a.relu6(),
        "softplus" => a.softplus(),
        "square" => a.square(),
        "reciprocal" => a.recip(),
        "maximum" => a.maximum(&x[1]),
        "minimum" => a.minimum(&x[1]),
        _ => {
            let func = Func::ALL.iter().find(|f| f.name() == name).unwrap_or_else(|| panic!("no function {name}"));
            Tensor::map(*func, &x.iter().collect::<Vec<_>>())
        }
    }
}
