//! The decision metric by its definition: one forward pass for each token of each spelling, nothing shared, nothing batched.

use lorascope_checkpoint::Checkpoint;
use lorascope_engine::{Batch, DEFAULT_MEMORY, Hooks, Model, States};
use lorascope_text::{PromptInput, Special, Tokenizer, Wrapping};
use std::path::{Path, PathBuf};

/// A model loaded through the engine.
pub fn load(base: &Path, adapters: &[(&str, PathBuf)]) -> Model<f32> {
    let adapters: Vec<(String, PathBuf)> =
        adapters.iter().map(|(n, p)| ((*n).to_owned(), p.clone())).collect();
    Model::load(Checkpoint::open(base).unwrap(), &adapters, DEFAULT_MEMORY).unwrap()
}

/// Token ids of a prompt as the program puts it to the model.
pub fn prompt_ids(tokenizer: &Tokenizer, prompt: &str) -> Vec<u32> {
    tokenizer.tokens_prompt(PromptInput::Text(prompt), Wrapping::Auto).unwrap().ids
}

/// The spellings of an answer: as written and with a space, where they differ in tokens.
pub fn spellings(tokenizer: &Tokenizer, text: &str) -> Vec<Vec<u32>> {
    let ids = |text: &str| tokenizer.encode(text, Special::AsIs).unwrap().ids;
    let mut spellings = vec![ids(text), ids(&format!(" {text}"))];
    spellings.dedup();
    spellings
}

/// Log-probability of the token `next` after `tokens`.
fn log_prob(model: &Model<f32>, which: usize, tokens: &[u32], next: u32) -> f64 {
    let batch = Batch::new(model.spec(), &[(which, tokens)]).unwrap();
    let normalized = model.run(&batch, &Hooks::default(), &[batch.n_rows() - 1]).unwrap().readout;
    let states = States { model: which, normalized, tokens: vec![vec![next]], reference: Vec::new(), top: 0 };
    model.next_tokens(&states).unwrap()[0].log_prob(0)
}

/// Log-probability of some tokens, one after the other, after a prompt.
pub fn spelling(model: &Model<f32>, which: usize, prompt: &[u32], tokens: &[u32]) -> f64 {
    let log = (0..tokens.len()).map(|i| log_prob(model, which, &[prompt, &tokens[..i]].concat(), tokens[i]));
    log.sum()
}

/// `ln p(answer)` in nats: its spellings added up.
fn answer(model: &Model<f32>, which: usize, tokenizer: &Tokenizer, prompt: &[u32], text: &str) -> f64 {
    let all = spellings(tokenizer, text);
    all.iter().map(|one| spelling(model, which, prompt, one).exp()).sum::<f64>().ln()
}

/// `ln p(B) − ln p(A)` in nats.
pub fn delta(
    model: &Model<f32>,
    which: usize,
    tokenizer: &Tokenizer,
    prompt: &str,
    (a, b): (&str, &str),
) -> f64 {
    let prompt = prompt_ids(tokenizer, prompt);
    answer(model, which, tokenizer, &prompt, b) - answer(model, which, tokenizer, &prompt, a)
}
