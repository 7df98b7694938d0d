//! Maximum over windows of an image.
//!
//! `y[n,c,i,j] = max_{u,v} x[n, c, i·stride + u·dilation − pad, j·stride + v·dilation − pad]`
//! Shapes: [n, c, h, w] → [n, c, oh, ow]. Padding counts as −∞; of equal pixels the first wins, a NaN wins over all.
//! The second output says where in its plane of h·w the maximum stood (u32; h·w if the whole window is padding). The
//! gradient flows there, and gradients of it are picked up there.

use acclimate_shaders::shaders::{GATHER, MAX_POOL2D, MAX_POOL2D_GRAD};
use acclimate_tensor::op::{BatchCx, Bind, Call, GradCx, Kernel, Launch, Launches, Out, Rows, arity, record};
use acclimate_tensor::{Caps, DType, Error, Real, Result, Spec, Tensor, record_one};
use rayon::prelude::*;

use crate::window::Pool2d;

/// Maximum over windows; outputs the values and their places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MaxPool2d(pub Pool2d);

fn image(s: &Spec) -> [usize; 2] {
    [s.shape[2], s.shape[3]]
}

fn params(pool: &Pool2d, planes: usize, [h, w]: [usize; 2], [oh, ow]: [usize; 2]) -> [usize; 13] {
    let (k, s, p, d) = (pool.kernel, pool.stride, pool.padding, pool.dilation);
    [planes, h, w, oh, ow, k[0], k[1], s[0], s[1], p[0], p[1], d[0], d[1]]
}

/// The largest pixel of one window and its place.
fn peak<R: Real>(pool: &Pool2d, plane: &[R], size: [usize; 2], i: usize, j: usize) -> (R, usize) {
    let (mut best, mut at) = (R::NEG_INFINITY, size[0] * size[1]);
    for pixel in pool.pixels(size, i, j) {
        let x = plane[pixel];
        if x > best || x.is_nan() || at == size[0] * size[1] {
            (best, at) = (x, pixel);
        }
    }
    (best, at)
}

impl Kernel for MaxPool2d {
    const NAME: &'static str = "max_pool2d";

    fn shape(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let [x] = arity(Self::NAME, inputs)?;
        x.require_dtype(Self::NAME, DType::F32)?.require_rank(Self::NAME, 4, "[n, c, h, w]")?;
        let [oh, ow] = self.0.output(Self::NAME, image(x))?;
        let y = Spec::f32(&[x.shape[0], x.shape[1], oh, ow])?;
        Ok(vec![y.clone(), y.with_dtype(DType::U32)])
    }

    fn reference<R: Real>(&self, call: &mut Call<'_, R>) {
        let (x, size, out) = (call.real(0), image(&call.in_specs[0]), image(&call.out_specs[0]));
        for o in 0..call.out_specs[0].numel() {
            let plane = &x[o / (out[0] * out[1]) * size[0] * size[1]..];
            let (best, at) = peak(&self.0, plane, size, o / out[1] % out[0], o % out[1]);
            call.out_real(0)[o] = best;
            call.out_word(1)[o] = word(at);
        }
    }

    fn cpu(&self, call: &mut Call<'_, f32>) {
        let (x, size, out) = (call.real(0), image(&call.in_specs[0]), image(&call.out_specs[0]));
        let [Out::Real(y), Out::Word(index)] = &mut call.outs[..] else { return };
        let planes = x.par_chunks_exact(size[0] * size[1]).with_min_len(least(out));
        let outs = y.par_chunks_exact_mut(out[0] * out[1]).zip(index.par_chunks_exact_mut(out[0] * out[1]));
        planes.zip(outs).for_each(|(plane, (y, index))| {
            let area = word(size[0] * size[1]);
            y.fill(f32::NEG_INFINITY);
            index.fill(area);
            self.0.runs(size, out, |first, pixel, len| {
                let pixels = plane[pixel..].iter().step_by(self.0.stride[1]).zip((pixel..).step_by(self.0.stride[1]));
                let windows = y[first..first + len].iter_mut().zip(&mut index[first..first + len]);
                for ((y, at), (&x, here)) in windows.zip(pixels) {
                    // Without branches: which way they go is up to the image.
                    let wins = (x > *y) | x.is_nan() | (*at == area);
                    *y = if wins { x } else { *y };
                    *at = if wins { word(here) } else { *at };
                }
            });
        });
    }

