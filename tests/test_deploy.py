"""The files in deploy/ say what the workers of one run need, and agree with each other."""

import json
import os
import pathlib
import stat
import subprocess

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


def environment(template):
    return {each["name"]: each["value"] for each in container(template)["env"]}


@pytest.mark.parametrize("index", [0, 3])
def test_each_pod_of_the_job_works_out_its_own_tf_config(index, tmp_path):
    python = tmp_path / "python"
    python.write_text(
        '#!/bin/sh\nprintf "%s" "$TF_CONFIG" > config\nprintf "%s" "$*" > arguments\n'
    )
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
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


def test_the_batch_file_of_slurm_is_bash():
    subprocess.run(["bash", "-n", DEPLOY / "slurm.sbatch"], check=True, timeout=20)
