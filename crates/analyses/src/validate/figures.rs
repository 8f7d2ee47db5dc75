//! The section of the report: verdicts, calibration, what moves a decision.

use super::checks::with_verdict;
use super::sensitivity::{FINE_TUNING, WORDING};
use super::{Settings, Validate};
use crate::Analysis;
use crate::bootstrap::RESAMPLES;
use crate::context::Context;
use crate::error::Result;
use lorascope_record::Table;
use lorascope_report::{
    BarPanel, BarSeries, ColorKey, Figure, FigureKind, LinePanel, Section, Series, SummaryColumn,
    SummaryTable,
};

/// All tables in the order of [`super::TABLES`].
pub(super) fn section(context: &Context, settings: &Settings, tables: &[Table]) -> Result<Section> {
    let [checks, tests, bins, components, sensitivity, samples, power] = tables else {
        unreachable!("validation has seven tables")
    };
    let mut paragraphs = vec![headline(checks)?];
    paragraphs.extend(calibrated(tests, settings, &context.subject.meanings.b)?);
    paragraphs.extend(moved(sensitivity)?);
    paragraphs.extend(super::power::sentence(power)?);
    let mut notes = vec![
        "A test that does not reject shows no miscalibration larger than the intervals of the observed shares; it does not show that \
         there is none."
            .to_owned(),
        "Answers are drawn at temperature 1 and no further than needed to tell which one they are; what a model would say after \
         it is not looked at."
            .to_owned(),
    ];
    if samples.texts_or_null("scenario")?.iter().all(Option::is_none) {
        notes.push(
            "No prompt names a scenario: all count as one, and no variance between scenarios can be told."
                .to_owned(),
        );
    }
    let mut figures = vec![calibration(context, bins)?];
    figures.retain(
        |f| matches!(&f.kind, FigureKind::Lines { panels, .. } if panels.iter().any(|p| p.series.len() > 1)),
    );
    figures.extend(shares(context, components)?);
    Ok(Section {
        id: Validate.name().to_owned(),
        title: Validate.title().to_owned(),
        question: Validate.question().to_owned(),
        paragraphs,
        figures,
        tables: vec![verdicts(checks)?],
        notes,
    })
}

fn headline(checks: &Table) -> Result<String> {
    let (failed, warned) = (with_verdict(checks, "fail")?, with_verdict(checks, "warn")?);
    let n = checks.n_rows();
    Ok(match (failed.is_empty(), warned.is_empty()) {
        (true, true) => format!("All {n} checks are passed: conclusions may be drawn."),
        (true, false) => format!(
            "No check of {n} failed: conclusions may be drawn, with care where a check warns ({}).",
            warned.join("; ")
        ),
        (false, _) => {
            let rest =
                if warned.is_empty() { String::new() } else { format!(" Warnings: {}.", warned.join("; ")) };
            format!(
                "No conclusions should be drawn before this is explained: {} failed.{rest}",
                failed.join("; ")
            )
        }
    })
}

fn calibrated(tests: &Table, settings: &Settings, b: &str) -> Result<Vec<String>> {
    let (models, of) = (tests.texts("model")?, tests.texts("of")?);
    let (prompts, draws) = (tests.ints("prompts")?, tests.ints("draws")?);
    let float = |column| tests.floats_or_null(column);
    let (seen, expected) = (float("observed")?, float("expected")?);
    let (lo, hi, q) = (float("observed_lo")?, float("observed_hi")?, tests.floats("q")?);
    let (deviance, null) = (tests.floats("deviance")?, tests.floats("expected_deviance")?);
    let sentence = |row: usize| {
        if of[row] != "p_b" {
            return None;
        }
        let (Some(seen), Some(expected), Some(lo), Some(hi)) = (seen[row], expected[row], lo[row], hi[row])
        else {
            return Some(format!("{}: neither answer was drawn, so p_b could not be tested.", models[row]));
        };
        let verdict = if q[row] < settings.level { "does not agree" } else { "agrees" };
        Some(format!(
            "{}: {:.3} of {} drawn answers are {b} (95% interval {lo:.3} to {hi:.3}) where p_b says {expected:.3}; over {} prompts the \
             deviance is {:.0} where chance gives {:.0} on average (corrected p = {:.2}): p_b {verdict} with what the model says.",
            models[row], seen, draws[row], prompts[row], deviance[row], null[row], q[row]
        ))
    };
    Ok((0..models.len()).filter_map(sentence).collect())
}

