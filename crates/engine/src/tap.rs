//! Reading and replacing activations during a run, with an account of every request.
//!
//! What can be asked for is said in [`crate::request`] and [`crate::visit`]. Edits happen before visits, and these before captures,
//! so a capture shows what the rest of the model sees. Whatever was asked for must happen exactly once, or [`Tap::finish`] returns an
//! error.

use crate::batch::Batch;
use crate::branch::Birth;
use crate::error::{Error, Result};
use crate::hook::{HookPoint, Width};
use crate::mat::Mat;
use crate::number::Number;
use crate::request::{Edit, EditOp, Hooks, check_operand, copy_along};
use crate::spec::ModelSpec;
use crate::standing::Standing;
use crate::visit::Visit;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

/// What happens at one row of one hook point, in the order: edits, then stash, then visits, then capture.
#[derive(Clone, Debug, Default)]
struct AtRow {
    edits: Vec<usize>,
    /// How many later edits read from here.
    readers: usize,
    /// Whether a visitor comes by.
    is_visited: bool,
    /// Capture and the row's place in it.
    captures: Vec<(usize, usize)>,
}

/// Values of rows, each with the number of later edits that read them.
type Stash<R> = HashMap<(HookPoint, usize), (Vec<R>, usize)>;

/// The requests of one run, ordered by where they happen.
pub(crate) struct Tap<'h, R> {
    hooks: &'h Hooks<R>,
    /// Edits that stand; those of the hooks are numbered after them.
    standing: Vec<Edit<R>>,
    plan: HashMap<HookPoint, BTreeMap<usize, AtRow>>,
    /// Values that later edits read, and how many of those are still to come.
    stash: Stash<R>,
    values: Vec<Vec<Vec<R>>>,
    captured: Vec<Vec<usize>>,
    edited: Vec<usize>,
    visits: &'h [Visit<R>],
    visits_at: HashMap<HookPoint, Vec<usize>>,
    visited: Vec<usize>,
    /// Why a visitor can't go on.
    refused: Option<Error>,
    /// What edits made of the values of a row, where that is to be known afterwards.
    log: Option<HashMap<(HookPoint, usize), Vec<R>>>,
}

