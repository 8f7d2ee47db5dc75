//! Remembered sequences: who asks many questions of the same prompts computes the prompts once, without saying so each time.
//!
//! A run whose sequences all go on remembered ones, and that reads nothing within these, computes only what comes after them. What is
//! to be remembered and begins like something remembered takes the beginning from there: an edited end of a text costs the new end. The
//! same holds under edits that stand, as far as they do the same to the rows in question. By the independence of rows the results have
//! the same bits. Every other run is as it would be without.

use crate::batch::{Batch, ModelId};
use crate::error::Result;
use crate::forward::{Kept, Progress, Run};
use crate::model::Model;
use crate::number::Number;
use crate::request::{Capture, Hooks};
use crate::standing::Standing;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// Bytes of keys and values that are remembered beside those asked for last.
const OLDER_BYTES: usize = 1 << 30;
/// How many sets of sequences are remembered beside them; each costs a comparison where a new one begins.
const OLDER: usize = 16;

/// Sets of sequences, those asked for last at the end.
#[derive(Debug)]
pub(crate) struct Memo<R> {
    sets: Vec<Remembered<R>>,
}

/// Sequences with their keys and values.
#[derive(Debug)]
struct Remembered<R> {
    kept: Kept<R>,
    index: BTreeMap<(ModelId, Vec<u32>), usize>,
    /// The edits under which they were run.
    standing: Standing<R>,
    /// Models on which other edits stand now.
    changed: BTreeSet<ModelId>,
}

/// The beginning of a sequence that is remembered.
struct Begun<'m, R> {
    kept: &'m Kept<R>,
    /// Which of its sequences begins so.
    sequence: usize,
    /// How many rows are the same.
    rows: usize,
}

/// A run that begins after remembered sequences.
struct After {
    batch: Batch,
    /// The row of that batch for each row of the whole one that is computed.
    rows: HashMap<usize, usize>,
}

impl<R> Default for Memo<R> {
    fn default() -> Self {
        Self { sets: Vec::new() }
    }
}

impl<R: Number> Model<R> {
    /// Runs these sequences and remembers their keys and values, `2 · n_layers · n_kv_heads · d_head` numbers a token. What begins like
    /// a remembered sequence, under edits that do the same to it, is taken from there. Results of later runs are the same, bit for bit;
    /// those that go on these sequences are faster. Some sets of sequences that were remembered before stay, the newest first, within
    /// a bound of memory. Where it fails, everything stays as it was. Gives the number of tokens that had to be run.
    ///
    /// # Errors
    /// As [`Model::keep`].
    pub fn remember(&mut self, sequences: &[(ModelId, &[u32])], progress: Progress) -> Result<usize> {
        let index: BTreeMap<(ModelId, Vec<u32>), usize> =
            sequences.iter().enumerate().map(|(i, (m, tokens))| ((*m, tokens.to_vec()), i)).collect();
        let known = |set: &Remembered<R>| {
            set.index == index && sequences.iter().all(|(model, _)| !set.changed.contains(model))
        };
        let (newest, n_run) = match self.memo.sets.iter().rposition(known) {
            Some(at) => (self.memo.sets.remove(at), 0),
            None => {
                let (kept, n_run) = self.keep_counting(sequences, progress)?;
                let (standing, changed) = (self.standing.clone(), BTreeSet::new());
                (Remembered { kept, index, standing, changed }, n_run)
            }
        };
        self.memo.add(newest);
        Ok(n_run)
    }

    /// Runs sequences and keeps their keys and values; what is remembered of them is not run.
    ///
    /// # Errors
    /// As [`Batch::new`] and [`Model::run`].
    pub fn keep(&self, sequences: &[(ModelId, &[u32])], progress: Progress) -> Result<Kept<R>> {
        Ok(self.keep_counting(sequences, progress)?.0)
    }

    /// Whether anything is remembered.
    pub fn remembers(&self) -> bool {
        !self.memo.sets.is_empty()
    }

    /// Forgets what [`Model::remember`] has.
    pub fn forget(&mut self) {
        self.memo = Memo::default();
    }

    /// Other edits stand now.
    pub(crate) fn compare_memo(&mut self) {
        let models = 0..self.n_models();
        for set in &mut self.memo.sets {
            set.changed = models.clone().filter(|&m| !set.standing.is_same_for(&self.standing, m)).collect();
        }
    }

