"""Tree attention is dense attention with the forest's mask, and a forest is its dense rows."""

from __future__ import annotations

import copy
import weakref

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers import PreTrainedModel

from astuner_rl.learning import tree_attention
from astuner_rl.learning.critic import ValueNetwork
from astuner_rl.learning.forest_layout import call_rows, forest_passes
from astuner_rl.learning.layout import Layout, Row, Segment, tokens_above, trees
from astuner_rl.learning.scoring import read_logits
from astuner_rl.learning.tree_attention import BLOCK, STRIPE, Part, TreeKeys, TreePlan, parts_of
from astuner_rl.learning.tree_run import TreeRun


def test_the_documented_parts():
    branching = (Segment(0, 600, 640, 0), Segment(600, 620, 620, 600), Segment(620, 640, 640, 600))
    assert parts_of(branching) == [
        Part(0, 600, 0, 600, causal=True, masked=False),
        Part(600, 640, 0, 600, causal=False, masked=False),
        Part(600, 640, 600, 640, causal=False, masked=True),
    ]
    assert parts_of((Segment(0, 20, 20, 600), Segment(20, 40, 40, 600))) == [
        Part(0, 40, 0, 600, causal=False, masked=False),
        Part(0, 40, 600, 640, causal=False, masked=True),
    ]


def test_a_long_prompt_with_a_large_group_needs_no_large_mask():
    prompt, reply, group = 32_768, 400, 64
    end = prompt + group * reply
    replies = [
        Segment(start, start + reply, start + reply, prompt) for start in range(prompt, end, reply)
    ]
    branching = (Segment(0, prompt, end, 0), *replies)
    parts = parts_of(branching)
    assert len(parts) == 2 + group
    masked = [part for part in parts if part.masked]
    assert all(part.stop - part.first <= BLOCK for part in masked)
    assert sum((part.stop - part.first) ** 2 for part in masked) <= end * BLOCK

    near = TreePlan(branching).parts(window=4096)
    assert max(part.stop - part.first for part in near) == STRIPE
    assert max(part.key_stop - part.key_first for part in near if part.masked) <= 4096 + STRIPE


@st.composite
def forests(draw: st.DrawFn) -> list[Row]:
    """Rows of few different tokens, so that they branch and rejoin in every way."""
    rows: list[Row] = []
    slots = 0
    for _ in range(draw(st.integers(1, 6))):
        token_ids = draw(st.lists(st.integers(0, 1), min_size=2, max_size=12))
        reads = sorted(draw(st.sets(st.integers(0, len(token_ids) - 2), min_size=1)))
        rows.append(
            Row(
                token_ids=tuple(token_ids),
                reads=tuple(reads),
                slots=tuple(range(slots, slots + len(reads))),
            )
        )
        slots += len(reads)
    return rows


def dense_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    depths: Tensor,
    branching: tuple[Segment, ...],
    *,
    window: int | None,
) -> Tensor:
    """Attention with one mask; the keys begin with those above."""
    above = key.shape[2] - query.shape[2]
    ends = torch.full((key.shape[2],), len(depths))
    for segment in branching:
        ends[above + segment.start : above + segment.stop] = segment.end
    places = torch.arange(-above, len(depths))
    queries = torch.arange(len(depths))[:, None]
    seen = (places >= 0) & (places <= queries) & (queries < ends)
    for tree in trees(branching):
        seen[tree.start : tree.end, : tree.depth] = True
    if window is not None:
        key_depths = torch.cat([torch.arange(above), depths])
        seen &= depths[:, None] - key_depths < window
    products = query @ key.transpose(-1, -2) * 0.5
    return products.masked_fill(~seen, -torch.inf).softmax(-1) @ value


