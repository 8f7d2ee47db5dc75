//! The section of the report: where changes are, how alike they are beside their floors, and what they write.

use super::alignment::TokenPair;
use super::settings::Settings;
use super::similarity_figures::{matrices, modules};
use super::small_tables::{alignment_table, component_table, largest_table, similarity_table};
use super::words::Words;
use crate::Analysis;
use crate::bootstrap::{Interval, RESAMPLES, mean_interval};
use crate::context::Context;
use crate::error::Result;
use crate::scenarios::n_clusters;
use crate::subject::Subject;
use lorascope_engine::{ModelSpec, Module};
use lorascope_record::Table;
use lorascope_report::{
    ColorKey, Figure, FigureKind, HeatmapPanel, HeatmapScale, LinePanel, Section, Series,
};
use std::collections::{BTreeMap, BTreeSet};

/// The tables that the section is made from.
pub(super) struct Found<'a> {
    pub weights: &'a Table,
    pub spectra: &'a Table,
    pub heads: &'a Table,
    pub summary: &'a Table,
    pub alignment: &'a Table,
    pub aligned: &'a Table,
    pub components: &'a Table,
    pub intruders: &'a Table,
}

pub(super) fn section(
    context: &Context,
    settings: &Settings,
    found: &Found,
    pairs: &[TokenPair],
    notes: Vec<String>,
) -> Result<Section> {
    let subject = context.subject;
    let spec = subject.model.spec();
    let words = Words::new(subject, found, settings);
    let mut figures = vec![ratios(subject, found.weights)?, spectra(subject, found.spectra, context.seed)?];
    figures.extend(heads(subject, found.heads)?);
    figures.extend(matrices(subject, found.summary)?);
    figures.extend(modules(subject, found.summary)?);
    figures.extend(alignments(subject, found.alignment, pairs)?);
    let mut paragraphs = words.sizes(found.weights, spec)?;
    paragraphs.extend(words.similarities()?);
    paragraphs.extend(words.alignments()?);
    paragraphs.extend(words.intruders()?);
    let mut tables = vec![largest_table(subject, found.weights)?];
    tables.extend(similarity_table(subject, found.summary)?);
    tables.extend(alignment_table(subject, found.aligned)?);
    tables.push(component_table(subject, found.components, pairs)?);
    let analysis: &dyn Analysis = &super::Weights;
    Ok(Section {
        id: super::NAME.to_owned(),
        title: analysis.title().to_owned(),
        question: analysis.question().to_owned(),
        paragraphs,
        figures,
        tables,
        notes,
    })
}

/// What a reader must know.
pub(super) fn notes(
    subject: &Subject,
    settings: &Settings,
    weights: &Table,
    intruders: &Table,
    pairs: &[TokenPair],
) -> Result<Vec<String>> {
    let mut notes = vec![
        "A large change of a weight need not matter for a decision, and a small one may: norms say where training went, patching and \
         attribution what it does."
            .to_owned(),
        "LoRA begins with a random A and B = 0. Adapters that were trained from the same seed share their first A, and with it most of \
         what they read, whatever they learned: a high overlap of inputs is then no finding. What they write (outputs) came from training \
         alone."
            .to_owned(),
        "Controls are made from the second model of a comparison, with this run's seed: random (in each module the same singular values, \
         with random directions) and shuffled (each update in another layer). A similarity that the shuffled control reaches too does not \
         depend on the layer."
            .to_owned(),
        "Intervals come from resampling layers, and p-values from flipping the signs of whole layers: layers are not a sample from anything, \
         so they say how even a finding is over layers, not how it would be for other adapters."
            .to_owned(),
    ];
    let kinds: BTreeSet<&str> = weights.texts("kind")?.into_iter().collect();
    if kinds.contains("DoRA") || kinds.contains("replaced + low-rank") {
        notes.push(
            "DoRA and updates on top of a weight of the adapter's own are not low-rank changes: norms and ratios of weights are of the whole \
             change; spectra, heads, similarities, alignments and components are of s·B·A alone, and such modules have no intruder \
             dimensions."
                .to_owned(),
        );
    }
    let n = n_clusters(&subject.prompts, &(0..subject.prompts.len()).collect::<Vec<_>>());
    let covered: usize = pairs.iter().map(|p| p.n_prompts).sum();
    if covered < subject.prompts.len() {
        notes.push(format!(
            "The decision's direction is that of the {} most frequent pair(s) of deciding tokens; they decide {covered} of {} prompts (in {n} \
             clusters).",
            pairs.len(),
            subject.prompts.len()
        ));
    }
    if settings.intruders > 0 {
        let spec = subject.model.spec();
        let small = |m: Module| {
            let (n_out, n_in) = spec.module_shape(m);
            n_out.min(n_in) <= settings.intruder_width
        };
        let wide: Vec<&str> = spec.modules().filter(|m| !small(*m)).map(Module::name).collect();
        if !wide.is_empty() {
            notes.push(format!(
                "Intruder dimensions of {} were not looked at: their smaller side is longer than the setting intruder_width, {}; the time \
                 grows with its cube.",
                wide.join(", "),
                settings.intruder_width
            ));
        }
        if intruders.n_rows() > 0 {
            notes.push(
                "Where neighbouring singular values of W are almost equal, a small change turns their vectors within the space that they \
                 span, and the largest cosine falls without anything new having come in; the random control shows how far."
                    .to_owned(),
            );
        }
    }
    Ok(notes)
}

