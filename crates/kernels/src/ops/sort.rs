//! Stable sort of rows.
//!
//! values[.., r] = x[.., index[.., r]], ascending or descending along the last axis. Equal elements keep their order,
//! −0 and 0 are equal, and a NaN is larger than all numbers.
//! Shapes: [.., n] → values [.., n] and index [.., n] (u32).

use acclimate_shaders::shaders;
use acclimate_tensor::op::{BatchCx, Bind, Call, GradCx, Launch, Launches, Out, arity};
use acclimate_tensor::{Caps, DType, Error, Kernel, Real, Result, Spec, Tensor, record, record_one};
use rayon::prelude::*;

use crate::ops::scatter_add::ScatterAdd;

/// Stable sort of the last axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sort {
    /// Largest first.
    pub descending: bool,
}

/// Values and indices of the last axis in order.
#[track_caller]
pub(crate) fn sort(x: &Tensor, descending: bool) -> Result<(Tensor, Tensor)> {
    let mut outputs = record(Sort { descending }, &[x])?;
    match (outputs.pop(), outputs.pop()) {
        (Some(index), Some(values)) => Ok((values, index)),
        _ => Err(Error::internal(Sort::NAME, "two outputs expected")),
    }
}

/// A word that orders as its number does.
fn key(x: f32, descending: bool) -> u32 {
    let bits = x.to_bits();
    let key = match bits {
        _ if x.is_nan() => u32::MAX,
        _ if x == 0.0 => 1 << 31,
        _ if bits >> 31 == 1 => !bits,
        _ => bits | 1 << 31,
    };
    if descending { !key } else { key }
}

impl Kernel for Sort {
    const NAME: &'static str = "sort";

    fn shape(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let [x] = arity(Self::NAME, inputs)?;
        x.require_dtype(Self::NAME, DType::F32)?;
        if x.shape.rank() == 0 {
            return Err(Error::shape(Self::NAME, "an axis to sort along", "a scalar"));
        }
        Ok(vec![x.clone(), x.with_dtype(DType::U32)])
    }

    fn reference<R: Real>(&self, call: &mut Call<'_, R>) {
        let (x, n) = (call.real(0), call.in_specs[0].as_rows().1.max(1));
        let [Out::Real(values), Out::Word(index)] = call.outs.as_mut_slice() else { return };
        let rows = x.chunks_exact(n).zip(values.chunks_exact_mut(n)).zip(index.chunks_exact_mut(n));
        for ((x, values), index) in rows {
            let mut order: Vec<u32> = (0u32..).take(n).collect();
            order.sort_by(|&a, &b| {
                let (a, b) = (x[a as usize], x[b as usize]);
                let ascending = a.partial_cmp(&b).unwrap_or(a.is_nan().cmp(&b.is_nan()));
                if self.descending { ascending.reverse() } else { ascending }
            });
            values.iter_mut().zip(&order).for_each(|(v, &i)| *v = x[i as usize]);
            index.copy_from_slice(&order);
        }
    }

    // Key and index in one word: then an unstable sort is stable, and has one result.
    fn cpu(&self, call: &mut Call<'_, f32>) {
        let (x, n) = (call.real(0), call.in_specs[0].as_rows().1.max(1));
        let [Out::Real(values), Out::Word(index)] = call.outs.as_mut_slice() else { return };
        let row = |((x, values), index): ((&[f32], &mut [f32]), &mut [u32])| {
            let mut order: Vec<u64> =
                x.iter().zip(0u64..).map(|(&x, i)| u64::from(key(x, self.descending)) << 32 | i).collect();
            order.sort_unstable();
            for ((value, index), word) in values.iter_mut().zip(index).zip(order) {
                *index = word as u32;
                *value = x[*index as usize];
            }
        };
        if values.len() <= 4096 {
            x.chunks_exact(n).zip(values.chunks_exact_mut(n)).zip(index.chunks_exact_mut(n)).for_each(row);
        } else {
            x.par_chunks_exact(n).zip(values.par_chunks_exact_mut(n)).zip(index.par_chunks_exact_mut(n)).for_each(row);
        }
    }

    fn launch(&self, inputs: &[Spec], _: &[Spec], _: &Caps) -> Result<Launches> {
        let (n_rows, n) = inputs[0].as_rows();
        let launch = Launch::new(&shaders::SORT_ROWS, n_rows * n.div_ceil(256));
        let launch = launch.u32s(&[n_rows, n, usize::from(self.descending)]);
        Ok(launch.bind(&[Bind::In(0), Bind::Out(0), Bind::Out(1)]).into())
    }

    // Each gradient goes back to where its value came from.
    fn grad(&self, cx: &GradCx<'_>) -> Result<Vec<Option<Tensor>>> {
        let x = cx.input(0);
        let (axis, n) = (x.rank() - 1, x.dims()[x.rank() - 1]);
        Ok(vec![Some(record_one(ScatterAdd { axis, n }, &[&cx.upstream()?, &cx.outputs[1]])?)])
    }

    fn batch(&self, cx: &BatchCx<'_>) -> Result<Vec<Tensor>> {
        record(*self, &[&cx.leading(0)?])
    }
}

/// What the harness tries.
#[cfg(feature = "testkit")]
pub fn cases() -> Vec<crate::testkit::Case> {
    use crate::testkit::{Case, Input, Order, Values};
    let mut cases = Vec::new();
    for descending in [false, true] {
        let name = |what: &str| format!("{what}{}", if descending { ", descending" } else { "" });
        let build = move |x: &[Tensor]| sort(&x[0], descending).map(|(values, index)| vec![values, index]);
        for dims in [&[1][..], &[2], &[3, 7], &[2, 3, 5], &[2, 257], &[1, 1025]] {
            cases.push(Case::new(name(&format!("{dims:?}")), [Input::distinct(dims)], build));
        }
        let ties = Input::new(&[2, 300], Values::List(vec![1.0, 0.0, 2.0, -0.0, 1.0, -3.0, 0.0]));
        cases.push(Case::new(name("ties and zeros of both signs"), [ties], build).order(Order::None));
        let odd = vec![1.0, f32::NAN, f32::INFINITY, -2.0, f32::NEG_INFINITY, -f32::NAN, 5.0];
        let odd = Case::new(name("NaN and infinities"), [Input::new(&[3, 7], Values::List(odd))], build);
        cases.push(odd.order(Order::None));
    }
    cases
}

/// What must be refused.
#[cfg(feature = "testkit")]
pub fn rejects() -> Vec<crate::testkit::Reject> {
    use crate::testkit::Reject;
    vec![
        Reject::new("a scalar", &["sort", "axis"], |d| sort(&Tensor::zeros(d, &[])?, false).map(|(y, _)| y)),
        Reject::new("words", &["sort", "f32", "u32"], |d| sort(&Tensor::full_u32(d, &[2], 0)?, false).map(|(y, _)| y)),
    ]
}
