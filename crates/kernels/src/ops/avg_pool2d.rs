//! Mean over windows of an image.
//!
//! `y[n,c,i,j] = Σ_{u,v} x[n, c, i·stride + u − pad, j·stride + v − pad] / count[i,j]`
//! Shapes: [n, c, h, w] → [n, c, oh, ow]. Padding is 0; `count` is the number of the window's pixels, with
//! `count_include_pad` those in the padding too. The op is linear, so its gradient is too, and they are each other's.

use acclimate_shaders::shaders::{AVG_POOL2D, AVG_POOL2D_GRAD};
use acclimate_tensor::op::{BatchCx, Bind, Call, GradCx, Kernel, Launch, Launches, Rows, arity};
use acclimate_tensor::{Caps, DType, Error, Real, Result, Spec, Tensor, record_one};
use rayon::prelude::*;

use crate::window::Pool2d;

/// Mean over windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AvgPool2d(pub Pool2d);

fn image(s: &Spec) -> [usize; 2] {
    [s.shape[2], s.shape[3]]
}

fn params(pool: &Pool2d, planes: usize, [h, w]: [usize; 2], [oh, ow]: [usize; 2]) -> [usize; 12] {
    let (k, s, p) = (pool.kernel, pool.stride, pool.padding);
    [planes, h, w, oh, ow, k[0], k[1], s[0], s[1], p[0], p[1], usize::from(pool.count_include_pad)]
}

/// Pixels that window (i, j) divides by.
fn count(pool: &Pool2d, size: [usize; 2], i: usize, j: usize) -> usize {
    let covered = |d: usize, at: usize| {
        let (start, pad) = (at * pool.stride[d], pool.padding[d]);
        let (from, to) = if pool.count_include_pad { (0, size[d] + 2 * pad) } else { (pad, size[d] + pad) };
        (start + pool.kernel[d]).clamp(from, to) - start.clamp(from, to)
    };
    (covered(0, i) * covered(1, j)).max(1)
}

fn undilated(op: &'static str, pool: &Pool2d, size: [usize; 2]) -> Result<[usize; 2]> {
    if pool.dilation != [1; 2] {
        return Err(Error::argument(op, "dilation", "1 both ways", format!("{:?}", pool.dilation)));
    }
    pool.output(op, size)
}

impl Kernel for AvgPool2d {
    const NAME: &'static str = "avg_pool2d";

    fn shape(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let [x] = arity(Self::NAME, inputs)?;
        x.require_dtype(Self::NAME, DType::F32)?.require_rank(Self::NAME, 4, "[n, c, h, w]")?;
        let [oh, ow] = undilated(Self::NAME, &self.0, image(x))?;
        Ok(vec![Spec::f32(&[x.shape[0], x.shape[1], oh, ow])?])
    }

    fn reference<R: Real>(&self, call: &mut Call<'_, R>) {
        let (x, size, out) = (call.real(0), image(&call.in_specs[0]), image(&call.out_specs[0]));
        let planes = x.chunks_exact(size[0] * size[1]);
        for (plane, y) in planes.zip(call.out_real(0).chunks_exact_mut(out[0] * out[1])) {
            mean(&self.0, plane, size, out, y);
        }
    }

    fn cpu(&self, call: &mut Call<'_, f32>) {
        let (x, size, out) = (call.real(0), image(&call.in_specs[0]), image(&call.out_specs[0]));
        let planes = x.par_chunks_exact(size[0] * size[1]).with_min_len((1 << 12) / (out[0] * out[1]) + 1);
        let outs = call.out_real(0).par_chunks_exact_mut(out[0] * out[1]);
        planes.zip(outs).for_each(|(plane, y)| mean(&self.0, plane, size, out, y));
    }

    fn launch(&self, inputs: &[Spec], outputs: &[Spec], _: &Caps) -> Result<Launches> {
        let planes = inputs[0].shape[0] * inputs[0].shape[1];
        Ok(Launch::threads(&AVG_POOL2D, outputs[0].numel())
            .u32s(&params(&self.0, planes, image(&inputs[0]), image(&outputs[0])))
            .bind(&[Bind::In(0), Bind::Out(0)])
            .into())
    }

