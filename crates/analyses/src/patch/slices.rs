//! Effects on single prompts, in the cells of the heat maps.

use crate::error::Result;
use crate::patch::effects::{Key, keys};
use crate::slices::with_prompts;
use crate::subject::Prompt;
use lorascope_record::Table;
use lorascope_report::{Cell, Figure};
use std::collections::{BTreeMap, HashMap};

/// Key of each cell, by panel, row and column.
pub(super) type Cells = HashMap<(usize, usize, usize), Key>;

/// Patched runs by place and prompt.
pub(super) struct ByPlace<'t> {
    runs: BTreeMap<Key, HashMap<&'t str, Option<f64>>>,
}

impl<'t> ByPlace<'t> {
    /// `column`: what a figure shows of a run, `recovery` or `change`.
    pub fn new(patches: &'t Table, column: &str) -> Result<Self> {
        let values = match column {
            "recovery" => patches.floats_or_null(column)?.to_vec(),
            _ => patches.floats(column)?.into_iter().map(Some).collect(),
        };
        let mut runs: BTreeMap<Key, HashMap<&str, Option<f64>>> = BTreeMap::new();
        for ((key, prompt), value) in keys(patches)?.into_iter().zip(patches.texts("prompt_id")?).zip(values)
        {
            runs.entry(key).or_default().insert(prompt, value);
        }
        Ok(Self { runs })
    }

    /// The figure with the values of single prompts.
    pub fn sliced(&self, figure: Figure, cells: &Cells, prompts: &[Prompt]) -> Figure {
        with_prompts(figure, prompts, |prompt, Cell { panel, row, col }| {
            let runs = self.runs.get(cells.get(&(panel, row, col))?)?;
            *runs.get(prompts[prompt].id())?
        })
    }
}
