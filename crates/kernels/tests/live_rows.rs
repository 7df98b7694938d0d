//! Rows that a count leaves out are neither computed nor read.

#![allow(clippy::unwrap_used)]

mod live;

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use acclimate_tensor::op::{BatchCx, Call, Kernel, Launches, Rows};
use acclimate_tensor::{Caps, Device, Passes, Real, Result, Spec, Tensor, compile, record_one, vmap};

#[test]
fn kept_rows_answer_as_a_batch_of_their_own() {
    live::check(&Device::cpu()).unwrap();
    let without = Passes { rows: true, ..Passes::NONE };
    live::check(&Device::cpu().with_passes(without).unwrap()).unwrap();
}

#[test]
fn null_plans_with_live_rows_are_sound() {
    let device = Device::null();
    let p = live::params(&device).unwrap();
    let x = Tensor::zeros(&device, &[live::N, 2, 6, 6]).unwrap();
    let words = Tensor::full_u32(&device, &[live::N], 1).unwrap();
    for t in live::masked(&p, &x, &words, &words).unwrap() {
        t.to_vec::<f32>().unwrap();
    }
}

/// Doubles, and notes how many elements it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Noted;

static ELEMENTS: AtomicUsize = AtomicUsize::new(0);

impl Kernel for Noted {
    const NAME: &'static str = "noted";
    fn shape(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        Ok(inputs.to_vec())
    }
    fn reference<R: Real>(&self, call: &mut Call<'_, R>) {
        let x = call.real(0);
        ELEMENTS.fetch_add(x.len(), Relaxed);
        call.out_real(0).iter_mut().zip(x).for_each(|(y, &x)| *y = x + x);
    }
    fn launch(&self, _: &[Spec], _: &[Spec], _: &Caps) -> Result<Launches> {
        Ok(Launches::default())
    }
    fn batch(&self, cx: &BatchCx<'_>) -> Result<Vec<Tensor>> {
        Ok(vec![record_one(*self, &[&cx.leading(0)?])?])
    }
    fn rows(&self, _: &[Spec]) -> Rows {
        Rows::of_first(true)
    }
}

#[test]
fn work_that_nobody_reads_is_not_done() {
    let device = Device::cpu();
    let step = compile(|(x, count): (Tensor, Tensor)| {
        // Through views, a fused map and a sum over columns.
        let y = record_one(Noted, &[&x.add_scalar(1.0)?])?.transpose(1, 2)?.sum(&[1])?;
        y.square()?.live_rows(&count)?.sum(&[0])
    });
    let x = Tensor::zeros(&device, &[10, 3, 5]).unwrap();
    for rows in [10u32, 4, 0, 400] {
        let count = Tensor::from_slice(&device, &[rows], &[1]).unwrap();
        ELEMENTS.store(0, Relaxed);
        let y = step.call((x.clone(), count)).unwrap().to_vec::<f32>().unwrap();
        let live = rows.min(10) as usize;
        assert_eq!(ELEMENTS.load(Relaxed), live * 15, "{rows} rows");
        assert_eq!(y, [live as f32 * 100.0; 3]);
    }
    // Planned once: the count is a value.
    assert_eq!(device.stats().plans_built, 2, "the step, and the zeros");
    // Where somebody else reads all rows, all are computed.
    let count = Tensor::from_slice(&device, &[2u32], &[1]).unwrap();
    ELEMENTS.store(0, Relaxed);
    let y = record_one(Noted, &[&x]).unwrap();
    let both = y.live_rows(&count).unwrap().sum(&[]).unwrap().add(&y.max(&[]).unwrap()).unwrap();
    assert_eq!(both.item().unwrap(), 0.0);
    assert_eq!(ELEMENTS.load(Relaxed), 150);
}

#[test]
fn each_input_of_a_batch_has_a_count_of_its_own() {
    let device = Device::cpu();
    let x = Tensor::from_slice(&device, &[1f32, 2.0, 3.0, 4.0, 5.0, 6.0], &[2, 3]).unwrap();
    let counts = Tensor::from_slice(&device, &[1u32, 2], &[2, 1]).unwrap();
    let y = vmap(|(x, n): (Tensor, Tensor)| x.live_rows(&n)?.sum(&[]), (x, counts)).unwrap();
    assert_eq!(y.to_vec::<f32>().unwrap(), [1.0, 9.0]);
}

#[test]
fn a_count_must_be_one_word() {
    let device = Device::cpu();
    let x = Tensor::zeros(&device, &[3, 2]).unwrap();
    let text = |count: &Tensor| x.live_rows(count).unwrap_err().to_string();
    assert!(text(&Tensor::zeros(&device, &[1]).unwrap()).contains("u32"));
    assert!(text(&Tensor::full_u32(&device, &[2], 1).unwrap()).contains("one element"));
}
