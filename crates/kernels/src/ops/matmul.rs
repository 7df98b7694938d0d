//! Product of matrices, one for each entry of a batch.
//!
//! `c[b,i,j] = Σ_q op(a)[b,i,q] · op(b)[b,q,j]`, where op transposes the last two axes if the flag says so.
//! Shapes: a [batch | 1, m, k] ([.., k, m] if `trans_a`) times b [batch | 1, k, n] ([.., n, k] if `trans_b`) gives
//! [batch, m, n]. A batch axis of 1 is shared, not copied. An empty sum (k = 0) is 0.
//!
//! Operands are f32, or both f16; products and sums are of f32 in either case, and so is the result. The product of halves is
//! that of the same numbers as f32.

use acclimate_tensor::engine::cpu::product::{Strides, Threads, gemm};
use acclimate_tensor::op::{BatchCx, Batched, Call, GradCx, Kernel, Launches, Rows, arity, require_floats};
use acclimate_tensor::{Caps, Error, Real, Result, Shape, Spec, Tensor, record_one};
use rayon::prelude::*;

use crate::direct::Product;

/// The product of matrices; the flags say which operand is stored transposed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct MatMul {
    /// The left operand is stored [batch, k, m].
    pub trans_a: bool,
    /// The right operand is stored [batch, n, k].
    pub trans_b: bool,
}

/// Sizes of one call.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    batch: usize,
    m: usize,
    n: usize,
    k: usize,
    /// Elements from one left matrix to the next; 0 where it is shared.
    a_stride: usize,
    /// The same on the right.
    b_stride: usize,
}

impl MatMul {
    fn sizes(self, a: &[usize], b: &[usize]) -> Sizes {
        let (m, k) = if self.trans_a { (a[2], a[1]) } else { (a[1], a[2]) };
        let n = if self.trans_b { b[1] } else { b[2] };
        let stride = |batch, each| if batch == 1 { 0 } else { each };
        let batch = if a[0] == 1 { b[0] } else { a[0] };
        Sizes { batch, m, n, k, a_stride: stride(a[0], m * k), b_stride: stride(b[0], k * n) }
    }

    fn product(self, s: Sizes) -> Product {
        let Sizes { batch, m, n, k, a_stride, b_stride } = s;
        Product { batch, m, n, k, a_stride, b_stride, trans_a: self.trans_a, trans_b: self.trans_b }
    }

    fn of_inputs(self, inputs: &[Spec]) -> Product {
        self.product(self.sizes(&inputs[0].shape, &inputs[1].shape))
    }

    #[track_caller]
    fn of(trans_a: bool, trans_b: bool, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        record_one(MatMul { trans_a, trans_b }, &[a, b])
    }
}

impl Kernel for MatMul {
    const NAME: &'static str = "matmul";

    fn shape(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let [a, b] = arity(Self::NAME, inputs)?;
        require_floats(Self::NAME, inputs)?;
        a.require_rank(Self::NAME, 3, "[batch, rows, columns] on the left")?;
        b.require_rank(Self::NAME, 3, "[batch, rows, columns] on the right")?;
        let s = self.sizes(&a.shape, &b.shape);
        let inner = if self.trans_b { b.shape[2] } else { b.shape[1] };
        if s.k != inner {
            return Err(Error::shape(
                Self::NAME,
                format!("equal inner sizes; the left, {}, has {}", stored(&a.shape, self.trans_a), s.k),
                format!(
                    "{inner} on the right, {}; check the size of the layer's input",
                    stored(&b.shape, self.trans_b)
                ),
            ));
        }
        if a.shape[0] != b.shape[0] && a.shape[0] != 1 && b.shape[0] != 1 {
            let expected = format!("equal batch sizes, or 1 on one side; the left has {}", a.shape[0]);
            return Err(Error::shape(Self::NAME, expected, format!("{} on the right", b.shape[0])));
        }
        Ok(vec![Spec::f32(&[s.batch, s.m, s.n])?])
    }

