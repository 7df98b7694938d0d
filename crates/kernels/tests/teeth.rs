//! The harness has teeth: one op, right in one form and wrong in a dozen, and each wrong form is rejected by the check
//! that is there for it.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::atomic::{AtomicU32, Ordering};

use acclimate_kernels::testkit::{
    Case, Failure, Input, Reject, Scale, Tolerance, Values, conforms, gradient_is_right, is_refused, vmap_is_the_loop,
};
use acclimate_tensor::op::{BatchCx, Call, GradCx, Kernel, Launches, arity};
use acclimate_tensor::{Caps, DType, Device, Error, Real, Result, Spec, Tensor, record_one};

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Fault {
    Nothing,
    FlippedSign,
    ZeroGradient,
    MissingTerm,
    DetachedGradient,
    WrongAxis,
    SlotsMixed,
    SlotsTold,
    DroppedRow,
    OtherEpsilon,
    NotRepeatable,
    ByThreads,
}

/// y = x / √(Σ x² + ε) along the last axis: [.., n] → [.., n].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Normalize(Fault);

const EPS: f64 = 1e-5;

fn rows<R: Real>(call: &mut Call<'_, R>, eps: f64, keep: impl Fn(usize) -> bool) {
    let (x, n) = (call.real(0), call.dims(0).last().copied().unwrap_or(1));
    for (i, (x, y)) in x.chunks_exact(n).zip(call.out_real(0).chunks_exact_mut(n)).enumerate() {
        let total = x.iter().fold(R::of(eps), |sum, &x| sum + x * x).sqrt();
        y.iter_mut().zip(x).for_each(|(y, &x)| *y = if keep(i) { x / total } else { R::ZERO });
    }
}

impl Kernel for Normalize {
    const NAME: &'static str = "normalize";

    fn shape(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let [x] = arity(Self::NAME, inputs)?;
        x.require_dtype(Self::NAME, DType::F32)?;
        Ok(vec![x.clone()])
    }

    fn reference<R: Real>(&self, call: &mut Call<'_, R>) {
        rows(call, EPS, |_| true);
    }

    fn cpu(&self, call: &mut Call<'_, f32>) {
        static CALLS: AtomicU32 = AtomicU32::new(0);
        let n_rows = call.in_specs[0].as_rows().0;
        match self.0 {
            Fault::DroppedRow => rows(call, EPS, |row| row + 1 < n_rows),
            Fault::OtherEpsilon => rows(call, 1e-4, |_| true),
            _ => rows(call, EPS, |_| true),
        }
        let last_bit = match self.0 {
            Fault::NotRepeatable => CALLS.fetch_add(1, Ordering::Relaxed) % 2,
            Fault::ByThreads => u32::from(rayon::current_num_threads() == 3),
            _ => 0,
        };
        let y = call.out_real(0);
        y[0] = f32::from_bits(y[0].to_bits() ^ last_bit);
    }

    fn launch(&self, _: &[Spec], _: &[Spec], _: &Caps) -> Result<Launches> {
        Err(Error::internal(Self::NAME, "the CPU will do"))
    }

    // dx = dy / s − x ⟨dy, x⟩ / s³ with s² = Σ x² + ε.
    fn grad(&self, cx: &GradCx<'_>) -> Result<Vec<Option<Tensor>>> {
        let (x, dy) = (cx.input(0), cx.upstream()?);
        let held = if self.0 == Fault::DetachedGradient { x.detach()? } else { x.clone() };
        let s = held.square()?.sum_keep(&[-1])?.add_scalar(1e-5)?.sqrt()?;
        let first = dy.div(&s)?;
        let inner = dy.mul(x)?.sum_keep(&[-1])?;
        let second = x.mul(&inner)?.div(&s.mul(&s)?.mul(&s)?)?;
        Ok(vec![Some(match self.0 {
            Fault::FlippedSign => second.sub(&first)?,
            Fault::MissingTerm => first,
            Fault::ZeroGradient => x.zeros_like()?,
            _ => first.sub(&second)?,
        })])
    }

