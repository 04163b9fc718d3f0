"""ONNX files as untrusted input: what is read of them, and what is refused."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, ModelProto, TensorProto, helper, numpy_helper

from daemon.encode import external_data, graphs, operators
from daemon.encode.graphs import Value, check, inspect
from daemon.encode.tensors import BITS
from daemon.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

WEIGHT = np.arange(4, dtype=np.float32)


def model_of(
    nodes: list[onnx.NodeProto] | None = None, weights: list[TensorProto] | None = None, **options: Any
) -> ModelProto:
    """Return a graph x -> y that adds `weight`."""
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in ("x", "y")]
    weights = [numpy_helper.from_array(WEIGHT, "weight")] if weights is None else weights
    nodes = nodes or [helper.make_node("Add", ["x", "weight"], ["y"])]
    graph = helper.make_graph(nodes, "add", infos[:1], infos[1:], weights)
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)], **options)


def external(name: str = "weight", **said: str) -> TensorProto:
    """Return a float32 tensor that lies in another file: weights.bin, if nothing else is said."""
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in ({"location": "weights.bin"} | said).items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def saved(directory: Path, model: ModelProto) -> Path:
    path = directory / "graph.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def in_a_branch(tensor: TensorProto) -> ModelProto:
    """Return a graph whose If yields `tensor`, a Constant, in both branches."""
    out = helper.make_tensor_value_info("c", TensorProto.FLOAT, [4])
    constant = helper.make_node("Constant", [], ["c"], value=tensor)
    branch = helper.make_graph([constant], "branch", [], [out])
    condition = numpy_helper.from_array(np.array(True), "condition")
    return model_of([helper.make_node("If", ["condition"], ["y"], then_branch=branch, else_branch=branch)], [condition])


def in_a_loop(tensor: TensorProto) -> ModelProto:
    infos = [helper.make_tensor_value_info(name, TensorProto.BOOL, []) for name in ("again", "still")]
    count = helper.make_tensor_value_info("count", TensorProto.INT64, [])
    body = helper.make_graph(
        [helper.make_node("Identity", ["again"], ["still"])], "body", [count, infos[0]], infos[1:], [tensor]
    )
    return model_of([helper.make_node("Loop", ["", ""], ["y"], body=body)])


def in_a_function(tensor: TensorProto) -> ModelProto:
    constant = helper.make_node("Constant", [], ["c"], value=tensor)
    add = helper.make_node("Add", ["a", "c"], ["b"])
    function = helper.make_function("own", "Plus", ["a"], ["b"], [constant, add], [helper.make_opsetid("", 17)])
    return model_of([helper.make_node("Plus", ["x"], ["y"], domain="own")], functions=[function])


def in_a_list_of_tensors(tensor: TensorProto) -> ModelProto:
    node = helper.make_node("Add", ["x", "weight"], ["y"])
    node.attribute.append(AttributeProto(name="some", type=AttributeProto.TENSORS, tensors=[tensor]))
    return model_of([node])


def in_a_sparse_tensor(tensor: TensorProto) -> ModelProto:
    model = model_of()
    indices = numpy_helper.from_array(np.arange(4), "indices")
    model.graph.sparse_initializer.add(values=tensor, indices=indices, dims=[8])
    return model


def in_training_info(tensor: TensorProto) -> ModelProto:
    model = model_of()
    model.training_info.add().initialization.initializer.append(tensor)
    return model


PLACES = [
    lambda tensor: model_of(weights=[tensor]),
    in_a_branch,
    in_a_loop,
    in_a_function,
    in_a_list_of_tensors,
    in_a_sparse_tensor,
    in_training_info,
]


def test_a_graph_says_what_it_takes_and_gives(tmp_path: Path) -> None:
    path = saved(tmp_path, model_of())
    found = inspect(path)
    assert found.inputs == (Value("x", "float32", ("n", 4)),)
    assert found.outputs == (Value("y", "float32", ("n", 4)),)
    assert (found.opsets, found.external, found.size) == ({"ai.onnx": 17}, (), path.stat().st_size)


@pytest.mark.parametrize(
    ("code", "dtype"),
    [
        (TensorProto.FLOAT16, "float16"),
        (TensorProto.DOUBLE, "float64"),
        (TensorProto.UINT8, "uint8"),
        (TensorProto.INT64, "int64"),
        (TensorProto.STRING, "string"),
    ],
)
def test_types_are_called_as_numpy_calls_them(tmp_path: Path, code: int, dtype: str) -> None:
    model = model_of()
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", code, [None, 3, "h"]))
    assert inspect(saved(tmp_path, model)).inputs == (Value("x", dtype, (None, 3, "h")),)


def test_an_input_that_says_nothing_of_its_shape_has_none(tmp_path: Path) -> None:
    model = model_of()
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.FLOAT, None))
    assert inspect(saved(tmp_path, model)).inputs == (Value("x", "float32", None),)


def test_weights_that_are_listed_as_inputs_are_not_inputs(tmp_path: Path) -> None:
    model = model_of()
    model.graph.input.append(helper.make_tensor_value_info("weight", TensorProto.FLOAT, [4]))
    assert [value.name for value in inspect(saved(tmp_path, model)).inputs] == ["x"]


@pytest.mark.parametrize(
    "data", [b"", b"<html>not found</html>", b"\x08\x08", b"\x08\x08nothing", b"version https://git-lfs"]
)
def test_what_is_no_graph_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "graph.onnx"
    path.write_bytes(data)
    with pytest.raises(ModelError, match="not an ONNX graph"):
        check("tiny", path)


def test_a_file_that_was_cut_short_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, model_of())
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ModelError, match="not the whole of one"):
        check("tiny", path)


def test_a_graph_above_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "MAX_GRAPH_BYTES", 2 << 20)
    large = model_of(weights=[numpy_helper.from_array(np.zeros(1 << 20, np.float32), "weight")])
    with pytest.raises(ModelError, match="larger than 2 MiB"):
        check("tiny", saved(tmp_path, large))


@pytest.mark.parametrize("seed", range(50))
def test_a_damaged_file_is_refused_or_read_and_nothing_else(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    (tmp_path / "weights.bin").write_bytes(bytes(64))
    whole = in_a_branch(external(length="16")).SerializeToString()
    place = chance.randrange(len(whole))
    flipped = bytearray(whole)
    flipped[place] ^= 1 << chance.randrange(8)
    for damaged in (bytes(flipped), whole[:place], whole[:place] + chance.randbytes(8) + whole[place:]):
        path = tmp_path / "graph.onnx"
        path.write_bytes(damaged)
        try:
            check("tiny", path)
        except ModelError as error:
            assert error.reason.endswith(".")  # noqa: PT017 - to be read is as good an outcome


@pytest.mark.parametrize("text", [b"weights.bin", b"org.example", b"ratio"])
def test_names_that_are_no_text_are_refused(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "weights.bin").write_bytes(WEIGHT.tobytes())
    model = model_of([helper.make_node("Add", ["x", "weight"], ["y"], ratio=1.0, domain="org.example")], [external()])
    path = saved(tmp_path, model)
    path.write_bytes(path.read_bytes().replace(text, b"\xff" * len(text)))
    with pytest.raises(ModelError, match="not an ONNX graph"):
        check("tiny", path)


def test_an_operator_of_another_library_is_refused_by_its_domain(tmp_path: Path) -> None:
    node = helper.make_node("Detect", ["x"], ["y"], domain="org.example.detectors")
    with pytest.raises(ModelError, match=r"needs operators of org\.example\.detectors, which come with a library"):
        check("tiny", saved(tmp_path, model_of([node])))


def test_an_operator_of_another_library_is_found_in_a_branch(tmp_path: Path) -> None:
    model = in_a_branch(numpy_helper.from_array(WEIGHT))
    model.graph.node[0].attribute[0].g.node[0].domain = "org.example"
    with pytest.raises(ModelError, match=r"needs operators of org\.example,"):
        check("tiny", saved(tmp_path, model))


@pytest.mark.parametrize("domain", ["", "ai.onnx", "ai.onnx.ml", "com.microsoft"])
def test_operators_that_come_with_the_runtime_are_fine(tmp_path: Path, domain: str) -> None:
    check("tiny", saved(tmp_path, model_of([helper.make_node("Scaler", ["x"], ["y"], domain=domain)])))


def test_operators_that_the_graph_defines_are_fine(tmp_path: Path) -> None:
    check("tiny", saved(tmp_path, in_a_function(numpy_helper.from_array(WEIGHT))))


def calling(depth: int, times: int, last: tuple[str, str] = ("", "Neg")) -> ModelProto:
    """Return a graph of `depth` functions, each of which calls the next one `times` times, and the last one calls `last`."""
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    functions = []
    for number in range(depth):
        domain, operator = last if number == depth - 1 else ("own", f"F{number + 1}")
        values = ["a", *(f"t{step}" for step in range(times - 1)), "b"]
        nodes = [helper.make_node(operator, [values[i]], [values[i + 1]], domain=domain) for i in range(times)]
        functions.append(helper.make_function("own", f"F{number}", ["a"], ["b"], nodes, opsets))
    return model_of([helper.make_node("F0", ["x"], ["y"], domain="own")], functions=functions)


def test_functions_that_write_out_to_a_million_operators_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, calling(20, 2))
    assert path.stat().st_size < 4096
    with pytest.raises(ModelError, match="write out to 1048576 operators"):
        check("tiny", path)


def test_functions_that_call_each_other_a_few_times_are_fine(tmp_path: Path) -> None:
    check("tiny", saved(tmp_path, calling(10, 2)))


@pytest.mark.parametrize("depth", [1, 3])
def test_functions_that_call_themselves_are_refused(tmp_path: Path, depth: int) -> None:
    with pytest.raises(ModelError, match="call themselves"):
        check("tiny", saved(tmp_path, calling(depth, 1, ("own", "F0"))))


def test_an_operator_of_another_library_is_found_in_a_function(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"needs operators of org\.example,"):
        check("tiny", saved(tmp_path, calling(3, 1, ("org.example", "Detect"))))


def test_a_domain_that_is_named_and_not_used_is_fine(tmp_path: Path) -> None:
    model = model_of()
    model.opset_import.append(helper.make_opsetid("org.pytorch.aten", 1))
    assert inspect(saved(tmp_path, model)).opsets == {"ai.onnx": 17, "org.pytorch.aten": 1}


def test_the_domains_are_those_of_the_runtime() -> None:
    from onnxruntime.capi import onnxruntime_pybind11_state

    assert {schema.domain for schema in onnxruntime_pybind11_state.get_all_operator_schema()} <= operators.DOMAINS


@pytest.mark.parametrize("operator", sorted(operators.PROGRAMS))
def test_a_program_for_a_device_is_refused(tmp_path: Path, operator: str) -> None:
    node = helper.make_node(operator, ["x"], ["y"], domain="com.microsoft")
    with pytest.raises(ModelError, match="a program for one device"):
        check("tiny", saved(tmp_path, model_of([node])))


@pytest.mark.parametrize("place", PLACES)
def test_weights_in_the_folder_are_found_wherever_the_graph_names_them(tmp_path: Path, place: Any) -> None:
    (tmp_path / "weights.bin").write_bytes(WEIGHT.tobytes())
    path = saved(tmp_path, place(external()))
    found = check("tiny", path)
    assert found.external == ("weights.bin",)
    assert found.size == path.stat().st_size + 16


@pytest.mark.parametrize("place", PLACES)
def test_weights_outside_the_folder_are_refused_wherever_the_graph_names_them(tmp_path: Path, place: Any) -> None:
    with pytest.raises(ModelError, match="no file below the graph's folder"):
        check("tiny", saved(tmp_path, place(external(location="../../etc/passwd"))))


@pytest.mark.parametrize("place", PLACES)
def test_weights_that_do_not_fill_their_shape_are_refused_wherever_they_are(tmp_path: Path, place: Any) -> None:
    tensor = numpy_helper.from_array(WEIGHT, "weight")
    tensor.dims[0] = 5
    with pytest.raises(ModelError, match=r"does not fill its shape \[5\]"):
        check("tiny", saved(tmp_path, place(tensor)))


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("/etc/passwd", "no file below the graph's folder"),
        ("/dev/zero", "no file below the graph's folder"),
        ("a/../../b", "no file below the graph's folder"),
        (".", "no file below the graph's folder"),
        ("*/_ORT_MEM_ADDR_/*", "no file below the graph's folder"),
        ("graph.onnx", "a name that is taken"),
        ("model.onnx", "a name that is taken"),
        ("tokenizer.json/weights", "a name that is taken"),
        ("zero", "leaves the graph's folder"),
        ("outside", "leaves the graph's folder"),
        ("folder-outside/secret", "leaves the graph's folder"),
        ("folder", "not a regular file"),
        ("missing.bin", "not beside it"),
        ("loop", "cannot be read"),
        ("a" * 5000, "cannot be read"),
        ("a\0b", "cannot be read"),
    ],
)
def test_weights_anywhere_but_in_a_file_of_the_folder_are_refused(tmp_path: Path, location: str, reason: str) -> None:
    folder = tmp_path / "model"
    (folder / "folder").mkdir(parents=True)
    (tmp_path / "secret").write_bytes(WEIGHT.tobytes())
    links = {"zero": "/dev/zero", "outside": "../secret", "folder-outside": "..", "loop": "loop"}
    for link, target in links.items():
        (folder / link).symlink_to(target)
    with pytest.raises(ModelError, match=reason):
        check("tiny", saved(folder, model_of(weights=[external(location=location)])))


def test_a_pipe_is_refused_without_waiting_for_its_writer(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "weights.bin")
    with pytest.raises(ModelError, match="not a regular file"):
        check("tiny", saved(tmp_path, model_of(weights=[external()])))


def test_a_link_within_the_folder_is_followed(tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(WEIGHT.tobytes())
    (tmp_path / "weights.bin").symlink_to("blob")
    assert check("tiny", saved(tmp_path, model_of(weights=[external()]))).external == ("weights.bin",)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"length": "12"}, "takes 16 bytes and says 12"),
        ({"length": "17"}, "takes 16 bytes and says 17"),
        ({"offset": "8"}, "reaches outside weights.bin"),
        ({"offset": "9" * 18}, "reaches outside weights.bin"),
        ({"offset": "9" * 5000}, "an offset or a length"),
        ({"offset": "-8"}, "an offset or a length"),
        ({"offset": "1e3"}, "an offset or a length"),
        ({"length": ""}, "an offset or a length"),
        ({"location": ""}, "does not say in which file"),
    ],
)
def test_weights_that_reach_outside_their_file_are_refused(tmp_path: Path, said: dict[str, str], reason: str) -> None:
    (tmp_path / "weights.bin").write_bytes(bytes(20))
    with pytest.raises(ModelError, match=reason):
        check("tiny", saved(tmp_path, model_of(weights=[external(**said)])))


def test_weights_that_name_two_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(bytes(16))
    tensor = external()
    tensor.external_data.add(key="location", value="/etc/passwd")
    with pytest.raises(ModelError, match="does not say in which file"):
        check("tiny", saved(tmp_path, model_of(weights=[tensor])))


def test_many_tensors_in_one_small_file_count_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(external_data, "MAX_EXTERNAL_BYTES", 40)
    (tmp_path / "weights.bin").write_bytes(bytes(16))
    check("tiny", saved(tmp_path, model_of(weights=[external("a"), external("b")])))
    with pytest.raises(ModelError, match="of weights in other files"):
        check("tiny", saved(tmp_path, model_of(weights=[external("a"), external("b"), external("c")])))


def test_a_file_larger_than_all_weights_may_be_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "weights.bin").open("wb") as file:
        file.truncate(external_data.MAX_EXTERNAL_BYTES + 1)
    with pytest.raises(ModelError, match="more than 16 GiB of weights"):
        check("tiny", saved(tmp_path, model_of(weights=[external()])))


@pytest.mark.parametrize("dims", [(1 << 40,), (1 << 62, 1 << 62), (-1, 4), (3,), (4, 0)])
def test_shapes_that_the_data_do_not_fill_are_refused(tmp_path: Path, dims: tuple[int, ...]) -> None:
    tensor = numpy_helper.from_array(WEIGHT, "weight")
    del tensor.dims[:]
    tensor.dims.extend(dims)
    with pytest.raises(ModelError, match="its tensor 'weight'"):
        check("tiny", saved(tmp_path, model_of(weights=[tensor])))


def test_a_sparse_tensor_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    model = in_a_sparse_tensor(numpy_helper.from_array(WEIGHT, "few"))
    model.graph.sparse_initializer[0].dims[:] = [1 << 40]
    with pytest.raises(ModelError, match=r"sparse tensor 'few' .* too large"):
        check("tiny", saved(tmp_path, model))


@pytest.mark.parametrize("code", [0, 77])
def test_elements_of_no_known_type_are_refused(tmp_path: Path, code: int) -> None:
    tensor = numpy_helper.from_array(WEIGHT, "weight")
    tensor.data_type = code
    with pytest.raises(ModelError, match="no known size"):
        check("tiny", saved(tmp_path, model_of(weights=[tensor])))


def test_strings_in_another_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(bytes(16))
    tensor = external()
    tensor.data_type = TensorProto.STRING
    with pytest.raises(ModelError, match="no known size"):
        check("tiny", saved(tmp_path, model_of(weights=[tensor])))


@pytest.mark.parametrize("kind", [*sorted(BITS), "STRING"])
@pytest.mark.parametrize("raw", [True, False])
def test_every_type_of_tensor_as_onnx_writes_it_is_fine(tmp_path: Path, kind: str, *, raw: bool) -> None:
    code = TensorProto.DataType.Value(kind)
    if kind == "STRING":
        tensor = helper.make_tensor("weight", code, [3], [b"a", b"b", b"c"])
    else:
        array = np.ones(3, helper.tensor_dtype_to_np_dtype(code))
        tensor = numpy_helper.from_array(array, "weight") if raw else helper.make_tensor("weight", code, [3], array)
    check("tiny", saved(tmp_path, model_of(weights=[tensor])))
