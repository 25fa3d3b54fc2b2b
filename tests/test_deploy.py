"""The files in deploy/ say what the workers of one run need, and agree with each other."""

import json
import os
import pathlib
import signal
import subprocess
import time
import tomllib

import pytest
import yaml

DEPLOY = pathlib.Path(__file__).parent.parent / "deploy"
JOB = {each["kind"]: each for each in yaml.safe_load_all((DEPLOY / "kubernetes-job.yaml").open())}
TFJOB = yaml.safe_load((DEPLOY / "tfjob.yaml").open())
TEMPLATES = {
    "job": JOB["Job"]["spec"]["template"],
    "tfjob": TFJOB["spec"]["tfReplicaSpecs"]["Worker"]["template"],
}


def container(template):
    [only] = template["spec"]["containers"]
    return only


def put_program(folder, name, lines):
    """A program of this name that runs these lines of shell."""
    (folder / name).write_text(f"#!/bin/sh\n{lines}\n")
    (folder / name).chmod(0o755)


def environment(template):
    return {each["name"]: each["value"] for each in container(template)["env"]}


@pytest.mark.parametrize("index", [0, 3])
def test_each_pod_of_the_job_works_out_its_own_tf_config(index, tmp_path):
    put_program(
        tmp_path, "python", 'printf "%s" "$TF_CONFIG" > config\nprintf "%s" "$*" > arguments'
    )
    template = TEMPLATES["job"]
    command = [*container(template)["command"], *container(template)["args"]]
    of_pod = environment(template) | {"JOB_COMPLETION_INDEX": str(index)}
    path = f"{tmp_path}:{os.environ['PATH']}"
    subprocess.run(command, cwd=tmp_path, env=of_pod | {"PATH": path}, check=True, timeout=20)
    names = [f"gfn-{number}.gfn:2222" for number in range(4)]
    assert json.loads((tmp_path / "config").read_text()) == {
        "cluster": {"worker": names},
        "task": {"type": "worker", "index": index},
    }
    arguments = (tmp_path / "arguments").read_text().split()
    assert arguments[:2] == ["-m", "gfn_utils.distributed_example"]
    assert arguments[2:] == container(TEMPLATES["tfjob"])["args"]


def test_the_names_of_the_workers_lead_to_the_pods():
    job, service = JOB["Job"], JOB["Service"]
    assert job["metadata"]["name"] == "gfn"  # a pod's name is this and its index
    assert job["spec"]["completionMode"] == "Indexed"
    assert job["spec"]["template"]["spec"]["subdomain"] == service["metadata"]["name"] == "gfn"
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True
    [port] = service["spec"]["ports"]
    assert port["port"] == 2222
    labels = TEMPLATES["job"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()


def test_all_workers_run_at_once_and_their_number_is_the_same_everywhere():
    spec = JOB["Job"]["spec"]
    workers = int(environment(TEMPLATES["job"])["WORKERS"])
    assert spec["completions"] == spec["parallelism"] == workers
    assert TFJOB["spec"]["tfReplicaSpecs"]["Worker"]["replicas"] == workers


def test_one_death_restarts_all_and_counts_once():
    spec = JOB["Job"]["spec"]
    assert spec["template"]["spec"]["restartPolicy"] == "Never"  # else podFailurePolicy is refused
    assert spec["podReplacementPolicy"] == "Failed"
    # Counted for each worker: else those that do not count make every restart wait too.
    assert "backoffLimit" not in spec
    assert (spec["backoffLimitPerIndex"], spec["maxFailedIndexes"]) == (6, 0)
    assert spec["successPolicy"]["rules"] == [{"succeededIndexes": "0"}]  # who writes is done
    actions = {}
    for rule in spec["podFailurePolicy"]["rules"]:
        for code in rule.get("onExitCodes", {}).get("values", ["disrupted"]):
            actions[code] = rule["action"]
    assert actions == {"disrupted": "Ignore", 75: "Ignore", 2: "FailJob"}
    assert TFJOB["spec"]["tfReplicaSpecs"]["Worker"]["restartPolicy"] == "OnFailure"


@pytest.mark.parametrize("name", TEMPLATES)
def test_pods_run_without_rights_and_keep_what_they_write_on_the_shared_volume(name):
    spec, only = TEMPLATES[name]["spec"], container(TEMPLATES[name])
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] > 0
    assert spec["automountServiceAccountToken"] is False
    assert only["securityContext"]["allowPrivilegeEscalation"] is False
    assert only["securityContext"]["capabilities"]["drop"] == ["ALL"]
    assert only["resources"]["requests"] == only["resources"]["limits"]
    assert (
        environment(TEMPLATES[name])["TF_NUM_INTRAOP_THREADS"] == only["resources"]["limits"]["cpu"]
    )
    mounted = {each["name"]: each["mountPath"] for each in only["volumeMounts"]}
    assert mounted == {"runs": "/runs", "tmp": "/tmp"}
    claims = {each["name"]: each.get("persistentVolumeClaim") for each in spec["volumes"]}
    claim = JOB["PersistentVolumeClaim"]
    assert claims["runs"] == {"claimName": claim["metadata"]["name"]}
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]


