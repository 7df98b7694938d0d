//! Benches of Acclimate.
