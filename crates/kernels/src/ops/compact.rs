//! Where a mask is set.
//!
//! `list[k]` is the k-th i with `mask[i]`, in order; the rest of the list is n. count = how many there are.
//! Shapes: mask `[n]` (bool or u32) → list `[n]` (u32), count `[1]` (u32).

use acclimate_shaders::shaders;
use acclimate_tensor::op::{BatchCx, Bind, Call, GradCx, Launch, Launches, Out, arity};
use acclimate_tensor::{Caps, DType, Error, Kernel, Real, Result, Shape, Spec, Tensor, record};

use crate::ops::sort::sort;

/// Indices where a mask is set, and their count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Compact;

/// List and count of a mask.
#[track_caller]
pub(crate) fn compact(mask: &Tensor) -> Result<(Tensor, Tensor)> {
    let mut outputs = record(Compact, &[mask])?;
    match (outputs.pop(), outputs.pop()) {
        (Some(count), Some(list)) => Ok((list, count)),
        _ => Err(Error::internal(Compact::NAME, "two outputs expected")),
    }
}

impl Kernel for Compact {
    const NAME: &'static str = "compact";

    fn shape(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let [mask] = arity(Self::NAME, inputs)?;
        mask.require_rank(Self::NAME, 1, "[n]")?;
        if !matches!(mask.dtype, DType::Bool | DType::U32) {
            return Err(Error::DType { op: Self::NAME, expected: "bool or u32".into(), found: mask.dtype });
        }
        Ok(vec![mask.with_dtype(DType::U32), Spec::new(Shape::new(&[1])?, DType::U32)])
    }

    fn reference<R: Real>(&self, call: &mut Call<'_, R>) {
        let mask = call.word(0);
        let [Out::Word(list), Out::Word(count)] = call.outs.as_mut_slice() else { return };
        let n = u32::try_from(mask.len()).unwrap_or(u32::MAX);
        list.fill(n);
        let mut kept = 0;
        for (i, _) in (0..n).zip(mask).filter(|(_, m)| **m != 0) {
            list[kept as usize] = i;
            kept += 1;
        }
        count.fill(kept);
    }

    fn launch(&self, inputs: &[Spec], _: &[Spec], _: &Caps) -> Result<Launches> {
        let launch = Launch::new(&shaders::COMPACT, 1).u32(inputs[0].numel());
        Ok(launch.bind(&[Bind::In(0), Bind::Out(0), Bind::Out(1)]).into())
    }

    fn grad(&self, _: &GradCx<'_>) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![None])
    }

    // Rows: a stable sort brings what is set to the front.
    fn batch(&self, cx: &BatchCx<'_>) -> Result<Vec<Tensor>> {
        let set = cx.leading(0)?.cast(DType::Bool)?;
        let n = set.dims()[1];
        let count = set.cast(DType::U32)?.sum_keep(&[-1])?;
        let (_, order) = sort(&set.cast(DType::F32)?, true)?;
        let end = Tensor::full_u32(set.device(), set.dims(), u32::try_from(n).unwrap_or(u32::MAX))?;
        let is_kept = Tensor::iota(set.device(), set.dims(), 1)?.lt(&count)?;
        Ok(vec![is_kept.select(&order, &end)?, count])
    }
}

/// What the harness tries.
#[cfg(feature = "testkit")]
pub fn cases() -> Vec<crate::testkit::Case> {
    use crate::testkit::{Case, Input, Order, Values};
    let build = |x: &[Tensor]| compact(&x[0]).map(|(list, count)| vec![list, count]);
    let mut cases = Vec::new();
    for n in [1, 2, 3, 7, 255, 256, 257, 1025] {
        for p in [0.0, 0.4, 1.0] {
            let mask = Input::new(&[n], Values::Bool(p));
            cases.push(Case::new(format!("{n}, share {p}"), [mask], build).order(Order::None));
        }
    }
    cases.push(Case::new("words", [Input::index(&[33], 3)], build).order(Order::None));
    cases
}

/// What must be refused.
#[cfg(feature = "testkit")]
pub fn rejects() -> Vec<crate::testkit::Reject> {
    use crate::testkit::Reject;
    vec![
        Reject::new("rank", &["compact", "rank 1"], |d| compact(&Tensor::full_u32(d, &[2, 2], 0)?).map(|(y, _)| y)),
        Reject::new("numbers", &["compact", "bool or u32", "f32"], |d| {
            compact(&Tensor::zeros(d, &[2])?).map(|(y, _)| y)
        }),
    ]
}