fn moved(sensitivity: &Table) -> Result<Vec<String>> {
    let (models, verdicts) = (sensitivity.texts("model")?, sensitivity.texts("verdict")?);
    let float = |column| sensitivity.floats_or_null(column);
    let (change, means, wording) = (float("change")?, float("change_of_scenarios")?, float("wording")?);
    let (ratio, lo, hi) = (float("ratio")?, float("ratio_lo")?, float("ratio_hi")?);
    let sentence = |row: usize| {
        let (change, means) = (change[row]?, means[row]?);
        let (Some(wording), Some(ratio), Some(lo), Some(hi)) = (wording[row], ratio[row], lo[row], hi[row])
        else {
            return Some(format!(
                "{}: fine-tuning moves delta by {change:.2} nat (root mean square); wordings of one scenario do not differ or were \
                 not varied.",
                models[row]
            ));
        };
        let verdict = match verdicts[row] {
            FINE_TUNING => "fine-tuning moves the decision more than its wording does",
            WORDING => {
                "the wording moves the decision more than fine-tuning does, so single prompts say little about this adapter"
            }
            _ => "which of the two moves the decision more is not resolved",
        };
        Some(format!(
            "{}: fine-tuning moves delta by {change:.2} nat on the same prompt, and by {means:.2} in the means of scenarios (root mean \
             squares); two prompts of one scenario differ by {wording:.2} on the base. The ratio is {ratio:.2} (95% interval {lo:.2} to \
             {hi:.2}; 0 for an adapter that does nothing): {verdict}.",
            models[row]
        ))
    };
    Ok((0..models.len()).filter_map(sentence).collect())
}

fn calibration(context: &Context, bins: &Table) -> Result<Figure> {
    let subject = context.subject;
    let b = &subject.meanings.b;
    let (models, p_b) = (bins.texts("model")?, bins.floats("p_b")?);
    let (seen, lo, hi) = (bins.floats("observed")?, bins.floats("observed_lo")?, bins.floats("observed_hi")?);
    let panel = |(m, name): (usize, &str)| {
        let rows: Vec<usize> = (0..models.len()).filter(|&r| models[r] == name).collect();
        let of = |values: &[f64]| rows.iter().map(|&r| values[r]).collect::<Vec<f64>>();
        let right = Series::new("as probabilities say", ColorKey::Reference(0), vec![0.0, 1.0], &[0.0, 1.0]);
        let own = Series::new(name, subject.color(m), of(&p_b), &of(&seen)).with_interval(&of(&lo), &of(&hi));
        LinePanel {
            title: name.to_owned(),
            series: if rows.is_empty() { vec![right] } else { vec![right, own] },
        }
    };
    Ok(Figure {
        name: "calibration".to_owned(),
        title: "Drawn answers against their probabilities".to_owned(),
        caption: format!(
            "Share of {b} among drawn answers, for prompts with similar probability of {b}; 95% intervals of Clopper and Pearson. \
             On the dashed line answers are as frequent as the metric says."
        ),
        by_prompt: None,
        kind: FigureKind::Lines {
            x_label: format!("probability of {b} (mean of the bin)"),
            y_label: format!("share of {b} drawn"),
            panels: subject.model.names().into_iter().enumerate().map(panel).collect(),
            zero_line: false,
        },
    })
}

