"""Oracles: Python's own pickle, NumPy's own pickles of both major versions, Paddle's load and save, safetensors."""

from __future__ import annotations

import base64
import hashlib
import pickle
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pmtrain.runs.formats.pickle_reader import NUMBERS
from pmtrain.runs.formats.state_dict import NAME_TABLE, dump_state, load_state, parse_state
from pmtrain.system.errors import PmtrainError
from pmtrain.system.files import write_atomic


def same(a, b) -> bool:
    """Equal to the bit, NaN included, and of the same types."""
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return (
            isinstance(a, np.ndarray)
            and isinstance(b, np.ndarray)
            and a.shape == b.shape
            and a.dtype == b.dtype
            and a.tobytes() == b.tobytes()
        )
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float) and isinstance(b, float):
        return struct.pack("d", a) == struct.pack("d", b)
    return type(a) is type(b) and a == b


def arrays_of_every_kind() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    state = {code: np.frombuffer(rng.bytes(48), code.replace("b1", "u1")).astype(code) for code in sorted(NUMBERS)}
    return state | {
        "scalar": np.array(2.5, "f4"),
        "empty": np.zeros((0, 3), "f4"),
        "4d": np.arange(120, dtype="f4").reshape(2, 3, 4, 5),
        "fortran": np.asfortranarray(np.arange(12, dtype="f4").reshape(3, 4)),
        "large": rng.normal(size=(300, 400)).astype("f4"),
    }


def test_python_reads_what_is_written():
    state = arrays_of_every_kind()
    loaded = pickle.loads(bytes(dump_state(state, {"f4": "conv2d_0.w_0"})))
    assert loaded.pop(NAME_TABLE) == {"f4": "conv2d_0.w_0"}
    assert same({name: np.ascontiguousarray(array).reshape(array.shape) for name, array in state.items()}, loaded)


def test_big_endian_arrays_are_written_in_the_usual_order():
    assert same(pickle.loads(bytes(dump_state({"w": np.array([1.5, -2], ">f4")}))), {"w": np.array([1.5, -2], "<f4")})


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**1000), 2**1000) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=20,
)


@settings(deadline=None)
@given(st.dictionaries(st.text(), PLAIN))
def test_plain_values_come_back_here_and_in_python(state):
    data = bytes(dump_state(state))
    assert same(pickle.loads(data), state)
    assert same(parse_state(data, Path("x")), {name: value for name, value in state.items() if name != NAME_TABLE})
    for protocol in (2, 3, 4):
        read = parse_state(pickle.dumps(state, protocol), Path("x"))
        assert same(read, {name: value for name, value in state.items() if name != NAME_TABLE})


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_numpys_own_pickles_are_read(protocol):
    state = arrays_of_every_kind() | {"number": np.float32(0.1)}
    state["again"] = state["4d"]  # one array under two names is written once and remembered
    loaded = parse_state(pickle.dumps(state, protocol), Path("x"))
    assert same(loaded, state | {"number": np.array(0.1, "f4")})


# A dict of arrays, a scalar and an OrderedDict, pickled by NumPy 1.24 (protocol -> compressed bytes in base64).
NUMPY_1 = {
    2: (
        "eNp1ktlu00AUhicObcOw70uBUtaUJZBSIEAhhrYstRSkucqd5Rm7siXX7m+PhSKB1JumzVvwCDwDPBjMjO2rlCNrZiyfOf93fp9d6wdIe9gg"
        "hHxDQyTF9s6oI9Is6GwXsYy8LPNG1M0CkSa5zAohKawyiyZ++RVNh+zhiHBF6gcip0GiDxQzpirH7HBW7bEno6SLuTFaDEf3QRmOtZ2GYznN"
        "MY5XJX052lE3TwwtdWNrBScnB/s4xXC67TRNtVWcGQwGm39VmMUhEmf5JJwZzpM6fu/21Wqrx9Yvevlp41yopM8zXJC4yE2tBJf+028uvNjL"
        "KC6HJUnUwxVNcpVhXpGE0wzXuEJoqdS5CgLXtd4NhoUxbjIsGsUUt4RI4zgQMlJ+0q+ZH2SBvx5pW28vMdwxaR7uhlZoXL0XKqvuM7RLq6wx"
        "liqmrR4eaKaHDI8OZ3rMDxTUIpkKu9z+/OqXh5aNjqZ9wvBUostzQxFguaZ4pilWGJ5rCqJ/2IvamWW81BQ9hleHU7zmE+G6vIiUu4nrUj6S"
        "QU7xRnW7KvGWV0Pyrtbqay2b4b3peA8fKiXexZpWWmfYqKfhOz5O6X0y06BvNAg+67a+MGxKOLzo/ANO7eQG"
    ),
    4: (
        "eNqFUE1LxDAQTbJbW1E8CIJHj+uloHjwIGyhnixU8A9IP7Kk0G2XbIsUFPaydQtz2/HuT/QfaJocVrHokJkh5OXNvLcavzmM6HjBCdAnhJOi"
        "ni8aNykld+d1XmWRlFGDcPgoeVIWy0rWSYVbBEsDEewiNZAtBmSNPo3xFR9wEtCABaMWhQVWWjUL3n9isyvsNuZ9BPQGwzC8+1ShS0AqjDv/"
        "1Gy0mqriqaNypfLdQ/UMtEDBYG+ZRHkkFac4ApZd71jF8W9O37ENJ8FWoYCWCAdJmec8qTIlSt3uZcolT28zre68B0UoxsLuRYn9nSTW6pGz"
        "f0Zu/DPyMzzTPqamO1rOEigfGEO0c72yy7/HdD4xrsRDy641R3zx3fPnQc8Z1Ty1+wUkTsSP"
    ),
}