    fn reference<R: Real>(&self, call: &mut Call<'_, R>) {
        let s = self.sizes(call.dims(0), call.dims(1));
        let (a, b) = (call.numbers(0), call.numbers(1));
        for (at, c) in call.out_real(0).iter_mut().enumerate() {
            let (batch, i, j) = (at / (s.m * s.n), at / s.n % s.m, at % s.n);
            let a_at = |q| batch * s.a_stride + if self.trans_a { q * s.m + i } else { i * s.k + q };
            let b_at = |q| batch * s.b_stride + if self.trans_b { j * s.k + q } else { q * s.n + j };
            *c = (0..s.k).fold(R::ZERO, |sum, q| sum + a[a_at(q)] * b[b_at(q)]);
        }
    }

    fn cpu(&self, call: &mut Call<'_, f32>) {
        let s = self.sizes(call.dims(0), call.dims(1));
        let (a, b) = (call.numbers(0), call.numbers(1));
        let c = call.out_real(0);
        if s.m * s.n == 0 || s.k == 0 {
            return c.fill(0.0);
        }
        let a_strides = if self.trans_a { Strides::transposed(s.m) } else { Strides::rows(s.k) };
        let b_strides = if self.trans_b { Strides::transposed(s.k) } else { Strides::rows(s.n) };
        let one = |batch: usize, c: &mut [f32], threads| {
            let (a, b) = (&a[batch * s.a_stride..], &b[batch * s.b_stride..]);
            gemm((s.m, s.n, s.k), a, a_strides, b, b_strides, c, Strides::rows(s.n), false, threads);
        };
        // Few large products share the threads inside; many small ones are shared out among the threads.
        let work = s.m * s.n * s.k;
        if s.batch == 1 || (s.batch < 4 && work > LARGE) {
            c.chunks_exact_mut(s.m * s.n).enumerate().for_each(|(batch, c)| one(batch, c, Threads::All));
        } else if s.batch * work < SMALL {
            c.chunks_exact_mut(s.m * s.n).enumerate().for_each(|(batch, c)| one(batch, c, Threads::One));
        } else {
            let least = (SMALL / (2 * work)).max(1);
            let chunks = c.par_chunks_exact_mut(s.m * s.n).with_min_len(least);
            chunks.enumerate().for_each(|(batch, c)| one(batch, c, Threads::One));
        }
    }

    fn launch(&self, inputs: &[Spec], _: &[Spec], caps: &Caps) -> Result<Launches> {
        self.of_inputs(inputs).best_way(Self::NAME, inputs, caps)
    }

    fn alternatives(&self, inputs: &[Spec], _: &[Spec], caps: &Caps) -> Result<Vec<Launches>> {
        self.of_inputs(inputs).other_ways(Self::NAME, inputs, caps)
    }

    fn flop(&self, inputs: &[Spec], _: &[Spec]) -> u64 {
        let s = self.sizes(&inputs[0].shape, &inputs[1].shape);
        2 * (s.batch * s.m * s.n * s.k) as u64
    }

    // dA = dC · op(b)ᵀ and dB = op(a)ᵀ · dC, each transposed where its operand is; a shared operand gets the sum. Of halves
    // the upstream gradient is rounded to halves first, and so are the gradients.
    fn grad(&self, cx: &GradCx<'_>) -> Result<Vec<Option<Tensor>>> {
        let (a, b) = (cx.input(0), cx.input(1));
        let dc = cx.upstream()?.cast(a.dtype())?;
        let da = match self.trans_a {
            false => MatMul::of(false, !self.trans_b, &dc, b)?,
            true => MatMul::of(self.trans_b, true, b, &dc)?,
        };
        let db = match self.trans_b {
            // Rows of all batch entries meet the one matrix: one product of long columns, no sum afterwards.
            false if b.dims()[0] == 1 && !self.trans_a && a.dims()[0] == dc.dims()[0] => {
                MatMul::of(true, false, &one_matrix(a)?, &one_matrix(&dc)?)?
            }
            false => MatMul::of(!self.trans_a, false, a, &dc)?,
            true => MatMul::of(true, self.trans_a, &dc, a)?,
        };
        Ok(vec![Some(sum_shared(da, a)?.cast(a.dtype())?), Some(sum_shared(db, b)?.cast(b.dtype())?)])
    }