    fn batch(&self, cx: &BatchCx<'_>) -> Result<Vec<Tensor>> {
        let x = cx.leading(0)?;
        let y = match self.0 {
            // The slots end up where the rows should be.
            Fault::WrongAxis => {
                let last = x.rank() as isize - 1;
                record_one(*self, &[&x.transpose(0, last)?])?.transpose(0, last)?
            }
            // Too small to see, until a slot is not finite.
            Fault::SlotsMixed => record_one(*self, &[&x])?.add(&x.sum_keep(&[0])?.mul_scalar(1e-12)?)?,
            // Too small to see, until the slots change places.
            Fault::SlotsTold => {
                let slot = Tensor::iota(x.device(), x.dims(), 0)?.cast(DType::F32)?;
                record_one(*self, &[&x.mul(&slot.mul_scalar(2e-7)?.add_scalar(1.0)?)?])?
            }
            _ => record_one(*self, &[&x])?,
        };
        Ok(vec![y])
    }
}

fn case(fault: Fault) -> Case {
    let build = move |t: &[Tensor]| Ok(vec![record_one(Normalize(fault), &[&t[0]])?]);
    // A sum of 7 squares, a root and a quotient.
    let tolerance = Tolerance { k: 1.0, depth: 12.0, scale: Scale::Output };
    Case::new(format!("{fault:?}"), [Input::uniform(&[5, 7], 0.2, 1.5)], build).tolerance(tolerance)
}

type Outcome = std::result::Result<(), Failure>;

/// The checks in order, and which of them fails first.
fn rejected_by(case: &Case) -> Option<&'static str> {
    let checks: [fn(&Case) -> Outcome; 3] =
        [|c| conforms(c, &Device::cpu()), gradient_is_right, |c| vmap_is_the_loop(c, &Device::cpu())];
    checks.iter().find_map(|check| check(case).err()).map(|failure| failure.check)
}

#[test]
fn the_right_op_passes() {
    assert_eq!(rejected_by(&case(Fault::Nothing)), None);
}

#[test]
fn each_wrong_op_is_rejected() {
    let table = [
        (Fault::DroppedRow, "oracle"),
        (Fault::OtherEpsilon, "oracle"),
        (Fault::NotRepeatable, "same bits"),
        (Fault::ByThreads, "same bits"),
        (Fault::FlippedSign, "gradient"),
        (Fault::ZeroGradient, "gradient"),
        (Fault::MissingTerm, "gradient"),
        (Fault::DetachedGradient, "gradient of the gradient"),
        (Fault::WrongAxis, "vmap"),
        (Fault::SlotsMixed, "vmap"),
        (Fault::SlotsTold, "vmap"),
    ];
    for (fault, check) in table {
        assert_eq!(rejected_by(&case(fault)), Some(check), "{fault:?}");
    }
}

#[test]
fn a_gradient_that_vanishes_everywhere_says_nothing() {
    // Far out the error function is flat: a rule that gives zeros would agree with every difference.
    let build = |t: &[Tensor]| Ok(vec![t[0].erf()?]);
    let flat = Case::new("erf far out", [Input::uniform(&[5], 6.0, 10.0)], build);
    let failure = gradient_is_right(&flat).unwrap_err();
    assert!(failure.what.contains("vanishes"), "{failure}");
}

#[test]
fn an_exact_case_is_exact() {
    // Rounded twice, so that some elements are a unit in the last place away from the oracle.
    let build = |t: &[Tensor]| Ok(vec![t[0].mul_scalar(0.1)?.mul_scalar(10.0)?]);
    let inputs = [Input::new(&[64], Values::Normal)];
    let failure = conforms(&Case::new("almost the identity", inputs, build), &Device::cpu()).unwrap_err();
    assert_eq!(failure.check, "oracle");
}

#[test]
fn null_rejects_are_checked() {
    let fine = Reject::new("accepted", &["x"], |d| Tensor::zeros(d, &[2]));
    assert!(is_refused(&fine, &Device::null()).unwrap_err().what.contains("accepted"));
    let words = Reject::new("other words", &["no such word"], |d| Tensor::zeros(d, &[2])?.reshape(&[3]));
    assert!(is_refused(&words, &Device::null()).unwrap_err().what.contains("no such word"));
}
