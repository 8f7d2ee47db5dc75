//! Training of tiny models of several families: gradients against differences, progress, cuts, masks, and the files.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at the first surprise")]
#![allow(clippy::single_range_in_vec_init, reason = "one range of rows is meant")]

mod common;

use common::tiny;
use lorascope_checkpoint::Checkpoint;
use lorascope_engine::{
    Batch, DEFAULT_MEMORY, Family, Hooks, Mat, Model, ModelSpec, Module, Number, States, read_spec,
};
use lorascope_train::{
    Asked, CONFIG, Factors, Keeper, ModelPolicy, Odds, Outcome, Policy, Pool, Result, Settings, Spellings,
    Step, Targets, Training, WEIGHTS, Watch, config, write_folder,
};
use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};

const ONE_FORM: &str = "[prompts]\nwording = 'structured'\nfirst_mention = 'cd'\nsecond_mention = 'cd'\nrow_order = 'cd'\ncolumn_order = 'cd'\n";

fn settings(text: &str) -> Settings {
    Settings::from_table(format!("{text}\n{ONE_FORM}").parse().unwrap()).unwrap()
}

/// Four prompts that begin alike; both answers in two spellings, of two tokens and of one, that the base finds likely.
fn prompts(model: &Model<f32>) -> Vec<Asked> {
    let beginning: Vec<u32> = (0..20).map(|i| 3 + (i * 37) % 500).collect();
    let prompt = |state: u32| {
        let ids = [&[2], &beginning[..], &[100 + state, 7, 200 + 3 * state]].concat();
        let first = likely(model, &ids);
        let second = likely(model, &[&ids[..], &first[..1]].concat());
        Asked {
            a: vec![vec![first[0], second[0]], vec![first[1], second[0]]],
            b: vec![vec![first[0], second[1]], vec![first[2]]],
            ids,
        }
    };
    (0..4).map(prompt).collect()
}

/// The three likeliest next tokens.
fn likely(model: &Model<f32>, ids: &[u32]) -> Vec<u32> {
    let batch = Batch::new(model.spec(), &[(0, ids)]).unwrap();
    let run = model.run(&batch, &Hooks::default(), &[ids.len() - 1]).unwrap();
    let states =
        States { model: 0, normalized: run.readout, tokens: vec![Vec::new()], reference: Vec::new(), top: 3 };
    model.next_tokens(&states).unwrap()[0].top.iter().map(|t| t.0).collect()
}

struct Bench {
    settings: Settings,
    base: PathBuf,
    family: &'static Family,
    spec: ModelSpec,
    targets: Targets,
    pool: Pool,
    prompts: Vec<Asked>,
}

impl Bench {
    fn new(family: &str, text: &str) -> Option<Self> {
        let base = tiny(family)?;
        let settings = settings(text);
        let (family, spec) = read_spec(Checkpoint::open(&base).unwrap().config()).unwrap();
        let targets = Targets::resolve(&settings, &spec, family).unwrap();
        let pool = Pool::new(&settings).unwrap();
        assert_eq!(pool.states.len(), 4);
        let model = Model::load(Checkpoint::open(&base).unwrap(), &[], DEFAULT_MEMORY).unwrap();
        let prompts = prompts(&model);
        Some(Self { settings, base, family, spec, targets, pool, prompts })
    }

    fn initial(&self, seed: u64) -> Factors {
        Factors::new(&self.targets, self.settings.rank, seed)
    }

    fn write(&self, folder: &Path, factors: &Factors) {
        write_folder(folder, &config(&self.settings, &self.targets, "tiny"), factors).unwrap();
    }

    fn policy<R: Number>(&self, factors: &Factors, memory: usize) -> ModelPolicy<R> {
        let folder = tempfile::tempdir().unwrap();
        self.write(folder.path(), factors);
        let adapters = [("trained".to_owned(), folder.path().to_owned())];
        let model = Model::load(Checkpoint::open(&self.base).unwrap(), &adapters, DEFAULT_MEMORY).unwrap();
        ModelPolicy::with_tokens(model, self.prompts.clone(), &self.targets, memory).unwrap()
    }

