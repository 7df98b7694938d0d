//! What a device can reach: bytes of a copy and fused multiplications and additions a second, by loops of our own that do
//! nothing else. Rows are shares of these.

use std::time::Instant;

use acclimate_shaders::Shader;
use acclimate_tensor::engine::cpu::simd::{Path, Wide, wide};
use acclimate_tensor::op::{Bind, Call, Launch, Launches};
use acclimate_tensor::{Caps, Device, Error, Kernel, Peaks, Real, Result, Spec, Tensor, record_one};

const fn shader(name: &'static str, source: &'static str, n_params: u32) -> Shader {
    Shader::new(name, "peak", source, 2, [256, 1, 1], n_params)
}

static COPY: Shader = shader("peak_copy", include_str!("copy.wgsl"), 1);
static FMA: Shader = shader("peak_fma", concat!("alias Number = vec4<f32>;\n", include_str!("fma.wgsl")), 2);
static FMA_F16: Shader =
    shader("peak_fma_f16", concat!("enable f16;\nalias Number = vec4<f16>;\n", include_str!("fma.wgsl")), 2);

/// Numbers of a copy: beyond what caches hold.
const COPIED: usize = 1 << 24;
/// Numbers that chains start from.
const CHAINS: usize = 1 << 20;
/// Chains of a number.
const EACH: usize = 8;
/// Seconds that a measurement should take at least.
const LONG: f64 = 0.01;
/// Times that something is measured; the best counts.
const TIMES: usize = 7;

/// What a device reaches.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// In f32.
    pub peaks: Peaks,
    /// Multiplications and additions in f16 a second, where shaders have it.
    pub f16_flop_per_s: Option<f64>,
}

/// Measures a device; takes about a second.
pub fn measure(device: &Device) -> Result<Measured> {
    let x = Tensor::full(device, &[COPIED], 0.5)?;
    let seconds = best(device, || record_one(Copied, &[&x]))?;
    let bytes_per_s = 8.0 * COPIED as f64 / seconds;
    let x = Tensor::full(device, &[CHAINS], 0.5)?;
    let f32 = rate(device, &x, false)?;
    let half = device.caps().f16.then(|| rate(device, &x, true)).transpose()?;
    Ok(Measured { peaks: Peaks { bytes_per_s, flop_per_s: f32 }, f16_flop_per_s: half })
}

/// Multiplications and additions a second.
fn rate(device: &Device, x: &Tensor, half: bool) -> Result<f64> {
    let mut chains = Chains { loops: 16, half };
    loop {
        let seconds = best(device, || record_one(chains, &[x]))?;
        if seconds > LONG || chains.loops > 1 << 16 {
            return Ok((2 * EACH * chains.loops * x.numel()) as f64 / seconds);
        }
        chains.loops *= 4;
    }
}

/// The least seconds of a launch: by the device's own clock if it has one.
fn best(device: &Device, make: impl Fn() -> Result<Tensor>) -> Result<f64> {
    let run = || Tensor::realize(&[&make()?]);
    run()?;
    let mut least = f64::INFINITY;
    for _ in 0..TIMES {
        let start = Instant::now();
        let seconds = match device.profile(run) {
            Ok((_, profile)) => profile.time().as_secs_f64(),
            Err(_) => {
                let y = make()?;
                let start = Instant::now();
                Tensor::realize(&[&y])?;
                // The last number is there when all are.
                y.narrow(0, y.numel() - 1, 1)?.to_vec::<f32>()?;
                start.elapsed().as_secs_f64()
            }
        };
        debug_assert!(seconds <= start.elapsed().as_secs_f64() * 1.5 + 1e-3, "the device's clock runs as ours does");
        least = least.min(seconds);
    }
    Ok(least)
}

/// y = x.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Copied;

impl Kernel for Copied {
    const NAME: &'static str = "peak_copy";

    fn shape(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        Ok(inputs.to_vec())
    }

    fn reference<R: Real>(&self, call: &mut Call<'_, R>) {
        let x = call.real(0);
        call.out_real(0).copy_from_slice(x);
    }

