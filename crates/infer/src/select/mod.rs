//! Adaptive feature selection: for *this* input, the features worth their cost, one by one, until the answer is sure enough;
//! for texts, the words that matter.
//!
//! A [`Selector`] is a predictor that answers from any subset of the [`Features`] and a network that says which feature to buy
//! next. How they learn is a [`Method`], a value: [`gdfs`] and [`dime`] buy one feature after another, knowing only what
//! they bought; [`invase`] and [`l2x`] see the whole input and keep a part of it. [`learn`] runs any of them by the training
//! loop of `acclimate-train`. An [`Acquirer`] buys for many inputs side by side, one submission a round, by a [`Stop`] rule,
//! and says of each what it bought, what that did to the answer's entropy, what was spent and why it stopped: [`Acquired`].
//!
//! [`words`] does the same for texts, where a cheap network reads all words and an expensive one only those it chose.
//!
//! ```
//! use std::sync::Arc;
//! use acclimate_infer::select::{Acquirer, Features, Recipe, Rows, Selector, Stop, dime, learn};
//! use acclimate_tensor::Device;
//! use acclimate_train::{Layer, fit::Progress};
//!
//! // The class is the sign of `a`; `b` says nothing.
//! let x = (0..64).flat_map(|i| [if i % 2 == 0 { -1.0 } else { 1.0 }, (i / 2 % 2) as f32]).collect();
//! let rows = Rows::new(x, (0..64).map(|i| i % 2).collect(), 2)?;
//! let selector = Arc::new(Selector::mlp(Features::named(["a", "b"])?, 2, &[16], 0.0, dime(2))?);
//! let recipe = Recipe {
//!     warm_up: 20, epochs: 60, batch: 16, rate: 1e-2, last_rate: 1e-4, seed: 0, progress: Progress::Silent,
//! };
//! let params = learn(&selector, selector.init(&Device::cpu(), 0)?, &rows, &recipe)?;
//!
//! let acquired = Acquirer::new(selector, params, Stop::never().confident(0.2))?.on(&rows)?;
//! assert!(acquired.iter().all(|a| a.bought.len() == 1 && a.bought[0].name == "a"));
//! println!("{}", acquired[0]); // a (cost 1): entropy 0.693 to .., expected .. less; class 0, spent 1, confident: ..
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod acquire;
mod features;
mod learn;
mod method;
mod relaxed;
mod selector;
mod statics;
mod stop;
pub mod words;

pub use acquire::{Acquired, Acquirer, Bought, Kept};
pub use features::Features;
pub use learn::{Recipe, Rows, learn, learn_static, warm_up};
pub use method::{Method, dime, gdfs, invase, l2x};
pub use relaxed::{concrete, gumbel, k_hot, one_hot_of_largest, relaxed_k_hot, straight_through};
pub use selector::{Draws, Selector};
pub use statics::{Judge, Judged};
pub use stop::{Reason, Stop};

use crate::error::Error;

/// An error as the training loop wants it.
fn in_training(error: Error) -> acclimate_train::Error {
    match error {
        Error::Train(e) => e,
        Error::Tensor(e) => e.into(),
        other => acclimate_train::Error::argument("selector", "inputs that fit it", other),
    }
}