impl<'h, R: Number> Tap<'h, R> {
    /// Checks every request against the model and the batch; what stands goes before the hooks' own edits. `rank(row, point)` is
    /// the adapter's rank at a low-rank point, `None` where the row's model has no adapter there.
    pub fn new(
        hooks: &'h Hooks<R>,
        visits: &'h [Visit<R>],
        standing: &Standing<R>,
        batch: &Batch,
        spec: &ModelSpec,
        rank: impl Fn(usize, HookPoint) -> Option<usize>,
    ) -> Result<Self> {
        let width_at = |point: HookPoint, row: usize| -> Result<usize> {
            let no_adapter = || Error::NoSuchHookPoint {
                point: point.to_string(),
                why: format!("model {} has no adapter there", batch.row(row).model),
            };
            Ok(match point.width(spec)? {
                Width::Fixed(n) => n,
                Width::PerKey(n) => n * (batch.row(row).position + 1),
                Width::Rank => rank(row, point).ok_or_else(no_adapter)?,
            })
        };
        let check_row = |row: usize, point: HookPoint| match batch.birth(row) {
            _ if row >= batch.n_rows() => Err(format!("the batch has {} rows", batch.n_rows())),
            _ if row < batch.n_kept => {
                Err("its keys and values were kept; it is not computed again".to_owned())
            }
            Some(birth) if Birth::before(point).is_none_or(|latest| latest < birth) && !is_final(point) => {
                Err(format!(
                    "it belongs to a branch that begins in layer {} at {:?}, after this place",
                    birth.layer, birth.stage
                ))
            }
            _ => Ok(()),
        };
        let mut plan: HashMap<HookPoint, BTreeMap<usize, AtRow>> = HashMap::new();
        for (c, capture) in hooks.captures.iter().enumerate() {
            let point = capture.point;
            for (i, &row) in capture.rows.iter().enumerate() {
                let bad =
                    |why: String| Error::BadHook { kind: "capture", point: point.to_string(), row, why };
                check_row(row, point).map_err(bad)?;
                width_at(point, row)?;
                plan.entry(point).or_default().entry(row).or_default().captures.push((c, i));
            }
        }
        let mut visits_at: HashMap<HookPoint, Vec<usize>> = HashMap::new();
        for (v, visit) in visits.iter().enumerate() {
            let point = visit.point;
            let bad = |row: usize, why: &str| Error::BadHook {
                kind: "visit",
                point: point.to_string(),
                row,
                why: why.to_owned(),
            };
            if visit.rows.is_empty() || visit.rows.end > batch.n_trunk {
                return Err(bad(
                    visit.rows.start,
                    "it names no rows, or rows that no sequence of the batch has",
                ));
            }
            for row in visit.rows.clone() {
                check_row(row, point).map_err(|why| bad(row, &why))?;
                width_at(point, row)?;
                plan.entry(point).or_default().entry(row).or_default().is_visited = true;
            }
            visits_at.entry(point).or_default().push(v);
        }
        let standing = standing.edits_of(batch)?;
        for (e, edit) in standing.iter().chain(&hooks.edits).enumerate() {
            let (point, row) = (edit.point, edit.row);
            let bad = |why: String| Error::BadHook { kind: "edit", point: point.to_string(), row, why };
            check_row(row, point).map_err(bad)?;
            let width = width_at(point, row)?;
            if edit.units.is_empty() || edit.units.end > width {
                return Err(bad(format!("units {:?} are not within the {width} values there", edit.units)));
            }
            check_operand(edit).map_err(bad)?;
            for (place, source) in edit.sources() {
                if source >= row {
                    return Err(bad(format!("source row {source} does not come before it")));
                }
                check_row(source, place).map_err(|why| bad(format!("source row {source}: {why}")))?;
                if place != point && !place.comes_before(point) {
                    return Err(bad(format!("`{place}`, which it reads, does not come before it")));
                }
                let found = width_at(place, source)?;
                // Between rows with different numbers of keys (or ranks) the same unit would be another head's.
                if place == point && found != width {
                    return Err(bad(format!(
                        "source row {source} has {found} values there instead of {width}"
                    )));
                }
                if let EditOp::Shift(shift) = &edit.op
                    && shift.units.end > found
                {
                    let units = &shift.units;
                    return Err(bad(format!(
                        "units {units:?} are not within the {found} values of `{place}`"
                    )));
                }
                let read = plan.entry(place).or_default().entry(source).or_default();
                if read.is_visited {
                    return Err(bad(format!("source row {source} is visited, after it would be read")));
                }
                read.readers += 1;
            }
            plan.entry(point).or_default().entry(row).or_default().edits.push(e);
        }
        Ok(Self {
            plan,
            stash: HashMap::new(),
            values: hooks.captures.iter().map(|c| vec![Vec::new(); c.rows.len()]).collect(),
            captured: hooks.captures.iter().map(|c| vec![0; c.rows.len()]).collect(),
            edited: vec![0; standing.len() + hooks.edits.len()],
            standing,
            visits,
            visits_at,
            visited: vec![0; visits.len()],
            refused: None,
            log: None,
            hooks,
        })
    }

    /// From now on keeps what edits make of the values of a row.
    pub fn log_edits(&mut self) {
        self.log = Some(HashMap::new());
    }

    /// What edits made, as far as it was kept.
    pub fn take_log(&mut self) -> HashMap<(HookPoint, usize), Vec<R>> {
        self.log.take().unwrap_or_default()
    }

    /// Whether anything was asked for at a point; where not, the forward pass need not compute it.
    pub fn wants(&self, point: HookPoint) -> bool {
        self.plan.contains_key(&point)
    }

    /// Points at which something was asked for, or visitors come.
    pub fn points(&self) -> impl Iterator<Item = HookPoint> {
        self.plan.keys().chain(self.visits_at.keys()).copied()
    }

    /// Rows of `range` where something was asked for, in order.
    pub fn rows_wanted(&self, point: HookPoint, range: Range<usize>) -> Vec<usize> {
        self.plan.get(&point).map_or_else(Vec::new, |rows| rows.range(range).map(|(&r, _)| r).collect())
    }

    /// Whether visitors come to a point.
    pub fn is_visited(&self, point: HookPoint) -> bool {
        self.visits_at.contains_key(&point)
    }

