#!/usr/bin/env python3
"""Compares the ML workloads of forebay-suite with DLIO, on the same files, in the same directory.

Once:
    python3 -m venv /tmp/dlio
    /tmp/dlio/bin/pip install --no-deps dlio-benchmark==2.0.0
    /tmp/dlio/bin/pip install "numpy<2" hydra-core omegaconf pandas h5py psutil pillow mpi4py mpich tensorflow-cpu==2.16.2 torch==2.3.1
    cargo build --release -p forebay-suite --example ml

Then, as root (for the limit of the disk's rate; without, the cases that need it are left out):
    python3 suite/dlio/compare.py --python /tmp/dlio/bin/python --ours target/release/examples/ml --dir /some/dir

DLIO makes the files of each case, both read them, in turn, each time with the page cache emptied of them. A case either has computing that takes longer
than reading ("fed": the storage keeps up) or a disk whose rate is limited ("starved"). The rate is limited by the blkio controller of cgroup v1 for both alike.
"""
import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time

CGROUP = pathlib.Path("/sys/fs/cgroup/blkio/forebay-ml-compare")
SHIM = pathlib.Path(__file__).resolve().parent / "shim"
MIB = 1 << 20

# Files are a tenth of MLPerf's or fewer, so that a case takes seconds. Compute times are in seconds, limits in MiB/s.
CASES = {
    "unet3d fed": dict(workload="unet3d", files=140, samples=1, record=4_000_000, stdev=1_864_713, batch=7, compute=0.300, threads=4, limit=None),
    "unet3d starved": dict(workload="unet3d", files=140, samples=1, record=4_000_000, stdev=1_864_713, batch=7, compute=0.100, threads=4, limit=100),
    "resnet50 fed": dict(workload="resnet50", files=40, samples=300, record=114_660, stdev=0, batch=100, compute=0.200, threads=8, limit=None),
    "resnet50 starved": dict(workload="resnet50", files=40, samples=300, record=114_660, stdev=0, batch=100, compute=0.050, threads=8, limit=100),
    "cosmoflow fed": dict(workload="cosmoflow", files=200, samples=1, record=2_828_486, stdev=71_311, batch=1, compute=0.040, threads=4, limit=None),
    "cosmoflow starved": dict(workload="cosmoflow", files=200, samples=1, record=2_828_486, stdev=71_311, batch=1, compute=0.010, threads=4, limit=100),
    # MLPerf's own batch and time: what DLIO costs the processor shows where a step is this short.
    "cosmoflow h100": dict(workload="cosmoflow", files=600, samples=1, record=2_828_486, stdev=71_311, batch=1, compute=0.0035, threads=4, limit=None),
}


def wait_for_quiet():
    while os.path.exists("/tmp/quiet"):
        time.sleep(5)


