//! What stands in a prompt for each placeholder, with the spans that it brings. In span names `a`
//! is the symbol for cooperating and `b` the one for defecting, as in the item's answers.

use lorascope_prompts::Span;

use crate::assembly::Assembly;
use crate::game::{Action, Game};
use crate::levels::{Labels, Order};
use crate::moral::Moral;
use crate::scenario::Scenario;
use crate::symbols::Symbols;
use crate::template::{Part, Piece, Template};

/// The orders of a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Orders {
    pub(crate) first: Order,
    pub(crate) second: Order,
    pub(crate) rows: Order,
    pub(crate) columns: Order,
}

/// Everything that the text of one prompt depends on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) game: &'a Game,
    pub(crate) scenario: Scenario,
    pub(crate) opponent: &'a str,
    pub(crate) symbols: &'a Symbols,
    pub(crate) labels: Labels,
    pub(crate) orders: Orders,
}

/// The text of a prompt and its spans.
pub(crate) fn render(template: &Template, moral: &Moral, subject: &Subject) -> (String, Vec<Span>) {
    let mut out = Assembly::default();
    if let Some(text) = moral.text() {
        out.mark("preamble", text);
        out.push("\n\n");
    }
    for piece in template.pieces() {
        match piece {
            Piece::Text(text) => out.push(text),
            Piece::Part(part) => subject.write(*part, &mut out),
            Piece::Open(name) => out.open(name),
            Piece::Close(_) => out.close(),
        }
    }
    out.finish()
}

/// The two actions in this order.
const fn in_order(order: Order) -> [Action; 2] {
    match order {
        Order::CooperateFirst => [Action::Cooperate, Action::Defect],
        Order::DefectFirst => [Action::Defect, Action::Cooperate],
    }
}

/// `a` for the symbol of answer A, `b` for that of answer B.
const fn answer_letter(action: Action) -> char {
    match action {
        Action::Cooperate => 'a',
        Action::Defect => 'b',
    }
}

/// A payoff as it stands in the text; whole numbers without a point, never "-0".
fn number(points: f64) -> String {
    if points == 0.0 { "0".into() } else { points.to_string() }
}

fn unit(points: f64) -> &'static str {
    if points.abs() == 1.0 { " point" } else { " points" }
}

