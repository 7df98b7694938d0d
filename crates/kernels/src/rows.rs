//! Work over rows: on the CPU cut by shape alone, so answers do not depend on the number of threads.

use acclimate_shaders::Shader;
use acclimate_tensor::Spec;
use acclimate_tensor::op::Launch;
use rayon::prelude::*;

/// Elements up to which a row has one thread.
const SHORT: usize = 32;

/// The launch of a shader of rows, without its bindings: a workgroup for each row, or a thread.
pub(crate) fn launch(shader: &'static Shader, x: &Spec) -> Launch {
    let (n_rows, n) = x.as_rows();
    let launch = match shader.short.filter(|_| n <= SHORT) {
        Some(short) => Launch::threads(short, n_rows),
        None => Launch::new(shader, n_rows),
    };
    launch.u32s(&[n_rows, n])
}

/// Elements that are worth a task of their own.
const TASK: usize = 8192;

/// Calls `f(row of x, row of y)` for rows of `x` and `y` of these lengths, over threads if there is enough to do.
pub(crate) fn each<A: Sync, B: Send>(x: &[A], nx: usize, y: &mut [B], ny: usize, f: impl Fn(&[A], &mut [B]) + Sync) {
    if nx == 0 || ny == 0 {
        return;
    }
    let serial = |x: &[A], y: &mut [B]| x.chunks_exact(nx).zip(y.chunks_exact_mut(ny)).for_each(|(x, y)| f(x, y));
    let rows = (TASK / nx.max(ny)).max(1);
    if y.len() <= rows * ny {
        return serial(x, y);
    }
    x.par_chunks(rows * nx).zip(y.par_chunks_mut(rows * ny)).for_each(|(x, y)| serial(x, y));
}

/// As [`each`], for two inputs with rows as long as those of `y`.
pub(crate) fn each2<A: Sync, B: Send>(
    a: &[A],
    b: &[A],
    y: &mut [B],
    n: usize,
    f: impl Fn(&[A], &[A], &mut [B]) + Sync,
) {
    if n == 0 {
        return;
    }
    let serial = |a: &[A], b: &[A], y: &mut [B]| {
        a.chunks_exact(n).zip(b.chunks_exact(n)).zip(y.chunks_exact_mut(n)).for_each(|((a, b), y)| f(a, b, y));
    };
    let part = (TASK / n).max(1) * n;
    if y.len() <= part {
        return serial(a, b, y);
    }
    a.par_chunks(part).zip(b.par_chunks(part)).zip(y.par_chunks_mut(part)).for_each(|((a, b), y)| serial(a, b, y));
}