    fn launch(&self, inputs: &[Spec], outputs: &[Spec], _: &Caps) -> Result<Launches> {
        let planes = inputs[0].shape[0] * inputs[0].shape[1];
        Ok(Launch::threads(&MAX_POOL2D, outputs[0].numel())
            .u32s(&params(&self.0, planes, image(&inputs[0]), image(&outputs[0])))
            .bind(&[Bind::In(0), Bind::Out(0), Bind::Out(1)])
            .into())
    }

    fn grad(&self, cx: &GradCx<'_>) -> Result<Vec<Option<Tensor>>> {
        let op = MaxPool2dGrad { pool: self.0, size: image(cx.input(0).spec()) };
        Ok(vec![Some(record_one(op, &[&cx.upstream()?, &cx.outputs[1]])?)])
    }

    // Planes are independent, so the slots become more images.
    fn batch(&self, cx: &BatchCx<'_>) -> Result<Vec<Tensor>> {
        record(*self, &[&cx.merged(0)?])?.iter().map(|y| cx.split(y)).collect()
    }

    // Images.
    fn rows(&self, _: &[Spec]) -> Rows {
        Rows::of_first(false)
    }
}

/// Gradient of [`MaxPool2d`]: `dx[n,c,a] = Σ dy[n,c,i,j]` over the windows whose maximum stood at pixel a.
/// Shapes: dy, index [n, c, oh, ow] → [n, c, h, w].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MaxPool2dGrad {
    /// The windows.
    pub pool: Pool2d,
    /// Height and width of the image.
    pub size: [usize; 2],
}

impl Kernel for MaxPool2dGrad {
    const NAME: &'static str = "max_pool2d_grad";

    fn shape(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let [dy, index] = arity(Self::NAME, inputs)?;
        dy.require_dtype(Self::NAME, DType::F32)?.require_rank(Self::NAME, 4, "[n, c, oh, ow]")?;
        index.require_dtype(Self::NAME, DType::U32)?;
        let [oh, ow] = self.pool.output(Self::NAME, self.size)?;
        if index.shape != dy.shape || image(dy) != [oh, ow] {
            let found = format!("{} and {}", dy.shape, index.shape);
            return Err(Error::shape(Self::NAME, format!("upstream and index of [n, c, {oh}, {ow}]"), found));
        }
        Ok(vec![Spec::f32(&[dy.shape[0], dy.shape[1], self.size[0], self.size[1]])?])
    }

    fn reference<R: Real>(&self, call: &mut Call<'_, R>) {
        let (dy, index, area) = (call.real(0), call.word(1), self.size[0] * self.size[1]);
        let windows = image(&call.in_specs[0]).iter().product::<usize>();
        let dx = call.out_real(0);
        dx.fill(R::ZERO);
        for (o, (&dy, &at)) in dy.iter().zip(index).enumerate() {
            if (at as usize) < area {
                dx[o / windows * area + at as usize] += dy;
            }
        }
    }

    fn launch(&self, inputs: &[Spec], outputs: &[Spec], _: &Caps) -> Result<Launches> {
        let planes = inputs[0].shape[0] * inputs[0].shape[1];
        Ok(Launch::threads(&MAX_POOL2D_GRAD, outputs[0].numel())
            .u32s(&params(&self.pool, planes, self.size, image(&inputs[0])))
            .bind(&[Bind::In(0), Bind::In(1), Bind::Out(0)])
            .into())
    }

