"""Settings: what composes, what is refused and in which words, and what a command returns."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from astuner_gym.environment import ENTRY_POINT_GROUP
from astuner_gym.errors import JudgeError, SettingError, TaskDataError
from astuner_rl import cli, evaluate, play, replay
from astuner_rl.algos.config import GrpoConfig, PpoConfig
from astuner_rl.command import ExitStatus, run_command
from astuner_rl.composition import (
    SCHEMAS,
    compose_experiment,
    config_yaml,
    expand_sweep,
    group_options,
)
from astuner_rl.config import ExperimentConfig, HfModelConfig, LoggerConfig, RunConfig
from astuner_rl.settings_help import field_docs, settings_help


def refusal(*overrides: str) -> str:
    with pytest.raises(SettingError) as caught:
        compose_experiment(overrides)
    return str(caught.value)


def test_without_overrides_every_group_has_a_choice() -> None:
    config = compose_experiment([])
    assert config.choices == {
        "env": "gsm8k",
        "algo": "grpo",
        "model": "tiny",
        "sampler": "transformers",
        "backbone": "local",
        "judge": "env",
        "opponent": "none",
        "logger": "wandb",
    }
    assert isinstance(config.algo, GrpoConfig)
    assert config.logger.mode in ("offline", "disabled")  # nothing leaves the machine unasked


def test_overrides_reach_groups_sections_and_lists() -> None:
    config = compose_experiment(
        ["algo=ppo", "algo.lr=3e-4", "train.steps=5", "env.trainable=[solver]", "seed=7"]
    )
    assert isinstance(config.algo, PpoConfig)
    assert config.algo.lr == 3e-4
    assert config.train.steps == 5
    assert config.env.trainable == ["solver"]
    assert config.seed == 7
    assert config.choices["algo"] == "ppo"


def test_a_value_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_RUNS", "/data/runs")
    assert compose_experiment(["run.dir=${oc.env:MY_RUNS}"]).run.dir == "/data/runs"


def test_relative_paths_start_where_the_command_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = compose_experiment(
        [
            "env=custom",
            "env.workflow=agent.py:Agent",
            "env.judge=../judge.py:score",
            "env.tasks.path=tasks.jsonl",
            "run.dir=out",
            "algo=sft",
            "algo.path=talk.jsonl",
            "judge=composed",
            "judge.parts={own: {judge: function, function: judge.py:score}, asked: {judge: env}}",
        ]
    )
    function = compose_experiment(["judge=function", "judge.function=judge.py:score"]).judge
    monkeypatch.chdir("/")
    assert config.env.workflow == f"{tmp_path}/agent.py:Agent"
    assert config.env.judge == f"{tmp_path}/../judge.py:score"
    assert config.env.tasks.path == f"{tmp_path}/tasks.jsonl"
    assert config.run.dir == f"{tmp_path}/out"
    assert config.algo.path == f"{tmp_path}/talk.jsonl"
    assert config.judge.parts["own"].function == f"{tmp_path}/judge.py:score"
    assert config.judge.parts["asked"].function is None
    assert function.function == f"{tmp_path}/judge.py:score"


def test_what_is_no_path_stays_none() -> None:
    assert compose_experiment(["algo=sft"]).algo.path is None


def test_paths_may_begin_in_the_home_folder() -> None:
    home = Path.home()
    assert compose_experiment(["env.tasks.path=~/my tasks.jsonl"]).env.tasks.path == (
        f"{home}/my tasks.jsonl"
    )
    parts = "judge.parts={a: {judge: env}, b: {judge: function, function: ~/judge.py:score}}"
    config = compose_experiment(["judge=composed", parts])
    assert config.judge.parts["b"].function == f"{home}/judge.py:score"
    jobs = expand_sweep(["env.tasks.path=~/a.jsonl,~/b.jsonl", "seed=1"])
    paths = [compose_experiment(job).env.tasks.path for job in jobs]
    assert paths == [f"{home}/a.jsonl", f"{home}/b.jsonl"]
    assert "~/x/a~b" in compose_experiment(["logger.project='~/x/a~b'"]).logger.project


def test_a_hub_id_stays_as_it_is_and_a_folder_becomes_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights").mkdir()
    assert HfModelConfig(path="Qwen/Qwen3-0.6B").path == "Qwen/Qwen3-0.6B"
    assert HfModelConfig(path="weights").path == f"{tmp_path}/weights"


ALGORITHMS = "cispo, dapo, dr_grpo, grpo, gspo, ppo, reinforce_pp, rloo, sft"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train.stps=3", ["no setting train.stps", "did you mean train.steps", "train.group_size"]),
        ("steps=3", ["no setting steps", "did you mean train.steps"]),
        ("agol=grpo", ["no setting agol", "did you mean algo"]),
        ("algo=grop", [f"algo must be one of {ALGORITHMS}, got 'grop'", "mean algo=grpo"]),
        ("algo=null", [f"algo must be one of {ALGORITHMS}"]),
        ("algo=[grpo,ppo]", [f"algo must be one of {ALGORITHMS}"]),
        ("algo.discount=0.9", ["no setting algo.discount", "algo.clip_low"]),
        ("+train.foo=3", ["no setting train.foo", "train.steps"]),
        ("+foo=3", ["no setting foo"]),
        ("model.path=x", ["no setting model.path"]),
        ("train.steps=many", ["train.steps must be of type int, got 'many'"]),
        ("train.steps=null", ["train.steps must be of type int, got None"]),
        ("seed=1.5", ["seed must be of type int, got 1.5"]),
        ("env.trainable=solver", ["env.trainable must be of type list[str] | None"]),
        ("train=3", ["train must be of type TrainConfig, got 3"]),
        ("train.steps=-1", ["train.steps must be >= 0, got -1"]),
        ("algo.lr=nan", ["algo.lr must be", "got nan"]),
        ("algo.clip_low=1.5", ["between 0.0 and 1.0, got 1.5", "to a number from 0.0 to 1.0"]),
        ("env.trainable=[sovler]", ["env.trainable must be [solver]", "got 'sovler'"]),
        ("run.dir=a~b", ["cannot read 'run.dir=a~b'", "a tilde", "quoted twice"]),
        ("train.group_size=1", ["group_size must be >= 2", "got 1", "algo=ppo"]),
        ("overlap.max_staleness=-1", ["overlap.max_staleness must be >= 0", "got -1"]),
        ("overlap.in_flight=true", ["needs overlap.max_staleness >= 1", "got 0"]),
        ("rollout.max_tokens=4096", ["must be < sampler.context_length", "got 4096"]),
        ("logger.mode=onlin", ["logger.mode must be one of offline, online, disabled"]),
        ("model=hf", ["model.path must be set"]),
        ("env=custom", ["env.workflow must be set"]),
        ("run.dir=${nope}", ["run.dir", "nope"]),
        ("train.steps=1,2", ["train.steps takes one value", "--multirun"]),
        ("~algo", ["cannot be deleted", "~algo"]),
        ("train steps", ["cannot read 'train steps'", "key=value"]),
        ("run.resume=nowhere", ["run.resume must name a run folder", "nowhere"]),
    ],
)
def test_what_cannot_be_used_is_named_with_what_can(override: str, said: list[str]) -> None:
    message = refusal(override)
    assert all(part in message for part in said), message
    assert "\n" not in message


def test_ppo_needs_no_siblings() -> None:
    assert compose_experiment(["algo=ppo", "train.group_size=1"]).train.group_size == 1


def test_a_key_given_in_place_of_its_variable_is_not_repeated() -> None:
    server = ["sampler=openai", "sampler.model=m"]
    secret = "sk-verysecret"
    said = refusal(*server, "sampler.base_url=http://host/v1", f"sampler.api_key_env={secret}")
    assert "sampler.api_key_env" in said and secret not in said
    said = refusal(*server, f"sampler.base_url='http://user:{secret}@host/v1'")
    assert "sampler.base_url" in said and secret not in said


def resumed(tmp_path: Path, config: ExperimentConfig, *overrides: str) -> ExperimentConfig:
    (tmp_path / "config.yaml").write_text(config_yaml(config), encoding="utf-8")
    config = compose_experiment([f"run.resume={tmp_path}", *overrides])
    assert config.run.resume == str(tmp_path)
    config.run.resume = None
    return config


def test_the_written_config_composes_to_itself(tmp_path: Path) -> None:
    config = compose_experiment(
        ["algo=ppo", "algo.value_clip=inf", "algo.lr=1e-7", "env.trainable=[solver]", "seed=3"]
    )
    assert resumed(tmp_path, config) == config


def test_a_resumed_run_keeps_its_settings_but_for_those_given_anew(tmp_path: Path) -> None:
    config = compose_experiment(["train.steps=5", "seed=3"])
    again = resumed(tmp_path, config, "env=gsm8k", "algo=grpo", "train.steps=9")
    assert (again.train.steps, again.seed) == (9, 3)


@pytest.mark.parametrize("option", ["algo=ppo", "env=custom", "model=hf", "sampler=scripted"])
def test_a_resumed_run_keeps_its_options(tmp_path: Path, option: str) -> None:
    group = option.partition("=")[0]
    with pytest.raises(SettingError, match=rf"a resumed run keeps {group}=\w+, got '{option}'"):
        resumed(tmp_path, compose_experiment([]), option)


@pytest.mark.parametrize("content", ["", "defaults", "a: [", "\0"])
def test_a_damaged_config_is_refused_with_its_path(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.yaml").write_text(content, encoding="utf-8")
    with pytest.raises(SettingError, match=r"config\.yaml must be as the run wrote it"):
        compose_experiment([f"run.resume={tmp_path}"])


def test_no_interpolation_is_left_in_the_written_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_RUNS", "/data/runs")
    config = compose_experiment(["run.dir=${oc.env:MY_RUNS}"])
    monkeypatch.delenv("MY_RUNS")
    assert resumed(tmp_path, config) == config


@settings(deadline=None)
@given(text=st.text(alphabet="ab$}{\\'\": #é\n\x85\u2028", max_size=12))
def test_any_text_is_written_so_that_it_reads_back_as_it_was(text: str) -> None:
    config = ExperimentConfig(
        *[None] * 7, logger=LoggerConfig(project=text), choices={"logger": "wandb"}
    )
    assert OmegaConf.create(config_yaml(config)).logger.project == text


def test_an_opponent_needs_roles_that_do_not_learn() -> None:
    message = refusal("opponent=hf", "opponent.path=some/model")
    assert "set env.trainable=[<role>, …], or opponent=none" in message
    config = compose_experiment([*WEREWOLVES, "env.village=model"])
    assert config.opponent.path == "some/model"


WEREWOLVES = ["env=werewolves", "opponent=hf", "opponent.path=some/model"]
GSM8K = ["env=gsm8k", "opponent=hf", "opponent.path=some/model"]
VILLAGE = "env.trainable=[villager,seer,witch]"
ALL = "env.trainable=[werewolf,villager,seer,witch]"


@pytest.mark.parametrize(
    ("overrides", "remedy"),
    [
        (WEREWOLVES, "set env.village=model, or opponent=none"),
        ([*WEREWOLVES, "env.wolves=model"], "set env.village=model, or opponent=none"),
        ([*WEREWOLVES, VILLAGE], "set env.wolves=model, or opponent=none"),
        ([*WEREWOLVES, "env.trainable=[seer]"], "set env.wolves=model or env.village=model, or"),
        ([*WEREWOLVES, ALL, "env.wolves=model"], "set env.trainable=[<fewer roles>], or"),
        ([*GSM8K, "env.trainable=[solver]"], "set opponent=none"),
        (["env=learn_to_ask", *GSM8K[1:], "env.trainable=[clerk]"], "set opponent=none"),
    ],
)
def test_an_opponent_whom_nobody_asks_is_refused(overrides: list[str], remedy: str) -> None:
    assert remedy in refusal(*overrides)


def test_games_of_a_file_may_ask_an_opponent_whom_the_settings_do_not() -> None:
    config = compose_experiment([*WEREWOLVES, "env.tasks.path=games.jsonl"])
    assert config.opponent.path == "some/model"


def test_an_opponents_address_and_key_are_checked_and_not_repeated() -> None:
    overrides = ["env=werewolves", "opponent=openai", "opponent.model=m"]
    message = refusal(*overrides, "opponent.base_url=ftp://secret")
    assert message.startswith("opponent.base_url must be an http") and "secret" not in message
    key = "opponent.api_key_env=sk-secret"
    address = "opponent.base_url=http://localhost:1/v1"
    message = refusal(*overrides, address, key)
    assert message.startswith("opponent.api_key_env must be the name") and "secret" not in message
    message = refusal(*overrides, address, "opponent.model=''")
    assert message.startswith("opponent.model must name a model that the server knows")


@pytest.mark.parametrize("algorithm", ["grpo", "dapo", "gspo", "ppo"])
def test_the_tiny_model_is_held_near_its_beginning_and_others_are_not(algorithm: str) -> None:
    tiny = compose_experiment([f"algo={algorithm}"]).algo
    assert isinstance(tiny, GrpoConfig | PpoConfig)
    assert (tiny.kl_coefficient, tiny.kl_estimator) == (0.25, "k2")
    other = compose_experiment([f"algo={algorithm}", "model=hf", "model.path=x"]).algo
    assert isinstance(other, GrpoConfig | PpoConfig)
    assert other.kl_coefficient == 0.0
    set_by_user = compose_experiment([f"algo={algorithm}", "algo.kl_coefficient=0.1"]).algo
    assert isinstance(set_by_user, GrpoConfig | PpoConfig)
    assert set_by_user.kl_coefficient == 0.1


def test_a_users_folder_adds_options(tmp_path: Path) -> None:
    (tmp_path / "algo").mkdir()
    (tmp_path / "algo" / "unscaled.yaml").write_text(
        "defaults: [grpo, _self_]\nscale_by_std: false\n", encoding="utf-8"
    )
    config = compose_experiment(["algo=unscaled"], config_dirs=[tmp_path])
    assert isinstance(config.algo, GrpoConfig)
    assert not config.algo.scale_by_std


def test_a_typo_in_a_users_option_is_named(tmp_path: Path) -> None:
    (tmp_path / "algo").mkdir()
    (tmp_path / "algo" / "mine.yaml").write_text(
        "defaults: [grpo, _self_]\nscale_by_sdt: false\n", encoding="utf-8"
    )
    with pytest.raises(SettingError, match="scale_by_sdt"):
        compose_experiment(["algo=mine"], config_dirs=[tmp_path])


def test_a_sweep_is_every_combination_in_order() -> None:
    assert expand_sweep(["seed=0,1", "algo=grpo,ppo", "train.steps=5"]) == [
        ["seed=0", "algo=grpo", "train.steps=5"],
        ["seed=0", "algo=ppo", "train.steps=5"],
        ["seed=1", "algo=grpo", "train.steps=5"],
        ["seed=1", "algo=ppo", "train.steps=5"],
    ]
    assert expand_sweep(["seed=range(2)", "algo=glob(*po)"])[-1] == ["seed=1", "algo=ppo"]


@pytest.mark.parametrize("override", ["algo.lr=interval(0,1)", "algo=glob(nothing*)"])
def test_a_sweep_without_values_is_refused(override: str) -> None:
    with pytest.raises(SettingError, match="names no values to sweep over"):
        expand_sweep([override])


def raising(error: BaseException) -> Callable[[ExperimentConfig], None]:
    def command(config: ExperimentConfig) -> None:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (JudgeError("judge raised"), 1, "error: judge raised\n"),
        (TaskDataError("tasks.jsonl:3: no JSON"), 2, "error: tasks.jsonl:3: no JSON\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_how_a_command_ends_is_its_exit_status(
    error: BaseException, status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(raising(error), [], name="train") == status
    assert capsys.readouterr().err == said


def test_an_unforeseen_failure_shows_where_it_happened(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(raising(ZeroDivisionError("oops")), [], name="train") == 1
    said = capsys.readouterr().err
    assert "Traceback" in said and "oops" in said


@pytest.mark.parametrize("arguments", [["train.stps=3"], ["--frobnicate"], ["--cfg", "hydra"]])
def test_bad_settings_end_before_anything_runs(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(raising(AssertionError("it ran")), arguments, name="train") == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1


def test_a_failed_job_does_not_stop_a_sweep_and_the_worst_status_is_returned() -> None:
    ran: list[int] = []

    def command(config: ExperimentConfig) -> None:
        ran.append(config.seed)
        if config.seed == 2:
            raise JudgeError("seed 2 fails")

    assert run_command(command, ["--multirun", "seed=1,2,3"], name="train") == ExitStatus.FAILED
    assert ran == [1, 2, 3]
    assert run_command(command, ["-m", "seed=2,-1,4"], name="train") == ExitStatus.UNUSABLE_INPUT
    assert ran == [1, 2, 3, 2, 4]


def test_ctrl_c_ends_a_sweep() -> None:
    jobs: list[int] = []

    def command(config: ExperimentConfig) -> None:
        jobs.append(config.seed)
        raise KeyboardInterrupt

    assert run_command(command, ["--multirun", "seed=1,2"], name="train") == 130
    assert jobs == [1]


def test_printing_the_settings_runs_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["seed=5", "--cfg", "job"]
    assert run_command(raising(AssertionError("it ran")), arguments, name="train") == 0
    assert capsys.readouterr().out == config_yaml(compose_experiment(["seed=5"]))


def test_help_lists_options_and_settings_even_where_one_must_still_be_set() -> None:
    text = settings_help(["env=custom", "algo=ppo"], command="train")
    assert "env=appworld [custom] gsm8k" in text
    assert "algo=cispo dapo dr_grpo grpo gspo [ppo] reinforce_pp rloo sft" in text
    assert "env.workflow=(must be set)" in text
    assert "algo.discount=1.0" in text
    assert all(group in group_options() for group in SCHEMAS)


@pytest.mark.parametrize(
    ("main", "name"),
    [(evaluate.main, "evaluate"), (play.main, "play"), (replay.main, "replay")],
)
def test_the_help_of_a_command_says_how_that_command_is_called(
    main: Callable[[list[str]], int], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"usage: astuner {name} ") and "run=<run folder>" in lines[0]
    assert not [line for line in lines if "astuner train" in line]
    assert any(line.startswith("  seed=0") for line in lines)


def nested_schemas(schema: type) -> list[type]:
    inner = [field.default_factory for field in fields(schema)]
    return [schema, *(each for each in inner if isinstance(each, type) and is_dataclass(each))]


CHOSEN = [schema for group in SCHEMAS.values() for schema in group.values()]
INSTALLED = [point.load() for point in entry_points(group=ENTRY_POINT_GROUP)]
SCHEMA_CLASSES = {
    each for schema in [ExperimentConfig, *CHOSEN, *INSTALLED] for each in nested_schemas(schema)
}


@pytest.mark.parametrize("schema", sorted(SCHEMA_CLASSES, key=lambda each: each.__name__))
def test_every_setting_is_documented(schema: type) -> None:
    sections = {f.name for f in fields(schema) if f.default_factory in SCHEMA_CLASSES}
    undocumented = {f.name for f in fields(schema)} - set(field_docs(schema)) - sections
    assert undocumented == set()


def test_a_signal_ends_the_process_with_130() -> None:
    script = (
        "import os, signal, sys\n"
        "from astuner_rl.command import run_command\n"
        "stop = lambda config: os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.exit(run_command(stop, [], name='train'))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert done.returncode == 130


def test_composing_leaves_no_file_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_command(lambda config: None, ["-m", "seed=1,2"], name="train") == 0
    assert list(tmp_path.iterdir()) == []


def test_a_run_folder_is_kept_as_an_absolute_path() -> None:
    assert RunConfig(dir="~/runs").dir == str(Path.home() / "runs")


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [([], 0, "astuner train"), (["--help"], 0, "astuner train"), (["tarin"], 2, "'tarin'")],
)
def test_the_console_command_names_its_commands(
    arguments: list[str],
    status: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["astuner", *arguments])
    assert cli.main() == status
    output = capsys.readouterr()
    assert said in (output.err if status else output.out)


SETTINGS = "from dataclasses import dataclass\n@dataclass\nclass MyConfig:\n    size: int = 3\n"
TRAINABLE = "    trainable: list[str] | None = None\n"
BUILD = "    def build(self): ...\n"


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, *, module: str) -> None:
    """Put a package on the import path that announces the environment ``mine``."""
    (folder / "my_package.py").write_text(module, encoding="utf-8")
    announced = folder / "my_package-1.0.dist-info"
    announced.mkdir()
    (announced / "METADATA").write_text("Name: my-package\nVersion: 1.0\n", encoding="utf-8")
    (announced / "entry_points.txt").write_text(
        "[astuner.envs]\nmine = my_package:MyConfig\n", encoding="utf-8"
    )
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "my_package", raising=False)


def test_an_installed_package_adds_an_environment_with_its_own_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch, module=SETTINGS + TRAINABLE + BUILD)
    config = compose_experiment(["env=mine", "env.size=5"])
    assert config.env.size == 5
    assert config.choices["env"] == "mine"
    with pytest.raises(SettingError, match=r"env\.size must be of type int, got 'big'"):
        compose_experiment(["env=mine", "env.size=big"])


@pytest.mark.parametrize(
    ("module", "said"),
    [
        ("import no_such_package\n", "cannot be imported: ModuleNotFoundError"),
        ("MyConfig = 3\n", "must name a dataclass of settings"),
        (SETTINGS + BUILD, "MyConfig lacks trainable; add 'trainable: list[str] | None = None' to"),
        (SETTINGS + TRAINABLE, "MyConfig lacks build; add 'def build(self)' to it"),
        (SETTINGS, "MyConfig lacks build and trainable; add 'def build(self)' and 'trainable:"),
    ],
)
def test_a_broken_package_is_named(
    module: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch, module=module)
    message = refusal()
    assert "'mine' (my_package:MyConfig)" in message and said in message


def test_jobs_of_a_sweep_share_a_group_and_the_users_own_wins() -> None:
    groups: list[str | None] = []

    def command(config: ExperimentConfig) -> None:
        groups.append(config.logger.group)

    run_command(command, ["--multirun", "seed=1,2"], name="train")
    run_command(command, ["--multirun", "seed=1,2", "logger.group=mine"], name="train")
    run_command(command, [], name="train")
    assert groups[0] == groups[1]
    assert groups[0] is not None and groups[0].startswith("sweep-")
    assert groups[2:] == ["mine", "mine", None]
