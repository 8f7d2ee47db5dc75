//! Side effects: how far trainings move the base where nothing was to change.

use super::measure::Measured;
use super::plan::Plan;
use super::tables::TEXT;
use crate::error::Result;
use lorascope_analyses::{Interval, Resampler};
use lorascope_record::Table;

/// Mean over tokens of KL(base ‖ model), with its interval over documents.
pub(super) fn kl_of(measured: &Measured, model: usize, seed: u64) -> Interval {
    let names: Vec<String> = measured.text.iter().map(|d| format!("{:04}", d.number)).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let kl: Vec<f64> = measured.text.iter().map(|d| d.kl[model]).collect();
    let tokens: Vec<f64> = measured.text.iter().map(|d| d.tokens as f64).collect();
    Resampler::new(&names, seed).ratio(&kl, &tokens)
}

/// One row a training and document.
pub(super) fn text_table(plan: &Plan, measured: &Measured) -> Result<Table> {
    let mut table = Table::new(&TEXT);
    for (i, arm) in plan.arms.iter().enumerate() {
        for d in &measured.text {
            let kl = d.kl[i + 1] / d.tokens as f64;
            table.push(&[arm.name.as_str().into(), d.number.into(), d.tokens.into(), kl.into()])?;
        }
    }
    Ok(table)
}
