//! Memory that begins at a cache line: vectors of 64 bytes that straddle two lines take twice as long to load.

use std::ops::{Deref, DerefMut};

/// A line of a cache, and the widest vector.
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
struct Line([u32; 16]);

/// Words that begin at a cache line.
#[derive(Clone, Debug, Default)]
pub struct Aligned(Vec<Line>);

impl Aligned {
    /// At least `n` words, zeros to begin with; `None` if there is not so much memory.
    pub fn zeros(n: usize) -> Option<Self> {
        let n = n.div_ceil(16);
        let mut lines = Vec::new();
        lines.try_reserve_exact(n).ok()?;
        lines.resize(n, Line([0; 16]));
        Some(Aligned(lines))
    }

    /// Grows to at least `n` words; what is there stays.
    pub fn grow(&mut self, n: usize) {
        if n > self.len() {
            self.0.resize(n.div_ceil(16), Line([0; 16]));
        }
    }

    /// As f32s.
    pub fn floats_mut(&mut self) -> &mut [f32] {
        bytemuck::cast_slice_mut(&mut self.0)
    }
}

impl Deref for Aligned {
    type Target = [u32];
    fn deref(&self) -> &[u32] {
        bytemuck::cast_slice(&self.0)
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [u32] {
        bytemuck::cast_slice_mut(&mut self.0)
    }
}
