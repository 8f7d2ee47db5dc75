//! Patched runs of prompts that begin alike, where they are changed alike: one run until the prompts part.
//!
//! A branch can copy many sequences that share the row at which it leaves them. Where a head is patched at all positions of many prompts,
//! what the prompts share is patched, and computed, once.

use super::plan::start;
use super::sweep::{Change, PatchedRun, Replacement, RunKey};
use lorascope_engine::{Batch, Birth, Branch, Edit, EditOp, Shift};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

/// Patched runs as branches of the unpatched ones.
#[derive(Default)]
pub(super) struct Branches {
    pub branches: Vec<Branch>,
    /// The branch of each run.
    pub of_run: Vec<usize>,
    /// What happens in each branch, at rows of the unpatched runs that it copies.
    edits: Vec<BTreeMap<usize, Vec<Edit<f32>>>>,
}

impl Branches {
    /// Runs share a branch where all rows that they share are changed alike. `sequences` are those of a run's prompt and model in the
    /// trunk, a batch of unpatched runs.
    pub fn of(trunk: &Batch, runs: &[&PatchedRun], sequences: &BTreeMap<RunKey, Range<usize>>) -> Branches {
        let mut found = Branches::default();
        // What each branch copies, and the branches that leave a row at the same place.
        let mut copied: Vec<HashSet<usize>> = Vec::new();
        let mut alike: HashMap<(usize, Birth), Vec<usize>> = HashMap::new();
        for run in runs {
            let (from, birth) = start(run);
            let own = sequences[&(run.model, run.prompt)].clone();
            let rows: Vec<usize> =
                own.clone().flat_map(|s| (from..).map_while(move |p| trunk.row_of(s, p))).collect();
            let mut edits: BTreeMap<usize, Vec<Edit<f32>>> = BTreeMap::new();
            for change in &run.changes {
                let edit = edit(trunk, own.start, change, sequences);
                edits.entry(edit.row).or_default().push(edit);
            }
            let candidates = alike.entry((rows[0], birth)).or_default();
            let same = |&&b: &&usize| {
                let all = &found.edits[b];
                rows.iter().all(|row| !copied[b].contains(row) || edits.get(row) == all.get(row))
            };
            let branch = match candidates.iter().find(same) {
                Some(&branch) => branch,
                None => {
                    found.branches.push(Branch { sequences: Vec::new(), from, birth });
                    found.edits.push(BTreeMap::new());
                    copied.push(HashSet::new());
                    candidates.push(copied.len() - 1);
                    copied.len() - 1
                }
            };
            found.branches[branch].sequences.extend(own);
            found.edits[branch].extend(edits);
            copied[branch].extend(rows);
            found.of_run.push(branch);
        }
        found
    }

    /// The edits at the branches' own rows, in the batch that has them.
    pub fn edits(self, batch: &Batch) -> Vec<Edit<f32>> {
        let of_branch = |(b, edits): (usize, BTreeMap<usize, Vec<Edit<f32>>>)| {
            edits.into_values().flatten().map(move |edit| {
                let row = batch.copy_of(b, edit.row);
                Edit { row: row.unwrap_or_else(|| unreachable!("what is changed is copied")), ..edit }
            })
        };
        self.edits.into_iter().enumerate().flat_map(of_branch).collect()
    }
}

/// A change as an edit of the unpatched run's row.
fn edit(
    trunk: &Batch,
    first: usize,
    change: &Change,
    sequences: &BTreeMap<RunKey, Range<usize>>,
) -> Edit<f32> {
    let row_of = |sequence: usize, position: usize| {
        let row = trunk.row_of(sequence, position);
        row.unwrap_or_else(|| unreachable!("every position of a change is in its sequence"))
    };
    let row = row_of(first, change.position);
    let op = match &change.replacement {
        Replacement::From(from) => {
            EditOp::CopyFrom(row_of(sequences[&(from.model, from.prompt)].start, from.position))
        }
        Replacement::Along { source: from, basis } => EditOp::CopyAlong {
            source: row_of(sequences[&(from.model, from.prompt)].start, from.position),
            basis: basis.clone(),
        },
        Replacement::Shift { source: from, point, units } => EditOp::Shift(Shift {
            point: *point,
            units: units.clone(),
            plus: row_of(sequences[&(from.model, from.prompt)].start, from.position),
            minus: row,
        }),
        Replacement::Values(values) => EditOp::Set(values.to_vec()),
        Replacement::Scale(factor) => EditOp::Scale(*factor),
        Replacement::Add { vector, factor } => EditOp::Add(vector.iter().map(|v| factor * v).collect()),
    };
    Edit { point: change.point, row, units: change.units.clone(), op }
}

#[cfg(test)]
mod tests {
    use super::super::sweep::{Source, Sweep};
    use super::*;
    use crate::context::Silent;
    use crate::subject::Subject;
    use crate::testing::{FAMILIES, subject_on};
    use lorascope_engine::{HookPoint, Site};
    use lorascope_prompts::PromptSet;
    use serde_json::json;
    use std::sync::Arc;

    /// Words that all prompts begin with.
    const ALIKE: usize = 11;

