//! DLPack 1.1 exchange types.
