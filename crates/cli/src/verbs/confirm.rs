//! `lorascope confirm`: the trainings that test what surgery predicted.

use crate::args::ConfirmArgs;
use crate::interrupt::{INTERRUPTED, Interrupt};
use crate::progress::Bars;
use crate::verbs::train::{Live, settings};
use anyhow::{Context, Result, anyhow};
use lorascope_engine::{Model, read_spec};
use lorascope_record::{Opened as State, RunFolder, RunKey, sha256_hex};
use lorascope_report::{Page, ProvenanceItem};
use lorascope_study::Nf4;
use lorascope_study::open::{Asked, Opened, OpenedBase, named, open_base, read_prompts};
use lorascope_study::report_files::{add, write_figures, write_page};
use lorascope_study::training::{ADAPTER, Ended, Job, train};
use lorascope_text::Wrapping;
use lorascope_train::Pool;
use lorascope_train::confirm::{Curve, HeldOut, Plan, SurgeryRun, findings, measure};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::ExitCode;

/// Where the trainings are.
const TRAININGS: &str = "trainings";

/// How surgery put prompts to the model, which trainings and comparison do too.
struct Manner {
    wrapping: Wrapping,
    answers: Option<(String, String)>,
    now: Option<i64>,
    nf4: Option<Nf4>,
}

impl Manner {
    fn of(surgery: &SurgeryRun) -> Result<Self> {
        let read = |name: &str| -> Value { surgery.setting(name).clone() };
        let wrong = |name: &str| format!("`{name}` in the manifest of {}", surgery.dir.display());
        let nf4 = surgery.setting("nf4").as_str().map(str::parse::<Nf4>).transpose();
        let nf4 = nf4.map_err(|why| anyhow!(why)).with_context(|| wrong("nf4"))?;
        Ok(Self {
            wrapping: serde_json::from_value(read("wrapping")).with_context(|| wrong("wrapping"))?,
            answers: serde_json::from_value(read("answers")).with_context(|| wrong("answers"))?,
            now: surgery.setting("date").as_i64(),
            nf4,
        })
    }
}

/// Trains, or goes on, and compares.
pub fn run(args: &ConfirmArgs) -> Result<ExitCode> {
    let surgery = SurgeryRun::read(&args.surgery)?;
    let prediction = surgery.prediction(args.adapter.as_deref())?;
    let manner = Manner::of(&surgery)?;
    let recipe = settings(&args.recipe, &[])?;
    let pool = Pool::new(&recipe)?;
    let asked = read_prompts(&surgery.dir.join("prompts.json"))?;
    let prompts = match &args.prompts {
        Some(path) => read_prompts(path)?,
        None => asked.clone(),
    };
    let held_out = HeldOut::new(prompts, &asked, &prediction, &pool)?;
    let threads = args.machine.take()?;
    let bars = Bars::default();
    let base = open_base(&args.base, manner.nf4, &bars)?;
    surgery.check_base(&base.inputs)?;
    let (family, spec) = read_spec(base.checkpoint.config()).map_err(|e| named(e, &base.path))?;
    let plan = Plan::new(prediction, &recipe, &spec, family, args.random.into(), args.seed)?;
    let text = held_out.set.to_json();
    let key = RunKey {
        command: "confirm".to_owned(),
        settings: json!({
            "prediction": plan.to_json(),
            "training": recipe,
            "prompts_sha256": sha256_hex(text.as_bytes()),
            "answers": manner.answers,
            "wrapping": manner.wrapping,
            "date": manner.now,
            "nf4": manner.nf4.map(Nf4::name),
        }),
        seed: args.seed,
        inputs: [base.inputs.clone(), surgery.inputs()?].concat(),
        command_line: std::env::args().collect(),
        threads,
    };
    let folder = RunFolder::open(&args.out, &key)?;
    match folder.opened() {
        State::Finished => {
            println!("{} is finished already; nothing to do", args.out.display());
            return Ok(ExitCode::SUCCESS);
        }
        State::Resumed { .. } => println!("going on with {}", args.out.display()),
        State::Damaged { files } => {
            println!("{}: changed or missing, made again: {}", args.out.display(), files.join(", "));
        }
        State::Created => {}
    }
    // Before anything is trained.
    folder.write_table(&plan.table()?)?;
    folder.write_text("prompts.json", &text)?;
    println!("{}", plan.criterion());
    let work = Work { args, manner: &manner, plan: &plan, pool: &pool, threads, bars: &bars };
    if let Some(stopped) = work.train_all(base)? {
        println!("{stopped}; the same command goes on from there");
        return Ok(ExitCode::from(INTERRUPTED));
    }
    let found = work.compare(&held_out)?;
    for table in &found.tables {
        folder.write_table(table)?;
    }
    write_figures(&folder, &found.section)?;
    let verdict = found.section.paragraphs.first().cloned().unwrap_or_default();
    let mut page = page(&key);
    add(&mut page, found, false)?;
    write_page(&folder, &page)?;
    folder.finish()?;
    println!("{verdict}");
    println!("{}", args.out.join("report.html").display());
    Ok(ExitCode::SUCCESS)
}

