//! The tiny reference models beside the repository.

use std::path::{Path, PathBuf};

/// The folder of the tiny model of a family; `None`, said aloud, where the reference data is absent and not demanded.
pub fn tiny(family: &str) -> Option<PathBuf> {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    if shared.is_dir() {
        return Some(shared.join("tiny").join(family).join("model"));
    }
    let demanded = std::env::var("LORASCOPE_REQUIRE_SHARED").is_ok_and(|value| value == "1");
    assert!(!demanded, "`{}` is absent, and LORASCOPE_REQUIRE_SHARED=1 demands it", shared.display());
    println!("skipped: `{}` is absent", shared.display());
    None
}