@pytest.mark.parametrize("name", TEMPLATES)
def test_only_workers_can_reach_workers(name):
    policy = JOB["NetworkPolicy"]["spec"]
    [rule] = policy["ingress"]
    for selector in (policy["podSelector"], rule["from"][0]["podSelector"]):
        assert selector["matchLabels"].items() <= TEMPLATES[name]["metadata"]["labels"].items()
    assert policy["policyTypes"] == ["Ingress"]


def start_batch_file(folder, srun):
    """The batch file, as Slurm starts it, where `srun` is these lines of shell."""
    put_program(folder, "srun", f'printf "%s\\n" "$https_proxy$*" >> calls\n{srun}')
    put_program(folder, "scontrol", 'printf "%s" "$*" > scontrol.asked')
    put_program(folder, "sleep", "")
    of_job = {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "gfn", "SLURM_CPUS_PER_TASK": "8"}
    path = f"{folder}:{os.environ['PATH']}"
    return subprocess.Popen(
        ["bash", DEPLOY / "slurm.sbatch"],
        cwd=folder,
        env=of_job | {"PATH": path, "https_proxy": "proxy:3128"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


@pytest.mark.parametrize(
    ("codes", "ends_with"),
    [([0], 0), ([75, 137, 0], 0), ([2], 2), ([1] * 5, 1)],
    ids=["done", "workers lost twice", "wrong arguments", "an error that stays"],
)
def test_the_batch_file_of_slurm_starts_all_again_unless_it_is_of_no_use(
    codes, ends_with, tmp_path
):
    by_call = "\n".join(f"{n}) exit {code};;" for n, code in enumerate(codes, 1))
    job = start_batch_file(tmp_path, f"case $(wc -l < calls) in {by_call} esac")
    assert job.wait(timeout=60) == ends_with
    calls = (tmp_path / "calls").read_text().splitlines()
    assert len(calls) == len(codes)
    for call in calls:  # no proxy comes first
        assert call.startswith("--cpus-per-task=8 --kill-on-bad-exit=1 ")
        assert "--checkpoint runs/gfn/run.npz" in call
    assert (tmp_path / "runs" / "gfn").is_dir()


def test_the_batch_file_of_slurm_goes_back_into_the_queue_when_its_time_is_over(tmp_path):
    job = start_batch_file(tmp_path, "exec tail -f /dev/null")
    try:
        deadline = time.monotonic() + 60
        while not (tmp_path / "calls").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        job.send_signal(signal.SIGUSR1)  # what "--signal=B:USR1@120" asks Slurm for
        assert job.wait(timeout=60) == 0
        assert (tmp_path / "scontrol.asked").read_text() == "requeue 7"
    finally:
        os.killpg(job.pid, signal.SIGKILL)  # with what plays srun


def test_the_image_has_the_version_of_the_package_and_all_that_it_copies():
    root = DEPLOY.parent
    version = tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"]
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    image = f"registry.example.com/gfn-utils:{version}"
    assert dockerfile.count(image) == 2  # build and push
    assert {container(template)["image"] for template in TEMPLATES.values()} == {image}
    copied = [line.split()[1:-1] for line in dockerfile.splitlines() if line.startswith("COPY")]
    ignored = (root / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    assert {f"!{name}" for names in copied for name in names} <= set(ignored)


def test_the_objects_that_the_tfjob_needs_can_be_made_without_the_job():
    shared = {kind for kind, each in JOB.items() if "part" in each["metadata"].get("labels", {})}
    assert shared == {"NetworkPolicy", "PersistentVolumeClaim"}
