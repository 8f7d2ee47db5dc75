//! What transplants did, in words and a figure.

use super::matrix::{Compared, Group, Matrix, folder};
use super::settings::Settings;
use super::{NAME, Transplants};
use crate::Analysis;
use crate::context::Context;
use crate::error::Result;
use crate::mixtures::{shown, text};
use lorascope_record::Table;
use lorascope_report::{Figure, FigureKind, HeatmapPanel, HeatmapScale, Section};

pub(super) fn section(
    transplants: &Transplants,
    context: &Context,
    settings: &Settings,
    table: &Table,
    matrix: &Matrix,
    compared: &Compared,
) -> Result<Section> {
    let figures = match compared.best {
        Some(_) => vec![figure(context, settings, table, matrix)?],
        None => Vec::new(),
    };
    Ok(Section {
        id: NAME.to_owned(),
        title: transplants.title().to_owned(),
        question: transplants.question().to_owned(),
        paragraphs: vec![paragraph(context, settings, table, matrix, compared)?],
        figures,
        tables: Vec::new(),
        notes: vec![format!(
            "The transplant that recovers the most is the best of {} on the same {} prompts, so what it recovers elsewhere will be \
             less. Groups need not add up: together they may recover more or less than the sum of each alone.",
            table.n_rows(),
            matrix.prompts.len()
        )],
    })
}

fn paragraph(
    context: &Context,
    settings: &Settings,
    table: &Table,
    matrix: &Matrix,
    compared: &Compared,
) -> Result<String> {
    let name = |model: usize| context.subject.model.name(model);
    let n = matrix.groups.len();
    let least = |a: &usize, b: &usize| compared.sizes[*a].mean.total_cmp(&compared.sizes[*b].mean);
    let (nearest, farthest) = ((0..matrix.pairs.len()).min_by(least), (0..matrix.pairs.len()).max_by(least));
    let apart = |pair: Option<usize>| {
        pair.map_or(String::new(), |p| {
            let ((source, target), size) = (matrix.pairs[p], compared.sizes[p]);
            let (one, other) = (name(source.min(target)), name(source.max(target)));
            format!(
                "{one} and {other} ({:.3} nats apart on average [{:.3}, {:.3}])",
                size.mean, size.lo, size.hi
            )
        })
    };
    let between = if matrix.pairs.len() > 2 {
        format!("The adapters that decide most alike are {}, the least {}.", apart(nearest), apart(farthest))
    } else {
        format!("The adapters are {}.", apart(nearest))
    };
    let Some(best) = compared.best else {
        return Ok(format!(
            "{between} They differ on no prompt by {} nats or more, so there is nothing to transplant.",
            settings.floor
        ));
    };
    let q = table.floats("q")?;
    let clear = q.iter().filter(|q| **q <= 0.05).count();
    let ((source, target), group) = matrix.of_row(best);
    Ok(format!(
        "{between} Of {} ({n} groups of modules for each of {} pairs), {clear} move the target towards or away from the \
         source beyond chance (q ≤ 0.05 within the pair). The most is recovered by {} of {} in {}: {} of their difference. \
         This model is written to {}.",
        table.n_rows(),
        matrix.pairs.len(),
        group.label(),
        name(source),
        name(target),
        text(shown(table, "recovery", best)?),
        folder(context, source, target)
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
        name: "transplants_recovery".to_owned(),
        title: "Transplants between adapters".to_owned(),
        caption: format!(
            "Share of the difference between two adapters that comes with the source's updates of some modules (column) when they take \
             the place of the target's (row: source → target). 1 is the source, 0 the target as it was; blue goes the wrong way. Pairs \
             that differ on no prompt by {} nats or more are empty. {} prompts; intervals and corrected p-values are in \
             transplants.",
            settings.floor,
            matrix.prompts.len()
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