/// Modules of the model, as columns.
pub(super) fn module_names(spec: &ModelSpec) -> Vec<&'static str> {
    spec.modules().map(Module::name).collect()
}

/// Without the part of the layer: `q_proj`.
pub(super) fn short(module: &str) -> String {
    module.rsplit('.').next().unwrap_or(module).to_owned()
}

/// Layers from the last to the first × columns.
fn layer_panel(
    title: &str,
    n_layers: usize,
    cols: Vec<String>,
    cells: &BTreeMap<(usize, usize), f64>,
) -> HeatmapPanel {
    let row = |layer: usize| (0..cols.len()).map(|c| cells.get(&(layer, c)).copied()).collect();
    HeatmapPanel {
        title: title.to_owned(),
        rows: (0..n_layers).rev().map(|l| format!("L{l}")).collect(),
        values: (0..n_layers).rev().map(row).collect(),
        cols,
        intervals: Vec::new(),
    }
}

/// Colours that are full where the largest 1% of the cells begin, so that a few do not leave all others white; and a sentence
/// that says so.
fn colours(panels: &[HeatmapPanel]) -> (HeatmapScale, String) {
    let mut values: Vec<f64> =
        panels.iter().flat_map(|p| p.values.iter().flatten().flatten().copied()).collect();
    values.sort_by(f64::total_cmp);
    let largest = values.last().copied().unwrap_or(0.0);
    let max = values.get(values.len().saturating_sub(1) * 99 / 100).copied().filter(|v| *v > 0.0);
    let max = max.unwrap_or(if largest > 0.0 { largest } else { 1.0 });
    let said = if largest > max {
        format!(
            " Colours are full from {max:.2}% on, which the largest 1% of the cells pass (largest: {largest:.2}%)."
        )
    } else {
        String::new()
    };
    (HeatmapScale::Sequential { min: 0.0, max }, said)
}

fn ratios(subject: &Subject, weights: &Table) -> Result<Figure> {
    let spec = subject.model.spec();
    let names = module_names(spec);
    let (models, modules) = (weights.texts("model")?, weights.texts("module")?);
    let (layers, ratios) = (weights.ints_or_null("layer")?, weights.floats_or_null("ratio")?);
    let panel = |model: &&str| {
        let rows = (0..models.len()).filter(|&i| models[i] == *model);
        let cell = |i: usize| {
            let column = names.iter().position(|n| *n == modules[i])?;
            Some(((usize::try_from(layers[i]?).ok()?, column), 100.0 * ratios[i]?))
        };
        let cells = rows.filter_map(cell).collect();
        layer_panel(model, spec.n_layers, names.iter().map(|n| short(n)).collect(), &cells)
    };
    let panels: Vec<HeatmapPanel> = subject.model.names()[1..].iter().map(panel).collect();
    let (scale, said) = colours(&panels);
    Ok(Figure {
        name: "weights_ratio".to_owned(),
        title: "How much each weight changed".to_owned(),
        caption: "Norm of the change over the norm of the base's weight, ‖ΔW‖/‖W‖ (Frobenius), in per cent, for every linear map of every \
                  layer. Empty cells are not adapted. Exact, no sampling; numbers are in the table weights."
            .to_owned()
            + &said,
        by_prompt: None,
        kind: FigureKind::Heatmap {
            row_label: "layer".to_owned(),
            col_label: "module".to_owned(),
            panels,
            scale,
            unit: "% of the weight's norm".to_owned(),
            annotate: false,
        },
    })
}

