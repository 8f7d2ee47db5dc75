//! `lorascope report`: the page and the figures of a finished run, written again from what lies in its folder.

use crate::args::ReportArgs;
use anyhow::Result;
use lorascope_record::RunFolder;
use lorascope_study::report_files::{read_page, write_figures, write_page};
use std::process::ExitCode;

/// Writes them; no model is opened.
pub fn run(args: &ReportArgs) -> Result<ExitCode> {
    let folder = RunFolder::reopen(&args.dir)?;
    let page = read_page(&folder)?;
    if !args.page_only {
        page.sections.iter().try_for_each(|section| write_figures(&folder, section))?;
    }
    write_page(&folder, &page)?;
    println!("{}", args.dir.join("report.html").display());
    Ok(ExitCode::SUCCESS)
}
