//! Which positions of which axes are one channel: labels of axes, and the classes that they fall into.

use std::rc::Rc;

/// A class of positions that stay or go together. Classes merge as the graph is walked.
pub(super) type Atom = u32;

/// The class of everything that has to stay.
pub(super) const FIXED: Atom = 0;
/// A position that holds 0 whatever happens.
pub(super) const ZERO: Atom = Atom::MAX;

/// What is known of an axis of a tensor.
#[derive(Clone, Debug)]
pub(super) enum Axis {
    /// The same value everywhere along it: it fits any size.
    Any,
    /// Stays as it is.
    Fixed,
    /// The class of each position.
    Each(Rc<[Atom]>),
}

/// All classes, as a forest.
#[derive(Debug)]
pub(super) struct Atoms {
    parent: Vec<Atom>,
}

impl Atoms {
    pub fn new() -> Self {
        Atoms { parent: vec![FIXED] }
    }

    /// A class of its own for each of `n` positions.
    pub fn fresh(&mut self, n: usize) -> Axis {
        let first = self.parent.len();
        let new: Vec<Atom> = (first..first + n).filter_map(|i| Atom::try_from(i).ok()).collect();
        self.parent.extend(&new);
        Axis::Each(new.into())
    }

    pub fn root(&mut self, mut a: Atom) -> Atom {
        if a == ZERO {
            return a;
        }
        while self.parent[a as usize] != a {
            let up = self.parent[self.parent[a as usize] as usize];
            self.parent[a as usize] = up;
            a = up;
        }
        a
    }

    /// One class of two. What is known to be 0 follows the other.
    fn union(&mut self, a: Atom, b: Atom) -> Atom {
        let (a, b) = (self.root(a), self.root(b));
        if a == ZERO || b == ZERO {
            return a.min(b);
        }
        // The smaller number leads, so that FIXED does.
        self.parent[a.max(b) as usize] = a.min(b);
        a.min(b)
    }

