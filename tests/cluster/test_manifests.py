"""Files for clusters that are not here, checked as far as schemas, linters and stand-ins go."""

import copy
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import ray
import ray.autoscaler
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

import search

CLUSTER = Path(search.__file__).parents[1] / "cluster"
ROOT = CLUSTER.parent
FILES = ("kuberay.yaml", "ray-up-onprem.yaml", "ray-up-aws.yaml", "slurm.sbatch", "Containerfile")
KUBERNETES = "1.32"
DOCUMENTS = [d for d in yaml.safe_load_all((CLUSTER / "kuberay.yaml").read_text()) if d]
OF_KUBERNETES = [d for d in DOCUMENTS if not d["apiVersion"].startswith("ray.io/")]
RAY_CLUSTER, RAY_JOB = (next(d for d in DOCUMENTS if d["kind"] == kind) for kind in ("RayCluster", "RayJob"))


# The fields of KubeRay 1.5 and newer that the file uses, by the path to them.
KUBERAY = {
    ("RayCluster", "spec"): {"rayVersion", "authOptions", "headGroupSpec", "workerGroupSpecs"},
    ("RayCluster", "spec", "authOptions"): {"mode", "secretName"},
    ("RayCluster", "spec", "headGroupSpec"): {"rayStartParams", "template"},
    ("RayCluster", "spec", "workerGroupSpecs", 0): {"rayStartParams", "template", "groupName", "replicas", "minReplicas", "maxReplicas"},
    ("RayJob", "spec"): {"clusterSelector", "entrypoint", "submissionMode", "backoffLimit", "submitterPodTemplate"},
}


def pods() -> list[tuple[str, dict]]:
    """Return every pod template by its name."""
    found = [(d["metadata"]["name"], d["spec"]["template"]) for d in OF_KUBERNETES if "template" in d.get("spec", {})]
    groups = [RAY_CLUSTER["spec"]["headGroupSpec"], *RAY_CLUSTER["spec"]["workerGroupSpecs"]]
    found += [(f"ray-{n}", group["template"]) for n, group in enumerate(groups)]
    return [*found, ("submitter", RAY_JOB["spec"]["submitterPodTemplate"])]


@pytest.mark.parametrize("name", FILES)
def test_each_file_says_what_was_not_run(name):
    head = [line for line in (CLUSTER / name).read_text().splitlines()[:40] if line.startswith("#")]
    assert "What was not run:" in "\n".join(head)


@pytest.mark.parametrize("name", ["ray-up-onprem.yaml", "ray-up-aws.yaml"])
def test_ray_takes_the_cluster_file_alone_and_with_its_defaults(name):
    config = yaml.safe_load((CLUSTER / name).read_text())
    jsonschema.validate(config, json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text()))
    prepared = prepare_config(copy.deepcopy(config))
    validate_config(prepared)
    assert prepared["max_workers"] == config["max_workers"]


@pytest.mark.parametrize("name", ["ray-up-onprem.yaml", "ray-up-aws.yaml"])
def test_every_ray_start_asks_for_the_token_and_shows_the_dashboard_to_this_machine_only(name):
    config = yaml.safe_load((CLUSTER / name).read_text())
    starts = [line for key in ("head_start_ray_commands", "worker_start_ray_commands") for line in config[key] if "ray start" in line]
    assert len(starts) == 2
    assert all("RAY_AUTH_MODE=token" in line for line in starts)
    assert "--dashboard-host=127.0.0.1" in starts[0]
    assert "~/.ray/auth_token" in config["file_mounts"]


@pytest.mark.parametrize("document", OF_KUBERNETES, ids=lambda d: f"{d['kind']} {d['metadata']['name']}")
def test_kubernetes_takes_each_document_to_the_letter(document):
    kubernetes_validate.validate(document, KUBERNETES, strict=True)


@pytest.mark.parametrize(("name", "template"), pods(), ids=lambda p: p if isinstance(p, str) else "")
def test_kubernetes_takes_each_pod_template_and_it_runs_without_rights(name, template):
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, **template.get("metadata", {})}, "spec": template["spec"]}
    kubernetes_validate.validate(pod, KUBERNETES, strict=True)
    assert template["spec"]["securityContext"]["runAsNonRoot"]
    assert not template["spec"]["automountServiceAccountToken"]
    volumes = {volume["name"] for volume in template["spec"].get("volumes", [])} | {"data"}
    assert {mount["name"] for c in template["spec"]["containers"] for mount in c.get("volumeMounts", [])} <= volumes


@pytest.mark.parametrize(("path", "fields"), KUBERAY.items(), ids=lambda p: ".".join(map(str, p)) if isinstance(p, tuple) else "")
def test_the_ray_cluster_and_its_job_have_the_fields_of_kuberay(path, fields):
    found = next(d for d in DOCUMENTS if d["kind"] == path[0])
    for key in path[1:]:
        found = found[key]
    assert set(found) == fields


