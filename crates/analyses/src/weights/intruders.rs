//! Intruder dimensions: large singular vectors of W + ΔW that are no singular vectors of W (Shuttleworth et al. 2024,
//! arXiv 2410.21228), as a table; [`lorascope_numerics::intruders`] finds them.

use super::settings::Settings;
use super::tables::INTRUDERS;
use super::variants::{Block, Change, Variant};
use crate::activity::ChangeKind;
use crate::activity::change::kind_of;
use crate::error::Result;
use lorascope_engine::{ControlKind, Model};
use lorascope_numerics::intruders::Eigenbasis;
use lorascope_record::{Table, row};

/// Adds the rows of one block.
pub(super) fn of_block(
    model: &Model<f32>,
    variants: &[Variant],
    block: &Block,
    settings: &Settings,
) -> Result<Table> {
    let mut table = Table::new(&INTRUDERS);
    // In another layer an update meets other singular vectors, as a random one does.
    let asked = |c: &&Change| {
        let variant = &variants[c.variant];
        variant.control != Some(ControlKind::Shuffled)
            && kind_of(&variant.adapter, &c.update) == ChangeKind::LowRank
    };
    let changes: Vec<&Change> = block.changes.iter().filter(asked).collect();
    if changes.is_empty() || block.n_out.min(block.n_in) > settings.intruder_width {
        return Ok(table);
    }
    let mut weight = Vec::with_capacity(block.n_out * block.n_in);
    block.weight_rows(model, |_, piece| weight.extend(piece.iter().map(|&w| f64::from(w))))?;
    let base = Eigenbasis::new(&weight, block.n_out, block.n_in);
    for change in changes {
        let variant = &variants[change.variant];
        for (component, found) in base.largest(&change.svd, settings.intruders).into_iter().enumerate() {
            table.push(&row![
                model.name(variant.model),
                variant.control_name(),
                block.layer,
                block.module.name(),
                component,
                found.nearest,
                found.cosine < settings.intruder_cosine,
                found.value,
                found.cosine
            ])?;
        }
    }
    Ok(table)
}
