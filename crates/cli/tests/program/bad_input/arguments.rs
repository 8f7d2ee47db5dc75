//! Words of the command line.

use super::{Case, words_only};

pub const CASES: &[Case] = &[
    words_only(
        "an unknown verb",
        "lense --base ./base",
        "unrecognized subcommand 'lense'\n\ntip: a similar subcommand exists: 'lens'\n",
    ),
    words_only(
        "no base",
        "decide --prompts prompts.json --out out",
        "the following required arguments were not provided:\n--base <BASE>\n",
    ),
    words_only(
        "an unknown option",
        "decide --base ./base --prompt prompts.json --out out",
        "unexpected argument '--prompt' found\n\ntip: a similar argument exists: '--prompts'\n",
    ),
    words_only(
        "no threads",
        "decide --base ./base --prompts prompts.json --out out --threads 0",
        "invalid value '0' for '--threads <N>': 0 is not in 1..=1024\n",
    ),
    words_only(
        "threads in words",
        "decide --base ./base --prompts prompts.json --out out --threads two",
        "invalid value 'two' for '--threads <N>': invalid digit found in string\n",
    ),
    words_only(
        "no memory",
        "decide --base ./base --prompts prompts.json --out out --memory plenty",
        "invalid value 'plenty' for '--memory <SIZE>': `plenty` is not a size such as 512MiB, 3GiB or 2GB\n",
    ),
    words_only(
        "an unknown unit",
        "decide --base ./base --prompts prompts.json --out out --memory 3GX",
        "invalid value '3GX' for '--memory <SIZE>': `3GX` is not a size such as 512MiB, 3GiB or 2GB\n",
    ),
    words_only(
        "an unknown setting",
        "lens --base ./base --prompts prompts.json --out out --set topp=3",
        "settings of `lens`: unknown field `topp`, expected `tolerance` or `top`\n",
    ),
    words_only(
        "a setting of a wrong type",
        "lens --base ./base --prompts prompts.json --out out --set top=x",
        "settings of `lens`: invalid type: string \"x\", expected usize\n",
    ),
    words_only(
        "a setting without value",
        "lens --base ./base --prompts prompts.json --out out --set top",
        "invalid value 'top' for '--set <KEY=VALUE>': `top` is not of the form KEY=VALUE\n",
    ),
    words_only(
        "an unknown NF4 source",
        "decide --base ./base --prompts prompts.json --out out --nf4 fp8",
        "invalid value 'fp8' for '--nf4 <FROM>'\n[possible values: stored, f16, bf16]\n",
    ),
    words_only(
        "an unknown design",
        "prompts --out new.json --design sixteen",
        "invalid value 'sixteen' for '--design <DESIGN>'\n[possible values: default, crossed, fifteen]\n\ntip: a similar value exists: 'fifteen'\n",
    ),
    words_only(
        "an unknown factor",
        "prompts --out new.json --set game=ipd",
        "unknown key `game` in the design of prompts; did you mean `games`?; known are `games`, ",
    ),
    words_only(
        "an unknown level",
        "prompts --out new.json --set games=chiken",
        "unknown game `chiken`; did you mean `chicken`?; known are `ipd`, ",
    ),
    words_only(
        "a design file that is not there",
        "prompts --out new.json --from gone.toml",
        "design gone.toml: No such file or directory (os error 2)\n",
    ),
    words_only(
        "both designs",
        "prompts --out new.json --from x.toml --design fifteen",
        "the argument '--from <FILE>' cannot be used with '--design <DESIGN>'\n",
    ),
    words_only(
        "a prompt file that can't be written",
        "prompts --out no/such/folder/new.json",
        "prompt file `no/such/folder/new.json`: No such file or directory (os error 2)\n",
    ),
    words_only(
        "a seed in words",
        "decide --base ./base --prompts prompts.json --out out --seed often",
        "invalid value 'often' for '--seed <SEED>': invalid digit found in string\n",
    ),
];
