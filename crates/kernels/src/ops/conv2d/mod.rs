//! Convolution in two dimensions (cross-correlation) and its two gradients, which are each other's gradients too.
//!
//! `y[n,o,i,j] = Σ_{c,u,v} w[o,c,u,v] · x[n, g·(c_in/groups) + c, i·stride + u·dilation − pad, j·stride + v·dilation − pad]`,
//! with g the group of o. Shapes: x [n, c_in, h, w] and w [c_out, c_in/groups, kh, kw] give y [n, c_out, oh, ow] with
//! oh = (h + pads − dilation·(kh − 1) − 1) / stride + 1, rounded down. Pixels outside the image are 0. Padding may
//! differ before and after. n may be 0.
//!
//! Inputs are f32, or both f16; products and sums are of f32 in either case, and so is the result. Of halves the upstream
//! gradient is rounded to halves, and so are the gradients.
//!
//! The three ops are the three ways to read the one form L = Σ w · x · y: each gives the derivative of L with respect to
//! one factor, so gradients of any order stay within the three.

mod cpu;
mod direct;
mod geometry;
mod lines;
mod products;
#[cfg(feature = "testkit")]
mod table;
mod ways;

use acclimate_tensor::op::{BatchCx, Batched, Call, GradCx, Kernel, Launches, Rows, arity, require_floats};
use acclimate_tensor::{Caps, Error, Real, Result, Spec, Tensor, record_one};

use crate::window::windows;
use geometry::Geometry;
#[cfg(feature = "testkit")]
pub use table::{cases, rejects};
use ways::Of;

/// How a kernel slides over an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Conv2d {
    /// Pixels from one window to the next, down and right.
    pub stride: [usize; 2],
    /// Zeros around the image: [[top, bottom], [left, right]].
    pub padding: [[usize; 2]; 2],
    /// Pixels from one tap of the kernel to the next.
    pub dilation: [usize; 2],
    /// Groups of channels that do not see each other; `c_in` for a depthwise convolution.
    pub groups: usize,
}

impl Default for Conv2d {
    /// Stride 1, no padding, dilation 1, one group.
    fn default() -> Self {
        Conv2d { stride: [1; 2], padding: [[0; 2]; 2], dilation: [1; 2], groups: 1 }
    }
}

impl Conv2d {
    /// Stride 1, padded so that a kernel of k × k keeps the image's size (an even k pads more after than before).
    pub fn same(k: usize) -> Self {
        let around = k.saturating_sub(1);
        Conv2d { padding: [[around / 2, around - around / 2]; 2], ..Conv2d::default() }
    }

    /// With `p` zeros on every side.
    #[must_use]
    pub fn padded(self, p: usize) -> Self {
        Conv2d { padding: [[p; 2]; 2], ..self }
    }

    /// With this stride both ways.
    #[must_use]
    pub fn strided(self, stride: usize) -> Self {
        Conv2d { stride: [stride; 2], ..self }
    }

    /// With this dilation both ways.
    #[must_use]
    pub fn dilated(self, dilation: usize) -> Self {
        Conv2d { dilation: [dilation; 2], ..self }
    }

    /// With this many groups.
    #[must_use]
    pub fn grouped(self, groups: usize) -> Self {
        Conv2d { groups, ..self }
    }

    /// Sizes of the output for an image and a kernel of these sizes. Fails if the kernel does not fit.
    pub fn output(&self, image: [usize; 2], kernel: [usize; 2]) -> Result<[usize; 2]> {
        let mut out = [0; 2];
        for d in 0..2 {
            out[d] = windows(Self::NAME, image[d], kernel[d], self.stride[d], self.padding[d], self.dilation[d])?;
        }
        Ok(out)
    }
}

impl Kernel for Conv2d {
    const NAME: &'static str = "conv2d";

    fn shape(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let [x, w] = arity(Self::NAME, inputs)?;
        require_floats(Self::NAME, inputs)?;
        x.require_rank(Self::NAME, 4, "[n, c_in, h, w] for the image")?;
        w.require_rank(Self::NAME, 4, "[c_out, c_in / groups, kh, kw] for the weight")?;
        let g = Geometry::new(Self::NAME, *self, [x.shape[0], x.shape[1], x.shape[2], x.shape[3]], &w.shape)?;
        Ok(vec![Spec::f32(&g.y())?])
    }

