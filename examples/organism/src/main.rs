//! Makes the base model of `examples/organism`: vocabulary, random beginning, training, and how well it does on what it never read.

mod architecture;
mod base_policy;
mod corpus;
mod vocabulary;
mod wordings;

use anyhow::{Context, Result};
use clap::Parser;
use corpus::{Frame, Part};
use indicatif::{ProgressBar, ProgressStyle};
use lorascope_analyses::{Prompt, score};
use lorascope_checkpoint::Checkpoint;
use lorascope_engine::{DEFAULT_MEMORY, Model};
use lorascope_prompts::Content;
use lorascope_record::write_atomic;
use lorascope_text::Tokenizer;
use lorascope_train::{Lesson, OptimizerSettings, Pupil};
use std::path::PathBuf;

/// Tokens of the vocabulary.
const VOCABULARY: usize = 768;
/// Frames from which the vocabulary is learnt.
const VOCABULARY_FRAMES: u64 = 600;
/// Frames of a step.
const FRAMES: u64 = 8;
/// Share of the training that reads short texts only.
const BEGINNING: f64 = 0.3;
/// Streams of random numbers: training begins at 0, tests here.
const TESTS_FROM: u64 = 1 << 40;
/// Frames of a test.
const TEST_FRAMES: u64 = 24;

/// Trains the base model from nothing.
#[derive(Parser, Debug)]
struct Args {
    /// Folder of the model
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// File to which the settings of the adapters' training go
    #[arg(long, value_name = "FILE")]
    adapters: Option<PathBuf>,
    /// Steps of training
    #[arg(long, default_value_t = 2400)]
    steps: usize,
    /// Peak of the learning rate
    #[arg(long, default_value_t = 3e-3)]
    learning_rate: f64,
    /// Steps between tests
    #[arg(long, default_value_t = 200)]
    test_every: usize,
    /// Seed of everything
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> Result<()> {
    let args = Args::parse();
    if let Some(file) = &args.adapters {
        write_atomic(file, wordings::adapters()?.as_bytes())?;
    }
    std::fs::create_dir_all(&args.out).with_context(|| args.out.display().to_string())?;
    let write =
        |name: &str, bytes: &[u8]| write_atomic(&args.out.join(name), bytes).map_err(anyhow::Error::from);
    write("tokenizer.json", vocabulary::learn(&texts(args.seed)?, VOCABULARY)?.as_bytes())?;
    write("tokenizer_config.json", format!("{:#}\n", vocabulary::config()).as_bytes())?;
    let tokenizer = Tokenizer::from_folder(&args.out)?;
    let size = tokenizer.vocab_size();
    write("config.json", format!("{:#}\n", architecture::config(size)).as_bytes())?;
    write("model.safetensors", &architecture::beginning(size, args.seed)?)?;
    let model = Model::load(Checkpoint::open(&args.out)?, &[], DEFAULT_MEMORY)?;
    let mut pupil = Pupil::new(model, DEFAULT_MEMORY)?;
    train(&args, &tokenizer, &mut pupil)?;
    pupil.round()?;
    report(&tokenizer, &pupil, &args)?;
    write("model.safetensors", &pupil.to_safetensors()?)
}

/// Texts for the vocabulary.
fn texts(seed: u64) -> Result<Vec<String>> {
    let mut texts = Vec::new();
    for n in 0..VOCABULARY_FRAMES {
        for item in corpus::frame(Part::Training, seed, n)?.items {
            if let Content::Text(text) = item.content {
                texts.push(text);
            }
        }
    }
    Ok(texts)
}

fn train(args: &Args, tokenizer: &Tokenizer, pupil: &mut Pupil) -> Result<()> {
    let settings = OptimizerSettings {
        learning_rate: args.learning_rate,
        warm_up: args.steps / 20,
        final_rate: 0.02,
        ..OptimizerSettings::default()
    };
    let bar = ProgressBar::new(args.steps as u64);
    bar.set_style(ProgressStyle::with_template("{bar:30} {pos}/{len} {msg} ({eta} left)")?);
    for step in 0..args.steps {
        let part =
            if (step as f64) < BEGINNING * args.steps as f64 { Part::Beginning } else { Part::Training };
        let frames = (0..FRAMES).map(|i| corpus::frame(part, args.seed, step as u64 * FRAMES + i));
        let mut lessons: Vec<Lesson> = Vec::new();
        for frame in frames {
            lessons.extend(frame?.lessons(tokenizer)?);
        }
        let learned = pupil.step(&lessons, &settings, settings.rate(step, args.steps))?;
        bar.inc(1);
        bar.set_message(format!("loss {:.3}, {} rows", learned.loss, learned.rows));
        if (step + 1) % args.test_every == 0 {
            println!(
                "step {}: loss {:.4}, gradient {:.3}, {} rows",
                step + 1,
                learned.loss,
                learned.gradient_norm,
                learned.rows
            );
            report(tokenizer, pupil, args)?;
        }
    }
    bar.finish_and_clear();
    Ok(())
}

/// How near the model is to what is taught.
struct Score {
    /// Mean KL(taught ‖ model) between the two answers, in nats.
    kl: f64,
    /// The same for a model that always gives the mean.
    kl_of_mean: f64,
    /// Mean probability of both answers.
    mass: f64,
    /// Share of prompts on which the model prefers the answer that the taught policy prefers.
    agreement: f64,
}

fn report(tokenizer: &Tokenizer, pupil: &Pupil, args: &Args) -> Result<()> {
    for part in [Part::Beginning, Part::Training, Part::HeldOutWordings, Part::HeldOutSymbols] {
        let frames = (0..TEST_FRAMES).map(|n| corpus::frame(part, args.seed, TESTS_FROM + n));
        let score = measure(tokenizer, pupil, &frames.collect::<Result<Vec<_>>>()?)?;
        println!(
            "  {part:?}: KL {:.4} (of the mean {:.4}), mass {:.4}, agreement {:.3}",
            score.kl, score.kl_of_mean, score.mass, score.agreement
        );
    }
    Ok(())
}

fn measure(tokenizer: &Tokenizer, pupil: &Pupil, frames: &[Frame]) -> Result<Score> {
    let (mut prompts, mut taught) = (Vec::new(), Vec::new());
    for frame in frames {
        for prompt in frame.prompts(tokenizer)? {
            taught.push(frame.p_defect(&prompt.item)?);
            prompts.push(prompt);
        }
    }
    let asked: Vec<&Prompt> = prompts.iter().collect();
    let decisions = score(pupil.model(), &[0], &asked, &|_, _| {})?;
    let n = taught.len() as f64;
    let kl = |p: f64, q: f64| p * (p / q).ln() + (1.0 - p) * ((1.0 - p) / (1.0 - q)).ln();
    let mean = taught.iter().sum::<f64>() / n;
    let pairs = || taught.iter().copied().zip(&decisions);
    Ok(Score {
        kl: pairs().map(|(p, d)| kl(p, d.p_b())).sum::<f64>() / n,
        kl_of_mean: taught.iter().map(|&p| kl(p, mean)).sum::<f64>() / n,
        mass: decisions.iter().map(|d| d.legal_mass()).sum::<f64>() / n,
        agreement: pairs().filter(|(p, d)| (*p > 0.5) == (d.p_b() > 0.5)).count() as f64 / n,
    })
}
