//! What the tables say in words.

use super::behaviour::BehaviourRow;
use super::blocks::{ALL, BlockRow};
use super::changes::{Change, Found, Of, Order};
use super::segments::MOST;
use super::settings::Settings;
use super::{Results, Trajectory};
use crate::activity::ChangeKind;
use crate::activity::change::{Place, kind_of, places};
use crate::bootstrap::Interval;
use crate::context::Context;
use crate::scenarios::{ALL_PROMPTS, n_clusters};

/// Blocks that the text names.
const NAMED: usize = 5;

impl Results {
    /// The main change of behaviour on all prompts, where it is clear of chance.
    pub fn change(&self, trajectory: &Trajectory) -> Option<&Change> {
        self.behaviour_of(trajectory).and_then(Found::main)
    }

    fn behaviour_of(&self, trajectory: &Trajectory) -> Option<&Found> {
        let all = Of::Behaviour(ALL_PROMPTS.to_owned());
        self.changes.iter().find(|f| f.trajectory == trajectory.name && f.of == all)
    }
}

pub(super) struct Words<'a> {
    pub context: &'a Context<'a>,
    pub settings: &'a Settings,
    pub results: &'a Results,
}

impl Words<'_> {
    pub fn paragraphs(&self) -> Vec<String> {
        let results = self.results;
        let each = results.trajectories.iter().zip(&results.blocks);
        each.flat_map(|(t, blocks)| [self.behaviour(t), self.weights(t, blocks), self.order(t)]).collect()
    }

    pub fn rows<'b>(&'b self, t: &'b Trajectory) -> impl Iterator<Item = &'b BehaviourRow> {
        self.results.behaviour.iter().filter(|r| r.trajectory == t.name && r.scenario == ALL_PROMPTS)
    }

    fn behaviour(&self, t: &Trajectory) -> String {
        let (first, last) = (t.steps.first().copied().unwrap_or(0), t.steps.last().copied().unwrap_or(0));
        let about = format!("{} ({} checkpoints, steps {first} to {last}):", t.name, t.steps.len());
        let Some(found) = self.results.behaviour_of(t) else { return about };
        let Some(p) = found.p else {
            return format!(
                "{about} every checkpoint decides alike on every prompt, so its behaviour has no change point."
            );
        };
        let q = found.q.unwrap_or(1.0);
        let change = match found.main() {
            None => format!(
                "no change point of behaviour: {:.1}% of random orders of the steps show as much of one.",
                100.0 * p
            ),
            Some(main) => {
                let jump = main.jump.map_or(String::new(), |j| {
                    format!("; {:.0}% of the change of level lies between these two", 100.0 * j)
                });
                let further = match found.changes.len() {
                    1 => String::new(),
                    n => format!(" It is the largest of {n} changes."),
                };
                format!(
                    "behaviour has its main change between steps {} and {} ({}; {}{jump}).{further}{}",
                    main.between.0,
                    main.between.1,
                    interval_of(main),
                    small("q", q),
                    self.levels(t)
                )
            }
        };
        format!("{about} {change}{}", self.reached(t))
    }

    /// Levels by scenario, where scenarios have a main change of their own.
    fn levels(&self, t: &Trajectory) -> String {
        let of = |f: &Found| match &f.of {
            Of::Behaviour(name) if name != ALL_PROMPTS => {
                let main = f.main()?;
                Some(format!(
                    "{name} from {:+.2} to {:+.2} nats (steps {} to {})",
                    main.before, main.after, main.between.0, main.between.1
                ))
            }
            _ => None,
        };
        let own = self.results.changes.iter().filter(|f| f.trajectory == t.name);
        let levels: Vec<String> = own.filter_map(of).collect();
        if levels.is_empty() {
            return String::new();
        }
        format!(
            " By scenario, mean levels of delta on both sides of its own main change: {}.",
            levels.join(", ")
        )
    }

    /// When the base is left behind, and when the last checkpoint's behaviour is there.
    fn reached(&self, t: &Trajectory) -> String {
        let level = self.settings.level;
        // Scenarios may move in opposite directions: each counts by itself.
        let own = self.results.behaviour.iter().filter(|r| r.trajectory == t.name);
        let clear = own.filter(|r| r.base_q.is_some_and(|q| q <= level));
        let from_base = match clear.min_by_key(|r| r.step) {
            Some(r) => format!(
                " The first checkpoint that differs clearly from the base is step {}, on {}: {} nats ({}).",
                r.step.unwrap_or(0),
                r.scenario,
                r.from_base.map_or(String::new(), |c| signed(c.mean)),
                small("q", r.base_q.unwrap_or(1.0))
            ),
            None => format!(
                " No checkpoint's mean delta differs clearly from the base's (q ≤ {level}), on all prompts or in a scenario."
            ),
        };
        let most = |r: &&BehaviourRow| r.step.is_some() && r.recovery.is_some_and(|i| i.mean >= 0.9);
        // From where on it stays there.
        let rows: Vec<&BehaviourRow> = self.rows(t).collect();
        let stays = rows.iter().rev().take_while(|r| most(r)).last();
        let recovered = stays.and_then(|r| Some((r.step?, r.recovery?))).map_or(String::new(), |(step, i)| {
            format!(
                " From step {step} on it stays at 90% or more of the way from the base to the last checkpoint ({:.0}% there, 95% interval {:.0}% to \
                 {:.0}%).",
                100.0 * i.mean,
                100.0 * i.lo,
                100.0 * i.hi
            )
        });
        from_base + &recovered
    }

    fn weights(&self, t: &Trajectory, blocks: &[BlockRow]) -> String {
        let whole: Vec<&BlockRow> = blocks.iter().filter(|r| r.layer.is_none() && r.module == ALL).collect();
        let last = t.steps.last().copied().unwrap_or(0);
        let Some(end) = whole.last().filter(|r| r.norm > 0.0) else {
            return format!("{}: its last checkpoint changes no weight.", t.name);
        };
        let at_end = blocks.iter().filter(|r| r.step == last);
        let largest = |rows: &mut dyn Iterator<Item = &BlockRow>| -> Option<BlockRow> {
            rows.filter(|r| r.ratio().is_some())
                .max_by(|a, b| a.ratio().unwrap_or(0.0).total_cmp(&b.ratio().unwrap_or(0.0)))
                .cloned()
        };
        let layer = largest(&mut at_end.clone().filter(|r| r.layer.is_some() && r.module == ALL));
        let module = largest(&mut at_end.filter(|r| r.layer.is_none() && r.module != ALL));
        let percent = |r: &BlockRow| 100.0 * r.ratio().unwrap_or(0.0);
        let places = layer.zip(module).map_or(String::new(), |(l, m)| {
            format!(
                ", the most in layer {} ({:.2}%) and in {} ({:.2}%)",
                l.layer.unwrap_or(0),
                percent(&l),
                m.module,
                percent(&m)
            )
        });
        let half = whole.iter().find(|r| r.norm >= 0.5 * end.norm).map_or(last, |r| r.step);
        let near = whole.iter().rev().take_while(|r| r.cosine_final.is_some_and(|c| c >= 0.9)).last();
        format!(
            "{}: the update of the last checkpoint has {:.2}% of the weights' norm{places}. It has half of that norm from step {half} on, and a \
             cosine of 0.9 or more to its last form from step {} on.",
            t.name,
            percent(end),
            near.map_or(last, |r| r.step)
        )
    }

    /// Which blocks come first.
    fn order(&self, t: &Trajectory) -> String {
        let level = self.settings.level;
        let own = self.results.changes.iter().filter(|f| f.trajectory == t.name);
        let blocks: Vec<&Found> =
            own.filter(|f| matches!(&f.of, Of::Norm(Some(_), module) if module != ALL)).collect();
        let clear: Vec<(&Found, &Change)> = blocks
            .iter()
            .filter(|f| f.q.is_some_and(|q| q <= level))
            .filter_map(|f| Some((*f, f.main()?)))
            .collect();
        let none = format!(
            "{}: of {} blocks (a linear map of a layer) none has a clear change of its norm (q ≤ {level}).",
            t.name,
            blocks.len()
        );
        let Some((_, first)) = clear.iter().min_by_key(|(_, c)| c.between) else { return none };
        let number = |order| clear.iter().filter(|(_, c)| c.order == Some(order)).count();
        let (before, after) = (number(Order::Before), number(Order::After));
        let against = match self.results.behaviour_of(t) {
            Some(found)
                if found.q.is_some_and(|q| q <= level)
                    && found.main().is_some_and(|m| m.interval.is_some()) =>
            {
                format!(
                    "{before} have their main change before that of behaviour, {after} after it, and for {} the intervals do not tell.{}{}",
                    clear.len() - before - after,
                    named("Before", &clear, Order::Before),
                    named("After", &clear, Order::After)
                )
            }
            _ => "behaviour has no clear change that they could come before or after.".to_owned(),
        };
        format!(
            "{}: {} of {} blocks (a linear map of a layer) have a clear change of their norm (q ≤ {level}), the earliest between steps {} and \
             {}; {against}",
            t.name,
            clear.len(),
            blocks.len(),
            first.between.0,
            first.between.1
        )
    }

    pub fn notes(&self) -> Vec<String> {
        let Settings { permutations, level, floor } = self.settings;
        let prompts = &self.context.subject.prompts;
        let clusters = n_clusters(prompts, &(0..prompts.len()).collect::<Vec<_>>());
        let fewest = self.results.trajectories.iter().map(|t| t.steps.len()).min().unwrap_or(0);
        let mut notes = vec![
            format!(
                "Change points: the piecewise-constant fit with the least sum of squares plus penalty, exact over all partitions with up to {MOST} \
                 changes. The penalty is what a curve without order passes in {:.0}% of cases: {permutations} times the steps are permuted, for \
                 behaviour within each template by itself. On all prompts the scenarios' means change together, so that opposite changes do not \
                 cancel.",
                100.0 * level
            ),
            "A change point is where two levels describe a curve best. A curve that grows evenly has it half-way: the share that lies between \
             the two checkpoints (jump in trajectory_changes) tells growth from a step. Norms go on growing after behaviour has settled, so a norm \
             that changes after behaviour does is no sign that the block does not matter; and one that changes before it is no proof that it does. \
             Surgery and patching say what a block does."
                .to_owned(),
            format!(
                "Norms have no sampling error; with {fewest} checkpoints no order of a single curve is rarer than p = {}, and a change close to \
                 the first or last checkpoint is not told from chance. Keep more checkpoints to see it.",
                match rarest(fewest) {
                    p if p < 0.001 => format!("{p:.0e}"),
                    p => format!("{p:.3}"),
                }
            ),
            format!(
                "Recovery leaves out prompts that the whole training moves by less than {floor} nats. It is 1 at the last checkpoint by definition."
            ),
        ];
        if clusters < 6 {
            notes.push(format!("Only {clusters} template(s): intervals and tests of behaviour mean little."));
        }
        notes.extend(self.left_out());
        notes
    }

    /// What the tables do not hold.
    fn left_out(&self) -> Vec<String> {
        let (mut whole, mut outside) = (true, false);
        let adapters = self.context.subject.model.adapters();
        let models = self.results.trajectories.iter().flat_map(|t| &t.models);
        for adapter in models.map(|&m| &adapters[m - 1]) {
            for place in places(adapter) {
                match place {
                    Place::Linear(_, _, update) => whole &= kind_of(adapter, &update) == ChangeKind::LowRank,
                    _ => outside = true,
                }
            }
        }
        let mut notes = Vec::new();
        if !whole {
            notes.push(
                "DoRA and weights of an adapter's own are no low-rank changes: norms and cosines are of s·B·A alone.".to_owned(),
            );
        }
        if outside {
            notes.push(
                "Changes outside the linear maps of layers (embeddings, biases, whole weights) have no part in norms and cosines, but in \
                 behaviour they have."
                    .to_owned(),
            );
        }
        notes
    }
}

