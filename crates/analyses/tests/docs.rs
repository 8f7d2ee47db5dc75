//! `docs/tables.md` is generated from the registry: this test fails where the two differ.
//!
//! `LORASCOPE_WRITE_DOCS=1 cargo test -p lorascope-analyses --test docs` writes the page anew.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at the first surprise")]

use lorascope_analyses::ANALYSES;
use std::fmt::Write;
use std::path::Path;

const HEAD: &str = "\
# Tables

<!-- Generated from the declarations of the analyses; `LORASCOPE_WRITE_DOCS=1 cargo test -p lorascope-analyses --test docs` writes it. -->

Every analysis writes its tables to `tables/NAME.csv` and `tables/NAME.parquet` of the run folder; both hold the same
rows. Identifying columns come first. The base model is called `base`, an adapter by the name it was given. A value that
is undefined is null (empty in CSV), never NaN. Numbers are differences, effects or probabilities as their line says;
`delta` always speaks for answer B where it is positive. Logarithms are natural.
";

fn page() -> String {
    let mut page = HEAD.to_owned();
    for analysis in ANALYSES {
        write!(page, "\n## {}: `{}`\n\n{}\n", analysis.title(), analysis.name(), analysis.question())
            .unwrap();
        for table in analysis.tables() {
            write!(page, "\n{}", table.markdown()).unwrap();
        }
    }
    page
}

#[test]
fn the_page_of_tables_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/tables.md");
    let page = page();
    if std::env::var_os("LORASCOPE_WRITE_DOCS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    let difference = page.lines().zip(written.lines()).find(|(want, found)| want != found);
    assert!(
        page == written,
        "docs/tables.md is not what the registry says (first difference: {difference:?}); write it anew with \
         `LORASCOPE_WRITE_DOCS=1 cargo test -p lorascope-analyses --test docs`"
    );
}