    fn batch(&self, cx: &BatchCx<'_>) -> Result<Vec<Tensor>> {
        let product = |a: &Tensor, b: &Tensor| MatMul::of(self.trans_a, self.trans_b, a, b);
        let s = cx.n;
        let y = match (&cx.inputs[0], &cx.inputs[1]) {
            // Shared weights: the slots become more rows.
            (Batched::Each(a), Batched::Shared(b)) if !self.trans_a => {
                let (d, batch) = (a.dims(), a.dims()[1].max(b.dims()[0]));
                if b.dims()[0] == 1 {
                    product(&a.reshape(&[1, s * d[1] * d[2], d[3]])?, b)?
                } else {
                    let rows = a.permute(&[1, 0, 2, 3])?.reshape(&[d[1], s * d[2], d[3]])?;
                    let y = product(&rows, b)?;
                    y.reshape(&[batch, s, d[2], y.dims()[2]])?.permute(&[1, 0, 2, 3])?
                }
            }
            // Weights of their own: one product per slot, all in one launch.
            _ => {
                let batches = |i: usize| cx.raw(i).dims()[usize::from(cx.is_each(i))];
                let batch = if batches(0) == 1 { batches(1) } else { batches(0) };
                let each = |i: usize| -> Result<Tensor> {
                    let t = cx.raw(i);
                    if !cx.is_each(i) && t.dims()[0] == 1 {
                        return Ok(t.clone());
                    }
                    let t = cx.leading(i)?;
                    let d = t.dims().to_vec();
                    t.expand(&[s, batch, d[2], d[3]])?.reshape(&[s * batch, d[2], d[3]])
                };
                product(&each(0)?, &each(1)?)?
            }
        };
        let own = self.sizes(per_slot(cx, 0), per_slot(cx, 1));
        Ok(vec![y.reshape(&[s, own.batch, own.m, own.n])?])
    }

    // Of one product: rows of the left operand, or the inner axis where both operands hold it in front.
    fn rows(&self, inputs: &[Spec]) -> Rows {
        match (inputs[0].shape[0] == 1 && inputs[1].shape[0] == 1, self.trans_a, self.trans_b) {
            (true, false, _) => Rows::each(&[(0, 1)], 1, Some(0)),
            (true, true, false) => Rows::sum(&[(0, 1), (1, 1)]),
            _ => Rows::Mixed,
        }
    }
}

/// Multiplications from which one product is worth all threads.
const LARGE: usize = 1 << 22;
/// Multiplications below which waking other threads costs more than it gives.
const SMALL: usize = 1 << 16;

fn stored(shape: &Shape, transposed: bool) -> String {
    format!("{shape}{}", if transposed { " transposed" } else { "" })
}

/// Sizes of input `i` of one slot.
fn per_slot<'a>(cx: &'a BatchCx<'_>, i: usize) -> &'a [usize] {
    &cx.raw(i).dims()[usize::from(cx.is_each(i))..]
}

/// [batch, m, n] as the one matrix [1, batch·m, n].
fn one_matrix(x: &Tensor) -> Result<Tensor> {
    let d = x.dims();
    x.reshape(&[1, d[0] * d[1], d[2]])
}

/// The gradient of an operand that all batch entries share is the sum of theirs.
fn sum_shared(dx: Tensor, x: &Tensor) -> Result<Tensor> {
    if dx.dims()[0] == x.dims()[0] { Ok(dx) } else { dx.sum_keep(&[0]) }
}

