//! The page: one file, no network, everything escaped, nothing lost.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test or example may panic

mod common;

use lorascope_report::{Error, Page, PromptText, ProvenanceItem, render_html};

#[test]
fn the_page_holds_everything_once() {
    let html = render_html(&common::page()).unwrap();
    let count = |pattern: &str| html.matches(pattern).count();
    assert!(html.starts_with("<!DOCTYPE html>"));
    assert_eq!((count("<h1>"), count("<section id"), count("<figure "), count("<svg ")), (1, 3, 4, 4));
    assert_eq!((count("<figcaption>"), count("<details>"), count("role=\"img\"")), (4, 4, 4));
    assert_eq!((count("href=\"figures/decisions."), count("href=\"tables/decisions.csv\"")), (4, 11));
    assert_eq!((count("<script type=\"application/json\">"), count("<li class=\"card ")), (4, 4));
    assert!(html.contains("<a href=\"#decisions\">Figure decisions</a>"));
    assert!(!html.contains("href=\"#nowhere\""), "no link to a figure that is not there");
    assert!(html.contains("<li><a href=\"#lens\">Logit lens</a>"));
    assert!(html.contains("<div><dt>seed</dt> <dd>7</dd></div>"));
    assert!(html.contains("<th scope=\"col\" class=\"number\">delta</th>"));
    assert!(html.contains("The first 400 of 750 rows; the CSV file has all."));
    assert_eq!(html, render_html(&common::page()).unwrap(), "equal pages give equal bytes");
}

#[test]
fn the_page_needs_no_network_and_runs_one_script_only() {
    let html = render_html(&common::page()).unwrap();
    let own = html.rfind("<script>").unwrap();
    let (before, script) = html.split_at(own);
    for text in [before, script] {
        let addresses: Vec<_> =
            text.match_indices("http").map(|(at, _)| &text[at..(at + 26).min(text.len())]).collect();
        let known = |a: &&str| a.starts_with("http://www.w3.org/2000/svg") || a.starts_with("http-equiv");
        assert!(addresses.iter().all(known), "{addresses:?}");
    }
    for forbidden in ["<link", "<img", "<iframe", "@import", "javascript:", " src="] {
        assert!(!before.contains(forbidden), "{forbidden}");
    }
    let n_scripts = before.matches("<script").count();
    assert_eq!(n_scripts, before.matches("type=\"application/json\">").count(), "all others are data");
    assert!(before.contains("default-src 'none'; script-src 'sha256-"));
    assert!(!before.contains("script-src 'unsafe") && !before.contains("'unsafe-eval'"));
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
    page.warnings.push(bad());
    page.models.push(bad());
    let prompt = page.prompts[0].clone();
    page.prompts.push(PromptText { id: bad(), text: bad(), scenario: bad(), answer_a: bad(), ..prompt });
    let verdict = &mut page.verdicts[0];
    (verdict.question, verdict.claim, verdict.statement) = (bad(), bad(), bad());
    (verdict.about, verdict.value, verdict.rows) = (bad(), bad(), bad());
    let excerpt = verdict.excerpt.as_mut().unwrap();
    (excerpt.columns[0], excerpt.rows[0][1]) = (bad(), bad());
    page.tables[0].doc = bad();
    let html = render_html(&page).unwrap();
    assert!(!html.contains("<script>alert"));
    assert!(!html.contains("\"'&<"));
    assert!(html.matches("&#60;script&#62;").count() >= 14, "by the template");
    assert!(html.matches("&lt;script&gt;").count() >= 2, "inside the drawing");
}

#[test]
fn a_claim_leads_to_its_figure_and_to_its_rows_and_they_lead_back() {
    let html = render_html(&common::page()).unwrap();
    let has = |text: &str| assert!(html.contains(text), "{text}");
    has("<li class=\"card verdict-yes\" id=\"claim-rows-1\">");
    has("<a class=\"to-rows\" href=\"#rows-1\">Rows</a>");
    has("<details class=\"tables claim-rows\" id=\"rows-1\">");
    has("<th scope=\"col\" class=\"marked\">delta</th>");
    has("<td class=\"marked\">&#60;0.25&#62;</td>");
    has(
        "1 of 15 rows; the file has all: <a href=\"tables/decisions.csv\">decisions.csv</a> where model=strategic",
    );
    // The rows stand in the section of their table, and the figure there names the claim.
    let section = html.split("<section id=\"decide\"").nth(1).unwrap().split("</section>").next().unwrap();
    assert!(section.contains("id=\"rows-1\"") && section.contains("id=\"rows-4\""));
    assert!(section.contains("It bears on <a href=\"#claim-rows-1\">answers are probable: strategic</a>"));
    let mut page = common::page();
    page.verdicts[0].excerpt.as_mut().unwrap().rows[0][1] = "0.42669957230861516".to_owned();
    assert!(render_html(&page).unwrap().contains("<td title=\"0.42669957230861516\">0.4267</td>"));
    // A table that is not on the page has no rows there.
    page.tables.clear();
    let html = render_html(&page).unwrap();
    assert!(!html.contains("href=\"#rows-") && !html.contains("id=\"rows-"));
}

#[test]
fn both_colour_schemes_are_there_and_drawings_follow_them() {
    let html = render_html(&common::page()).unwrap();
    assert!(html.contains(
        "(prefers-color-scheme:dark){:root:not([data-theme=light]){color-scheme:dark;--ink:#E8EAED;"
    ));
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
    let ragged = refusal(|page| page.verdicts[1].excerpt.as_mut().unwrap().rows[0].truncate(2));
    assert!(matches!(ragged, Error::RowLength { row: 0, expected: 3, given: 2, .. }), "{ragged:?}");
}

#[test]
fn an_empty_page_is_still_a_page() {
    let page = Page { title: "t".to_owned(), lead: "l".to_owned(), ..Page::default() };
    let html = render_html(&page).unwrap();
    assert!(html.contains("<h1>t</h1>") && html.trim_end().ends_with("</html>"));
    assert!(!html.contains("provenance-heading"));
}
