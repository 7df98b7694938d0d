//! acclimate-tensor
