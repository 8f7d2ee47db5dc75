//! What was found, in sentences and a small table.

use super::Tables;
use super::apart::Patient;
use super::settings::Settings;
use crate::circuit::prompts::Split;
use crate::context::Context;
use crate::error::Result;
use crate::mixtures::{shown, text};
use crate::words::percent;
use lorascope_record::Table;
use lorascope_report::{SummaryColumn, SummaryTable};

/// Rows of a table that belong to an adapter.
pub(super) fn rows_of(table: &Table, adapter: &str) -> Result<Vec<usize>> {
    let names = table.texts("adapter")?;
    Ok((0..table.n_rows()).filter(|&row| names[row] == adapter).collect())
}

/// What one adapter's parts do.
pub(super) fn paragraph(
    context: &Context,
    settings: &Settings,
    tables: &Tables,
    patient: &Patient,
) -> Result<String> {
    let name = context.subject.model.name(patient.model);
    let (size, (moved, n)) = (patient.size, patient.moved);
    let about = format!(
        "{name} moves ln p(B)/p(A) by {:.3} nats on average [{:.3}, {:.3}]; {moved} of {n} prompts by {} or more.",
        size.mean, size.lo, size.hi, settings.floor
    );
    if moved == 0 {
        return Ok(format!("{about} There is nothing to recover."));
    }
    let rows = rows_of(&tables.blocks, name)?;
    let largest = |column: &str| -> Result<String> {
        let values = tables.blocks.floats_or_null(column)?;
        let size = |row: usize| values[row].unwrap_or(f64::NEG_INFINITY);
        // The first of equals.
        let best = rows.iter().copied().reduce(|a, b| if size(b) > size(a) { b } else { a });
        let Some(row) = best else { return Ok(String::new()) };
        let label = patient.blocks[row - rows[0]].label();
        Ok(format!("{label} ({})", text(shown(&tables.blocks, column, row)?)))
    };
    let clear = |column: &str| -> Result<usize> {
        let q = tables.blocks.floats(column)?;
        Ok(rows.iter().filter(|&&row| q[row] <= 0.05).count())
    };
    let singles = format!(
        "Of its {} blocks, {} costs the most of this when it is left out, and {} recovers the most alone; {} and {} blocks \
         differ from nothing after correction (q ≤ 0.05).",
        rows.len(),
        largest("left_out")?,
        largest("alone")?,
        clear("left_out_q")?,
        clear("alone_q")?
    );
    let sets = &tables.sets;
    let kinds = sets.texts("set")?;
    let Some(&row) = rows_of(sets, name)?.iter().find(|&&row| kinds[row] == "smallest") else {
        return Ok(format!("{about} {singles}"));
    };
    let held_out = match sets.ints("n_held_out")?[row] {
        0 => "there are no other prompts to test it on".to_owned(),
        n => format!("{} on {n} other prompts", text(shown(sets, "held_out", row)?)),
    };
    let random = match (shown(sets, "random", row)?, sets.floats_or_null("random_p")?[row]) {
        (Some((mean, lo, hi)), Some(p)) => format!(
            " {} random sets of as many blocks recover {} on average, 95% of them between {} and {} (p = {p:.3}).",
            settings.orders,
            percent(mean),
            percent(lo),
            percent(hi)
        ),
        _ => String::new(),
    };
    let smallest = format!(
        "The smallest set found that recovers {} or more has {} of {} blocks with {} of the parameters: {}. It recovers {} on the \
         prompts on which it was chosen, and {held_out}.{random}",
        percent(settings.share),
        sets.ints("n_blocks")?[row],
        rows.len(),
        percent(sets.floats("parameter_share")?[row]),
        sets.texts("blocks")?[row],
        text(shown(sets, "recovery", row)?)
    );
    Ok(format!("{about} {singles} {smallest}"))
}

/// The smallest sets of all adapters.
pub(super) fn table(tables: &Tables) -> Result<SummaryTable> {
    let sets = &tables.sets;
    let column = |name: &str, doc: &str, numeric| SummaryColumn {
        name: name.to_owned(),
        doc: doc.to_owned(),
        numeric,
    };
    let mut rows = Vec::new();
    for row in 0..sets.n_rows() {
        let random = shown(sets, "random", row)?;
        rows.push(vec![
            sets.texts("adapter")?[row].to_owned(),
            sets.texts("set")?[row].to_owned(),
            sets.ints("n_blocks")?[row].to_string(),
            percent(sets.floats("parameter_share")?[row]),
            text(shown(sets, "recovery", row)?),
            shown(sets, "held_out", row)?.map_or(String::new(), |s| text(Some(s))),
            random.map_or(String::new(), |(mean, ..)| percent(mean)),
            sets.texts_or_null("folder")?[row].clone().unwrap_or_default(),
        ]);
    }
    Ok(SummaryTable {
        title: "Sets that are enough".to_owned(),
        columns: vec![
            column("adapter", "The adapter that is taken apart.", false),
            column(
                "set",
                "As the greedy order reached the share, or the shortest beginning of any order that does, after pruning.",
                false,
            ),
            column("blocks", "Number of blocks.", true),
            column("parameters", "Their share of the adapter's parameters.", true),
            column(
                "recovery",
                "Behaviour recovered on the prompts on which it was chosen, with its 95% interval.",
                true,
            ),
            column(
                "held out",
                "The same on other prompts: the prediction for whoever uses or trains this set.",
                true,
            ),
            column("random", "Mean recovery of random sets of as many blocks.", true),
            column("folder", "PEFT adapter in the run folder with exactly these updates.", false),
        ],
        rows,
    })
}

/// What a reader must know.
pub(super) fn notes(settings: &Settings, split: &Split, patients: &[Patient]) -> Vec<String> {
    let mut notes = vec![
        "All spellings of both answers count, and blocks are off (or another adapter's) at every token, those of the answers included."
            .to_owned(),
    ];
    if patients.is_empty() {
        return notes;
    }
    notes.push(format!(
        "Sets are chosen on {} prompts, and their recovery there is too high for that reason: the held out one is not. Random sets are \
         measured there too. Fewer than all sets are tried, so a smaller one may exist.",
        split.grow.len()
    ));
    let tried = match settings.candidates {
        0 => "all blocks that are left".to_owned(),
        n => format!("at most {n} blocks, those with the largest last known gains"),
    };
    notes.push(format!(
        "A step of the greedy order tries {tried}, and adds the best: several while their gains add up to less than half of what is missing."
    ));
    if !split.is_clean {
        notes.push("Prompts of one template are on both sides of the split, so held out prompts are not independent.".to_owned());
    }
    notes
}