/// Mean shares of components over layers, a panel for each module.
fn spectra(subject: &Subject, table: &Table, seed: u64) -> Result<Figure> {
    let (models, modules, layers) = (table.texts("model")?, table.texts("module")?, table.ints("layer")?);
    let (components, shares) = (table.ints("component")?, table.floats_or_null("share")?);
    /// Shares with their layers, by module, model and component.
    type Shares<'t> = BTreeMap<(&'t str, &'t str, i64), (Vec<f64>, Vec<String>)>;
    let mut values = Shares::new();
    for i in 0..models.len() {
        if let Some(share) = shares[i] {
            let (own, of_layers) = values.entry((modules[i], models[i], components[i])).or_default();
            own.push(100.0 * share);
            of_layers.push(format!("{:05}", layers[i]));
        }
    }
    let mean = |(own, of_layers): &(Vec<f64>, Vec<String>)| {
        let clusters: Vec<&str> = of_layers.iter().map(String::as_str).collect();
        mean_interval(own, &clusters, seed)
    };
    let panel = |module: &&str| {
        let series = subject.model.names().into_iter().enumerate().skip(1).filter_map(|(m, name)| {
            let own = values.range((*module, name, 0)..=(*module, name, i64::MAX));
            let (x, means): (Vec<f64>, Vec<Interval>) =
                own.map(|((.., k), of)| (*k as f64 + 1.0, mean(of))).unzip();
            let of = |f: fn(&Interval) -> f64| means.iter().map(f).collect::<Vec<f64>>();
            let series = Series::new(name, subject.color(m), x, &of(|i| i.mean));
            (!means.is_empty()).then(|| series.with_interval(&of(|i| i.lo), &of(|i| i.hi)))
        });
        let series: Vec<Series> = series.collect();
        (!series.is_empty()).then(|| LinePanel { title: short(module), series })
    };
    let panels = module_names(subject.model.spec()).iter().filter_map(panel).collect();
    Ok(Figure {
        name: "weights_spectra".to_owned(),
        title: "How many directions a change has".to_owned(),
        caption: format!(
            "Share of the squared norm of an update in each of its singular components, the largest first; mean over layers with 95% \
             interval from resampling layers ({RESAMPLES} resamples). A first point near 100%: the update is almost a single direction; a \
             flat line: all of the rank is used. Values of each layer are in the table weights_spectrum."
        ),
        by_prompt: None,
        kind: FigureKind::Lines {
            x_label: "component".to_owned(),
            y_label: "share of the squared norm in %".to_owned(),
            panels,
            zero_line: true,
        },
    })
}

fn heads(subject: &Subject, table: &Table) -> Result<Option<Figure>> {
    let spec = subject.model.spec();
    let (models, modules) = (table.texts("model")?, table.texts("module")?);
    let (layers, heads) = (table.ints("layer")?, table.ints("head")?);
    let ratios = table.floats_or_null("ratio")?;
    let kinds = [
        (Module::Q, spec.n_heads),
        (Module::K, spec.n_kv_heads),
        (Module::V, spec.n_kv_heads),
        (Module::O, spec.n_heads),
    ];
    let letter = |m: Module| match m {
        Module::Q => "q",
        Module::K => "k",
        Module::V => "v",
        _ => "o",
    };
    let columns: Vec<(&str, usize, String)> = kinds
        .iter()
        .flat_map(|&(m, n)| (0..n).map(move |h| (m.name(), h, format!("{}{h}", letter(m)))))
        .collect();
    let panel = |model: &&str| {
        let rows = (0..models.len()).filter(|&i| models[i] == *model);
        let cell = |i: usize| {
            let head = usize::try_from(heads[i]).ok()?;
            let column = columns.iter().position(|(m, h, _)| *m == modules[i] && *h == head)?;
            Some(((usize::try_from(layers[i]).ok()?, column), 100.0 * ratios[i]?))
        };
        let cells: BTreeMap<(usize, usize), f64> = rows.filter_map(cell).collect();
        let names = columns.iter().map(|c| c.2.clone()).collect();
        (!cells.is_empty()).then(|| layer_panel(model, spec.n_layers, names, &cells))
    };
    let panels: Vec<HeatmapPanel> = subject.model.names()[1..].iter().filter_map(panel).collect();
    if panels.is_empty() {
        return Ok(None);
    }
    let (scale, said) = colours(&panels);
    Ok(Some(Figure {
        name: "weights_heads".to_owned(),
        title: "How much each head's weights changed".to_owned(),
        caption: "Norm of the change of one head's slice over the norm of the same slice of the base's weight, in per cent: rows of the query, \
                  key and value projections (q, k, v; keys and values belong to groups of query heads), columns of the output projection (o). \
                  Numbers, and each head's share of its module's change, are in the table weights_heads."
            .to_owned()
            + &said,
        by_prompt: None,
        kind: FigureKind::Heatmap {
            row_label: "layer".to_owned(),
            col_label: "head".to_owned(),
            panels,
            scale,
            unit: "% of the weight's norm".to_owned(),
            annotate: false,
        },
    }))
}

