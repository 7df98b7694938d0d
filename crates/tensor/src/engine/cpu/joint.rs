//! Functions that follow each other in most networks, computed in one pass over a block: the same operations in the same
//! order, so the same bits, without a register for what lies between them.

use smallvec::SmallVec;

use super::simd::{Wide, wide};
use crate::dtype::DType;
use crate::expr::Func;
use crate::plan::{Program, Term};

/// Functions in one pass, all of f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Joint {
    /// (a − b) · c
    SubMul,
    /// a · b + c
    MulAdd,
    /// (a − b) · c + d: a normalization.
    SubMulAdd,
    /// relu((a − b) · c + d)
    SubMulAddRelu,
    /// a > b ? c : d: the gradient of a rectifier.
    GtSelect,
}

/// A root of joint functions: the arguments, and the terms that are computed with it.
pub(super) struct Found {
    pub joint: Joint,
    pub args: SmallVec<[usize; 4]>,
    within: SmallVec<[usize; 3]>,
}

/// What each term is the root of, and whether it is computed with its only reader.
pub(super) fn find(program: &Program) -> (Vec<Option<Found>>, Vec<bool>) {
    let n = program.terms.len();
    let mut uses = vec![0usize; n];
    for term in &program.terms {
        if let Term::Apply { args, .. } = term {
            args.iter().for_each(|&a| uses[a] += 1);
        }
    }
    program.results.iter().for_each(|&r| uses[r] += 2);
    let mut within = vec![false; n];
    let mut found: Vec<Option<Found>> = (0..n).map(|_| None).collect();
    for t in (0..n).rev().filter(|&t| matches!(program.terms[t], Term::Apply { .. })) {
        if within[t] {
            continue;
        }
        found[t] = Look { program, uses: &uses }.at(t);
        if let Some(f) = &found[t] {
            f.within.iter().for_each(|&w| within[w] = true);
        }
    }
    (found, within)
}

struct Look<'a> {
    program: &'a Program,
    uses: &'a [usize],
}

impl Look<'_> {
    /// The arguments of a function of f32s.
    fn args(&self, t: usize, of: Func) -> Option<&[usize]> {
        match &self.program.terms[t] {
            Term::Apply { func, dtype: DType::F32, args, .. } if *func == of => Some(args),
            _ => None,
        }
    }

    /// The same where nobody else reads it.
    fn inner(&self, t: usize, of: Func) -> Option<&[usize]> {
        self.args(t, of).filter(|_| self.uses[t] == 1)
    }

    /// One argument that is such a function, and the other.
    fn either(&self, args: &[usize], of: Func) -> Option<(usize, usize)> {
        let &[a, b] = args else { return None };
        [(a, b), (b, a)].into_iter().find(|&(t, _)| self.inner(t, of).is_some())
    }

    fn at(&self, t: usize) -> Option<Found> {
        let found = |joint, args: &[usize], within: &[usize]| Found { joint, args: args.into(), within: within.into() };
        if let Some(&[sum]) = self.args(t, Func::Relu) {
            let (mul, sub, args) = self.normalized(self.inner(sum, Func::Add)?)?;
            return Some(found(Joint::SubMulAddRelu, &args, &[sum, mul, sub]));
        }
        if let Some(args) = self.args(t, Func::Add) {
            if let Some((mul, sub, args)) = self.normalized(args) {
                return Some(found(Joint::SubMulAdd, &args, &[mul, sub]));
            }
            let (mul, c) = self.either(args, Func::Mul)?;
            let &[a, b] = self.inner(mul, Func::Mul)? else { return None };
            return Some(found(Joint::MulAdd, &[a, b, c], &[mul]));
        }
        if let Some(args) = self.args(t, Func::Mul) {
            let (sub, c) = self.either(args, Func::Sub)?;
            let &[a, b] = self.inner(sub, Func::Sub)? else { return None };
            return Some(found(Joint::SubMul, &[a, b, c], &[sub]));
        }
        if let Some(&[mask, c, d]) = self.args(t, Func::Select) {
            let &[a, b] = self.inner(mask, Func::Gt)? else { return None };
            return Some(found(Joint::GtSelect, &[a, b, c, d], &[mask]));
        }
        None
    }

    /// Of the arguments of a sum: the product and the difference in (a − b) · c + d, and a, b, c, d.
    fn normalized(&self, sum: &[usize]) -> Option<(usize, usize, [usize; 4])> {
        let (mul, d) = self.either(sum, Func::Mul)?;
        let (sub, c) = self.either(self.inner(mul, Func::Mul)?, Func::Sub)?;
        let &[a, b] = self.inner(sub, Func::Sub)? else { return None };
        Some((mul, sub, [a, b, c, d]))
    }
}

impl Joint {
    /// `d[i]` of `s[0][i], ..`, f32s as their bits. Every source has at least `d.len()` words.
    pub fn block(self, d: &mut [u32], s: &[&[u32]; 4]) {
        wide(Loop { joint: self, d, s });
    }
}

struct Loop<'a, 'b> {
    joint: Joint,
    d: &'a mut [u32],
    s: &'a [&'b [u32]; 4],
}

impl Wide for Loop<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run(self) {
        let (d, s) = (self.d, self.s);
        match self.joint {
            Joint::SubMul => three(d, s, |a, b, c| (a - b) * c),
            Joint::MulAdd => three(d, s, |a, b, c| a * b + c),
            Joint::SubMulAdd => four(d, s, |a, b, c, d| (a - b) * c + d),
            Joint::SubMulAddRelu => four(d, s, |a, b, c, d| {
                let y = (a - b) * c + d;
                if y < 0.0 { 0.0 } else { y }
            }),
            Joint::GtSelect => four(d, s, |a, b, c, d| {
                // By bits: a choice between places in memory would become a gather.
                let chosen = u32::from(a > b).wrapping_neg();
                let (c, d) = (c.to_bits(), d.to_bits());
                f32::from_bits(d ^ ((c ^ d) & chosen))
            }),
        }
    }
}

#[inline(always)]
fn three(d: &mut [u32], s: &[&[u32]; 4], f: impl Fn(f32, f32, f32) -> f32) {
    let n = d.len();
    let (a, b, c) = (&s[0][..n], &s[1][..n], &s[2][..n]);
    let r = f32::from_bits;
    for i in 0..n {
        d[i] = f(r(a[i]), r(b[i]), r(c[i])).to_bits();
    }
}

#[inline(always)]
fn four(to: &mut [u32], s: &[&[u32]; 4], f: impl Fn(f32, f32, f32, f32) -> f32) {
    let n = to.len();
    let (a, b, c, d) = (&s[0][..n], &s[1][..n], &s[2][..n], &s[3][..n]);
    let r = f32::from_bits;
    for i in 0..n {
        to[i] = f(r(a[i]), r(b[i]), r(c[i]), r(d[i])).to_bits();
    }
}