impl<'a> Subject<'a> {
    /// The symbol that stands for an action.
    pub(crate) fn symbol(&self, action: Action) -> &'a str {
        match (self.labels, action) {
            (Labels::Straight, Action::Cooperate) | (Labels::Swapped, Action::Defect) => self.symbols.first(),
            (Labels::Straight, Action::Defect) | (Labels::Swapped, Action::Cooperate) => {
                self.symbols.second()
            }
        }
    }

    /// The points (own, opponent's) of the last round.
    pub(crate) fn last_points(&self) -> (f64, f64) {
        let history = self.scenario.history();
        self.game.payoff(history.own, history.opponent)
    }

    fn write(&self, part: Part, out: &mut Assembly) {
        let history = self.scenario.history();
        let (own, opponent) = self.last_points();
        match part {
            Part::Opponent => out.push(self.opponent),
            Part::Title => out.mark("title", &self.game.title),
            Part::Cooperate => out.push(self.symbol(Action::Cooperate)),
            Part::Defect => out.push(self.symbol(Action::Defect)),
            Part::SymbolsFirst => self.mention(self.orders.first, "first", out),
            Part::SymbolsSecond => self.mention(self.orders.second, "second", out),
            Part::Meanings => self.meanings(out),
            Part::GameTable => out.span("payoff_table", |out| self.table(out)),
            Part::PayoffSentences => out.span("payoff_sentences", |out| self.sentences(out)),
            Part::LastRound => self.last_round(out),
            Part::OwnLastMove => out.mark("own_last_move", self.symbol(history.own)),
            Part::OpponentLastMove => out.mark("opponent_last_move", self.symbol(history.opponent)),
            Part::OwnLastPoints => points("own_last_payoff", own, out),
            Part::OpponentLastPoints => points("opponent_last_payoff", opponent, out),
            Part::Temptation => self.temptation(out),
            Part::Format => out.span("answer_format", |out| {
                out.push("Answer with ");
                self.mention(self.orders.second, "second", out);
                out.push(" only and give no explanation.");
            }),
        }
    }

    fn mention(&self, order: Order, which: &str, out: &mut Assembly) {
        let [x, y] = in_order(order);
        let name = |action| format!("option_{}_{which}_mention", answer_letter(action));
        out.mark(name(x), self.symbol(x));
        out.push(" or ");
        out.mark(name(y), self.symbol(y));
    }

    fn meanings(&self, out: &mut Assembly) {
        let [x, y] = in_order(self.orders.first);
        let clause = |action: Action, out: &mut Assembly| {
            let means = match action {
                Action::Cooperate => &self.game.cooperate_as,
                Action::Defect => &self.game.defect_as,
            };
            let text = format!("{} stands for the choice to {means}", self.symbol(action));
            out.mark(format!("option_{}_meaning", answer_letter(action)), &text);
        };
        out.push("Here ");
        clause(x, out);
        out.push(", and ");
        clause(y, out);
        out.push(".");
    }

    fn table(&self, out: &mut Assembly) {
        out.push(&format!("| You \\ {} |", self.opponent));
        for column in in_order(self.orders.columns) {
            out.push(" ");
            out.mark(format!("column_{}", answer_letter(column)), self.symbol(column));
            out.push(" |");
        }
        out.push("\n|---|---|---|");
        for row in in_order(self.orders.rows) {
            out.push("\n| ");
            out.mark(format!("row_{}", answer_letter(row)), self.symbol(row));
            out.push(" |");
            for column in in_order(self.orders.columns) {
                let (own, opponent) = self.game.payoff(row, column);
                out.push(" ");
                out.mark(cell_name(row, column, "own"), &number(own));
                out.push(", ");
                out.mark(cell_name(row, column, "opponent"), &number(opponent));
                out.push(" |");
            }
        }
    }

    fn sentences(&self, out: &mut Assembly) {
        let mut gap = "";
        for row in in_order(self.orders.rows) {
            for column in in_order(self.orders.columns) {
                let (own, opponent) = self.game.payoff(row, column);
                let (x, y) = (self.symbol(row), self.symbol(column));
                out.push(&format!("{gap}If you pick {x} and {} picks {y}, you get ", self.opponent));
                points(&cell_name(row, column, "own"), own, out);
                out.push(&format!(" and {} gets ", self.opponent));
                points(&cell_name(row, column, "opponent"), opponent, out);
                out.push(".");
                gap = " ";
            }
        }
    }

    fn last_round(&self, out: &mut Assembly) {
        out.span("last_round", |out| {
            out.push("In the last round you chose ");
            self.write(Part::OwnLastMove, out);
            out.push(&format!(" and {} chose ", self.opponent));
            self.write(Part::OpponentLastMove, out);
            out.push(", so you got ");
            self.write(Part::OwnLastPoints, out);
            out.push(&format!(" and {} got ", self.opponent));
            self.write(Part::OpponentLastPoints, out);
            out.push(".");
        });
        self.temptation(out);
    }

    fn temptation(&self, out: &mut Assembly) {
        if !self.scenario.tempts() {
            return;
        }
        let history = self.scenario.history();
        let other = history.own.other();
        let (would, _) = self.game.payoff(other, history.opponent);
        let (did, _) = self.last_points();
        out.push(" ");
        out.span("temptation", |out| {
            out.push("Had you chosen ");
            out.mark("temptation_move", self.symbol(other));
            out.push(" in that round, you would have got ");
            points("temptation_payoff", would, out);
            out.push(&format!(" instead of {}.", number(did)));
        });
    }
}

fn cell_name(own: Action, opponent: Action, whose: &str) -> String {
    format!("payoff_{}{}_{whose}", own.letter(), opponent.letter())
}

/// "3 points", of which the number is a span.
fn points(name: &str, value: f64, out: &mut Assembly) {
    out.mark(name, &number(value));
    out.push(unit(value));
}
