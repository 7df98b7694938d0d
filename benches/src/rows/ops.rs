//! Single ops.

use acclimate_kernels::ops::conv2d::{Conv2dInputGrad, Conv2dWeightGrad};
use acclimate_kernels::{Attend, Conv2d, TensorOps, concat};
use acclimate_tensor::transform::grad::grad;
use acclimate_tensor::{DType, Device, Tensor, record_one};
use anyhow::Result;

use super::tensor;
use crate::row::{Row, Size};

pub(super) fn matmul(name: &'static str, d: &Device, n: usize) -> Result<Row> {
    let inputs = (tensor(d, &[n, n], 1)?, tensor(d, &[n, n], 2)?);
    Ok(Row::new(name, Vec::<Tensor>::new(), inputs, |state, (a, b)| Ok((state, a.matmul(&b)?))))
}

/// Of halves, which cooperative matrices take where there are some.
pub(super) fn matmul_half(d: &Device, size: Size) -> Result<Row> {
    let n = size.of(4096, 68);
    let half = |salt| Ok::<_, anyhow::Error>(tensor(d, &[n, n], salt)?.cast(DType::F16)?);
    let inputs = (half(1)?, half(2)?);
    Ok(Row::new("matmul_4096_half", Vec::<Tensor>::new(), inputs, |state, (a, b)| Ok((state, a.matmul(&b)?))))
}

pub(super) fn relu_chain(d: &Device, size: Size) -> Result<Row> {
    let x = tensor(d, &[size.of(1 << 22, 1000)], 1)?;
    let f = |state, x: Tensor| Ok((state, x.mul_scalar(2.0)?.add_scalar(1.0)?.relu()?));
    Ok(Row::new("relu_chain_4m", Vec::<Tensor>::new(), x, f))
}

pub(super) fn sum(d: &Device, size: Size) -> Result<Row> {
    let x = tensor(d, &[size.of(1 << 22, 1000)], 1)?;
    Ok(Row::new("sum_4m", Vec::<Tensor>::new(), x, |state, x: Tensor| Ok((state, x.sum(&[])?))))
}

/// A depthwise convolution 3 × 3 and both its gradients: the gradient of Σ y²/2 by the weight, with Σ x · dx added so that
/// the other one is needed too.
pub(super) fn depthwise(d: &Device, size: Size) -> Result<Row> {
    let (n, channels, side) = (size.of(32, 2), size.of(96, 3), size.of(28, 5));
    let inputs = (tensor(d, &[n, channels, side, side], 1)?, tensor(d, &[channels, 1, 3, 3], 2)?);
    let f = move |state, (x, w): (Tensor, Tensor)| {
        let y = x.conv2d(&w, &Conv2d::same(3).grouped(channels))?;
        let (dx, dw) = grad(&y.mul(&y)?.mul_scalar(0.5)?.sum(&[])?, (x.clone(), w))?;
        Ok((state, dw.add(&dx.mul(&x)?.sum(&[])?)?))
    };
    Ok(Row::new("depthwise", Vec::<Tensor>::new(), inputs, f))
}

/// Softmax attention of 8 heads of 64 over 512 tokens, causal, and the gradients of Σ y²/2; the result is that of the
/// queries with the sums of the others added.
pub(super) fn attention(
    name: &'static str,
    d: &Device,
    size: Size,
    f: fn(&[Tensor; 3]) -> Result<Tensor>,
) -> Result<Row> {
    let dims = [size.of(8, 2), size.of(512, 7), size.of(64, 3)];
    let inputs = [1, 2, 3].map(|salt| tensor(d, &dims, salt)).into_iter().collect::<Result<Vec<_>>>()?;
    let f = move |state, x: Vec<Tensor>| {
        let y = f(&[x[0].clone(), x[1].clone(), x[2].clone()])?;
        let grads = grad(&y.mul(&y)?.mul_scalar(0.5)?.sum(&[])?, x)?;
        Ok((state, grads[0].add(&grads[1].sum(&[])?)?.add(&grads[2].sum(&[])?)?))
    };
    Ok(Row::new(name, Vec::<Tensor>::new(), inputs, f))
}

