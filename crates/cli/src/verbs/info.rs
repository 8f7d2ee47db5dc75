//! `lorascope info`: what a base model and its adapters are.

use crate::args::InfoArgs;
use crate::open::{open, set_threads};
use crate::progress::Bars;
use anyhow::Result;
use std::process::ExitCode;

/// Describes the models.
pub fn run(args: &InfoArgs) -> Result<ExitCode> {
    set_threads(args.models.threads)?;
    let opened = open(&args.models, &Bars::default())?;
    let spec = opened.model.spec();
    println!("family      {}", spec.family);
    println!("layers      {}", spec.n_layers);
    println!("width       {}", spec.d_model);
    println!("heads       {} ({} for keys and values), width {}", spec.n_heads, spec.n_kv_heads, spec.d_head);
    println!("mlp         {}", spec.d_mlp);
    println!("vocabulary  {}", spec.d_vocab);
    println!("context     {}", spec.n_ctx);
    println!("parameters  {}", spec.n_parameters());
    println!("packed      {} bytes", opened.model.panel_bytes());
    Ok(ExitCode::SUCCESS)
}