    /// Everything along these axes has to stay.
    pub fn pin<'a>(&mut self, axes: impl IntoIterator<Item = &'a Axis>) {
        for axis in axes {
            if let Axis::Each(atoms) = axis {
                for &atom in atoms.iter().filter(|&&a| a != ZERO) {
                    self.union(atom, FIXED);
                }
            }
        }
    }

    /// Two axes whose positions meet one by one.
    pub fn meet(&mut self, a: &Axis, b: &Axis) -> Axis {
        match (a, b) {
            (Axis::Any, other) | (other, Axis::Any) => other.clone(),
            (Axis::Each(a), Axis::Each(b)) if a.len() == b.len() => {
                Axis::Each(a.iter().zip(&**b).map(|(&a, &b)| self.union(a, b)).collect())
            }
            _ => {
                self.pin([a, b]);
                Axis::Fixed
            }
        }
    }

    /// Two axes that a sum of products runs over. What meets a 0 has to stay: nobody could tell it from its neighbors.
    pub fn contract(&mut self, a: &Axis, b: &Axis) -> Axis {
        if let (Axis::Each(a), Axis::Each(b)) = (a, b) {
            for (&a, &b) in a.iter().zip(&**b).filter(|(a, b)| (**a == ZERO) != (**b == ZERO)) {
                self.union(a.min(b), FIXED);
            }
        }
        self.meet(a, b)
    }

    /// Axes of a tensor in another shape. Axes are matched in the smallest stretches of equal size; a stretch of several
    /// keeps the one that has classes, if it still is an axis on its own or has become part of a single one.
    pub fn reshape(&mut self, from: &[usize], axes: &[Axis], to: &[usize]) -> Vec<Axis> {
        let mut out = vec![Axis::Any; to.len()];
        let (mut i, mut j) = (0, 0);
        while i < from.len() || j < to.len() {
            let (start, begin) = (i, j);
            let (mut a, mut b) = (from.get(i).copied().unwrap_or(1), to.get(j).copied().unwrap_or(1));
            (i, j) = ((i + 1).min(from.len()), (j + 1).min(to.len()));
            while a != b && (i < from.len() || j < to.len()) {
                if a < b && i < from.len() {
                    a *= from[i];
                    i += 1;
                } else if j < to.len() {
                    b *= to[j];
                    j += 1;
                } else {
                    a *= from[i];
                    i += 1;
                }
            }
            self.stretch((&from[start..i], &axes[start..i]), &to[begin..j], &mut out[begin..j]);
        }
        out
    }

    fn stretch(&mut self, (from, axes): (&[usize], &[Axis]), to: &[usize], out: &mut [Axis]) {
        let long: Vec<usize> = (0..from.len()).filter(|&d| from[d] != 1).collect();
        // An axis of one channel loses its name among others of size 1.
        self.pin((0..from.len()).filter(|d| from[*d] == 1).map(|d| &axes[d]));
        let targets: Vec<usize> = (0..to.len()).filter(|&d| to[d] != 1).collect();
        if let ([d], [t]) = (&*long, &*targets) {
            out[*t] = axes[*d].clone();
            return;
        }
        let with_classes: Vec<usize> = long.iter().copied().filter(|&d| matches!(axes[d], Axis::Each(_))).collect();
        let [only] = &*with_classes else {
            self.pin(axes);
            let any = long.iter().all(|&d| matches!(axes[d], Axis::Any));
            targets.iter().for_each(|&t| out[t] = if any { Axis::Any } else { Axis::Fixed });
            return;
        };
        let Axis::Each(classes) = &axes[*only] else { return };
        let inner: usize = from[*only + 1..].iter().product();
        let n: usize = from.iter().product();
        let flat: Vec<Atom> = (0..n).map(|p| classes[p / inner.max(1) % from[*only]]).collect();
        let roots: Vec<Atom> = flat.iter().map(|&a| self.root(a)).collect();
        targets.iter().for_each(|&t| out[t] = Axis::Fixed);
        for &t in &targets {
            let inner: usize = to[t + 1..].iter().product();
            let at = |p: usize| p / inner.max(1) % to[t];
            let mut first = vec![None; to[t]];
            if (0..n).all(|p| *first[at(p)].get_or_insert(roots[p]) == roots[p]) {
                out[t] = Axis::Each(first.into_iter().flatten().collect());
                return;
            }
        }
        self.pin([&axes[*only]]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roots(atoms: &mut Atoms, axis: &Axis) -> Option<Vec<Atom>> {
        match axis {
            Axis::Each(a) => Some(a.iter().map(|&a| atoms.root(a)).collect()),
            _ => None,
        }
    }

    #[test]
    fn what_meets_merges_and_zeros_follow() {
        let mut atoms = Atoms::new();
        let (a, b) = (atoms.fresh(2), Axis::Each([ZERO, 1].into()));
        let met = atoms.meet(&a, &b);
        assert_eq!(roots(&mut atoms, &met), Some(vec![1, 1]), "position 1 meets the class of position 0");
        atoms.pin([&met]);
        assert_eq!(roots(&mut atoms, &a), Some(vec![FIXED, FIXED]));
    }

    #[test]
    fn a_flattened_axis_keeps_its_classes_and_comes_back() {
        let mut atoms = Atoms::new();
        let c = atoms.fresh(3);
        let flat = atoms.reshape(&[2, 3, 2, 1], &[Axis::Fixed, c.clone(), Axis::Fixed, Axis::Fixed], &[2, 6]);
        assert_eq!(roots(&mut atoms, &flat[1]), Some(vec![1, 1, 2, 2, 3, 3]));
        let back = atoms.reshape(&[2, 6], &flat, &[2, 3, 2]);
        assert_eq!(roots(&mut atoms, &back[1]), Some(vec![1, 2, 3]));
        // Cut into heads, a position is no channel any more.
        let heads = atoms.reshape(&[6], &[atoms_of(6)], &[2, 3]);
        assert!(heads.iter().all(|h| !matches!(h, Axis::Each(_))));
    }

    fn atoms_of(n: u32) -> Axis {
        Axis::Each((0..n).map(|i| i % 4).collect())
    }
}