    fn reference<R: Real>(&self, call: &mut Call<'_, R>) {
        let (x, w) = (call.numbers(0), call.numbers(1));
        let g = Geometry::of(*self, call.dims(0), call.dims(1), call.out_dims(0));
        let y = call.out_real(0);
        y.fill(R::ZERO);
        g.visit(|ix, iw, iy| y[iy] += w[iw] * x[ix]);
    }

    fn cpu(&self, call: &mut Call<'_, f32>) {
        let (x, w) = (call.numbers(0), call.numbers(1));
        let g = Geometry::of(*self, call.dims(0), call.dims(1), call.out_dims(0));
        cpu::forward(&g, &x, &w, call.out_real(0));
    }

    fn flop(&self, inputs: &[Spec], outputs: &[Spec]) -> u64 {
        Geometry::of(*self, &inputs[0].shape, &inputs[1].shape, &outputs[0].shape).flop()
    }

    fn launch(&self, inputs: &[Spec], outputs: &[Spec], caps: &Caps) -> Result<Launches> {
        let g = Geometry::of(*self, &inputs[0].shape, &inputs[1].shape, &outputs[0].shape);
        Of::Forward.best_way(Self::NAME, &g, caps, inputs)
    }

    fn alternatives(&self, inputs: &[Spec], outputs: &[Spec], caps: &Caps) -> Result<Vec<Launches>> {
        let g = Geometry::of(*self, &inputs[0].shape, &inputs[1].shape, &outputs[0].shape);
        Of::Forward.other_ways(Self::NAME, &g, caps, inputs)
    }

    fn grad(&self, cx: &GradCx<'_>) -> Result<Vec<Option<Tensor>>> {
        let (x, w, dy) = (cx.input(0), cx.input(1), upstream(cx)?);
        gradients(cx, input_grad(*self, &dy, w, x.dims())?, weight_grad(*self, x, &dy, w.dims())?)
    }

    fn batch(&self, cx: &BatchCx<'_>) -> Result<Vec<Tensor>> {
        let y = match (&cx.inputs[0], &cx.inputs[1]) {
            // Shared weights: the slots become more images.
            (Batched::Each(_), Batched::Shared(w)) => cx.split(&record_one(*self, &[&cx.merged(0)?, w])?)?,
            // The same image for each slot: the slots become more output channels.
            (Batched::Shared(x), Batched::Each(_)) if self.groups == 1 => {
                unfold(&record_one(*self, &[x, &cx.merged(1)?])?, cx.n)?
            }
            // Weights of their own: the slots become groups.
            _ => unfold(&record_one(self.times(cx.n), &[&fold(&cx.leading(0)?)?, &cx.merged(1)?])?, cx.n)?,
        };
        Ok(vec![y])
    }

    // Images.
    fn rows(&self, _: &[Spec]) -> Rows {
        Rows::of_first(true)
    }
}

impl Conv2d {
    /// For `n` slots as groups.
    fn times(self, n: usize) -> Self {
        Conv2d { groups: self.groups * n, ..self }
    }
}

/// Gradient of a convolution with respect to its image; also the transposed convolution. Shapes: dy [n, c_out, oh, ow]
/// and weight [c_out, c_in/groups, kh, kw] give dx [n, c_in, h, w].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Conv2dInputGrad {
    /// The convolution.
    pub conv: Conv2d,
    /// Height and width of the image.
    pub size: [usize; 2],
}

impl Kernel for Conv2dInputGrad {
    const NAME: &'static str = "conv2d_input_grad";

    fn shape(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let [dy, w] = arity(Self::NAME, inputs)?;
        require_floats(Self::NAME, inputs)?;
        dy.require_rank(Self::NAME, 4, "[n, c_out, oh, ow] for the upstream gradient")?;
        w.require_rank(Self::NAME, 4, "[c_out, c_in / groups, kh, kw] for the weight")?;
        let c_in = w.shape[1].saturating_mul(self.conv.groups);
        let x = [dy.shape[0], c_in, self.size[0], self.size[1]];
        Geometry::new(Self::NAME, self.conv, x, &w.shape)?.require_upstream(Self::NAME, &dy.shape)?;
        Ok(vec![Spec::f32(&x)?])
    }

