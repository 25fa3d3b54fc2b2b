"""The controls, driven without a browser. What they show is computed another way here."""

import html
import html.parser
import math
import re
import threading

import brute_force
import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
import pytest
import tensorflow as tf
from own_environments import Subsets

from gfn_utils import Conditional, GFNAgent, HyperGrid, evaluation
from gfn_utils.classroom import plotting, widgets
from gfn_utils.policy import tabulate

GRID = HyperGrid(2, 4)
CELLS = brute_force.cells(2, 4)
ENDS = tf.constant([[2, 1], [3, 3], [0, 0]])
SLIDER = ipywidgets.IntSlider()


@pytest.fixture
def agent(randomise):
    return randomise(GFNAgent(GRID, hidden=(8,), seed=0), seed=3)


@pytest.fixture(autouse=True)
def shown(monkeypatch):
    """The bundles that were displayed."""
    bundles = []
    monkeypatch.setattr(widgets, "display", lambda bundle, raw: bundles.append(bundle))
    return bundles


@pytest.fixture
def drawn(monkeypatch):
    """What the figures of `plotting` were asked to draw: (positional, named) arguments."""
    calls = []

    def watch(name):
        figure_of = getattr(plotting, name)

        def watched(*positional, **named):
            calls.append((positional, named))
            return figure_of(*positional, **named)

        monkeypatch.setattr(plotting, name, watched)

    for name in ("distributions", "pipes", "walk", "imbalance_parabola", "noise_floor"):
        watch(name)
    return calls


def player(agent, **settings):
    return widgets.trajectory_player(agent, agent.sample_backward(ENDS), **settings)


def loss_sliders(agent):
    return widgets.loss_sliders(agent, agent.sample_backward(ENDS[:1]), step=1)


def noise_floor_slider(agent):
    return widgets.noise_floor_slider(agent.env)


CONTROLS = [
    player,
    widgets.exploration_slider,
    widgets.pipes_slider,
    loss_sliders,
    noise_floor_slider,
]
every_control = pytest.mark.parametrize("build", CONTROLS, ids=lambda build: build.__name__)


def parts(control):
    yield control
    for child in getattr(control, "children", ()):
        yield from parts(child)


def part(control, description):
    """The slider whose description begins like this."""
    [found] = [
        each for each in parts(control) if getattr(each, "description", "").startswith(description)
    ]
    return found


def picture(control):
    [found] = [each for each in parts(control) if isinstance(each, widgets.Picture)]
    return found


def said(control):
    """The numbers beside the picture, one line each."""
    [found] = [each for each in parts(control) if type(each) is ipywidgets.HTML]
    return html.unescape(found.value.replace("<br>", "\n"))


def number(control, before):
    """The number that the text has after these words."""
    found = re.search(re.escape(before) + r"\s*(−?[\d.]+)", said(control))
    assert found, f"{before!r} is not in {said(control)!r}"
    return float(found[1].replace("−", "-"))


def alt(control_picture):
    """The text that a browser would take for the picture's."""
    found = []
    parser = html.parser.HTMLParser()
    parser.handle_starttag = lambda tag, attributes: found.append((tag, dict(attributes)))
    parser.feed(control_picture.value)
    [(tag, attributes)] = found
    assert tag == "img"
    return attributes["alt"]


def policies(agent):
    """P_F and P_B of the agent's logits as plain dictionaries."""
    forward, backward = (head.numpy() for head in agent.policy(GRID.encode(GRID.states())))
    return (
        brute_force.forward_policy(2, 4, forward),
        brute_force.backward_policy(2, 4, backward),
    )


def uniform(policy):
    return {cell: dict.fromkeys(row, 1 / len(row)) for cell, row in policy.items() if row}


@every_control
def test_a_control_is_one_output_in_three_forms(build, agent, shown):
    control = build(agent)
    [bundle] = shown
    view = bundle["application/vnd.jupyter.widget-view+json"]
    assert view == {"version_major": 2, "version_minor": 0, "model_id": control.model_id}
    assert bundle["image/png"] == picture(control).png
    assert bundle["image/png"].startswith(b"\x89PNG")
    text = bundle["text/plain"]
    assert text.startswith("Control (run this cell to use it)")
    for line in [alt(picture(control)), *re.sub("</?p>", "", said(control)).splitlines()]:
        assert line in text, "what is beside the picture is not in its text"


