//! Which modules of a base model a configuration adapts or replaces, and with which rank and alpha.
//!
//! Decides as PEFT 0.21 does when it injects an adapter (`check_target_module_exists`, `get_pattern_key`,
//! `_set_trainable`), over the same module paths. Knows nothing of tensors.

use crate::base::{BaseModule, ModuleKind};
use crate::config::{LayerIndexes, LoraConfig, Patterns, Selector};
use crate::error::Problem;
use fancy_regex::Regex;

/// A pattern of the configuration, compiled, with what an error message needs.
struct Pattern {
    key: String,
    source: String,
    regex: Regex,
}

impl Pattern {
    /// Compiles `source`, which stands at `key`, wrapped as PEFT wraps it (`{}` is the source).
    fn new(key: &str, source: &str, wrap: impl FnOnce(&str) -> String) -> Result<Self, Problem> {
        match Regex::new(&wrap(source)) {
            Ok(regex) => Ok(Self { key: key.into(), source: source.into(), regex }),
            // The source alone, so that a position in the message counts in what the user wrote.
            Err(e) => Err(bad(key, source, &Regex::new(source).err().unwrap_or(e))),
        }
    }

    fn matches(&self, path: &str) -> Result<bool, Problem> {
        self.regex.is_match(path).map_err(|e| bad(&self.key, &self.source, &e))
    }

    fn layer(&self, path: &str) -> Result<Option<i64>, Problem> {
        let captures = self.regex.captures(path).map_err(|e| bad(&self.key, &self.source, &e))?;
        Ok(captures.and_then(|c| c.name("idx")?.as_str().parse().ok()))
    }
}

fn bad(key: &str, source: &str, e: &fancy_regex::Error) -> Problem {
    Problem::BadPattern { key: key.into(), pattern: source.into(), message: e.to_string() }
}

/// A list of names, or one expression over the whole path.
enum Choice {
    Whole(Pattern),
    Names(Vec<String>),
    AllLinear,
}

impl Choice {
    fn new(key: &str, selector: &Selector) -> Result<Self, Problem> {
        Ok(match selector {
            Selector::Names(names) => Self::Names(names.clone()),
            Selector::Pattern(p) => Self::Whole(Pattern::new(key, p, |p| format!(r"\A(?:{p})\z"))?),
        })
    }
}

fn ends_with_name(path: &str, name: &str) -> bool {
    path.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'))
}

/// A configuration's selections, ready to be asked about module paths.
pub(crate) struct Selection<'c> {
    config: &'c LoraConfig,
    targets: Choice,
    excluded: Option<Choice>,
    saved: Vec<Pattern>,
    layers: Vec<Pattern>,
    ranks: Vec<(Pattern, usize)>,
    alphas: Vec<(Pattern, f64)>,
}

impl<'c> Selection<'c> {
    pub(crate) fn new(config: &'c LoraConfig) -> Result<Self, Problem> {
        let targets = match &config.target_modules {
            Some(Selector::Pattern(p)) if p.eq_ignore_ascii_case("all-linear") => Choice::AllLinear,
            Some(selector) => Choice::new("target_modules", selector)?,
            None => Choice::Names(Vec::new()),
        };
        let excluded = match &config.exclude_modules {
            Some(Selector::Pattern(p)) if p.is_empty() => None,
            Some(selector) => Some(Choice::new("exclude_modules", selector)?),
            None => None,
        };
        let saved = config.modules_to_save.iter().flatten();
        let saved =
            saved.map(|m| Pattern::new("modules_to_save", m, |m| format!(r"\A(?:(^|.*\.){m}($|\..*))")));
        Ok(Self {
            config,
            targets,
            excluded,
            saved: saved.collect::<Result<_, _>>()?,
            layers: layer_patterns(config.layers_pattern.as_ref())?,
            ranks: value_patterns("rank_pattern", &config.rank_pattern)?,
            alphas: value_patterns("alpha_pattern", &config.alpha_pattern)?,
        })
    }

    /// Whether the module at `path` carries a low-rank update, whatever its kind.
    pub(crate) fn targets_path(&self, path: &str) -> Result<bool, Problem> {
        if self.is_excluded(path)? {
            return Ok(false);
        }
        match &self.targets {
            Choice::AllLinear => Ok(false),
            Choice::Whole(pattern) => pattern.matches(path),
            Choice::Names(names) if names.iter().any(|n| n == path) => Ok(true),
            Choice::Names(names) if names.iter().any(|n| ends_with_name(path, n)) => self.in_layers(path),
            Choice::Names(_) => Ok(false),
        }
    }

    /// Whether `module` carries a low-rank update.
    pub(crate) fn targets(&self, module: &BaseModule) -> Result<bool, Problem> {
        if let Choice::AllLinear = self.targets {
            let linear = matches!(module.kind, ModuleKind::Linear | ModuleKind::Conv1d);
            return Ok(linear && !module.is_output_head() && !self.is_excluded(&module.path)?);
        }
        self.targets_path(&module.path)
    }

    /// Whether `path` lies in a module of `modules_to_save`. PEFT compares by plain string ending here, so `norm`
    /// also means `q_norm`.
    pub(crate) fn saves(&self, path: &str) -> bool {
        let named =
            |part: &str| self.config.modules_to_save.iter().flatten().any(|m| part.ends_with(m.as_str()));
        self_and_ancestors(path).any(named)
    }

