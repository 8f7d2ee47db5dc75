//! What transplants did, in words and a figure.

use super::settings::Settings;
use super::transplants::{Group, Matrix, place};
use super::words::{shown, text};
use crate::context::Context;
use crate::error::Result;
use lorascope_record::Table;
use lorascope_report::{Figure, FigureKind, HeatmapPanel, HeatmapScale, Section};

/// Adds them to the section; nothing where there were none.
pub(super) fn add(
    context: &Context,
    settings: &Settings,
    table: &Table,
    matrix: &Matrix,
    section: &mut Section,
) -> Result<()> {
    if matrix.pairs.is_empty() {
        return Ok(());
    }
    section.paragraphs.push(paragraph(context, settings, table, matrix)?);
    if matrix.best.is_some() {
        section.figures.push(figure(context, settings, table, matrix)?);
    }
    section.notes.push(format!(
        "The transplant that recovers the most is the best of {} on the same {} prompts, so what it recovers elsewhere will be less. \
         Groups need not add up: together they may recover more or less than the sum of each alone.",
        table.n_rows(),
        matrix.n_prompts
    ));
    Ok(())
}

fn paragraph(context: &Context, settings: &Settings, table: &Table, matrix: &Matrix) -> Result<String> {
    let name = |model: usize| context.subject.model.name(model);
    let n = matrix.groups.len();
    let least = |a: &usize, b: &usize| matrix.sizes[*a].0.mean.total_cmp(&matrix.sizes[*b].0.mean);
    let (nearest, farthest) = ((0..matrix.pairs.len()).min_by(least), (0..matrix.pairs.len()).max_by(least));
    let apart = |pair: Option<usize>| {
        pair.map_or(String::new(), |p| {
            let ((source, target), (size, _)) = (matrix.pairs[p], matrix.sizes[p]);
            let (one, other) = (name(source.min(target)), name(source.max(target)));
            format!(
                "{one} and {other} ({:.3} nats apart on average [{:.3}, {:.3}])",
                size.mean, size.lo, size.hi
            )
        })
    };
    let between = if matrix.pairs.len() > 2 {
        format!("the adapters that decide most alike are {}, the least {}.", apart(nearest), apart(farthest))
    } else {
        format!("the adapters are {}.", apart(nearest))
    };
    let Some(best) = matrix.best else {
        return Ok(format!(
            "Transplants: {between} They differ on no prompt by {} nats or more, so there is nothing to transplant.",
            settings.floor
        ));
    };
    let q = table.floats("q")?;
    let clear = q.iter().filter(|q| **q <= 0.05).count();
    let (source, target) = matrix.pairs[best / n];
    Ok(format!(
        "Transplants: {between} Of {} ({n} groups of modules for each of {} pairs), {clear} move the target towards or away from the \
         source beyond chance (q ≤ 0.05 within the pair). The most is recovered by {} of {} in {}: {} of their difference. \
         This model is written to {}.",
        table.n_rows(),
        matrix.pairs.len(),
        matrix.groups[best % n].label(),
        name(source),
        name(target),
        text(shown(table, "recovery", best)?),
        place(context, source, target)
    ))
}

/// A row for each pair; a panel for each kind of module where there are many layers of it.
fn figure(context: &Context, settings: &Settings, table: &Table, matrix: &Matrix) -> Result<Figure> {
    let recoveries = table.floats_or_null("recovery")?;
    let name = |model: usize| context.subject.model.name(model);
    let rows: Vec<String> = matrix.pairs.iter().map(|&(s, t)| format!("{} → {}", name(s), name(t))).collect();
    let mut panels = Vec::new();
    for (title, groups) in panel_groups(&matrix.groups) {
        let cols = groups.iter().map(|&g| match title {
            "" => matrix.groups[g].label(),
            _ => matrix.groups[g].span(),
        });
        let row = |pair: usize| groups.iter().map(|&g| recoveries[pair * matrix.groups.len() + g]).collect();
        panels.push(HeatmapPanel {
            title: title.to_owned(),
            rows: rows.clone(),
            cols: cols.collect(),
            values: (0..matrix.pairs.len()).map(row).collect(),
            intervals: Vec::new(),
        });
    }
    // Where nothing brings much, nothing looks as if it did.
    let reach = recoveries.iter().flatten().fold(0.5f64, |reach, r| reach.max(r.abs()));
    let annotate = matrix.groups.len() <= 12;
    Ok(Figure {
        name: "surgery_transplants".to_owned(),
        title: "Transplants between adapters".to_owned(),
        caption: format!(
            "Share of the difference between two adapters that comes with the source's updates of some modules (column) when they take \
             the place of the target's (row: source → target). 1 is the source, 0 the target as it was; blue goes the wrong way. Pairs \
             that differ on no prompt by {} nats or more are empty. {} prompts; intervals and corrected p-values are in \
             surgery_transplants.",
            settings.floor, matrix.n_prompts
        ),
        by_prompt: None,
        kind: FigureKind::Heatmap {
            row_label: "pair".to_owned(),
            col_label: "modules".to_owned(),
            panels,
            scale: HeatmapScale::Diverging { center: 0.0, reach: Some(reach) },
            unit: "recovery".to_owned(),
            annotate,
        },
    })
}

/// One panel of all groups where there are few, else one for each name.
fn panel_groups(groups: &[Group]) -> Vec<(&'static str, Vec<usize>)> {
    let mut names: Vec<&'static str> = Vec::new();
    groups.iter().for_each(|g| {
        if !names.contains(&g.name) {
            names.push(g.name)
        }
    });
    if groups.len() <= 12 || names.len() == 1 {
        return vec![("", (0..groups.len()).collect())];
    }
    names.into_iter().map(|n| (n, (0..groups.len()).filter(|&g| groups[g].name == n).collect())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_groups_have_a_panel_for_each_kind() {
        let group =
            |layer: usize, name: &'static str| Group { layers: (layer, layer), name, places: Vec::new() };
        let few = [group(0, "attention"), group(0, "mlp")];
        assert_eq!(panel_groups(&few), [("", vec![0, 1])]);
        let many: Vec<Group> = (0..8).flat_map(|l| [group(l, "attention"), group(l, "mlp")]).collect();
        let panels = panel_groups(&many);
        assert_eq!(panels.len(), 2);
        assert_eq!(panels[1], ("mlp", (0..8).map(|l| 2 * l + 1).collect()));
    }
}
