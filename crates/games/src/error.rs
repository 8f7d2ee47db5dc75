//! What can be wrong with a game or a design, and how it is said.

use lorascope_prompts::PromptError;

/// Why a game or a set of prompts cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum GamesError {
    /// A name that is not in its list.
    #[error("unknown {what} `{name}`{hint}; known are {known}")]
    UnknownName {
        /// What kind of name, e.g. "scenario".
        what: &'static str,
        /// The name.
        name: String,
        /// "; did you mean …?" or nothing.
        hint: String,
        /// All known names.
        known: String,
    },
    /// A key that nothing reads.
    #[error("unknown key `{key}` in {place}{hint}; known are {known}")]
    UnknownKey {
        /// The key.
        key: String,
        /// Where it stands.
        place: String,
        /// "; did you mean …?" or nothing.
        hint: String,
        /// All known keys.
        known: String,
    },
    /// A value that a key cannot have.
    #[error("key `{key}`: {problem}")]
    Value {
        /// The key.
        key: String,
        /// What is wrong with its value.
        problem: String,
    },
    /// The text is not TOML.
    #[error("not valid TOML: {0}")]
    Toml(String),
    /// A game that cannot be played.
    #[error("game `{name}`: {problem}")]
    Game {
        /// The game's name.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A reward that cannot be used.
    #[error("reward `{name}`: {problem}")]
    Reward {
        /// The reward's name.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Two strings that cannot be the two actions of a prompt.
    #[error("symbols `{first}` and `{second}`: {problem}")]
    Symbols {
        /// The first symbol.
        first: String,
        /// The second symbol.
        second: String,
        /// What is wrong with them.
        problem: &'static str,
    },
    /// A user's own wording that cannot be read.
    #[error("wording `{name}`: {problem}")]
    Template {
        /// The wording's name.
        name: String,
        /// What is wrong with it.
        problem: TemplateProblem,
    },
    /// A factor without any level.
    #[error("key `{key}` has no level; name at least one")]
    NoLevels {
        /// The factor.
        key: &'static str,
    },
    /// A level that is listed twice.
    #[error("key `{key}` names `{level}` twice; the prompts would repeat")]
    Repeated {
        /// The factor.
        key: &'static str,
        /// The level.
        level: String,
    },
    /// More prompts than anyone could run.
    #[error(
        "the design has {count} {what}, more than the limit of {limit}; name fewer levels, or set `per_scenario`"
    )]
    TooMany {
        /// How many there are.
        count: usize,
        /// Of what.
        what: &'static str,
        /// How many are allowed.
        limit: usize,
    },
    /// Fewer prompts of a scenario exist than were asked for.
    #[error(
        "`per_scenario` is {wanted}, but the levels of this design give only {available} prompts of each scenario; name more levels, or set `per_scenario` to \"all\""
    )]
    TooFew {
        /// How many were asked for.
        wanted: usize,
        /// How many there are.
        available: usize,
    },
    /// The prompts do not make a valid set.
    #[error("the prompts of this design: {source}{hint}")]
    Prompts {
        /// What is wrong.
        source: PromptError,
        /// What to do about it; may be empty.
        hint: &'static str,
    },
}

/// What is wrong with a user's own wording.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateProblem {
    /// A placeholder that does not exist.
    #[error("unknown placeholder `{{{name}}}`{hint}; known are {known}")]
    UnknownPart {
        /// Its name.
        name: String,
        /// "; did you mean …?" or nothing.
        hint: String,
        /// All known names.
        known: String,
    },
    /// A brace that belongs to no placeholder.
    #[error(
        "the `{brace}` at byte {at} belongs to no placeholder; write `{brace}{brace}` for the character itself"
    )]
    Brace {
        /// The brace.
        brace: char,
        /// Its byte offset.
        at: usize,
    },
    /// A span that is opened and not closed, or closed and not open.
    #[error(
        "the span marks `{{#{name}}}` and `{{/{name}}}` do not pair up; spans must be closed in the reverse order of their opening"
    )]
    Span {
        /// The span's name.
        name: String,
    },
    /// Nothing but white space.
    #[error("its text is empty")]
    Empty,
}
