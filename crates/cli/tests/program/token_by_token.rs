//! Decisions of the program against the definition, computed token by token, on a tiny model.

use crate::support::{Bench, Csv, by_hand, words};
use lorascope_text::Tokenizer;

#[test]
fn decisions_follow_the_definition() {
    let Some(bench) = Bench::new() else { return };
    // Answers that begin alike decide at their fifth token.
    bench.edit("prompts.json", |p| {
        (p[4]["answer_a"], p[4]["answer_b"]) = ("act one".into(), "act two".into());
    });
    bench.must(&words("study study.toml --out out"));
    let told = Csv::read(&bench.path("out/tables/decisions.csv")).numbers(&["model", "prompt_id"], "delta");
    let model =
        by_hand::load(&bench.path("base"), &[("lora", bench.path("lora")), ("dora", bench.path("dora"))]);
    let tokenizer = Tokenizer::from_folder(&bench.path("base")).unwrap();
    let items: serde_json::Value = serde_json::from_slice(&bench.read("prompts.json")).unwrap();
    let (mut worst, mut compared) = (0.0f64, 0);
    for item in items.as_array().unwrap() {
        let text = |key: &str| item[key].as_str().unwrap();
        for (which, name) in model.names().into_iter().enumerate() {
            let answers = (text("answer_a"), text("answer_b"));
            let delta = by_hand::delta(&model, which, &tokenizer, text("prompt"), answers);
            let difference = (told[&vec![name.to_owned(), text("id").to_owned()]] - delta).abs();
            // The maximum of two numbers passes over a NaN.
            assert!(difference.is_finite(), "{name}, {}: {delta}", text("id"));
            worst = worst.max(difference);
            compared += 1;
        }
    }
    println!("{compared} decisions, off by at most {worst:.1e} nat");
    assert!(compared == 15 && worst < 1e-5, "{compared} decisions, off by {worst:.1e}");
}
