//! The verdict in words.

use super::compare::{Found, Outcome, WHOLE};
use super::measure::{DOCUMENTS, HeldOut, TOKENS};
use super::plan::{AGAIN, FULL, Plan, SET};
use super::verdict::{FEWEST_CLUSTERS, MARGIN, Verdict};
use lorascope_analyses::{Interval, Subject};
use lorascope_report::{SummaryColumn, SummaryTable};

fn percent(share: f64) -> String {
    // Never −0.
    format!("{:.0}%", (100.0 * share).round() + 0.0)
}

fn interval(of: Option<Interval>) -> String {
    of.map_or("nothing".to_owned(), |i| format!("{} [{}, {}]", percent(i.mean), percent(i.lo), percent(i.hi)))
}

fn number(value: f64) -> String {
    if value != 0.0 && value.abs() < 0.01 { format!("{value:.1e}") } else { format!("{value:.3}") }
}

/// The verdict, how it came about, and what else the trainings show.
pub(super) fn paragraphs(plan: &Plan, subject: &Subject, outcome: &Outcome) -> Vec<String> {
    vec![verdict(plan, subject, outcome), random(outcome), others(outcome)]
}

fn verdict(plan: &Plan, subject: &Subject, outcome: &Outcome) -> String {
    let p = &plan.prediction;
    let word = match outcome.verdict {
        Verdict::Confirmed => "Confirmed",
        Verdict::NotConfirmed => "Not confirmed",
        Verdict::NotResolved => "Not resolved",
    };
    let reached = match outcome.reached {
        Verdict::Confirmed => "reaches that",
        Verdict::NotConfirmed => "does not reach that",
        Verdict::NotResolved => "leaves that open",
    };
    let recovery = outcome.of(SET).and_then(|f| f.recovery);
    format!(
        "{word}: surgery on {} predicted that {} of its {} blocks, with {} of the parameters, carry {} of what it does; trained alone they \
         had to recover {} of what the full training does. They recover {} on {} prompts ({} clusters) on which neither the set was \
         chosen nor anything was trained, which {reached}.{} The blocks are {}.",
        p.adapter,
        p.set.0.len(),
        p.all.0.len(),
        percent(plan.share_of(SET)),
        interval(Some(p.recovery)),
        percent(plan.needed),
        interval(recovery),
        subject.prompts.len(),
        outcome.n_clusters,
        against_random(outcome),
        p.set
    )
}

/// What random sets do to the verdict.
fn against_random(outcome: &Outcome) -> String {
    let above: Vec<Verdict> = outcome.found.iter().filter_map(|f| f.above).collect();
    let count = |v: Verdict| above.iter().filter(|a| **a == v).count();
    let n = above.len();
    match (count(Verdict::NotConfirmed), count(Verdict::NotResolved)) {
        _ if n == 0 => String::new(),
        (0, 0) => format!(" Every one of {n} random sets of about as many parameters recovers less."),
        (0, open) => format!(
            " Whether they are better than {open} of {n} random sets of about as many parameters is open."
        ),
        (as_good, _) => format!(
            " But {as_good} of {n} random sets of about as many parameters {} as good: it need not be these blocks.",
            if as_good == 1 { "is" } else { "are" }
        ),
    }
}

fn random(outcome: &Outcome) -> String {
    let random: Vec<&Found> = outcome.found.iter().filter(|f| f.arm.is_random()).collect();
    if random.is_empty() {
        return "There is no random set to hold it against, so that nothing shows whether it matters which blocks are trained."
            .to_owned();
    }
    let list: Vec<String> = random.iter().map(|f| interval(f.recovery)).collect();
    let count = |v: Verdict| random.iter().filter(|f| f.above == Some(v)).count();
    let sizes: Vec<String> = random.iter().map(|f| f.arm.parameters.to_string()).collect();
    let own = outcome.of(SET).map_or(0, |f| f.arm.parameters);
    format!(
        "Random sets in as many layers ({} parameters; the set has {own}) recover {}. The set is above {} of {} of them by more than \
         another seed does ({}), {} {} as good as it (within {}), and {} left open.",
        sizes.join(", "),
        list.join(", "),
        count(Verdict::Confirmed),
        random.len(),
        percent(outcome.noise),
        count(Verdict::NotConfirmed),
        if count(Verdict::NotConfirmed) == 1 { "is" } else { "are" },
        percent(MARGIN),
        match count(Verdict::NotResolved) {
            1 => "1 is".to_owned(),
            n => format!("{n} are"),
        }
    )
}

