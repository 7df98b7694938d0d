//! Random graphs of element-wise functions, views, reductions, products and softmax, with their gradients: each of the
//! planner's passes on and off gives the same bits on the CPU, and the answer is the oracle's.
//!
//! The bound is a running error analysis. Let s = Σ ⟨c, y⟩ over the outputs. A node t that rounds its value, with a sum
//! of absolute terms of at most σ, changes s by at most n·ε·⟨σ, |∂s/∂t|⟩ to first order, n the length of its sums. The
//! sum over all nodes bounds the error; the factor 2 stands for the higher orders.

#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "../../tensor/tests/adapter/mod.rs"]
mod adapter;

use acclimate_kernels::TensorOps;
use acclimate_kernels::testkit::{Draw, Input};
use acclimate_tensor::{Device, Passes, Result, Tensor, grad, oracle};

const EPS: f64 = f32::EPSILON as f64 / 2.0;

/// A graph with what the bound needs: each node's value, the largest sum of absolute terms, the number of roundings.
struct Graph {
    leaves: Vec<Tensor>,
    nodes: Vec<(Tensor, f64, f64)>,
    text: String,
}

/// Sizes of axes: small, odd, and one more than a block of vectors.
const SIZES: [usize; 5] = [1, 2, 3, 7, 33];

fn draw_graph(device: &Device, seed: u64) -> Result<Graph> {
    let mut draw = Draw::new(seed);
    let mut g = Graph { leaves: Vec::new(), nodes: Vec::new(), text: String::new() };
    let (a, b) = (SIZES[draw.below(5) as usize], SIZES[draw.below(5) as usize]);
    for (i, dims) in [vec![a, b], vec![b], vec![a, b], vec![b, 3]].iter().enumerate() {
        let leaf = Input::uniform(dims, -1.0, 1.0).tensor(device, seed * 8 + i as u64)?;
        g.leaves.push(leaf.clone());
        g.nodes.push((leaf, 1.0, 0.0));
    }
    let steps = 4 + draw.below(14);
    let count = Tensor::from_slice(device, &[draw.below(a as u32 + 1)], &[1])?;
    while g.nodes.len() < g.leaves.len() + steps as usize {
        let any = |draw: &mut Draw| draw.below(g.nodes.len() as u32) as usize;
        let (i, j) = (any(&mut draw), any(&mut draw));
        let (x, y) = (&g.nodes[i].0, &g.nodes[j].0);
        let d = x.dims().to_vec();
        // (what, value, largest sum of absolute terms, roundings); values stay within ±3 or so.
        let last = d.last().copied().unwrap_or(1);
        let found = match draw.below(23) {
            0 => Some(("tanh", x.tanh()?, 1.0, 8.0)),
            1 => Some(("sigmoid", x.sigmoid()?, 1.0, 8.0)),
            2 => Some(("neg", x.neg()?, 3.0, 0.0)),
            3 => Some(("abs", x.abs()?, 3.0, 0.0)),
            4 => Some(("relu", x.relu()?, 3.0, 0.0)),
            5 => Some(("half", x.mul_scalar(0.5)?, 3.0, 0.0)),
            6 => x.add(y).ok().map(|t| ("add", t, 6.0, 1.0)),
            7 => x.mul(y).ok().map(|t| ("mul", t, 9.0, 1.0)),
            8 => x.maximum(y).ok().map(|t| ("max", t, 3.0, 0.0)),
            9 => x.gt(y).and_then(|c| c.select(x, y)).ok().map(|t| ("select", t, 3.0, 0.0)),
            10 if d.len() == 2 => Some(("transpose", x.transpose(0, 1)?, 3.0, 0.0)),
            11 => Some(("flat", x.reshape(&[x.numel()])?, 3.0, 0.0)),
            12 if last > 1 => Some(("narrow", x.narrow(-1, 1, last - 1)?, 3.0, 0.0)),
            13 if last > 1 && d.len() == 2 => Some(("pad", x.pad(&[(0, 0), (1, 2)])?, 3.0, 0.0)),
            14 if !d.is_empty() => Some(("flip", x.flip(-1)?, 3.0, 0.0)),
            15 if d.len() == 2 => Some(("rows", x.sum_keep(&[1])?, 3.0 * last as f64, last as f64)),
            16 if d.len() == 2 => Some(("columns", x.sum(&[0])?, 3.0 * d[0] as f64, d[0] as f64)),
            17 if !d.is_empty() => Some(("peaks", x.max_keep(&[-1])?, 3.0, 0.0)),
            18 => x.matmul(y).ok().map(|t| ("matmul", t, 9.0 * last as f64, last as f64 + 1.0)),
            19 if !d.is_empty() => Some(("softmax", x.softmax(-1)?, 1.0, 16.0 + last as f64)),
            // Two values a little apart may be rounded to neighbors, 2⁻¹⁰ of them apart.
            22 => Some(("halves", x.to_f16()?.f16_to_f32()?, 3.0, 16384.0)),
            20 | 21 if d.first() == Some(&a) => Some(("live", x.live_rows(&count)?, 3.0, 0.0)),
            _ => None,
        };
        let Some((name, t, size, roundings)) = found else { continue };
        if t.numel() > 4096 {
            continue;
        }
        g.text += &format!(" {}={name}({i},{j})", g.nodes.len());
        // Sums leave the range; what follows shall not amplify errors without end.
        let (t, size, roundings) = if size > 3.0 { (t.tanh()?, size, roundings + 8.0) } else { (t, size, roundings) };
        g.nodes.push((t, size, roundings));
    }
    Ok(g)
}

