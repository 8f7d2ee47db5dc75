//! `docs/train.md` names every setting with its default and every column of the tables.
//!
//! `LORASCOPE_WRITE_DOCS=1 cargo test -p lorascope-train --test docs` writes the tables anew.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at the first surprise")]

use lorascope_train::confirm::CONFIRM_TABLES;
use lorascope_train::{Settings, TABLES};
use std::path::Path;
use toml::{Table, Value};

/// Keys with dots and their values; an empty table is a value.
fn flat(table: &Table, before: &str, found: &mut Vec<(String, Value)>) {
    for (key, value) in table {
        let key = format!("{before}{key}");
        match value {
            Value::Table(inner) if !inner.is_empty() => flat(inner, &format!("{key}."), found),
            other => found.push((key, other.clone())),
        }
    }
}

#[test]
fn the_page_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/train.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (head, rest) = page.split_once("## Tables\n\n").unwrap();
    let (_, tail) = rest.split_once("\n## Is it right?").unwrap();
    let tables: Vec<String> = TABLES.iter().chain(CONFIRM_TABLES).map(|t| t.markdown()).collect();
    assert!(TABLES.iter().chain(CONFIRM_TABLES).all(|t| t.problems().is_empty()));
    let current = format!("{head}## Tables\n\n{}\n## Is it right?{tail}", tables.join("\n"));
    if std::env::var_os("LORASCOPE_WRITE_DOCS").is_some() {
        std::fs::write(&path, &current).unwrap();
    } else {
        assert!(
            page == current,
            "write it anew with `LORASCOPE_WRITE_DOCS=1 cargo test -p lorascope-train --test docs`"
        );
    }
    let mut settings = Vec::new();
    flat(&Table::try_from(Settings::default()).unwrap(), "", &mut settings);
    assert!(settings.len() > 25);
    for (key, value) in settings {
        // The document writes the number as TOML may read it, not as it is printed.
        let line = page
            .lines()
            .find(|l| l.starts_with(&format!("| `{key}` |")))
            .unwrap_or_else(|| panic!("no `{key}`"));
        let default = line.split('`').nth(3).unwrap();
        let read: Table = format!("value = {default}").parse().unwrap();
        assert_eq!(read["value"], value, "{key}");
    }
}