    fn grad(&self, cx: &GradCx<'_>) -> Result<Vec<Option<Tensor>>> {
        let op = AvgPool2dGrad { pool: self.0, size: image(cx.input(0).spec()) };
        Ok(vec![Some(record_one(op, &[&cx.upstream()?])?)])
    }

    // Planes are independent, so the slots become more images.
    fn batch(&self, cx: &BatchCx<'_>) -> Result<Vec<Tensor>> {
        Ok(vec![cx.split(&record_one(*self, &[&cx.merged(0)?])?)?])
    }

    // Images.
    fn rows(&self, _: &[Spec]) -> Rows {
        Rows::of_first(true)
    }
}

/// Gradient of [`AvgPool2d`]: `dx[n,c,a,b] = Σ dy[n,c,i,j] / count[i,j]` over the windows that cover pixel (a, b).
/// Shapes: [n, c, oh, ow] → [n, c, h, w].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AvgPool2dGrad {
    /// The windows.
    pub pool: Pool2d,
    /// Height and width of the image.
    pub size: [usize; 2],
}

impl Kernel for AvgPool2dGrad {
    const NAME: &'static str = "avg_pool2d_grad";

    fn shape(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let [dy] = arity(Self::NAME, inputs)?;
        dy.require_dtype(Self::NAME, DType::F32)?.require_rank(Self::NAME, 4, "[n, c, oh, ow]")?;
        let [oh, ow] = undilated(Self::NAME, &self.pool, self.size)?;
        if image(dy) != [oh, ow] {
            return Err(Error::shape(Self::NAME, format!("an upstream of [n, c, {oh}, {ow}]"), dy.shape.to_string()));
        }
        Ok(vec![Spec::f32(&[dy.shape[0], dy.shape[1], self.size[0], self.size[1]])?])
    }

    fn reference<R: Real>(&self, call: &mut Call<'_, R>) {
        let (dy, out, size) = (call.real(0), image(&call.in_specs[0]), self.size);
        let planes = dy.chunks_exact(out[0] * out[1]);
        for (dy, dx) in planes.zip(call.out_real(0).chunks_exact_mut(size[0] * size[1])) {
            spread(&self.pool, dy, out, size, dx);
        }
    }

    fn cpu(&self, call: &mut Call<'_, f32>) {
        let (dy, out, size) = (call.real(0), image(&call.in_specs[0]), self.size);
        let planes = dy.par_chunks_exact(out[0] * out[1]).with_min_len((1 << 12) / (out[0] * out[1]) + 1);
        let outs = call.out_real(0).par_chunks_exact_mut(size[0] * size[1]);
        planes.zip(outs).for_each(|(dy, dx)| spread(&self.pool, dy, out, size, dx));
    }

    fn launch(&self, inputs: &[Spec], outputs: &[Spec], _: &Caps) -> Result<Launches> {
        let planes = inputs[0].shape[0] * inputs[0].shape[1];
        Ok(Launch::threads(&AVG_POOL2D_GRAD, outputs[0].numel())
            .u32s(&params(&self.pool, planes, self.size, image(&inputs[0])))
            .bind(&[Bind::In(0), Bind::Out(0)])
            .into())
    }

    fn grad(&self, cx: &GradCx<'_>) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(record_one(AvgPool2d(self.pool), &[&cx.upstream()?])?)])
    }

    fn batch(&self, cx: &BatchCx<'_>) -> Result<Vec<Tensor>> {
        Ok(vec![cx.split(&record_one(*self, &[&cx.merged(0)?])?)?])
    }

    // Images.
    fn rows(&self, _: &[Spec]) -> Rows {
        Rows::of_first(true)
    }
}

fn mean<R: Real>(pool: &Pool2d, plane: &[R], size: [usize; 2], out: [usize; 2], y: &mut [R]) {
    y.fill(R::ZERO);
    pool.runs(size, out, |first, pixel, len| {
        let pixels = plane[pixel..].iter().step_by(pool.stride[1]);
        y[first..first + len].iter_mut().zip(pixels).for_each(|(y, x)| *y += *x);
    });
    if pool.padding == [0; 2] {
        let all = R::count(pool.kernel[0] * pool.kernel[1]);
        return y.iter_mut().for_each(|y| *y /= all);
    }
    for (o, y) in y.iter_mut().enumerate() {
        *y /= R::count(count(pool, size, o / out[1], o % out[1]));
    }
}

