"""Predicted and target maps in, scalar losses out: heatmap, focal and contrastive losses.

Plain functions on tensors and fields; they know no method and no network. Uses only `semipose.fields`.
"""
