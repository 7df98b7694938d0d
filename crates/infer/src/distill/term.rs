//! The terms of a distillation's loss.

use serde::{Deserialize, Serialize};

/// One term, a mean over the rows of a batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Term {
    /// Cross-entropy with the labels.
    Labels,
    /// T²·KL(teacher‖student) of answers softened by the temperature T (Hinton, Vinyals, Dean 2015).
    Logits {
        /// T.
        temperature: f32,
    },
    /// ½·‖W∗f_s − f_t‖² of the outputs of two layers, W a learned 1 × 1 convolution (a matrix for vectors) from the
    /// student's channels to the teacher's (Romero et al. 2015, FitNets).
    Hint {
        /// Path of the student's layer.
        student: String,
        /// Path of the teacher's layer.
        teacher: String,
    },
    /// ‖A_s/‖A_s‖ − A_t/‖A_t‖‖² of the outputs of two layers with images of one size, A = Σ_c f² (Zagoruyko and
    /// Komodakis 2017).
    Attention {
        /// Path of the student's layer.
        student: String,
        /// Path of the teacher's layer.
        teacher: String,
    },
}

impl Term {
    /// The layers that it compares, student's and teacher's.
    pub(super) fn layers(&self) -> Option<[&str; 2]> {
        match self {
            Term::Hint { student, teacher } | Term::Attention { student, teacher } => Some([student, teacher]),
            Term::Labels | Term::Logits { .. } => None,
        }
    }

    /// Whether it looks at the teacher.
    pub(super) fn asks_teacher(&self) -> bool {
        *self != Term::Labels
    }
}

/// A term and what it counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Weighted {
    /// What it counts.
    pub weight: f32,
    /// The term.
    pub term: Term,
}

/// α·T²·KL(teacher‖student) + (1 − α)·cross-entropy (Hinton, Vinyals, Dean 2015).
pub fn hinton(temperature: f32, alpha: f32) -> Vec<Weighted> {
    vec![
        Weighted { weight: alpha, term: Term::Logits { temperature } },
        Weighted { weight: 1.0 - alpha, term: Term::Labels },
    ]
}

/// Hints alone, one for each pair of layers (student's, teacher's): the first stage of FitNets (Romero et al. 2015), whose
/// second stage is [`hinton`] from the parameters that this one ends with.
pub fn fitnets<S: Into<String>>(weight: f32, layers: impl IntoIterator<Item = [S; 2]>) -> Vec<Weighted> {
    let term = |[student, teacher]: [S; 2]| Term::Hint { student: student.into(), teacher: teacher.into() };
    layers.into_iter().map(|pair| Weighted { weight, term: term(pair) }).collect()
}

/// Cross-entropy and β times the distance of attention maps, one for each pair of layers (student's, teacher's): Zagoruyko
/// and Komodakis 2017. Where the distance is averaged over the pixels of a map, as in their code, β is larger by the number
/// of pixels.
pub fn attention_transfer<S: Into<String>>(beta: f32, layers: impl IntoIterator<Item = [S; 2]>) -> Vec<Weighted> {
    let term = |[student, teacher]: [S; 2]| Term::Attention { student: student.into(), teacher: teacher.into() };
    let maps = layers.into_iter().map(|pair| Weighted { weight: beta, term: term(pair) });
    std::iter::once(Weighted { weight: 1.0, term: Term::Labels }).chain(maps).collect()
}
