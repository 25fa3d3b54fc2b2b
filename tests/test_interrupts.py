"""An interrupt at any moment leaves an agent as it was before or as it is after, never between."""

import functools
import os
import signal
import sys
import threading
import time

import numpy as np
import pytest
from same_agents import everything
from small_jobs import GRID, ON_POLICY, small_agent

import gfn_utils
from gfn_utils import GFNAgent
from gfn_utils.interrupts import interrupts_held_back

PACKAGE = os.path.dirname(gfn_utils.__file__)


@pytest.fixture
def ctrl_c_interrupts():
    """As at a prompt: a shell that starts a program in the background lets it ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupted_at(line, function):
    """Run `function` with a KeyboardInterrupt before the given line that it runs in the package.

    Returns whether it got so far.
    """
    passed = 0

    def trace(frame, event, _):
        nonlocal passed
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        if event == "line":
            passed += 1
            if passed == line:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


def same(found, expected):
    return len(found) == len(expected) and all(
        np.array_equal(a, b) for a, b in zip(found, expected, strict=True)
    )


def jobs(tmp_path):
    """What is interrupted, each on an agent that is trained a little."""
    path = tmp_path / "agent.npz"
    return {
        "train": lambda agent: agent.train(**{**ON_POLICY, "iterations": 7}),
        "train with state flows": lambda agent: agent.train(
            **{**ON_POLICY, "iterations": 7}, objective="detailed_balance"
        ),
        "reset": lambda agent: agent.reset(5),
        "sample": lambda agent: agent.sample(3),
        "save": lambda agent: agent.save(path),
    }


@pytest.mark.parametrize("name", ["train", "train with state flows", "reset", "sample", "save"])
@pytest.mark.parametrize("all_of_the_first", [12, 60])
def test_an_interrupt_at_any_line_leaves_a_whole_agent(name, all_of_the_first, tmp_path):
    job = jobs(tmp_path)[name]
    agent = small_agent()
    agent.save(tmp_path / "before.npz")
    agent.train(**{**ON_POLICY, "iterations": 7})
    agent.save(tmp_path / "trained.npz")

    def fresh():
        return GFNAgent.load(tmp_path / "trained.npz")

    done = fresh()
    job(done)
    allowed = [everything(fresh()), everything(done)]
    if name == "train with state flows":
        grown = fresh()
        grown._add_state_flow()
        allowed.append(everything(grown))
    agent, line = fresh(), 1
    before = agent._held
    while interrupted_at(line, functools.partial(job, agent)):
        found = everything(agent)
        assert any(same(found, whole) for whole in allowed), line
        agent._hold(before)
        line += 1 + line // all_of_the_first  # then ever fewer
    assert line > 20
    agent.train(**{**ON_POLICY, "iterations": 1})  # it was never taken for busy
    leftovers = {path.name for path in tmp_path.iterdir()} - {
        "before.npz",
        "trained.npz",
        "agent.npz",
    }
    assert not leftovers


def test_interrupts_in_a_block_wait_for_its_end(ctrl_c_interrupts):
    done = []

    def work():
        with interrupts_held_back():
            for _ in range(3):
                os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
            done.append(True)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_hundreds_of_interrupts_do_no_harm():
    agent, alone = small_agent(), small_agent()
    main, training, sent, caught = threading.get_ident(), threading.Event(), 0, 0

    def interrupt(*_):
        if training.is_set():  # and nothing else: not this test, nor the one that runs it
            training.clear()
            raise KeyboardInterrupt

    def storm():
        nonlocal sent
        while sent < 400:
            signal.pthread_kill(main, signal.SIGINT)
            sent += 1
            time.sleep(0.003)

    agent.train(**{**ON_POLICY, "iterations": 7})
    before = signal.signal(signal.SIGINT, interrupt)
    thread = threading.Thread(target=storm)
    thread.start()
    while thread.is_alive():
        try:
            training.set()
            agent.train(**{**ON_POLICY, "iterations": 7})
            training.clear()
        except KeyboardInterrupt:
            caught += 1
    thread.join()
    signal.signal(signal.SIGINT, before)
    assert caught > 40
    # It holds the result of so many whole chunks, as an agent does that was never interrupted.
    assert agent.iteration % 7 == 0
    alone.train(**{**ON_POLICY, "iterations": agent.iteration})
    assert same(everything(agent), everything(alone))


def test_an_agent_is_trained_once_at_a_time():
    agent = small_agent()
    refused = []

    def train_again(progress):
        for job in (lambda: agent.train(data=GRID.states(), epochs=1), agent.reset):
            with pytest.raises(RuntimeError, match="must wait: this agent is being trained"):
                job()
            refused.append(job)
        thread = threading.Thread(target=in_thread)
        thread.start()
        thread.join()

    def in_thread():
        with pytest.raises(RuntimeError, match="train must wait"):
            agent.train(**ON_POLICY)
        refused.append("thread")

    agent.train(**{**ON_POLICY, "iterations": 7}, callback=train_again)
    assert len(refused) == 3
    assert agent.iteration == 7
    agent.train(**{**ON_POLICY, "iterations": 7})
    assert agent.iteration == 14