@every_control
def test_every_input_has_a_label_and_every_picture_a_text(build, agent):
    control = build(agent)
    inputs = [each for each in parts(control) if each.has_trait("description")]
    inputs = [each for each in inputs if type(each) not in (ipywidgets.HTML, widgets.Picture)]
    assert inputs
    for each in inputs:
        assert each.description
        # A redraw for every pixel of a drag would come too late. (Play has no such setting.)
        assert getattr(each, "continuous_update", False) is False
    assert alt(picture(control))


def test_a_text_with_any_characters_reaches_the_reader():
    shown_picture = widgets.Picture()
    shown_picture.show(plt.figure(), 'P_B < ½ & "more"')
    assert alt(shown_picture) == 'P_B < ½ & "more"'
    assert plt.get_fignums() == []


def test_no_figure_is_left_for_the_notebook_to_show_again(agent):
    for build in CONTROLS:
        build(agent)
    assert plt.get_fignums() == []


def test_one_thread_draws_at_a_time(agent):
    control = widgets.exploration_slider(agent)
    before = picture(control).png
    move = threading.Thread(target=lambda: part(control, "exploration").set_trait("value", 1.0))
    with widgets.DRAWING:
        move.start()
        move.join(0.5)
        assert move.is_alive()
        assert picture(control).png == before
    move.join()
    assert picture(control).png != before


@pytest.mark.parametrize("backward", [False, True])
def test_the_player_tells_every_step_of_a_trajectory(agent, backward, drawn):
    trajectories = agent.sample_backward(ENDS)
    control = widgets.trajectory_player(agent, trajectories, backward=backward)
    p_forward, p_backward = policies(agent)
    log_z = float(agent.log_z)
    for row in range(3):
        part(control, "trajectory").value = row
        actions = [action for action in trajectories.actions[row].numpy() if action >= 0]
        n = len(actions)
        cells = [tuple(cell) for cell in trajectories.states[row, :n].numpy().tolist()]
        steps_f = [math.log(p_forward[c][a]) for c, a in zip(cells, actions, strict=True)]
        steps_b = [math.log(p_backward[cells[t + 1]][actions[t]]) for t in range(n - 1)] + [0.0]
        assert part(control, "step").max == part(control, "play").max == n
        log_reward = math.log(brute_force.reward(cells[-1], 4))
        for t in range(n + 1):
            part(control, "step").value = t
            done = slice(n - t, n) if backward else slice(0, t)
            sum_f, sum_b = sum(steps_f[done]), sum(steps_b[done])
            account = log_reward + sum_b - sum_f if backward else log_z + sum_f - sum_b
            assert number(control, "Σ log P_F =" if backward else "Σ log P_B =") == near(account)
            for name, total, steps in (("F", sum_f, steps_f), ("B", sum_b, steps_b)):
                line = re.search(f"log P_{name}: .*", said(control))[0].replace("−", "-")
                told = [float(each) for each in re.findall(r"-?\d+\.\d+", line)]
                latest = [steps[n - t] if backward else steps[t - 1]] if t else []
                assert told == near([*latest, total])
            here = cells[min(n - max(t, 1), n - 1)] if backward else cells[min(t, n - 1)]
            assert tuple(drawn[-1][0][1][-1]) == here
            assert f"4 × 4 cells with a trajectory to {cells[-1]}, so far" in alt(picture(control))
            assert alt(picture(control)).endswith(f"{here}.")
        delta = log_z + sum(steps_f) - log_reward - sum(steps_b)
        assert number(control, "imbalance δ =") == near(delta)


def test_distributions_end_at_the_highest_target_and_the_bar_says_what_is_beyond():
    rewards = np.array([float(brute_force.reward(cell, 4)) for cell in CELLS])
    target = rewards / rewards.sum()
    at_origin = np.eye(16)[0]
    for named, beyond in (
        ({"target": target, "learned": at_origin}, "max"),
        ({"untrained": at_origin}, "max"),
        ({"even": np.full(16, 1 / 16)}, "neither"),
    ):
        figure = plotting.distributions(GRID, **named)
        maps = [ax.images[0] for ax in figure.axes[: len(named)]]
        for each in maps:
            assert each.get_clim() == pytest.approx((0, target.max()))
        assert maps[-1].colorbar.extend == beyond
    plt.close("all")


