//! `vmap` against a loop over the inputs.

use acclimate_tensor::{DType, Device, Result, Tensor, vmap};

use super::case::{Case, Order};
use super::failure::{During, Failure};
use super::gradcheck::gradient_of;
use super::verdict::{Got, Want, absolute, compare, expect, same_bits};

const CHECK: &str = "vmap";

type Function<'a> = &'a dyn Fn(&[Tensor]) -> Result<Vec<Tensor>>;

/// Fails unless `vmap` of the case, and of its gradient, gives what a loop gives, for every choice of mapped inputs;
/// unless one slot full of NaN leaves the others' bits as they are; and unless an input answers with the same bits in
/// any slot.
pub fn vmap_is_the_loop(case: &Case, device: &Device) -> std::result::Result<(), Failure> {
    if !case.batched {
        return Ok(());
    }
    let tolerance = case.tolerance_on(device.kind());
    let value = |x: &[Tensor]| (case.build)(x);
    for mapped in choices(case.inputs.len()) {
        one(case, device, &mapped, tolerance, &value)?;
    }
    if case.order >= Order::Rounded {
        let outputs = (case.build)(&case.tensors(device, 1).during(&case.name, CHECK)?).during(&case.name, CHECK)?;
        let terms: usize = outputs.iter().map(Tensor::numel).sum();
        let inputs: usize = case.inputs.iter().filter(|i| i.is_real()).map(|i| i.numel()).min().unwrap_or(1);
        let tolerance = case.tolerance_of_gradient(device.kind(), terms, inputs);
        let gradient = |x: &[Tensor]| {
            let real: Vec<Tensor> = x.iter().filter(|t| t.dtype() == DType::F32).cloned().collect();
            gradient_of(&(case.build)(x)?, &real, 1, tolerance.is_of_magnitudes())
        };
        for mapped in choices(case.inputs.len()) {
            one(case, device, &mapped, tolerance, &gradient)?;
        }
    }
    Ok(())
}

/// Every choice of up to three inputs; of more, each one and all.
fn choices(n: usize) -> Vec<Vec<usize>> {
    if n <= 3 {
        (1usize..1 << n).map(|bits| (0..n).filter(|i| bits >> i & 1 == 1).collect()).collect()
    } else {
        (0..n).map(|i| vec![i]).chain([(0..n).collect()]).collect()
    }
}

/// A prime that is no size of the case, so that a swapped axis shows.
fn slots(case: &Case) -> u64 {
    let taken = |n: u64| case.inputs.iter().any(|i| i.dims.iter().any(|&d| d as u64 == n));
    [3, 5, 2, 7, 11, 13].into_iter().find(|&n| !taken(n)).unwrap_or(3)
}

/// The inputs with these seeds along a leading axis; the one of `poisoned` holds nothing but NaN.
fn stacked(case: &Case, device: &Device, i: usize, seeds: &[u64], poisoned: Option<u64>) -> Result<Tensor> {
    let input = &case.inputs[i];
    let mut dims = vec![seeds.len()];
    dims.extend_from_slice(&input.dims);
    let seed = |s: u64| s * 64 + i as u64;
    if input.is_real() {
        let mut data = Vec::new();
        for &s in seeds {
            match poisoned {
                Some(p) if p == s => data.extend(std::iter::repeat_n(f32::NAN, input.numel())),
                _ => data.extend(input.reals(seed(s))),
            }
        }
        return Tensor::from_slice(device, &data, &dims);
    }
    let words: Vec<u32> = seeds.iter().flat_map(|&s| input.words(seed(s))).collect();
    if input.dtype() == DType::Bool {
        return Tensor::from_bools(device, &words.iter().map(|&w| w != 0).collect::<Vec<_>>(), &dims);
    }
    Tensor::from_slice(device, &words, &dims)
}

/// `f` of the mapped inputs with these seeds; the others have seed 1.
fn run(
    case: &Case,
    device: &Device,
    mapped: &[usize],
    seeds: &[u64],
    poisoned: Option<u64>,
    f: Function<'_>,
) -> Result<Vec<Got>> {
    let shared = case.tensors(device, 1)?;
    let args = mapped.iter().map(|&i| stacked(case, device, i, seeds, poisoned)).collect::<Result<Vec<_>>>()?;
    let outputs = vmap(
        |slot: Vec<Tensor>| {
            let mut inputs = shared.clone();
            mapped.iter().zip(slot).for_each(|(&i, t)| inputs[i] = t);
            f(&inputs)
        },
        args,
    )?;
    outputs.iter().map(Got::read).collect()
}

fn one(
    case: &Case,
    device: &Device,
    mapped: &[usize],
    tolerance: super::Tolerance,
    f: Function<'_>,
) -> std::result::Result<(), Failure> {
    let n = &case.name;
    let seeds: Vec<u64> = (1..=slots(case)).collect();
    let got = run(case, device, mapped, &seeds, None, f).during(n, CHECK)?;
    let of = |j: usize, slot: usize| format!("inputs {mapped:?} mapped, output {j}, slot {slot}");
    for (slot, &seed) in seeds.iter().enumerate() {
        let inputs = || -> Result<Vec<Tensor>> {
            let mut inputs = case.tensors(device, 1)?;
            let own = case.tensors(device, seed)?;
            mapped.iter().for_each(|&i| inputs[i] = own[i].clone());
            Ok(inputs)
        };
        let inputs = inputs().during(n, CHECK)?;
        let outputs = f(&inputs).during(n, CHECK)?;
        let wants = expect(&outputs, tolerance, || f(&absolute(&inputs)?)).during(n, CHECK)?;
        for (j, (got, want)) in got.iter().zip(&wants).enumerate() {
            compare(&part(got, want, slot, seeds.len()), want, &of(j, slot)).during(n, CHECK)?;
        }
    }
    // An input answers the same in any slot.
    let rotated: Vec<u64> = seeds.iter().cycle().skip(1).take(seeds.len()).copied().collect();
    let turned = run(case, device, mapped, &rotated, None, f).during(n, CHECK)?;
    // And whatever another slot holds.
    let hurt = if mapped.iter().any(|&i| case.inputs[i].is_real()) {
        run(case, device, mapped, &seeds, Some(1), f).during(n, CHECK)?
    } else {
        got.clone()
    };
    for (j, got) in got.iter().enumerate() {
        let bits = got.bits();
        let size = bits.len() / seeds.len();
        let mut want = bits.clone();
        want.rotate_left(size);
        same_bits(&turned[j].bits(), &want, &format!("slots rotated, {}", of(j, 0))).during(n, CHECK)?;
        same_bits(&hurt[j].bits()[size..], &bits[size..], &format!("NaN in slot 0, {}", of(j, 1))).during(n, CHECK)?;
    }
    Ok(())
}

/// The share of one slot. An oracle of another size is left for the comparison to report.
fn part(got: &Got, want: &Want, slot: usize, n: usize) -> Got {
    let size = match want {
        Want::Real(w) => w.len(),
        Want::Word(w) => w.len(),
    };
    let range = slot * size..(slot + 1) * size;
    match got {
        Got::Real(x) if x.len() == n * size => Got::Real(x[range].to_vec()),
        Got::Word(x) if x.len() == n * size => Got::Word(x[range].to_vec()),
        other => other.clone(),
    }
}
