//! Texts in which the base model meets games, besides those that the builder brings along; and the symbols of actions.
//!
//! Those of [`HELD_OUT`] and [`HELD_OUT_SYMBOLS`] are never trained on: they show whether the model learnt to read or to recite.

use anyhow::Result;

/// A wording: name, text, and what the opponent is called.
pub type Own = (&'static str, &'static str, &'static str);

/// How many of [`OWN`] are short, the first ones.
pub const SHORT: usize = 3;

/// Wordings to learn from.
pub const OWN: [Own; 7] = [
    (
        "memory",
        "You choose {symbols_first} in every round of a game, and {opponent} does too. {last_round}\n\n{#instruction}Choose \
         again.{/instruction} {format}\n\nYour answer:",
        "the other player",
    ),
    (
        "record",
        "Game of two players, many rounds. Actions: {symbols_first}.\n\nLast round: {opponent} chose {opponent_last_move}, you \
         chose {own_last_move}. You got {own_last_points} and {opponent} got {opponent_last_points}.{temptation}\n\n\
         {#instruction}Next round.{/instruction} {format}\n\nYour answer:",
        "the opponent",
    ),
    (
        "points",
        "In the last round of a game you chose {own_last_move} and {opponent} chose {opponent_last_move}. You got \
         {own_last_points}; {opponent} got {opponent_last_points}.{temptation}\n\n{#instruction}What do you do \
         next?{/instruction} {format}",
        "a stranger",
    ),
    (
        "short",
        "A game for two players. You choose {symbols_first}, and so does {opponent}.\n\n{game_table}\n\n{last_round}\n\n\
         {#instruction}What do you choose now?{/instruction} {format}\n\nYour answer:",
        "the other player",
    ),
    (
        "plain",
        "You play a game with {opponent}. In every round each of you takes one of two actions, {symbols_first}. \
         {payoff_sentences}\n\n{last_round}\n\n{#instruction}Which action do you take now?{/instruction} {format}",
        "a stranger",
    ),
    (
        "letter",
        "Dear friend,\n\nyou play against {opponent}. Here is what your choices are worth:\n\n{game_table}\n\n{last_round}\n\n\
         {#instruction}Please choose for the next round.{/instruction} {format}",
        "your neighbour",
    ),
    (
        "table_last",
        "You and {opponent} play a game. {last_round} The points of the game, your choice in the rows:\n\n{game_table}\n\n\
         {#instruction}Now choose your next action.{/instruction} {format}",
        "the other player",
    ),
];

/// Wordings that are never learnt from.
pub const HELD_OUT: [Own; 2] = [
    (
        "tournament",
        "You take part in a tournament. Each player chooses one of two actions, {symbols_first}.\n\n{game_table}\n\n\
         {last_round}\n\n{#instruction}Please choose your action for the next round.{/instruction} {format}\n\nYour answer:",
        "the opponent",
    ),
    (
        "story",
        "Every week you play a little game with {opponent}. {payoff_sentences} {last_round}\n\n{#instruction}What do you choose \
         today?{/instruction} {format}",
        "your friend",
    ),
];

/// What symbols of two tokens begin with; a digit follows.
pub const STEMS: [&str; 4] = ["action", "option", "choice", "move"];
/// Symbols of one token each, in any pairs.
pub const WORDS: [&str; 16] =
    ["A", "B", "C", "D", "X", "Y", "J", "F", "red", "blue", "green", "left", "right", "up", "down", "stay"];

/// Pairs that are never learnt from, in either order.
pub const HELD_OUT_SYMBOLS: [(&str, &str); 4] =
    [("action3", "action4"), ("option5", "option6"), ("X", "Y"), ("left", "right")];

/// Settings of the adapters' training: those of the file, with every wording to learn from.
pub fn adapters() -> Result<String> {
    // A JSON text is a TOML text too.
    let quoted = |text: &str| serde_json::to_string(text);
    let mut list =
        vec!["\"structured\"".to_owned(), "\"unstructured\"".to_owned(), "\"explicit\"".to_owned()];
    for (name, text, opponent) in OWN {
        let (name, text, opponent) = (quoted(name)?, quoted(text)?, quoted(opponent)?);
        list.push(format!("{{ name = {name}, text = {text}, opponent = {opponent} }}"));
    }
    Ok(format!("{}wording = [\n  {},\n]\n", include_str!("../adapters.toml"), list.join(",\n  ")))
}