    fn reference<R: Real>(&self, call: &mut Call<'_, R>) {
        let (dy, w) = (call.numbers(0), call.numbers(1));
        let g = Geometry::of(self.conv, call.out_dims(0), call.dims(1), call.dims(0));
        let dx = call.out_real(0);
        dx.fill(R::ZERO);
        g.visit(|ix, iw, iy| dx[ix] += w[iw] * dy[iy]);
    }

    fn cpu(&self, call: &mut Call<'_, f32>) {
        let (dy, w) = (call.numbers(0), call.numbers(1));
        let g = Geometry::of(self.conv, call.out_dims(0), call.dims(1), call.dims(0));
        cpu::input_grad(&g, &dy, &w, call.out_real(0));
    }

    fn flop(&self, inputs: &[Spec], outputs: &[Spec]) -> u64 {
        Geometry::of(self.conv, &outputs[0].shape, &inputs[1].shape, &inputs[0].shape).flop()
    }

    fn launch(&self, inputs: &[Spec], outputs: &[Spec], caps: &Caps) -> Result<Launches> {
        let g = Geometry::of(self.conv, &outputs[0].shape, &inputs[1].shape, &inputs[0].shape);
        Of::InputGrad.best_way(Self::NAME, &g, caps, inputs)
    }

    fn alternatives(&self, inputs: &[Spec], outputs: &[Spec], caps: &Caps) -> Result<Vec<Launches>> {
        let g = Geometry::of(self.conv, &outputs[0].shape, &inputs[1].shape, &inputs[0].shape);
        Of::InputGrad.other_ways(Self::NAME, &g, caps, inputs)
    }

    fn grad(&self, cx: &GradCx<'_>) -> Result<Vec<Option<Tensor>>> {
        let (dy, w, u) = (cx.input(0), cx.input(1), upstream(cx)?);
        gradients(cx, record_one(self.conv, &[&u, w])?, weight_grad(self.conv, &u, dy, w.dims())?)
    }

    fn batch(&self, cx: &BatchCx<'_>) -> Result<Vec<Tensor>> {
        if let Batched::Shared(w) = &cx.inputs[1] {
            return Ok(vec![cx.split(&record_one(*self, &[&cx.merged(0)?, w])?)?]);
        }
        let many = Conv2dInputGrad { conv: self.conv.times(cx.n), ..*self };
        Ok(vec![unfold(&record_one(many, &[&fold(&cx.leading(0)?)?, &cx.merged(1)?])?, cx.n)?])
    }

    // Images.
    fn rows(&self, _: &[Spec]) -> Rows {
        Rows::of_first(true)
    }
}

/// Gradient of a convolution with respect to its weight. Shapes: x [n, c_in, h, w] and dy [n, c_out, oh, ow] give
/// dw [c_out, c_in/groups, kh, kw].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Conv2dWeightGrad {
    /// The convolution.
    pub conv: Conv2d,
    /// Height and width of the kernel.
    pub kernel: [usize; 2],
}

impl Kernel for Conv2dWeightGrad {
    const NAME: &'static str = "conv2d_weight_grad";

    fn shape(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let [x, dy] = arity(Self::NAME, inputs)?;
        require_floats(Self::NAME, inputs)?;
        x.require_rank(Self::NAME, 4, "[n, c_in, h, w] for the image")?;
        dy.require_rank(Self::NAME, 4, "[n, c_out, oh, ow] for the upstream gradient")?;
        let w = [dy.shape[1], x.shape[1] / self.conv.groups.max(1), self.kernel[0], self.kernel[1]];
        let x = [x.shape[0], x.shape[1], x.shape[2], x.shape[3]];
        Geometry::new(Self::NAME, self.conv, x, &w)?.require_upstream(Self::NAME, &dy.shape)?;
        Ok(vec![Spec::f32(&w)?])
    }

    fn reference<R: Real>(&self, call: &mut Call<'_, R>) {
        let (x, dy) = (call.numbers(0), call.numbers(1));
        let g = Geometry::of(self.conv, call.dims(0), call.out_dims(0), call.dims(1));
        let dw = call.out_real(0);
        dw.fill(R::ZERO);
        g.visit(|ix, iw, iy| dw[iw] += dy[iy] * x[ix]);
    }

    fn cpu(&self, call: &mut Call<'_, f32>) {
        let (x, dy) = (call.numbers(0), call.numbers(1));
        let g = Geometry::of(self.conv, call.dims(0), call.out_dims(0), call.dims(1));
        cpu::weight_grad(&g, &x, &dy, call.out_real(0));
    }

