//! The WGSL of Acclimate.