    fn grad(&self, cx: &GradCx<'_>) -> Result<Vec<Option<Tensor>>> {
        let op = MaxPool2dPick(self.pool);
        Ok(vec![Some(record_one(op, &[&cx.upstream()?, cx.input(1)])?), None])
    }

    fn batch(&self, cx: &BatchCx<'_>) -> Result<Vec<Tensor>> {
        Ok(vec![cx.split(&record_one(*self, &[&cx.merged(0)?, &cx.merged(1)?])?)?])
    }

    // Images.
    fn rows(&self, _: &[Spec]) -> Rows {
        Rows::each(&[(0, 0), (1, 0)], 0, Some(0))
    }
}

/// Picks each window's pixel: `y[n,c,i,j] = u[n, c, index[n,c,i,j]]`, 0 where the index says padding. The adjoint of
/// [`MaxPool2dGrad`]. Shapes: u [n, c, h, w] and index [n, c, oh, ow] → [n, c, oh, ow].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MaxPool2dPick(pub Pool2d);

impl Kernel for MaxPool2dPick {
    const NAME: &'static str = "max_pool2d_pick";

    fn shape(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let [u, index] = arity(Self::NAME, inputs)?;
        u.require_dtype(Self::NAME, DType::F32)?.require_rank(Self::NAME, 4, "[n, c, h, w]")?;
        index.require_dtype(Self::NAME, DType::U32)?.require_rank(Self::NAME, 4, "[n, c, oh, ow]")?;
        let [oh, ow] = self.0.output(Self::NAME, image(u))?;
        if index.shape.dims() != [u.shape[0], u.shape[1], oh, ow] {
            let expected = format!("an index of {:?}", [u.shape[0], u.shape[1], oh, ow]);
            return Err(Error::shape(Self::NAME, expected, index.shape.to_string()));
        }
        Ok(vec![Spec::new(index.shape.clone(), DType::F32)])
    }

    fn reference<R: Real>(&self, call: &mut Call<'_, R>) {
        let (u, index) = (call.real(0), call.word(1));
        let area = image(&call.in_specs[0]).iter().product::<usize>();
        let windows = image(&call.in_specs[1]).iter().product::<usize>();
        for (o, (y, &at)) in call.out_real(0).iter_mut().zip(index).enumerate() {
            let at = at as usize;
            *y = if at < area { u[o / windows * area + at] } else { R::ZERO };
        }
    }

    fn launch(&self, inputs: &[Spec], outputs: &[Spec], _: &Caps) -> Result<Launches> {
        let (u, y) = (&inputs[0], &outputs[0]);
        let [h, w] = image(u);
        let [oh, ow] = image(y);
        let zero = 0;
        Ok(Launch::threads(&GATHER, y.numel())
            .u32s(&[u.shape[0] * u.shape[1], h * w, oh * ow, 1, zero])
            .bind(&[Bind::In(0), Bind::In(1), Bind::Out(0)])
            .into())
    }

    fn grad(&self, cx: &GradCx<'_>) -> Result<Vec<Option<Tensor>>> {
        let op = MaxPool2dGrad { pool: self.0, size: image(cx.input(0).spec()) };
        Ok(vec![Some(record_one(op, &[&cx.upstream()?, cx.input(1)])?), None])
    }

    fn batch(&self, cx: &BatchCx<'_>) -> Result<Vec<Tensor>> {
        Ok(vec![cx.split(&record_one(*self, &[&cx.merged(0)?, &cx.merged(1)?])?)?])
    }

    // Images.
    fn rows(&self, _: &[Spec]) -> Rows {
        Rows::each(&[(0, 0), (1, 0)], 0, Some(0))
    }
}