    fn flop(&self, inputs: &[Spec], outputs: &[Spec]) -> u64 {
        Geometry::of(self.conv, &inputs[0].shape, &outputs[0].shape, &inputs[1].shape).flop()
    }

    fn launch(&self, inputs: &[Spec], outputs: &[Spec], caps: &Caps) -> Result<Launches> {
        let g = Geometry::of(self.conv, &inputs[0].shape, &outputs[0].shape, &inputs[1].shape);
        Of::WeightGrad.best_way(Self::NAME, &g, caps, inputs)
    }

    fn alternatives(&self, inputs: &[Spec], outputs: &[Spec], caps: &Caps) -> Result<Vec<Launches>> {
        let g = Geometry::of(self.conv, &inputs[0].shape, &outputs[0].shape, &inputs[1].shape);
        Of::WeightGrad.other_ways(Self::NAME, &g, caps, inputs)
    }

    fn grad(&self, cx: &GradCx<'_>) -> Result<Vec<Option<Tensor>>> {
        let (x, dy, u) = (cx.input(0), cx.input(1), upstream(cx)?);
        gradients(cx, input_grad(self.conv, dy, &u, x.dims())?, record_one(self.conv, &[x, &u])?)
    }

    // Each slot has a gradient of its own: the slots become groups.
    fn batch(&self, cx: &BatchCx<'_>) -> Result<Vec<Tensor>> {
        let dy = fold(&cx.leading(1)?)?;
        let dw = match &cx.inputs[0] {
            Batched::Shared(x) if self.conv.groups == 1 => record_one(*self, &[x, &dy])?,
            _ => {
                let many = Conv2dWeightGrad { conv: self.conv.times(cx.n), ..*self };
                record_one(many, &[&fold(&cx.leading(0)?)?, &dy])?
            }
        };
        Ok(vec![cx.split(&dw)?])
    }

    // The gradient sums over the images.
    fn rows(&self, _: &[Spec]) -> Rows {
        Rows::sum(&[(0, 0), (1, 0)])
    }
}

/// The upstream gradient, as halves if the inputs are.
fn upstream(cx: &GradCx<'_>) -> Result<Tensor> {
    cx.upstream()?.cast(cx.input(0).dtype())
}

/// The gradients of both inputs, of halves as halves.
fn gradients(cx: &GradCx<'_>, a: Tensor, b: Tensor) -> Result<Vec<Option<Tensor>>> {
    Ok(vec![Some(a.cast(cx.input(0).dtype())?), Some(b.cast(cx.input(1).dtype())?)])
}

fn input_grad(conv: Conv2d, dy: &Tensor, w: &Tensor, x: &[usize]) -> Result<Tensor> {
    record_one(Conv2dInputGrad { conv, size: [x[2], x[3]] }, &[dy, w])
}

fn weight_grad(conv: Conv2d, x: &Tensor, dy: &Tensor, w: &[usize]) -> Result<Tensor> {
    record_one(Conv2dWeightGrad { conv, kernel: [w[2], w[3]] }, &[x, dy])
}

/// [s, n, c, h, w] to [n, s·c, h, w]: slots become channels.
fn fold(x: &Tensor) -> Result<Tensor> {
    let d = x.dims().to_vec();
    // With one image the order in memory is that already.
    let x = if d[1] == 1 { x.clone() } else { x.permute(&[1, 0, 2, 3, 4])? };
    x.reshape(&[d[1], d[0] * d[2], d[3], d[4]])
}

/// [n, s·c, h, w] to [s, n, c, h, w].
fn unfold(y: &Tensor, s: usize) -> Result<Tensor> {
    let d = y.dims().to_vec();
    let c = d[1] / s.max(1);
    if d[0] == 1 {
        return y.reshape(&[s, 1, c, d[2], d[3]]);
    }
    y.reshape(&[d[0], s, c, d[2], d[3]])?.permute(&[1, 0, 2, 3, 4])
}

/// The convolution of x [n, c_in, h, w] with w [c_out, c_in/groups, kh, kw].
#[track_caller]
pub fn conv2d(x: &Tensor, w: &Tensor, conv: &Conv2d) -> Result<Tensor> {
    if conv.groups == 0 {
        return Err(Error::argument(Conv2d::NAME, "groups", "at least 1", 0));
    }
    record_one(*conv, &[x, w])
}
