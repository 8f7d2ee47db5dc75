//! What tests of training share.

use std::path::{Path, PathBuf};

/// The reference data beside the repository, or `None` (said aloud).
pub fn tiny(family: &str) -> Option<PathBuf> {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let folder = shared.join("tiny").join(family).join("model");
    if folder.is_dir() {
        return Some(folder);
    }
    let required = std::env::var("LORASCOPE_REQUIRE_SHARED").is_ok_and(|v| v == "1");
    assert!(!required, "{} is missing, and LORASCOPE_REQUIRE_SHARED=1 demands it", folder.display());
    println!("skipped: reference data not found at {}", folder.display());
    None
}
