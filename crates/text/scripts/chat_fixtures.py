#!/usr/bin/env python3
"""Renders chats with transformers, as reference for the tests of this crate's chat templates.

Needs transformers 5 and jinja2 (`pip install transformers jinja2`). From the repository root:

    python crates/text/scripts/chat_fixtures.py crates/text/tests/fixtures/chat

reads every `*.jinja` in that folder (templates written for these tests: each does with the same constructs what
the published templates of its family do) and writes `cases.json` there. Point it at a folder of other templates
to compare those: `LORASCOPE_CHAT_CASES=FOLDER/cases.json cargo test -p lorascope-text --test chat_templates`.
"""

import argparse
import datetime
import json
import pathlib

from transformers.utils import chat_template_utils

# What `strftime_now` takes for now; the tests set the same moment.
NOW = datetime.datetime(2024, 7, 26, 13, 4, 5)
SPECIAL_TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}


class FixedDatetime(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return NOW


def message(role, content):
    return {"role": role, "content": content}


CHATS = {
    "one": [message("user", "Which move do you choose now?")],
    "system": [message("system", "You play to win."), message("user", "Go.")],
    "turns": [
        message("system", "Be brief."),
        message("user", "Hello"),
        message("assistant", "Hi, how can I help?"),
        message("user", "Say cooperate or defect."),
    ],
    "no_system_turns": [message("user", "a"), message("assistant", "b"), message("user", "user")],
    "padded": [
        message("system", "\n\n  padded system\t \n"),
        message("user", "  \n padded user \n\n "),
        message("assistant", "\n\npadded assistant \n"),
        message("user", "\nlast\n"),
    ],
    "odd_spaces": [message("user", "\x1c\u3000\x85 odd\u2003spaces \x1f\ufeff\u200b")],
    "special": [
        message("user", "<b>\"quotes\" & 'apostrophes'</b> \\n {{ braces }} {% raw %} </s> <s> é 日本 👩‍👩‍👧 \u2028 \x7f \x00"),
    ],
    "thinking": [
        message("user", "2+2?"),
        message("assistant", "<think>\nAdd them.\n</think>\n\n4"),
        message("user", "3+3?"),
        message("assistant", "6"),
        message("user", "<tool_response>\n7\n</tool_response>"),
    ],
    "empty": [message("system", ""), message("user", "")],
    "spaces_only": [message("user", " \n ")],
    "assistant_first": [message("assistant", "I begin."), message("user", "No.")],
    "two_users": [message("user", "One."), message("user", "Two.")],
    "late_system": [message("user", "One."), message("system", "Now."), message("user", "Two.")],
    "unknown_role": [message("user", "One."), message("critic", "Bad."), message("user", "Two.")],
    "repeated": [message("user", "user"), message("assistant", "model"), message("user", "user")],
    "windows": [message("user", "line one\r\nline two\r\n")],
}


def render(template, chat):
    try:
        (text,), _ = chat_template_utils.render_jinja_template(
            [chat], chat_template=template, add_generation_prompt=True, **SPECIAL_TOKENS
        )
        return {"text": text}
    except chat_template_utils.jinja2.exceptions.TemplateSyntaxError as error:
        return {"failed": str(error)}
    except chat_template_utils.jinja2.exceptions.UndefinedError as error:
        return {"failed": str(error)}
    except chat_template_utils.jinja2.exceptions.TemplateError as error:
        return {"raised": str(error)}
    except (TypeError, ValueError, KeyError) as error:
        return {"failed": str(error)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path, help="folder of *.jinja files; cases.json is written there")
    folder = parser.parse_args().folder
    chat_template_utils.datetime = FixedDatetime
    cases = []
    for path in sorted(folder.glob("*.jinja")):
        template = path.read_text(encoding="utf-8")
        for name, chat in CHATS.items():
            cases.append({"template": path.name, "chat": name, "expected": render(template, chat)})
    result = {
        "now": int(NOW.replace(tzinfo=datetime.timezone.utc).timestamp()),
        "special_tokens": SPECIAL_TOKENS,
        "chats": CHATS,
        "cases": cases,
    }
    (folder / "cases.json").write_text(json.dumps(result, indent=1, ensure_ascii=True) + "\n", encoding="utf-8")
    print(f"{len(cases)} cases from {len(cases) // len(CHATS)} templates")


if __name__ == "__main__":
    main()
