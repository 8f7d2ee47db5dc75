//! lorascope-games