    /// Where a block of rows of a layer that was to end before the row `end` has to end so that it parts no visit's rows.
    pub fn block_end(&self, layer: usize, end: usize) -> usize {
        let in_layer = |v: &&Visit<R>| matches!(v.point, HookPoint::Layer(l, _) if l == layer);
        let spans = || self.visits.iter().filter(in_layer).map(|v| &v.rows);
        let parted = |end: usize| spans().find(|rows| rows.start < end && end < rows.end);
        std::iter::successors(Some(end), |&end| parted(end).map(|rows| rows.end)).last().unwrap_or(end)
    }

    /// An error if a visitor could not go on.
    pub fn check_visitors(&mut self) -> Result<()> {
        self.refused.take().map_or(Ok(()), Err)
    }

    /// Carries out the requests at a point for consecutive rows from `first_row` on.
    pub fn at(&mut self, point: HookPoint, first_row: usize, values: &mut Mat<R>) {
        let rows = self.rows_wanted(point, first_row..first_row + values.rows);
        if rows.is_empty() {
            return;
        }
        let mut wanted = rows.iter().map(|row| row - first_row).peekable();
        let all = values.data.chunks_exact_mut(values.cols.max(1)).enumerate();
        let own = all.filter(|(i, _)| wanted.next_if_eq(i).is_some());
        let mut own: Vec<&mut [R]> = own.map(|(_, row)| row).collect();
        self.at_rows(point, &rows, &mut own);
    }

    /// Carries out the requests at a point for rows in ascending order. Rows that a visit names together come here together.
    pub fn at_rows(&mut self, point: HookPoint, rows: &[usize], values: &mut [&mut [R]]) {
        for (&row, values) in rows.iter().zip(values.iter_mut()) {
            self.edit(point, row, values);
        }
        self.visit(point, rows, values);
        for (&row, values) in rows.iter().zip(values.iter()) {
            let Some(at) = self.plan.get(&point).and_then(|rows| rows.get(&row)) else { continue };
            for &(c, i) in &at.captures {
                self.values[c][i] = values.to_vec();
                self.captured[c][i] += 1;
            }
        }
    }

    /// The edits of a row, and what later edits read of it.
    fn edit(&mut self, point: HookPoint, row: usize, values: &mut [R]) {
        let Some(at) = self.plan.get(&point).and_then(|rows| rows.get(&row)) else { return };
        if at.edits.is_empty() && at.readers == 0 {
            return;
        }
        let at = at.clone();
        for &e in &at.edits {
            let edit = numbered(&self.standing, self.hooks, e);
            let target = &mut values[edit.units.clone()];
            match &edit.op {
                EditOp::Set(new) => target.copy_from_slice(new),
                EditOp::Add(shift) => target.iter_mut().zip(shift).for_each(|(t, &s)| *t += s),
                EditOp::Scale(factor) => target.iter_mut().for_each(|t| *t *= *factor),
                EditOp::CopyFrom(_) | EditOp::CopyAlong { .. } | EditOp::Shift(_) => {
                    // An absent source leaves the edit uncounted, which `finish` reports.
                    if !apply_from_stash(&mut self.stash, edit, target) {
                        continue;
                    }
                }
            }
            self.edited[e] += 1;
        }
        if let (Some(log), false) = (&mut self.log, at.edits.is_empty()) {
            log.insert((point, row), values.to_vec());
        }
        if at.readers > 0 {
            self.stash.insert((point, row), (values.to_vec(), at.readers));
        }
    }

    /// The visits whose rows are all among `rows`; one whose rows come in parts is not made, which `finish` reports.
    fn visit(&mut self, point: HookPoint, rows: &[usize], values: &mut [&mut [R]]) {
        let Some(here) = self.visits_at.get(&point) else { return };
        for &v in here {
            let visit = &self.visits[v];
            let Ok(first) = rows.binary_search(&visit.rows.start) else { continue };
            let own = first..first + visit.rows.len();
            if own.end > rows.len() || rows[own.end - 1] + 1 != visit.rows.end || self.refused.is_some() {
                continue;
            }
            self.visited[v] += 1;
            if let Err(why) = visit.visitor.visit(visit, &mut values[own]) {
                self.refused = Some(Error::Visitor { point: point.to_string(), why });
            }
        }
    }