    fn train(&self, seed: u64, keeper: &dyn Keeper, steps: usize) -> Result<Outcome> {
        let initial = self.initial(seed);
        let mut policy = self.policy::<f32>(&initial, DEFAULT_MEMORY);
        let watch = After(Cell::new(steps));
        let (pool, settings) = (&self.pool, &self.settings);
        Training { pool, settings, seed, keeper, watch: &watch }.run(&mut policy, initial)
    }
}

#[derive(Default)]
struct Memory(RefCell<Option<Vec<u8>>>);

impl Keeper for Memory {
    fn load(&self) -> Result<Option<Vec<u8>>> {
        Ok(self.0.borrow().clone())
    }
    fn save(&self, bytes: &[u8]) -> Result<()> {
        self.0.replace(Some(bytes.to_vec()));
        Ok(())
    }
}

struct After(Cell<usize>);

impl Watch for After {
    fn step(&self, _: usize, _: &Step) {
        self.0.set(self.0.get() - 1);
    }
    fn should_stop(&self) -> bool {
        self.0.get() == 0
    }
}

/// Numbers of which sums with small powers of two are exact in f32, and of which B has some, unlike at the beginning.
fn stirred(mut factors: Factors) -> Factors {
    let unit = f32::powi(2.0, -16);
    for (i, factor) in factors.0.iter_mut().enumerate() {
        let noise = |j: usize| ((i * 7919 + j * 104_729) % 1000) as f32 / 1000.0 - 0.5;
        factor.values.iter_mut().enumerate().for_each(|(j, v)| {
            *v = ((*v + 0.2 * noise(j)) / unit).round() * unit;
        });
        let (part, cols) = (factor.part.clone(), factor.cols);
        part.clear_outside(&mut factor.values, cols);
    }
    factors
}

const ALL: [usize; 4] = [0, 1, 2, 3];

fn odds(spellings: &[Spellings]) -> Vec<Odds> {
    spellings.iter().map(|s| Odds::new(s.log_probs())).collect()
}

/// The exact objective, on its definition.
fn objective(bench: &Bench, policy: &ModelPolicy<f64>, base: &[Odds]) -> f64 {
    let now = odds(&policy.log_probs(1, &ALL).unwrap());
    let one = |i: usize| bench.settings.objective.value(&bench.pool.states[i].stake, &now[i], &base[i]).value;
    ALL.into_iter().map(one).sum::<f64>() / 4.0
}

fn set(policy: &mut ModelPolicy<f64>, factors: &Factors) {
    let values: Vec<&[f32]> = factors.0.iter().map(|f| f.values.as_slice()).collect();
    policy.set(&values).unwrap();
}

/// The gradient of the whole objective in f64, with a model in between, against differences of five points.
#[test]
fn the_gradient_of_the_objective_is_that_of_its_value() {
    for family in ["llama", "gpt2", "gemma2", "qwen3"] {
        let Some(bench) = Bench::new(family, "reward = 'hybrid'\nrank = 3\nalpha = 4.0") else { return };
        let mut factors = stirred(bench.initial(1));
        let mut policy = bench.policy::<f64>(&factors, DEFAULT_MEMORY);
        let base = odds(&policy.reference(&ALL).unwrap());
        let weigh = |spellings: &[Spellings]| -> Result<Vec<Spellings>> {
            let now = odds(spellings);
            let one = |i: usize| {
                let valued = bench.settings.objective.value(&bench.pool.states[i].stake, &now[i], &base[i]);
                spellings[i].share(valued.gradient.map(|g| g / 4.0))
            };
            Ok(ALL.into_iter().map(one).collect())
        };
        let gradient: Vec<Mat<f64>> = policy.gradient_in_full(&ALL, &mut { weigh }).unwrap();
        // A memory in which no layer is kept gives the same.
        let frugal = bench.policy::<f64>(&factors, 0);
        assert_eq!(frugal.gradient_in_full(&ALL, &mut { weigh }).unwrap(), gradient, "{family}");
        let mut checked = 0;
        for array in (0..factors.0.len()).step_by(3) {
            let at = (array * 31 + 5) % factors.0[array].values.len();
            let value = factors.0[array].values[at];
            let step = f32::powi(2.0, -9);
            let mut moved = |steps: f32| {
                factors.0[array].values[at] = value + steps * step;
                set(&mut policy, &factors);
                factors.0[array].values[at] = value;
                objective(&bench, &policy, &base)
            };
            let (near, far) = (moved(1.0) - moved(-1.0), moved(2.0) - moved(-2.0));
            let expected = (8.0 * near - far) / (12.0 * f64::from(step));
            let found = gradient[array].data[at];
            // Five points are off by the fourth power of the step, 1e-11, times fifth derivatives; rounding gives 1e-12.
            let tolerance = 1e-7 * (1.0 + found.abs());
            let name = &factors.0[array].name;
            assert!((found - expected).abs() < tolerance, "{family} {name}[{at}]: {found} {expected}");
            checked += usize::from(found.abs() > 1e-4);
        }
        assert!(checked > 4, "{family}: only {checked} entries matter at all");
    }
}

