//! Folding many words into one, or rows of words into one row: side by side in lanes, so that vectors can be used.

use smallvec::SmallVec;

use super::reduce::Words;
use super::simd::{Wide, wide, wide_at_memory};
use crate::core_op::{combine, identity};
use crate::dtype::DType;
use crate::expr::Func;
use crate::op::Reduction;

/// Words that are folded side by side.
const LANES: usize = 64;
/// Words of a long sum that are added side by side.
const STREAM: usize = 32;
/// Numbers that a lane of a sum takes in f32 before it is added to the total in f64.
const LANE: usize = 64;

/// One cell: sums of f32 as lanes and a total in f64, products of f32 in f64, the rest in words.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fold {
    kind: Reduction,
    dtype: DType,
    lanes: [u32; LANES],
    /// Words that the lanes have taken.
    taken: usize,
    total: f64,
}

impl Fold {
    pub fn new(kind: Reduction, dtype: DType) -> Self {
        let (real, word) = identity::<f32>(kind, dtype);
        let first = if dtype == DType::F32 { real.to_bits() } else { word };
        let total = if kind == Reduction::Prod { 1.0 } else { 0.0 };
        Fold { kind, dtype, lanes: [first; LANES], taken: 0, total }
    }

    /// Of one word.
    pub fn of(kind: Reduction, dtype: DType, word: u32) -> Self {
        let mut fold = Fold::new(kind, dtype);
        fold.add(&[word]);
        fold
    }

    fn is(&self, kind: Reduction) -> bool {
        self.dtype == DType::F32 && self.kind == kind
    }

    /// Takes more words.
    pub fn add(&mut self, words: &[u32]) {
        if self.is(Reduction::Prod) {
            self.total = words.iter().fold(self.total, |t, &w| t * f64::from(f32::from_bits(w)));
        } else if self.is(Reduction::Sum) {
            let long = words.chunks_exact(STREAM * LANE);
            let words = long.remainder();
            self.total += long.map(|stretch| wide_at_memory(LongSum(stretch))).sum::<f64>();
            for stretch in words.chunks(LANES * LANE) {
                if self.taken + stretch.len() > LANES * LANE {
                    self.flush();
                }
                wide(AddLanes { lanes: &mut self.lanes, words: stretch });
                self.taken += stretch.len().next_multiple_of(LANES);
            }
        } else {
            let f = combine(self.kind);
            for chunk in words.chunks(LANES) {
                let old = self.lanes;
                f.block(self.dtype, &mut self.lanes[..chunk.len()], &[&old, chunk, &[], &[]]);
            }
        }
    }

    /// Moves the lanes of a sum into the total.
    fn flush(&mut self) {
        self.total += wide(TotalOf(&self.lanes));
        self.lanes = [0; LANES];
        self.taken = 0;
    }

    /// Both together.
    pub fn joined(mut self, other: Fold) -> Fold {
        if self.is(Reduction::Sum) {
            let mut other = other;
            self.flush();
            other.flush();
            self.total += other.total;
        } else if self.is(Reduction::Prod) {
            self.total *= other.total;
        } else {
            self.add(&other.lanes);
        }
        self
    }

    /// The result.
    pub fn finish(mut self) -> u32 {
        if self.is(Reduction::Sum) {
            self.flush();
        }
        if self.is(Reduction::Sum) || self.is(Reduction::Prod) {
            return (self.total as f32).to_bits();
        }
        serial(combine(self.kind), self.dtype, self.lanes[0], &self.lanes[1..])
    }

    /// The result of a few words.
    pub fn short(kind: Reduction, dtype: DType, words: &[u32]) -> u32 {
        if dtype == DType::F32 && kind == Reduction::Sum {
            let few = words.len() < 16;
            let sum = if few { words.iter().map(|&w| f64::from(f32::from_bits(w))).sum() } else { wide(SumOf(words)) };
            return (sum as f32).to_bits();
        }
        if words.len() > 8 || (dtype == DType::F32 && kind == Reduction::Prod) {
            let mut fold = Fold::new(kind, dtype);
            fold.add(words);
            return fold.finish();
        }
        words.split_first().map_or(0, |(&first, rest)| serial(combine(kind), dtype, first, rest))
    }
}

/// One cell that takes a few dozen words at a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cell {
    kind: Reduction,
    dtype: DType,
    /// Sums and products of f32.
    real: f64,
    /// The rest.
    word: u32,
}

impl Cell {
    pub fn new(kind: Reduction, dtype: DType) -> Self {
        let first = Fold::new(kind, dtype);
        Cell { kind, dtype, real: first.total, word: first.lanes[0] }
    }

    /// Takes words.
    pub fn add(&mut self, words: &[u32]) {
        match (self.kind, self.dtype) {
            (Reduction::Sum, DType::F32) => {
                self.real += words.chunks(LANES * LANE).map(|stretch| wide(SumOf(stretch))).sum::<f64>();
            }
            (Reduction::Prod, DType::F32) => {
                self.real = words.iter().fold(self.real, |t, &w| t * f64::from(f32::from_bits(w)));
            }
            _ => {
                self.word =
                    serial(combine(self.kind), self.dtype, self.word, &[Fold::short(self.kind, self.dtype, words)])
            }
        }
    }

    /// The result.
    pub fn finish(&self) -> u32 {
        match (self.kind, self.dtype) {
            (Reduction::Sum | Reduction::Prod, DType::F32) => (self.real as f32).to_bits(),
            _ => self.word,
        }
    }
}

