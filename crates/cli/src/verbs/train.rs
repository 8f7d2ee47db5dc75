//! `lorascope train`: a PEFT adapter by reinforcement on games.

use crate::args::{RecipeArgs, TrainArgs};
use crate::interrupt::{INTERRUPTED, Interrupt};
use crate::progress::Bars;
use anyhow::{Context, Result, bail};
use lorascope_analyses::Progress;
use lorascope_study::open::{open_base, today};
use lorascope_study::training::{ADAPTER, Ended, Job, train};
use lorascope_train::{CHECKPOINTS, Pool, Settings, Step, Watch};
use std::io::IsTerminal;
use std::process::ExitCode;
use toml::{Table, Value};

/// Trains, or goes on with a training.
pub fn run(args: &TrainArgs) -> Result<ExitCode> {
    let settings = settings(&args.recipe, &args.blocks)?;
    let pool = Pool::new(&settings)?;
    let threads = args.machine.take()?;
    let bars = Bars::default();
    let base = open_base(&args.base, args.nf4, &bars)?;
    let now = Some(today()).filter(|_| !args.raw && base.tokenizer.chat_depends_on_date());
    let interrupt = Interrupt::listen()?;
    let live = Live { bars: &bars, interrupt: interrupt.clone(), settings: &settings };
    let job = Job {
        base: &args.base,
        settings: &settings,
        pool: &pool,
        raw: args.raw,
        now,
        nf4: args.nf4,
        seed: args.seed,
        memory: args.machine.memory,
        threads,
        listener: &bars,
        watch: &live,
        stop: Some(interrupt.of_runs()),
    };
    match train(&job, base, &args.out)? {
        Ended::Before(_) => println!("{} is finished already; nothing to do", args.out.display()),
        Ended::Stopped(steps) => {
            println!("stopped after step {steps}; the same command goes on from there");
            return Ok(ExitCode::from(INTERRUPTED));
        }
        Ended::Now { by_state, .. } => {
            print!("{by_state}");
            if settings.keep_every > 0 {
                println!("{}", args.out.join(CHECKPOINTS).display());
            }
            println!("{}", args.out.join(ADAPTER).display());
            println!("{}", args.out.join("report.html").display());
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Draws progress, and hears the user.
pub struct Live<'a> {
    pub bars: &'a Bars,
    /// Whether the user wants to stop.
    pub interrupt: Interrupt,
    pub settings: &'a Settings,
}

impl Watch for Live<'_> {
    fn step(&self, done: usize, step: &Step) {
        let told = format!(
            "reward {:.2}, cooperation {:.3}, KL {:.3}, legal mass {:.3}",
            step.reward(),
            step.cooperation(),
            step.kl(),
            step.legal_mass()
        );
        let steps = self.settings.steps;
        if std::io::stderr().is_terminal() {
            self.bars.at(done as u64);
            self.bars.tell(told);
        } else if done.is_multiple_of(self.settings.checkpoint_every) || done == steps {
            eprintln!("step {done} of {steps}: {told}");
        }
    }
    fn begins(&self) {
        self.interrupt.begin();
    }
    fn ends(&self) {
        self.interrupt.end();
    }
    fn should_stop(&self) -> bool {
        self.interrupt.is_asked()
    }
}

/// The settings of the file, then those of flags.
pub fn settings(args: &RecipeArgs, blocks: &[String]) -> Result<Settings> {
    let mut table = match &args.settings {
        None => Table::new(),
        Some(path) => {
            let text =
                std::fs::read_to_string(path).with_context(|| format!("settings {}", path.display()))?;
            text.parse().with_context(|| format!("settings {}", path.display()))?
        }
    };
    for (key, text) in &args.set {
        put(&mut table, key, value(text))?;
    }
    let text = |t: &String| Value::String(t.clone());
    let texts = |list: &[String]| {
        (!list.is_empty())
            .then(|| Value::Array(list.iter().map(|t| Value::String(t.trim().to_owned())).collect()))
    };
    let number = |n: u32| Value::Integer(n.into());
    let layers = args.layers.as_ref().map(|l| Value::Array(l.0.iter().map(|&n| number(n)).collect()));
    let given = [
        ("reward", args.reward.as_ref().map(|r| reward(r)).transpose()?),
        ("opponent", args.opponent.as_ref().map(text)),
        ("algorithm", args.algorithm.as_ref().map(text)),
        ("rank", args.rank.map(number)),
        ("alpha", args.alpha.map(Value::Float)),
        ("modules", texts(&args.modules)),
        ("layers", layers),
        ("heads", texts(&args.heads)),
        ("blocks", texts(blocks)),
        ("steps", args.steps.map(number)),
        ("keep_every", args.keep_every.map(number)),
        ("optimizer.learning_rate", args.learning_rate.map(Value::Float)),
    ];
    for (key, value) in given {
        if let Some(value) = value {
            put(&mut table, key, value)?;
        }
    }
    Ok(Settings::from_table(table)?)
}

/// A reward's name, or the table in a TOML file.
fn reward(given: &str) -> Result<Value> {
    if !given.ends_with(".toml") {
        return Ok(Value::String(given.to_owned()));
    }
    let text = std::fs::read_to_string(given).with_context(|| format!("reward {given}"))?;
    Ok(Value::Table(text.parse().with_context(|| format!("reward {given}"))?))
}

/// What a flag says, as TOML has it; what is not TOML is text.
fn value(text: &str) -> Value {
    let parsed = format!("value = {text}").parse::<Table>();
    parsed.ok().and_then(|mut t| t.remove("value")).unwrap_or_else(|| Value::String(text.to_owned()))
}

/// Sets a key with dots between tables.
fn put(table: &mut Table, key: &str, value: Value) -> Result<()> {
    let Some((first, rest)) = key.split_once('.') else {
        table.insert(key.to_owned(), value);
        return Ok(());
    };
    match table.entry(first.to_owned()).or_insert_with(|| Value::Table(Table::new())) {
        Value::Table(inner) => put(inner, rest, value),
        _ => bail!("setting `{key}`: `{first}` is no table"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_become_settings() {
        let mut table: Table = "[ppo]\nsamples = 3".parse().unwrap();
        for (key, text) in
            [("ppo.clip", "0.3"), ("steps", "7"), ("opponent", "grim"), ("heads", "['2.1', 3]")]
        {
            put(&mut table, key, value(text)).unwrap();
        }
        let settings = Settings::from_table(table).unwrap();
        assert_eq!((settings.ppo.samples, settings.ppo.clip, settings.steps), (3, 0.3, 7));
        assert_eq!((settings.opponent.as_str(), settings.heads.to_string()), ("grim", "2.1, 3".to_owned()));
        let mut table: Table = "ppo = 1".parse().unwrap();
        assert!(put(&mut table, "ppo.clip", value("0.3")).is_err());
    }
}
