//! Distillation: a small network learns from what a large one answers, from its features, from where it looks, or from
//! what it was itself a while ago.
//!
//! A distillation is a value, [`Distill`]: who teaches ([`Teacher`]) and which terms the loss has ([`Term`]). It makes an
//! ordinary loop of it ([`acclimate_train::fit::Fit`]), so that batches, schedules, progress, checkpoints and early stops
//! are those of any training. [`hinton`], [`fitnets`] and [`attention_transfer`] are the losses of known papers; a born-again
//! network (Furlanello et al. 2018) is a [`Teacher::Network`] that is an earlier generation of the student.
//!
//! While a model is in use, a student goes on learning from its teacher on the stream that it answers:
//! [`crate::adapt::Objective::Distill`] over an [`acclimate_train::nn::Taught`], run by the one driver, within its guards and
//! with its receipts.

mod distillation;
mod inherit;
mod record;
mod term;

pub use distillation::{Distill, Lesson, Teacher};
pub use inherit::inherit;
pub use record::record;
pub use term::{Term, Weighted, attention_transfer, fitnets, hinton};