fn spread<R: Real>(pool: &Pool2d, dy: &[R], out: [usize; 2], size: [usize; 2], dx: &mut [R]) {
    dx.fill(R::ZERO);
    pool.runs(size, out, |first, pixel, len| {
        let pixels = dx[pixel..].iter_mut().step_by(pool.stride[1]);
        for (o, dx) in (first..first + len).zip(pixels) {
            *dx += dy[o] / R::count(count(pool, size, o / out[1], o % out[1]));
        }
    });
}

/// The mean of each window.
#[track_caller]
pub fn avg_pool2d(x: &Tensor, pool: &Pool2d) -> Result<Tensor> {
    record_one(AvgPool2d(*pool), &[x])
}

/// The mean of each plane: [n, c, h, w] → [n, c].
#[track_caller]
pub fn global_avg_pool2d(x: &Tensor) -> Result<Tensor> {
    const NAME: &str = "global_avg_pool2d";
    x.spec().require_dtype(NAME, DType::F32)?.require_rank(NAME, 4, "[n, c, h, w]")?;
    let pixels = x.dims()[2] * x.dims()[3];
    if pixels == 0 {
        return Err(Error::shape(NAME, "at least one pixel", format!("shape {}", x.shape())));
    }
    x.sum(&[2, 3])?.mul_scalar(1.0 / pixels as f32)
}

/// What the harness tries.
#[cfg(feature = "testkit")]
pub fn cases() -> Vec<crate::testkit::Case> {
    use crate::testkit::{Case, Input, Order, Tolerance};
    let rows = [
        ("one pixel", [1, 1, 1, 1], Pool2d::new(1)),
        ("2x2", [2, 3, 6, 4], Pool2d::new(2)),
        ("2x2, a pixel left over", [3, 2, 7, 5], Pool2d::new(2)),
        ("3x3, padding counted", [2, 2, 7, 5], Pool2d::new(3).strided(2).padded(1)),
        (
            "3x3, padding not counted",
            [2, 2, 7, 5],
            Pool2d { count_include_pad: false, ..Pool2d::new(3).strided(2).padded(1) },
        ),
        ("2x5, overlapping", [1, 3, 7, 11], Pool2d { kernel: [2, 5], stride: [1, 2], ..Pool2d::new(1) }),
    ];
    let mut cases = Vec::new();
    for (name, x, pool) in rows {
        let build = move |t: &[Tensor]| Ok(vec![avg_pool2d(&t[0], &pool)?]);
        // A sum of a window, and a quotient: at most 2.5 ulp on a GPU.
        let tolerance = Tolerance::sum(pool.kernel[0] * pool.kernel[1] + 5);
        cases.push(Case::new(name, [Input::normal(&x)], build).tolerance(tolerance));
    }
    let build = |t: &[Tensor]| Ok(vec![avg_pool2d(&t[0], &Pool2d::new(2))?]);
    cases.push(Case::new("no images", [Input::normal(&[0, 2, 4, 4])], build).order(Order::None));
    let build = |t: &[Tensor]| Ok(vec![global_avg_pool2d(&t[0])?]);
    cases.push(Case::new("whole planes", [Input::normal(&[3, 2, 7, 5])], build).tolerance(Tolerance::sum(7 * 5 + 2)));
    cases
}

/// What must be refused.
#[cfg(feature = "testkit")]
pub fn rejects() -> Vec<crate::testkit::Reject> {
    use crate::testkit::Reject;
    vec![
        Reject::new("dilation", &["avg_pool2d", "dilation"], |d| {
            avg_pool2d(&Tensor::zeros(d, &[1, 1, 4, 4])?, &Pool2d { dilation: [2, 1], ..Pool2d::new(2) })
        }),
        Reject::new("rank", &["avg_pool2d", "rank 4"], |d| avg_pool2d(&Tensor::zeros(d, &[4])?, &Pool2d::new(2))),
        Reject::new("no pixels", &["global_avg_pool2d", "pixel"], |d| {
            global_avg_pool2d(&Tensor::zeros(d, &[2, 3, 0, 4])?)
        }),
    ]
}
