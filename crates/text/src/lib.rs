//! lorascope-text