fn shares(context: &Context, components: &Table) -> Result<Option<Figure>> {
    let subject = context.subject;
    let (models, names) = (components.texts("model")?, components.texts("component")?);
    let float = |column| components.floats_or_null(column);
    let (share, lo, hi) = (float("share")?, float("share_lo")?, float("share_hi")?);
    if share.iter().all(Option::is_none) {
        return Ok(None);
    }
    let present = |component: &&str| {
        let mut rows = (0..names.len()).filter(|&r| names[r] == *component);
        rows.any(|r| share[r].is_some())
    };
    let kinds: Vec<&str> = ["scenario", "template", "prompt"].into_iter().filter(present).collect();
    let series = subject.model.names().into_iter().enumerate().map(|(m, name)| {
        let row = |kind: &&str| (0..names.len()).find(|&r| models[r] == name && names[r] == *kind);
        let at =
            |values: &[Option<f64>]| kinds.iter().map(|k| row(k).and_then(|r| values[r])).collect::<Vec<_>>();
        let intervals = at(lo).into_iter().zip(at(hi)).map(|(lo, hi)| lo.zip(hi)).collect();
        BarSeries { name: name.to_owned(), color: subject.color(m), values: at(share), intervals }
    });
    let groups = kinds.iter().map(|k| match *k {
        "scenario" => "between scenarios".to_owned(),
        "template" if kinds.contains(&"prompt") => "between templates of a scenario".to_owned(),
        "template" => "within a scenario".to_owned(),
        _ => "within a template".to_owned(),
    });
    Ok(Some(Figure {
        name: "variance_shares".to_owned(),
        title: "What moves the decision within a model".to_owned(),
        caption: format!(
            "Share of the variance of delta over {} prompts, by nested analysis of variance; 95% bootstrap intervals over templates \
             ({RESAMPLES} resamples).",
            subject.prompts.len()
        ),
        by_prompt: None,
        kind: FigureKind::Bars {
            y_label: "share of variance".to_owned(),
            panels: vec![BarPanel {
                title: String::new(),
                groups: groups.collect(),
                series: series.collect(),
            }],
        },
    }))
}

fn verdicts(checks: &Table) -> Result<SummaryTable> {
    let (models, names) = (checks.texts_or_null("model")?, checks.texts("check")?);
    let (verdict, meaning) = (checks.texts("verdict")?, checks.texts("meaning")?);
    let float = |column| checks.floats_or_null(column);
    let (value, warn, fail) = (float("value")?, float("warn_at")?, float("fail_at")?);
    let shown = |v: Option<f64>| v.map_or_else(|| "–".to_owned(), short);
    let row = |r: usize| {
        vec![
            models[r].clone().unwrap_or_else(|| "prompts".to_owned()),
            names[r].replace('_', " "),
            verdict[r].to_owned(),
            shown(value[r]),
            shown(warn[r]),
            shown(fail[r]),
            meaning[r].to_owned(),
        ]
    };
    let column = |name: &str, doc: &str, numeric| SummaryColumn {
        name: name.to_owned(),
        doc: doc.to_owned(),
        numeric,
    };
    Ok(SummaryTable {
        title: "Checks".to_owned(),
        rows: (0..names.len()).map(row).collect(),
        columns: vec![
            column("of", "The model, or the prompt set.", false),
            column("check", "What is checked.", false),
            column("verdict", "ok, warn or fail.", false),
            column("value", "What was found.", true),
            column("warns at", "Beyond this it warns.", true),
            column("fails at", "Beyond this it fails.", true),
            column("meaning", "What the value is.", false),
        ],
    })
}

/// Three digits, whatever the size.
fn short(value: f64) -> String {
    if value == 0.0 || (value.fract() == 0.0 && value.abs() < 1e6) {
        format!("{value:.0}")
    } else if value.abs() < 1e-3 {
        format!("{value:.1e}")
    } else {
        format!("{value:.3}")
    }
}
