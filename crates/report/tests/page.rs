//! The page: one file, no network, everything escaped, nothing lost.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test or example may panic

mod common;

use lorascope_report::{Error, Page, ProvenanceItem, render_html};

#[test]
fn the_page_holds_everything_once() {
    let html = render_html(&common::page()).unwrap();
    let count = |pattern: &str| html.matches(pattern).count();
    assert!(html.starts_with("<!DOCTYPE html>"));
    assert_eq!((count("<h1>"), count("<section "), count("<figure "), count("<svg ")), (1, 3, 4, 4));
    assert_eq!((count("<figcaption>"), count("<details>"), count("role=\"img\"")), (4, 4, 4));
    assert_eq!((count("href=\"data:image/svg+xml;base64,"), count("href=\"data:text/csv;base64,")), (4, 4));
    assert!(html.contains("<li><a href=\"#lens\">Logit lens</a>"));
    assert!(html.contains("<div><dt>seed</dt> <dd>7</dd></div>"));
    assert!(html.contains("<th scope=\"col\" class=\"number\">delta</th>"));
    assert!(html.contains("The first 400 of 750 rows; the CSV file has all."));
    assert_eq!(html, render_html(&common::page()).unwrap(), "equal pages give equal bytes");
}

#[test]
fn the_page_needs_no_network_and_runs_no_script() {
    let html = render_html(&common::page()).unwrap();
    let addresses: Vec<_> =
        html.match_indices("http").map(|(at, _)| &html[at..(at + 26).min(html.len())]).collect();
    assert!(
        addresses.iter().all(|a| a.starts_with("http://www.w3.org/2000/svg") || a.starts_with("http-equiv"))
    );
    for forbidden in ["<script", "<link", "<img", "<iframe", "@import", "javascript:", " src="] {
        assert!(!html.contains(forbidden), "{forbidden}");
    }
    assert!(html.contains("default-src 'none'"));
}

#[test]
fn ids_are_unique() {
    let html = render_html(&common::page()).unwrap();
    let mut ids: Vec<_> = html.split(" id=\"").skip(1).map(|rest| rest.split('"').next()).collect();
    let n_ids = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), n_ids);
    assert!(n_ids > 10);
}

#[test]
fn markup_in_any_text_is_text() {
    let bad = || "</title><script>alert(1)</script>\"'&".to_owned();
    let mut page = common::page();
    (page.title, page.lead) = (bad(), bad());
    page.provenance.push(ProvenanceItem { name: bad(), value: bad() });
    let section = &mut page.sections[0];
    (section.title, section.question) = (bad(), bad());
    section.paragraphs.push(bad());
    section.notes.push(bad());
    section.tables[0].title = bad();
    section.tables[0].rows[0][0] = bad();
    (section.tables[0].columns[0].name, section.tables[0].columns[0].doc) = (bad(), bad());
    (section.figures[0].title, section.figures[0].caption) = (bad(), bad());
    let html = render_html(&page).unwrap();
    assert!(!html.contains("<script"));
    assert!(!html.contains("\"'&<"));
    assert!(html.matches("&#60;script&#62;").count() >= 14, "by the template");
    assert!(html.matches("&lt;script&gt;").count() >= 2, "inside the drawing");
}

#[test]
fn both_colour_schemes_are_there_and_drawings_follow_them() {
    let html = render_html(&common::page()).unwrap();
    assert!(html.contains("@media screen and (prefers-color-scheme:dark){:root{--ink:#E8EAED;"));
    assert!(html.contains("svg .stroke-c0{stroke:var(--c0)}"));
    assert!(html.contains("class=\"stroke-c0\" stroke=\"#0072B2\""));
    assert!(html.contains("@media print"));
}

#[test]
fn malformed_pages_are_refused() {
    let refusal = |change: fn(&mut Page)| {
        let mut page = common::page();
        change(&mut page);
        render_html(&page).unwrap_err()
    };
    let twice = refusal(|page| page.sections[1].id = "decide".to_owned());
    assert!(matches!(&twice, Error::BadName { name, .. } if name == "decide"), "{twice:?}");
    let space = refusal(|page| page.sections[1].id = "a b".to_owned());
    assert!(matches!(space, Error::BadName { .. }), "{space:?}");
    let ragged = refusal(|page| page.sections[0].tables[0].rows[2].truncate(1));
    assert!(matches!(ragged, Error::RowLength { row: 2, expected: 3, given: 1, .. }), "{ragged:?}");
}

#[test]
fn an_empty_page_is_still_a_page() {
    let page =
        Page { title: "t".to_owned(), lead: "l".to_owned(), sections: Vec::new(), provenance: Vec::new() };
    let html = render_html(&page).unwrap();
    assert!(html.contains("<h1>t</h1>") && html.trim_end().ends_with("</html>"));
    assert!(!html.contains("provenance-heading"));
}