/// A place in a plane; planes have less than 2^32 pixels, or no binding would hold them.
fn word(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

/// Planes that are worth a task of their own.
fn least(out: [usize; 2]) -> usize {
    (1 << 12) / (out[0] * out[1]).max(1) + 1
}

/// The largest pixel of each window, and where in its plane it stood (u32).
#[track_caller]
pub fn max_pool2d(x: &Tensor, pool: &Pool2d) -> Result<(Tensor, Tensor)> {
    let mut outs = record(MaxPool2d(*pool), &[x])?.into_iter();
    match (outs.next(), outs.next()) {
        (Some(y), Some(index)) => Ok((y, index)),
        _ => Err(Error::internal(MaxPool2d::NAME, "two outputs expected")),
    }
}

/// What the harness tries.
#[cfg(feature = "testkit")]
pub fn cases() -> Vec<crate::testkit::Case> {
    use crate::testkit::{Case, Input, Order, Tolerance, Values};
    let two = Pool2d::new(2);
    let rows = [
        ("one pixel", [1, 1, 1, 1], Pool2d::new(1)),
        ("2x2", [2, 3, 6, 4], two),
        ("2x2, a pixel left over", [3, 2, 7, 5], two),
        ("3x3, overlapping and padded", [2, 2, 7, 5], Pool2d::new(3).strided(2).padded(1)),
        ("dilated", [2, 3, 7, 7], Pool2d { dilation: [2, 1], stride: [1, 2], ..two }),
        ("a window of nothing but padding", [1, 2, 1, 3], Pool2d { dilation: [2, 1], padding: [1, 0], ..two }),
    ];
    let mut cases = Vec::new();
    for (name, x, pool) in rows {
        // A value is chosen, not computed.
        let build = move |t: &[Tensor]| max_pool2d(&t[0], &pool).map(|(y, _)| vec![y]);
        let case = Case::new(name, [Input::distinct(&x)], build).tolerance(Tolerance::EXACT);
        // Where all is padding the answer is −∞, and no finite difference exists.
        cases.push(if name.contains("nothing") { case.order(Order::None) } else { case });
        let build = move |t: &[Tensor]| max_pool2d(&t[0], &pool).map(|(_, at)| vec![at]);
        let name = format!("{name}, places");
        cases.push(Case::new(name, [Input::distinct(&x)], build).order(Order::None));
    }
    let build = move |t: &[Tensor]| max_pool2d(&t[0], &two).map(|(y, at)| vec![y, at]);
    cases.push(Case::new("no images", [Input::normal(&[0, 2, 4, 4])], build).order(Order::None));
    let ties = Input::new(&[1, 2, 4, 4], Values::Constant(0.5));
    cases.push(Case::new("ties: the first wins", [ties], build).order(Order::None));
    cases
}

/// What must be refused.
#[cfg(feature = "testkit")]
pub fn rejects() -> Vec<crate::testkit::Reject> {
    use crate::testkit::Reject;
    fn pool(d: &acclimate_tensor::Device, dims: &[usize], pool: Pool2d) -> Result<Tensor> {
        max_pool2d(&Tensor::zeros(d, dims)?, &pool).map(|(y, _)| y)
    }
    vec![
        Reject::new("rank", &["max_pool2d", "rank 4"], |d| pool(d, &[4, 4], Pool2d::new(2))),
        Reject::new("window too large", &["max_pool2d", "fits"], |d| pool(d, &[1, 1, 2, 2], Pool2d::new(3))),
        Reject::new("stride 0", &["max_pool2d", "stride"], |d| pool(d, &[1, 1, 4, 4], Pool2d::new(2).strided(0))),
        Reject::new("kernel 0", &["max_pool2d", "kernel"], |d| pool(d, &[1, 1, 4, 4], Pool2d::new(0).strided(1))),
        Reject::new("padding beyond half", &["max_pool2d", "padding", "half"], |d| {
            pool(d, &[1, 1, 4, 4], Pool2d::new(2).padded(2))
        }),
    ]
}
