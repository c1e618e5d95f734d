"""PyTorch's side of the benchmark, kept alive over stdin and stdout and timed here.

A message is one line of JSON, {"op": ..., "arrays": [[name, dtype, shape], ...], ...}, then the
bytes of its arrays. So is the answer.
"""

import ctypes
import json
import os
import re
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F
from pytorch_gpt import Training

incoming, outgoing = sys.stdin.buffer, sys.stdout.buffer
sys.stdout = sys.stderr  # nothing else may write between the messages

tables = {}
problems = {}


def read():
    line = incoming.readline()
    if not line:
        sys.exit(0)
    message = json.loads(line)
    arrays = {}
    for name, dtype, shape in message["arrays"]:
        array = np.empty(shape, dtype)
        view = memoryview(array).cast("B")
        at = 0
        while at < len(view):
            got = incoming.readinto(view[at:])
            if not got:
                sys.exit(0)
            at += got
        arrays[name] = torch.from_numpy(array)
    return message, arrays


def answer(message, arrays=()):
    arrays = {name: np.ascontiguousarray(a.detach().numpy()) for name, a in dict(arrays).items()}
    message["arrays"] = [[name, str(a.dtype), a.shape] for name, a in arrays.items()]
    outgoing.write(json.dumps(message).encode() + b"\n")
    for a in arrays.values():
        outgoing.write(memoryview(a).cast("B"))
    outgoing.flush()


class Problem:
    def time(self, i):
        begin = time.perf_counter()
        self.run(i)
        return time.perf_counter() - begin


class Bag(Problem):
    def __init__(self, message, arrays):
        self.table = tables[message["table"]]
        self.indices = list(arrays["indices"])
        self.weights = list(arrays["weights"].to(self.table.dtype))

    def forward(self, i, sparse=False):
        return F.embedding_bag(
            self.indices[i],
            self.table,
            mode="sum",
            per_sample_weights=self.weights[i],
            sparse=sparse,
        )

    def run(self, i):
        with torch.no_grad():
            return self.forward(i)

    def result(self):
        return {"y": self.run(0).float()}


class BagWeights(Bag):
    """The backward alone: the forward that autograd needs is not timed."""

    def __init__(self, message, arrays):
        super().__init__(message, arrays)
        self.indices = [i.long() for i in self.indices]  # the backward takes no others
        # Without it the backward fails; its gradient is not computed.
        self.table = self.table.detach().requires_grad_()
        self.dy = arrays["dy"]
        for w in self.weights:
            w.requires_grad_()

    def backward(self, i):
        y = self.forward(i, sparse=True)
        begin = time.perf_counter()
        (gradient,) = torch.autograd.grad(y, self.weights[i], self.dy)
        return time.perf_counter() - begin, gradient

    def time(self, i):
        return self.backward(i)[0]

    def result(self):
        return {"dWeights": self.backward(0)[1]}


class Update(Bag):
    """Sparse gradient of the table and the sparse optimizer, without the forward."""

    def __init__(self, message, arrays):
        super().__init__(message, arrays)
        self.indices = [i.long() for i in self.indices]
        self.original = self.table
        self.table = torch.nn.Parameter(self.original.clone())
        self.dy, self.sample = arrays["dy"], arrays["sample"].long()
        self.rule, self.lr = message["rule"], message["lr"]

    def start(self):
        self.optimizer = None  # frees its states before the new ones are allocated
        with torch.no_grad():
            self.table.copy_(self.original)
        self.optimizer = {
            "sgd": lambda: torch.optim.SGD([self.table], lr=self.lr),
            "rowwiseAdagrad": lambda: torch.optim.Adagrad([self.table], lr=self.lr, eps=1e-10),
            "adamw": lambda: torch.optim.SparseAdam([self.table], lr=self.lr),
        }[self.rule]()

    def time(self, i):
        y = self.forward(i, sparse=True)
        self.optimizer.zero_grad(set_to_none=True)
        begin = time.perf_counter()
        y.backward(self.dy)
        self.optimizer.step()
        return time.perf_counter() - begin

    def result(self):
        self.start()
        self.time(0)
        return {"rows": self.table[self.sample]}