/// Ratios of alignments to chance by layer, for the most frequent pair of tokens.
fn alignments(subject: &Subject, table: &Table, pairs: &[TokenPair]) -> Result<Option<Figure>> {
    let Some(pair) = pairs.first() else { return Ok(None) };
    let text = |token: u32| subject.tokenizer.token_text(token);
    let (token_a, token_b) = (text(pair.a), text(pair.b));
    let (models, modules, layers) = (table.texts("model")?, table.texts("module")?, table.ints("layer")?);
    let controls = table.texts_or_null("control")?;
    let (ratios, limits) = (table.floats_or_null("ratio")?, table.floats_or_null("ratio_95")?);
    let (of_a, of_b) = (table.texts("token_a")?, table.texts("token_b")?);
    let wanted: Vec<usize> = (0..models.len())
        .filter(|&i| controls[i].is_none() && of_a[i] == token_a && of_b[i] == token_b)
        .collect();
    let mut panels = Vec::new();
    for module in [Module::O, Module::Down] {
        let mut series = Vec::new();
        let mut limit: BTreeMap<i64, f64> = BTreeMap::new();
        for (m, name) in subject.model.names().into_iter().enumerate().skip(1) {
            let mut own: BTreeMap<i64, f64> = BTreeMap::new();
            for &i in wanted.iter().filter(|&&i| models[i] == name && modules[i] == module.name()) {
                own.extend(ratios[i].map(|r| (layers[i], r)));
                if let Some(l) = limits[i] {
                    limit.entry(layers[i]).and_modify(|most| *most = most.max(l)).or_insert(l);
                }
            }
            let (x, y): (Vec<f64>, Vec<f64>) = own.into_iter().map(|(l, r)| (l as f64, r)).unzip();
            if !x.is_empty() {
                series.push(Series::new(name, subject.color(m), x, &y));
            }
        }
        if !series.is_empty() {
            let (x, y): (Vec<f64>, Vec<f64>) = limit.into_iter().map(|(l, r)| (l as f64, r)).unzip();
            series.push(Series::new("5% of random directions pass", ColorKey::Base, x, &y));
            panels.push(LinePanel { title: short(module.name()), series });
        }
    }
    if panels.is_empty() {
        return Ok(None);
    }
    let caption = format!(
        "Share of the change's squared norm along the direction that the difference of the two deciding logits reads ({token_b:?} against \
         {token_a:?}, the pair of {} prompts), over the share that a random direction has (1). The grey line is what 5% of random directions \
         pass, for the update where they pass the most. Only the direct way into the logits: a change that later layers turn into the decision \
         does not show here. Numbers are in the table weights_alignment.",
        pair.n_prompts
    );
    Ok(Some(Figure {
        name: "weights_alignment".to_owned(),
        title: "How far changes write along the decision".to_owned(),
        caption,
        by_prompt: None,
        kind: FigureKind::Lines {
            x_label: "layer".to_owned(),
            y_label: "alignment / chance".to_owned(),
            panels,
            zero_line: true,
        },
    }))
}