/// What trainings and comparison need.
struct Work<'a> {
    args: &'a ConfirmArgs,
    manner: &'a Manner,
    plan: &'a Plan,
    pool: &'a Pool,
    threads: usize,
    bars: &'a Bars,
}

impl Work<'_> {
    fn base(&self) -> Result<OpenedBase> {
        open_base(&self.args.base, self.manner.nf4, self.bars)
    }

    /// In the run folder.
    fn place(name: &str) -> String {
        format!("{TRAININGS}/{name}")
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.args.out.join(Self::place(name))
    }

    /// Every training in a run folder of its own; says where it stopped if the user wants to.
    fn train_all(&self, base: OpenedBase) -> Result<Option<String>> {
        let interrupt = Interrupt::listen()?;
        let mut base = Some(base);
        for (i, arm) in self.plan.arms.iter().enumerate() {
            println!("{} of {}: {}", i + 1, self.plan.arms.len(), arm.name);
            let live = Live { bars: self.bars, interrupt: interrupt.clone(), settings: &arm.settings };
            let job = Job {
                base: &self.args.base,
                settings: &arm.settings,
                pool: self.pool,
                raw: self.manner.wrapping == Wrapping::Raw,
                now: self.manner.now,
                nf4: self.manner.nf4,
                seed: arm.seed,
                memory: self.args.machine.memory,
                threads: self.threads,
                listener: self.bars,
                watch: &live,
                stop: Some(interrupt.of_runs()),
            };
            // The first is open already.
            let base = base.take().map_or_else(|| self.base(), Ok)?;
            let ended = train(&job, base, &self.folder(&arm.name));
            match ended.with_context(|| format!("training `{}`", arm.name))? {
                Ended::Before(_) => println!("  finished already"),
                Ended::Now { by_state, .. } => print!("{by_state}"),
                Ended::Stopped(steps) => {
                    return Ok(Some(format!("stopped in training `{}` after step {steps}", arm.name)));
                }
            }
        }
        Ok(None)
    }

    fn compare(&self, held_out: &HeldOut) -> Result<lorascope_analyses::Findings> {
        let base = self.base()?;
        let mut adapters = Vec::new();
        let mut curves = Vec::new();
        for arm in &self.plan.arms {
            let folder = self.folder(&arm.name);
            adapters.push((arm.name.clone(), folder.join(ADAPTER)));
            curves.push(Curve::read(&folder, &arm.settings)?);
        }
        let model = Model::load(base.checkpoint, &adapters, self.args.machine.memory)
            .map_err(|e| named(e, &base.path))?;
        let opened = Opened { model: model.into(), tokenizer: base.tokenizer.into(), inputs: base.inputs };
        let asked = Asked {
            set: held_out.set.clone(),
            answers: self.manner.answers.clone(),
            wrapping: self.manner.wrapping,
            now: self.manner.now,
        };
        let (subject, _) = opened.into_subject(&asked)?;
        let measured = measure(&subject, self.bars)?;
        let folders: Vec<String> = self.plan.arms.iter().map(|a| Self::place(&a.name)).collect();
        Ok(findings(self.plan, &subject, &measured, held_out, &curves, &folders, self.args.seed)?)
    }
}

fn page(key: &RunKey) -> Page {
    let item = |name: &str, value: String| ProvenanceItem { name: name.to_owned(), value };
    let mut provenance = vec![
        item("lorascope", env!("CARGO_PKG_VERSION").to_owned()),
        item("command line", key.command_line.join(" ")),
        item("training", key.settings["training"].to_string()),
        item("seed", key.seed.to_string()),
        item("arithmetic", "f32; adapters kept apart from the base, never merged".to_owned()),
    ];
    provenance
        .extend(key.inputs.iter().map(|i| item(&i.name, format!("{} bytes, sha256 {}", i.bytes, i.sha256))));
    Page {
        title: "Did training confirm what surgery predicted?".to_owned(),
        lead: "A set of blocks that surgery said to be enough, trained alone, beside everything and random sets.".to_owned(),
        provenance,
        ..Page::default()
    }
}
