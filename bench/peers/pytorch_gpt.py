"""A small decoder in PyTorch, written as one writes it, and its training step."""

import torch
import torch.nn as nn
import torch.nn.functional as F


class RmsNorm(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.weight


class Attention(nn.Module):
    def __init__(self, dim, heads, time):
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(dim, 3 * dim, bias=False), nn.Linear(dim, dim, bias=False)
        mask = torch.full((time, time), float("-inf")).triu(1)
        self.register_buffer("mask", mask)

    def forward(self, x):
        batch, time, dim = x.shape
        width = dim // self.heads
        q, k, v = self.qkv(x).view(batch, time, 3, self.heads, width).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-1, -2) * width**-0.5 + self.mask
        return self.out((scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, time, dim))


class Memory(nn.Module):
    """Memory+: a product-key lookup with gate and projection."""

    def __init__(self, dim, nKeys, heads, knn, keyDim):
        super().__init__()
        self.n, self.heads, self.knn, self.half = nKeys, heads, knn, keyDim // 2
        self.query = nn.Linear(dim, heads * keyDim)
        bound = keyDim**-0.5
        self.keys = nn.Parameter(torch.empty(heads, 2, nKeys, self.half).uniform_(-bound, bound))
        self.values = nn.Parameter(torch.randn(nKeys * nKeys, dim) * dim**-0.5)
        self.gate, self.project = nn.Linear(dim, dim), nn.Linear(dim, dim)

    def forward(self, x):
        rows = x.flatten(0, 1)
        q = self.query(rows).view(-1, self.heads, 2, self.half)
        q = q * torch.rsqrt(q.pow(2).mean(-1, keepdim=True) + 1e-6)
        scores, at = torch.einsum("bhpd,hpnd->bhpn", q, self.keys).topk(self.knn, -1)
        pairs = (scores[:, :, 0, :, None] + scores[:, :, 1, None, :]).flatten(2)
        slots = (at[:, :, 0, :, None] * self.n + at[:, :, 1, None, :]).flatten(2)
        best, rank = pairs.topk(self.knn, -1)
        y = F.embedding_bag(
            slots.gather(-1, rank).flatten(1),
            self.values,
            per_sample_weights=best.softmax(-1).flatten(1),
            mode="sum",
        )
        return self.project(y * F.silu(self.gate(rows))).view(x.shape)


class Block(nn.Module):
    def __init__(self, dim, heads, time, memory):
        super().__init__()
        self.norms = nn.ModuleList([RmsNorm(dim), RmsNorm(dim)])
        self.attention = Attention(dim, heads, time)
        dense = (nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))
        self.feed_forward = Memory(dim, **memory) if memory else nn.Sequential(*dense)

    def forward(self, x):
        x = x + self.attention(self.norms[0](x))
        return x + self.feed_forward(self.norms[1](x))


class Gpt(nn.Module):
    def __init__(self, vocabSize, dim, layers, heads, batch, time, memory=None):
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocabSize, dim), nn.Embedding(time, dim)
        kinds = [memory if i == 1 else None for i in range(layers)]
        self.blocks = nn.Sequential(*[Block(dim, heads, time, kind) for kind in kinds])
        self.norm, self.head = RmsNorm(dim), nn.Linear(dim, vocabSize)

    def forward(self, tokens):
        x = self.tokens(tokens) + self.places(torch.arange(tokens.shape[1]))
        return self.head(self.norm(self.blocks(x)))


class Training:
    def __init__(self, shape, lr, tokens, targets):
        torch.manual_seed(0)
        self.model = Gpt(**shape)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=lr)
        self.tokens, self.targets = tokens.long(), targets.long()

    def loss(self, i):
        return F.cross_entropy(self.model(self.tokens[i]).flatten(0, 1), self.targets[i].flatten())

    def step(self, i):
        self.loss(i).backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1)
        self.optimizer.step()
        self.optimizer.zero_grad()
