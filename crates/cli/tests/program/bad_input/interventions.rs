//! Settings of activation patching, path patching and circuits.

use super::{Case, words_only};
use serde_json::json;

/// A case of a flag or setting on the bench with both adapters.
macro_rules! case {
    ($name:literal, $words:literal, $says:expr) => {
        words_only(
            $name,
            concat!(
                $words,
                " --base ./base --adapter lora=./lora --adapter dora=./dora --prompts prompts.json --out out"
            ),
            $says,
        )
    };
}

pub const CASES: &[Case] = &[
    case!(
        "a source that is no model",
        "patch --source lorra",
        "analysis `patch`: settings of `patch`: `lorra` is not a model of this run; models are base, lora, dora\n"
    ),
    case!(
        "a target that is no model",
        "patch --target zero",
        "settings of `patch`: `zero` is not a model of this run; models are base, lora, dora\n"
    ),
    case!(
        "a model into itself",
        "patch --source lora --target lora",
        "settings of `patch`: there is no pair of two different models; name another source or target, or load an adapter\n"
    ),
    words_only(
        "a single model",
        "patch --base ./base --prompts prompts.json --out out",
        "settings of `patch`: there is no pair of two different models; name another source or target, or load an adapter\n",
    ),
    case!(
        "an unknown site",
        "patch --site zed",
        "settings of `patch`: `zed` is not a site; sites are resid_pre, resid_mid, resid_post, attn_out, mlp_out, mlp_post, z, \
         result, q, k, v, pattern, neuron, adapter, adapter_head, adapter_rank\n"
    ),
    case!(
        "a layer that does not exist",
        "patch --layer 4",
        "settings of `patch`: layer 4 does not exist; layers are 0 to 3\n"
    ),
    case!(
        "a layer in words",
        "patch --layer last",
        "settings of `patch`: invalid type: string \"last\", expected usize\n"
    ),
    case!(
        "a position after the decision point",
        "patch --position 42",
        "settings of `patch`: position 42 comes after the decision point of prompt `p0`, which is 41\n"
    ),
    case!(
        "a position counted from the end",
        "patch --position=-1",
        "settings of `patch`: `-1` is not a position: it must be decision, all, each, a number, or a span of the prompts (they \
         have none)\n"
    ),
    case!(
        "a position of a wrong type",
        "patch --set position=1.5",
        "settings of `patch`: a position must be decision, all, each, a whole number from 0, or a span\n"
    ),
    Case {
        name: "a span that no prompt has",
        line: "patch --base ./base --adapter lora=./lora --prompts prompts.json --out out --position coin",
        spoil: |b| {
            b.edit("prompts.json", |p| p[1]["spans"] = json!([{"name": "coins", "start": 0, "end": 4}]))
        },
        says: "settings of `patch`: `coin` is not a position: it must be decision, all, each, a number, or a span of the \
               prompts (coins)\n",
    },
    case!(
        "no position",
        "patch --set position=[]",
        "settings of `patch`: position is empty; give decision, all, each, a number or a span\n"
    ),
    case!(
        "a joint set without layer",
        "patch --joint z:0.1+mlp_out",
        "settings of `patch`: `mlp_out` is not a unit of this model: it must be SITE:LAYER or SITE:LAYER.HEAD, e.g. mlp_out:5 \
         or z:3.1\n"
    ),
    case!(
        "a joint set without head",
        "patch --joint z:0",
        "settings of `patch`: `z:0` is not a unit of this model: it has 4 of them; say which, e.g. z:0.0\n"
    ),
    case!(
        "a joint set with a head that does not exist",
        "patch --joint k:0.2",
        "settings of `patch`: `k:0.2` is not a unit of this model: it has 2 of them, from 0\n"
    ),
    case!(
        "a joint set with a layer that does not exist",
        "patch --joint mlp_out:4",
        "settings of `patch`: `mlp_out:4` is not a unit of this model: its layers are 0 to 3\n"
    ),
    case!(
        "a joint set of several modules",
        "patch --joint adapter:0",
        "settings of `patch`: `adapter:0` is not a unit of this model: `adapter` stands for several modules; name one, e.g. \
         adapter:attn.q_proj:5\n"
    ),
    case!(
        "a joint set of nothing",
        "patch --joint z:0.1+",
        "settings of `patch`: `` is not a unit of this model: it must be SITE:LAYER or SITE:LAYER.HEAD, e.g. mlp_out:5 or \
         z:3.1\n"
    ),
    case!(
        "a joint set with a component that no update has",
        "patch --source lora --target base --joint adapter_rank:attn.q_proj:0.4",
        "settings of `patch`: `adapter_rank:attn.q_proj:0.4`: neither model has an update there with so many components\n"
    ),
    case!(
        "components ablated by numbers",
        "patch --source zero --target lora --site adapter_rank",
        "settings of `patch`: components of an update can be patched from a model, not ablated by numbers; take base as the \
         source\n"
    ),
    case!(
        "one scenario",
        "patch --between s0",
        "settings of `patch`: between is `s0`; it must be FROM:TO, two scenarios\n"
    ),
    case!(
        "scenarios without partners",
        "patch --between s0:s9",
        "settings of `patch`: no prompt of scenario `s0` has the same variant, number of tokens and decision point as one of \
         scenario `s9`\n"
    ),
    Case {
        name: "partners that decide elsewhere",
        line: "patch --base ./base --prompts prompts.json --out out --between s0:s1",
        spoil: |b| {
            b.edit("prompts.json", |p| {
                for i in [1, 3] {
                    (p[i]["answer_a"], p[i]["answer_b"]) = (json!("act one"), json!("act two"));
                }
            });
        },
        says: "settings of `patch`: no prompt of scenario `s0` has the same variant, number of tokens and decision point as one \
               of scenario `s1`\n",
    },
    case!(
        "means at all positions",
        "patch --source mean --position all",
        "settings of `patch`: mean and resample take the decision point of other prompts; they can't be put at `all`\n"
    ),
    case!(
        "resampling at a position by number",
        "patch --source resample --position decision --position 3",
        "settings of `patch`: mean and resample take the decision point of other prompts; they can't be put at `3`\n"
    ),
    case!(
        "means of patterns",
        "patch --source mean --site pattern",
        "settings of `patch`: patterns of prompts of different lengths can't be averaged or exchanged\n"
    ),
    Case {
        name: "resampling a single prompt",
        line: "patch --base ./base --prompts prompts.json --out out --source resample",
        spoil: |b| b.edit("prompts.json", |p| p.as_array_mut().unwrap().truncate(1)),
        says: "settings of `patch`: resampling needs at least two prompts\n",
    },
    words_only(
        "adapter blocks of a base",
        "patch --base ./base --prompts prompts.json --out out --source zero --site adapter",
        "settings of `patch`: no site and no joint set is left to patch\n",
    ),
    case!(
        "a negative floor",
        "patch --set floor=-0.1",
        "settings of `patch`: floor is -0.1; it must be a number from 0\n"
    ),
    case!(
        "an unknown setting of patching",
        "patch --set sites=z",
        "settings of `patch`: unknown field `sites`, expected one of `source`, `target`, `site`, `layer`, `position`, `joint`, \
         `between`, `floor`\n"
    ),
    case!(
        "a sender that is no model's",
        "paths --source lorra",
        "analysis `paths`: settings of `paths`: `lorra` is not a model of this run; models are base, lora, dora\n"
    ),
    case!(
        "a sender that writes nothing",
        "paths --sender q:1.0",
        "settings of `paths`: `q:1.0` adds nothing to the residual stream; use result, attn_out or mlp_out\n"
    ),
    case!(
        "a sender that does not exist",
        "paths --sender result:0.4",
        "settings of `paths`: `result:0.4` is not a unit of this model: it has 4 of them, from 0\n"
    ),
    case!(
        "an unknown receiver",
        "paths --receiver logit",
        "settings of `paths`: `logit` is not a receiver of this model: it must be q:LAYER.HEAD, k:LAYER.HEAD, v:LAYER.HEAD, \
         head:LAYER.HEAD, mlp:LAYER, logits or logits_frozen\n"
    ),
    case!(
        "a receiver without head",
        "paths --receiver q:1",
        "settings of `paths`: `q:1` is not a receiver of this model: it must be q:LAYER.HEAD, "
    ),
    case!(
        "an MLP with a head",
        "paths --receiver mlp:1.0",
        "settings of `paths`: `mlp:1.0` is not a receiver of this model: it must be q:LAYER.HEAD, "
    ),
    case!(
        "a receiver's head that does not exist",
        "paths --receiver v:1.2",
        "settings of `paths`: `v:1.2` is not a receiver of this model: its heads there are 0 to 1\n"
    ),
    case!(
        "a receiver's layer that does not exist",
        "paths --receiver mlp:4",
        "settings of `paths`: `mlp:4` is not a receiver of this model: its layers are 0 to 3\n"
    ),
    case!(
        "a receiver before its sender",
        "paths --sender mlp_out:2 --receiver q:2.0",
        "settings of `paths`: no receiver comes after any sender\n"
    ),
    case!(
        "a span of an unknown kind",
        "paths --span heads:0-1",
        "settings of `paths`: span `heads:0-1`: it must be residual, attn or mlp with layers, e.g. residual:2-9 or mlp:0-\n"
    ),
    case!(
        "a span without layers",
        "paths --span mlp:2",
        "settings of `paths`: span `mlp:2`: it must be residual, attn or mlp with layers, e.g. residual:2-9 or mlp:0-\n"
    ),
    case!(
        "a span of layers that do not exist",
        "paths --span mlp:2-4",
        "settings of `paths`: span `mlp:2-4`: layers are 0 to 3, the first before the last\n"
    ),
    case!(
        "a span that begins after the model",
        "paths --span mlp:4-",
        "settings of `paths`: span `mlp:4-`: layers are 0 to 3, the first before the last\n"
    ),
    case!(
        "a span backwards",
        "paths --span mlp:2-1",
        "settings of `paths`: span `mlp:2-1`: layers are 0 to 3, the first before the last\n"
    ),
    case!(
        "no senders to look for",
        "paths --set top=0",
        "settings of `paths`: top is 0; name senders and receivers, or a number from 1\n"
    ),
    case!(
        "a circuit of no model",
        "circuit --source lora --target bass",
        "analysis `circuit`: settings of `circuit`: `bass` is not a model of this run; models are base, lora, dora\n"
    ),
    case!(
        "a circuit grown on nothing",
        "circuit --set prompts=0",
        "settings of `circuit`: prompts is 0; it must be a whole number from 1\n"
    ),
    case!(
        "a circuit tested on nothing",
        "circuit --set heldout=0",
        "settings of `circuit`: heldout is 0; it must be a whole number from 1\n"
    ),
    case!(
        "a circuit from nothing",
        "circuit --set candidates=0",
        "settings of `circuit`: candidates is 0; it must be a whole number from 1\n"
    ),
    case!(
        "a circuit of no size",
        "circuit --set max_size=0",
        "settings of `circuit`: max_size is 0; it must be a whole number from 1\n"
    ),
    case!(
        "no random circuits",
        "circuit --set random=0",
        "settings of `circuit`: random is 0; it must be a whole number from 1\n"
    ),
    case!(
        "more samples than resamples",
        "circuit --set samples=2001",
        "settings of `circuit`: samples is 2001; it must be a whole number from 0 to 2000\n"
    ),
    case!(
        "a faithfulness of more than everything",
        "circuit --set faithfulness=1.1",
        "settings of `circuit`: faithfulness is 1.1; it must be above 0, at most 1\n"
    ),
    case!(
        "a tolerance of everything",
        "circuit --set tolerance=1",
        "settings of `circuit`: tolerance is 1; it must be from 0 to below 1\n"
    ),
    case!(
        "a target that no prompt has",
        "probe --target moood",
        "settings of `probe`: target `moood` can't be probed: no prompt has it; targets are decision, and of the keys of the prompts: \
         none\n"
    ),
    case!(
        "a site that probes do not read",
        "probe --site z",
        "settings of `probe`: `z` is not a site; sites are resid_pre, resid_mid, resid_post, attn_out, mlp_out\n"
    ),
    case!(
        "a position that a prompt does not have",
        "compare --position nowhere",
        "settings of `compare`: position `nowhere` is not there in prompt `p0`; it must be decision, a share such as 50%, or a span that \
         every prompt has (this one has: none)\n"
    ),
    case!(
        "a share that is none",
        "probe --position 101%",
        "settings of `probe`: position `101%` is not a share; it must be 0% to 100%\n"
    ),
    case!("one fold", "probe --set folds=1", "settings of `probe`: folds is 1; it must be at least 2\n"),
    case!(
        "no strength",
        "probe --set strengths=[0]",
        "settings of `probe`: strengths is [0.0]; it must hold positive numbers\n"
    ),
    words_only(
        "nothing to compare",
        "compare --base ./base --prompts prompts.json --out out",
        "settings of `compare`: there is no adapter to compare with the base; load one\n",
    ),
];
