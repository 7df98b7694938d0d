//! Vectors as wide as the processor has, chosen at run time: a loop is compiled once for each kind and called through
//! [`wide`]. `target-cpu` is set nowhere.
#![allow(unsafe_code)] // two calls of functions that need a processor feature, which is asked for first

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};

/// Which vectors loops use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Path {
    /// What every processor of the architecture has (SSE2, NEON).
    Baseline,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 (F, BW, DQ, VL).
    Avx512,
}

impl Path {
    /// Those that this processor has, the narrowest first.
    pub fn present() -> &'static [Path] {
        const ALL: [Path; 3] = [Path::Baseline, Path::Avx2, Path::Avx512];
        &ALL[..=Path::widest() as usize]
    }

    fn widest() -> Path {
        #[cfg(target_arch = "x86_64")]
        {
            use std::is_x86_feature_detected as has;
            if has!("avx2") && has!("fma") {
                let wide = has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl");
                return if wide { Path::Avx512 } else { Path::Avx2 };
            }
        }
        Path::Baseline
    }

    /// Whether the processor has no wider ones.
    pub fn is_widest(self) -> bool {
        self == Path::widest()
    }

    /// The one in use: the widest that is present, unless `ACCLIMATE_VECTORS` (`baseline`, `avx2`, `avx512`) or
    /// [`Path::force`] asked for a narrower one.
    pub fn now() -> Path {
        match NOW.load(Ordering::Relaxed) {
            0 => Path::first(),
            n => Path::present()[usize::from(n - 1).min(Path::present().len() - 1)],
        }
    }

    #[cold]
    fn first() -> Path {
        let asked = std::env::var("ACCLIMATE_VECTORS").unwrap_or_default();
        let found = Path::present().iter().find(|p| p.to_string().eq_ignore_ascii_case(&asked));
        if found.is_none() && !asked.is_empty() {
            log::warn!("ACCLIMATE_VECTORS={asked}: this processor has {:?}", Path::present());
        }
        let path = found.copied().unwrap_or(Path::widest());
        Path::force(path);
        path
    }

    /// Makes all loops of this process use these vectors, or the widest there are below; for tests and comparisons.
    pub fn force(path: Path) {
        NOW.store(path.min(Path::widest()) as u8 + 1, Ordering::Relaxed);
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Path::Baseline => "baseline",
            Path::Avx2 => "AVX2",
            Path::Avx512 => "AVX512",
        })
    }
}

/// 0: not decided yet; else a path and one.
static NOW: AtomicU8 = AtomicU8::new(0);

/// A loop. `run` must be `#[inline(always)]`, and so must what it calls in its inner loop, to be compiled for each kind.
pub trait Wide {
    /// What it gives.
    type Output;
    /// Runs it.
    fn run(self) -> Self::Output;
}

/// Runs a loop with the vectors of [`Path::now`].
#[inline]
pub fn wide<W: Wide>(work: W) -> W::Output {
    match Path::now() {
        // SAFETY: `Path::now` gives only what `Path::widest` found on this processor.
        #[cfg(target_arch = "x86_64")]
        Path::Avx512 => unsafe { avx512(work) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Path::Avx2 => unsafe { avx2(work) },
        _ => work.run(),
    }
}

/// The same for a loop that reads memory and does little else: with vectors of 32 bytes at most, which measured 1.2 times
/// as fast as those of 64 (Zen 4, a sum of 16 MB).
#[inline]
pub fn wide_at_memory<W: Wide>(work: W) -> W::Output {
    match Path::now() {
        // SAFETY: as above; no processor has AVX-512 without AVX2 (`Path::widest` asks for both).
        #[cfg(target_arch = "x86_64")]
        Path::Avx512 | Path::Avx2 => unsafe { avx2(work) },
        _ => work.run(),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi1,bmi2,lzcnt,popcnt")]
unsafe fn avx512<W: Wide>(work: W) -> W::Output {
    work.run()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt,popcnt")]
unsafe fn avx2<W: Wide>(work: W) -> W::Output {
    work.run()
}
