//! What the harness tries on convolutions, and what must be refused.

use acclimate_tensor::{DType, Tensor, record_one};

use super::{Conv2d, Conv2dInputGrad, Conv2dWeightGrad, conv2d};
use crate::testkit::{Case, Input, Order, Reject, Tolerance};

/// A convolution, the shapes of x and weight, and whether halves are tried too.
struct Row(&'static str, [usize; 4], [usize; 4], Conv2d, bool);

fn rows() -> Vec<Row> {
    let one = Conv2d::default();
    let ragged = Conv2d { stride: [2, 1], padding: [[1, 0], [0, 2]], dilation: [1, 2], groups: 1 };
    let sparse = Conv2d { stride: [3, 2], padding: [[2, 1], [1, 2]], dilation: [2, 3], groups: 1 };
    vec![
        Row("one pixel", [1, 1, 1, 1], [1, 1, 1, 1], one, true),
        Row("pointwise", [3, 5, 2, 7], [7, 5, 1, 1], one, true),
        Row("pointwise, strided", [2, 5, 5, 7], [7, 5, 1, 1], one.strided(2), false),
        Row("3x3 of one channel, same size", [2, 1, 7, 5], [5, 1, 3, 3], Conv2d::same(3), false),
        Row("3x3, valid", [2, 3, 5, 7], [7, 3, 3, 3], one, true),
        Row("5x5, strided", [2, 3, 11, 7], [5, 3, 5, 5], one.padded(2).strided(2), true),
        Row("even kernel, same size", [2, 3, 5, 5], [5, 3, 4, 4], Conv2d::same(4), false),
        Row("dilated", [2, 3, 7, 7], [5, 3, 3, 3], one.padded(2).dilated(2), false),
        Row("ragged padding, stride and dilation", [3, 2, 7, 5], [5, 2, 2, 3], ragged, true),
        Row(
            "stride and dilation of a common factor",
            [2, 3, 13, 11],
            [5, 3, 3, 3],
            one.padded(5).strided(4).dilated(6),
            false,
        ),
        Row("tiled on GPUs, strided and dilated", [2, 17, 9, 8], [18, 17, 3, 2], sparse, false),
        Row("one window, a stride beyond all", [2, 3, 6, 5], [4, 3, 3, 3], one.strided(1 << 20), false),
        Row("grouped", [2, 6, 5, 5], [15, 2, 3, 3], one.padded(1).grouped(3), true),
        Row("depthwise", [2, 7, 5, 5], [7, 1, 3, 3], one.padded(1).grouped(7), true),
        Row(
            "depthwise, strided, two outputs each",
            [2, 5, 7, 7],
            [10, 1, 3, 3],
            one.padded(1).grouped(5).strided(2),
            false,
        ),
        Row("kernel beyond the image on both sides", [2, 3, 2, 2], [5, 3, 5, 5], one.padded(3), false),
        Row("products, same size", [2, 16, 6, 6], [20, 16, 3, 3], one.padded(1), true),
        Row("products, eight channels", [2, 16, 6, 6], [8, 16, 3, 3], one.padded(1), false),
        Row("products, strided", [3, 20, 7, 8], [16, 20, 3, 3], one.padded(1).strided(2), false),
        Row("products, strided further than the kernel", [2, 16, 5, 12], [16, 16, 2, 1], one.strided(3), false),
        Row("products, ragged padding", [1, 16, 7, 4], [17, 16, 2, 3], Conv2d { dilation: [1, 1], ..ragged }, false),
        Row("products, dilated, rows of 27", [2, 3, 8, 8], [18, 3, 3, 3], one.padded(2).dilated(2), false),
        Row("products, rows of 27", [3, 3, 6, 6], [16, 3, 3, 3], one.padded(1), false),
        Row("tiled on GPUs", [2, 17, 7, 7], [65, 17, 3, 3], one.padded(1), true),
        Row("more terms than stay in a cache", [1, 22, 12, 11], [22, 22, 7, 7], one.padded(3), false),
        Row("tiled on GPUs, many pixels", [2, 20, 15, 15], [36, 10, 3, 1], one.grouped(2).strided(1), true),
    ]
}

/// What the harness tries.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for Row(name, x, w, conv, _) in rows() {
        let Ok([oh, ow]) = conv.output([x[2], x[3]], [w[2], w[3]]) else { continue };
        let y = [x[0], w[0], oh, ow];
        let (size, kernel) = ([x[2], x[3]], [w[2], w[3]]);
        // An output is a sum of one product for each input channel of the group and tap, in some order ..
        let build = move |t: &[Tensor]| Ok(vec![conv2d(&t[0], &t[1], &conv)?]);
        let inputs = [Input::normal(&x), Input::normal(&w)];
        cases.push(Case::new(name, inputs, build).tolerance(Tolerance::sum(w[1] * w[2] * w[3])));
        // .. its gradient by the image one for each output channel of the group and tap ..
        let build = move |t: &[Tensor]| Ok(vec![record_one(Conv2dInputGrad { conv, size }, &[&t[0], &t[1]])?]);
        let inputs = [Input::normal(&y), Input::normal(&w)];
        let depth = w[0] / conv.groups * w[2] * w[3];
        cases.push(Case::new(format!("{name}, by the image"), inputs, build).tolerance(Tolerance::sum(depth)));
        // .. and by the weight one for each image and output pixel.
        let build = move |t: &[Tensor]| Ok(vec![record_one(Conv2dWeightGrad { conv, kernel }, &[&t[0], &t[1]])?]);
        let inputs = [Input::normal(&x), Input::normal(&y)];
        cases
            .push(Case::new(format!("{name}, by the weight"), inputs, build).tolerance(Tolerance::sum(x[0] * oh * ow)));
    }
    cases.extend(rows().into_iter().filter(|row| row.4).flat_map(halves));
    let forward = |t: &[Tensor]| Ok(vec![conv2d(&t[0], &t[1], &Conv2d::same(3))?]);
    let inputs = [Input::normal(&[0, 2, 4, 4]), Input::normal(&[5, 2, 3, 3])];
    cases.push(Case::new("no images", inputs, forward).order(Order::None));
    let op = Conv2dWeightGrad { conv: Conv2d::same(3), kernel: [3, 3] };
    let by_weight = move |t: &[Tensor]| Ok(vec![record_one(op, &[&t[0], &t[1]])?]);
    let inputs = [Input::normal(&[0, 2, 4, 4]), Input::normal(&[0, 5, 4, 4])];
    cases.push(Case::new("no images, by the weight", inputs, by_weight).order(Order::None));
    cases
}

