//! Every file with `unsafe` in it stands in docs/reliability.md, with how many places it has and why they hold.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Rust sources below a folder.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// Places where the compiler's checks are set aside: blocks, functions and implementations.
fn unsafe_places(source: &str) -> usize {
    let code = source.lines().map(|line| line.split("//").next().unwrap_or_default());
    let starts = ["unsafe {", "unsafe fn ", "unsafe impl", "unsafe extern", "unsafe trait"];
    code.map(|line| starts.iter().map(|start| line.matches(start).count()).sum::<usize>()).sum()
}

/// A block or implementation says why it holds just before it; a function says in its documentation what its caller must promise.
fn unexplained(source: &str) -> Vec<usize> {
    let lines: Vec<&str> = source.lines().collect();
    let said = |at: usize, reach: usize, what: &str| {
        lines[at.saturating_sub(reach)..=at].iter().any(|l| l.contains(what))
    };
    let explained = |at: usize, line: &str| {
        let code = line.split("//").next().unwrap_or_default();
        let block = ["unsafe {", "unsafe impl"].iter().any(|start| code.contains(start));
        let function = code.contains("unsafe fn ");
        (!block || said(at, 5, "SAFETY:")) && (!function || said(at, 8, "# Safety"))
    };
    lines.iter().enumerate().filter(|(at, line)| !explained(*at, line)).map(|(at, _)| at + 1).collect()
}

#[test]
fn the_documentation_lists_every_file_with_unsafe() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
    let mut files = Vec::new();
    for krate in fs::read_dir(root.join("crates")).unwrap() {
        let src = krate.unwrap().path().join("src");
        if src.is_dir() {
            sources(&src, &mut files);
        }
    }
    let mut there = BTreeMap::new();
    for file in files {
        let source = fs::read_to_string(&file).unwrap();
        let n = unsafe_places(&source);
        assert_eq!(unexplained(&source), [0; 0], "{}: lines without `SAFETY:` or `# Safety`", file.display());
        if n > 0 {
            there.insert(file.strip_prefix(&root).unwrap().display().to_string(), n);
        }
    }
    let page = fs::read_to_string(root.join("docs/reliability.md")).unwrap();
    let row = |line: &str| {
        let mut cells = line.strip_prefix("| `crates/")?.split(" | ");
        let file = format!("crates/{}", cells.next()?.trim_end_matches('`'));
        Some((file, cells.next()?.trim().parse::<usize>().ok()?))
    };
    let listed: BTreeMap<String, usize> = page.lines().filter_map(row).collect();
    assert_eq!(listed, there, "docs/reliability.md (left) lists other places than there are (right)");
}