    /// Three prompts; answer B takes two tokens.
    fn three(family: &str) -> Option<Subject> {
        let text = |i: usize| {
            let word = |t: usize| format!("w{}", if t < ALIKE { 3 * t } else { 50 + 7 * i + t });
            (0..18 + i).map(word).collect::<Vec<_>>().join(" ")
        };
        let item = |i: usize| json!({"id": format!("p{i}"), "prompt": text(i), "answer_a": "w7", "answer_b": "w8 w9"});
        let set = json!((0..3).map(item).collect::<Vec<_>>());
        subject_on(family, &PromptSet::parse(&set.to_string()).expect("prompts"))
    }

    fn change(point: HookPoint, units: Range<usize>, position: usize, replacement: Replacement) -> Change {
        Change { point, units, position, replacement }
    }

    /// Runs of every prompt that are changed alike where prompts are alike: a head at all positions, from the base; a shift; a vector
    /// from the fifth position on.
    fn alike(subject: &Subject) -> Vec<PatchedRun> {
        let spec = subject.model.spec();
        let (z, out) = (HookPoint::Layer(0, Site::Z), HookPoint::Layer(1, Site::MlpOut));
        let mut runs = Vec::new();
        for (prompt, of) in subject.prompts.iter().enumerate() {
            let n = of.tokens.ids.len();
            let source = |position| Source { model: 0, prompt, position };
            let head = |p| change(z, 0..spec.d_head, p, Replacement::From(source(p)));
            let shift = |p| {
                let (point, units) = (HookPoint::Layer(0, Site::AttnOut), 0..spec.d_model);
                let shift = Replacement::Shift { source: source(p), point, units };
                change(out, 0..spec.d_model, p, shift)
            };
            let vector = Arc::new(vec![0.5; spec.d_model]);
            let add =
                |p| change(out, 0..spec.d_model, p, Replacement::Add { vector: vector.clone(), factor: 2.0 });
            let run = |changes: Vec<Change>| PatchedRun { model: 1, prompt, changes };
            runs.push(run((0..n).map(head).collect()));
            runs.push(run((0..n).map(shift).collect()));
            runs.push(run((4..n).map(add).collect()));
        }
        runs
    }

    /// Runs of every prompt that differ at a token that all prompts have.
    fn unlike(subject: &Subject) -> Vec<PatchedRun> {
        let scale = |prompt: usize, at: usize| {
            let n = subject.prompts[prompt].tokens.ids.len();
            let half = |p: usize| {
                change(
                    HookPoint::Layer(0, Site::Z),
                    0..4,
                    p,
                    Replacement::Scale(if p == at { 0.25 } else { 0.5 }),
                )
            };
            PatchedRun { model: 1, prompt, changes: (2..n).map(half).collect() }
        };
        (0..3).map(|prompt| scale(prompt, 4 + prompt)).collect()
    }

    #[test]
    fn sharing_changes_no_bit() {
        for family in FAMILIES {
            let Some(subject) = three(family) else { return };
            let runs = [alike(&subject), unlike(&subject)].concat();
            let sweep = Sweep::new(&subject, 1 << 30).expect("a sweep");
            let together = sweep.run("", &runs, &Silent).expect("runs");
            let alone = |run: &PatchedRun| {
                sweep.run("", std::slice::from_ref(run), &Silent).expect("a run").patched[0]
            };
            assert_eq!(together.patched, runs.iter().map(alone).collect::<Vec<_>>(), "{family}");
            // Little memory: other chunks, in another order.
            let little = Sweep::new(&subject, 1).expect("a sweep").run("", &runs, &Silent).expect("runs");
            assert_eq!((little.patched, little.plain), (together.patched, together.plain), "{family}");
        }
    }

    #[test]
    fn runs_share_a_branch_where_they_are_changed_alike() {
        let Some(subject) = three("llama") else { return };
        let mut sequences = BTreeMap::new();
        let mut tokens: Vec<(usize, &[u32])> = Vec::new();
        for model in 0..2 {
            for (prompt, of) in subject.prompts.iter().enumerate() {
                sequences.insert((model, prompt), tokens.len()..tokens.len() + 1);
                tokens.push((model, &of.tokens.ids));
            }
        }
        let spec = subject.model.spec();
        let trunk = Batch::new(spec, &tokens).expect("a batch");
        let of = |runs: &[PatchedRun]| Branches::of(&trunk, &runs.iter().collect::<Vec<_>>(), &sequences);
        let shared = of(&alike(&subject));
        assert_eq!(shared.of_run, [0, 1, 2, 0, 1, 2, 0, 1, 2]);
        let batch = trunk.clone().branched(spec, &shared.branches).expect("branches");
        let rows: usize = subject.prompts.iter().map(|p| p.tokens.ids.len()).sum();
        let once = rows - 2 * ALIKE;
        assert_eq!(batch.n_rows() - trunk.n_rows(), 2 * once + (once - 4));
        assert_eq!(shared.edits(&batch).len(), 2 * once + (once - 4), "each row is changed once");
        assert_eq!(of(&unlike(&subject)).of_run, [0, 1, 2]);
        // The same change from prompts that differ.
        let mut apart = vec![alike(&subject).swap_remove(0); 2];
        apart[1].changes[3].replacement = Replacement::From(Source { model: 1, prompt: 0, position: 2 });
        assert_eq!(of(&apart).of_run, [0, 1]);
    }
}