/// The three ops on halves: sums as of f32.
fn halves(Row(name, x, w, conv, _): Row) -> Vec<Case> {
    let Ok([oh, ow]) = conv.output([x[2], x[3]], [w[2], w[3]]) else { return Vec::new() };
    let y = [x[0], w[0], oh, ow];
    let (size, kernel) = ([x[2], x[3]], [w[2], w[3]]);
    let half = |t: &Tensor| t.cast(DType::F16);
    let forward = move |t: &[Tensor]| Ok(vec![conv2d(&half(&t[0])?, &half(&t[1])?, &conv)?]);
    let by_image = Conv2dInputGrad { conv, size };
    let by_image = move |t: &[Tensor]| Ok(vec![record_one(by_image, &[&half(&t[0])?, &half(&t[1])?])?]);
    let by_weight = Conv2dWeightGrad { conv, kernel };
    let by_weight = move |t: &[Tensor]| Ok(vec![record_one(by_weight, &[&half(&t[0])?, &half(&t[1])?])?]);
    let case = |what: &str, a: &[usize], b: &[usize], depth| {
        let inputs = [Input::normal(a), Input::normal(b)];
        (format!("halves: {name}{what}"), inputs, Tolerance::sum(depth))
    };
    let (a, b, c) = (
        case("", &x, &w, w[1] * w[2] * w[3]),
        case(", by the image", &y, &w, w[0] / conv.groups * w[2] * w[3]),
        case(", by the weight", &x, &y, x[0] * oh * ow),
    );
    vec![
        Case::new(a.0, a.1, forward).tolerance(a.2).order(Order::Rounded),
        Case::new(b.0, b.1, by_image).tolerance(b.2).order(Order::Rounded),
        Case::new(c.0, c.1, by_weight).tolerance(c.2).order(Order::Rounded),
    ]
}

/// What must be refused.
pub fn rejects() -> Vec<Reject> {
    fn zeros(d: &acclimate_tensor::Device, dims: &[usize]) -> acclimate_tensor::Result<Tensor> {
        Tensor::zeros(d, dims)
    }
    vec![
        Reject::new("channels differ", &["conv2d", "3", "4 channels"], |d| {
            conv2d(&zeros(d, &[1, 4, 8, 8])?, &zeros(d, &[2, 3, 3, 3])?, &Conv2d::default())
        }),
        Reject::new("rank", &["conv2d", "rank 4", "[n, c_in, h, w]"], |d| {
            conv2d(&zeros(d, &[4, 8, 8])?, &zeros(d, &[2, 4, 3, 3])?, &Conv2d::default())
        }),
        Reject::new("kernel too large", &["conv2d", "fits", "pad"], |d| {
            conv2d(&zeros(d, &[1, 1, 2, 2])?, &zeros(d, &[1, 1, 3, 3])?, &Conv2d::default())
        }),
        Reject::new("stride 0", &["conv2d", "stride", "at least 1"], |d| {
            conv2d(&zeros(d, &[1, 1, 4, 4])?, &zeros(d, &[1, 1, 3, 3])?, &Conv2d::default().strided(0))
        }),
        Reject::new("groups 0", &["conv2d", "groups", "at least 1"], |d| {
            conv2d(&zeros(d, &[1, 1, 4, 4])?, &zeros(d, &[1, 1, 3, 3])?, &Conv2d::default().grouped(0))
        }),
        Reject::new("output channels not divisible", &["conv2d", "divisible by 2"], |d| {
            conv2d(&zeros(d, &[1, 4, 4, 4])?, &zeros(d, &[3, 2, 3, 3])?, &Conv2d::default().grouped(2))
        }),
        Reject::new("padding that overflows", &["conv2d", "fits"], |d| {
            conv2d(&zeros(d, &[1, 1, 4, 4])?, &zeros(d, &[1, 1, 3, 3])?, &Conv2d::default().padded(usize::MAX))
        }),
        Reject::new("upstream of another size", &["conv2d_input_grad", "upstream"], |d| {
            let op = Conv2dInputGrad { conv: Conv2d::default(), size: [4, 4] };
            record_one(op, &[&zeros(d, &[1, 1, 3, 3])?, &zeros(d, &[1, 1, 3, 3])?])
        }),
        Reject::new("upstream of another batch", &["conv2d_weight_grad", "upstream"], |d| {
            let op = Conv2dWeightGrad { conv: Conv2d::default(), kernel: [3, 3] };
            record_one(op, &[&zeros(d, &[2, 1, 4, 4])?, &zeros(d, &[1, 1, 2, 2])?])
        }),
    ]
}
