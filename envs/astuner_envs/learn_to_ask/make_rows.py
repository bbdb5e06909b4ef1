"""Makes rows from whole dialogues: ``python -m astuner_envs.learn_to_ask.make_rows in out.jsonl``.

The input is JSONL of sessions or a CSV file of MTS-Dialog. With ``--base-url`` and ``--model`` a
server that speaks the OpenAI protocol extracts ``info_truth``; without them it is the person's
later turns word for word.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from astuner_envs.learn_to_ask.extraction import Extraction, extract
from astuner_envs.learn_to_ask.pipeline import rows
from astuner_envs.learn_to_ask.records import Session
from astuner_envs.learn_to_ask.tasks import read_sessions
from astuner_gym.errors import TaskDataError, UnusableInputError
from astuner_gym.judging.endpoint import ChatEndpoint, EndpointConfig

_OF_SERVER: Final = ("--base-url", "--model", "--api-key-env")


class _ServerConfig(EndpointConfig):
    """A server that is named by this command's options."""

    @classmethod
    def setting(cls, name: str) -> str:
        """Return the option of a field, or the field's own name where there is no option."""
        option = f"--{name.replace('_', '-')}"
        return option if option in _OF_SERVER else name


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the rows and return the exit status: 0 done, 1 some rows failed, 2 unusable input."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0])
    parser.add_argument("sessions", type=Path, help="JSONL of sessions, or CSV of MTS-Dialog")
    parser.add_argument("rows", type=Path, help="JSONL file to write")
    parser.add_argument("--base-url", help="address of the API that extracts what is told")
    parser.add_argument("--model", help="model that the server knows")
    parser.add_argument("--api-key-env", default="OPENAI_API_KEY", help="variable with the key")
    options = parser.parse_args(arguments)
    if (options.base_url is None) is not (options.model is None):
        parser.error("--base-url and --model must be given together")
    try:
        _check_target(options.sessions, options.rows)
        sessions = read_sessions(options.sessions)
        if options.base_url is None:
            made = Extraction(
                rows=tuple(row for session in sessions for row in rows(session)), failures=()
            )
        else:
            endpoint = ChatEndpoint(
                _ServerConfig(
                    base_url=options.base_url,
                    model=options.model,
                    api_key_env=options.api_key_env,
                )
            )
            made = asyncio.run(_extract(endpoint, sessions))
        if not made.rows and not made.failures:
            raise TaskDataError(
                f"{options.sessions}: dialogues must give a row, none says anything"
            )
    except UnusableInputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    # Escaped: a text may hold half of a pair of surrogates, which UTF-8 cannot.
    lines = (json.dumps(row.record) + "\n" for row in made.rows)
    options.rows.write_text("".join(lines), "utf-8")
    for row, reason in made.failures:
        print(f"left out {row}: {reason}", file=sys.stderr)
    print(f"{len(made.rows)} rows of {len(sessions)} sessions, {len(made.failures)} failed")
    return 1 if made.failures else 0


def _check_target(source: Path, target: Path) -> None:
    """Refuse a file that cannot be written, before anybody is asked, and one that is the source."""
    if target.exists() and source.exists() and target.samefile(source):
        raise TaskDataError(f"{target}: rows must go to another file than the dialogues")
    if target.is_dir() or not target.absolute().parent.is_dir():
        raise TaskDataError(f"{target}: rows must go to a file in a folder that exists")


async def _extract(endpoint: ChatEndpoint, sessions: Sequence[Session]) -> Extraction:
    try:
        await endpoint.check()
        return await extract(sessions, endpoint)
    finally:
        await endpoint.close()


if __name__ == "__main__":
    sys.exit(main())