@pytest.mark.parametrize("protocol", NUMPY_1)
def test_pickles_of_numpy_1_are_read(protocol):
    loaded = parse_state(zlib.decompress(base64.b64decode(NUMPY_1[protocol])), Path("x"))
    expected = {
        "w": np.arange(6, dtype="f4").reshape(2, 3),
        "n": np.array(7),
        "o": {"a": np.arange(4, dtype="f8").reshape(2, 2)},
        "e": np.zeros((0, 3), "i2"),
        "b": np.array([True, False]),
    }
    assert same(loaded, expected)


def test_text_of_python_2_is_read():
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR(K\x01(K\x02tcnumpy\ndtype\n"
    array += b"(U\x02f4K\x00K\x01tR(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x08\x00\x00\x80?\x00"
    array += b"\x00\x00\xc0tb"
    assert same(parse_state(b"\x80\x02}U\x01w" + array + b"s.", Path("x")), {"w": np.array([1, -2], "f4")})


def test_paddle_reads_ours_and_we_read_paddles(tmp_path):
    from pmtrain.system.framework import paddle

    with paddle.utils.unique_name.guard():
        model = paddle.nn.Sequential(paddle.nn.Linear(3, 2), paddle.nn.BatchNorm1D(2))
    rate = paddle.optimizer.lr.StepDecay(0.1, 2)
    optimizer = paddle.optimizer.Momentum(rate, parameters=model.parameters())
    model(paddle.ones([4, 3])).sum().backward()
    optimizer.step()
    expected = {name: tensor.numpy() for name, tensor in model.state_dict().items()}

    for protocol in (2, 3, 4):
        paddle.save(model.state_dict(), str(tmp_path / "theirs.pdparams"), protocol=protocol)
        assert same(load_state(tmp_path / "theirs.pdparams"), expected)

    names = {name: tensor.name for name, tensor in model.state_dict().items()}
    write_atomic(tmp_path / "ours.pdparams", bytes(dump_state(expected, names)))
    loaded = paddle.load(str(tmp_path / "ours.pdparams"))
    assert {name: tensor.name for name, tensor in loaded.items()} == names
    assert same({name: tensor.numpy() for name, tensor in loaded.items()}, expected)
    fresh = paddle.nn.Sequential(paddle.nn.Linear(3, 2), paddle.nn.BatchNorm1D(2))
    fresh.set_state_dict(loaded)
    assert same({name: tensor.numpy() for name, tensor in fresh.state_dict().items()}, expected)

    paddle.save(optimizer.state_dict(), str(tmp_path / "theirs.pdopt"))
    state = load_state(tmp_path / "theirs.pdopt")
    assert state["LR_Scheduler"] == {"last_epoch": 0, "last_lr": 0.1}
    write_atomic(tmp_path / "ours.pdopt", bytes(dump_state(state, {})))
    again = paddle.load(str(tmp_path / "ours.pdopt"))
    assert again.pop("LR_Scheduler") == state.pop("LR_Scheduler")
    assert same({name: np.asarray(value) for name, value in again.items()}, state)

    nested = {"model": model.state_dict(), "epoch": 3}  # Paddle writes its tensors as (name, array)
    for protocol in (2, 4):
        paddle.save(nested, str(tmp_path / "nested.pdparams"), protocol=protocol)
        assert same(load_state(tmp_path / "nested.pdparams"), {"model": expected, "epoch": 3})


def test_safetensors_are_read(tmp_path):
    from safetensors.numpy import save_file

    state = {"w": np.arange(6, dtype="f4").reshape(2, 3), "h": np.ones(2, "f2")}
    save_file(state, tmp_path / "w.safetensors")
    loaded = load_state(tmp_path / "w.safetensors")  # in no certain order
    assert same(dict(sorted(loaded.items())), dict(sorted(state.items())))


def test_the_same_content_gives_the_same_bytes():
    for shape in ((3, 2), (300, 200)):
        array = np.arange(np.prod(shape), dtype="f4").reshape(shape)
        ways = [array, np.asfortranarray(array), array.astype(">f4"), np.repeat(array, 2, 0)[::2]]
        assert len({bytes(dump_state({"w": way})) for way in ways}) == 1


def test_large_arrays_are_not_copied_and_the_sha256_is_of_all_bytes():
    array = np.zeros(50_000, "f4")
    dumped = dump_state({"small": np.ones(3, "f4"), "large": array, "large too": array[::-1], "last": 1})
    before = bytes(dumped)
    assert len(dumped.pieces) == 5 and dumped.sha256 == hashlib.sha256(before).hexdigest()
    array[0] = 1  # only a copy would not change with it
    assert same(pickle.loads(bytes(dumped))["large"], array)
    assert dumped.sha256 == hashlib.sha256(before).hexdigest()  # computed once


@pytest.mark.parametrize("value", [np.array([None]), np.array(["a"]), {1}, object(), np.zeros(2, "V4")])
def test_what_has_no_place_in_a_state_dict_is_not_written(value):
    with pytest.raises(TypeError, match="can't hold"):
        dump_state({"w": value})


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff" * 8,
        struct.pack("<Q", 2) + b"{}x",
        struct.pack("<Q", 60) + b'{"w":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]}}     ' + b"\0\0",
        struct.pack("<Q", 60) + b'{"w":{"dtype":"F32","shape":[9],"data_offsets":[0,4]}}      ' + b"\0\0\0\0",
        pickle.dumps({"w": 1}),
    ],
)
def test_a_bad_safetensors_file_is_refused(data, tmp_path):
    path = tmp_path / "evil.safetensors"
    path.write_bytes(data)
    with pytest.raises(PmtrainError, match="evil.safetensors"):
        load_state(path)
