//! lorascope-record
