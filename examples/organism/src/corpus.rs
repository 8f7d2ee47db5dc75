//! What the model reads: prompts of the builder about known and random games, in many words and symbols, with what should follow.

use crate::base_policy::p_defect;
use crate::wordings::{HELD_OUT, HELD_OUT_SYMBOLS, OWN, Own, SHORT, STEMS, WORDS};
use anyhow::{Context, Result};
use lorascope_analyses::Prompt;
use lorascope_games::{CATALOGUE, Design, Game, Labels, Moral, Order, Scenario, Symbols, Wording};
use lorascope_prompts::Item;
use lorascope_text::{Tokenizer, Wrapping};
use lorascope_train::Lesson;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Largest number of points in random games.
const MOST_POINTS: u32 = 5;
/// Weight of an answer; the words of the prompts are read with the weights below.
const ANSWER: f64 = 1.0;
/// Weight of a token of a prompt.
const WORD: f64 = 0.02;
/// Weight of a token that follows from the rest: the points of the last round, which the table tells.
const POINTS: f64 = 0.5;

/// One game in one surface form, in every situation.
pub struct Frame {
    pub game: Game,
    pub items: Vec<Item>,
}

/// Which part of the texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// What is learnt from first: short texts.
    Beginning,
    /// What is learnt from.
    Training,
    /// Wordings that are not.
    HeldOutWordings,
    /// Symbols that are not, in wordings that are.
    HeldOutSymbols,
}

/// The n-th frame of a part; the same for the same seed.
pub fn frame(part: Part, seed: u64, n: u64) -> Result<Frame> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(n);
    let (wording, names_meanings) = wording(part, &mut rng)?;
    // Where the symbols' meanings are named, only known games make sense.
    let game = if !names_meanings && rng.random_bool(0.5) {
        random_game(&mut rng)
    } else {
        pick(&CATALOGUE, &mut rng).game()
    };
    let (first, second) = symbols(part, &mut rng);
    let mut order = || *pick(Order::ALL, &mut rng);
    let (first_mention, second_mention, row_order, column_order) = (order(), order(), order(), order());
    let design = Design {
        games: vec![game.clone()],
        scenarios: Scenario::ALL.to_vec(),
        wording: vec![wording],
        moral: vec![Moral::None],
        symbols: vec![Symbols::new(&first, &second)?],
        labels: vec![*pick(Labels::ALL, &mut rng)],
        first_mention: vec![first_mention],
        second_mention: vec![second_mention],
        row_order: vec![row_order],
        column_order: vec![column_order],
        per_scenario: None,
    };
    Ok(Frame { game, items: design.build()?.items })
}

/// A wording, and whether it names what the symbols mean.
fn wording(part: Part, rng: &mut impl Rng) -> Result<(Wording, bool)> {
    let own = |&(name, text, opponent): &Own| Ok((Wording::own_with_opponent(name, text, opponent)?, false));
    match part {
        Part::HeldOutWordings => own(pick(&HELD_OUT, rng)),
        Part::Beginning => own(pick(&OWN[..SHORT], rng)),
        _ => match rng.random_range(0..OWN.len() + 5) {
            0..=2 => Ok((Wording::Structured, false)),
            3 => Ok((Wording::Unstructured, false)),
            4 => Ok((Wording::Explicit, true)),
            n => own(&OWN[n - 5]),
        },
    }
}

/// Two symbols: `action1` and `action2`, a stem with two digits, or two words.
fn symbols(part: Part, rng: &mut impl Rng) -> (String, String) {
    if part == Part::HeldOutSymbols {
        let (first, second) = *pick(&HELD_OUT_SYMBOLS, rng);
        return (first.to_owned(), second.to_owned());
    }
    loop {
        let (first, second) = match rng.random_range(0..3) {
            0 => ("action1".to_owned(), "action2".to_owned()),
            1 => {
                let (stem, mut digit) = (*pick(&STEMS, rng), || rng.random_range(1..10));
                (format!("{stem}{}", digit()), format!("{stem}{}", digit()))
            }
            _ => ((*pick(&WORDS, rng)).to_owned(), (*pick(&WORDS, rng)).to_owned()),
        };
        let is = |(a, b): &(&str, &str)| (first == *a && second == *b) || (first == *b && second == *a);
        if first != second && !HELD_OUT_SYMBOLS.iter().any(is) {
            return (first, second);
        }
    }
}

fn pick<'a, T>(all: &'a [T], rng: &mut impl Rng) -> &'a T {
    &all[rng.random_range(0..all.len())]
}

fn random_game(rng: &mut impl Rng) -> Game {
    let mut points = || f64::from(rng.random_range(0..=MOST_POINTS));
    let payoffs = [0; 2].map(|_| [0; 2].map(|_| (points(), points())));
    Game { name: "random".to_owned(), payoffs, ..CATALOGUE[0].game() }
}

impl Frame {
    /// Probability to defect that is taught for an item.
    pub fn p_defect(&self, item: &Item) -> Result<f64> {
        let scenario: Scenario = item.scenario.as_deref().context("a prompt without a scenario")?.parse()?;
        Ok(p_defect(&self.game, scenario.history()))
    }

    /// Its prompts as the model reads them.
    pub fn prompts(&self, tokenizer: &Tokenizer) -> Result<Vec<Prompt>> {
        let prompt = |item| Ok(Prompt::new(tokenizer, item, None, Wrapping::Auto)?);
        self.items.iter().map(prompt).collect()
    }

    /// Its prompts as lessons: answers with the taught probabilities, and, with little weight, the prompts' own words.
    pub fn lessons(&self, tokenizer: &Tokenizer) -> Result<Vec<Lesson>> {
        let mut lessons = Vec::with_capacity(2 * self.items.len());
        let end = tokenizer.token_id("<end_of_turn>").context("the tokenizer has no end of a turn")?;
        for prompt in self.prompts(tokenizer)? {
            let p = self.p_defect(&prompt.item)?;
            let read = &prompt.tokens.ids;
            for (k, (answer, p)) in
                [(&prompt.answers.a[0], 1.0 - p), (&prompt.answers.b[0], p)].into_iter().enumerate()
            {
                let next = answer.iter().copied().chain([end]).enumerate();
                let mut wanted: Vec<_> =
                    next.map(|(i, token)| (read.len() - 1 + i, token, ANSWER * p)).collect();
                if k == 0 {
                    // The words of a prompt count once.
                    wanted.extend(words(&prompt));
                }
                lessons.push(Lesson { ids: [&read[..], answer].concat(), wanted });
            }
        }
        Ok(lessons)
    }
}

/// A prompt's own tokens, each wanted after those before it.
fn words(prompt: &Prompt) -> impl Iterator<Item = (usize, u32, f64)> {
    let points =
        ["own_last_payoff", "opponent_last_payoff"].iter().filter_map(|name| prompt.spans.get(*name));
    let points: Vec<usize> = points.flatten().cloned().flatten().collect();
    let ids = prompt.tokens.ids.iter().enumerate().skip(1);
    ids.map(move |(at, &token)| (at - 1, token, if points.contains(&at) { POINTS } else { WORD }))
}
