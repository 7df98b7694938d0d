//! What a step of many small launches costs beside the launches: processor time of the submitting thread, and
//! allocations. A step of 300 launches is compared with one of 600, so that what a call costs once does not count.

use std::alloc::System;
use std::time::Instant;

use acclimate_kernels::{Conv2d, TensorOps};
use acclimate_tensor::{Compiled, Device, EngineKind, Tensor, compile};
use anyhow::{Result, ensure};
use cpu_time::ThreadTime;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Launches of one link of the chain: a convolution, a fused map, a reduction, a softmax, a copy into another order and
/// a map of it.
const LINK: usize = 6;

/// One link: every kind of step that our own code runs. (Products are the crate `gemm`'s, which allocates its own memory.)
fn link(x: &Tensor, w: &Tensor) -> acclimate_tensor::Result<Tensor> {
    let y = x.conv2d(w, &Conv2d::same(3))?.mul_scalar(0.5)?;
    let y = y.sub(&y.sum_keep(&[2, 3])?.mul_scalar(1.0 / 64.0)?)?;
    let rows = y.reshape(&[8, 64])?.softmax(1)?;
    rows.transpose(0, 1)?.softmax(1)?.transpose(0, 1)?.reshape(&[1, 8, 8, 8])?.add(x)
}

fn chain(n: usize) -> Compiled<(Tensor, Tensor), Tensor> {
    compile(move |(x, w): (Tensor, Tensor)| (0..n).try_fold(x, |x, _| link(&x, &w)))
}

/// What a call of a chain of `n` links costs.
struct Cost {
    launches: u64,
    /// Milliseconds of the submitting thread, from the call to its return; the median.
    thread_ms: f64,
    /// By the clock until the result is there.
    wall_ms: f64,
    allocations: f64,
}

fn measure(device: &Device, n: usize) -> Result<Cost> {
    const CALLS: usize = 60;
    let x = Tensor::from_slice(device, &[0.1f32; 512], &[1, 8, 8, 8])?;
    let w = Tensor::from_slice(device, &[0.01f32; 576], &[8, 8, 3, 3])?;
    let step = chain(n);
    for _ in 0..10 {
        step.call((x.clone(), w.clone()))?.to_vec::<f32>()?;
    }
    let launched = device.stats().dispatches;
    let (mut thread, mut wall, mut results) = (Vec::new(), Vec::new(), Vec::with_capacity(CALLS));
    let mut allocations = 0;
    for _ in 0..CALLS {
        let region = Region::new(ALLOCATOR);
        let (start, cpu) = (Instant::now(), ThreadTime::try_now()?);
        let y = step.call((x.clone(), w.clone()))?;
        thread.push(cpu.try_elapsed()?.as_secs_f64() * 1e3);
        allocations += region.change().allocations;
        results.clear();
        results.push(y.to_vec::<f32>()?[0]);
        wall.push(start.elapsed().as_secs_f64() * 1e3);
    }
    thread.sort_by(f64::total_cmp);
    wall.sort_by(f64::total_cmp);
    let launches = (device.stats().dispatches - launched) / CALLS as u64;
    let (thread_ms, wall_ms) = (thread[CALLS / 2], wall[CALLS / 2]);
    Ok(Cost { launches, thread_ms, wall_ms, allocations: allocations as f64 / CALLS as f64 })
}

fn main() -> Result<()> {
    let names = std::env::args().skip(1).collect::<Vec<_>>();
    let names = if names.is_empty() { vec!["null".to_owned(), "cpu".to_owned()] } else { names };
    let links = 300 / LINK;
    println!(
        "{:10} {:>8} {:>11} {:>8} {:>12} {:>14}",
        "engine", "launches", "thread ms", "wall ms", "allocations", "per launch"
    );
    for name in names {
        let device = Device::named(&name)?;
        let (one, two) = (measure(&device, links)?, measure(&device, 2 * links)?);
        let per_launch = (two.allocations - one.allocations) / (two.launches - one.launches) as f64;
        let (launches, thread, wall, n) = (one.launches, one.thread_ms, one.wall_ms, one.allocations);
        println!("{name:10} {launches:8} {thread:11.3} {wall:8.3} {n:12.1} {per_launch:14.3}");
        // A worker thread's queue takes a block of memory for every few dozen jobs, which is not ours to avoid.
        ensure!(device.kind() == EngineKind::Gpu || per_launch < 0.05, "{name}: launches allocate");
    }
    Ok(())
}
