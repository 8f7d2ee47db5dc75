//! Training on a policy that is a table of logits, whose optimum is known: the loop, both algorithms, and going on after a cut.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at the first surprise")]
#![allow(clippy::single_range_in_vec_init, reason = "one range of rows is meant")]

use lorascope_train::{
    Coefficients, Error, Factor, Factors, Keeper, Odds, Outcome, Part, Policy, Pool, Result, Settings,
    Spellings, Stake, Step, Training, Watch, Weigh,
};
use std::cell::{Cell, RefCell};

/// For every prompt four logits: answer A in two spellings, answer B, anything else.
struct Table {
    base: Vec<[f32; 4]>,
    now: Vec<f32>,
}

impl Table {
    fn new(pool: &Pool) -> Self {
        // The base hardly ever answers (a mass around 0.05), and every prompt leans otherwise.
        let base: Vec<[f32; 4]> =
            (0..pool.states.len()).map(|i| [-4.0, -5.0 + 0.3 * (i % 5) as f32, -4.5, 0.0]).collect();
        let now = base.iter().flatten().copied().collect();
        Self { base, now }
    }

    fn factors(&self) -> Factors {
        let (rows, values) = (self.base.len(), self.now.clone());
        Factors(vec![Factor { name: "logits".to_owned(), rows, cols: 4, values, part: Part::Whole }])
    }

    fn odds(&self, factors: &Factors, prompt: usize) -> Odds {
        Odds::new(spellings(&factors.0[0].values[4 * prompt..4 * prompt + 4]).log_probs())
    }
}

fn softmax(logits: &[f32]) -> Vec<f64> {
    let total: f64 = logits.iter().map(|&l| f64::from(l).exp()).sum();
    logits.iter().map(|&l| f64::from(l).exp() / total).collect()
}

fn spellings(logits: &[f32]) -> Spellings {
    let p: Vec<f64> = softmax(logits).iter().map(|p| p.ln()).collect();
    Spellings { a: p[..2].to_vec(), b: vec![p[2]] }
}

impl Policy for Table {
    fn reference(&self, prompts: &[usize]) -> Result<Vec<Spellings>> {
        Ok(prompts.iter().map(|&p| spellings(&self.base[p])).collect())
    }

    fn gradient(&self, prompts: &[usize], weigh: &mut Weigh) -> Result<Vec<Vec<f32>>> {
        let of = |p: usize| &self.now[4 * p..4 * p + 4];
        let weights = weigh(&prompts.iter().map(|&p| spellings(of(p))).collect::<Vec<_>>())?;
        let mut gradient = vec![0.0; self.now.len()];
        for (&prompt, weights) in prompts.iter().zip(&weights) {
            let w = [weights.a[0], weights.a[1], weights.b[0], 0.0];
            let total: f64 = w.iter().sum();
            for (i, p) in softmax(of(prompt)).into_iter().enumerate() {
                gradient[4 * prompt + i] += (w[i] - p * total) as f32;
            }
        }
        Ok(vec![gradient])
    }

    fn set(&mut self, values: &[&[f32]]) -> Result<()> {
        self.now = values[0].to_vec();
        Ok(())
    }
}

/// Keeps checkpoints in memory; writing fails after so many.
#[derive(Default)]
struct Memory {
    last: RefCell<Option<Vec<u8>>>,
    room: Cell<Option<usize>>,
}

impl Keeper for Memory {
    fn load(&self) -> Result<Option<Vec<u8>>> {
        Ok(self.last.borrow().clone())
    }
    fn save(&self, bytes: &[u8]) -> Result<()> {
        if let Some(room) = self.room.get() {
            if room == 0 {
                return Err(lorascope_record::Error::DiskFull { path: "checkpoint".into() }.into());
            }
            self.room.set(Some(room - 1));
        }
        self.last.replace(Some(bytes.to_vec()));
        Ok(())
    }
}

/// Stops after so many steps of this session.
struct After(Cell<usize>);

impl Watch for After {
    fn step(&self, _: usize, _: &Step) {
        self.0.set(self.0.get() - 1);
    }
    fn should_stop(&self) -> bool {
        self.0.get() == 0
    }
}

/// One surface form of the four states.
const ONE_FORM: &str = "[prompts]\nwording = 'structured'\nfirst_mention = 'cd'\nsecond_mention = 'cd'\nrow_order = 'cd'\ncolumn_order = 'cd'\n";

fn settings(top: &str, tables: &str) -> Settings {
    Settings::from_table(format!("{top}\n{ONE_FORM}{tables}").parse().unwrap()).unwrap()
}