pub(super) fn fused([q, k, v]: &[Tensor; 3]) -> Result<Tensor> {
    Ok(q.attention(k, v, &Attend { causal: true, ..Default::default() })?)
}

pub(super) fn composite([q, k, v]: &[Tensor; 3]) -> Result<Tensor> {
    let scores = q.mul_scalar(1.0 / (q.dims()[2] as f32).sqrt())?.matmul_nt(k)?;
    let place = |axis| Tensor::iota(q.device(), scores.dims(), axis);
    let scores = place(2)?.le(&place(1)?)?.select(&scores, &scores.full_like(-1e9)?)?;
    Ok(scores.softmax(-1)?.matmul(v)?)
}

/// Convolutions of ResNets for images of 224 × 224 (He et al. 2016): input channels, output channels, side of the image, side of
/// the kernel, stride.
const RESNET: [[usize; 5]; 6] = [
    [64, 64, 56, 3, 1],
    [128, 128, 28, 3, 1],
    [256, 256, 14, 3, 1],
    [512, 512, 7, 3, 1],
    [64, 128, 56, 3, 2],
    [256, 64, 56, 1, 1],
];

/// Image, weight and output of one of those.
struct Shapes {
    conv: Conv2d,
    x: [usize; 4],
    w: [usize; 4],
    y: [usize; 4],
}

/// All of [`RESNET`] over 32 images, one launch or a few each; `first` and `second` give the shapes of an op's two inputs. The
/// result is a corner of each output.
fn resnet(
    name: &'static str,
    d: &Device,
    size: Size,
    [first, second]: [fn(&Shapes) -> [usize; 4]; 2],
    op: fn(&Shapes, &[Tensor]) -> acclimate_tensor::Result<Tensor>,
) -> Result<Row> {
    let shapes = RESNET.map(|[c_in, c_out, side, k, stride]| {
        let (n, side) = (size.of(32, 2), size.of(side, 4));
        let (c_in, c_out, out) = (size.of(c_in, 3), size.of(c_out, 4), side.div_ceil(stride));
        let conv = Conv2d::default().strided(stride).padded(k / 2);
        Shapes { conv, x: [n, c_in, side, side], w: [c_out, c_in, k, k], y: [n, c_out, out, out] }
    });
    let mut inputs = Vec::new();
    for (shape, salt) in shapes.iter().zip(1..) {
        inputs.extend([tensor(d, &first(shape), 2 * salt)?, tensor(d, &second(shape), 2 * salt + 1)?]);
    }
    let shapes = std::sync::Arc::new(shapes);
    let f = move |state, inputs: Vec<Tensor>| {
        let corner = |(shape, inputs): (&Shapes, &[Tensor])| {
            let mut all = op(shape, inputs)?;
            for (axis, len) in [size.of(7, 2), size.of(7, 2), 1, 1].into_iter().enumerate() {
                all = all.narrow(axis as isize, 0, len)?;
            }
            Ok(all)
        };
        let corners = shapes.iter().zip(inputs.chunks(2)).map(corner).collect::<Result<Vec<_>>>()?;
        Ok((state, concat(&corners.iter().collect::<Vec<_>>(), 0)?))
    };
    Ok(Row::new(name, Vec::<Tensor>::new(), inputs, f))
}

pub(super) fn resnet_forward(d: &Device, size: Size) -> Result<Row> {
    resnet("resnet_forward", d, size, [|s| s.x, |s| s.w], |s, xw| xw[0].conv2d(&xw[1], &s.conv))
}

pub(super) fn resnet_input_grad(d: &Device, size: Size) -> Result<Row> {
    resnet("resnet_input_grad", d, size, [|s| s.y, |s| s.w], |s, yw| {
        record_one(Conv2dInputGrad { conv: s.conv, size: [s.x[2], s.x[3]] }, &[&yw[0], &yw[1]])
    })
}

pub(super) fn resnet_weight_grad(d: &Device, size: Size) -> Result<Row> {
    resnet("resnet_weight_grad", d, size, [|s| s.x, |s| s.y], |s, xy| {
        record_one(Conv2dWeightGrad { conv: s.conv, kernel: [s.w[2], s.w[3]] }, &[&xy[0], &xy[1]])
    })
}