#[test]
fn a_few_steps_raise_the_objective() {
    for (family, algorithm) in [("llama", "exact"), ("gpt2", "exact"), ("gemma3", "exact"), ("llama", "ppo")]
    {
        let text = format!("algorithm = '{algorithm}'\nsteps = 30\nrank = 4");
        let Some(mut bench) = Bench::new(family, &text) else { return };
        bench.settings.optimizer.learning_rate = 0.01;
        let done = bench.train(3, &Memory::default(), usize::MAX).unwrap();
        assert!(done.finished);
        let (first, last) = (&done.steps[0], &done.steps[29]);
        assert!(
            last.objective > first.objective + 0.5,
            "{family}: {} to {}",
            first.objective,
            last.objective
        );
        assert!(last.legal_mass() > first.legal_mass(), "{family}");
    }
}

#[test]
fn a_training_that_is_cut_off_ends_in_the_same_bytes() {
    let Some(bench) = Bench::new("llama", "reward = 'hybrid'\nsteps = 9\ncheckpoint_every = 2\nrank = 4")
    else {
        return;
    };
    let whole = bench.train(7, &Memory::default(), usize::MAX).unwrap();
    let bytes = whole.factors.to_safetensors().unwrap();
    for at in [1, 4, 7] {
        let memory = Memory::default();
        assert!(!bench.train(7, &memory, at).unwrap().finished);
        let rest = bench.train(7, &memory, usize::MAX).unwrap();
        assert_eq!(rest.factors.to_safetensors().unwrap(), bytes, "cut off after {at}");
        assert_eq!(rest.steps, whole.steps);
    }
    // The number of threads changes nothing.
    let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let single = alone.install(|| bench.train(7, &Never, usize::MAX)).unwrap();
    assert_eq!(single.factors.to_safetensors().unwrap(), bytes);
}

/// Keeps nothing.
struct Never;

impl Keeper for Never {
    fn load(&self) -> Result<Option<Vec<u8>>> {
        Ok(None)
    }
    fn save(&self, _: &[u8]) -> Result<()> {
        Ok(())
    }
}

/// B·A of a target, `[out][in]`.
fn product(factors: &Factors, path: &str) -> Vec<Vec<f64>> {
    let of = |which: &str| {
        let name = format!("base_model.model.{path}.lora_{which}.weight");
        factors.0.iter().find(|f| f.name == name).unwrap_or_else(|| panic!("no {name}"))
    };
    let (a, b) = (of("A"), of("B"));
    let entry = |o: usize, i: usize| -> f64 {
        (0..a.rows).map(|r| f64::from(b.values[o * b.cols + r]) * f64::from(a.values[r * a.cols + i])).sum()
    };
    (0..b.rows).map(|o| (0..a.cols).map(|i| entry(o, i)).collect()).collect()
}

