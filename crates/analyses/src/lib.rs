//! lorascope-analyses
