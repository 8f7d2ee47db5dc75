//! The page's one script, the data that it reads, and the policy that lets nothing else run.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// Built from `web/`; the test command makes sure that it is what its source gives.
pub(crate) const SCRIPT: &str = include_str!("../assets/report.js");

/// What the page may do: run this very script, show data that it carries, and make files of its own drawings.
pub(crate) fn content_policy() -> String {
    let hash = STANDARD.encode(Sha256::digest(SCRIPT));
    format!(
        "default-src 'none'; script-src 'sha256-{hash}'; style-src 'unsafe-inline'; font-src data:; img-src data: blob:; \
         base-uri 'none'; form-action 'none'"
    )
}

/// `value` as JSON that can stand in a script element: nothing in it can end the element or begin a comment.
pub(crate) fn data_block(value: &impl Serialize) -> Result<String> {
    let json = serde_json::to_string(value).map_err(|source| Error::Data { source })?;
    Ok(json.replace('<', "\\u003c"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_can_not_end_its_element() {
        let block = data_block(&"</script><!--<script>").unwrap();
        assert!(!block.contains('<'), "{block}");
        assert_eq!(serde_json::from_str::<String>(&block).unwrap(), "</script><!--<script>");
    }

    #[test]
    fn the_script_fits_into_a_page() {
        assert!(!SCRIPT.contains("</script") && !SCRIPT.contains("<!--"));
    }
}