@settings(deadline=None)
@given(
    rows=forests(),
    block=st.sampled_from([1, 4, 9, BLOCK]),
    stripe=st.sampled_from([1, 3, 512]),
    window=st.sampled_from([None, 1, 3, 7]),
    budget=st.integers(1, 50),
)
def test_output_and_gradients_are_those_of_a_dense_mask(
    rows: list[Row], block: int, stripe: int, window: int | None, budget: int
):
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tree_attention, "BLOCK", block)
        patch.setattr(tree_attention, "STRIPE", stripe)
        for microbatch in forest_passes(rows, microbatch_tokens=budget):
            assert microbatch.branching is not None
            above = tokens_above(microbatch.branching)
            query, key, value, above_key, above_value = tensors = [
                torch.randn(1, heads, tokens, 4, dtype=torch.float64, requires_grad=True)
                for heads, tokens in (
                    (4, microbatch.fed_tokens),
                    (2, microbatch.fed_tokens),
                    (2, microbatch.fed_tokens),
                    (2, above),
                    (2, above),
                )
            ]
            handed_down = [above_key, above_value] if above else []
            plan = TreePlan(microbatch.branching)
            out, _ = tree_attention.tree_attention(
                torch.nn.Identity(),
                query,
                key,
                value,
                None,
                scaling=0.5,
                tree_plan=plan,
                tree_keys=TreeKeys(handed_down),
                sliding_window=window,
            )
            expected = dense_attention(
                query,
                torch.cat([above_key, key], dim=2).repeat_interleave(2, dim=1),
                torch.cat([above_value, value], dim=2).repeat_interleave(2, dim=1),
                microbatch.position_ids[0],
                microbatch.branching,
                window=window,
            ).transpose(1, 2)
            tensors = tensors if above else tensors[:3]
            assert torch.allclose(out, expected, rtol=0, atol=1e-12)
            weight = torch.randn_like(out)
            ours = torch.autograd.grad((out * weight).sum(), tensors)
            theirs = torch.autograd.grad((expected * weight).sum(), tensors)
            for one, other in zip(ours, theirs, strict=True):
                assert torch.allclose(one, other, rtol=0, atol=1e-12)


def loss_and_gradients(
    model: PreTrainedModel, rows: list[Row], layout: Layout, *, budget: int
) -> tuple[float, dict[str, Tensor]]:
    """A loss in which policy and critic have a part, both through all their parameters."""
    policy = copy.deepcopy(model)
    critic = ValueNetwork(policy)
    with torch.no_grad():
        critic.head.weight.copy_(torch.linspace(-1, 1, critic.head.weight.shape[1]))
    slots = sum(len(row.slots) for row in rows)
    total = 0.0
    weights = torch.linspace(0.5, 1, slots, dtype=model.dtype)
    policy_run, critic_run = TreeRun(), TreeRun()
    for microbatch in layout(rows, microbatch_tokens=budget):
        weight = weights[microbatch.slots]
        logprobs = read_logits(policy, microbatch, run=policy_run).log_softmax(-1)[:, 3]
        policy_loss = -(weight * logprobs).sum()
        critic_loss = (weight * critic(microbatch, critic_run).square()).sum()
        policy_run.backward(policy_loss)
        critic_run.backward(critic_loss)
        total += policy_loss.item() + critic_loss.item()
    policy_run.finish()
    critic_run.finish()
    gradients = {
        f"{kind}/{name}": parameter.grad
        for kind, module in (("policy", policy), ("critic", critic))
        for name, parameter in module.named_parameters()
        if parameter.grad is not None
    }
    return total, gradients


def difference(model: PreTrainedModel, rows: list[Row], *, budget: int) -> float:
    """Largest difference between forest and dense rows, relative to the largest gradient."""
    loss, gradients = loss_and_gradients(model, rows, forest_passes, budget=budget)
    dense_loss, dense_gradients = loss_and_gradients(model, rows, call_rows, budget=1)
    assert gradients.keys() == dense_gradients.keys()
    scale = max(gradient.abs().max().item() for gradient in dense_gradients.values())
    largest = abs(loss - dense_loss) / abs(dense_loss)
    for name, gradient in gradients.items():
        apart = (gradient - dense_gradients[name]).abs().max().item()
        largest = max(largest, apart / scale)
    return largest


