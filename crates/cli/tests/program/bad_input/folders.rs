//! Output folders.

use super::{Case, RUN};
use crate::support::{Bench, words};
use std::fs::File;

pub const CASES: &[Case] = &[
    Case {
        name: "other files",
        line: RUN,
        spoil: |b| b.text("out/thesis.tex", "Hello"),
        says: "out isn't a run folder: it holds `thesis.tex` but no manifest.json; give a new or empty folder\n",
    },
    Case {
        name: "another run: seed",
        line: "decide --base ./base --prompts prompts.json --out out --seed 7",
        spoil: |b| earlier(b),
        says: "out holds another run; what differs (there -> now):\nseed: `0` -> `7`\ngive another output folder, or remove this one\n",
    },
    Case {
        name: "another run: verb",
        line: "lens --base ./base --prompts prompts.json --out out",
        spoil: |b| earlier(b),
        says: "out holds another run; what differs (there -> now):\ncommand: `decide` -> `lens`\nsettings.analyses: ",
    },
    Case {
        name: "another run: adapters",
        line: RUN,
        spoil: |b| earlier(b),
        says: "out holds another run; what differs (there -> now):\nsettings.models: `[\"base\"]` -> `[\"base\",\"lora\"]`\ninput adapter/lora/adapter_config.json: `absent` -> `1163 bytes, sha256 ",
    },
    Case {
        name: "another run: prompts",
        line: "decide --base ./base --prompts prompts.json --out out",
        spoil: |b| {
            earlier(b);
            b.edit("prompts.json", |p| p[0]["prompt"] = "Another".into());
        },
        says: "out holds another run; what differs (there -> now):\nsettings.prompts_sha256: ",
    },
    Case {
        name: "in use",
        line: RUN,
        spoil: |b| {
            b.text("out/.lock", "");
            let lock = File::open(b.path("out/.lock")).unwrap();
            lock.lock().unwrap();
            // Held until this test program ends.
            std::mem::forget(lock);
        },
        says: "out is in use by another run; wait until it ends, or give another output folder\n",
    },
    Case {
        name: "a manifest of a later version",
        line: RUN,
        spoil: |b| b.text("out/manifest.json", "{\"schema_version\": 99}"),
        says: "out/manifest.json can't be read as a run's manifest: its schema_version is `99`, this program reads 1; give another output folder, or remove this one\n",
    },
    Case {
        name: "a manifest that is none",
        line: RUN,
        spoil: |b| b.text("out/manifest.json", "run 1"),
        says: "out/manifest.json can't be read as a run's manifest: expected value at line 1 column 1; give another output folder, or remove this one\n",
    },
    Case {
        name: "a place where no folder can be",
        line: "decide --base ./base --prompts prompts.json --out prompts.json/out",
        spoil: |_| {},
        says: "can't create prompts.json/out: Not a directory (os error 20)\n",
    },
    Case {
        name: "a file",
        line: "decide --base ./base --prompts prompts.json --out prompts.json",
        spoil: |_| {},
        says: "prompts.json is a file; give a folder for the results\n",
    },
];

/// A finished run in `out`.
fn earlier(bench: &Bench) {
    bench.must(&words("decide --base ./base --prompts prompts.json --out out"));
}