def near(value):
    """Equal to the three digits that are shown."""
    return pytest.approx(value, abs=5.1e-4)


def test_the_player_draws_the_probabilities_of_what_comes_next(agent, drawn):
    p_forward, p_backward = policies(agent)
    path = agent.sample_backward(tf.constant([[2, 1]]))
    control = widgets.trajectory_player(agent, path, step=1)
    here = tuple(path.states[0, 1].numpy())
    (_, _, moves, stop, backward, _), _ = drawn[-1]
    assert [*moves, stop] == pytest.approx([p_forward[here].get(a, 0) for a in range(3)])
    assert not backward
    part(control, "step").value = 4
    (_, _, moves, stop, _, _), _ = drawn[-1]
    assert [*moves, stop] == [0, 0, 1], "it has stopped"

    widgets.trajectory_player(agent, path, backward=True)
    (_, _, moves, stop, backward, _), _ = drawn[-1]
    assert ([*moves, stop], backward) == ([0, 0, 1], True), "first the stop is undone"
    widgets.trajectory_player(agent, path, backward=True, step=1)
    (_, passed, moves, stop, _, _), _ = drawn[-1]
    assert [*moves, stop] == pytest.approx([p_backward[2, 1][0], p_backward[2, 1][1], 0])
    np.testing.assert_array_equal(passed, [[2, 1], [2, 1]])


def test_another_trajectory_begins_at_its_start(agent):
    control = player(agent)
    part(control, "trajectory").value = 1
    part(control, "step").value = 6
    before = picture(control).png
    part(control, "trajectory").value = 2
    assert (part(control, "step").value, part(control, "step").max) == (0, 1)
    assert "step 0 of 1, in cell (0, 0)" in said(control)
    assert picture(control).png != before


def test_a_policy_table_is_played_with_a_given_log_z(agent):
    key, log_z = evaluation.answer_key(GRID, tabulate(GRID, agent.log_policy).log_pb)
    control = widgets.trajectory_player(key, agent.sample_backward(ENDS), log_z=log_z, step=4)
    assert number(control, "imbalance δ =") == 0
    assert "−0.000" not in said(control)


@pytest.mark.parametrize("gamma", [0.0, 0.35, 1.0])
def test_ends_under_exploration_are_those_of_every_trajectory_added_up(gamma, agent, drawn):
    control = widgets.exploration_slider(agent)
    part(control, "exploration").value = gamma
    p_forward, _ = policies(agent)
    blind = uniform(p_forward)
    mixed = {
        cell: {a: (1 - gamma) * row[a] + gamma * blind[cell][a] for a in row}
        for cell, row in p_forward.items()
    }
    expected = brute_force.terminating_distribution(2, 4, mixed)
    target = np.array([float(brute_force.reward(cell, 4)) for cell in CELLS])
    named = drawn[-1][1]
    np.testing.assert_allclose(named.pop("target"), target / target.sum())
    np.testing.assert_allclose(named[f"ends with γ = {gamma:.2f}"], expected, rtol=1e-9)
    l1 = sum(abs(p - q) for p, q in zip(expected, target / target.sum(), strict=True))
    assert number(control, "to the target:") == near(l1)
    at_modes = sum(p for p, r in zip(expected, target, strict=True) if r == max(target))
    assert number(control, "at a mode:") == near(at_modes)
    assert number(control, "at the origin:") == near(expected[0])


@pytest.mark.parametrize("w", [0.0, 0.4, 1.0])
def test_pipes_conserve_flow_and_follow_the_mixed_backward_policy(w, agent, drawn):
    control = widgets.pipes_slider(agent)
    part(control, "w").value = w
    (key, z, *_), _ = drawn[-1]
    assert z == pytest.approx(sum(float(brute_force.reward(cell, 4)) for cell in CELLS))
    edge = dict(zip(CELLS, evaluation.flows(key, z).edge, strict=True))
    _, learned = policies(agent)
    blind = uniform(learned)
    for cell in CELLS:
        assert edge[cell][2] == pytest.approx(float(brute_force.reward(cell, 4)))
        inflow = {
            action: edge[parent][action] for action, parent in brute_force.parents(cell).items()
        }
        total = sum(inflow.values()) if inflow else z
        assert total == pytest.approx(sum(edge[cell])), "what comes in leaves"
        for action in inflow:
            share = (1 - w) * blind[cell][action] + w * learned[cell][action]
            assert inflow[action] / total == pytest.approx(share)
    assert number(control, "start to the right") == pytest.approx(edge[0, 0][0], abs=0.0051)
    assert number(control, "the tap that differs most: by") == 0
    moved = number(control, "differs most from uniform P_B's: by")
    assert (moved == 0) == (w == 0)


