//! lorascope-prompts