/// The smallest share of orders that have as much of one change as the best order: half of the steps on either side.
fn rarest(n: usize) -> f64 {
    let orders = (0..n / 2).fold(1.0, |c, i| c * (n - i) as f64 / (i + 1) as f64);
    2.0 / orders
}

fn interval_of(change: &Change) -> String {
    change.interval.map_or_else(
        || "no interval with one template".to_owned(),
        |(lo, hi)| format!("95% interval {lo} to {hi}"),
    )
}

/// `q = 0.012`, or `q < 0.001`.
fn small(name: &str, p: f64) -> String {
    if p < 0.001 { format!("{name} < 0.001") } else { format!("{name} = {p:.3}") }
}

pub(super) fn signed(i: Interval) -> String {
    format!("{:+.2} [{:+.2}, {:+.2}]", i.mean, i.lo, i.hi)
}

/// Some blocks of that order, the earliest first.
fn named(title: &str, clear: &[(&Found, &Change)], order: Order) -> String {
    let mut own: Vec<&(&Found, &Change)> = clear.iter().filter(|(_, c)| c.order == Some(order)).collect();
    if own.is_empty() {
        return String::new();
    }
    own.sort_by_key(|(_, c)| c.between);
    let one = |(f, c): &&(&Found, &Change)| match &f.of {
        Of::Norm(Some(layer), module) => format!("L{layer} {module} ({} to {})", c.between.0, c.between.1),
        _ => String::new(),
    };
    let more = if own.len() > NAMED { format!(" and {} more", own.len() - NAMED) } else { String::new() };
    let listed: Vec<String> = own.iter().take(NAMED).map(one).collect();
    format!(" {title}: {}{more}.", listed.join(", "))
}
