//! Philox4x32-10 and the draws made from it.