class Lookup(Problem):
    def __init__(self, message, arrays):
        # The layouts of the products: keys [2H, d, n], queries [2H, T, d], half before head.
        keys, queries = arrays["keys"], arrays["queries"]
        heads, _, self.n, d = keys.shape
        keys = keys.transpose(0, 1).reshape(2 * heads, self.n, d)
        self.keys = keys.transpose(1, 2).contiguous()
        self.queries = [
            q.permute(2, 1, 0, 3).reshape(2 * heads, -1, d).contiguous() for q in queries
        ]
        self.knn = message["knn"]

    def run(self, i):
        with torch.no_grad():
            k, n = self.knn, self.n
            values, indices = torch.topk(torch.bmm(self.queries[i], self.keys), k, dim=-1)
            v1, v2 = values.chunk(2)
            i1, i2 = indices.chunk(2)
            pairs = (v1.unsqueeze(3) + v2.unsqueeze(2)).flatten(2)
            slots = (i1.unsqueeze(3) * n + i2.unsqueeze(2)).flatten(2)
            best, rank = torch.topk(pairs, k, dim=-1)
            return slots.gather(2, rank), F.softmax(best, dim=-1)

    def result(self):
        indices, weights = self.run(0)
        return {"indices": indices.transpose(0, 1).int(), "weights": weights.transpose(0, 1)}


class Gemm(Problem):
    def __init__(self, message, arrays):
        self.weight, self.inputs = arrays["weight"], list(arrays["inputs"])
        self.product, self.dy = message["product"], arrays["dy"]

    def run(self, i):
        with torch.no_grad():
            if self.product == "y":
                return F.linear(self.inputs[i], self.weight)
            return self.dy @ self.weight if self.product == "dx" else self.dy.t() @ self.inputs[i]

    def result(self):
        return {"out": self.run(0)}


class Step(Problem):
    def __init__(self, message, arrays):
        self.training = Training(message["shape"], message["lr"], **arrays)

    def run(self, i):
        self.training.step(i)

    def result(self):
        with torch.no_grad():
            return {"loss": self.training.loss(0).reshape(1)}


# OpenBLAS has threads of its own, which torch.set_num_threads does not set.
try:
    openblas = ctypes.CDLL("libopenblas.so.0", mode=os.RTLD_NOLOAD)
except OSError:
    openblas = None


# Without OpenBLAS, Debian's PyTorch multiplies 50 times as slowly, by the reference BLAS: the
# version names it.
def blas():
    built = re.search(r"BLAS_INFO=(\w+)", torch.__config__.show())
    return "OpenBLAS" if openblas else f"{built[1]} BLAS" if built else "unknown BLAS"


square = torch.rand(512, 512)
threads = 0


# Threads that slept are slow to wake, and often wake on the processor of the thread that woke them:
# other work absorbs that before the timed one.
def set_threads(count):
    global threads
    if count == threads:
        return
    threads = count
    torch.set_num_threads(count)
    if openblas:
        openblas.openblas_set_num_threads(count)
    end = time.perf_counter() + 0.02
    while count > 1 and time.perf_counter() < end:
        torch.exp(square @ square)


kinds = {
    "bag": Bag,
    "bagWeights": BagWeights,
    "update": Update,
    "lookup": Lookup,
    "gemm": Gemm,
    "step": Step,
}

answer({"version": f"{torch.__version__} with {blas()}"})
while True:
    message, arrays = read()
    op = message["op"]
    try:
        if op == "table":
            tables[message["name"]] = arrays["data"]
            answer({})
        elif op == "forget":
            tables.clear()
            answer({})
        elif op == "prepare":
            set_threads(message["threads"])
            problems[message["id"]] = kinds[message["kind"]](message, arrays)
            answer({})
        elif op == "result":
            set_threads(message["threads"])
            answer({}, problems[message["id"]].result())
        elif op == "time":
            set_threads(message["threads"])
            problem = problems[message["id"]]
            answer({"seconds": sum(problem.time(i) for i in message["sets"])})
        elif op == "release":
            problems.pop(message["id"], None)
            answer({})
    except (RuntimeError, MemoryError) as error:
        answer({"error": str(error).split("\n")[0]})
