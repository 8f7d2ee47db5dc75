//! From a design to a prompt set.

use lorascope_prompts::{Content, Item, PromptError, PromptSet};
use serde_json::{Value, json};

use crate::design::{Design, MAX_PROMPTS, MAX_SUBSET_FRAMES};
use crate::error::GamesError;
use crate::game::{Action, Game};
use crate::levels::{Labels, Order};
use crate::moral::Moral;
use crate::parts::{Orders, Subject, render};
use crate::scenario::Scenario;
use crate::subset::{balanced, window};
use crate::symbols::{Symbols, short_names};
use crate::template::Template;
use crate::wording::{Shows, Wording};

/// A wording that has been read.
struct Told<'a> {
    wording: &'a Wording,
    template: Template,
    shows: Shows,
}

/// The surface of a prompt: everything but game, scenario and label assignment.
#[derive(Clone)]
struct Frame<'a> {
    told: &'a Told<'a>,
    moral: &'a Moral,
    symbols: &'a Symbols,
    symbols_name: &'a str,
    orders: Orders,
    /// One level number per factor, for balancing; the same number for "does not show".
    levels: Vec<u16>,
}

impl Design {
    /// Makes the prompts: game by game, scenario by scenario, each scenario's prompts in the order
    /// of the factors' levels. Answer A is the symbol for cooperating, answer B the one for
    /// defecting. The same design always gives the same set.
    ///
    /// # Errors
    /// What [`Design::check`] says; too many prompts; fewer than [`Design::per_scenario`] asks for;
    /// or two prompts with the same text, which happens where a wording of the user's own does not
    /// show a factor that is varied.
    pub fn build(&self) -> Result<PromptSet, GamesError> {
        self.check()?;
        let told = self.told()?;
        self.check_size(&told)?;
        let names = short_names(&self.symbols);
        let frames = self.frames(&told, &names);
        let blocks = self.games.iter().flat_map(|g| self.scenarios.iter().map(move |s| (g, *s)));
        let variants = self.variants(&frames)?;
        let mut items = Vec::new();
        for (block, (game, scenario)) in blocks.enumerate() {
            let mut chosen = match self.per_scenario {
                Some(wanted) => window(block, wanted, variants.len()),
                None => (0..variants.len()).collect(),
            };
            // The window runs over the balanced order; files are easier to read in design order.
            chosen.sort_by_key(|&at| (variants[at].0, variants[at].1));
            items.extend(chosen.into_iter().map(|at| {
                let (frame, labels) = variants[at];
                item(game, scenario, &frames[frame], self.labels[labels])
            }));
        }
        let set = PromptSet::new(items);
        set.validate().map_err(|source| {
            let hint = match source {
                PromptError::SamePrompt { .. } => {
                    "; the wording does not show in what the two differ: add the placeholder, e.g. {last_round}"
                }
                _ => "",
            };
            GamesError::Prompts { source, hint }
        })?;
        Ok(set)
    }

    fn told(&self) -> Result<Vec<Told<'_>>, GamesError> {
        let read = |wording: &'_ Wording| wording.template();
        self.wording
            .iter()
            .map(|wording| {
                let template = read(wording)?;
                Ok(Told { wording, shows: Shows::of(&template), template })
            })
            .collect()
    }

    /// Counts before anything is made.
    fn check_size(&self, told: &[Told]) -> Result<(), GamesError> {
        let shown = |show: bool, levels: usize| if show { levels } else { 1 };
        let orders = |shows: &Shows| {
            shown(shows.first, self.first_mention.len())
                * shown(shows.second, self.second_mention.len())
                * shown(shows.table, self.row_order.len() * self.column_order.len())
        };
        let orders: usize = told.iter().map(|t| orders(&t.shows)).sum();
        let frames = self.moral.len().saturating_mul(self.symbols.len()).saturating_mul(orders);
        if self.per_scenario.is_some() && frames > MAX_SUBSET_FRAMES {
            let what = "surface forms to choose from";
            return Err(GamesError::TooMany { count: frames, what, limit: MAX_SUBSET_FRAMES });
        }
        let variants = frames.saturating_mul(self.labels.len());
        let blocks = self.games.len().saturating_mul(self.scenarios.len());
        let count = blocks.saturating_mul(self.per_scenario.unwrap_or(variants));
        if count > MAX_PROMPTS {
            return Err(GamesError::TooMany { count, what: "prompts", limit: MAX_PROMPTS });
        }
        Ok(())
    }

    /// All surface forms in design order.
    fn frames<'a>(&'a self, told: &'a [Told<'a>], names: &'a [String]) -> Vec<Frame<'a>> {
        let mut frames = Vec::new();
        for (w, told) in told.iter().enumerate() {
            for (m, moral) in self.moral.iter().enumerate() {
                for (s, symbols) in self.symbols.iter().enumerate() {
                    for (orders, order_levels) in self.orders(told.shows) {
                        let levels = [w as u16, m as u16, s as u16].into_iter().chain(order_levels);
                        let levels = levels.collect();
                        let symbols_name = &names[s];
                        frames.push(Frame { told, moral, symbols, symbols_name, orders, levels });
                    }
                }
            }
        }
        frames
    }

    /// All combinations of the orders that show, with their level numbers.
    fn orders(&self, shows: Shows) -> Vec<(Orders, [u16; 4])> {
        let factor = |show: bool, levels: &[Order]| -> Vec<(Order, u16)> {
            if show {
                levels.iter().map(|&order| (order, order as u16)).collect()
            } else {
                // Any order gives the same text; the number keeps "does not show" a level of its own.
                vec![(Order::CooperateFirst, u16::MAX)]
            }
        };
        let mut all = Vec::new();
        for (first, f) in factor(shows.first, &self.first_mention) {
            for (second, s) in factor(shows.second, &self.second_mention) {
                for (rows, r) in factor(shows.table, &self.row_order) {
                    for (columns, c) in factor(shows.table, &self.column_order) {
                        all.push((Orders { first, second, rows, columns }, [f, s, r, c]));
                    }
                }
            }
        }
        all
    }

    /// (frame, label) numbers: in design order, or in balanced order where a subset is wanted. The
    /// label twins of a frame follow each other, so that a subset holds whole twins.
    fn variants(&self, frames: &[Frame]) -> Result<Vec<(usize, usize)>, GamesError> {
        let available = frames.len() * self.labels.len();
        let order = match self.per_scenario {
            None => (0..frames.len()).collect(),
            Some(wanted) if wanted > available => {
                return Err(GamesError::TooFew { wanted, available });
            }
            Some(wanted) => {
                let levels: Vec<Vec<u16>> = frames.iter().map(|f| f.levels.clone()).collect();
                let cycle = wanted.div_ceil(4) * 4;
                balanced(&levels, cycle.div_ceil(self.labels.len()))
            }
        };
        Ok(order.into_iter().flat_map(|f| (0..self.labels.len()).map(move |l| (f, l))).collect())
    }
}

