//! lorascope-engine
