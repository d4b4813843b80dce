"""Hypothesis strategies shared by the tests: rows, architectures, small spaces."""

from hypothesis import strategies as st

from nas.arch.arch import Arch
from nas.arch.block import ACTS, NORMS, SE_BASES, SE_GATES, Block

channels = st.integers(1, 64)

convs = st.builds(
    Block,
    op=st.just("conv"),
    channels=channels,
    kernel=st.sampled_from([1, 3, 5]),
    stride=st.sampled_from([1, 2]),
    act=st.sampled_from(ACTS),
)
mbconvs = st.builds(
    Block,
    op=st.just("mbconv"),
    channels=channels,
    kernel=st.sampled_from([3, 5, 7]),
    stride=st.sampled_from([1, 2]),
    expand=st.sampled_from([1, 2.3, 3, 6]),
    se=st.sampled_from([0, 0.25]),
    act=st.sampled_from(ACTS),
    se_base=st.sampled_from(SE_BASES),
    se_gate=st.sampled_from(SE_GATES),
)
kernels, strides, acts = st.sampled_from([1, 3, 5]), st.sampled_from([1, 2]), st.sampled_from(ACTS)
norms = st.sampled_from(NORMS)
shape = {"channels": channels, "kernel": kernels, "stride": strides, "act": acts, "norm": norms}
gated = shape | {"se": st.sampled_from([0, 0.25])}
others = st.one_of(
    st.builds(Block, op=st.just("conv"), groups=st.sampled_from([2, 4]), **shape),
    st.builds(Block, op=st.just("dwsep"), depth_multiplier=st.sampled_from([1, 2]), **shape),
    st.builds(Block, op=st.just("spatial_sep"), **shape),
    st.builds(Block, op=st.just("mbconv"), keep_expand=st.booleans(), **gated),
    st.builds(Block, op=st.just("fused_mbconv"), expand=st.sampled_from([1, 4]), **gated),
    st.builds(Block, op=st.just("uib"), kernel_start=st.sampled_from([0, 3]), expand=st.sampled_from([1, 4]), **shape),
    st.builds(
        Block, op=st.just("shuffle_v1"), groups=st.sampled_from([1, 3, 4]), groups_in=st.sampled_from([0, 1]), **shape
    ),
    st.builds(Block, op=st.just("shuffle_v2"), **shape | {"channels": st.integers(1, 32).map(lambda half: 2 * half)}),
    st.builds(Block, op=st.just("max_pool"), kernel=kernels, stride=strides),
    st.just(Block("uib", 8, kernel=0, kernel_start=5, stride=2, expand=3, act="gelu")),
    st.just(Block("uib", 8, kernel=0, expand=3, act="gelu")),
)
linears = st.builds(
    Block,
    op=st.just("linear"),
    channels=channels,
    act=acts,
    norm=st.sampled_from([None, "none", "batch"]),
    bias=st.booleans(),
)

archs = st.builds(
    lambda body, tail, **options: Arch((*body, Block("pool"), *tail), **options),
    body=st.lists(convs | mbconvs | others, min_size=1, max_size=6),
    tail=st.lists(linears, max_size=1),
    resolution=st.sampled_from([8, 16, 33]),
    dropout=st.sampled_from([0.0, 0.2]),
    bn_eps=st.sampled_from([1e-5, 1e-3]),
    stochastic_depth=st.sampled_from([0.0, 0.2]),
)

# Small spaces that use every feature of the grammar, built as YAML text so that the reader is exercised too.
_cell = {
    "kernel": st.sampled_from(["3", "[3, 5]"]),
    "expand": st.sampled_from(["1", "[1, 3]", "[3, 6]"]),
    "se": st.sampled_from(["0", "[off, 0.25]"]),
    "se_base": st.sampled_from(["expanded", "[expanded, input]"]),
    "act": st.sampled_from(["relu", "[relu, h_swish]"]),
    "op": st.sampled_from(["mbconv", "[mbconv, skip]", "[mbconv, conv]"]),
    "repeat": st.sampled_from(["1", "2", "[1, 2]", "[0, 1]", "[1, 3]"]),
    "channels": st.sampled_from(["16", "[16, 24]", "24"]),
    "stride": st.sampled_from(["1", "2"]),
    "shared": st.sampled_from(["[]", "[expand]", "[kernel, act]"]).filter(lambda text: text != "[]"),
}
_stage = st.fixed_dictionaries(
    {name: _cell[name] for name in ("op", "repeat", "channels", "stride", "kernel", "expand", "se", "act")},
    optional={name: _cell[name] for name in ("shared", "se_base")},
).map(lambda cells: "  - {" + ", ".join(f"{name}: {value}" for name, value in cells.items()) + "}")
_joint = st.just(
    "  - {repeat: [1, 2], channels: 16, choice: [{op: mbconv, kernel: 3, expand: 3}, {op: conv, kernel: 1}, skip]}"
)

space_texts = st.builds(
    lambda resolution, width, stages: (
        f"name: toy\nresolution: {resolution}\nwidth: {width}\n"
        "stem: {op: conv, kernel: 3, channels: 16, stride: 2, act: relu}\nstages:\n" + "\n".join(stages)
    ),
    resolution=st.sampled_from(["32", "[16, 32]"]),
    width=st.sampled_from(["1.0", "[0.5, 1.0]"]),
    stages=st.lists(_stage | _joint, min_size=1, max_size=2),
)
