//! acclimate-kernels