/// One prompt.
fn item(game: &Game, scenario: Scenario, frame: &Frame, labels: Labels) -> Item {
    let told = frame.told;
    let subject = Subject {
        game,
        scenario,
        opponent: told.wording.opponent(),
        symbols: frame.symbols,
        labels,
        orders: frame.orders,
    };
    let (text, spans) = render(&told.template, frame.moral, &subject);
    let (surface, orders) = (frame.surface(), frame.orders_name());
    let variant = format!("{surface}-{labels}{orders}");
    let mut item = Item::new(format!("{}-{scenario}-{variant}", game.name), Content::Text(text));
    item.answer_a = Some(subject.symbol(Action::Cooperate).to_owned());
    item.answer_b = Some(subject.symbol(Action::Defect).to_owned());
    item.spans = spans;
    item.scenario = Some(scenario.to_string());
    item.template = Some(variant.clone());
    item.variant = Some(variant);
    let twins = format!("{}-{scenario}-{surface}{orders}", game.name);
    item.rest = factors(frame, &subject).map(|(k, v)| (k.to_owned(), v)).collect();
    item.rest.insert("label_twins".into(), json!(twins));
    item
}

/// The factors and the state of a prompt, as extra keys of its item.
fn factors<'a>(frame: &Frame<'a>, subject: &Subject<'a>) -> impl Iterator<Item = (&'static str, Value)> {
    let history = subject.scenario.history();
    let (own, opponent) = subject.last_points();
    let shows = frame.told.shows;
    let orders = frame.orders;
    let order = |show: bool, order: Order| if show { json!(order.name()) } else { Value::Null };
    [
        ("game", json!(subject.game.name)),
        ("wording", json!(frame.told.wording.name())),
        ("moral", json!(frame.moral.name())),
        ("symbols", json!([frame.symbols.first(), frame.symbols.second()])),
        ("labels", json!(subject.labels.name())),
        ("first_mention", order(shows.first, orders.first)),
        ("second_mention", order(shows.second, orders.second)),
        ("row_order", order(shows.table, orders.rows)),
        ("column_order", order(shows.table, orders.columns)),
        ("own_last_move", json!(history.own.letter())),
        ("opponent_last_move", json!(history.opponent.letter())),
        ("own_last_payoff", json!(own)),
        ("opponent_last_payoff", json!(opponent)),
        ("joint_last_payoff", json!(own + opponent)),
    ]
    .into_iter()
    // A factor that the wording does not show is no factor of this prompt.
    .filter(|(_, value)| !value.is_null())
}

impl Frame<'_> {
    /// Wording, preamble and symbols for an id.
    fn surface(&self) -> String {
        let moral = match self.moral {
            Moral::None => String::new(),
            moral => format!("-{}", moral.name()),
        };
        format!("{}{moral}-{}", self.told.wording.name(), self.symbols_name)
    }

    /// The orders for an id: `-m_cd_dc-t_cd_cd`, mentions and table; `x` for what does not show.
    fn orders_name(&self) -> String {
        let name = |show: bool, order: Order| if show { order.name() } else { "x" };
        let shows = self.told.shows;
        let mut out = String::new();
        if shows.first || shows.second {
            let (first, second) =
                (name(shows.first, self.orders.first), name(shows.second, self.orders.second));
            out.push_str(&format!("-m_{first}_{second}"));
        }
        if shows.table {
            out.push_str(&format!("-t_{}_{}", self.orders.rows, self.orders.columns));
        }
        out
    }
}