fn train(
    settings: &Settings,
    seed: u64,
    keeper: &dyn Keeper,
    steps: usize,
) -> Result<(Outcome, Table, Pool)> {
    let pool = Pool::new(settings).unwrap();
    let mut table = Table::new(&pool);
    let initial = table.factors();
    let watch = After(Cell::new(steps));
    let training = Training { pool: &pool, settings, seed, keeper, watch: &watch };
    let outcome = training.run(&mut table, initial)?;
    Ok((outcome, Table::new(&pool), pool))
}

/// The largest of a function with one maximum in (0, 1), by golden sections.
fn largest(f: impl Fn(f64) -> f64) -> f64 {
    let golden = (5f64.sqrt() - 1.0) / 2.0;
    let (mut lo, mut hi) = (1e-9, 1.0 - 1e-9);
    for _ in 0..200 {
        let (a, b) = (hi - golden * (hi - lo), lo + golden * (hi - lo));
        if f(a) > f(b) { hi = b } else { lo = a }
    }
    (lo + hi) / 2.0
}

/// The optimum of the objective in a state, on its own definition: the terms of q and of m separate.
fn optimum(stake: &Stake, base: &Odds) -> (f64, f64) {
    let kl = |q: f64, of: f64| q * (q / of).ln() + (1.0 - q) * ((1.0 - q) / (1.0 - of)).ln();
    let q = largest(|q| {
        let reward = (1.0 - q) * stake.rewards[0] + q * stake.rewards[1];
        reward - stake.gap * (0.05 * kl(q, base.q[1]) + 0.10 * kl(base.q[1], q))
    });
    let m = largest(|m| -6.0 * (1.0 - m) + 0.5 * m.min(0.98).ln() - 0.01 * kl(m, base.mass));
    (q, m)
}

#[test]
fn the_exact_gradient_finds_the_optimum_of_every_reward() {
    for reward in ["strategic", "deontological", "utilitarian", "hybrid"] {
        let settings = settings(
            &format!("reward = '{reward}'\nsteps = 2500"),
            "[optimizer]\nlearning_rate = 0.05\nfinal_rate = 0.0\nwarm_up = 0",
        );
        let (outcome, table, pool) = train(&settings, 1, &Memory::default(), usize::MAX).unwrap();
        for prompt in 0..4 {
            let (now, base) = (table.odds(&outcome.factors, prompt), table.odds(&table.factors(), prompt));
            let (q, m) = optimum(&pool.states[prompt].stake, &base);
            // What is left of a decaying step in a flat optimum.
            assert!((now.q[1] - q).abs() < 2e-3, "{reward} {prompt}: q {} {q}", now.q[1]);
            assert!((now.mass - m).abs() < 2e-3, "{reward} {prompt}: m {} {m}", now.mass);
        }
        let (first, last) = (&outcome.steps[0], &outcome.steps[2499]);
        assert!(last.objective > first.objective && last.reward() > first.reward());
    }
}

/// With a fixed weight β of the divergence, the optimum over three outcomes is π_base · exp(reward / β), normalised.
#[test]
fn ppo_finds_the_optimum_of_the_penalised_reward() {
    let settings = settings(
        "reward = 'hybrid'\nalgorithm = 'ppo'\nsteps = 1200",
        "[optimizer]\nlearning_rate = 0.02\nfinal_rate = 0.0\nwarm_up = 0\n[ppo]\nsamples = 64\nkl_coefficient = 2.0\nkl_target = 0.0",
    );
    let (outcome, table, pool) = train(&settings, 3, &Memory::default(), usize::MAX).unwrap();
    for prompt in 0..4 {
        let (now, base) = (table.odds(&outcome.factors, prompt), table.odds(&table.factors(), prompt));
        let stake = &pool.states[prompt].stake;
        let weights = [
            base.p[0] * (stake.rewards[0] / 2.0).exp(),
            base.p[1] * (stake.rewards[1] / 2.0).exp(),
            base.illegal() * (stake.illegal / 2.0).exp(),
        ];
        let total: f64 = weights.iter().sum();
        for (found, wanted) in [now.p[0], now.p[1], now.illegal()].into_iter().zip(weights.map(|w| w / total))
        {
            // Noise of 64 samples a step, averaged over the steps that a decaying rate remembers.
            assert!((found - wanted).abs() < 0.03, "{prompt}: {found} {wanted}");
        }
    }
}

