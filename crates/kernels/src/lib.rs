//! lorascope-kernels