    /// The longest remembered beginning of a sequence, as the models are now; `None` where its first row is not remembered.
    fn begun(&self, model: ModelId, tokens: &[u32]) -> Option<Begun<'_, R>> {
        let of_set = |set: &'_ Remembered<R>| {
            let alike = |known: &[u32]| known.iter().zip(tokens).take_while(|(a, b)| a == b).count();
            let own = set.index.iter().filter(|((m, _), _)| *m == model);
            let (rows, sequence) = own.map(|((_, known), &i)| (alike(known), i)).max_by_key(|(n, _)| *n)?;
            let rows = match set.changed.contains(&model) {
                false => rows,
                true => set.standing.same_rows(&self.standing, model, &tokens[..rows]),
            };
            Some((rows, sequence))
        };
        let found = self.memo.sets.iter().filter_map(|set| {
            let (rows, sequence) = of_set(set)?;
            Some(Begun { kept: &set.kept, sequence, rows })
        });
        found.max_by_key(|begun| begun.rows).filter(|begun| begun.rows > 0)
    }

    /// [`Model::keep`] and the number of rows that were run.
    fn keep_counting(&self, sequences: &[(ModelId, &[u32])], progress: Progress) -> Result<(Kept<R>, usize)> {
        let begun: Vec<Option<Begun<R>>> =
            sequences.iter().map(|(model, tokens)| self.begun(*model, tokens)).collect();
        // For each sequence its number among the new ones, or among the begun ones.
        let (mut new, mut known, mut place) = (Vec::new(), Vec::new(), Vec::new());
        for (sequence, begun) in sequences.iter().zip(&begun) {
            let among = if begun.is_some() { &mut known } else { &mut new };
            place.push(among.len());
            among.push(*sequence);
        }
        if known.is_empty() {
            let kept = self.keep_whole(sequences, progress)?;
            let n_run = kept.n_rows();
            return Ok((kept, n_run));
        }
        let begun_only: Vec<&Begun<R>> = begun.iter().flatten().collect();
        let beginnings: Vec<(ModelId, &[u32])> =
            known.iter().zip(&begun_only).map(|((m, tokens), b)| (*m, &tokens[..b.rows])).collect();
        let from_memory = |s: usize, at: usize| (begun_only[s].kept, begun_only[s].sequence, at);
        let beginnings = Kept::gathered(self, &beginnings, from_memory)?;
        let tails = known.iter().zip(&begun_only).enumerate();
        let tails: Vec<(usize, &[u32])> = tails
            .map(|(s, ((_, tokens), b))| (s, &tokens[b.rows..]))
            .filter(|(_, t)| !t.is_empty())
            .collect();
        let ends = match tails.is_empty() {
            true => None,
            false => Some(self.keep_after(&beginnings, &tails, progress)?),
        };
        let new = if new.is_empty() { None } else { Some(self.keep_whole(&new, progress)?) };
        let tail_of = |s: usize| tails.iter().position(|(of, _)| *of == s);
        let source = |s: usize, at: usize| match (&begun[s], &new, &ends) {
            (None, Some(new), _) => (new, place[s], at),
            (Some(begun), _, Some(ends)) if at >= begun.rows => {
                (ends, tail_of(place[s]).unwrap_or_default(), at)
            }
            _ => (&beginnings, place[s], at),
        };
        let n_after = ends.as_ref().map_or(0, |ends| ends.n_rows() - beginnings.n_rows());
        let n_run = n_after + new.as_ref().map_or(0, Kept::n_rows);
        Ok((Kept::gathered(self, sequences, source)?, n_run))
    }

    /// The run, where it can begin after remembered sequences.
    pub(crate) fn run_from_memo(
        &self,
        batch: &Batch,
        hooks: &Hooks<R>,
        readout: &[usize],
        progress: Progress,
    ) -> Result<Option<Run<R>>> {
        // Edits may read rows in an order that only the whole batch has.
        if !hooks.edits.is_empty() || batch.n_trunk != batch.n_rows() {
            return Ok(None);
        }
        for set in self.memo.sets.iter().rev() {
            let Some(after) = set.after(self, batch)? else { continue };
            let moved =
                |rows: &[usize]| rows.iter().map(|row| after.rows.get(row).copied()).collect::<Option<_>>();
            let capture = |c: &Capture| Some(Capture { point: c.point, rows: moved(&c.rows)? });
            let captures: Option<Vec<Capture>> = hooks.captures.iter().map(capture).collect();
            let (Some(captures), Some(readout)) = (captures, moved(readout)) else { continue };
            let hooks = Hooks { captures, edits: Vec::new() };
            let readout: Vec<usize> = readout;
            return self.run_after(&set.kept, &after.batch, &hooks, &readout, progress).map(Some);
        }
        Ok(None)
    }
}

impl<R: Number> Memo<R> {
    /// Puts a set at the end, and lets the oldest go where there are too many.
    fn add(&mut self, newest: Remembered<R>) {
        let mut bytes = 0;
        let mut stays = |set: &Remembered<R>| {
            bytes += set.kept.bytes();
            bytes <= OLDER_BYTES
        };
        let n = self.sets.iter().rev().take(OLDER).take_while(|set| stays(set)).count();
        self.sets.drain(..self.sets.len() - n);
        self.sets.push(newest);
    }
}

impl<R: Number> Remembered<R> {
    /// `None` where a sequence of the batch does not go on a remembered one.
    fn after(&self, model: &Model<R>, batch: &Batch) -> Result<Option<After>> {
        let mut ends: Vec<(usize, usize, Vec<u32>)> = Vec::with_capacity(batch.n_sequences());
        for sequence in 0..batch.n_sequences() {
            let Some(last) = batch.end_of(sequence) else { return Ok(None) };
            let (which, tokens) = (batch.row(last).model, batch.tokens_to(last));
            if self.changed.contains(&which) {
                return Ok(None);
            }
            let known = |n: usize| self.index.get(&(which, tokens[..n].to_vec())).map(|&i| (i, n));
            let Some((of, n)) = (1..tokens.len()).rev().find_map(known) else { return Ok(None) };
            ends.push((of, n, tokens[n..].to_vec()));
        }
        let sequences: Vec<(usize, &[u32])> =
            ends.iter().map(|(of, _, tail)| (*of, tail.as_slice())).collect();
        let short = self.kept.batch(model, &sequences, &[])?;
        let mut rows = HashMap::new();
        for (sequence, (_, n, tail)) in ends.iter().enumerate() {
            for position in *n..n + tail.len() {
                let places = batch.row_of(sequence, position).zip(short.row_of(sequence, position));
                let Some((whole, short)) = places else { return Ok(None) };
                rows.insert(whole, short);
            }
        }
        // Rows that a batch keeps apart would have become one.
        let distinct: HashSet<usize> = rows.values().copied().collect();
        Ok((distinct.len() == rows.len()).then_some(After { batch: short, rows }))
    }
}