/// The last three nodes, weighed and summed, and the gradients of that by the leaves.
fn ends(g: &Graph, seed: u64) -> Result<(Tensor, Vec<Tensor>)> {
    let mut total: Option<Tensor> = None;
    for (k, (t, ..)) in g.nodes.iter().rev().take(3).enumerate() {
        let c = Input::normal(t.dims()).tensor(t.device(), seed * 8 + 100 + k as u64)?;
        let s = t.mul(&c)?.sum(&[])?;
        total = Some(match total {
            Some(sum) => sum.add(&s)?,
            None => s,
        });
    }
    let total = total.unwrap();
    let grads = grad(&total, g.leaves.clone())?;
    Ok((total, grads))
}

/// Gives the kernel calls with all passes and with none.
fn check(seed: u64) -> Result<[u64; 2]> {
    let (all, none) = (Passes::ALL, Passes::NONE);
    let passes =
        [all, Passes { fusion: false, ..all }, Passes { reuse: false, ..all }, Passes { rows: false, ..all }, none];
    let mut first: Option<Vec<Vec<u32>>> = None;
    let mut calls = [0; 2];
    for p in passes {
        let device = Device::cpu().with_passes(p)?;
        let g = draw_graph(&device, seed)?;
        let (total, grads) = ends(&g, seed)?;
        // A sum that stops early may share its terms among lanes in another way: that is for the oracle to judge.
        let stops = g.text.contains("=live(") && !p.rows;
        if p == all || p == none || stops {
            against_oracle(&g, &total, seed)?;
        }
        let bits = |t: &Tensor| -> Result<Vec<u32>> { Ok(t.to_vec::<f32>()?.iter().map(|x| x.to_bits()).collect()) };
        let mut got = vec![bits(&total)?];
        for t in grads.iter().chain(g.nodes.iter().map(|n| &n.0)) {
            got.push(bits(t)?);
        }
        calls[usize::from(p == none)] = device.stats().dispatches;
        // Each function rounds by itself on the CPU, so that fusing changes no bit; taking factors out of sums does.
        match &first {
            Some(_) if !p.simplify => {}
            None => first = Some(got),
            Some(_) if stops => {}
            Some(first) => {
                for (k, (a, b)) in first.iter().zip(&got).enumerate() {
                    let at = a.iter().zip(b).position(|(x, y)| x != y);
                    if let Some(at) = at {
                        let (a, b) = (f32::from_bits(a[at]), f32::from_bits(b[at]));
                        panic!("seed {seed}: {p:?} changes result {k} from {a:e} to {b:e} at {at} of{}", g.text);
                    }
                }
            }
        }
    }
    Ok(calls)
}

