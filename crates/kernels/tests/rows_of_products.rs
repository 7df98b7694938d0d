//! The bits of a row of a product depend neither on its place nor on the number of threads: slots rely on it.

use acclimate_tensor::engine::cpu::product::{Strides, Threads, gemm};

fn values(n: usize, seed: u32) -> Vec<f32> {
    (0..n as u32)
        .map(|i| {
            (i.wrapping_mul(2_654_435_761).wrapping_add(seed.wrapping_mul(747_796_405)) >> 8) as f32 / 8_388_608.0 - 1.0
        })
        .collect()
}

#[test]
fn equal_rows_have_equal_bits_at_any_place() {
    let sizes = [1, 2, 3, 7, 10, 16, 31, 33, 64, 130];
    for m in (1..=70).chain([97, 128, 131, 257]) {
        for n in sizes {
            for k in [1, 2, 3, 7, 16, 33, 64, 257, 1025] {
                if m > 70 && k > 64 {
                    continue;
                }
                for trans_b in [false, true] {
                    let (row, b) = (values(k, 1), values(k * n, 2));
                    let a: Vec<f32> = row.iter().copied().cycle().take(m * k).collect();
                    let b_strides = if trans_b { Strides::transposed(k) } else { Strides::rows(n) };
                    let mut c = vec![0.0f32; m * n];
                    gemm((m, n, k), &a, Strides::rows(k), &b, b_strides, &mut c, Strides::rows(n), false, Threads::All);
                    for i in 1..m {
                        for j in 0..n {
                            let (first, here) = (c[j].to_bits(), c[i * n + j].to_bits());
                            assert_eq!(first, here, "m {m} n {n} k {k} b transposed {trans_b}: row {i}, column {j}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn threads_change_no_bit() {
    for (m, n, k) in [(200, 130, 300), (64, 1000, 33), (1000, 10, 784), (7, 4096, 257), (512, 512, 700)] {
        let (a, b) = (values(m * k, 1), values(k * n, 2));
        let product = |threads, pool: usize| {
            let mut c = vec![0.0f32; m * n];
            let pool = rayon::ThreadPoolBuilder::new().num_threads(pool).build().unwrap();
            pool.install(|| {
                gemm((m, n, k), &a, Strides::rows(k), &b, Strides::rows(n), &mut c, Strides::rows(n), false, threads);
            });
            c.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
        };
        let one = product(Threads::One, 1);
        for pool in [1, 2, 3, 5] {
            assert!(one == product(Threads::All, pool), "{m} x {n} x {k} on {pool} threads");
        }
    }
}
