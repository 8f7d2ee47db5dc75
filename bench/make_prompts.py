#!/usr/bin/env python3
"""Write the benchmark's 15 prompts: five states of a repeated 2x2 game, three wordings each.

Within a wording the five prompts differ only in the sentence on the last round, near the end, as prompt sets
of repeated games do; between wordings they differ from the first sentence on. In SmolLM2's chat template they
have about 230 tokens. Standard library only; the output is checked in as bench/prompts_15.json.

    python3 bench/make_prompts.py > bench/prompts_15.json
"""

import json

WORDINGS = (
    "You are playing a game of many rounds against another player, called B. In every round both of you choose, "
    "at the same time and without talking, one of two moves: action1 or action2. The table shows the points of a "
    "round, yours first and B's second. Each of you wants to know what the other will do, and neither can be sure.",
    "Two neighbours, you and B, share a meadow and decide every week anew how to use it. Each picks one of two "
    "options, action1 or action2, on the same evening, and only learns of the other's choice the next day. The "
    "numbers in the table are what the week is worth to you, followed by what the week is worth to B, in points.",
    "In this exercise you trade with a partner, B, again and again. Before every exchange you each fix one of two "
    "plans, action1 or action2, and hand it in sealed; then both seals are broken together. The gains of one "
    "exchange are written below, first your own gain and then the gain of B, and nothing else counts for either.",
)
RULES = (
    "The points of all rounds are added up in the end, and neither of you knows beforehand how many rounds there "
    "will be."
)
TABLE = (
    "| you \\ B | action1 | action2 |\n|---|---|---|\n"
    "| action1 | 3, 3 | 0, 4 |\n| action2 | 4, 0 | 1, 1 |"
)
STATES = {
    "CC_continue": "Last time you chose action1 and B chose action1 as well, so that you and B got 3 points each.",
    "CC_temptation": "Last time both chose action1, for 3 points each; action2 would have brought you 4 points then.",
    "CD_punished": "Last time you chose action1 while B chose action2, so that you got 0 points and B got 4 points.",
    "DC_exploited": "Last time you chose action2 while B chose action1, so that you got 4 points and B got 0 points.",
    "DD_trapped": "Last time you chose action2 and B chose action2 as well, so that you and B got 1 point each.",
}
QUESTION = "Which one do you choose in this round? Answer with action1 or action2 and nothing else."


def prompts() -> list[dict]:
    return [
        {
            "id": f"{state}_v{number}",
            "scenario": state,
            "variant": f"v{number}",
            "prompt": f"{wording} {RULES}\n\n{TABLE}\n\n{sentence} {QUESTION}",
            "answer_a": "action1",
            "answer_b": "action2",
        }
        for number, wording in enumerate(WORDINGS)
        for state, sentence in STATES.items()
    ]


if __name__ == "__main__":
    print(json.dumps(prompts(), indent=1))
