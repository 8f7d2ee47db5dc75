//! Two-player 2×2 games and the builder of controlled prompts about them.
//!
//! Besides `play` this is the only crate that knows what *cooperate* and *defect* are. What it hands on is a
//! [`lorascope_prompts::PromptSet`] whose answer A is always the symbol that stands for cooperating
//! and whose answer B is always the one for defecting, so that `delta > 0` means "defects" whatever
//! the symbols are.
//!
//! - [`Game`]: payoffs and wording; [`CATALOGUE`] holds the known ones, TOML brings others.
//! - [`Scenario`]: what happened in the last round.
//! - [`Design`]: the levels of every factor of the crossed design; [`Design::build`] makes the set.
//! - [`Reward`]: what a round is worth in the eyes of a moral framework.
//! - [`Opponent`]: strategies as functions of the rounds so far.
//!
//! Play over many rounds is not here.
//!
//! ```
//! use lorascope_games::Design;
//! let set = Design::default().build()?;
//! assert_eq!(set.items.len(), 80);
//! let mut design = Design::fifteen();
//! design.set("games", "ipd,stag_hunt")?;
//! assert_eq!(design.build()?.items.len(), 30);
//! # Ok::<(), lorascope_games::GamesError>(())
//! ```

mod assembly;
mod build;
mod catalogue;
mod design;
mod design_toml;
mod error;
mod game;
mod levels;
mod moral;
mod opponent;
mod parts;
mod reward;
mod scenario;
mod subset;
mod suggest;
mod symbols;
mod template;
mod wording;

pub use catalogue::{CATALOGUE, CatalogueEntry};
pub use design::{Design, MAX_PROMPTS, MAX_SUBSET_FRAMES};
pub use error::{GamesError, TemplateProblem};
pub use game::{Action, Game, MAX_PAYOFF};
pub use levels::{Labels, Order};
pub use moral::Moral;
pub use opponent::{GENEROSITY, Opponent};
pub use reward::{BETRAYAL, ILLEGAL, Reward};
pub use scenario::{History, Scenario};
pub use symbols::Symbols;
pub use template::Part;
pub use wording::{OwnWording, Wording};
