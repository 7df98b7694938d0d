//! acclimate-train
