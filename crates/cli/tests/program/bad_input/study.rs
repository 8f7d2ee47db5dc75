//! Study files.

use super::{Case, STUDY};
use std::fs;

/// A case of a study file that is this text.
macro_rules! study {
    ($name:literal, $text:expr, $says:expr) => {
        Case { name: $name, line: STUDY, spoil: |b| b.text("study.toml", $text), says: $says }
    };
}

pub const CASES: &[Case] = &[
    Case {
        name: "no file",
        line: STUDY,
        spoil: |b| fs::remove_file(b.path("study.toml")).unwrap(),
        says: "study file study.toml: No such file or directory (os error 2)\n",
    },
    study!(
        "not TOML",
        "base = './base'\nseed = \n",
        "study file study.toml: not valid TOML: TOML parse error at line 2, column 8\n|\n2 | seed ="
    ),
    study!(
        "an unknown key",
        "base = './base'\nadapters = []\n",
        "study file study.toml: unknown key `adapters`; did you mean `adapter`?\n"
    ),
    study!(
        "an unknown key like no other",
        "base = './base'\nzzz = 1\n",
        "study file study.toml: unknown key `zzz`; known are title, base, adapter, checkpoints, controls, prompts, answers, analyses, settings, seed, nf4, raw, date, edits\n"
    ),
    study!(
        "an unknown key of an adapter",
        "base = './base'\n[[adapter]]\nname = 'a'\npth = './lora'\n",
        "study file study.toml: unknown key `adapter.pth`; did you mean `adapter.path`?\n"
    ),
    study!(
        "an adapter without path",
        "base = './base'\n[[adapter]]\nname = 'a'\n",
        "study file study.toml: adapter 1 needs a text `path`\n"
    ),
    study!(
        "an adapter called base",
        "base = './base'\n[[adapter]]\nname = 'base'\npath = './lora'\n",
        "study file study.toml: adapter 1: `base` is the base model's own name; call the adapter something else\n"
    ),
    study!(
        "a control of an unknown kind",
        "base = './base'\ncontrols = ['rand']\n[[adapter]]\nname = 'a'\npath = './lora'\n",
        "study file study.toml: `controls`: `rand` is no kind of control; there are random, sign_flipped, shuffled\n"
    ),
    study!(
        "controls that are no list",
        "base = './base'\ncontrols = 'random'\n[[adapter]]\nname = 'a'\npath = './lora'\n",
        "study file study.toml: `controls` must be a list of texts such as \"random\" or \"shuffled:moral\"\n"
    ),
    study!(
        "no base",
        "title = 'x'\nprompts = 'prompts.json'\n",
        "study file study.toml names no `base`; add one, or give --base\n"
    ),
    study!(
        "an unknown analysis",
        "base = './base'\nanalyses = ['decide', 'lense']\n",
        "study file study.toml: unknown key `analyses: lense`; did you mean `analyses: lens`?\n"
    ),
    study!(
        "no analyses",
        "base = './base'\nanalyses = []\n",
        "study file study.toml: `analyses` is empty; known are decide, validate, weights, trajectory, lens"
    ),
    study!(
        "analyses of the wrong type",
        "base = './base'\nanalyses = 'lens'\n",
        "study file study.toml: `analyses` must be a list of names\n"
    ),
    study!(
        "an unknown setting",
        "base = './base'\n[settings.lens]\ntolerence = 0.1\n",
        "study file study.toml: settings of `lens`: unknown field `tolerence`, expected `tolerance` or `top`\n"
    ),
    study!(
        "a setting of the wrong type",
        "base = './base'\n[settings.lens]\ntop = 'five'\n",
        "study file study.toml: settings of `lens`: invalid type: string \"five\", expected usize\n"
    ),
    study!(
        "a setting out of range",
        "base = './base'\n[settings.lens]\ntolerance = -1.0\n",
        "study file study.toml: settings of `lens`: tolerance is -1; it must be a positive number\n"
    ),
    study!(
        "settings of an unknown analysis",
        "base = './base'\n[settings.lenz]\ntop = 5\n",
        "study file study.toml: unknown key `settings.lenz`; did you mean `settings.lens`?\n"
    ),
    study!("a base of the wrong type", "base = 5\n", "study file study.toml: `base` must be a text\n"),
    study!(
        "a seed of the wrong type",
        "base = './base'\nseed = -1\n",
        "study file study.toml: `seed` must be a whole number from 0\n"
    ),
    study!(
        "answers of the wrong number",
        "base = './base'\nanswers = ['a', 'b', 'c']\n",
        "study file study.toml: `answers` must be a list of two texts, answer A and answer B\n"
    ),
    study!(
        "raw of the wrong type",
        "base = './base'\nraw = 'yes'\n",
        "study file study.toml: `raw` must be true or false\n"
    ),
    study!(
        "an unknown NF4 source",
        "base = './base'\nnf4 = 'fp16'\n",
        "study file study.toml: `nf4` is `fp16`; it must be stored, f16 or bf16\n"
    ),
    study!(
        "a date that is none",
        "base = './base'\ndate = '2024-02-31'\n",
        "study file study.toml: `date` is `2024-02-31`; it must be a day, written YYYY-MM-DD\n"
    ),
    study!(
        "an unknown factor",
        "base = './base'\n[prompts]\nscenaros = ['CC_continue']\n",
        "study file study.toml: [prompts]: unknown key `scenaros` in the design of prompts; did you mean `scenarios`?; known are "
    ),
    study!(
        "an unknown level",
        "base = './base'\n[prompts]\nscenarios = ['CC_contine']\n",
        "study file study.toml: [prompts]: unknown scenario `CC_contine`; did you mean `CC_continue`?; known are `CC_continue`, "
    ),
    study!(
        "an unknown game",
        "base = './base'\n[prompts]\ngames = ['idp']\n",
        "study file study.toml: [prompts]: unknown game `idp`; known are `ipd`, `stag_hunt`, `volunteer`, `chicken`, `bach_or_stravinsky`, `defective_coordination`\n"
    ),
    study!(
        "a prompt file that is not there",
        "base = './base'\nprompts = 'gone.json'\n",
        "prompt file `gone.json`: No such file or directory (os error 2)\n"
    ),
    study!(
        "an adapter that is not there",
        "base = './base'\n[[adapter]]\nname = 'a'\npath = './gone'\n",
        "adapter `a`: `./gone` is neither an existing path nor a hub id of the form `org/name` or `org/name@revision`: owner"
    ),
];
