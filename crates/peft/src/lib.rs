//! lorascope-peft
