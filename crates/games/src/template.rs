//! The small language that wordings are written in: text with `{placeholder}`s and `{#span}…{/span}`
//! marks. The built-in wordings and the user's own ones are read by the same code.

use crate::error::TemplateProblem;
use crate::levels::levels;
use crate::suggest;

levels! {
    /// A placeholder of a wording.
    Part, "placeholder" {
        /// What the opponent is called, e.g. `the other player`.
        Opponent = "opponent",
        /// What the game is called.
        Title = "title",
        /// The symbol for cooperating.
        Cooperate = "cooperate",
        /// The symbol for defecting.
        Defect = "defect",
        /// First mention of the choice: `action1 or action2`.
        SymbolsFirst = "symbols_first",
        /// Second mention of the choice, in its own order.
        SymbolsSecond = "symbols_second",
        /// What the symbols stand for, a sentence, in the order of first mention.
        Meanings = "meanings",
        /// The payoffs as a table in markdown.
        GameTable = "game_table",
        /// The payoffs as four sentences.
        PayoffSentences = "payoff_sentences",
        /// The last round's moves and points, and the temptation where the scenario has one.
        LastRound = "last_round",
        /// The asked player's own last move.
        OwnLastMove = "own_last_move",
        /// The opponent's last move.
        OpponentLastMove = "opponent_last_move",
        /// The own points of the last round, e.g. `1 point`.
        OwnLastPoints = "own_last_points",
        /// The opponent's points of the last round.
        OpponentLastPoints = "opponent_last_points",
        /// What defecting would have given: a space and a sentence in CC_temptation, else nothing.
        Temptation = "temptation",
        /// How to answer, a sentence that holds the second mention.
        Format = "format",
    }
}

/// One piece of a wording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Text as it stands.
    Text(String),
    /// A placeholder.
    Part(Part),
    /// A named span starts here.
    Open(String),
    /// The span of this name ends here.
    Close(String),
}

/// A wording that has been read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template(Vec<Piece>);

impl Template {
    /// Reads a wording.
    pub(crate) fn parse(text: &str) -> Result<Template, TemplateProblem> {
        if text.trim().is_empty() {
            return Err(TemplateProblem::Empty);
        }
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut at = 0;
        while let Some(c) = text[at..].chars().next() {
            let rest = &text[at..];
            if rest.starts_with("{{") || rest.starts_with("}}") {
                plain.push(c);
                at += 2;
            } else if c == '{' {
                let Some(end) = rest.find('}') else {
                    return Err(TemplateProblem::Brace { brace: '{', at });
                };
                if !plain.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut plain)));
                }
                pieces.push(mark(rest[1..end].trim())?);
                at += end + 1;
            } else if c == '}' {
                return Err(TemplateProblem::Brace { brace: '}', at });
            } else {
                plain.push(c);
                at += c.len_utf8();
            }
        }
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        check_nesting(&pieces)?;
        Ok(Template(pieces))
    }

    /// The pieces in order.
    pub(crate) fn pieces(&self) -> &[Piece] {
        &self.0
    }

    /// Whether any of these placeholders occurs.
    pub(crate) fn has(&self, parts: &[Part]) -> bool {
        self.0.iter().any(|piece| matches!(piece, Piece::Part(part) if parts.contains(part)))
    }
}

/// What stands between two braces.
fn mark(inside: &str) -> Result<Piece, TemplateProblem> {
    if let Some(name) = inside.strip_prefix('#') {
        return Ok(Piece::Open(name.trim().to_owned()));
    }
    if let Some(name) = inside.strip_prefix('/') {
        return Ok(Piece::Close(name.trim().to_owned()));
    }
    inside.parse().map(Piece::Part).map_err(|_| {
        let known: Vec<&str> = Part::ALL.iter().map(|p| p.name()).collect();
        TemplateProblem::UnknownPart {
            name: inside.to_owned(),
            hint: suggest::hint(inside, &known),
            known: suggest::list(&known),
        }
    })
}

fn check_nesting(pieces: &[Piece]) -> Result<(), TemplateProblem> {
    let mut open: Vec<&str> = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Open(name) if name.is_empty() => {
                return Err(TemplateProblem::Span { name: String::new() });
            }
            Piece::Open(name) => open.push(name),
            Piece::Close(name) if open.pop() != Some(name) => {
                return Err(TemplateProblem::Span { name: name.clone() });
            }
            Piece::Close(_) | Piece::Text(_) | Piece::Part(_) => {}
        }
    }
    match open.pop() {
        Some(name) => Err(TemplateProblem::Span { name: name.to_owned() }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_in_order() {
        let template = Template::parse("a {{x}} {#q}{title}?{/q}").unwrap();
        let text = |t: &str| Piece::Text(t.into());
        let expected = [
            text("a {x} "),
            Piece::Open("q".into()),
            Piece::Part(Part::Title),
            text("?"),
            Piece::Close("q".into()),
        ];
        assert_eq!(template.pieces(), expected);
    }

    #[test]
    fn broken_templates() {
        let cases = [
            (" ", "its text is empty"),
            ("a {", "the `{` at byte 2 belongs to no placeholder"),
            ("é }", "the `}` at byte 3 belongs to no placeholder"),
            ("{game_tabel}", "unknown placeholder `{game_tabel}`; did you mean `game_table`?"),
            ("{}", "unknown placeholder `{}`"),
            ("{#a}{#b}{/a}{/b}", "`{#a}` and `{/a}` do not pair up"),
            ("{#a}x", "`{#a}` and `{/a}` do not pair up"),
            ("x{/a}", "`{#a}` and `{/a}` do not pair up"),
            ("{#}x{/}", "do not pair up"),
        ];
        for (text, expected) in cases {
            let message = Template::parse(text).expect_err(text).to_string();
            assert!(message.contains(expected), "{text}: {message}");
        }
    }
}
