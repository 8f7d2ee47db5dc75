//! Numbers as sentences say them.

/// A share in whole percent. Zero has no sign.
pub(crate) fn percent(share: f64) -> String {
    let text = format!("{:.0}%", 100.0 * share);
    if text == "-0%" { "0%".to_owned() } else { text }
}

/// A change in whole percent, with its sign. Zero has none.
pub(crate) fn signed_percent(share: f64) -> String {
    let text = format!("{:+.0}%", 100.0 * share);
    if matches!(text.as_str(), "+0%" | "-0%") { "0%".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_has_no_sign() {
        assert_eq!([0.0, -0.0, -0.004, 0.004].map(percent), ["0%"; 4]);
        assert_eq!([0.0, -0.0, -0.004, 0.004].map(signed_percent), ["0%"; 4]);
        assert_eq!([-0.126, 0.5, 10.0].map(signed_percent), ["-13%", "+50%", "+1000%"]);
        assert_eq!([-0.126, 0.5, 10.0].map(percent), ["-13%", "50%", "1000%"]);
    }
}