def test_the_loss_and_its_slopes_are_those_of_finite_differences(agent, drawn):
    path = agent.sample_backward(ENDS[:1])
    control = widgets.loss_sliders(agent, path, step=1)
    log_z, probability = part(control, "log Z"), part(control, "P_F of action 2 of 4")
    p_forward, p_backward = policies(agent)
    cells, actions = (
        [tuple(c) for c in path.states[0, :4].numpy().tolist()],
        path.actions[0].numpy(),
    )
    assert probability.value == pytest.approx(p_forward[cells[1]][actions[1]])
    assert log_z.value == float(agent.log_z)

    def delta_of(z, p):
        forward = [p_forward[cells[t]][actions[t]] if t != 1 else p for t in range(4)]
        backward = [p_backward[cells[t + 1]][actions[t]] for t in range(3)]
        fixed = math.log(brute_force.reward(cells[-1], 4))
        return z + sum(map(math.log, forward)) - fixed - sum(map(math.log, backward))

    for z, p in [(log_z.value, probability.value), (log_z.min, 0.3), (log_z.max, 0.9)]:
        log_z.value, probability.value = z, p
        delta, step = delta_of(z, p), 1e-4
        assert drawn[-1][0][0] == pytest.approx(delta)
        assert abs(delta) <= drawn[-1][0][1], "the mark is inside the picture"
        assert number(control, "imbalance δ =") == near(delta)
        assert number(control, "loss δ² =") == near(delta**2)
        slope = (delta_of(z + step, p) ** 2 - delta_of(z - step, p) ** 2) / (2 * step)
        assert number(control, "gradient of the loss in log Z:") == near(slope)
        up, down = p * math.exp(step), p * math.exp(-step)
        slope = (delta_of(z, up) ** 2 - delta_of(z, down) ** 2) / (2 * step)
        assert number(control, "and in log P_F of this action:") == near(slope)


def test_perfect_samples_scatter_about_the_floor(drawn):
    target = GRID.target()
    control = widgets.noise_floor_slider(GRID)
    n_draws = 8
    for n in (100, 3000):
        part(control, "number of samples").value = n
        errors = []
        for draw in range(1, n_draws + 1):
            part(control, "draw").value = draw
            maps, curve = drawn[-2:]
            counts = n * maps[1][f"{n:,} samples of it"]
            np.testing.assert_allclose(counts, np.round(counts), atol=1e-9)
            assert counts.sum() == pytest.approx(n)
            errors.append(np.abs(counts / n - target).sum())
            assert number(control, "L1 error of this sample:") == near(errors[-1])
            assert curve[0][1:3] == (n, pytest.approx(errors[-1]))
        assert len(set(errors)) == n_draws
        floor = number(control, "the noise floor:")
        assert curve[0][0][n] == near(floor)
        # Seeded: about one run in 70 would fail were it not.
        assert abs(np.mean(errors) - floor) < 4 * np.std(errors) / math.sqrt(n_draws)


def test_the_condition_is_what_the_sliders_say(drawn, shown):
    conditional = Conditional(
        GRID,
        [[1.0, 0.5], [2.0, 0.5]],
        lambda states, c: c[:, 0] * GRID.log_reward(states) + c[:, 1],
    )
    trained = GFNAgent(conditional, hidden=(8,), seed=0)
    control = widgets.condition_sliders(
        trained, {"power": (0.0, 3.0, 1.0), "level": (0.0, 1.0, 0.5)}, lambda v: [v[0], v[1] / 2]
    )
    part(control, "power").value = 2.4
    part(control, "level").value = 0.8
    given = trained.given([2.4, 0.4])
    reward = np.exp(2.4 * np.asarray(GRID.log_reward(GRID.states())) + 0.4)
    named = drawn[-1][1]
    np.testing.assert_allclose(named["target"], reward / reward.sum())
    np.testing.assert_allclose(named["learned"], evaluation.terminating_distribution(given))
    assert number(control, "exact log Z:") == pytest.approx(np.log(reward.sum()), abs=0.006)
    off = np.abs(named["target"] - named["learned"]).sum() / 2
    assert number(control, "total variation [measured here:") == pytest.approx(off, abs=0.006)


