//! Meta-learning.