fn others(outcome: &Outcome) -> String {
    let clear = |f: &Found| match (f.curve.clear_after, f.curve.episodes) {
        (Some(steps), Some(episodes)) => format!("after {steps} steps ({episodes} episodes)"),
        _ => format!("not within {} steps", f.curve.reward.len()),
    };
    let kl = |f: &Found| {
        format!("{} [{}, {}]", number(f.text_kl.mean), number(f.text_kl.lo), number(f.text_kl.hi))
    };
    let mut text = Vec::new();
    if let Some(again) = outcome.of(AGAIN) {
        text.push(format!(
            "The full training with another seed recovers {}: so far do two trainings of the same thing agree.",
            interval(again.recovery)
        ));
    }
    if let (Some(full), Some(set)) = (outcome.of(FULL), outcome.of(SET)) {
        text.push(format!(
            "The policy is clear in training {} in full and {} with the set alone. On unrelated text the full training is {} nats a token \
             from the base, the set {}.",
            clear(full),
            clear(set),
            kl(full),
            kl(set)
        ));
    }
    text.join(" ")
}

/// One line a training.
pub(super) fn summary(outcome: &Outcome) -> SummaryTable {
    let column = |name: &str, doc: &str, numeric| SummaryColumn {
        name: name.to_owned(),
        doc: doc.to_owned(),
        numeric,
    };
    let row = |f: &Found| {
        let difference = match WHOLE.contains(&f.arm.name.as_str()) || f.arm.is_random() {
            true => interval(f.difference),
            false => String::new(),
        };
        vec![
            f.arm.name.clone(),
            format!("{} ({})", f.arm.parameters, percent(f.share)),
            interval(f.recovery),
            interval(f.p_recovery),
            difference,
            f.above.map_or(String::new(), |v| v.to_string()),
            f.curve.clear_after.map_or("never".to_owned(), |s| s.to_string()),
            number(f.text_kl.mean),
        ]
    };
    SummaryTable {
        title: "Trainings".to_owned(),
        columns: vec![
            column("training", "What was trained.", false),
            column("parameters", "Numbers that could move, and their share of the full training's.", true),
            column("recovery", "Share of the full training's change of delta, with its 95% interval.", true),
            column("of probability", "The same of the probability of B.", true),
            column("set minus it", "Recovery of the set minus that of this training.", true),
            column("set above it", "Whether the set recovers more than this random set.", false),
            column("clear after", "Steps until the policy was clear in training.", true),
            column("KL on text", "KL from the base on unrelated text, nats a token.", true),
        ],
        rows: outcome.found.iter().map(row).collect(),
    }
}

/// What a reader must know.
pub(super) fn notes(plan: &Plan, held_out: &HeldOut, outcome: &Outcome) -> Vec<String> {
    let mut notes = vec![
        format!("Criterion, written down before training: {}.", plan.criterion()),
        "Intervals are over prompts. Each set was trained once, so they do not hold what another seed would change. How far the full \
         training with another seed is from the full one stands for that: one pair of trainings, and so a rough measure."
            .to_owned(),
        "Random sets are drawn until their parameters match, whatever blocks they have: some overlap with the set (overlap in \
         confirm_trainings)."
            .to_owned(),
        "Surgery's prediction is about blocks of an adapter that was trained as a whole, on surgery's prompts; here every training \
         begins anew, and recovery is relative to the full training of this run, not to that adapter."
            .to_owned(),
        format!(
            "Left out of the prompts: {} that training shows, and {} more that share a template with those on which the set was chosen.",
            held_out.trained, held_out.chosen
        ),
        format!(
            "Unrelated text: the first {TOKENS} tokens of each of {DOCUMENTS} documents, as raw text. On a model that was never taught to \
             read such text a divergence there says little."
        ),
    ];
    let random = outcome.found.iter().filter(|f| f.arm.is_random()).count();
    if random < plan.n_random {
        notes.push(format!(
            "{} random sets were asked for, but there are only {random} others with as many layers.",
            plan.n_random
        ));
    }
    if outcome.n_clusters < FEWEST_CLUSTERS {
        notes.push(format!(
            "The prompts have {} clusters; with fewer than {FEWEST_CLUSTERS} nothing is decided.",
            outcome.n_clusters
        ));
    }
    notes
}