def test_condition_sliders_need_an_agent_with_conditions_on_a_grid(agent):
    with pytest.raises(TypeError, match=r"agent\.env must be a Conditional"):
        widgets.condition_sliders(agent, {"power": (0.0, 3.0, 1.0)})
    words = Conditional(Subsets(), [[1.0]], lambda states, c: c[:, 0])
    with pytest.raises(ValueError, match=r"agent\.env\.base"):
        widgets.condition_sliders(GFNAgent(words, hidden=(4,)), {"power": (0.0, 3.0, 1.0)})


def test_a_control_keeps_the_agent_as_it_was(agent, randomise, drawn):
    control = widgets.exploration_slider(agent)
    before = drawn[-1][1]["ends with γ = 0.00"]
    randomise(agent, seed=8)
    part(control, "exploration").value = 0.5
    part(control, "exploration").value = 0.0
    np.testing.assert_array_equal(drawn[-1][1]["ends with γ = 0.00"], before)


def test_what_is_out_of_bounds_is_named(agent):
    path = agent.sample_backward(ENDS)
    table = tabulate(GRID, agent.log_policy)
    cases = [
        (lambda: widgets.exploration_slider(GRID), TypeError, "agent must be a GFNAgent or"),
        (lambda: widgets.exploration_slider(agent, gamma=1.5), ValueError, "gamma must be"),
        (lambda: widgets.noise_floor_slider(agent), TypeError, "env must be an Environment"),
        (lambda: widgets.trajectory_player(agent, ENDS), TypeError, "trajectories must be Traj"),
        (lambda: widgets.trajectory_player(table, path), TypeError, "which knows log Z"),
        (lambda: widgets.trajectory_player(agent, path, step=5), ValueError, "step must be"),
        (lambda: widgets.loss_sliders(agent, path), ValueError, "exactly one, got 3"),
        (lambda: widgets.loss_sliders(agent, ENDS), TypeError, "trajectory must be Trajectories"),
        (lambda: widgets.pipes_slider(GFNAgent(Subsets())), ValueError, "to be drawn"),
        (lambda: widgets.noise_floor_slider(HyperGrid(3, 4)), ValueError, "to be drawn"),
        (lambda: widgets.noise_floor_slider(HyperGrid(2, 4000)), ValueError, "small enough"),
        (lambda: widgets.pipes_slider(GFNAgent(HyperGrid(3, 4))), ValueError, "agent.env must be"),
        (lambda: widgets.pipes_slider(None), TypeError, "agent must be .* got None"),
        (lambda: widgets.trajectory_player(agent, path, "no"), TypeError, "backward must be True"),
        (lambda: widgets.trajectory_player(agent, path, log_z="2"), TypeError, "log_z must be"),
        (lambda: widgets.Picture().show("a", "b"), TypeError, "figure must be a matplotlib"),
        (lambda: widgets.new_figure(True, 3.0), TypeError, "width must be a number"),
        (lambda: widgets.new_figure(3.0, 1e30), ValueError, "height must be .*at most 100"),
        (lambda: widgets.display_control(None, b"", ""), TypeError, "control must be a widget"),
        (lambda: widgets.display_control(SLIDER, "", ""), TypeError, "png must be the bytes"),
        (lambda: widgets.display_control(SLIDER, b"", None), TypeError, "text must be a string"),
    ]
    for build, error, message in cases:
        with pytest.raises(error, match=message):
            build()


def test_trajectories_of_another_environment_are_refused(agent):
    elsewhere = GFNAgent(HyperGrid(2, 8)).sample_backward(tf.constant([[7, 7]]))
    with pytest.raises(ValueError, match=r"trajectories.terminal\[0\] must be a state"):
        widgets.trajectory_player(agent, elsewhere)
