//! `lorascope check`: the identities of the residual stream on a loaded model.

use crate::args::CheckArgs;
use crate::progress::Bars;
use anyhow::Result;
use lorascope_engine::check;
use lorascope_study::open::open;
use lorascope_text::Special;
use std::process::ExitCode;

/// Checks every model; fails where an identity does not hold.
pub fn run(args: &CheckArgs) -> Result<ExitCode> {
    args.models.machine.take()?;
    let opened = open(&args.models.models(), 0, &Bars::default())?;
    let tokens = opened.tokenizer.encode(&args.text, Special::AddBos)?.ids;
    let mut broken = 0;
    for which in 0..opened.model.n_models() {
        println!("{}", opened.model.name(which));
        for c in check(&opened.model, which, &tokens)? {
            let verdict = if c.holds() { "holds" } else { "BROKEN" };
            println!("  {verdict:6}  off by {:.1e} (at most {:.0e})  {}", c.worst, c.tolerance, c.identity);
            broken += usize::from(!c.holds());
        }
    }
    if broken > 0 {
        eprintln!("error: {broken} identities do not hold; results of this model can't be trusted");
        return Ok(ExitCode::from(1));
    }
    Ok(ExitCode::SUCCESS)
}
