//! A small table of each trajectory: behaviour and weights by step.

use super::Trajectory;
use super::behaviour::BehaviourRow;
use super::blocks::{ALL, BlockRow};
use super::words::{Words, signed};
use crate::scenarios::ALL_PROMPTS;
use lorascope_report::{SummaryColumn, SummaryTable};

/// Steps that it lists at most.
const LISTED: usize = 40;

impl Words<'_> {
    pub fn tables(&self) -> Vec<SummaryTable> {
        let results = self.results;
        results.trajectories.iter().zip(&results.blocks).map(|(t, blocks)| self.table(t, blocks)).collect()
    }

    fn table(&self, t: &Trajectory, blocks: &[BlockRow]) -> SummaryTable {
        let column = |name: &str, doc: &str| SummaryColumn {
            name: name.to_owned(),
            doc: doc.to_owned(),
            numeric: true,
        };
        let row = |r: &BehaviourRow| {
            let step = r.step?;
            let whole = blocks.iter().find(|b| b.step == step && b.layer.is_none() && b.module == ALL)?;
            let or_dash = |v: Option<String>| v.unwrap_or_else(|| "–".to_owned());
            Some(vec![
                step.to_string(),
                signed(r.delta),
                format!("{:.3}", r.p_b.mean),
                or_dash(r.recovery.map(|i| format!("{:.2} [{:.2}, {:.2}]", i.mean, i.lo, i.hi))),
                or_dash(self.moved(t, step)),
                or_dash(whole.ratio().map(|v| format!("{:.2}%", 100.0 * v))),
                or_dash(whole.cosine_final.map(|c| format!("{c:.3}"))),
                or_dash(whole.cosine_increment.map(|c| format!("{c:.2}"))),
            ])
        };
        let mut rows: Vec<Vec<String>> = self.rows(t).filter_map(row).collect();
        let n = rows.len();
        if n > LISTED {
            // Evenly, the last among them.
            let each = n.div_ceil(LISTED);
            let mut i = 0;
            rows.retain(|_| {
                i += 1;
                (n - i).is_multiple_of(each)
            });
        }
        let shown =
            if rows.len() < n { format!(", {} of {n} checkpoints", rows.len()) } else { String::new() };
        SummaryTable {
            title: format!("{} on all prompts{shown}", t.name),
            columns: vec![
                column("step", "Step of the checkpoint."),
                column("delta", "Mean of ln p(B) − ln p(A), in nats, with 95% interval."),
                column("p_b", "Mean probability of B among both answers."),
                column(
                    "recovery",
                    "Share of the way from the base to the last checkpoint, with 95% interval.",
                ),
                column(
                    "moved",
                    "In how many scenarios (or on all prompts, where there is one) mean delta differs clearly from the checkpoint before: \
                     corrected sign-flip test.",
                ),
                column("norm", "Norm of the whole update over that of the adapted weights."),
                column("cosine, last", "Cosine of the update and the last one."),
                column(
                    "cosine, steps",
                    "Cosine of what was added since the checkpoint before and what was added then.",
                ),
            ],
            rows,
        }
    }

    /// In how many scenarios a checkpoint differs clearly from the one before; `None` for the first.
    fn moved(&self, t: &Trajectory, step: u64) -> Option<String> {
        let own = self.results.behaviour.iter().filter(|r| r.trajectory == t.name && r.step == Some(step));
        let mut q: Vec<(&str, f64)> =
            own.filter_map(|r| Some((r.scenario.as_str(), r.previous_q?))).collect();
        if q.len() > 1 {
            q.retain(|(scenario, _)| *scenario != ALL_PROMPTS);
        }
        let clear = q.iter().filter(|(_, q)| *q <= self.settings.level).count();
        (!q.is_empty()).then(|| format!("{clear} of {}", q.len()))
    }
}
