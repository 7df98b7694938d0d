//! Rows that a count leaves out, on the wgpu engine: the same answers, by indirect dispatches of fewer workgroups.

#![allow(clippy::unwrap_used)]

#[path = "../../tensor/tests/adapter/mod.rs"]
mod adapter;
mod live;

use std::time::{Duration, Instant};

use acclimate_kernels::TensorOps;
use acclimate_kernels::testkit::Input;
use acclimate_tensor::{Device, Tensor, compile};

#[test]
fn kept_rows_answer_as_a_batch_of_their_own() {
    let Some(device) = adapter::open(Device::named) else { return };
    live::check(&device).unwrap();
}

#[test]
fn rows_left_out_take_no_time_and_no_second_plan() {
    let Some(device) = adapter::open(Device::named) else { return };
    let w = Input::normal(&[256, 256]).tensor(&device, 1).unwrap();
    let x = Input::normal(&[512, 256]).tensor(&device, 2).unwrap();
    let step = compile(move |(x, count): (Tensor, Tensor)| {
        let mut y = x;
        for _ in 0..4 {
            y = y.matmul(&w)?.tanh()?;
        }
        y.live_rows(&count)?.sum(&[])
    });
    let mut best = [Duration::MAX; 2];
    let mut before = None;
    for round in 0..4 {
        for (k, rows) in [512u32, 64].into_iter().enumerate() {
            let count = Tensor::from_slice(&device, &[rows], &[1]).unwrap();
            let start = Instant::now();
            step.call((x.clone(), count)).unwrap().item().unwrap();
            if round > 0 {
                best[k] = best[k].min(start.elapsed());
            }
        }
        let s = device.stats();
        let now = (s.plans_built, s.pipelines_compiled, s.buffers_allocated);
        if round > 1 {
            assert_eq!(before, Some(now), "nothing is planned, compiled or allocated for another count");
        }
        before = Some(now);
    }
    // An eighth of the rows: an eighth of the work, and the same overhead.
    assert!(2 * best[1] < best[0], "512 rows {:?}, 64 rows {:?}", best[0], best[1]);
}