fn against_oracle(g: &Graph, total: &Tensor, seed: u64) -> Result<()> {
    let nodes: Vec<Tensor> = g.nodes.iter().map(|n| n.0.clone()).collect();
    let slopes = grad(total, nodes)?;
    let want = oracle::evaluate(total, &[])?.real()[0];
    let mut bound = 0.0;
    for (slope, (t, size, roundings)) in slopes.iter().zip(&g.nodes) {
        let slope = oracle::evaluate(slope, &[])?.real().iter().map(|s| s.abs()).sum::<f64>();
        // The last sum itself: each term is rounded as often as there are terms.
        bound += roundings * EPS * size * slope + 2.0 * t.numel() as f64 * EPS * slope;
    }
    let got = f64::from(total.to_vec::<f32>()?[0]);
    assert!(
        (got - want).abs() <= 2.0 * bound + 1e-30,
        "seed {seed}: got {got}, oracle {want}, bound {bound:.1e}:{}",
        g.text
    );
    Ok(())
}

#[test]
fn passes_change_no_answer() {
    let seeds = std::env::var("ACCLIMATE_SEED").ok().and_then(|s| s.parse().ok()).map_or(1..=300, |s| s..=s);
    let (mut with, mut without) = (0, 0);
    for seed in seeds {
        let calls = check(seed).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        (with, without) = (with + calls[0], without + calls[1]);
    }
    assert!(3 * with < 2 * without, "the passes were not switched: {with} calls with them, {without} without");
}

/// The sum and the gradients, with nobody who holds what is between, so that the passes may do what they like.
fn answers(device: &Device, seed: u64) -> Result<(String, Vec<Vec<f32>>)> {
    let g = draw_graph(device, seed)?;
    let (total, grads) = ends(&g, seed)?;
    let text = g.text.clone();
    drop(g);
    let tensors: Vec<&Tensor> = [&total].into_iter().chain(&grads).collect();
    Tensor::realize(&tensors)?;
    Ok((text, tensors.iter().map(|t| t.to_vec::<f32>()).collect::<Result<_>>()?))
}

/// The passes that only GPUs have; in fewer graphs, because every group of a graph is a shader to compile.
#[test]
fn software_passes_change_no_answer() -> Result<()> {
    let seeds = std::env::var("ACCLIMATE_SEED").ok().and_then(|s| s.parse().ok()).map_or(301..=324, |s| s..=s);
    let mut dispatches = [0; 2];
    for seed in seeds {
        let (text, want) = answers(&Device::cpu(), seed)?;
        for (passes, dispatches) in [Passes::ALL, Passes::NONE].into_iter().zip(&mut dispatches) {
            let Some(device) = adapter::open(Device::named) else { return Ok(()) };
            let device = device.with_passes(passes)?;
            let (_, got) = answers(&device, seed)?;
            *dispatches += device.stats().dispatches;
            for (k, (want, got)) in want.iter().zip(&got).enumerate() {
                let square = |of: &mut dyn Iterator<Item = f32>| of.map(|x| f64::from(x).powi(2)).sum::<f64>();
                let error = square(&mut want.iter().zip(got).map(|(w, g)| w - g)).sqrt();
                let scale = square(&mut want.iter().copied()).sqrt().max(1.0);
                assert!(error <= 2e-3 * scale, "seed {seed}, {passes:?}: result {k} is off by {error:.1e} of{text}");
            }
        }
    }
    let [with, without] = dispatches;
    assert!(2 * with < without, "the passes were not switched: {with} dispatches with them, {without} without");
    Ok(())
}

#[test]
fn null_passes_are_chosen_before_the_device_is_used() {
    let device = Device::null();
    let held = device.clone();
    assert!(device.with_passes(Passes::NONE).is_err());
    drop(held);
}