/// op(x)·op(w) over the last two axes; batch axes in front broadcast by the rules of NumPy. Fails on vectors, unequal
/// inner sizes and batch axes that do not broadcast.
#[track_caller]
pub fn matmul(x: &Tensor, w: &Tensor, trans_x: bool, trans_w: bool) -> Result<Tensor> {
    let (xd, wd) = (x.dims(), w.dims());
    if xd.len() < 2 || wd.len() < 2 {
        let found = format!("shapes {} and {}; reshape a vector to a matrix", x.shape(), w.shape());
        return Err(Error::shape(MatMul::NAME, "operands of rank 2 or more", found));
    }
    let (x_batch, x_matrix) = xd.split_at(xd.len() - 2);
    let (w_batch, w_matrix) = wd.split_at(wd.len() - 2);
    let flat = |t: &Tensor, batch: usize, matrix: &[usize]| t.reshape(&[batch, matrix[0], matrix[1]]);
    let batch = Shape::broadcast(MatMul::NAME, &Shape::new(x_batch)?, &Shape::new(w_batch)?)?;
    let one_w = w_batch.iter().all(|&d| d == 1);
    let y = if one_w && !trans_x && batch.numel() > 0 {
        // One right-hand side: the batch is more rows.
        let rows = x.reshape(&[1, x_batch.iter().product::<usize>() * x_matrix[0], x_matrix[1]])?;
        MatMul::of(false, trans_w, &rows, &flat(w, 1, w_matrix)?)?
    } else {
        let operand = |t: &Tensor, own: &[usize], matrix: &[usize]| -> Result<Tensor> {
            if own.iter().all(|&d| d == 1) {
                return flat(t, 1, matrix);
            }
            let all: Vec<usize> = batch.iter().chain(matrix).copied().collect();
            flat(&t.expand(&all)?, batch.numel(), matrix)
        };
        MatMul::of(trans_x, trans_w, &operand(x, x_batch, x_matrix)?, &operand(w, w_batch, w_matrix)?)?
    };
    let m = if trans_x { x_matrix[1] } else { x_matrix[0] };
    let n = if trans_w { w_matrix[0] } else { w_matrix[1] };
    let dims: Vec<usize> = batch.iter().copied().chain([m, n]).collect();
    y.reshape(&dims)
}