/// The sum of a long stretch: few lanes, as memory is what it waits for.
struct LongSum<'a>(&'a [u32]);

impl Wide for LongSum<'_> {
    type Output = f64;
    #[inline(always)]
    fn run(self) -> f64 {
        let mut lanes = [0f32; STREAM];
        for chunk in self.0.chunks_exact(STREAM) {
            for (lane, &w) in lanes.iter_mut().zip(chunk) {
                *lane += f32::from_bits(w);
            }
        }
        lanes.iter().map(|&lane| f64::from(lane)).sum()
    }
}

/// The sum of one stretch.
struct SumOf<'a>(&'a [u32]);

impl Wide for SumOf<'_> {
    type Output = f64;
    #[inline(always)]
    fn run(self) -> f64 {
        let mut lanes = [0; LANES];
        AddLanes { lanes: &mut lanes, words: self.0 }.run();
        TotalOf(&lanes).run()
    }
}

fn serial(f: Func, dtype: DType, first: u32, rest: &[u32]) -> u32 {
    rest.iter().fold(first, |a, &b| {
        if dtype == DType::F32 {
            f.real(&[f32::from_bits(a), f32::from_bits(b)]).unwrap_or(f32::NAN).to_bits()
        } else {
            f.word(dtype, &[a, b]).unwrap_or(0)
        }
    })
}

/// Adds words to lanes, all f32s as bits.
struct AddLanes<'a> {
    lanes: &'a mut [u32; LANES],
    words: &'a [u32],
}

impl Wide for AddLanes<'_> {
    type Output = ();
    #[inline(always)]
    fn run(self) {
        let mut lanes = [0f32; LANES];
        lanes.iter_mut().zip(&*self.lanes).for_each(|(l, &w)| *l = f32::from_bits(w));
        let mut chunks = self.words.chunks_exact(LANES);
        for chunk in &mut chunks {
            for (lane, &w) in lanes.iter_mut().zip(chunk) {
                *lane += f32::from_bits(w);
            }
        }
        for (lane, &w) in lanes.iter_mut().zip(chunks.remainder()) {
            *lane += f32::from_bits(w);
        }
        self.lanes.iter_mut().zip(&lanes).for_each(|(w, l)| *w = l.to_bits());
    }
}

/// The sum of the lanes in f64.
struct TotalOf<'a>(&'a [u32; LANES]);

impl Wide for TotalOf<'_> {
    type Output = f64;
    #[inline(always)]
    fn run(self) -> f64 {
        let mut eight = [0f64; 8];
        for chunk in self.0.chunks_exact(8) {
            for (e, &w) in eight.iter_mut().zip(chunk) {
                *e += f64::from(f32::from_bits(w));
            }
        }
        eight.iter().sum()
    }
}

/// A row of cells, into which rows of words are folded.
pub(super) struct Columns {
    kind: Reduction,
    dtype: DType,
    /// What the cells hold since the last flush.
    now: Words,
    /// Totals of sums and products of f32.
    total: SmallVec<[f64; 512]>,
    /// Rows since the last flush.
    taken: usize,
}

impl Columns {
    pub fn new(kind: Reduction, dtype: DType, n: usize) -> Self {
        let first = Fold::new(kind, dtype);
        let in_f64 = first.is(Reduction::Sum) || first.is(Reduction::Prod);
        Columns {
            kind,
            dtype,
            now: SmallVec::from_elem(first.lanes[0], n),
            total: SmallVec::from_elem(first.total, if in_f64 { n } else { 0 }),
            taken: 0,
        }
    }

    /// Folds rows in.
    pub fn add(&mut self, rows: &[u32]) {
        let n = self.now.len();
        let f = combine(self.kind);
        for row in rows.chunks_exact(n) {
            if self.dtype == DType::F32 && self.kind == Reduction::Prod {
                self.total.iter_mut().zip(row).for_each(|(t, &w)| *t *= f64::from(f32::from_bits(w)));
                continue;
            }
            if self.dtype == DType::F32 && self.kind == Reduction::Sum {
                if self.taken == LANE {
                    self.flush();
                }
                self.taken += 1;
                wide(AddRow(&mut self.now, row));
                continue;
            }
            let old = self.now.clone();
            f.block(self.dtype, &mut self.now, &[&old, row, &[], &[]]);
        }
    }

    fn flush(&mut self) {
        wide(Flush(&mut self.total, &mut self.now));
        self.taken = 0;
    }

    /// The cells.
    pub fn finish(mut self) -> Words {
        if self.total.is_empty() {
            return self.now;
        }
        if self.kind == Reduction::Sum {
            self.flush();
        }
        self.total.iter().map(|&t| (t as f32).to_bits()).collect()
    }
}

/// Adds a row, f32s as bits.
struct AddRow<'a>(&'a mut [u32], &'a [u32]);

impl Wide for AddRow<'_> {
    type Output = ();
    #[inline(always)]
    fn run(self) {
        for (cell, &w) in self.0.iter_mut().zip(self.1) {
            *cell = (f32::from_bits(*cell) + f32::from_bits(w)).to_bits();
        }
    }
}

/// Moves f32s into their totals.
struct Flush<'a>(&'a mut [f64], &'a mut [u32]);

impl Wide for Flush<'_> {
    type Output = ();
    #[inline(always)]
    fn run(self) {
        for (total, w) in self.0.iter_mut().zip(self.1) {
            *total += f64::from(f32::from_bits(*w));
            *w = 0;
        }
    }
}
