"""Tests that `make test-thorough` alone runs: each is costly, and its like runs every time.

Most compile a program of their own for one more combination of objective, network and source of
objects. What they ask is asked of other combinations by the tests that `make test` runs.
"""

THOROUGH = {
    "test_dashboard.py": [
        f"test_log_z_is_shown_where_the_objective_learns_it[{objective}]"
        for objective in ("sub_trajectory_balance", "flow_matching", "forward_looking")
    ],
    "test_distributed.py": [
        "test_logical_cpus_give_the_results_of_one[two, more ways to train]",
        "test_logical_cpus_give_the_results_of_one[four]",
        "test_workers_are_killed_and_nothing_is_lost",
    ],
    "test_first_log_z.py": [
        *(
            f"test_a_factor_in_the_reward_changes_nothing_but_log_z[{job}]"
            for job in (
                "offline-trajectory_balance",
                "offline-sub_trajectory_balance",
                "offline-flow_matching",
                "on policy-detailed_balance",
                "on policy-sub_trajectory_balance",
                "on policy-log_variance",
            )
        ),
        *(
            f"test_the_default_job_is_as_exact_on_rewards_of_any_size[{scale}]"
            for scale in ("0.001", "1000.0")
        ),
        "test_ten_of_thirty_things_with_the_defaults",
    ],
    "test_interrupts.py": [
        f"test_an_interrupt_at_any_line_leaves_a_whole_agent[60-{job}]"
        for job in ("train", "train with state flows", "reset", "sample", "save")
    ],
    "test_many_actions.py": ["test_an_agent_trains_with_4096_actions[offline]"],
    "test_objectives.py": [
        *(
            f"test_every_objective_trains_offline[{job}]"
            for job in (
                "trajectory_balance-tabulated",
                "detailed_balance-blockwise",
                "sub_trajectory_balance-blockwise",
                "flow_matching-tabulated",
                "flow_matching-blockwise",
                "log_variance-blockwise",
                "modified_detailed_balance-tabulated",
                "forward_looking-blockwise",
            )
        ),
    ],
    "test_own_network.py": ["test_it_learns_the_grid_of_8_by_8[a convolution]"],
    "test_python_reward.py": [
        f"test_losses_are_those_of_the_compiled_reward_to_the_last_digit[{job}]"
        for job in ("blockwise-offline", "tabulated-on policy", "tabulated-offline")
    ],
    "test_sequences.py": [
        f"test_an_agent_learns_the_target[{job}]"
        for job in (
            "uniform-LeftToRightSequences",
            "learned-EitherEndSequences",
            "uniform-AnyPositionSequences",
        )
    ],
    "test_training.py": [
        f"test_compiled_updates_equal_those_made_by_hand[{job}]"
        for job in (
            "mixed-asked-blockwise",
            "mixed-given rewards-tabulated",
            "given-asked-blockwise",
            "given-given rewards-tabulated",
        )
    ],
    # The document's blocks; what they use is tested piece by piece.
    "test_your_own_problem.py": [
        "test_the_recipes_run_from_top_to_bottom_and_print_what_they_say",
    ],
}
