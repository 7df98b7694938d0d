//! acclimate-acclimate
