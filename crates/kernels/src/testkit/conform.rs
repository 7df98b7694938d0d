//! A device against the oracle; the same bits each time; what must be refused.

use std::sync::OnceLock;

use acclimate_tensor::{DType, Device, EngineKind, Result, Tensor};

use super::case::{Case, Order, Reject};
use super::failure::{During, Failure};
use super::gradcheck::gradient_of;
use super::verdict::{Got, absolute, compare, expect, same_bits};

const SEED: u64 = 1;

/// Fails unless the device's answer, and its gradient if there is one, are the oracle's within the case's tolerance, and
/// have the same bits when computed again.
pub fn conforms(case: &Case, device: &Device) -> std::result::Result<(), Failure> {
    let (n, tolerance) = (&case.name, case.tolerance_on(device.kind()));
    let value = |inputs: &[Tensor]| (case.build)(inputs);
    one(case, device, tolerance, "oracle", &value)?;
    if case.order >= Order::Rounded {
        let outputs = (case.build)(&case.tensors(device, SEED).during(n, "gradient")?).during(n, "gradient")?;
        let terms: usize = outputs.iter().map(Tensor::numel).sum();
        let inputs: usize = case.inputs.iter().filter(|i| i.is_real()).map(|i| i.numel()).min().unwrap_or(1);
        let tolerance = case.tolerance_of_gradient(device.kind(), terms, inputs);
        let gradient = |inputs: &[Tensor]| {
            let real: Vec<Tensor> = inputs.iter().filter(|t| t.dtype() == DType::F32).cloned().collect();
            gradient_of(&(case.build)(inputs)?, &real, SEED, tolerance.is_of_magnitudes())
        };
        one(case, device, tolerance, "gradient against the oracle", &gradient)?;
    }
    Ok(())
}

/// Fails unless the first output, limited to none and to half of its rows, is what the oracle makes of it; inputs with as
/// many rows are limited too, so that sums over rows stop early. See [`acclimate_tensor::op::Rows`].
pub fn rows_are_left_out(case: &Case, device: &Device) -> std::result::Result<(), Failure> {
    let outputs = (case.build)(&case.tensors(device, SEED).during(&case.name, "rows")?).during(&case.name, "rows")?;
    let Some(first) = outputs.first().filter(|y| y.dtype() == DType::F32 && y.numel() <= 1 << 14) else {
        return Ok(());
    };
    let inputs = case.inputs.iter().filter_map(|i| i.dims.first());
    let sizes: std::collections::BTreeSet<usize> = inputs.chain(first.dims().first()).copied().collect();
    for n in sizes.into_iter().filter(|&n| n > 1) {
        for rows in [0, n / 2] {
            let f = |inputs: &[Tensor]| {
                let Some(device) = inputs.first().map(Tensor::device) else { return Ok(Vec::new()) };
                let count = Tensor::from_slice(device, &[u32::try_from(rows).unwrap_or(0)], &[1])?;
                let limited = |t: &Tensor| match t.dims().first() {
                    Some(&size) if size == n && t.dtype() == DType::F32 => t.live_rows(&count),
                    _ => Ok(t.clone()),
                };
                let inputs = inputs.iter().map(limited).collect::<Result<Vec<_>>>()?;
                Ok(vec![limited(&(case.build)(&inputs)?.swap_remove(0))?])
            };
            one(case, device, case.tolerance_on(device.kind()), "live rows against the oracle", &f)?;
        }
    }
    Ok(())
}

type Function<'a> = &'a (dyn Fn(&[Tensor]) -> Result<Vec<Tensor>> + Sync);

fn one(
    case: &Case,
    device: &Device,
    tolerance: super::Tolerance,
    check: &'static str,
    f: Function<'_>,
) -> std::result::Result<(), Failure> {
    let n = &case.name;
    let inputs = case.tensors(device, SEED).during(n, check)?;
    let outputs = f(&inputs).during(n, check)?;
    // Before anything is read: a tensor that has a value forgets its history.
    let wants = expect(&outputs, tolerance, || f(&absolute(&inputs)?)).during(n, check)?;
    let mut bits = Vec::new();
    for (j, (y, want)) in outputs.iter().zip(&wants).enumerate() {
        let got = Got::read(y).during(n, check)?;
        compare(&got, want, &format!("output {j}")).during(n, check)?;
        bits.push(got.bits());
    }
    let again = || -> Result<Vec<Vec<u32>>> {
        f(&case.tensors(device, SEED)?)?.iter().map(|y| Ok(Got::read(y)?.bits())).collect()
    };
    let mut runs = vec![("again", again().during(n, "same bits")?)];
    if device.kind() == EngineKind::Cpu {
        for (name, pool) in pools() {
            runs.push((*name, pool.install(again).during(n, "same bits")?));
        }
    }
    for (name, run) in &runs {
        for (j, (a, b)) in bits.iter().zip(run).enumerate() {
            same_bits(a, b, &format!("{name}, output {j}")).during(n, "same bits")?;
        }
    }
    Ok(())
}

/// Pools of other sizes than the usual one.
fn pools() -> &'static [(&'static str, rayon::ThreadPool)] {
    static POOLS: OnceLock<Vec<(&'static str, rayon::ThreadPool)>> = OnceLock::new();
    POOLS.get_or_init(|| {
        let pool = |n| rayon::ThreadPoolBuilder::new().num_threads(n).build().ok();
        [("on one thread", pool(1)), ("on three threads", pool(3))]
            .into_iter()
            .filter_map(|(name, pool)| Some((name, pool?)))
            .collect()
    })
}

/// Fails unless the call is refused in the words that the row names.
pub fn is_refused(row: &Reject, device: &Device) -> std::result::Result<(), Failure> {
    let check = "rejects";
    match (row.build)(device) {
        Ok(t) => Err(format!("accepted, giving {t:?}")).during(row.name, check),
        Err(error) => {
            let message = error.to_string();
            match row.says.iter().find(|word| !message.contains(**word)) {
                Some(word) => Err(format!("the message does not say {word:?}: {message}")).during(row.name, check),
                None => Ok(()),
            }
        }
    }
}
