//! Numbers as sentences say them.

/// A share in whole percent.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.0}%", 100.0 * share)
}
