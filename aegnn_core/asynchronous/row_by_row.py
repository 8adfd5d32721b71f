# SPDX-License-Identifier: Apache-2.0
"""Which modules are known to work row by row: a row of their result depends on no other row of their input."""

from __future__ import annotations

from torch import nn
from torch_geometric import nn as pyg
from torch_geometric.nn import aggr
from torch_geometric.nn.aggr.fused import FusedAggregation

__all__ = ["works_row_by_row"]

_ORDINARY = (
    nn.Linear, nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict, nn.Identity,
    nn.Dropout, nn.LayerNorm, nn.Embedding, nn.Flatten, nn.Unflatten, pyg.Linear, pyg.MLP, pyg.MessageNorm,
    aggr.SumAggregation, aggr.MeanAggregation, aggr.MaxAggregation, aggr.MinAggregation, aggr.MulAggregation,
    aggr.VarAggregation, aggr.StdAggregation, aggr.SoftmaxAggregation, aggr.PowerMeanAggregation,
    aggr.MultiAggregation, aggr.DegreeScalerAggregation,
    FusedAggregation, nn.GRUCell,
)  # fmt: skip

#: Modules that work along a dimension, and what they call it.
_ALONG = {nn.Softmax: "dim", nn.LogSoftmax: "dim", nn.Softmin: "dim", nn.GLU: "dim", nn.Flatten: "start_dim",
          nn.Unflatten: "dim"}  # fmt: skip


def works_row_by_row(module: nn.Module) -> bool:
    """Whether a module is known to work row by row, or on one node's edges, if all those in it do."""
    kind = type(module)
    if kind in _ALONG:
        along = getattr(module, _ALONG[kind])
        return isinstance(along, int) and (along > 0 or along == -1)
    if kind.__module__ == "torch.nn.modules.activation":
        return kind not in (nn.MultiheadAttention, nn.Softmax2d)
    if isinstance(module, pyg.HeteroLinear):
        return False
    if kind in (nn.BatchNorm1d, nn.SyncBatchNorm, pyg.BatchNorm):
        inner = getattr(module, "module", module)
        return inner.running_mean is not None and not inner.training
    if kind is pyg.LayerNorm:
        return module.mode == "node"
    return kind in _ORDINARY or kind.__module__ == "torch_geometric.nn.conv.gen_conv"