def test_the_job_runs_on_the_cluster_that_asks_for_a_token_with_the_ray_that_is_installed():
    cluster, job = RAY_CLUSTER["spec"], RAY_JOB["spec"]
    assert job["clusterSelector"] == {"ray.io/cluster": RAY_CLUSTER["metadata"]["name"]}
    assert cluster["authOptions"]["mode"] == "token"
    assert cluster["rayVersion"] == ray.__version__


def test_no_secret_is_in_a_manifest_and_every_one_asked_for_is_made_by_the_commands_in_its_head():
    text = (CLUSTER / "kuberay.yaml").read_text()
    commands = re.sub(r"\\\n#", "", text)
    made = {(name, key) for name, rest in re.findall(r"create secret generic (\S+) (.*)", commands) for key in re.findall(r"--from-literal=(\w+)=", rest)}
    asked = [(e["valueFrom"]["secretKeyRef"]["name"], e["valueFrom"]["secretKeyRef"]["key"]) for _, t in pods() for c in t["spec"]["containers"] for e in c.get("env", []) if "valueFrom" in e]
    asked.append((RAY_CLUSTER["spec"]["authOptions"]["secretName"], "auth_token"))
    assert set(asked) == made
    assert "Secret" not in {d["kind"] for d in DOCUMENTS}
    assert [e for _, t in pods() for c in t["spec"]["containers"] for e in c.get("env", []) if re.search("PASSWORD|TOKEN|KEY", e["name"]) and "value" in e] == []


def test_services_find_their_pods_and_claims_their_volumes():
    labels = [d["spec"]["template"]["metadata"]["labels"] for d in OF_KUBERNETES if "template" in d.get("spec", {})]
    for service in (d for d in OF_KUBERNETES if d["kind"] == "Service"):
        assert service["spec"]["selector"] in labels
        assert service["spec"].get("type", "ClusterIP") == "ClusterIP"
    claims = {d["metadata"]["name"] for d in OF_KUBERNETES if d["kind"] == "PersistentVolumeClaim"}
    used = {v["persistentVolumeClaim"]["claimName"] for _, t in pods() for v in t["spec"].get("volumes", []) if "persistentVolumeClaim" in v}
    assert used == claims


def test_what_the_container_file_copies_is_there_and_it_does_not_run_as_root():
    lines = re.sub(r"\\\n", " ", (CLUSTER / "Containerfile").read_text()).splitlines()
    words = [line.split() for line in lines if line.strip() and not line.startswith("#")]
    copied = [source for line in words if line[0] == "COPY" for source in line[1:-1]]
    assert [source for source in copied if not (ROOT / source).exists()] == []
    assert [line[1] for line in words if line[0] == "USER"] == ["1000:1000"]
    assert {line[0] for line in words} <= {"FROM", "RUN", "WORKDIR", "COPY", "ENV", "USER", "CMD"}


def test_shellcheck_has_nothing_to_say_about_the_slurm_script():
    shellcheck = Path(sys.executable).with_name("shellcheck")
    done = subprocess.run([str(shellcheck), str(CLUSTER / "slurm.sbatch")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


SRUN = """#!/bin/bash
while [ "${1#--}" != "$1" ]; do shift; done
[ "$1" = hostname ] && { echo 127.0.0.1; exit; }
[ "$1" = ray ] && shift && exec PYTHON -m ray.scripts.scripts "$@" --object-store-memory=100000000 --dashboard-agent-listen-port=0
exec "$@"
"""
LAUNCH = """#!PYTHON
import sys, ray
address = sys.argv[sys.argv.index("--address") + 1]
ray.init(address=address, log_to_driver=False, logging_level="error")
print("nodes", len([n for n in ray.nodes() if n["Alive"]]), "words", *sys.argv[1:], flush=True)
sys.exit(int(sys.argv[-1]))
"""


@pytest.mark.slow
def test_the_slurm_script_starts_a_cluster_of_all_nodes_with_a_token_launches_ends_it_and_hands_on_the_status(tmp_path):
    status = 130
    programs = {"srun": SRUN, "scontrol": "#!/bin/sh\nprintf 'one\\ntwo\\n'\n", "ray": '#!/bin/sh\nexec PYTHON -m ray.scripts.scripts "$@"\n', "fgsearch": LAUNCH}
    (tmp_path / "bin").mkdir()
    for name, text in programs.items():
        (tmp_path / "bin" / name).write_text(text.replace("PYTHON", sys.executable))
        (tmp_path / "bin" / name).chmod(0o755)
    slurm = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_JOB_NODELIST": "n[1-2]", "SLURM_CPUS_PER_TASK": "1", "HOME": str(tmp_path), "PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    kept = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    done = subprocess.run(["bash", str(CLUSTER / "slurm.sbatch"), "x.yaml", str(status)], cwd=tmp_path, env=kept | slurm, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    assert "nodes 2 words launch x.yaml --address 127.0.0.1:" in done.stdout
    assert list((tmp_path / "fgsearch-home").glob(".ray-token-*")) == []
