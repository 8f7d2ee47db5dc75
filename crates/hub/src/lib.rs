//! lorascope-hub