ANY_FOREST = settings(
    deadline=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@ANY_FOREST
@given(rows=forests(), budget=st.integers(1, 60))
def test_a_forest_has_loss_and_gradients_of_one_dense_row_a_call(
    exact_family: PreTrainedModel, rows: list[Row], budget: int
):
    assert difference(exact_family, rows, budget=budget) < 1e-10


@ANY_FOREST
@given(rows=forests(), budget=st.integers(1, 60))
def test_in_float32_they_agree_up_to_rounding(
    family: PreTrainedModel, rows: list[Row], budget: int
):
    assert difference(family, rows, budget=budget) < 1e-5


def test_the_model_keeps_its_own_attention(family: PreTrainedModel):
    before = family.config._attn_implementation
    (microbatch,) = forest_passes(
        [Row(token_ids=(1, 2, 3), reads=(1,), slots=(0,))], microbatch_tokens=9
    )
    read_logits(family, microbatch)
    assert family.config._attn_implementation == before
    with (
        pytest.MonkeyPatch.context() as patch,
        pytest.raises(ArithmeticError, match="in the middle"),
    ):
        patch.setattr(tree_attention, "parts_of", _fail)
        read_logits(family, microbatch)
    assert family.config._attn_implementation == before
    assert family(torch.tensor([[1, 2, 3]])).logits.shape == (1, 3, 24)


def _fail(_: object) -> None:
    raise ArithmeticError("in the middle")


def test_a_pass_without_what_it_goes_on_from_is_refused(family: PreTrainedModel):
    rows = [Row(token_ids=(1, 2, end, 5), reads=(2,), slots=(end,)) for end in (3, 4)]
    spine, branch = forest_passes(rows, microbatch_tokens=1)
    with pytest.raises(RuntimeError, match="a pass of level 1 goes on from as many passes"):
        read_logits(family, branch)
    with pytest.raises(RuntimeError, match="must be run with them, or their gradient is lost"):
        read_logits(family, spine)
    run = TreeRun()
    read_logits(family, spine, run=run)
    assert read_logits(family, branch, run=run).shape[0] == 1


def test_logprobs_without_gradient_go_on_from_passes_above(family: PreTrainedModel):
    rows = [Row(token_ids=(1, 2, end, 5), reads=(1, 2), slots=(0, 1)) for end in (3, 4)]
    rows[1] = Row(token_ids=(1, 2, 4, 5), reads=(1, 2), slots=(2, 3))
    found = torch.zeros(4, 24)
    with torch.no_grad():
        run = TreeRun()
        for microbatch in forest_passes(rows, microbatch_tokens=1):
            found[microbatch.slots] = read_logits(family, microbatch, run=run)
        whole = torch.cat([family(torch.tensor([row.token_ids[:3]])).logits[0, 1:] for row in rows])
    assert torch.allclose(found, whole, atol=1e-5)


@pytest.mark.parametrize("recompute", [False, True])
def test_nothing_of_a_run_outlives_it(family: PreTrainedModel, recompute: bool):
    """Keys that held their own graph would stay in memory for good, pass after pass."""
    rows = [Row(token_ids=(1, 2, end, 5), reads=(1, 2), slots=(end, 10 + end)) for end in (3, 4)]
    policy = copy.deepcopy(family)
    keys: list[weakref.ref[Tensor]] = []
    run = TreeRun(recompute=recompute)
    with pytest.MonkeyPatch.context() as patch:
        extended = TreeKeys.extended

        def watched(
            own: TreeKeys, layer: nn.Module, key: Tensor, value: Tensor
        ) -> tuple[Tensor, Tensor]:
            keys.extend([weakref.ref(key), weakref.ref(value)])
            return extended(own, layer, key, value)

        patch.setattr(TreeKeys, "extended", watched)
        passes = [
            *forest_passes([rows[0]], microbatch_tokens=9),
            *forest_passes(rows, microbatch_tokens=1),
        ]
        for microbatch in passes:
            run.backward(read_logits(policy, microbatch, run=run).sum())
        run.finish()
    del run
    computed = len(passes) * (2 if recompute else 1)
    assert len(keys) == computed * 2 * policy.config.num_hidden_layers
    assert all(key() is None for key in keys)


def test_a_cut_forest_trains_what_is_not_frozen(family: PreTrainedModel):
    """The lowest layer's keys have no gradient then, those of the others do."""
    rows = [Row(token_ids=(1, 2, end, 5), reads=(1, 2), slots=(end, 10 + end)) for end in (3, 4)]
    policy = copy.deepcopy(family)
    policy.model.embed_tokens.requires_grad_(False)
    policy.model.layers[0].requires_grad_(False)
    gradients = []
    for budget in (1, 9):
        policy.zero_grad()
        run = TreeRun()
        for microbatch in forest_passes(rows, microbatch_tokens=budget):
            run.backward(read_logits(policy, microbatch, run=run).log_softmax(-1)[:, 3].sum())
        run.finish()
        gradients.append(policy.model.layers[1].self_attn.k_proj.weight.grad.clone())
    assert torch.allclose(*gradients, atol=1e-6)
