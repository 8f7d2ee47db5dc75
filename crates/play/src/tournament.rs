//! Who meets whom, in which game, told in which words: the list of all matches, and the random numbers of each.

use crate::adversary::{Adversary, Other};
use crate::board::Board;
use crate::settings::{MAX_ROUNDS, Settings, wrong};
use lorascope_analyses::Result;
use lorascope_games::Game;
use lorascope_prompts::Item;
use lorascope_record::sha256_hex;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// One match: a model against an opponent. The places are those of the [`Tournament`]'s lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Match {
    /// The model that plays the rows.
    pub model: usize,
    /// Place in [`Tournament::opponents`].
    pub opponent: usize,
    /// Place in [`Tournament::games`].
    pub game: usize,
    /// Place in [`Board::surfaces`].
    pub surface: usize,
    /// Which repetition, from 0.
    pub repetition: usize,
}

/// Everything that the matches have in common.
#[derive(Debug)]
pub struct Tournament {
    /// What is asked for.
    pub settings: Settings,
    /// Names of all models.
    pub models: Vec<String>,
    /// The models that play the rows.
    pub players: Vec<usize>,
    /// Whom they meet.
    pub opponents: Vec<Other>,
    /// Games as each player sees its own; the first ones are those of the matches.
    pub games: Vec<Game>,
    /// For each game of the matches, the place of the same game as the opponent sees it, where models need it.
    turned: Vec<Option<usize>>,
    /// The prompts.
    pub board: Board,
}

