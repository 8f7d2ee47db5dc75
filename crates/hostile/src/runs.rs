//! Study files, and run folders that are gone on with or reported again.

use crate::{assert_is_told, files, folder};
use lorascope_record::{InputFile, RunFolder, RunKey};
use lorascope_study::report_files::{read_page, write_page};
use lorascope_study::study_file::{Prompts, StudyFile};
use lorascope_study::told;
use serde_json::json;
use std::path::Path;

/// A study file, read; prompts that it designs are made.
pub fn study(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let study = match StudyFile::parse(text, Path::new("/nowhere")) {
        Ok(study) => study,
        Err(error) => return assert_is_told(&told(&error)),
    };
    if let Prompts::Design(_) = study.prompts
        && let Err(error) = study.prompts.load()
    {
        assert_is_told(&told(&error));
    }
}

/// A run folder with this `manifest.json`, and behind a separator this `report.json`: opened to be gone on with, and to be reported.
pub fn resume(data: &[u8]) {
    let (manifest, report) = files(data);
    let folder = folder(&[("manifest.json", manifest), ("report.json", report.unwrap_or_default())]);
    let key = RunKey {
        command: "decide".to_owned(),
        settings: json!({"answers": ["A", "B"]}),
        seed: 7,
        inputs: Vec::<InputFile>::new(),
        command_line: Vec::new(),
        threads: 1,
    };
    match RunFolder::reopen(folder.path()) {
        Ok(run) => {
            let again = read_page(&run).and_then(|page| write_page(&run, &page));
            if let Err(error) = again {
                assert_is_told(&told(&error));
            }
        }
        Err(error) => assert_is_told(&error.to_string()),
    }
    match RunFolder::open(folder.path(), &key) {
        Ok(run) => {
            let part = run.part("decide/unit 1");
            assert!(part.is_ok_and(|part| part.is_none()), "a part out of nothing");
        }
        Err(error) => assert_is_told(&error.to_string()),
    }
}