#[test]
fn only_the_chosen_head_changes() {
    // Llama: 4 heads of 16, 2 groups. GPT-2: fused queries, keys and values.
    for (family, queries) in
        [("llama", "model.layers.2.self_attn.q_proj"), ("gpt2", "transformer.h.2.attn.c_attn")]
    {
        let Some(bench) = Bench::new(family, "heads = ['2.1']\nsteps = 6\nrank = 4") else { return };
        let (d, group) = (bench.spec.d_head, bench.spec.group());
        let before = bench.initial(2);
        let after = bench.train(2, &Memory::default(), usize::MAX).unwrap().factors;
        let changed = product(&after, queries);
        let rows: Vec<std::ops::Range<usize>> = match family {
            "gpt2" => (0..3)
                .map(|third| third * bench.spec.d_model + d..third * bench.spec.d_model + 2 * d)
                .collect(),
            _ => vec![d..2 * d],
        };
        for (o, row) in changed.iter().enumerate() {
            let inside = rows.iter().any(|r| r.contains(&o));
            assert_eq!(row.iter().any(|v| *v != 0.0), inside, "{family} {queries} row {o}");
        }
        if family == "llama" {
            let keys = product(&after, "model.layers.2.self_attn.k_proj");
            for (o, row) in keys.iter().enumerate() {
                assert_eq!(row.iter().any(|v| *v != 0.0), o / d == 1 / group, "key row {o}");
            }
        }
        let out = (bench.family.names.linear)(Module::O).unwrap().path(2);
        for row in product(&after, &out) {
            for (i, v) in row.iter().enumerate() {
                assert!((d..2 * d).contains(&i) || *v == 0.0, "{family} {out} column {i}: {v}");
            }
        }
        assert!(product(&after, &out).iter().flatten().any(|v| *v != 0.0));
        assert!(after.0.iter().all(|f| f.name.contains(".2.")), "no other layer has factors");
        let moved = before.0.iter().zip(&after.0).filter(|(b, a)| b.values != a.values).count();
        assert!(moved >= after.0.len() / 2);
    }
}

/// What is written is what was trained: the same log-probabilities, bit for bit, from the files.
#[test]
fn the_files_load_as_any_adapter_does() {
    let cases = [
        ("llama", "rank = 4"),
        ("gpt2", "rank = 4\nrslora = true"),
        ("gemma2", "layers = [1, 3]\nmodules = ['q', 'down']"),
        ("gpt2", "layers = [0]\nmodules = ['o', 'up']"),
        ("qwen2", "heads = ['0.1', '2.0']"),
    ];
    for (family, text) in cases {
        let Some(bench) = Bench::new(family, &format!("{text}\nsteps = 3")) else { return };
        let initial = bench.initial(4);
        let mut policy = bench.policy::<f32>(&initial, DEFAULT_MEMORY);
        let (keeper, watch) = (Memory::default(), After(Cell::new(usize::MAX)));
        let training = Training {
            pool: &bench.pool,
            settings: &bench.settings,
            seed: 4,
            keeper: &keeper,
            watch: &watch,
        };
        let trained = training.run(&mut policy, initial.clone()).unwrap().factors;
        let again = bench.policy::<f32>(&trained, DEFAULT_MEMORY);
        assert_eq!(again.log_probs(1, &ALL).unwrap(), policy.log_probs(1, &ALL).unwrap(), "{family}: {text}");
        assert_ne!(again.log_probs(1, &ALL).unwrap(), again.log_probs(0, &ALL).unwrap());
        let adapter = &again.model().adapters()[0];
        assert_eq!(adapter.peft.report.notes, Vec::<String>::new());
        assert_eq!(adapter.peft.low_rank.len(), bench.targets.targets.len());
        assert!(!adapter.peft.does_nothing());
        // An adapter as it begins does nothing.
        let fresh = bench.policy::<f32>(&initial, DEFAULT_MEMORY);
        assert!(fresh.model().adapters()[0].peft.does_nothing());
        assert_eq!(fresh.log_probs(1, &ALL).unwrap(), fresh.log_probs(0, &ALL).unwrap());
    }
}

#[test]
fn a_folder_holds_the_two_files_of_peft() {
    let Some(bench) = Bench::new("llama", "") else { return };
    let folder = tempfile::tempdir().unwrap();
    bench.write(folder.path(), &bench.initial(0));
    let mut files: Vec<String> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    assert_eq!(files, [CONFIG, WEIGHTS]);
}