    /// Rank of the module at `path`, and the key that says so.
    pub(crate) fn rank(&self, path: &str) -> Result<(usize, String), Problem> {
        match first_match(&self.ranks, path)? {
            Some((pattern, rank)) => Ok((rank, format!("rank_pattern.{}", pattern.source))),
            None => Ok((self.config.r, "r".into())),
        }
    }

    /// Alpha of the module at `path`.
    pub(crate) fn alpha(&self, path: &str) -> Result<f64, Problem> {
        Ok(first_match(&self.alphas, path)?.map_or(self.config.lora_alpha, |(_, alpha)| alpha))
    }

    /// Entries of the configuration that no path of `adapted` or `all` answers to, as sentences for a report. PEFT
    /// lets them pass too: a list of targets is often written for several families at once.
    pub(crate) fn unused(&self, adapted: &[&str], all: &[BaseModule]) -> Result<Vec<String>, Problem> {
        let mut notes = Vec::new();
        if let Choice::Names(names) = &self.targets {
            let unused = |n: &&String| !adapted.iter().any(|p| *p == n.as_str() || ends_with_name(p, n));
            notes.extend(
                names
                    .iter()
                    .filter(unused)
                    .map(|n| format!("`target_modules` entry `{n}` matches no module")),
            );
        }
        for name in self.config.modules_to_save.iter().flatten() {
            if !all.iter().any(|m| self_and_ancestors(&m.path).any(|part| part.ends_with(name.as_str()))) {
                notes.push(format!("`modules_to_save` entry `{name}` matches no module"));
            }
        }
        let patterns = self.ranks.iter().map(|(p, _)| p).chain(self.alphas.iter().map(|(p, _)| p));
        for pattern in patterns {
            let mut used = false;
            for path in adapted {
                used |= pattern.matches(path)?;
            }
            if !used {
                notes.push(format!("`{}` entry `{}` matches no adapted module", pattern.key, pattern.source));
            }
        }
        Ok(notes)
    }

    fn is_excluded(&self, path: &str) -> Result<bool, Problem> {
        let listed = match &self.excluded {
            None | Some(Choice::AllLinear) => false,
            Some(Choice::Whole(pattern)) => pattern.matches(path)?,
            Some(Choice::Names(names)) => names.iter().any(|n| n == path || ends_with_name(path, n)),
        };
        if listed {
            return Ok(true);
        }
        for pattern in &self.saved {
            if pattern.matches(path)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether `path` lies in a layer that `layers_to_transform` names.
    fn in_layers(&self, path: &str) -> Result<bool, Problem> {
        let wanted: &[i64] = match &self.config.layers_to_transform {
            None => return Ok(true),
            Some(LayerIndexes::Many(list)) if list.is_empty() => return Ok(true),
            Some(LayerIndexes::Many(list)) => list,
            Some(LayerIndexes::One(index)) => std::slice::from_ref(index),
        };
        for pattern in &self.layers {
            if pattern.matches(path)? {
                return Ok(pattern.layer(path)?.is_some_and(|index| wanted.contains(&index)));
            }
        }
        Ok(false)
    }
}

/// Paths of the modules that hold the module at `path`, outermost first, and `path` itself.
pub(crate) fn self_and_ancestors(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('.').map(|(i, _)| &path[..i]).chain(std::iter::once(path))
}

fn layer_patterns(selector: Option<&Selector>) -> Result<Vec<Pattern>, Problem> {
    let names: &[String] = match selector {
        None => &[],
        Some(Selector::Pattern(p)) if p.is_empty() => &[],
        Some(Selector::Pattern(p)) => std::slice::from_ref(p),
        Some(Selector::Names(names)) => names,
    };
    if names.is_empty() {
        return Ok(vec![Pattern::new("layers_pattern", "", |_| r"\A(?:.*?\.[^.]*\.(?P<idx>\d+)\.)".into())?]);
    }
    let wrap = |p: &str| format!(r"\A(?:(?:^|.*?\.){p}\.(?P<idx>\d+)\.)");
    names.iter().map(|name| Pattern::new("layers_pattern", name, wrap)).collect()
}

fn value_patterns<T: Copy>(key: &str, patterns: &Patterns<T>) -> Result<Vec<(Pattern, T)>, Problem> {
    let compile = |(source, value): &(String, T)| {
        Ok((Pattern::new(key, source, |p| format!(r"\A(?:(.*\.)?({p})\z)"))?, *value))
    };
    patterns.0.iter().map(compile).collect()
}

fn first_match<'p, T: Copy>(
    patterns: &'p [(Pattern, T)],
    path: &str,
) -> Result<Option<(&'p Pattern, T)>, Problem> {
    for (pattern, value) in patterns {
        if pattern.matches(path)? {
            return Ok(Some((pattern, *value)));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// What PEFT itself decides, written by `scripts/peft_selection.py`.
    #[derive(serde::Deserialize)]
    struct Case {
        config: String,
        paths: Vec<String>,
        adapted: BTreeMap<String, (usize, f64)>,
    }

    #[test]
    fn decides_as_peft_does() {
        let cases: Vec<Case> =
            serde_json::from_str(include_str!("../tests/fixtures/selection.json")).unwrap();
        assert_eq!(cases.len(), 25);
        for case in cases {
            let config = LoraConfig::from_json(&case.config).unwrap();
            let selection = Selection::new(&config).unwrap();
            let mut adapted = BTreeMap::new();
            for path in case.paths {
                if selection.targets_path(&path).unwrap() {
                    let value = (selection.rank(&path).unwrap().0, selection.alpha(&path).unwrap());
                    adapted.insert(path, value);
                }
            }
            assert_eq!(adapted, case.adapted, "{}", case.config);
        }
    }
}
