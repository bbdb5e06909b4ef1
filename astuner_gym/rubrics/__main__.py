"""``python -m astuner_gym.rubrics learn examples.jsonl``: a rubric from labelled examples.

Exit status 0 if a rubric was written, 1 if none was learnt, 2 if the input cannot be used.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from astuner_gym.errors import AstunerError, UnusableInputError
from astuner_gym.judging.endpoint import ChatEndpoint, EndpointConfig
from astuner_gym.judging.rubric import rubric_yaml
from astuner_gym.rubrics.examples import Examples, read_examples
from astuner_gym.rubrics.learning import Learned, LearningSettings, learn


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    options = _parser().parse_args(arguments)
    try:
        return _learn(options)
    except AstunerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, UnusableInputError) else 1


def _learn(options: argparse.Namespace) -> int:
    examples = read_examples(Path(options.examples))
    settings = LearningSettings(
        rounds=options.rounds, proposals=options.proposals, seed=options.seed
    )
    endpoint = EndpointConfig(
        options.base_url,
        options.model,
        api_key_env=options.api_key_env,
        concurrency=options.concurrency,
    )
    if examples.left_out:
        print(f"{examples.left_out} examples contradict others and are left out")
    print(f"{len(examples.examples)} {examples.kind} examples")
    learned = asyncio.run(_ask(examples, endpoint, settings))
    print(
        f"agreement with labels that were not learnt from, 95 % interval:\n"
        f"           {'accuracy':22}  {learned.after.measure}"
    )
    for name, agreed in (("before", learned.before), ("after", learned.after)):
        print(f"  {name:8} {agreed.accuracy!s:22}  {agreed.beyond_chance}")
    if not learned.improved:
        print(
            f"no rubric: none of {learned.asked} criteria agrees better than a plain question",
            file=sys.stderr,
        )
        return 1
    out = Path(options.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(rubric_yaml(learned.rubric, notes=_notes(learned, examples)), encoding="utf-8")
    print(f"rubric: {out}\nuse it: judge=rubric judge.path={out}")
    return 0


async def _ask(examples: Examples, config: EndpointConfig, settings: LearningSettings) -> Learned:
    endpoint = ChatEndpoint(config)
    try:
        await endpoint.check()
        return await learn(examples, endpoint, settings, say=print)
    finally:
        await endpoint.close()


def _notes(learned: Learned, examples: Examples) -> dict[str, object]:
    """Return what the file says about where the rubric comes from."""
    return {
        "learned": {
            "labels": str(examples.kind),
            "examples": len(examples.examples),
            "agreement": {
                name: {
                    "accuracy": str(agreed.accuracy),
                    agreed.measure: str(agreed.beyond_chance),
                }
                for name, agreed in (("before", learned.before), ("after", learned.after))
            },
        }
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m astuner_gym.rubrics")
    command = parser.add_subparsers(required=True, metavar="learn").add_parser(
        "learn", help="learn a rubric from labelled examples"
    )
    command.add_argument(
        "examples", help='JSONL of {"question", "answer", "score"} or {"question", "ranked": […]}'
    )
    command.add_argument("--base-url", required=True, help="of an OpenAI-compatible API")
    command.add_argument("--model", required=True, help="name that the server knows")
    command.add_argument(
        "--api-key-env", default="OPENAI_API_KEY", help="environment variable with the key"
    )
    command.add_argument("--concurrency", type=int, default=16, help="requests in flight")
    command.add_argument("--out", default="rubric.yaml", help="where the rubric goes")
    command.add_argument("--rounds", type=int, default=4, help="how often criteria are proposed")
    command.add_argument("--proposals", type=int, default=8, help="criteria of a round, at most")
    command.add_argument("--seed", type=int, default=0, help="names how examples are split")
    return parser


if __name__ == "__main__":
    sys.exit(main())
