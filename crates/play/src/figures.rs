//! Figures of play: who cooperates with whom, the policies behind it, action types, regrets, and what policies depend on.

use crate::adversary::Other;
use crate::answer::Actions;
use crate::engine::Played;
use crate::metrics::{Clusters, Measured, measure, value_of};
use crate::policies::{ALL, FACTORS, Policy};
use crate::regret::judgement;
use crate::tournament::{Match, Tournament};
use lorascope_analyses::{Interval, RESAMPLES, Subject};
use lorascope_games::{History, Opponent, Reward};
use lorascope_report::{BarPanel, BarSeries, Figure, FigureKind, HeatmapPanel, HeatmapScale};

/// What figures are made of.
pub(crate) struct Scene<'a> {
    pub subject: &'a Subject,
    pub tournament: &'a Tournament,
    pub clusters: &'a Clusters,
    pub played: &'a [Played],
    pub policies: &'a [Policy],
}

/// Action types, in the order of the base paper; the last one can only come about as generated.
const ACTIONS: [&str; 5] = ["C|C", "C|D", "D|C", "D|D", "illegal"];

impl Scene<'_> {
    /// All figures that have something to show.
    pub fn figures(&self) -> Vec<Figure> {
        let mut figures = vec![self.cooperation(), self.policy(), self.actions()];
        if !self.tournament.settings.rewards.is_empty() {
            figures.push(self.regret_by_opponent());
            if self.tournament.n_games() > 1 {
                figures.push(self.regret_by_game());
            }
        }
        figures.extend(self.robustness());
        figures
    }

    /// All metrics over the matches that `wanted` selects.
    pub fn measured(&self, wanted: impl Fn(&Match) -> bool) -> Vec<Measured> {
        measure(self.tournament, self.clusters, &self.select(wanted))
    }

    fn select(&self, wanted: impl Fn(&Match) -> bool) -> Vec<&Played> {
        self.played.iter().filter(|one| wanted(&one.which)).collect()
    }

    fn players(&self) -> Vec<String> {
        self.tournament.players.iter().map(|&m| self.tournament.models[m].clone()).collect()
    }

    fn opponents(&self) -> Vec<String> {
        self.tournament.opponents.iter().map(|o| o.name(&self.tournament.models)).collect()
    }

    fn games(&self) -> Vec<String> {
        self.tournament.games[..self.tournament.n_games()].iter().map(|game| game.name.clone()).collect()
    }

    fn basis(&self) -> String {
        let t = self.tournament;
        format!(
            "{} matches of {} rounds each; 95% bootstrap intervals over {} {} ({RESAMPLES} resamples).",
            self.played.len(),
            t.settings.rounds,
            self.clusters.count(),
            self.clusters.what(),
        )
    }

    /// A panel with a row for each player.
    fn panel(
        &self,
        title: String,
        cols: Vec<String>,
        value: impl Fn(usize, usize) -> Option<Interval>,
    ) -> HeatmapPanel {
        let players = &self.tournament.players;
        let cells: Vec<Vec<Option<Interval>>> =
            players.iter().map(|&model| (0..cols.len()).map(|col| value(model, col)).collect()).collect();
        panel(title, self.players(), cols, &cells)
    }

    fn cooperation(&self) -> Figure {
        let of_game = |(game, name): (usize, String)| {
            self.panel(name, self.opponents(), |model, opponent| {
                let here = |m: &Match| (m.model, m.game, m.opponent) == (model, game, opponent);
                value_of(&self.measured(here), "cooperation", "")
            })
        };
        Figure {
            name: "play_cooperation".to_owned(),
            title: "Cooperation by opponent".to_owned(),
            caption: format!(
                "Share of rounds in which the model cooperates, by opponent and game. {}",
                self.basis()
            ),
            by_prompt: None,
            kind: FigureKind::Heatmap {
                row_label: "model".to_owned(),
                col_label: "opponent".to_owned(),
                panels: self.games().into_iter().enumerate().map(of_game).collect(),
                scale: HeatmapScale::Diverging { center: 0.5, reach: Some(0.5) },
                unit: "share of rounds that cooperate".to_owned(),
                annotate: true,
            },
        }
    }

    fn policy(&self) -> Figure {
        let t = self.tournament;
        let of_game = |(game, name): (usize, String)| {
            let value = |model: usize, state: History| {
                let found = self
                    .policies
                    .iter()
                    .find(|p| (p.model, p.game, p.state, p.factor) == (model, game, state, ALL));
                found.map(|p| p.p_cooperate)
            };
            let cells: Vec<Vec<Option<Interval>>> =
                t.asked().iter().map(|&model| History::ALL.map(|s| value(model, s)).to_vec()).collect();
            let rows = t.asked().iter().map(|&model| t.models[model].clone()).collect();
            panel(name, rows, History::ALL.map(|s| s.name().to_owned()).to_vec(), &cells)
        };
        Figure {
            name: "play_policies".to_owned(),
            title: "Policies: probability to cooperate".to_owned(),
            caption: format!(
                "Probability to cooperate after each last round (own move, opponent's move), by game: what each model does \
                 wherever play may lead, and whether it carries over to other games. Mean over {} surfaces with 95% bootstrap \
                 interval.",
                t.board.surfaces.len()
            ),
            by_prompt: None,
            kind: FigureKind::Heatmap {
                row_label: "model".to_owned(),
                col_label: "last round".to_owned(),
                panels: t.games.iter().map(|g| g.name.clone()).enumerate().map(of_game).collect(),
                scale: HeatmapScale::Diverging { center: 0.5, reach: Some(0.5) },
                unit: "probability to cooperate".to_owned(),
                annotate: true,
            },
        }
    }

    /// Action types against the random opponent, who brings about every state; against all where it was not met.
    fn actions(&self) -> Figure {
        let t = self.tournament;
        let random = t.opponents.iter().position(|o| *o == Other::Strategy(Opponent::Random));
        let shown = if t.settings.actions == Actions::AsGenerated { &ACTIONS[..] } else { &ACTIONS[..4] };
        let against = random.map_or("all opponents", |_| "the random opponent");
        let of_game = |(game, name): (usize, String)| {
            let series = t.players.iter().map(|&model| {
                let here = |m: &Match| {
                    (m.model, m.game) == (model, game) && random.is_none_or(|random| random == m.opponent)
                };
                let measured = self.measured(here);
                let values: Vec<Option<Interval>> =
                    shown.iter().map(|action| value_of(&measured, "action", action)).collect();
                BarSeries {
                    name: t.models[model].clone(),
                    color: self.subject.color(model),
                    values: values.iter().map(|v| v.map(|v| v.mean)).collect(),
                    intervals: values.iter().map(|v| v.map(|v| (v.lo, v.hi))).collect(),
                }
            });
            let groups = shown.iter().map(|action| (*action).to_owned()).collect();
            BarPanel { title: name, groups, series: series.collect() }
        };
        Figure {
            name: "play_actions".to_owned(),
            title: format!("Action types against {against}"),
            caption: format!(
                "Share of all rounds with each action after each last move of the opponent (`D|C`: defects on a cooperator), \
                 against {against}. {}",
                self.basis()
            ),
            by_prompt: None,
            kind: FigureKind::Bars {
                y_label: "share of rounds".to_owned(),
                panels: self.games().into_iter().enumerate().map(of_game).collect(),
            },
        }
    }

    fn regret(&self, name: &str, by: &str, cols: &[String], key: fn(&Match) -> usize) -> Figure {
        let of_framework = |reward: &Reward| {
            self.panel(reward.name.clone(), cols.to_vec(), |model, col| {
                let here = self.select(|m| m.model == model && key(m) == col);
                judgement(self.tournament, self.clusters, &here, reward).share
            })
        };
        Figure {
            name: name.to_owned(),
            title: format!("Moral regret by {by}"),
            caption: format!(
                "How much less each framework got than the best outcome would have given, as a share of the regret of an illegal \
                 answer: 0 is none. {}",
                self.basis()
            ),
            by_prompt: None,
            kind: FigureKind::Heatmap {
                row_label: "model".to_owned(),
                col_label: by.to_owned(),
                panels: self.tournament.settings.rewards.iter().map(of_framework).collect(),
                scale: HeatmapScale::Sequential { min: 0.0, max: 1.0 },
                unit: "share of the regret of an illegal answer".to_owned(),
                annotate: true,
            },
        }
    }

    fn regret_by_opponent(&self) -> Figure {
        self.regret("play_regret", "opponent", &self.opponents(), |m| m.opponent)
    }

    fn regret_by_game(&self) -> Figure {
        self.regret("play_regret_games", "game", &self.games(), |m| m.game)
    }

    /// Mean probability to cooperate of a model by level of a factor, over all states and games.
    pub fn by_level(&self, model: usize, factor: &str) -> Vec<(String, f64)> {
        let of_factor = || self.policies.iter().filter(move |p| p.model == model && p.factor == factor);
        let mut levels: Vec<&String> = Vec::new();
        of_factor().for_each(|p| {
            if !levels.contains(&&p.level) {
                levels.push(&p.level);
            }
        });
        let mean = |level: &String| {
            let values: Vec<f64> =
                of_factor().filter(|p| p.level == *level).map(|p| p.p_cooperate.mean).collect();
            values.iter().sum::<f64>() / values.len() as f64
        };
        levels.into_iter().map(|level| (level.clone(), mean(level))).collect()
    }

    fn robustness(&self) -> Option<Figure> {
        let t = self.tournament;
        let asked = t.asked();
        let panels = FACTORS.iter().filter_map(|factor| {
            let rows: Vec<Vec<(String, f64)>> = asked.iter().map(|&m| self.by_level(m, factor)).collect();
            let cols: Vec<String> = rows.first()?.iter().map(|(level, _)| level.clone()).collect();
            let of_level = |row: &[(String, f64)], col: &String| {
                row.iter().find(|(level, _)| level == col).map(|(_, p)| *p)
            };
            let values: Vec<Vec<Option<f64>>> =
                rows.iter().map(|row| cols.iter().map(|col| of_level(row, col)).collect()).collect();
            (!cols.is_empty()).then(|| HeatmapPanel {
                title: (*factor).to_owned(),
                rows: asked.iter().map(|&m| t.models[m].clone()).collect(),
                cols,
                values,
                intervals: Vec::new(),
            })
        });
        let panels: Vec<HeatmapPanel> = panels.collect();
        (!panels.is_empty()).then(|| Figure {
            name: "play_robustness".to_owned(),
            title: "What policies depend on besides the game".to_owned(),
            caption: "Mean probability to cooperate over all states and games, by level of what should make no difference. \
                      A row that changes along a panel belongs to a model that reads the words, or prefers a symbol."
                .to_owned(),
            by_prompt: None,
            kind: FigureKind::Heatmap {
                row_label: "model".to_owned(),
                col_label: "level".to_owned(),
                panels,
                scale: HeatmapScale::Diverging { center: 0.5, reach: Some(0.5) },
                unit: "probability to cooperate".to_owned(),
                annotate: true,
            },
        })
    }
}

fn panel(
    title: String,
    rows: Vec<String>,
    cols: Vec<String>,
    cells: &[Vec<Option<Interval>>],
) -> HeatmapPanel {
    let each = |row: &Vec<Option<Interval>>| row.iter().map(|c| c.map(|c| c.mean)).collect();
    let ends = |row: &Vec<Option<Interval>>| row.iter().map(|c| c.map(|c| (c.lo, c.hi))).collect();
    HeatmapPanel {
        title,
        rows,
        cols,
        values: cells.iter().map(each).collect(),
        intervals: cells.iter().map(ends).collect(),
    }
}
