//! lorascope-report