impl Tournament {
    /// Finds models and prompts.
    ///
    /// # Errors
    /// A name that no model has, a situation without prompt, or more rounds than [`MAX_ROUNDS`].
    pub fn new<'a>(
        settings: Settings,
        models: &[&str],
        items: impl IntoIterator<Item = &'a Item>,
    ) -> Result<Self> {
        let find = |name: &str| {
            let unknown = || wrong(format!("no model is called `{name}`; there are {}", models.join(", ")));
            models.iter().position(|model| *model == name).ok_or_else(unknown)
        };
        let players = match settings.players.as_slice() {
            [] => (0..models.len()).collect(),
            named => named.iter().map(|name| find(name)).collect::<Result<Vec<_>>>()?,
        };
        let mut opponents = Vec::new();
        for adversary in &settings.opponents {
            let met = match adversary {
                Adversary::Strategy(strategy) => vec![Other::Strategy(*strategy)],
                Adversary::Model(name) => vec![Other::Model(find(name)?)],
                Adversary::Models => players.iter().copied().map(Other::Model).collect(),
            };
            for other in met {
                if !opponents.contains(&other) {
                    opponents.push(other);
                }
            }
        }
        let games = settings.games();
        let sides: Vec<Game> = settings.prompts.games.iter().map(Game::turned).collect();
        let turned = sides.iter().map(|side| games.iter().position(|game| game == side)).collect();
        let board = Board::new(&games, &settings.turned()?, items)?;
        let models = models.iter().map(|&name| name.to_owned()).collect();
        let tournament = Self { models, players, opponents, turned, board, games, settings };
        tournament.check_size()?;
        Ok(tournament)
    }

    fn check_size(&self) -> Result<()> {
        let sizes = [
            ("players", self.players.len()),
            ("opponents", self.opponents.len()),
            ("games", self.n_games()),
            ("surfaces", self.board.surfaces.len()),
            ("repetitions", self.settings.repetitions),
            ("rounds", self.settings.rounds),
        ];
        let total = sizes.iter().fold(1usize, |product, (_, n)| product.saturating_mul(*n));
        if total > MAX_ROUNDS {
            let factors: Vec<String> = sizes.iter().map(|(what, n)| format!("{n} {what}")).collect();
            return Err(wrong(format!(
                "{} are {total} rounds, more than the limit of {MAX_ROUNDS}; play fewer",
                factors.join(" × ")
            )));
        }
        Ok(())
    }

    /// Number of games of the matches.
    pub fn n_games(&self) -> usize {
        self.settings.prompts.games.len()
    }

    /// All matches: by model, game, opponent, surface and repetition.
    pub fn matches(&self) -> Vec<Match> {
        let mut matches = Vec::new();
        for &model in &self.players {
            for game in 0..self.n_games() {
                for opponent in 0..self.opponents.len() {
                    for surface in 0..self.board.surfaces.len() {
                        for repetition in 0..self.settings.repetitions {
                            matches.push(Match { model, opponent, game, surface, repetition });
                        }
                    }
                }
            }
        }
        matches
    }

    /// The game of a match as its opponent sees it.
    pub fn turned(&self, game: usize) -> usize {
        self.turned[game].unwrap_or(game)
    }

    /// The models that are asked anything.
    pub fn asked(&self) -> Vec<usize> {
        let met = self.opponents.iter().filter_map(|other| match other {
            Other::Model(model) => Some(*model),
            Other::Strategy(_) => None,
        });
        let mut asked: Vec<usize> = self.players.iter().copied().chain(met).collect();
        asked.sort_unstable();
        asked.dedup();
        asked
    }

    /// The random numbers of a match. They depend on the seed, and on the match's own opponent, game, surface and
    /// repetition: not on which other matches there are, and not on the model, so that all models meet the same luck and can
    /// be compared match by match.
    pub fn luck(&self, seed: u64, one: Match) -> ChaCha8Rng {
        let opponent = self.opponents[one.opponent].name(&self.models);
        let (game, surface) = (&self.games[one.game].name, &self.board.surfaces[one.surface]);
        let key = format!("{opponent}\n{game}\n{surface}\n{}", one.repetition);
        let digits = sha256_hex(key.as_bytes());
        let stream = digits.chars().take(16).filter_map(|c| c.to_digit(16));
        let mut luck = ChaCha8Rng::seed_from_u64(seed);
        luck.set_stream(stream.fold(0, |sum, digit| (sum << 4) | u64::from(digit)));
        luck
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngExt;

    fn tournament(text: &str) -> Result<Tournament> {
        let settings = Settings::from_toml(text).unwrap();
        let set = settings.prompt_set().unwrap();
        Tournament::new(settings, &["base", "kind", "selfish"], &set.items)
    }

    #[test]
    fn players_and_opponents_are_found() {
        let t = tournament(
            "players = ['selfish']\nopponents = ['grim', 'model:base', 'models']\nrepetitions = 2",
        );
        let t = t.unwrap();
        assert_eq!(t.players, [2]);
        let names: Vec<String> = t.opponents.iter().map(|o| o.name(&t.models)).collect();
        assert_eq!(names, ["grim", "model:base", "model:selfish"]);
        assert_eq!(t.asked(), [0, 2]);
        assert_eq!(t.matches().len(), 6 * 3 * 8 * 2);
        let turned: Vec<&str> = (0..6).map(|g| t.games[t.turned(g)].name.as_str()).collect();
        assert_eq!(turned[..2], ["ipd", "stag_hunt"]);
        assert_eq!(turned[4], "bach_or_stravinsky_column");
        let message = tournament("players = ['kid']").unwrap_err().to_string();
        assert!(message.contains("no model is called `kid`; there are base, kind, selfish"), "{message}");
        let message = tournament("rounds = 100000").unwrap_err().to_string();
        assert!(message.contains("3 players × 7 opponents × 6 games"), "{message}");
    }

    #[test]
    fn luck_belongs_to_the_match() {
        let small = tournament("opponents = ['grim']\nrepetitions = 2").unwrap();
        let large = tournament("opponents = ['random', 'grim']\nrepetitions = 3").unwrap();
        let draw = |t: &Tournament, one: Match| t.luck(7, one).random::<u64>();
        let one = Match { model: 0, opponent: 0, game: 1, surface: 3, repetition: 1 };
        let same = Match { model: 2, opponent: 1, ..one };
        assert_eq!(draw(&small, one), draw(&large, same));
        let all: std::collections::BTreeSet<u64> =
            large.matches().into_iter().filter(|m| m.model == 0).map(|m| draw(&large, m)).collect();
        assert_eq!(all.len(), large.matches().len() / 3, "no two matches share their luck");
    }
}
