//! What of a number varies within scenario and template: the residual of least squares on both.

use std::collections::BTreeMap;

/// Which scenario and template each prompt belongs to.
pub(super) struct Groups {
    scenario_of: Vec<usize>,
    n_scenarios: usize,
    /// `None` where every prompt has a template of its own: there is nothing within.
    template_of: Option<Vec<usize>>,
    n_templates: usize,
    /// `[scenario][template]`: the prompt, where every scenario has every template exactly once.
    grid: Option<Vec<Vec<usize>>>,
}

/// Sweeps over both kinds of means, at most; a complete grid needs one.
const SWEEPS: usize = 1000;

fn numbered(names: &[&str]) -> (Vec<usize>, usize) {
    let mut known: BTreeMap<&str, usize> = BTreeMap::new();
    let of = names
        .iter()
        .map(|name| {
            let next = known.len();
            *known.entry(name).or_insert(next)
        })
        .collect();
    (of, known.len())
}

impl Groups {
    pub fn new(scenarios: &[&str], templates: &[&str]) -> Self {
        let (scenario_of, n_scenarios) = numbered(scenarios);
        let (template_of, n_templates) = numbered(templates);
        let mut grid = vec![vec![None; n_templates]; n_scenarios];
        let mut is_grid = scenario_of.len() == n_scenarios * n_templates && n_templates < scenario_of.len();
        for (prompt, (&s, &t)) in scenario_of.iter().zip(&template_of).enumerate() {
            is_grid &= grid[s][t].replace(prompt).is_none();
        }
        let grid = is_grid.then(|| grid.into_iter().map(|row| row.into_iter().flatten().collect()).collect());
        let template_of = (n_templates < scenario_of.len()).then_some(template_of);
        Self { scenario_of, n_scenarios, template_of, n_templates, grid }
    }

    pub fn n(&self) -> usize {
        self.scenario_of.len()
    }

    /// Prompt of every scenario and template, where each occurs exactly once.
    pub fn grid(&self) -> Option<&[Vec<usize>]> {
        self.grid.as_deref()
    }

    /// The scenario of each prompt.
    pub fn scenarios(&self) -> &[usize] {
        &self.scenario_of
    }

    pub fn centres_templates(&self) -> bool {
        self.template_of.is_some()
    }

    /// Removes the means of scenarios and of templates, in turn, until nothing is left of either.
    pub fn centre(&self, values: &mut [f64]) {
        let size = values.iter().fold(0.0f64, |m, v| m.max(v.abs()));
        for _ in 0..SWEEPS {
            let mut moved = remove_means(values, &self.scenario_of, self.n_scenarios);
            if let Some(template_of) = &self.template_of {
                moved = moved.max(remove_means(values, template_of, self.n_templates));
            }
            if moved <= 1e-12 * size {
                break;
            }
        }
    }
}

/// Subtracts each group's mean; the largest of them.
fn remove_means(values: &mut [f64], group_of: &[usize], n: usize) -> f64 {
    let mut sums = vec![(0.0, 0.0); n];
    for (v, &g) in values.iter().zip(group_of) {
        sums[g] = (sums[g].0 + v, sums[g].1 + 1.0);
    }
    let means: Vec<f64> = sums.into_iter().map(|(sum, n)| if n > 0.0 { sum / n } else { 0.0 }).collect();
    values.iter_mut().zip(group_of).for_each(|(v, &g)| *v -= means[g]);
    means.iter().fold(0.0, |m, v| m.max(v.abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn effects_of_scenario_and_template_leave_nothing() {
        // A grid of 3 × 4 without one cell and with another twice, so that sweeps are needed.
        let cells: Vec<(usize, usize)> =
            (0..12).map(|i| (i / 4, i % 4)).filter(|c| *c != (1, 2)).chain([(0, 0)]).collect();
        let names: Vec<(String, String)> =
            cells.iter().map(|(s, t)| (format!("s{s}"), format!("t{t}"))).collect();
        let scenarios: Vec<&str> = names.iter().map(|n| n.0.as_str()).collect();
        let templates: Vec<&str> = names.iter().map(|n| n.1.as_str()).collect();
        let groups = Groups::new(&scenarios, &templates);
        assert!(groups.grid().is_none() && groups.centres_templates());
        let mut values: Vec<f64> =
            cells.iter().map(|&(s, t)| 3.0 * s as f64 - 2.0 * (t * t) as f64).collect();
        groups.centre(&mut values);
        assert!(values.iter().all(|v| v.abs() < 1e-9), "{values:?}");
        let mut noise: Vec<f64> = (0..12).map(|i| f64::from(i * i % 7)).collect();
        groups.centre(&mut noise);
        for (group, of) in [(0, &scenarios), (1, &templates)] {
            for name in of.iter() {
                let sum: f64 = noise.iter().zip(of).filter(|(_, n)| *n == name).map(|(v, _)| v).sum();
                assert!(sum.abs() < 1e-9, "{group} {name}: {sum}");
            }
        }
    }

    #[test]
    fn a_complete_grid_is_known_and_lone_templates_are_left_alone() {
        let scenarios = ["a", "a", "b", "b"];
        let grid = Groups::new(&scenarios, &["x", "y", "y", "x"]);
        assert_eq!(grid.grid(), Some(&[vec![0, 1], vec![3, 2]][..]));
        let lone = Groups::new(&scenarios, &["p", "q", "r", "s"]);
        assert!(lone.grid().is_none() && !lone.centres_templates());
        let mut values = [1.0, 3.0, 10.0, 20.0];
        lone.centre(&mut values);
        assert_eq!(values, [-1.0, 1.0, -5.0, 5.0]);
    }
}