    /// The way back past a point: captures take the gradient with respect to the values as the rest of the model saw them; then
    /// the edits, last first, take from it what did not come from the values before. What an edit read elsewhere counts as a
    /// constant.
    pub fn back_at_row(&mut self, point: HookPoint, row: usize, gradient: &mut [R]) {
        let Some(at) = self.plan.get(&point).and_then(|rows| rows.get(&row)).cloned() else { return };
        for &(c, i) in &at.captures {
            self.values[c][i] = gradient.to_vec();
            self.captured[c][i] += 1;
        }
        for &e in at.edits.iter().rev() {
            let edit = numbered(&self.standing, self.hooks, e);
            let part = &mut gradient[edit.units.clone()];
            match &edit.op {
                EditOp::Set(_) | EditOp::CopyFrom(_) => part.fill(R::ZERO),
                EditOp::Add(_) | EditOp::Shift(_) => {}
                EditOp::Scale(factor) => part.iter_mut().for_each(|g| *g *= *factor),
                EditOp::CopyAlong { basis, .. } => {
                    let nothing = vec![R::ZERO; part.len()];
                    copy_along(part, &nothing, basis);
                }
            }
        }
    }

    /// [`Tap::back_at_row`] for consecutive rows from `first_row` on.
    pub fn back_at(&mut self, point: HookPoint, first_row: usize, gradients: &mut Mat<R>) {
        for row in self.rows_wanted(point, first_row..first_row + gradients.rows) {
            self.back_at_row(point, row, gradients.row_mut(row - first_row));
        }
    }

    /// The captured values, one list of rows per capture; an error if any request did not happen exactly once.
    pub fn finish(mut self) -> Result<Vec<Vec<Vec<R>>>> {
        self.check_visitors()?;
        for (visit, &times) in self.visits.iter().zip(&self.visited) {
            if times != 1 {
                return Err(fired_wrongly("visit", visit.point, visit.rows.start, times));
            }
        }
        for (edit, &times) in self.standing.iter().chain(&self.hooks.edits).zip(&self.edited) {
            if times != 1 {
                return Err(fired_wrongly("edit", edit.point, edit.row, times));
            }
        }
        self.finish_captures()
    }

    /// The captured values; an error if any capture did not happen exactly once.
    pub fn finish_captures(self) -> Result<Vec<Vec<Vec<R>>>> {
        for (capture, counts) in self.hooks.captures.iter().zip(&self.captured) {
            for (&row, &times) in capture.rows.iter().zip(counts) {
                if times != 1 {
                    return Err(fired_wrongly("capture", capture.point, row, times));
                }
            }
        }
        Ok(self.values)
    }
}

/// Carries out an edit that reads earlier rows; whether all of them were there.
fn apply_from_stash<R: Number>(stash: &mut Stash<R>, edit: &Edit<R>, target: &mut [R]) -> bool {
    let sources = edit.sources();
    let values: Vec<&[R]> = sources.iter().filter_map(|s| stash.get(s)).map(|(v, _)| &v[..]).collect();
    match (&edit.op, &values[..]) {
        (EditOp::CopyFrom(_), [from]) => target.copy_from_slice(&from[edit.units.clone()]),
        (EditOp::CopyAlong { basis, .. }, [from]) => copy_along(target, &from[edit.units.clone()], basis),
        (EditOp::Shift(shift), [plus, minus]) => {
            let differences = plus[shift.units.clone()].iter().zip(&minus[shift.units.clone()]);
            target.iter_mut().zip(differences).for_each(|(t, (&p, &m))| *t += p - m);
        }
        _ => return false,
    }
    for source in sources {
        // What nobody will read any more is let go.
        if let Some((_, readers)) = stash.get_mut(&source) {
            *readers -= 1;
            if *readers == 0 {
                stash.remove(&source);
            }
        }
    }
    true
}

/// The edit of that number.
fn numbered<'e, R>(standing: &'e [Edit<R>], hooks: &'e Hooks<R>, e: usize) -> &'e Edit<R> {
    standing.get(e).unwrap_or_else(|| &hooks.edits[e - standing.len()])
}

fn fired_wrongly(kind: &'static str, point: HookPoint, row: usize, times: usize) -> Error {
    Error::FiredWrongly { kind, point: point.to_string(), row, times }
}

