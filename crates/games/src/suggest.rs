//! "Did you mean …?" for names that are not known.

/// "; did you mean `x`?" for the known name nearest to `name`, or nothing where none is near.
pub(crate) fn hint(name: &str, known: &[&str]) -> String {
    let allowed = (name.chars().count() / 3).clamp(1, 4);
    let nearest = known.iter().map(|k| (distance(&name.to_lowercase(), &k.to_lowercase()), *k)).min();
    match nearest {
        Some((d, k)) if d <= allowed => format!("; did you mean `{k}`?"),
        _ => String::new(),
    }
}

/// All known names, for the end of a message.
pub(crate) fn list(known: &[&str]) -> String {
    known.iter().map(|k| format!("`{k}`")).collect::<Vec<_>>().join(", ")
}

/// Levenshtein distance: the fewest insertions, deletions and replacements of one character.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, &cb) in b.iter().enumerate() {
            let replaced = corner + usize::from(ca != cb);
            corner = row[j + 1];
            row[j + 1] = replaced.min(corner + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("same", "same"), 0);
    }

    #[test]
    fn only_near_names_are_suggested() {
        assert_eq!(hint("stag_hnut", &["ipd", "stag_hunt"]), "; did you mean `stag_hunt`?");
        assert_eq!(hint("poker", &["ipd", "stag_hunt"]), "");
    }
}
