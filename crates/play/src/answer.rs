//! What a player answers: the probabilities behind a decision, asked for once for each model and prompt, and the action
//! that comes of them. Who answers is not known here: a model, or a rule in a test.

use lorascope_analyses::Result;
use lorascope_games::Action;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// One prompt put to one model; indices into the lists of models and prompts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Question {
    /// The model.
    pub model: usize,
    /// The prompt.
    pub prompt: usize,
}

/// The probabilities of an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Answer {
    /// Probability of defecting among the two actions.
    pub p_defect: f64,
    /// Probability of giving either action at all.
    pub legal: f64,
}

/// How an action comes of probabilities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Actions {
    /// Drawn from the two actions in proportion to their probabilities; answers that are neither are left out, and only
    /// reported.
    #[default]
    Drawn,
    /// Drawn as the model would generate it: with the probability that neither action has, the answer is illegal.
    AsGenerated,
    /// The more probable action; cooperating where both are equal.
    Greedy,
}

impl Actions {
    /// The action that a uniform number in [0, 1) selects; `None` is an illegal answer.
    pub fn choose(self, answer: Answer, uniform: f64) -> Option<Action> {
        let p_cooperate = 1.0 - answer.p_defect;
        let cooperates = match self {
            Actions::Drawn => uniform < p_cooperate,
            Actions::AsGenerated if uniform >= answer.legal => return None,
            Actions::AsGenerated => uniform < answer.legal * p_cooperate,
            Actions::Greedy => answer.p_defect <= 0.5,
        };
        Some(if cooperates { Action::Cooperate } else { Action::Defect })
    }
}

/// Whoever answers.
pub trait Players {
    /// The answers to these questions, in their order; they are distinct and in ascending order.
    ///
    /// # Errors
    /// Whatever keeps a model from answering.
    fn answers(&mut self, asked: &[Question]) -> Result<Vec<Answer>>;
}

/// All answers so far. No question is asked twice.
pub struct Answers<'a> {
    players: &'a mut dyn Players,
    known: BTreeMap<Question, Answer>,
}

impl<'a> Answers<'a> {
    /// Nothing is known yet.
    pub fn new(players: &'a mut dyn Players) -> Self {
        Self { players, known: BTreeMap::new() }
    }

    /// Asks those of the questions that are new, all together.
    ///
    /// # Errors
    /// As [`Players::answers`].
    pub fn learn(&mut self, questions: impl IntoIterator<Item = Question>) -> Result<()> {
        let new: BTreeSet<Question> =
            questions.into_iter().filter(|question| !self.known.contains_key(question)).collect();
        let new: Vec<Question> = new.into_iter().collect();
        if !new.is_empty() {
            let answers = self.players.answers(&new)?;
            assert_eq!(answers.len(), new.len(), "one answer to each question");
            self.known.extend(new.into_iter().zip(answers));
        }
        Ok(())
    }

    /// A known answer.
    ///
    /// # Panics
    /// If the question was never asked.
    pub fn of(&self, question: Question) -> Answer {
        self.known[&question]
    }

    /// Everything that is known, in order of model and prompt.
    pub fn known(&self) -> &BTreeMap<Question, Answer> {
        &self.known
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Action::{Cooperate as C, Defect as D};

    #[test]
    fn actions_by_hand() {
        let answer = Answer { p_defect: 0.75, legal: 0.4 };
        let chosen =
            |actions: Actions| [0.0, 0.09, 0.11, 0.24, 0.26, 0.39, 0.41].map(|u| actions.choose(answer, u));
        let (c, d) = (Some(C), Some(D));
        assert_eq!(chosen(Actions::Drawn), [c, c, c, c, d, d, d]);
        assert_eq!(chosen(Actions::AsGenerated), [c, c, d, d, d, d, None]);
        assert_eq!(chosen(Actions::Greedy), [d; 7]);
        let even = Answer { p_defect: 0.5, legal: 1.0 };
        assert_eq!(Actions::Greedy.choose(even, 0.9), c);
    }

    /// Counts what it is asked.
    #[derive(Default)]
    struct Counting(Vec<Question>);

    impl Players for Counting {
        fn answers(&mut self, asked: &[Question]) -> Result<Vec<Answer>> {
            self.0.extend(asked);
            Ok(asked.iter().map(|q| Answer { p_defect: q.prompt as f64 / 10.0, legal: 1.0 }).collect())
        }
    }

    #[test]
    fn nothing_is_asked_twice() {
        let mut counting = Counting::default();
        let mut answers = Answers::new(&mut counting);
        let question = |model, prompt| Question { model, prompt };
        answers.learn([question(0, 3), question(1, 3), question(0, 3)]).unwrap();
        answers.learn([question(1, 3), question(0, 1)]).unwrap();
        assert_eq!(answers.of(question(0, 1)).p_defect, 0.1);
        assert_eq!(answers.known().len(), 3);
        assert_eq!(counting.0, [question(0, 3), question(1, 3), question(0, 1)]);
    }
}
