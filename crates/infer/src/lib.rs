//! acclimate-infer