/// Places after all layers, which rows of every branch reach.
fn is_final(point: HookPoint) -> bool {
    matches!(point, HookPoint::FinalScale | HookPoint::FinalNormalized)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::families::read_spec;
    use crate::hook::Site;
    use crate::request::Capture;

    const POINT: HookPoint = HookPoint::Layer(0, Site::MlpOut);

    /// A model of width 4, and three rows of it.
    fn three_rows() -> (ModelSpec, Batch) {
        let config = serde_json::json!({
            "model_type": "llama", "hidden_size": 4, "intermediate_size": 6, "num_hidden_layers": 1,
            "num_attention_heads": 2, "vocab_size": 8, "max_position_embeddings": 10, "hidden_act": "silu"
        });
        let spec = read_spec(&config).unwrap().1;
        let batch = Batch::new(&spec, &[(0, &[1, 2, 3])]).unwrap();
        (spec, batch)
    }

    /// What the account says after the point was reached at these rows, one after the other.
    fn account(hooks: &Hooks<f64>, reached: &[usize]) -> std::result::Result<Vec<Vec<Vec<f64>>>, String> {
        let (spec, batch) = three_rows();
        let mut tap = Tap::new(hooks, &[], &Standing::default(), &batch, &spec, |_, _| None).unwrap();
        for &row in reached {
            tap.at_rows(POINT, &[row], &mut [&mut [row as f64; 4]]);
        }
        tap.finish().map_err(|e| e.to_string())
    }

    fn wrongly(kind: &str, row: usize, times: usize) -> String {
        format!(
            "{kind} at `blocks.0.hook_mlp_out`, row {row} fired {times} times instead of once; please report this"
        )
    }

    #[test]
    fn a_capture_that_does_not_happen_once_is_an_error() {
        let hooks = Hooks { captures: vec![Capture { point: POINT, rows: vec![2, 0] }], edits: Vec::new() };
        assert_eq!(account(&hooks, &[0, 1, 2]).unwrap(), [[[2.0; 4], [0.0; 4]]]);
        assert_eq!(account(&hooks, &[0, 1]).unwrap_err(), wrongly("capture", 2, 0));
        assert_eq!(account(&hooks, &[0, 1, 2, 0]).unwrap_err(), wrongly("capture", 0, 2));
    }

    #[test]
    fn an_edit_that_does_not_happen_once_is_an_error() {
        let edit = |row, op| Hooks {
            captures: Vec::new(),
            edits: vec![Edit { point: POINT, row, units: 1..3, op }],
        };
        let scale = edit(1, EditOp::Scale(2.0));
        assert!(account(&scale, &[1]).is_ok());
        assert_eq!(account(&scale, &[0, 2]).unwrap_err(), wrongly("edit", 1, 0));
        assert_eq!(account(&scale, &[1, 1]).unwrap_err(), wrongly("edit", 1, 2));
        let copy = edit(2, EditOp::CopyFrom(1));
        assert!(account(&copy, &[1, 2]).is_ok());
        assert_eq!(account(&copy, &[2]).unwrap_err(), wrongly("edit", 2, 0), "its source was never seen");
        assert_eq!(account(&copy, &[2, 1]).unwrap_err(), wrongly("edit", 2, 0), "or only afterwards");
    }

    #[test]
    fn only_what_was_asked_for_is_wanted() {
        let edits = vec![Edit { point: POINT, row: 2, units: 0..4, op: EditOp::CopyFrom(0) }];
        let hooks = Hooks::<f64> { captures: vec![Capture { point: POINT, rows: vec![1, 1] }], edits };
        let (spec, batch) = three_rows();
        let tap = Tap::new(&hooks, &[], &Standing::default(), &batch, &spec, |_, _| None).unwrap();
        assert_eq!(tap.rows_wanted(POINT, 0..3), [0, 1, 2], "the source of a copy is wanted too");
        assert_eq!(tap.rows_wanted(POINT, 1..2), [1]);
        let elsewhere = HookPoint::Layer(0, Site::MlpPre);
        assert!(tap.wants(POINT) && !tap.wants(elsewhere) && tap.rows_wanted(elsewhere, 0..3).is_empty());
    }
}