/// What the harness tries.
#[cfg(feature = "testkit")]
pub fn cases() -> Vec<crate::testkit::Case> {
    use crate::testkit::{Case, Input, Order, Tolerance};
    let mut cases = Vec::new();
    // Below and above the tile of 64 and the small kernel's 8 rows; every way an operand can be stored.
    // The last have what some shaders read two or four of: k, m or n, all; cut blocks of every size.
    let sizes = [(1, 1, 1), (1, 2, 3), (3, 7, 2), (7, 33, 31), (8, 65, 5), (9, 3, 1), (33, 7, 257), (65, 66, 17)];
    let fours = [(9, 5, 4), (12, 9, 8), (17, 12, 4), (20, 20, 68), (136, 140, 36)];
    for (i, &(m, n, k)) in sizes.iter().chain(&fours).enumerate() {
        for (trans_a, trans_b) in [(false, false), (false, true), (true, false), (true, true)] {
            if (4..8).contains(&i) && (trans_a, trans_b) == (true, true) {
                continue;
            }
            for (ba, bb) in [(1, 1), (3, 3), (1, 2), (2, 1)] {
                if i >= 5 && ba != bb {
                    continue;
                }
                let a = if trans_a { [ba, k, m] } else { [ba, m, k] };
                let b = if trans_b { [bb, n, k] } else { [bb, k, n] };
                let name = format!("{a:?}{} times {b:?}{}", t(trans_a), t(trans_b));
                let build = move |x: &[Tensor]| Ok(vec![MatMul::of(trans_a, trans_b, &x[0], &x[1])?]);
                // A sum of k products in some order.
                cases.push(Case::new(name, [Input::normal(&a), Input::normal(&b)], build).tolerance(Tolerance::sum(k)));
            }
        }
    }
    // Halves, stored each way in turn; an odd inner size puts rows into the middle of words.
    let half = |t: &Tensor| t.cast(acclimate_tensor::DType::F16);
    let eights = [(36, 44, 40), (68, 72, 36), (24, 100, 68), (140, 20, 32)];
    for (i, &(m, n, k)) in sizes.iter().chain(&eights).enumerate() {
        let (trans_a, trans_b) = (i % 2 == 1, i % 4 > 1);
        let [ba, bb] = [[1, 1], [3, 3], [1, 2], [2, 1]][i / 2 % 4];
        let a = if trans_a { [ba, k, m] } else { [ba, m, k] };
        let b = if trans_b { [bb, n, k] } else { [bb, k, n] };
        let name = format!("halves: {a:?}{} times {b:?}{}", t(trans_a), t(trans_b));
        let build = move |x: &[Tensor]| Ok(vec![MatMul::of(trans_a, trans_b, &half(&x[0])?, &half(&x[1])?)?]);
        let case = Case::new(name, [Input::normal(&a), Input::normal(&b)], build);
        // Of halves as of f32: a sum of k products in some order.
        cases.push(case.tolerance(Tolerance::sum(k)).order(Order::Rounded));
    }
    for (a, b) in [([1, 0, 3], [1, 3, 2]), ([2, 3, 0], [2, 0, 5]), ([0, 2, 3], [1, 3, 2])] {
        let build = |x: &[Tensor]| Ok(vec![MatMul::of(false, false, &x[0], &x[1])?]);
        let case = Case::new(format!("empty: {a:?} times {b:?}"), [Input::normal(&a), Input::normal(&b)], build);
        // An empty sum is 0; nothing is left to differentiate.
        cases.push(case.order(Order::None));
    }
    for (x, w) in [(&[5, 2, 3][..], &[3, 7][..]), (&[2, 1, 3, 5], &[7, 5, 2]), (&[3, 5], &[2, 5, 7])] {
        let name = format!("batch axes {x:?} and {w:?}");
        let build = |x: &[Tensor]| Ok(vec![matmul(&x[0], &x[1], false, false)?]);
        let depth = x[x.len() - 1];
        cases.push(Case::new(name, [Input::normal(x), Input::normal(w)], build).tolerance(Tolerance::sum(depth)));
    }
    cases
}

#[cfg(feature = "testkit")]
fn t(transposed: bool) -> &'static str {
    if transposed { "ᵀ" } else { "" }
}

/// What must be refused.
#[cfg(feature = "testkit")]
pub fn rejects() -> Vec<crate::testkit::Reject> {
    use crate::testkit::Reject;
    vec![
        Reject::new("inner sizes differ", &["matmul", "784", "256", "check"], |d| {
            matmul(&Tensor::zeros(d, &[32, 784])?, &Tensor::zeros(d, &[256, 10])?, false, false)
        }),
        Reject::new("a vector", &["matmul", "rank 2", "reshape"], |d| {
            matmul(&Tensor::zeros(d, &[4])?, &Tensor::zeros(d, &[4, 2])?, false, false)
        }),
        Reject::new("batch axes do not broadcast", &["matmul", "broadcast"], |d| {
            matmul(&Tensor::zeros(d, &[2, 4, 4])?, &Tensor::zeros(d, &[3, 4, 4])?, false, false)
        }),
        Reject::new("halves beside f32", &["matmul", "f16", "f32", "cast"], |d| {
            let a = Tensor::zeros(d, &[4, 4])?;
            matmul(&a.cast(acclimate_tensor::DType::F16)?, &a, false, false)
        }),
        Reject::new("words", &["matmul", "f32", "u32", "cast"], |d| {
            matmul(&Tensor::full_u32(d, &[4, 4], 1)?, &Tensor::zeros(d, &[4, 4])?, false, false)
        }),
    ]
}