    fn cpu(&self, call: &mut Call<'_, f32>) {
        let x = call.real(0);
        in_parts(x, call.out_real(0), |x, y| y.copy_from_slice(x));
    }

    fn launch(&self, inputs: &[Spec], _: &[Spec], _: &Caps) -> Result<Launches> {
        let n = inputs[0].shape.numel();
        Ok(Launch::threads(&COPY, n / 4).u32(n).bind(&[Bind::In(0), Bind::Out(0)]).into())
    }
}

/// Chains of fused multiplications and additions; with x in (0, 1) each ends at 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Chains {
    loops: usize,
    half: bool,
}

impl Kernel for Chains {
    const NAME: &'static str = "peak_fma";

    fn shape(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        match inputs {
            [x] if x.shape.numel() % LANES == 0 => Ok(inputs.to_vec()),
            _ => Err(Error::shape(Self::NAME, format!("a multiple of {LANES} numbers"), format!("{inputs:?}"))),
        }
    }

    fn reference<R: Real>(&self, call: &mut Call<'_, R>) {
        let x = call.real(0);
        for (y, &x) in call.out_real(0).iter_mut().zip(x) {
            *y = (0..EACH).map(|k| (0..self.loops).fold(R::of(k as f64 / 8.0), |a, _| a * x + (R::ONE - x))).sum();
        }
    }

    fn cpu(&self, call: &mut Call<'_, f32>) {
        let x = call.real(0);
        in_parts(x, call.out_real(0), |x, y| {
            wide(Lanes { x, y, loops: self.loops, fused: Path::now() > Path::Baseline })
        });
    }

    fn launch(&self, inputs: &[Spec], _: &[Spec], _: &Caps) -> Result<Launches> {
        let n = inputs[0].shape.numel();
        let shader = if self.half { &FMA_F16 } else { &FMA };
        Ok(Launch::threads(shader, n / 4).u32s(&[n, self.loops]).bind(&[Bind::In(0), Bind::Out(0)]).into())
    }

    fn flop(&self, inputs: &[Spec], _: &[Spec]) -> u64 {
        (2 * EACH * self.loops * inputs[0].shape.numel()) as u64
    }
}

/// Calls `f` on as many parts as there are processors, at once.
fn in_parts(x: &[f32], y: &mut [f32], f: impl Fn(&[f32], &mut [f32]) + Sync) {
    let n = std::thread::available_parallelism().map_or(1, usize::from);
    let each = x.len().div_ceil(n).next_multiple_of(LANES).max(LANES);
    std::thread::scope(|scope| {
        for (x, y) in x.chunks(each).zip(y.chunks_mut(each)) {
            scope.spawn(|| f(x, y));
        }
    });
}

/// Numbers side by side: with eight chains each, as many sums under way as two units of any width take.
const LANES: usize = 16;

struct Lanes<'a> {
    x: &'a [f32],
    y: &'a mut [f32],
    loops: usize,
    /// Whether the processor fuses: elsewhere a fused step is a call.
    fused: bool,
}

impl Wide for Lanes<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (x, y) in self.x.chunks_exact(LANES).zip(self.y.chunks_exact_mut(LANES)) {
            let by: [f32; LANES] = std::array::from_fn(|i| x[i]);
            let mut a: [[f32; LANES]; EACH] = std::array::from_fn(|k| [k as f32 / 8.0; LANES]);
            for _ in 0..self.loops {
                for a in &mut a {
                    for (a, by) in a.iter_mut().zip(by) {
                        *a = if self.fused { a.mul_add(by, 1.0 - by) } else { *a * by + (1.0 - by) };
                    }
                }
            }
            for (i, y) in y.iter_mut().enumerate() {
                *y = a.iter().map(|a| a[i]).sum();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_end_where_they_should() {
        let x = Tensor::full(&Device::cpu(), &[1024], 0.5).unwrap();
        let y = record_one(Chains { loops: 64, half: false }, &[&x]).unwrap().to_vec::<f32>().unwrap();
        assert!(y.iter().all(|y| *y == 8.0));
        let y = record_one(Copied, &[&x]).unwrap().to_vec::<f32>().unwrap();
        assert!(y.iter().all(|y| *y == 0.5));
    }
}
