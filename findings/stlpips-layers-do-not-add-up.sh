#!/bin/bash
# ST-LPIPS, asked for its layers, gives the whole distance as that of the first layer.
#
# Software: stlpips-pytorch 0.0.2 with torch 2.15.0, torchvision 0.29.2, IPython 9.4.0, torchsummary 1.5.1. (The last two
#   are imported by the package, which declares no dependencies at all.)
# Input: two random pictures of 64², LPIPS(net="alex", variant="shift_tolerant")(a, b, retPerLayer=True).
# Expected: five layers whose distances add up to the distance.
# Seen: the first of the five equals the distance, and the five add up to more: the other four are added in place to
#   the tensor of the first. lpips 0.1.4, from which the code comes, gives layers that add up.
# Why it matters: a figure by layer, or a map by layer with spatial=True, is wrong for the layer with the finest detail.
#   The distance itself is right.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet stlpips-pytorch==0.0.2 torch==2.15.0 torchvision==0.29.2 torchsummary==1.5.1 \
    ipython==9.4.0 numpy lpips==0.1.4
"$folder/venv/bin/python" -W ignore - <<'PY'
import lpips
import torch
from stlpips_pytorch import stlpips

generator = torch.Generator().manual_seed(5)
a, b = (torch.rand(1, 3, 64, 64, generator=generator) * 2 - 1 for _ in range(2))
shift_tolerant = stlpips.LPIPS(net="alex", variant="shift_tolerant", verbose=False)
plain = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
with torch.no_grad():
    for name, network in (("stlpips", shift_tolerant), ("lpips", plain)):
        whole, layers = network(a, b, retPerLayer=True)
        figures = [layer.item() for layer in layers]
        print(name, "whole", round(whole.item(), 5), "layers", [round(f, 5) for f in figures])
        adds_up = abs(sum(figures) - whole.item()) < 1e-6
        assert adds_up == (name == "lpips")
        assert (figures[0] == whole.item()) == (name == "stlpips")
PY
