//! The words that matter: a cheap network scores every word of a text, an expensive one reads only the best of them.
//!
//! The [`Reader`] (wide embeddings, self-attention: quadratic in the words it reads) is what answers. The [`Scorer`] (narrow
//! embeddings: linear) says how much each word matters *in this text*: s_i = e_i·(W c + b), with c what all its words
//! say together. A [`WordSelector`] keeps the best share of the words of each text and has the reader read those alone.
//!
//! It learns in three parts ([`learn_reader`], [`learn_scorer`], [`learn_together`]): the reader on all words; the scorer on
//! what each word contributes to the reader's answer (the gradient by the word's weight), which is an answer for every word
//! in place of one bit for each choice; then both on the chosen words alone, by L2X with Gumbel noise.

mod learn;
mod network;
mod selector;
mod statics;

pub use learn::{WordRecipe, contributions, learn_reader, learn_scorer, learn_together};
pub use network::{Reader, Scorer};
pub use selector::{Chosen, Texts, WordReading, WordSelector};
pub use statics::{Worth, linear_weights, mean_contributions, mutual_information, vocabulary_of};
