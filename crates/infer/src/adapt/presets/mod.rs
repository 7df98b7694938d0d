//! Known methods, each a value with its reference's defaults. Each says what its paper or reference leaves open, and what
//! was chosen.

mod entropy;
mod gradient_free;
mod single;
mod teacher;

pub use entropy::{
    asr, come, deyo, eata, eta, eta_come, pseudo_label, rdumb, roid, roid_views, rpl, sar, sar_come, shot_im, tent,
};
pub use gradient_free::{
    alpha_bn, ema_bn, forward_only, lame, prior_bn, prior_corrected, statistics, t3a, temperature,
};
pub use single::{calibrate, frozen, memo, memo_affine, memo_low_rank, stretch, ttt, ttt_mae, vote};
pub use teacher::{cotta, distill_online, note, rotta};