def evict(root):
    for path in root.rglob("*"):
        if path.is_file():
            fd = os.open(path, os.O_RDONLY)
            os.fsync(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(fd)


def disk_of(path):
    """major:minor of the disk, not of its partition."""
    device = os.stat(path).st_dev
    link = pathlib.Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve()
    disk = link.parent if (link / "partition").exists() else link
    return (disk / "dev").read_text().strip()


class Limit:
    """A rate of reading that a process and its children do not exceed."""

    def __init__(self, path, mib):
        self.path, self.mib = path, mib

    def __enter__(self):
        if self.mib:
            CGROUP.mkdir(exist_ok=True)
            (CGROUP / "blkio.throttle.read_bps_device").write_text(f"{disk_of(self.path)} {self.mib * MIB}")
        return self

    def join(self):
        if self.mib:
            (CGROUP / "tasks").write_text(str(os.getpid()))

    def __exit__(self, *_):
        if self.mib:
            for _ in range(50):
                try:
                    return CGROUP.rmdir()
                except OSError:
                    time.sleep(0.2)


def run(command, limit, **more):
    done = subprocess.run(command, preexec_fn=limit.join, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return done.stdout


def dlio(options, case, data, output, generate, limit):
    settings = {
        "workflow.generate_data": generate, "workflow.train": not generate, "workflow.checkpoint": False,
        "dataset.data_folder": data, "dataset.num_files_train": case["files"], "dataset.num_samples_per_file": case["samples"],
        "dataset.record_length": case["record"], "dataset.record_length_stdev": case["stdev"],
        "reader.batch_size": case["batch"], "reader.read_threads": case["threads"],
        "train.epochs": 1, "train.computation_time": case["compute"], "output.folder": output,
    }
    if case["workload"] == "unet3d":
        # DLIO hands each sample on as a tensor of this size, whatever the file's.
        settings["dataset.record_length_resize"] = 65536
    command = [options.python, "-m", "dlio_benchmark.main", f"workload={case['workload']}_h100"]
    command += [f"++workload.{key}={value}" for key, value in settings.items()] + [f"hydra.run.dir={output}"]
    environment = os.environ | {"PYTHONPATH": str(SHIM), "PATH": f"{SHIM / 'bin'}:{os.environ['PATH']}", "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    run(command, limit, env=environment, cwd=options.dir)
    if generate:
        return None
    utilisation = json.loads((output / "summary.json").read_text())["metric"]["train_au_percentage"][0]
    compute = json.loads((output / "0_output.json").read_text())["1"]["compute"]["block1"][1:]
    # DLIO's throughput is that of all steps, the first with its waiting among them (2.0.0), or has a step too few (later). The time by which it
    # divides for the utilisation is that of the counted steps: the samples of just these are divided by it here.
    seconds = sum(compute) / (utilisation / 100)
    return utilisation, len(compute) * case["batch"] / seconds, len(compute)


def ours(options, case, data, limit):
    command = [options.ours, case["workload"], options.dir, "--dataset", data / "train", "--epochs", "1", "--json"]
    command += ["--batch-size", case["batch"], "--compute", case["compute"], "--read-threads", case["threads"]]
    command += ["--samples-per-file", case["samples"], "--record-bytes", case["record"]]
    epoch = json.loads(run(list(map(str, command)), limit))["figures"]["training"]["epochs"][0]
    return epoch["utilisation_percent"], epoch["samples_per_second"], epoch["counted_steps"]


def compare(options, name, case):
    root = pathlib.Path(options.dir).resolve() / f"compare-{os.getpid()}"
    data, theirs, mine = root / "data", [], []
    try:
        root.mkdir(parents=True)
        wait_for_quiet()
        dlio(options, case, data, root / "made", True, Limit(root, None))
        with Limit(root, case["limit"]) as limit:
            for number in range(options.rounds):
                for figures, measure in ((theirs, lambda: dlio(options, case, data, root / f"run{number}", False, limit)), (mine, lambda: ours(options, case, data, limit))):
                    wait_for_quiet()
                    evict(data)
                    figures.append(measure())
    finally:
        shutil.rmtree(root, ignore_errors=True)
    middle = lambda figures, at: statistics.median(figure[at] for figure in figures)
    line = [name, str(middle(mine, 2))]
    for at in (0, 1):
        them, us = middle(theirs, at), middle(mine, at)
        line += [f"{them:.2f}", f"{us:.2f}", f"{us / them:.3f}"]
    print("| " + " | ".join(line) + " |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", required=True, help="of the environment with DLIO")
    parser.add_argument("--ours", required=True, help="the example ml, built for release")
    parser.add_argument("--dir", required=True, help="a plain directory on a disk")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--case", action="append", choices=CASES)
    options = parser.parse_args()
    options.ours = str(pathlib.Path(options.ours).resolve())
    print("| case | steps | AU % DLIO | AU % ours | ratio | samples/s DLIO | samples/s ours | ratio |\n| --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    for name in options.case or CASES:
        if CASES[name]["limit"] and not os.access("/sys/fs/cgroup/blkio", os.W_OK):
            print(f"| {name} | left out: the disk's rate cannot be limited here |")
        else:
            compare(options, name, CASES[name])


main()