#[test]
fn a_training_that_is_cut_off_ends_in_the_same_bits() {
    for algorithm in ["exact", "ppo"] {
        let top = format!(
            "reward = 'hybrid'\nalgorithm = '{algorithm}'\nsteps = 23\ncheckpoint_every = 4\nforms = 2"
        );
        let settings = Settings::from_table(top.parse().unwrap()).unwrap();
        let (whole, ..) = train(&settings, 5, &Memory::default(), usize::MAX).unwrap();
        assert!(whole.finished && whole.steps.len() == 23);
        // Stopped by the user at any step: the checkpoint is of that very step.
        for at in [1, 7, 22] {
            let memory = Memory::default();
            let (cut, ..) = train(&settings, 5, &memory, at).unwrap();
            assert!(!cut.finished && cut.steps.len() == at);
            assert_eq!(
                train(&settings, 5, &memory, usize::MAX).unwrap().0,
                whole,
                "{algorithm}: stopped at {at}"
            );
        }
        // Killed: what came after the last checkpoint is done again.
        for checkpoints in [0, 1, 3] {
            let memory = Memory { room: Cell::new(Some(checkpoints)), ..Memory::default() };
            let error = train(&settings, 5, &memory, usize::MAX).err().unwrap();
            assert!(error.to_string().starts_with("no space left for checkpoint"), "{error}");
            memory.room.set(None);
            assert_eq!(
                train(&settings, 5, &memory, usize::MAX).unwrap().0,
                whole,
                "{algorithm}: {checkpoints}"
            );
        }
        assert_ne!(train(&settings, 6, &Memory::default(), usize::MAX).unwrap().0, whole, "another seed");
    }
}

#[test]
fn what_may_not_move_stays() {
    let settings = settings("steps = 30", "");
    let pool = Pool::new(&settings).unwrap();
    let mut table = Table::new(&pool);
    let mut initial = table.factors();
    initial.0[0].part = Part::Rows(vec![1..2]);
    let keeper = Memory::default();
    let watch = After(Cell::new(usize::MAX));
    let training = Training { pool: &pool, settings: &settings, seed: 0, keeper: &keeper, watch: &watch };
    let trained = training.run(&mut table, initial.clone()).unwrap().factors;
    let (before, after) = (&initial.0[0].values, &trained.0[0].values);
    assert_eq!((&before[..4], &before[8..]), (&after[..4], &after[8..]));
    assert!(before[4..8].iter().zip(&after[4..8]).all(|(b, a)| b != a));
}

/// A table whose base gives answers this logit less than anything else.
fn with_base(settings: &Settings, logit: f32) -> Error {
    let pool = Pool::new(settings).unwrap();
    let mut table = Table::new(&pool);
    table.base.iter_mut().for_each(|b| *b = [logit, logit, logit, 0.0]);
    let initial = table.factors();
    let (keeper, watch) = (Memory::default(), After(Cell::new(usize::MAX)));
    Training { pool: &pool, settings, seed: 0, keeper: &keeper, watch: &watch }
        .run(&mut table, initial)
        .unwrap_err()
}

#[test]
fn a_base_that_can_not_answer_is_said() {
    let message = with_base(&settings("", ""), -40.0).to_string();
    assert!(message.contains("the two answers together a probability of 1.3e-17, below 1e-12"), "{message}");
    let message = with_base(&settings("", ""), f32::NAN).to_string();
    assert!(message.contains("a probability of NaN"), "{message}");
    let message = with_base(&settings("algorithm = 'ppo'", ""), -10.0).to_string();
    assert!(
        message.contains("of the 2560 samples of the whole training about 0.3 would be an answer"),
        "{message}"
    );
}

#[test]
fn a_diverged_training_is_said() {
    let settings = settings("steps = 3", "");
    let pool = Pool::new(&settings).unwrap();
    let mut table = Table::new(&pool);
    let mut initial = table.factors();
    initial.0[0].values[5] = f32::NAN;
    let (keeper, watch) = (Memory::default(), After(Cell::new(usize::MAX)));
    let training = Training { pool: &pool, settings: &settings, seed: 0, keeper: &keeper, watch: &watch };
    let message = training.run(&mut table, initial).unwrap_err().to_string();
    assert!(message.starts_with("step 0: a log-probability is not finite"), "{message}");
}

/// The defaults are those of the moral adapters of the test data.
#[test]
fn defaults_are_the_ones_documented() {
    let c = Coefficients::default();
    assert_eq!((c.mass, c.mass_until, c.kl, c.reverse_kl, c.mass_kl), (0.5, 0.98, 0.05, 0.10, 0.01));
    let s = Settings::default();
    assert_eq!((s.rank, s.alpha, s.forms), (8, 16.0, 1));
    let o = s.optimizer;
    assert_eq!((o.learning_rate, o.warm_up, o.final_rate, o.clip), (4e-4, 5, 0.2, 1.0));
    assert_eq!((o.beta_1, o.beta_2, o.weight_decay), (0.9, 0.98, 0.0));
}
