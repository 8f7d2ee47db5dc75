//! The curves of a training as figures.

use crate::metrics::{Step, state_name};
use crate::pool::Pool;
use lorascope_report::{ColorKey, Figure, FigureKind, LinePanel, Series};

/// Steps that a curve is averaged over: a step shows a few prompts only.
pub(crate) const WINDOW: usize = 8;

/// Reward, cooperation and legal mass, divergence, and the probability to defect by state.
pub fn figures(steps: &[Step], pool: &Pool) -> Vec<Figure> {
    let x: Vec<f64> = (0..steps.len()).map(|s| s as f64).collect();
    let curve = |value: &dyn Fn(&Step) -> f64| smoothed(&steps.iter().map(value).collect::<Vec<_>>());
    let series = |name: &str, color, y: &[f64]| Series::new(name, color, x.clone(), y);
    let panel = |title: &str, y: Vec<f64>| LinePanel {
        title: title.to_owned(),
        series: vec![series("trained", ColorKey::Model(0), &y)],
    };
    let basis = format!(
        "Measured on each step's own prompts before its update; mean over the last {WINDOW} steps, without an interval."
    );
    let figure =
        |name: &str, title: &str, caption: &str, y_label: &str, panels: Vec<LinePanel>, zero_line| Figure {
            name: name.to_owned(),
            title: title.to_owned(),
            caption: format!("{caption} {basis}"),
            by_prompt: None,
            kind: FigureKind::Lines {
                x_label: "step".to_owned(),
                y_label: y_label.to_owned(),
                panels,
                zero_line,
            },
        };
    vec![
        figure(
            "training_reward",
            "Reward",
            "Expected reward among the two answers, mean over states.",
            "points",
            vec![panel("", curve(&Step::reward))],
            true,
        ),
        figure(
            "training_policy",
            "Cooperation and legal mass",
            "Probability to cooperate among the two answers, and probability of giving either.",
            "probability",
            vec![
                panel("cooperation", curve(&Step::cooperation)),
                panel("legal mass", curve(&Step::legal_mass)),
            ],
            true,
        ),
        figure(
            "training_kl",
            "Divergence from the base",
            "KL(policy ‖ base) among the two answers, mean over states.",
            "nats",
            vec![panel("", curve(&Step::kl))],
            true,
        ),
        figure(
            "training_states",
            "Probability to defect by state",
            "Probability to defect among the two answers after each last round (own and opponent's move).",
            "probability",
            by_state(steps, pool),
            true,
        ),
    ]
}

/// One panel a state, in order of first appearance.
fn by_state(steps: &[Step], pool: &Pool) -> Vec<LinePanel> {
    let mut names: Vec<String> = Vec::new();
    let name = |prompt: usize| state_name(pool.states[prompt].last);
    for state in steps.iter().flat_map(|s| &s.states) {
        if !names.contains(&name(state.prompt)) {
            names.push(name(state.prompt));
        }
    }
    let panel = |wanted: &String| {
        let mut points: Vec<(f64, f64)> = Vec::new();
        for (at, step) in steps.iter().enumerate() {
            let here: Vec<f64> =
                step.states.iter().filter(|s| name(s.prompt) == *wanted).map(|s| s.p_defect).collect();
            if !here.is_empty() {
                points.push((at as f64, here.iter().sum::<f64>() / here.len() as f64));
            }
        }
        let (x, y): (Vec<f64>, Vec<f64>) = points.into_iter().unzip();
        LinePanel {
            title: wanted.clone(),
            series: vec![Series::new("trained", ColorKey::Model(0), x, &smoothed(&y))],
        }
    };
    names.iter().map(panel).collect()
}

/// Mean over the last steps up to each.
pub(crate) fn smoothed(values: &[f64]) -> Vec<f64> {
    let mean = |at: usize| {
        let window = &values[(at + 1).saturating_sub(WINDOW)..=at];
        window.iter().sum::<f64>() / window.len() as f64
    };
    (0..values.len()).map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{StateStep, TABLES, states_table, training_table};
    use crate::settings::Settings;

    #[test]
    fn figures_can_be_drawn_and_tables_are_sound() {
        let pool = Pool::new(&Settings::default()).unwrap();
        let state = |prompt| StateStep { prompt, reward: 1.0, p_defect: 0.25, legal_mass: 0.5, kl: 0.1 };
        let step = |form: usize| Step {
            forms: vec![form],
            objective: -1.0,
            gradient_norm: 2.0,
            learning_rate: 1e-3,
            kl_coefficient: None,
            states: pool.forms[form].states.iter().map(|&p| state(p)).collect(),
        };
        let steps: Vec<Step> = [3, 0, 5].into_iter().map(step).collect();
        for figure in figures(&steps, &pool) {
            figure.check().unwrap();
        }
        for table in TABLES {
            assert_eq!(table.problems(), Vec::<String>::new());
        }
        assert_eq!(training_table(&steps, &pool).unwrap().floats("cooperation").unwrap(), [0.75; 3]);
        let states = states_table(&steps, &pool).unwrap();
        assert_eq!(states.texts("state").unwrap(), ["CC", "CD", "DC", "DD"].repeat(3));
    }

    #[test]
    fn curves_are_means_over_the_last_steps() {
        let values: Vec<f64> = (0..20).map(f64::from).collect();
        let smooth = smoothed(&values);
        assert_eq!((smooth[0], smooth[3], smooth[19]), (0.0, 1.5, 15.5));
    }
}
